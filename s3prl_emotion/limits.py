"""Limit the depth, the size and the printed length of values that come from files."""

from __future__ import annotations

import reprlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEEPEST = 50  # levels of nesting; recipes and arguments have fewer than 10
LARGEST = 2**20  # values and characters; the largest recipe has some thousand
LONGEST_SHOWN = 200  # characters of a value in a message
LARGEST_INTEGER = 2**63  # beyond it no count, seed or size makes sense, and printing takes long

MOST_WIDTH = 8192  # units of a head's layer; correlations of that many are 33 million
MOST_STACKED = 100  # layers of a head
MOST_TAPS = 1024  # frames of a kernel, of its step or of a pool
MOST_BANDS = 4096  # of a spectrogram
MOST_WORKERS = 1024  # processes
MOST_FOCUS = 100  # exponents and factors of a class loss; papers have up to 5

MOST_VIEWS = 1000  # augmented versions of an utterance; few trainings have as many epochs
SNR_LIMITS = (-60.0, 100.0)  # dB; beyond, float32 cannot hold both speech and noise
MOST_LAYERS = 1000  # published speech models have at most 64
MOST_UNITS = 2**20  # of a vector, a vocabulary or a window; the largest vocabularies have some 300,000
MOST_HEADS = 1024
_SMALL = frozenset((float, bool, type(None)))
_SIZES = (  # what the end of a key's name says of its value: (ends, smallest, largest)
    (("num_heads", "attention_heads"), 1, MOST_HEADS),
    (("layers",), 0, MOST_LAYERS),
    (
        (
            "hidden_size",
            "intermediate_size",
            "vocab_size",
            "proj_size",
            "kernel_size",
            "_dim",
            "d_model",
            "_mel_bins",
            "_groups",
            "conv_pos",
            "num_buckets",
            "max_distance",
        ),
        -1,  # in some configurations: as wide as another part
        MOST_UNITS,
    ),
)


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Return ``repr(value)``, shortened where it is long or nested; its cost does not grow with the value."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 4, longest, longest, 40
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 12
    if isinstance(value, int) and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    text = short.repr(value)
    return text if len(text) <= longest else f"{text[:longest]} …"


def parts_of(value: Any) -> Iterable[Any]:
    """Return the keys and values of a container of plain data, or nothing for another value."""
    if isinstance(value, Mapping):
        return (part for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    return parts_of(vars(value)) if isinstance(value, Namespace) else ()


def excess(
    value: Any,
    parts: Callable[[Any], Iterable[Any]] = parts_of,
    size: Callable[[Any], int] = lambda _: 1,
    deepest: int = DEEPEST,
    largest: int = LARGEST,
) -> str | None:
    """Return how nested data exceeds the limits, or ``None`` if it does not.

    Every reference to a shared value counts anew, as it does for whatever prints, copies or checks the data: ten
    levels of ten references to the same list are 10^10 values. The count itself visits each object once.

    Args:
        value: the data
        parts: returns the parts of a container
        size: returns the size of a container without its parts; text has one for each character
        deepest: most levels of nesting
        largest: most values and characters
    """
    totals: dict[int, tuple[int, int]] = {}  # of finished containers: their size and their depth
    inside: set[int] = set()
    opened: list[_Opened] = []  # containers from the outermost to the current one
    current: _Opened | None = _Opened([value], iter([value]), 0)
    while current is not None:
        inner = None
        for part in current.parts:
            kind = type(part)
            if kind in _SMALL:
                current.size += 1
            elif kind is str or kind is bytes:
                current.size += 1 + len(part)
            elif kind is int:
                if not -LARGEST_INTEGER <= part < 2 * LARGEST_INTEGER:
                    return f"holds {shown(part)}"
                current.size += 1
            elif id(part) in totals:
                known = totals[id(part)]
                current.size, current.depth = current.size + known[0], max(current.depth, 1 + known[1])
            elif id(part) in inside:
                return "refers to itself"
            else:
                inner = _Opened(part, iter(parts(part)), size(part))
                break
        if current.size > largest:
            return f"holds more than {largest:,} values and characters (each reference to a value counts)"
        if current.depth + len(opened) > deepest:
            return f"is nested more than {deepest} levels deep"
        if inner is not None:
            inside.add(id(inner.value))
            opened.append(current)
            current = inner
            continue
        totals[id(current.value)] = (current.size, current.depth)
        inside.discard(id(current.value))
        above = opened.pop() if opened else None
        if above is not None:
            above.size, above.depth = above.size + current.size, max(above.depth, 1 + current.depth)
        current = above
    return None


@dataclass(slots=True)
class _Opened:
    """A container whose parts are being counted."""

    value: Any
    parts: Iterator[Any]
    size: int
    depth: int = 0


def wrong_size(values: Any, where: str = "") -> str | None:
    """Return what is impossible in the sizes of a model's configuration, by their names, or ``None``.

    Args:
        values: nested mappings, namespaces and lists, as in a ``config.json`` or a checkpoint
        where: name of the mapping, for the message
    """
    if not where and (reason := excess(values, largest=2**26)) is not None:
        return f"the configuration {reason}"
    values = vars(values) if isinstance(values, Namespace) else values
    if not isinstance(values, Mapping):
        return None
    for name, value in values.items():
        key = f"{where}.{name}" if where else str(name)
        if isinstance(value, (Mapping, Namespace)):
            if (found := wrong_size(value, key)) is not None:
                return found
            continue
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                continue
            for ends, least, most in _SIZES:
                if str(name).endswith(ends) and not least <= number <= most:
                    return f"{key}: must be between {least} and {most}, got {shown(number)}"
    return None
