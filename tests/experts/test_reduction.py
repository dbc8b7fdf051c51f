"""Fewer input dimensions: the modules against slicing and SVD, and saliency files in recipes of ``emotion_tcgru``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, TinyGradedCorpus
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import command, together
from store_tools import FAKES
from test_resume import different
from test_saliency import correlation, information, saliency
from tiny_text_models import save_tiny_bert
from torch import Tensor, nn

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import Needs, load_corpus
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.reduction import (
    PrincipalComponents,
    Reduction,
    SaliencySection,
    SalientDimensions,
    build,
    read,
)
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.saliency import PCAProjection, SaliencyFile, pca_projection, plots
from s3prl_emotion.upstreams.build import build_upstream
from s3prl_emotion.upstreams.lexical import LexicalSection, lexical_features

s3prl_emotion.register()

from s3prl.downstream.emotion_tcgru.model import TCGRUModel  # noqa: E402

LAYERS, WIDTH, CHANNELS = 4, 6, 8  # of the fake upstream, and of the tiny head's convolution
DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
UPSTREAM = ("-u", "fake_layers", "--upstream_path", FAKES, "--device", "cpu")
HEAD = (*UPSTREAM, "-d", "emotion_tcgru")
Make = Callable[..., SaliencyFile]
Train = Callable[..., Path]

quick = settings(derandomize=True, deadline=None, database=None, max_examples=30)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


# --- salient dimensions --------------------------------------------------------------------------------------------


@quick
@given(data=st.data())
def test_property_salient_dimensions_are_a_slice(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 9))
    kept = sorted(data.draw(st.sets(st.integers(0, width - 1), min_size=1)))
    features = draw(*data.draw(st.lists(st.integers(1, 4), max_size=3)), width).requires_grad_()
    module = SalientDimensions(width, kept)
    output = module(features)
    assert torch.equal(output, features[..., kept])
    assert module.output_dim == len(kept)
    output.sum().backward()
    assert features.grad.reshape(-1, width).sum(dim=0).nonzero().flatten().tolist() == kept
    assert not list(module.parameters())


def test_what_is_left_out_may_hold_anything() -> None:
    model = TCGRUModel(5, SalientDimensions(5, [0, 3]), conv_channels=4, gru_dim=3, embedding_dim=3)
    features, lengths = draw(2, 6, 5), torch.tensor([6, 4])
    spoilt = features.clone()
    spoilt[..., [1, 2, 4]] = torch.nan
    assert torch.equal(model(spoilt, lengths), model(features, lengths))


@pytest.mark.parametrize("kept", [[], [0, 0], [2, 1], [-1], [-1, 2], [6], [0, 6], [5, 5, 6]])
def test_bad_dimensions_are_refused(kept: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"saliency\.dimensions: must be numbers from 0 to 5 \(the upstream's .*once"):
        SalientDimensions(6, kept)


def test_dimensions_travel_with_the_weights() -> None:
    one, other = SalientDimensions(6, [0, 2, 5]), SalientDimensions(6, [1, 2, 3])
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(draw(3, 6)), draw(3, 6)[:, [0, 2, 5]])
    with pytest.raises(RuntimeError, match="size mismatch"):
        SalientDimensions(6, [1, 2]).load_state_dict(one.state_dict())


@pytest.mark.parametrize("reduction", ["salient", "pca"])
@pytest.mark.parametrize("kept", [1, 3, 6])
def test_parameters_fall_by_those_of_the_convolution(reduction: str, kept: int) -> None:
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    module = SalientDimensions(6, range(kept)) if reduction == "salient" else PrincipalComponents(6, kept)
    assert count(TCGRUModel(6)) - count(TCGRUModel(6, module)) == 3 * 256 * (6 - kept)


# --- principal components ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_principal_components_are_those_of_an_svd(kept: int) -> None:
    means, features = draw(40, 5, seed=1, dtype=torch.float64), draw(2, 7, 5)
    means = means * torch.tensor([3.0, 1.0, 0.3, 2.0, 0.1]) + 5
    module = PrincipalComponents(5, kept, pca_projection(means, kept))
    mean = means.numpy().mean(axis=0)
    _, _, rows = np.linalg.svd(means.numpy() - mean)
    expected = (features.double().numpy() - mean) @ rows[:kept].T
    signs = np.sign((rows[:kept] * module.components.double().numpy()).sum(axis=1))  # a direction has no sign
    np.testing.assert_allclose(module(features).numpy(), expected * signs, atol=1e-5)
    assert module(features).shape == (2, 7, module.output_dim) == (2, 7, kept)
    assert not list(module.parameters())


def test_projection_travels_with_the_weights() -> None:
    one = PrincipalComponents(5, 3, pca_projection(draw(40, 5, seed=1), 3))
    other = PrincipalComponents(5, 3)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(draw(4, 5)), one(draw(4, 5)))
    assert one(draw(4, 5)).any()


@pytest.mark.parametrize("value", [0.0, 1e30, float("nan"), float("inf")])
def test_projected_padding_counts_for_nothing(value: float) -> None:
    """What was padded is not 0 any more once the mean is taken off."""
    module = PrincipalComponents(5, 3, pca_projection(draw(40, 5, seed=1) + 2, 3))
    torch.manual_seed(0)
    model = TCGRUModel(5, module, conv_channels=4, gru_dim=3, embedding_dim=3)
    padded = draw(2, 6, 5)
    padded[1, 4:] = value
    padded.requires_grad_()
    output = model(padded, torch.tensor([6, 4]))
    torch.testing.assert_close(output[1:], model(draw(2, 6, 5)[1:, :4], torch.tensor([4])))
    output.sum().backward()
    assert padded.grad.isfinite().all()
    assert not padded.grad[1, 4:].any()


@pytest.mark.parametrize("components", [0, -1, 6])
def test_number_of_components_out_of_range_is_refused(components: int) -> None:
    with pytest.raises(ConfigError, match=rf"saliency\.components: must lie in 1\.\.5, got {components}"):
        PrincipalComponents(5, components)


# --- the section ---------------------------------------------------------------------------------------------------


def section(**values: Any) -> SaliencySection:
    return SaliencySection.read(values, "modelrc.saliency")


def resolved(from_checkpoint: bool = False, **values: Any) -> Reduction:
    return read(section(**values), None, None, None, from_checkpoint)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"modelrc\.saliency\.file: name the file that s3prl-emotion saliency wrote, or list dimensions"),
        ({"keep": 0.5}, r"modelrc\.saliency\.file: name the file"),
        ({"components": 3}, r"modelrc\.saliency\.components: only checkpoints have this key"),
        ({"dimensions": [1, 2], "keep": 0.5}, r"modelrc\.saliency\.keep: is the share of a file's dimensions"),
        ({"file": "nowhere.safetensors"}, r"nowhere\.safetensors: no such saliency file"),
    ],
)
def test_section_that_says_too_little_or_too_much_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(**values)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"keep": 0.0}, "keep"),
        ({"keep": 1.1}, "keep"),
        ({"keep": float("nan")}, "keep"),
        ({"components": 0}, "components"),
        ({"dimensions": [1.5]}, r"dimensions\.0"),
        ({"dimensions": ["1"]}, r"dimensions\.0"),
        ({"dimension": [1]}, "dimension: unknown key; nearest: dimensions"),
    ],
)
def test_bad_values_of_the_section_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"modelrc\.saliency\.{key}"):
        section(**values)


def test_module_of_a_section() -> None:
    assert build(None, 6) is None
    selecting = build(resolved(dimensions=[1, 4]), 6)
    assert isinstance(selecting, SalientDimensions)
    assert selecting.dimensions.tolist() == [1, 4]
    projecting = build(resolved(from_checkpoint=True, components=2, file="gone", keep=0.4), 6)
    assert isinstance(projecting, PrincipalComponents)
    assert projecting.output_dim == 2
    with pytest.raises(ConfigError, match="must be numbers from 0 to 5"):
        build(resolved(dimensions=[]), 6)


# --- in recipes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def make(cli: Cli, graded_corpus: TinyGradedCorpus, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make("ccs", *words, **overrides)``: ``s3prl-emotion saliency`` of the graded tones, without its plots."""
    monkeypatch.setattr(plots, "draw", lambda *ignored: [])

    def call(
        method: str,
        *words: object,
        out: str = "saliency.safetensors",
        upstream: tuple[object, ...] = UPSTREAM[:2],
        **overrides: object,
    ) -> SaliencyFile:
        line = ("saliency", *upstream, *UPSTREAM[2:], "-d", "emotion_tcgru", "-o", graded_corpus.overrides(**overrides))
        line = (*line, "--method", method, "--out", out, *words)
        assert suite.main([str(word) for word in line]) == 0
        return SaliencyFile.read(out)

    return call


