"""Recipes as Hydra finds them in a job: a config source that reads them within the bounds of recipes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from initframe.cli.groups import experiment, files, names, overrides
from initframe.errors import InitframeError, Problem, RecipeError, shown
from initframe.recipe.files import read_yaml
from initframe.recipe.plain import laid_over, strangers
from initframe.recipe.recipe import new_deletions

Names: TypeAlias = list[str]
Files: TypeAlias = list[Path]

GROUP, SCHEME = "init", "recipe"
SELF = "_self_"
_NAME = re.compile(r"(?!.*\.\.)\w[\w./-]*")
"""What defaults may name: a recipe, by its name or its path below the current folder."""


def register() -> None:
    """Let Hydra ask for recipes here first; every other config comes from Hydra's own sources."""
    for plugin in (RecipeSource, RecipeSearchPath):
        Plugins.instance().register(plugin)


class RecipeSearchPath(SearchPathPlugin):
    """Puts recipes in front of the search path, with the folders that ``hydra.searchpath`` adds to it later."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra with the search path of an app."""
        folders: list[str] = []
        for argument in sys.argv[1:]:
            with contextlib.suppress(HydraException):  # Hydra will say what is wrong with it
                change = OverridesParser.create().parse_override(argument) if "hydra.searchpath" in argument else None
                value = change.value() if change and change.key_or_group == "hydra.searchpath" else None
                folders += value if isinstance(value, list) else []
        own = [path for folder in folders if (path := _folder(str(folder)))]
        search_path.prepend("initframe", f"{SCHEME}://{os.pathsep.join(own)}")


def _folder(entry: str) -> str | None:
    """Find the folder of an entry of ``hydra.searchpath``, as Hydra does; ``None`` if it is none."""
    scheme, found, path = entry.rpartition("://")
    if not found or scheme == "file":
        return path
    if scheme != "pkg":
        return None
    try:
        folder = resources.files(path.replace("/", "."))
    except (ImportError, ValueError, TypeError):  # Hydra will say so
        return None
    return str(folder) if isinstance(folder, Path) else None


class RecipeSource(ConfigSource):
    """Configs of the group ``init``, by a choice's name or by a file's path.

    A recipe may come from anyone, so it is read as data: bounded in size and depth, without interpolations, and without
    a way to other parts of the config. All other configs decide what the job runs, as Hydra's callbacks do; they are
    the user's own and are trusted.
    """

    @staticmethod
    def scheme() -> str:
        """Name the scheme of this source in a search path."""
        return SCHEME

    def available(self) -> bool:
        """Tell that this source can be asked."""
        return True

    def is_group(self, config_path: str) -> bool:  # noqa: ARG002
        """Leave listing the choices to the folders that hold them."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Tell whether a path is that of a recipe; a path to a file always is, so that its absence is told here."""
        group, _, name = config_path.partition("/")
        return group == GROUP and bool(name) and (_is_path(name) or bool(self._lookup(name)))

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:  # noqa: ARG002
        """List nothing; see :meth:`is_group`."""
        return []

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a recipe; what is wrong with it is an error that Hydra prints without a traceback."""
        name = config_path.partition("/")[2]
        try:
            path = self._find(name)
            self._demand_end(path)
            data = read(path)
        except InitframeError as error:
            raise ConfigCompositionException(f"error: {error}") from error
        return ConfigResult(self.provider, str(path), OmegaConf.create(data), {"package": GROUP})

    def _lookup(self, name: str) -> Files:
        """The file that a path names, or those that have a choice's name."""
        if _is_path(name) and Path(name).is_file():
            return [Path(name).resolve()]
        choice = name.removesuffix(".yaml")
        added = (
            Path(folder).resolve() / GROUP / f"{choice}.yaml" for folder in filter(None, self.path.split(os.pathsep))
        )
        return list(dict.fromkeys([*files(GROUP, choice), *filter(Path.is_file, added)]))

    def _find(self, name: str) -> Path:
        """The one file that ``init=NAME`` means."""
        found = self._lookup(name)
        if not found:
            raise RecipeError(Problem(f"{GROUP}={name}", f"there is no file {name} in {Path.cwd()}."))
        if found[1:]:
            several = f"there are several recipes of this name: {', '.join(map(str, found))}."
            fix = f"Rename one, or give its path: {GROUP}={found[-1]}."
            raise RecipeError(Problem(f"{GROUP}={name}", several, fix=fix))
        return found[0]

    def _demand_end(self, path: Path, above: tuple[Path, ...] = (), seen: set[Path] | None = None) -> None:
        """Refuse a recipe whose defaults lead back to itself: Hydra would follow them for ever.

        Args:
            path: the recipe.
            above: the files whose defaults led here.
            seen: files that are known to end.
        """
        seen = set() if seen is None else seen
        if path in above:
            chain = " → ".join(file.name for file in (*above, path))
            raise RecipeError(Problem(str(path), f"its defaults lead back to it: {chain}.", fix="Remove one of them."))
        for name in read(path).get("defaults", []):
            below = self._lookup(name) if name != SELF else []
            if below and below[0] not in seen:
                self._demand_end(below[0], (*above, path), seen)
        seen.add(path)


