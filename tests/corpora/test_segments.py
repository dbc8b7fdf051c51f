"""Segments: rows with Start and End are parts of files, with names, scores and outputs as files of their own have."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, TinyCorpus, tone
from segmented import Row, read_rows, write_segmented, write_table

from s3prl_emotion.audio import Part, copy_name, find_audio, list_name, opened, read_audio, segment_name, split_segment
from s3prl_emotion.audio import parts as audio_parts
from s3prl_emotion.audio.sound import SoundFileSound
from s3prl_emotion.corpora import Corpus, list_utterances, load_corpus
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyCorpus, TinyCorpus]:
    """The corpus as segments of recordings and as files."""
    return write_segmented(tmp_path_factory.mktemp("segmented"))


def config(corpus: TinyCorpus, **values: Any) -> DataSection:
    given = {"train_batch_size": 2, "eval_batch_size": 2, "labels": str(corpus.labels), "root": str(corpus.root)}
    return DataSection(**(given | values))


def with_times(*times: tuple[object, object]) -> list[Row]:
    """Rows of one file, s1 and s2 in turn."""
    return [
        {"FileName": "a.wav", "Start": start, "End": end, "EmoClass": f"c{number % 2}", "SpkrID": f"s{number % 2}"}
        for number, (start, end) in enumerate(times)
    ]


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_of_segments(tmp_path: Path) -> None:
    part = Part(1.25, 3.5)
    assert segment_name("x/a.wav", part) == "x/a.wav:1.250-3.500"
    assert split_segment("x/a.wav:1.250-3.500") == ("x/a.wav", part)
    assert split_segment("x/a.wav") == ("x/a.wav", None)
    assert split_segment("x/12:30-13:00.wav") == ("x/12:30-13:00.wav", None)
    assert copy_name("x/a.flac:1.250-3.500", ".wav") == "x/a_1.250-3.500.wav"
    assert copy_name("x/a.flac", ".wav") == "x/a.wav"
    assert (list_name("x/a.wav"), list_name("x/a.wav:1.250-3.500")) == ("a", "x/a.wav:1.250-3.500")
    assert find_audio(tmp_path, "a.wav:1.250-3.500") == (tmp_path / "a.wav", part)
    (tmp_path / "a.wav:1.250-3.500").touch()
    assert find_audio(tmp_path, "a.wav:1.250-3.500") == (tmp_path / "a.wav:1.250-3.500", None)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "start", "end"),
    [
        (("Start", "End"), "1.25", "3.5"),
        (("start", "end"), "1.250", "3.5000001"),
        (("Start", "End"), "0 days 00:00:01.250000", "0 days 00:00:03.500000"),
        (("start", "end"), "00:00:01.25", "00:00:03.5"),
        (("START", "END"), " 1.25", "3.5 "),
    ],
)
def test_times_of_each_form_name_the_segment(tmp_path: Path, columns: tuple[str, str], start: str, end: str) -> None:
    rows = [dict(zip(("FileName", *columns, "EmoClass"), ("a.wav", start, end, "c"), strict=True))]
    table = read_table(write_table(tmp_path / "t.csv", rows))
    assert table[["FileName", "Start", "End"]].to_numpy().tolist() == [["a.wav:1.250-3.500", 1.25, 3.5]]


def test_decimal_commas_of_times(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("FileName;Start;End;EmoClass\na.wav;1,25;3,5\nb.wav;0;2,125\n")
    assert read_table(tmp_path / "t.csv", classes=False)["FileName"].tolist() == [
        "a.wav:1.250-3.500",
        "b.wav:0.000-2.125",
    ]


def test_rows_without_times_are_whole_files(tmp_path: Path) -> None:
    rows = with_times(("", ""), ("0 days", ""), ("0.5", "1"))
    rows[1]["FileName"] = "b.wav"
    rows[1]["Start"] = "0 days 00:00:00"
    table = read_table(write_table(tmp_path / "t.csv", rows))
    assert table["FileName"].tolist() == ["a.wav", "b.wav", "a.wav:0.500-1.000"]


@pytest.mark.parametrize(
    ("times", "match"),
    [
        ([("1", "2"), ("soon", "3")], "t.csv line 3: Start is no time: 'soon'; write seconds"),
        ([("1", "2"), ("-1", "3")], "t.csv line 3: Start is no time: '-1'"),
        ([("1", "inf")], "line 2: End is no time: 'inf'"),
        ([("2", "1")], r"line 2: a.wav:2.000-1.000: End does not lie behind Start by 1 ms; correct them"),
        ([("1", "1.0001")], "line 2: a.wav:1.000-1.000: End does not lie behind Start"),
        ([("1", "")], "line 2: End is empty, but Start is not; fill in both"),
        ([("", "1")], "line 2: Start is empty, but End is not"),
        ([("1", "2"), ("1.0", "2.0004")], "line 3: a.wav:1.000-2.000 is listed twice"),
    ],
)
def test_faulty_times_are_refused_with_their_line(tmp_path: Path, times: list[tuple[str, str]], match: str) -> None:
    with pytest.raises(LabelError, match=match) as caught:
        read_table(write_table(tmp_path / "t.csv", with_times(*times)))
    assert len(str(caught.value).splitlines()) == 1


def test_one_of_the_two_columns_alone_is_refused(tmp_path: Path) -> None:
    rows = with_times(("1", "2"))
    for lacking, given in (("End", "Start"), ("Start", "End")):
        columns = [name for name in rows[0] if name != lacking]
        with pytest.raises(LabelError, match=f"has a column {given}, but no column {lacking}"):
            read_table(write_table(tmp_path / "t.csv", [{k: v for k, v in rows[0].items() if k in columns}], columns))


# --- audio ------------------------------------------------------------------------------------------------------------


def formats() -> list[str]:
    found = ["a.wav", "a.flac", "a.ogg", "a.mp3"]
    return [name for name in found if name.rpartition(".")[2].upper() in soundfile.available_formats()]


@pytest.mark.parametrize("name", formats())
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_part_is_what_the_whole_file_has_there(tmp_path: Path, name: str, rate: int) -> None:
    wave = np.stack([tone(200.0, 3.0, 0, rate), tone(300.0, 3.0, 1, rate)], axis=1)
    soundfile.write(tmp_path / name, wave, rate)
    with opened(tmp_path / name) as sound:
        whole = sound.read()
    for start, end in ((1.0, 1.5), (0.25, 0.75), (2.0, 2.999), (0.0, 0.1)):  # backwards too
        cut = whole[round(start * rate) : round(end * rate)]
        soundfile.write(tmp_path / "cut.wav", cut, rate, "FLOAT")
        found = read_audio(tmp_path / name, "right", Part(start, end)).waveform
        np.testing.assert_array_equal(found, read_audio(tmp_path / "cut.wav", "right").waveform)


@pytest.mark.parametrize("name", formats())
def test_part_beyond_the_end_is_refused(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone(200.0, 2.0, 0), RATE)
    for start, end in ((1.0, 2.1), (2.01, 2.04), (5.0, 6.0)):
        with pytest.raises(
            AudioError, match=rf"{name}:{start:.3f}-{end:.3f}: lies beyond the end of the audio \(2\.\d+ s\)"
        ):
            read_audio(tmp_path / name, part=Part(start, end))
    audio = read_audio(tmp_path / name, part=Part(1.0, 2.04))  # times are rounded
    assert abs(len(audio.waveform) - RATE) <= 0.04 * RATE
    assert not audio.faults


def test_part_beyond_the_end_of_a_file_of_unknown_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(200.0, 2.0, 0), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # number of samples in STREAMINFO: 36 bits of 0, as where FLAC is written to a pipe
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert len(read_audio(tmp_path / "a.flac", part=Part(0.5, 1.0)).waveform) == RATE // 2
    for start, end in ((1.5, 2.5), (3.0, 4.0), (1.9, 2.2)):
        with pytest.raises(AudioError, match=r"lies beyond the end of the audio \(2.000 s\)"):
            read_audio(tmp_path / "a.flac", part=Part(start, end))


def test_header_that_says_too_little_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("soundfile without MP3")
    soundfile.write(tmp_path / "a.mp3", tone(200.0, 2.0, 0), RATE)
    whole = read_audio(tmp_path / "a.mp3").waveform
    blocks = SoundFileSound.blocks

    def without_limit(self: SoundFileSound, start: int = 0, stop: int | None = None) -> Any:
        self.frames = None  # as PyAV decodes whatever the header says
        yield from blocks(self, start, stop)

    first = SoundFileSound.__init__

    def short(self: SoundFileSound, *args: Any) -> None:
        first(self, *args)
        self.frames = RATE

    monkeypatch.setattr(SoundFileSound, "__init__", short)
    monkeypatch.setattr(SoundFileSound, "blocks", without_limit)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.mp3", part=Part(1.5, 1.9)).waveform, whole[24000:30400])
    with pytest.raises(AudioError, match="lies beyond the end of the audio"):
        read_audio(tmp_path / "a.mp3", part=Part(1.5, 2.9))


def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of frames that soundfile decodes from now on."""
    counts: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        found = read(self, *args, **options)
        counts.append(len(found))
        return found

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    return counts


