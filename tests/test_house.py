"""The house as the design draws it: who may know whom, what an import costs, who may write, and what is not there."""

import ast
import functools
import graphlib
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from nets import bits, changed
from torch import nn
from torch.nn.utils import parametrizations

import initframe

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "initframe"

# Each floor may know the floors before it. Rooms on one floor know nothing of each other.
FLOORS = [
    {"limits", "version", "presets", "frozen", "collector"},
    {"errors"},
    {"recipe", "model", "stream"},
    {"files"},
    {"fills"},
    {"initializers"},
    {"plan"},
    {"resolver"},
    {"applying"},
    {"pages"},
    {"construction", "signal", "verification"},
    {"models", "integrations"},
    {"cli"},
    {"experiments"},
    {"scripts", "__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

FILES = sorted(p for folder in ("initframe", "scripts") for p in (ROOT / folder).rglob("*.py"))
SOURCES = [p for p in FILES if p != PACKAGE / "__init__.py"]
HEAVY = {
    "pandas",
    "hydra",
    "omegaconf",
    "torchvision",
    "rich",
    "matplotlib",
    "jinja2",
    "llvmlite",
    "yaml",
    "triton",
    "numba",
    "safetensors",
    "lightning",
    "pytorch_lightning",
    "accelerate",
    "transformers",
    "peft",
    "torchtitan",
}


class Syntax(NamedTuple):
    """What the tests ask about a file: its imports, and the names of what it calls, as ``f()`` and as ``x.f()``."""

    imports: list
    functions: set
    methods: set


@functools.cache
def syntax(path):
    """Read a file once."""
    found = Syntax([], set(), set())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import() | ast.ImportFrom():
                found.imports.append(node)
            case ast.Call(func=ast.Name(id=name)):
                found.functions.add(name)
            case ast.Call(func=ast.Attribute(attr=name)):
                found.methods.add(name)
    return found


def label(path):
    return str(path.relative_to(ROOT))


def room(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "scripts" if parts[0] == "scripts" else parts[1]


def imported(path):
    """Full names of the modules that a file imports, wherever in the file it does."""
    for node in syntax(path).imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, "relative imports are not used here"
            names = [alias.name for alias in node.names]
            yield from ([f"initframe.{name}" for name in names] if node.module == "initframe" else [node.module])


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_imports_run_one_way(path):
    known = {name.split(".")[1] for name in imported(path) if name.startswith("initframe.")}
    assert known <= FLOOR_OF.keys(), "a room that FLOORS does not know"
    own = room(path)
    assert {other for other in known if other != own and FLOOR_OF[other] >= FLOOR_OF[own]} == set()


MODULES = {}
for path in [*FILES, *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py")]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    # Scripts, benchmarks and tests import what lies next to them by its bare name.
    MODULES[".".join(parts if parts[0] == "initframe" else parts[-1:]).removesuffix(".__init__")] = path


def files_imported(path):
    """Modules of the repository that a file imports, for annotations or within functions, too."""
    for node in syntax(path).imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if (name := full if full in MODULES else node.module) in MODULES:
                    yield name


def circle(graph):
    """Nodes that lead to each other, one such set of several; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return set(error.args[1])
    return set()


def test_no_files_import_each_other_in_a_circle():
    """An import for annotations counts: a file that names another's class cannot be read without it."""
    graph = {name: set(files_imported(path)) for name, path in MODULES.items()}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == set("abc")
    assert circle({"a": {"a"}}) == {"a"}
    assert circle(graph) == set()


def test_every_room_has_its_floor():
    assert {room(path) for path in SOURCES} <= FLOOR_OF.keys()


@pytest.mark.parametrize("path", sorted((PACKAGE / "recipe").glob("*.py")), ids=label)
def test_recipes_know_no_torch(path):
    assert not [name for name in imported(path) if name.split(".")[0] in ("torch", "numpy")]


@pytest.mark.slow
def test_import_is_light():
    code = "import sys, json, initframe; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = set(json.loads(done.stdout))
    assert "torch" in modules
    assert modules & HEAVY == set()


def test_only_an_integration_imports_its_library():
    """Each file of integrations/ imports the library that it is called after; models.py builds what libraries offer."""
    files = {path.stem: path for path in SOURCES if room(path) == "integrations" and path.stem != "__init__"}
    assert files
    for path in files.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    for path in SOURCES:
        others = files.keys() - {path.stem} if room(path) == "integrations" else files.keys()
        found = {module.split(".")[0] for module in imported(path)} & others
        assert not found or label(path) == "initframe/models.py", (label(path), found)


def public():
    """What ``import initframe`` offers, by name."""
    package = importlib.import_module("initframe")
    return {name: thing for name, thing in vars(package).items() if inspect.isfunction(thing) or inspect.isclass(thing)}


def test_every_public_name_is_found_where_it_says():
    """hydra-zen and pickle go by ``__module__``."""
    assert "apply" in public()
    for name, thing in public().items():
        assert getattr(importlib.import_module(thing.__module__), thing.__qualname__) is thing, name


def test_no_attribute_of_a_package_hides_a_module():
    """``import initframe.applying.apply as module`` gives the module, whatever ``__init__`` binds."""
    found = list(pkgutil.walk_packages([str(PACKAGE)], "initframe."))
    assert found
    for _, name, _ in found:
        module = importlib.import_module(name)
        parent, _, last = name.rpartition(".")
        assert getattr(sys.modules[parent], last) is module, f"{parent} has a {last} that is not the module"


# Triton reads a kernel's source: that of our own formulas, spelled for it.
OWN_CODE = ("initframe/stream/triton_kernels.py",)
# Plugins, packages that hydra.searchpath names, installed entry points, the libraries that models come from.
IMPORTERS = (
    "initframe/cli/job.py",
    "initframe/cli/recipes.py",
    "initframe/initializers/table.py",
    "initframe/models.py",
)
# Walks through a pickle with stand-ins for all that it names: its find_class imports nothing.
WALKERS = ("initframe/files/pickles.py",)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_nothing_makes_code_of_data(path):
    _, functions, methods = syntax(path)
    assert label(path) in OWN_CODE or not functions & {"eval", "exec", "compile", "__import__"}
    assert not (functions | methods) & {"instantiate", "unsafe_load", "full_load"}
    libraries = {name.split(".")[0] for name in imported(path)}
    assert label(path) in WALKERS or not libraries & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    machinery = {name for name in imported(path) if name.split(".")[0] == "importlib"} - {"importlib.metadata"}
    assert not machinery or label(path) in IMPORTERS


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) == "initializers"], ids=label)
def test_constants_are_the_same_in_every_python(path):
    """Since 3.12 sum rounds floats as fsum does, which older ones do not."""
    _, functions, methods = syntax(path)
    assert "sum" not in functions | methods


# --- who writes ------------------------------------------------------------------------------------------------------


def writers(model, call):
    """The stacks of rooms, outermost first, under which a call changed the versions of a model's tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    rooms = {str(path): room(path) for path in SOURCES}
    stack, found, seen = [], set(), sum(tensor._version for tensor in tensors)

    def look(frame, event, _):
        nonlocal seen
        here = rooms.get(frame.f_code.co_filename)
        if here is None or event not in ("call", "return"):
            return
        if (now := sum(tensor._version for tensor in tensors)) != seen:  # by the frame that ran until now
            found.add(tuple(stack))
            seen = now
        if event == "call":
            stack.append(here)
        elif stack:
            stack.pop()

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def crowded():
    """A model with every way in which a tensor is held: plain, tied, computed, a buffer, a row of padding."""
    model = nn.ModuleDict(
        {
            "words": nn.Embedding(6, 4, padding_idx=1),
            "normed": parametrizations.weight_norm(nn.Linear(4, 4)),
            "bent": parametrizations.orthogonal(nn.Linear(4, 4)),
            "statistics": nn.BatchNorm1d(4),
            "head": nn.Linear(4, 6, bias=False),
        }
    )
    model["head"].weight = model["words"].weight
    return model


RECIPE = {
    "rules": {
        "all": {"match": "*", "kind": "any", "init": "torch_default"},
        "normed": {"match": "normed.weight", "init": "normal"},
        "bent": {"match": "bent.weight", "init": "orthogonal"},
        "moved": {"match": "*.bias", "init": "shift", "by": 1},
    }
}


def read(model):
    initframe.survey(model)
    plan = initframe.resolve(RECIPE, model)
    print(plan, *(plan.explain(assignment.slot.name) for assignment in plan.assignments))


@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_only_applying_writes(generator):
    initframe.reinit(crowded(), RECIPE, seed=0)  # kernels are compiled where nobody looks on, which is slow
    model = crowded()
    optimizer = torch.optim.Adam(model.parameters())
    before, versions = bits(model), {name: tensor._version for name, tensor in model.state_dict().items()}
    assert writers(model, lambda: read(model)) == set()
    assert changed(model, before) == set()

    def write():
        report = initframe.reinit(
            model, RECIPE, seed=0, generator=generator, optimizer=optimizer, measure=True, verify_replicas=True
        )
        initframe.manifest(report)

    found = writers(model, write)
    assert found
    for stack in found:
        assert stack[-1] in ("applying", "stream")
        assert "applying" in stack
    bumped = {name for name, tensor in model.state_dict().items() if tensor._version != versions[name]}
    assert changed(model, before) <= bumped  # nothing is written past torch's counters


def test_a_writer_in_another_room_is_seen():
    scope = {}
    exec(compile("def stray(weight): weight.detach().zero_()", str(PACKAGE / "plan" / "plan.py"), "exec"), scope)
    model = nn.Linear(2, 2)
    assert writers(model, lambda: scope["stray"](model.weight)) == {("plan",)}
