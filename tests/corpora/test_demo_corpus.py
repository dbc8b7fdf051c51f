"""The built-in demo corpus: the same bytes every time, a sound label table, and speech that differs by emotion."""

from __future__ import annotations

import builtins
import csv
import ctypes
import hashlib
import os
import statistics
import subprocess
import sys
import wave
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SOURCE
from numpy.typing import NDArray

pytest.importorskip("espeakng_loader", reason="the demo corpus is synthesized with espeakng-loader")

from s3prl_emotion.corpora import demo
from s3prl_emotion.corpora.espeak import Espeak
from s3prl_emotion.errors import AudioError, EmotionError, UsageError

IN_A_PROCESS = (
    "import sys, pathlib; from s3prl_emotion.corpora import demo; demo.demo_corpus(pathlib.Path(sys.argv[1]))"
)

Row = dict[str, str]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return demo.demo_corpus(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(corpus: tuple[Path, Path]) -> list[Row]:
    with corpus[1].open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def audio(corpus: tuple[Path, Path], rows: list[Row]) -> dict[str, NDArray[np.float64]]:
    return {row["FileName"]: _samples(corpus[0] / row["FileName"]) for row in rows}


def _samples(path: Path) -> NDArray[np.float64]:
    with wave.open(str(path), "rb") as stream:
        assert (stream.getnchannels(), stream.getsampwidth(), stream.getframerate()) == (1, 2, 22050)
        return np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(np.float64) / 32768


def _digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())}


