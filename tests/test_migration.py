"""The page of other libraries: what theirs writes and what our recipe writes come from the same distributions."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import ks_2samp
from torch import nn

import initframe
from tests.test_docs import ROOT, blocks

PAGE = "docs/migration.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
RARE = 1e-5  # of a p-value; all seeds are fixed, so a sample that passes once passes always


def same_distribution(theirs, ours):
    """Equal constants, or samples that one population explains."""
    theirs, ours = theirs.detach().flatten().numpy(), ours.detach().flatten().numpy()
    assert theirs.shape == ours.shape
    if np.ptp(theirs) == 0:
        assert (theirs == ours).all()
    else:
        assert np.ptp(ours) > 0
        assert ks_2samp(theirs, ours).pvalue > RARE


def pair(library):
    """The block that is theirs, and the recipe that follows it."""
    found = list(blocks(PAGE))
    at = next(
        i for i, block in enumerate(found) if library in block.text.split("\n", 1)[0] or library == block.language
    )
    assert found[at + 1].language == "yaml"
    return found[at].text, yaml.safe_load(found[at + 1].text)


def run(library):
    """What their block defines, after it ran with a fixed seed."""
    names = {"__name__": "theirs"}
    torch.manual_seed(0)
    exec(compile(pair(library)[0], library, "exec"), names)
    return names


def compare(library, model):
    """Fill a model that holds their values by our recipe, and compare each tensor; the same ones are left alone."""
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    report = initframe.reinit(model, pair(library)[1], seed=0)
    assert report.plan.untouched == ()
    for name, tensor in model.named_parameters():
        same_distribution(before[name], tensor)


@pytest.mark.parametrize("library", ["torch", "mmengine", "transformers"])
@pytest.mark.slow
def test_a_model_has_the_distributions_that_it_had(library):
    pytest.importorskip(
        library, exc_type=ImportError
    )  # mmengine needs OpenCV, and OpenCV may need libraries of the system
    compare(library, run(library)["model"])


def test_allennlp():
    """Its documented rule: the first expression that is found in the name decides; prevented names are left alone."""
    written = json.loads(pair("json")[0])
    torch_init = {
        "zero": nn.init.zeros_,
        **{name: getattr(nn.init, f"{name}_") for name in ("xavier_uniform", "normal", "constant")},
    }
    layers = {"embed": nn.Embedding(200, 64), "encoder": nn.Linear(64, 128), "middle": nn.Linear(128, 128)}
    model = nn.ModuleDict({**layers, "head": nn.Linear(128, 8)})
    embedding = model["embed"].weight.detach().clone()
    torch.manual_seed(0)
    for name, tensor in model.named_parameters():
        if any(re.search(pattern, name) for pattern in written["prevent_regexes"]):
            continue
        what = next(dict(what) for pattern, what in written["regexes"] if re.search(pattern, name))
        torch_init[what.pop("type")](tensor, **what)
    compare("json", model)
    assert torch.equal(model["embed"].weight, embedding)


def test_torchtitan():
    """Its documented rule: each module looks its own parameters up in its dict."""
    block = nn.ModuleDict({"wq": nn.Linear(256, 256), "wo": nn.Linear(256, 256)})
    layers = nn.ModuleList([block, *(nn.ModuleDict({k: nn.Linear(256, 256) for k in block}) for _ in range(2))])
    ends = {
        "tok_embeddings": nn.Embedding(500, 256),
        "norm": nn.RMSNorm(256),
        "output": nn.Linear(256, 500, bias=False),
    }
    model = nn.ModuleDict({**ends, "layers": layers})
    for module, functions in run("torchtitan")["param_init"].items():
        for name, tensor in model.get_submodule(module).named_parameters(recurse=False):
            functions[name](tensor)
    compare("torchtitan", model)


@pytest.mark.parametrize(("std", "cut"), [(0.021, 2), (0.019, 2), (0.02, 0.04)])
def test_another_distribution_is_noticed(std, cut):
    torch.manual_seed(0)
    theirs = run("torchtitan")["linear"]["weight"](torch.empty(256, 256))
    ours = initframe.fill_(torch.empty(256, 256), initframe.TruncatedNormal(0, std, -cut, cut), name="w")
    with pytest.raises(AssertionError):
        same_distribution(theirs, ours)


def test_another_constant_is_noticed():
    with pytest.raises(AssertionError):
        same_distribution(torch.zeros(3), torch.ones(3))


# --- tables of initializers ------------------------------------------------------------------------------------------

SCRIPT = """
import sys, json, numpy
library, shapes, written, folder = sys.argv[1], *map(json.loads, sys.argv[2:4]), sys.argv[4]
if library == "keras":
    from keras import initializers, utils
    utils.set_random_seed(0)
    make = lambda initializer, shape: initializer(shape).detach()
else:
    import jax
    from jax.nn import initializers
    make = lambda initializer, shape: initializer(jax.random.key(0), shape)
for shape in shapes:
    square = len(shape) == 2
    made = {one: make(eval(one, vars(initializers)), shape) for one in written if square or one != "Identity()"}
    numpy.savez(f"{folder}/{len(shape)}.npz", **{one: numpy.asarray(value) for one, value in made.items()})
"""
LAYOUTS = {(160, 320): ["in", "out"], (3, 3, 48, 64): ["kernel", "kernel", "in", "out"]}


def table(library):
    """Each expression of theirs with the rule next to it."""
    part = TEXT.split(f"<!-- pairs: {library} -->")[1].split("<!-- end -->")[0]
    rows = (line.strip("| ").split(" | ") for line in part.strip().splitlines()[2:])
    return {
        one: yaml.safe_load("{" + rule.strip("`") + "}") for left, rule in rows for one in re.findall("`([^`]+)`", left)
    }


def orthogonal(kernel):
    """Whether a kernel's shorter side, of outputs or of what each of them sums, is orthogonal up to a factor."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    product = flat @ flat.T if len(flat) < flat.shape[1] else flat.T @ flat
    return torch.allclose(product, product[0, 0] * torch.eye(len(product)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["keras", "jax"])
def test_an_initializer_has_the_distribution_of_theirs(library, tmp_path):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    rules = table(library)
    assert len(rules) >= 15
    command = [sys.executable, "-c", SCRIPT, library, json.dumps(list(LAYOUTS)), json.dumps(list(rules)), tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "torch", "JAX_PLATFORMS": "cpu"})
    for shape, axes in LAYOUTS.items():
        for expression, values in np.load(tmp_path / f"{len(shape)}.npz").items():
            kernel = nn.ParameterDict({"kernel": torch.empty(shape)})
            initframe.reinit(kernel, {"rules": {"kernel": {"axes": axes, **rules[expression]}}}, seed=0)
            theirs, ours = torch.from_numpy(values.copy()), kernel["kernel"].detach()
            same_distribution(theirs, ours)
            assert orthogonal(theirs) == orthogonal(ours), expression


def test_their_blocks_are_followed_by_ours():
    assert len(re.findall(r"^# theirs: ", TEXT, re.MULTILINE)) == 4
    heads = [block.language for block in blocks(PAGE)]
    assert all(after == "yaml" for before, after in pairwise(heads) if before in ("python", "json"))
