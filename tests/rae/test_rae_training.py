"""Pretraining of the ``rae`` upstream: what audio is found, order and batches, training, resuming, and the upstream."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import RATE, SOURCE, Cli, TinyCorpus, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import suite_command, together

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.errors import AudioError, CheckpointError, ConfigError, EmotionError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.locks import locked
from s3prl_emotion.rae.adapter import Configuration, SpectrogramSection, read_state
from s3prl_emotion.rae.audio_index import AudioIndex, index_audio, index_table
from s3prl_emotion.rae.audio_stream import BatchOrder, Segment, Spectrograms, batches
from s3prl_emotion.rae.stm import GAP, IGNORED, Cut, read_stm
from s3prl_emotion.rae.training import Outcome, Pretraining
from s3prl_emotion.rng import restore_rng, rng_state

load_autoencoder = importlib.import_module("s3prl.upstream.rae.configuration").load_autoencoder
WINDOW, HOP = 1280, 640
SMALL = {"spectrogram": {"num_mels": 24}, "model": {"hidden_size": 12}}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Upstreams registered; one thread, and generators as they were."""
    s3prl_emotion.register()
    generators, threads = rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    restore_rng(generators)


def index_of(*folders: Path, layout: str = "auto", max_seconds: float = 30.0) -> AudioIndex:
    return index_audio(folders, layout, WINDOW, HOP, max_seconds)


def write(path: Path, seconds: float, seed: int = 0, rate: int = RATE, pitch: float = 300.0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(pitch, seconds, seed, rate), rate, **options)
    return path


def glides(folder: Path, count: int = 24) -> Path:
    """Toy signals: tones that rise and fall, each from a pitch of its own, 0.5 to 1.3 s."""
    folder.mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        time_axis = np.arange(int(RATE * generator.uniform(0.5, 1.3))) / RATE
        pitch = generator.uniform(300, 900) * (1 + 0.5 * np.sin(2 * np.pi * generator.uniform(1, 2) * time_axis))
        wave = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + generator.normal(scale=1e-3, size=len(time_axis))
        soundfile.write(folder / f"{number:02d}.wav", wave.astype(np.float32), RATE)
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy signals, shared: tests must not write into the folder."""
    return glides(tmp_path_factory.mktemp("rae") / "toy")


def spans(index: AudioIndex) -> list[tuple[str, int, int]]:
    return [(index.path(number).name, index.start[number], index.stop[number]) for number in range(len(index))]


# --- what audio there is ------------------------------------------------------------------------------------------


def test_a_folder_is_searched_and_what_is_of_no_use_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.wav", 1.0)
    write(tmp_path / "b" / "deep" / "two.flac", 0.5, rate=22_050)
    write(tmp_path / "b" / "short.wav", 0.0799)
    write(tmp_path / "b" / "just.wav", 0.08)
    write(tmp_path / "b" / ".hidden.wav", 1.0)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "zero.wav").touch()
    (tmp_path / "noise.mp3").write_bytes(b"no audio" * 99)
    (tmp_path / "notes.txt").write_text("not audio")
    index = index_of(tmp_path)
    assert spans(index) == [("one.wav", 0, RATE), ("just.wav", 0, 1280), ("two.flac", 0, 11_025)]
    assert index.skipped == {"unreadable": 2, "empty": 1, "shorter than a window": 1}
    assert "short.wav: 0.080 s from 0.000 s on" in index.first["shorter than a window"]
    assert list(index.frames) == [24, 1, 11]
    assert index.hours == pytest.approx((RATE + 1280 + 8000) / RATE / 3600)
    assert len(set(index.group)) == 3


def test_long_audio_is_cut_into_equal_parts(tmp_path: Path) -> None:
    write(tmp_path / "long.wav", 5.0)
    write(tmp_path / "fits.wav", 2.0)
    index = index_of(tmp_path, max_seconds=2.0)
    cuts = [0, 26_666, 53_333, 80_000]
    assert spans(index) == [
        ("fits.wav", 0, 32_000),
        *(("long.wav", *pair) for pair in pairwise(cuts)),
    ]
    assert index.group[1] == index.group[3] != index.group[0]


def test_librispeech_is_told_by_its_names_and_held_out_by_speaker(tmp_path: Path) -> None:
    for speaker in (19, 26, 1000):
        for number in range(3):
            write(tmp_path / "dev-clean" / str(speaker) / "198" / f"{speaker}-198-{number:04d}.flac", 0.3, seed=number)
        (tmp_path / "dev-clean" / str(speaker) / "198" / f"{speaker}-198.trans.txt").write_text("19-198-0000 WORDS\n")
    write(tmp_path / "dev-clean" / "26" / "other.wav", 1.0)
    index = index_of(tmp_path)
    assert len(index) == 9
    assert index.skipped == {"not named as LibriSpeech's": 1}
    for seed in range(4):
        train, dev = index.held_out(0.02, seed)
        assert sorted([*train, *dev]) == list(range(9))
        assert len({index.path(number).name.split("-")[0] for number in dev}) == 1 == len(dev) / 3
    assert len(index_of(tmp_path, layout="folder")) == 10


STM = """\
;; CATEGORY "0" "" ""
A_2004 1 A 0.50 1.25 <o,f0,male> so this is {it}
A_2004 1 inter_segment_gap 1.25 1.50 <o,,unknown> ignore_time_segment_in_scoring

