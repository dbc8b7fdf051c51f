"""Degraded copies: measured SNR, spectra, babble, rooms; independence of order and processes; on the fly."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import PITCH, SHARED_DATA, Run, TinyCorpus, tone
from full_disk import fill_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from s3prl_emotion import cli
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora.degradation_levels import level_names, parse_range
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.load import load_corpus
from s3prl_emotion.degrade import copies as copies_module
from s3prl_emotion.degrade import output as output_module
from s3prl_emotion.degrade.output import encode
from s3prl_emotion.errors import AudioError, EmotionError, LabelError, UsageError
from s3prl_emotion.loading.degradation import (
    DEFAULT_LEVELS,
    DegradationSpec,
    Degrader,
    build_degrader,
    level_name,
    recordings,
    rooms,
)
from s3prl_emotion.loading.degradation.noises import Babble
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.recipe import DataSection

RATE = 16_000
LEVELS = {"25dB": (20.0, 30.0), "15dB": (10.0, 20.0), "5dB": (0.0, 10.0)}
DRAWN = settings(derandomize=True, deadline=None, max_examples=25)
EMODB = SHARED_DATA / "emodb"
Call = Callable[..., str]
Floats = NDArray[np.float64]
needs_rooms = pytest.mark.skipif(find_spec("pyroomacoustics") is None, reason="the extra degrade is not installed")


@pytest.fixture
def degrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """``s3prl-emotion degrade`` in this process and an empty working directory; gives its output, or its error."""
    monkeypatch.chdir(tmp_path)

    def call(corpus: TinyCorpus | None, *words: object, code: int = 0) -> str:
        capfd.readouterr()
        of = [] if corpus is None else ["--labels", corpus.labels, "--root", corpus.root]
        got = cli.main([str(word) for word in ("degrade", *of, "--out", "O", *words)])
        out, err = capfd.readouterr()
        assert got == code, f"exit code {got}, expected {code}\n{out}\n{err}"
        if code == 0:
            return out
        lines = [line for line in re.split(r"[\r\n]+", err) if line.startswith("s3prl-emotion: error:")]
        assert len(lines) == 1, err
        assert "Traceback" not in err, err
        return lines[0]

    return call


@pytest.fixture(scope="session")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of noise: other rates and formats, stereo, shorter than any utterance, with a silent beginning."""
    folder = tmp_path_factory.mktemp("noises")
    (folder / "free" / "ünder").mkdir(parents=True)
    rng = np.random.default_rng(5)
    soundfile.write(folder / "free" / "stereo.wav", 0.1 * rng.standard_normal((40_000, 2)), 44_100)
    soundfile.write(folder / "free" / "ünder" / "short.FLAC", 0.1 * rng.standard_normal(700), 8_000, format="FLAC")
    soundfile.write(folder / "long.ogg", 0.1 * rng.standard_normal(50_000), 22_050)
    late = np.r_[np.zeros(30_000), 0.2 * rng.standard_normal(9_000)]
    soundfile.write(folder / "late.wav", late, RATE, subtype="FLOAT")
    (folder / "README.txt").write_text("not audio")
    return folder


@pytest.fixture(scope="session")
def responses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Impulse responses with a lead before the direct sound, one of them in stereo and at 48 kHz."""
    folder = tmp_path_factory.mktemp("responses")
    rng = np.random.default_rng(6)
    for name, rate, lead, channels in (("hall.wav", 48_000, 731, 2), ("room.wav", RATE, 40, 1)):
        decay = (
            np.exp(-np.arange(rate // 4) / (0.05 * rate))[:, None] * rng.standard_normal((rate // 4, channels)) * 0.1
        )
        decay[0] = 1.0
        soundfile.write(folder / name, np.r_[np.zeros((lead, channels)), decay] * 0.5, rate, subtype="FLOAT")
    return folder


@pytest.fixture(scope="session")
def few(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Six utterances of the tiny corpus, one of each speaker, for rooms take time to simulate."""
    labels = tmp_path_factory.mktemp("few") / "labels.csv"
    shutil.copy(tiny_corpus.labels, labels)
    rewrite(labels, lambda row: row if row["FileName"].endswith("_sad_1.wav") else None)
    return TinyCorpus(tiny_corpus.root, labels)