def with_saliency(keep: float | None = 0.5, file: str = "saliency.safetensors", **more: object) -> dict[str, object]:
    values = {"file": file, **({} if keep is None else {"keep": keep}), **more}
    return {f"{MODEL}.saliency": {key: value for key, value in values.items() if value is not None}}


@pytest.fixture
def train(cli: Cli, graded_corpus: TinyGradedCorpus) -> Train:
    """``train("exp", *words, **overrides)``: train on the graded tones; folder."""

    def call(folder: str = "exp", *words: object, **overrides: object) -> Path:
        cli("-m", "train", *HEAD, "-p", folder, "-o", graded_corpus.overrides(**overrides), *words)
        return Path(folder)

    return call


def refused(cli: Cli, corpus: TinyGradedCorpus, *words: object, **overrides: object) -> str:
    """The line of a training that must not begin."""
    error = cli("-m", "train", *HEAD, "-p", "exp", "-o", corpus.overrides(**overrides), *words, code=1).error
    assert not Path("exp").exists()
    return error


def kept_by(folder: Path) -> list[int]:
    return load_checkpoint(folder / "dev-best.ckpt")["Downstream"]["model.reduction.dimensions"].tolist()


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "test_fold1_metrics.json").read_text())


def predictions(folder: Path) -> bytes:
    return (folder / "test_fold1_predictions.csv").read_bytes()