A_2004 1 A 1.50 1.55 <o,f0,male> ah
A_2004 1 A 1.75 9.99 no label and beyond the end
A_2004 1 A 2.00 1.00 <o,f0,male> backwards
A_2004 1 A x 3.00 <o,f0,male> no number
A_2004 1 A
A_2004 1 A 0.0 0.4 <o,f0,male> IGNORE_TIME_SEGMENT_IN_SCORING
../B 1 B 0.0 1.0 <o,f0,male> outside
A_2004 1 A 8.0 9.0 <o,f0,male> after the end
"""


def tedlium(folder: Path, talks: int = 1) -> Path:
    """TED-LIUM 2 in small: 2 s of a talk in NIST SPHERE, and its STM."""
    (folder / "stm").mkdir(parents=True)
    for number in range(talks):
        name = f"{chr(65 + number)}_2004"
        write(folder / "sph" / f"{name}.sph", 2.0, seed=number, format="NIST", subtype="PCM_16")
        (folder / "stm" / f"{name}.stm").write_text(STM.replace("A_2004", name))
    return folder


def test_tedlium_is_cut_by_its_segments(tmp_path: Path) -> None:
    tedlium(tmp_path / "train")
    (tmp_path / "train" / "stm" / "gone.stm").write_text("gone 1 X 0 1 <o,f0,male> words\n")
    index = index_of(tmp_path)
    assert spans(index) == [("A_2004.sph", 8000, 20_000), ("A_2004.sph", 28_000, 32_000)]
    assert index.skipped == {"STM line unreadable": 4, "STM without audio": 1, "shorter than a window": 2}
    assert "A_2004.stm: line 7: from 2.00 to 1.00 s is no segment" in index.first["STM line unreadable"]
    got = Spectrograms(index, SpectrogramSection())[0]
    whole = tone(300.0, 2.0, 0)
    expected = Spectrograms(index, SpectrogramSection()).spectrogram(torch.from_numpy(whole[8000:20_000]))
    assert isinstance(got, Segment)
    torch.testing.assert_close(got.features, expected, atol=0.02, rtol=0)  # 16 bits


def test_talks_that_were_converted_are_found_too(tmp_path: Path) -> None:
    folder = tedlium(tmp_path / "train", talks=2)
    (folder / "sph" / "B_2004.sph").unlink()
    write(folder / "sph" / "B_2004.flac", 2.0)
    assert {name for name, _, _ in spans(index_of(folder))} == {"A_2004.sph", "B_2004.flac"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from(["a", ";;", "1", "-1", "nan", "1e999", "ü", IGNORED, GAP]), max_size=8)))
def test_any_stm_is_read_to_its_end(tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("stm") / "any.stm"
    path.write_text("\n".join(" ".join(words) for words in lines), encoding="utf-8")
    for number, cut in read_stm(path):
        assert lines[number - 1]
        assert isinstance(cut, str) or 0 <= cut.begin < cut.end < np.inf


def test_stm_lines(tmp_path: Path) -> None:
    (tmp_path / "a.stm").write_text(STM)
    lines = dict(read_stm(tmp_path / "a.stm"))
    assert list(lines) == [2, 5, 6, 7, 8, 9, 11, 12]
    assert lines[2] == Cut("A_2004", 0.5, 1.25)
    assert lines[8] == "times 'x', '3.00' are no numbers"
    assert lines[9] == "3 fields, at least 5 are needed"
    assert lines[11] == "'../B' is no file name"


@pytest.mark.parametrize(
    ("seconds", "layout", "error", "message"),
    [
        (None, "auto", UsageError, r"--audio .*audio: no such folder"),
        (0.0, "auto", AudioError, r"no audio to train on: 1 empty \(.*a\.wav: 0 samples\)"),
        (0.01, "auto", AudioError, r"no audio to train on: 1 shorter than a window \(.*a\.wav"),
        (1.0, "tedlium", UsageError, r"--layout tedlium: .* holds no stm"),
        (1.0, "librispeech", UsageError, r"--layout librispeech: .* does not start with a SPEAKER"),
    ],
)
def test_nothing_to_train_on(
    tmp_path: Path, seconds: float | None, layout: str, error: type[EmotionError], message: str
) -> None:
    if seconds is not None:
        write(tmp_path / "audio" / "a.wav", seconds)
    with pytest.raises(error, match=message):
        index_of(tmp_path / "audio", layout=layout)


def test_a_folder_without_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"--audio .*: no audio to train on: no audio file in it"):
        index_of(tmp_path)


def test_shortened_sphere_files_say_what_helps(tmp_path: Path) -> None:
    folder = tedlium(tmp_path / "train")
    (folder / "sph" / "A_2004.sph").write_bytes(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\n")
    with pytest.raises(AudioError, match=r"1 unreadable \(.*A_2004\.sph: .*; convert it with sph2pipe or sox\)"):
        index_of(folder)


def test_folders_within_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.wav", 1.0)
    for other in (tmp_path / "a", tmp_path / "b" / ".." / "a"):
        with pytest.raises(UsageError, match=r"lies in .* or is given twice; give one of them"):
            index_of(tmp_path / "a", other)
    with pytest.raises(UsageError, match="lies in"):
        index_of(tmp_path / "a", tmp_path)


def test_a_label_table_names_each_turn_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder of IEMOCAP holds each turn twice, in its dialogue and as a file of its own."""
    root = tmp_path / "corpus"
    for number in range(3):
        write(root / "sentences" / f"{number}.wav", 0.5, number)
    write(root / "dialog" / "all.wav", 1.5)
    table = tmp_path / "labels.csv"
    rows = [f"sentences/{number}.wav,{'' if number == 1 else 'neu'},s{number}" for number in (2, 0, 1)]
    table.write_text("FileName,EmoClass,SpkrID\n" + "\n".join(rows) + "\n")
    assert len(index_of(root)) == 4
    index = index_table(str(table), str(root), WINDOW, HOP, 30.0)
    assert spans(index) == [(f"{number}.wav", 0, RATE // 2) for number in range(3)]
    assert index.path(0) == root / "sentences" / "0.wav"
    assert len(set(index.group)) == 3  # files are held out, since speakers are few
    out = ("--out", tmp_path / "out", "--device", "cpu", "--steps", 1, "--valid", 0, "--batch_size", 2)
    configured = (*out, "--config", small_yaml(tmp_path))
    command(capfd, "pretrain-rae", "--labels", table, "--root", root, *configured)
    assert (tmp_path / "out" / "rae.ckpt").is_file()
    for words, message in (
        (("--labels", table), "--root: name the folder with the audio"),
        (
            ("--labels", tmp_path / "none.csv", "--root", root),
            "no such label table or meta_data folder",
        ),
        (("--labels", table, "--root", root, "--layout", "folder"), "a label table has no layout"),
        (("--audio", root, "--root", root), "is the audio folder of --labels"),
    ):
        assert message in command(capfd, "pretrain-rae", *words, *out, code=1)[1]


def test_too_few_files_to_hold_any_out(tmp_path: Path) -> None:
    write(tmp_path / "one.wav", 1.0)
    with pytest.raises(UsageError, match=r"--valid 0\.02: there are 1 files, .* or 0 for none"):
        index_of(tmp_path).held_out(0.02, 0)
    assert [len(part) for part in index_of(tmp_path).held_out(0, 0)] == [1, 0]


def test_the_signature_tells_other_audio_but_not_another_place(tmp_path: Path, toy: Path) -> None:
    first = glides(tmp_path / "moved", 24)
    assert index_of(first).signature() == index_of(toy).signature()
    write(first / "more.wav", 1.0)
    assert index_of(first).signature() != index_of(toy).signature()


# --- order and batches --------------------------------------------------------------------------------------------


def test_an_epoch_has_every_stretch_once_and_its_order_follows_from_seed_and_epoch() -> None:
    frames = np.random.default_rng(0).integers(1, 500, size=1003)
    numbers = np.arange(3, 1003)

    def order(**more: Any) -> BatchOrder:
        return BatchOrder(numbers, frames, **{"batch_size": 4, "seed": 1, "epoch": 2} | more)

    whole = list(order())
    assert sorted(number for batch in whole for number in batch) == numbers.tolist()
    assert len(whole) == len(order()) == 250
    assert list(order()) == whole
    assert list(order(epoch=3)) != whole
    assert list(order(seed=2)) != whole
    for skip in (1, 50, 51, 249, 250):
        assert list(order(skip=skip)) == whole[skip:]
        assert len(order(skip=skip)) == 250 - skip
    shares = [list(order(batch_size=2, rank=rank, world=2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]
    spread = np.mean([np.ptp(frames[batch]) for batch in whole])
    assert spread < 0.1 * np.ptp(frames)  # like lengths are together


@pytest.mark.full
def test_what_cannot_be_decoded_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    broken = write(tmp_path / "b.flac", 3.0)
    samples = tone(300, 0.5, 0)
    samples[77] = np.nan
    soundfile.write(tmp_path / "c.wav", samples, RATE, subtype="FLOAT")
    index = index_of(tmp_path)
    broken.write_bytes(broken.read_bytes()[:200])
    for workers in (0, 1):
        (batch,) = batches(Spectrograms(index, SpectrogramSection()), [[0, 1, 2]], workers)
        assert batch.features.shape == (1, 11, 128)
        assert [item[:2] for item in batch.skipped] == [(1, "unreadable"), (2, "NaN or infinite")]
        (nothing,) = batches(Spectrograms(index, SpectrogramSection()), [[1]], workers)
        assert len(nothing) == 0 == nothing.seconds


def test_the_file_of_a_stretch_is_read_at_its_own_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 6.0, rate=44_100)
    index = index_of(tmp_path, max_seconds=3.0)
    (batch,) = batches(Spectrograms(index, SpectrogramSection()), [[0, 1]], 0)
    assert batch.lengths.tolist() == [74, 74] == list(index.frames)
    assert batch.seconds == pytest.approx(2 * 74 * 0.04)


# --- training -----------------------------------------------------------------------------------------------------


def train(folder: Path, out: Path, **training: Any) -> Outcome:
    values = {"batch_size": 4, "lr": 0.01, "valid": 0.1, "log_step": 2, "eval_step": 5, "save_step": 5} | training
    model = {**SMALL["model"], **values.pop("model", {})}
    config = Configuration.read({**SMALL, "model": model, "training": values}, "test")
    out.mkdir(parents=True, exist_ok=True)
    return Pretraining(config, index_of(folder), out, torch.device("cpu")).run()


@pytest.mark.full
@pytest.mark.parametrize("order", ["audeep", "aligned"])
def test_a_toy_signal_is_reconstructed(tmp_path: Path, toy: Path, order: str) -> None:
    model = {"hidden_size": 32, "decoder": order, "dropout": 0.0}
    done = train(toy, tmp_path / "out", steps=90, lr=0.01, eval_step=999, model=model)
    assert done.steps == 90
    assert done.dev_loss is not None
    assert done.dev_mean_loss is not None
    assert done.dev_loss < 0.7 * done.dev_mean_loss
    assert done.hours > 0


def test_predicting_the_mean_is_what_it_says(tmp_path: Path, toy: Path) -> None:
    done = train(toy, tmp_path / "out", steps=1)
    index = index_of(toy)
    dataset = Spectrograms(index, SpectrogramSection(num_mels=24))
    frames = torch.cat([dataset[number][1] for number in index.held_out(0.1, 0)[1]]).double()
    assert done.dev_mean_loss == pytest.approx(float((frames - frames.mean(dim=0)).square().mean().sqrt()), rel=1e-9)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    return bool(first == second)


def state_of(out: Path) -> dict[str, Any]:
    state = read_state(out / "rae.ckpt")
    del state["Rae"]["training"]["steps"]
    return state


@pytest.mark.full
@pytest.mark.parametrize("stops", [(3,), (6, 7), (5, 12)])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, toy: Path, stops: tuple[int, ...]) -> None:
    train(toy, tmp_path / "whole", steps=14, log_step=1, eval_step=7)
    for steps in (*stops, 14):
        done = train(toy, tmp_path / "parts", steps=steps, log_step=1, eval_step=7)
        assert done.steps == steps
    states = [state_of(tmp_path / name) for name in ("whole", "parts")]
    assert same(*states)
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("whole", "parts")]
    losses = [[(line["step"], line["loss"]) for line in log if "loss" in line] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 14


@pytest.mark.full
def test_processes_that_read_audio_change_nothing(tmp_path: Path, toy: Path) -> None:
    states = []
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        config = Configuration.read({**SMALL, "training": {"steps": 4, "batch_size": 4}}, "test")
        Pretraining(config, index_of(toy), tmp_path / str(workers), torch.device("cpu"), workers).run()
        states.append(state_of(tmp_path / str(workers)))
    assert same(*states)


def test_a_run_that_is_done_is_left_as_it_is(tmp_path: Path, toy: Path) -> None:
    first = train(toy, tmp_path / "out", steps=4)
    before = (tmp_path / "out" / "rae.ckpt").read_bytes()
    again = train(toy, tmp_path / "out", steps=4)
    assert (again.steps, again.loss, again.dev_loss) == (4, first.loss, first.dev_loss)
    assert (tmp_path / "out" / "rae.ckpt").read_bytes() == before


def test_another_run_is_not_resumed(tmp_path: Path, toy: Path) -> None:
    out = tmp_path / "out"
    train(toy, out, steps=2)
    with pytest.raises(
        CheckpointError, match=r"rae\.ckpt: was trained with training\.lr 0\.01, not 0\.02; name another"
    ):
        train(toy, out, steps=4, lr=0.02)
    with pytest.raises(CheckpointError, match=r"was trained with model\.hidden_size 12, not 8"):
        train(toy, out, steps=4, model={"hidden_size": 8})
    with pytest.raises(CheckpointError, match=r"was trained on other audio"):
        train(glides(tmp_path / "other", 20), out, steps=4)
    torch.save({"Args": {}, "Config": {}}, out / "rae.ckpt")
    with pytest.raises(CheckpointError, match=r"rae\.ckpt: not a checkpoint of s3prl-emotion pretrain-rae"):
        train(toy, out, steps=4)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "Rae a list": (lambda state: state.update(Rae=[1]), "its Rae must be a mapping"),
    "a section a list": (lambda state: state["Rae"].update(model=[1]), "does not fit this pretraining"),
    "Step a text": (lambda state: state.update(Step="2"), "its Step must be a number from 0"),
    "no Optimizer": (lambda state: state.pop("Optimizer"), "does not fit this pretraining"),
    "Optimizer a list": (lambda state: state.update(Optimizer=[]), "its Optimizer must be state and param_groups"),
    "Losses a text": (lambda state: state.update(Losses="x"), "its Losses must be a list"),
    "Unread empty": (lambda state: state.update(Unread=[]), "does not fit this pretraining"),
    "Rng nothing": (lambda state: state.update(Rng=[]), "its Rng must be states of generators"),
    "NaN": (lambda state: next(iter(state["Model"].values())).fill_(np.nan), "its Model: .* holds values that are not"),
    "damage": (lambda state: state.update(Digest="sha256-1:0"), "damaged or not a checkpoint"),
}


def test_a_checkpoint_of_wrong_structure_is_not_resumed(tmp_path: Path, toy: Path) -> None:
    out = tmp_path / "out"
    train(toy, out, steps=2)
    content = (out / "rae.ckpt").read_bytes()
    for change, message in WRONG.values():
        (out / "rae.ckpt").write_bytes(content)
        state = load_checkpoint(out / "rae.ckpt", required=("Rae",), kind="")
        change(state)
        torch.save(state, out / "rae.ckpt")
        with pytest.raises(CheckpointError, match=message):
            train(toy, out, steps=4)


def test_what_a_killed_process_wrote_half_leaves_the_log(tmp_path: Path, toy: Path) -> None:
    out = tmp_path / "out"
    train(toy, out, steps=2)
    path = out / "log.jsonl"
    before = path.read_text()
    assert [json.loads(line)["step"] for line in before.splitlines()] == [2, 2]  # loss, dev loss
    path.write_text(before + '{"step": 3, "epoch": 0, "loss": 1.0}\n{"step": 3, "epo')
    train(toy, out, steps=4)
    assert path.read_text().startswith(before)
    assert {json.loads(line)["step"] for line in path.read_text().splitlines()} == {2, 4}


def test_one_pretraining_in_a_folder(tmp_path: Path, toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, config = tmp_path / "out", small_yaml(tmp_path, batch_size=4)
    out.mkdir()
    words = ("pretrain-rae", "--audio", toy, "--out", out, "--config", config, "--device", "cpu", "--steps", 1)
    with locked(out / ".lock", "busy"):
        _, err = command(capfd, *words, code=1)
    assert f"--out {out}: is in use by another pretraining (process {os.getpid()}); wait for it or end it" in err
    assert not (out / "rae.ckpt").exists()
    command(capfd, *words)
    assert (out / "rae.ckpt").exists()


def test_what_cannot_be_decoded_does_not_stop_training_and_is_counted_once(tmp_path: Path) -> None:
    folder = glides(tmp_path / "audio", 12)
    write(folder / "short.wav", 0.05)
    (folder / "zero.flac").touch()
    index = index_of(folder)
    for name in ("03.wav", "07.wav"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    config = Configuration.read({**SMALL, "training": {"batch_size": 1, "valid": 0.0, "epochs": 2}}, "test")
    (tmp_path / "out").mkdir()
    done = Pretraining(config, index, tmp_path / "out", torch.device("cpu")).run()
    assert done.skipped == {"unreadable": 3, "shorter than a window": 1}
    assert done.steps == 24
    assert done.dev_loss is None


def test_faulty_files_are_said_once_by_count_and_a_channel_can_be_chosen(tmp_path: Path, caplog) -> None:
    folder = glides(tmp_path / "audio", 2)
    sound = tone(300, 0.8, 0)
    for name, samples in {"out.wav": np.stack([sound, -sound], axis=1), "loud.wav": 9000 * sound}.items():
        soundfile.write(folder / name, samples, RATE, subtype="FLOAT")
    index = index_of(folder, max_seconds=0.5)  # several segments of each file
    config = Configuration.read({**SMALL, "training": {"valid": 0.2, "epochs": 2, "batch_size": 4}}, "test")
    (tmp_path / "out").mkdir()
    Pretraining(config, index, tmp_path / "out", torch.device("cpu")).run()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert any("pretrain-rae: 1 of 4 audio files (out.wav) have channels that cancel" in line for line in said)
    assert any(
        "pretrain-rae: 1 of 4 audio files (loud.wav) have samples far beyond full scale" in line for line in said
    )
    signature = index.signature()
    index.channel = "left"
    assert index.signature() != signature
    (number,) = {index.file[number]: number for number in range(len(index)) if index.name(number) == "out.wav"}.values()
    left = Spectrograms(index, SpectrogramSection())[number]
    index.channel = "right"
    assert isinstance(left, Segment)
    assert not left.faults
    assert left.features.abs().max() > 0.1
    lacking = Spectrograms(index, SpectrogramSection())[0]
    assert not isinstance(lacking, Segment)
    assert "has 1 channel, so there is no channel right" in lacking[2]


def test_audio_of_which_nothing_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    folder = glides(tmp_path / "audio", 3)
    index = index_of(folder)
    for path in folder.iterdir():
        path.unlink()
    config = Configuration.read({**SMALL, "training": {"valid": 0.0, "steps": 2}}, "test")
    with pytest.raises(AudioError, match=r"nothing of it could be read: .*\.wav"):
        Pretraining(config, index, tmp_path, torch.device("cpu")).run()


def test_configuration_is_strict() -> None:
    for values, message in (
        ({"modle": {}}, "test: modle: unknown section; nearest: model"),
        ({"model": {"hidden": 3}}, r"test: model\.hidden: unknown key; nearest: hidden_size"),
        ({"training": {"steps": 0}}, r"test: training\.steps: .* got 0"),
        ({"training": {"precision": "bf16"}}, r"test: training\.precision"),
    ):
        with pytest.raises(ConfigError, match=message):
            Configuration.read(values, "test")
    with pytest.raises(UsageError, match=r"--precision fp16: is for a CUDA device, this is cpu"):
        Pretraining(
            Configuration.read({"training": {"precision": "fp16"}}, "test"),
            AudioIndex([]), Path(), torch.device("cpu"),
        )  # fmt: skip


def test_the_defaults_are_the_papers() -> None:
    config = Configuration.read({}, "test").dump()
    assert config["spectrogram"] == {"num_mels": 128, "window_ms": 80.0, "hop_ms": 40.0, "clip_db": None}
    assert config["model"] == {"hidden_size": 256, "num_layers": 2, "dropout": 0.2, "decoder": "audeep"}
    assert (config["training"]["lr"], config["training"]["epochs"]) == (1e-3, 64)


# --- several processes --------------------------------------------------------------------------------------------


def small_yaml(folder: Path, **training: Any) -> Path:
    path = folder / "small.yaml"
    model = {**SMALL["model"], "dropout": 0.0}
    options = {"valid": 0.1, "save_step": 1, "eval_step": 2, "log_step": 1, **training}
    path.write_text(yaml.safe_dump({**SMALL, "model": model, "training": options}))
    return path


@pytest.mark.full
def test_two_processes_equal_one(tmp_path: Path, toy: Path) -> None:
    config = small_yaml(tmp_path)
    for world, batch in ((None, 8), (2, 4)):
        words = ("pretrain-rae", "--audio", toy, "--out", f"w{world}", "--config", config, "--device", "cpu")
        left = together(tmp_path, world, suite_command, (*words, "--batch_size", batch, "--steps", 4))
        assert [process.value for process in left] == [0] * len(left), left
    one, two = (read_state(tmp_path / name / "rae.ckpt") for name in ("wNone", "w2"))
    for name, weight in one["Model"].items():
        torch.testing.assert_close(two["Model"][name], weight, rtol=0, atol=2e-5, msg=name)
    assert two["Last"]["dev_loss"] == pytest.approx(one["Last"]["dev_loss"], rel=1e-4)
    alone = Configuration.read(two["Rae"], "test")
    with pytest.raises(CheckpointError, match=r"rae\.ckpt: was trained by 2 processes, not 1; name another --out"):
        Pretraining(alone, index_of(toy), tmp_path / "w2", torch.device("cpu"))


@pytest.mark.full
def test_a_killed_run_goes_on_exactly(tmp_path: Path, toy: Path) -> None:
    config = small_yaml(tmp_path, batch_size=4)
    words = ["pretrain-rae", "--audio", str(toy), "--config", str(config), "--device", "cpu", "--steps", "40"]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "s3prl_emotion", *words, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    path = tmp_path / "killed" / "rae.ckpt"
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < read_state(path)["Step"] <= 40
    subprocess.run(command, env=environment, check=True, capture_output=True)
    subprocess.run([*command[:-1], str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    assert same(*(read_state(tmp_path / name / "rae.ckpt") for name in ("killed", "whole")))


# --- the command and the upstream ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Path:
    out = tmp_path_factory.mktemp("checkpoint")
    train(toy, out, steps=3)
    return out / "rae.ckpt"


def command(capfd: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    capfd.readouterr()
    got = suite.main([str(word) for word in words])
    out, err = capfd.readouterr()
    assert got == code, err
    return out, err


def test_the_command(tmp_path: Path, toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SMALL, "training": {"batch_size": 64, "valid": 0.1}}))
    words = (
        "pretrain-rae",
        "--audio",
        toy,
        "--out",
        tmp_path / "out",
        "--config",
        tmp_path / "c.yaml",
        "--device",
        "cpu",
    )
    out, _ = command(capfd, *words, "--batch_size", 7, "--epochs", 2, "--clip_db", -60)
    assert f"{tmp_path / 'out' / 'rae.ckpt'}: 6 steps, loss 0." in out
    assert "from each band's mean" in out
    _, config, steps = load_autoencoder(tmp_path / "out" / "rae.ckpt")
    assert (config.spectrogram.clip_db, config.training.batch_size, steps) == (-60.0, 7, 6)
    _, err = command(capfd, *words, "--batch_size", 8, "--epochs", 2, "--clip_db", -60, code=1)
    assert "error: " in err
    assert "was trained with training.batch_size 7, not 8; name another --out" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--audio", "none"), "--audio none: no such folder"),
        (("--steps", "0"), "training.steps: Input should be greater than or equal to 1, got 0"),
        (("--config", "no.yaml"), "--config no.yaml: no such file"),
        (("--num_workers", "-1"), "--num_workers -1: must be 0 or more"),
        (("--device", "cpux"), "--device cpux: not a device"),
        (("--clip_db", "60"), "spectrogram.clip_db: Input should be less than 0, got 60.0"),
        (("--out", SOURCE + "/s3prl_emotion/cli.py"), "cli.py: is not a folder"),
        (("--valid", "0.99"), "--valid 0.99: there are 24 files"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path, toy: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    _, err = command(
        capfd, "pretrain-rae", "--audio", toy, "--out", tmp_path / "out", "--device", "cpu", *words, code=1
    )
    lines = [line for line in err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.rglob("*.ckpt"))


def build(name: str, checkpoint: Path | None, **options: Any) -> Any:
    import s3prl.hub

    ckpt = None if checkpoint is None else str(checkpoint)
    return getattr(s3prl.hub, name)(ckpt=ckpt, model_config=options or None)


def test_the_upstream_gives_the_encoders_states_and_the_embedding(checkpoint: Path) -> None:
    wavs = [torch.from_numpy(tone(300.0, seconds, seed)) for seed, seconds in enumerate((1.0, 0.03, 0.7))]
    model, config, _ = load_autoencoder(checkpoint)
    frames, embeddings = build("rae", checkpoint), build("rae_embedding", checkpoint)
    spectrogram = frames.spectrogram
    with torch.no_grad():
        states, vectors = frames(wavs), embeddings(wavs)["hidden_states"][0]
        assert [tuple(layer.shape) for layer in states["hidden_states"]] == [(3, 24, 12)] * 2
        assert tuple(vectors.shape) == (3, 1, 48)
        for row, wav in enumerate(wavs):
            features = spectrogram(wav)[None]
            top, vector = model.encode(features, torch.tensor([features.shape[1]]))
            torch.testing.assert_close(states["last_hidden_state"][row, : frames.frames(len(wav))], top[0])
            torch.testing.assert_close(vectors[row], vector)
        chosen = build("rae", checkpoint, output="embedding")(wavs)["hidden_states"][0]
        assert torch.equal(chosen, vectors)
    assert frames.get_downsample_rates("hidden_states") == 640
    assert {embeddings.frames(count) for count in (1, 99_999)} == {1}
    assert config.spectrogram.num_mels == 24


def test_identity_tells_checkpoints_and_outputs_apart(tmp_path: Path, toy: Path, checkpoint: Path) -> None:
    train(toy, tmp_path, steps=4)
    upstreams = [
        build("rae", checkpoint), build("rae_embedding", checkpoint), build("rae", tmp_path / "rae.ckpt"),
    ]  # fmt: skip
    assert len({json.dumps(upstream.identity(), sort_keys=True) for upstream in upstreams}) == 3


@pytest.mark.parametrize("name", ["rae", "rae_embedding"])
def test_check_upstream_passes(checkpoint: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = command(capfd, "check-upstream", name, "-k", checkpoint, "--device", "cpu")
    assert f"{name}: all checks passed" in out


def test_the_upstream_refuses_what_is_no_such_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"-u rae_embedding: -k is required"):
        build("rae_embedding", None)
    with pytest.raises(CheckpointError, match=r"none\.ckpt: no such checkpoint"):
        build("rae", tmp_path / "none.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt: damaged or not a checkpoint"):
        build("rae", tmp_path / "cut.ckpt")
    state = read_state(checkpoint)
    torch.save({"Args": {}, "Config": {}, "Step": 3}, tmp_path / "head.ckpt")
    with pytest.raises(
        CheckpointError, match=r"head\.ckpt: not a checkpoint of s3prl-emotion pretrain-rae \(it lacks Rae"
    ):
        build("rae", tmp_path / "head.ckpt")
    del state["Model"]["encoder.to_embedding.bias"]
    torch.save(state, tmp_path / "less.ckpt")
    with pytest.raises(
        CheckpointError, match=r"less\.ckpt: does not fit this version of the rae upstream \(.*Missing key"
    ):
        build("rae", tmp_path / "less.ckpt")
    with pytest.raises(ConfigError, match=r"rae\.outputs: unknown key; nearest: output"):
        build("rae", checkpoint, outputs="embedding")
    with pytest.raises(ConfigError, match=r"rae_embedding\.output: unknown key"):
        build("rae_embedding", checkpoint, output="frames")


@pytest.mark.parametrize(("name", "size"), [("rae", 12), ("rae_embedding", 48)])
def test_a_head_trains_on_it(cli: Cli, tiny_corpus: TinyCorpus, checkpoint: Path, name: str, size: int) -> None:
    head = ("-d", "emotion_corr_attn", "-p", "exp", "--device", "cpu")
    cli("-m", "train", "-u", name, "-k", checkpoint, *head, "-o", tiny_corpus.overrides())
    weights = load_checkpoint("exp/states-6.ckpt")["Downstream"]
    assert size in {number for weight in weights.values() for number in getattr(weight, "shape", ())}
    with Path("exp/test_fold1_predictions.csv").open() as file:
        assert list(csv.DictReader(file))


def test_embeddings_are_exported(tmp_path: Path, tiny_corpus: TinyCorpus, checkpoint: Path, capfd: Any) -> None:
    words = ("export", "-u", "rae_embedding", "-k", checkpoint, "--device", "cpu", "--labels", tiny_corpus.labels)
    command(capfd, *words, "--root", tiny_corpus.root, "--pooling", "mean", "-o", tmp_path / "rae.npz")
    with np.load(tmp_path / "rae.npz") as file:
        assert file["features"].shape == (48, 48)
        assert np.abs(file["features"]).max() < 1
        assert file["features"].std(axis=0).max() > 0
