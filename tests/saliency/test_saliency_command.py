"""``s3prl-emotion saliency`` from audio to file and plots, and what a file refuses."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import RATE, Cli, Outcome, tone
from full_disk import fill_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from store_tools import FAKES, flip, source_of
from test_extract import error_of
from test_resume import different
from test_saliency import DIMS, INFORMATIVE, NUISANCE, information, planted
from test_saliency import saliency as reference
from tiny_models import save_tiny_hubert
from torch import Tensor

import s3prl_emotion.cli
from s3prl_emotion import rng
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import DIMENSIONS, Needs, Utterance, fingerprint, load, load_corpus
from s3prl_emotion.errors import AudioError, ConfigError, EmotionError, LabelError, StoreError, UsageError
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.saliency import (
    PCAProjection,
    SaliencyFile,
    compute,
    pairwise_mutual_information,
    pca_projection,
    plots,
)
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.upstreams import saliency_format
from s3prl_emotion.upstreams.build import build_upstream
from s3prl_emotion.upstreams.saliency_format import KEY, Header

TARGETS = ("activation", "valence", "dominance")
LAYERS, WIDTH = 4, 16  # of the tiny HuBERT
DRAW = plots.draw
Suite = Callable[..., Outcome]


# --- a corpus with dimensions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RatedCorpus:
    """Tones of six speakers in three folds with activation, valence and dominance (1-7), 0.1 to 0.22 s."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "audio"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.csv"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    def rows(self) -> list[dict[str, str]]:
        with self.labels.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def relabel(self, rows: list[dict[str, str]]) -> None:
        write_table(self.labels, rows)

    def data(self, **more: Any) -> DataSection:
        return DataSection(**self.datarc() | more)

    def datarc(self) -> dict[str, Any]:
        return {"root": str(self.root), "labels": str(self.labels), "train_batch_size": 4, "eval_batch_size": 4}

    def split(self, name: str = "train", **more: Any) -> tuple[Utterance, ...]:
        load._load.cache_clear()
        return load_corpus(self.data(**more), Needs(classes=False, dimensions=True)).split(name)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_recipe(path: Path, datarc: dict[str, Any], modelrc: dict[str, Any] | None = None) -> None:
    runner = dict.fromkeys(("total_steps", "gradient_clipping", "gradient_accumulate_steps"), 1)
    runner |= dict.fromkeys(("log_step", "eval_step", "save_step"), 1)
    head = {"datarc": datarc, "modelrc": modelrc or {"whatever": "the head checks it"}}
    recipe = {"runner": runner, "optimizer": {"name": "TorchOptim"}, "downstream_expert": head}
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")


def write_rated_corpus(folder: Path) -> RatedCorpus:
    made = RatedCorpus(folder)
    made.root.mkdir(parents=True)
    rows = []
    for number in range(36):
        speaker, name = number % 6, f"ü{number:02d}.wav"
        pitch, seconds = 100.0 + 37.0 * ((7 * number) % 13), 0.1 + 0.01 * (number % 13)
        soundfile.write(made.root / name, tone(pitch, seconds, number), RATE)
        values = [1 + pitch / 100, 1 + (5 * number) % 7, 4 + math.sin(number)]
        row = {"FileName": name, "SpkrID": f"s{speaker}", "Fold": f"fold{speaker // 2 + 1}"}
        rows.append(row | dict(zip(DIMENSIONS, map("{:.3f}".format, values), strict=True)))
    made.relabel(rows)
    write_recipe(made.recipe, made.datarc())
    return made


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> RatedCorpus:
    """Shared: tests must not write into it."""
    return write_rated_corpus(tmp_path_factory.mktemp("rated"))


@pytest.fixture
def own(rated: RatedCorpus, tmp_path: Path) -> RatedCorpus:
    """A copy at a place of the test's own, to damage."""
    shutil.copytree(rated.folder, tmp_path / "own")
    made = RatedCorpus(tmp_path / "own")
    write_recipe(made.recipe, made.datarc())
    return made


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Words that name a tiny HuBERT of random weights."""
    folder = save_tiny_hubert(tmp_path_factory.mktemp("models") / "hubert")
    return "-u", "hf_speech_custom", "-k", folder, "--device", "cpu"


@pytest.fixture
def suite(cli: Cli, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    """``suite("-u", …)``: the command inside this process, in an empty working directory; nothing is drawn."""
    monkeypatch.setattr(plots, "draw", lambda saliency, keep: [])

    def call(*words: object, code: int = 0) -> Outcome:
        load._load.cache_clear()  # as in a process of its own
        capfd.readouterr()
        got = s3prl_emotion.cli.main(["saliency", *(str(word) for word in words)])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        assert "Traceback" not in outcome.err
        return outcome

    yield call
    load._load.cache_clear()


@pytest.fixture
def drawing(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """As ``suite``, with plots, which take longer than all the rest."""
    monkeypatch.setattr(plots, "draw", DRAW)
    return suite


def of(made: RatedCorpus, out: object, method: str = "ccs") -> tuple[object, ...]:
    return "-c", made.recipe, "--method", method, "--out", out


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG that can be decoded."""
    from matplotlib.image import imread

    pixels = imread(path, format="png")
    assert pixels.std() > 0.01  # something is drawn
    return pixels.shape[1], pixels.shape[0]


def means_of(words: tuple[object, ...], utterances: tuple[Utterance, ...], samples: int | None = None) -> Tensor:
    """Utterance means ``[U, L, N]``, straight from the model; computed in float64, in float32 as a store keeps them."""
    model = build_upstream(str(words[1]), str(words[3]), None, "cpu")
    rows = []
    with torch.no_grad():
        for item in utterances:
            hidden = model([torch.from_numpy(load_audio(item.path)[:samples])])["hidden_states"]
            rows.append(torch.stack([layer[0].double().mean(dim=0) for layer in hidden]))
    return torch.stack(rows).float().double()


def expected_scores(means: Tensor, utterances: tuple[Utterance, ...]) -> np.ndarray:
    """CCS from the papers' equations in loops, ``[L, D, N]``."""
    labels = np.array([item.dimensions for item in utterances])
    return np.stack([reference(means[:, layer].numpy(), labels) for layer in range(means.shape[1])])


