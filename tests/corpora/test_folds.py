"""Folds that are drawn for a table without any: by speaker, of equal size, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import FOLDERS, SHARED_DATA, SOURCE
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_emotion.corpora.folds import split_table
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection

EMODB = SHARED_DATA / "emodb" / "labels.csv"
PATH = Path("labels.csv")
CLASSES = ("ang", "hap", "neu", "sad")
FROZEN = [{"s4", "s6"}, {"s0", "s5"}, {"s1", "s9"}, {"s2", "s7"}, {"s3", "s8"}]  # tested in fold1, fold2, …
FROZEN_DEV = {"s0", "s1"}  # of fold1

Parts = dict[str, pd.DataFrame]


def config(**values: Any) -> DataSection:
    return DataSection(**{"labels": "labels.csv", "train_batch_size": 2, "eval_batch_size": 2, **values})


def table_of(speakers: int = 10, utterances: int = 400, seed: int = 0) -> pd.DataFrame:
    """Speakers of uneven size and classes of uneven frequency, seeded."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.6, 1.4, speakers)
    who = rng.choice(speakers, size=utterances, p=sizes / sizes.sum())
    what = rng.choice(CLASSES, size=utterances, p=(0.1, 0.2, 0.4, 0.3))
    return pd.DataFrame(
        {"FileName": [f"u{n:04d}.wav" for n in range(utterances)], "EmoClass": what, "SpkrID": [f"s{n}" for n in who]}
    )


def parts_of(table: pd.DataFrame, **values: Any) -> Parts:
    return split_table(table, PATH, config(**values))[1]


def names(parts: Parts) -> dict[str, list[str]]:
    return {split: sorted(rows["FileName"]) for split, rows in parts.items()}


def assert_sound(parts: Parts, table: pd.DataFrame) -> None:
    """Every utterance in exactly one of train, dev and test, every speaker too, none of them empty."""
    assert list(parts) == ["train", "dev", "test"]
    assert sorted(name for rows in parts.values() for name in rows["FileName"]) == sorted(table["FileName"])
    speakers = [set(rows["SpkrID"]) for rows in parts.values()]
    assert all(speakers)
    assert sum(len(group) for group in speakers) == len(set.union(*speakers))


def digest(table: pd.DataFrame, **values: Any) -> str:
    """Hash of who is where in all folds."""
    lines = [f"{fold} {names(parts_of(table, test_fold=f'fold{fold}', **values))}" for fold in range(1, 6)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("folds", [2, 3, 5, 10, "speakers"])
def test_speakers_are_in_one_split_and_every_utterance_is_tested_once(folds: int | str):
    table = table_of()
    tested: Counter[str] = Counter()
    for number in range(1, (10 if folds == "speakers" else int(folds)) + 1):
        parts = parts_of(table, num_folds=folds, test_fold=f"fold{number}")
        assert_sound(parts, table)
        tested.update(parts["test"]["FileName"])
    assert tested == Counter(table["FileName"])


@pytest.mark.parametrize("protocol", ["speaker_disjoint", "random"])
def test_valid_ratio_0_trains_on_all_that_is_not_tested(protocol: str):
    table = table_of(speakers=4, utterances=80)
    parts = parts_of(table, num_folds=2, valid_ratio=0, protocol=protocol)
    with_dev = parts_of(table, num_folds=2, protocol=protocol)
    assert parts["dev"].empty
    assert names(parts)["test"] == names(with_dev)["test"]
    assert sorted(names(with_dev)["train"] + names(with_dev)["dev"]) == names(parts)["train"]


def test_a_dev_partition_stays_where_valid_ratio_is_0(caplog: pytest.LogCaptureFixture):
    sets = {"s0": "Test1", "s1": "Development"}
    table = table_of(speakers=4, utterances=40).assign(Split_Set=lambda rows: rows["SpkrID"].map(sets).fillna("Train"))
    assert set(parts_of(table, valid_ratio=0)["dev"]["SpkrID"]) == {"s1"}
    assert "valid_ratio: 0 has no effect, since Split_Set has a dev partition" in caplog.text
    parts = parts_of(table.replace({"Split_Set": {"Development": "Train"}}), valid_ratio=0)
    assert parts["dev"].empty
    assert set(parts["train"]["SpkrID"]) == {"s1", "s2", "s3"}


def test_order_of_rows_does_not_matter():
    table = table_of()
    shuffled = table.sample(frac=1, random_state=7)
    assert digest(shuffled) == digest(table)
    assert digest(shuffled.reset_index(drop=True)) == digest(table)


def test_speakers_that_sort_alike_do_not_depend_on_the_order_of_rows():
    table = table_of()
    table["SpkrID"] = table["SpkrID"].map({f"s{n}": f"{'0' * (n % 2)}{n // 2}" for n in range(10)})  # 0, 00, 1, 01, …
    backwards = table.iloc[::-1].reset_index(drop=True)
    assert digest(backwards, num_folds="speakers") == digest(table, num_folds="speakers")


@pytest.mark.full
def test_a_fresh_process_draws_the_same(tmp_path: Path):
    table = table_of()
    table.to_csv(tmp_path / "labels.csv", index=False)
    code = "import sys, test_folds as t, pandas; print(t.digest(pandas.read_csv(sys.argv[1], dtype=str)))"
    paths = os.pathsep.join([SOURCE, *FOLDERS])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "labels.csv")],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "4242"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == digest(table)


