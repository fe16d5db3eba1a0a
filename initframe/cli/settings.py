"""A job's settings: what each must be, and all of them as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from initframe.cli.groups import about, experiment, files, overrides
from initframe.errors import InitframeError, Problem, closest, shown


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
    """Read the settings of a job as plain data.

    Args:
        config: the composed config.
        **wanted: the settings of the job, by name.

    Returns:
        One value per wanted setting.

    Raises:
        InitframeError: a setting is missing, unknown, or of the wrong type; with every problem.

    >>> settings({"seed": "7"}, seed=SEED)
    Traceback (most recent call last):
    initframe.errors.InitframeError: seed: it is '7'. Give an integer from 0 to 2**64 - 1.
    """
    problems = list(_unknown([key for key in config if key not in wanted], wanted))
    given = {}
    for key, setting in wanted.items():
        fix = f"Give {setting.words}."
        try:
            given[key] = plain(config, key, resolve=setting not in SEALED)
        except OmegaConfBaseException as error:
            problems.append(Problem(key, f"{error.msg or error}.", fix=fix))
            continue
        if key not in config:
            problems.append(Problem(key, "it is missing.", fix=fix))
        elif not setting.fits(given[key]):
            written = plain(config, key, resolve=False)
            found = written if isinstance(written, str) and "${" in written else given[key]  # not what it reads
            problems.append(Problem(key, f"it is {shown(found)}.", fix=fix))
    if problems:
        raise InitframeError(*problems)
    return given


def _unknown(keys: list[str], wanted: Mapping[str, Setting]) -> Iterator[Problem]:
    """Settings that the job does not have, typed or brought by an experiment."""
    name = experiment() if HydraConfig.initialized() else None
    typed = {change.key_or_group.partition(".")[0] for change in overrides()} if name else set(keys)
    if name and (brought := [key for key in keys if key not in typed]):
        path = next(files("experiment", name), None)
        command, words = about(path) if path else ("", "")
        options = f"It is for {command}: {words}." if command else ""
        yield Problem(
            f"experiment={name}", f"it has settings that this command has not: {', '.join(brought)}.", options
        )
    for key in keys:
        if key in typed:
            yield Problem(key, "it is no setting of this command.", closest(key, wanted))


def plain(config: Any, key: str, *, resolve: bool) -> Any:
    """Read one value of a config as plain data, with interpolations resolved or left as they are written."""
    if not OmegaConf.is_config(config):
        return config.get(key)
    if not resolve:
        return OmegaConf.to_container(config, resolve=False).get(key)  # type: ignore[union-attr]
    value = config.get(key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
