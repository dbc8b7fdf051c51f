"""Utterance embeddings in a report: which run is shown, how many utterances, in which colours, and what cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import Cli, TinyCorpus
from test_report_evidence import benchmark

from s3prl_emotion.errors import UsageError
from s3prl_emotion.figures.embeddings import save
from s3prl_emotion.figures.tsne import tsne
from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.drawing.figure import INK, SCALE, SERIES, UNKNOWN, svg_panels
from s3prl_emotion.report.reading.embeddings import MOST_NAMED, MOST_PLANES, MOST_POINTS, Plane, planes_of, read_plane
from s3prl_emotion.report.reading.study import RunResult
from s3prl_emotion.report.sections.embeddings import plane_figure

CLASSES = ("ang", "hap", "neu")


def study_of(folder: Path, runs: Sequence[tuple[str, str, int]], **metrics: Any) -> Path:
    """A benchmark whose runs can tell classes apart, without embeddings."""
    return benchmark(folder, {run: {"UAR": 0.5, "WA": 0.5, **metrics} for run in runs})


def exp_of(folder: Path, system: str, fold: str, seed: int) -> Path:
    return folder / "runs" / system / f"{fold}-{seed}" / "exp"


def keep(exp: Path, fold: str, count: int = 12, width: int = 6, **columns: Sequence[Any]) -> np.ndarray:
    """Embeddings of a run with its predictions beside them."""
    rows = np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)
    names = [f"{fold}/{number:04d}.wav" for number in range(count)]
    save(exp, f"test_{fold}", names, list(rows))
    truth = [CLASSES[number % 3] for number in range(count)]
    table = {"FileName": names, "SpkrID": [f"s{number % 4}" for number in range(count)], "truth": truth,
             "prediction": truth, "Gender": ["F", "M"] * (count // 2) + ["F"] * (count % 2), **columns}  # fmt: skip
    pd.DataFrame(table).to_csv(exp / f"test_{fold}_predictions.csv", index=False)
    return rows


def only(folder: Path) -> Plane:
    planes = planes_of(load_study([folder]))
    assert planes.warnings == ()
    return planes.planes["up", "test"]["a"]


# --- which run --------------------------------------------------------------------------------------------------------


def test_the_first_run_that_has_embeddings_is_shown(tmp_path: Path):
    """Folds as people count them, then seeds; a run without a file is passed over."""
    runs = [("a", fold, seed) for fold in ("fold10", "fold2", "fold1") for seed in (12, 3)]
    study_of(tmp_path, runs)
    for _, fold, seed in runs:
        if fold != "fold1":
            keep(exp_of(tmp_path, "a", fold, seed), fold)
    plane = only(tmp_path)
    assert (plane.run.fold, plane.run.seed, plane.split) == ("fold2", 3, "test")


def test_nothing_is_said_where_no_embeddings_were_asked_for(tmp_path: Path):
    study_of(tmp_path, [("a", "fold1", 1)], config={"downstream_expert": {"embeddings": False}})
    planes = planes_of(load_study([tmp_path]))
    assert (planes.planes, planes.warnings) == ({}, ())


def test_more_than_the_most_are_left_out_and_that_is_said(tmp_path: Path):
    runs = [(f"system {number}", "fold1", 1) for number in range(MOST_PLANES + 2)]
    study_of(tmp_path, runs)
    for system, fold, seed in runs:
        keep(exp_of(tmp_path, system, fold, seed), fold)
    planes = planes_of(load_study([tmp_path]))
    assert list(planes.planes["up", "test"]) == [system for system, _, _ in runs[:MOST_PLANES]]
    assert planes.warnings == (
        f"utterance embeddings are laid out for the first {MOST_PLANES} of {MOST_PLANES + 2} systems and upstreams "
        "that have them; s3prl-emotion tsne plots those of any run",
    )


# --- what is laid out -------------------------------------------------------------------------------------------------


def test_points_are_those_of_the_command(tmp_path: Path):
    study_of(tmp_path, [("a", "fold1", 1)])
    rows = keep(exp_of(tmp_path, "a", "fold1", 1), "fold1")
    plane = only(tmp_path)
    np.testing.assert_array_equal(plane.points, tsne(rows))
    assert (plane.total, plane.perplexity) == (12, pytest.approx(11 / 3))
    assert plane.known["class"].tolist() == [*CLASSES] * 4
    assert sorted(plane.known) == ["class", "gender", "speaker"]


def test_many_utterances_are_drawn_with_a_fixed_seed(tmp_path: Path):
    study_of(tmp_path, [("a", "fold1", 1)])
    rows = keep(exp_of(tmp_path, "a", "fold1", 1), "fold1", count=MOST_POINTS + 50)
    plane = only(tmp_path)
    expected = np.sort(np.random.default_rng(0).choice(MOST_POINTS + 50, MOST_POINTS, replace=False))
    np.testing.assert_array_equal(plane.rows, rows[expected])
    assert plane.known["class"].tolist() == [CLASSES[number % 3] for number in expected]
    caption = plane_figure("up-test-embeddings-0", "a", plane).caption
    assert f"{MOST_POINTS} of {MOST_POINTS + 50} utterances, drawn with seed 0" in caption
    assert "(fold1, seed 1)" in caption


def test_the_recipes_label_table_tells_what_predictions_do_not(tmp_path: Path):
    table = tmp_path / "labels.csv"
    config = {"downstream_expert": {"datarc": {"labels": str(table)}}}
    study_of(tmp_path, [("a", "fold1", 1)], config=config)
    keep(exp_of(tmp_path, "a", "fold1", 1), "fold1")
    assert "valence" not in only(tmp_path).known  # the table is not there
    names = [f"fold1/{number:04d}.wav" for number in range(12)]
    grades = {"FileName": names, "EmoClass": "other", "EmoVal": [number / 4 for number in range(12)], "EmoAct": 3.0}
    pd.DataFrame(grades).to_csv(table, index=False)
    known = only(tmp_path).known
    assert known["valence"].tolist() == grades["EmoVal"]
    assert "activation" not in known  # all alike
    assert known["class"].tolist() == [*CLASSES] * 4  # the predictions go first
    pd.DataFrame(grades).iloc[:5].to_csv(table, index=False)
    assert "valence" not in only(tmp_path).known  # of other utterances


# --- in colours -------------------------------------------------------------------------------------------------------


def plane_of(known: Mapping[str, Any], count: int = 12) -> Plane:
    rows = np.random.default_rng(3).normal(size=(count, 4))
    run = RunResult("up", "a", "fold1", 1, {})
    return Plane(run, "test", count, rows, {name: np.asarray(values) for name, values in known.items()})


def colours(plane: Plane, name: str) -> dict[str, int]:
    """How many points of each colour a panel has; a legend's own are among them."""
    figure = plane_figure("up-test-embeddings-0", "a", plane)
    svg = next(panel for panel in figure.panels if panel.title == name).svg()
    counts: dict[str, int] = {}
    for colour in re.findall(r"<use [^>]*fill: (#[0-9a-f]{6})", svg):
        counts[colour] = counts.get(colour, 0) + 1
    counts.pop(INK, None)  # ticks of the scale
    return counts


