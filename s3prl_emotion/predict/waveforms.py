"""Check waveforms of Python callers and convert them to the 16 kHz mono that upstreams take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from s3prl_emotion.audio import to_16k_mono
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.limits import shown

MOST_CHANNELS = 64  # an array with more is [C, N]
FOR_LABELS = re.compile(r"; [^;]*\b(leave it out of the labels|the FileName column)\b[^;]*$")


def as_waveform(samples: ArrayLike | Tensor, rate: int, name: str) -> NDArray[np.float32]:
    """Check samples ``[N]`` or ``[N, C]`` and turn them into a waveform ``[N']`` at 16 kHz.

    Raises:
        UsageError: another shape, integers, or an impossible rate
        AudioError: no samples, or NaN or infinite samples
    """
    check_rate_type(rate)
    array = _array(samples, name)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        raise UsageError(f"{name}: takes samples [N] or [N, C], got {list(array.shape)}; transpose what is [C, N]")
    if array.size and not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{name}: takes floats in [-1, 1], got {array.dtype}; divide 16-bit samples by 32768")
    array = array.astype(np.float32, copy=False).reshape(len(array), -1 if array.size else 1)
    try:
        return to_16k_mono(array, int(rate), name, warn_again=True)
    except AudioError as error:
        raise plain(error) from error


def check_rate_type(rate: object) -> None:
    """Check that a rate is a whole number of samples a second.

    Raises:
        UsageError: ``None``, a text, a truth value, NaN, or a number below 1 or with a fraction
    """
    is_number = isinstance(rate, (Integral, Real, np.number)) and not isinstance(rate, (bool, np.bool_))
    if not is_number or not math.isfinite(float(rate)) or float(rate) != int(rate) or rate < 1:  # type: ignore
        raise UsageError(f"rate: {shown(rate)} is no sampling rate; pass a whole number of Hz, such as 16000")


def check_option(name: str, value: object, kind: type, optional: bool = False) -> None:
    """Check that an option is a number.

    Args:
        name: of the option
        value: its value
        kind: int or float
        optional: whether ``None`` is allowed

    Raises:
        UsageError: it is not
    """
    if value is None and optional:
        return
    numbers = Integral if kind is int else Real
    if not isinstance(value, numbers) or isinstance(value, (bool, np.bool_)):
        raise UsageError(
            f"{name}: {shown(value)} is not {'a whole number' if kind is int else 'a number (s)'}; pass one, such as 8"
        )


def several(waveforms: object) -> Iterator[tuple[int, Any]]:
    """Return the waveforms with their numbers.

    Raises:
        UsageError: a single waveform, or what holds none
    """
    is_one = isinstance(waveforms, (str, bytes, PathLike)) or getattr(waveforms, "ndim", 2) < 2
    if is_one or not isinstance(waveforms, Iterable):
        raise UsageError(
            f"waveforms: takes a list of waveforms, got {_kind(waveforms)}; pass [waveform], or call predict(waveform)"
        )
    return enumerate(waveforms)


def _array(samples: object, name: str) -> NDArray[Any]:
    """Return samples as an array of numbers.

    Raises:
        UsageError: a path, bytes, or what is no array of numbers; the message says what to pass
    """
    if isinstance(samples, (str, bytes, PathLike)):
        raise UsageError(
            f"{name}: takes samples, got {_kind(samples)}; read it first: waveform, rate = soundfile.read(path), or "
            "use s3prl-emotion predict"
        )
    if isinstance(samples, Tensor):
        if samples.is_sparse or samples.is_complex():
            raise UsageError(f"{name}: takes floats in [-1, 1], got {_kind(samples)}; pass a real waveform [N]")
        return (
            samples.detach().cpu().resolve_neg().float().numpy()
            if samples.is_floating_point()
            else (samples.detach().cpu().numpy())
        )
    if isinstance(samples, tuple) and len(samples) == 2 and np.ndim(samples[0]) and not np.ndim(samples[1]):
        raise UsageError(f"{name}: takes samples, got a pair of samples and rate; pass both: predict(waveform, rate)")
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"{name}: takes samples [N] or [N, C], got {_kind(samples)} of unequal parts") from error
    if array.dtype.kind not in "fiub" and array.size:
        raise UsageError(f"{name}: takes floats in [-1, 1], got {_kind(samples)}; pass an array of samples [N]")
    return array


def _kind(value: object) -> str:
    """Return what a value is, for messages."""
    if value is None:
        return "None"
    if isinstance(value, (str, bytes, PathLike)):
        return f"the {'bytes' if isinstance(value, bytes) else 'text or path'} {shown(value, 60)}"
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__}{f' of {dtype}' if dtype is not None else ''}"


def plain(error: AudioError) -> AudioError:
    """Return the error without its advice about label tables, which a prediction does not use."""
    return AudioError(FOR_LABELS.sub("", str(error)))
