"""Decode uploaded audio, within limits that do not trust its header."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from s3prl_emotion.audio import UNKNOWN_LENGTH, Forward, check_rate, to_16k_mono
from s3prl_emotion.errors import AudioError
from s3prl_emotion.predict.waveforms import plain
from s3prl_emotion.serve.limits import Limits

NAME = "the audio"  # the file's name in messages, since the client's name is shown beside them


def read_audio(file: BinaryIO, limits: Limits) -> NDArray[np.float32]:
    """Return the waveform ``[N]`` at 16 kHz, as :func:`s3prl_emotion.audio.load_audio` reads it from a file.

    Channels are averaged block by block, so that memory holds one channel of at most ``limits.seconds``.

    Raises:
        AudioError: empty, unreadable or too long audio, an impossible sampling rate, or NaN samples
    """
    if not file.read(1):
        raise AudioError("the file is empty (0 bytes)")
    file.seek(0)
    try:
        with Forward(file) as sound:
            check_rate(sound.samplerate, NAME)
            if sound.frames < UNKNOWN_LENGTH:
                _check_length(sound.frames, sound.samplerate, limits)
            return to_16k_mono(_decode(sound, limits)[:, None], sound.samplerate, NAME, warn_again=True)
    except AudioError as error:
        raise AudioError(short_message(error)) from error
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        reason = getattr(error, "error_string", "no audio that libsndfile knows")
        raise AudioError(
            f"unreadable audio ({' '.join(str(reason).split())}); send WAV, FLAC, Ogg, Opus, MP3 or AIFF"
        ) from error


def short_message(error: AudioError) -> str:
    """Return an error's message without the file's name and without advice about label tables."""
    return str(plain(error)).removeprefix(f"{NAME}: ")


def _decode(sound: Forward, limits: Limits) -> NDArray[np.float32]:
    """Return the mean of the channels ``[N]`` at the file's own rate."""
    blocks, frames = [np.zeros(0, np.float32)], 0
    for block in sound.decoded():
        frames += len(block)
        _check_length(frames, sound.samplerate, limits)
        blocks.append(block.mean(axis=1, dtype=np.float32) if sound.channels > 1 else block[:, 0])
    return np.concatenate(blocks)


def _check_length(frames: int, rate: int, limits: Limits) -> None:
    if frames > limits.seconds * rate:
        raise AudioError(f"audio is longer than {limits.seconds:g} s ({frames / rate:.0f} s); cut it")
