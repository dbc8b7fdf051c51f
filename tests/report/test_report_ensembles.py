"""Ensembles of seeds and folds in the report, recomputed here from the probabilities in the predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import audmetric
import numpy as np
import pandas as pd
import pytest
from speaker_statistics import speaker_interval
from test_report import CLASSES, predictions_of, rows_of, write_benchmark

from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.computing.ensembles import Ensemble, Ensembles, find_ensembles

SHARES = [f"p_{name}" for name in CLASSES]
FOLDS, SEEDS = ("fold1", "fold2"), (1, 2, 3)
NAME = "whole (ensemble of 3 seeds)"
RESAMPLES = 300
UAR, WA = audmetric.unweighted_average_recall, audmetric.accuracy


def edit(folder: Path, change: Callable[[pd.DataFrame, dict[str, str]], pd.DataFrame]) -> Path:
    """Change the predictions of every run; ``change`` gets the table, and fold and seed of the run."""
    for line in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        for split in line["splits"].values():
            place = folder / split["predictions"]
            change(pd.read_csv(place, keep_default_na=False), line).to_csv(place, index=False)
    return folder


def with_shares(table: pd.DataFrame, line: dict[str, str]) -> pd.DataFrame:
    """Probabilities that follow the predictions, more or less."""
    draw = np.random.default_rng([*map(ord, line["fold"]), line["seed"]])
    rows = np.exp(draw.normal(0, 1, (len(table), 4)) + 2 * (table.prediction.to_numpy()[:, None] == np.array(CLASSES)))
    return table.assign(**dict(zip(SHARES, (rows / rows.sum(axis=1, keepdims=True)).round(7).T, strict=True)))


def study(folder: Path, **options: object) -> Path:
    folder.mkdir(exist_ok=True)
    return edit(write_benchmark(folder, "categorical", folds=FOLDS, seeds=SEEDS, **options), with_shares)  # type: ignore


def found(folder: Path, split: str = "test") -> tuple[list[Ensemble], Ensembles]:
    ensembles = find_ensembles(analyse(load_study([folder]), resamples=RESAMPLES))
    return list(ensembles.of["up", split]), ensembles


def joined(folder: Path, fold: str) -> pd.DataFrame:
    """A fold's utterances with the class of the largest mean probability over the seeds."""
    tables = [predictions_of(folder, 0, fold, seed) for seed in SEEDS]
    mean = np.mean([table[SHARES].to_numpy(np.float64) for table in tables], axis=0)
    return tables[0].assign(prediction=np.array(CLASSES)[mean.argmax(axis=1)])


@pytest.mark.usefixtures("undrawn")
def test_within_a_fold_seeds_are_joined_and_scored_as_a_run(tmp_path: Path):
    folder = study(tmp_path / "with")
    plain = write_benchmark(tmp_path / "without", "categorical", folds=FOLDS, seeds=SEEDS)
    for each in (folder, plain):
        write_report(analyse(load_study([each]), resamples=RESAMPLES), each)
    folds = [joined(folder, fold) for fold in FOLDS]
    together = pd.concat(folds).sort_values("FileName", kind="stable")
    rows = rows_of(folder)
    for metric, function in (("UAR", UAR), ("WA", WA)):
        row = rows["up", "test", NAME, metric]
        scores = [function(table.truth, table.prediction) for table in folds]
        expected = speaker_interval(
            metric, list(together.truth), list(together.prediction), list(together.SpkrID), resamples=RESAMPLES
        )
        got = [float(row[key]) for key in ("mean", "std", "pooled", "low", "high")]
        wanted = [np.mean(scores), np.std(scores, ddof=1), expected.value, expected.low, expected.high]
        assert got == pytest.approx(wanted, abs=1e-9)
        assert (row["runs"], row["ensemble"], row["rank"], row["difference"]) == ("2", "3", "", "")
        assert float(row["num_parameters"]) == 3000
    ensemble = found(folder)[0][0]
    each = [pd.concat([predictions_of(folder, 0, fold, seed) for fold in FOLDS]) for seed in SEEDS]
    best = [np.array(CLASSES)[table[SHARES].to_numpy().argmax(axis=1)] for table in each]
    single = np.mean([UAR(table.truth, guess) for table, guess in zip(each, best, strict=True)])
    gain, pooled = ensemble.gains["UAR"], ensemble.row.scores["UAR"].pooled
    assert (gain.single, gain.value) == pytest.approx((single, pooled - single), abs=1e-9)
    assert gain.low < gain.value < gain.high
    others = {key: row for key, row in rows.items() if not row.pop("ensemble")}
    assert others == {key: {k: v for k, v in row.items() if k != "ensemble"} for key, row in rows_of(plain).items()}
    cell = f"{100 * np.mean([UAR(table.truth, table.prediction) for table in folds]):.1f} ±"
    assert f"| {NAME} | 3 | 3 k | {cell}" in (folder / "report.md").read_text()
    for name in ("report.html", "report.tex"):
        assert NAME in (folder / name).read_text()
    board = (folder / "report.md").read_text().partition("## up: test")[0]
    assert "ensemble" not in board
    assert "Ensembles" not in (plain / "report.html").read_text()


