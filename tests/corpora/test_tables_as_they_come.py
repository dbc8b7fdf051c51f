"""Label tables as people hold them: recognised and logged, or refused in one line that says where."""

from __future__ import annotations

import csv
import io
import logging
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TinyCorpus

from s3prl_emotion.audit import audit, read_listing
from s3prl_emotion.corpora import Corpus, Needs, list_utterances, load_corpus
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.label_text import read_labels
from s3prl_emotion.corpora.partitions import meant_by
from s3prl_emotion.corpora.preparers.generic import Options
from s3prl_emotion.corpora.preparers.generic import read as read_generic
from s3prl_emotion.corpora.transcripts import read_transcripts
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.errors import AudioError, ConfigError, EmotionError, LabelError
from s3prl_emotion.predict.inputs import collect
from s3prl_emotion.recipe import DataSection

Row = dict[str, str]
Lines = list[list[str]]
COLUMNS = ["FileName", "EmoClass", "SpkrID", "EmoAct", "EmoVal", "EmoDom", "Text"]
CLASSES = ("wütend", "neutral", "traurig")


@contextmanager
def refused(match: str, error: type[EmotionError] = LabelError) -> Iterator[None]:
    """Expect an error of one line; ``match`` is a regular expression."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)


def rows_of(classes: Sequence[str] = CLASSES, speakers: int = 8, takes: int = 3) -> list[Row]:
    """A sound table of 72 rows."""
    return [
        {
            "FileName": f"sub/s{speaker}_{number}_{take}.wav",
            "EmoClass": name,
            "SpkrID": f"S{speaker}",
            "EmoAct": f"{take}.5",
            "EmoVal": "2",
            "EmoDom": "3",
            "Text": f"say {number}",
        }
        for speaker in range(speakers)
        for number, name in enumerate(classes)
        for take in range(takes)
    ]


def text_of(rows: Sequence[Row], separator: str = ",", columns: Sequence[str] | None = None) -> str:
    columns = columns or list(rows[0])
    lines = [separator.join(columns), *(separator.join(row.get(name, "") for name in columns) for row in rows)]
    return "\n".join(lines) + "\n"


def config(**values: Any) -> DataSection:
    return DataSection(**{"labels": "labels.csv", "train_batch_size": 2, "eval_batch_size": 2, **values})


def corpus_of(path: Path, needs: Needs | None = None, **values: Any) -> Corpus:
    return read_corpus(path, path.parent, config(**values), needs or Needs(dimensions=True))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.fixture
def plain(tmp_path: Path) -> Corpus:
    """The corpus of the sound table, as UTF-8 with commas."""
    path = tmp_path / "labels.csv"
    path.write_text(text_of(rows_of()), encoding="utf-8")
    return corpus_of(path)


# --- encoding, separator, decimal comma -------------------------------------------------------------------------------


def commas(rows: Sequence[Row]) -> list[Row]:
    return [{**row, "EmoAct": row["EmoAct"].replace(".", ",")} for row in rows]


def quoted(rows: Sequence[Row]) -> list[Row]:
    return [{**row, "EmoAct": f'"{row["EmoAct"]}"', "Text": f'"{row["Text"]}"'} for row in rows]


FORMS = {
    "utf-8 with a mark": (text_of(rows_of()).encode("utf-8-sig"), "UTF-8 with a byte-order mark"),
    "utf-16": (text_of(rows_of(), "\t").encode("utf-16"), "UTF-16", "separated by tab"),
    "utf-16 big-endian": (b"\xfe\xff" + text_of(rows_of()).encode("utf-16-be"), "UTF-16"),
    "utf-16 without a mark": (text_of(rows_of()).encode("utf-16-le"), "UTF-16 without a byte-order mark"),
    "cp1252": (text_of(rows_of()).encode("cp1252"), "not UTF-8: read as cp1252, 'wütend' for example"),
    "semicolon": (text_of(rows_of(), ";").encode(), "separated by semicolon"),
    "tab": (text_of(rows_of(), "\t").encode(), "separated by tab"),
    "bar": (text_of(rows_of(), "|").encode(), "separated by vertical bar"),
    "excel's first line": (b"sep=;\r\n" + text_of(rows_of(), ";").encode(), "separated by semicolon"),
    "decimal comma": (text_of(commas(rows_of()), ";").encode(), "separated by semicolon", "EmoAct: decimal commas"),
    "quoted decimal comma": (text_of(quoted(commas(rows_of()))).encode(), "EmoAct: decimal commas"),
    "windows' line ends": (text_of(rows_of()).replace("\n", "\r\n").encode(),),
    "macintosh's line ends": (text_of(rows_of()).replace("\n", "\r").encode(),),
    "spreadsheet of Windows": (
        text_of(commas(rows_of()), ";").replace("\n", "\r\n").encode("cp1252"),
        "read as cp1252", "separated by semicolon", "EmoAct: decimal commas",
    ),
    "other case of columns": (
        text_of(rows_of()).replace("FileName,EmoClass,SpkrID", "filename, EMOCLASS ,spkrid").encode(),
        "column filename is read as FileName", "column EMOCLASS is read as EmoClass", "column spkrid is read as SpkrID",
    ),
    "Windows' paths": (text_of(rows_of()).replace("sub/", "sub\\").encode(), "Windows' separators of 'sub"),
    "spaces": (
        text_of(rows_of()).replace("sub/", " sub/").replace("wütend", "wütend ").encode(),
        "FileName: spaces around ' sub/s0_0_0.wav' are left out (and 71 more)",
        "EmoClass: 'wütend ' is read as 'wütend'",
    ),
    "one NFD class": (
        text_of(rows_of()).replace("wütend", unicodedata.normalize("NFD", "wütend"), 5).encode(), "EmoClass: ",
    ),
    "trailing blank lines": (text_of(rows_of()).encode() + b"\n  \n\n",),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_form_of_a_table_is_recognised_and_logged(
    labels: Path, plain: Corpus, form: str, caplog: pytest.LogCaptureFixture
):
    """The corpus is that of the plain table, and the log says how it was read; of a usual table it says nothing."""
    data, *said = FORMS[form]
    labels.write_bytes(data)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        assert corpus_of(labels).splits == plain.splits
    for words in said:
        assert f"labels.csv: {words}" in caplog.text or words in caplog.text
    if not said:
        assert not caplog.text


def test_decimal_commas_amid_points_are_refused(labels: Path):
    rows = rows_of()
    rows[9]["EmoAct"] = "2,5"
    labels.write_text(text_of(rows, ";"))
    with refused(r"labels\.csv line 11: EmoAct is not a number: '2,5'; other rows have a decimal point"):
        read_table(labels)


def test_decimal_commas_of_shares(labels: Path):
    rows = [{**row, "wütend": "0,25", "neutral": "0,75"} for row in rows_of(("wütend", "neutral"))]
    labels.write_text(text_of(rows, ";"), encoding="utf-8")
    corpus = corpus_of(labels, Needs(classes=False, shares=True))
    assert {item.shares for item in corpus.split("train")} == {(0.25, 0.75)}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", r"a spreadsheet or an archive; save the table as CSV"),
        ("FileName,EmoClass\nä.wav,neu\n".encode("utf-16")[:-1], r"damaged UTF-16"),
        (b"FileName,EmoClass\na.wav,\x81\xff\n", r"labels\.csv line 2: .*neither UTF-8 nor cp1252"),
        (b"FileName,EmoClass\na.wav,\xe4\x01\n", r"it holds control characters"),
    ],
)
def test_what_is_no_text_is_refused(labels: Path, data: bytes, match: str):
    labels.write_bytes(data)
    with refused(match):
        read_table(labels)


# --- quotation marks and rows -----------------------------------------------------------------------------------------


def with_text(line: int, text: str, **others: str) -> str:
    """The sound table with a text as written in one line, and further ones in others."""
    lines = text_of(rows_of()).splitlines()
    for number, cell in {line: text, **{int(key[1:]): cell for key, cell in others.items()}}.items():
        lines[number - 1] = f"{lines[number - 1].rpartition(',')[0]},{cell}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (with_text(12, '"he said', L22='"she said"'), "line 12: .* opens a cell that would last until line 22"),
        (with_text(12, '"he said', L22='"'), "line 12: .* opens a cell that holds the rows up to line 22"),
        (with_text(12, '"he said'), "line 12: .* a quotation mark opens a cell that never closes"),
        (with_text(12, 'he said "no"'), "line 12: .* a stray quotation mark"),
        (with_text(12, '"he" said'), "line 12: .* a stray quotation mark"),
        (with_text(12, ' "he said"'), "line 12: .* a stray quotation mark"),
        (with_text(73, '"'), "line 73: .* a quotation mark opens a cell that never closes"),
        ("sep=,\n" + with_text(12, 'he said "no"'), "line 13: .* a stray quotation mark"),
    ],
)
def test_stray_quotation_mark_is_refused_with_its_line(labels: Path, text: str, match: str):
    """Today's readers take 72 rows for 62 without a word."""
    labels.write_text(text, encoding="utf-8")
    with refused(rf"labels\.csv {match}"):
        read_table(labels)


