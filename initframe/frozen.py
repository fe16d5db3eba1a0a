"""Frozen dataclasses that are made by the thousand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """Return a function that makes instances of a frozen dataclass, in a third of the time that the class takes.

    A frozen class sets its fields through ``object.__setattr__``. The function sets those of an instance of an open
    class, of the same layout, which is then given the frozen class. ``__post_init__`` does not run. It is fastest if
    the first fields are given by position and the usual values are left out.

    Args:
        cls: the class; it has no fields that are keywords only.

    Returns:
        The function, with the arguments and the defaults of the class. It is compiled from its text, as the
        ``__init__`` of a dataclass is.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True)
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> maker(Point)(3.0)
    Point(x=3.0, y=0.0)
    """
    given, steps = [], []
    layout = {"__slots__": [f.name for f in fields(cls)]} if "__slots__" in vars(cls) else {}  # type: ignore[arg-type]
    names: dict[str, Any] = {"frozen": cls, "opened": type("Open", (), layout)}
    for f in fields(cls):  # type: ignore[arg-type]
        value = f.name
        if f.default_factory is not MISSING:
            names |= {f"new_{f.name}": f.default_factory, "absent": MISSING}
            given.append(f"{f.name}=absent")
            value = f"new_{f.name}() if {f.name} is absent else {f.name}"
        elif f.default is not MISSING:
            names[f"usual_{f.name}"] = f.default
            given.append(f"{f.name}=usual_{f.name}")
        else:
            given.append(f.name)
        steps.append(f"    made.{f.name} = {value}")
    lines = [f"def make({', '.join(given)}):", "    made = opened()", *steps, "    made.__class__ = frozen"]
    exec("\n".join([*lines, "    return made"]), names)  # noqa: S102
    make: Callable[P, T] = names["make"]
    return make
