"""Values from files: by name, by renamed name, made to fit, or left to the rules above."""

import hashlib
from pathlib import Path

import pytest
import torch
from nets import rules
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import initframe
from initframe.files.archive import open_archive
from initframe.fills.pretrained import Stored


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.fixture
def trained(tmp_path):
    """A file with a trained trunk, but no head."""
    tensors = {"0.weight": noise(8, 6), "0.bias": noise(8, seed=1)}
    path = tmp_path / "trunk.safetensors"
    save_file(tensors, path)
    return str(path), tensors


def take(path, **arguments):
    """Everything from a file, over a law for what it has not."""
    return rules(
        base={"match": "*", "init": "constant", "val": 7},
        file={"match": "*", "init": "pretrained", "path": path, **arguments},
    )


def test_what_is_there_is_copied_and_the_rest_falls_to_the_rules_above(trained):
    path, tensors = trained
    net = model()
    report = initframe.reinit(net, take(path), seed=0)
    assert torch.equal(net[0].weight, tensors["0.weight"])
    assert torch.equal(net[0].bias, tensors["0.bias"])
    assert net[2].weight.eq(7).all()
    assert net[2].bias.eq(7).all()
    plan = report.plan
    assert [plan[name].rule.name for name in ("0.weight", "2.weight")] == ["file", "base"]
    assert plan["2.weight"].shadowed == ()
    assert "has no 2.weight" in plan["2.weight"].declined["file"]
    assert "Rule 'file', which comes later, declines it" in plan.explain("2.weight")
    assert "Declined: 'file' on 2 tensors" in str(plan)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "trunk.pt"
    torch.save({"0.weight": noise(8, 6)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(noise(8, 6).numpy().tobytes(), bytes(8 * 6 * 4)))
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(initframe.ResolveError, match="is corrupt: Bad CRC-32"):
        initframe.reinit(net, take(str(path)), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_all_rules_decline_is_untouched(trained):
    net = model()
    plan = initframe.resolve(rules(file={"match": "*", "init": "pretrained", "path": trained[0]}), net)
    assert plan.untouched == ("2.weight", "2.bias")


def test_unmatched_default_fills_what_the_file_has_not(trained):
    recipe = rules(file={"match": "*", "init": "pretrained", "path": trained[0]}, unmatched="default")
    plan = initframe.resolve(recipe, model())
    assert plan["2.weight"].rule.init == "torch_default"


def test_a_file_that_has_nothing_is_an_error(trained):
    recipe = rules(head={"match": "2.*", "init": "pretrained", "path": trained[0]})
    with pytest.raises(initframe.ResolveError, match=r"declines every .* 2.weight: .* has no 2.weight"):
        initframe.resolve(recipe, model())


def test_a_prefix_that_is_amiss_shows(tmp_path):
    """The names that end alike are named, among thousands in no time."""
    names = [f"backbone.{i}.{name}" for i in range(3000) for name in ("weight", "bias")]
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "a.safetensors")
    with pytest.raises(initframe.ResolveError, match=r"has no 0.weight. Closest: backbone.0.weight, "):
        initframe.resolve(take(str(tmp_path / "a.safetensors")), model())
    named = open_archive(str(tmp_path / "a.safetensors")).nearest
    assert named("other.17.bias", 1) == ["backbone.17.bias"]
    assert "backbone.17.weight" in named("backbone.17.0.weight", 3)
    assert named("17.gamma") == []


def test_names_are_prefixed_and_renamed(tmp_path):
    tensors = {"model.trunk.weight": noise(8, 6), "model.trunk.bias": noise(8), "model.2.weight": noise(4, 8)}
    save_file(tensors, tmp_path / "a.safetensors")
    net = model()
    initframe.reinit(net, take(str(tmp_path / "a.safetensors"), prefix="model.", keys={"0.": "trunk.", "": ""}), seed=0)
    assert torch.equal(net[0].weight, tensors["model.trunk.weight"])
    assert torch.equal(net[2].weight, tensors["model.2.weight"])
    assert net[2].bias.eq(7).all()


def test_a_tied_tensor_is_found_by_any_of_its_names(tmp_path):
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    net["head"].weight = net["embed"].weight
    table = noise(5, 3)
    save_file({"head.weight": table}, tmp_path / "a.safetensors")
    initframe.reinit(net, take(str(tmp_path / "a.safetensors")), seed=0)
    assert torch.equal(net["embed"].weight, table)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_torch_checkpoint_is_read_like_any_other(trained, tmp_path, wrap):
    path = str(tmp_path / "trunk.pt")
    torch.save(wrap(trained[1]), path)
    net = model()
    plan = initframe.resolve(take(path), net)
    initframe.apply(plan, seed=0)
    assert torch.equal(net[0].weight, trained[1]["0.weight"])
    assert net[2].weight.eq(7).all()
    net[0].weight.data.zero_()
    initframe.apply(plan, seed=0)  # what was read is nobody else's memory
    assert torch.equal(net[0].weight, trained[1]["0.weight"])


def test_a_torch_checkpoint_that_holds_a_module_is_refused(tmp_path):
    torch.save(model(), tmp_path / "net.pt")
    with pytest.raises(initframe.ResolveError, match="holds more than tensors"):
        initframe.resolve(take(str(tmp_path / "net.pt")), model())


def test_a_folder_of_files_is_one_file(tmp_path):
    save_file({"0.weight": noise(8, 6)}, tmp_path / "model-1.safetensors")
    save_file({"2.bias": noise(4)}, tmp_path / "model-2.safetensors")
    net = model()
    initframe.reinit(net, take(str(tmp_path)), seed=0)
    assert torch.equal(net[0].weight, noise(8, 6))
    assert torch.equal(net[2].bias, noise(4))


def test_a_name_in_two_files_of_a_folder_is_refused_naming_both(tmp_path):
    for name, shape in (("a", (1, 6)), ("b", (8, 6))):
        save_file({"0.weight": noise(*shape), "0.bias": noise(8)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(initframe.ResolveError, match=r"a\.safetensors and .*b\.safetensors.* and 1 more"):
        initframe.resolve(take(str(tmp_path)), model())


def test_values_are_never_stretched(tmp_path):
    save_file({"w": noise(1, 6)}, tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    with pytest.raises(initframe.ResolveError, match=r"values of shape \[1, 6\] for \[8, 6\]"):
        initframe.fill_(torch.empty(8, 6), Stored((8, 6), path, "w", open_archive(path)), name="w")


def test_another_shape_is_an_error_or_declined(tmp_path):
    save_file({"0.weight": noise(8, 5), "0.bias": noise(8)}, tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    with pytest.raises(initframe.ResolveError, match=r"shape \[8, 5\], the model in \[8, 6\]. Set shapes"):
        initframe.resolve(take(path), model())
    plan = initframe.resolve(take(path, shapes="decline"), model())
    assert plan["0.weight"].rule.name == "base"
    assert plan["0.bias"].rule.name == "file"


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64]
)
def test_values_become_the_tensors_dtype(tmp_path, dtype):
    save_file({"weight": noise(3, 4).to(dtype)}, tmp_path / "a.safetensors")
    layer = nn.Linear(4, 3)
    initframe.reinit(layer, take(str(tmp_path / "a.safetensors")), seed=0)
    assert torch.equal(layer.weight, noise(3, 4).to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float4_e2m1fn_x2])
def test_what_are_no_real_numbers_is_refused(tmp_path, dtype):
    torch.save({"weight": torch.empty(3, 4, dtype=dtype)}, tmp_path / "a.pt")
    with pytest.raises(initframe.ResolveError, match=f"a.pt: weight.* {dtype}"):
        initframe.resolve(take(str(tmp_path / "a.pt")), nn.Linear(4, 3))


def test_nothing_is_read_before_it_is_applied_and_the_file_must_not_change_until_then(trained):
    path, tensors = trained
    net = model()
    plan = initframe.resolve(take(path), net)
    save_file({name: value + 1 for name, value in tensors.items()} | {"more": noise(3)}, path)
    with pytest.raises(initframe.ResolveError, match="has changed since the plan was made"):
        initframe.apply(plan, seed=0)
    initframe.apply(initframe.resolve(take(path), net), seed=0)
    assert torch.equal(net[0].weight, tensors["0.weight"] + 1)
    plan = initframe.resolve(take(path), net)
    Path(path).unlink()
    with pytest.raises(initframe.ResolveError, match="is gone since the plan was made"):
        initframe.apply(plan, seed=0)


def test_the_manifest_has_the_files_digest(trained):
    path, _ = trained
    record = initframe.manifest(initframe.reinit(model(), take(path), seed=0))
    fill = record["others"][0]["fill"]
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert fill == {"kind": "stored", "path": path, "key": "0.weight", "sha256": digest}


def test_torchs_generator_reads_files_too(trained):
    path, tensors = trained
    net = model()
    initframe.reinit(net, take(path), seed=0, generator="torch")
    assert torch.equal(net[0].weight, tensors["0.weight"])


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is no checkpoint"),
        (b"{}", "is no checkpoint"),
        (b"\x80\x04K*.", "is a bare pickle"),
        (b"\xff" * 40, "is no checkpoint"),
        (b"\x02" + b"\0" * 7 + b"{]", "is corrupt"),
        (b"PK\x03\x04" + b"\0" * 40, "is corrupt"),
    ],
)
def test_what_holds_more_than_tensors_is_refused(tmp_path, content, fact):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(initframe.ResolveError, match=fact):
        initframe.resolve(take(str(path)), model())


