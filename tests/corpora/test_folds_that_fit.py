"""``num_folds: auto`` and ``valid_from``: folds for corpora of few speakers, and commands that need no folds."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, SHARED_DATA, Cli, TinyCorpus

import s3prl_emotion.cli
from s3prl_emotion.audit.read_tables import read_label_table
from s3prl_emotion.benchmark.plan import _with_number_of_folds
from s3prl_emotion.corpora import list_utterances, load_corpus, load_whole
from s3prl_emotion.corpora.folds import fitted, fold_names, speaker_folds, split_table
from s3prl_emotion.corpora.preparers import ravdess, savee, tess
from s3prl_emotion.corpora.protocol import DEV_NOTE
from s3prl_emotion.corpora.whole import load_to_train
from s3prl_emotion.errors import LabelError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.report.reading.study import load_study

PATH = Path("labels.csv")
SAVEE = SHARED_DATA / "savee"
DATA = "downstream_expert.datarc"


def config(**values: Any) -> DataSection:
    return DataSection(**{"labels": "labels.csv", "train_batch_size": 2, "eval_batch_size": 2, **values})


def table_of(speakers: int, each: int = 40) -> pd.DataFrame:
    rows = [
        (f"s{who}/{take}.wav", ("ang", "hap", "neu", "sad")[take * take % 4], f"s{who}")
        for who in range(speakers)
        for take in range(each)
    ]
    return pd.DataFrame(rows, columns=["FileName", "EmoClass", "SpkrID"])


def names(table: pd.DataFrame, **values: Any) -> list[dict[str, list[str]]]:
    """Who is where, fold by fold."""
    folds = fold_names(table, PATH, config(**values))
    parts = [split_table(table, PATH, config(test_fold=fold, **values))[1] for fold in folds]
    return [{name: sorted(rows["FileName"]) for name, rows in part.items()} for part in parts]


# --- num_folds: auto --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("speakers", "folds"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (11, 5)])
def test_as_many_folds_as_speakers_up_to_five(speakers: int, folds: int, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    table = table_of(speakers)
    assert names(table) == names(table, num_folds=folds)
    assert len(names(table)) == folds
    said = [line for line in caplog.messages if "num_folds: auto" in line]
    assert set(said) == ({f"labels.csv: {speakers} speakers, so {folds} folds (datarc.num_folds: auto)"} - {""}
                         if folds < 5 else set())  # fmt: skip


def test_a_number_that_was_given_is_kept():
    with pytest.raises(LabelError, match=r"^labels\.csv: datarc\.num_folds must lie in 2\.\.4 .* or be auto"):
        names(table_of(4), num_folds=5)


def test_random_folds_are_five_however_few_speakers():
    table = table_of(3).assign(Gender=None)
    assert fold_names(table, PATH, config(protocol="random")) == [f"fold{number}" for number in range(1, 6)]
    with pytest.raises(LabelError, match=r"^datarc\.valid_from: speakers contradicts protocol random"):
        fold_names(table, PATH, config(protocol="random", valid_from="speakers"))


def test_one_speaker_is_refused_with_what_to_do():
    with pytest.raises(LabelError, match=r"^labels\.csv: only one speaker, s0, .*; datarc\.protocol: random draws"):
        split_table(table_of(1), PATH, config())
    with pytest.raises(LabelError, match=r"^labels\.csv: fold1 is the only Fold, so no speaker is left to train on"):
        split_table(table_of(2).assign(Fold="fold1"), PATH, config())


# --- valid_from -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drawn", "Fold", "Split_Set"])
def test_two_speakers_train_and_test_and_dev_is_of_train(how: str):
    table = table_of(2)
    if how != "drawn":
        words = {"s0": "Train", "s1": "Test1"} if how == "Split_Set" else {"s0": "fold2", "s1": "fold1"}
        table[how] = table["SpkrID"].map(words)
    _, parts = split_table(table, PATH, config())
    who = {name: set(rows["SpkrID"]) for name, rows in parts.items()}
    assert who["train"] == who["dev"] != who["test"]
    assert not set(parts["train"]["FileName"]) & set(parts["dev"]["FileName"])
    counts = {name: Counter(rows["EmoClass"]) for name, rows in parts.items()}
    assert sum(counts["dev"].values()) == 8  # of 40, valid_ratio: 0.2
    for emotion, number in (counts["train"] + counts["dev"]).items():
        assert abs(counts["dev"][emotion] - number / 5) < 1
    again = split_table(table.sample(frac=1, random_state=1), PATH, config())[1]
    assert {n: set(rows["FileName"]) for n, rows in again.items()} == {
        n: set(rows["FileName"]) for n, rows in parts.items()
    }


def test_dev_from_utterances_is_automatic_only_with_two_speakers():
    for speakers in (3, 4, 5, 10):
        assert fitted(table_of(speakers), PATH, config()).valid_from == "speakers"
    dev = split_table(table_of(10), PATH, config(valid_from="utterances"))[1]["dev"]
    assert dev["SpkrID"].nunique() == 8
    with pytest.raises(LabelError, match=r"^labels\.csv: only one speaker is left .* datarc\.valid_from: utterances"):
        split_table(table_of(2), PATH, config(valid_from="speakers"))
    three = table_of(3).assign(Fold=["fold1"] * 80 + ["fold2"] * 40)
    with pytest.raises(LabelError, match=r"^labels\.csv: only one speaker is left"):
        split_table(three, PATH, config())


def test_a_dev_partition_of_the_table_counts_first(caplog: pytest.LogCaptureFixture):
    table = table_of(3).assign(Split_Set=["Train"] * 40 + ["Development"] * 40 + ["Test"] * 40)
    _, parts = split_table(table, PATH, config(valid_from="utterances"))
    assert set(parts["dev"]["SpkrID"]) == {"s1"}
    assert "valid_from: utterances has no effect, since it has a dev partition of its own" in caplog.text


def test_two_speakers_without_dev(caplog: pytest.LogCaptureFixture):
    _, parts = split_table(table_of(2), PATH, config(valid_ratio=0))
    assert {name: rows["SpkrID"].nunique() for name, rows in parts.items()} == {"train": 1, "dev": 0, "test": 1}
    split_table(table_of(2), PATH, config(valid_ratio=0, valid_from="utterances"))
    assert caplog.messages == ["labels.csv: datarc.valid_from: utterances has no effect, since valid_ratio is 0"]


# --- what a corpus says of it -----------------------------------------------------------------------------------------


def of_speakers(tiny_corpus: TinyCorpus, folder: Path, *speakers: str) -> dict[str, Any]:
    """Return ``datarc`` of a table with some of the speakers and without folds."""
    rows = [row for row in csv.DictReader(tiny_corpus.labels.open()) if row["SpkrID"] in speakers]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'-'.join(speakers)}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["FileName", "EmoClass", "SpkrID", "Gender"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return {"labels": str(path), "root": str(tiny_corpus.root)}


def test_a_corpus_of_two_speakers_says_so(tiny_corpus: TinyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    corpus = load_corpus(config(**of_speakers(tiny_corpus, tmp_path, "s0", "s1")))
    assert corpus.protocol.to_metrics() == {"name": "speaker_disjoint", "valid_from": "utterances", "note": DEV_NOTE}
    assert corpus.shared_speakers == {"dev"}
    assert DEV_NOTE in caplog.text
    datarc: dict[str, Any] = {}
    corpus.keep_fitted(datarc)
    assert datarc == {"num_folds": 2, "valid_from": "utterances"}


def test_recipes_keep_what_stood_in_for_auto(tiny_corpus: TinyCorpus, tmp_path: Path):
    every = of_speakers(tiny_corpus, tmp_path, *(f"s{number}" for number in range(6)))
    corpus = load_corpus(config(**every))
    assert corpus.protocol.to_metrics() == {"name": "speaker_disjoint"}
    for given, kept in (
        ({}, {}),  # as always: no key is 5
        ({"num_folds": "auto"}, {"num_folds": 5}),
        ({"valid_from": "auto"}, {"valid_from": "speakers"}),
    ):
        corpus.keep_fitted(given)
        assert given == kept
    assert load_corpus(config(**every, num_folds=3)).fitted == {"valid_from": "speakers"}


def test_an_undrawn_corpus_keeps_the_usual_number(tiny_corpus: TinyCorpus):
    with_folds = load_corpus(config(labels=str(tiny_corpus.labels), root=str(tiny_corpus.root)))
    assert with_folds.fitted == {"num_folds": 5, "valid_from": "speakers"}


def test_several_corpora_each_get_folds_that_fit(tiny_corpus: TinyCorpus, tmp_path: Path):
    two = of_speakers(tiny_corpus, tmp_path, "s0", "s1")
    four = of_speakers(tiny_corpus, tmp_path, "s2", "s3", "s4", "s5")
    classes = sorted({row["EmoClass"] for row in csv.DictReader(tiny_corpus.labels.open())})
    corpora = {"two": two, "four": four}
    joined = load_corpus(config(labels=None, corpora=corpora, classes=classes, allow_outside=True))
    who = {split: {item.speaker for item in items} for split, items in joined.splits.items()}
    assert len(who["test_two"]) == len(who["test_four"]) == 1
    assert len(who["train"] & who["dev"]) == 1
    assert joined.protocol.note == DEV_NOTE
    assert joined.fitted == {}  # 2 and 4 folds: no number holds for both
    assert len(load_whole(config(labels=None, corpora=corpora, classes=classes)).splits["all"]) == 48
    assert len(list_utterances(config(labels=None, corpora=corpora, extra_tests={"more": two}))) == 64


def test_a_matrix_that_was_run_before_keeps_its_definitions():
    before, now = ({"downstream_expert": {"datarc": {"num_folds": value}}} for value in (5, "auto"))
    assert _with_number_of_folds(now) == before == _with_number_of_folds(before)
    assert now["downstream_expert"]["datarc"]["num_folds"] == "auto"
    assert _with_number_of_folds({"downstream_expert": 3}) == {"downstream_expert": 3}


def test_audit_draws_folds_of_two_speakers(tmp_path: Path):
    table_of(2).to_csv(tmp_path / "labels.csv", index=False)
    listing = read_label_table(tmp_path / "labels.csv", None)
    assert list(listing.folds) == ["fold1", "fold2"]
    table_of(1).to_csv(tmp_path / "labels.csv", index=False)
    assert "1 speaker(s), of two at least" in read_label_table(tmp_path / "labels.csv", None).findings[0].what


# --- corpora's own folds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preparer", [savee, tess])
def test_prepared_folds_are_those_that_training_draws(preparer: Any):
    assert speaker_folds(preparer.FOLDS, len(preparer.FOLDS)) == preparer.FOLDS


def test_ravdess_has_the_groups_of_emobox():
    assert sorted(ravdess.FOLDS) == [f"{actor:02d}" for actor in range(1, 25)]
    assert Counter(ravdess.FOLDS.values()) == dict.fromkeys((f"fold{n}" for n in range(1, 7)), 4)


# --- commands ---------------------------------------------------------------------------------------------------------


def suite(*words: object, code: int = 0) -> None:
    assert s3prl_emotion.cli.main([str(word) for word in words]) == code


def test_a_corpus_of_one_speaker_is_exported_and_trains_saliency(
    tiny_corpus: TinyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    one = of_speakers(tiny_corpus, tmp_path, "s0")
    flags = ("--labels", one["labels"], "--root", one["root"])
    suite("export", "-u", "logmel26", *flags, "-o", tmp_path / "one.npz")
    assert np.load(tmp_path / "one.npz")["features"].shape[0] == 8
    corpus = load_to_train(config(**one))
    assert (corpus.fold, list(corpus.splits), len(corpus.splits["train"])) == ("all", ["train"], 8)
    assert "only one speaker, s0" in caplog.text
    assert "all its utterances are used as the training split" in caplog.text


def test_export_and_extract_take_a_recipe_with_overrides(
    tiny_corpus: TinyCorpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    own = of_speakers(tiny_corpus, tmp_path, "s0", "s1", "s2", "s3")
    recipe = REPOSITORY / "downstream/emotion_corr_attn/config.yaml"
    there = f"config.{DATA}.labels={own['labels']},,config.{DATA}.root={own['root']}"
    classes = sorted({row["EmoClass"] for row in csv.DictReader(tiny_corpus.labels.open())})[:2]
    words = ("export", "-u", "logmel26", "-c", recipe, "-o", tmp_path / "a.npz")
    suite(*words, "--override", f"{there},,config.{DATA}.classes={classes},,config.downstream_expert.layer=0")
    kept = np.load(tmp_path / "a.npz")
    assert sorted(set(kept["classes"])) == classes
    assert len(kept["names"]) == 16
    for flag in ("-o", "--override"):
        more = f",,config.{DATA}.max_duration=0.4,,config.{DATA}.cut_eval=True"
        suite(
            "extract",
            "-u",
            "logmel26",
            "-c",
            recipe,
            flag,
            there + more,
            "--feature_store",
            tmp_path / "S",
            "--dry-run",
        )
    assert "32 utterances" in capfd.readouterr().out
    suite(*words, "--override", "config.x", code=1)
    assert "--override: 'config.x' is not of the form" in capfd.readouterr().err
    suite(*words[:3], "-o", tmp_path / "b.npz", "--override", there, code=1)
    assert "--override: changes a recipe, and none is given" in capfd.readouterr().err
    suite(*words[:3], "-o", tmp_path / "b.npz", code=1)
    assert "--labels is required, or -c RECIPE" in capfd.readouterr().err
    suite(*words, "--override", f"{there},,args.upstraem=x", code=1)
    assert "--override args.upstraem: there is no such argument" in capfd.readouterr().err


def test_training_on_two_speakers_says_so_everywhere(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    two = of_speakers(tiny_corpus, tmp_path, "s0", "s1")
    values = tiny_corpus.overrides(**{f"{DATA}.{key}": value for key, value in two.items()})
    train = ("-m", "train", "-u", "logmel26", "-d", "emotion_corr_attn")
    done = cli(*train, "-p", "run", "-o", values)
    assert f"test: {DEV_NOTE}" in done.out
    assert f"dev: {DEV_NOTE}" in Path("run/log.log").read_text()
    assert json.loads(Path("run/test_fold1_metrics.json").read_text())["protocol"]["note"] == DEV_NOTE
    assert any(warning.startswith(DEV_NOTE) for warning in load_study([Path("run")]).warnings)
    kept = load_checkpoint("run/dev-best.ckpt")["Config"]["downstream_expert"]["datarc"]
    assert (kept["num_folds"], kept["valid_from"]) == (2, "utterances")
    before = Path("run/test_fold1_predictions.csv").read_text()
    cli("-m", "evaluate", "-e", "run/dev-best.ckpt", "-t", "test", "-p", "again")
    again = Path("again/test_fold1_predictions.csv")
    assert [line.split(",")[:3] for line in again.read_text().splitlines()] == [
        line.split(",")[:3] for line in before.splitlines()
    ]


@pytest.mark.skipif(not SAVEE.is_dir(), reason="SAVEE is not here")
@pytest.mark.full
def test_savee_is_exported_and_trained_on_as_it_is(cli: Cli, tmp_path: Path):
    rows = pd.read_csv(SAVEE / "labels.csv").groupby(["SpkrID", "EmoClass"]).head(2)
    rows.to_csv(tmp_path / "labels.csv", index=False)
    suite("export", "-u", "egemaps", "--labels", tmp_path / "labels.csv", "--root", SAVEE / "audio", "-o", "savee.npz")
    assert len(np.load("savee.npz")["names"]) == 56
    there = f"config.{DATA}.labels={tmp_path / 'labels.csv'},,config.{DATA}.root={SAVEE / 'audio'}"
    steps = ",,config.runner.total_steps=4,,config.runner.eval_step=4"
    cli("-m", "train", "-u", "egemaps", "-d", "emotion_corr_attn", "-p", "savee", "-v", "fold4", "-o", there + steps)
    assert json.loads(Path("savee/test_fold4_metrics.json").read_text())["utterances"] == 14
