"""Decode uploaded audio, within limits that do not trust its header."""

from __future__ import annotations

from typing import BinaryIO

from s3prl_emotion.audio import Audio, opened, warn_of, waveform_of
from s3prl_emotion.errors import AudioError
from s3prl_emotion.predict.waveforms import plain
from s3prl_emotion.serve.limits import Limits

REMEDY = "send WAV, FLAC, Ogg, Opus, MP3 or AIFF"
NAME = "the audio"  # the file's name in messages, since the client's name is shown beside them


def read_audio(file: BinaryIO, limits: Limits, channel: str | int = "mean") -> Audio:
    """Return the waveform ``[N]`` at 16 kHz, as :func:`s3prl_emotion.audio.read_audio` reads it from a file.

    Channels are averaged block by block, so that memory holds one channel of at most ``limits.seconds``.

    Raises:
        AudioError: empty, unreadable or too long audio, an impossible sampling rate, or NaN samples
    """
    if not file.read(1):
        raise AudioError("the file is empty (0 bytes)")
    file.seek(0)
    try:
        with opened(file, NAME, REMEDY) as sound:
            audio = waveform_of(sound, channel, longest=limits.seconds)
    except AudioError as error:
        raise AudioError(short_message(error)) from error
    warn_of(NAME, audio.faults, again=True)
    return audio


def short_message(error: AudioError) -> str:
    """Return an error's message without the file's name and without advice about label tables."""
    return str(plain(error)).removeprefix(f"{NAME}: ")
