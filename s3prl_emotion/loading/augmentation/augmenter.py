"""Augment waveforms: speed, reverberation, babble and noise at a drawn SNR, gain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE, resample
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.corpora.degradation_levels import SIMULATED, generator
from s3prl_emotion.loading.degradation.degrader import mixed, within_full_scale
from s3prl_emotion.loading.degradation.noises import Babble, Noise, RecordedNoise, build_noise
from s3prl_emotion.loading.degradation.recordings import Floats, Samples, fingerprint, is_silent
from s3prl_emotion.loading.degradation.rooms import RecordedRooms, Reverb, build_reverb, reverberate
from s3prl_emotion.recipe import AugmentSection

Waveform = NDArray[np.float32]
WHERE = "datarc.augment"
SIMULATED_ROOMS = 100  # of which each draw takes one: simulating a room takes 0.1 s, as much as a small upstream


class Augmenter:
    """Augments training utterances; can be pickled to loader processes.

    What is on is applied in the order speed, reverberation, babble and noise, gain. Samples beyond full scale are
    avoided by scaling the whole utterance down. An utterance on which nothing is drawn, and a silent one, which has no
    signal-to-noise ratio, stay as they are.

    Args:
        section: ``datarc.augment``
        utterances: of the training split, from which babble is made
        seed: of the run; the section's own comes first

    Raises:
        UsageError: a folder is missing or without audio, or pyroomacoustics is not installed
        LabelError: too few speakers for babble
        AudioError: a recording cannot be read
    """

    def __init__(self, section: AugmentSection, utterances: Sequence[Utterance], seed: int) -> None:
        self.section = section.seeded(seed)
        self.seed = seed if section.seed is None else section.seed
        self.noises: dict[str, Noise] = {}
        self.reverb: Reverb | None = None
        if section.reverb is not None:
            self.reverb = _build_reverb(section.reverb.source, self.seed)
        if section.babble is not None:
            self.noises["babble"] = _build_babble(utterances, self.seed)
        if section.noise is not None:
            self.noises["noise"] = build_noise(
                section.noise.source, self.seed, None, None, flag=f"{WHERE}.noise.source:"
            )

    def __call__(self, waveform: Waveform, name: str, turn: int) -> Waveform:
        """Augment an utterance ``[N]``.

        Args:
            waveform: at 16 kHz; it is not changed in place
            name: of the utterance
            turn: number of the epoch or of the view

        Returns:
            ``[N']``, of another length only where its speed was changed
        """
        if not self.section.of_waveforms or is_silent(waveform):
            return waveform
        samples: Floats = self._at_speed(waveform, name, turn)
        samples = self._with_noises(self._in_room(samples, name, turn), name, turn)
        samples = self._at_level(samples, name, turn)
        return waveform if samples is waveform else within_full_scale(np.asarray(samples, np.float64))[0]

    def describe(self) -> dict[str, Any]:
        """Return for the metrics file what is applied, with a fingerprint of each folder that is read."""
        values = self.section.model_dump(exclude_none=True)
        sources = {"noise": self.noises.get("noise"), "reverb": self.reverb}
        for key, source in sources.items():
            if isinstance(source, RecordedNoise | RecordedRooms):
                print_of = fingerprint((file, source.folder / file) for file in source.files)
                values[key] |= {"files": len(source.files), "fingerprint": print_of}
        return values

    # --- inside ----------------------------------------------------------------------------------------------------

    def _drawn(self, kind: str, name: str, turn: int) -> np.random.Generator | None:
        """Return the generator of an augmentation, or ``None`` where it is off or is not drawn."""
        options = getattr(self.section, kind)
        if options is None:
            return None
        rng = generator(self.seed, name, "augment", kind, turn)
        return rng if rng.random() < options.p else None

    def _at_speed(self, waveform: Waveform, name: str, turn: int) -> Waveform:
        rng = self._drawn("speed", name, turn)
        if rng is None or self.section.speed is None:
            return waveform
        factors = self.section.speed.factors
        factor = factors[rng.integers(len(factors))]
        return waveform if factor == 1 else resample(waveform, round(factor * SAMPLE_RATE))

    def _in_room(self, samples: Floats, name: str, turn: int) -> Floats:
        if self.reverb is None or self._drawn("reverb", name, turn) is None:
            return samples
        response, arrival, _ = self.reverb.draw(name, turn)
        wet = reverberate(np.asarray(samples, np.float64), response, arrival)
        return samples if is_silent(wet) else wet

    def _with_noises(self, samples: Floats, name: str, turn: int) -> Floats:
        """Add babble and noise, each at its own SNR against the speech with its reverberation."""
        added = []
        speech = np.asarray(samples, np.float64)
        for kind, noise in self.noises.items():
            rng = self._drawn(kind, name, turn)
            if rng is not None and not is_silent(samples):
                snr = rng.uniform(*getattr(self.section, kind).snr)
                sound, _ = noise.draw(name, len(speech), turn)
                added.append(mixed(speech, sound, snr) - speech)
        return speech + np.sum(added, axis=0) if added else samples

    def _at_level(self, samples: Floats, name: str, turn: int) -> Floats:
        rng = self._drawn("gain", name, turn)
        if rng is None or self.section.gain is None:
            return samples
        low, high = self.section.gain.db
        return np.asarray(samples, np.float64) * 10 ** (rng.uniform(low, high) / 20)


class SharedRooms:
    """A fixed number of rooms, each simulated when it is first drawn, of which every utterance gets one.

    Args:
        rooms: simulates a room for each name
        seed: of the draws
    """

    def __init__(self, rooms: Reverb, seed: int) -> None:
        self.rooms, self.seed = rooms, seed
        self.simulated: dict[int, tuple[Samples, int, str]] = {}

    def draw(self, name: str, *turn: int) -> tuple[Samples, int, str]:
        """Return a response ``[K]``, the sample of its direct sound, and its description."""
        number = int(generator(self.seed, name, "room", *turn).integers(SIMULATED_ROOMS))
        if number not in self.simulated:
            self.simulated[number] = self.rooms.draw(f"room {number}")
        return self.simulated[number]


def _build_reverb(source: str, seed: int) -> Reverb | None:
    reverb = build_reverb(source, seed, f"{WHERE}.reverb.source:")
    return SharedRooms(reverb, seed) if reverb is not None and source == SIMULATED else reverb


def _build_babble(utterances: Sequence[Utterance], seed: int) -> Babble:
    speakers = {item.name: known_speaker(item.speaker) for item in utterances}
    places = {item.name: (item.path, item.channel, item.part) for item in utterances}
    return Babble(
        Path("the training split"), speakers, seed, places=places, remedy=f"leave {WHERE}.babble out"
    )  # fmt: skip
