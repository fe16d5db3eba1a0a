"""What each call of torch writes: a table from torch's functions to what is noted of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from initframe.construction import values as v
from initframe.construction.reads import of, pieces, read
from initframe.construction.values import Drawn, Known, Number, Real, Unreadable, Value, Whole
from initframe.fills import Identity, Orthogonal, Sparse
from initframe.fills.chain import OPERATIONS

if TYPE_CHECKING:
    from initframe.construction.recorder import Recorder

Function = Callable[..., Any]
Arguments = tuple[Any, ...]
Named = dict[str, Any]

IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]


def _found(name: str, homes: Iterable[Any] = (torch.Tensor, torch, nn.functional, torch.special)) -> Iterator[Function]:
    """Every function of torch that goes by a name."""
    for home in homes:
        function = getattr(home, name, None)
        if callable(function):
            yield function


# --- what writes nothing ---------------------------------------------------------------------------------------------

_VIEWS_AND_QUESTIONS = [
    "detach",
    "detach_",
    "view",
    "view_as",
    "t",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "narrow",
    "chunk",
    "split",
    "select",
    "expand",
    "expand_as",
    "unbind",
    "swapaxes",
    "movedim",
    "as_strided",
    "unfold",
    "diagonal",
    "requires_grad_",
    "dim",
    "size",
    "numel",
    "stride",
    "nelement",
    "ndimension",
    "is_contiguous",
    "untyped_storage",
    "storage",
    "storage_offset",
    "element_size",
    "is_floating_point",
    "is_complex",
    "is_inference",
    "data_ptr",
    "get_device",
    "item",
    "tolist",
    "equal",
    "allclose",
    "register_hook",
    "register_post_accumulate_grad_hook",
    "has_names",
    "is_same_size",
    "is_pinned",
    "__len__",
    "__bool__",
    "__float__",
    "__int__",
    "__format__",
    "__repr__",
    "__hash__",
    "__contains__",
    "__reduce_ex__",
    "share_memory_",
    "is_shared",
    "dim_order",
    "broadcast_tensors",
    "split_with_sizes",
]


def _accessors() -> Iterator[Function]:
    for name in dir(torch.Tensor):
        attribute = getattr(torch.Tensor, name, None)
        if type(attribute).__name__ in ("getset_descriptor", "property"):
            yield from (getattr(attribute, how) for how in ("__get__", "__set__", "__delete__"))


IGNORED: frozenset[Function] = frozenset(
    {
        *_accessors(),
        *(function for name in _VIEWS_AND_QUESTIONS for function in _found(name)),
        torch._C._set_grad_enabled,  # noqa: SLF001
    }
) - {IS_META}
"""Functions that write to no tensor and make no memory of one."""


# --- constants and draws ---------------------------------------------------------------------------------------------


def _written(tensor: Any, func: Function, args: Arguments, named: Named) -> Any:
    """Call a function that writes to a tensor; to one without memory it writes nothing, so it need not be called."""
    return tensor if isinstance(tensor, Tensor) and tensor.is_meta else func(*args, **named)


def _filled(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``fill_`` and ``constant_``: a number everywhere."""
    tensor, value = _bound(("tensor", "val"), args, {"val": named.get("value"), **named})
    out = _written(tensor, func, args, named)
    recorder.write(tensor, _scalar(recorder, value))
    return out


def _scalar(recorder: Recorder, value: Any) -> Value:
    """A number, or a tensor of one element."""
    if isinstance(value, Tensor) and value.is_complex():
        return Unreadable("complex numbers are used")
    if not isinstance(value, Tensor):
        return Number(float(value)) if isinstance(value, int | float) else Unreadable("a complex number is written")
    found = read(recorder, value)
    if isinstance(found, Number | Unreadable):
        return found
    return Number(float(value.item())) if isinstance(found, Real | Known) and not value.is_meta else _repeated()


