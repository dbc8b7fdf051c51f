"""Published results, for orientation beside a study's own: read from ``literature.yaml``, as the papers print them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.files.folders import heads as known_heads
from s3prl_emotion.report.superb_track import WITHOUT_CLASSES
from s3prl_emotion.report.tables import NONE, Table, label

FILE = Path(__file__).with_name("literature.yaml")
FIELDS = ("corpus", "split", "protocol", "upstream", "system", "metric", "statistic")
DESCRIBED = ("system", "upstream", "corpus", "split", "protocol")
KEYS = {"paper", "where", "unit", "row", "rows", *FIELDS}
CELL = re.compile(r"(?P<bound>[<>≈]?)(?P<value>-?\d+(?:\.\d+)?)(?:±(?P<std>\d+(?:\.\d+)?))?")
LABELS = {
    "UAR": "UA (UAR)", "WA": "WA", "size_reduction": "size reduction", "size_mb": "size, MB",
    "distance_R2": "adjusted R²", "label_R2": "adjusted R²",
    "computation_saved": "computation saved", "relative_improvement": "relative improvement",
    "parameters_million": "parameters, M",
}  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """A paper; ``head`` is the one of this suite that implements it, or nothing."""

    key: str
    citation: str
    title: str
    head: str | None


@dataclass(frozen=True)
class Result:
    """One published number.

    Attributes:
        where: table or section
        value: on the metric's own scale (shares, where the paper prints percent)
        std: standard deviation, likewise
        bound: ``<``, ``>``, ``≈`` or nothing
        printed: the cell as the paper has it
        percent: whether the paper prints percent
    """

    paper: Paper
    where: str
    corpus: str
    split: str
    protocol: str
    upstream: str
    system: str
    metric: str
    statistic: str
    value: float
    std: float | None
    bound: str
    printed: str
    percent: bool

    @property
    def source(self) -> str:
        """Paper and place, as matrices name it: ``Mitra et al. 2024, Table 2``."""
        return f"{self.paper.citation}, {self.where}"


@cache
def literature(path: Path = FILE) -> tuple[Result, ...]:
    """All published numbers of the file.

    Raises:
        ConfigError: an unknown key or paper, rows and columns that do not fit, a cell that is no number
    """
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # all as text: 0.70 stays 0.70
    papers = {
        key: Paper(key, about["citation"], about["title"], about.get("head"))
        for key, about in content["papers"].items()
    }
    return tuple(result for block in content["results"] for result in _results(block, papers, path))


def for_orientation(heads: Collection[str]) -> list[Result]:
    """Numbers of the papers of these heads; SUPERB's too, where one of them tells classes apart.

    Args:
        heads: of a study's runs
    """
    return [
        result
        for result in literature()
        if result.paper.head in heads
        or (result.paper.head is None and any(head in known_heads() and head not in WITHOUT_CLASSES for head in heads))
    ]


@dataclass(frozen=True)
class Group:
    """Results of one place in a paper, as a table; ``same`` holds for all of them.

    ``other``: none of them is of the study's data.
    """

    title: str
    paper: str
    same: str
    table: Table
    other: bool


def groups(results: Iterable[Result], corpora: Collection[str]) -> list[Group]:
    """Results by paper and place, in the order of the file.

    Args:
        results: to show
        corpora: that the study is on, as far as is known
    """
    places: dict[str, list[Result]] = {}
    for result in results:
        places.setdefault(result.source, []).append(result)
    return [_group(source, found, corpora) for source, found in places.items()]


def _group(source: str, results: Sequence[Result], corpora: Collection[str]) -> Group:
    """Metrics beside each other, and of the rest what differs between them."""
    columns = dict.fromkeys(_column(result) for result in results)
    values = {name: list(dict.fromkeys(getattr(result, name) for result in results)) for name in DESCRIBED}
    differing = [name for name in DESCRIBED if len(values[name]) > 1] or ["system"]
    same = [found[0] for name, found in values.items() if name not in differing and found[0]]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for result in results:
        key = tuple(getattr(result, name) or NONE for name in differing)
        rows.setdefault(key, {})[_column(result)] = result.printed.replace("±", " ± ")
    words = [[*key, *(cells.get(name, NONE) for name in columns)] for key, cells in rows.items()]
    other = not any(result.corpus in corpora for result in results)
    paper = results[0].paper
    title = f"{paper.citation}: {paper.title}"
    return Group(source, title, "; ".join(same), Table(source, [*differing, *columns], words), other)


def _column(result: Result) -> str:
    kind, _, dimension = result.metric.partition(".")
    name = LABELS.get(kind, kind)
    if dimension:
        name = label(result.metric).replace(kind, name)
    return f"{name}{f' ({result.statistic})' if result.statistic else ''}{', %' if result.percent else ''}"


def _results(block: dict[str, Any], papers: dict[str, Paper], path: Path) -> Iterator[Result]:
    place = f"{path.name}: {block.get('paper')}, {block.get('where')}"
    unknown = sorted(set(block) - KEYS)
    if unknown or block.get("paper") not in papers:
        raise ConfigError(f"{place}: unknown {'key ' + unknown[0] if unknown else 'paper'}")
    row, scale = block.get("row", "system"), 0.01 if block.get("unit") == "percent" else 1.0
    for name, cells in block["rows"].items():
        for column, cell in enumerate(cells.split()):
            if cell == NONE:
                continue
            found = CELL.fullmatch(cell)
            if found is None:
                raise ConfigError(f"{place}, {name}: {cell!r} is no number")
            fields: dict[str, Any] = {field: _of_column(block.get(field, ""), column, place) for field in FIELDS}
            fields[row] = name
            std = None if found["std"] is None else float(found["std"]) * scale
            value = float(found["value"]) * scale
            about = {"value": value, "std": std, "bound": found["bound"], "printed": cell, "percent": scale != 1}
            yield Result(paper=papers[block["paper"]], where=block["where"], **fields, **about)
        _check_width(block, len(cells.split()), f"{place}, {name}")


def _of_column(value: Any, column: int, place: str) -> str:
    """A field that may differ between columns."""
    if isinstance(value, str):
        return value
    if column >= len(value):
        raise ConfigError(f"{place}: column {column + 1} has no name")
    return str(value[column])


def _check_width(block: dict[str, Any], cells: int, place: str) -> None:
    for field in FIELDS:
        value = block.get(field, "")
        if not isinstance(value, str) and len(value) != cells:
            raise ConfigError(f"{place}: {cells} cells under {len(value)} entries of {field}")
