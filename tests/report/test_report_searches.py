"""Searches for learning rates in a report: table, figure, CSV and warning; their runs count in no score."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Run, TinyCorpus
from test_matrix import recipe_for, write_matrix
from test_report import write_benchmark

from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.reading.searches import Search, end_warning, read_searches
from s3prl_emotion.report.sections.learning_rates import search_csv, search_figure, search_table

TRIED = {"0.0001": 0.3, "0.001": 0.6, "0.01": None}
CHOICE = {"rate": 0.001, "metric": "UAR", "tried": TRIED}
SYSTEMS = ("whole", "half")


def line_of(system: str, choice: Mapping[str, Any] | None = CHOICE, upstream: str = "up") -> dict[str, Any]:
    return {"upstream": upstream, "system": system, **({"search": choice} if choice else {})}


def search(system: str = "a", chosen: float = 1e-3, upstream: str = "up", metric: str = "UAR", **tried: Any) -> Search:
    scores = {float(rate): score for rate, score in (tried.get("tried") or TRIED).items()}
    return Search(upstream, system, (system,), metric, scores, chosen)


def with_search(folder: Path, trials: Sequence[str] = ("whole",), choices: Mapping[str, Any] | None = None) -> Path:
    """A benchmark whose rate the first system tried for both, with runs of the search that would spoil any mean."""
    write_benchmark(folder, kind="categorical", systems=SYSTEMS, seeds=(1,), published=[])
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["search"] = CHOICE
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines_of_trials = []
    for system in trials:
        for rate in TRIED:
            exp = folder / "search" / "up" / system / f"fold1-seed1-lr{rate}" / "exp"
            shutil.copytree(folder / "runs/up/0/fold1-1/exp", exp)
            place = str((exp / "test_fold1_predictions.csv").relative_to(folder))
            metrics = {**lines[0]["splits"]["test"]["metrics"], "UAR": 0.0, "WA": 0.0}
            splits = {name: {"predictions": place, "metrics": {**metrics, "split": name}} for name in ("dev", "test")}
            name = f"up | {system} | fold1 | seed 1 | lr {rate}"
            lines_of_trials.append({**lines[0], "system": system, "run": name, "splits": splits, "search": None})
    (folder / "search.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines_of_trials))
    about = json.loads((folder / "matrix.json").read_text())
    about["search"] = {"up": CHOICE} if choices is None else choices
    (folder / "matrix.json").write_text(json.dumps(about))
    return folder


# --- what is read -----------------------------------------------------------------------------------------------------


def test_one_system_tries_for_all():
    searches = read_searches([line_of("a"), line_of("b"), line_of("c", None)], [line_of("b", None)], {"up": CHOICE})
    assert searches == (Search("up", "b", ("a", "b"), "UAR", {1e-4: 0.3, 1e-3: 0.6, 1e-2: None}, 1e-3),)


def test_each_system_tries_for_itself():
    other = {**CHOICE, "rate": 1e-4, "tried": {"0.001": 0.2, "0.0001": 0.3}}
    lines = [line_of("a"), line_of("b", other), line_of("a", other, "low")]
    choices = {"up | a": CHOICE, "up | b": other, "low | a": other}
    searches = read_searches(lines, [], choices)
    assert [(item.upstream, item.system, item.users) for item in searches] == [
        ("up", "a", ("a",)), ("up", "b", ("b",)), ("low", "a", ("a",))
    ]  # fmt: skip
    assert list(searches[1].tried) == [1e-4, 1e-3]  # ascending
    trials = [line_of("a", None), line_of("b", None), line_of("a", None, "low")]
    assert read_searches(lines, trials, {}) == searches  # a benchmark that is not at its end


def test_a_search_whose_runs_are_not_finished():
    (only,) = read_searches([], [line_of("b", None)], {"up": CHOICE})
    assert (only.system, only.users, only.chosen) == ("b", (), 1e-3)


@pytest.mark.parametrize(
    "choice",
    ["fast", {"rate": 1e-3, "tried": TRIED}, {**CHOICE, "tried": {}}, {**CHOICE, "tried": {"fast": 1}},
     {**CHOICE, "tried": [1]}, {**CHOICE, "rate": "high"}],
)  # fmt: skip
def test_a_damaged_search_is_left_out_with_a_warning(choice: Any, caplog: pytest.LogCaptureFixture):
    assert [item.system for item in read_searches([line_of("a", choice), line_of("b")], [], {})] == ["b"]
    assert "the search for the learning rate of a on up cannot be read" in caplog.text


def test_a_score_that_is_not_finite_is_none():
    (only,) = read_searches([line_of("a", {**CHOICE, "tried": {"0.001": 0.5, "0.01": float("nan")}})], [], {})
    assert only.tried == {1e-3: 0.5, 1e-2: None}


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "tried", "end"),
    [
        (1e-3, TRIED, ""),  # what failed beyond it was tried
        (1e-4, TRIED, "lowest"),
        (1e-2, TRIED, "highest"),
        (1e-3, {"0.001": 0.5}, ""),  # nothing was searched
    ],
)
def test_an_end_of_the_grid(chosen: float, tried: Mapping[str, float | None], end: str):
    one = search(chosen=chosen, tried=tried)
    assert one.end == end
    table = search_table([one])
    assert table is not None
    assert table.rows[0][table.header.index("end of the grid")] == (f"{end} tried" if end else "no")
    said = end_warning([search(), one])
    if not end:
        assert said is None
    else:
        assert said is not None
        assert f"(a on up: {chosen:g} is the {end}); widen search.learning_rates" in said


def test_many_ends_are_not_all_named():
    said = end_warning([search(f"s{number}", 1e-4) for number in range(8)])
    assert said is not None
    assert said.count("is the lowest") == 5
    assert "; and 3 more)" in said


def test_the_table():
    joint = search("b", 1e-5, "low", "joint", tried={"1e-05": 0.25, "0.001": 0.125})
    table = search_table([search(), joint])
    assert table is not None
    assert table.header == [
        "system", "upstream", "chosen", "1e-05", "0.0001", "0.001", "0.01", "end of the grid", "dev metric", "used by"
    ]  # fmt: skip
    assert table.rows == [
        ["a", "up", "0.001", "–", "30.0", "60.0 *", "failed", "no", "UA (UAR), %", "itself"],
        ["b", "low", "1e-05", "0.250 *", "–", "0.125", "–", "lowest tried", "mean of UAR and mean CCC", "itself"],
    ]
    assert search_table([]) is None


def test_the_csv():
    rows = list(csv.DictReader(search_csv([search(chosen=1e-4)]).splitlines()))
    assert [(float(row["learning_rate"]), row["dev_score"], row["chosen"], row["end_of_grid"]) for row in rows] == [
        (1e-4, "0.3", "True", "lowest"), (1e-3, "0.6", "False", ""), (1e-2, "", "False", "")
    ]  # fmt: skip
    assert {(row["upstream"], row["system"], row["used_by"], row["metric"]) for row in rows} == {
        ("up", "a", "a", "UAR")
    }


def test_figures():
    both = {"0.0001": 0.3, "0.001": 0.6}
    searches = [search("a", tried=both), search("b", tried=both), search("a", upstream="low", tried=both)]
    figure = search_figure(searches, {"a": None, "b": None})
    assert figure is not None
    assert [panel.title for panel in figure.panels] == ["up, UA (UAR), %", "low, UA (UAR), %"]
    assert figure.systems == ("a", "b")
    texts = ["".join(text for text in ElementTree.fromstring(panel.svg()).itertext()) for panel in figure.panels]
    assert all("0.0001" in text and "$" not in text for text in texts)
    own = search_figure(searches[2:], {"a": None, "b": None})
    assert own is not None
    assert own.systems == ()
    assert search_figure([search(tried={"0.001": 0.5, "0.01": None})], {"a": None}) is None  # one point


# --- in a report ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_runs_of_the_search_count_in_nothing(tmp_path: Path):
    """The same scores, ranks, intervals and differences with the search's runs beside the results as without."""
    plain = write_benchmark(tmp_path / "plain_", kind="categorical", systems=SYSTEMS, seeds=(1,), published=[])
    searched = with_search(tmp_path / "searched")
    texts = []
    for folder in (plain, searched):
        study = load_study([folder])
        assert len(study.runs) == 4
        assert all(set(run.splits) == {"test"} for run in study.runs)
        write_report(analyse(study, resamples=1000), folder)
        texts.append((folder / "report.csv").read_text())
    assert texts[0] == texts[1]
    assert "learning_rates" not in {path.stem for path in plain.iterdir()}


