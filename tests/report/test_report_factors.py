"""Two factors of a matrix: how they are found, and the figure and the table that show them."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import rows_of, write_benchmark

from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.computing.factors import grid_of
from s3prl_emotion.report.drawing.figure import Panel
from s3prl_emotion.report.sections.base import Place, Results
from s3prl_emotion.report.sections.factors import TwoFactors

DROPOUT, SMOOTHING = "downstream_expert.modelrc.channel_dropout", "downstream_expert.modelrc.label_smoothing"


def product(**values: list[Any]) -> dict[str, dict[str, Any]]:
    """Systems of all combinations, with one dotted key for each name."""
    keys = {name: f"downstream_expert.modelrc.{name}" for name in values}
    return {
        " ".join(map(str, levels)): dict(zip(keys.values(), levels, strict=True))
        for levels in itertools.product(*values.values())
    }


# --- the factors ------------------------------------------------------------------------------------------------------


def test_the_factor_with_more_levels_is_across_and_numbers_ascend():
    grid = grid_of(product(label_smoothing=[0.25, 0], channel_dropout=[0.5, 0, 0.25]), {})
    assert grid is not None
    assert (grid.across.name, grid.across.levels) == ("channel_dropout", (0, 0.25, 0.5))
    assert (grid.lines.name, grid.lines.levels) == ("label_smoothing", (0, 0.25))
    assert grid.systems[0.25, 0] == "0 0.25"
    assert len(grid.systems) == 6


def test_numbers_are_across_before_names_and_names_keep_their_order():
    grid = grid_of(product(pooling=["mean", "corr", "attn"], num_heads=[1, 4], projector_dim=[256]), {})
    assert grid is not None
    assert (grid.across.name, grid.lines.levels) == ("num_heads", ("mean", "corr", "attn"))
    assert not grid.lines.numeric


def test_what_a_system_does_not_override_is_read_from_its_recipe():
    recipe = {"downstream_expert": {"modelrc": {"channel_dropout": 0, "label_smoothing": 0.3}}}
    overrides = {
        "none": {},
        "dropout": {DROPOUT: 0.5},
        "smoothing": {SMOOTHING: 0},
        "both": {DROPOUT: 0.5, SMOOTHING: 0},
    }
    grid = grid_of(overrides, dict.fromkeys(overrides, recipe))
    assert grid is not None
    assert grid.systems == {(0, 0.3): "none", (0.5, 0.3): "dropout", (0, 0): "smoothing", (0.5, 0): "both"}
    assert grid_of(overrides, {}) is None


def test_sections_are_compared_by_their_parts_and_equal_names_are_written_in_full():
    overrides = {f"{a}{b}": {"one": {"keep": a, "file": "f"}, "two.keep": b} for a in (0.4, 0.8) for b in (0.4, 0.8)}
    grid = grid_of(overrides, {})
    assert grid is not None
    assert (grid.across.name, grid.lines.name) == ("one.keep", "two.keep")


@pytest.mark.parametrize(
    "overrides",
    [
        {"a": {}, "b": {}},
        product(num_heads=[1, 4, 16, 32]),
        product(num_heads=[1, 4], pooling=["mean", "corr"], channel_dropout=[0, 0.5]),
        {"base": {DROPOUT: 0, SMOOTHING: 0}, "one": {DROPOUT: 1, SMOOTHING: 0}, "two": {DROPOUT: 0, SMOOTHING: 1}},
        product(num_heads=[1, 4], pooling=["mean", "corr"]) | {"again": {
            "downstream_expert.modelrc.num_heads": 1, "downstream_expert.modelrc.pooling": "mean"}},
    ],
    ids=["recipes", "one factor", "three", "an ablation", "the same twice"],
)  # fmt: skip
def test_other_matrices_have_no_grid(overrides: dict[str, dict[str, Any]]):
    assert grid_of(overrides, {}) is None


def test_a_grid_may_lack_runs():
    overrides = product(channel_dropout=[0, 0.25, 0.5], label_smoothing=[0, 0.15, 0.25])
    del overrides["0.5 0.25"]
    grid = grid_of(overrides, {})
    assert grid is not None
    assert (0.5, 0.25) not in grid.systems


# --- in the report ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of two poolings with three dropout rates, one of which has not run; tests must not write into it."""
    overrides = product(pooling=["mean", "corr"], channel_dropout=[0, 0.25, 0.5])
    run = [name for name in overrides if name != "corr 0.5"]
    published = [
        {"upstream": "up", "split": "test", "system": "mean 0.25", "metric": "UAR", "value": 0.6, "source": "x"}
    ]
    folder = write_benchmark(
        tmp_path_factory.mktemp("grid"), kind="categorical", systems=run, seeds=(1,), published=published
    )
    about = json.loads((folder / "matrix.json").read_text())
    about["systems"] = overrides
    (folder / "matrix.json").write_text(json.dumps(about))
    return folder