def demand_deletable() -> None:
    """Refuse a rule that is ``null`` where there is no rule of that name: Hydra has merged it without a word.

    Looks at the chosen recipes with their defaults, at an experiment that stands on them alone, and at overrides.

    Raises:
        RecipeError: with one problem for each.
    """
    below: Any = {}
    found: list[Problem] = []
    for data in [*_layers(), *_of_overrides()]:
        found += new_deletions(data, below)
        below = laid_over(below, data)
    if found:
        raise RecipeError(*found)


def _layers() -> Iterator[Any]:
    """The recipes that Hydra has merged, in its order, and then what an experiment has laid over them."""
    sources = GlobalHydra.instance().config_loader().get_sources()
    source = next(source for source in sources if source.scheme() == SCHEME)
    for name in names(GROUP):
        yield from _with_defaults(source, name)
    path = next(files("experiment", chosen), None) if (chosen := experiment()) else None
    data = read_yaml(path) if path else None
    if isinstance(data, dict) and all(_only_overrides(entry) for entry in data.get("defaults", [])):
        yield data.get(GROUP)


def _with_defaults(source: ConfigSource, name: str) -> Iterator[Any]:
    """A recipe's data, among that of its defaults."""
    data: Any = OmegaConf.to_container(source.load_config(f"{GROUP}/{name}").config)
    below = [str(entry) for entry in data.pop("defaults", [])]
    for entry in below if SELF in below else [*below, SELF]:
        yield from [data] if entry == SELF else _with_defaults(source, entry)


def _only_overrides(entry: Any) -> bool:
    return isinstance(entry, dict) and all(str(key).startswith("override ") for key in entry)


def _of_overrides() -> Iterator[Any]:
    """What the command line adds under names that were not there, ``+init.rules.NAME=…``."""
    for change in overrides():
        parts = change.key_or_group.split(".")
        if change.is_add() and parts[:2] == [GROUP, "rules"] and parts[3:] == []:
            yield {"rules": {parts[2]: change.value()}}


def read(path: Path) -> dict[str, Any]:
    """Read one recipe.

    Returns:
        What the file holds, ``defaults`` included.

    Raises:
        RecipeError: with every problem of the file.
    """
    data = read_yaml(path)
    if problems := list(_problems(path, data)):
        raise RecipeError(*problems)
    return data or {}


def _problems(path: Path, data: Any) -> Iterator[Problem]:
    """What in a recipe's file Hydra would read as more than a recipe, or could not hold."""
    if data is not None and not isinstance(data, dict):
        fact = f"a recipe is a mapping, and this is a {type(data).__name__}."  # which may be any text file
        yield Problem(str(path), fact, fix="Write rules: and a rule under it.")
        return
    given = dict(data or {})
    below = given.pop("defaults", [])
    fix = "Name recipes, as in [xavier_relu, mine.yaml, _self_]."
    for item in [one for one in below if not _NAME.fullmatch(str(one))] if isinstance(below, list) else [below]:
        yield Problem(str(path), f"defaults names {shown(item)}.", fix=fix)
    yield from (problem.on(str(path)) for problem in strangers(given))
    package = RecipeSource._get_header_dict(path.read_text(encoding="utf-8", errors="replace"))["package"]  # noqa: SLF001
    if package not in (None, GROUP, "_group_"):
        yield Problem(str(path), "a recipe stays in its own part of the config.", fix=f"Remove # @package {package}.")


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))