def table_of(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def rewrite(labels: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    """Rewrite a label table row by row; ``None`` leaves the row out."""
    with labels.open(newline="") as handle:
        rows = [row for row in map(change, csv.DictReader(handle)) if row is not None]
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def snr_of(written: Floats, clean: Floats, gain: float) -> float:
    """The definition: power of the speech over that of what was added to it, in float64."""
    added = written / gain - clean
    return decibels(np.sum(clean**2) / np.sum(added**2))


def read(path: Path | io.BytesIO) -> Floats:
    samples, rate = soundfile.read(path, dtype="float64")
    assert rate == RATE
    assert samples.ndim == 1
    return samples


def names_of(corpus: TinyCorpus) -> list[str]:
    return sorted(path.name for path in corpus.root.iterdir())


def made_by(corpus: TinyCorpus, noise: str | Path, **values: Any) -> Degrader:
    return build_degrader(DegradationSpec(str(noise), **values), str(corpus.labels), str(corpus.root))


def kinds(noises: Path) -> list[str]:
    return ["babble", "pink", "brown", "white", str(noises)]


# --- the measured SNR ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(5))
def test_copies_have_the_snr_that_their_tables_say(degrade: Call, tiny_corpus: TinyCorpus, noises: Path, kind: int):
    said = degrade(tiny_corpus, "--noise", kinds(noises)[kind], "--seed", kind)
    with tiny_corpus.labels.open(newline="") as handle:
        source = {row["FileName"]: row for row in csv.DictReader(handle)}
    for level, (low, high) in LEVELS.items():
        rows = table_of(Path("O"), f"test_{level}")
        assert [row["SourceFile"] for row in rows] == list(source)
        measured = []
        for row in rows:
            assert row["FileName"] == f"test_{level}/{row['SourceFile']}"
            assert row["Reverb"] == "none"
            assert {key: row[key] for key in list(source[row["SourceFile"]])[1:]} == {
                key: value for key, value in source[row["SourceFile"]].items() if key != "FileName"
            }
            written, clean = read(Path("O", row["FileName"])), read(tiny_corpus.root / row["SourceFile"])
            assert len(written) == len(clean)
            measured.append(snr_of(written, clean, float(row["Gain"])))
            assert measured[-1] == pytest.approx(float(row["SNR"]), abs=0.01)
        assert low - 0.1 <= min(measured) < low + 3  # 48 draws from 10 dB
        assert high - 3 < max(measured) <= high + 0.1
        assert f"O/test_{level}.csv: 48 utterances, SNR {min(measured):.1f} to {max(measured):.1f} dB" in said
        assert len(read_table(Path("O", f"test_{level}.csv"))) == 48


def test_one_snr_for_every_utterance_is_exact(degrade: Call, few: TinyCorpus, noises: Path):
    said = degrade(few, "--noise", noises, "--snr", "15", "5")
    for level in (15, 5):
        rows = table_of(Path("O"), f"test_{level}dB")
        assert f"O/test_{level}dB.csv: {len(rows)} utterances, SNR {level}.0 to {level}.0 dB" in said
        for row in rows:
            written, clean = read(Path("O", row["FileName"])), read(few.root / row["SourceFile"])
            assert snr_of(written, clean, float(row["Gain"])) == pytest.approx(level, abs=1e-3)
            assert row["SNR"] == f"{level}.0000"
    copies = content(Path("O"))
    degrade(few, "--noise", noises, "--snr", "15:15", "5:5")  # the same, written as ranges
    assert {name: data for name, data in content(Path("O")).items() if name.endswith((".wav", ".csv"))} == {
        name: data for name, data in copies.items() if name.endswith((".wav", ".csv"))
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", range(5))
def test_snr_is_in_its_range_and_as_drawn(tiny_corpus: TinyCorpus, noises: Path, kind: int, level: str):
    noise, names = kinds(noises)[kind], names_of(tiny_corpus)

    @DRAWN
    @given(st.integers(-(2**40), 2**40), st.sampled_from(names), st.sampled_from([1e-3, 1.0, 30.0]))
    def check(seed: int, name: str, loudness: float):
        clean = load_audio(tiny_corpus.root / name) * np.float32(loudness)
        got = made_by(tiny_corpus, noise, snr=LEVELS[level], seed=seed)(clean, name)
        written = read(io.BytesIO(encode(got.waveform, "FLOAT")))
        assert written.shape == clean.shape
        measured = snr_of(written, clean.astype(np.float64), got.gain)
        assert measured == pytest.approx(got.drawn, abs=0.1)
        assert got.snr == pytest.approx(measured, abs=1e-6)
        assert LEVELS[level][0] <= got.drawn <= LEVELS[level][1]
        assert np.abs(written).max() <= 0.99 * (1 + 1e-6)
        assert got.gain == 1 or np.abs(written).max() == pytest.approx(0.99)

    check()


@DRAWN
@given(st.floats(-60, 100), st.floats(0, 30), st.integers(1, 300), st.integers(0, 99))
def test_any_range_and_any_length(low: float, width: float, length: int, seed: int):
    clean = tone(440.0, 1.0, seed)[200 : 200 + length]
    snr = (low, min(100.0, low + width))
    got = build_degrader(DegradationSpec("pink", snr, seed=seed))(clean, "name")
    assert snr_of(got.waveform.astype(np.float64), clean.astype(np.float64), got.gain) == pytest.approx(
        got.snr, abs=1e-6
    )
    assert snr[0] - 0.1 <= got.snr <= snr[1] + 0.1


def test_draws_fill_the_range_evenly():
    degrader = build_degrader(DegradationSpec("white", (0, 10)))
    drawn = [degrader(tone(200.0, 0.01, 1), f"utterance {number}").drawn for number in range(400)]
    counts, _ = np.histogram(drawn, bins=5, range=(0, 10))
    assert counts.sum() == 400
    assert counts.min() > 50  # 80 expected, deviation 8


def test_integer_audio_keeps_the_snr_or_is_reported(
    degrade: Call, own_tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture
):
    for subtype in ("PCM_16", "PCM_24", "PCM_32"):
        shutil.rmtree("O", ignore_errors=True)
        degrade(own_tiny_corpus, "--noise", "pink", "--snr", "20:30", "--subtype", subtype)
        for row in table_of(Path("O"), "test_25dB"):
            assert soundfile.info(f"O/{row['FileName']}").subtype == subtype
            written, clean = read(Path("O", row["FileName"])), read(own_tiny_corpus.root / row["SourceFile"])
            assert snr_of(written, clean, float(row["Gain"])) == pytest.approx(float(row["SNR"]), abs=0.01)
    assert "rounding" not in caplog.text
    quiet = 2e-4 * tone(200.0, 0.5, 3)  # about two steps of 16-bit audio
    soundfile.write(own_tiny_corpus.root / "s0_neu_0.wav", quiet, RATE, subtype="FLOAT")
    shutil.rmtree("O")
    degrade(own_tiny_corpus, "--noise", "pink", "--snr", "29:30", "--subtype", "PCM_16")
    assert re.search(
        r"SNR of 1 utterances by more than 0.1 dB \(test_29.5dB/s0_neu_0.wav\); --subtype FLOAT", caplog.text
    )
    row = next(row for row in table_of(Path("O"), "test_29.5dB") if row["SourceFile"] == "s0_neu_0.wav")
    measured = snr_of(read(Path("O", row["FileName"])), quiet.astype(np.float64), float(row["Gain"]))
    assert measured == pytest.approx(float(row["SNR"]), abs=0.01)
    assert measured < 28


def test_loud_mixtures_are_scaled_down_as_a_whole():
    clean = (tone(200.0, 1.0, 1) * 3).astype(np.float32)
    spec = DegradationSpec("white", (0, 0))
    loud, soft = build_degrader(spec)(clean, "a"), build_degrader(spec)(clean / 8, "a")
    assert soft.gain == 1
    assert 0 < loud.gain < 1
    assert np.abs(loud.waveform).max() == pytest.approx(0.99, abs=1e-6)
    np.testing.assert_allclose(loud.waveform / loud.gain, soft.waveform * 8, rtol=1e-4, atol=1e-6)
    assert loud.snr == pytest.approx(soft.snr, abs=1e-4) == pytest.approx(0, abs=1e-3)


# --- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -3.0103), ("brown", -6.0206)])
def test_coloured_noise_falls_as_it_should(colour: str, slope: float):
    degrader = build_degrader(DegradationSpec(colour, (0, 0)))
    noise = degrader.noise.draw("name", 60 * RATE)[0]
    windows = noise.reshape(-1, RATE // 4) * np.hanning(RATE // 4)
    spectrum = np.square(np.abs(np.fft.rfft(windows))).mean(0)  # bins of 4 Hz
    edges = 62.5 * 2 ** np.arange(7)  # octaves from 62.5 to 4000 Hz
    densities = [spectrum[int(low / 4) : int(2 * low / 4)].mean() for low in edges]
    fitted = np.polyfit(np.arange(7), 10 * np.log10(densities), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.15)
    assert spectrum[:4].mean() < 0.2 * spectrum[8:16].mean() or colour == "white"  # nothing below 20 Hz
    assert np.mean(noise**2) == pytest.approx(1)


TALKING = {f"spk{number}": 300 + 200 * number for number in range(9)}  # Hz


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Nine speakers, each known by a tone; whole periods, so that what follows one another fits without a click."""
    folder = tmp_path_factory.mktemp("tones")
    root = folder / "audio"
    root.mkdir()
    rows = []
    for number, (speaker, pitch) in enumerate(TALKING.items()):
        for take in range(3):
            seconds = 0.1 * (1 + (take + number) % 4)
            samples = 0.02 * (1 + number) * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
            soundfile.write(root / f"{speaker}_{take}.wav", samples, RATE, subtype="FLOAT")
            rows.append([f"{speaker}_{take}.wav", "neutral" if take else "X", speaker])
    with (folder / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["FileName", "EmoClass", "SpkrID"], *rows])
    return TinyCorpus(root, folder / "labels.csv")


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from(sorted(TALKING)), st.integers(0, 2))
def test_babble_is_several_others_equally_loud_and_never_the_speaker(
    tones: TinyCorpus, seed: int, speaker: str, take: int
):
    name = f"{speaker}_{take}.wav"
    clean = load_audio(tones.root / name)
    speakers = {name: name.split("_")[0] for name in names_of(tones)}
    got = Degrader(DegradationSpec("babble", (0, 0), seed=seed), Babble(tones.root, speakers, seed), None)(clean, name)
    added = got.waveform / got.gain - clean.astype(np.float64)
    shares = np.square(np.abs(np.fft.rfft(added))) / (len(added) / 2 * np.sum(added**2))
    share = {who: shares[round(pitch * len(added) / RATE)] for who, pitch in TALKING.items()}
    heard = {who for who, value in share.items() if value > 1e-9}
    assert speaker not in heard
    assert 3 <= len(heard) <= 7
    assert {file.split("_")[0] for file in got.noise.split("+")} == heard
    for who in heard:
        assert share[who] == pytest.approx(1 / len(heard), rel=1e-4)


def test_babble_pool_is_the_whole_table(tones: TinyCorpus):
    degrader = made_by(tones, "babble")
    drawn = [degrader.noise.draw(f"spk{number % 9}_{number % 3}.wav", 4800)[1] for number in range(27)]
    assert {file for files in drawn for file in files.split("+")} == set(names_of(tones))  # whatever its class


def test_babble_without_known_speakers(own_tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture, degrade: Call):
    unknown = {"s0": "Unknown", "s1": ""}
    rewrite(own_tiny_corpus.labels, lambda row: {**row, "SpkrID": unknown.get(row["SpkrID"], row["SpkrID"])})
    degrader = made_by(own_tiny_corpus, "babble", seed=1)
    assert "16 utterances have no known speaker" in caplog.text
    used = {file[:2] for name in names_of(own_tiny_corpus) for file in degrader.noise.draw(name, 999)[1].split("+")}
    assert used == {"s2", "s3", "s4", "s5"}
    rewrite(
        own_tiny_corpus.labels, lambda row: {**row, "SpkrID": row["SpkrID"] if row["SpkrID"] in ("s2", "s3") else ""}
    )
    with pytest.raises(LabelError, match=r"at least 3 known speakers \(SpkrID\), the labels have 2"):
        made_by(own_tiny_corpus, "babble")
    rewrite(own_tiny_corpus.labels, lambda row: {key: value for key, value in row.items() if key != "SpkrID"})
    with pytest.raises(LabelError, match="no column SpkrID, without which babble cannot leave the speaker out"):
        made_by(own_tiny_corpus, "babble")
    with pytest.raises(LabelError, match="babble needs a corpus"):
        build_degrader(DegradationSpec("babble"))
    assert made_by(own_tiny_corpus, "pink")(tone(99.0, 0.1, 1), "any name").noise == "pink"


def test_silent_talkers_are_skipped(own_tiny_corpus: TinyCorpus):
    for name in names_of(own_tiny_corpus):
        if name.startswith("s1") and name != "s1_ang_0.wav":
            soundfile.write(own_tiny_corpus.root / name, np.zeros(5000), RATE)
    names = [name for name in names_of(own_tiny_corpus) if name.startswith("s0")]
    degrader = made_by(own_tiny_corpus, "babble")
    used = {name: degrader.noise.draw(name, 20_000)[1].split("+") for name in names}
    assert {file for files in used.values() for file in files if file.startswith("s1")} == {"s1_ang_0.wav"}
    over_s1 = next(name for name, files in used.items() if "s1_ang_0.wav" in files)
    soundfile.write(own_tiny_corpus.root / "s1_ang_0.wav", np.zeros(5000), RATE)
    with pytest.raises(AudioError, match="every utterance of speaker s1 is silent"):
        degrader.noise.draw(over_s1, 20_000)


def test_recordings_are_cut_resampled_and_repeated(noises: Path):
    degrader = build_degrader(DegradationSpec(str(noises), (0, 0)))
    seen: dict[str, set[str]] = {}
    for number in range(60):
        samples, where = degrader.noise.draw(str(number), 30_000)
        file, start = where.split("@")
        seen.setdefault(file, set()).add(start)
        assert samples.shape == (30_000,)
        assert np.isfinite(samples).all()
        assert np.mean(samples**2) > 1e-5
    assert set(seen) == {"free/stereo.wav", "free/ünder/short.FLAC", "late.wav", "long.ogg"}
    assert all(len(starts) > 3 for starts in seen.values())


@DRAWN
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40_000))
def test_a_part_of_a_recording_equals_its_samples(noises: Path, fraction: float, length: int):
    whole = read(noises / "late.wav")
    part, start = recordings.recorded_part(noises / "late.wav", fraction, length)
    first = round(start * RATE)
    expected = np.resize(np.roll(whole, -first), length)
    if np.abs(part - expected).max() > 0:  # short, and in the silence: moved to where something is heard
        assert np.abs(expected).max() < 1e-5
    assert np.abs(part).max() > 1e-5
    again = recordings.recorded_part(noises / "free" / "stereo.wav", fraction, length)[0]
    assert again.shape == (length,)


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("silent.wav", np.zeros(9000), "silent.wav: is silent; remove the file"),
        (
            "opposite.wav",
            np.outer(tone(200.0, 0.5, 1), [1, -1]),
            "opposite.wav: its channels cancel when they are averaged",
        ),
        ("nan.wav", np.full(9000, np.nan), "nan.wav: audio holds NaN or infinite samples"),
        ("high.wav", 2e-5 * np.sin(np.arange(44_100) * 2.9), "high.wav: holds nothing audible at 16 kHz"),
    ],
)
def test_bad_recordings_are_named(tmp_path: Path, name: str, samples: Floats, message: str):
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / name, samples, 44_100, subtype="FLOAT")
    degrader = build_degrader(DegradationSpec(str(tmp_path / "noise")))
    with pytest.raises(AudioError, match=re.escape(message)):
        degrader(tone(200.0, 1.0, 1), "a")


def test_unreadable_recordings_are_named_at_once(tmp_path: Path):
    for kind in ("noise", "reverb"):
        folder = tmp_path / kind
        folder.mkdir()
        values = {"noise": "pink", kind: str(folder)}
        with pytest.raises(UsageError, match=rf"--{kind} .*: holds no audio \(\.aif"):
            build_degrader(DegradationSpec(**values))
        (folder / "a.wav").write_bytes(b"RIFF")
        with pytest.raises(AudioError, match=r"a\.wav: unreadable audio .*; replace or remove the file"):
            build_degrader(DegradationSpec(**values))
        soundfile.write(folder / "a.wav", np.zeros(0), RATE)
        with pytest.raises(AudioError, match=r"a\.wav: audio has 0 samples"):
            build_degrader(DegradationSpec(**values))


@pytest.fixture
def two_sided(tmp_path: Path) -> TinyCorpus:
    """Four speakers in stereo: each one's pitch on the left, 1 kHz below it on the right, in antiphase for one."""
    rows = []
    for number in range(4):
        left, right = tone(2000 + 300 * number, 0.4, number), tone(1000 + 300 * number, 0.4, number)
        name = f"s{number}.wav"
        both = np.stack([left, -left if number == 3 else right], axis=1)
        (tmp_path / "stereo").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "stereo" / name, both, RATE, subtype="FLOAT")
        rows.append(f"{name},{'happy' if number % 2 else 'sad'},s{number}\n")
    (tmp_path / "stereo.csv").write_text("FileName,EmoClass,SpkrID\n" + "".join(rows))
    return TinyCorpus(tmp_path / "stereo", tmp_path / "stereo.csv")


def test_a_channel_is_that_of_speech_and_babble_in_copies_and_on_the_fly(degrade: Call, two_sided: TinyCorpus) -> None:
    assert "s3.wav: its channels cancel when they are averaged; --channel left" in degrade(
        two_sided, "--snr", "5", code=1
    )
    degrade(two_sided, "--channel", "left", "--snr", "5")
    degrader = build_degrader(
        DegradationSpec("babble", (5, 5)), str(two_sided.labels), str(two_sided.root), channel="left"
    )
    for number in range(4):
        left = load_audio(two_sided.root / f"s{number}.wav", "left")
        made = load_audio(Path("O") / "test_5dB" / f"s{number}.wav")
        np.testing.assert_array_equal(made, degrader(left, f"s{number}.wav").waveform)
        heard = np.abs(np.fft.rfft(made, RATE))  # 1 Hz a bin
        pitches = [2000 + 300 * other for other in range(4)]
        assert min(heard[pitch - 2 : pitch + 3].max() for pitch in pitches) > 20 * np.median(heard)
        assert heard[1000] < 20 * np.median(heard)
    options: dict[str, Any] = {"train_batch_size": 4, "eval_batch_size": 4, "channel": "left"}
    options |= {"labels": str(two_sided.labels), "root": str(two_sided.root), "degrade": {"snr": [5]}}
    data = DataSection(**options)
    loaders = Loaders(load_corpus(data), data, seed=0)
    for waveforms, _, names in loaders.evaluation("test_5dB"):  # as datarc.degrade of a recipe makes them
        for waveform, name in zip(waveforms, names, strict=True):
            np.testing.assert_array_equal(waveform, load_audio(Path("O") / "test_5dB" / f"{name}"))
    for words in ([], ["--channel", "2"]):
        assert 'were made with channel "left"' in degrade(two_sided, *words, "--snr", "5", code=1)
    record = json.loads(Path("O/degrade.json").read_text())
    del record["channel"]  # as earlier versions wrote it, which averaged
    Path("O/degrade.json").write_text(json.dumps(record))
    assert 'were made with channel "mean"' in degrade(two_sided, "--channel", "left", "--snr", "5", code=1)
    assert "there is no channel 3" in degrade(two_sided, "--channel", "3", "--snr", "5", "--out", "P", code=1)


# --- rooms ---------------------------------------------------------------------------------------------------------


def lag(degraded: NDArray[np.floating[Any]], clean: NDArray[np.floating[Any]]) -> int:
    """By how many samples the first comes after the second, by their cross-correlation."""
    size = 2 * len(clean)
    product = np.fft.rfft(degraded, size) * np.conj(np.fft.rfft(clean, size))
    index = int(np.argmax(np.fft.irfft(product, size)))
    return index if index < len(clean) else index - size


def reverberation_time(response: Floats) -> float:
    """Schroeder: backward integral of the energy, the line from -5 to -25 dB, extrapolated to 60 dB (s)."""
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    curve = 10 * np.log10(energy / energy[0])
    inside = (curve < -5) & (curve > -25)
    slope = np.polyfit(np.flatnonzero(inside) / RATE, curve[inside], 1)[0]
    return -60 / slope


def speech_like(seconds: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.uniform(0, 0.3, math.ceil(seconds * 10)), RATE // 10)
    return (envelope * rng.standard_normal(len(envelope))).astype(np.float32)


@pytest.mark.full
@needs_rooms
def test_simulated_rooms_keep_length_timing_and_energy_and_ring_as_long_as_they_say():
    degrader = build_degrader(DegradationSpec("white", (20, 20), "simulated", seed=3))
    times = []
    for number in range(6):
        name, clean = f"{number}.wav", speech_like(0.7, number)
        response, arrival, said = degrader.reverb.draw(name)
        rt60, *sides, distance = map(float, re.findall(r"\d+\.\d+", said))
        assert all(low - 0.05 <= side for low, side in zip(rooms.SIDES[0], sides, strict=True))
        assert all(side <= high + 0.05 for side, high in zip(sides, rooms.SIDES[1], strict=True))
        assert 0.5 <= distance <= 2
        assert 0.2 <= rt60 <= 0.8
        assert arrival - 40 == pytest.approx(distance / 343 * RATE, abs=1)
        assert np.argmax(np.abs(response)) == pytest.approx(arrival, abs=1)
        assert reverberation_time(response[arrival:]) == pytest.approx(rt60, rel=0.4)
        times.append((rt60, reverberation_time(response[arrival:])))
        parts = degrader.parts(clean, name)
        assert parts.speech.shape == clean.shape
        assert lag(parts.speech, clean) == 0
        assert np.sum(parts.speech**2) == pytest.approx(np.sum(clean.astype(np.float64) ** 2))
        assert np.corrcoef(parts.speech, clean)[0, 1] < 0.98
        got = degrader(clean, name)
        assert snr_of(got.waveform.astype(np.float64), parts.speech, got.gain) == pytest.approx(20, abs=0.1)
        assert got.reverb == said
    asked, rung = np.array(times).T
    assert np.corrcoef(asked, rung)[0, 1] > 0.9


def test_recorded_rooms_keep_length_timing_and_energy(responses: Path):
    degrader = build_degrader(DegradationSpec("white", (20, 20), str(responses)))
    seen = set()
    for number in range(12):
        clean = speech_like(0.5, number)
        parts = degrader.parts(clean, str(number))
        assert parts.speech.shape == clean.shape
        assert lag(parts.speech, clean) == 0
        assert np.sum(parts.speech**2) == pytest.approx(np.sum(clean.astype(np.float64) ** 2))
        seen.add(parts.reverb_name)
        dry = build_degrader(DegradationSpec("white", (20, 20)))(clean, str(number))
        wet = degrader(clean, str(number))
        assert (wet.drawn, wet.noise) == (dry.drawn, dry.noise)  # the room alone differs
        assert snr_of(wet.waveform.astype(np.float64), parts.speech, wet.gain) == pytest.approx(wet.drawn, abs=0.1)
    assert seen == {"hall.wav", "room.wav"}


def test_reverberation_is_convolution_from_the_direct_sound_on(responses: Path):
    clean, response = speech_like(0.3, 1).astype(np.float64), read(responses / "room.wav")
    expected = np.convolve(clean, response)[40 : 40 + len(clean)]
    expected *= np.sqrt(np.sum(clean**2) / np.sum(expected**2))
    got, arrival = recordings.impulse_response(responses / "room.wav")
    assert arrival == 40
    np.testing.assert_allclose(rooms.reverberate(clean, got, arrival), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(4000), "the impulse response is silent"),
        (np.full(4000, np.inf), "audio holds NaN or infinite samples"),
        (np.ones(21 * RATE), "lasts 21 s, an impulse response at most 20 s"),
    ],
)
def test_bad_responses_are_named(tmp_path: Path, samples: Floats, message: str):
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "a.wav", samples, RATE, subtype="FLOAT")
    degrader = build_degrader(DegradationSpec("pink", reverb=str(tmp_path / "rooms")))
    with pytest.raises(AudioError, match=rf"a\.wav: {message}"):
        degrader(tone(200.0, 0.3, 1), "a")


@DRAWN
@given(st.tuples(st.floats(4, 10), st.floats(3, 8), st.floats(2.5, 4)))
def test_every_room_has_a_reverberation_time(sides: tuple[float, float, float]):
    low, high = rooms._possible(np.array(sides), 343.0)
    assert 0.2 <= low < high <= 0.8


def test_simulated_rooms_need_the_extra(degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    error = degrade(tiny_corpus, "--reverb", "simulated", code=1)
    assert re.search(r'--reverb simulated needs pyroomacoustics .*: pip install -e "\.\[degrade\]"', error)
    assert not Path("O").exists()


# --- the same everywhere -------------------------------------------------------------------------------------------


def settings_of(noises: Path, responses: Path) -> list[tuple[str, str]]:
    return [("babble", "none"), ("pink", str(responses)), (str(noises), "simulated")]


@needs_rooms
@pytest.mark.parametrize("which", range(3))
def test_on_the_fly_equals_the_copies_to_the_bit(
    degrade: Call, few: TinyCorpus, noises: Path, responses: Path, which: int
):
    noise, reverb = settings_of(noises, responses)[which]
    degrade(few, "--noise", noise, "--reverb", reverb, "--seed", 7, "--snr", "10:20", "0:10")
    for split, snr in (("test_15dB", (10, 20)), ("test_5dB", (0, 10))):
        spec = DegradationSpec(noise, snr, reverb, 7)
        degrader = build_degrader(spec, str(few.labels), str(few.root))
        for row in reversed(table_of(Path("O"), split)):
            got = degrader(load_audio(few.root / row["SourceFile"]), row["SourceFile"])
            np.testing.assert_array_equal(got.waveform, load_audio(Path("O", row["FileName"])))
            assert (got.noise, got.reverb, got.gain) == (row["Noise"], row["Reverb"], float(row["Gain"]))
            assert f"{got.snr:.4f}" == row["SNR"]


@pytest.mark.full
@pytest.mark.parametrize("which", range(3))
def test_processes_and_order_change_nothing(
    degrade: Call, own_tiny_corpus: TinyCorpus, noises: Path, responses: Path, which: int
):
    noise, reverb = settings_of(noises, responses)[which]
    words = ("--noise", noise, "--reverb", reverb if which < 2 else "none")
    degrade(own_tiny_corpus, *words)
    alone = content(Path("O"))
    assert len(alone) == 3 * 48 + 5
    shutil.rmtree("O")
    degrade(own_tiny_corpus, *words, "--num_workers", 2)
    assert content(Path("O")) == alone
    shutil.rmtree("O")
    with own_tiny_corpus.labels.open(newline="") as handle:
        header, *rows = csv.reader(handle)
    random.Random(1).shuffle(rows)
    with own_tiny_corpus.labels.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    degrade(own_tiny_corpus, *words)
    shuffled = content(Path("O"))
    assert {name for name in alone if alone[name] == shuffled[name]} >= {
        name for name in alone if name.endswith(".wav")
    }
    assert [row["SourceFile"] for row in table_of(Path("O"), "test_5dB")] == [row[0] for row in rows]


@pytest.mark.full
@needs_rooms
def test_threads_and_other_processes_change_nothing(tiny_corpus: TinyCorpus):
    degrader = made_by(tiny_corpus, "babble", reverb="simulated")
    names = names_of(tiny_corpus)[:48:8]
    clean = {name: load_audio(tiny_corpus.root / name) for name in names}
    expected = {name: degrader(clean[name], name).waveform for name in names}
    with ThreadPoolExecutor(4) as pool:
        for name, got in zip(names, pool.map(lambda name: degrader(clean[name], name), names), strict=True):
            np.testing.assert_array_equal(got.waveform, expected[name])
    copy = pickle.loads(pickle.dumps(degrader))
    for name in reversed(names):
        np.testing.assert_array_equal(copy(clean[name], name).waveform, expected[name])
    import pyroomacoustics

    threads, echoes = torch.get_num_threads(), pyroomacoustics.constants.get("num_threads")
    for number in (1, 3, 4):
        torch.set_num_threads(number)
        pyroomacoustics.constants.set("num_threads", number)
        try:
            np.testing.assert_array_equal(degrader(clean[names[0]], names[0]).waveform, expected[names[0]])
        finally:
            torch.set_num_threads(threads)
            pyroomacoustics.constants.set("num_threads", echoes)


@pytest.mark.full
@needs_rooms
def test_global_generators_and_settings_are_left_alone(degrade: Call, few: TinyCorpus):
    import pyroomacoustics

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    threads = pyroomacoustics.constants.get("num_threads")
    for workers in (0, 1):
        degrade(few, "--snr", "0:10", "--reverb", "simulated", "--num_workers", workers, "--seed", 5)
        shutil.rmtree("O")
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert pyroomacoustics.constants.get("num_threads") == threads


def test_levels_share_noise_and_differ_only_in_snr(tiny_corpus: TinyCorpus):
    name = "s0_ang_0.wav"
    clean = load_audio(tiny_corpus.root / name)
    got = [made_by(tiny_corpus, "babble", snr=snr)(clean, name) for snr in DEFAULT_LEVELS]
    noise = [item.waveform / item.gain - clean.astype(np.float64) for item in got]
    for other in noise[1:]:
        assert np.corrcoef(noise[0], other)[0, 1] > 0.9999
    assert len({item.noise for item in got}) == 1
    assert len({item.drawn % 10 for item in got}) == 3
    others = [made_by(tiny_corpus, "babble", seed=seed)(clean, name) for seed in (1, 2)]
    assert len({item.noise for item in [got[0], *others]}) == 3
    assert len({item.drawn for item in [got[2], *others]}) == 3


# --- tables, splits, paths -----------------------------------------------------------------------------------------


def with_partitions(row: dict[str, str]) -> dict[str, str]:
    names = {"s0": "Test2", "s1": "Test1", "s2": "Development"}
    kept = {key: value for key, value in row.items() if key != "Fold"}
    return {**kept, "Split_Set": names.get(row["SpkrID"], "Train"), "Id": "007", "EmoVal": "3.10"}


@pytest.mark.parametrize(
    ("split", "name", "speaker"),
    [
        (None, "test", "s1"),
        ("test", "test", "s1"),
        ("Test1", "Test1", "s1"),
        ("Test2", "Test2", "s0"),
        ("dev", "dev", "s2"),
    ],
)
def test_partitions(degrade: Call, own_tiny_corpus: TinyCorpus, split: str | None, name: str, speaker: str):
    rewrite(own_tiny_corpus.labels, with_partitions)
    degrade(own_tiny_corpus, "--snr", "0:10", *(() if split is None else ("--split", split)))
    rows = table_of(Path("O"), f"{name}_5dB")
    assert {row["SpkrID"] for row in rows} == {speaker}
    assert len(rows) == 8
    assert {(row["Id"], row["EmoVal"]) for row in rows} == {("007", "3.10")}  # text as it stands
    assert sorted(path.name for path in Path("O").iterdir()) == sorted(
        [f"{name}_5dB", f"{name}_5dB.csv", "degrade.json", "degrade.jsonl"]
    )
    assert any(not row["Noise"].startswith(("s0", "s1", "s2")) for row in rows)  # babble takes Train's speakers as well


def test_superb_lists(degrade: Call, superb_corpus: TinyCorpus):
    degrade(superb_corpus, "--snr", "20:30", "--seed", 2)
    rows = table_of(Path("O"), "test_25dB")
    assert len(rows) == 48
    assert list(rows[0])[:5] == ["FileName", "EmoClass", "SpkrID", "Gender", "Fold"]
    assert {(row["SpkrID"], row["Gender"], row["Fold"]) for row in rows} == {
        ("Ses01F", "Female", "fold1"),
        ("Ses01M", "Male", "fold1"),
        ("Ses02F", "Female", "fold2"),
        ("Ses02M", "Male", "fold2"),
    }
    assert {row["EmoClass"] for row in rows} == set(PITCH)
    row = rows[0]
    assert row["FileName"] == f"test_25dB/{row['SourceFile']}"  # with its folders
    clean = load_audio(superb_corpus.root / row["SourceFile"])
    got = build_degrader(
        DegradationSpec("babble", (20, 30), seed=2), str(superb_corpus.labels), str(superb_corpus.root)
    )
    np.testing.assert_array_equal(got(clean, row["SourceFile"]).waveform, load_audio(Path("O", row["FileName"])))
    assert len(read_table(Path("O/test_25dB.csv"))) == 48


def test_other_rates_formats_and_names(degrade: Call, tmp_path: Path):
    root = tmp_path / "audio"
    (root / "ü b").mkdir(parents=True)
    names = ["ü b/ä,1.flac", "no_suffix.v2.OGG", 'quo"te.wav', "short.wav"]
    for number, (name, rate) in enumerate(zip(names, (22_050, 8_000, 48_000, RATE), strict=True)):
        samples = tone(200.0, 0.4 if number < 3 else 1 / RATE, number, rate) + 0.1
        soundfile.write(
            root / name,
            np.c_[samples, samples],
            rate,
            format={"F": "FLAC", "O": "OGG"}.get(name[-4:].strip(".")[0].upper(), "WAV"),
        )
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["FileName", "SpkrID"], *([name, f"s{name[0]}"] for name in names)])
    corpus = TinyCorpus(root, tmp_path / "labels.csv")
    degrade(corpus, "--snr", "0:10")  # no EmoClass: a table of dimensions, say
    rows = table_of(Path("O"), "test_5dB")
    assert [row["FileName"] for row in rows] == [
        "test_5dB/ü b/ä,1.wav", "test_5dB/no_suffix.v2.wav", 'test_5dB/quo"te.wav', "test_5dB/short.wav",
    ]  # fmt: skip
    for row in rows:
        clean, written = load_audio(root / row["SourceFile"]).astype(np.float64), read(Path("O", row["FileName"]))
        assert snr_of(written, clean, float(row["Gain"])) == pytest.approx(float(row["SNR"]), abs=0.01)
    assert "test_5dB.csv: 4 utterances" in degrade(corpus, "--snr", "0:10")