def _zeroed(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    out = _written(args[0], func, args, named)
    recorder.write(args[0], Number(0.0))
    return out


def _made(value: Callable[[Arguments, Named], Value]) -> Function:
    """A factory: new memory, which holds a value."""

    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        if recorder.most is not None and _elements(args, named) > recorder.most and named.get("device") is None:
            named = {**named, "device": "meta"}
        out = func(*args, **named)
        recorder.write(out, value(args, named))
        return out

    return interpret


def _made_empty(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``empty``; with no element, it may be about to get the memory of a file, of which no call tells."""
    out = _made_nothing(recorder, func, args, named)
    if not out.numel():
        recorder.hollow.append(out)
    return out


def _elements(args: Arguments, named: Named) -> int:
    """How many elements a factory is asked for, by sizes one by one or in a list; 1 if it is asked otherwise."""
    sizes = args or (named.get("size") or named.get("shape") or (),)
    several = sizes[0] if sizes and isinstance(sizes[0], list | tuple) else sizes
    return math.prod(int(size) for size in several if not isinstance(size, Tensor) and hasattr(size, "__index__"))


def _made_full(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``full``, ``full_like``, ``new_full``: the number comes last."""
    out = func(*args, **named)
    numbers = [a for a in (*args, named.get("fill_value")) if isinstance(a, int | float | Tensor) and a is not args[0]]
    recorder.write(out, _scalar(recorder, numbers[-1]))
    return out


def _made_eye(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    out: Tensor = func(*args, **named)
    recorder.write(out, v.whole(Identity(tuple(out.shape))) if out.is_meta else v.REAL)
    return out


def _drawn(law: str, names: Sequence[str], defaults: Sequence[float]) -> Function:
    """A method that draws in place."""

    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        tensor, *numbers = _bound(("tensor", *names), args, named)
        out = _written(tensor, func, args, named)
        given = [default if n is None else n for n, default in zip(numbers, defaults, strict=True)]
        plain = all(isinstance(n, int | float) for n in given)
        value = v.draw(law, *given) if plain else Unreadable("its distribution's arguments are tensors")
        recorder.write(tensor, value)
        return out

    return interpret


def _exponential(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """−log(u)/λ."""
    out = func(*args, **named)
    tensor, rate = _bound(("tensor", "lambd"), args, named)
    chain: Any = v.draw("uniform", 0.0, 1.0)
    for operation, *others in (("log",), ("neg",), ("div", float(rate or 1.0))):
        chain = v.chained(operation, [chain, *others])
    recorder.write(tensor, chain)
    return out


def _log_normal(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Exp of a normal."""
    out = func(*args, **named)
    tensor, mean, std = _bound(("tensor", "mean", "std"), args, named)
    recorder.write(
        tensor, v.chained("exp", [v.draw("normal", 1.0 if mean is None else mean, 2.0 if std is None else std)])
    )
    return out


def _torch_normal(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``torch.normal(mean, std, size)``, whose mean or std may be tensors."""
    out = func(*args, **named)
    mean, std = _bound(("mean", "std"), args, named)
    if isinstance(mean, int | float) and isinstance(std, int | float):
        value: Value = v.draw("normal", mean, std)
    else:
        found = [_scalar(recorder, number) for number in (mean, 1.0 if std is None else std)]
        numbers = [one.value for one in found if isinstance(one, Number)]
        value = v.draw("normal", *numbers) if len(numbers) == 2 else Unreadable("its mean or std differs by element")
    recorder.write(out, value)
    return out


def _kaiming_uniform(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    given = _bound(("tensor", "a", "mode", "nonlinearity"), args, named)
    tensor, a, mode, nonlinearity = (
        d if g is None else g for g, d in zip(given, (0, 0, "fan_in", "leaky_relu"), strict=True)
    )
    out = _written(tensor, func, args, named)
    if tensor.numel():
        fan = nn.init._calculate_correct_fan(tensor, mode)  # noqa: SLF001
        bound = math.sqrt(3.0) * (nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan))
        recorder.write(tensor, v.draw("uniform", -bound, bound))
    return out


def _random(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """Draws that the stream has no distribution for."""
    out = func(*args, **named)
    name = func.__name__
    written = args[0] if name.endswith("_") and args else out
    for tensor in _tensors([written]):
        recorder.write(tensor, Unreadable(f"it is drawn by torch's {name}, which the stream does not have"))
    return out


# --- copies ----------------------------------------------------------------------------------------------------------


def _copied(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``copy_``."""
    tensor, source = _bound(("self", "src"), args, named)
    found = read(recorder, source) if source.numel() == tensor.numel() else _expanded(recorder, source, tensor)
    inner = pieces(recorder, source) if source.shape == tensor.shape else None
    out = func(*args, **named)
    if inner and (tensor.is_meta or not isinstance(found, Real)):
        _write_pieces(recorder, tensor, inner)
    else:
        recorder.write(tensor, _kept(found, source, tensor))
    return out


def _kept(found: Value, source: Tensor, tensor: Tensor) -> Value:
    """A value that outlives the source's memory."""
    if isinstance(found, Real) and tensor.is_meta:
        if source.is_meta:
            return Unreadable("its values were computed from parameters without memory")
        return Known(source.detach().to(tensor.dtype).expand(tensor.shape).clone())
    return v.REAL if isinstance(found, Known) and not tensor.is_meta else found


def _expanded(recorder: Recorder, source: Tensor, tensor: Tensor) -> Value:
    """What a source becomes that is repeated over a larger tensor."""
    found = read(recorder, source)
    if isinstance(found, Known):
        return Known(found.values.to(tensor.dtype).expand(tensor.shape).clone())
    return found if isinstance(found, Number | Real | Unreadable | None) else _repeated()


def _repeated() -> Unreadable:
    return Unreadable("one draw is repeated over several elements")


def _cloned(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``clone``, ``to``, ``contiguous`` and others that give the same values, in new memory or not."""
    source = next(iter(_tensors([args, named])), None)
    out = func(*args, **named)
    if not isinstance(source, Tensor) or not isinstance(out, Tensor) or _same_memory(source, out):
        return out
    if source.numel() != out.numel():
        return _noted(recorder, func, [source], out)
    found, inner = read(recorder, source), pieces(recorder, source) if source.shape == out.shape else None
    if inner and (out.is_meta or not isinstance(found, Real)):
        _write_pieces(recorder, out, inner)
    else:
        recorder.write(out, _kept(found, source, out))
    return out


def _write_pieces(recorder: Recorder, tensor: Tensor, inner: Sequence[tuple[tuple[slice, ...] | None, Value]]) -> None:
    """Write part by part, as the source was written."""
    for index, value in inner:
        recorder.write(tensor if index is None else tensor[index], value)


def _set_item(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``tensor[index] = value``."""
    tensor, index, value = args
    if not _is_plain(index):
        return unknown(recorder, func, args, named)
    part = tensor[index]
    if isinstance(value, Tensor):
        found = read(recorder, value) if value.numel() == part.numel() else _expanded(recorder, value, part)
        found = _kept(found, value, part)
    else:
        found = _scalar(recorder, value)
    out = func(*args, **named)
    recorder.write(part, found if part.is_meta or not isinstance(found, Known) else v.REAL)
    return out


def _is_plain(index: Any) -> bool:
    """Whether an index gives a view."""
    several = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, slice) or type(i) is int for i in several)


def _joined(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``cat`` and ``stack``: parts side by side."""
    tensors, dim = _bound(("tensors", "dim"), args, named)
    tensors = list(tensors)
    found = [read(recorder, tensor) for tensor in tensors]
    out: Tensor = func(*args, **named)
    if all(isinstance(value, Real | Number | Known) for value in found) and not out.is_meta:
        recorder.write(out, v.REAL)
        return out
    numbers = [n for value in found for n in v.draws(value)]
    if len(set(numbers)) < len(numbers):
        recorder.write(out, _repeated())
        return out
    dim, start, stacked = (dim or 0) % out.ndim, 0, func.__name__ == "stack"
    if len({*map(repr, found)}) == 1 and isinstance(found[0], Number):
        recorder.write(out, found[0])
        return out
    for tensor, value in zip(tensors, found, strict=True):
        size = 1 if stacked else tensor.shape[dim]
        if size:
            recorder.write(
                out.narrow(dim, start, size), _kept(value, tensor.unsqueeze(dim) if stacked else tensor, out)
            )
        start += size
    return out


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _elementwise(operation: str, *, swapped: bool = False) -> Function:
    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        return _arithmetic(recorder, func, args, named, operation, swapped=swapped)

    return interpret


def _arithmetic(
    recorder: Recorder, func: Function, args: Arguments, named: Named, operation: str, *, swapped: bool = False
) -> Any:
    """One operation, element by element, in place or not."""
    inputs = [*args, *(named[key] for key in ("other", "exponent") if key in named)]
    strange = {key for key, value in named.items() if value is not None} - {"other", "exponent", "alpha", "input"}
    if strange or not inputs or (operation == "softplus" and len(inputs) > 1):
        return unknown(recorder, func, args, named)
    operands = [of(recorder, one) for one in reversed(inputs)] if swapped else [of(recorder, one) for one in inputs]
    if (alpha := named.get("alpha", 1)) != 1:
        operands[1] = combined("mul", [operands[1], Number(float(alpha))])
    tensors = _tensors(inputs)
    out = func(*args, **named)
    in_place = (func.__name__.endswith("_") and not func.__name__.endswith("__")) or func.__name__.startswith("__i")
    written = args[0] if in_place else out
    if written.is_meta:
        operands = [
            _held(operand, one) for operand, one in zip(operands, reversed(inputs) if swapped else inputs, strict=True)
        ]
    _settle(
        recorder,
        written,
        operands,
        tensors,
        lambda ins: combined(operation, ins, written),
        fresh=not in_place,
        func=func,
    )
    return out


def _held(operand: Value, tensor: Any) -> Value:
    """An operand with real memory, kept for a result that has none."""
    if isinstance(operand, Real) and isinstance(tensor, Tensor) and not tensor.is_meta:
        return Known(tensor.detach().clone())
    return operand


def _clamped(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``clamp``, ``clamp_min``, ``clamp_max``, in place or not."""
    name = func.__name__.rstrip("_")
    keys = {"clamp_min": ("self", "min"), "clamp_max": ("self", "max")}.get(name, ("self", "min", "max"))
    tensor, *limits = _bound(keys, args, {**named, "self": named.get("input", named.get("self"))})
    bounds = dict(zip(keys[1:], limits, strict=True))
    low, high = bounds.get("min"), bounds.get("max")
    operands = [of(recorder, tensor)]
    out = func(*args, **named)
    written = args[0] if func.__name__.endswith("_") else out

    def limited(inputs: Sequence[Value]) -> Value:
        value = inputs[0]
        for operation, limit in (("max", low), ("min", high)):
            value = value if limit is None else combined(operation, [value, of(recorder, limit)], written)
        return value

    _settle(recorder, written, operands, [tensor], limited, fresh=False, func=func)
    return out


def _settle(
    recorder: Recorder,
    written: Tensor,
    operands: Sequence[Value],
    tensors: Sequence[Tensor],
    make: Callable[[Sequence[Value]], Value],
    *,
    fresh: bool,
    func: Function,
) -> None:
    """Note the result of an operation."""
    history = recorder.history(written)
    in_parts = not fresh and history is not None and history.parts and len(tensors) == 1
    if in_parts and history is not None and written.numel() * written.itemsize >= written.untyped_storage().nbytes():
        history.value = history.value and make([history.value, *operands[1:]])
        history.parts = [p._replace(value=make([p.value, *operands[1:]])) for p in history.parts]
        return
    spread = any(
        isinstance(o, Drawn | Whole) and isinstance(t, Tensor) and t.numel() != written.numel()
        for o, t in zip([o for o in operands if o is not None], tensors, strict=False)
    ) and any(t.numel() != written.numel() for t in tensors if t.numel() > 1 or written.numel() == 1)
    value = make(operands)
    if spread and isinstance(value, Drawn | Whole) and not _fits(recorder, tensors, written):
        value = _repeated()
    recorder.write(written, value, fresh=fresh)


def _fits(recorder: Recorder, tensors: Sequence[Tensor], written: Tensor) -> bool:
    """Whether every drawn operand has as many elements as the result."""
    drawn = [t for t in tensors if isinstance(read(recorder, t), Drawn | Whole)]
    return all(t.numel() == written.numel() for t in drawn)


def combined(operation: str, operands: Sequence[Value], written: Tensor | None = None) -> Value:
    """Give the value that an operation makes of others.

    Args:
        operation: a name of :data:`initframe.fills.chain.OPERATIONS`.
        operands: in its order.
        written: the tensor that holds the result.
    """
    if fault := next((o for o in operands if isinstance(o, Unreadable)), None):
        return fault
    if any(o is None for o in operands):
        return Unreadable("it is computed from memory that nobody has written to")
    numbers = [o.value for o in operands if isinstance(o, Number)]
    if len(numbers) == len(operands):
        if written is not None and not written.is_meta:
            return v.REAL
        return Number(v.computed(operation, numbers, torch.float32 if written is None else written.dtype))
    if any(isinstance(o, Whole) for o in operands):
        return _scaled(operation, operands)
    chains = [o for o in operands if isinstance(o, Drawn)]
    if chains and len(chains) + len(numbers) == len(operands):
        return v.chained(
            operation, [o if isinstance(o, Drawn) else o.value for o in operands if isinstance(o, Drawn | Number)]
        )
    if chains:
        return Unreadable(f"a draw and a table are combined ({operation})")
    return _tabulated(operation, operands, written)


def _scaled(operation: str, operands: Sequence[Value]) -> Value:
    """An orthogonal or sparse matrix times a number."""
    first, *others = operands
    if isinstance(first, Number) and others and operation == "mul":
        first, others = others[0], [first]
    if isinstance(first, Whole) and len(others) == 1 and isinstance(others[0], Number) and operation in ("mul", "div"):
        factor = others[0].value if operation == "mul" else 1 / others[0].value
        if isinstance(first.fill, Orthogonal):
            return Whole(first.draw, replace(first.fill, gain=first.fill.gain * factor))
        if isinstance(first.fill, Sparse):
            return Whole(first.draw, replace(first.fill, scale=first.fill.scale * abs(factor)))
    return Unreadable(f"{operation} follows on a whole matrix")


def _tabulated(operation: str, operands: Sequence[Value], written: Tensor | None) -> Value:
    """Tables and numbers: computed now."""
    if written is None or not written.is_meta:
        return v.REAL
    if any(isinstance(o, Real) for o in operands):
        return Unreadable("its values were computed from a table and from parameters without memory")
    inputs = [
        o.values if isinstance(o, Known) else torch.tensor(o.value) for o in operands if isinstance(o, Known | Number)
    ]
    return Known(OPERATIONS[operation](*inputs).to(written.dtype).expand(written.shape))


# --- everything else -------------------------------------------------------------------------------------------------


def unknown(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """A function that nothing is known of: what it made or changed depends on all that it was given."""
    wrapped = _INIT.get(getattr(func, "__name__", ""))
    if wrapped and "tensor" in named:
        return wrapped(recorder, func, args, named)
    given = _tensors([args, named])
    before = [_version(tensor) for tensor in given]
    found = [read(recorder, tensor) for tensor in given]
    out = func(*args, **named)
    changed = [tensor for tensor, version in zip(given, before, strict=True) if _version(tensor) != version]
    value = _depends(func, given, found)
    if not given and isinstance(out, Tensor) and out.is_meta:
        value = _tabled(func, args, named, out)
    for tensor in changed:
        recorder.write(
            tensor, value if isinstance(value, Unreadable) or not tensor.is_meta else _lost(func), fresh=False
        )
    for tensor in _tensors([out]):
        if not any(_same_memory(tensor, other) for other in given):
            known = isinstance(value, Unreadable | Known) or not tensor.is_meta
            recorder.write(tensor, value if known else _lost(func))
    return out


def _tabled(func: Function, args: Arguments, named: Named, out: Tensor) -> Value:
    """What a factory makes from numbers alone (arange, linspace, tensor), made again where it has values."""
    try:
        made = func(*args, **{**named, "device": "cpu"})
    except Exception:  # noqa: BLE001 - not every function takes a device
        return _lost(func)
    fits = isinstance(made, Tensor) and made.shape == out.shape and not made.is_meta
    return Known(made) if fits else _lost(func)


def _noted(recorder: Recorder, func: Function, given: Sequence[Tensor], out: Tensor) -> Tensor:
    recorder.write(out, _depends(func, given, [read(recorder, tensor) for tensor in given]))
    return out


def _depends(func: Function, given: Sequence[Tensor], found: Sequence[Value]) -> Value:
    if fault := next((value for value in found if isinstance(value, Unreadable)), None):
        return fault
    if any(isinstance(value, Drawn | Whole) for value in found):
        return Unreadable(f"torch's {func.__name__} is applied to a draw")
    return _lost(func) if any(t.is_meta for t in given) else v.REAL


def _lost(func: Function) -> Unreadable:
    return Unreadable(f"torch's {func.__name__} is applied to parameters without memory")


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version  # noqa: SLF001
    except RuntimeError:  # an inference tensor counts none
        return 0


def _same_memory(one: Tensor, other: Tensor) -> bool:
    try:
        return one.untyped_storage()._cdata == other.untyped_storage()._cdata  # noqa: SLF001
    except (NotImplementedError, RuntimeError):  # a layout without a storage
        return one is other


def _tensors(values: Any) -> list[Tensor]:
    """All tensors in lists, tuples and mappings."""
    found: list[Tensor] = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            if value.layout == torch.strided:
                found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += _tensors(value)
    return found


def _bound(names: Sequence[str], args: Arguments, named: Named) -> list[Any]:
    """Arguments by their names; ``None`` for one that is not given."""
    return [args[i] if i < len(args) else named.get(name) for i, name in enumerate(names)]


# --- the table -------------------------------------------------------------------------------------------------------

_OPERATIONS = {
    "add": "add add_ __add__ __radd__ __iadd__",
    "sub": "sub sub_ subtract subtract_ __sub__ __isub__",
    "mul": "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__",
    "div": "div div_ divide divide_ true_divide true_divide_ __div__ __truediv__ __itruediv__ __idiv__",
    "pow": "pow pow_ __pow__ __ipow__",
    "remainder": "remainder remainder_ __mod__",
    "max": "maximum fmax",
    "min": "minimum fmin",
    "neg": "neg neg_ negative negative_ __neg__",
    "abs": "abs abs_ absolute absolute_ __abs__",
    "sign": "sign sign_",
    "square": "square square_",
    "sqrt": "sqrt sqrt_",
    "rsqrt": "rsqrt rsqrt_",
    "reciprocal": "reciprocal reciprocal_",
    "exp": "exp exp_",
    "expm1": "expm1 expm1_",
    "log": "log log_",
    "log1p": "log1p log1p_",
    "log2": "log2 log2_",
    "sin": "sin sin_",
    "cos": "cos cos_",
    "tan": "tan tan_",
    "tanh": "tanh tanh_",
    "sigmoid": "sigmoid sigmoid_ expit",
    "logit": "logit logit_",
    "softplus": "softplus",
    "erf": "erf erf_",
    "erfinv": "erfinv erfinv_",
}
_SWAPPED = {"sub": "__rsub__ rsub", "div": "__rdiv__ __rtruediv__", "pow": "__rpow__"}
_made_nothing = _made(lambda *_: None)
_PLAIN: dict[str, Function] = {
    "zero_": _zeroed,
    "fill_": _filled,
    "copy_": _copied,
    "__setitem__": _set_item,
    "uniform_": _drawn("uniform", ("from", "to"), (0.0, 1.0)),
    "normal_": _drawn("normal", ("mean", "std"), (0.0, 1.0)),
    "exponential_": _exponential,
    "log_normal_": _log_normal,
    "eye": _made_eye,
    "normal": _torch_normal,
    "empty": _made_empty,
    **dict.fromkeys(["cat", "concat", "concatenate", "stack"], _joined),
    **dict.fromkeys(
        [
            "clone",
            "contiguous",
            "to",
            "type",
            "type_as",
            "float",
            "half",
            "bfloat16",
            "double",
            "cpu",
            "cuda",
            "reshape",
            "reshape_as",
            "flatten",
            "ravel",
            "__deepcopy__",
            "positive",
            "__pos__",
        ],
        _cloned,
    ),
    **dict.fromkeys(
        ["clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_"], _clamped
    ),
    **dict.fromkeys(["empty_like", "new_empty", "empty_strided", "empty_permuted"], _made(lambda *_: None)),
    **dict.fromkeys(["zeros", "zeros_like", "new_zeros"], _made(lambda *_: Number(0.0))),
    **dict.fromkeys(["ones", "ones_like", "new_ones"], _made(lambda *_: Number(1.0))),
    **dict.fromkeys(["full", "full_like", "new_full"], _made_full),
    **dict.fromkeys(["rand", "rand_like"], _made(lambda *_: v.draw("uniform", 0.0, 1.0))),
    **dict.fromkeys(["randn", "randn_like"], _made(lambda *_: v.draw("normal", 0.0, 1.0))),
    **dict.fromkeys(
        [
            "randint",
            "randint_like",
            "randperm",
            "bernoulli",
            "bernoulli_",
            "multinomial",
            "poisson",
            "random_",
            "cauchy_",
            "geometric_",
            "binomial",
            "dropout",
            "alpha_dropout",
            "feature_alpha_dropout",
            "rrelu",
            "gumbel_softmax",
        ],
        _random,
    ),
}


_INIT: dict[str, Function] = {
    "uniform_": _drawn("uniform", ("a", "b"), (0.0, 1.0)),
    "normal_": _drawn("normal", ("mean", "std"), (0.0, 1.0)),
    "constant_": _filled,
    "kaiming_uniform_": _kaiming_uniform,
}
"""Functions of torch.nn.init that tell modes of themselves, by name: libraries put wrappers of theirs in their places."""


def _table() -> dict[Function, Function]:
    table: dict[Function, Function] = {}
    for operation, names in _OPERATIONS.items():
        table |= {f: _elementwise(operation) for name in names.split() for f in _found(name)}
    for operation, names in _SWAPPED.items():
        table |= {f: _elementwise(operation, swapped=True) for name in names.split() for f in _found(name)}
    table |= {f: interpret for name, interpret in _PLAIN.items() for f in _found(name)}
    return table | {getattr(nn.init, name): interpret for name, interpret in _INIT.items()}


INTERPRETED: dict[Function, Function] = _table()
"""By function of torch: what is noted when it is called."""
