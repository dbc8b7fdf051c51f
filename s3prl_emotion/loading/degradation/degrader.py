"""Degrade speech: add reverberation and noise at a drawn SNR."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.functional import add_noise

from s3prl_emotion.audio import MEAN
from s3prl_emotion.corpora.degradation_levels import NO_REVERB, DegradationSpec, generator
from s3prl_emotion.corpora.formats.renaming import NO_COLUMNS
from s3prl_emotion.errors import AudioError
from s3prl_emotion.loading.degradation.noises import BABBLE, Noise, build_noise
from s3prl_emotion.loading.degradation.recordings import Samples, is_silent, power
from s3prl_emotion.loading.degradation.rooms import Reverb, build_reverb, reverberate

Waveform = NDArray[np.float32]
HIGHEST_PEAK = 0.99  # relative to full scale; louder mixtures are scaled down as a whole
SILENT = "{}: is silent, so it has no signal-to-noise ratio; leave it out of the labels"
SNR_TOLERANCE = 0.1  # largest difference (dB) between the SNR drawn and the SNR measured


@dataclass(frozen=True)
class Degraded:
    """A degraded utterance.

    Attributes:
        waveform: ``[N]`` float32, as long as the clean one
        snr: power of the (reverberant) speech over that of the noise, measured on ``waveform`` (dB)
        drawn: the SNR that was drawn (dB)
        gain: factor by which speech and noise were scaled to stay within full scale; 1 if that was not needed
        noise: description of the noise
        reverb: description of the room; ``none`` without reverberation
    """

    waveform: Waveform
    snr: float
    drawn: float
    gain: float
    noise: str
    reverb: str


@dataclass(frozen=True)
class Parts:
    """Speech and noise ``[N]`` float64 before they are mixed at an SNR, and descriptions of noise and room."""

    speech: Samples
    noise: Samples
    noise_name: str
    reverb_name: str


class Degrader:
    """Adds reverberation, then noise. Can be pickled to other processes.

    Noise and room depend only on seed and utterance, so that levels (and speech with and without reverberation) differ
    in nothing else; the SNR also depends on its range.

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
            waveform: the whole utterance ``[N]`` at 16 kHz, as :func:`~s3prl_emotion.audio.load_audio` returns it
            name: its ``FileName``

        Raises:
            AudioError: a silent utterance, or unusable noise or impulse response
            LabelError: babble for an utterance that the labels do not list
        """
        return self.mix(self.parts(waveform, name), name)

    def parts(self, waveform: Waveform, name: str) -> Parts:
        """Return speech, with its reverberation, and noise of any power, which are the same for all levels."""
        if np.ndim(waveform) != 1 or len(waveform) == 0 or not np.isfinite(waveform).all():
            raise AudioError(f"{name}: a waveform must be [N] with N >= 1 and finite, got shape {np.shape(waveform)}")
        if is_silent(waveform):
            raise AudioError(SILENT.format(name))
        speech, room = np.asarray(waveform, np.float64), NO_REVERB
        if self.reverb is not None:
            response, arrival, room = self.reverb.draw(name)
            speech = reverberate(speech, response, arrival)
            if is_silent(speech):
                raise AudioError(f"{name}: is silent in the room {room}; use another --seed or --reverb")
        noise, kind = self.noise.draw(name, len(speech))
        return Parts(speech, noise, kind, room)

    def mix(self, parts: Parts, name: str) -> Degraded:
        """Add the noise at this level."""
        low, high = self.spec.snr
        drawn = float(generator(self.spec.seed, name, "snr", low, high).uniform(low, high))
        waveform, gain = within_full_scale(mixed(parts.speech, parts.noise, drawn))
        snr = measured_snr(waveform, parts.speech, gain)
        if not abs(snr - drawn) <= SNR_TOLERANCE:
            raise AudioError(f"{name}: its SNR should be {drawn:.2f} dB, but is {snr:.2f} dB; change the SNR range")
        return Degraded(waveform, snr, drawn, gain, parts.noise_name, parts.reverb_name)


def mixed(speech: Samples, noise: Samples, snr: float) -> Samples:
    """Return speech ``[N]`` with noise ``[N]``, scaled to a signal-to-noise ratio (dB) over the whole utterance."""
    level = torch.tensor(snr, dtype=torch.float64)
    mixture: Samples = add_noise(torch.from_numpy(speech), torch.from_numpy(noise), level).numpy()
    return mixture


def within_full_scale(samples: Samples) -> tuple[Waveform, float]:
    """Return samples ``[N]`` scaled down as a whole where they exceed :data:`HIGHEST_PEAK`, and the factor."""
    peak = float(np.abs(samples).max())
    gain = HIGHEST_PEAK / peak if peak > HIGHEST_PEAK else 1.0
    return (gain * samples).astype(np.float32), gain


def measured_snr(waveform: Waveform, speech: Samples, gain: float) -> float:
    """Return the SNR (dB) of a mixture ``[N]`` whose speech is known; infinite without noise."""
    noise = power(np.asarray(waveform, np.float64) / gain - speech)
    return 10 * math.log10(power(speech) / noise) if noise > 0 else math.inf


def build_degrader(
    spec: DegradationSpec,
    labels: str | None = None,
    root: str | None = None,
    columns: Mapping[str, str] = NO_COLUMNS,
    speaker_pattern: str | None = None,
    channel: str | int = MEAN,
) -> Degrader:
    """Build the degrader of a corpus's utterances, as ``s3prl-emotion degrade`` uses it.

    Args:
        spec: the level
        labels: as ``datarc.labels``; needed only for babble, which uses every row
        root: audio folder
        columns: ``datarc.columns``
        speaker_pattern: ``datarc.speaker_pattern``
        channel: ``datarc.channel``, of the utterances that babble is made of

    Raises:
        UsageError: unknown noise or reverberation, or pyroomacoustics is missing
        LabelError: labels that cannot be read, or too few speakers for babble
        AudioError: an audio file is missing, or a recording is unreadable
    """
    if spec.noise != BABBLE or labels is None:
        return Degrader(spec, build_noise(spec.noise, spec.seed, None, None), build_reverb(spec.reverb, spec.seed))
    from s3prl_emotion.corpora.label_text import read_labels  # deferred: pandas takes half a second to import

    source = read_labels(labels, root, columns, speaker_pattern)
    source.check_audio(source.names)
    noise = build_noise(spec.noise, spec.seed, source.root, source.speakers, channel)
    return Degrader(spec, noise, build_reverb(spec.reverb, spec.seed))