def renamed(old: str, new: str) -> Callable[[TinyCorpus], None]:
    def change(corpus: TinyCorpus) -> None:
        rewrite(corpus.labels, lambda row: {**row, "FileName": new if row["FileName"] == old else row["FileName"]})

    return change


def silenced(corpus: TinyCorpus) -> None:
    soundfile.write(corpus.root / "s0_ang_0.wav", np.zeros(8000), RATE)


def collide(corpus: TinyCorpus) -> None:
    soundfile.write(corpus.root / "s0_ang_0.flac", tone(99.0, 0.2, 1), RATE)
    renamed("s1_ang_0.wav", "s0_ang_0.flac")(corpus)


BAD = [
    (lambda corpus: corpus.labels.unlink(), "labels.csv: no such label table or meta_data folder; check --labels"),
    (lambda corpus: corpus.labels.write_text("FileName\na,b\n"), "its rows have more fields than its header names"),
    (lambda corpus: corpus.labels.write_text("Name\na\n"), "no column FileName"),
    (lambda corpus: shutil.rmtree(corpus.root), "audio: no such folder; --root must be the folder with the audio"),
    (renamed("s0_ang_0.wav", "s1_ang_0.wav"), "s1_ang_0.wav is listed twice"),
    (renamed("s0_ang_0.wav", "none.wav"), "none.wav: no such audio file, though .*labels.csv lists it; check --root"),
    (renamed("s0_ang_0.wav", "../x.wav"), r"FileName '../x.wav' must be a path below the audio folder, without '..'"),
    (renamed("s0_ang_0.wav", "a/../../x.wav"), r"FileName 'a/../../x.wav' must be a path below the audio folder"),
    (renamed("s0_ang_0.wav", "/etc/x.wav"), "FileName '/etc/x.wav' must be a path below the audio folder"),
    (renamed("s0_ang_0.wav", "."), "FileName '.' must be a path below the audio folder"),
    (collide, "s0_ang_0.wav and s0_ang_0.flac would both be written to s0_ang_0.wav; rename one"),
    (silenced, "s0_ang_0.wav: is silent, so it has no signal-to-noise ratio; leave it out of the labels"),
    (lambda corpus: (corpus.root / "s0_ang_0.wav").write_bytes(b"x"), "s0_ang_0.wav: unreadable audio"),
    (lambda corpus: rewrite(corpus.labels, lambda row: {**row, "SNR": "3"}), "has a column SNR already"),
    (lambda corpus: corpus.labels.unlink() or corpus.labels.mkdir(), "holds neither SUPERB's lists"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_labels_are_one_line(
    degrade: Call, own_tiny_corpus: TinyCorpus, change: Callable[[TinyCorpus], None], message: str
):
    change(own_tiny_corpus)
    for workers in (0, 1):
        assert re.search(message, degrade(own_tiny_corpus, "--noise", "pink", "--num_workers", workers, code=1))
        assert not list(Path().glob("O/*.csv"))
        assert not list(Path().glob("O/**/*.wav"))  # found before any work was done
        assert not Path("x.wav").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--noise", "pinc"), "--noise pinc: neither a folder nor one of babble, white, pink, brown; nearest: pink"),
        (("--noise", "none/there"), "--noise none/there: neither a folder nor one of babble"),
        (
            ("--reverb", "simulate"),
            "--reverb simulate: neither a folder nor one of none, simulated; nearest: simulated",
        ),
        (("--snr", "30:20"), "SNR 30:20: must be LOWEST:HIGHEST in dB, within -60:100"),
        (("--snr", "1:2:3"), "SNR 1:2:3: must be LOWEST:HIGHEST in dB, such as 0:10, or one SNR for all, such as 5"),
        (("--snr", "a:b"), "SNR a:b: must be LOWEST:HIGHEST in dB, such as 0:10"),
        (("--snr", "loud"), "SNR loud: must be LOWEST:HIGHEST in dB, such as 0:10"),
        (("--snr", "5", "0:10"), "SNR 5 and 0:10: both would be called 5dB; change one"),
        (("--snr", "0:nan"), "SNR 0:nan: must be LOWEST:HIGHEST"),
        (("--snr", "0:inf"), "SNR 0:inf: must be LOWEST:HIGHEST"),
        (("--snr", "0:10", "4:6"), "SNR 0:10 and 4:6: both would be called 5dB; change one"),
        (("--subtype", "PCM16"), "--subtype PCM16: not one of FLOAT, PCM_16, PCM_24, PCM_32; nearest: PCM_16"),
        (("--num_workers", "-1"), "--num_workers -1: must be 0 or more"),
        (("--split", "Test1"), "--split Test1: has no official partitions, all is degraded; leave --split out"),
    ],
)
def test_bad_arguments_are_one_line(degrade: Call, tiny_corpus: TinyCorpus, words: tuple[str, ...], message: str):
    assert message in degrade(tiny_corpus, *words, code=1)
    assert not Path("O").exists()