def test_folds_are_these_on_every_machine():
    """Drawn once and written down: a library that draws otherwise would change everybody's results."""
    rows = [(f"{n:03d}.wav", CLASSES[n * n % 13 % 4], f"s{n * n // 7 % 10}") for n in range(300)]
    table = pd.DataFrame(rows, columns=["FileName", "EmoClass", "SpkrID"])
    tested = [set(parts_of(table, test_fold=f"fold{n}")["test"]["SpkrID"]) for n in range(1, 6)]
    assert tested == FROZEN
    assert set(parts_of(table)["dev"]["SpkrID"]) == FROZEN_DEV


def test_global_generators_are_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    parts_of(table_of())
    assert (np.random.get_state()[1] == before).all()


def where(table: pd.DataFrame, **values: Any) -> dict[str, list[tuple[str, str]]]:
    """Speakers with the splits that they are in, fold by fold."""
    placed: dict[str, list[tuple[str, str]]] = {}
    for number in range(1, values["num_folds"] + 1):
        for split, rows in parts_of(table, test_fold=f"fold{number}", **values).items():
            for speaker in rows["SpkrID"].unique():
                placed.setdefault(speaker, []).append((f"fold{number}", split))
    return placed


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100))
def test_fewer_rows_move_nobody_while_the_speakers_stay(seed: int):
    rng = np.random.default_rng(seed)
    speakers = int(rng.integers(4, 16))
    values = {"num_folds": int(rng.integers(2, speakers - 1)), "valid_ratio": float(rng.uniform(0.05, 0.6))}
    table = table_of(speakers, utterances=int(rng.integers(60, 200)), seed=seed)
    first = table.groupby("SpkrID").head(1).index  # each speaker keeps a row
    gone = rng.choice(table.index.difference(first), size=int(rng.integers(1, 21)), replace=False)
    before, after = where(table, **values), where(table.drop(index=gone), **values)
    assert before == after
    tested = Counter(fold for places in before.values() for fold, split in places if split == "test")
    assert len(tested) == values["num_folds"]
    assert max(tested.values()) - min(tested.values()) <= 1


def test_labels_move_nobody():
    table = table_of()
    relabelled = table.assign(EmoClass=table["EmoClass"].to_numpy()[::-1])
    assert where(table, num_folds=5) == where(relabelled, num_folds=5)


