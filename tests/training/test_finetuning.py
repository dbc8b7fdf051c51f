"""``-f`` with the recipe's section ``upstream``: what is trained, what checkpoints hold, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
import yaml
from conftest import Cli, TinyCorpus
from safetensors import safe_open
from tiny_models import ENCODERS, TINY, save_model
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.errors import ConfigError, TrainingError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import heads_folder
from s3prl_emotion.recipe import FinetuningSection
from s3prl_emotion.training.loop import Training
from s3prl_emotion.upstreams.finetuning.part import Finetuning

pytest.importorskip("peft")
FULL = ("hubert_large", "wavlm_large", "wav2vec2_large", "conformer", "data2vec", "unispeech_sat", *ENCODERS)
QUICK = ("hubert", "wavlm", "wav2vec2", "w2v_bert", "whisper")
FAMILIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.full) for name in FULL)]
WINDOWED = ("whisper", "qwen2_audio", "voxtral")
SHORT = {name: {"model_config": {"window": 1.0}} for name in WINDOWED}  # a window of 30 s takes a second
DEPTHS = {
    "whisper": "encoder_layers",
    "qwen2_audio": "encoder_layers",
    "moonshine": "encoder_num_hidden_layers",
}
LORA = {"trainable": "lora", "rank": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def build(models: Path, name: str, **options: Any) -> Any:
    """A tiny model as the upstream hf_speech_custom."""
    s3prl_emotion.register()
    from s3prl import hub

    folder = models / name
    if not folder.is_dir():
        (TINY | ENCODERS)[name](folder, **{DEPTHS.get(name, "num_hidden_layers"): 2})
    more = SHORT.get(name, {})
    return hub.hf_speech_custom(ckpt=str(folder), **more | options)


def tuned(upstream: Any, **section: Any) -> Finetuning:
    return Finetuning(upstream, FinetuningSection.read(section, "upstream"), "hf_speech_custom", 0)


def waves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(samples, generator=generator) for samples in (4000, 3200)]


def features(upstream: Any, utterances: int = 2) -> Tensor:
    return torch.stack(upstream(waves()[:utterances])["hidden_states"])


def backward(upstream: Any) -> None:
    """Gradients of something in which every feature counts in its own way."""
    found = features(upstream)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found).sin()).sum().backward()


def filled(tuning: Finetuning) -> Finetuning:
    """Adapters as after some training: those of LoRA begin as zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in tuning.parameters:
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return tuning


def adapters(upstream: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from ((name, part) for name, part in upstream.named_modules() if hasattr(part, "lora_B"))


# --- what is trained ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_every_adapter_has_a_gradient_and_changes_the_features(models: Path, name: str):
    upstream = build(models, name)
    with torch.no_grad():
        before = features(upstream)
        tuning = tuned(upstream, targets="both", dropout=0.0, **LORA)
        torch.testing.assert_close(features(upstream), before, rtol=0, atol=0)  # adapters begin as zero
    filled(tuning).train()
    backward(upstream)
    trained = {path for path, parameter in upstream.named_parameters() if parameter.requires_grad}
    of_layer = 6 if name not in ("w2v_bert", "conformer", "parakeet") else 8  # two feed-forward blocks
    assert len(trained) == 2 * 2 * of_layer
    assert all(".lora_" in path for path in trained)
    for path, parameter in upstream.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        assert reached == (path in trained), path
    with torch.no_grad():
        whole = features(upstream, 1)
        for path, part in adapters(upstream):
            kept = part.lora_B["default"].weight.clone()
            part.lora_B["default"].weight.zero_()
            assert (features(upstream, 1) - whole).abs().max() > 1e-6, path
            part.lora_B["default"].weight.copy_(kept)


@pytest.mark.parametrize("name", ["hubert", pytest.param("conformer", marks=pytest.mark.full), "whisper"])
def test_top_layers_alone_are_trained(models: Path, name: str):
    upstream = build(models, name)
    tuning = tuned(upstream, trainable="top_layers", layers=1)
    _, last = upstream.transformer_layers()
    trained = {id(item) for item in last.parameters()}
    assert {id(item) for item in tuning.parameters} == trained
    tuning.train()
    own = {id(part) for path, part in last.named_modules() if "batch_norm" not in path}
    assert all(part.training == (id(part) in own) for part in upstream.modules())
    buffers = {path: buffer.clone() for path, buffer in upstream.named_buffers()}
    backward(upstream)
    assert all((item.grad is not None) == (id(item) in trained) for item in upstream.parameters())
    assert all(torch.equal(buffer, buffers[path]) for path, buffer in upstream.named_buffers())
    tuning.check_reached()


def test_front_end_has_no_dropout_and_layers_that_of_the_model(models: Path):
    upstream = build(models, "hubert")
    upstream.model.config.feat_proj_dropout = 0.5
    with torch.no_grad():
        before = features(upstream)
        tuned(upstream, **LORA).train()
        after = features(upstream)
        assert not torch.equal(after[1:], before[1:])
        torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)  # what enters the first layer
        upstream = build(models, "hubert")
        tuned(upstream, dropout=0.0, **LORA).train()
        torch.testing.assert_close(features(upstream), before, rtol=0, atol=0)