def most(scores: Tensor, number: int) -> list[int]:
    """Places of the greatest."""
    return sorted(np.argsort(-scores.double().numpy(), kind="stable")[:number].tolist())


def test_most_salient_dimensions_are_kept(make: Make, train: Train):
    file = make("ccs")
    folder = train(**with_saliency(0.5))
    expected = most(file.tensors["mean"].double().mean(dim=0), 3)  # layers are summed: so are their saliencies
    assert kept_by(folder) == expected
    state = load_checkpoint(folder / "dev-best.ckpt")["Downstream"]
    assert state["model.acoustic.convolution.weight"].shape == (CHANNELS, 3, 3)
    whole = train("whole")
    assert metrics(whole)["num_parameters"] - metrics(folder)["num_parameters"] == 3 * CHANNELS * 3
    written = metrics(folder)["config"]["downstream_expert"]["modelrc"]["saliency"]
    assert written == {"file": "saliency.safetensors", "keep": 0.5, "dimensions": expected, "components": None}
    assert kept_by(train("all", **with_saliency(None))) == list(range(WIDTH))
    assert kept_by(train("one", **with_saliency(0.01))) == most(file.tensors["mean"].double().mean(dim=0), 1)


def test_mutual_information_keeps_dimensions_too(make: Make, train: Train):
    file = make("mis", "-l", 1)
    assert kept_by(train("exp", "-l", 1, **with_saliency(0.5))) == most(file.tensors["mean"][0], 3)


def test_saliency_of_the_layer_that_is_taken(make: Make, train: Train):
    file = make("ccs")
    chosen = [most(file.tensors["mean"][layer], 2) for layer in range(LAYERS)]
    assert len({tuple(kept) for kept in chosen}) > 1
    for layer in (0, 2, 3):
        assert kept_by(train(f"layer{layer}", "-l", layer, **with_saliency(0.3))) == chosen[layer]


def test_dimensions_by_hand(train: Train, make: Make):
    folder = train(**with_saliency(None, None, dimensions=[0, 2, 5]))
    assert kept_by(folder) == [0, 2, 5]
    assert metrics(folder)["config"]["downstream_expert"]["modelrc"]["saliency"]["dimensions"] == [0, 2, 5]


def test_a_file_counts_more_than_dimensions_of_another_run(make: Make, train: Train):
    """As in a recipe that was copied from a run's ``config_….yaml``."""
    expected = most(make("ccs").tensors["mean"].double().mean(dim=0), 3)
    assert kept_by(train(**with_saliency(0.5, dimensions=[0], components=None))) == expected