def test_words_have_colours_of_the_page():
    plane = plane_of({"class": ["b", "a", "", "a"] * 3})
    assert colours(plane, "class") == {SERIES[0]: 7, SERIES[1]: 4, UNKNOWN: 4}  # each once more in the legend


def test_many_speakers_have_no_legend():
    plane = plane_of({"speaker": [f"s{number}" for number in range(20)]}, 20)
    assert sum(colours(plane, "speaker").values()) == 20


def test_numbers_are_on_a_scale_and_unknown_ones_grey():
    values = [1.0, 1.9, 2.0, 5.0, 6.0, 3.9, 4.0, 4.1, np.nan, np.nan, 1.1, 5.9]  # steps of 1 from 1 to 6
    assert colours(plane_of({"valence": values}), "valence") == {
        SCALE[0]: 3, SCALE[1]: 1, SCALE[2]: 1, SCALE[3]: 2, SCALE[4]: 3, UNKNOWN: 2
    }  # fmt: skip


# --- in the report ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = study_of(tmp_path_factory.mktemp("planes"), [(s, f, 1) for s in "ab" for f in ("fold1", "fold2")])
    for system in "ab":
        keep(exp_of(folder, system, "fold1", 1), "fold1", EmoVal=[number / 4 for number in range(12)])
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    return folder


def test_the_page_shows_them_in_its_own_section(reported: Path):
    page = (reported / "report.html").read_text()
    section = re.search(
        r'<details class="evidence"><summary>Utterance embeddings</summary>.*?</details>', page, re.DOTALL
    )
    assert section is not None
    assert re.findall(r"<h3>(.*?)</h3>", section[0]) == ["class", "valence", "gender", "speaker"] * 2
    assert "var(--scale-4)" in section[0]
    assert not set(SCALE) & set(re.findall("#[0-9a-f]{6}", section[0]))
    assert page.count("--scale-4:") == 2  # of the light page and of the dark one
    names = {f"up-test-embeddings-{number}.svg" for number in (0, 1)}
    assert names <= {path.name for path in (reported / "figures").iterdir()}
    for name in names:
        assert f"](figures/{name})" in (reported / "report.md").read_text()
        ElementTree.parse(reported / "figures" / name)


