"""Labels in other people's formats: class folders and EmoBox's lists, in every command that reads labels."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import Cli, TinyCorpus, tone

from s3prl_emotion import cli as suite
from s3prl_emotion.audit.read_formats import read_listing
from s3prl_emotion.audit.run import audit
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.corpus import Corpus
from s3prl_emotion.corpora.label_table import read_rows, read_table
from s3prl_emotion.corpora.label_text import read_labels
from s3prl_emotion.errors import AudioError, ConfigError, EmotionError, LabelError
from s3prl_emotion.predict.inputs import collect
from s3prl_emotion.recipe import DataSection

EMOTIONS = ("anger", "neutral")
ACTORS = ("03", "08", "09", "10", "11", "12")


def config(**values: Any) -> DataSection:
    return DataSection(**{"train_batch_size": 2, "eval_batch_size": 2, **values})


def load(labels: Path, **values: Any) -> Corpus:
    return load_corpus(config(labels=str(labels), **values))


def speakers(corpus: Corpus, split: str) -> set[str | None]:
    return {item.speaker for item in corpus.splits[split]}


def write_audio(root: Path, names: Iterable[str]) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, tone(150 + 10 * number, 0.05, number), 16000)


# --- a folder for each class ------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes, three speakers, one of them in a folder of its own below the class."""
    root = tmp_path / "acted"
    names = [f"{emotion}/{who}{take}.wav" for emotion in ("angry", "sad") for who in "ab" for take in (1, 2)]
    write_audio(root, [*names, "angry/more/c1.wav", "sad/more/c1.wav"])
    (root / "angry" / "notes.txt").write_text("loud")
    (root / ".git").mkdir()
    return root