def test_adapters_of_the_last_layers_and_by_name(models: Path):
    upstream = build(models, "wavlm")
    tuned(upstream, layers=1, targets=["q_proj", "output_dense"], **LORA)
    paths = [path for path, _ in adapters(upstream)]
    assert paths == ["model.encoder.layers.1.attention.q_proj", "model.encoder.layers.1.feed_forward.output_dense"]


def test_seed_decides_the_adapters_whatever_was_drawn_before(models: Path):
    found = []
    for draws in (0, 3):
        torch.manual_seed(draws)
        torch.rand(1 + draws)
        upstream, before = build(models, "hubert"), torch.get_rng_state()
        found.append(tuned(upstream, **LORA).part.state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_unreached_weights_are_an_error(models: Path):
    upstream = build(models, "hubert")
    tuning = tuned(upstream, **LORA)
    upstream(waves())["hidden_states"][1].sum().backward()  # the last layer is not used
    with pytest.raises(TrainingError, match=r"no gradient reaches 8 of 16 trained weights .*layers\.1\."):
        tuning.check_reached()


def test_gradient_checkpointing_gives_the_same_gradients(models: Path):
    found = []
    for more in ({}, {"gradient_checkpointing": True}):
        upstream = build(models, "hubert")
        tuning = filled(tuned(upstream, **LORA, **more))
        tuning.train()
        calls: list[Any] = []
        upstream.transformer_layers()[0].feed_forward.register_forward_hook(lambda *call, seen=calls: seen.append(call))
        torch.manual_seed(0)  # of dropout
        backward(upstream)
        found.append([parameter.grad for parameter in tuning.parameters])
        assert len(calls) == 2 * (1 + bool(more))  # the utterances differ in length: two sub-batches
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.full
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_adapters_are_float32_beside_weights_in_half_precision(models: Path, precision: str):
    upstream = build(models, "wavlm", model_config={"precision": precision})
    tuning = filled(tuned(upstream, targets="both", **LORA))
    assert {parameter.dtype for parameter in tuning.parameters} == {torch.float32}
    backward(upstream)
    assert all(parameter.grad.abs().max() > 0 for parameter in tuning.parameters)
    with pytest.raises(ConfigError, match=f"top_layers would train weights in {precision}"):
        tuned(build(models, "hubert", model_config={"precision": precision}), trainable="top_layers", layers=1)


# --- the optimizer --------------------------------------------------------------------------------------------------


def test_upstream_has_its_own_learning_rate_weight_decay_and_warm_up(models: Path):
    upstream, head = build(models, "hubert"), nn.Linear(2, 2)
    tuning = tuned(upstream, lr="1e-4", weight_decay=0.5, warm_up=4, **LORA)
    optimizer = torch.optim.SGD([*upstream.parameters(), *head.parameters()], lr=0.1)
    tuning.split(optimizer)
    groups = [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    assert groups == [(0.1, 0, 2), (1e-4, 0.5, 16)]
    seen = []
    for step in range(6):
        with tuning.warming_up(optimizer, step):
            seen.append([group["lr"] for group in optimizer.param_groups])
    assert [rates[1] for rates in seen] == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4, 1e-4])
    assert {rates[0] for rates in seen} == {0.1}
    assert optimizer.param_groups[1]["lr"] == 1e-4
    whole = tuned(build(models, "hubert"), trainable="all", lr=1e-5)
    optimizer = torch.optim.SGD([*head.parameters(), *whole.upstream.parameters()], lr=0.1)
    whole.split(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1e-5]
    assert len(optimizer.param_groups[1]["params"]) == len(list(whole.upstream.parameters()))
    assert whole.part is None
    with pytest.raises(ConfigError, match=r"upstream.weight_decay: the recipe's optimizer has none"):
        tuning.split(torch.optim.Rprop([*upstream.parameters(), *head.parameters()]))


