"""Recipes: their checks, changes by ``-o``, and that every shipped recipe is valid."""

from __future__ import annotations

import copy
import importlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError, EmotionError, UsageError
from s3prl_emotion.files.folders import heads, heads_folder, recipes_folder
from s3prl_emotion.recipe import (
    DataSection,
    RunnerSection,
    StrictSection,
    check_recipe,
    overridden,
    override,
    read_recipe,
)

Recipe = dict[str, Any]
CLASSES = 4
DIM = 12


@contextmanager
def refused(match: str, error: type[EmotionError] = ConfigError) -> Iterator[None]:
    """Expect an error of one line; ``match`` is a regular expression."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)


def sound() -> Recipe:
    """Return the smallest valid recipe."""
    steps = dict.fromkeys(("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step"), 1)
    return {
        "runner": {**steps, "gradient_clipping": 1},
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-3},
        "downstream_expert": {"datarc": {"labels": "demo", "train_batch_size": 4, "eval_batch_size": 4}},
    }


# --- override ---------------------------------------------------------------------------------------------------------


def applied(text: str) -> tuple[Namespace, Recipe]:
    args, config = Namespace(seed=1337), {"runner": {"total_steps": 5}, "scheduler": None}
    override(text, args, config)
    return args, config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("1e-4", 1e-4), ("1.0", 1.0), ("None", None), ("null", None), ("True", True),
        ("true", True), ("False", False), ("false", False), ("fold1", "fold1"), ("'3'", "3"), ('"a b"', "a b"),
        ("[1, 'a', None]", [1, "a", None]), ("['neu', 'sad']", ["neu", "sad"]), ("{'exc': 'hap'}", {"exc": "hap"}),
        ("/data/run=3/labels.csv", "/data/run=3/labels.csv"), ("a==b", "a==b"), ("C:\\data\\x", "C:\\data\\x"),
        ("~/IEMOCAP", "~/IEMOCAP"), ("", ""), ("  spaced  ", "spaced"), ("007", "007"), ("nan", "nan"),
        ("[neu, sad]", "[neu, sad]"), ("{[]: 1}", "{[]: 1}"), ("(" * 5000, "(" * 5000), ("-" * 20000, "-" * 20000),
        ("1 if True else 2", "1 if True else 2"), ("2**31", "2**31"), ("null ", None), ("Jürgen", "Jürgen"),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_override_reads_literals_and_leaves_the_rest_strings(text: str, value: object):
    config = applied(f"config.runner.key={text}")[1]
    assert config["runner"]["key"] == value
    assert type(config["runner"]["key"]) is type(value)


def test_override_never_runs_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    trace = tmp_path / "trace"
    for code in (
        f"__import__('os').system('touch {trace}')",
        f"open('{trace}', 'w')",
        "print('ran')",
        f"[__import__('pathlib').Path('{trace}').touch() for _ in range(1)]",
        "(lambda: 1)()",
    ):
        args, config = applied(f"config.runner.key={code},,args.seed={code}")
        assert config["runner"]["key"] == args.seed == code
    assert not trace.exists()
    assert capfd.readouterr().out == ""


def test_override_of_arguments_and_of_several_parts():
    args, config = applied("args.seed=3,, config.runner.total_steps = 10 ,,config.new.deep.key=x,,")
    assert args.seed == 3
    assert config == {"runner": {"total_steps": 10}, "scheduler": None, "new": {"deep": {"key": "x"}}}


def test_override_of_a_whole_section():
    assert applied("config.scheduler={'name': 'x'}")[1]["scheduler"] == {"name": "x"}


@pytest.mark.parametrize(
    "part",
    [
        "config.runner.total_steps", "runner.total_steps=3", "config=3", "args=3", "=3", "=", "config.=3", "args.=3",
        "config..a=3", "config.a..b=3", "config.a.=3", "args.a.b=3", "total_steps=3", "Config.a=3", "nonsense",
        ".=3", "-o=3",
    ],
)  # fmt: skip
def test_malformed_override_is_refused(part: str):
    with refused(r"^-o: .* is not of the form args\.KEY=VALUE or config\.SECTION\.KEY=VALUE$", UsageError):
        applied(f"config.runner.ok=1,,{part}")


@pytest.mark.parametrize("key", ["config.runner.total_steps.deep", "config.scheduler.name"])
def test_override_below_a_value_is_refused(key: str):
    with refused(rf"^-o: {key}: '\w+' holds a value, not a section$", UsageError):
        applied(f"{key}=1")


def test_overridden_leaves_the_originals_alone():
    args, config = Namespace(seed=1), {"runner": {"total_steps": 5, "list": [1]}}
    new_args, new_config = overridden("args.seed=2,,config.runner.total_steps=6,,config.a.b=1", args, config)
    new_config["runner"]["list"].append(2)
    assert (args.seed, config) == (1, {"runner": {"total_steps": 5, "list": [1]}})
    assert (new_args.seed, new_config["runner"]["total_steps"], new_config["a"]) == (2, 6, {"b": 1})


@pytest.mark.parametrize("text", [None, "None", "none", ""])
def test_overridden_with_nothing_gives_copies(text: str | None):
    args, config = Namespace(seed=1), {"runner": {}}
    new_args, new_config = overridden(text, args, config)
    assert (new_args, new_config) == (args, config)
    assert new_args is not args
    assert new_config["runner"] is not config["runner"]


# --- read_recipe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_missing_recipe_is_refused(tmp_path: Path, name: str):
    with refused(r": no such recipe; give a YAML file with -c/--config", UsageError):
        read_recipe(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"runner: [", b"a: b: c", b"runner:\n\ttotal_steps: 1", b"\x00\x01", b"\xff\xfe\xfa",
        b"a: !!python/name:os.system", b"a: !!python/object/apply:os.system ['true']",
        b"a: 2020-13-45", b"a: *nobody", b"'open",
    ],
)  # fmt: skip
def test_recipe_that_is_no_yaml_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with refused(r"recipe\.yaml: not readable as YAML: "):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- runner\n", "runner", "3", "null"])
def test_recipe_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with refused(r"recipe\.yaml: a recipe is a mapping with the sections runner, optimizer, scheduler"):
        read_recipe(path)


def test_recipe_is_read_as_utf8(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("runner: {name: Ärger}", encoding="utf-8")
    assert read_recipe(path) == {"runner": {"name": "Ärger"}}


# --- check_recipe -----------------------------------------------------------------------------------------------------


def test_sound_recipe_passes():
    check_recipe(sound())
    check_recipe({**sound(), "scheduler": None, "specaug": None})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"runer": {}}, r"^runer: unknown section of the recipe; nearest: runner"),
        ({"optimiser": {}}, r"^optimiser: unknown section of the recipe; nearest: optimizer"),
        ({"downstream": {}}, r"^downstream: unknown section of the recipe; nearest: downstream_expert"),
        ({3: {}}, r"^3: unknown section of the recipe"),
        ({"runner": None}, r"^runner: must be a mapping of keys to values, got None"),
        ({"runner": [1]}, r"^runner: must be a mapping"),
        ({"optimizer": None}, r"^optimizer: must be a mapping"),
        ({"optimizer": "Adam"}, r"^optimizer: must be a mapping of keys to values, got 'Adam'"),
        ({"optimizer": ["Adam"]}, r"^optimizer: must be a mapping"),
        ({"optimizer": {}}, r"^optimizer\.name: this key is required"),
        ({"optimizer": {"lr": 1.0}}, r"^optimizer\.name: this key is required"),
        ({"optimizer": {"name": 3}}, r"^optimizer\.name: this key is required, a name from s3prl/optimizers\.py"),
        ({"optimizer": {"name": "Adam if print() else 0"}}, r"^optimizer\.name: .*got 'Adam if print"),
        ({"scheduler": 3}, r"^scheduler: must be a mapping"),
        ({"scheduler": {"num_warmup_steps": 3}}, r"^scheduler\.name: this key is required, a name from s3prl/sched"),
    ],
)
def test_bad_section_is_refused(changes: Recipe, match: str):
    with refused(match):
        check_recipe({**sound(), **changes})


@pytest.mark.parametrize("section", ["runner", "optimizer", "downstream_expert"])
def test_missing_section_is_refused(section: str):
    recipe = sound()
    del recipe[section]
    with refused(rf"^{section}: the recipe lacks this section$"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("total_steps: 0", r"^runner\.total_steps: .*greater than or equal to 1, got 0"),
        ("total_steps: -5", r"^runner\.total_steps: "),
        ("total_steps: 10.0", r"^runner\.total_steps: .*valid integer, got 10\.0"),
        ("total_steps: 1e5", r"^runner\.total_steps: .*valid integer, got '1e5'"),
        ("total_steps: true", r"^runner\.total_steps: .*valid integer, got True"),
        ("total_steps: null", r"^runner\.total_steps: .*got None"),
        ("gradient_clipping: 1e-4", r"^runner\.gradient_clipping: .*valid number, got '1e-4'"),
        ("gradient_clipping: 0", r"^runner\.gradient_clipping: .*greater than 0"),
        ("gradient_clipping: .nan", r"^runner\.gradient_clipping: "),
        ("eval_dataloaders: dev", r"^runner\.eval_dataloaders: .*valid list, got 'dev'"),
        ("fp16: 1", r"^runner\.fp16: "),
        ("evaluate_ratio: 1.5", r"^runner\.evaluate_ratio: "),
        ("seeding: suberb", r"^runner\.seeding: .*'seed' or 'superb', got 'suberb'"),
        ("totalsteps: 10", r"^runner\.totalsteps: unknown key; nearest: total_steps"),
        ("3: 10", r"^runner\.3: .*strings?"),
        ("on: 10", r"^runner\.1: .*strings?, got True"),
    ],
)
def test_bad_key_of_runner_is_refused(line: str, match: str):
    recipe = sound()
    recipe["runner"].update(yaml.safe_load(line))
    with refused(match):
        check_recipe(recipe)


def test_missing_key_of_runner_is_refused():
    recipe = sound()
    del recipe["runner"]["eval_step"]
    with refused(r"^runner\.eval_step: this key is required$"):
        check_recipe(recipe)


def test_renamed_key_is_called_unknown_rather_than_missing():
    recipe = sound()
    recipe["runner"]["total_step"] = recipe["runner"].pop("total_steps")
    with refused(r"^runner\.total_step: unknown key; nearest: total_steps"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("num_folds: 2.5", r"^datarc\.num_folds"),
        ("num_folds: speaker", r"^datarc\.num_folds.*got 'speaker'"),
        ("test_fold: 1", r"^datarc\.test_fold: .*valid string, got 1"),
        ("valid_ratio: -0.1", r"^datarc\.valid_ratio"),
        ("valid_ratio: 1", r"^datarc\.valid_ratio"),
        ("train_batch_size: 0", r"^datarc\.train_batch_size"),
        ("num_workers: -1", r"^datarc\.num_workers"),
        ("max_duration: 0", r"^datarc\.max_duration"),
        ("classes: neu", r"^datarc\.classes: .*valid list"),
        ("classes: [1, 2]", r"^datarc\.classes\.0: .*valid string, got 1"),
        ("classes: [no, yes]", r"^datarc\.classes\.0: .*valid string, got False"),
        ("merge: [exc, hap]", r"^datarc\.merge: "),
        ("merge: {exc: 1}", r"^datarc\.merge\.exc: "),
        ("class_weights: inverse", r"^datarc\.class_weights: .*got 'inverse'"),
        ("class_weights_beta: 1.0", r"^datarc\.class_weights_beta: Input should be less than 1"),
        ("class_weights_beta: 0.9", r"^datarc\.class_weights_beta: has no effect with class_weights none"),
        ("pre_load: 'yes'", r"^datarc\.pre_load: .*valid boolean"),
        ("train_batchsize: 4", r"^datarc\.train_batchsize: unknown key; nearest: train_batch_size"),
    ],
)
def test_bad_key_of_datarc_is_refused(line: str, match: str):
    datarc = {**sound()["downstream_expert"]["datarc"], **yaml.safe_load(line)}
    with refused(match):
        DataSection.read(datarc, "datarc")


# --- StrictSection ----------------------------------------------------------------------------------------------------


class _Example(StrictSection):
    rate: float = 1.0
    name: str


def test_section_takes_integers_for_floats_and_keeps_defaults():
    section = _Example.read({"name": "x", "rate": 2}, "here")
    assert (section.name, section.rate) == ("x", 2.0)
    assert _Example.read({"name": "x"}, "here").rate == 1.0


def test_section_does_not_change_once_read():
    section = _Example.read({"name": "x"}, "here")
    with pytest.raises(ValueError, match="frozen"):
        section.name = "y"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ("text", r"^here: must be a mapping of keys to values, got 'text'$"),
        (None, r"^here: must be a mapping of keys to values, got None$"),
        ({}, r"^here\.name: this key is required$"),
        ({"name": 3}, r"^here\.name: Input should be a valid string, got 3$"),
        ({"name": "x", "rate": "1e-4"}, r"^here\.rate: Input should be a valid number, got '1e-4'$"),
        ({"name": "x", "rate": True}, r"^here\.rate: "),
        ({"name": "x\ny", "rat": 1}, r"^here\.rat: unknown key; nearest: rate$"),
        ({"name": "x", "zzz": 1}, r"^here\.zzz: unknown key; known: rate, name$"),
    ],
)
def test_bad_values_of_a_section_are_refused(values: object, match: str):
    with refused(match):
        _Example.read(values, "here")


# --- every shipped recipe ---------------------------------------------------------------------------------------------

# Heads of the folders of recipes/ that are not for emotion_corr_attn.
HEAD_OF_FOLDER: dict[str, str] = {
    "das2022": "emotion_latent",
    "mitra2024": "emotion_tcgru",
    "mitra2025": "emotion_multitask",
}


def corr_attn(module: Any, modelrc: Any) -> tuple[nn.Module, int]:
    return module.CorrAttnModel(DIM, CLASSES, **modelrc.model_dump(exclude={"label_smoothing"})), CLASSES


SIZES = {"conv_channels", "kernel_size", "gru_dim", "gru_layers", "embedding_dim", "dropout"}


def tcgru(module: Any, modelrc: Any) -> tuple[nn.Module, int]:
    variance = modelrc.target_variance
    return module.TCGRUModel(DIM, target_variance=variance, **modelrc.model_dump(include=SIZES)), 6 if variance else 3


def multitask(module: Any, modelrc: Any) -> tuple[nn.Module, int]:
    dimensions, spreads = modelrc.dimension_weight > 0, modelrc.target_variance
    model = module.MultiTaskModel(DIM, CLASSES, dimensions, spreads, **modelrc.model_dump(include=SIZES))
    return model, CLASSES + 3 * dimensions + 3 * spreads


def acnn(module: Any, modelrc: Any) -> tuple[nn.Module, int]:
    sizes = modelrc.model_dump(include={"filters", "width", "stride", "pool", "dropout"})
    return module.AttentiveCNN(DIM, CLASSES, 0, modelrc.views, **sizes), CLASSES + (6 if modelrc.views else 0)


def latent(module: Any, modelrc: Any) -> tuple[nn.Module, int]:
    sizes = (modelrc.method, modelrc.hidden, modelrc.latent, modelrc.noise)
    model = module.LatentModel(DIM, CLASSES, *sizes)
    per_latent = 3 if model.variational else 2  # mean, latent, and of a VAE the log-variance
    return model, DIM * (2 if model.coded else 1) + per_latent * model.latent_dim + CLASSES


# The network of each head's ``modelrc``, and the number of its outputs.
NETWORKS: dict[str, Callable[[Any, Any], tuple[nn.Module, int]]] = {
    "emotion_acnn": acnn,
    "emotion_corr_attn": corr_attn,
    "emotion_latent": latent,
    "emotion_multitask": multitask,
    "emotion_tcgru": tcgru,
}


def shipped() -> list[Path]:
    """Return every recipe of an experiment: no stock tasks, ``kind: matrix`` files or options of upstreams."""
    files = [*heads_folder().glob("*/config.yaml"), *recipes_folder().rglob("*.yaml"), *recipes_folder().rglob("*.yml")]
    files = [path for path in files if path.parent.name != "stock"]
    return sorted(path for path in files if not {"kind", "upstreams"} & set(yaml.safe_load(path.read_bytes())))


def head_of(path: Path) -> str:
    """Return the head of a recipe: its folder's, the one in its name, or the one of the paper's folder."""
    named = next((name for name in (path.parent.name, path.stem) if name in heads()), None)
    return named or HEAD_OF_FOLDER.get(path.parent.name, "emotion_corr_attn")


def head_module(path: Path, name: str) -> Any:
    host.register()
    return importlib.import_module(f"s3prl.downstream.{head_of(path)}.{name}")


def check_all(path: Path, recipe: Recipe) -> tuple[Any, Any, Any]:
    check_recipe(recipe)
    return head_module(path, "expert").DownstreamExpert.read_section(recipe["downstream_expert"], None)


every_recipe = pytest.mark.parametrize(
    "path", shipped(), ids=lambda path: str(Path(path.parent.parent.name, path.parent.name, path.name))
)


def test_every_head_brings_a_recipe():
    assert {path.parent.name for path in shipped()} >= set(heads())


@every_recipe
def test_shipped_recipe_is_sound(path: Path):
    recipe = read_recipe(path)
    before = copy.deepcopy(recipe)
    check_all(path, recipe)
    assert recipe == before


@every_recipe
def test_misspelt_key_of_a_shipped_recipe_is_refused(path: Path):
    recipe = read_recipe(path)
    places: list[tuple[str, Callable[[Recipe], Recipe]]] = [
        ("", lambda content: content),
        ("runner.", lambda content: content["runner"]),
        ("downstream_expert.", lambda content: content["downstream_expert"]),
        ("downstream_expert.datarc.", lambda content: content["downstream_expert"]["datarc"]),
        ("downstream_expert.modelrc.", lambda content: content["downstream_expert"]["modelrc"]),
    ]
    for where, section_of in places:
        for key in section_of(recipe):
            spoilt = copy.deepcopy(recipe)
            section = section_of(spoilt)
            section[f"{key}x"] = section.pop(key)
            with refused(rf"^{where}{key}x: unknown .*; nearest: .*{key}"):
                check_all(path, spoilt)
    for section in ("optimizer", "scheduler"):
        if recipe.get(section):
            spoilt = copy.deepcopy(recipe)
            spoilt[section]["nam"] = spoilt[section].pop("name")
            with refused(rf"^{section}\.name: this key is required"):
                check_all(path, spoilt)


@every_recipe
def test_shipped_recipe_builds_a_network_that_learns(path: Path):
    recipe = read_recipe(path)
    _, _, modelrc = check_all(path, recipe)
    torch.manual_seed(0)
    model, outputs = NETWORKS[head_of(path)](head_module(path, "model"), modelrc)
    features, lengths = torch.randn(3, 9, DIM), torch.tensor([9, 5, 1])
    output = model(features, lengths)
    if isinstance(output, tuple):  # several tensors, some of which this recipe's network does not have
        output = torch.cat([part for part in output if part is not None], dim=1)
    assert output.shape == (3, outputs)
    if not list(model.parameters()):  # fitted without training, as the supervised SVC of Das et al. 2022
        return
    nn.functional.cross_entropy(output, torch.tensor([0, 1, 2])).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@every_recipe
def test_shipped_recipe_names_an_optimizer_that_can_be_built(path: Path):
    recipe = read_recipe(path)
    host.register()
    optimizers = importlib.import_module("s3prl.optimizers")
    optimizer = optimizers.get_optimizer(
        [nn.Linear(2, 2)], RunnerSection.read(recipe["runner"], "runner").total_steps, recipe["optimizer"]
    )
    assert optimizer.param_groups[0]["lr"] > 0
    if recipe.get("scheduler"):
        importlib.import_module("s3prl.schedulers").get_scheduler(optimizer, 10, recipe["scheduler"])
