"""Label tables: a fault is an error of one line; valid labels reach the splits."""

from __future__ import annotations

import gzip
import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import TinyCorpus

from s3prl_emotion import host
from s3prl_emotion.corpora import DIMENSIONS, Corpus, Needs, load_corpus
from s3prl_emotion.corpora.class_names import MSP_LETTERS
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.errors import AudioError, EmotionError, LabelError
from s3prl_emotion.recipe import DataSection

Row = dict[str, object]


@contextmanager
def refused(match: str, error: type[EmotionError] = LabelError) -> Iterator[None]:
    """Expect an error of one line; ``match`` is a regular expression."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)


def rows_of(
    classes: Sequence[str] = ("neu", "sad"), speakers: int = 6, takes: int = 2, **constant: object
) -> list[Row]:
    """A sound table: every speaker says every class ``takes`` times."""
    return [
        {"FileName": f"s{speaker}_{name}_{take}.wav", "EmoClass": name, "SpkrID": f"s{speaker}", **constant}
        for speaker in range(speakers)
        for name in classes
        for take in range(takes)
    ]


def write(path: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> Path:
    columns = columns or list(rows[0])
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config(**values: Any) -> DataSection:
    return DataSection(**{"labels": "labels.csv", "train_batch_size": 2, "eval_batch_size": 2, **values})


def corpus_of(path: Path, **values: Any) -> Corpus:
    return read_corpus(path, path.parent, config(**values))


def names(corpus: Corpus, split: str) -> set[str]:
    return {utterance.name for utterance in corpus.split(split)}


def speakers(corpus: Corpus, split: str) -> set[str | None]:
    return {utterance.speaker for utterance in corpus.split(split)}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


# --- malformed files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("FileNam,EmoClass\na.wav,neu\n", r"labels\.csv: no column FileName; nearest: FileNam"),
        ("FileName,Emotion\na.wav,neu\n", r"labels\.csv: no column EmoClass"),
        ("FileName,EmoClas\na.wav,neu\n", r"no column EmoClass; nearest: EmoClas"),
        ('"File\nName",EmoClass\na.wav,neu\n', r"no column FileName; nearest: File Name"),
        ("FileName,EmoClass\na.wav,neu\nb.wav,\n", r"labels\.csv line 3: EmoClass is empty"),
        ("FileName,EmoClass\na.wav,neu\nb.wav\n", r"labels\.csv line 3: EmoClass is empty"),
        ("FileName,EmoClass\n,neu\n", r"labels\.csv line 2: FileName is empty"),
        ("FileName,EmoClass\na.wav,neu\nb.wav,sad\na.wav,sad\n", r"labels\.csv line 4: a\.wav is listed twice"),
        ("FileName,EmoClass\n", r"labels\.csv: the table has no rows"),
        ("", r"labels\.csv: not readable as CSV"),
        ("\n\n", r"labels\.csv: not readable as CSV"),
        ("FileName,EmoClass\na.wav,neu\nb.wav,sad,more\n", r"labels\.csv: not readable as CSV.*line 3"),
        ("FileName,EmoClass\na.wav,neu,hello\nb.wav,sad,world\n", r"labels\.csv: its rows have more fields"),
        ('FileName,EmoClass,Text\na.wav,neu,"open\n', r"labels\.csv line 2: not readable as CSV"),
        ("<html><body>Not found</body></html>", r"labels\.csv: no column FileName"),
    ],
)
def test_malformed_table_is_refused(labels: Path, text: str, match: str):
    labels.write_text(text, encoding="utf-8")
    with refused(match):
        read_table(labels)


@pytest.mark.parametrize(
    "junk",
    [
        bytes(range(256)) * 4,
        b"\x00\x01\x02\n\x00\x03",
        b"RIFF\x24\x00\x00\x00WAVEfmt \n\x10",
        b"\x1f\x8b\x08\x00abc",
    ],
    ids=["bytes", "nul", "wav", "gzip"],
)
def test_binary_junk_is_refused(labels: Path, junk: bytes):
    labels.write_bytes(junk)
    with refused(r"labels\.csv: (not readable as CSV|no column FileName)"):
        read_table(labels)


@pytest.mark.parametrize("name", ["labels.csv.gz", "labels.csv.zip"])
def test_damaged_archive_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"FileName,EmoClass\na.wav,neu\n")[:-10])
    with refused(f"{name}: not readable as CSV"):
        read_table(path)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd", "Duration"])
@pytest.mark.parametrize("value", ["high", "inf", "-inf", "nan", "3.5.1"])
def test_number_column_with_something_else_is_refused(labels: Path, column: str, value: str):
    rows = rows_of(**{column: 3.5})
    rows[4][column] = value
    with refused(rf"labels\.csv line 6: {column} is not a number: '{value}'$"):
        read_table(write(labels, rows))


def test_empty_number_is_unknown_not_wrong(labels: Path):
    rows = rows_of(EmoAct=3.5)
    rows[0]["EmoAct"] = ""
    table = read_table(write(labels, rows))
    assert table["EmoAct"].isna().tolist() == [True] + [False] * (len(rows) - 1)


@pytest.mark.parametrize(
    ("neutral", "sad"), [(0.5, 0.4), (0.5, 0.502), (1.2, -0.2), ("nan", 1.0), ("", 1.0), ("inf", 0.0), ("most", 0.5)]
)
def test_shares_that_are_no_distribution_are_refused(labels: Path, neutral: object, sad: object):
    rows = rows_of(neutral=0.25, sad=0.75)
    rows[2] |= {"neutral": neutral, "sad": sad}
    with refused(r"labels\.csv line 4: the grader shares \(neutral, sad\)"):
        read_table(write(labels, rows))


@pytest.mark.parametrize(("neutral", "sad"), [(0.5, 0.5), (0.3333, 0.6666), (0.0, 1.0), (0.5, 0.5009)])
def test_shares_within_tolerance_are_accepted(labels: Path, neutral: float, sad: float):
    table = read_table(write(labels, rows_of(neutral=neutral, sad=sad)))
    assert table[["neutral", "sad"]].iloc[0].tolist() == [neutral, sad]


def test_shares_are_known_by_the_classes_of_the_table(labels: Path):
    with refused(r"labels\.csv line 2: the grader shares \(wut, freude\).*sum to 1\.5"):
        read_table(write(labels, rows_of(("wut", "freude"), wut=1.0, freude=0.5)))


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"classes": ["neu", "sda"]}, r"labels\.csv: no utterance has class 'sda' of datarc\.classes; nearest: sad"),
        ({"classes": ["neu", "neu"]}, r"datarc\.classes: name at least two classes, each once"),
        ({"classes": ["neu"]}, r"datarc\.classes: name at least two classes"),
        ({"classes": []}, r"datarc\.classes: name at least two classes"),
        ({"merge": {"sad": "neu"}}, r"datarc\.classes: name at least two classes"),
        ({"classes": ["neu", "sad"], "merge": {"sad": "neu"}}, r"no utterance has class 'sad'"),
    ],
)
def test_classes_that_do_not_fit_are_refused(labels: Path, values: dict[str, Any], match: str):
    write(labels, rows_of())
    with refused(match):
        corpus_of(labels, **values)


def test_merge_joins_classes(labels: Path):
    corpus = corpus_of(write(labels, rows_of(("hap", "exc", "sad"))), merge={"exc": "hap"})
    assert corpus.classes == ("hap", "sad")
    assert {utterance.label for utterance in corpus.split("test") if "_exc_" in utterance.name} == {0}


def test_merge_is_not_chained(labels: Path):
    corpus = corpus_of(write(labels, rows_of(("a1", "b1", "c1"))), merge={"a1": "b1", "b1": "c1"})
    assert corpus.classes == ("b1", "c1")
    assert {utterance.label for utterance in corpus.split("test") if "_a1_" in utterance.name} == {0}


@pytest.mark.parametrize("classes", [["sad", "neu", "ang"], ["ang", "sad", "neu"]])
def test_order_of_classes_fixes_the_index(labels: Path, classes: list[str]):
    corpus = corpus_of(write(labels, rows_of(("neu", "ang", "sad"))), classes=classes)
    assert corpus.classes == tuple(classes)
    for utterances in corpus.splits.values():
        assert all(classes[utterance.label] == utterance.name.split("_")[1] for utterance in utterances)


def test_classes_default_to_all_in_alphabetical_order(labels: Path):
    assert corpus_of(write(labels, rows_of(("neu", "ang", "sad")))).classes == ("ang", "neu", "sad")


def test_rows_of_other_classes_are_left_out_and_counted(labels: Path, caplog: pytest.LogCaptureFixture):
    rows = [*rows_of(("neu", "sad")), *rows_of(("xxx",), takes=1), *rows_of(("oth",), speakers=1, takes=3)]
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        corpus = corpus_of(write(labels, rows), classes=["neu", "sad"])
    assert sum(len(utterances) for utterances in corpus.splits.values()) == 24
    assert "9 rows of other classes are left out (xxx 6, oth 3)" in caplog.text


def test_nothing_left_out_nothing_said(labels: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        corpus_of(write(labels, rows_of()))
    assert "left out" not in caplog.text


# --- MSP letters ------------------------------------------------------------------------------------------------------


def test_msp_letters_become_names(labels: Path):
    table = read_table(write(labels, rows_of(tuple(MSP_LETTERS))))
    assert set(table["EmoClass"]) == set(MSP_LETTERS.values())


@pytest.mark.parametrize("classes", [["N", "H"], ["neutral", "happy"], ["N", "happy"]])
def test_msp_letters_and_names_are_both_understood(labels: Path, classes: list[str]):
    corpus = corpus_of(write(labels, rows_of(("N", "H", "S"))), classes=classes)
    assert corpus.classes == ("neutral", "happy")


def test_msp_letters_in_merge(labels: Path):
    assert corpus_of(write(labels, rows_of(("N", "S", "C"))), merge={"C": "S"}).classes == ("neutral", "sad")


def test_no_agreement_is_no_class_unless_asked_for(labels: Path):
    write(labels, rows_of(("N", "S", "X")))
    assert corpus_of(labels).classes == ("neutral", "sad")
    assert corpus_of(labels, classes=["N", "S", "X"]).classes == ("neutral", "sad", "no agreement")


def test_own_one_letter_classes_are_kept(labels: Path):
    corpus = corpus_of(write(labels, rows_of(("A", "B"))), classes=["B", "A"])
    assert corpus.classes == ("B", "A")


# --- dimensions -------------------------------------------------------------------------------------------------------

MEANS, SPREADS = list(DIMENSIONS), [f"{name}Std" for name in DIMENSIONS]
LEARNS_MEANS = Needs(classes=False, dimensions=True)
LEARNS_SPREADS = Needs(classes=False, dimensions=True, spreads=True)


def graded_rows(classes: Sequence[str] = ("neu", "sad"), **constant: object) -> list[Row]:
    """Rows with means and spreads of their own."""
    rows = rows_of(classes)
    for number, row in enumerate(rows):
        row |= {name: 1 + 0.25 * number + place for place, name in enumerate(MEANS)}
        row |= {name: 0.125 * number + place for place, name in enumerate(SPREADS)}
        row |= constant
    return rows


def graded(path: Path, needs: Needs = LEARNS_SPREADS, **values: Any) -> Corpus:
    return read_corpus(path, path.parent, config(**values), needs)


def everything(corpus: Corpus) -> dict[str, Any]:
    """All utterances by name, each from the one split that holds it."""
    found = [utterance for name in ("train", "dev", "test") for utterance in corpus.split(name)]
    assert len({utterance.name for utterance in found}) == len(found)
    return {utterance.name: utterance for utterance in found}


def test_dimensions_spreads_and_texts_reach_the_utterances(labels: Path):
    rows = graded_rows()
    for row in rows:
        row["Text"] = f"say {row['FileName']}"
    rows[3]["Text"] = ""
    found = everything(graded(write(labels, rows)))
    assert len(found) == len(rows)
    for row in rows:
        utterance = found[str(row["FileName"])]
        assert utterance.dimensions == tuple(row[name] for name in MEANS)
        assert utterance.spreads == tuple(row[name] for name in SPREADS)
        assert utterance.text == (row["Text"] or None)


@pytest.mark.parametrize("column", MEANS + SPREADS)
def test_missing_target_column_is_refused(labels: Path, column: str):
    rows = graded_rows()
    write(labels, rows, [name for name in rows[0] if name != column])
    with refused(rf"labels\.csv: no column {column}, which this head learns; nearest: "):
        graded(labels)
    if column in SPREADS:  # heads that do not learn spreads do without them
        assert all(item.spreads is None for item in graded(labels, LEARNS_MEANS).split("train"))
    corpus_of(labels)  # heads with classes do without both


@pytest.mark.parametrize("column", MEANS + SPREADS)
def test_empty_target_names_the_line(labels: Path, column: str):
    rows = graded_rows()
    rows[6][column] = ""
    write(labels, rows)
    with refused(rf"labels\.csv line 8: {column} is empty; fill it in or leave the row out"):
        graded(labels)
    if column in SPREADS:
        assert everything(graded(labels, LEARNS_MEANS))[str(rows[6]["FileName"])].spreads is None


@pytest.mark.parametrize("column", SPREADS)
def test_negative_spread_is_refused(labels: Path, column: str):
    rows = graded_rows()
    rows[1][column] = -0.01
    with refused(rf"labels\.csv line 3: {column} is a standard deviation, but negative"):
        graded(write(labels, rows))


@pytest.mark.parametrize("column", MEANS)
def test_negative_means_are_a_scale_like_any_other(labels: Path, column: str):
    found = everything(graded(write(labels, graded_rows(**{column: -2.5}))))
    assert {item.dimensions[MEANS.index(column)] for item in found.values()} == {-2.5}


def test_table_without_classes_is_enough_for_dimensions(labels: Path):
    rows = graded_rows()
    write(labels, rows, [name for name in rows[0] if name != "EmoClass"])
    corpus = graded(labels)
    assert corpus.classes == ()
    assert len(everything(corpus)) == len(rows)
    for one, other in (("train", "test"), ("dev", "test"), ("train", "dev")):
        assert not speakers(corpus, one) & speakers(corpus, other)
    with refused(r"labels\.csv: no column EmoClass"):
        corpus_of(labels)
    with refused(r"labels\.csv: no column EmoClass"):
        graded(labels, classes=["neu", "sad"])


@pytest.mark.parametrize("wrong", ["", "X", "xxx"])
def test_rows_of_all_classes_are_kept_for_dimensions(labels: Path, caplog: pytest.LogCaptureFixture, wrong: str):
    rows = graded_rows(("neu", "sad"))
    for row in rows[::3]:
        row["EmoClass"] = wrong
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        assert len(everything(graded(write(labels, rows)))) == len(rows)
    assert "left out" not in caplog.text


def test_a_single_class_is_no_obstacle_to_dimensions(labels: Path):
    assert len(everything(graded(write(labels, graded_rows(("neu",)))))) == 12


def test_classes_that_are_named_are_chosen_for_dimensions_too(labels: Path, caplog: pytest.LogCaptureFixture):
    rows = graded_rows(("neu", "sad", "hap"))
    rows[4][MEANS[0]] = ""  # of hap: a row that is left out may lack labels
    assert rows[4]["EmoClass"] == "hap"
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        corpus = graded(write(labels, rows), classes=["sad", "neu"])
    assert corpus.classes == ("sad", "neu")
    assert {name.split("_")[1] for name in everything(corpus)} == {"neu", "sad"}
    assert "12 rows of other classes are left out (hap 12)" in caplog.text


def test_split_lists_of_superb_have_no_dimensions(superb_corpus: TinyCorpus):
    datarc = config(root=str(superb_corpus.root), labels=str(superb_corpus.labels))
    with refused(r"meta_data: SUPERB's split lists have classes only; dimensions need a label table"):
        load_corpus(datarc, LEARNS_MEANS)


# --- columns ----------------------------------------------------------------------------------------------------------


def test_columns_in_any_order_and_unknown_ones_kept(labels: Path):
    rows = rows_of(Fold="fold1", Rating="7 of 9", Gender="Female")
    write(labels, rows, ["Rating", "Fold", "SpkrID", "Gender", "EmoClass", "FileName"])
    table = read_table(labels)
    assert table["Rating"].tolist() == ["7 of 9"] * len(rows)
    assert table["FileName"].tolist() == [row["FileName"] for row in rows]


def test_unknown_columns_change_nothing(labels: Path, tmp_path: Path):
    plain = corpus_of(write(labels, rows_of()))
    more = corpus_of(write(tmp_path / "more.csv", rows_of(Weather="rain", index="4", Natural="85.0")))
    assert more.splits == plain.splits


def test_texts_stay_texts(labels: Path):
    rows = rows_of(speakers=4, takes=3)
    for row in rows:
        row |= {"SpkrID": f"0{str(row['SpkrID'])[1:]}", "Gender": "Male", "Fold": "1"}
    rows[0] |= {"SpkrID": "NA", "Fold": "2", "FileName": "007"}
    corpus = corpus_of(write(labels, rows), test_fold="2")
    assert [(item.name, item.speaker, item.gender) for item in corpus.split("test")] == [("007", "NA", "Male")]
    assert speakers(corpus, "train") | speakers(corpus, "dev") == {"00", "01", "02", "03"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_names_and_classes(labels: Path, encoding: str):
    write(labels, rows_of(("Ärger", "Freude", "悲しい")))
    labels.write_text(labels.read_text(encoding="utf-8").replace("s0_", "Jürgen/s0_"), encoding=encoding)
    corpus = corpus_of(labels)
    assert corpus.classes == ("Freude", "Ärger", "悲しい")
    everything = {name for split in corpus.splits for name in names(corpus, split)}
    assert "Jürgen/s0_悲しい_1.wav" in everything


def test_carriage_returns_are_no_part_of_the_classes(labels: Path):
    write(labels, rows_of(), ["FileName", "SpkrID", "EmoClass"])
    labels.write_bytes(labels.read_bytes().replace(b"\n", b"\r\n"))
    assert corpus_of(labels).classes == ("neu", "sad")


def test_path_is_below_the_root(labels: Path):
    write(labels, rows_of())
    corpus = read_corpus(labels, Path("/audio"), config())
    assert all(item.path == Path("/audio") / item.name for item in corpus.split("train"))


# --- Fold -------------------------------------------------------------------------------------------------------------


def fold_rows(folds: int = 3, **more: object) -> list[Row]:
    """Two speakers in each of ``folds`` folds."""
    rows = rows_of(speakers=2 * folds, **more)
    for row in rows:
        row["Fold"] = f"fold{int(str(row['SpkrID'])[1:]) // 2 + 1}"
    return rows


def test_fold_is_the_test_split(labels: Path):
    corpus = corpus_of(write(labels, fold_rows()), test_fold="fold2")
    assert corpus.fold == "fold2"
    assert speakers(corpus, "test") == {"s2", "s3"}
    assert speakers(corpus, "train") | speakers(corpus, "dev") == {"s0", "s1", "s4", "s5"}
    assert not speakers(corpus, "train") & speakers(corpus, "dev")


@pytest.mark.parametrize(("wrong", "said"), [("fold4", "fold1, fold2, fold3"), ("flod2", "fold2"), ("2", "fold2")])
def test_unknown_fold_is_refused(labels: Path, wrong: str, said: str):
    write(labels, fold_rows())
    with refused(rf"labels\.csv: no fold '{wrong}' \(datarc\.test_fold\); \w+: .*{said.split(', ')[0]}"):
        corpus_of(labels, test_fold=wrong)


def test_first_fold_is_the_first_in_natural_order(labels: Path):
    rows = fold_rows(12)
    for row in rows:
        row["Fold"] = str(row["Fold"]).replace("fold1", "fold10").replace("fold100", "fold10")  # no fold1 left
    assert corpus_of(write(labels, [row for row in rows if row["Fold"] != "fold1"])).fold == "fold2"


@pytest.mark.parametrize("column", ["Fold", "Split_Set"])
def test_empty_fold_names_the_line_of_the_file(labels: Path, column: str):
    rows = [*rows_of(("xxx",), takes=1), *rows_of()]  # six rows of a class that is left out come first
    for row in rows:
        row[column] = "Train"
    rows[8][column] = ""
    with refused(rf"labels\.csv line 10: {column} is empty"):
        corpus_of(write(labels, rows), classes=["neu", "sad"])


def test_speaker_in_two_folds_is_refused(labels: Path):
    rows = fold_rows()
    rows[0]["Fold"] = "fold3"
    with refused(r"labels\.csv: speaker s0 is in both (train|dev) and test of fold1"):
        corpus_of(write(labels, rows))


def test_folds_without_speakers_are_refused(labels: Path):
    write(labels, fold_rows(), ["FileName", "EmoClass", "Fold"])
    with refused(r"labels\.csv: no column SpkrID"):
        corpus_of(labels)


def test_empty_speaker_is_refused_where_folds_need_it(labels: Path):
    rows = fold_rows()
    rows[-1]["SpkrID"] = ""
    with refused(r"labels\.csv: SpkrID is empty for s5_sad_1\.wav"):
        corpus_of(write(labels, rows))


def test_fold_rules_over_official_partition(labels: Path):
    assert corpus_of(write(labels, fold_rows(Split_Set="Train")), test_fold="fold3").fold == "fold3"


@pytest.mark.parametrize(
    ("in_recipe", "variant", "expected"),
    [(None, "fold2", "fold2"), (None, None, "fold1"), ("fold3", "fold2", "fold3"), ("fold3", None, "fold3")],
)
def test_variant_names_the_fold(labels: Path, in_recipe: str | None, variant: str | None, expected: str):
    host.register()
    expert = importlib.import_module("s3prl.downstream.emotion_corr_attn.expert").DownstreamExpert
    datarc = {"labels": str(labels), "train_batch_size": 2, "eval_batch_size": 2, "test_fold": in_recipe}
    _, data, _ = expert.read_section({"datarc": datarc}, variant)
    assert read_corpus(write(labels, fold_rows()), labels.parent, data).fold == expected


# --- Split_Set --------------------------------------------------------------------------------------------------------

PARTITIONS = ("Train", "Train", "Development", "Test1", "Test2", "Extra")


def partition_rows(partitions: Sequence[str] = PARTITIONS) -> list[Row]:
    """One speaker for each item of ``partitions``."""
    rows = rows_of(speakers=len(partitions))
    for row in rows:
        row["Split_Set"] = partitions[int(str(row["SpkrID"])[1:])]
    return rows


def test_official_partitions(labels: Path):
    corpus = corpus_of(write(labels, partition_rows()))
    assert corpus.fold == "fold1"
    assert list(corpus.splits)[:3] == ["train", "dev", "test"]
    assert {name: speakers(corpus, name) for name in corpus.splits} == {
        "train": {"s0", "s1"}, "dev": {"s2"}, "test": {"s3"}, "Test1": {"s3"}, "Test2": {"s4"}, "Extra": {"s5"},
    }  # fmt: skip


def test_test_is_the_first_in_natural_order(labels: Path):
    corpus = corpus_of(write(labels, partition_rows(("Train", "Development", "Test10", "Test2"))))
    assert speakers(corpus, "test") == {"s3"}


def test_partitions_without_development_hold_speakers_out(labels: Path):
    corpus = corpus_of(write(labels, partition_rows(("Train", "Train", "Train", "Test"))))
    assert speakers(corpus, "test") == {"s3"}
    assert len(speakers(corpus, "dev")) == 1
    assert speakers(corpus, "train") | speakers(corpus, "dev") == {"s0", "s1", "s2"}
    assert not speakers(corpus, "train") & speakers(corpus, "dev")


def test_two_names_of_one_partition_are_joined(labels: Path):
    corpus = corpus_of(write(labels, partition_rows(("Train", "train", "Dev", "Validation", "test"))))
    assert speakers(corpus, "train") == {"s0", "s1"}
    assert speakers(corpus, "dev") == {"s2", "s3"}


@pytest.mark.parametrize(
    ("partitions", "split", "other"),
    [
        (("Train", "Development", "Test1"), "train", "test"),
        (("Train", "Development", "Test1", "Test2"), "train", "test"),
        (("Development", "Train", "Test1"), "dev", "test"),
        (("Train", "Test1", "Development"), "train", "dev"),
    ],
)
def test_speaker_in_two_partitions_is_refused(labels: Path, partitions: tuple[str, ...], split: str, other: str):
    rows = partition_rows(partitions)
    for row in rows:
        row["SpkrID"] = "s0" if row["SpkrID"] == f"s{len(partitions) - 1}" else row["SpkrID"]
    with refused(rf"labels\.csv: speaker s0 is in both {split} and ({other}|Test\d) of fold1"):
        corpus_of(write(labels, rows))


@pytest.mark.parametrize("nobody", ["Unknown", "unknown", ""])
def test_unknown_speakers_are_not_shared(labels: Path, nobody: str):
    rows = partition_rows()
    for row in rows[::2]:
        row["SpkrID"] = nobody
    corpus = corpus_of(write(labels, rows))
    assert len(corpus.split("train")) == 8


def test_evaluated_utterances_of_unknown_speakers_are_counted(
    own_tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture
):
    text = own_tiny_corpus.labels.read_text()
    own_tiny_corpus.labels.write_text(text.replace(",s0,", ",Unknown,"))
    loaded(own_tiny_corpus, test_fold="fold2")
    assert "no known speaker" not in caplog.text  # training does not need to know
    loaded(own_tiny_corpus, test_fold="fold1")
    assert "8 of the 16 utterances of test have no known speaker: they count in no score of speakers" in caplog.text


def test_partitions_without_speakers_are_accepted_with_a_warning(labels: Path, caplog: pytest.LogCaptureFixture):
    write(labels, partition_rows(), ["FileName", "EmoClass", "Split_Set"])
    corpus = corpus_of(labels)
    assert speakers(corpus, "test") == {None}
    assert "no column SpkrID" in caplog.text


@pytest.mark.parametrize("partitions", [("Train", "Train"), ("Development", "Test1"), ("Test1", "Test2")])
def test_partitions_without_train_or_test_are_refused(labels: Path, partitions: tuple[str, ...]):
    with refused(r"labels\.csv: Split_Set needs Train and a Test partition, has \w+"):
        corpus_of(write(labels, partition_rows(partitions)))


def test_partitions_are_a_single_fold(labels: Path):
    write(labels, partition_rows())
    assert corpus_of(labels, test_fold="fold1").fold == "fold1"
    with refused(r"labels\.csv: no fold 'fold2' \(datarc\.test_fold\).*fold1"):
        corpus_of(labels, test_fold="fold2")


def test_unknown_split_names_the_known_ones(labels: Path):
    corpus = corpus_of(write(labels, partition_rows()))
    with refused(r"labels\.csv: no split 'Test3'; there are: .*Test1, Test2"):
        corpus.split("Test3")


# --- a corpus on disk -------------------------------------------------------------------------------------------------


def loaded(corpus: TinyCorpus, **values: Any) -> Corpus:
    return load_corpus(config(**{"root": str(corpus.root), "labels": str(corpus.labels), **values}))


def test_corpus_on_disk_loads(tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        corpus = loaded(tiny_corpus, classes=["neu", "hap", "ang", "sad"], test_fold="fold2", valid_ratio=0.21)
    assert {name: len(utterances) for name, utterances in corpus.splits.items()} == {"train": 24, "dev": 8, "test": 16}
    assert "train 24, dev 8, test 16 utterances; classes neu, hap, ang, sad" in caplog.text


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"root": None}, LabelError, r"datarc\.root: name the folder"),
        ({"root": "/nowhere/audio"}, AudioError, r"/nowhere/audio: no such folder; datarc\.root"),
        ({"labels": "/nowhere/labels.csv"}, LabelError, r"/nowhere/labels\.csv: no such label table"),
        ({"labels": ""}, LabelError, r"no fold 'fold1'|no such label table"),
    ],
)
def test_missing_root_or_labels_are_refused(
    tiny_corpus: TinyCorpus, values: dict[str, Any], error: type[EmotionError], match: str
):
    with refused(match, error):
        loaded(tiny_corpus, **values)


def test_root_that_is_a_file_is_refused(tiny_corpus: TinyCorpus):
    with refused(r"labels\.csv: no such folder; datarc\.root", AudioError):
        loaded(tiny_corpus, root=str(tiny_corpus.labels))


@pytest.mark.parametrize("name", ["s0_ang_0.wav", "s2_hap_1.wav", "s5_sad_1.wav"])
def test_missing_audio_file_is_refused(own_tiny_corpus: TinyCorpus, name: str):
    (own_tiny_corpus.root / name).unlink()
    with refused(rf"{name}: no such audio file, though .*labels\.csv lists it; check datarc\.root", AudioError):
        loaded(own_tiny_corpus)


def test_missing_audio_of_a_class_left_out_does_not_matter(own_tiny_corpus: TinyCorpus):
    (own_tiny_corpus.root / "s0_ang_0.wav").unlink()
    assert loaded(own_tiny_corpus, classes=["neu", "sad"]).classes == ("neu", "sad")


def test_split_without_utterances_is_refused(tmp_path: Path):
    rows = [*partition_rows(("Train", "Development")), *rows_of(("xxx",), speakers=1, SpkrID="t", Split_Set="Test1")]
    labels = write(tmp_path / "labels.csv", rows)
    with refused(r"labels\.csv: Split_Set needs Train and a Test partition"):
        load_corpus(config(root=str(tmp_path), labels=str(labels), classes=["neu", "sad"]))


def test_file_in_train_and_test_is_refused(tmp_path: Path):
    rows = partition_rows(("Train", "Development", "Test1"))
    rows[-1]["FileName"] = rows[0]["FileName"]
    with refused(r"labels\.csv line 13: s0_neu_0\.wav is listed twice"):
        read_table(write(tmp_path / "labels.csv", rows))