# --- runs -----------------------------------------------------------------------------------------------------------


def words(corpus: TinyCorpus, model: Path, folder: str, **more: Any) -> tuple[str, ...]:
    steps = {"runner.total_steps": 4, "runner.eval_step": 4, "runner.save_step": 2, "runner.log_step": 1}
    values = {"optimizer.lr": 0.01, "upstream.trainable": "lora", "upstream.rank": 2} | steps | more
    text = corpus.overrides(**{key: value for key, value in values.items() if value is not None})
    train = ("-m", "train", "-u", "hf_speech_custom", "-k", str(model), "-d", "emotion_corr_attn")
    return (*train, "-f", "-p", folder, "-o", text)


@pytest.fixture(scope="module")
def hubert(models: Path) -> Path:
    build(models, "hubert")
    return models / "hubert"


Finetuned = tuple[Path, tuple[str, ...]]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finetuned")


@pytest.fixture
def lora(cli: Cli, tiny_corpus: TinyCorpus, hubert: Path, shelf: Path) -> Finetuned:
    """A finished LoRA run, shared, and the words that started it."""
    command = words(tiny_corpus, hubert, str(shelf / "lora"))
    if not (shelf / "lora").exists():
        cli(*command)
    return shelf / "lora", command


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if isinstance(value, Tensor) and not torch.equal(value, other[name])]


def test_checkpoints_hold_the_adapters_alone_and_no_code(lora: Finetuned):
    state = torch.load(lora[0] / "states-4.ckpt", weights_only=True)
    upstream = state["Upstream"]
    assert len(upstream) == 2 * 2 * 4
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in upstream)
    assert all(value.abs().max() > 0 for value in upstream.values())  # all were trained
    metrics = json.loads((lora[0] / "test_fold1_metrics.json").read_text())
    own = sum(value.numel() for value in upstream.values())
    featurizer = sum(value.numel() for value in state["Featurizer"].values())
    assert metrics["parameters_trained"] == own + featurizer + metrics["num_parameters"]
    assert metrics["parameters"] == own + featurizer + metrics["num_parameters"] + metrics["upstream_parameters"]
    assert metrics["config"]["upstream"] == {"trainable": "lora", "rank": 2}


@pytest.mark.full
def test_resumed_run_equals_an_uninterrupted_one(cli: Cli, lora: Finetuned, tiny_corpus: TinyCorpus, hubert: Path):
    cli(*words(tiny_corpus, hubert, "parts", **{"runner.total_steps": 2}))
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=4")
    whole, parts = (load_checkpoint(folder / "states-4.ckpt") for folder in (lora[0], Path("parts")))
    for name in ("Upstream", "Featurizer", "Downstream"):
        assert different(whole[name], parts[name]) == []
    for one, other in zip(*(state["Optimizer"]["state"].values() for state in (whole, parts)), strict=True):
        assert different(one, other) == []
    rows = [(folder / "test_fold1_predictions.csv").read_text() for folder in (lora[0], Path("parts"))]
    assert rows[0] == rows[1]


def test_evaluation_and_prediction_take_the_adapters(cli: Cli, lora: Finetuned, tiny_corpus: TinyCorpus):
    before = (lora[0] / "test_fold1_predictions.csv").read_text()
    cli("-m", "evaluate", "-e", lora[0] / "dev-best.ckpt", "-o", "args.expdir='again'")
    assert Path("again/test_fold1_predictions.csv").read_text() == before
    model = s3prl_emotion.load(lora[0] / "dev-best.ckpt", device="cpu")
    assert predicted(model, before, tiny_corpus) == pytest.approx(shares(before), abs=1e-5)


def shares(table: str) -> list[float]:
    return [float(value) for value in table.splitlines()[1].split(",")[-4:]]