@pytest.mark.parametrize("method", ["ccs", pytest.param("pca", marks=pytest.mark.full)])
def test_checkpoint_works_without_the_file(
    cli: Cli, make: Make, train: Train, graded_corpus: TinyGradedCorpus, method: str
):
    file = make(method, "-l", 1)
    folder = train("exp", "-l", 1, **with_saliency(0.5))
    state = load_checkpoint(folder / "dev-best.ckpt")
    before = predictions(folder)
    file.path.unlink()
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt", "-t", "test", "--upstream_path", FAKES)
    assert predictions(folder) == before
    audio = graded_corpus.root / "s0_0.wav"
    said = cli("-m", "inference", "-e", folder / "dev-best.ckpt", "-t", audio, "--upstream_path", FAKES).out
    with (folder / "test_fold1_predictions.csv").open(newline="") as rows:
        expected = next(row for row in csv.DictReader(rows) if row["FileName"] == "s0_0.wav")
    assert f"EmoAct       {float(expected['EmoAct_pred']):.4f}" in said
    cli("-m", "train", "-e", folder, "--upstream_path", FAKES, "-o", "config.runner.total_steps=9")
    after = load_checkpoint(folder / "states-9.ckpt")["Downstream"]
    names = [name for name in after if name.startswith("model.reduction")]
    assert names
    assert different({name: after[name] for name in names}, {name: state["Downstream"][name] for name in names}) == []


@pytest.mark.full
def test_resumed_with_the_file_gone(cli: Cli, make: Make, train: Train):
    file, options = make("ccs"), with_saliency(0.5)
    whole = train("whole", **options)
    train("parts", **options, **{"runner.total_steps": 3})
    file.path.unlink()
    cli("-m", "train", *HEAD, "-p", "parts", "-a", "-o", "config.runner.total_steps=6")
    states = [load_checkpoint(f"{folder}/states-6.ckpt") for folder in (whole, "parts")]
    assert different(states[0]["Downstream"], states[1]["Downstream"]) == []
    assert predictions(whole) == predictions(Path("parts"))


def test_principal_components_of_a_layer(make: Make, train: Train):
    file = make("pca", "-l", 2)
    folder = train("exp", "-l", 2, **with_saliency(0.5))
    state = load_checkpoint(folder / "dev-best.ckpt")["Downstream"]
    assert torch.equal(state["model.reduction.components"], file.tensors["pca_components"][0, :3])
    assert torch.equal(state["model.reduction.mean"], file.tensors["pca_mean"][0])
    assert state["model.acoustic.convolution.weight"].shape == (CHANNELS, 3, 3)
    written = metrics(folder)["config"]["downstream_expert"]["modelrc"]["saliency"]
    assert (written["components"], written["dimensions"]) == (3, None)


def test_principal_components_need_a_layer(cli: Cli, make: Make, graded_corpus: TinyGradedCorpus):
    make("pca")
    assert "components are of one layer, but without -l all are summed" in refused(
        cli, graded_corpus, **with_saliency(0.5)
    )


def test_layers_that_the_file_does_not_cover_are_refused(cli: Cli, make: Make, graded_corpus: TinyGradedCorpus):
    make("ccs", "-l", 1)
    assert "without -l all are summed" in refused(cli, graded_corpus, **with_saliency())
    error = refused(cli, graded_corpus, "-l", 2, **with_saliency())
    assert "holds layer 1" in error
    assert "not -l 2" in error


def relabelled(corpus: TinyGradedCorpus, path: Path) -> TinyGradedCorpus:
    """The corpus with one grade changed of an utterance that is trained on."""
    with corpus.labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    changed = [row for row in rows if row["SpkrID"] in ("s2", "s3", "s4", "s5")]
    for row in changed:
        row["EmoAct"] = "3.14"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return TinyGradedCorpus(corpus.root, path.resolve())