@pytest.mark.full
def test_the_same_twice(reported: Path, tmp_path: Path):
    files = write_report(analyse(load_study([reported]), resamples=1000), tmp_path)
    assert len(files) > 6
    for path in files:
        assert path.read_bytes() == (reported / path.relative_to(tmp_path)).read_bytes()


def missing(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def not_finite(path: Path) -> None:
    save(path.parent, "test_fold1", list("abcdef"), [np.full(3, np.nan, np.float32)] * 6)


def few(path: Path) -> None:
    save(path.parent, "test_fold1", list("abcd"), list(np.eye(4, dtype=np.float32)))


def alike(path: Path) -> None:
    save(path.parent, "test_fold1", list("abcdef"), [np.ones(3, np.float32)] * 6)


def of_others(path: Path) -> None:
    save(path.parent, "test_fold1", list("abcdef"), list(np.eye(6, dtype=np.float32)))


def no_grade(path: Path) -> None:
    table = path.with_name("test_fold1_predictions.csv")
    pd.read_csv(table).assign(EmoVal="high").to_csv(table, index=False)


def twice(path: Path) -> None:
    table = path.with_name("test_fold1_predictions.csv")
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (missing, "no such file; an evaluation with downstream_expert.embeddings: true writes one"),
        (damaged, "damaged, or no npz file"),
        (not_finite, "embeddings are not finite"),
        (few, "4 utterances are too few for t-SNE"),
        (alike, "all embeddings are the same"),
        (of_others, "lacks 6 of the utterances, such as a"),
        (no_grade, "EmoVal has a value that is not a number"),
        (twice, "fold1/0011.wav is listed twice"),
    ],
)
def test_what_cannot_be_shown_is_said_and_the_rest_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], None], message: str
):
    config = {"downstream_expert": {"embeddings": True}}
    study_of(tmp_path, [("a", "fold1", 1), ("b", "fold1", 1)], config=config)
    for system in "ab":
        keep(exp_of(tmp_path, system, "fold1", 1), "fold1")
    break_it(exp_of(tmp_path, "a", "fold1", 1) / "test_fold1_embeddings.npz")
    planes = planes_of(load_study([tmp_path]))
    assert list(planes.planes["up", "test"]) == ["b"]
    assert len(planes.warnings) == 1
    assert planes.warnings[0].startswith("some utterance embeddings are not shown: up, a, test, fold1: ")
    assert message in planes.warnings[0]
    assert message in caplog.text
    if break_it is damaged:
        write_report(analyse(load_study([tmp_path]), resamples=1000), tmp_path)
        assert message in (tmp_path / "report.html").read_text()
        assert (tmp_path / "figures" / "up-test-embeddings-1.svg").is_file()


def test_many_damaged_files_are_not_all_named(tmp_path: Path):
    runs = [(f"s{number}", "fold1", 1) for number in range(MOST_NAMED + 3)]
    study_of(tmp_path, runs, config={"downstream_expert": {"embeddings": True}})
    planes = planes_of(load_study([tmp_path]))
    assert planes.planes == {}
    assert planes.warnings[0].endswith("; and 3 more, which the log names")
    with pytest.raises(UsageError, match="no such file"):
        read_plane(load_study([tmp_path]).runs[0], "test")


@pytest.mark.usefixtures("undrawn")
def test_an_experiment_of_the_command_line(cli: Cli, tiny_corpus: TinyCorpus):
    keep_them = {"downstream_expert.embeddings": True}
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", "exp")
    cli(*words, "-o", tiny_corpus.overrides(**keep_them))
    study = load_study([Path("exp")])
    plane = planes_of(study).planes["", "test"]["exp"]
    count = json.loads(Path("exp/test_fold1_metrics.json").read_text())["utterances"]
    assert plane.points.shape == (count, 2)
    assert sorted(plane.known) == ["class", "gender", "speaker"]
    figure = plane_figure("test-embeddings-0", "exp", plane)
    assert [title for title, _ in svg_panels(figure, "x")] == ["class", "gender", "speaker"]
    assert "(fold1)" in figure.caption