@pytest.mark.parametrize(
    ("path", "fact"),
    [("absent.safetensors", "No such file"), ("a\0b", "null"), (".", "holds no"), ("", "it is empty")],
)
def test_what_cannot_be_read_is_said(tmp_path, monkeypatch, path, fact):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(initframe.ResolveError, match=fact):
        initframe.resolve(take(path), model())


@pytest.mark.parametrize("keys", [["a"], {"0.": 3}])
def test_keys_are_a_mapping_of_texts(trained, keys):
    with pytest.raises(initframe.ResolveError, match="keys maps beginnings of names"):
        initframe.resolve(take(trained[0], keys=keys), model())


def test_a_fill_of_a_file_is_comparable_and_shows_its_source(trained):
    plan = initframe.resolve(take(trained[0]), model())
    fill = plan["0.weight"].fill
    assert isinstance(fill, Stored)
    assert fill == initframe.resolve(take(trained[0]), model())["0.weight"].fill
    assert str(fill) == f"stored({trained[0]}, 0.weight)"


def fitted(init, shape, source, tmp_path, **arguments):
    """One tensor, filled from a file that holds one."""
    save_file({"w": source}, tmp_path / "a.safetensors")
    holder = nn.ParameterDict({"w": torch.zeros(shape)})
    initframe.reinit(holder, rules(w={"init": init, "path": str(tmp_path / "a.safetensors"), **arguments}), seed=0)
    return holder["w"].detach()


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_an_inflated_kernel_sees_a_still_video_as_an_image(tmp_path, steps):
    kernel = noise(4, 3, 5, 5)
    weight = fitted("inflate_2d_to_3d", (4, 3, steps, 5, 5), kernel, tmp_path)
    image = noise(1, 3, 9, 9, seed=1)
    video = image.unsqueeze(2).expand(-1, -1, steps, -1, -1)
    torch.testing.assert_close(functional.conv3d(video, weight)[:, :, 0], functional.conv2d(image, kernel))


