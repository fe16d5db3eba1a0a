"""Run a constructor with every write noted: without its parameters' memory, or with it if their values are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from initframe.construction.recorder import Recorder
from initframe.construction.twins import Twins, can_be_deferred, is_plain
from initframe.construction.watch import recorded
from initframe.errors import InitframeError, Problem, ResolveError
from initframe.limits import machine_memory

Build = Callable[[], nn.Module]
Shape = tuple[int, ...]

_ASKS_FOR_WEIGHTS = ("pretrained", "weights", "weights_backbone", "checkpoint_path")
_SHARE = 0.125
"""Of the machine's memory, what a constructor may take."""


def demand_builder(build: object) -> None:
    """Refuse what cannot be called without arguments, and what asks for trained weights.

    Args:
        build: what :func:`initframe.trace` was given.

    Raises:
        ResolveError: it is no function, or one of its arguments asks for trained weights.
    """
    if isinstance(build, nn.Module) or not callable(build):
        got = type(build).__name__
        raise _refused(f"it takes a function that builds a model, got {got}.", "Write trace(lambda: …).")
    for name, value in _arguments(build).items():
        if name in _ASKS_FOR_WEIGHTS and value:
            raise _loads(f"it is called with {name}={value!r}")


def run(build: Build) -> tuple[nn.Module, tuple[str, ...]]:
    """Run a constructor on meta; if it needs values, with memory.

    Args:
        build: builds a model.

    Returns:
        The model without its parameters' memory, and warnings for the reader of its plan.

    Raises:
        ResolveError: it builds no module, fails, loads trained weights, or there is too little memory to run it with.
    """
    twins = Twins()
    try:
        with recorded(twins) as recorder:
            model = _called(build)
    except InitframeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a constructor raises for lack of values
        first = error
    else:
        _check_loaded(recorder)
        return model, ()
    before = recorder.registered
    _demand_memory(twins, first)
    try:
        with recorded(None) as recorder:
            model = _called(build)
    except InitframeError:
        raise
    except Exception as error:
        fact = f"the constructor raises {type(error).__name__}: {error}"
        raise _refused(fact, "Call it by itself, and mend that first.") from error
    _check_loaded(recorder)
    _demand_the_same(before, recorder.registered)
    _take_memory(model)
    fact = f"{type(first).__name__}: {str(first).splitlines()[0] if str(first) else ''}"
    return model, (f"the constructor needs its parameters' values ({fact:.120}): it was run with memory.",)


def _refused(fact: str, fix: str) -> ResolveError:
    return ResolveError(Problem("trace", fact, fix=fix))


def _arguments(build: Build) -> dict[str, Any]:
    """What a function gets by its defaults and by a partial; nothing is known of some classes written in C."""
    given = build.keywords if isinstance(build, partial) else {}
    try:
        defaults = {p.name: p.default for p in inspect.signature(build).parameters.values() if p.default is not p.empty}
    except (TypeError, ValueError):
        defaults = {}
    return defaults | given


def _called(build: Build) -> nn.Module:
    made: Any = build()
    if not isinstance(made, nn.Module):
        raise _refused(f"what it was given builds a {type(made).__name__}, no torch.nn.Module.", "Return the model.")
    return made


def _check_loaded(recorder: Recorder) -> None:
    if recorder.loaded:
        raise _loads(f"the constructor loads a state_dict ({recorder.loaded.origin()})")


def _loads(fact: str) -> ResolveError:
    fix = "Build it without (pretrained=False, weights=None)."
    return _refused(f"{fact}: trained weights are no initialization.", fix)


def _demand_memory(twins: Twins, error: Exception) -> None:
    """Refuse to run a constructor with memory if what it had registered before it failed is too much of it."""
    size = sum(base.tensor.numel() * base.tensor.itemsize for base in twins.memory.values())
    most = _SHARE * machine_memory()
    if size > most:
        raise _refused(
            f"the constructor fails without memory ({type(error).__name__}: {error}). It was not tried with it: "
            f"that takes {size / 2**30:.0f} GiB or more, and {most / 2**30:.0f} are allowed here.",
            "If it fails by itself, mend that; else trace a smaller configuration of the same model.",
        ) from error


def _demand_the_same(before: Sequence[Shape], after: Sequence[Shape]) -> None:
    """Refuse a constructor that gave its modules other parameters when it was run again."""
    one, other = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), (None, None))
    if one is not None and other is not None:
        fact = f"it builds another model each time: a parameter of shape {list(one)}, then one of {list(other)}."
        raise _refused(fact, "Write a function that builds the same model every time.")


def _take_memory(model: nn.Module) -> None:
    """Take the memory of a model's parameters away; one object stays one, and so does shared memory.

    Parameters that share a buffer's memory keep it, as the buffer does.
    """
    twins = Twins()
    for buffer in model.buffers():
        if is_plain(buffer):
            twins.buffer(buffer)
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001
            if can_be_deferred(parameter) and not twins.is_of_buffer(parameter):
                module._parameters[name] = twins.of(parameter)  # noqa: SLF001
