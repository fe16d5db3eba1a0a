"""A manifest is data of a stranger: whatever is in it, the answer is a result or an error of initframe's, soon."""

import contextlib
import copy
import json
import random

import pytest
from refusals import refused
from torch import nn

import initframe
from initframe import InitframeError, SourceError, manifest, regenerate, verify
from initframe.plan.manifest import seal
from tests.verification import laws

HUGE = 10**15


@pytest.fixture(scope="module")
def record():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    recipe = {"rules": {"*.weight": "orthogonal", "*.bias": {"init": "normal", "std": 1.0}}}
    return json.loads(json.dumps(manifest(initframe.reinit(model, recipe, measure=True))))


def entry(**changes):
    usual = {"name": "w", "aliases": [], "shape": [4, 4], "dtype": "float32", "digest": None}
    return seal({"format": 2, "seed": 0, "generator": "stream", "tensors": [{**usual, **changes}]})


ENTRIES = [
    *({"shape": shape} for shape in ([-1], [1.5], "ab", [2**63], [HUGE, HUGE], [1] * 70, None, [[4]], [True])),
    *({"dtype": dtype} for dtype in ("nothing", 3, "object")),
    *({"name": name} for name in (3, None, "x" * 100_000)),
    *({"digest": digest} for digest in ("0", "x" * 16, 7, "A" * 16)),
    *({"aliases": aliases} for aliases in (["w"], "w", [3], ["a", "a"])),
    *({"fill": fill} for fill in (None, 3, [], {"kind": 3}, {"kind": "nothing"}, {"kind": "os.system"})),
]
FILLS = [
    {"kind": "normal", "mean": "0", "std": 1.0},
    {"kind": "normal", "mean": 0.0, "std": -1.0},
    {"kind": "normal", "mean": 0.0, "std": 10**400},
    {"kind": "constant", "value": 10**30},
    {"kind": "orthogonal", "gain": [1.0]},
    {"kind": "blocks", "fills": [], "sizes": [], "dim": 0},
    {"kind": "blocks", "fills": [{"kind": "constant", "value": 1.0}] * 2, "sizes": [5, -1], "dim": 0},
    {"kind": "blocks", "fills": [{"kind": "constant", "value": 1.0}] * 2, "sizes": [2, 2], "dim": 9},
    {"kind": "masked", "fill": {"kind": "constant", "value": 1.0}, "index": [HUGE], "value": 0.0, "padding": False},
    {"kind": "mimetic", "part": "q", "heads": HUGE, "attention": "a", "alpha": [0.7, 0.4], "beta": [0.7, 0.4]},
    {"kind": "mimetic", "part": "x", "heads": 1, "attention": "a", "alpha": [0.7, 0.4], "beta": [0.7, 0.4]},
    {"kind": "sine_cosine", "prefix": 0, "grid": [HUGE, HUGE]},
    {"kind": "sinusoids", "interleaved": 1, "base": 1.0, "closed": False},
    {"kind": "rows", "row": [0.0] * 3},
    {"kind": "repeated", "fill": {"kind": "normal", "mean": 0.0, "std": 1.0}, "times": 0},
    {"kind": "stacked", "fill": {"kind": "orthogonal", "gain": 1.0}, "axes": ["batch"]},
    {"kind": "stacked", "fill": {"kind": "orthogonal", "gain": 1.0}, "axes": ["out", "exec"]},
    {"kind": "chain", "source": {"kind": "constant", "value": 1.0}, "steps": []},
    {"kind": "chain", "source": {"kind": "uniform", "low": 0.0, "high": 1.0}, "steps": [["__import__", "x"]]},
    {"kind": "chain", "source": {"kind": "uniform", "low": 0.0, "high": 1.0}, "steps": [["add", "#0", "x"]]},
    {"kind": "chain", "source": {"kind": "uniform", "low": 0.0, "high": 1.0}, "steps": [["add", "x", "x", "x"]]},
    {"kind": "chain", "source": {"kind": "uniform", "low": 0.0, "high": 1.0}, "steps": [["exp", "x"]] * 5000},
    {"kind": "delta_orthogonal", "gain": 1.0, "groups": 0},
    {"kind": "bilinear_kernel"},
    {"kind": "multiplied_whole", "fill": {"kind": "normal", "mean": 0.0, "std": 1.0}, "factor": 2.0},
]


@pytest.mark.parametrize("changes", [*ENTRIES, *({"fill": fill} for fill in FILLS)], ids=lambda c: str(c)[:60])
def test_a_hostile_entry_is_refused(changes):
    assert refused(regenerate, entry(**changes))


def test_deep_fills_and_deep_json_end():
    deep = {"kind": "constant", "value": 1.0}
    for _ in range(500):
        deep = {"kind": "masked", "fill": deep, "index": [0], "value": 0.0, "padding": False}
    assert refused(regenerate, entry(fill=deep))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", '{"format": 1, "format": 1}', '{"format": true}', '{"format": 3}', "[" * 100_000),
        *('{"format": 2, "seed": -1}', '{"format": 2, "seed": 1e400}', '{"format": 1, "tensors": {}}', "9" * 10_000),
        *('{"format": 2, "files": {"../x": {}}}', '{"format": 2, "files": {"/etc/passwd": {}}}', "\ud800"),
        '{"format": 2, "stream": {"version": 2}}',
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
def test_what_is_no_manifest(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for given in (path, tmp_path):
        assert refused(regenerate, given, kind=SourceError)
        assert refused(verify, given, {}, kind=SourceError)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger" in refused(regenerate, path, kind=SourceError)[0].fact


def test_nothing_that_it_names_is_imported_or_opened(record, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sources = {"plugins": {"evil": {}}, "checkpoint": {"path": "/dev/zero"}}
    job = {"model": {"source": "plugin", "name": "evil"}, "overrides": ["plugins=[evil]"]}
    hostile = seal({**record, "sources": sources, "job": job, "plugins": ["evil"]})
    hostile["others"] = [
        {"name": "x", "shape": [1], "dtype": "float32", "fill": {"kind": "stored", "path": "/dev/zero"}}
    ]
    assert regenerate(seal(hostile)).keys() == regenerate(record).keys()
    assert not verify(seal(hostile), regenerate(record)).ok
    assert not marker.exists()


def test_whatever_is_changed_ends_in_a_result_or_an_error_of_ours(record, table):
    records = [record, json.loads(json.dumps(manifest(laws.reinit(laws.model()))))]
    dice = random.Random()
    values = [None, -1, 0, 3, 2**70, 1.5, float("nan"), "", "w", "x" * 50, [], {}, [0], {"kind": "normal"}, True]
    for _ in range(400):
        changed = copy.deepcopy(dice.choice(records))
        at = changed
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = dice.choice(keys)
            if not isinstance(at[key], dict | list) or not at[key] or dice.random() < 0.1:
                break
            at = at[key]
        at[key] = dice.choice(values)
        for given in (changed, seal(changed)):
            with contextlib.suppress(InitframeError):  # nothing else
                str(verify(given, regenerate(given)))