def predicted(model: Any, table: str, corpus: TinyCorpus) -> list[float]:
    """What a loaded model predicts for the first utterance of a table."""
    waveform, rate = soundfile.read(corpus.root / table.splitlines()[1].split(",")[0], dtype="float32")
    return list(model.predict(waveform, rate).probabilities.values())


@pytest.mark.full
def test_packed_head_has_the_adapters(lora: Finetuned, tiny_corpus: TinyCorpus, tmp_path: Path, hubert: Path):
    words = ("pack", str(lora[0] / "dev-best.ckpt"), str(tmp_path / "packed"), "--license", "cc-by-4.0")
    assert suite.main(list(words)) == 0
    with safe_open(tmp_path / "packed/upstream.safetensors", "pt") as file:
        assert len(list(file.keys())) == 2 * 2 * 4
    assert "LoRA adapters" in (tmp_path / "packed/README.md").read_text()
    table = (lora[0] / "test_fold1_predictions.csv").read_text()
    model = s3prl_emotion.load(tmp_path / "packed", device="cpu", upstream_ckpt=str(hubert))
    assert predicted(model, table, tiny_corpus) == pytest.approx(shares(table), abs=1e-5)


def test_top_layers_in_bfloat16_and_a_gradient_that_is_not_finite(
    cli: Cli, tiny_corpus: TinyCorpus, hubert: Path, monkeypatch: pytest.MonkeyPatch
):
    norms = iter([1.0, 1.0, float("nan")])
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(next(norms)))
    layers = {"upstream": {"trainable": "top_layers", "layers": 1, "gradient_checkpointing": True}}
    more = layers | {"upstream.trainable": None, "upstream.rank": None, "runner.bf16": True}
    error = cli(*words(tiny_corpus, hubert, "half", **more), "-l", "1", code=1).error  # nothing above is computed
    assert "gradient norm is nan at step 3 in mixed precision (runner.bf16)" in error
    assert "the last checkpoint in half is intact" in error
    state = load_checkpoint("half/states-2.ckpt")
    assert all(name.startswith("model.encoder.layers.0.") for name in state["Upstream"])
    assert all(value.isfinite().all() and value.dtype == torch.float32 for value in state["Upstream"].values())