def test_saliency_of_something_else_is_refused(cli: Cli, make: Make, graded_corpus: TinyGradedCorpus, tmp_path: Path):
    make("ccs")
    options = with_saliency()
    assert "other data or another fold" in refused(cli, graded_corpus, "-v", "fold2", **options)
    assert "other labels" in refused(cli, relabelled(graded_corpus, tmp_path / "other.csv"), **options)
    Path("other.yaml").write_text("seed: 1")
    assert "another upstream" in refused(cli, graded_corpus, "-g", "other.yaml", **options)
    Path("wide.yaml").write_text("dim: 8")
    assert "has 6 dimensions, the upstream has 8" in refused(cli, graded_corpus, "-g", "wide.yaml", **options)
    Path("deep.yaml").write_text("layers: 5")
    assert "another upstream" in refused(cli, graded_corpus, "-g", "deep.yaml", **options)
    assert "max_duration" in refused(cli, graded_corpus, **options, **{f"{DATA}.max_duration": 0.2})
    Path("saliency.safetensors").write_bytes(b"no saliency")
    assert "damaged, or not a saliency file" in refused(cli, graded_corpus, **options)


def test_audio_cut_alike_is_taken(make: Make, train: Train):
    cut = {f"{DATA}.max_duration": 0.2}
    make("ccs", **cut)
    assert len(kept_by(train(**with_saliency(), **cut))) == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dimensions": [0, 6]}, "modelrc.saliency.dimensions: must be numbers from 0 to 5"),
        ({"dimensions": [3, 1]}, "modelrc.saliency.dimensions: must be numbers from 0 to 5"),
        ({"dimensions": []}, "modelrc.saliency.dimensions: must be numbers from 0 to 5"),
        ({"components": 3}, "modelrc.saliency.components: only checkpoints have this key"),
        ({"keep": 0.0, "file": "x"}, "modelrc.saliency.keep"),
        ({"fil": "x"}, "modelrc.saliency.fil: unknown key"),
        ({"file": "nowhere"}, "nowhere: no such saliency file"),
    ],
)
def test_recipe_that_does_not_fit(cli: Cli, graded_corpus: TinyGradedCorpus, values: dict[str, Any], said: str):
    assert said in refused(cli, graded_corpus, **{f"{MODEL}.saliency": values})


@pytest.mark.full
def test_two_processes_keep_the_same(make: Make, graded_corpus: TinyGradedCorpus, tmp_path: Path):
    expected = most(make("ccs").tensors["mean"].double().mean(dim=0), 3)
    words = ("-m", "train", *HEAD, "-p", "two", "-o", graded_corpus.overrides(**with_saliency()))
    left = together(tmp_path, 2, command, words)
    assert [process.value for process in left] == [0, 0], left
    assert kept_by(tmp_path / "two") == expected


def test_projection_of_a_file_may_be_left_to_a_checkpoint() -> None:
    fitted = pca_projection(draw(30, 4, seed=2), 2)
    held = Reduction(section(components=2, file="gone"), None, PCAProjection(*fitted.__dict__.values()))
    module = build(held, 4)
    assert isinstance(module, PrincipalComponents)
    torch.testing.assert_close(module(draw(3, 4)), fitted.transform(draw(3, 4)))


# --- several streams -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of random weights with 16 dimensions."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def streams(bert: Path) -> dict[str, object]:
    """Overrides: two transcripts' embeddings joined early to the upstream's six dimensions."""
    both = [{"model": str(bert), "layer": layer} for layer in (2, 0)]
    return {f"{MODEL}.lexical": both, f"{MODEL}.lexical_join": "early"}


