"""docs/models.md: its tables are made from the code, so that they say what is so."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from nets import rules
from refusals import refused as refused_by
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import initframe
from initframe.errors import InitframeError
from initframe.initializers import get
from initframe.initializers.arguments import signature
from initframe.model.flat import FLATTENED
from initframe.model.names import _WRAPPERS
from initframe.model.obstacles import FILLABLE, dtype_obstacle
from initframe.model.survey import survey
from initframe.plan.assignment import fan_difference

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- names and computed tensors --------------------------------------------------------------------------------------


def wrappers():
    rows = [(f"`{module}.{cls}`", f"`{child}.`") for (module, cls), child in _WRAPPERS.items()]
    return markdown(("class, or one that derives from it", "what it puts before names"), sorted(rows))


class Doubled(nn.Module):
    """A parametrization of one's own."""

    def forward(self, original):
        return 2 * original

    def right_inverse(self, value):
        return value / 2


COMPUTED = {
    "`parametrizations.weight_norm`, and the older `weight_norm`": parametrizations.weight_norm,
    "`parametrizations.spectral_norm`, and the older `spectral_norm`": parametrizations.spectral_norm,
    "`parametrizations.orthogonal`": parametrizations.orthogonal,
    "`prune`": lambda layer: prune.identity(layer, "weight"),
    "any other with a `right_inverse`, `Doubled` for one": lambda layer: parametrize.register_parametrization(
        layer, "weight", Doubled()
    ),
}


def computed():
    slots = {title: slot_of(make(nn.Linear(4, 4)), "weight") for title, make in COMPUTED.items()}
    return markdown(("registered by", "what the plan notes"), [(title, slot.notes[0]) for title, slot in slots.items()])


def slot_of(model, name):
    return next(slot for slot in survey(model).slots if slot.name == name)


# --- fans ------------------------------------------------------------------------------------------------------------

LAYERS = {
    "`Linear`, `Bilinear`, `Embedding`, `Conv1d` to `Conv3d`": (nn.Conv2d(8, 16, 3), "weight"),
    "convolutions with groups (here 4)": (nn.Conv2d(8, 16, 3, groups=4), "weight"),
    "depthwise convolutions": (nn.Conv2d(8, 8, 3, groups=8), "weight"),
    "`ConvTranspose1d` to `ConvTranspose3d` (here stride 2)": (nn.ConvTranspose2d(8, 16, 4, stride=2), "weight"),
    "the same with groups (here 4)": (nn.ConvTranspose2d(8, 16, 4, stride=2, groups=4), "weight"),
    "`MultiheadAttention`": (nn.MultiheadAttention(8, 2), "in_proj_weight"),
    "`LSTM`, `LSTMCell`": (nn.LSTM(8, 16), "weight_ih_l0"),
    "`GRU`, `GRUCell`": (nn.GRU(8, 16), "weight_ih_l0"),
}


def transposed_linear():
    """The transformers library's Conv1D, without the library: it is known by its class and where that comes from."""
    cls = type("Conv1D", (nn.Linear,), {"__module__": "transformers.pytorch_utils"})
    layer = cls(16, 8)  # a weight of shape (8, 16): 8 inputs, 16 outputs
    return layer, "weight"


def fans():
    layers = LAYERS | {"transformers' `Conv1D`, which is (inputs, outputs)": transposed_linear()}
    rows = [(title, f"`{name}`", *counts(slot_of(layer, name))) for title, (layer, name) in layers.items()]
    return markdown(("layer", "tensor", "shape", "torch: fan_in, fan_out", "effective"), rows)


def counts(slot):
    torchs, own = (slot.fan_in, slot.fan_out), (slot.effective_fan_in, slot.effective_fan_out)
    assert bool(fan_difference(slot)) == (torchs != own)
    shown = "the same" if torchs == own else ", ".join(f"{count:g}" for count in own)
    return "×".join(map(str, slot.shape)), ", ".join(f"{count:g}" for count in torchs), shown


# --- what is refused -------------------------------------------------------------------------------------------------


def said(problem):
    """A problem without its subject."""
    return f"{problem.fact} {problem.fix}"


def held(tensor):
    model = nn.Module()
    model.register_buffer("held", tensor)
    return said(survey(model).slots[0].problem)


def quietly(make):
    """What torch warns of once per process is no matter here."""
    with warnings.catch_warnings(action="ignore"):
        return make()


def inference():
    with torch.inference_mode():
        return torch.zeros(2)


def packed():
    import torch.ao.nn.quantized as quantized_nn

    return said(slot_of(quantized_nn.Linear(2, 2), "weight").problem)


def shared():
    model, whole = nn.Module(), torch.zeros(6)
    model.left, model.right = nn.Parameter(whole[:4]), nn.Parameter(whole[2:])
    return said(slot_of(model, "left").problem)


class OneWay(nn.Module):
    """A parametrization without a way back."""

    def forward(self, original):
        return original.exp()


def one_way():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", OneWay())
    return said(slot_of(layer, "weight").problem)


def no_value():
    place = survey(parametrizations.weight_norm(nn.Linear(2, 2))).places["weight"]
    return said(place.check(torch.zeros(2, 2)).on(""))


def cycle():
    model = nn.Sequential(nn.Linear(1, 1))
    model[0].parent = model
    return said(*refused_by(survey, model))