@pytest.mark.parametrize("text", ['"he said ""no"", twice"', '"two\nlines, and a comma"', '""', '"""no"""', '"a\n\nb"'])
def test_sound_quotation_marks_are_read(labels: Path, text: str):
    labels.write_text(with_text(12, text), encoding="utf-8")
    table = read_table(labels)
    assert len(table) == 72
    cell = table["Text"].iloc[10]
    assert cell == next(csv.reader([text + "\n"] if "\n" not in text else text.splitlines(keepends=True)))[0] or (
        text == '""' and cell != cell
    )


def test_lines_are_those_of_the_file_behind_blank_lines_and_texts_of_several(labels: Path):
    lines = with_text(12, '"two\nlines"').splitlines()
    lines.insert(3, "")
    lines[-1] = lines[-1].replace("2.5", "much")
    labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with refused(rf"labels\.csv line {len(lines)}: EmoAct is not a number: 'much'"):
        read_table(labels)


def test_rows_that_lack_cells_are_pointed_out(labels: Path, caplog: pytest.LogCaptureFixture):
    lines = text_of(rows_of()).splitlines()
    lines[5], lines[7] = lines[5].rpartition(",")[0], lines[7].rpartition(",")[0]
    labels.write_text("\n".join(lines), encoding="utf-8")
    table = read_table(labels)
    assert table["Text"].isna().sum() == 2
    assert "labels.csv line 6: has fewer cells than the header (2 rows)" in caplog.text


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ("FileName,EmoClass,SpkrID,a,b,c,EmoClass", r"the column 'EmoClass' is there twice \(columns 2 and 7\)"),
        ("FileName,EmoClass,SpkrID,a,b,c, EmoClass", r"the column 'EmoClass' and ' EmoClass' is there twice"),
        ("FileName,EmoClass,SpkrID,a,b,c,emoclass", r"'EmoClass' and 'emoclass' differ in letter case alone"),
        ("FileName,EmoClass,spkrid,a,b,c,SPKRID", r"'SpkrID' and 'SPKRID' differ in letter case alone"),
        ("FileName,EmoClass,SpkrID,Rating,b,c,Rating", r"the column 'Rating' is there twice"),
    ],
)
def test_column_twice_is_refused(labels: Path, header: str, match: str):
    labels.write_text("\n".join([header, *text_of(rows_of()).splitlines()[1:]]), encoding="utf-8")
    with refused(rf"labels\.csv: .*{match}"):
        read_table(labels)