def test_unknown_partitions_and_a_missing_root(degrade: Call, own_tiny_corpus: TinyCorpus):
    rewrite(own_tiny_corpus.labels, with_partitions)
    error = degrade(own_tiny_corpus, "--split", "Test3", code=1)
    assert "no partition 'Test3' (Split_Set); nearest: Test2, Test1" in error
    assert "--root: name the folder with the audio" in degrade(None, "--labels", own_tiny_corpus.labels, code=1)
    rewrite(own_tiny_corpus.labels, lambda row: {**row, "Split_Set": row["Split_Set"].replace("Test", "Hold/Out")})
    assert "no partition 'test'" in degrade(own_tiny_corpus, code=1)
    assert "the partition 'Hold/Out1' cannot name a folder" in degrade(own_tiny_corpus, "--split", "Hold/Out1", code=1)


# --- the output folder ---------------------------------------------------------------------------------------------


def test_an_interrupted_run_is_continued(
    degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    degrade(tiny_corpus)
    whole = content(Path("O"))
    shutil.rmtree("O")
    made: list[str] = []
    original = copies_module._Copies._make

    def counting(self: Any, split: str, parts: Any, name: str, file: str) -> Any:
        made.append(file)
        if len(made) == 50:
            raise KeyboardInterrupt
        return original(self, split, parts, name, file)

    monkeypatch.setattr(copies_module._Copies, "_make", counting)
    assert "interrupted" in degrade(tiny_corpus, code=130)
    left = content(Path("O"))
    assert len(left) == 49 + 2  # 49 copies, degrade.json, degrade.jsonl: no table, nothing half-written
    assert {name: data for name, data in left.items() if name.endswith(".wav")}.items() <= whole.items()
    made.clear()
    made.extend(["before"] * 50)
    caplog.set_level("INFO")
    degrade(tiny_corpus)
    assert len(made) - 50 == 3 * (48 - 16)  # 16 utterances were finished at all levels, and noted
    assert "O: 16 of 48 utterances are finished already" in caplog.text
    assert content(Path("O")) == whole
    degrade(tiny_corpus)
    assert len(made) - 50 == 3 * (48 - 16)
    assert content(Path("O")) == whole


def test_torn_and_missing_files_are_made_again(degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    degrade(tiny_corpus)
    whole = content(Path("O"))
    torn, gone, other = (Path("O/test_5dB", name) for name in ("s0_ang_0.wav", "s1_ang_0.wav", "s2_ang_0.wav"))
    torn.write_bytes(torn.read_bytes()[:3000])
    gone.unlink()
    other.write_bytes(b"\0" * other.stat().st_size)
    notes = Path("O/degrade.jsonl")
    lines = [line for line in notes.read_bytes().splitlines(keepends=True) if b"test_5dB/s0_ang_0" not in line]
    notes.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # a process was killed while it wrote
    Path("O/test_25dB.csv").unlink()
    stale = Path("O/test_5dB/.0123.partial")
    stale.write_bytes(b"half")
    os.utime(stale, (1e9, 1e9))
    written: list[str] = []
    write = output_module.write_bytes
    monkeypatch.setattr(copies_module, "write_bytes", lambda path, data: (written.append(str(path)), write(path, data)))
    degrade(tiny_corpus)
    last = json.loads(lines[-1])["file"]
    assert sorted(written) == sorted([str(torn), str(gone), str(other), f"O/{last}"])
    now = content(Path("O"))
    assert not stale.exists()
    assert {name: data for name, data in now.items() if name != "degrade.jsonl"} == {
        name: data for name, data in whole.items() if name != "degrade.jsonl"
    }
    degrade(tiny_corpus)
    assert len(written) == 4


@pytest.mark.full
def test_a_killed_process_leaves_nothing_half_written(run: Run, tiny_corpus: TinyCorpus, tmp_path: Path):
    killer = (
        "import io, os, signal, sys\n"
        "from s3prl_emotion import cli\n"
        "from s3prl_emotion.files import writing\n"
        "written = []\n"
        "class Dying(io.BufferedWriter):\n"
        "    def write(self, data):\n"
        "        if data.startswith(b'RIFF'):\n"  # a copy, not a record of the run
        "            written.append(self.name)\n"
        "        if len(written) == 20:\n"
        "            super().write(data[:len(data) // 2])\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().write(data)\n"
        "if sys.argv.pop(1) == 'kill':\n"
        "    writing._open = lambda partial: Dying(io.FileIO(partial, 'wb'))\n"
        "sys.exit(cli.main())\n"
    )
    words = ("degrade", "--labels", tiny_corpus.labels, "--root", tiny_corpus.root, "--out", "O", "--snr", "0:10")
    run(sys.executable, "-c", killer, "kill", *words, code=-9)
    out = tmp_path / "O"
    assert not list(out.glob("*.csv"))
    finished = list(out.rglob("*.wav"))
    assert len(finished) == 19
    assert len(list(out.rglob(".*.partial"))) == 1
    for path in finished:
        assert len(read(path)) == len(read(tiny_corpus.root / path.name))
    done = run(sys.executable, "-c", killer, "go on", *words, "--num_workers", 1)
    assert done.stdout.startswith("O/test_5dB.csv: 48 utterances, SNR 0.")
    assert "19 of 48 utterances are finished already" in done.stderr
    assert len(read_table(out / "test_5dB.csv")) == 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "1"), "were made with seed 0, not 1; name another --out, or remove that folder"),
        (("--noise", "pink"), r"were made with noise \{.*babble.*\}, not \{.*pink"),
        (("--snr", "0:10"), "were made with snr "),
        (("--subtype", "PCM_16"), 'were made with subtype "FLOAT", not "PCM_16"'),
    ],
)
def test_another_specification_is_refused(degrade: Call, tiny_corpus: TinyCorpus, words: tuple[str, ...], message: str):
    degrade(tiny_corpus, "--snr", "0:10", "10:20")
    before = content(Path("O"))
    again = words if "--snr" in words else ("--snr", "0:10", "10:20", *words)
    assert re.search(rf"O/degrade.json: the copies there {message}", degrade(tiny_corpus, *again, code=1))
    assert content(Path("O")) == before


