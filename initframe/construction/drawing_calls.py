"""Calls of torch that write constants, draw, or make new tensors."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from initframe.construction.call import Interpreter, TorchCall, tensors_in
from initframe.construction.values import REAL, Number, Unreadable, Value, chained, draw, structured
from initframe.fills import Identity


def filled(call: TorchCall) -> Any:
    """``fill_`` and ``constant_``: a number everywhere."""
    tensor, value = call.arguments("tensor", "val")
    out = call.run_on(tensor)
    call.recorder.write(tensor, call.recorder.number(call.named.get("value") if value is None else value))
    return out


def zeroed(call: TorchCall) -> Any:
    """``zero_``."""
    tensor = call.args[0]
    out = call.run_on(tensor)
    call.recorder.write(tensor, Number(0.0))
    return out


def made(value: Value = None) -> Interpreter:
    """A factory: new memory, which holds a value."""
    return lambda call: _made(call, value)


def made_by_draw(distribution: str, *args: float) -> Interpreter:
    """A factory: new memory, which holds new numbers of a distribution."""
    return lambda call: _made(call, draw(distribution, *args))


def _made(call: TorchCall, value: Value) -> Tensor:
    most = call.recorder.most
    if most is not None and call.named.get("device") is None and _elements(call) > most:
        call = call._replace(named={**call.named, "device": "meta"})
    out: Tensor = call.run()
    call.recorder.write(out, value)
    return out


def made_empty(call: TorchCall) -> Tensor:
    """``empty``; with no element, it may be about to get the memory of a file, of which no call tells."""
    out = _made(call, None)
    if not out.numel():
        call.recorder.hollow.append(out)
    return out


def _elements(call: TorchCall) -> int:
    """How many elements a factory is asked for, by sizes one by one or in a list; 1 if it is asked otherwise.

    In a list, sizes may be tensors of one element, as a library has them that computes its sizes by torch.
    """
    sizes = call.args or (call.named.get("size") or call.named.get("shape") or (),)
    if sizes and isinstance(sizes[0], list | tuple):
        return math.prod(int(size) for size in sizes[0] if not (isinstance(size, Tensor) and size.is_meta))
    return math.prod(int(size) for size in sizes if not isinstance(size, Tensor) and hasattr(size, "__index__"))


def made_full(call: TorchCall) -> Any:
    """``full``, ``full_like``, ``new_full``: the number comes last."""
    out = call.run()
    given = (*call.args, call.named.get("fill_value"))
    numbers = [a for a in given if isinstance(a, int | float | Tensor) and a is not call.args[0]]
    call.recorder.write(out, call.recorder.number(numbers[-1]))
    return out


def made_eye(call: TorchCall) -> Any:
    """``eye``: a table if it has values, an identity if it has none."""
    out: Tensor = call.run()
    call.recorder.write(out, structured(Identity(tuple(out.shape))) if out.is_meta else REAL)
    return out


def drawn_in_place(distribution: str, first: str, second: str) -> Interpreter:
    """A method that draws in place; its two arguments are 0 and 1 by default."""

    def interpret(call: TorchCall) -> Any:
        tensor, *numbers = call.arguments("tensor", first, second)
        out = call.run_on(tensor)
        given = [usual if n is None else n for n, usual in zip(numbers, (0.0, 1.0), strict=True)]
        plain = all(isinstance(n, int | float) for n in given)
        value = draw(distribution, *given) if plain else Unreadable("its distribution's arguments are tensors")
        call.recorder.write(tensor, value)
        return out

    return interpret


def exponential(call: TorchCall) -> Any:
    """−log(u)/λ."""
    out = call.run()
    tensor, rate = call.arguments("tensor", "lambd")
    chain: Any = draw("uniform", 0.0, 1.0)
    for operation, *others in (("log",), ("neg",), ("div", float(rate or 1.0))):
        chain = chained(operation, [chain, *others])
    call.recorder.write(tensor, chain)
    return out


def log_normal(call: TorchCall) -> Any:
    """Exp of a normal."""
    out = call.run()
    tensor, mean, std = call.arguments("tensor", "mean", "std")
    normal = draw("normal", 1.0 if mean is None else mean, 2.0 if std is None else std)
    call.recorder.write(tensor, chained("exp", [normal]))
    return out


def torch_normal(call: TorchCall) -> Any:
    """``torch.normal(mean, std, size)``, whose mean or std may be tensors."""
    out = call.run()
    mean, std = call.arguments("mean", "std")
    found = [call.recorder.number(number) for number in (mean, 1.0 if std is None else std)]
    numbers = [one.value for one in found if isinstance(one, Number)]
    known = len(numbers) == 2
    call.recorder.write(out, draw("normal", *numbers) if known else Unreadable("its mean or std differs by element"))
    return out


def kaiming_uniform(call: TorchCall) -> Any:
    """``nn.init.kaiming_uniform_``, which computes its bound itself."""
    given: Any = call.arguments("tensor", "a", "mode", "nonlinearity")
    usual: Any = (None, 0, "fan_in", "leaky_relu")
    tensor, a, mode, nonlinearity = (d if g is None else g for g, d in zip(given, usual, strict=True))
    out = call.run_on(tensor)
    if tensor.numel():
        fan = nn.init._calculate_correct_fan(tensor, mode)  # noqa: SLF001
        bound = math.sqrt(3.0) * (nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan))
        call.recorder.write(tensor, draw("uniform", -bound, bound))
    return out


def drawn_otherwise(call: TorchCall) -> Any:
    """Draws that the stream has no distribution for."""
    out = call.run()
    written = call.args[0] if call.name.endswith("_") and call.args else out
    for tensor in tensors_in([written]):
        call.recorder.write(tensor, Unreadable(f"it is drawn by torch's {call.name}, which the stream does not have"))
    return out