def section_of(folder: Path) -> TwoFactors:
    return TwoFactors(Results(analyse(load_study([folder]), resamples=1000)))


def test_the_figure_has_a_line_for_each_level_and_marks_published_numbers(made: Path):
    section = section_of(made)
    (figure,) = section.figures(Place("up", "test"))
    assert figure.name == "up-test-two_factors"
    assert "a line for each pooling" in figure.caption
    assert "published" in figure.caption
    panel = next(panel for panel in figure.panels if panel.title.startswith("UA"))
    drawn = drawn_by(panel)
    (axes,) = drawn.axes
    lines = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    rows = [row for row in section.results.parts[Place("up", "test")].rows if "UAR" in row.scores]
    means = {row.system: row.scores["UAR"].mean * 100 for row in rows}
    assert list(lines) == ["mean", "corr"]
    assert lines["mean"].get_xdata().tolist() == [0, 0.25, 0.5]
    for line, system in (("mean", "mean {}"), ("corr", "corr {}")):
        expected = [means.get(system.format(level), np.nan) for level in ("0", "0.25", "0.5")]
        np.testing.assert_allclose(lines[line].get_ydata(), expected)
    theirs = [line.get_ydata() for line in axes.get_lines() if line.get_fillstyle() == "none"]
    np.testing.assert_allclose(theirs[0], [np.nan, 60.0, np.nan])
    assert axes.get_xlabel() == "channel_dropout"
    assert drawn.legends[0].get_title().get_text() == "pooling"


def drawn_by(panel: Panel) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    panel.draw(figure)
    figure.savefig(io.BytesIO(), format="svg")
    return figure


def test_the_report_has_figure_and_table(made: Path, tmp_path: Path):
    write_report(section_of(made).results.analysis, tmp_path)
    row = rows_of(tmp_path)["up", "test", "corr 0.25", "UAR"]
    text = (tmp_path / "report.md").read_text()
    assert "**UA (UAR), % by channel_dropout and pooling**" in text
    assert r"| pooling / channel\_dropout | 0 | 0.25 | 0.5 |" in text
    assert f" | {100 * float(row['mean']):.1f} ± {100 * float(row['std']):.1f} | – |" in text
    assert (tmp_path / "figures" / "up-test-two_factors.svg").stat().st_size > 2000
    assert "up-test-two_factors.svg" in (tmp_path / "report.html").read_text()


def test_a_matrix_of_one_factor_has_neither(made: Path, tmp_path: Path):
    about = json.loads((made / "matrix.json").read_text())
    study = load_study([made])
    assert set(study.overrides) == set(about["systems"])
    one = write_benchmark(tmp_path, kind="categorical", systems=["a", "b"], folds=["fold1"], seeds=(1,), published=[])
    section = section_of(one)
    assert [*section.figures(Place("up", "test")), *section.tables(Place("up", "test"))] == []