def test_folders_are_classes(folders: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    table = read_table(folders)
    assert dict(zip(table["FileName"], table["EmoClass"], strict=True))["angry/more/c1.wav"] == "angry"
    assert len(table) == 10
    assert any("acted" in line and ".txt" in line for line in caplog.messages)


def test_folders_train_with_speakers_of_the_file_names(folders: Path):
    corpus = load(folders, speaker_pattern=r"/([abc])\d\.wav$", num_folds="speakers")
    assert (corpus.classes, speakers(corpus, "test")) == (("angry", "sad"), {"a"})
    assert {item.path.parent.parent for item in corpus.splits["test"]} == {folders}


def test_folders_without_speakers_are_refused_with_the_ways_out(folders: Path):
    with pytest.raises(LabelError, match=r"acted: no column SpkrID.*datarc\.speaker_pattern.*protocol: random"):
        load(folders)
    assert len(load(folders, protocol="random", num_folds=2).splits["test"]) == 5
    with pytest.raises(LabelError, match=r"datarc\.speaker_pattern '/\(\[ab\]\)' finds no speaker in '.*c1\.wav'"):
        load(folders, speaker_pattern="/([ab])")
    with pytest.raises(EmotionError, match=r"datarc\.speaker_pattern '\[ab\]': put the speaker's part in brackets"):
        load(folders, speaker_pattern="[ab]")


def test_folders_of_splits_hold_folders_of_classes(tmp_path: Path):
    root = tmp_path / "split"
    names = [f"{split}/{emotion}/{split[0]}.wav" for split in ("train", "val", "test") for emotion in ("angry", "sad")]
    write_audio(root, names)
    corpus = load(root)
    assert {name: len(items) for name, items in corpus.splits.items()} == {"train": 2, "dev": 2, "test": 2, "Test": 2}


def test_audio_beside_class_folders_is_not_lost(folders: Path):
    write_audio(folders, ["loose.wav"])
    with pytest.raises(LabelError, match=r"'loose\.wav' lies beside the folders of each class.*move it"):
        read_table(folders)


def test_labels_that_are_not_there_need_no_audio_folder_to_be_refused(tmp_path: Path):
    with pytest.raises(LabelError, match=r"actd: no such label table or meta_data folder; check datarc\.labels"):
        load(tmp_path / "actd")


def test_a_folder_without_labels_names_the_known_formats(tmp_path: Path):
    write_audio(tmp_path, ["a.wav", "one/b.wav"])
    with pytest.raises(LabelError, match=r"holds neither SUPERB's lists .* nor a folder of audio for each class"):
        load(tmp_path, root=str(tmp_path))


def test_every_reader_takes_folders(folders: Path):
    named = config(labels=str(folders))
    assert len(list_utterances(named)) == 10
    labels = read_labels(str(folders), None)
    assert (labels.root, len(labels.names), len(labels.digest)) == (folders, 10, 64)
    found = audit(read_listing(folders, speaker_pattern=r"/([abc])\d\."), folders)
    assert (found.listing.form, found.facts["speakers"], found.facts["audio"]["files"]) == ("folders", 3, 10)


def test_audit_finds_the_audio_of_folders(folders: Path, capsys: pytest.CaptureFixture[str]):
    suite.main(["audit", str(folders), "--speaker_pattern", r"/([abc])\d\."])
    assert "folders, 10 utterances" in capsys.readouterr().out


@pytest.mark.full
def test_a_head_trains_on_emobox_and_says_what_its_folds_are(tmp_path: Path, cli: Cli):
    data = write_emobox(tmp_path / "EmoBox", mixed=True)
    options = TinyCorpus(data.parents[1], data).overrides(**{"downstream_expert.datarc.root": None})
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-n", "one", "-o", options)
    (metrics,) = (tmp_path / "result/downstream/one").glob("test_fold1_metrics.json")
    assert json.loads(metrics.read_text())["protocol"]["name"] == "published"


def test_predict_takes_emobox_lists(emobox: Path):
    files = collect([str(emobox / "fold_1" / "emodb_test_fold_1.jsonl")], io.StringIO())
    assert len(files) == 12
    assert {Path(file.path).is_file() for file in files} == {True}
    assert len(collect([str(emobox)], io.StringIO())) == 36


# --- EmoBox -----------------------------------------------------------------------------------------------------------


def entry(actor: str, take: int) -> dict[str, Any]:
    emotion = EMOTIONS[take % 2]
    wav = f"downloads/emodb/wav/{actor}a0{take}{'WN'[take % 2]}a.wav"
    return {"key": f"emodb-{actor}{take}", "dataset": "emodb", "wav": wav, "emo": emotion, "length": 0.05, "channel": 1}


def write_emobox(root: Path, mixed: bool = False, folds: int = 3) -> Path:
    """EMO-DB as EmoBox lists it: six actors, two a fold; ``mixed`` shares every actor, as EmoBox's own folds do."""
    data = root / "data" / "emodb"
    data.mkdir(parents=True)
    (data / "label_map.json").write_text(json.dumps({"anger": "Angry", "Neutral": "Neutral"}))
    every = [entry(actor, take) for actor in ACTORS for take in range(6)]
    write_audio(root, [item["wav"] for item in every])
    for fold in range(folds):
        is_test = [(number % 3 if mixed else number // 12) == fold for number in range(len(every))]
        for split, inside in (("train", False), ("test", True)):
            lines = [json.dumps(item) + "\n" for item, test in zip(every, is_test, strict=True) if test == inside]
            (data / f"fold_{fold + 1}").mkdir(exist_ok=True)
            (data / f"fold_{fold + 1}" / f"emodb_{split}_fold_{fold + 1}.jsonl").write_text("".join(lines))
    return data


@pytest.fixture
def emobox(tmp_path: Path) -> Path:
    return write_emobox(tmp_path / "EmoBox")


def test_emobox_folds_are_those_of_its_lists(emobox: Path):
    corpus = load(emobox, test_fold="fold2")
    assert (corpus.classes, corpus.fold) == (("Angry", "Neutral"), "fold2")
    assert speakers(corpus, "test") == {"9", "10"}
    assert not speakers(corpus, "train") & (speakers(corpus, "dev") | speakers(corpus, "test"))
    assert (corpus.protocol.note, corpus.protocol.name) == (None, "speaker_disjoint")
    assert corpus.splits["test"][0].path.is_file()  # the audio folder follows from the lists' place


def test_emobox_one_fold_is_a_partition(emobox: Path):
    corpus = load(emobox / "fold_3")
    assert (corpus.fold, speakers(corpus, "test")) == ("fold1", {"11", "12"})


def test_emobox_shared_speakers_are_said_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write_emobox(tmp_path / "EmoBox", mixed=True)
    corpus = load(data)
    assert corpus.protocol.to_metrics()["name"] == "published"
    assert "speaker-dependent" in str(corpus.protocol.note)
    assert corpus.shared_speakers == {"train", "dev", "test"}
    assert corpus.fitted["protocol"] == "published"
    said = "test speakers are also in train or dev: 12 of 12 test utterances"
    assert any(said in line for line in caplog.messages)
    (finding,) = [item for item in audit(read_listing(data)).findings if item.code == "speaker-overlap"]
    assert finding.what == "test speakers are also in train or dev: 36 of 36 test utterances"
    recipe: dict[str, Any] = {}
    corpus.keep_fitted(recipe)
    assert recipe["protocol"] == "published"


def test_one_shared_speaker_is_enough_where_others_are_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [(f"{number}.wav", "ab"[number % 2], who, split) for number, (who, split) in enumerate(
        [("s1", "Train"), ("unknown", "Train"), ("s2", "Train"), ("s3", "Train")] * 4
        + [("unknown", "Test"), ("s1", "Test")] * 2)]  # fmt: skip
    write_audio(tmp_path, [row[0] for row in rows])
    lines = ["FileName,EmoClass,SpkrID,Split_Set", *(",".join(row) for row in rows)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    corpus = load(tmp_path / "labels.csv", root=str(tmp_path), protocol="published")
    assert corpus.protocol.name == "published"
    assert any("train or dev: 2 of 4 test utterances" in line for line in caplog.messages)


def test_a_table_with_shared_speakers_needs_to_ask_for_it(tmp_path: Path):
    data = write_emobox(tmp_path / "EmoBox", mixed=True)
    rows = read_rows(data, str)
    rows.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(LabelError, match="speaker 10 is in both train and test of fold1"):
        load(tmp_path / "labels.csv", root=str(tmp_path / "EmoBox"))
    corpus = load(tmp_path / "labels.csv", root=str(tmp_path / "EmoBox"), protocol="published")
    assert corpus.protocol.is_dependent
    rows.drop(columns="Fold").to_csv(tmp_path / "without.csv", index=False)
    with pytest.raises(LabelError, match=r"datarc\.protocol: published needs a column Fold or Split_Set"):
        load(tmp_path / "without.csv", root=str(tmp_path / "EmoBox"), protocol="published")


def test_emobox_without_audio_says_what_the_folder_holds(emobox: Path):
    root = emobox.parents[1]
    shutil.rmtree(root / "downloads")
    with pytest.raises(
        AudioError, match=r"none of the 36 audio files that .*emodb lists \(downloads/emodb/wav/.*'data'"
    ):
        load(emobox)


def test_emobox_folds_that_are_no_partition_are_refused(tmp_path: Path):
    data = write_emobox(tmp_path / "EmoBox", folds=2)
    with pytest.raises(
        LabelError, match=r"do not test each utterance once.*name the folder of one fold \(fold1, fold2"
    ):
        load(data)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**entry("03", 0), "emo": "neutral"}, r"is Neutral, but Angry in another place"),
        (entry("03", 0), r"downloads/emodb/wav/03a00Wa\.wav is in the test list of fold1 too"),
        ({**entry("03", 0), "start_time": "1s", "end_time": 1}, "start_time and end_time must be seconds, got '1s'"),
        ({"wav": "a.wav"}, "an entry lacks 'wav' or 'emo'"),
    ],
)
def test_faults_of_emobox_lists_are_one_line(emobox: Path, line: dict[str, Any], message: str):
    with (emobox / "fold_1" / "emodb_train_fold_1.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(LabelError, match=message):
        load(emobox)


def test_emobox_parts_of_files_are_segments(tmp_path: Path):
    data = write_emobox(tmp_path / "EmoBox", folds=1)
    path = data / "fold_1" / "emodb_test_fold_1.jsonl"
    path.write_text(path.read_text() + json.dumps({**entry("03", 0), "start_time": 0.01, "end_time": 0.03}) + "\n")
    (segment,) = [item for item in load(data).splits["test"] if item.part is not None]
    assert segment.name == "downloads/emodb/wav/03a00Wa.wav:0.010-0.030"


def test_emobox_is_one_of_several_corpora(emobox: Path, tiny_corpus: TinyCorpus):
    sections = {
        "emodb": {"labels": str(emobox), "merge": {"Angry": "ang", "Neutral": "neu"}},
        "tiny": {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)},
    }
    corpus = load_corpus(config(corpora=sections, classes=["ang", "neu"]))
    assert {item.corpus for item in corpus.splits["train"]} == {"emodb", "tiny"}


