"""What sharing speakers is worth: names, ranks and the table of a study that holds both protocols."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from speaker_statistics import compare_systems, speaker_interval
from test_report import predictions_of, rows_of, write_benchmark

from s3prl_emotion.corpora.protocol import NOTE
from s3prl_emotion.report import Study, analyse, load_study, write_report
from s3prl_emotion.report.computing.leaderboard import leaderboard
from s3prl_emotion.report.computing.sharing import Sharing, sharing
from s3prl_emotion.report.reading.protocols import with_protocols
from s3prl_emotion.report.reading.provenance import read_provenance

SYSTEMS = ("one", "two", "other", "one, speaker-dependent")
DEPENDENT = {"other": "two", "one, speaker-dependent": "one"}  # each with the same system without shared speakers
RESAMPLES = 1000
Edit = Callable[[pd.DataFrame], pd.DataFrame]


def write_study(folder: Path, edit: Edit | None = None, **options: Any) -> Path:
    """A benchmark with two systems under both protocols, of which one's name does not say so."""
    write_benchmark(folder, "categorical", systems=SYSTEMS, **{"seeds": (1,), **options})
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        for split in line["splits"].values():
            path = folder / split["predictions"].replace("_predictions.csv", "_metrics.json")
            plain = DEPENDENT.get(line["system"])
            data = {"labels": "a.csv", "protocol": "random" if plain else "speaker_disjoint", "num_folds": 2}
            model = {"modelrc": {"pooling": plain or line["system"]}}
            about = {"config": {"downstream_expert": {"datarc": data, **model}}, "head": "emotion_corr_attn"}
            if plain:
                split["metrics"] |= {"protocol": {"name": "random", "folds": 2, "fold_seed": 0, "note": NOTE}}
            path.write_text(json.dumps(json.loads(path.read_text()) | split["metrics"] | about))
            if edit is not None:
                place = folder / split["predictions"]
                edit(pd.read_csv(place, keep_default_na=False)).to_csv(place, index=False)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return with_protocols(load_study([write_study(tmp_path_factory.mktemp("both"))]))


def worth(study: Study) -> dict[str, Sharing]:
    return {item.system: item for item in sharing(study, RESAMPLES)}


def pooled(folder: Path, system: int) -> pd.DataFrame:
    parts = [predictions_of(folder, system, fold, 1) for fold in ("fold1", "fold2")]
    return pd.concat(parts).sort_values("FileName", kind="stable")


def test_names_say_it_and_counterparts_are_found_by_name_or_by_recipe(study: Study):
    assert list(study.systems) == ["one", "two", "other, speaker-dependent", "one, speaker-dependent"]
    assert study.speaker_dependent == {"other, speaker-dependent": "two", "one, speaker-dependent": "one"}
    assert {run.system for run in study.runs} == set(study.systems)
    assert study.baseline_of("two") == "one"
    assert study.baseline_of("other, speaker-dependent") == "one, speaker-dependent"


def test_a_study_without_shared_speakers_is_left_as_it_is(tmp_path: Path):
    plain = load_study([write_benchmark(tmp_path, "categorical", folds=["fold1"], seeds=[1])])
    assert with_protocols(plain) is plain


def test_difference_is_paired_over_speakers_where_both_test_the_same_utterances(study: Study):
    folder = study.folder or Path()
    found = worth(study)["one"]
    assert found.method == "paired by utterance; 24 speakers drawn"
    plain, shared = pooled(folder, 0), pooled(folder, 3)
    truth, speakers = plain["truth"].tolist(), plain["SpkrID"].tolist()
    for gain in found.gains:
        oracle = compare_systems(
            gain.metric, truth, shared["prediction"].tolist(), plain["prediction"].tolist(), speakers, RESAMPLES
        )
        assert (gain.difference, gain.low, gain.high) == pytest.approx((oracle.difference, oracle.low, oracle.high))
        assert gain.dependent - gain.disjoint == pytest.approx(gain.difference)
    assert {gain.metric for gain in found.gains} == {"UAR", "WA", "macro_f1"}


def test_others_are_resampled_each_on_its_own(tmp_path: Path):
    folder = write_study(tmp_path)
    for fold in ("fold1", "fold2"):  # the last system tests other utterances
        path = folder / f"runs/up/3/{fold}-1/exp/test_{fold}_predictions.csv"
        pd.read_csv(path, keep_default_na=False).iloc[:-8].to_csv(path, index=False)
    study = with_protocols(load_study([folder]))
    found = worth(study)["one"]
    assert found.method == "not paired: they test other utterances or seeds; 24 speakers drawn"
    gain = next(gain for gain in found.gains if gain.metric == "UAR")
    one, other = (
        speaker_interval("UAR", *(part[name].tolist() for name in ("truth", "prediction", "SpkrID")),
                         resamples=RESAMPLES, seed=turn)
        for turn, part in enumerate((pooled(folder, 0), pooled(folder, 3)))
    )  # fmt: skip
    assert gain.low == pytest.approx(gain.difference - math.hypot(other.value - other.low, one.high - one.value))
    assert gain.high == pytest.approx(gain.difference + math.hypot(other.high - other.value, one.value - one.low))


def test_with_too_few_speakers_utterances_are_drawn_and_it_says_so(tmp_path: Path):
    def four(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(SpkrID=[f"s{index % 4}" for index in range(len(table))])

    found = worth(with_protocols(load_study([write_study(tmp_path, four)])))["one"]
    few = "utterances drawn, since 4 speakers are too few: it does not hold for other speakers"
    assert found.method == f"paired by utterance; {few}"
    assert all(math.isfinite(gain.low) and gain.low < gain.high for gain in found.gains)


@pytest.mark.usefixtures("undrawn")
def test_report_has_the_table_and_a_rank_list_of_its_own(study: Study, tmp_path: Path):
    analysis = analyse(study, resamples=RESAMPLES)
    board = leaderboard(analysis, read_provenance(analysis.study))
    assert board.boards == ("test", "test, speaker-dependent")
    ranked = {(entry.board, entry.system): entry.rank for entry in board.entries}
    assert ranked == {
        ("test", "one"): 1, ("test", "two"): 2, ("test, speaker-dependent", "other, speaker-dependent"): 1,
        ("test, speaker-dependent", "one, speaker-dependent"): 2,
    }  # fmt: skip
    write_report(analysis, tmp_path)
    text = (tmp_path / "report.md").read_text()
    start = text.index("## What sharing speakers is worth")
    table = [line for line in text[start:].split("\n## ")[0].splitlines() if line.startswith("| up |")]
    assert [line.split(" | ")[1:3] for line in table] == [
        [name, metric] for name in ("two", "one") for metric in ("UA (UAR), %", "WA, %", "macro-F1, %")
    ]
    for name in ("report.html", "report.md", "report.tex", "report.csv"):
        page = (tmp_path / name).read_text()
        assert "other, speaker-dependent" in page
        assert not [line for line in page.splitlines() if "other" in line.split("|")[:3] and "speaker-dep" not in line]
    row = rows_of(tmp_path)["up", "test", "other, speaker-dependent", "UAR"]
    assert (row["rank"], row["baseline"]) == ("1", "one, speaker-dependent")
