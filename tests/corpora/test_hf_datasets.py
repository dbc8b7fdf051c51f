"""Hugging Face datasets as labels: written by ``datasets`` itself, decoded by the suite."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import tone

from s3prl_emotion.audio import header, load_audio
from s3prl_emotion.audit.read_formats import read_listing
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.corpus import Corpus
from s3prl_emotion.corpora.formats import hub_dataset
from s3prl_emotion.corpora.formats.extracted import write_dataset
from s3prl_emotion.corpora.locate import locate, located
from s3prl_emotion.errors import EmotionError, LabelError, UsageError
from s3prl_emotion.predict.inputs import collect
from s3prl_emotion.recipe import DataSection

CLASSES = ["angry", "sad"]
RATES = (16000, 22050, 48000)


def config(**values: Any) -> DataSection:
    return DataSection(**{"train_batch_size": 2, "eval_batch_size": 2, **values})


def load(labels: Path | str, **values: Any) -> Corpus:
    return load_corpus(config(labels=str(labels), **values))


def wave(number: int) -> bytes:
    data = io.BytesIO()
    rate = RATES[number % 3]
    soundfile.write(data, tone(150 + 10 * number, 0.05, number, rate), rate, format="FLAC" if number % 2 else "WAV")
    return data.getvalue()


@pytest.fixture(scope="module")
def datasets() -> Any:
    """The library; it takes two seconds to import, and shows no bars."""
    import datasets as library

    library.disable_progress_bars()
    return library


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3PRL_EMOTION_CACHE", str(tmp_path / "cache"))


def rows_of(split: int, speakers: str) -> list[dict[str, Any]]:
    return [
        {
            "clip": {
                "bytes": wave(number + split),
                "path": f"take{number}.wav",
            },
            "label": number % 2,
            "speaker_id": speakers[number // 2 % len(speakers)],
            "text": 'äh, "no"',
            "more": [1, 2],
        }
        for number in range(2 * len(speakers))
    ]


def make(datasets: Any, rows: list[dict[str, Any]]) -> Any:
    """A dataset whose column ``clip`` is audio; it is cast, since encoding needs torchcodec."""
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features(
        clip=plain,
        label=datasets.ClassLabel(names=CLASSES),
        speaker_id=datasets.Value("string"),
        text=datasets.Value("string"),
        more=datasets.Sequence(datasets.Value("int64")),
    )
    made = datasets.Dataset.from_list(rows, features=features)
    return made.cast_column("clip", datasets.Audio(decode=False))


@pytest.fixture
def split(datasets: Any) -> Any:
    return datasets.DatasetDict(train=make(datasets, rows_of(0, "abcde")), test=make(datasets, rows_of(1, "xy")))


def check(corpus: Corpus) -> None:
    """Classes are called by their names, and the audio is the dataset's, of any rate and format."""
    assert corpus.classes == ("angry", "sad")
    assert {item.speaker for item in corpus.splits["test"]} == {"x", "y"}
    assert {len(items) for items in corpus.splits.values()} == {8, 2, 4}
    for item in corpus.splits["test"]:
        number = int(item.path.stem.removeprefix("take"))
        assert item.path.read_bytes() == wave(number + 1)
        assert load_audio(item.path).shape == (800,)
    assert {header(item.path).rate for item in corpus.splits["train"]} == set(RATES)
    assert corpus.splits["test"][0].text == 'äh, "no"'


