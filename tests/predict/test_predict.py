"""``s3prl-emotion predict`` and ``s3prl_emotion.load``: predictions equal those of ``-m inference``, for any files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, SOURCE, Cli, Outcome, TinyCorpus, tone, write_graded_corpus, write_tiny_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_hubert

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.audio import load_audio
from s3prl_emotion.errors import AudioError, CheckpointError, UsageError
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.predict import files
from s3prl_emotion.predict.inputs import collect
from s3prl_emotion.predict.prediction import SpanPrediction
from s3prl_emotion.predict.windows import Windows

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
CLASSES = ["ang", "hap", "neu", "sad"]
NAMES = ["EmoAct", "EmoVal", "EmoDom"]
ACNN = {"filters": 8, "pool": 4, "alpha": 0, "beta": 0, "max_length": None}
GRU = {"conv_channels": 8, "gru_dim": 8, "embedding_dim": 8}
HUBERT = ("-u", "hf_speech_custom", "-k", "MODEL")
FBANK = ("-u", "fbank_no_cmvn")
# name -> upstream's words, head, corpus, modelrc, more of the recipe
SYSTEMS: dict[str, tuple[tuple[str, ...], str, Any, dict[str, object], dict[str, object]]] = {
    "corr_attn": (FBANK, "emotion_corr_attn", write_tiny_corpus, {"projector_dim": 8}, {}),
    "superb": (FBANK, "emotion_corr_attn", write_tiny_corpus, {"projector_dim": 8}, {"runner.seeding": "superb"}),
    "hubert": (HUBERT, "emotion_corr_attn", write_tiny_corpus, {"projector_dim": 8}, {}),
    "one_layer": ((*HUBERT, "-l", "1"), "emotion_corr_attn", write_tiny_corpus, {"pooling": "mean"}, {}),
    "finetuned": ((*HUBERT, "-f"), "emotion_corr_attn", write_tiny_corpus, {"projector_dim": 8}, {}),
    "tcgru": (FBANK, "emotion_tcgru", write_graded_corpus, GRU, {}),
    "multitask": (
        FBANK,
        "emotion_multitask",
        write_graded_corpus,
        GRU,
        {f"{DATA}.distribution": {"source": "consensus"}, f"{DATA}.classes": ["ang", "sad"]},
    ),
    "acnn": (("-u", "logmel26"), "emotion_acnn", write_tiny_corpus, ACNN, {f"{DATA}.classes": CLASSES}),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkpoints are kept from one test to the next, and six files of audio that none was trained on."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "audio").mkdir()
    for number, seconds in enumerate([0.5, 0.9, 0.31, 0.62, 0.45, 1.3]):
        soundfile.write(folder / f"audio/{number}.wav", tone(150.0 * (number + 1), seconds, number), RATE)
    return folder


Trained = Callable[[str], Path]


@pytest.fixture
def trained(cli: Cli, shelf: Path) -> Trained:
    """The best checkpoint of a system of ``SYSTEMS``; its corpus is gone."""

    def train(name: str) -> Path:
        folder = shelf / name
        if not (folder / "dev-best.ckpt").exists():
            upstream, head, write, modelrc, more = SYSTEMS[name]
            if "-k" in upstream:
                save_tiny_hubert(shelf / "model")
                upstream = tuple(str(shelf / "model") if word == "MODEL" else word for word in upstream)
            corpus: TinyCorpus = write(shelf / f"{name}_corpus")
            values = {f"{MODEL}.{key}": value for key, value in modelrc.items()} | more
            old = {f"{MODEL}.{key}" for key in type(corpus).modelrc} - set(values)
            parts = corpus.overrides(**values).split(",,")
            text = ",,".join(part for part in parts if part.partition("=")[0].removeprefix("config.") not in old)
            cli("-m", "train", *upstream, "-d", head, "-p", folder, "-o", text)
            shutil.rmtree(shelf / f"{name}_corpus")
        return folder / "dev-best.ckpt"

    return train


Predict = Callable[..., Outcome]


@pytest.fixture
def predict(capfd: pytest.CaptureFixture[str]) -> Predict:
    """``s3prl-emotion predict`` inside this process."""

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = suite.main(["predict", *(str(word) for word in words)])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        return outcome

    return call


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def errors(outcome: Outcome) -> list[str]:
    assert "Traceback" not in outcome.err, outcome.err
    return [line for line in outcome.err.splitlines() if line.startswith("s3prl-emotion: error: ")]


def inferred(cli: Cli, monkeypatch: pytest.MonkeyPatch, ckpt: Path, audio: Path) -> dict[str, float]:
    """What ``run_downstream.py -m inference`` says of a file, to full precision."""
    kept: list[dict[str, float]] = []
    original = EmotionExpert.inference
    with monkeypatch.context() as patch:
        patch.setattr(EmotionExpert, "inference", lambda *given: kept.extend(original(*given)))
        cli("-m", "inference", "-e", ckpt, "-t", audio)
    return kept[0]


# --- the same as -m inference ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if number > 1 else []) for number, name in enumerate(SYSTEMS)]
)
def test_each_file_is_predicted_as_by_inference_in_any_batch(
    name: str, cli: Cli, trained: Trained, shelf: Path, monkeypatch: pytest.MonkeyPatch
):
    ckpt, files = trained(name), sorted((shelf / "audio").iterdir())
    expected = [inferred(cli, monkeypatch, ckpt, file) for file in files]
    predictor = s3prl_emotion.load(ckpt, device="cpu")
    waveforms = [soundfile.read(file, dtype="float32")[0] for file in files]
    for batch_size in (1, 4, 8):
        found = predictor.predict_batch(waveforms, RATE, batch_size=batch_size)
        for one, truth in zip(found, expected, strict=True):
            assert one.probabilities | one.dimensions == pytest.approx(truth, abs=1e-6)
    alone = predictor.predict(waveforms[2], RATE)
    assert alone.probabilities | alone.dimensions == pytest.approx(expected[2], abs=1e-6)
    graded = name in ("tcgru", "multitask")
    assert predictor.dimensions[:3] == (tuple(NAMES) if graded else ())
    assert bool(predictor.classes) == (name != "tcgru")
    assert (alone.label is None) == (name == "tcgru")
    if alone.label:
        assert sum(alone.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert alone.label == max(expected[2].keys() - set(NAMES), key=lambda key: expected[2][key])


def test_random_generators_are_left_alone(trained: Trained):
    ckpt = trained("hubert")
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    s3prl_emotion.load(ckpt, device="cpu").predict(tone(200, 0.4, 0), RATE)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_importing_the_package_stays_light():
    code = "import sys, s3prl_emotion; s3prl_emotion.load; assert not {'torch', 'numpy', 's3prl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": SOURCE})


# --- the Python side ---------------------------------------------------------------------------------------------


def test_attributes_and_ranks(trained: Trained, shelf: Path):
    predictor = s3prl_emotion.load(trained("corr_attn").parent)  # a folder means its best checkpoint
    assert (predictor.classes, predictor.dimensions) == (tuple(CLASSES), ())
    assert (predictor.head, predictor.upstream, predictor.rate) == ("emotion_corr_attn", "fbank_no_cmvn", RATE)
    found = predictor.predict(tone(300, 0.8, 1), RATE, attention=True)
    assert found.duration == 0.8
    ranked = found.nbest(9)
    assert [value for _, value in ranked] == sorted(found.probabilities.values(), reverse=True)
    assert found.nbest(2) == ranked[:2]
    assert found.label == ranked[0][0]
    assert found.attention is not None
    assert len(found.attention) == (0.8 * RATE - 400) // 160 + 1
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)
    assert SpanPrediction({"a": 0.5, "b": 0.5}, {}).label == "a"
    assert SpanPrediction({}, {"EmoAct": 3.0}).label is None


def test_kinds_of_waveforms(trained: Trained, tmp_path: Path):
    predictor = s3prl_emotion.load(trained("corr_attn"))
    mono = tone(300, 0.6, 2)
    truth = predictor.predict(mono).probabilities
    for same in (mono.tolist(), mono.astype(np.float64), torch.from_numpy(mono), mono[:, None]):
        assert predictor.predict(same, RATE).probabilities == pytest.approx(truth, abs=1e-6)
    stereo = np.stack([mono * 1.5, mono * 0.5], axis=1)
    assert predictor.predict(stereo).probabilities == pytest.approx(truth, abs=1e-5)
    other = tone(300, 0.6, 3, rate=44_100)
    soundfile.write(tmp_path / "a.wav", np.stack([other, other], 1), 44_100, subtype="FLOAT")
    by_file = predictor.predict(load_audio(tmp_path / "a.wav")).probabilities
    assert predictor.predict(other, 44_100).probabilities == pytest.approx(by_file, abs=1e-6)


@pytest.mark.parametrize(
    ("waveform", "rate", "error", "match"),
    [
        (np.zeros(0), RATE, AudioError, r"^waveform 0: audio has 0 samples$"),
        (np.zeros((0, 2)), RATE, AudioError, "0 samples"),
        (np.full(8000, np.nan), RATE, AudioError, r"NaN or infinite samples$"),
        (np.full(8000, np.inf), RATE, AudioError, "NaN or infinite"),
        (np.zeros(100), RATE, AudioError, r"waveform 0 \(0.006 s\)"),
        (np.zeros((2, 16_000)), RATE, UsageError, r"takes samples \[N\] or \[N, C\], got \[2, 16000\]; transpose"),
        (np.zeros((2, 2, 2)), RATE, UsageError, "takes samples"),
        (np.float32(1), RATE, UsageError, "takes samples"),
        (np.zeros(8000, np.int16), RATE, UsageError, "takes floats in .* got int16"),
        (np.zeros(8000), 0, UsageError, "0 is no sampling rate"),
        (np.zeros(8000), 16_000.5, UsageError, "no sampling rate"),
        (
            np.zeros(8000),
            None,
            UsageError,
            "^rate: None is no sampling rate; pass a whole number of Hz, such as 16000$",
        ),
        (np.zeros(8000), math.nan, UsageError, "^rate: nan is no sampling rate"),
        (np.zeros(8000), math.inf, UsageError, "^rate: inf is no sampling rate"),
        (np.zeros(8000), -16_000, UsageError, "^rate: -16000 is no sampling rate"),
        (np.zeros(8000), True, UsageError, "^rate: True is no sampling rate"),
        (np.zeros(8000), "16000", UsageError, "^rate: '16000' is no sampling rate"),
        (np.zeros(8000), [RATE], UsageError, "no sampling rate"),
        (np.zeros(8000), 16_000 + 0j, UsageError, "no sampling rate"),
        ("a.wav", RATE, UsageError, r"^waveform 0: takes samples, got the text or path 'a.wav'; read it first: wave"),
        (Path("a.wav"), RATE, UsageError, r"got the text or path .*a.wav.*soundfile.read\(path\), or use"),
        (b"RIFF", RATE, UsageError, "got the bytes b'RIFF'"),
        (None, RATE, UsageError, r"takes floats .* got None; pass an array of samples \[N\]"),
        ((np.zeros(8000), RATE), RATE, UsageError, r"got a pair of samples and rate; .* predict\(waveform, rate\)"),
        ([[0.1, 0.2], [0.3]], RATE, UsageError, "got list of unequal parts"),
        (["a", "b"], RATE, UsageError, "takes floats .* got list; pass"),
        (np.zeros(8000, complex), RATE, UsageError, "takes floats .* got ndarray of complex128"),
        (torch.zeros(8000, dtype=torch.complex64), RATE, UsageError, "got Tensor of torch.complex64"),
        ({"array": np.zeros(8000)}, RATE, UsageError, "takes floats .* got dict"),
        (np.zeros(8000, bool), RATE, UsageError, "got bool"),
    ],
)
def test_waveforms_that_are_none(trained: Trained, waveform: Any, rate: Any, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        s3prl_emotion.load(trained("corr_attn")).predict(waveform, rate)


@pytest.mark.parametrize(
    ("waveforms", "match"),
    [
        ("a.wav", "takes a list of waveforms, got the text or path 'a.wav'"),
        (np.zeros(8000), r"got ndarray of float64; pass \[waveform\], or call predict\(waveform\)$"),
        (torch.zeros(8000), "got Tensor of torch.float32"),
        (None, "got None"),
        (7, "got int"),
    ],
)
def test_batches_that_are_none(trained: Trained, waveforms: Any, match: str):
    with pytest.raises(UsageError, match=match):
        s3prl_emotion.load(trained("corr_attn")).predict_batch(waveforms)


def test_rates_of_other_kinds_of_numbers(trained: Trained):
    predictor, wave = s3prl_emotion.load(trained("corr_attn")), tone(300, 0.6, 2)
    truth = predictor.predict(wave).probabilities
    for rate in (16_000.0, np.int32(16_000), np.float64(16_000)):
        assert predictor.predict(wave, rate).probabilities == truth
    for kind in (torch.float16, torch.float64, torch.bfloat16):
        assert predictor.predict(torch.from_numpy(wave).to(kind).requires_grad_()).label is not None


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("ckpt", None, "^ckpt: takes a path or a name, got None$"),
        ("ckpt", 3, "^ckpt: takes a path"),
        ("device", 0, "^device: takes a name such as cpu or cuda:0, got 0$"),
        ("device", "gpu", "not a device"),
        ("upstream_path", ["a"], r"^upstream_path: takes a path or a name, got \['a'\]$"),
        ("trust_upstream", "no", "^trust_upstream: takes True or False, got 'no'$"),
        ("allow_other_upstream", None, "^allow_other_upstream: takes True or False, got None$"),
    ],
)
def test_arguments_of_load_of_the_wrong_kind(trained: Trained, name: str, value: Any, match: str):
    with pytest.raises(UsageError, match=match):
        s3prl_emotion.load(**{"ckpt": trained("corr_attn"), name: value})


def test_load_takes_paths_and_devices(trained: Trained):
    ckpt = trained("corr_attn")
    for wanted in (ckpt, str(ckpt), ckpt.parent):
        assert s3prl_emotion.load(wanted, device=torch.device("cpu")).head == "emotion_corr_attn"  # type: ignore


def test_integers_as_floats_are_warned_of_each_time(trained: Trained, caplog: pytest.LogCaptureFixture):
    predictor = s3prl_emotion.load(trained("corr_attn"))
    integers = (tone(300, 0.6, 2) * 32768).astype(np.int16)
    for _ in range(2):
        caplog.clear()
        predictor.predict(integers.astype(np.float32), RATE)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith("waveform 0: samples reach ")
        assert "full scale is 1" in line
        assert "divide 16-bit samples by 32768" in line
    caplog.clear()
    predictor.predict_batch([integers / 32768, integers.astype(float), tone(300, 0.6, 2)])
    assert [record.getMessage()[:12] for record in caplog.records] == ["waveform 1: "]


def test_silence_is_predicted(trained: Trained):
    for name in ("corr_attn", "tcgru", "acnn"):
        found = s3prl_emotion.load(trained(name)).predict(np.zeros(8000), RATE)
        values = [*found.probabilities.values(), *found.dimensions.values()]
        assert np.isfinite(values).all()


def test_options_that_cannot_be(trained: Trained):
    predictor = s3prl_emotion.load(trained("tcgru"))
    for options, match in (
        ({"attention": True}, "emotion_tcgru as it was trained has no attention"),
        ({"batch_size": 0}, "--batch_size 0"),
        ({"hop": 1.0}, "--hop 1: needs --window"),
        ({"window": 0.0}, "--window 0: must be above 0"),
        ({"window": float("nan")}, "--window nan"),
        ({"window": "1"}, r"^window: '1' is not a number \(s\)"),
        ({"hop": True, "window": 1}, "^hop: True is not a number"),
        ({"batch_size": 2.5}, "^batch_size: 2.5 is not a whole number"),
        ({"batch_size": None}, "^batch_size: None is not a whole number"),
        ({"window": 1.0, "hop": -1.0}, "--hop -1: must be above 0"),
        ({"window": 1.0, "hop": 1.5}, "--hop 1.5: would leave audio out"),
    ):
        with pytest.raises(UsageError, match=match):
            predictor.predict(tone(200, 0.4, 0), RATE, **options)


# --- windows -----------------------------------------------------------------------------------------------------


def test_spans_by_hand():
    windows = Windows(10.0, 5.0)
    seconds = [(start / RATE, end / RATE) for start, end in windows.spans(23 * RATE)]
    assert seconds == [(0, 10), (5, 15), (10, 20), (13, 23)]
    assert windows.spans(20 * RATE) == [(0, 160_000), (80_000, 240_000), (160_000, 320_000)]
    assert windows.spans(10 * RATE) == [(0, 10 * RATE)]
    assert windows.spans(10 * RATE + 1) == [(0, 10 * RATE), (1, 10 * RATE + 1)]
    assert windows.spans(7) == [(0, 7)]
    assert Windows.read(10, None) == windows
    assert Windows.read(None, None) is None


@settings(derandomize=True, max_examples=200)
@given(st.integers(1, 5000), st.integers(1, 700), st.integers(1, 700))
def test_spans_cover_all_and_are_equally_long(samples: int, length: int, hop: int):
    hop = min(hop, length)
    spans = Windows(length / RATE, hop / RATE).spans(samples)
    assert {end - start for start, end in spans} == {min(samples, length)}
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    steps = [later[0] - start[0] for start, later in pairwise(spans)]
    assert all(step == hop for step in steps[:-1])
    assert all(0 < step <= hop for step in steps)


def test_windows_are_predicted_as_files_of_their_own(predict: Predict, trained: Trained, shelf: Path):
    ckpt, file = trained("multitask"), shelf / "audio/5.wav"  # 1.3 s
    predictor, (wave, _) = s3prl_emotion.load(ckpt), soundfile.read(file, dtype="float32")
    times = [(0.0, 0.5), (0.3, 0.8), (0.6, 1.1), (0.8, 1.3)]
    alone = [predictor.predict(wave[round(a * RATE) : round(b * RATE)]) for a, b in times]
    values = np.array([[*one.probabilities.values(), *one.dimensions.values()] for one in alone])
    found = predictor.predict(wave, window=0.5, hop=0.3)
    assert [(item.start, item.end) for item in found.windows] == times
    got = [[*one.prediction.probabilities.values(), *one.prediction.dimensions.values()] for one in found.windows]
    np.testing.assert_allclose(got, values, atol=1e-6)
    whole = [*found.probabilities.values(), *found.dimensions.values()]
    np.testing.assert_allclose(whole, values.mean(axis=0), atol=1e-6)
    table = rows(predict("--ckpt", ckpt, file, "--window", "0.5", "--hop", "0.3").out)
    assert [row["window"] for row in table] == ["", "1", "2", "3", "4"]
    assert [(float(row["start"]), float(row["end"])) for row in table[1:]] == times
    assert (table[0]["start"], table[0]["end"]) == ("0", "1.3")
    columns = [*(f"p_{name}" for name in predictor.classes), *(f"{name}_pred" for name in NAMES)]
    np.testing.assert_allclose([[float(row[key]) for key in columns] for row in table[1:]], values, atol=1e-5)
    np.testing.assert_allclose([float(table[0][key]) for key in columns], values.mean(axis=0), atol=1e-5)


def test_window_longer_than_the_audio(trained: Trained):
    predictor, wave = s3prl_emotion.load(trained("corr_attn")), tone(300, 0.7, 4)
    found, whole = predictor.predict(wave, window=10), predictor.predict(wave)
    assert [(item.start, item.end) for item in found.windows] == [(0.0, 0.7)]
    assert found.probabilities == pytest.approx(whole.probabilities, abs=1e-6)
    with pytest.raises(AudioError, match=r"0.006 s"):
        predictor.predict(wave, window=0.00625)


# --- what is written ---------------------------------------------------------------------------------------------


def test_csv(predict: Predict, trained: Trained, shelf: Path):
    ckpt = trained("corr_attn")
    outcome = predict("--ckpt", ckpt, shelf / "audio", "--nbest", "2")
    table, predictor = rows(outcome.out), s3prl_emotion.load(ckpt)
    ranks, shares = ["top_1", "top_2"], [f"p_{name}" for name in CLASSES]
    assert list(table[0]) == ["FileName", "start", "end", "prediction", *ranks, *shares, "error", "warning"]
    assert [row["FileName"] for row in table] == [str(shelf / f"audio/{number}.wav") for number in range(6)]
    for row in table:
        found = predictor.predict(soundfile.read(row["FileName"], dtype="float32")[0])
        assert [float(row[key]) for key in shares] == pytest.approx(list(found.probabilities.values()), abs=1e-6)
        assert [row["prediction"], row["top_2"]] == [name for name, _ in found.nbest(2)]
        assert row["top_1"] == row["prediction"]
        assert (row["start"], float(row["end"]), row["error"]) == ("0", found.duration, "")
    assert "predict:" not in outcome.err  # progress is for terminals


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json(predict: Predict, trained: Trained, shelf: Path, kind: str):
    ckpt, out = trained("multitask"), Path(f"found.{kind}")
    words = ("--ckpt", ckpt, shelf / "audio", "--nbest", "1", "--window", "0.5", "--out", out)
    assert predict(*words).out == ""
    text = out.read_text()
    if kind == "json":
        content = json.loads(text)
        model, records = content["model"], content["predictions"]
        assert (model["head"], model["upstream"]) == ("emotion_multitask", "fbank_no_cmvn")
        assert (model["checkpoint"], model["dimensions"]) == (str(ckpt), NAMES)
        assert model["step"] == load_checkpoint(ckpt)["Step"]
    else:
        records = [json.loads(line) for line in text.splitlines()]
    assert [Path(record["file"]).name for record in records] == [f"{number}.wav" for number in range(6)]
    predictor = s3prl_emotion.load(ckpt)
    for record in records:
        assert list(record) == [
            *("file", "error", "duration", "prediction", "probabilities", "nbest", "dimensions", "windows"),
        ]
        found = predictor.predict(soundfile.read(record["file"], dtype="float32")[0], window=0.5)
        assert record["probabilities"] == pytest.approx(dict(found.probabilities), abs=1e-6)
        assert record["dimensions"] == pytest.approx(dict(found.dimensions), rel=1e-5)
        assert record["nbest"] == [{"class": found.label, "probability": record["probabilities"][found.label]}]
        assert len(record["windows"]) == len(found.windows)
        assert set(record["windows"][0]) == {"start", "end", "prediction", "probabilities", "nbest", "dimensions"}


def test_dimensions_alone_have_no_classes_to_name(predict: Predict, trained: Trained, shelf: Path):
    ckpt = trained("tcgru")
    table = rows(predict("--ckpt", ckpt, shelf / "audio/0.wav").out)
    spreads = [f"{name}Std" for name in NAMES]
    predicted = [f"{name}_pred" for name in [*NAMES, *spreads]]
    assert list(table[0]) == ["FileName", "start", "end", *predicted, "error", "warning"]
    outcome = predict("--ckpt", ckpt, shelf / "audio/0.wav", "--nbest", "1", "--out", "a.csv", code=1)
    assert "--nbest 1: emotion_tcgru has 0 classes" in errors(outcome)[0]
    assert not Path("a.csv").exists()


def test_attention_is_kept_for_each_file(predict: Predict, trained: Trained, shelf: Path):
    ckpt = trained("corr_attn")
    shutil.copytree(shelf / "audio", "speech/deep")
    words = ("--ckpt", ckpt, "speech", "--attention", "weights")
    table = rows(predict(*words).out)
    assert [row["attention"] for row in table] == [f"weights/deep/{number}.wav.npz" for number in range(6)]
    predictor = s3prl_emotion.load(ckpt)
    for row in table:
        wave = soundfile.read(row["FileName"], dtype="float32")[0]
        with np.load(row["attention"]) as file:
            assert file["frame_shift"] == pytest.approx(0.01)
            np.testing.assert_allclose(file["weights"], predictor.predict(wave, attention=True).attention, atol=1e-6)
    predict(*words, "--window", "0.4", "--hop", "0.2")
    with np.load("weights/deep/5.wav.npz") as file:
        assert set(file.files) == {"frame_shift", "start", "end", *(f"weights_{n}" for n in range(1, 7))}
        np.testing.assert_allclose(file["start"], [0, 0.2, 0.4, 0.6, 0.8, 0.9])
        assert file["weights_6"].sum() == pytest.approx(1, abs=1e-5)
    shutil.copytree("speech/deep", "other")
    outcome = predict("--ckpt", ckpt, "speech/deep", "other", "--attention", "weights", code=1)
    assert "would both be weights/0.wav.npz; name the folder that holds both" in errors(outcome)[0]
    outcome = predict("--ckpt", trained("tcgru"), "speech", "--attention", "w", "--out", "a.csv", code=1)
    assert "--attention: emotion_tcgru as it was trained has no attention" in errors(outcome)[0]
    assert not Path("a.csv").exists()
    assert not list(Path().glob(".*partial"))


def test_where_predictions_go(predict: Predict, trained: Trained, shelf: Path, tmp_path: Path):
    ckpt = trained("corr_attn")
    Path("broken.wav").write_bytes(b"no audio")
    Path("far").mkdir()
    Path("link.csv").symlink_to("far/a.csv")
    predict("--ckpt", ckpt, shelf / "audio/0.wav", "broken.wav", "--out", "link.csv", code=1)
    assert Path("link.csv").is_symlink()
    older = Path("far/a.csv").read_text()
    assert [bool(row["error"]) for row in rows(older)] == [False, True]
    for out in ("link.csv", "b.csv"):
        outcome = predict("--ckpt", ckpt, "broken.wav", "--out", out, code=1)
        assert errors(outcome)[-1].endswith(f"all 1 files failed, as reported above; nothing is written to {out}")
    assert Path("far/a.csv").read_text() == older
    assert not Path("b.csv").exists()
    assert rows(predict("--ckpt", ckpt, "broken.wav", code=1).out)[0]["error"]  # a stream has begun
    words = ("--ckpt", ckpt, shelf / "audio/0.wav", "--format", "csv", "--out")
    assert len(rows(predict(*words, "/dev/stdout").out)) == 1
    assert (
        "/dev/full: could not be written (No space left on device)" in errors(predict(*words, "/dev/full", code=1))[0]
    )
    Path("nowhere.csv").symlink_to("none/a.csv")
    assert "whose folder does not exist; make that" in errors(predict(*words, "nowhere.csv", code=1))[0]
    assert not list(tmp_path.rglob(".*partial"))


# --- which files -------------------------------------------------------------------------------------------------


def test_files_that_words_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.WAV", "b/1.flac", "b/c/d.mp3", "b/c/.hidden.wav", "b/.git/x.wav", "b/notes.txt", "a.ogg", "odd"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("b/c/up").symlink_to(tmp_path / "b")  # a loop
    inside = ["b/1.flac", "b/2.WAV", "b/c/d.mp3"]

    def paths(*words: str, stdin: str = "") -> list[str]:
        return [file.path for file in collect(words, io.StringIO(stdin))]

    assert paths("b") == inside
    assert paths("a.ogg", "b", "./a.ogg", "b/c/../", str(tmp_path / "b/c/d.mp3")) == ["a.ogg", *inside]
    assert paths("b/c/d.mp3", "b") == ["b/c/d.mp3", "b/1.flac", "b/2.WAV"]
    assert paths("odd", "gone.wav") == ["odd", "gone.wav"]  # what is named is tried
    assert paths("-", "a.ogg", stdin="odd\n\n  \r\nb\r\n-\n") == ["odd", *inside, "a.ogg"]
    assert [file.relative for file in collect(["b", "a.ogg"], io.StringIO())] == [
        *("1.flac", "2.WAV", "c/d.mp3", "a.ogg"),
    ]
    Path("empty").mkdir()
    for words, stdin in ((["empty"], ""), (["-"], "\n")):
        with pytest.raises(UsageError, match="no audio file there"):
            paths(*words, stdin=stdin)


def test_stdin_formats_and_folders(
    predict: Predict, trained: Trained, shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    ckpt = trained("corr_attn")
    wave = tone(200, 0.6, 5)
    known = soundfile.available_formats()
    names = ["x.wav", "x.flac", *(["x.ogg"] if "OGG" in known else []), *(["x.mp3"] if "MP3" in known else [])]
    Path("in").mkdir()
    for name in names:
        soundfile.write(f"in/{name}", np.stack([wave, wave], axis=1), RATE)
    monkeypatch.setattr(sys, "stdin", io.StringIO("in\n" + str(shelf / "audio/0.wav") + "\n"))
    table = rows(predict("--ckpt", ckpt, "-").out)
    assert [row["FileName"] for row in table] == [*sorted(f"in/{name}" for name in names), str(shelf / "audio/0.wav")]
    by_name = {Path(row["FileName"]).name: float(row["p_ang"]) for row in table}
    assert by_name["x.flac"] == pytest.approx(by_name["x.wav"], abs=1e-4)
    assert all(abs(by_name[name] - by_name["x.wav"]) < 0.05 for name in names)


# --- failures ----------------------------------------------------------------------------------------------------


def bad_audio(folder: Path) -> None:
    folder.mkdir()
    soundfile.write(folder / "a_good.wav", tone(200, 0.4, 0), RATE)
    (folder / "b_text.wav").write_text("no audio")
    soundfile.write(folder / "c_empty.wav", np.zeros(0), RATE)
    soundfile.write(folder / "d_nan.wav", np.full(8000, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "e_short.wav", np.zeros(50), RATE)
    soundfile.write(folder / "f_silent.wav", np.zeros(8000), RATE)
    soundfile.write(folder / "g_good.wav", tone(400, 0.4, 1), 8000)


@pytest.mark.parametrize("name", ["corr_attn", "superb", "hubert"])
def test_unreadable_files_are_reported_and_skipped(name: str, predict: Predict, trained: Trained):
    ckpt = trained(name)
    bad_audio(Path("in"))
    outcome = predict("--ckpt", ckpt, "in", "gone.wav", "--out", "found.csv", code=1)
    table = {Path(row["FileName"]).stem: row for row in rows(Path("found.csv").read_text())}
    assert list(table) == ["a_good", "b_text", "c_empty", "d_nan", "e_short", "f_silent", "g_good", "gone"]
    reasons = {
        "b_text": "unreadable audio", "c_empty": "audio has 0 samples", "d_nan": "audio holds NaN or infinite samples",
        "e_short": "(0.003 s)", "gone": "no such audio file",
    }  # fmt: skip
    if name == "hubert":  # extends what is short
        del reasons["e_short"]
    for stem, row in table.items():
        assert reasons.get(stem, "") in row["error"]
        assert bool(row["error"]) == (stem in reasons)
        assert bool(row["prediction"]) == (stem not in reasons)
        assert "label" not in row["error"]
        assert "FileName" not in row["error"]
    assert errors(outcome) == [
        f"s3prl-emotion: error: {len(reasons)} of 8 files failed, as reported above; the others are written"
    ]
    for stem, reason in reasons.items():
        assert len([line for line in outcome.err.splitlines() if f"{stem}.wav" in line and reason in line]) == 1
    alone = s3prl_emotion.load(ckpt).predict(tone(200, 0.4, 0))
    assert float(table["a_good"]["p_ang"]) == pytest.approx(alone.probabilities["ang"], abs=1e-4)  # 16-bit file
    predict("--ckpt", ckpt, "in", "--format", "jsonl", "--out", "found.txt", "--window", "0.2", code=1)
    records = {Path(item["file"]).stem: item for item in map(json.loads, Path("found.txt").read_text().splitlines())}
    assert set(records["b_text"]) == {"file", "error"}
    assert records["g_good"]["error"] is None


def test_damaged_files_are_predicted_with_a_warning(
    predict: Predict, trained: Trained, caplog: pytest.LogCaptureFixture
):
    ckpt, wave = trained("corr_attn"), tone(200, 0.4, 0)
    Path("in").mkdir()
    soundfile.write("in/good.wav", wave, RATE)
    soundfile.write("in/integers.wav", wave * 32767, RATE, subtype="FLOAT")
    soundfile.write("in/cancel.wav", np.stack([wave, -wave], axis=1), RATE)
    Path("in/cut.wav").write_bytes(Path("in/good.wav").read_bytes()[:9000])
    truth = {"good": "", "integers": "full scale is 1", "cancel": "2 channels cancel", "cut": "its header says 0.40 s"}
    outcome = predict("--ckpt", ckpt, "in")
    for row in rows(outcome.out):
        expected = truth[Path(row["FileName"]).stem]
        assert bool(row["warning"]) == bool(expected)
        assert expected in row["warning"]
        assert row["error"] == ""
        assert expected in caplog.text
    records = [json.loads(line) for line in predict("--ckpt", ckpt, "in", "--format", "jsonl").out.splitlines()]
    assert {Path(record["file"]).stem for record in records if "warning" in record} == {"integers", "cancel", "cut"}
    left = rows(predict("--ckpt", ckpt, "in/cancel.wav", "in/good.wav", "--channel", "left").out)
    assert [row["warning"] for row in left] == ["", ""]
    assert left[0]["p_ang"] == left[1]["p_ang"]
    outcome = predict("--ckpt", ckpt, "in/good.wav", "--channel", "2", code=1)
    assert rows(outcome.out)[0]["error"].startswith("has 1 channel, so there is no channel 2")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--ckpt", "none.ckpt", "in"], "none.ckpt: no such checkpoint"),
        (["--ckpt", "in", "in"], "in: holds no dev-best.ckpt; name a checkpoint file"),
        (["--ckpt", "in/a_good.wav", "in"], "damaged or not a checkpoint"),
        (["--ckpt", "GOOD", "empty"], "empty: no audio file there"),
        (["--ckpt", "GOOD", "in", "--out", "found.xml"], "found.xml: its suffix is no format"),
        (["--ckpt", "GOOD", "in", "--format", "jsn"], "no such format; nearest: json"),
        (["--ckpt", "GOOD", "in", "--out", "nowhere/found.csv"], "its folder does not exist"),
        (["--ckpt", "GOOD", "in", "--out", "in"], "is a folder"),
        (["--ckpt", "GOOD", "in", "--nbest", "5"], "--nbest 5: emotion_corr_attn has 4 classes"),
        (["--ckpt", "GOOD", "in", "--nbest", "0"], "--nbest 0"),
        (["--ckpt", "GOOD", "in", "--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["--ckpt", "GOOD", "in", "--batch_size", "0"], "--batch_size 0: must be 1 or more"),
        (["--ckpt", "GOOD", "in", "--hop", "1"], "--hop 1: needs --window"),
        (["--ckpt", "GOOD", "in", "--window", "1", "--hop", "0"], "--hop 0: must be above 0 s"),
        (["--ckpt", "GOOD", "in", "--device", "tpu9"], "--device tpu9: not a device"),
        (
            ["--ckpt", "GOOD", "in", "-k", "/gone/model"],
            "its upstream hf_speech_custom .* name its checkpoint with -k",
        ),
        (["--ckpt", "GOOD", "in", "--upstream_path", "gone"], "--upstream_path gone: no such folder"),
    ],
)
def test_bad_command_lines(predict: Predict, trained: Trained, words: list[str], match: str):
    ckpt = trained("corr_attn")
    bad_audio(Path("in"))
    Path("empty").mkdir()
    given = [str(ckpt) if word == "GOOD" else word for word in words]
    if "-k" in given:  # filterbanks ignore -k; a model does not
        given[given.index(str(ckpt))], match = (
            str(trained("hubert")),
            match.replace("fbank_no_cmvn", "hf_speech_custom"),
        )
    lines = errors(predict(*given, code=1))
    assert len(lines) == 1
    assert re.search(match, lines[0]), lines
    assert not Path("found.csv").exists()


def test_checkpoints_that_do_not_serve(cli: Cli, trained: Trained, superb_corpus: TinyCorpus):
    state = load_checkpoint(trained("tcgru"))

    def refused(match: str, **options: Any) -> None:
        torch.save(state, "changed.ckpt")
        with pytest.raises(CheckpointError, match=f"^changed.ckpt: {match}") as caught:
            s3prl_emotion.load("changed.ckpt", **options)
        assert len(str(caught.value).splitlines()) == 1

    modelrc = state["Config"]["downstream_expert"]["modelrc"]
    modelrc["lexical"] = [{"model": "bert"}]
    refused("emotion_tcgru with modelrc.lexical takes the transcript of each utterance besides audio")
    modelrc["lexical"] = []
    modelrc["gru_dmi"] = 3
    refused(r"downstream_expert.modelrc.gru_dmi: unknown key; nearest: gru_dim")
    del modelrc["gru_dmi"]
    modelrc["gru_dim"] = 9
    refused("its Downstream does not fit this experiment")
    modelrc["gru_dim"] = 8
    state["Args"].upstream, state["Args"].upstream_path = "my_model", "/old/place"
    refused("-u my_model: no such upstream.*; name the folder of its adapter with --upstream_path, /old/place in train")
    state["Args"].upstream = "fbank_no_cmvn"
    state["Args"].from_hf_hub = True
    refused("its upstream is code from the Hugging Face hub")
    state["Args"].from_hf_hub = False
    for name in ("emotion", "asr", None):
        state["Args"].downstream = name
        refused(f"is a checkpoint of -d {name}, not of one of the heads emotion_acnn, ")
    del state["Config"]["downstream_expert"]
    state["Args"].downstream = "emotion_tcgru"
    refused("downstream_expert: the recipe lacks this section")
    del state["Config"]
    torch.save(state, "changed.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of a downstream experiment"):
        s3prl_emotion.load("changed.ckpt")


def test_moved_upstream(predict: Predict, trained: Trained, shelf: Path):
    ckpt, moved, file = trained("hubert"), Path("moved").absolute(), shelf / "audio/0.wav"
    before = predict("--ckpt", ckpt, file).out
    shutil.move(shelf / "model", moved)
    try:
        lines = errors(predict("--ckpt", ckpt, file, code=1))
        assert f"{ckpt}: its upstream hf_speech_custom (-k {shelf / 'model'}) cannot be built" in lines[0]
        assert "name its checkpoint with -k" in lines[0]
        assert predict("--ckpt", ckpt, file, "-k", moved).out == before
    finally:
        shutil.move(moved, shelf / "model")


def test_answers_that_are_not_finite_are_failures(predict: Predict, trained: Trained, shelf: Path):
    state = load_checkpoint(trained("corr_attn"))
    for row, sign in enumerate((1, -1)):  # one of them overflows, whatever the sign of the input's sum
        state["Downstream"]["model.classifier.weight"][row] = sign * 3e38
        state["Downstream"]["model.classifier.bias"][row] = 3.4e38
    torch.save(state, "nan.ckpt")
    outcome = predict("--ckpt", "nan.ckpt", shelf / "audio/0.wav", code=1)
    assert rows(outcome.out)[0]["error"] == "the head's answer is not finite"


def test_names_that_are_odd(predict: Predict, trained: Trained, shelf: Path):
    names = ['in/a,"b.wav', "in/c\nd.wav", "in/é.wav", os.fsdecode(b"in/\xff.wav")]
    Path("in").mkdir()
    for name in names:
        shutil.copy(shelf / "audio/0.wav", name)
    for kind in ("csv", "json"):
        predict("--ckpt", trained("corr_attn"), "in", "--out", f"found.{kind}", code=1)
    table = rows(Path("found.csv").read_text(encoding="utf-8"))
    found = {item["file"]: item["error"] for item in json.loads(Path("found.json").read_text())["predictions"]}
    escaped = {name.replace("\n", r"\n"): error for name, error in found.items()}  # which a table for people shows
    assert {row["FileName"]: row["error"] or None for row in table} == escaped
    reason = "soundfile opens no file whose name is not UTF-8; rename it"
    assert found == dict.fromkeys(names[:3]) | {"in/\\xff.wav": reason}


def test_interrupted_and_failing_runs_leave_the_old_file(
    predict: Predict, trained: Trained, shelf: Path, monkeypatch: pytest.MonkeyPatch
):
    ckpt, calls, original = trained("corr_attn"), [], files.read_audio

    def read(path: str, *options: Any) -> Any:
        calls.append(path)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return original(path, *options)

    Path("found.csv").write_text("old\n")
    monkeypatch.setattr(files, "read_audio", read)
    outcome = predict("--ckpt", ckpt, shelf / "audio", "--out", "found.csv", "--batch_size", "1", code=130)
    assert errors(outcome) == ["s3prl-emotion: error: interrupted; found.csv is not written"]
    assert Path("found.csv").read_text() == "old\n"
    assert [path.name for path in Path().iterdir()] == ["found.csv"]


# --- processes ---------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_jobs_give_the_same_in_the_same_order(predict: Predict, trained: Trained, shelf: Path):
    ckpt = trained("corr_attn")
    words = ("--ckpt", ckpt, shelf / "audio", "gone.wav", "--batch_size", "2", "--window", "0.4")
    one = predict(*words, code=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        many = predict(*words, "--jobs", "2", code=1)
    assert many.out == one.out
    assert errors(many) == errors(one)


@pytest.mark.full
def test_errors_of_processes(predict: Predict, trained: Trained, shelf: Path):
    for words, match in (
        (("--ckpt", "none.ckpt"), "none.ckpt: no such checkpoint"),
        (("--ckpt", trained("tcgru"), "--attention", "w"), "--attention: emotion_tcgru as it was trained has no"),
    ):
        lines = errors(predict(*words, shelf / "audio", "--jobs", "2", "--out", "found.csv", code=1))
        assert len(lines) == 1
        assert match in lines[0]
    assert not Path("found.csv").exists()


@pytest.mark.full
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ctrl_c_and_kill_end_every_process(trained: Trained, tmp_path: Path, kill: signal.Signals):
    ckpt = trained("corr_attn")
    Path("in").mkdir()
    for number in range(3000):
        soundfile.write(f"in/{number:04}.wav", tone(200, 0.05, number), RATE)
    words = ["predict", "--ckpt", str(ckpt), "in", "--jobs", "2", "--out", "found.jsonl", "--attention", "att"]
    process = subprocess.Popen(
        [sys.executable, "-m", "s3prl_emotion", *words],
        env={**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (Path("att").is_dir() and len(list(Path("att").iterdir())) > 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if kill != signal.SIGKILL:
        os.killpg(process.pid, kill)  # as a terminal and SLURM do
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + kill
        assert "Traceback" not in err, err
        reason = "interrupted" if kill == signal.SIGINT else "ended by SIGTERM"
        assert err.strip().splitlines()[-1] == f"s3prl-emotion: error: {reason}; found.jsonl is not written"
        assert not list(Path().glob(".*partial"))
    else:
        process.kill()
        process.wait(timeout=60)
        left = list(Path().glob(".found.jsonl.*.partial"))
        assert len(left) == 1
        assert s3prl_emotion.cli.main([*words[:3], "in/0000.wav", *words[6:]]) == 0
        assert not list(Path().rglob(".*.partial"))
        Path("found.jsonl").unlink()
    assert not Path("found.jsonl").exists()
    while True:  # the session's other processes end too
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.full
def test_folder_of_ten_thousand_files(predict: Predict, trained: Trained):
    ckpt = trained("corr_attn")
    Path("warm").mkdir()
    for number in range(10_000):
        folder = Path(f"in/{number // 1000}")
        folder.mkdir(parents=True, exist_ok=True)
        pitch = 100 + number % 400
        soundfile.write(folder / f"{number:05}.wav", tone(pitch, 0.05 + 0.0125 * (number % 5), number), RATE)
    for number in range(300):
        shutil.copy(f"in/0/{number:05}.wav", "warm")
    Path("in/5/05555.wav").write_bytes(b"torn")
    predict("--ckpt", ckpt, "warm", "--out", "warm.csv")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = predict("--ckpt", ckpt, "in", "--out", "found.csv", "--batch_size", "32", code=1)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # MB of the highest mark
    assert "1 of 10000 files failed" in errors(outcome)[0]
    table = rows(Path("found.csv").read_text())
    assert [row["FileName"] for row in table] == [f"in/{n // 1000}/{n:05}.wav" for n in range(10_000)]
    assert [row["FileName"] for row in table if row["error"]] == ["in/5/05555.wav"]
    assert grown < 64, f"{grown:.0f} MB"
    warm = rows(Path("warm.csv").read_text())
    for row, other in zip(table, warm, strict=False):
        assert float(row["p_ang"]) == pytest.approx(float(other["p_ang"]), abs=1e-6)