def test_shares_in_two_spellings_are_refused(labels: Path):
    rows = [{**row, "angry": "0.5", "Angry": "0.5"} for row in rows_of()]
    labels.write_text(text_of(rows), encoding="utf-8")
    with refused(r"the columns 'Angry' and 'angry' differ in letter case alone"):
        read_table(labels)


def test_shares_are_of_the_class_in_another_case(labels: Path):
    rows = [{**row, "Angry": "0.75", "Sad": "0.25"} for row in rows_of(("angry", "sad"))]
    labels.write_text(text_of(rows))
    corpus = corpus_of(labels, Needs(classes=False, shares=True))
    assert corpus.classes == ("angry", "sad")
    assert {item.label for item in corpus.split("train")} == {0, 1}


# --- two spellings of a name ------------------------------------------------------------------------------------------


def respelt(column: str, spelling: str, rows: slice = slice(2, 3)) -> list[Row]:
    changed = rows_of(("angry", "sad"))
    for row in changed[rows]:
        row[column] = spelling
    return changed


@pytest.mark.parametrize(
    ("column", "spelling", "match"),
    [
        ("EmoClass", "Angry", "EmoClass: 'Angry' and 'angry' differ in letter case alone"),
        ("EmoClass", "ANGRY ", "EmoClass: 'ANGRY' and 'angry' differ in letter case alone"),
        ("SpkrID", "s0 ", r"SpkrID: 'S0' \(line 2\) and 's0' \(line 4\) differ in letter case alone"),
        ("SpkrID", "s7", r"SpkrID: 'S7' \(line \d+\) and 's7' \(line 4\) differ"),
    ],
)
def test_two_spellings_of_a_name_are_refused(labels: Path, column: str, spelling: str, match: str):
    labels.write_text(text_of(respelt(column, spelling)))
    with refused(rf"labels\.csv: {match}"):
        corpus_of(labels)


