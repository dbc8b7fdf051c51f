"""Read the published numbers of a matrix: what papers report for its systems, with their source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.limits import shown
from s3prl_emotion.metrics import registry
from s3prl_emotion.recipe import StrictSection

SIZE = "relative_size"  # parameters as a share of the baseline's
METRICS = [
    *registry.names_by_dimension(registry.of_kind("dimensions", "latent")),
    *(metric.name for metric in registry.of_kind("mean", "classes", "size")),
]


class SpreadSection(StrictSection):
    """A published number with what the source prints beside it, on the metric's own scale."""

    value: float
    std: float | None = None
    """Standard deviation, over whatever the source takes it."""
    min: float | None = None
    """Lowest value, of a fold or a seed."""
    max: float | None = None
    """Highest value."""


class PublishedSection(StrictSection):
    """An entry of ``published:``.

    ``values`` holds, by split and system, one number for each of ``metrics``, or a :class:`SpreadSection`.
    """

    source: str
    note: str | None = None
    """What a reader must know to compare with these numbers; the report shows it below them."""
    upstream: str | None = None
    metrics: list[str] = Field(min_length=1)
    values: dict[str, dict[str, list[Any]]]


@dataclass(frozen=True)
class PublishedNumber:
    """One published number, on the metric's own scale; ``None`` for what its source does not print beside it."""

    upstream: str
    split: str
    system: str
    metric: str
    value: float
    source: str
    std: float | None = None
    min: float | None = None
    max: float | None = None
    note: str | None = None


def published_numbers(
    entries: list[Any], where: str, upstreams: Collection[str], systems: Collection[str], splits: Collection[str]
) -> tuple[PublishedNumber, ...]:
    """Read ``published:`` into single numbers.

    Args:
        entries: the list from YAML
        where: the file, for messages
        upstreams: upstreams of the matrix
        systems: systems of the matrix
        splits: splits that the matrix evaluates

    Raises:
        ConfigError: a malformed entry, names that the matrix lacks, numbers out of range or given twice, or a value
            outside its minimum and maximum
    """
    numbers: dict[tuple[str, ...], PublishedNumber] = {}
    known = {"upstream": upstreams, "split": splits, "system": systems, "metric": METRICS}
    for values in entries:
        entry = PublishedSection.read(values, f"{where}: published")
        source = f"{where}: published, {entry.source}"
        if entry.upstream is None and len(upstreams) > 1:
            raise ConfigError(f"{source}: name the upstream that its numbers are for: {', '.join(upstreams)}")
        upstream = entry.upstream or next(iter(upstreams))
        for number in _numbers_of(entry, upstream, source):
            names = {kind: str(getattr(number, kind)) for kind in known}
            for kind, name in names.items():
                if name not in known[kind]:
                    raise ConfigError(f"{source}: no {kind} {name!r} in this matrix{nearest(name, known[kind])}")
            _check_range(number, source)
            if tuple(names.values()) in numbers:
                raise ConfigError(f"{source}: {number.split}, {number.system}: a second number for {number.metric}")
            numbers[tuple(names.values())] = number
    return tuple(numbers.values())


def _numbers_of(entry: PublishedSection, upstream: str, where: str) -> list[PublishedNumber]:
    numbers = []
    for split, rows in entry.values.items():
        for system, values in rows.items():
            if len(values) != len(entry.metrics):
                raise ConfigError(
                    f"{where}: {split}, {system}: {len(values)} numbers for {len(entry.metrics)} metrics; write "
                    "null for one that the paper lacks"
                )
            for metric, value in zip(entry.metrics, values, strict=True):
                if value is not None:
                    place = f"{where}: {split}, {system}: {metric}"
                    numbers.append(_number(value, PublishedNumber(upstream, split, system, metric, 0.0, entry.source),
                                           entry.note, place))  # fmt: skip
    return numbers


def _number(value: Any, named: PublishedNumber, note: str | None, where: str) -> PublishedNumber:
    """Return a number or a mapping from YAML as the number that ``named`` names."""
    if isinstance(value, dict):
        return dataclasses.replace(named, note=note, **SpreadSection.read(value, where).model_dump())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where}: must be a number, null, or value with std, min and max, got {shown(value)}")
    return dataclasses.replace(named, note=note, value=float(value))


def _check_range(number: PublishedNumber, where: str) -> None:
    """Check value, minimum and maximum against the metric's range and each other, and the deviation against both."""
    metric, place = registry.find(number.metric), f"{where}: {number.split}, {number.system}: {number.metric}"
    low, high = (-math.inf, math.inf) if metric is None else (metric.low, metric.high)
    for name, value in (("", number.value), ("min ", number.min), ("max ", number.max)):
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise ConfigError(f"{place} {name}{value:g} is out of range; shares are written as 0.69, not 69")
    if number.std is not None and not (math.isfinite(number.std) and 0 <= number.std <= high - low):
        raise ConfigError(f"{place} std {number.std:g} is out of range; shares are written as 0.02, not 2")
    lowest = number.value if number.min is None else number.min
    highest = number.value if number.max is None else number.max
    if not lowest <= number.value <= highest:
        raise ConfigError(f"{place} {number.value:g} must lie between its min {lowest:g} and its max {highest:g}")