def test_other_labels_audio_and_recordings_are_refused(
    degrade: Call, own_tiny_corpus: TinyCorpus, noises: Path, tmp_path: Path
):
    shutil.copytree(noises, tmp_path / "recordings")
    words = ("--snr", "0:10", "--noise", "recordings")
    degrade(own_tiny_corpus, *words)
    (tmp_path / "recordings").rename(tmp_path / "moved")
    degrade(own_tiny_corpus, "--snr", "0:10", "--noise", "moved")  # where they lie does not matter
    assert [by["arguments"]["noise"] for by in json.loads(Path("O/degrade.json").read_text())["by"]] == [
        "recordings", "moved",
    ]  # fmt: skip
    soundfile.write(tmp_path / "moved" / "more.wav", tone(50.0, 0.1, 1), RATE)
    assert "made with noise" in degrade(own_tiny_corpus, "--snr", "0:10", "--noise", "moved", code=1)
    (tmp_path / "moved" / "more.wav").unlink()
    soundfile.write(own_tiny_corpus.root / "s0_ang_0.wav", tone(50.0, 0.1, 1), RATE)
    assert "made with audio" in degrade(own_tiny_corpus, "--snr", "0:10", "--noise", "moved", code=1)
    rewrite(own_tiny_corpus.labels, lambda row: row if row["FileName"] != "s0_ang_0.wav" else None)
    assert "made with labels" in degrade(own_tiny_corpus, "--snr", "0:10", "--noise", "moved", code=1)