def meta():
    return said(*refused_by(initframe.reinit, nn.Linear(2, 2, bias=False, device="meta"), rules(weight="ones")))


def composite():
    from torch.testing._internal.two_tensor import TwoTensor

    return held(TwoTensor(torch.zeros(2), torch.zeros(2)))


REFUSED = {
    "lazy parameters and buffers": lambda: said(slot_of(nn.LazyLinear(2), "weight").problem),
    "integer tensors": lambda: held(torch.zeros(2, dtype=torch.int64)),
    "complex tensors": lambda: held(torch.zeros(2, dtype=torch.complex64)),
    "float8 tensors": lambda: held(torch.zeros(2, dtype=torch.float8_e4m3fn)),
    "quantized tensors": lambda: held(torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)),
    "weights packed in quantized modules": packed,
    "subclasses made of other tensors (torchao's, say)": composite,
    "sparse layouts": lambda: held(torch.zeros(2, 2).to_sparse()),
    "nested tensors": lambda: held(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
    "expanded tensors": lambda: held(torch.zeros(1).expand(3)),
    "tensors made in inference mode": lambda: held(inference()),
    "tensors that share a part of their memory": shared,
    "flat parameters of FSDP1": lambda: said(FLATTENED.on("")),
    "parametrizations without a `right_inverse`": one_way,
    "values that a parametrization cannot take": no_value,
    "meta tensors, when a plan is applied": meta,
    "a module inside of itself": cycle,
}


@pytest.mark.filterwarnings("ignore:.*deprecated")
def refused():
    return markdown(("what", "what is said of it"), [(title, quietly(case)) for title, case in REFUSED.items()])


REFUSED_DTYPES = [torch.complex64, torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64]
REFUSED_DTYPES += [torch.float8_e4m3fn, torch.float8_e5m2, torch.qint8, torch.quint8]


def dtypes():
    names_of = {}
    for dtype in REFUSED_DTYPES:
        name = str(dtype).removeprefix("torch.")
        text = said(dtype_obstacle(dtype).on("")).replace(name, "…")
        names_of.setdefault(text, []).append(f"`{name}`")
    names = ", ".join(f"`{str(dtype).removeprefix('torch.')}`" for dtype in FILLABLE)
    filled = (names, "filled: computed in float32 (whole fills in float64), and rounded once to the nearest even")
    return markdown(("dtype", "what happens"), [filled, *((", ".join(some), text) for text, some in names_of.items())])


# --- shapes ----------------------------------------------------------------------------------------------------------

SHAPES = [(), (4,), (4, 4), (4, 4, 3), (4, 4, 3, 3), (4, 4, 3, 3, 3)]
ARGUMENTS = {
    "bias_prior": {"prior": 0.25},
    "chrono": {"longest": 10},
    "constant": {"val": 1},
    "icnr": {"factor": 2},
    "mimetic": {"part": "q", "heads": 2},
    "s4d": {"part": "log_real"},
    "sparse": {"sparsity": 0.5},
    "wang_init": {"layers": 2},
    "scale": {"by": 1},
    "shift": {"by": 1},
}


def shapes():
    names = [name for name in initframe.list_initializers() if own(name) and "path" not in signature(get(name))]
    rows = [
        (f"`{name}`", takes(name), needs(name))
        for name in names
        if name not in ("torch_default", "constructor", "copy", "row_norms")
    ]
    return markdown(("initializer", "dimensions", "needs"), rows)


def own(name):
    return get(name).__module__.startswith("initframe.initializers")


def filled(name, shape):
    """The fill of a tensor with a weight's fans, or ``None`` where the initializer takes no such shape."""
    rule = {"init": name} | ARGUMENTS.get(name, {})
    try:
        return initframe.resolve(rules(w=rule), {"w": torch.zeros(shape)}).assignments[0].fill
    except InitframeError:
        return None


def takes(name):
    dims = [len(shape) for shape in SHAPES if filled(name, shape)]
    assert dims, f"{name} takes none of the shapes; give it arguments"
    assert dims == list(range(dims[0], dims[-1] + 1))
    if len(dims) == len(SHAPES):
        return "any"
    return (
        f"{dims[0]} or more"
        if dims[-1] == len(SHAPES) - 1
        else " to ".join(map(str, dict.fromkeys((dims[0], dims[-1]))))
    )


def needs(name):
    fills = [fill for shape in SHAPES if (fill := filled(name, shape))]
    return "current values" if fills[0].needs_current and name != "keep" else ""


TABLES = {
    "wrappers": wrappers,
    "parametrizations": computed,
    "fans": fans,
    "refused": refused,
    "dtypes": dtypes,
    "shapes": shapes,
}


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_what_the_code_says(name, request):
    begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    told, _, after = rest.partition(end)
    made = f"\n{TABLES[name]()}\n\n"
    if request.config.getoption("--overwrite"):
        PAGE.write_text(before + begin + made + end + after, encoding="utf-8")
    else:
        assert told == made, "run pytest tests/model/test_document.py --overwrite"


def test_every_table_of_the_page_is_made():
    assert set(re.findall(r"<!-- table: (\w+) -->", PAGE.read_text(encoding="utf-8"))) == set(TABLES)