def test_another_fold_seed_draws_others():
    drawn = [where(table_of(), num_folds=5, fold_seed=seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("ratio", "share"), [(0.1, 0.1), (0.2, 0.2), (0.25, 0.25), (0.5, 0.5)])
def test_valid_ratio_is_about_the_share_of_dev(ratio: float, share: float):
    parts = parts_of(table_of(speakers=40, utterances=2000), valid_ratio=ratio)
    assert len(parts["dev"]) / (len(parts["dev"]) + len(parts["train"])) == pytest.approx(share, abs=0.03)


def test_fewer_speakers_than_valid_ratio_asks_for():
    parts = parts_of(table_of(speakers=3), num_folds=3, valid_ratio=0.05)
    assert [rows["SpkrID"].nunique() for rows in parts.values()] == [1, 1, 1]


def test_leave_one_speaker_out_in_natural_order():
    table = table_of(speakers=11)
    for number in (1, 2, 3, 11):
        parts = parts_of(table, num_folds="speakers", test_fold=f"fold{number}")
        assert set(parts["test"]["SpkrID"]) == {f"s{number - 1}"}
    with pytest.raises(LabelError, match=r"^labels\.csv: no fold 'fold12' \(datarc\.test_fold\); nearest: [^\n]*$"):
        parts_of(table, num_folds="speakers", test_fold="fold12")


@pytest.mark.parametrize("folds", [-1, 0, 1, 11, 1000])
def test_number_of_folds_out_of_range_is_refused(folds: int):
    with pytest.raises(LabelError, match=rf"^labels\.csv: datarc\.num_folds must lie in 2\.\.10 .*, got {folds}$"):
        parts_of(table_of(), num_folds=folds)


@pytest.mark.parametrize(("speakers", "folds"), [(1, 5), (1, 2), (1, "speakers"), (2, 3), (2, 5)])
def test_too_few_speakers_are_refused(speakers: int, folds: int | str):
    with pytest.raises(LabelError, match=r"^labels\.csv: (only one speaker|datarc\.num_folds must lie)[^\n]*$"):
        parts_of(table_of(speakers=speakers), num_folds=folds)


def test_table_without_speakers_is_refused():
    with pytest.raises(LabelError, match=r"^labels\.csv: no column SpkrID, without which [^\n]*$"):
        parts_of(table_of().drop(columns="SpkrID"))


def test_speaker_that_is_empty_is_refused():
    table = table_of()
    table.loc[5, "SpkrID"] = None
    with pytest.raises(LabelError, match=r"^labels\.csv: SpkrID is empty for u0005\.wav$"):
        parts_of(table)


def test_fewer_utterances_of_every_class_than_folds():
    rows = [(f"s{speaker}.wav", name, f"s{speaker}") for speaker, name in enumerate("aabba")]
    table = pd.DataFrame(rows, columns=["FileName", "EmoClass", "SpkrID"])
    for number in range(1, 6):
        assert_sound(parts_of(table, test_fold=f"fold{number}", valid_ratio=0.2), table)


tables = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.integers(min_value=0, max_value=7)), min_size=3, max_size=40
).filter(lambda rows: len({speaker for _, speaker in rows}) >= 3)


@settings(max_examples=75, deadline=None, derandomize=True)
@given(rows=tables, data=st.data())
def test_splits_of_any_table_are_sound(rows: list[tuple[str, int]], data: st.DataObject):
    table = pd.DataFrame(rows, columns=["EmoClass", "SpkrID"]).astype(str)
    table["FileName"] = [f"{number}.wav" for number in range(len(table))]
    known = table["SpkrID"].nunique()
    folds = data.draw(st.one_of(st.just("speakers"), st.integers(min_value=3, max_value=known)))
    number = data.draw(st.integers(min_value=1, max_value=known if folds == "speakers" else int(folds)))
    ratio = data.draw(st.floats(min_value=0.01, max_value=0.99))
    assert_sound(parts_of(table, num_folds=folds, test_fold=f"fold{number}", valid_ratio=ratio), table)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=tables, data=st.data())
def test_given_folds_are_sound_or_refused(rows: list[tuple[str, int]], data: st.DataObject):
    table = pd.DataFrame(rows, columns=["EmoClass", "SpkrID"]).astype(str)
    table["FileName"] = [f"{number}.wav" for number in range(len(table))]
    table["Fold"] = [data.draw(st.sampled_from(["fold1", "fold2", "fold3"])) for _ in rows]
    try:
        assert_sound(parts_of(table), table)
        refusal = ""
    except LabelError as error:
        refusal = str(error)
    assert not refusal or "speaker" in refusal


@pytest.mark.skipif(not EMODB.is_file(), reason="EMO-DB's labels are not here")
def test_emodb_in_five_folds():
    tested: Counter[str] = Counter()
    for number in range(1, 6):
        corpus = read_corpus(EMODB, EMODB.parent, config(test_fold=f"fold{number}"))
        assert sum(len(utterances) for utterances in corpus.splits.values()) == 535
        assert {utterance.label for utterance in corpus.split("test")} == set(range(7))
        assert {utterance.label for utterance in corpus.split("train")} == set(range(7))
        speakers = [{utterance.speaker for utterance in corpus.split(name)} for name in ("train", "dev", "test")]
        assert [len(group) for group in speakers] == [6, 2, 2]
        assert len(set.union(*speakers)) == 10
        tested.update(utterance.name for utterance in corpus.split("test"))
    assert len(tested) == 535
    assert set(tested.values()) == {1}