@pytest.mark.usefixtures("undrawn")
def test_the_page_markdown_latex_and_csv_have_it(tmp_path: Path):
    folder = with_search(tmp_path / "made")
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    assert [path.name for path in files[:5]] == [
        "report.html", "report.md", "report.tex", "report.csv", "learning_rates.csv"
    ]  # fmt: skip
    page, text, tex = ((folder / f"report.{end}").read_text() for end in ("html", "md", "tex"))
    assert '<section id="search"' in page
    assert '<a href="#search">' in page
    assert "figures/learning_rates.svg" in page
    assert "| whole | up | 0.001 | 30.0 | 60.0 \\* | failed | no | UA (UAR), % | whole; half |" in text
    assert r"whole & up & 0.001 & 30.0 & 60.0 * & failed & no & UA (UAR), \% & whole; half \\" in tex
    assert len((folder / "learning_rates.csv").read_text().splitlines()) == 1 + 3
    assert "widen search.learning_rates" not in page
    write_benchmark(tmp_path / "none_", kind="categorical", systems=SYSTEMS, seeds=(1,), published=[])
    write_report(analyse(load_study([tmp_path / "none_"]), resamples=1000), tmp_path / "none_")
    page = (tmp_path / "none_/report.html").read_text()
    assert 'id="search"' not in page
    assert "#search" not in page


