"""Protocols: folds drawn by utterance are stratified, the same everywhere and for every head; each protocol is kept."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from s3prl_emotion.corpora import load_corpus, protocol
from s3prl_emotion.corpora.corpus import Corpus, Needs
from s3prl_emotion.corpora.folds import split_table
from s3prl_emotion.corpora.seen import TrainingData, overlap_of
from s3prl_emotion.corpora.several import read_corpora
from s3prl_emotion.corpora.superb import read_corpus as read_superb
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.errors import CheckpointError, LabelError
from s3prl_emotion.recipe import DataSection

PATH = Path("labels.csv")
CLASSES = ("ang", "hap", "neu", "sad")
FROZEN = "ce28530f30d1f235"  # of who is where in five folds of `table()`, as drawn in November 2026


def data(**values: Any) -> DataSection:
    defaults = {"labels": "labels.csv", "train_batch_size": 2, "eval_batch_size": 2, "protocol": "random"}
    return DataSection(**{**defaults, **values})


def table(utterances: int = 203, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = {
        "FileName": [f"a/u{n:04d}.wav" for n in range(utterances)],
        "EmoClass": rng.choice(CLASSES, size=utterances, p=(0.1, 0.2, 0.4, 0.3)),
        "SpkrID": [f"s{n % 4}" for n in range(utterances)],
        **{name: rng.uniform(1, 5, utterances).round(2) for name in ("EmoAct", "EmoVal", "EmoDom")},
    }
    return pd.DataFrame(rows | columns)


def where(rows: pd.DataFrame, **values: Any) -> dict[str, tuple[str, ...]]:
    """The split of every utterance in each of the folds."""
    found: dict[str, list[str]] = {}
    for number in range(1, values.get("num_folds", 5) + 1):
        _, parts = split_table(rows, PATH, data(test_fold=f"fold{number}", **values))
        for name, part in parts.items():
            for utterance in part["FileName"]:
                found.setdefault(utterance, []).append(name)
    return {name: tuple(splits) for name, splits in found.items()}


@pytest.mark.parametrize("folds", [2, 5])
def test_each_utterance_is_tested_once_and_classes_are_of_equal_number_in_all_folds(folds: int):
    rows = table(Fold="fold1", Split_Set="Train")  # neither counts
    found = where(rows, num_folds=folds)
    assert found.keys() == set(rows["FileName"])
    assert all(splits.count("test") == 1 for splits in found.values())
    classes = dict(zip(rows["FileName"], rows["EmoClass"], strict=True))
    for group in ([*CLASSES], *([name] for name in CLASSES)):
        for split, slack in (("test", 1), ("dev", 2 * len(CLASSES))):
            sizes = [
                sum(splits[fold] == split for name, splits in found.items() if classes[name] in group)
                for fold in range(folds)
            ]
            assert max(sizes) - min(sizes) <= slack
            assert min(sizes) > 0
    shares = [sum(splits[fold] == "dev" for splits in found.values()) / len(found) for fold in range(folds)]
    assert shares == pytest.approx([0.2 * (1 - 1 / folds)] * folds, abs=0.03)
    speakers = dict(zip(rows["FileName"], rows["SpkrID"], strict=True))
    assert all(
        len({speakers[name] for name, own in found.items() if own[0] == split}) == 4 for split in ("train", "test")
    )


def test_folds_are_those_of_every_machine_whatever_the_order_of_rows():
    rows = table()
    found = where(rows)
    digest = hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()[:16]
    assert digest == FROZEN
    assert where(rows.iloc[::-1]) == found
    assert where(rows.drop(columns="SpkrID")) == found  # nobody's speaker decides
    assert where(rows, fold_seed=1) != found


def write(folder: Path, rows: pd.DataFrame) -> Path:
    for name in rows["FileName"]:
        (folder / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "audio" / name).touch()
    rows.to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def places(corpus: Corpus) -> dict[str, str]:
    return {item.name: split for split in ("train", "dev", "test") for item in corpus.splits[split]}


def test_heads_that_leave_other_rows_out_share_their_folds(tmp_path: Path):
    rows = table(80)
    path, audio = write(tmp_path, rows), tmp_path / "audio"
    merge = {"ang": "high", "hap": "high", "sad": "low", "neu": "low"}
    two = places(read_corpus(path, audio, data(labels=str(path), classes=["ang", "sad"])))
    merged = places(read_corpus(path, audio, data(labels=str(path), classes=["low", "high"], merge=merge)))
    rated = places(read_corpus(path, audio, data(labels=str(path)), Needs(classes=False, dimensions=True)))
    assert two.keys() == set(rows["FileName"][rows["EmoClass"].isin(["ang", "sad"])])
    assert merged == rated
    assert two == {name: rated[name] for name in two}


def test_corpus_knows_its_protocol_and_that_its_splits_share_speakers(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write(tmp_path, table(80))
    found = [read_corpus(path, tmp_path / "audio", data(labels=str(path), protocol=name, num_folds=2))
             for name in ("random", "speaker_disjoint")]  # fmt: skip
    shared, disjoint = found
    assert shared.protocol.to_metrics() == {"name": "random", "folds": 2, "fold_seed": 0, "note": protocol.NOTE}
    assert disjoint.protocol.to_metrics() == {"name": "speaker_disjoint"}
    caplog.clear()
    load_corpus(data(labels=str(path), root=str(tmp_path / "audio"), num_folds=2))
    assert caplog.messages == [f"{path}: {protocol.NOTE}"]
    seen = TrainingData(shared, "train").seen({})
    assert not overlap_of(seen, shared, "test").is_seen  # its speakers are shared on purpose, its utterances are not
    assert overlap_of(seen, disjoint, "test").is_seen


def test_several_corpora_are_each_drawn_as_alone(tmp_path: Path):
    paths = [write(tmp_path / name, table(60 + 20 * turn)) for turn, name in enumerate("ab")]
    entries = {path.parent.name: {"labels": str(path), "root": str(path.parent / "audio")} for path in paths}
    config = DataSection.read(
        {"corpora": entries, "classes": list(CLASSES), "protocol": "random", "test_fold": "fold3",
         "train_batch_size": 2, "eval_batch_size": 2}, "datarc",
    )  # fmt: skip
    joined = read_corpora(config, Needs())
    alone = {
        f"{path.parent.name}/{name}": split
        for path in paths
        for name, split in places(
            read_corpus(path, path.parent / "audio", data(labels=str(path), test_fold="fold3"))
        ).items()
    }
    assert places(joined) == alone
    assert joined.protocol.is_random
    assert set(joined.splits) == joined.shared_speakers


def superb_lists(folder: Path) -> Path:
    """Two sessions of lists, each of which tests its own speakers."""
    names = {n: [f"Session{n}/Ses0{n}F_x_{who}{i:03d}.wav" for who in "FM" for i in range(10)] for n in (1, 2)}
    labels = {"ang": 0, "hap": 1, "neu": 2, "sad": 3}
    for n in (1, 2):
        session = folder / f"Session{n}"
        session.mkdir(parents=True)
        for kind, own in (("train", names[3 - n]), ("test", names[n])):
            entries = [
                {"path": name, "label": CLASSES[i % 4], "speaker": Path(name).stem[:6]} for i, name in enumerate(own)
            ]
            (session / f"{kind}_meta_data.json").write_text(json.dumps({"labels": labels, "meta_data": entries}))
    return folder


def test_superbs_lists_have_their_own_protocol_or_are_drawn_together(tmp_path: Path):
    folder = superb_lists(tmp_path / "meta_data")
    for name in ("speaker_disjoint", "superb"):
        own = read_superb(folder, tmp_path, data(labels=str(folder), protocol=name))
        assert own.protocol.to_metrics() == {"name": "superb"}
        assert len(own.splits["test"]) == 20
    drawn = [read_superb(folder, tmp_path, data(labels=str(folder), test_fold=f"fold{n}")) for n in range(1, 6)]
    assert sorted(item.name for corpus in drawn for item in corpus.splits["test"]) == sorted(places(drawn[0]))
    assert len(places(drawn[0])) == 40
    assert all(Counter(item.label for item in corpus.splits["test"]) == dict.fromkeys(range(4), 2) for corpus in drawn)
    with pytest.raises(LabelError, match="no fold 'fold6'"):
        read_superb(folder, tmp_path, data(labels=str(folder), test_fold="fold6"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"protocol": "superb"}, r"^labels\.csv: datarc\.protocol superb needs SUPERB's own split lists"),
        ({"num_folds": "speakers"}, r"^datarc\.num_folds: protocol random draws utterances .* got speakers; give"),
        ({"num_folds": 1}, r"^datarc\.num_folds: protocol random draws utterances .* got 1; give"),
        ({"num_folds": 300}, r"^datarc\.num_folds: 300 folds cannot be drawn from 203 utterances; ask for fewer$"),
        ({"test_fold": "fold7"}, r"^labels\.csv: no fold 'fold7' \(datarc\.test_fold\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(LabelError, match=message):
        split_table(table(), PATH, data(**values))


def test_a_class_smaller_than_the_folds_is_named(caplog: pytest.LogCaptureFixture):
    rows = table(80)
    rows.loc[:2, "EmoClass"] = "fear"
    split_table(rows, PATH, data())
    assert caplog.messages == ["labels.csv: classes with fewer utterances than folds (datarc.num_folds): fear 3"]


def recipe(name: str | None) -> dict[str, Any]:
    return {"downstream_expert": {"datarc": {} if name is None else {"protocol": name}}}


def test_a_checkpoint_is_used_under_its_own_protocol_only():
    for theirs, ours in ((None, "speaker_disjoint"), ("random", "random"), ("superb", None)):
        protocol.check_same("a.ckpt", recipe(theirs), recipe(ours))
    with pytest.raises(
        CheckpointError, match=r"^a\.ckpt: was trained with datarc\.protocol random, so it is speaker-dep"
    ):
        protocol.check_same("a.ckpt", recipe("random"), recipe(None), may_become_random=True)
    with pytest.raises(CheckpointError, match=r"^a\.ckpt: was not trained with datarc\.protocol random"):
        protocol.check_same("a.ckpt", recipe(None), recipe("random"))
    protocol.check_same("a.ckpt", recipe(None), recipe("random"), may_become_random=True)
