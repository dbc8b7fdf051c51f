"""Grader shares from columns, from single votes and from the consensus; dropped rows and errors."""

from __future__ import annotations

import gzip
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_emotion.corpora import Needs, Utterance, load_corpus
from s3prl_emotion.corpora.corpus import NO_CONSENSUS
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.recipe import DataSection

NEEDS = Needs(classes=False, dimensions=True, shares=True)
HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Split_Set,neutral,happy,angry"


def corpus_of(folder: Path, lines: Sequence[str], header: str = HEADER, needs: Needs = NEEDS, **datarc: object):
    """Load a table whose audio is there (empty files: nothing decodes them)."""
    folder.mkdir(exist_ok=True)
    labels = folder / "labels.csv"
    labels.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    for line in lines:
        (folder / line.split(",")[0]).touch()
    section = {"root": str(folder), "labels": str(labels), "train_batch_size": 2, "eval_batch_size": 2, **datarc}
    return load_corpus(DataSection.read(section, "datarc"), needs)


def row(name: str, consensus: str, split: str, *shares: float) -> str:
    return f"{name},{consensus},3,3,3,{split}1,{split}," + ",".join(str(share) for share in shares)


LINES = [
    row("a.wav", "neutral", "Train", 1, 0, 0),
    row("b.wav", "happy", "Train", 0.25, 0.75, 0),
    row("c.wav", "angry", "Development", 0.5, 0, 0.5),
    row("d.wav", "happy", "Test1", 0, 1, 0),
]


def by_name(corpus) -> dict[str, Utterance]:
    return {item.name: item for items in corpus.splits.values() for item in items}


def test_shares_come_in_the_order_of_the_classes(tmp_path: Path):
    corpus = corpus_of(tmp_path, LINES, classes=["angry", "neutral", "happy"])
    items = by_name(corpus)
    assert corpus.classes == ("angry", "neutral", "happy")
    assert items["b.wav"].shares == (0, 0.25, 0.75)
    assert [items[name].label for name in ("a.wav", "b.wav", "c.wav")] == [1, 2, 0]


def test_classes_are_the_tables_columns_where_none_are_named(tmp_path: Path):
    assert corpus_of(tmp_path, LINES).classes == ("neutral", "happy", "angry")


def test_shares_over_fewer_classes_sum_to_one_and_rows_without_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        corpus = corpus_of(tmp_path, [*LINES, row("e.wav", "angry", "Train", 0, 0, 1)], classes=["neutral", "happy"])
    items = by_name(corpus)
    assert "e.wav" not in items
    assert "1 rows of other classes are left out" in caplog.text
    assert items["c.wav"].shares == (1, 0)
    assert items["c.wav"].label == NO_CONSENSUS  # its consensus is a class that is not learnt


def test_merged_classes_add_their_shares(tmp_path: Path):
    items = by_name(corpus_of(tmp_path, LINES, merge={"angry": "neutral"}))
    assert items["c.wav"].shares == (1, 0)
    assert items["c.wav"].label == 0
    assert items["b.wav"].shares == (0.25, 0.75)


def test_without_a_consensus_column_the_largest_share_is_the_consensus_unless_tied(tmp_path: Path):
    header = HEADER.replace("EmoClass,", "")
    lines = [",".join(line.split(",")[:1] + line.split(",")[2:]) for line in LINES]
    items = by_name(corpus_of(tmp_path, lines, header))
    assert items["b.wav"].label == 1
    assert items["c.wav"].label == NO_CONSENSUS