def test_a_warning_heads_the_page(tmp_path: Path):
    folder = with_search(tmp_path / "made")
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines = [line | {"search": {**CHOICE, "rate": 1e-4}} for line in lines]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert load_study([folder]).warnings == (
        "the best learning rate is at an end of the range tried, so a better one may lie beyond (whole on up: "
        "0.0001 is the lowest); widen search.learning_rates",
    )


def test_a_damaged_file_of_trials_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = with_search(tmp_path / "made")
    path = folder / "search.jsonl"
    path.write_text("{damaged\n" + path.read_text())
    (only,) = load_study([folder]).searches
    assert (only.system, only.users) == ("whole", SYSTEMS)
    assert "search.jsonl: line 1 is damaged" in caplog.text
    path.unlink()
    assert [item.system for item in load_study([folder]).searches] == ["whole", "half"]  # who tried is not told


@pytest.mark.full
def test_a_real_search(run: Run, tiny_corpus: TinyCorpus, tmp_path: Path):
    """The table holds what the search's own dev metrics say, and the report counts the results alone."""
    path = write_matrix(
        tmp_path, recipe_for(tiny_corpus, **{"downstream_expert.embeddings": True}), folds=["fold1"],
        search={"learning_rates": [1e-3, 1e-2], "metric": "UAR"},
        systems={"mean": {"overrides": {"downstream_expert.modelrc.pooling": "mean"}}},
    )  # fmt: skip
    run("s3prl-emotion", "benchmark", path, "--out", "out")
    folder = tmp_path / "out"
    run("s3prl-emotion", "report", folder, "--resamples", 1000)
    expected = {}
    for path in (folder / "search").rglob("dev_*_metrics.json"):
        rate = float(re.search(r"-lr([^/]+)/", path.as_posix())[1])  # type: ignore[index]
        expected[rate] = json.loads(path.read_text())["UAR"]
    rows = list(csv.DictReader((folder / "learning_rates.csv").read_text().splitlines()))
    assert {float(row["learning_rate"]): float(row["dev_score"]) for row in rows} == pytest.approx(expected)
    best = max(expected.values())
    assert [float(row["learning_rate"]) for row in rows if row["chosen"] == "True"] == [
        min(rate for rate, score in expected.items() if score == best)
    ]
    scores = list(csv.DictReader((folder / "report.csv").read_text().splitlines()))
    assert {row["runs"] for row in scores} == {"1"}
    assert (folder / "figures" / "fbank-test-embeddings-0.svg").is_file()
