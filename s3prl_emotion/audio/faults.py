"""Say what is wrong with audio that can be read: cut-off files, samples beyond full scale, channels that cancel."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

logger = logging.getLogger(__name__)
TRUNCATED, SCALE, CANCELS = "truncated", "scale", "cancels"
KINDS = {
    TRUNCATED: "end before their header says, or have damaged parts; what is left is used",
    SCALE: "have samples far beyond full scale, as integers stored as floats have; features and predictions are wrong "
    "then: divide 16-bit samples by 32768",
    CANCELS: "have channels that cancel when they are averaged; datarc.channel: left (--channel) reads one of them",
}
LOUDEST = 2.0  # relative to full scale: clipped audio overshoots less when it is decoded or resampled
CANCELLED = 1e-2  # power of the mean over channels relative to the mean power of the channels: -20 dB
QUIET = 1e-10  # mean square of the channels (-100 dB) below which their mean is not judged
NAMED = 20  # files that a process names for each kind
SHOWN = 3  # names in a count
_warned: dict[str, set[str]] = {}  # names by kind


class Fault(NamedTuple):
    """A fault of a file: its kind, and a sentence without the file's name."""

    kind: str
    text: str


def scale_fault(peak: float) -> Fault:
    """Return the fault of samples up to ``peak`` times full scale."""
    return Fault(
        SCALE,
        f"samples reach {peak:.4g}, but full scale is 1; features and predictions are wrong if these are integers: "
        "divide 16-bit samples by 32768",
    )


def cancelling_fault(channels: int) -> Fault:
    """Return the fault of channels whose mean is almost silence."""
    return Fault(
        CANCELS,
        f"its {channels} channels cancel when they are averaged (one is the other's opposite); datarc.channel: left "
        "(--channel left) reads one of them",
    )


def truncated_fault(seconds: float, promised: float) -> Fault:
    """Return the fault of audio that ends after ``seconds`` where its header promises more (s)."""
    return Fault(TRUNCATED, f"ends after {seconds:.2f} s, but its header says {promised:.2f} s; what is left is used")


def damaged_fault() -> Fault:
    """Return the fault of audio with parts that cannot be decoded."""
    return Fault(TRUNCATED, "has damaged parts, which are left out; what is left is used")


def warn_of(name: str, faults: Iterable[Fault], again: bool = False) -> None:
    """Warn of a file's faults: once for each name, for the first 20 names of a kind.

    Args:
        name: of the audio
        faults: what is wrong with it
        again: warn whatever was warned of before
    """
    for fault in faults:
        named = _warned.setdefault(fault.kind, set())
        if again:
            logger.warning("%s: %s", name, fault.text)
        elif name not in named and len(named) < NAMED:
            named.add(name)
            more = "; further files are not named" if len(named) == NAMED else ""
            logger.warning("%s: %s%s", name, fault.text, more)


class FaultCounts:
    """Counts the faulty files of a set, to report each kind in one line."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, None]] = {}

    def add(self, name: str, kinds: Iterable[str]) -> None:
        """Note that a file has faults of some kinds."""
        for kind in kinds:
            self.names.setdefault(kind, {})[name] = None

    def say(self, where: str, total: int) -> None:
        """Warn once of each kind: how many of ``total`` files of ``where`` have it, and the first of them."""
        for kind, names in self.names.items():
            first = ", ".join(sorted(names)[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            logger.warning("%s: %d of %d audio files (%s) %s", where, len(names), total, first, KINDS[kind])
        self.names = {}