def test_the_consensus_can_be_learnt_without_shares(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [*LINES, row("e.wav", "no agreement", "Train", 1, 0, 0), row("f.wav", "sad", "Train", 1, 0, 0)]
    lines = [",".join(line.split(",")[:7]) for line in rows]
    header = HEADER.removesuffix(",neutral,happy,angry")
    options = {"distribution": {"source": "consensus"}, "classes": ["neutral", "happy", "angry"]}
    with caplog.at_level(logging.INFO):
        items = by_name(corpus_of(tmp_path, lines, header, **options))
    assert all(item.shares is None for item in items.values())
    assert items["e.wav"].label == NO_CONSENSUS  # kept for its dimensions
    assert "f.wav" not in items
    assert "1 rows of other classes are left out" in caplog.text
    assert items["b.wav"].label == 1


def test_shares_are_known_where_the_consensus_is_learnt(tmp_path: Path):
    items = by_name(corpus_of(tmp_path, LINES, distribution={"source": "consensus"}))
    assert items["b.wav"].shares == (0.25, 0.75, 0)


def votes_file(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "votes.csv").write_text(text, encoding="utf-8")
    return str(folder / "votes.csv")


def test_votes_are_counted_and_ratings_averaged(tmp_path: Path):
    votes = votes_file(
        tmp_path,
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom\n"
        "a.wav,neutral,1,2,3\na.wav,neutral,3,2,3\na.wav,happy,5,2,3\na.wav,happy,7,2,7\n"
        "b.wav,angry,1,1,1\nc.wav,angry,1,1,1\nd.wav,neutral,1,1,1\n",
    )
    corpus = corpus_of(tmp_path, LINES, distribution={"source": "votes", "votes": votes})
    item = by_name(corpus)["a.wav"]
    assert dict(zip(corpus.classes, item.shares, strict=True)) == {"angry": 0, "happy": 0.5, "neutral": 0.5}
    assert item.dimensions == (4, 2, 4)
    np.testing.assert_allclose(item.spreads, [np.std([1, 3, 5, 7]), 0, np.std([3, 3, 3, 7])])
    assert by_name(corpus)["b.wav"].dimensions == (1, 1, 1)


def test_votes_in_msp_letters_and_words(tmp_path: Path):
    text = "FileName,EmoClass_Major\na.wav,N\na.wav,H\nb.wav,H\nc.wav,A\nd.wav,N\n"
    corpus = corpus_of(tmp_path, LINES, distribution={"source": "votes", "votes": votes_file(tmp_path, text)})
    assert corpus.classes == ("angry", "happy", "neutral")
    assert by_name(corpus)["a.wav"].shares == (0, 0.5, 0.5)


def test_votes_on_what_noisy_copies_were_made_from(tmp_path: Path):
    votes = votes_file(tmp_path, "FileName,EmoClass\na.wav,happy\nb.wav,angry\nc.wav,angry\nd.wav,happy\nd.wav,angry\n")
    copies = tmp_path / "noisy"
    copies.mkdir()
    (copies / "test_5dB.csv").write_text(f"SourceFile,{HEADER}\nd.wav,{LINES[3].replace('d.wav', 'test_5dB/d.wav')}\n")
    (copies / "test_5dB").mkdir()
    (copies / "test_5dB" / "d.wav").touch()
    corpus = corpus_of(tmp_path, LINES, distribution={"source": "votes", "votes": votes}, degraded=str(copies))
    (copy,) = corpus.splits["test_5dB"]
    assert copy.name == "test_5dB/d.wav"
    assert dict(zip(corpus.classes, copy.shares, strict=True)) == {"angry": 0.5, "happy": 0.5}


@settings(derandomize=True, deadline=None, max_examples=12)
@given(st.lists(st.lists(st.sampled_from(["neutral", "happy", "sad"]), min_size=1, max_size=8), min_size=4, max_size=4))
def test_votes_equal_a_count_by_hand(tmp_path_factory: pytest.TempPathFactory, heard: list[list[str]]):
    folder = tmp_path_factory.mktemp("votes")
    lines = [f"{name}.wav,{word}" for name, words in zip("abcd", heard, strict=True) for word in words]
    votes = votes_file(folder, "\n".join(["FileName,EmoClass", *lines]) + "\n")
    options = {"distribution": {"source": "votes", "votes": votes}}
    classes = sorted({word for words in heard for word in words})
    if len(classes) < 2:
        with pytest.raises(LabelError, match="at least two classes"):
            corpus_of(folder, LINES, **options)
        return
    items = by_name(corpus_of(folder, LINES, **options))
    for name, words in zip("abcd", heard, strict=True):
        np.testing.assert_allclose(items[f"{name}.wav"].shares, [words.count(label) / len(words) for label in classes])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "FileName,EmoClass\na.wav,neutral\nb.wav,happy\nc.wav,angry\n",
            r"votes\.csv: no votes on d\.wav, which .*labels",
        ),
        ("FileName,Emotion\na.wav,neutral\n", r"need the columns FileName and EmoClass or EmoClass_Major"),
        ("FileName,EmoClass\na.wav,\n", r"a vote has no FileName or no EmoClass"),
    ],
)
def test_bad_votes_are_refused(tmp_path: Path, text: str, match: str):
    with pytest.raises(LabelError, match=match):
        corpus_of(tmp_path, LINES, distribution={"source": "votes", "votes": votes_file(tmp_path, text)})


def test_missing_votes_are_refused(tmp_path: Path):
    with pytest.raises(LabelError, match=r"no such file of votes; name it in datarc\.distribution\.votes"):
        corpus_of(tmp_path, LINES, distribution={"source": "votes", "votes": str(tmp_path / "none.csv")})


def test_table_without_shares_is_refused(tmp_path: Path):
    lines = [",".join(line.split(",")[:7]) for line in LINES]
    with pytest.raises(LabelError, match=r"labels\.csv: no columns of grader shares .* \{source: consensus\}"):
        corpus_of(tmp_path, lines, HEADER.removesuffix(",neutral,happy,angry"))


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (["neutral", "hapy"], r"no shares of class 'hapy' of datarc\.classes; nearest: happy"),
        (["neutral"], r"name at least two classes"),
        (["neutral", "neutral"], r"name at least two classes, each once"),
    ],
)
def test_bad_classes_are_refused(tmp_path: Path, classes: list[str], match: str):
    with pytest.raises(LabelError, match=match):
        corpus_of(tmp_path, LINES, classes=classes)


def test_rows_that_do_not_sum_to_one_are_refused(tmp_path: Path):
    with pytest.raises(LabelError, match=r"line 6: the grader shares .* sum to 1, but sum to 0\.9"):
        corpus_of(tmp_path, [*LINES, row("e.wav", "angry", "Train", 0.4, 0, 0.5)])


def test_unknown_source_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"datarc\.distribution\.source"):
        corpus_of(tmp_path, LINES, distribution={"source": "voters"})


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs data that is not part of the project")
def test_iemocap_grades(tmp_path: Path):
    table = tmp_path / "labels.csv"
    with gzip.open(SHARED_DATA / "iemocap_labels" / "labels_consensus_1.csv.gz") as packed, table.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    lines = table.read_text().splitlines()
    for line in lines[1:]:
        (tmp_path / line.split(",")[0]).touch()
    data = {"root": str(tmp_path), "labels": str(table), "train_batch_size": 2, "eval_batch_size": 2}
    corpus = load_corpus(DataSection.read(data, "datarc"), NEEDS)
    items = by_name(corpus)
    assert len(items) == len(lines) - 1 == 10_039
    assert len(corpus.classes) == 9
    np.testing.assert_allclose(np.array([item.shares for item in items.values()]).sum(axis=1), 1.0, atol=1e-9)
    numbers = {name: number for number, name in enumerate(corpus.classes)}
    labels = [item.label for item in items.values()]
    assert (labels.count(numbers["angry"]), labels.count(numbers["sad"])) == (1124, 1075)
    assert labels.count(NO_CONSENSUS) == 2542
