"""Make the built-in demo corpus: acted emotions of eight synthetic speakers, made offline with espeak-ng.

With it every command of the suite can be tried and tested without a licence or a download. Four speakers of each gender
say six neutral sentences in four emotions, 192 utterances. The emotions are acted by speaking rate, pitch, pitch range
and volume, with enough jitter that they overlap. Six simulated graders label each utterance and rate its valence,
activation and dominance from 1 to 5; they disagree as human graders do. All of this is artificial: scores on it
show that the suite works, and say nothing about human speech.
"""

from __future__ import annotations

import csv
import logging
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.espeak import Espeak
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import CACHE_VARIABLE, cache_folder
from s3prl_emotion.files.leftovers import remove_stale
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.writing import writing_folder

logger = logging.getLogger(__name__)

DEMO_VERSION = "1"
"""Raise it whenever the corpus changes, so that corpora made by another version are not used again."""

EMOTIONS = ("neutral", "happy", "angry", "sad")
SENTENCES = (
    "The train to the city leaves at nine.",
    "There is a letter for you on the table.",
    "She put the blue cup beside the window.",
    "They walked along the river after lunch.",
    "The shop on the corner opens on Monday.",
    "He said that the meeting is in room four.",
)
COLUMNS = (
    *("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd"),
    *EMOTIONS,
    *("SpkrID", "Gender", "Fold", "Text", "Duration"),
)

_SEED = 20240607
_GRADERS = 6
_LABELS = "labels.csv"
_STALE_SECONDS = 24 * 3600  # the corpus takes seconds: a folder as old as this was left by a killed process


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker: a voice, a factor on the emotions' rate, and an offset (points) on their pitch."""

    name: str
    gender: str
    fold: str
    voice: str
    rate: float
    pitch: float


@dataclass(frozen=True)
class Acting:
    """How an emotion sounds (means; the jitter is the same for all) and how graders perceive it."""

    rate_wpm: float
    pitch: float
    pitch_range: float
    volume: float
    confusion: tuple[float, float, float, float]  # probability that a grader chooses each of EMOTIONS
    ratings: tuple[float, float, float]  # mean activation, valence, dominance


SPEAKERS = (
    Speaker("spk01", "Female", "fold1", "en-us+f2", 1.00, 2.0),
    Speaker("spk02", "Male", "fold1", "en-us+m1", 1.00, 0.0),
    Speaker("spk03", "Female", "fold2", "en-us+f3", 0.95, -3.0),
    Speaker("spk04", "Male", "fold2", "en-us+m3", 1.05, 3.0),
    Speaker("spk05", "Female", "fold3", "en-us+f5", 1.06, 0.0),
    Speaker("spk06", "Male", "fold3", "en-us+m7", 0.95, -3.0),
    Speaker("spk07", "Female", "fold4", "en-us+linda", 1.02, -2.0),
    Speaker("spk08", "Male", "fold4", "en-us+m2", 1.02, 4.0),
)

_ACTING = {
    "neutral": Acting(172, 45, 45, 72, (0.72, 0.08, 0.06, 0.14), (2.6, 3.0, 3.0)),
    "happy": Acting(190, 68, 75, 86, (0.14, 0.72, 0.12, 0.02), (3.9, 4.2, 3.4)),
    "angry": Acting(206, 48, 65, 112, (0.10, 0.08, 0.78, 0.04), (4.3, 1.8, 4.2)),
    "sad": Acting(152, 34, 22, 55, (0.20, 0.02, 0.03, 0.75), (1.9, 2.0, 2.1)),
}
# Standard deviations of rate (factor), pitch, pitch range and volume (factor). Chosen so that a linear classifier of
# log-mel statistics lands at about 80 % on unseen speakers: neither hopeless nor solved.
_JITTER = (0.04, 4.0, 8.0, 0.07)
_GRADER_SPREAD = 0.7  # of one grader's rating about the mean


@dataclass(frozen=True)
class _Utterance:
    speaker: Speaker
    emotion: str
    sentence: int

    @property
    def file_name(self) -> str:
        return f"{self.speaker.name}_{self.emotion}_s{self.sentence + 1}.wav"