def test_provenance(degrade: Call, tiny_corpus: TinyCorpus):
    degrade(tiny_corpus, "--noise", "brown", "--seed", 4)
    about = json.loads(Path("O/degrade.json").read_text())
    assert about["seed"] == 4
    assert about["noise"]["kind"] == "brown"
    assert about["snr"] == {"test_25dB": [20.0, 30.0], "test_15dB": [10.0, 20.0], "test_5dB": [0.0, 10.0]}
    assert about["labels"] == hashlib.sha256(tiny_corpus.labels.read_bytes()).hexdigest()
    (by,) = about["by"]
    assert by["arguments"]["root"] == str(tiny_corpus.root)
    assert {"numpy", "torchaudio", "soundfile", "s3prl-emotion"} <= set(by["versions"])


def test_folders_with_other_files_are_refused(degrade: Call, tiny_corpus: TinyCorpus):
    Path("O").write_text("file")
    assert "--out O: is a file; name a folder" in degrade(tiny_corpus, code=1)
    Path("O").unlink()
    Path("O/test_5dB").mkdir(parents=True)
    assert "O/test_5dB: exists, but no degrade.json" in degrade(tiny_corpus, code=1)
    Path("O/test_5dB").rmdir()
    Path("O/test_25dB.csv").write_text("mine")
    assert "O/test_25dB.csv: exists, but no degrade.json" in degrade(tiny_corpus, code=1)
    assert Path("O/test_25dB.csv").read_text() == "mine"
    Path("O/test_25dB.csv").unlink()
    for damaged in ("{", "[]", '{"by": 3}'):
        Path("O/degrade.json").write_text(damaged)
        assert "O/degrade.json: damaged" in degrade(tiny_corpus, code=1)