def test_overflow_in_float16_ends_the_run_where_it_does_not_pass(tmp_path: Path):
    training: Any = object.__new__(Training)
    training.runner, training.expdir = SimpleNamespace(is_suite=True), tmp_path
    training.amp, training.half, training.overflows, training.step = True, torch.float16, 0, 6
    bad, good, yes, no = torch.tensor(torch.inf), torch.tensor(1.0), torch.tensor(True), torch.tensor(False)
    for norm in [bad] * 20 + [good] + [bad] * 20:
        training.is_finite = yes
        training._check_overflow(norm)
    with pytest.raises(TrainingError, match=r"gradient of 21 steps in a row is not finite at step 7 .*\(runner.fp16\)"):
        training._check_overflow(bad)
    training.overflows, training.is_finite = 0, no
    with pytest.raises(TrainingError, match="the loss is not finite at step 7 in mixed precision"):
        training._check_overflow(bad)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"trainable": "lora", "rank": 0}, r"upstream.rank: .*greater than or equal to 1, got 0"),
        ({"trainable": "lora", "ranks": 4}, r"upstream.ranks: unknown key; nearest: rank"),
        ({"trainable": "lara"}, r"upstream.trainable: .*'lora', 'top_layers' or 'all', got 'lara'"),
        ({"rank": 4}, r"upstream.trainable: this key is required"),
        ({"trainable": "top_layers"}, r"upstream.layers: trainable top_layers needs it"),
        (
            {"trainable": "top_layers", "layers": 1, "rank": 4},
            r"upstream.rank: has no effect with trainable top_layers",
        ),
        ({"trainable": "all", "layers": 1}, r"upstream.layers: has no effect with trainable all"),
        ({"trainable": "lora", "targets": []}, r"upstream.targets: is empty"),
        ({"trainable": "lora", "lr": "fast"}, r"upstream.lr: .*valid number, got 'fast'"),
    ],
)
def test_section_is_checked(section: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        FinetuningSection.read(section, "upstream")


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        (
            "hubert",
            {"trainable": "top_layers", "layers": 3},
            r"upstream.layers: 3, but 2 transformer layers .* give 1 to 2",
        ),
        (
            "hubert",
            {"trainable": "lora", "targets": ["query", "q_proj"]},
            r"no linear layer named 'query'; it has k_proj, v_proj, q_proj, out_proj, intermediate_dense, output_dense",
        ),
        (
            "wavlm",
            {"trainable": "lora", "adapter_dropout": 0.1},
            r"upstream.adapter_dropout: .*set targets: feed_forward",
        ),
    ],
)
def test_upstream_lacks_what_the_section_names(models: Path, name: str, section: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        tuned(build(models, name), **section)


def test_upstream_of_another_kind_needs_targets_by_name(models: Path):
    plain = nn.ModuleDict({"block": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    for section, message in (
        ({"trainable": "lora"}, r"has no linear layer named 'q_proj'; it has block"),
        ({"trainable": "top_layers", "layers": 1}, r"upstream.layers: .*does not say which its transformer layers are"),
        (
            {"trainable": "lora", "targets": ["block"], "gradient_checkpointing": True},
            r"gradient_checkpointing: .*none",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            tuned(plain, **section)
    tuning = tuned(plain, trainable="lora", targets=["block"])
    tuning.train()
    assert len(tuning.parameters) == 2
    assert not plain["norm"].training


def test_command_lines_that_do_not_fit(
    cli: Cli, tiny_corpus: TinyCorpus, hubert: Path, monkeypatch: pytest.MonkeyPatch
):
    command = words(tiny_corpus, hubert, "exp")
    frozen = [word for word in command if word != "-f"]
    assert "upstream.trainable: lora needs -f" in cli(*frozen, code=1).error
    assert "a trained upstream (-f) changes with every step" in cli(*command, "--feature_store", "S", code=1).error
    both = {"runner.fp16": True, "runner.bf16": True}
    assert "runner.bf16: does not go with runner.fp16" in cli(*words(tiny_corpus, hubert, "exp", **both), code=1).error
    assert not Path("exp").exists()
    monkeypatch.setattr("s3prl_emotion.upstreams.finetuning.check.find_spec", lambda name: None)
    assert 'pip install "s3prl-emotion[peft]"' in cli(*command, code=1).error


def test_matrix_is_checked_before_its_first_run(
    tiny_corpus: TinyCorpus, hubert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    section = yaml.safe_load((heads_folder() / "emotion_corr_attn/config.yaml").read_text())
    section["downstream_expert"]["datarc"] |= {"root": str(tiny_corpus.root), "labels": str(tiny_corpus.labels)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(section))
    matrix = {
        "kind": "matrix", "title": "LoRA", "head": "emotion_corr_attn", "recipe": "recipe.yaml",
        "folds": ["fold1"], "seeds": [1],
        "upstreams": {"hubert": {"name": "hf_speech_custom", "ckpt": str(hubert)}},
        "systems": {"LoRA": {"overrides": {"upstream": {"trainable": "lora"}}}},
    }  # fmt: skip
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(matrix))
    words = ["benchmark", str(tmp_path / "matrix.yaml"), "--out", str(tmp_path / "out"), "--dry-run", "--no_measure"]
    assert suite.main(words) == 1
    assert "upstream.trainable: lora needs -f" in capfd.readouterr().err


@pytest.mark.full
def test_checkpoint_belongs_to_its_base_and_to_its_section(
    cli: Cli, lora: Finetuned, tiny_corpus: TinyCorpus, models: Path, tmp_path: Path
):
    ckpt = lora[0] / "dev-best.ckpt"
    save_model(tmp_path / "other", HubertModel, HubertConfig.from_pretrained(models / "hubert"), seed=1)
    shutil.copy(models / "hubert/preprocessor_config.json", tmp_path / "other")
    error = cli("-m", "evaluate", "-e", ckpt, "-k", tmp_path / "other", code=1).error
    assert "was trained with another upstream: weights" in error
    command = words(tiny_corpus, models / "hubert", "exp", **{"upstream.rank": None})
    assert "its Upstream does not fit this experiment (its model.encoder" in cli(*command, "-i", ckpt, code=1).error
    plain = words(tiny_corpus, models / "hubert", "exp", **{"upstream.rank": None, "upstream.trainable": None})
    error = cli(*plain, "-i", ckpt, code=1).error
    assert "holds LoRA adapters of its upstream, this run has all weights; give -f and the section upstream" in error