def test_where_folds_test_the_same_utterances_all_runs_are_joined(tmp_path: Path):
    folder = study(tmp_path / "study", splits=("test", "other"))

    def moved(table: pd.DataFrame, line: dict[str, str]) -> pd.DataFrame:
        """Give the split ``other`` of each fold the utterances of the first one, in any order."""
        source = predictions_of(folder, 0, "fold1", 1, "other")
        table[["FileName", "SpkrID", "truth"]] = source[["FileName", "SpkrID", "truth"]]
        return table.sample(frac=1, random_state=1)

    for fold in reversed(FOLDS):
        for path in folder.glob(f"runs/up/*/{fold}-*/exp/other_*_predictions.csv"):
            moved(pd.read_csv(path, keep_default_na=False), {}).to_csv(path, index=False)
    ensemble = found(folder, "other")[0][0]
    assert ensemble.row.system == "whole (ensemble of 2 folds and 3 seeds)"
    assert (ensemble.members, ensemble.row.runs, ensemble.utterances) == (6, 1, 96)
    tables = [
        predictions_of(folder, 0, fold, seed, "other").sort_values("FileName") for fold in FOLDS for seed in SEEDS
    ]
    mean = np.mean([table[SHARES].to_numpy(np.float64) for table in tables], axis=0)
    expected = UAR(tables[0].truth, np.array(CLASSES)[mean.argmax(axis=1)])
    score = ensemble.row.scores["UAR"]
    assert (score.mean, score.pooled) == pytest.approx((expected, expected), abs=1e-9)
    each = [UAR(table.truth, np.array(CLASSES)[table[SHARES].to_numpy().argmax(axis=1)]) for table in tables]
    assert ensemble.gains["UAR"].single == pytest.approx(np.mean(each), abs=1e-9)
    assert found(folder)[0][0].members == 3  # of the folds' own tests


def test_unknown_classes_do_not_count_and_columns_are_joined_by_name(tmp_path: Path):
    folder = study(tmp_path / "study", systems=("whole",))
    before = found(folder)[0][0].row.scores["UAR"]

    def turned(table: pd.DataFrame, line: dict[str, str]) -> pd.DataFrame:
        table.loc[len(table)] = {"FileName": "x.wav", "SpkrID": "s", "Gender": "", "truth": "", "prediction": "ang",
                                 **dict(zip(SHARES, (1, 0, 0, 0), strict=True))}  # fmt: skip
        return table[list(table)[::-1]] if line["seed"] == 2 else table

    edit(folder, turned)
    after = found(folder)[0][0].row.scores["UAR"]
    assert (after.mean, after.pooled, after.low) == (before.mean, before.pooled, before.low)


def test_dimensions_are_means(tmp_path: Path):
    folder = write_benchmark(tmp_path, folds=FOLDS, seeds=SEEDS, systems=("whole",))
    score = found(folder)[0][0].row.scores["CCC.EmoVal"]
    tables = [[predictions_of(folder, 0, fold, seed) for seed in SEEDS] for fold in FOLDS]
    means = [np.mean([table.EmoVal_pred for table in own], axis=0) for own in tables]
    values = [audmetric.concordance_cc(own[0].EmoVal, mean) for own, mean in zip(tables, means, strict=True)]
    pooled = audmetric.concordance_cc(pd.concat([own[0].EmoVal for own in tables]), np.concatenate(means))
    assert (score.mean, score.pooled) == pytest.approx((np.mean(values), pooled), abs=1e-9)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("FileName", "new.wav", "utterances"), ("truth", "ang", "labels"), ("p_ang", 7.0, "sums to"),
     ("p_ang", "high", "p_ang must be a number, got 'high'"), ("p_fea", 0.0, "classes")],
)  # fmt: skip
def test_members_that_do_not_fit_together_are_named(tmp_path: Path, column: str, value: object, why: str):
    folder = study(tmp_path / "study", systems=("whole",))

    def broken(table: pd.DataFrame, line: dict[str, str]) -> pd.DataFrame:
        if line["seed"] == 2:
            table[column] = table[column].astype(object) if column in table else value
            table.loc[5, column] = value if column != "truth" else {"ang": "sad"}.get(table.truth[5], value)
        return table

    ensembles, every = found(edit(folder, broken))
    assert ensembles == []
    assert every.warnings[0].startswith("no ensemble of whole (up test): ")
    assert why in every.warnings[0]


def test_seeds_that_lack_a_fold_do_not_count(tmp_path: Path):
    folder = study(tmp_path / "study", systems=("whole",))
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(lines[:-1]))
    assert found(folder)[0][0].row.system == "whole (ensemble of 2 seeds)"
    (folder / "results.jsonl").write_text("".join(lines[:-2]))
    assert found(folder) == ([], Ensembles({("up", "test"): ()}))