def _start(cache: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([SOURCE, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, str(cache)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def _mean_by_emotion(rows: Sequence[Row], value: Mapping[str, float]) -> dict[str, float]:
    values = defaultdict(list)
    for row in rows:
        values[row["EmoClass"]].append(value[row["FileName"]])
    return {emotion: statistics.fmean(of_emotion) for emotion, of_emotion in values.items()}


def _median_pitch(samples: NDArray[np.float64], rate: int = 22050, size: int = 1024) -> float:
    """Estimate the median fundamental frequency by autocorrelation over the strongly voiced frames."""
    shortest, longest, loud = rate // 420, rate // 65, 0.5 * samples.std()
    found = []
    for start in range(0, len(samples) - size, size // 2):
        frame = samples[start : start + size]
        if frame.std() < loud:
            continue
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        lag = shortest + int(correlation[shortest:longest].argmax())
        if correlation[lag] > 0.5 * correlation[0]:
            found.append(rate / lag)
    return statistics.median(found)


# The same bytes every time


@pytest.mark.full
def test_two_processes_at_once_make_the_same_bytes_as_this_one(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = _start(tmp_path), _start(tmp_path)
    _finish(first)
    _finish(second)
    (made,) = tmp_path.iterdir()  # and no temporary folder beside it
    assert made.name == corpus[0].name
    assert _digests(made) == _digests(corpus[0])


@pytest.mark.full
def test_making_it_again_in_one_process_gives_the_same_bytes(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    assert _digests(demo.demo_corpus(tmp_path)[0]) == _digests(corpus[0])


def test_a_shared_espeak_used_before_changes_nothing() -> None:
    def say() -> bytes:
        with Espeak(seed=3) as espeak:
            return espeak.say("One two three.", "en-us+f3", 170, 50, 50, 100)[0].tobytes()

    before = say()
    with Espeak(seed=4) as other:
        other.say("Something else altogether.", "en-us+m2", 220, 30, 80, 60)
        assert say() == before


# The cache


def test_a_second_call_makes_nothing(corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError(f"made again in {folder}")

    monkeypatch.setattr(demo, "_generate", fail)
    assert demo.demo_corpus(corpus[0].parent) == corpus
    monkeypatch.setattr(demo, "DEMO_VERSION", "another")
    with pytest.raises(RuntimeError, match="made again"):
        demo.demo_corpus(corpus[0].parent)


def test_a_half_made_corpus_does_not_count(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    left = tmp_path / f"{corpus[0].name}.tmp-0123"
    left.mkdir()
    (left / "labels.csv").write_text("FileName\n", encoding="utf-8")
    root, labels = demo.demo_corpus(tmp_path)
    assert root != left
    assert labels.read_bytes() == corpus[1].read_bytes()
    assert left.is_dir()  # young: another process may be at work in it


def test_old_leftovers_of_a_killed_process_are_removed(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    left = tmp_path / f"{corpus[0].name}.tmp-0123"
    left.mkdir()
    os.utime(left, (0, 0))
    demo.demo_corpus(tmp_path)
    assert not left.exists()


def test_a_failure_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_row", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.demo_corpus(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("harm", ["missing", "empty"])
def test_a_corpus_with_deleted_files_is_made_again(corpus: tuple[Path, Path], tmp_path: Path, harm: str) -> None:
    root, _ = demo.demo_corpus(tmp_path)
    victim = root / "spk03_sad_s2.wav"
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(b"")
    demo.demo_corpus(tmp_path)
    assert _digests(root) == _digests(corpus[0])
    assert list(tmp_path.iterdir()) == [root]


def test_the_cache_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_make", lambda root: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv(demo.CACHE_VARIABLE, str(tmp_path / "named"))
    assert demo.demo_corpus()[0].parent == tmp_path / "named"
    monkeypatch.delenv(demo.CACHE_VARIABLE)
    assert demo.demo_corpus()[0].parent == tmp_path / "xdg" / "s3prl_emotion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert demo.demo_corpus()[0].parent == tmp_path / ".cache" / "s3prl_emotion"


# Errors


def _one_line(error: pytest.ExceptionInfo[EmotionError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_an_unwritable_cache_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UsageError) as error:
        demo.demo_corpus(tmp_path / "file" / "cache")
    message = _one_line(error)
    assert demo.CACHE_VARIABLE in message
    assert str(tmp_path / "file" / "cache") in message


def test_a_missing_wheel_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == "espeakng_loader":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError) as error:
        demo.demo_corpus(tmp_path)
    assert "pip install espeakng-loader" in _one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_does_not_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader

    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(UsageError) as error:
        Espeak()
    assert str(broken) in _one_line(error)


def test_the_shared_library_is_used_if_no_private_copy_loads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ctypes.CDLL

    def noexec(name: str) -> ctypes.CDLL:
        if "s3prl_emotion_espeak_" in name:
            raise OSError("failed to map segment from shared object")
        return real(name)

    monkeypatch.setattr(ctypes, "CDLL", noexec)
    with Espeak() as espeak:
        assert len(espeak.say("One.", "en-us+f3", 170, 50, 50, 100)[0]) > 0
    assert "using the shared one" in caplog.text


def test_data_without_phontab_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(UsageError, match="phontab") as error:
        Espeak()
    assert str(tmp_path) in _one_line(error)


@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-nowhere"])
def test_an_unknown_voice_is_named(voice: str) -> None:
    with Espeak() as espeak, pytest.raises(AudioError) as error:
        espeak.say("One.", voice, 170, 50, 50, 100)
    assert voice in _one_line(error)


def test_a_closed_espeak_says_so() -> None:
    espeak = Espeak()
    espeak.close()
    espeak.close()
    with pytest.raises(AudioError, match="closed"):
        espeak.say("One.", "en-us+f3", 170, 50, 50, 100)


# The label table


def test_the_table_has_every_utterance_once(corpus: tuple[Path, Path], rows: list[Row]) -> None:
    assert list(rows[0]) == list(demo.COLUMNS)
    assert len(rows) == len({Path(row["FileName"]).stem for row in rows}) == 192
    assert {path.name for path in corpus[0].glob("*.wav")} == {row["FileName"] for row in rows}
    for row in rows:
        number = demo.SENTENCES.index(row["Text"]) + 1
        assert row["FileName"] == f"{row['SpkrID']}_{row['EmoClass']}_s{number}.wav"


def test_folds_have_speakers_of_their_own_and_both_genders(rows: list[Row]) -> None:
    folds = {(row["SpkrID"], row["Gender"], row["Fold"]) for row in rows}
    assert len(folds) == len({speaker for speaker, _, _ in folds}) == 8
    for fold in ("fold1", "fold2", "fold3", "fold4"):
        assert sorted(gender for _, gender, of in folds if of == fold) == ["Female", "Male"]


def test_every_fold_has_every_emotion_equally_often(rows: list[Row]) -> None:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        counts[row["Fold"], row["EmoClass"]] += 1
    assert set(counts.values()) == {12}
    assert {emotion for _, emotion in counts} == set(demo.EMOTIONS)


def test_shares_sum_to_one_and_graders_disagree(rows: list[Row]) -> None:
    shares = np.array([[float(row[emotion]) for emotion in demo.EMOTIONS] for row in rows])
    assert np.abs(shares.sum(axis=1) - 1).max() < 1e-3
    assert shares.min() >= 0
    assert (shares.max(axis=1) < 1).mean() > 0.3
    intended = [demo.EMOTIONS.index(row["EmoClass"]) for row in rows]
    assert (shares.argmax(axis=1) == intended).mean() > 0.8


def test_ratings_are_means_and_population_spreads_of_whole_numbers(rows: list[Row]) -> None:
    for name in ("EmoAct", "EmoVal", "EmoDom"):
        means = np.array([float(row[name]) for row in rows])
        spreads = np.array([float(row[f"{name}Std"]) for row in rows])
        assert 1 <= means.min() < means.max() <= 5
        assert 0 <= spreads.min() < spreads.max() <= 2
        # Six whole ratings with this mean and population spread have a whole sum and a whole sum of squares.
        for sums in (6 * means, 6 * (spreads**2 + means**2)):
            np.testing.assert_allclose(sums, np.rint(sums), atol=1e-3)
    activation = _mean_by_emotion(rows, {row["FileName"]: float(row["EmoAct"]) for row in rows})
    valence = _mean_by_emotion(rows, {row["FileName"]: float(row["EmoVal"]) for row in rows})
    assert activation["angry"] > activation["neutral"] > activation["sad"]
    assert valence["happy"] > valence["neutral"] > valence["angry"]


# The audio


def test_durations_match_the_files(rows: list[Row], audio: dict[str, NDArray[np.float64]]) -> None:
    for row in rows:
        duration = len(audio[row["FileName"]]) / 22050
        assert float(row["Duration"]) == pytest.approx(duration, abs=1e-5)
        assert 0.8 < duration < 3.0


def test_the_corpus_is_small(corpus: tuple[Path, Path]) -> None:
    assert 5e6 < sum(path.stat().st_size for path in corpus[0].iterdir()) < 30e6


def test_no_file_is_silent_clipped_or_a_copy(audio: dict[str, NDArray[np.float64]]) -> None:
    for name, samples in audio.items():
        assert np.sqrt(np.mean(samples**2)) > 0.01, name
        assert np.abs(samples).max() < 0.999, name
    assert len({samples.tobytes() for samples in audio.values()}) == len(audio)


@pytest.mark.full
def test_emotions_differ_in_level_duration_and_pitch(rows: list[Row], audio: dict[str, NDArray[np.float64]]) -> None:
    level = _mean_by_emotion(rows, {name: float(np.sqrt(np.mean(x**2))) for name, x in audio.items()})
    duration = _mean_by_emotion(rows, {name: len(x) / 22050 for name, x in audio.items()})
    pitch = _mean_by_emotion(rows, {name: _median_pitch(x) for name, x in audio.items()})
    assert level["angry"] > 1.5 * level["sad"]
    assert duration["happy"] < 0.95 * duration["sad"]
    assert pitch["happy"] > 1.1 * pitch["sad"]


def test_women_speak_higher_than_men(rows: list[Row], audio: dict[str, NDArray[np.float64]]) -> None:
    pitch: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["EmoClass"] == "neutral":
            pitch[row["Gender"]].append(_median_pitch(audio[row["FileName"]]))
    assert min(pitch["Female"]) > max(pitch["Male"])