@pytest.mark.parametrize("name", [name for name in formats() if name.endswith((".mp3", ".wav"))])
def test_a_file_is_decoded_once_for_neighbouring_segments(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / name, tone(200.0, 20.0, 0), RATE)
    counts = decoded_frames(monkeypatch)
    for second in (*range(19), 3, 1):
        read_audio(tmp_path / name, part=Part(second, second + 1.0))
    assert sum(counts) <= 21 * RATE


def test_decoded_audio_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("soundfile without MP3")
    monkeypatch.setattr(audio_parts, "KEPT", 4 * RATE)
    monkeypatch.setattr("s3prl_emotion.audio.sound.BLOCK", RATE)
    for name in ("a.mp3", "b.mp3"):
        soundfile.write(tmp_path / name, tone(200.0, 12.0, 0), RATE)
    whole = read_audio(tmp_path / "a.mp3").waveform
    for start, end in ((0.0, 10.0), (7.0, 9.0), (1.0, 2.0), (8.0, 11.5)):
        for name in ("a.mp3", "b.mp3"):
            found = read_audio(tmp_path / name, part=Part(start, end)).waveform
            np.testing.assert_array_equal(found, whole[round(start * RATE) : round(end * RATE)])
        assert sum(file.samples for file in audio_parts._KEEPER.files.values()) <= 5 * RATE


