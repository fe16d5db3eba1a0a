"""Where the recipes that ship with initframe live."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_directory() -> Path:
    """Find the folder of configurations: inside of an installed package, beside an editable one.

    >>> conf_directory().name
    'conf'
    """
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def presets() -> dict[str, Path]:
    """List the recipes that can be named without a path.

    Returns:
        Each preset's name and file, in alphabetical order.

    >>> all(path.suffix == ".yaml" for path in presets().values())
    True
    """
    return {path.stem: path for path in sorted((conf_directory() / "init").glob("*.yaml"))}


def list_presets() -> list[str]:
    """Name the recipes that ship with initframe, sorted.

    >>> "resnet" in list_presets()
    True
    """
    return sorted(presets())
