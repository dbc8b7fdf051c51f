"""list_utterances returns every utterance of a corpus, of any class and split."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TinyCorpus

from s3prl_emotion.corpora import list_utterances
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection


def listed(labels: Path | str, root: Path | str | None) -> list[str]:
    data = {"labels": str(labels), "root": None if root is None else str(root)}
    sizes = {"train_batch_size": 1, "eval_batch_size": 1}
    return [item.name for item in list_utterances(DataSection.read(data | sizes, "datarc"))]


def test_a_table_without_splits_speakers_and_classes_is_enough(tmp_path: Path):
    for name in ("b.wav", "a.wav"):
        (tmp_path / name).touch()
    labels = tmp_path / "labels.csv"
    labels.write_text("FileName\nb.wav\na.wav\n")
    assert listed(labels, tmp_path) == ["a.wav", "b.wav"]


def test_rows_without_agreement_are_listed(tmp_path: Path):
    for name in ("b.wav", "a.wav"):
        (tmp_path / name).touch()
    labels = tmp_path / "labels.csv"
    labels.write_text("FileName,EmoClass,Split_Set\nb.wav,X,Test1\na.wav,N,Test1\n")
    assert listed(labels, tmp_path) == ["a.wav", "b.wav"]


def test_split_lists(superb_corpus: TinyCorpus):
    names = listed(superb_corpus.labels, superb_corpus.root)
    assert len(names) == len(set(names)) == 48
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("table", "error", "match"),
    [
        ("FileName\na.wav\na.wav\n", LabelError, r"line 3: a\.wav is listed twice"),
        ("FileName\nnone.wav\n", AudioError, r"none\.wav: no such audio file, though .*labels\.csv lists it"),
        ("File\na.wav\n", LabelError, r"no column FileName; nearest: File"),
        ("FileName\n", LabelError, r"the table has no rows"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, table: str, error: type[Exception], match: str):
    (tmp_path / "a.wav").touch()
    labels = tmp_path / "labels.csv"
    labels.write_text(table)
    with pytest.raises(error, match=match):
        listed(labels, tmp_path)