def test_a_dataset_that_was_saved_to_disk(split: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    split.save_to_disk(tmp_path / "saved")
    check(load(tmp_path / "saved"))
    said = [line for line in caplog.messages if "columns by usual names" in line]
    assert "EmoClass is label, SpkrID is speaker_id, Text is text" in said[0]


def test_a_dataset_of_parquet_files(split: Any, tmp_path: Path):
    (tmp_path / "repo/data").mkdir(parents=True)
    for name, part in split.items():
        part.to_parquet(tmp_path / f"repo/data/{name}-00000-of-00001.parquet")
    check(load(tmp_path / "repo"))
    whole = load(tmp_path / "repo/data/train-00000-of-00001.parquet", num_folds="speakers")
    assert {item.speaker for item in whole.splits["test"]} == {"a"}


def test_audio_is_laid_out_once_and_without_the_library(split: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    split["train"].save_to_disk(tmp_path / "saved")
    first = located(str(tmp_path / "saved"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert located(str(tmp_path / "saved")) == first
    state = tmp_path / "saved/state.json"
    state.write_text(state.read_text() + " ")
    with pytest.raises(UsageError, match=r'needs the package datasets; pip install "s3prl-emotion\[datasets\]"'):
        located(str(tmp_path / "saved"))


def test_a_streamed_dataset_is_laid_out_too(split: Any, tmp_path: Path):
    write_dataset({name: part.to_iterable_dataset() for name, part in split.items()}, tmp_path / "streamed")
    check(load(tmp_path / "streamed"))


def test_every_command_takes_a_dataset(split: Any, tmp_path: Path):
    split.save_to_disk(tmp_path / "saved")
    assert len(list_utterances(config(labels=str(tmp_path / "saved")))) == 14
    assert len(collect([str(tmp_path / "saved")], io.StringIO())) == 14
    found = read_listing(located(str(tmp_path / "saved")))
    assert (found.form, set(found.folds["fold1"]), set(found.column("emotion"))) == (
        "dataset", {"train", "Test"}, set(CLASSES),
    )  # fmt: skip
    with pytest.raises(LabelError, match=r"datarc\.root: the dataset .*saved has its own audio; leave it out"):
        locate(str(tmp_path / "saved"), str(tmp_path))


def test_columns_of_a_dataset_are_mapped_in_the_recipe(datasets: Any, tmp_path: Path):
    made = make(datasets, rows_of(0, "abc")).rename_columns({"label": "gefühl", "speaker_id": "wer"})
    made.save_to_disk(tmp_path / "saved")
    with pytest.raises(LabelError, match=r"no column EmoClass.*gefühl"):
        load(tmp_path / "saved")
    corpus = load(tmp_path / "saved", columns={"EmoClass": "gefühl", "SpkrID": "wer"})
    assert corpus.classes == ("angry", "sad")


def test_splits_without_a_test_are_taken_together(datasets: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    parts = {"train": make(datasets, rows_of(0, "abc")), "validation": make(datasets, rows_of(1, "de"))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert sum(map(len, load(tmp_path / "saved").splits.values())) == 10
    assert any("has the splits train, validation and no test split" in line for line in caplog.messages)
    corpus = load(tmp_path / "saved", columns={"Fold": "split"}, test_fold="validation")
    assert {item.speaker for item in corpus.splits["test"]} == {"d", "e"}


def test_a_dataset_without_audio_is_refused(datasets: Any, tmp_path: Path):
    made = make(datasets, rows_of(0, "abc"))
    made.remove_columns("clip").save_to_disk(tmp_path / "none")
    with pytest.raises(LabelError, match=r"no column of audio.*its columns are label, speaker_id, text, more"):
        load(tmp_path / "none")
    made.add_column("other", made.data.column("clip").to_pylist()).save_to_disk(tmp_path / "two")
    with pytest.raises(LabelError, match=r"several columns of audio \(clip, other\); keep one"):
        load(tmp_path / "two")
    rows = rows_of(0, "abc")
    rows[2]["clip"] = {"bytes": None, "path": "gone.wav"}
    with pytest.raises(LabelError, match=r"row 2 of train: has no audio, neither bytes nor the file 'gone\.wav'"):
        write_dataset(make(datasets, rows), tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    assert not [*(tmp_path / "cache/datasets").iterdir()]  # nothing half-written


def test_files_that_are_no_dataset_are_refused(tmp_path: Path, datasets: Any):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(LabelError, match=r"bad\.parquet: not readable as a Hugging Face dataset"):
        load(tmp_path / "bad.parquet")


def test_an_audiofolder_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name, speakers in (("train", "abc"), ("test", "x")):
        folder = tmp_path / "folder" / name / "clips"
        folder.mkdir(parents=True)
        lines = []
        for number, row in enumerate(rows_of(0, speakers)):
            (folder / f"{number}.wav").write_bytes(row["clip"]["bytes"])
            entry = {"file_name": f"clips/{number}.wav", "emotion": CLASSES[row["label"]], "speaker": row["speaker_id"]}
            lines.append(json.dumps(entry))
        (folder.parent / "metadata.jsonl").write_text("\n".join(lines))
    corpus = load(tmp_path / "folder")
    assert {item.name for item in corpus.splits["test"]} == {"test/clips/0.wav", "test/clips/1.wav"}
    (tmp_path / "folder/test/metadata.jsonl").write_text('{"clip": "a.wav"}')
    with pytest.raises(LabelError, match=r"metadata\.jsonl line 1: no file_name"):
        load(tmp_path / "folder", test_fold="fold1")


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ("hf://me/emotions", ("me/emotions", None, None)),
        ("hf://datasets/me/emotions:clean@v1.0", ("me/emotions", "clean", "v1.0")),
        ("me/emotions", ("me/emotions", None, None)),
        ("tables/labels.csv", None),
        ("labels", None),
        ("/nowhere/labels", None),
    ],
)
def test_addresses_of_the_hub(labels: str, parts: tuple[str | None, ...] | None):
    found = hub_dataset.hub_dataset(labels)
    assert (None if found is None else (found.id, found.config, found.revision)) == parts


def test_a_dataset_of_the_hub(split: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append((repository, options["repo_type"], options["revision"]))
        return str(tmp_path / "snapshot")

    (tmp_path / "snapshot/data").mkdir(parents=True)
    for name, part in split.items():
        part.to_parquet(tmp_path / f"snapshot/data/{name}-00000-of-00001.parquet")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    check(load("hf://me/emotions@main"))
    assert asked == [("me/emotions", "dataset", "main")]
    with pytest.raises(LabelError, match=r"hf://me: is no address of a dataset; write hf://OWNER/NAME"):
        load("hf://me")


def test_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmotionError, match=r"^nobody/nothing: no such label table, and HF_HUB_OFFLINE is set"):
        load("nobody/nothing")