def test_only_a_slice_inflates(tmp_path):
    with pytest.raises(initframe.ResolveError, match="is no slice of"):
        fitted("inflate_2d_to_3d", (4, 3, 3, 5, 5), noise(4, 3, 3, 3), tmp_path)


def test_positions_of_the_same_size_are_the_same(tmp_path):
    table = noise(1, 1 + 16, 8)
    assert torch.equal(fitted("resample_pos_embed", (1, 17, 8), table, tmp_path), table)


@pytest.mark.parametrize("side", [3, 6, 14])
def test_positions_are_resampled_as_timm_does(tmp_path, side):
    table = noise(1, 2 + 49, 8)
    found = fitted("resample_pos_embed", (1, 2 + side**2, 8), table, tmp_path, class_tokens=2)
    assert torch.equal(found[:, :2], table[:, :2])
    image = table[:, 2:].reshape(1, 7, 7, 8).permute(0, 3, 1, 2)
    expected = functional.interpolate(image, (side, side), mode="bicubic", antialias=True)
    torch.testing.assert_close(found[:, 2:], expected.permute(0, 2, 3, 1).reshape(1, -1, 8))


@pytest.mark.parametrize("shape", [(1, 17, 4), (1, 16, 8), (2, 17, 8)])
def test_only_squares_are_resampled(tmp_path, shape):
    with pytest.raises(initframe.ResolveError, match="side² tokens of the same width"):
        fitted("resample_pos_embed", shape, noise(1, 1 + 16, 8), tmp_path)


def test_class_tokens_are_a_count(tmp_path):
    with pytest.raises(initframe.ResolveError, match="class_tokens counts tokens, got -1"):
        fitted("resample_pos_embed", (1, 24, 8), noise(1, 48, 8), tmp_path, class_tokens=-1)


def test_selected_weights_are_evenly_spaced(tmp_path):
    source = torch.arange(12.0)[:, None] * 100 + torch.arange(10.0)
    found = fitted("weight_selection", (4, 7), source, tmp_path)
    assert found[:, 0].tolist() == [0, 300, 600, 900]
    assert (found[0]).tolist() == [0, 2, 3, 4, 6, 8, 9]  # round(linspace(0, 9, 7)), halves to even


def test_selecting_everything_is_copying(tmp_path):
    assert torch.equal(fitted("weight_selection", (5, 3), noise(5, 3), tmp_path), noise(5, 3))


def test_nothing_larger_can_be_selected(tmp_path):
    with pytest.raises(initframe.ResolveError, match="is no larger than"):
        fitted("weight_selection", (5, 3), noise(5, 2), tmp_path)
