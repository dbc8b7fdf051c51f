"""Speech to noisy and reverberant speech, the same for copies in files and on the fly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.functional import add_noise

from s3prl_emotion.corpora.degradation_levels import NO_REVERB, DegradationSpec, generator
from s3prl_emotion.errors import AudioError
from s3prl_emotion.loading.degradation.noises import BABBLE, Noise, build_noise
from s3prl_emotion.loading.degradation.rooms import Reverb, build_reverb, reverberate
from s3prl_emotion.loading.degradation.waves import Samples, is_silent, power

Waveform = NDArray[np.float32]
HIGHEST_PEAK = 0.99  # of full scale; louder mixtures are scaled down as a whole
SILENT = "{}: is silent, so it has no signal-to-noise ratio; leave it out of the labels"
SNR_TOLERANCE = 0.1  # dB between the SNR drawn and the one that is measured


@dataclass(frozen=True)
class Degraded:
    """An utterance with noise.

    Attributes:
        waveform: ``[N]`` float32, as long as the clean one
        snr: power of the (reverberant) speech over that of the noise, measured on ``waveform`` (dB)
        drawn: what ``snr`` should be (dB)
        gain: factor by which speech and noise were scaled to stay within full scale; 1 where they did
        noise: what the noise is
        reverb: what the room is; ``none`` without
    """

    waveform: Waveform
    snr: float
    drawn: float
    gain: float
    noise: str
    reverb: str


@dataclass(frozen=True)
class Parts:
    """What is mixed, before a level is chosen: speech and noise ``[N]`` float64, and what noise and room are."""

    speech: Samples
    noise: Samples
    noise_name: str
    reverb_name: str


class Degrader:
    """Adds reverberation, then noise. Can be copied to other processes.

    Noise and room depend on seed and utterance alone, so that levels (and speech with and without reverberation)
    differ in nothing else; the SNR depends on its range too.

    Args:
        spec: the level
        noise: source of noise
        reverb: source of impulse responses, or ``None``
    """

    def __init__(self, spec: DegradationSpec, noise: Noise, reverb: Reverb | None) -> None:
        self.spec = spec
        self.noise = noise
        self.reverb = reverb

    def __call__(self, waveform: Waveform, name: str) -> Degraded:
        """Degrade an utterance.

        Args:
            waveform: the whole utterance ``[N]`` at 16 kHz, as :func:`~s3prl_emotion.audio.load_audio` gives it
            name: its ``FileName``

        Raises:
            AudioError: a silent utterance, or noise or an impulse response that cannot be used
            LabelError: babble for an utterance that the labels do not list
        """
        return self.mix(self.parts(waveform, name), name)

    def parts(self, waveform: Waveform, name: str) -> Parts:
        """Speech, reverberant or not, and noise of any power: what the levels have in common."""
        if np.ndim(waveform) != 1 or len(waveform) == 0 or not np.isfinite(waveform).all():
            raise AudioError(f"{name}: a waveform must be [N] with N >= 1 and finite, got shape {np.shape(waveform)}")
        if is_silent(waveform):
            raise AudioError(SILENT.format(name))
        speech, room = np.asarray(waveform, np.float64), NO_REVERB
        if self.reverb is not None:
            response, arrival, room = self.reverb.draw(name)
            speech = reverberate(speech, response, arrival)
            if is_silent(speech):
                raise AudioError(f"{name}: is silent in the room {room}; take another --seed or --reverb")
        noise, kind = self.noise.draw(name, len(speech))
        return Parts(speech, noise, kind, room)

    def mix(self, parts: Parts, name: str) -> Degraded:
        """Add the noise at this level."""
        low, high = self.spec.snr
        drawn = float(generator(self.spec.seed, name, "snr", low, high).uniform(low, high))
        speech, noise = torch.from_numpy(parts.speech), torch.from_numpy(parts.noise)
        mixture = add_noise(speech, noise, torch.tensor(drawn, dtype=torch.float64)).numpy()
        peak = float(np.abs(mixture).max())
        gain = HIGHEST_PEAK / peak if peak > HIGHEST_PEAK else 1.0
        waveform = (gain * mixture).astype(np.float32)
        snr = measured_snr(waveform, parts.speech, gain)
        if not abs(snr - drawn) <= SNR_TOLERANCE:
            raise AudioError(
                f"{name}: {drawn:.2f} dB was to be its SNR, but it is {snr:.2f} dB; change the range of SNR"
            )
        return Degraded(waveform, snr, drawn, gain, parts.noise_name, parts.reverb_name)


def measured_snr(waveform: Waveform, speech: Samples, gain: float) -> float:
    """SNR (dB) of a mixture ``[N]`` of which the speech is known; infinite where there is no noise in it."""
    noise = power(np.asarray(waveform, np.float64) / gain - speech)
    return 10 * math.log10(power(speech) / noise) if noise > 0 else math.inf


def build_degrader(spec: DegradationSpec, labels: str | None = None, root: str | None = None) -> Degrader:
    """Make what degrades utterances of a corpus, as ``s3prl-emotion degrade`` does.

    Args:
        spec: the level
        labels: label table, SUPERB's ``meta_data`` folder or ``demo``; only babble reads it: its pool is every row
        root: audio folder

    Raises:
        UsageError: no such noise or reverberation, or pyroomacoustics is missing
        LabelError: labels that cannot be read, or too few speakers for babble
        AudioError: a file of the pool is missing, or a recording is unreadable
    """
    if spec.noise != BABBLE or labels is None:
        return Degrader(spec, build_noise(spec.noise, spec.seed, None, None), build_reverb(spec.reverb, spec.seed))
    from s3prl_emotion.corpora.label_text import read_labels  # deferred: pandas takes half a second to import

    source = read_labels(labels, root)
    source.check_audio(source.names)
    noise = build_noise(spec.noise, spec.seed, source.root, source.speakers)
    return Degrader(spec, noise, build_reverb(spec.reverb, spec.seed))