# --- from audio to files ---------------------------------------------------------------------------------------------


@pytest.mark.full
def test_ccs_of_all_layers_with_and_without_a_store(drawing: Suite, rated: RatedCorpus, hubert: tuple[object, ...]):
    told = drawing(*hubert, *of(rated, "plain/a.saliency"), "--layers")
    for folder in ("cold", "warm"):
        drawing(*hubert, *of(rated, f"{folder}/a.saliency"), "--feature_store", "STORE")
    names = ["a.csv", "a.saliency", "a_layers.png", "a_scatter.png", "a_sorted.png"]
    for folder in ("plain", "cold", "warm"):
        assert sorted(path.name for path in Path(folder).iterdir()) == names
        for name in ("a.csv", "a.saliency"):
            assert Path(folder, name).read_bytes() == Path("plain", name).read_bytes()
    for name in names[2:]:
        assert min(png_size(Path("plain", name))) > 300
        assert str(Path("plain", name)) in told.out

    found, train = SaliencyFile.read("plain/a.saliency"), rated.split()
    assert len(train) > 12
    expected = expected_scores(means_of(hubert, train), train)
    assert expected.shape == (LAYERS, 3, WIDTH)
    np.testing.assert_allclose(found.tensors["scores"].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(found.tensors["mean"].numpy(), expected.mean(axis=1), atol=1e-6)
    ranks = found.tensors["ranks"]
    assert ranks.dtype == torch.int64
    for layer in range(LAYERS):
        order = ranks[layer].argsort()
        assert (found.tensors["mean"][layer][order].diff() <= 0).all()
    layers = expected.mean(axis=(1, 2))
    assert found.salient_layer() == layers.argmax()
    np.testing.assert_allclose(found.layer_scores(per_target=True).numpy(), expected.mean(axis=2).T, atol=1e-6)

    ranking = [line.split() for line in told.out.splitlines() if line.startswith("   ")]
    assert [int(line[1]) for line in ranking] == (-layers).argsort().tolist()
    assert [line[-2:] == ["most", "salient"] for line in ranking] == [True] + [False] * (LAYERS - 1)
    assert [float(line[2]) for line in ranking] == pytest.approx(sorted(layers, reverse=True), abs=1e-4)


def test_header_tells_what_made_the_file(suite: Suite, rated: RatedCorpus, hubert: tuple[object, ...]) -> None:
    suite(*hubert, *of(rated, "a"), "-v", "fold2", "-s", "hidden_states", "--feature_store", "S", "--keep", "0.5")
    header = SaliencyFile.read("a").header
    assert (header.method, header.targets, header.layers) == ("ccs", TARGETS, (0, 1, 2, 3))
    assert (header.available, header.dims, header.fold, header.device) == (LAYERS, WIDTH, "fold2", "cpu")
    assert header.upstream["upstream"] == "hf_speech_custom"
    assert header.training.utterances == len(rated.split(test_fold="fold2"))
    assert header.versions["torch"] == torch.__version__.split("+")[0]
    assert len(header.recipe) == 64
    assert "-v fold2 --method ccs" in header.command
    for word in ("--out", "--feature_store", "--keep"):
        assert word not in header.command


def test_table_beside_the_file(drawing: Suite, rated: RatedCorpus, hubert: tuple[object, ...]) -> None:
    drawing(*hubert, *of(rated, "x/a.b.safetensors"), "-l", LAYERS - 1)
    found = SaliencyFile.read("x/a.b.safetensors")
    assert found.layers == (LAYERS - 1,)
    with Path("x/a.b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer", "dimension", *TARGETS, "mean", "rank"]
    assert [(int(row["layer"]), int(row["dimension"])) for row in rows] == [(3, k) for k in range(WIDTH)]
    assert [float(row["mean"]) for row in rows] == pytest.approx(found.tensors["mean"][0].tolist(), abs=1e-8)
    assert [float(row["valence"]) for row in rows] == pytest.approx(found.tensors["scores"][0, 1].tolist(), abs=1e-8)
    assert [int(row["rank"]) for row in rows] == found.tensors["ranks"][0].tolist()
    assert sorted(path.name for path in Path("x").glob("*.png")) == ["a.b_scatter.png", "a.b_sorted.png"]


@pytest.mark.parametrize("method", ["ccs", "mis"])
def test_one_layer_is_that_layer_of_all(suite: Suite, rated: RatedCorpus, hubert: tuple[object, ...], method: str):
    suite(*hubert, *of(rated, "all", method), "--feature_store", "STORE")
    suite(*hubert, *of(rated, "one", method), "-l", "2")
    suite(*hubert, *of(rated, "stored", method), "-l", "2", "--feature_store", "STORE")  # from that of all layers
    assert Path("one").read_bytes() == Path("stored").read_bytes()
    whole, one = SaliencyFile.read("all"), SaliencyFile.read("one")
    for name in ("scores", "mean", "ranks"):
        torch.testing.assert_close(one.tensors[name][0], whole.tensors[name][2], atol=1e-7, rtol=0)
    for keep in (0.3, 0.8):
        assert torch.equal(one.dimensions(keep, 2), whole.dimensions(keep, 2))
        assert torch.equal(one.dimensions(keep, 2), whole.dimensions(keep, -2))
    whole.check_upstream(one.header.upstream, 2)
    one.check_upstream(whole.header.upstream, 2)
    for layer in (None, -1, -2, 1):  # the layers above were not computed, and nothing tells how many there are
        with pytest.raises(ConfigError, match="holds layer 2, "):
            one.check_upstream(whole.header.upstream, layer)
    assert one.salient_layer() == 2
    assert (whole.tensors["scores"] >= 0).all()


def test_components(
    drawing: Suite, rated: RatedCorpus, hubert: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    drawing(*hubert, *of(rated, "p.safetensors", "pca"))
    assert "arbitrary" not in caplog.text
    found, means = SaliencyFile.read("p.safetensors"), means_of(hubert, rated.split())
    assert png_size(Path("p_variance.png"))
    assert not Path("p_sorted.png").exists()
    header, *rows = Path("p.csv").read_text().splitlines()
    assert header == "layer,component,variance,share"
    assert len(rows) == LAYERS * WIDTH
    assert sum(float(row.split(",")[3]) for row in rows[:WIDTH]) == pytest.approx(1, abs=1e-6)
    for keep, number in ((0.5, 8), (0.4, 6), (0.01, 1), (1.0, 16)):
        ours, direct = found.projection(keep, 1), pca_projection(means[:, 1], number)
        assert isinstance(ours, PCAProjection)
        torch.testing.assert_close(ours.components, direct.components, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.transform(means), direct.transform(means), atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.variance, direct.variance, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ours.total_variance, direct.total_variance, atol=1e-6, rtol=1e-5)
    for call in (lambda: found.dimensions(0.5, 1), found.salient_layer, found.layer_scores):
        with pytest.raises(ConfigError, match="principal components"):
            call()
    with pytest.raises(ConfigError, match=r"components are of one layer, .* give -l"):
        found.projection(0.5, None)
    found.check_upstream(found.header.upstream, 3)
    with pytest.raises(ConfigError, match="give -l"):
        found.check_upstream(found.header.upstream, None)


def test_an_upstream_of_one_layer_needs_no_layer(suite: Suite, rated: RatedCorpus) -> None:
    for method in ("ccs", "pca"):
        suite("-u", "fbank_no_cmvn", "--device", "cpu", *of(rated, method, method))
    scores, components = SaliencyFile.read("ccs"), SaliencyFile.read("pca")
    assert (scores.layers, scores.header.available, scores.header.dims) == ((0,), 1, 240)
    assert len(scores.dimensions(0.1, None)) == 24
    assert components.projection(0.1, None).components.shape == (24, 240)
    for found in (scores, components):
        found.check_upstream(found.header.upstream, None)
        found.check_upstream(found.header.upstream, 0)


# --- only the training split -----------------------------------------------------------------------------------------


def test_audio_of_dev_and_test_is_never_read(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]) -> None:
    suite(*hubert, *of(own, "a"))
    train = {item.name for item in own.split()}
    others = [path for path in own.root.iterdir() if path.name not in train]
    assert len(others) > 12
    for path in others:
        path.write_bytes(b"nothing that could be decoded")
    suite(*hubert, *of(own, "b"))
    assert Path("a").read_bytes() == Path("b").read_bytes()
    (own.root / sorted(train)[3]).write_bytes(b"nothing that could be decoded")
    assert sorted(train)[3] in error_of(suite(*hubert, *of(own, "c"), code=1))
    assert not list(Path().glob("c*"))


def test_labels_of_dev_and_test_change_nothing(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]) -> None:
    suite(*hubert, *of(own, "a"))
    train = {item.name for item in own.split()}
    rows = own.rows()
    for row in rows:
        if row["FileName"] not in train:
            row |= dict.fromkeys(DIMENSIONS, "1")
    own.relabel(rows)
    suite(*hubert, *of(own, "b"))
    assert Path("a").read_bytes() == Path("b").read_bytes()


