"""Training warns in one line of classes of which the training split has no utterance."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import TinyCorpus

from s3prl_emotion import host

ABSENT = "holds no utterance of"


def build(head: str, folder: Path, labels: Path, mode: str = "train", **datarc: Any) -> None:
    """Build a head as a run in ``mode`` does."""
    host.register()
    section = {"labels": str(labels), "root": str(folder), "train_batch_size": 2, "eval_batch_size": 2, **datarc}
    runner = {"train_dataloader": "train", "eval_dataloaders": ["dev", "test"]}
    more = {"upstream": "fbank_no_cmvn", "mode": mode, "evaluate_split": "test", "runner": runner, "seed": 0}
    host.expert_class(head)(8, 160, {"datarc": section}, str(folder), **more)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING)

    def lines(*given: Any, **more: Any) -> list[str]:
        caplog.clear()
        build(*given, **more)
        return [record.getMessage() for record in caplog.records if ABSENT in record.getMessage()]

    return lines


@pytest.fixture
def lopsided(tiny_corpus: TinyCorpus, tmp_path: Path) -> Path:
    """A table of the tones with ``ang`` and ``hap`` in the first fold alone."""
    with tiny_corpus.labels.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Fold"] == "fold1" or row["EmoClass"] in ("neu", "sad")]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "labels.csv"


def test_training_names_them(said: Any, lopsided: Path, tiny_corpus: TinyCorpus):
    (line,) = said("emotion_corr_attn", tiny_corpus.root, lopsided, test_fold="fold1")
    assert line.startswith("train holds no utterance of ang, hap, which cannot be learnt; change the split (datarc.")
    assert said("emotion_corr_attn", tiny_corpus.root, lopsided, test_fold="fold2") == []
    assert said("emotion_corr_attn", tiny_corpus.root, lopsided, "evaluate", test_fold="fold1") == []
    assert said("emotion_corr_attn", tiny_corpus.root, tiny_corpus.labels) == []


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (lambda row: row["EmoClass"] != "ang", ["ang (speaker s4)"]),
        (lambda row: row["EmoClass"] not in ("ang", "hap"), ["ang (speaker s4)", "hap (speaker s4)"]),
        (lambda row: False, ["all classes (speaker s4)"]),
        (lambda row: True, []),
    ],
)
def test_training_names_classes_of_one_speaker(
    tiny_corpus: TinyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture, others: Any, words: list[str]
):
    with tiny_corpus.labels.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["SpkrID"] not in ("s3", "s5") or others(row)]
    partition = {"s0": "Test", "s1": "Test", "s2": "Dev"}
    rows = [{**row, "Split_Set": partition.get(row["SpkrID"], "Train")} for row in rows]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "Fold"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    build("emotion_corr_attn", tiny_corpus.root, tmp_path / "labels.csv")
    said = [record.getMessage() for record in caplog.records if "only one speaker" in record.getMessage()]
    assert len(said) == bool(words)
    for line in said:
        assert line.startswith(f"train holds only one speaker of {', '.join(words)}, whom the head may learn in place")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothing_is_no_utterance(said: Any, lopsided: Path, tiny_corpus: TinyCorpus, smoothing: float):
    consensus = {"source": "consensus", "smoothing": smoothing}
    more = {"test_fold": "fold1", "distribution": consensus, "classes": ["ang", "hap", "neu", "sad"]}
    with lopsided.open() as file:
        table = file.read().splitlines()
    grades = ["EmoAct,EmoVal,EmoDom"] + ["1,2,3", "2,3,1"] * len(table)
    rows = [f"{row},{grade}" for row, grade in zip(table, grades, strict=False)]
    lopsided.write_text("\n".join(rows) + "\n")
    (line,) = said("emotion_multitask", tiny_corpus.root, lopsided, **more)
    assert "ang, hap" in line


def test_other_processes_are_silent(
    said: Any, lopsided: Path, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
):
    from s3prl_emotion.experts import base

    monkeypatch.setattr(base, "rank", lambda: 1)
    assert said("emotion_corr_attn", tiny_corpus.root, lopsided, test_fold="fold1") == []