def test_a_file_that_changed_is_decoded_anew(tmp_path: Path) -> None:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("soundfile without MP3")
    path, part = tmp_path / "a.mp3", Part(0.5, 1.0)
    soundfile.write(path, tone(200.0, 2.0, 0), RATE)
    first = read_audio(path, part=part).waveform
    path.unlink()
    soundfile.write(path, tone(500.0, 2.5, 1), RATE)
    assert not np.array_equal(first, read_audio(path, part=part).waveform)


# --- corpora ----------------------------------------------------------------------------------------------------------


def test_segments_are_split_as_files_are(both: tuple[TinyCorpus, TinyCorpus]) -> None:
    long, cut = (load_corpus(config(corpus, test_fold="fold2")) for corpus in both)
    for split in ("train", "dev", "test"):
        assert [item.speaker for item in long.split(split)] == [item.speaker for item in cut.split(split)]
    item = long.split("test")[0]
    assert (item.name, item.file, item.path.name) == ("calls/s2.wav:0.200-0.700", "calls/s2.wav", "s2.wav")
    assert str(item.place).endswith("long/calls/s2.wav:0.200-0.700")
    assert len(list_utterances(config(both[0]))) == 48


def beyond(rows: list[dict[str, str]]) -> None:
    rows[5]["End"] = "99"


def gone(rows: list[dict[str, str]]) -> None:
    for row in rows:
        row["FileName"] = row["FileName"].replace("calls", "talks")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (
            beyond,
            r"calls/s0.wav:\d+.\d{3}-99.000: lies beyond the end of the audio \(\d.\d{3} s\); correct",
        ),
        (gone, r"none of the 6 audio files that .*segments.csv lists \(talks/s\d.wav, .*\) is there"),
    ],
)
def test_labels_that_do_not_fit_the_audio_end_before_training(
    both: tuple[TinyCorpus, TinyCorpus], tmp_path: Path, damage: Any, match: str
) -> None:
    rows = read_rows(both[0].labels)
    damage(rows)
    table = write_table(tmp_path / "segments.csv", rows)
    with pytest.raises(AudioError, match=match) as caught:
        load_corpus(config(both[0], labels=str(table)))
    assert len(str(caught.value).splitlines()) == 1


def test_overlaps_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = with_times(*((start / 10, start / 10 + 0.5) for start in range(0, 12, 3)))
    for row, fold in zip(rows, ("fold1", "fold1", "fold2", "fold3"), strict=True):
        row["Fold"], row["SpkrID"] = fold, fold
    soundfile.write(tmp_path / "a.wav", tone(200.0, 2.0, 0), RATE)
    table = write_table(tmp_path / "overlapping.csv", rows)
    with caplog.at_level(logging.INFO):
        load_corpus(DataSection(labels=str(table), root=str(tmp_path), train_batch_size=2, eval_batch_size=2))
    said = [record.getMessage() for record in caplog.records]
    assert any(
        "1 of the 2 segments of test overlap segments of train or dev (a.wav:0.300-0.800 and a.wav:0.600-1.100)" in line
        for line in said
    )
    assert any("1 of the 2 segments of test overlap an earlier one (a.wav:0.300-0.800)" in line for line in said)


def test_votes_belong_to_segments(both: tuple[TinyCorpus, TinyCorpus], tmp_path: Path) -> None:
    rows = read_rows(both[0].labels)
    votes = [{name: row[name] for name in ("FileName", "Start", "End", "EmoClass")} for row in rows for _ in range(2)]
    table = write_table(tmp_path / "votes.csv", votes)
    data = config(both[0], distribution={"source": "votes", "votes": str(table)}, classes=["ang", "hap", "neu", "sad"])
    from s3prl_emotion.corpora import Needs

    corpus: Corpus = read_corpus(both[0].labels, both[0].root, data, Needs(shares=True))
    assert all(item.shares is not None and max(item.shares) == 1.0 for item in corpus.split("train"))