@pytest.mark.parametrize("split", ["test", "dev", "Test1", "train,test"])
def test_another_split_is_refused(suite: Suite, rated: RatedCorpus, hubert: tuple[object, ...], split: str) -> None:
    told = suite(*hubert, *of(rated, "a"), "--split", split, code=1)
    assert f"--split {split}" in error_of(told)
    assert "leak" in error_of(told)
    assert not list(Path().iterdir())
    suite(*hubert, *of(rated, "a"), "--split", "train")


def test_a_recipe_that_trains_on_another_split_is_refused(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]):
    told = suite(*hubert, *of(own, "a"), "-o", "config.runner.train_dataloader='test'", code=1)
    assert "runner.train_dataloader test" in error_of(told)


@pytest.mark.parametrize("method", ["ccs", "mis", "pca"])
def test_bytes_do_not_depend_on_the_order_of_rows(
    suite: Suite, own: RatedCorpus, hubert: tuple[object, ...], method: str
) -> None:
    rows = own.rows()
    contents = []
    for number in range(3):
        own.relabel(random.Random(number).sample(rows, len(rows)))
        suite(*hubert, *of(own, f"{number}.s", method), "-l", "1")
        contents.append(Path(f"{number}.s").read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_fold_is_the_recipes_and_else_the_flags(
    suite: Suite, own: RatedCorpus, hubert: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    suite(*hubert, *of(own, "first"), "-l", "0")
    suite(*hubert, *of(own, "third"), "-l", "0", "-v", "fold3")
    write_recipe(own.recipe, own.datarc() | {"test_fold": "fold3"})
    suite(*hubert, *of(own, "recipe"), "-l", "0")
    assert "ignored" not in caplog.text
    suite(*hubert, *of(own, "both"), "-l", "0", "-v", "fold1")
    assert "-v fold1 is ignored" in caplog.text
    files = {name: SaliencyFile.read(name) for name in ("first", "third", "recipe", "both")}
    assert {name: item.header.fold for name, item in files.items()} == {
        "first": "fold1", "third": "fold3", "recipe": "fold3", "both": "fold3",
    }  # fmt: skip
    for name in ("recipe", "both"):
        assert torch.equal(files[name].tensors["scores"], files["third"].tensors["scores"])
    assert not torch.equal(files["first"].tensors["scores"], files["third"].tensors["scores"])
    assert "no fold 'fold9'" in error_of(
        suite(*hubert, *of(own, "x"), "-o", "config.downstream_expert.datarc.test_fold='fold9'", code=1)
    )


@pytest.mark.full
def test_audio_is_cut_as_in_training(suite: Suite, rated: RatedCorpus, hubert: tuple[object, ...]) -> None:
    cut = "config.downstream_expert.datarc.max_duration=0.12,,config.downstream_expert.datarc.num_workers=1"
    suite(*hubert, *of(rated, "a"), "-o", cut)
    found, train = SaliencyFile.read("a"), rated.split()
    expected = expected_scores(means_of(hubert, train, samples=1920), train)
    np.testing.assert_allclose(found.tensors["scores"].numpy(), expected, atol=1e-6)
    whole = expected_scores(means_of(hubert, train), train)
    assert np.abs(whole - expected).max() > 1e-3
    found.check_corpus(train, max_duration=0.12)
    for other in (None, 0.13):
        with pytest.raises(LabelError, match=f"max_duration 0.12 s, the recipe's is {other}"):
            found.check_corpus(train, other)


def test_a_heads_own_recipe_and_rows(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]) -> None:
    """Rows that the head cannot learn from are not looked at."""
    own.relabel([{**row, "EmoClass": "ABC"[number // 6 % 3]} for number, row in enumerate(own.rows())])
    two = {**own.datarc(), "classes": ["A", "B"]}
    data = ",,".join(f"config.downstream_expert.datarc.{name}={value!r}" for name, value in two.items())
    words = (*hubert, "--method", "ccs", "-l", "1")
    suite(*words, "-d", "emotion_corr_attn", "--out", "default", "-o", data)
    write_recipe(own.recipe, two, modelrc={"pooling": "mean"})
    suite(*words, "-d", "emotion_corr_attn", "-c", own.recipe, "--out", "named")
    write_recipe(own.recipe, own.datarc())
    suite(*words, "-c", own.recipe, "--out", "all")
    default, named, every = (SaliencyFile.read(name) for name in ("default", "named", "all"))
    assert torch.equal(default.tensors["scores"], named.tensors["scores"])
    assert default.header.training == named.header.training
    assert default.header.recipe != named.header.recipe
    assert "-d emotion_corr_attn" in default.header.command
    assert (named.header.training.utterances, every.header.training.utterances) == (12, 18)
    load._load.cache_clear()
    named.check_corpus(load_corpus(DataSection(**two), Needs()).split("train"))
    with pytest.raises(LabelError, match="from 18 training utterances"):
        every.check_corpus(load_corpus(DataSection(**two), Needs()).split("train"))
    told = suite(*words, "-d", "emotion_corr_attn", "-c", own.recipe, "--out", "x", code=1)
    assert "modelrc.whatever: unknown key" in error_of(told)


# --- planted signals -------------------------------------------------------------------------------------------------

PLANTED = '''
"""Frames are samples: what was written into the audio comes out again."""
import torch

class UpstreamExpert(torch.nn.Module):
    def forward(self, wavs):
        framed = [wav[: len(wav) // {dims} * {dims}].view(1, -1, {dims}) for wav in wavs]
        return {{"hidden_states": [torch.cat(framed)]}}

    def get_downsample_rates(self, key):
        return {dims}
'''


def write_planted(folder: Path, utterances: int = 460, curved: bool = False) -> RatedCorpus:
    """A corpus whose utterance means, under the upstream beside it, are those of :func:`test_saliency.planted`."""
    upstream = folder / "upstreams" / "planted"
    upstream.mkdir(parents=True)
    (upstream / "expert.py").write_text(PLANTED.format(dims=DIMS))
    (upstream / "hubconf.py").write_text(
        "from .expert import UpstreamExpert\n\ndef planted(**kwargs):\n    return UpstreamExpert()\n"
    )
    made = RatedCorpus(folder)
    made.root.mkdir()
    embeddings, labels = planted(0, curved)
    generator = np.random.default_rng(1)
    rows = []
    for number in range(utterances):
        mean = embeddings[number].numpy() / 40
        apart = generator.normal(scale=0.01, size=DIMS)
        frames = np.stack([mean + apart, mean, mean - apart])
        name = f"u{number:03d}.wav"
        soundfile.write(made.root / name, frames.ravel().astype(np.float32), RATE, subtype="FLOAT")
        part = {0: "Test1", 1: "Development"}.get(number % 23, "Train")
        row = {"FileName": name, "SpkrID": f"{part}{number % 2}", "Split_Set": part}
        rows.append(row | dict(zip(DIMENSIONS, labels[number].tolist(), strict=True)))
    made.relabel(rows)
    write_recipe(made.recipe, made.datarc())
    return made


def test_planted_dimensions_are_found_and_components_miss_them(suite: Suite, tmp_path: Path) -> None:
    made = write_planted(tmp_path / "planted")
    words = ("-u", "planted", "--upstream_path", made.folder / "upstreams", "--device", "cpu")
    share = len(INFORMATIVE) / DIMS
    for method in ("ccs", "mis"):
        suite(*words, *of(made, method, method), "--keep", share)
        found = SaliencyFile.read(method)
        assert found.header.training.utterances == 420
        assert found.dimensions(share, None).tolist() == list(INFORMATIVE)
        assert sorted(found.tensors["ranks"][0, list(INFORMATIVE)].tolist()) == list(range(len(INFORMATIVE)))
    suite(*words, *of(made, "pca", "pca"))
    components = SaliencyFile.read("pca").projection(share, None).components.abs()
    assert components[:, list(INFORMATIVE)].max() < 0.02
    assert set(components.amax(dim=0).topk(len(NUISANCE)).indices.tolist()) == set(NUISANCE)


def test_mutual_information_of_cells_that_are_full() -> None:
    """Two counts share a float32: each must hold as many utterances as are counted at once."""
    generator = np.random.default_rng(0)
    a = np.stack([np.zeros(9000), generator.integers(0, 2, 9000), np.arange(9000) < 4500], axis=1).astype(float)
    a[0, 0] = 1
    a = np.hstack([a, generator.normal(size=(9000, 1)) + a[:, 1:2]])
    for bins in (2, 3, 5):
        expected = [[information(x, y, bins) for y in a.T] for x in a.T]
        ours = pairwise_mutual_information(torch.from_numpy(a), bins=bins).numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-12)
        assert ours[1, 1] == pytest.approx(math.log(2), abs=1e-3)


# --- what a file refuses ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def identity() -> dict[str, Any]:
    return {
        "upstream": "up", "weights": "w", "code": "c", "checkpoint": None, "config": None,
        "options": {"depth": 3, "nan": math.nan}, "selection": "hidden_states", "layer": None, "dtype": "float32",
        "batched": False,
    }  # fmt: skip


def made_file(
    path: Path,
    scores: Tensor,
    identity: dict[str, Any],
    utterances: tuple[Utterance, ...] = (),
    layers: tuple[int, ...] | None = None,
    **header: Any,
) -> SaliencyFile:
    """A file of the given scores ``[L, D, N]``, read back."""
    mean = scores.mean(dim=1).float()
    ranks = mean.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    numbers = tuple(range(len(scores))) if layers is None else layers
    made_by = Header(
        method="ccs",
        targets=TARGETS,
        layers=numbers,
        available=len(scores) if layers is None else 7,
        dims=scores.shape[2],
        upstream=identity | {"layer": None if layers is None else layers[0]},
        training=fingerprint.fingerprint(utterances, TARGETS),
        fold="fold1",
        recipe="",
        command="",
        device="cpu",
        versions={},
    )
    tensors = {"scores": scores.float(), "mean": mean, "ranks": ranks}
    SaliencyFile(path, made_by.model_copy(update=header), tensors).write()
    return SaliencyFile.read(path)


@pytest.fixture
def small(tmp_path: Path, own: RatedCorpus, identity: dict[str, Any]) -> SaliencyFile:
    scores = torch.rand((3, 3, 10), generator=torch.Generator().manual_seed(0))
    return made_file(tmp_path / "small.safetensors", scores, identity, own.split())


def test_the_same_data_fits_wherever_it_lies_and_however_it_is_sorted(small: SaliencyFile, own: RatedCorpus) -> None:
    small.check_corpus(own.split())
    small.check_corpus(own.split()[::-1])
    moved = own.folder.rename(own.folder.with_name("moved elsewhere"))
    small.check_corpus(RatedCorpus(moved).split())


def test_other_data_is_refused(small: SaliencyFile, own: RatedCorpus) -> None:
    train = own.split()
    renamed = (*train[:-1], replace(train[-1], name="z.wav"))
    changed = (replace(train[0], dimensions=(1.0, 2.0, 3.0)), *train[1:])
    swapped = (replace(train[0], dimensions=train[1].dimensions), replace(train[1], dimensions=train[0].dimensions))
    for utterances, message in (
        (train[:-1], f"from {len(train)} training utterances .fold1., the recipe trains on {len(train) - 1}: other"),
        (own.split(test_fold="fold2"), "other data or another fold; run s3prl-emotion saliency again"),
        (renamed, "other utterances, though as many"),
        (changed, "other labels .activation, valence, dominance."),
        ((*swapped, *train[2:]), "other labels"),
        ((*train[:-1], replace(train[-1], dimensions=None)), "has no activation or valence"),
    ):
        with pytest.raises(LabelError, match=message) as error:
            small.check_corpus(utterances)
        assert "\n" not in str(error.value)
    small.check_corpus(train)
    flip(train[5].path, 100, 3)
    with pytest.raises(LabelError, match="other audio of these utterances"):
        small.check_corpus(train)
    train[5].path.unlink()
    with pytest.raises(AudioError, match="cannot be read"):
        small.check_corpus(train)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upstream": "other", "weights": "x", "code": "y"}, r"another upstream: upstream up \(here other\); run"),
        ({"weights": "x"}, "another upstream: weights; run"),
        ({"weights": "x", "checkpoint": "y", "code": "z"}, "another upstream: checkpoint, code, weights; run"),
        ({"selection": "last"}, r"another upstream: selection hidden_states \(here last\)"),
        ({"options": {"depth": 2, "nan": math.nan, "more": 1}}, r"another upstream: options \(depth, more\)"),
        ({"options": None}, "another upstream: options"),
        ({"new": 1}, "another upstream: new"),
    ],
)
def test_another_upstream_is_refused(
    small: SaliencyFile, identity: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small.check_upstream(identity | changes, 1)


def test_stored_type_and_batches_may_differ(small: SaliencyFile, identity: dict[str, Any]) -> None:
    for changes in ({}, {"dtype": "float16"}, {"batched": True}, {"layer": 1}):
        for layer in (None, 0, 2, -1):
            small.check_upstream(identity | changes, layer)


def test_layers_that_a_file_does_not_cover(tmp_path: Path, small: SaliencyFile, identity: dict[str, Any]) -> None:
    for layer in (3, -4, 99):
        for call, first in ((small.check_upstream, identity), (small.dimensions, 0.5)):
            with pytest.raises(ConfigError, match=f"holds layer 0, 1, 2 of 3, not -l {layer}"):
                call(first, layer)
    one = made_file(tmp_path / "one", torch.rand(1, 3, 10), identity, layers=(5,))
    for layer in (5, -2):
        one.check_upstream(identity, layer)
        assert len(one.dimensions(0.5, layer)) == 5
    with pytest.raises(ConfigError, match="holds layer 5 of 7, not -l 0"):
        one.check_upstream(identity, 0)
    for call in (lambda: one.check_upstream(identity, None), lambda: one.dimensions(0.5, None)):
        with pytest.raises(ConfigError, match="without -l all are summed; give -l 5"):
            call()
    with pytest.raises(ConfigError, match="holds ccs scores, not components"):
        one.projection(0.5, 5)
    unknown = made_file(tmp_path / "unknown", torch.rand(1, 3, 10), identity, layers=(0,), available=None)
    unknown.check_upstream(identity, 0)
    for layer in (None, -1):  # what lay above was cut off: nobody knows whether this is the only or the last one
        with pytest.raises(ConfigError, match="holds layer 0, "):
            unknown.check_upstream(identity, layer)


def test_summed_layers_count_with_their_mean(small: SaliencyFile) -> None:
    mean = small.tensors["mean"].double().mean(dim=0)
    kept = small.dimensions(0.4, None)
    assert sorted(mean.topk(4).indices.tolist()) == kept.tolist()
    assert kept.tolist() != small.dimensions(0.4, 1).tolist()


@settings(derandomize=True, deadline=None, max_examples=50)
@given(keep=st.floats(0, 1, exclude_min=True), dims=st.integers(1, 40), seed=st.integers(0, 1000))
def test_number_of_kept_dimensions_and_components(
    tmp_path_factory: pytest.TempPathFactory, identity: dict[str, Any], keep: float, dims: int, seed: int
) -> None:
    """As many of both: keep · N to the nearest, halves up, at least 1; and keeping more keeps the same ones."""
    path, generator = tmp_path_factory.getbasetemp() / "keep", torch.Generator().manual_seed(seed)
    scores = torch.rand((2, 3, dims), generator=generator).round(decimals=1)  # with ties
    found = made_file(path, scores, identity)
    number = max(1, math.floor(keep * dims + 0.5))
    kept = found.dimensions(keep, 1)
    assert kept.dtype == torch.int64
    assert len(kept) == number
    assert (kept.diff() > 0).all()
    assert set(kept.tolist()) == set((found.tensors["ranks"][1] < number).nonzero().flatten().tolist())
    assert set(kept.tolist()) <= set(found.dimensions(min(1.0, keep * 1.3), 1).tolist())
    components = torch.linalg.qr(torch.rand((1, dims, dims), generator=generator)).Q
    tensors = {"pca_mean": torch.zeros(1, dims), "pca_components": components, "pca_variance": torch.ones(1, dims)}
    header = found.header.model_copy(update={"method": "pca", "layers": (0,), "available": 1})
    SaliencyFile(path, header, tensors).write()
    projection = SaliencyFile.read(path).projection(keep, 0)
    assert torch.equal(projection.components, components[0, :number].double())
    assert projection.variance.shape == (number,)
    assert projection.total_variance == dims


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.0001, math.nan, math.inf])
def test_share_out_of_range(small: SaliencyFile, keep: float) -> None:
    with pytest.raises(ConfigError, match="keep"):
        small.dimensions(keep, 0)


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 0.5, -1, -100])
def test_a_torn_file(small: SaliencyFile, length: float) -> None:
    data = small.path.read_bytes()
    small.path.write_bytes(data[: length if isinstance(length, int) else len(data) // 2])
    with pytest.raises(ConfigError, match=f"{small.path}: damaged, or not a saliency file") as error:
        SaliencyFile.read(small.path)
    assert "\n" not in str(error.value)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_served(
    tmp_path_factory: pytest.TempPathFactory, identity: dict[str, Any], place: float, bit: int
) -> None:
    """One in the tensors or in their shapes is refused; one in the header's text may change that text alone."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    scores = torch.rand((2, 3, 40), generator=torch.Generator().manual_seed(0))
    good = made_file(path, scores, identity)
    data = path.read_bytes()
    flip(path, int(place * len(data)), bit)
    try:
        found = SaliencyFile.read(path)
    except ConfigError:
        return
    assert place * len(data) < 8 + int.from_bytes(data[:8], "little")
    for name, tensor in good.tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def test_files_that_are_something_else(tmp_path: Path, small: SaliencyFile) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "weights")
    (tmp_path / "text").write_text("layer,dimension\n" * 100)
    for name, message in (
        ("weights", "safetensors, but not a saliency file"),
        ("text", "damaged, or not a saliency file"),
        ("none", "no such saliency file; make it with s3prl-emotion saliency --out"),
        (".", "no such saliency file"),
    ):
        with pytest.raises(ConfigError, match=message):
            SaliencyFile.read(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format 3 is not known here; upgrade"),
        ({"format": "x"}, "format x is not known"),
        ({"method": "lda"}, "its header is not readable"),
        ({"layers": "0"}, "its header is not readable"),
        ({"unheard_of": 1}, "its header is not readable"),
        ({"dims": 11}, "its tensors do not match"),
        ({"layers": [0, 1]}, "its tensors do not match"),
        ({"method": "pca"}, "its tensors do not match"),
        ({"checksum": ""}, "its checksum differs"),
        (None, "its header is not readable"),
        ([], "its header is not readable"),
    ],
)
def test_headers_that_do_not_fit(small: SaliencyFile, change: Any, message: str) -> None:
    header = small.header.model_dump()
    text = json.dumps(header | change if isinstance(change, dict) else change)
    save_file(small.tensors, small.path, metadata={KEY: text})
    with pytest.raises(ConfigError, match=message):
        SaliencyFile.read(small.path)


def test_a_full_disk_leaves_the_older_file(small: SaliencyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.path.read_bytes()
    fill_disk(monkeypatch)
    with pytest.raises(StoreError, match="No space left"):
        replace(small, header=small.header.model_copy(update={"fold": "fold2"})).write()
    assert small.path.read_bytes() == before
    assert [path.name for path in small.path.parent.iterdir() if "partial" in path.name] == []
    assert saliency_format.checksum(small.tensors) == small.header.checksum


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--keep", "0"), "--keep 0.0: must be above 0"),
        (("--keep", "nan"), "--keep nan"),
        (("--method", "lda"), "invalid choice"),
        (("-o", "args.method=lda"), "-o args.method='lda': must be one of ccs, mis, pca"),
        (("--out", "."), "is a folder; name a file"),
        (("--out", "x/a.csv"), "call it a.safetensors"),
        (("--out", "a.png"), "call it a.safetensors"),
        (("--out", "/proc/a"), "--out /proc: cannot be written"),
        (("--store_dtype", "float16"), "--store_dtype needs --feature_store"),
        (("--layers", "-l", "1"), "leave -l 1 out"),
        (("--layers", "--method", "pca"), "use --method ccs"),
        (("-l", "9"), "has no such layer"),
        (("-s", "nothing"), "no such features"),
        (("-u", "huber"), "no such upstream"),
        (("-c", "none.yaml"), "no such recipe"),
        (("-o", "config.downstream_expert.datarc.lables=x"), "datarc.lables: unknown key; nearest: labels"),
        (("-o", "config.downstream_expert.datarc.root=/none"), "no such folder"),
        (("-o", "config.downstream_expert='x'"), "downstream_expert: must be a mapping"),
        (("-t", "test"), "would leak"),
    ],
)
def test_bad_words(
    suite: Suite, rated: RatedCorpus, hubert: tuple[object, ...], words: tuple[str, ...], message: str
) -> None:
    told = suite(*hubert, *of(rated, "a"), *words, code=1)
    assert message in error_of(told)
    assert not list(Path().rglob("*a*"))


def test_nothing_else_is_overwritten(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]) -> None:
    """The table is named after the file: beside the corpus's own labels.csv that is a trap."""
    for name in ("labels.safetensors", "recipe.yaml"):
        before = {path: path.read_bytes() for path in own.folder.glob("*.*")}
        told = suite(*hubert, *of(own, own.folder / name), code=1)
        assert "would be overwritten and is no saliency file" in error_of(told)
        assert {path: path.read_bytes() for path in own.folder.glob("*.*")} == before
    for _ in range(2):
        suite(*hubert, *of(own, own.folder / "a.safetensors"), "-l", "0")


def test_recipe_or_head_is_needed(suite: Suite, hubert: tuple[object, ...]) -> None:
    words = (*hubert, "--method", "ccs", "--out", "a")
    assert "-c RECIPE is required, or -d HEAD" in error_of(suite(*words, code=1))
    assert "nearest: emotion_corr_attn" in error_of(suite(*words, "-d", "emotion_cor_attn", code=1))


def test_labels_without_dimensions(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]) -> None:
    rows = own.rows()
    own.relabel([{**row, "EmoVal": "" if number == 2 else row["EmoVal"]} for number, row in enumerate(rows)])
    assert "line 4: EmoVal is empty" in error_of(suite(*hubert, *of(own, "a"), code=1))
    own.relabel([{name: value for name, value in row.items() if name != "EmoDom"} for row in rows])
    assert "no column EmoDom" in error_of(suite(*hubert, *of(own, "a"), code=1))


@pytest.mark.parametrize("method", ["ccs", "mis", "pca"])
def test_features_that_are_not_finite_name_the_utterance(suite: Suite, rated: RatedCorpus, method: str) -> None:
    Path("nan.yaml").write_text("scale: .nan")
    words = ("-u", "fake_layers", "-g", "nan.yaml", "--upstream_path", FAKES, "--device", "cpu")
    first = min(item.name for item in rated.split())
    told = suite(*words, *of(rated, "a", method), code=1)
    assert f"{first}: the upstream's features are not finite" in error_of(told)
    assert not Path("a").exists()


@pytest.mark.parametrize("method", ["ccs", "mis", "pca"])
def test_one_training_utterance(
    drawing: Suite, own: RatedCorpus, hubert: tuple[object, ...], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = own.rows()
    parts = ["Train", "Development", "Test1"]
    own.relabel([{**row, "Split_Set": parts[n], "SpkrID": f"s{n}"} for n, row in enumerate(rows[:3])])
    own.relabel([{name: value for name, value in row.items() if name != "Fold"} for row in own.rows()])
    drawing(*hubert, *of(own, "a", method))
    found = SaliencyFile.read("a")
    assert found.header.training.utterances == 1
    if method == "pca":
        assert "vary along 0 components" in caplog.text
        assert found.projection(0.5, 0).components.shape == (8, WIDTH)
    else:
        assert "nothing varies" in caplog.text
        assert (found.tensors["scores"] == 0).all()
        assert found.dimensions(0.25, None).tolist() == [0, 1, 2, 3]


def test_a_label_that_is_the_same_everywhere_is_told(
    suite: Suite, own: RatedCorpus, hubert: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    own.relabel([{**row, "EmoDom": "4"} for row in own.rows()])
    suite(*hubert, *of(own, "a"))
    assert "dominance is the same in all training utterances" in caplog.text
    assert (SaliencyFile.read("a").tensors["scores"][:, 2] == 0).all()


@pytest.mark.parametrize(
    ("method", "limit", "message"),
    [
        ("ccs", "MOST_MEMORY", "--method ccs: ccs of 4 layers of 6 dimensions takes .* select one layer with -l"),
        ("mis", "MOST_MEMORY", "4 layers of 6 dimensions and 3 utterances takes"),
        ("pca", "MOST_COMPONENTS", "would make a file of 0 MB; the limit is 0 MB; select one layer with -l"),
    ],
)
def test_too_much_is_refused_before_anything_is_computed(
    rated: RatedCorpus, monkeypatch: pytest.MonkeyPatch, method: str, limit: str, message: str
) -> None:
    monkeypatch.setattr(compute, limit, 200)
    source = source_of(None)
    monkeypatch.setattr(source, "means", None)
    with pytest.raises(UsageError, match=message):
        compute.compute_saliency(source, rated.split()[:3], TARGETS, method)


# --- the library's part ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ccs", "mis", "pca"])
def test_random_generators_are_left_alone(rated: RatedCorpus, method: str) -> None:
    source = source_of(None)
    before = rng.rng_state()
    compute.compute_saliency(source, rated.split(), TARGETS, method)
    assert different(before, rng.rng_state()) == []


def test_identity_is_the_same_with_and_without_a_store(tmp_path: Path) -> None:
    for options in ({}, {"layer": 2}):
        plain, stored = (compute.identity_of(source_of(folder, **options)) for folder in (None, tmp_path / "S"))
        assert isinstance(plain, Identity)
        assert plain.values == stored.values
        assert plain.values["layer"] == options.get("layer")


def test_utterances_without_frames_or_labels(rated: RatedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    source, train = source_of(None), rated.split()
    with pytest.raises(LabelError, match="no target 'arousal'"):
        compute.compute_saliency(source, train, ("arousal",), "ccs")
    with pytest.raises(EmotionError, match="there is no utterance"):
        compute.compute_saliency(source, (), TARGETS, "ccs")
    monkeypatch.setattr(source, "compute", lambda wav, name: torch.zeros(4, 0, 6))
    with pytest.raises(AudioError, match=f"{train[0].name}: too short for this upstream"):
        compute.compute_saliency(source, train[:1], TARGETS, "ccs")


# --- targets ---------------------------------------------------------------------------------------------------------


def with_shares(own: RatedCorpus) -> dict[str, list[float]]:
    """Give the corpus shares of three classes, of which nobody chose one; returns them by utterance.

    Two utterances of the training split are a single frame and silence.
    """
    happy = {row["FileName"]: ((7 * number) % 11) / 10 for number, row in enumerate(own.rows())}
    shares = {name: [share, 1 - share, 0.0] for name, share in happy.items()}
    columns = ("happy", "angry", "disgust")
    own.relabel([row | dict(zip(columns, shares[row["FileName"]], strict=True)) for row in own.rows()])
    train = own.split()
    soundfile.write(train[0].path, tone(300.0, 0.026, 1), RATE)
    soundfile.write(train[1].path, np.zeros(2000), RATE)
    return shares


def test_targets_are_dimensions_and_shares_of_classes(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]):
    shares = with_shares(own)
    said = suite(*hubert, *of(own, "fig3"), "--targets", "EmoVal", "happy", "angry", "disgust", "--layers")
    found, train = SaliencyFile.read("fig3"), own.split()
    assert found.header.targets == ("valence", "happy", "angry", "disgust")
    assert "--targets EmoVal happy angry disgust" in found.header.command
    means = means_of(hubert, train)
    valence = np.array([[item.dimensions[1]] for item in train])
    labels = np.hstack([valence, np.array([shares[item.name] for item in train])])
    expected = np.stack([reference(means[:, layer].numpy(), labels) for layer in range(LAYERS)])
    assert (expected[:, 3] == 0).all()  # nobody chose it
    np.testing.assert_allclose(found.tensors["scores"].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(found.layer_scores(per_target=True).numpy(), expected.mean(axis=2).T, atol=1e-6)
    assert found.salient_layer() == expected.mean(axis=(1, 2)).argmax()
    assert said.out.splitlines()[-LAYERS - 1].split() == ["rank", "layer", "mean", *found.header.targets]

    suite(*hubert, *of(own, "all"), "--targets", "all")
    every = SaliencyFile.read("all")
    assert every.header.targets == (*TARGETS, "happy", "angry", "disgust")
    torch.testing.assert_close(every.tensors["scores"][:, [1, 3, 4, 5]], found.tensors["scores"], atol=1e-7, rtol=0)
    torch.testing.assert_close(every.tensors["mean"], every.tensors["scores"].mean(dim=1), atol=1e-6, rtol=0)


def test_classes_without_shares_are_zeros_and_ones(suite: Suite, own: RatedCorpus, hubert: tuple[object, ...]):
    own.relabel([{**row, "EmoClass": "ABC"[number // 6 % 3]} for number, row in enumerate(own.rows())])
    write_recipe(own.recipe, {**own.datarc(), "classes": ["A", "B"]}, modelrc={"pooling": "mean"})
    words = (*hubert, *of(own, "b"), "-d", "emotion_corr_attn", "-l", "1")
    suite(*words, "--targets", "B")
    load._load.cache_clear()
    train = load_corpus(own.data(classes=["A", "B"]), Needs()).split("train")
    labels = np.array([[float(item.label == 1)] for item in train])
    expected = reference(means_of(hubert, train)[:, 1].numpy(), labels)
    np.testing.assert_allclose(SaliencyFile.read("b").tensors["scores"][0].numpy(), expected, atol=1e-6)
    suite(*words, "--targets", "all")
    assert SaliencyFile.read("b").header.targets == ("A", "B")  # what the head learns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--targets", "hapy"),
            "--targets hapy: no such target; nearest: happy; there are EmoAct, EmoVal, EmoDom, happy, angry, disgust",
        ),
        (("--targets", "EmoVall"), "--targets EmoVall: no such target.*EmoVal"),
        (("--targets", "happy", "EmoVal", "happy"), "--targets happy: is named twice"),
        (("--targets", "EmoVal", "valence"), "--targets EmoVal: is named twice"),
        (("--targets", "all", "happy"), "--targets all happy: all is every dimension and class"),
        (("--targets", "happy", "-d", "emotion_tcgru"), "--targets happy: no such target"),
    ],
)
def test_targets_that_do_not_exist(suite: Suite, own: RatedCorpus, words: tuple[str, ...], message: str):
    with_shares(own)
    write_recipe(own.recipe, own.datarc(), modelrc={"embedding_dim": 8})
    told = suite("-u", "fbank", *of(own, "x"), *words, code=1)
    assert re.search(message, error_of(told)), error_of(told)


def test_components_have_no_targets(suite: Suite, rated: RatedCorpus):
    told = suite("-u", "fbank", *of(rated, "x", "pca"), "--targets", "EmoVal", code=1)
    assert "--targets: principal components ignore the targets" in error_of(told)


def test_a_file_for_classes_is_of_the_recipes_classes(own: RatedCorpus, identity: dict[str, Any], tmp_path: Path):
    shares, names = with_shares(own), ("happy", "angry", "disgust")
    load._load.cache_clear()
    train = load_corpus(own.data(), Needs(classes=False, dimensions=True, shares=True)).split("train")
    targets = ("valence", "angry")
    file = made_file(
        tmp_path / "f", torch.rand(2, 2, 5), identity, targets=targets,
        training=fingerprint.fingerprint(train, targets, classes=names),
    )  # fmt: skip
    file.check_corpus(train, classes=names)
    file.check_corpus(train[::-1], classes=names)
    changed = (replace(train[0], shares=(0.25, 0.75, 0.0)), *train[1:])
    assert shares[train[0].name] != [0.25, 0.75, 0.0]
    with pytest.raises(LabelError, match=r"other labels .valence, angry. of these utterances"):
        file.check_corpus(changed, classes=names)
    for classes, known in (((), "learns no classes"), (("happy", "sad"), "has the classes happy, sad")):
        with pytest.raises(LabelError, match=f"is for angry among others, but the recipe {known}; run s3prl-emotion"):
            file.check_corpus(train, classes=classes)
    nobody = replace(train[0], shares=None, label=-2)
    with pytest.raises(LabelError, match="has neither shares of the graders nor a class; saliency for angry needs"):
        fingerprint.target_values([nobody], targets, names)