@pytest.mark.parametrize(("column", "spelling"), [("EmoClass", " angry"), ("SpkrID", "S0 "), ("SpkrID", "\tS0")])
def test_spaces_make_no_second_class_nor_speaker(labels: Path, column: str, spelling: str):
    labels.write_text(text_of(respelt(column, spelling)))
    corpus = corpus_of(labels)
    assert corpus.classes == ("angry", "sad")
    assert {item.speaker for items in corpus.splits.values() for item in items} == {f"S{n}" for n in range(8)}


def test_unicode_forms_make_no_second_speaker(labels: Path):
    rows = rows_of()
    for place, row in enumerate(rows):
        row["SpkrID"] = unicodedata.normalize("NFC" if place % 2 else "NFD", row["SpkrID"].replace("S", "Jürgen"))
    labels.write_text(text_of(rows), encoding="utf-8")
    assert len({item.speaker for items in corpus_of(labels).splits.values() for item in items}) == 8


def test_file_in_two_unicode_forms_is_listed_twice(labels: Path):
    rows = rows_of()
    rows[0]["FileName"], rows[5]["FileName"] = unicodedata.normalize("NFD", "ä.wav"), "ä.wav"
    labels.write_text(text_of(rows), encoding="utf-8")
    with refused(r"labels\.csv line 7: ä\.wav is listed twice"):
        read_table(labels)


def test_a_recipe_may_merge_spellings(labels: Path):
    labels.write_text(text_of(respelt("EmoClass", "Angry")))
    assert corpus_of(labels, merge={"Angry": "angry"}).classes == ("angry", "sad")


def test_spellings_of_classes_that_are_left_out_do_not_matter(labels: Path):
    rows = [
        *rows_of(("angry", "sad")),
        *({**row, "FileName": "x" + row["FileName"]} for row in rows_of(("Oth", "oth"))),
    ]
    labels.write_text(text_of(rows))
    assert corpus_of(labels, classes=["angry", "sad"]).classes == ("angry", "sad")


