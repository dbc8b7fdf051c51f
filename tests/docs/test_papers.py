"""The page of the papers: its recipes run, its code exists; published numbers stand in papers or name a reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import test_every_recipe as every
import yaml
from conftest import REPOSITORY
from markdown_texts import DOCS, code_spans

from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.report.reading.literature import literature

if not DOCS.is_dir():
    pytest.skip("the documentation is in the checkout", allow_module_level=True)
PAGE = DOCS / "papers.md"
PAPERS = REPOSITORY.parent / "shared" / "papers"
TEXTS = {
    "Mitra et al. 2024": "000", "Kakouros et al. 2023": "001", "Mitra et al. 2025": "002", "Neumann and Vu 2019": "003",
    "Das et al. 2022": "004",
}  # fmt: skip
PARTS = {  # equations, tables and figures; Das et al. 2022 number their equations alone
    "Mitra et al. 2024": (5, 3, 4), "Kakouros et al. 2023": (9, 1, 3), "Mitra et al. 2025": (5, 7, 5),
    "Neumann and Vu 2019": (2, 1, 4), "Das et al. 2022": (10, 0, 0),
}  # fmt: skip
FOLDERS = ("mitra2024", "kakouros2023", "mitra2025", "neumann2019", "das2022")
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


# --- the page ---------------------------------------------------------------------------------------------------------


@cache
def section_of(paper: str) -> str:
    """The page's section about a paper."""
    parts = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))
    (found,) = [part for part in parts if part.startswith(paper)]
    return found


def numbers_after(words: str, text: str) -> set[int]:
    """Numbers that a text names after words such as ``Fig.``: of ``Figs. 1, 3-4`` 1, 3 and 4."""
    found: set[int] = set()
    for listed in re.findall(rf"\b(?:{words}) (\d+[a-z]?(?:(?:-|, | and )\d+[a-z]?)*)", text):
        for first, last in re.findall(r"(\d+)[a-z]?(?:-(\d+))?", listed):
            found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("paper", PARTS)
def test_every_equation_table_and_figure_of_a_paper_is_on_the_page(paper: str):
    text, (equations, tables, figures) = section_of(paper), PARTS[paper]
    for words, count in (("[Ee]qs?\\.", equations), ("Tables?", tables), ("Figs?\\.", figures)):
        assert set(range(1, count + 1)) <= numbers_after(words, text), f"{paper}: {words}"


def test_numbers_are_read_from_words():
    assert numbers_after(r"Figs?\.", "Fig. 1 and Fig. 2, Figs. 3a, 4a and 6 but not eq. 7; Figs. 8-10") == {
        1,
        2,
        3,
        4,
        6,
        8,
        9,
        10,
    }


@cache
def recipes_named() -> frozenset[str]:
    return frozenset(name for code in code_spans(PAGE) for name in re.findall(r"recipes/[\w/]+\.yaml", code))


def test_every_recipe_of_the_page_is_run_for_two_steps_by_other_tests():
    """``test_shipped_matrices`` expands every matrix; ``test_recipe_runs`` and ``test_systems_run`` run what is named.

    A matrix that they leave out is another one but for its base recipe, which they run.
    """
    options = [path for path, content in every.EVERYTHING.items() if set(content) == {"upstreams"}]  # of matrices
    run = {f"recipes/{path.parent.name}/{path.name}" for path in (*every.RECIPES, *every.MATRICES, *options)}
    assert len(recipes_named()) > 30
    for name in recipes_named():
        assert name in run, f"{name}: no such recipe that a test runs"
    left_out = set(every.MATRICES) - set(every.distinct_matrices())
    for path in left_out:
        assert (path.parent / every.EVERYTHING[path]["recipe"]).resolve() in every.RECIPES, path


def test_every_recipe_of_a_papers_folder_is_on_the_page():
    of_papers = [path for path in (*every.RECIPES, *every.MATRICES) if path.parent.name in FOLDERS]
    assert len(of_papers) > 25
    assert {f"recipes/{path.parent.name}/{path.name}" for path in of_papers} <= recipes_named()


@cache
def sources() -> dict[str, str]:
    """Text of the suite's Python files by their paths."""
    files = [file for folder in ("s3prl_emotion", "downstream", "upstream_adapters") for file in python_files(folder)]
    return {file.relative_to(REPOSITORY).as_posix(): file.read_text(encoding="utf-8") for file in files}


def python_files(folder: str) -> Iterator[Path]:
    return (REPOSITORY / folder).rglob("*.py")


def test_code_that_the_page_names_exists():
    words = {word for text in sources().values() for word in re.findall(r"\w+", text)}
    names = 0
    for code in code_spans(PAGE):
        if re.fullmatch(r"[\w/]+\.py", code):
            assert any(path == code or path.endswith(f"/{code}") for path in sources()), f"{code}: no such file"
        elif re.fullmatch(r"(?:\w+\.)*[A-Za-z_]\w*", code):
            assert code.rpartition(".")[2] in words, f"{code}: not in the code"
            names += 1
    assert names > 30
