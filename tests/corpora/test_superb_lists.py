"""SUPERB's split lists: exactly the split of s3prl's own task, true speakers, and one-line errors for bad lists."""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED_DATA, TinyCorpus

from s3prl_emotion import host
from s3prl_emotion.corpora import Corpus, load_corpus
from s3prl_emotion.corpora.superb import _read_list, read_corpus, speaker_of
from s3prl_emotion.errors import AudioError, EmotionError, LabelError
from s3prl_emotion.recipe import DataSection

REAL = SHARED_DATA / "iemocap_superb"
CLASSES = ("neu", "hap", "ang", "sad")


@contextmanager
def refused(match: str, error: type[EmotionError] = LabelError) -> Iterator[None]:
    """Expect an error of one line; ``match`` is a regular expression."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)


def config(**values: Any) -> DataSection:
    return DataSection(**{"labels": "meta_data", "train_batch_size": 4, "eval_batch_size": 4, **values})


def corpus_of(lists: Path, **values: Any) -> Corpus:
    return read_corpus(lists, Path("IEMOCAP"), config(**values))


def names(corpus: Corpus, split: str) -> list[str]:
    return [utterance.name for utterance in corpus.split(split)]


def entry(session: int, take: int, label: str = "neu", letter: str = "F") -> dict[str, str]:
    dialogue = f"Ses{session:02d}F_impro{take:02d}"
    path = f"Session{session}/sentences/wav/{dialogue}/{dialogue}_{letter}000.wav"
    return {"path": path, "label": label, "speaker": f"Ses{session:02d}F"}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Sound lists without audio: Session1 is tested, Session2 trained on."""
    folder = tmp_path / "meta_data"
    (folder / "Session1").mkdir(parents=True)
    labels = {name: number for number, name in enumerate(CLASSES)}
    for split, session in (("train", 2), ("test", 1)):
        items = [entry(session, take, CLASSES[take % 4], "FM"[take % 2]) for take in range(10)]
        content = {"labels": labels, "meta_data": items}
        (folder / "Session1" / f"{split}_meta_data.json").write_text(json.dumps(content))
    return folder


def change(lists: Path, edit: Callable[[dict[str, Any]], Any], split: str = "train") -> None:
    path = lists / "Session1" / f"{split}_meta_data.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


# --- the stock task's split -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fold", "ratio"), [("fold1", 0.2), ("fold2", 0.2), ("fold1", 0.3), ("fold2", 0.45)])
def test_split_equals_that_of_the_stock_task(superb_corpus: TinyCorpus, fold: str, ratio: float):
    host.register()
    dataset_class = importlib.import_module("s3prl.downstream.emotion.dataset").IEMOCAPDataset
    session = superb_corpus.labels / fold.replace("fold", "Session")
    stock = dataset_class(str(superb_corpus.root), str(session / "train_meta_data.json"), False)
    tested = dataset_class(str(superb_corpus.root), str(session / "test_meta_data.json"), False)
    length = int((1 - ratio) * len(stock))
    torch.manual_seed(0)  # as s3prl/downstream/emotion/expert.py
    train, dev = torch.utils.data.random_split(stock, [length, len(stock) - length])

    ours = load_corpus(
        config(root=str(superb_corpus.root), labels=str(superb_corpus.labels), test_fold=fold, valid_ratio=ratio)
    )
    assert names(ours, "train") == [stock.meta_data[index]["path"] for index in train.indices]
    assert names(ours, "dev") == [stock.meta_data[index]["path"] for index in dev.indices]
    assert names(ours, "test") == [item["path"] for item in tested.meta_data]
    assert [item.label for item in ours.split("train")] == [stock[index][1] for index in train.indices]
    assert ours.classes == tuple(stock.idx2emotion[number] for number in range(stock.class_num)) == CLASSES
    assert ours.fold == fold


