"""Read published results, as the papers print them, from ``literature.yaml``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.report.superb_track import fits_superb_task

NONE = "–"  # a cell without a number
FILE = Path(__file__).with_name("literature.yaml")
FIELDS = ("corpus", "split", "protocol", "upstream", "system", "metric", "statistic")
KEYS = {"paper", "where", "unit", "row", "rows", "note", *FIELDS}
CELL = re.compile(r"(?P<bound>[<>≈]?)(?P<value>-?\d+(?:\.\d+)?)(?:±(?P<std>\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Paper:
    """A paper; ``head`` names the head of this suite that implements it, if there is one."""

    key: str
    citation: str
    title: str
    head: str | None


@dataclass(frozen=True)
class Result:
    """One published number.

    Attributes:
        where: table or section of the paper
        value: value on the metric's own scale: a share, where the paper prints percent
        std: standard deviation on the same scale, or ``None``
        bound: ``<``, ``>`` or ``≈`` where the paper prints it, else empty
        printed: the cell as the paper prints it
        percent: whether the paper prints percent
        note: what a reader must know to compare with it, or empty
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
    note: str = ""

    @property
    def source(self) -> str:
        """Paper and place, as matrices name them: ``Mitra et al. 2024, Table 2``."""
        return f"{self.paper.citation}, {self.where}"


@cache
def literature(path: Path = FILE) -> tuple[Result, ...]:
    """Return all published numbers of the file.

    Raises:
        ConfigError: a key or paper is unknown, rows and columns do not fit, or a cell is not a number
    """
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # all as text: 0.70 stays 0.70
    papers = {
        key: Paper(key, about["citation"], about["title"], about.get("head"))
        for key, about in content["papers"].items()
    }
    return tuple(result for block in content["results"] for result in _results(block, papers, path))


def for_orientation(heads: Collection[str]) -> list[Result]:
    """Return the numbers of the papers of these heads, and SUPERB's if one of the heads classifies emotions.

    Args:
        heads: names of the heads of a study
    """
    return [
        result
        for result in literature()
        if result.paper.head in heads or (result.paper.head is None and any(fits_superb_task(head) for head in heads))
    ]


def _results(block: dict[str, Any], papers: dict[str, Paper], path: Path) -> Iterator[Result]:
    place = f"{path.name}: {block.get('paper')}, {block.get('where')}"
    unknown = sorted(set(block) - KEYS)
    if unknown or block.get("paper") not in papers:
        raise ConfigError(f"{place}: unknown {'key ' + unknown[0] if unknown else 'paper'}")
    row, scale = block.get("row", "system"), 0.01 if block.get("unit") == "percent" else 1.0
    for name, words in block["rows"].items():
        cells = words.split()
        _check_width(block, len(cells), f"{place}, {name}")
        for column, cell in enumerate(cells):
            if cell == NONE:
                continue
            match = CELL.fullmatch(cell)
            if match is None:
                raise ConfigError(f"{place}, {name}: {cell!r} is not a number")
            fields: dict[str, Any] = {field: _of_column(block.get(field, ""), column) for field in FIELDS}
            fields[row] = name
            std = None if match["std"] is None else float(match["std"]) * scale
            value = float(match["value"]) * scale
            about = {"value": value, "std": std, "bound": match["bound"], "printed": cell, "percent": scale != 1}
            note = block.get("note", "")
            yield Result(paper=papers[block["paper"]], where=block["where"], note=note, **fields, **about)


def _of_column(value: str | list[str], column: int) -> str:
    """Return a field of a cell; a list has one entry for each column."""
    return value if isinstance(value, str) else value[column]


def _check_width(block: dict[str, Any], cells: int, place: str) -> None:
    for field in FIELDS:
        value = block.get(field, "")
        if not isinstance(value, str) and len(value) != cells:
            raise ConfigError(f"{place}: {cells} cells under {len(value)} entries of {field}")