def test_room_is_checked_before(degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    free = shutil.disk_usage("/")
    degrade(tiny_corpus, "--noise", "pink")
    size = sum(map(len, content(Path("O")).values()))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: free._replace(free=0))
        degrade(tiny_corpus, "--noise", "pink")  # all is there
    shutil.rmtree("O")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=round(0.9 * size)))
    error = degrade(tiny_corpus, "--noise", "pink", code=1)
    assert re.search(r"--out O: needs about 0\.00\d+ GB more, but 0\.00\d+ GB are free there; free disk space", error)
    assert not Path("O").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=round(1.2 * size)))
    degrade(tiny_corpus, "--noise", "pink")


class CopiesOnAFullDisk(copies_module._Copies):
    """Writes copies where the disk is full after seven, in whatever process."""

    def __getitem__(self, index: int) -> list[dict[str, object]]:
        with pytest.MonkeyPatch.context() as patch:
            fill_disk(patch, lambda partial: len(list(partial.parent.glob("*.wav"))) == 7)
            return super().__getitem__(index)


class DyingCopies(copies_module._Copies):
    """Ends the process that writes the third copy."""

    def __getitem__(self, index: int) -> list[dict[str, object]]:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_one_line(degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, workers: int):
    with monkeypatch.context() as patch:
        patch.setattr(copies_module, "_Copies", CopiesOnAFullDisk)
        error = degrade(tiny_corpus, "--snr", "0:10", "--noise", "pink", "--num_workers", workers, code=1)
    assert re.search(r"O/test_5dB/\w+\.wav: could not be written \(No space left on device\); free disk space", error)
    assert not Path("O/test_5dB.csv").exists()
    assert not list(Path("O").rglob(".*.partial"))
    assert len(list(Path("O").rglob("*.wav"))) == 7
    degrade(tiny_corpus, "--snr", "0:10", "--noise", "pink")
    assert len(table_of(Path("O"), "test_5dB")) == 48