def test_reading_does_not_use_the_global_generators(lists: Path):
    torch.manual_seed(7)
    np.random.seed(7)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    corpus_of(lists)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_split_does_not_depend_on_the_global_seed(lists: Path):
    torch.manual_seed(1)
    first = corpus_of(lists)
    torch.manual_seed(2)
    assert corpus_of(lists).splits == first.splits


def test_first_fold_is_the_default_and_paths_are_below_the_root(lists: Path):
    corpus = corpus_of(lists)
    assert corpus.fold == "fold1"
    assert all(item.path == Path("IEMOCAP") / item.name for item in corpus.split("train"))


def test_labels_may_stand_in_any_order(lists: Path):
    labels = {"sad": 3, "neu": 0, "ang": 2, "hap": 1}
    for split in ("train", "test"):
        change(lists, lambda content: content.update(labels=labels), split)
    assert corpus_of(lists).classes == CLASSES
    assert corpus_of(lists, classes=list(CLASSES)).classes == CLASSES


# --- speakers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "speaker", "gender"),
    [
        ("Ses01F_script02_2_F000", "Ses01F", "Female"),
        ("Ses01F_impro04_M016", "Ses01M", "Male"),
        ("Ses05M_script01_1b_F012", "Ses05F", "Female"),
        ("Ses03M_impro05a_M012", "Ses03M", "Male"),
        ("Ses04M_script03_2_FXX0", "Ses04M", None),
        ("Ses01F", "Ses01F", None),
        ("03a01Fa", "03", None),
    ],
)
def test_speaker_is_in_the_file_name(stem: str, speaker: str, gender: str | None):
    dialogue = stem.split("_")[0] if stem.startswith("Ses") else "03"
    assert speaker_of(f"Session1/sentences/wav/x/{stem}.wav", dialogue) == (speaker, gender)


def test_utterances_have_their_true_speakers(superb_corpus: TinyCorpus):
    corpus = load_corpus(config(root=str(superb_corpus.root), labels=str(superb_corpus.labels), test_fold="fold2"))
    assert {(item.speaker, item.gender) for item in corpus.split("test")} == {("Ses02F", "Female"), ("Ses02M", "Male")}


def test_speaker_of_test_in_train_is_refused(lists: Path):
    change(lists, lambda content: content["meta_data"].append(entry(1, 77)))
    with refused(r"Session1: speaker Ses01F is in both the train list and the test list"):
        corpus_of(lists)


# --- bad lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (
            lambda content: content["meta_data"][3].update(label="sadd"),
            r"train_meta_data.*Ses02F_impro03_M000\.wav has class 'sadd', which 'labels' does not.*nearest: sad",
        ),
        (
            lambda content: content["meta_data"].append(content["meta_data"][2]),
            r"train_meta_data\.json: .*Ses02F_impro02_F000\.wav is listed twice",
        ),
        (lambda content: content["labels"].update(sad=4), r"'labels' must number the classes from 0, got \{"),
        (lambda content: content["labels"].update(sad=2), r"'labels' must number the classes from 0"),
        (lambda content: content["labels"].update(sad="3"), r"train_meta_data\.json: not one of SUPERB's split lists"),
        (lambda content: content.pop("labels"), r"train_meta_data\.json: not one of SUPERB's split lists"),
        (lambda content: content.update(labels=list(CLASSES)), r"not one of SUPERB's split lists"),
        (lambda content: content.pop("meta_data"), r"not one of SUPERB's split lists"),
        (lambda content: content.update(meta_data=["a.wav"]), r"not one of SUPERB's split lists"),
        (lambda content: content.update(meta_data=None), r"not one of SUPERB's split lists"),
        (lambda content: content["meta_data"][0].pop("speaker"), r"not one of SUPERB's split lists"),
        (lambda content: content["labels"].update(fru=4), r"Session1: the train list has classes .*, the test list"),
    ],
)
def test_bad_list_is_refused(lists: Path, edit: Callable[[dict[str, Any]], Any], match: str):
    change(lists, edit)
    with refused(match):
        corpus_of(lists)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\ufeff{}"])
