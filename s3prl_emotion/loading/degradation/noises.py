"""Sources of noise: babble of other speakers, coloured noise, and recordings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import MEAN, SAMPLE_RATE, Part, find_audio, load_audio, read_audio
from s3prl_emotion.corpora.degradation_levels import generator
from s3prl_emotion.errors import AudioError, LabelError, UsageError, nearest
from s3prl_emotion.loading.degradation.recordings import Samples, audio_files, excerpt, is_silent, power, recorded_part

Place = tuple[Path, str | int, Part | None]  # file, channel, part
logger = logging.getLogger(__name__)

BABBLE = "babble"
COLOURS = {
    "white": 0.0,
    "pink": 1.0,
    "brown": 2.0,
}  # exponent e of the spectrum: power is proportional to 1 / frequency^e; 0, -3, -6 dB per octave
LOWEST_FREQUENCY = 20.0  # Hz; otherwise most of the power of brown noise would be inaudible
TALKERS = (3, 7)  # fewest and most talkers in babble; all speakers of a small corpus, but at least FEWEST
FEWEST = 2


class Noise(Protocol):
    """A source of noise."""

    def draw(self, name: str, length: int, *turn: int) -> tuple[Samples, str]:
        """Return noise ``[length]`` of any power above 0 for the utterance ``name``, and its description.

        ``turn`` is the number of the draw where an utterance gets several: in training, one in each epoch.
        """


class ColouredNoise:
    """Gaussian noise whose power falls by 0 (white), 3 (pink) or 6 dB (brown) per octave, from 20 Hz to 8 kHz."""

    def __init__(self, colour: str, seed: int) -> None:
        self.colour = colour
        self.seed = seed

    def draw(self, name: str, length: int, *turn: int) -> tuple[Samples, str]:
        """Return noise ``[length]`` and its colour."""
        rng = generator(self.seed, name, "noise", self.colour, *turn)
        samples = rng.standard_normal(
            max(length, SAMPLE_RATE)
        )  # at least 1 s, so that short noise too has low frequencies
        spectrum = np.fft.rfft(samples)
        frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
        audible = frequencies >= LOWEST_FREQUENCY
        spectrum[audible] *= frequencies[audible] ** (-COLOURS[self.colour] / 2)
        spectrum[~audible] = 0
        coloured = np.fft.irfft(spectrum, len(samples))[:length]
        return coloured / np.sqrt(power(coloured)), self.colour


class RecordedNoise:
    """Random excerpts of random recordings in a folder."""

    def __init__(self, folder: Path, seed: int, flag: str = "--noise") -> None:
        self.folder = folder
        self.seed = seed
        self.files = audio_files(folder, flag)

    def draw(self, name: str, length: int, *turn: int) -> tuple[Samples, str]:
        """Return noise ``[length]``, and the recording's path below the folder with the excerpt's start (s)."""
        rng = generator(self.seed, name, "noise", *turn)
        file = self.files[rng.integers(len(self.files))]
        samples, start = recorded_part(self.folder / file, rng.random(), length)
        return samples, f"{file}@{start:.3f}s"


class Babble:
    """Several other speakers of the corpus talking at once, each at the same power.

    A talker is one speaker's utterances in random order, one after the other, from a random point in the first one.

    Args:
        root: audio folder
        speakers: speaker of every utterance of the corpus by its name, ``None`` if unknown
        seed: of the random draws
        channel: of utterances with several
        places: file, channel and part of each utterance by its name, where they do not lie below ``root``
        remedy: what to do where there are too few speakers, for the message

    Raises:
        LabelError: fewer than three speakers
    """

    def __init__(
        self,
        root: Path,
        speakers: Mapping[str, str | None],
        seed: int,
        channel: str | int = MEAN,
        places: Mapping[str, Place] | None = None,
        remedy: str = "use another --noise",
    ) -> None:
        self.root, self.channel, self.places = root, channel, places
        self.seed = seed
        self.speakers = dict(speakers)
        self.utterances: dict[str, list[str]] = {}
        for name, speaker in sorted(self.speakers.items()):  # the order of the table's rows must not matter
            if speaker is not None:
                self.utterances.setdefault(speaker, []).append(name)
        self.talkers = sorted(self.utterances)
        if len(self.talkers) <= FEWEST:
            raise LabelError(
                f"{root}: babble needs at least {FEWEST + 1} known speakers (SpkrID), the labels have "
                f"{len(self.talkers)}; {remedy}"
            )
        unknown = sum(speaker is None for speaker in self.speakers.values())
        if unknown:
            logger.warning(
                "%d utterances have no known speaker: they are not used as babble, and get babble of any speaker",
                unknown,
            )

    def draw(self, name: str, length: int, *turn: int) -> tuple[Samples, str]:
        """Return noise ``[length]`` without the utterance's own speaker, and the utterances it is made of."""
        if name not in self.speakers:
            raise LabelError(f"{name}: not in the label table, so babble cannot leave its speaker out")
        rng = generator(self.seed, name, "noise", BABBLE, *turn)
        others = [speaker for speaker in self.talkers if speaker != self.speakers[name]]
        count = min(int(rng.integers(*TALKERS, endpoint=True)), len(others))
        total, files = np.zeros(length), []
        for index in rng.choice(len(others), count, replace=False):
            samples, spoken = self._talk(others[index], length, rng)
            total += samples / np.sqrt(power(samples))
            files += spoken
        if is_silent(total):  # talkers may cancel out, as with a single sample or the same recording under two names
            raise AudioError(f"{name}: babble of {', '.join(files)} is silent; use another --seed")
        return total, "+".join(files)

    def _talk(self, speaker: str, length: int, rng: np.random.Generator) -> tuple[Samples, list[str]]:
        order, fraction = rng.permutation(self.utterances[speaker]), rng.random()
        parts: dict[str, NDArray[np.float32]] = {}
        start = missing = 0
        for name in map(str, order):
            samples = self._read(name)
            if is_silent(samples):
                continue
            if not parts:
                start = int(fraction * len(samples))
                missing = start + length
            parts[name] = samples
            missing -= len(samples)
            if missing <= 0:
                break
        if not parts:
            raise AudioError(f"{self.root}: every utterance of speaker {speaker} is silent; leave them out")
        return excerpt(np.concatenate(list(parts.values())), start, length), list(parts)

    def _read(self, name: str) -> NDArray[np.float32]:
        if self.places is not None:
            return read_audio(*self.places[name]).waveform
        path, part = find_audio(self.root, name)
        return load_audio(path, self.channel, part)


def build_noise(
    kind: str,
    seed: int,
    root: Path | None,
    speakers: Mapping[str, str | None] | None,
    channel: str | int = MEAN,
    flag: str = "--noise",
) -> Noise:
    """Build the source of noise that a specification, or the recipe's key ``flag``, names.

    Raises:
        UsageError: neither a known kind of noise nor a folder with audio
        LabelError: too few speakers for babble
        AudioError: a recording cannot be read
    """
    if kind in COLOURS:
        return ColouredNoise(kind, seed)
    if kind == BABBLE:
        if root is None or speakers is None:
            raise LabelError("babble needs a corpus: labels and audio folder")
        return Babble(root, speakers, seed, channel)
    if not Path(kind).expanduser().is_dir():
        known = [BABBLE, *COLOURS]
        raise UsageError(f"{flag} {kind}: neither a folder nor one of {', '.join(known)}{nearest(kind, known)}")
    return RecordedNoise(Path(kind).expanduser(), seed, flag)
