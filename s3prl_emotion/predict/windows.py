"""Split long audio into windows of equal length."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError


@dataclass(frozen=True)
class Windows:
    """How audio is split into windows.

    Attributes:
        length: length of a window (s)
        hop: time from one window's start to the next (s)
    """

    length: float
    hop: float

    @classmethod
    def read(cls, length: float | None, hop: float | None) -> Windows | None:
        """Check ``--window`` and ``--hop``; return ``None`` without a window. The hop is half a window by default.

        Raises:
            UsageError: a hop without a window, a length or hop of 0, or a hop longer than the window
        """
        if length is None:
            if hop is not None:
                raise UsageError(f"--hop {hop:g}: needs --window, the length of a window in s")
            return None
        hop = length / 2 if hop is None else hop
        for flag, value in (("--window", length), ("--hop", hop)):
            if not (math.isfinite(value) and round(value * SAMPLE_RATE) >= 1):
                raise UsageError(f"{flag} {value:g}: must be above 0 s, by a sample (1/{SAMPLE_RATE} s) at least")
        if hop > length:
            raise UsageError(f"--hop {hop:g}: would leave audio out between windows of {length:g} s; use at most that")
        return cls(length, hop)

    def note(self, samples: int) -> str:
        """Return what to say of audio of ``samples`` samples that was split without a request."""
        return (
            f"too long for the memory at once ({samples / SAMPLE_RATE:.0f} s): the mean over windows of "
            f"{self.length:g} s, as with --window {self.length:g}"
        )

    def spans(self, samples: int) -> list[tuple[int, int]]:
        """Return the span ``[start, stop)`` of each window in audio of ``samples`` samples at 16 kHz.

        A window starts every ``hop`` while it lies within the audio; if the last one ends before the audio does, one
        more window ends with the audio. So all windows have the same length and cover every sample. Audio that is not
        longer than a window is one window.
        """
        length, hop = round(self.length * SAMPLE_RATE), round(self.hop * SAMPLE_RATE)
        if samples <= length:
            return [(0, samples)]
        starts = list(range(0, samples - length + 1, hop))
        if starts[-1] + length < samples:
            starts.append(samples - length)
        return [(start, start + length) for start in starts]


AUTOMATIC = Windows(30.0, 15.0)  # s; of audio for which memory does not suffice: as with --window 30
