"""The list of a report's sections: each is listed once, and a new one needs nothing but its class and its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_report import write_benchmark

from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.drawing.figure import Figure, Panel
from s3prl_emotion.report.sections import SECTIONS
from s3prl_emotion.report.sections.base import Place, Results, Section, SplitSection
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.writing import report
from s3prl_emotion.report.writing.chapters import arrange


class Counts(SplitSection):
    """Runs of each system, as a table and a figure."""

    title = "Runs <of> each system"
    note = "How many runs there are."

    def tables(self, place: Place) -> Iterator[Table]:
        rows = [[row.system, str(row.runs)] for row in self.results.parts[place].rows]
        yield Table("counted runs", ["system", "how many"], rows)

    def figures(self, place: Place) -> Iterator[Figure]:
        yield Figure(place.figure_name("counts"), "All counts.", (), (Panel("p", lambda figure: figure.subplots()),))


class Remark(Section):
    """A sentence about the study, in a file of its own too."""

    title = "Remark"
    anchor = "remark"
    link = title

    def tables(self, place: Place) -> Iterator[Table | None]:
        yield Table("remarks", ["remark"], [["nothing"]], "That is all.")
        yield None

    def files(self) -> dict[str, str]:
        return {"remark.csv": "remark\nnothing\n"}

    def warnings(self) -> Iterator[str]:
        yield "a remark was made"


def test_sections_are_listed_once_and_told_apart():
    assert len({section.title for section in SECTIONS}) == len(SECTIONS) == len(set(SECTIONS))
    anchors = [section.anchor for section in SECTIONS if section.anchor]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.usefixtures("undrawn")
def test_a_new_section_is_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "SECTIONS", (*SECTIONS[:2], Counts, *SECTIONS[2:], Remark))
    folder = write_benchmark(tmp_path, splits=["test", "test_5dB"], systems=["one", "two"], published=[])
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    assert [path.name for path in files[:5]] == ["report.html", "report.md", "report.tex", "report.csv", "remark.csv"]
    assert {"up-test-counts.svg", "up-test_5dB-counts.svg"} <= {path.name for path in files}
    page, text, tex = ((folder / f"report.{end}").read_text() for end in ("html", "md", "tex"))
    assert page.count("<summary>Runs &lt;of&gt; each system</summary>") == 2
    assert page.count('<p class="facts">How many runs there are.</p>') == 2
    assert page.count("<figcaption>All counts.") == text.count("![All counts.]") == 2
    assert text.count("**Counted runs**\n\n| system | how many |\n| --- | --- |\n| one | 4 |") == 2
    assert r"\caption{Made $<$up$>$ \& small, up, test: counted runs}" in tex
    assert '<a href="#remark">Remark</a>' in page
    assert '<section id="remark">\n<h2>Remark</h2>\n<h3>remarks</h3>' in page
    assert "## Remark\n\n**Remarks**\n\n| remark |\n| --- |\n| nothing |\n\nThat is all.\n" in text
    assert "- **Note:** a remark was made" in text
    assert "<li>a remark was made</li>" in page
    assert (folder / "remark.csv").read_text() == "remark\nnothing\n"


def test_chapters_are_in_the_order_of_the_list_for_each_upstream(tmp_path: Path):
    folder = write_benchmark(
        tmp_path, splits=["test", "test_5dB"], systems=["one"], upstreams=["up", "b"], folds=["fold1"], seeds=[1],
        published=[],
    )  # fmt: skip
    results = Results(analyse(load_study([folder]), resamples=1000))
    chapters = arrange(results, [section(results) for section in SECTIONS])
    titles = ["robustness", "test", "test_5dB"]
    assert [chapter.title for chapter in chapters] == [
        "Leaderboard", *(f"{upstream}: {title}" for upstream in ("up", "b") for title in titles), "How to read this",
        "What was run",
    ]  # fmt: skip
    assert [chapter.anchor for chapter in chapters[2:4]] == ["part0", "part1"]