@pytest.mark.parametrize("nobody", ["Unknown", "unknown", "UNK", "unk"])
def test_unknown_speakers_have_any_spelling(labels: Path, nobody: str):
    rows = [
        {**row, "Split_Set": "Test" if row["SpkrID"] in ("S6", "S7") else "Train"} for row in respelt("SpkrID", nobody)
    ]
    rows[4]["SpkrID"] = nobody.swapcase()
    labels.write_text(text_of(rows))
    corpus_of(labels)


# --- values that are none, and misspelt ones --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"), [("EmoClass", "#N/A"), ("EmoClass", "#NV"), ("EmoClass", "nan"), ("SpkrID", "#REF!")]
)
def test_missing_values_of_spreadsheets_are_pointed_out(
    labels: Path, column: str, value: str, caplog: pytest.LogCaptureFixture
):
    labels.write_text(text_of(respelt(column, value)))
    corpus_of(labels)
    assert f"labels.csv: {column} is '{value}' in 1 rows, which looks like a missing value" in caplog.text
    found = codes(labels)
    assert ("no-value", "warning") in found


@pytest.mark.parametrize(("rare", "frequent"), [("angy", "angry"), ("sda", "sad"), ("anger", "angry")])
def test_rare_misspelt_class_is_pointed_out(labels: Path, rare: str, frequent: str, caplog: pytest.LogCaptureFixture):
    labels.write_text(text_of(respelt("EmoClass", rare)))
    corpus_of(labels, classes=["angry", "sad"])
    assert f"EmoClass '{rare}' (1 rows) is spelt nearly as '{frequent}' (2" in caplog.text
    assert ("class-misspelt", "warning") in codes(labels)


def test_classes_of_the_corpora_are_no_misspellings(labels: Path, caplog: pytest.LogCaptureFixture):
    """IEMOCAP's own classes, as rare as they are there."""
    sizes = {
        "ang": 55,
        "neu": 85,
        "fru": 92,
        "exc": 52,
        "hap": 30,
        "sad": 54,
        "sur": 5,
        "fea": 2,
        "dis": 1,
        "oth": 1,
        "xxx": 125,
    }
    rows = [
        {
            "FileName": f"{name}{take}.wav",
            "EmoClass": name,
            "SpkrID": f"s{take % 8}",
            "EmoAct": "1",
            "EmoVal": "2",
            "EmoDom": "3",
        }
        for name, size in sizes.items()
        for take in range(size)
    ]
    labels.write_text(text_of(rows))
    corpus_of(labels, classes=["ang", "neu", "hap", "sad"], merge={"exc": "hap"})
    assert "spelt nearly" not in caplog.text


def codes(labels: Path) -> set[tuple[str, str]]:
    return {(item.code, item.severity) for item in audit(read_listing(labels)).findings}


def test_audit_names_spellings_partitions_and_both_columns(labels: Path):
    rows = [
        {**row, "Fold": f"fold{int(row['SpkrID'][1:]) % 3}", "Split_Set": "Train"} for row in respelt("SpkrID", "s1")
    ]
    labels.write_text(text_of(rows))
    assert {("two-spellings", "error"), ("two-splits", "note")} <= codes(labels)
    labels.write_text(text_of([{**row, "Split_Set": "val"} for row in rows], columns=[*COLUMNS, "Split_Set"]))
    assert ("split-unknown", "error") in codes(labels)


# --- Split_Set and Fold -----------------------------------------------------------------------------------------------


