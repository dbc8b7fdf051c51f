"""Commands on a table of segments do what they do on a table of files with the same audio."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, Cli, Outcome, TinyCorpus
from segmented import read_rows, write_segmented, write_table

from s3prl_emotion import cli as suite
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.audit import audit, read_listing
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.fingerprint import fingerprint
from s3prl_emotion.corpora.transcripts import texts_of
from s3prl_emotion.extract.filling import longest_first
from s3prl_emotion.loading.dataset import UtteranceDataset
from s3prl_emotion.rae.audio_index import index_table
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.transcribe import command as transcription

NUMBERS = ("p_ang", "p_hap", "p_neu", "p_sad")
Both = tuple[TinyCorpus, TinyCorpus]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The corpus as segments of recordings and as files."""
    return write_segmented(tmp_path_factory.mktemp("segmented"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trainings are kept from one test to the next."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def trained(cli: Cli, both: Both, shelf: Path) -> tuple[Path, Path]:
    """Experiments that were trained on segments and on files."""
    folders = shelf / "long", shelf / "cut"
    for folder, corpus in zip(folders, both, strict=True):
        if not folder.exists():
            words = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", folder, "-v", "fold1")
            quick = {"runner.total_steps": 2, "runner.log_step": 1, "runner.eval_step": 2, "runner.save_step": 2}
            cli("-m", "train", *words, "-o", corpus.overrides(**quick, **{"downstream_expert.embeddings": True}))
    return folders


Call = Callable[..., Outcome]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``s3prl-emotion`` inside this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = suite.main([str(word) for word in words])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        return outcome

    return call


def config(corpus: TinyCorpus, **values: Any) -> DataSection:
    given = {"train_batch_size": 2, "eval_batch_size": 2, "labels": str(corpus.labels), "root": str(corpus.root)}
    return DataSection(**(given | values))


def name_of(row: dict[str, str]) -> str:
    """The name that a row of the table of segments has in outputs."""
    return f"{row['FileName']}:{float(row['Start']):.3f}-{float(row['End']):.3f}"


# --- training and evaluation ------------------------------------------------------------------------------------------


def test_training_on_segments_equals_training_on_files(both: Both, trained: tuple[Path, Path]) -> None:
    long, cut = (read_rows(folder / "test_fold1_predictions.csv") for folder in trained)
    assert [[row[key] for key in NUMBERS] for row in long] == [[row[key] for key in NUMBERS] for row in cut]
    table = {name_of(row): row for row in read_rows(both[0].labels)}
    for row in long:
        assert row["Utterance"] == f"{row['FileName']}:{row['Start']}-{row['End']}"
        assert table[row["Utterance"]]["EmoClass"] == row["truth"]
    assert list(long[0])[:6] == ["Utterance", "FileName", "Start", "End", "SpkrID", "Gender"]
    assert list(cut[0])[:3] == ["FileName", "SpkrID", "Gender"]
    for kind, column in (("truth", "truth"), ("predict", "prediction")):
        lines = (trained[0] / f"test_fold1_{kind}.txt").read_text().splitlines()
        assert lines == [f"{row['Utterance']} {row[column]}" for row in long]
    with np.load(trained[0] / "test_fold1_embeddings.npz") as file:
        assert file["names"].tolist() == [row["Utterance"] for row in long]
    metrics = [json.loads((folder / "test_fold1_metrics.json").read_text()) for folder in trained]
    assert metrics[0]["UAR"] == metrics[1]["UAR"]
    assert metrics[0]["per_speaker"] == metrics[1]["per_speaker"]


def test_embeddings_of_segments_find_their_labels(both: Both, trained: tuple[Path, Path]) -> None:
    from s3prl_emotion.figures.embedding_plots import read_labels
    from s3prl_emotion.figures.embeddings import load
    from s3prl_emotion.report.reading.predictions import read_predictions

    path = trained[0] / "test_fold1_embeddings.npz"
    rows = read_rows(trained[0] / "test_fold1_predictions.csv")
    for table in (None, both[0].labels):
        assert read_labels(load(path), path, table)["class"].tolist() == [row["truth"] for row in rows]
    read = read_predictions(trained[0] / "test_fold1_predictions.csv")
    assert read.names.tolist() == sorted(row["Utterance"] for row in rows)


def test_evaluating_training_segments_is_refused(
    both: Both, trained: tuple[Path, Path], cli: Cli, tmp_path: Path
) -> None:
    rows = read_rows(both[0].labels)
    other = write_table(
        tmp_path / "other.csv", [row | {"Fold": f"fold{1 + index % 2}"} for index, row in enumerate(rows)]
    )
    tests = {"other": {"labels": str(other), "root": str(both[0].root)}}
    words = ("-m", "evaluate", "-e", trained[0] / "dev-best.ckpt", "-t", "other", "-n", "again")
    done = cli(*words, "-o", f"config.downstream_expert.datarc.extra_tests={tests!r}", code=1)
    assert "utterances" in done.error
    assert "split 'other'" in done.error


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predict_takes_a_table_of_segments(
    both: Both, trained: tuple[Path, Path], command: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, corpus in zip(("long", "cut"), both, strict=True):
        words = (corpus.labels, "--root", corpus.root, "--device", "cpu", "--batch_size", 3)
        with caplog.at_level(logging.WARNING):
            command("predict", "--ckpt", trained[1] / "dev-best.ckpt", *words, "--out", f"{name}.csv")
    assert sum("of 48 files are audio that the checkpoint was trained on" in line for line in caplog.messages) == 2
    long, cut = (read_rows(tmp_path / f"{name}.csv") for name in ("long", "cut"))
    assert [[row[key] for key in NUMBERS] for row in long] == [[row[key] for key in NUMBERS] for row in cut]
    assert list(cut[0])[:3] == ["FileName", "start", "end"]
    assert list(long[0])[:4] == ["Utterance", "FileName", "Start", "End"]
    table = read_rows(both[0].labels)
    assert [row["Utterance"] for row in long] == [name_of(row) for row in table]
    for name in ("Start", "End"):
        assert [float(row[name]) for row in long] == [float(row[name]) for row in table]


def test_windows_and_attention_of_segments(
    both: Both, trained: tuple[Path, Path], command: Call, tmp_path: Path
) -> None:
    rows = read_rows(both[0].labels)[:2]
    table = write_table(tmp_path / "two.csv", [rows[1], {**rows[0], "Start": "", "End": ""}])
    ckpt = ("--ckpt", trained[1] / "dev-best.ckpt", "--root", both[0].root, "--device", "cpu", table)
    command("predict", *ckpt, "--window", "0.2", "--hop", "0.1", "--out", "w.csv")
    found = read_rows(tmp_path / "w.csv")
    start, end = float(rows[1]["Start"]), float(rows[1]["End"])
    first = [row for row in found if row["Utterance"] == name_of(rows[1])]
    assert [float(first[0][name]) for name in ("Start", "End")] == [start, end]
    assert float(first[1]["Start"]) == start
    assert float(first[-1]["End"]) == pytest.approx(end)
    whole = [row for row in found if row["Utterance"] == rows[0]["FileName"]]
    assert [whole[0][name] for name in ("Start", "End", "window")] == ["", "", ""]
    assert whole[1]["Start"] == "0"
    command("predict", *ckpt, "--attention", "weights", "--out", "a.json")
    records = json.loads((tmp_path / "a.json").read_text())["predictions"]
    assert [record["file"] for record in records] == ["calls/s0.wav", "calls/s0.wav"]
    assert {key: records[0][key] for key in ("utterance", "start", "end")} == {
        "utterance": name_of(rows[1]), "start": start, "end": end
    }  # fmt: skip
    assert records[0]["attention"] == f"weights/{name_of(rows[1]).replace(':', '_')}.npz"
    assert (tmp_path / records[0]["attention"]).is_file()


def test_segments_that_cannot_be_read_are_rows_with_errors(
    both: Both, trained: tuple[Path, Path], command: Call, tmp_path: Path
) -> None:
    rows = read_rows(both[0].labels)[:3]
    rows[1]["End"] = "77"
    table = write_table(tmp_path / "beyond.csv", rows)
    ckpt = ("--ckpt", trained[1] / "dev-best.ckpt", "--root", both[0].root, "--device", "cpu")
    done = command("predict", *ckpt, table, "--out", "out.csv", code=1)
    found = read_rows(tmp_path / "out.csv")
    assert [bool(row["prediction"]) for row in found] == [True, False, True]
    assert (found[1]["FileName"], found[1]["End"]) == ("calls/s0.wav", "77.000")
    assert found[1]["error"].startswith("lies beyond the end of the audio (")
    assert "1 of 3 files failed" in done.err


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_of_segments_are_those_of_files(both: Both, command: Call, cli: Cli, tmp_path: Path) -> None:
    stored = []
    for name, corpus in zip(("long", "cut"), both, strict=True):
        words = ("-u", "fbank_no_cmvn", "--labels", corpus.labels, "--root", corpus.root, "--device", "cpu")
        command("export", *words, "--pooling", "mean", "-o", f"{name}.npz")
        stored.append(command("extract", *words, "--feature_store", "store").out)
    with np.load(tmp_path / "long.npz") as long, np.load(tmp_path / "cut.npz") as cut:
        np.testing.assert_array_equal(long["features"], cut["features"])
        assert long["names"].tolist() == sorted(name_of(row) for row in read_rows(both[0].labels))
        assert long["speakers"].tolist() == cut["speakers"].tolist()
    assert "48 computed" in stored[0], stored
    assert " 0 computed" in stored[1], stored  # the store goes by content


def test_segments_are_computed_in_the_order_of_their_files(both: Both) -> None:
    utterances = list_utterances(config(both[0]))
    seconds = [item.part.seconds for item in utterances if item.part is not None]
    order = longest_first(utterances, seconds)
    assert seconds[order[0]] == max(seconds)
    assert order[1:] == [index for index in range(48) if index != order[0]]
    files = list_utterances(config(both[1]))
    assert longest_first(files, seconds) == sorted(range(48), key=lambda index: (-seconds[index], index))


def test_fingerprint_reads_each_file_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(config(both[0]))
    read: list[Path] = []
    content = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or content(path))  # type: ignore[func-returns-value]
    split = fingerprint(corpus.split("train"), ["ang"], classes=corpus.classes)
    assert len(read) == len({item.path for item in corpus.split("train")})
    assert split.utterances == len(corpus.split("train"))


def test_autoencoder_is_trained_on_the_segments(both: Both) -> None:
    index = index_table(str(both[0].labels), str(both[0].root), 1280, 640, 20.0)
    utterances = list_utterances(config(both[0]))
    assert len(index) == 48
    assert index.samples == sum(round(item.part.seconds * SAMPLE_RATE) for item in utterances if item.part is not None)


# --- degraded copies --------------------------------------------------------------------------------------------------


def test_degraded_copies_of_segments(both: Both, command: Call, tmp_path: Path) -> None:
    words = ("--labels", both[0].labels, "--root", both[0].root, "--out", "noisy", "--snr", "20:20")
    command("degrade", *words, "--noise", "babble")
    rows, table = read_rows(tmp_path / "noisy/test_20dB.csv"), read_rows(both[0].labels)
    assert [row["SourceFile"] for row in rows] == [name_of(row) for row in table]
    assert not {"Start", "End"} & set(rows[0])
    first = table[0]
    expected = f"test_20dB/calls/s0_{float(first['Start']):.3f}-{float(first['End']):.3f}.wav"
    assert rows[0]["FileName"] == expected
    for row, source in zip(rows, table, strict=True):
        copy = soundfile.info(tmp_path / "noisy" / row["FileName"])
        assert copy.frames == round((float(source["End"]) - float(source["Start"])) * RATE)
    corpus = load_corpus(config(both[0], degraded=str(tmp_path / "noisy")))
    assert [item.source for item in corpus.split("test_20dB")] == [item.name for item in corpus.split("test")]
    on_the_fly = load_corpus(config(both[0], degrade={"noise": "babble", "snr": [[20, 20]]}))
    from s3prl_emotion.loading.loaders import Loaders

    data = config(both[0], degrade={"noise": "babble", "snr": [[20, 20]]}, eval_batch_size=64)
    waveforms, _, names = next(iter(Loaders(on_the_fly, data, 0).evaluation("test_20dB")))
    copies = UtteranceDataset(corpus.split("test_20dB"), False, None)
    assert names == [item.name for item in corpus.split("test")]
    for waveform, copy in zip(waveforms, (copies[index][0] for index in range(len(copies))), strict=True):
        np.testing.assert_array_equal(waveform, copy)


# --- prepare ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("Start", "End"), ("begin", "stop")])
def test_prepare_keeps_segments(both: Both, command: Call, tmp_path: Path, names: tuple[str, str]) -> None:
    rows = read_rows(both[0].labels)
    renamed = {"Start": names[0], "End": names[1], "EmoClass": "label"}
    source = write_table(tmp_path / "theirs.csv", [{renamed.get(k, k): v for k, v in row.items()} for row in rows])
    columns = ",".join(f"{ours}={theirs}" for ours, theirs in renamed.items() if ours != theirs)
    command("prepare", "generic", both[0].root, "out", "--csv", source, "--columns", columns)
    found = read_rows(tmp_path / "out/labels.csv")
    assert "Duration" not in found[0]
    assert [name_of(row) for row in found] == [name_of(row) for row in rows]
    assert [item.name for item in list_utterances(config(both[0], labels="out/labels.csv"))] == sorted(
        map(name_of, rows)
    )


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_processes_read_segments_as_this_one_does(
    both: Both, trained: tuple[Path, Path], command: Call, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ("--ckpt", trained[1] / "dev-best.ckpt", "--root", both[0].root, "--device", "cpu", both[0].labels)
    for jobs in (1, 2):
        command("predict", *words, "--jobs", jobs, "--out", f"{jobs}.csv")
    assert (tmp_path / "1.csv").read_text() == (tmp_path / "2.csv").read_text()
    values = {"downstream_expert.datarc.pre_load": False, "downstream_expert.datarc.num_workers": 1}
    values |= {"runner.total_steps": 2, "runner.log_step": 1, "runner.eval_step": 2, "runner.save_step": 2}
    again = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", "again", "-v", "fold1")
    cli("-m", "train", *again, "-o", both[0].overrides(**values, **{"downstream_expert.embeddings": True}))
    name = "test_fold1_predictions.csv"
    assert (tmp_path / "again" / name).read_text() == (trained[0] / name).read_text()


# --- transcripts ------------------------------------------------------------------------------------------------------


def test_transcripts_of_segments(both: Both, tmp_path: Path) -> None:
    class Recogniser:
        batch_size, cut, limit = 1, (), 0

        def transcribe(self, waveforms: list[Any]) -> list[str]:
            return [str(len(waveform)) for waveform in waveforms]

    class Record(dict[str, str]):
        def add(self, name: str, text: str) -> None:
            self[name] = text

    utterances, record = list_utterances(config(both[0])), Record()
    transcription._transcribe(Recogniser(), utterances, record)  # type: ignore[arg-type]
    assert record == {
        name_of(row): str(round((float(row["End"]) - float(row["Start"])) * RATE)) for row in read_rows(both[0].labels)
    }
    named = write_table(tmp_path / "named.csv", [{"FileName": name, "Text": text} for name, text in record.items()])
    rows = [{**row, "Text": record[name_of(row)]} for row in read_rows(both[0].labels)]
    timed = write_table(
        tmp_path / "timed.csv", rows, ["FileName", "Start", "End", "Text", "EmoClass", "SpkrID", "Gender", "Fold"]
    )
    assert texts_of(utterances, named) == texts_of(utterances, timed) == [record[item.name] for item in utterances]


# --- audit ------------------------------------------------------------------------------------------------------------


def test_audit_of_sound_segments(both: Both) -> None:
    found, files = (audit(read_listing(corpus.labels), corpus.root) for corpus in both)
    assert {(item.code, item.severity) for item in found.findings} == {
        (item.code, item.severity) for item in files.findings
    }
    assert found.facts["audio"] == files.facts["audio"]
    assert found.listing.files.tolist() == [name_of(row) for row in read_rows(both[0].labels)]


def test_audit_names_faulty_segments(both: Both, tmp_path: Path) -> None:
    rows = read_rows(both[0].labels)
    rows[0]["End"] = rows[1]["End"]  # overlaps the next, which is of the same split
    rows[2]["Start"] = "later"
    rows[3]["End"] = rows[3]["Start"]
    rows[4]["End"] = "66"
    rows[8].update(Start=rows[9]["Start"], Fold="fold2", SpkrID="s9", End=str(float(rows[9]["Start"]) + 0.1))
    listing = read_listing(write_table(tmp_path / "faulty.csv", rows))
    found = {item.code: item for item in audit(listing, both[0].root).findings}
    assert found["segment-times"].severity == "error"
    times = [case for item in listing.findings if item.code == "segment-times" for case in item.examples]
    assert times == [f"calls/s0.wav: later, {rows[2]['End']}", f"calls/s0.wav: {rows[3]['Start']}, {rows[3]['End']}"]
    assert found["segment-beyond"].examples[0].startswith(f"{name_of(rows[4])}")
    assert name_of(rows[1]) in found["segment-overlap"].examples
    assert any(name_of(rows[8]) in case for case in found["segment-leak"].examples)
    alone = [{key: value for key, value in row.items() if key != "End"} for row in rows[:4]]
    found = {item.code: item for item in read_listing(write_table(tmp_path / "alone.csv", alone)).findings}
    assert "a column Start without its counterpart" in found["segment-times"].what