@pytest.mark.parametrize("method", ["ccs", pytest.param("mis", marks=pytest.mark.full)])
@pytest.mark.parametrize("ranking", ["within", "across"])
def test_lexical_streams_are_pruned_with_the_acoustic_one(
    make: Make, train: Train, streams: dict[str, object], graded_corpus: TinyGradedCorpus, method: str, ranking: str
):
    words = ("-l", 1, *(() if ranking == "within" else ("--ranking", "across")))
    file = make(method, *words, **streams)
    assert [(item.dims, bool(item.lexical)) for item in file.header.streams] == [(6, False), (16, True), (16, True)]
    assert file.header.format == 2
    where = {"root": str(graded_corpus.root), "labels": str(graded_corpus.labels)}
    data = DataSection(**where, train_batch_size=4, eval_batch_size=4)
    corpus = load_corpus(data, Needs(classes=False, dimensions=True))
    rows = sorted(corpus.split("train"), key=lambda item: item.name)
    labels = torch.tensor([item.dimensions for item in rows], dtype=torch.float64).numpy()
    sections: Any = streams[f"{MODEL}.lexical"]
    said = lexical_features(rows, [LexicalSection.read(values, "") for values in sections])
    upstream = build_upstream("fake_layers", None, None, "cpu")
    with torch.no_grad():
        layers = [upstream([torch.from_numpy(load_audio(item.path))])["hidden_states"][1][0] for item in rows]
    heard = [layer.double().mean(dim=0).float().double() for layer in layers]  # as a store keeps them
    joined = np.stack([np.concatenate([one, said[item.name]]) for one, item in zip(heard, rows, strict=True)])
    bins = min(16, max(2, math.isqrt(len(rows) // 5)))
    measure = correlation if method == "ccs" else (lambda a, b: information(a, b, bins))
    parts = np.split(joined, [6, 22], axis=1) if ranking == "within" else [joined]
    expected = np.concatenate([saliency(part, labels, measure) for part in parts], axis=1)
    np.testing.assert_allclose(file.tensors["scores"][0].numpy(), expected, atol=1e-5)
    mean, sizes = file.tensors["mean"][0], [6, 16, 16] if ranking == "within" else [38]
    kept, start = [], 0
    for size in sizes:
        kept += [start + number for number in most(mean[start : start + size], int(0.5 * size))]
        start += size
    once = {"runner.total_steps": 1, "runner.eval_step": 1}
    assert kept_by(train("exp", "-l", 1, **streams, **with_saliency(0.5), **once)) == kept


def test_saliency_without_the_joined_text_is_refused(
    cli: Cli, make: Make, streams: dict[str, object], graded_corpus: TinyGradedCorpus
):
    late = streams | {f"{MODEL}.lexical_join": "late"}
    make("ccs", **late)
    assert "lacks the lexical embedding that modelrc.lexical_join: early joins to the input" in refused(
        cli, graded_corpus, **streams, **with_saliency()
    )
    make("ccs", **streams)
    assert "covers a lexical embedding too; set modelrc.lexical_join: early, or run" in refused(
        cli, graded_corpus, **late, **with_saliency()
    )
    sections: Any = streams[f"{MODEL}.lexical"]
    turned = streams | {f"{MODEL}.lexical": sections[::-1]}
    assert "other transcripts, or another text encoder or layer of it" in refused(
        cli, graded_corpus, **turned, **with_saliency()
    )


def test_members_of_concat_are_streams(make: Make, tmp_path: Path):
    (tmp_path / "two.yaml").write_text("upstreams: [{name: fake_layers, layer: 1}, {name: logmel26, layer: 0}]")
    file = make("ccs", upstream=("-u", "concat", "-g", tmp_path / "two.yaml"))
    assert [(item.name, item.dims) for item in file.header.streams] == [("fake_layers", 6), ("logmel26", 26)]
    header, lines = file.header, file.path.with_suffix(".csv").read_text().splitlines()
    assert lines[0] == "layer,dimension,activation,valence,dominance,mean,rank,stream"
    assert lines[1].endswith(",fake_layers")
    assert lines[-1].endswith(",logmel26")
    assert sorted(file.tensors["ranks"][0, :6].tolist()) == list(range(6))
    assert len(file.dimensions(0.5, None)) == 3 + 13
    SaliencyFile(tmp_path / "old", header.model_copy(update={"streams": (), "format": 1}), file.tensors).write()
    old = SaliencyFile.read(tmp_path / "old")  # from before files named their streams
    assert old.header.format == 1
    assert old.dimensions(0.5, None).tolist() == most(file.tensors["mean"][0], 16)


def test_components_are_not_ranked(cli: Cli, graded_corpus: TinyGradedCorpus, capfd: pytest.CaptureFixture[str]):
    words = ("saliency", *HEAD, "-l", "1", "--method", "pca", "--ranking", "within", "--out", "x.safetensors")
    assert suite.main([str(word) for word in words]) == 1
    assert "--ranking: principal components combine all dimensions" in capfd.readouterr().err
