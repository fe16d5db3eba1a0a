"""A job's settings: what each must be, and all of them as plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from initframe.cli.chosen import overrides
from initframe.cli.groups import about, of_another
from initframe.errors import InitframeError, closest


class Setting(NamedTuple):
    """What a job's setting must be: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]


SEED = Setting("an integer from 0 to 2**64 - 1", lambda v: type(v) is int and 0 <= v < 2**64)
COUNT = Setting("a whole number, 0 or more", lambda v: type(v) is int and v >= 0)
SIZE = Setting("a whole number, 10 or more", lambda v: type(v) is int and v >= 10)
SHARE = Setting("a share, 0 or more and below 1", lambda v: type(v) in (int, float) and 0 <= v < 1)
FLAG = Setting("true or false", lambda v: isinstance(v, bool))
GENERATOR = Setting("stream or torch", lambda v: v in ("stream", "torch"))
NAMES = Setting(
    "a list of names, as in [my_module]", lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v)
)
DATA = Setting("a mapping", lambda v: isinstance(v, dict))
RECIPE = Setting("a recipe", lambda v: isinstance(v, dict | str))
SEALED = (DATA, RECIPE)
"""Settings that are data through and through: interpolations in them stay as they are written, and are refused."""


def settings(config: Any, **wanted: Setting) -> dict[str, Any]:
    """The settings of a job as plain data.

    Args:
        config: the composed config.
        **wanted: what the job knows, by name.

    Returns:
        One value per wanted setting.

    Raises:
        InitframeError: one is missing, of the wrong type, or not among the wanted.

    >>> settings({"seed": "7"}, seed=SEED)
    Traceback (most recent call last):
    initframe.errors.InitframeError: seed is an integer from 0 to 2**64 - 1, got '7'.
    """
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    problems = list(_unknown([key for key in config if key not in wanted], wanted))
    given = {}
    for key, setting in wanted.items():
        try:
            given[key] = plain(config, key, resolve=setting not in SEALED)
        except OmegaConfBaseException as error:
            problems.append(f"{key}: {str(error).splitlines()[0]}.")
            continue
        if key not in config:
            problems.append(f"{key} is missing: it is {setting.words}.")
        elif not setting.fits(given[key]):
            problems.append(f"{key} is {setting.words}, got {given[key]!r}.")
    if problems:
        raise InitframeError(*problems)
    return given


def _unknown(keys: list[str], wanted: Mapping[str, Setting]) -> Iterator[str]:
    """Settings that the job does not know; where an experiment has brought them, that is the fact to tell."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    run = HydraConfig.get() if HydraConfig.initialized() else None
    typed = {re.split(r"[.=]", text.lstrip("+~"))[0] for text in overrides()} if run else keys
    experiment = run.runtime.choices.get("experiment") if run else None
    brought = [key for key in keys if key not in typed]
    if brought and experiment and about(experiment):
        yield f"unknown setting {', '.join(brought)}. experiment={experiment} is this: {about(experiment)}."
        keys = [key for key in keys if key in typed]
    for key in keys:
        yield (run and of_another(str(run.job.config_name), key)) or f"unknown setting {key}. {closest(key, wanted)}"


def plain(config: Any, key: str, *, resolve: bool) -> Any:
    """One value of a config as plain data, interpolations resolved or left as they are written."""
    from omegaconf import OmegaConf  # noqa: PLC0415

    if not OmegaConf.is_config(config):
        return config.get(key)
    if not resolve:
        return OmegaConf.to_container(config, resolve=False).get(key)  # type: ignore[union-attr]
    value = config.get(key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
