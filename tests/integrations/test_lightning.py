"""Lightning's own trainer initializes a model once, whatever comes after, and loads checkpoints over it."""

import copy
import warnings

import pytest
import torch
import yaml
from nets import rules
from refusals import refused
from torch import nn
from torch.utils.data import DataLoader

import initframe
from initframe.errors import RecipeError, ResolveError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.cli import LightningCLI

    from initframe.integrations.lightning import Initialize

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RECIPE = rules({"*.weight": "xavier_uniform", "*.bias": {"init": "uniform", "a": -1, "b": 1}})


def held(model):
    """The bytes of everything that a model holds."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def expected(seed=3):
    model = net()
    initframe.reinit(model, RECIPE, seed)
    return held(model)


class Trained(LightningModule):
    """Trains a net; its optimizer notes the values that it found."""

    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.lr, self.found = lr, []
        self.make()

    def make(self):
        self.model = net()

    def training_step(self, batch, _):
        return self.model(batch).square().mean()

    def validation_step(self, batch, _):
        self.seen = held(self.model)

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        self.found.append(held(self.model))
        return torch.optim.SGD(self.parameters(), self.lr)

    def train_dataloader(self):
        return DataLoader(torch.ones(4, 4), batch_size=2)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Deferred(Trained):
    def make(self):
        with initframe.deferred():
            super().make()


class Configured(Trained):
    """Builds in ``configure_model``, guarded as Lightning demands."""

    def make(self):
        self.model = None

    def configure_model(self):
        if self.model is None:
            self.model = net()


class ConfiguredDeferred(Trained):
    def make(self):
        self.model = None

    def configure_model(self):
        if self.model is None:
            with initframe.deferred():
                self.model = net()


class SetUp(Trained):
    """Builds in ``setup``, which Lightning calls after the callbacks'."""

    def make(self):
        self.model = None

    def setup(self, stage):
        self.model = self.model or net()


KINDS = [Trained, Deferred, Configured, ConfiguredDeferred, SetUp]


def initialize(seed=3):
    return Initialize(RECIPE, seed, attribute="model")


def trainer(*callbacks, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 1, "max_epochs": 1}
    return Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), **(quiet | options))


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizer_finds_the_numbers_of_the_bare_model(kind):
    module, callback = kind(), initialize()
    trainer(callback).fit(module)
    assert module.found == [expected()]
    assert callback.report.seed == 3
    assert held(module.model) != expected()  # it trained these very parameters
    assert "configure_model" not in vars(module)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_no_later_stage_writes_again(kind, stage):
    module, first = kind(), trainer(initialize())
    first.fit(module)
    trained = held(module.model)
    for again in (first, trainer(initialize(seed=4))):
        getattr(again, stage)(module)
        assert held(module.model) == trained


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_fit_goes_on_where_the_first_ended(kind):
    module = kind()
    trainer(initialize()).fit(module)
    trained = held(module.model)
    trainer(initialize(seed=4)).fit(module)
    assert module.found == [expected(), trained]
    trainer(initialize(seed=4)).fit(copied := copy.deepcopy(module))
    assert copied.found[-1] == held(module.model)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_before_the_fit_sees_the_initialization(kind):
    module, run = kind(), trainer(initialize())
    run.validate(module)
    assert module.seen == expected()
    run.fit(module)
    assert module.found == [expected()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_starts_from_its_checkpoint(kind, tmp_path):
    module, run = kind(), trainer(initialize())
    run.fit(module)
    run.save_checkpoint(tmp_path / "last.ckpt")
    resumed = kind()
    trainer(initialize(), max_epochs=2).fit(resumed, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.found == [held(module.model)]
    fresh = kind()
    trainer(initialize()).validate(fresh, ckpt_path=tmp_path / "last.ckpt")
    assert fresh.seen == held(module.model)


def test_by_default_the_module_is_the_model():
    module, same = Trained(), Trained()
    trainer(Initialize(RECIPE, 3)).fit(module)
    initframe.reinit(same, RECIPE, 3)
    assert module.found == [held(same.model)]
    assert module.found != [expected()]


def test_two_callbacks_initialize_two_parts():
    class Adversarial(Configured):
        def make(self):
            self.model, self.critic = None, nn.Linear(2, 1)

    module, critic = Adversarial(), nn.Linear(2, 1)
    run = trainer(initialize(), Initialize(rules({"*": "ones"}), 5, attribute="critic"))
    run.fit(module)
    initframe.reinit(critic, rules({"*": "ones"}))
    assert module.found == [expected()]
    assert held(module.critic) == held(critic)


def test_what_constructors_say_fills_deferred_models():
    module, same = Deferred(), Deferred()
    trainer(Initialize(None, 3, attribute="model")).fit(module)
    initframe.materialize(same.model, seed=3)
    assert module.found == [held(same.model)]


def test_wrong_calls_are_refused_before_anything_is_written():
    (problem,) = refused(Initialize, {"rules": 3}, 0, kind=RecipeError)
    assert problem.subject
    module = Trained()
    before = held(module)
    (problem,) = refused(trainer(Initialize(RECIPE, 0, attribute="modle")).fit, module, kind=ResolveError)
    assert (problem.subject, "model" in problem.options) == ("attribute", True)
    refused(trainer(Initialize(rules({"nothing": "ones"}), 0)).fit, module, kind=ResolveError)
    assert (held(module), module.found) == (before, [])
    trainer(initialize()).fit(module)  # a failed try is none
    assert module.found == [expected()]


@pytest.mark.parametrize("recipe", ["xavier_relu", ["xavier_relu", "head_small"], RECIPE])
def test_lightning_cli_reads_it_from_a_config(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if recipe == ["xavier_relu", "head_small"]:
        recipe = ["xavier_relu", {"rules": {"2.weight": "zeros"}}]
    arguments = {"recipe": recipe, "seed": 3, "attribute": "model"}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    callback = {"class_path": "initframe.integrations.lightning.Initialize", "init_args": arguments}
    config = {"trainer": {"accelerator": "cpu", "callbacks": [callback], **quiet}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    cli = LightningCLI(Trained, args=["fit", "--config", "job.yaml"])
    model = net()
    initframe.reinit(model, recipe, 3)
    assert cli.model.found == [held(model)]
