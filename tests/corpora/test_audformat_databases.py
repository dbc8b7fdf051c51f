"""audformat databases as labels: written by ``audformat`` itself, filewise and segmented."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
from conftest import tone

from s3prl_emotion.audit.read_formats import read_listing
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.corpus import Corpus
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.predict.inputs import collect
from s3prl_emotion.recipe import DataSection

EMOTIONS = ("anger", "neutral")
SPEAKERS = {3: "male", 8: "female", 9: "female", 10: "male"}


@pytest.fixture(scope="module")
def audformat() -> Any:
    import audformat as library

    return library


def config(**values: Any) -> DataSection:
    return DataSection(**{"train_batch_size": 2, "eval_batch_size": 2, **values})


def load(labels: Path, **values: Any) -> Corpus:
    return load_corpus(config(labels=str(labels), **values))


def files() -> list[str]:
    return [f"wav/{who:02d}{take}.wav" for who in SPEAKERS for take in range(4)]


def write_database(audformat: Any, folder: Path, splits: bool = False, times: bool = False) -> Path:
    """Four speakers with two classes each, in a table of emotions and one of files, as published ones have them."""
    for number, name in enumerate(files()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(150 + 10 * number, 0.2, number), 16000)
    database = audformat.Database("acted", languages=["de"])
    database.schemes["emotion"] = audformat.Scheme(labels=list(EMOTIONS))
    labels = {who: {"gender": gender, "age": 30} for who, gender in SPEAKERS.items()}
    database.schemes["speaker"] = audformat.Scheme(labels=labels)
    database.schemes["transcription"] = audformat.Scheme("str")
    index = audformat.filewise_index(files())
    database["files"] = audformat.Table(index)
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set([who for who in SPEAKERS for _ in range(4)])
    database["files"]["transcription"] = audformat.Column(scheme_id="transcription")
    database["files"]["transcription"].set([f"Satz {number}" for number in range(16)])
    parts = {"all": slice(None)}
    if splits:
        parts = {"train": slice(0, 12), "test": slice(12, None)}
        for name in parts:
            database.splits[name] = audformat.Split(name)
    for name, part in parts.items():
        index = audformat.filewise_index(files()[part])
        if times:
            names = [file for file in files()[part] for _ in range(2)]
            starts, ends = ["0s", "0.1s"] * (len(names) // 2), ["0.1s", "0.2s"] * (len(names) // 2)
            index = audformat.segmented_index(names, starts, ends)
        key = "emotion" if name == "all" else f"emotion.{name}"
        database[key] = audformat.Table(index, split_id=name if splits else None)
        database[key]["emotion"] = audformat.Column(scheme_id="emotion")
        database[key]["emotion"].set([EMOTIONS[number % 2] for number in range(len(index))])
    database.save(folder)
    return folder


def test_a_database_is_a_corpus(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted")
    corpus = load(folder, num_folds="speakers", test_fold="fold2")
    assert corpus.classes == EMOTIONS
    first = corpus.splits["test"][0]
    assert (first.name, first.speaker, first.gender, first.text) == ("wav/080.wav", "8", "Female", "Satz 4")
    assert first.path == folder / "wav/080.wav"


def test_splits_of_tables_are_partitions(audformat: Any, tmp_path: Path):
    corpus = load(write_database(audformat, tmp_path / "acted", splits=True))
    assert {item.speaker for item in corpus.splits["test"]} == {"10"}
    assert sum(map(len, corpus.splits.values())) == 20  # test is Test too


def test_segments_of_a_database_are_segments(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted", times=True)
    corpus = load(folder)
    assert sum(map(len, corpus.splits.values())) == 32
    first = corpus.splits["test"][0]
    assert first.name == f"wav/{first.path.name}:0.000-0.100"
    assert {item.speaker is None for items in corpus.splits.values() for item in items} == {False}


def test_every_command_takes_a_database(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted")
    assert len(list_utterances(config(labels=str(folder)))) == 16
    assert len(collect([str(folder)], io.StringIO())) == 16
    found = read_listing(folder)
    assert (found.form, set(found.column("gender"))) == ("audformat", {"Male", "Female"})


def test_columns_name_schemes_or_columns_of_a_table(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted")
    database = audformat.Database.load(folder)
    database.schemes["gefühl"] = audformat.Scheme(labels=["wut", "nichts"])
    for name, flip in (("one", 0), ("two", 1)):
        database[name] = audformat.Table(audformat.filewise_index(files()))
        database[name]["gefühl"] = audformat.Column(scheme_id="gefühl")
        database[name]["gefühl"].set([("wut", "nichts")[(number + flip) % 2] for number in range(16)])
    database.save(folder)
    named = read_table(folder, config=config(labels="x", columns={"EmoClass": "two/gefühl"}))
    assert named["EmoClass"].tolist()[:2] == ["nichts", "wut"]
    with pytest.raises(LabelError, match=r"different labels gefühl of one file .*: one/gefühl, two/gefühl"):
        read_table(folder, config=config(labels="x", columns={"EmoClass": "gefühl"}))
    with pytest.raises(LabelError, match=r"has no labels 'gefuhl', which datarc\.columns names; nearest: gefühl"):
        read_table(folder, config=config(labels="x", columns={"EmoClass": "gefuhl"}))


def test_a_database_without_emotions_is_refused(audformat: Any, tmp_path: Path):
    database = audformat.Database("none")
    database.schemes["loudness"] = audformat.Scheme("float")
    database["files"] = audformat.Table(audformat.filewise_index(["a.wav"]))
    database["files"]["loudness"] = audformat.Column(scheme_id="loudness")
    database["files"]["loudness"].set([1.0])
    database.save(tmp_path / "none")
    with pytest.raises(LabelError, match=r"has no labels that are called as emotions usually are.*it has loudness"):
        read_table(tmp_path / "none")


def test_a_database_runs_no_code(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted")
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (trace,))

    (folder / "db.emotion.pkl").write_bytes(pickle.dumps(Evil()))
    assert len(read_table(folder)) == 16
    for path in folder.glob("db.emotion.[cp][sa]*"):
        path.unlink()
    with pytest.raises(LabelError, match=r"has no table db\.emotion as CSV or parquet; pickled tables can run code"):
        read_table(folder)
    header = folder / "db.yaml"
    header.write_text(header.read_text() + f"meta2: !!python/object/apply:pathlib.Path.touch\n- {trace}\n")
    with pytest.raises(LabelError, match=r"db\.yaml: holds .*python.*, an object that could run code"):
        read_table(folder)
    assert not trace.exists()


@pytest.mark.parametrize("text", ["a: [", "- 1", "name: x", "schemes: 3"])
def test_headers_that_are_none_are_refused(tmp_path: Path, text: str):
    (tmp_path / "db.yaml").write_text(text)
    with pytest.raises(LabelError, match=r"not readable as|has no labels"):
        read_table(tmp_path)


def test_dimensions_alone_are_labels_too(audformat: Any, tmp_path: Path):
    folder = write_database(audformat, tmp_path / "acted")
    database = audformat.Database.load(folder)
    database.drop_tables("emotion")
    database["rated"] = audformat.Table(audformat.filewise_index(files()))
    for name in ("arousal", "valence", "dominance"):
        database.schemes[name] = audformat.Scheme("float")
        database["rated"][name] = audformat.Column(scheme_id=name)
        database["rated"][name].set([number / 16 for number in range(16)])
    database.save(folder)
    table = read_table(folder, classes=False)
    assert pd.Series(table["EmoVal"]).tolist() == [number / 16 for number in range(16)]


# --- by the name of audb ----------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_database_of_audb(audformat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import audb

    (tmp_path / "host/local").mkdir(parents=True)
    repository = audb.Repository("local", str(tmp_path / "host"), "file-system")
    monkeypatch.setattr(audb.config, "REPOSITORIES", [repository])
    monkeypatch.setattr(audb.config, "CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr(audb.config, "SHARED_CACHE_ROOT", str(tmp_path / "shared"))
    audb.publish(write_database(audformat, tmp_path / "acted"), "1.0.0", repository, verbose=False)
    path, root = locate("audb://acted@1.0.0", None)
    assert len(read_table(path)) == 16
    assert (root / "wav/080.wav").is_file()
    with pytest.raises(LabelError, match=r"audb://acted@2\.0\.0: cannot be loaded with audb .*; check name, version"):
        locate("audb://acted@2.0.0", None)


def test_audb_may_be_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "audb", None)
    with pytest.raises(UsageError, match=r'needs the package audb; pip install "s3prl-emotion\[audb\]"'):
        locate("audb://acted", None)
    with pytest.raises(LabelError, match=r"audb://a b: is no address of audb; write audb://NAME"):
        locate("audb://a b", None)


def test_audformat_may_be_missing(audformat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_database(audformat, tmp_path / "acted")
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(UsageError, match=r'needs the package audformat; pip install "s3prl-emotion\[audformat\]"'):
        read_table(folder)