def split_rows(*partitions: str, **more: str) -> list[Row]:
    """Two speakers for each partition."""
    rows = rows_of(("angry", "sad"), speakers=2 * len(partitions))
    return [{**row, "Split_Set": partitions[int(row["SpkrID"][1:]) // 2], **more} for row in rows]


@pytest.mark.parametrize(
    ("value", "nearest"),
    [("val", "Development"), ("DEV ", "Development"), (" Train", "Train"), ("trian", "Train"), ("tets", "Test"),
     ("training", "Train"), ("eval", "Development or Test"), ("devel", "Development"), ("Test1 ", "Test")],
)  # fmt: skip
def test_partition_that_is_nearly_known_is_refused(labels: Path, value: str, nearest: str):
    labels.write_text(text_of(split_rows("Train", value, "Test1")))
    with refused(rf"labels\.csv: Split_Set '{value}' is none of the known partitions: write {nearest}"):
        corpus_of(labels)


@pytest.mark.parametrize("value", ["Train", "train", "DEV", "Validation", "valid", "Test", "test", "Test3", "Extra"])
def test_known_and_further_partitions_are_taken(value: str):
    assert meant_by(value) is None


def test_test_partition_in_two_spellings_is_refused(labels: Path):
    labels.write_text(text_of(split_rows("Train", "Test1", "test1")))
    with refused(r"Split_Set: 'Test1' and 'test1' differ in letter case alone"):
        corpus_of(labels)


def both_columns() -> list[Row]:
    rows = split_rows("Train", "Development", "Test1", "Train")
    return [{**row, "Fold": f"fold{int(row['SpkrID'][1:]) % 3 + 1}"} for row in rows]


@pytest.mark.parametrize(
    ("partition", "tested", "said"),
    [
        (None, {"S0", "S3", "S6"}, "Fold holds; datarc.partition: split_set chooses the other"),
        ("fold", {"S0", "S3", "S6"}, r"Fold holds (datarc.partition: fold)"),
        ("split_set", {"S4", "S5"}, r"Split_Set holds (datarc.partition: split_set)"),
    ],
)
def test_fold_holds_unless_the_recipe_chooses(labels: Path, partition: str | None, tested: set[str], said: str):
    labels.write_text(text_of(both_columns()))
    corpus = corpus_of(labels, partition=partition)
    assert {item.speaker for item in corpus.split("test")} == tested
    assert corpus.partition is not None
    assert said in corpus.partition


@pytest.mark.parametrize(("partition", "column"), [("fold", "Fold"), ("split_set", "Split_Set")])
def test_column_that_the_recipe_chooses_must_be_there(labels: Path, partition: str, column: str):
    labels.write_text(text_of(rows_of()), encoding="utf-8")
    with refused(rf"labels\.csv: no column {column}, which datarc\.partition: {partition} names"):
        corpus_of(labels, partition=partition)


def test_partition_does_not_go_with_other_protocols():
    values = {"labels": "x", "train_batch_size": 1, "eval_batch_size": 1, "partition": "fold", "protocol": "random"}
    with refused(r"datarc\.partition: does not go with protocol random", ConfigError):
        DataSection.read(values, "datarc")


def test_nothing_is_said_of_one_column(labels: Path):
    labels.write_text(text_of(split_rows("Train", "Development", "Test1")))
    assert corpus_of(labels).partition is None


# --- audio ------------------------------------------------------------------------------------------------------------


def test_labels_of_another_corpus_name_files_and_folder(own_tiny_corpus: TinyCorpus):
    path = own_tiny_corpus.labels
    path.write_text(path.read_text().replace(".wav", ".flac"))
    datarc = config(root=str(own_tiny_corpus.root), labels=str(path))
    said = (
        r"none of the 48 audio files that .*labels\.csv lists \(s\d_\w+_\d\.flac, s\d_\w+_\d\.flac, s\d_\w+_\d\.flac, "
        r"…\) is there: .*the folder holds 's0_ang_0\.wav', 's0_ang_1\.wav', 's0_hap_0\.wav' and 45 more; check "
    )
    with refused(said + r"datarc\.root", AudioError):
        load_corpus(datarc)
    with refused(said + r"datarc\.root", AudioError):
        list_utterances(datarc)
    with refused(said + "--root", AudioError):
        table = read_labels(str(path), str(own_tiny_corpus.root))
        table.check_audio(table.names)
    missing = next(
        item for item in audit(read_listing(path), own_tiny_corpus.root).findings if item.code == "audio-missing"
    )
    assert "it holds 's0_ang_0.wav'" in missing.fix


@pytest.mark.parametrize(("listed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_audio_is_found_in_the_other_unicode_form(own_tiny_corpus: TinyCorpus, listed: str, on_disk: str):
    root, path = own_tiny_corpus.root, own_tiny_corpus.labels
    folder = root / unicodedata.normalize(on_disk, "Jürgen")
    folder.mkdir()
    shutil.move(root / "s0_ang_0.wav", folder / unicodedata.normalize(on_disk, "ä.wav"))
    name = unicodedata.normalize(listed, "Jürgen/ä.wav")
    path.write_text(path.read_text().replace("s0_ang_0.wav", name), encoding="utf-8")
    corpus = load_corpus(config(root=str(root), labels=str(path), test_fold="fold1"))
    item = next(item for item in corpus.split("test") if item.name == name)
    assert item.path.is_file()
    found = audit(read_listing(path), root)
    assert not any(item.code == "audio-missing" for item in found.findings)


# --- other readers ----------------------------------------------------------------------------------------------------


def test_prepare_reads_the_same_tables(tmp_path: Path):
    (tmp_path / "audio" / "sub").mkdir(parents=True)
    for row in rows_of(speakers=1):
        soundfile.write(tmp_path / "audio" / row["FileName"], np.full(160, 0.1), 16000)
    rows = commas([{**row, "FileName": row["FileName"].replace("/", "\\")} for row in rows_of(speakers=1)])
    table = tmp_path / "theirs.csv"
    table.write_bytes(text_of(rows, ";").encode("cp1252"))
    prepared = read_generic(tmp_path / "audio", Options(csv=table))
    assert [clip.emotion for clip in prepared.clips] == [row["EmoClass"] for row in rows]
    assert all(clip.path.is_file() for clip in prepared.clips)
    assert prepared.clips[0].means == (0.5, 2.0, 3.0)
    assert "decimal commas are read in EmoAct" in prepared.notes
    table.write_bytes((text_of(rows, ";") + 'x;y;z;1;he "said"\n').encode("cp1252"))
    with refused(r"theirs\.csv line 11: .* a stray quotation mark"):
        read_generic(tmp_path / "audio", Options(csv=table))


def test_transcripts_are_read_alike(tmp_path: Path):
    table = tmp_path / "texts.csv"
    table.write_bytes("FileName;Text\nsub\\a.wav;Grüße, alle\n".encode("cp1252"))
    assert read_transcripts(table) == {"sub/a.wav": "Grüße, alle"}
    table.write_text('FileName,Text\na.wav,he said "no"\n')
    with refused(r"texts\.csv line 2: .* a stray quotation mark"):
        read_transcripts(table)


def test_rows_to_copy_have_tidy_names(labels: Path):
    labels.write_text(text_of(rows_of()).replace("sub/", " sub\\"), encoding="utf-8")
    assert read_labels(str(labels), str(labels.parent)).names == [row["FileName"] for row in rows_of()]


def test_predict_reads_the_same_tables(own_tiny_corpus: TinyCorpus):
    root, path = own_tiny_corpus.root, own_tiny_corpus.labels
    names = [row["FileName"] for row in csv.DictReader(path.read_text().splitlines())]
    path.write_bytes(path.read_text().replace(",", ";").encode("utf-16"))
    files = collect([str(path)], io.StringIO(), root)
    assert [(file.path, file.relative, file.name) for file in files] == [(str(root / n), n, n) for n in names]
    assert [file.path for file in collect(["-"], io.StringIO(f"{path}\n"), root)] == [str(root / n) for n in names]
    (root / "more").mkdir()
    with refused(r"none of the 48 audio files that .*labels\.csv lists .*; check --root", AudioError):
        collect([str(path)], io.StringIO(), root / "more")
    path.write_text("FileName\n../a.wav\n")
    with refused(r"labels\.csv: FileName '\.\./a\.wav' must be a path below the audio folder"):
        collect([str(path)], io.StringIO(), root)