@pytest.mark.full
def test_a_worker_that_dies_is_one_line(degrade: Call, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(copies_module, "_Copies", DyingCopies)
        error = degrade(tiny_corpus, "--num_workers", 1, code=1)
    killed = r"loader process \d+ was killed by signal 9 \(SIGKILL\) while it read \S+\.wav; start the same command"
    assert re.search(killed, error)
    degrade(tiny_corpus, "--num_workers", 1)


# --- names ---------------------------------------------------------------------------------------------------------


def test_level_names():
    assert [level_name(snr) for snr in DEFAULT_LEVELS] == list(LEVELS)
    with pytest.raises(UsageError, match="no SNR range"):
        level_names([])
    assert parse_range("-5:2.5") == (-5.0, 2.5)
    assert DegradationSpec(snr=(0, 10), reverb="none") == DegradationSpec(snr=(0.0, 10.0))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(800, np.float32), "u.wav: is silent, so it has no signal-to-noise ratio"),
        (np.full(800, 1e-6, np.float32), "u.wav: is silent"),
        (np.zeros(0, np.float32), r"u.wav: a waveform must be \[N\] with N >= 1 and finite, got shape \(0,\)"),
        (np.zeros((2, 80), np.float32), r"got shape \(2, 80\)"),
        (np.array([0.1, np.nan], np.float32), "must be .* finite"),
    ],
)
def test_bad_waveforms_are_refused(waveform: NDArray[np.float32], message: str):
    with pytest.raises(EmotionError, match=message):
        build_degrader(DegradationSpec("pink"))(waveform, "u.wav")


def test_babble_refuses_utterances_that_the_table_does_not_list(tiny_corpus: TinyCorpus):
    with pytest.raises(LabelError, match=r"new\.wav: not in the label table, so babble cannot leave its speaker out"):
        made_by(tiny_corpus, "babble")(tone(200.0, 0.2, 1), "new.wav")


@pytest.mark.skipif(not EMODB.is_dir(), reason="needs EMO-DB")
def test_real_speech(degrade: Call, tmp_path: Path):
    with (EMODB / "labels.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))[::20]
    with (tmp_path / "labels.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    degrade(TinyCorpus(EMODB / "wav", tmp_path / "labels.csv"))
    for level, (low, high) in LEVELS.items():
        for row in table_of(Path("O"), f"test_{level}"):
            clean, written = load_audio(EMODB / "wav" / row["SourceFile"]), read(Path("O", row["FileName"]))
            measured = snr_of(written, clean.astype(np.float64), float(row["Gain"]))
            assert low - 0.1 <= measured <= high + 0.1
            assert measured == pytest.approx(float(row["SNR"]), abs=0.01)
