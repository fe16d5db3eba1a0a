"""transformers' own Trainer and from_pretrained: equal weights in every run, and new heads that can be made again."""

import warnings

import pytest
import torch
from nets import bits, changed, rules, same_bits
from refusals import refused

import initframe
from initframe.errors import RecipeError, ResolveError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainingArguments,
    )

    from initframe.integrations.transformers import initialize_missing, model_init

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SMALL = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
HEAD = rules({"classifier.weight": {"init": "normal", "std": 0.02}, "classifier.bias": "ones"})


def bert(kind=BertForSequenceClassification, **options):
    return kind(BertConfig(**SMALL, **options))


def plain_bert():  # Trainer counts parameters, those with defaults too
    return bert()


def llama(tied):
    return LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=tied))


@pytest.fixture(autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


# --- Trainer ---------------------------------------------------------------------------------------------------------


def trainer(init, folder, **options):
    class Noting(Trainer):
        """Notes the weights that each training starts from, and the numbers that torch would draw next."""

        starts, drawn = [], []

        def create_optimizer(self, *args, **kwargs):
            self.starts.append(bits(self.model))
            self.drawn.append(torch.rand(3))
            return super().create_optimizer(*args, **kwargs)

    data = [{"input_ids": torch.arange(4), "labels": torch.tensor(i % 2)} for i in range(4)]
    arguments = TrainingArguments(
        str(folder), max_steps=1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, **options
    )
    return Noting(model_init=init, args=arguments, train_dataset=data, eval_dataset=data)


def test_every_training_starts_alike_whatever_its_seed(tmp_path):
    expected = bert()
    initframe.reinit(expected, "bert", 3)
    for seed in (0, 1):
        run = trainer(model_init(bert, "bert", seed=3), tmp_path, seed=seed)
        run.train()
        run.train()
        assert len(run.starts) == 2
        assert [changed(expected, start) for start in run.starts] == [set(), set()]


def test_torchs_generator_is_where_construction_leaves_it(tmp_path):
    plain, initialized = (trainer(init, tmp_path) for init in (plain_bert, model_init(bert, "bert", seed=3)))
    for run in (plain, initialized):
        run.train()
    assert same_bits(plain.drawn[0], initialized.drawn[0])
    assert changed(expected_model(plain.starts[0]), initialized.starts[0])


def expected_model(state):
    model = bert()
    model.load_state_dict(state)
    return model


def test_a_hyperparameter_search_changes_what_it_searches_and_nothing_else(tmp_path):
    widths = []

    def build(trial):
        widths.append(None if trial is None else trial.suggest_categorical("dropout", [0.0, 0.5]))
        return bert(hidden_dropout_prob=widths[-1] or 0.0)

    run = trainer(model_init(build, "bert", seed=3), tmp_path)
    run.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-3)},
        n_trials=2,
        backend="optuna",
        compute_objective=lambda metrics: metrics["eval_loss"],
    )
    first, *rest = run.starts
    assert rest
    assert all(all(same_bits(first[name], start[name]) for name in first) for start in rest)
    assert set(widths) - {None}


def test_a_wrong_recipe_is_refused_before_training():
    (problem,) = refused(model_init, bert, {"rules": 3}, kind=RecipeError)
    assert problem.subject


# --- from_pretrained -------------------------------------------------------------------------------------------------


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def test_a_new_head_is_the_same_in_every_run_and_the_rest_is_the_checkpoints(tmp_path):
    base = bert(BertModel)
    folder, heads = saved(base, tmp_path), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, info = BertForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        before = bits(model)
        report = initialize_missing(model, info, HEAD, seed=5)
        assert changed(model, before) == {"classifier.weight", "classifier.bias"}
        assert [result.name for result in report.results] == ["classifier.weight", "classifier.bias"]
        assert all(same_bits(value, before[f"bert.{name}"]) for name, value in base.state_dict().items())
        heads.append(model.classifier.weight.detach())
    whole = bert()
    initframe.reinit(whole, HEAD, 5)
    assert same_bits(heads[0], heads[1])
    assert same_bits(heads[0], whole.classifier.weight)


def test_a_recipe_of_the_whole_model_means_what_is_missing_only(tmp_path):
    model, info = BertForSequenceClassification.from_pretrained(
        saved(bert(BertModel), tmp_path), output_loading_info=True
    )
    before = bits(model)
    initialize_missing(model, info, "bert", seed=5)
    assert changed(model, before) == {"classifier.weight"}  # its bias is 0 as it was


def test_a_head_of_another_shape_is_missing(tmp_path):
    folder = saved(bert(num_labels=3), tmp_path)
    options = {"num_labels": 5, "ignore_mismatched_sizes": True, "output_loading_info": True}
    model, info = BertForSequenceClassification.from_pretrained(folder, **options)
    before = bits(model)
    initialize_missing(model, info, HEAD, seed=5)
    assert changed(model, before) == {"classifier.weight", "classifier.bias"}


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=8, n_layer=2, n_head=2))


@pytest.mark.parametrize("model", [lambda: llama(True), gpt2])
def test_a_tied_head_keeps_what_was_loaded(model, tmp_path):
    folder = saved(model(), tmp_path)
    loaded, info = type(model()).from_pretrained(folder, output_loading_info=True)
    before = bits(loaded)
    told = {**info, "missing_keys": {*info["missing_keys"], "lm_head.weight"}}  # as older versions told it
    for given in (info, told):
        report = initialize_missing(loaded, given, rules({"*.weight": "ones"}), seed=5)
        assert (report.results, changed(loaded, before)) == ((), set())


def test_what_is_missing_needs_a_rule(tmp_path):
    model, info = BertForSequenceClassification.from_pretrained(
        saved(bert(BertModel), tmp_path), output_loading_info=True
    )
    before = bits(model)
    (problem,) = refused(initialize_missing, model, info, rules({"classifier.weight": "ones"}), kind=ResolveError)
    assert (problem.subject, changed(model, before)) == ("classifier.bias", set())
    initialize_missing(model, info, rules({"classifier.weight": "ones", "classifier.bias": "keep"}))


# --- vocabularies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_new_words_are_drawn_and_old_ones_kept(tied):
    model, whole = llama(tied), llama(tied)
    before = bits(model)
    new = rules(
        {"new": {"match": ["*.embed_tokens.weight", "lm_head.weight"], "units": "unit >= 40", "init": "normal"}}
    )
    for one in (model, whole):
        torch.manual_seed(0)
        one.resize_token_embeddings(45)
    initframe.reinit(model, new, seed=5)
    initframe.reinit(whole, rules({"*.embed_tokens.weight": "normal"}, unmatched="keep"), seed=5)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weight = model.state_dict()[name]
        assert same_bits(weight[:40], before[name])
        assert not same_bits(weight[40:], torch.zeros_like(weight[40:]))
    assert same_bits(model.model.embed_tokens.weight[40:], whole.model.embed_tokens.weight[40:])
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("info", [None, {}, {"missing_keys": set()}])
def test_what_from_pretrained_did_not_return_is_refused(info):
    problems = refused(initialize_missing, torch.nn.Linear(2, 2), info, "xavier_relu")
    assert problems[0].subject == "loading_info"


def test_a_model_for_its_builder_is_refused():
    assert refused(model_init, torch.nn.Linear(2, 2), "xavier_relu")[0].subject == "build"