# --- columns by other names -------------------------------------------------------------------------------------------


def test_columns_may_have_other_names(tiny_corpus: TinyCorpus, tmp_path: Path):
    text = tiny_corpus.labels.read_text()
    header, _, rows = text.partition("\n")
    renamed = header.replace("FileName", "clip").replace("EmoClass", "emotion").replace("SpkrID", "who")
    (tmp_path / "labels.csv").write_text(f"{renamed}\n{rows}")
    columns = {"FileName": "clip", "EmoClass": "emotion", "SpkrID": "who"}
    corpus = load(tmp_path / "labels.csv", root=str(tiny_corpus.root), columns=columns)
    assert corpus.splits == load(tiny_corpus.labels, root=str(tiny_corpus.root)).splits


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"EmoClas": "emotion"}, r"datarc\.columns: EmoClas: no column of a label table; nearest: EmoClass"),
        ({"EmoClass": "emotions"}, r"no column 'emotions', which datarc\.columns names for EmoClass"),
        ({"EmoClass": "SpkrID", "Gender": "SpkrID"}, r"SpkrID: is named for both EmoClass and Gender"),
    ],
)
def test_wrong_columns_are_one_line(tiny_corpus: TinyCorpus, columns: dict[str, str], message: str):
    with pytest.raises((ConfigError, LabelError), match=message):
        load(tiny_corpus.labels, root=str(tiny_corpus.root), columns=columns)
