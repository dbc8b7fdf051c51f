"""Ensembles in ``predict``, ``serve`` and ``s3prl_emotion.load``: the mean, what members share, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, Cli, TinyCorpus, tone, write_graded_corpus
from tiny_models import save_tiny_hubert

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.predict.predictor import Predictor

CLASSES = ["ang", "hap", "neu", "sad"]
GRU = {"conv_channels": 8, "gru_dim": 8, "embedding_dim": 8}
WAVES = [tone(150.0 * (number + 1), seconds, number) for number, seconds in enumerate([0.5, 0.9, 0.31])]


@dataclass
class Shelf:
    """Checkpoints of heads: on a tiny HuBERT, on filterbanks, and of dimensions."""

    folder: Path
    corpus: TinyCorpus

    def path(self, name: str) -> Path:
        return self.folder / name / "dev-best.ckpt"

    def changed(self, name: str, of: str, change: Callable[[dict[str, Any]], Any]) -> Path:
        """A copy of a checkpoint in which something is changed."""
        state = load_checkpoint(self.path(of))
        change(state)
        self.path(name).parent.mkdir(exist_ok=True)
        torch.save(state, self.path(name))
        return self.path(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensemble")


@pytest.fixture
def shelf(cli: Cli, folder: Path, tiny_corpus: TinyCorpus) -> Shelf:
    """The checkpoints, trained by the first test; ``b`` and ``c`` stand for other seeds of ``a``."""
    kept = Shelf(folder, tiny_corpus)
    if not kept.path("dimensions").exists():
        model = save_tiny_hubert(folder / "model")
        hubert, fbank = ("-u", "hf_speech_custom", "-k", model), ("-u", "fbank_no_cmvn")
        for name, words in {"a": hubert, "fbank": fbank}.items():
            text = tiny_corpus.overrides(**{"downstream_expert.modelrc.pooling": "corr_attn"})
            cli("-m", "train", *words, "-d", "emotion_corr_attn", "-p", folder / name, "-o", text)
        graded = write_graded_corpus(folder / "graded")
        cli("-m", "train", *fbank, "-d", "emotion_tcgru", "-p", folder / "dimensions", "-o", graded.overrides(**{
            f"downstream_expert.modelrc.{key}": value for key, value in GRU.items()}))  # fmt: skip
        for seed, name in enumerate("bc"):
            kept.changed(name, "a", partial(jitter, seed=seed))
    return kept


def jitter(state: dict[str, Any], seed: int) -> None:
    """Give a head and its layer weights other values."""
    draw = torch.Generator().manual_seed(seed)
    for part in ("Downstream", "Featurizer"):
        for value in state[part].values():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                value += 0.3 * torch.randn(value.shape, generator=draw)


def reference(checkpoints: list[Path], names: tuple[str, ...], kind: str = "probabilities") -> np.ndarray:
    """The mean in float64 of what each member says alone ``[U, K]``, by name."""
    loaded = [s3prl_emotion.load(path, device="cpu").predict_batch(WAVES, RATE) for path in checkpoints]
    rows = [[[getattr(item, kind)[name] for name in names] for item in found] for found in loaded]
    return np.array(rows, dtype=np.float64).mean(axis=0)


def values(predictor: Predictor, names: tuple[str, ...], kind: str = "probabilities") -> np.ndarray:
    found = predictor.predict_batch(WAVES, RATE)
    return np.array([[getattr(item, kind)[name] for name in names] for item in found])


def predicted(capfd: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    capfd.readouterr()
    assert suite.main(["predict", *map(str, words)]) == code
    return capfd.readouterr()


def refused(match: str, *checkpoints: Path, **options: Any) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        s3prl_emotion.load(list(checkpoints), device="cpu", **options)
    assert len(str(caught.value).splitlines()) == 1


# --- the mean ---------------------------------------------------------------------------------------------------------


def test_members_of_one_upstream_have_it_once_and_give_their_mean(shelf: Shelf):
    members = [shelf.path(name) for name in "abc"]
    predictor = s3prl_emotion.load(members, device="cpu")
    models = [member.model for member in predictor._members]
    (shared,) = {id(model.upstream.model): model.upstream.model for model in models}.values()
    before = shared.computed
    got = values(predictor, predictor.classes)
    assert shared.computed - before == len(WAVES)  # once for three members
    assert np.abs(got - reference(members, predictor.classes)).max() < 1e-12
    assert not shared._waveforms  # no output is kept
    weights = [s3prl_emotion.load(path, device="cpu").predict(WAVES[0], attention=True).attention for path in members]
    joined = predictor.predict(WAVES[0], attention=True)
    assert joined.attention == pytest.approx(np.mean(weights, axis=0), abs=1e-7)
    windowed = predictor.predict(WAVES[1], window=0.4)
    assert sum(windowed.probabilities.values()) == pytest.approx(1)
    assert s3prl_emotion.load([members[0]], device="cpu").about == s3prl_emotion.load(members[0], device="cpu").about


def test_other_upstreams_and_another_order_of_classes(shelf: Shelf):
    def turn(state: dict[str, Any]) -> None:
        """Let the outputs come in the opposite order."""
        state["Config"]["downstream_expert"]["datarc"]["classes"] = CLASSES[::-1]
        head = state["Downstream"]
        head["_extra_state"]["classes"] = CLASSES[::-1]
        for key in head:
            if key.startswith("model.classifier."):
                head[key] = head[key].flip(0)

    def named(state: dict[str, Any]) -> None:
        state["Config"]["downstream_expert"]["datarc"]["classes"] = CLASSES

    first, turned = shelf.changed("named", "fbank", named), shelf.changed("turned", "fbank", turn)
    predictor = s3prl_emotion.load([first, turned], device="cpu")
    assert predictor.classes == tuple(CLASSES)
    assert values(predictor, predictor.classes) == pytest.approx(reference([first], tuple(CLASSES)), abs=1e-7)
    members = [turned, shelf.path("b")]
    mixed = s3prl_emotion.load(members, device="cpu")
    assert mixed.classes == tuple(CLASSES[::-1])
    assert mixed.upstream == "fbank_no_cmvn, hf_speech_custom"
    assert np.abs(values(mixed, mixed.classes) - reference(members, mixed.classes)).max() < 1e-12
    with pytest.raises(
        UsageError, match="--attention: the members are not of one kind of head"
    ):  # the frames of one are not those of the other
        mixed.predict(WAVES[0], attention=True)


def test_dimensions_are_means_on_one_scale(shelf: Shelf):
    def other_scale(state: dict[str, Any]) -> None:
        state["Downstream"]["label_mean"] += 3

    def same_words(state: dict[str, Any]) -> None:
        corpora = {"one": {"labels": "a.csv", "scale": [1, 5]}}
        state["Config"]["downstream_expert"]["datarc"] |= {"labels": None, "corpora": corpora}

    def other_words(state: dict[str, Any]) -> None:
        same_words(state)
        state["Config"]["downstream_expert"]["datarc"]["corpora"]["one"]["scale"] = [1, 7]

    second = shelf.changed("second", "dimensions", lambda state: jitter_output(state))
    members = [shelf.path("dimensions"), second]
    predictor = s3prl_emotion.load(members, device="cpu")
    got = values(predictor, predictor.dimensions, "dimensions")
    assert np.abs(got - reference(members, predictor.dimensions, "dimensions")).max() < 1e-12
    moments = s3prl_emotion.load(members[0], device="cpu").label_moments
    assert predictor.label_moments["EmoVal"] == pytest.approx(moments["EmoVal"])
    moved = shelf.changed("moved", "dimensions", other_scale)
    refused(rf"{moved}: has labels of another scale \(EmoAct .*{members[0]} has", members[0], moved)
    five, seven = shelf.changed("five", "dimensions", same_words), shelf.changed("seven", "dimensions", other_words)
    refused(rf"{seven}: has the scale \[1.0, 7.0\], {five} has \[1.0, 5.0\]", five, seven)


def jitter_output(state: dict[str, Any]) -> None:
    for key, value in state["Downstream"].items():
        if "output" in key:
            value += 0.1


# --- what is refused --------------------------------------------------------------------------------------------------


def test_members_that_do_not_fit_together(shelf: Shelf):
    def fewer(state: dict[str, Any]) -> None:
        state["Config"]["downstream_expert"]["datarc"]["classes"] = [*CLASSES[:3], "fea"]
        state["Downstream"]["_extra_state"]["classes"] = [*CLASSES[:3], "fea"]

    def left(state: dict[str, Any]) -> None:
        state["Config"]["downstream_expert"]["datarc"]["channel"] = "left"

    a, b, fbank = (shelf.path(name) for name in ("a", "b", "fbank"))
    other = shelf.changed("other", "fbank", fewer)
    refused(
        f"^--ckpt {other}: has classes ang, hap, neu, fea, {fbank} has ang, hap, neu, sad; the members", fbank, other
    )
    dimensions = shelf.path("dimensions")
    refused(f"^--ckpt {dimensions}: has classes none, {fbank} has ang, hap, neu, sad", fbank, dimensions)
    refused("^--ckpt .*: is named twice", fbank, fbank.parent)
    refused("^ckpt: the list is empty")
    refused("^-k: given 2 times for 3 --ckpt", a, b, fbank, upstream_ckpt=["x", "y"])
    predictor = s3prl_emotion.load([fbank, shelf.changed("left", "fbank", left)], device="cpu")
    with pytest.raises(UsageError, match=r"was trained on channel left, .* on mean; choose one with predict --channel"):
        predictor.channel  # noqa: B018


# --- the commands -----------------------------------------------------------------------------------------------------


def test_predict_writes_the_columns_of_one_model_and_names_the_members(
    shelf: Shelf, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    assert suite.main(["pack", str(shelf.path("a").parent), "packed", "--license", "mit"]) == 0
    moved = shutil.copytree(shelf.folder / "model", "moved")
    soundfile.write("new.wav", WAVES[1], RATE)
    members = (shelf.path("fbank"), Path("packed"), shelf.path("b").parent)
    words = [*(word for member in members for word in ("--ckpt", member)), "-k", "-", "-k", moved, "-k", "-"]
    files = ("new.wav", *sorted(shelf.corpus.root.glob("s*_ang_0.wav")))
    out, _ = predicted(capfd, *words, *files)
    alone, _ = predicted(capfd, "--ckpt", members[0], *files)
    table, other = (list(csv.DictReader(io.StringIO(text))) for text in (out, alone))
    assert list(table[0]) == list(other[0])
    wave = soundfile.read("new.wav", dtype="float32")[0]
    each = [s3prl_emotion.load(shelf.path(name), device="cpu").predict(wave).probabilities for name in ("fbank", *"ab")]
    expected = [np.mean([row[name] for row in each]) for name in CLASSES]
    assert [float(table[0][f"p_{name}"]) for name in CLASSES] == pytest.approx(expected, abs=1e-6)
    assert re.search(
        r"of 7 files are audio that \S*fbank/dev-best.ckpt, packed, \S*b/dev-best.ckpt were trained on", caplog.text
    )
    predicted(capfd, *words, "new.wav", "--out", "found.json")
    model = json.loads(Path("found.json").read_text())["model"]
    assert model["checkpoint"] == "ensemble of 3 checkpoints"
    assert [item["checkpoint"] for item in model["members"]] == [str(members[0]), "packed", str(shelf.path("b"))]
    assert "members" not in model["members"][0]


def test_the_page_shows_the_members_without_their_folders(shelf: Shelf):
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from s3prl_emotion.serve.application import _texts
    from s3prl_emotion.serve.limits import Limits
    from s3prl_emotion.serve.responses import about

    predictor = s3prl_emotion.load([shelf.path("fbank"), shelf.path("a")], device="cpu")
    description = about(predictor, Limits(1, 30, 3, 4), None)
    assert [item["checkpoint"] for item in description["members"]] == ["fbank/dev-best.ckpt", "a/dev-best.ckpt"]
    page = _texts(description)["/"][0]
    assert "ensemble of 2 checkpoints" in page
    assert "a/dev-best.ckpt" in page
    assert str(shelf.folder) not in page + json.dumps(description)
