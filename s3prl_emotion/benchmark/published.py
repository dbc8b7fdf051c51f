"""Read the published numbers of a matrix: what papers report for its systems, with their source."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.metrics import registry
from s3prl_emotion.recipe import StrictSection

SIZE = "relative_size"  # parameters as a share of the baseline's
METRICS = [
    *registry.names_by_dimension(registry.of_kind("dimensions", "latent")),
    *(metric.name for metric in registry.of_kind("mean", "classes", "size")),
]


class PublishedSection(StrictSection):
    """An entry of ``published:``; ``values`` holds, by split and system, one number for each of ``metrics``."""

    source: str
    upstream: str | None = None
    metrics: list[str] = Field(min_length=1)
    values: dict[str, dict[str, list[float | None]]]


@dataclass(frozen=True)
class PublishedNumber:
    """One published number, on the metric's own scale."""

    upstream: str
    split: str
    system: str
    metric: str
    value: float
    source: str


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
        ConfigError: a malformed entry, names that the matrix lacks, numbers out of range or given twice
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
                    numbers.append(PublishedNumber(upstream, split, system, metric, float(value), entry.source))
    return numbers


def _check_range(number: PublishedNumber, where: str) -> None:
    metric = registry.find(number.metric)
    if metric is not None and not metric.low <= number.value <= metric.high:
        raise ConfigError(
            f"{where}: {number.split}, {number.system}: {number.metric} {number.value:g} is out of range; shares are "
            "written as 0.69, not 69"
        )