def demo_corpus(cache_dir: Path | None = None) -> tuple[Path, Path]:
    """Return the demo corpus, which is made on the first call and cached.

    Args:
        cache_dir: folder of the cache; by default the environment variable ``S3PRL_EMOTION_CACHE`` or, if that is not
            set, ``$XDG_CACHE_HOME/s3prl_emotion`` or ``~/.cache/s3prl_emotion``

    Returns:
        the folder of the audio files and the label table ``labels.csv``

    Raises:
        UsageError: the cache cannot be written, or espeakng-loader is not installed or does not work
        AudioError: espeak-ng made no speech
    """
    cache = cache_folder() if cache_dir is None else Path(cache_dir)
    root = cache / f"demo_corpus_v{DEMO_VERSION}"
    try:
        if not _is_complete(root):
            remove_stale(cache.glob(f"{root.name}.tmp-*"), _STALE_SECONDS)
            _make(root)
    except OSError as error:
        raise UsageError(
            f"cannot write the demo corpus to {root}: {error.strerror or error}; "
            f"name a folder with room for it (10 MB) in the environment variable {CACHE_VARIABLE}"
        ) from error
    logger.info("demo corpus (synthetic speech): %s", root)
    return root, root / _LABELS


def _is_complete(root: Path) -> bool:
    # The folder appears complete; this detects files that were deleted afterwards.
    files = [root / _LABELS, *(root / utterance.file_name for utterance in _utterances())]
    try:
        return all(path.stat().st_size > 0 for path in files)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make(root: Path) -> None:
    """Make the corpus, unless another process makes it first: the files are the same."""
    with writing_folder(root, _is_complete) as folder:
        _generate(folder)


def _utterances() -> Iterator[_Utterance]:
    for speaker in SPEAKERS:
        for emotion in EMOTIONS:
            for sentence in range(len(SENTENCES)):
                yield _Utterance(speaker, emotion, sentence)


def _generate(folder: Path) -> None:
    total = len(SPEAKERS) * len(EMOTIONS) * len(SENTENCES)
    rows = []
    logger.info("making the demo corpus: %d utterances", total)
    with Espeak(seed=_SEED) as espeak:
        shown = progress(_utterances(), "demo corpus", "utterances", total=total, leave=False)
        for number, utterance in enumerate(shown):
            rng = np.random.default_rng([_SEED, number])  # a generator for each utterance, independent of the others
            samples, rate = _act(espeak, utterance, rng)
            _write_wave(folder / utterance.file_name, samples, rate)
            rows.append(_row(utterance, len(samples) / rate, rng))
    with (folder / _LABELS).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _act(espeak: Espeak, utterance: _Utterance, rng: np.random.Generator) -> tuple[NDArray[np.int16], int]:
    speaker, acting = utterance.speaker, _ACTING[utterance.emotion]
    rate, pitch, pitch_range, volume = rng.normal(0.0, _JITTER)
    return espeak.say(
        SENTENCES[utterance.sentence],
        speaker.voice,
        rate_wpm=_bounded(acting.rate_wpm * speaker.rate * (1 + rate), 100, 300),
        pitch=_bounded(acting.pitch + speaker.pitch + pitch, 5, 95),
        pitch_range=_bounded(acting.pitch_range + pitch_range, 0, 100),
        volume=_bounded(acting.volume * (1 + volume), 30, 130),
    )


def _bounded(value: float, low: int, high: int) -> int:
    return round(min(max(value, low), high))


def _write_wave(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples.astype("<i2").tobytes())


def _row(utterance: _Utterance, duration: float, rng: np.random.Generator) -> list[str]:
    shares, means, spreads = _grade(_ACTING[utterance.emotion], rng)
    speaker = utterance.speaker
    return [
        *(utterance.file_name, utterance.emotion),
        *(f"{value:.6f}" for value in (*means, *spreads, *shares)),
        *(speaker.name, speaker.gender, speaker.fold, SENTENCES[utterance.sentence], f"{duration:.6f}"),
    ]


def _grade(
    acting: Acting, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Simulate the graders: shares of the emotions they chose, and mean and population spread of their ratings."""
    chosen = rng.choice(len(EMOTIONS), size=_GRADERS, p=acting.confusion)
    shares = np.bincount(chosen, minlength=len(EMOTIONS)) / _GRADERS
    # Ratings are halfway between the acted emotion and the one that the grader chose.
    views = np.array([_ACTING[EMOTIONS[label]].ratings for label in chosen])
    centre = (views + np.array(acting.ratings)) / 2
    ratings = np.clip(np.rint(rng.normal(centre, _GRADER_SPREAD)), 1, 5)
    return shares, ratings.mean(axis=0), ratings.std(axis=0)
