"""Calls of torch that write constants, draw, or make new tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from initframe.construction import values as v
from initframe.construction.reads import read
from initframe.construction.recorder import Recorder
from initframe.construction.unknown_calls import Arguments, Function, Named, arguments_of, repeated, tensors_in
from initframe.construction.values import Known, Number, Real, Unreadable, Value
from initframe.fills import Identity


def _written(tensor: Any, func: Function, args: Arguments, named: Named) -> Any:
    """Call a function that writes to a tensor; to one without memory it writes nothing, so it need not be called."""
    return tensor if isinstance(tensor, Tensor) and tensor.is_meta else func(*args, **named)


def filled(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``fill_`` and ``constant_``: a number everywhere."""
    tensor, value = arguments_of(("tensor", "val"), args, {"val": named.get("value"), **named})
    out = _written(tensor, func, args, named)
    recorder.write(tensor, scalar(recorder, value))
    return out


def scalar(recorder: Recorder, value: Any) -> Value:
    """A number, or a tensor of one element."""
    if isinstance(value, Tensor) and value.is_complex():
        return Unreadable("complex numbers are used")
    if not isinstance(value, Tensor):
        return Number(float(value)) if isinstance(value, int | float) else Unreadable("a complex number is written")
    found = read(recorder, value)
    if isinstance(found, Number | Unreadable):
        return found
    return Number(float(value.item())) if isinstance(found, Real | Known) and not value.is_meta else repeated()


def zeroed(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Interpret ``zero_``."""
    out = _written(args[0], func, args, named)
    recorder.write(args[0], Number(0.0))
    return out


def factory(value: Callable[[Arguments, Named], Value]) -> Function:
    """A factory: new memory, which holds a value."""

    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        if recorder.most is not None and _elements(args, named) > recorder.most and named.get("device") is None:
            named = {**named, "device": "meta"}
        out = func(*args, **named)
        recorder.write(out, value(args, named))
        return out

    return interpret


made_nothing = factory(lambda *_: None)


def made_empty(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``empty``; with no element, it may be about to get the memory of a file, of which no call tells."""
    out = made_nothing(recorder, func, args, named)
    if not out.numel():
        recorder.hollow.append(out)
    return out


def _elements(args: Arguments, named: Named) -> int:
    """How many elements a factory is asked for, by sizes one by one or in a list; 1 if it is asked otherwise.

    In a list, sizes may be tensors of one element, as a library has them that computes its sizes by torch.
    """
    sizes = args or (named.get("size") or named.get("shape") or (),)
    if sizes and isinstance(sizes[0], list | tuple):
        return math.prod(int(size) for size in sizes[0] if not (isinstance(size, Tensor) and size.is_meta))
    return math.prod(int(size) for size in sizes if not isinstance(size, Tensor) and hasattr(size, "__index__"))


def made_full(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``full``, ``full_like``, ``new_full``: the number comes last."""
    out = func(*args, **named)
    numbers = [a for a in (*args, named.get("fill_value")) if isinstance(a, int | float | Tensor) and a is not args[0]]
    recorder.write(out, scalar(recorder, numbers[-1]))
    return out


def made_eye(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Interpret ``eye``: a table if it has values, an identity if it has none."""
    out: Tensor = func(*args, **named)
    recorder.write(out, v.whole(Identity(tuple(out.shape))) if out.is_meta else v.REAL)
    return out


def drawn_in_place(law: str, names: Sequence[str], defaults: Sequence[float]) -> Function:
    """A method that draws in place."""

    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        tensor, *numbers = arguments_of(("tensor", *names), args, named)
        out = _written(tensor, func, args, named)
        given = [default if n is None else n for n, default in zip(numbers, defaults, strict=True)]
        plain = all(isinstance(n, int | float) for n in given)
        value = v.draw(law, *given) if plain else Unreadable("its distribution's arguments are tensors")
        recorder.write(tensor, value)
        return out

    return interpret


def exponential(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """−log(u)/λ."""
    out = func(*args, **named)
    tensor, rate = arguments_of(("tensor", "lambd"), args, named)
    chain: Any = v.draw("uniform", 0.0, 1.0)
    for operation, *others in (("log",), ("neg",), ("div", float(rate or 1.0))):
        chain = v.chained(operation, [chain, *others])
    recorder.write(tensor, chain)
    return out


def log_normal(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Exp of a normal."""
    out = func(*args, **named)
    tensor, mean, std = arguments_of(("tensor", "mean", "std"), args, named)
    recorder.write(
        tensor, v.chained("exp", [v.draw("normal", 1.0 if mean is None else mean, 2.0 if std is None else std)])
    )
    return out


def torch_normal(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``torch.normal(mean, std, size)``, whose mean or std may be tensors."""
    out = func(*args, **named)
    mean, std = arguments_of(("mean", "std"), args, named)
    if isinstance(mean, int | float) and isinstance(std, int | float):
        value: Value = v.draw("normal", mean, std)
    else:
        found = [scalar(recorder, number) for number in (mean, 1.0 if std is None else std)]
        numbers = [one.value for one in found if isinstance(one, Number)]
        value = v.draw("normal", *numbers) if len(numbers) == 2 else Unreadable("its mean or std differs by element")
    recorder.write(out, value)
    return out


def kaiming_uniform(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Interpret ``nn.init.kaiming_uniform_``, which computes its bound itself."""
    given: Any = arguments_of(("tensor", "a", "mode", "nonlinearity"), args, named)
    usual: Any = (None, 0, "fan_in", "leaky_relu")
    tensor, a, mode, nonlinearity = (d if g is None else g for g, d in zip(given, usual, strict=True))
    out = _written(tensor, func, args, named)
    if tensor.numel():
        fan = nn.init._calculate_correct_fan(tensor, mode)  # noqa: SLF001
        bound = math.sqrt(3.0) * (nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan))
        recorder.write(tensor, v.draw("uniform", -bound, bound))
    return out


def drawn_otherwise(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Draws that the stream has no distribution for."""
    out = func(*args, **named)
    name = func.__name__
    written = args[0] if name.endswith("_") and args else out
    for tensor in tensors_in([written]):
        recorder.write(tensor, Unreadable(f"it is drawn by torch's {name}, which the stream does not have"))
    return out