def test_broken_json_is_refused(lists: Path, text: str):
    (lists / "Session1" / "test_meta_data.json").write_text(text)
    with refused(
        r"test_meta_data\.json: not one of SUPERB's split lists \(labels, meta_data with path, label, speaker"
    ):
        corpus_of(lists)


def test_binary_list_is_refused(lists: Path):
    (lists / "Session1" / "train_meta_data.json").write_bytes(gzip.compress(b"{}"))
    with refused(r"train_meta_data\.json: not one of SUPERB's split lists"):
        corpus_of(lists)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_list_is_refused(lists: Path, split: str):
    (lists / "Session1" / f"{split}_meta_data.json").unlink()
    with refused(rf"Session1/{split}_meta_data\.json: cannot be read \(No such file"):
        corpus_of(lists)


@pytest.mark.parametrize("fold", ["fold3", "flod1", "Sesion1", "1"])
def test_unknown_fold_names_the_nearest(superb_corpus: TinyCorpus, fold: str):
    with refused(rf"meta_data: no fold '{fold}' \(datarc\.test_fold\); (nearest|known): .*fold1"):
        corpus_of(superb_corpus.labels, test_fold=fold)


def test_folder_without_sessions_is_refused(tmp_path: Path):
    with refused(r"no fold 'fold1' \(datarc\.test_fold\)"):
        corpus_of(tmp_path)


@pytest.mark.parametrize("classes", [["neu", "hap", "ang"], ["ang", "hap", "neu", "sad"], ["neu", "hap", "ang", "fru"]])
def test_classes_that_contradict_the_lists_are_refused(lists: Path, classes: list[str]):
    with refused(r"Session1: datarc\.classes must be \['neu', 'hap', 'ang', 'sad'\], in this order, or left out"):
        corpus_of(lists, classes=classes)


def test_merge_is_refused(lists: Path):
    with refused(r"meta_data: SUPERB's split lists fix the classes; leave datarc\.merge out"):
        corpus_of(lists, merge={"exc": "hap"})


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_list_is_refused(lists: Path, tmp_path: Path, split: str):
    change(lists, lambda content: content.update(meta_data=[]), split)
    with refused(rf"meta_data: split '{split}' of fold1 has no utterances"):
        load_corpus(config(root=str(tmp_path), labels=str(lists)))


def test_missing_audio_is_refused(lists: Path, tmp_path: Path):
    with refused(r"none of the \d+ audio files that .*meta_data lists .*; check datarc\.root", AudioError):
        load_corpus(config(root=str(tmp_path), labels=str(lists)))


# --- the real lists ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="SUPERB's lists of IEMOCAP are not here")
def test_real_lists(tmp_path: Path):
    for packed in REAL.glob("Session*/*.json.gz"):
        path = tmp_path / packed.parent.name / packed.stem
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    tested: set[str] = set()
    speakers: set[str | None] = set()
    for number in range(1, 6):
        session = tmp_path / f"Session{number}"
        classes, train = _read_list(session / "train_meta_data.json", Path("IEMOCAP"))
        test_classes, test = _read_list(session / "test_meta_data.json", Path("IEMOCAP"))
        assert classes == test_classes == CLASSES
        assert len(train) + len(test) == 5531
        held_out = {item.speaker for item in test}
        assert held_out == {f"Ses{number:02d}F", f"Ses{number:02d}M"}
        assert not held_out & {item.speaker for item in train}
        assert all(item.gender in ("Female", "Male") for item in train + test)
        corpus = corpus_of(tmp_path, test_fold=f"fold{number}")
        sizes = [len(corpus.split(name)) for name in ("train", "dev", "test")]
        assert sizes == [int(0.8 * len(train)), len(train) - int(0.8 * len(train)), len(test)]
        tested |= {item.name for item in test}
        speakers |= held_out
    assert len(tested) == 5531
    assert len(speakers) == 10
