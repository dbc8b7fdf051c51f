"""Describe degradations: SNRs or ranges of them, the names of their splits, and the seeds of their random draws."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import SNR_LIMITS

Range = tuple[float, float]  # dB, lowest and highest
DEFAULT_LEVELS: tuple[Range, ...] = ((20.0, 30.0), (10.0, 20.0), (0.0, 10.0))  # Mitra et al. 2024, Table 1
SIMULATED = "simulated"
NO_REVERB = "none"


@dataclass(frozen=True)
class DegradationSpec:
    """Noise of one range of SNR, and reverberation.

    Attributes:
        noise: ``babble``, ``pink``, ``brown``, ``white``, or a folder of recordings
        snr: lowest and highest signal-to-noise ratio (dB); drawn uniformly for each utterance
        reverb: ``None``, ``simulated``, or a folder of impulse responses
        seed: of all random draws

    Raises:
        UsageError: not a range, or outside :data:`SNR_LIMITS`
    """

    noise: str = "babble"
    snr: Range = DEFAULT_LEVELS[-1]
    reverb: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = (float(value) for value in self.snr)
        if not SNR_LIMITS[0] <= low <= high <= SNR_LIMITS[1]:  # NaN fails too
            raise UsageError(
                f"SNR {low:g}:{high:g}: must be LOWEST:HIGHEST in dB, within {SNR_LIMITS[0]:g}:{SNR_LIMITS[1]:g}"
            )
        object.__setattr__(self, "snr", (low, high))  # so that 0 and 0.0 draw the same
        if self.reverb == NO_REVERB:
            object.__setattr__(self, "reverb", None)

    @property
    def level(self) -> str:
        """Name of the SNR range: ``5dB`` for 0 to 10 dB."""
        return level_name(self.snr)


def level_name(snr: Range) -> str:
    """Return the name of an SNR range, which is its middle: ``5dB`` of 0 to 10 dB, and of exactly 5 dB."""
    return f"{(snr[0] + snr[1]) / 2:g}dB"


def level_names(levels: Iterable[Range]) -> dict[str, Range]:
    """Return SNR ranges by their names, in the order given.

    Raises:
        UsageError: no range, an invalid one, or two of the same name
    """
    named: dict[str, Range] = {}
    for snr in (DegradationSpec(snr=level).snr for level in levels):
        name = level_name(snr)
        if name in named:
            raise UsageError(f"SNR {_text(named[name])} and {_text(snr)}: both would be called {name}; change one")
        named[name] = snr
    if not named:
        raise UsageError("no SNR range; name at least one, such as 0:10")
    return named


def parse_range(text: str) -> Range:
    """Parse ``20:30`` into (20.0, 30.0), and ``15``, the same SNR for every utterance, into (15.0, 15.0).

    Raises:
        UsageError: not one or two numbers, or not lowest first
    """
    try:
        low, high = map(float, text.split(":") if ":" in text else (text, text))
    except ValueError as error:
        raise UsageError(
            f"SNR {text}: must be LOWEST:HIGHEST in dB, such as 0:10, or one SNR for all, such as 5"
        ) from error
    return DegradationSpec(snr=(low, high)).snr


def generator(seed: int, name: str, *purpose: object) -> np.random.Generator:
    """Return a generator that depends only on seed, utterance and purpose; global generators are left untouched."""
    key = json.dumps([seed, name, *purpose]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))


def _text(snr: Range) -> str:
    return f"{snr[0]:g}" if snr[0] == snr[1] else f"{snr[0]:g}:{snr[1]:g}"
