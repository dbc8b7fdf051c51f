"""Published numbers of recipes stand in the papers, or name their reference and date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.report.reading.literature import literature

PAPERS = REPOSITORY.parent / "shared" / "papers"
TEXTS = {
    "Mitra et al. 2024": "000", "Kakouros et al. 2023": "001", "Mitra et al. 2025": "002", "Neumann and Vu 2019": "003",
    "Das et al. 2022": "004",
}  # fmt: skip
NUMBER = re.compile(r"(?<![A-Za-z\d.])-?\d+(?:\.\d+)?")
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
REFERENCE = re.compile(r"[A-Z][\w-]+ (?:et al\.|and [A-Z][\w-]+) \d{4}\b|\b[\w-]+(?:\.[\w-]+)+/?\S*")
DATE = re.compile(rf"\b(?:{MONTHS}) (?:19|20)\d\d\b")
Entry = dict[str, Any]


@cache
def published() -> tuple[tuple[str, Entry], ...]:
    """Every entry of ``published:`` with the name of its recipe."""
    files = sorted(recipes_folder().rglob("*.y*ml"))
    contents = [(path, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in files]
    return tuple(
        (f"{path.parent.name}/{path.name}", entry)
        for path, content in contents
        for entry in content.get("published", [])
    )


def paper_of(source: str) -> str | None:
    return next((paper for paper in TEXTS if source.startswith(paper)), None)


def rows_of(entry: Entry) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Name and numbers of each system, each number with what stands beside it."""
    for split, systems in entry["values"].items():
        for name, values in systems.items():
            known = [value for value in values if value is not None]
            if entry["metrics"] == ["relative_size"]:  # printed as a reduction
                known = [round(1 - value, 4) for value in known]
            yield f"{split}, {name}", [value if isinstance(value, dict) else {"value": value} for value in known]


@cache
def lines_of(paper: str) -> list[list[float]]:
    """Numbers of each line of a paper's text."""
    paths = sorted(PAPERS.glob(f"{TEXTS[paper]}_*.txt"))
    if not paths:
        pytest.skip(f"no text of {paper} beside the checkout")
    text = re.sub(r"\\(?:boldsymbol|pm|approx|!)|[{}^*$]", " ", paths[0].read_text(encoding="utf-8"))
    text = re.sub(r"(\d\d), (\d\d)%", r"\1.\2%", text)  # a decimal comma, once
    return [[float(number) for number in NUMBER.findall(line)] for line in text.splitlines()]


# --- published numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", TEXTS)
def test_every_published_number_of_a_recipe_stands_in_its_papers_text(paper: str):
    """Recipes hold fractions, papers percent or fractions; a deviation stands right behind its number."""
    lines, checked = lines_of(paper), 0
    for where, entry in published():
        if paper_of(entry["source"]) != paper:
            continue
        for name, numbers in rows_of(entry):
            for number in numbers:
                together = [number[key] for key in ("value", "std") if key in number]
                apart = [[number[key]] for key in ("min", "max") if key in number]
                for values in (together, *apart):
                    assert stands_in(lines, values), f"{where}: {entry['source']}: {name}: {values}"
                    checked += len(values)
    assert checked >= 3


def stands_in(lines: list[list[float]], values: list[float]) -> bool:
    """Whether a line has these numbers one after the other, as fractions or as percent."""
    for scale in (1, 100):
        wanted = [round(scale * value, 6) for value in values]
        if any(wanted == line[at : at + len(wanted)] for line in lines for at in range(len(line))):
            return True
    return False


def test_every_other_published_number_names_its_reference_and_date():
    recipes = {(where, entry["source"]) for where, entry in published() if paper_of(entry["source"]) is None}
    quoted = {("literature.yaml", result.source) for result in literature() if result.paper.head is None}
    assert recipes
    assert len(quoted) >= 2
    for where, source in recipes | quoted:
        assert REFERENCE.search(source), f"{where}: {source}: names no reference: authors and year, or an address"
        assert DATE.search(source), f"{where}: {source}: names no date, such as April 2022"


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("Yang et al. 2021, leaderboard (April 2022)", True),
        ("superbbenchmark.github.io, April 2022", True),
        ("Yang et al. 2021, leaderboard", False),
        ("the leaderboard of April 2022", False),
    ],
)
def test_what_names_a_reference_and_a_date(source: str, complete: bool):
    assert bool(REFERENCE.search(source) and DATE.search(source)) is complete
