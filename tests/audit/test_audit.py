"""s3prl-emotion audit: each planted fault is reported, and only it; a clean corpus has no findings."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, SHARED_DATA, Run, TinyCorpus, tone, write_superb_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import expected_mutual_information

from s3prl_emotion.audio import sound
from s3prl_emotion.audit import Audit, audit, read_listing
from s3prl_emotion.audit.association import association
from s3prl_emotion.audit.waveform import measure
from s3prl_emotion.cli import main
from s3prl_emotion.corpora.formats.speakers import PATTERNS, compile_pattern, speakers_of
from s3prl_emotion.errors import LabelError

ALWAYS = {"class-rare"}  # a note that miniature corpora cannot help


def codes(found: Audit) -> set[str]:
    return {item.code for item in found.findings} - ALWAYS


def of(found: Audit, code: str) -> Any:
    return next(item for item in found.findings if item.code == code)


Row = dict[str, str]


class Mini:
    """A clean label table with audio, to plant faults in: 6 speakers in 3 folds, 4 classes, 2 takes."""

    def __init__(self, corpus: TinyCorpus) -> None:
        self.root, self.labels = corpus.root, corpus.labels
        with self.labels.open(newline="") as file:
            self.rows: list[Row] = list(csv.DictReader(file))

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row["FileName"] == name)

    def write(self, name: str, wave: np.ndarray, rate: int = RATE, **options: Any) -> None:
        soundfile.write(self.root / name, wave, rate, **options)

    def wave(self, name: str) -> np.ndarray:
        return soundfile.read(self.root / name, dtype="float32")[0]

    def copy(self, source: str, name: str, wave: np.ndarray | None = None, **changes: str) -> None:
        """The same audio under another name, with a row like the source's but for the changes."""
        self.write(name, self.wave(source) if wave is None else wave)
        self.rows.append({**self.row(source), "FileName": name, **changes})

    def audit(self, audio: bool = True) -> Audit:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with self.labels.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        return audit(read_listing(self.labels), self.root if audio else None, jobs=2)


@pytest.fixture
def mini(own_tiny_corpus: TinyCorpus) -> Mini:
    return Mini(own_tiny_corpus)


def test_clean_corpus_has_no_finding(mini: Mini) -> None:
    found = mini.audit()
    assert codes(found) == set()
    assert found.is_clean(strict=True)
    assert found.facts["speaker_independent"] == "yes"
    assert found.facts["speakers"] == 6
    assert found.facts["audio"]["rates"] == {"16000": 48}
    assert found.counts["fold2"]["train"] == {"ang": 8, "hap": 8, "neu": 8, "sad": 8}


# --- audio ------------------------------------------------------------------------------------------------------------

FIRST = "s0_ang_0.wav"


def longer(mini: Mini, seconds: float) -> None:
    mini.write(FIRST, tone(440, seconds, 9))


def in_stereo(mini: Mini, name: str) -> None:
    mini.write(name, np.stack([mini.wave(name), 0.5 * mini.wave(name)], axis=1))


def clipped(wave: np.ndarray, samples: int) -> np.ndarray:
    """With one run at full scale."""
    wave = wave.copy()
    wave[100 : 100 + samples] = 1.0
    return wave


AUDIO_FAULTS: dict[str, tuple[Callable[[Mini], Any], set[str]]] = {
    "missing": (lambda mini: (mini.root / FIRST).unlink(), {"audio-missing"}),
    "not audio": (lambda mini: (mini.root / FIRST).write_bytes(b"no audio"), {"audio-unreadable"}),
    "no samples": (lambda mini: mini.write(FIRST, np.zeros(0)), {"audio-empty"}),
    "NaN": (lambda mini: mini.write(FIRST, np.full(9000, np.nan), subtype="FLOAT"), {"audio-not-finite"}),
    "zeros": (lambda mini: mini.write(FIRST, np.zeros(9000)), {"audio-silent"}),
    "constant": (lambda mini: mini.write(FIRST, np.full(9000, 0.5)), {"audio-silent"}),
    "-66 dBFS": (lambda mini: mini.write(FIRST, 0.0005 * np.sin(np.arange(9000.0))), {"audio-silent"}),
    "two silent files are no double": (
        lambda mini: [mini.write(name, np.zeros(9000)) for name in (FIRST, "s5_sad_1.wav")],
        {"audio-silent"},
    ),
    "clipped": (lambda mini: mini.write(FIRST, np.clip(9 * mini.wave(FIRST), -1, 1)), {"audio-clipped"}),
    "clipped in 24 bits": (
        lambda mini: mini.write(FIRST, np.clip(9 * mini.wave(FIRST), -1, 1), subtype="PCM_24"),
        {"audio-clipped"},
    ),
    "a run of 3": (lambda mini: mini.write(FIRST, clipped(mini.wave(FIRST), 3)), {"audio-clipped-little"}),
    "a run of 2 is a peak": (lambda mini: mini.write(FIRST, clipped(mini.wave(FIRST), 2)), set()),
    "offset": (lambda mini: mini.write(FIRST, mini.wave(FIRST) + 0.05), {"audio-offset"}),
    "another rate": (lambda mini: mini.write(FIRST, mini.wave(FIRST), 22050), {"audio-rates"}),
    "a low rate": (lambda mini: mini.write(FIRST, mini.wave(FIRST), 8000), {"audio-rates", "audio-narrow"}),
    "one in stereo": (lambda mini: in_stereo(mini, FIRST), {"audio-channels"}),
    "all in stereo": (lambda mini: [in_stereo(mini, row["FileName"]) for row in mini.rows], {"audio-stereo"}),
    "cut off": (
        lambda mini: (mini.root / FIRST).write_bytes((mini.root / FIRST).read_bytes()[:-4000]),
        {"audio-truncated"},
    ),
    "integers as floats": (
        lambda mini: mini.write(FIRST, 32767 * mini.wave(FIRST), subtype="FLOAT"),
        {"audio-scale"},
    ),
    "channels that cancel": (
        lambda mini: mini.write(FIRST, np.stack([mini.wave(FIRST), -mini.wave(FIRST)], axis=1)),
        {"audio-channels", "audio-cancels"},
    ),
    "short": (lambda mini: longer(mini, 0.05), {"audio-short"}),
    "long": (lambda mini: longer(mini, 30.5), {"audio-long"}),
    "another length": (lambda mini: mini.rows[0].update(Duration="7.5"), {"audio-length"}),
    "double": (lambda mini: mini.copy(FIRST, "copy.wav"), {"duplicate"}),
    "double as FLAC": (lambda mini: mini.copy(FIRST, "copy.flac"), {"duplicate"}),
    "double with zeros at the ends": (
        lambda mini: mini.copy(FIRST, "copy.wav", np.pad(mini.wave(FIRST), (300, 77))),
        {"duplicate"},
    ),
    "double in stereo": (
        lambda mini: mini.copy(FIRST, "copy.wav", np.stack([mini.wave(FIRST)] * 2, 1)),
        {"duplicate", "audio-channels"},
    ),
    "double of another class": (lambda mini: mini.copy(FIRST, "copy.wav", EmoClass="sad"), {"duplicate-labels"}),
    "double of another speaker": (lambda mini: mini.copy(FIRST, "copy.wav", SpkrID="s1"), {"duplicate-labels"}),
    "double in another fold": (
        lambda mini: mini.copy(FIRST, "copy.wav", SpkrID="s4", Fold="fold3"),
        {"duplicate-leak"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", AUDIO_FAULTS)
def test_fault_of_the_audio_is_found_and_nothing_else(mini: Mini, fault: str) -> None:
    plant, expected = AUDIO_FAULTS[fault]
    if fault == "double of another speaker":  # s1 is a woman, s0 a man
        expected = expected | {"speaker-genders"}
    plant(mini)
    found = mini.audit()
    assert codes(found) == expected
    assert all(item.count >= 1 for item in found.findings if item.code not in ("audio-stereo",))
    assert found.is_clean() == (not any(item.severity == "error" for item in found.findings))


def test_the_channel_that_training_reads_is_checked(mini: Mini) -> None:
    for row in mini.rows:
        mini.write(row["FileName"], np.stack([mini.wave(row["FileName"]), -mini.wave(row["FileName"])], axis=1))
    assert codes(mini.audit()) == {"audio-stereo", "audio-cancels"}
    found = audit(read_listing(mini.labels), mini.root, jobs=2, channel="left")
    assert codes(found) == {"audio-stereo"}
    assert found.is_clean()


def test_audio_is_not_read_without_a_root(mini: Mini) -> None:
    (mini.root / FIRST).unlink()
    found = mini.audit(audio=False)
    assert codes(found) == set()
    assert found.facts["audio"] is None


def test_duplicates_are_named_together(mini: Mini) -> None:
    mini.copy(FIRST, "copy.wav")
    mini.copy(FIRST, "third.wav", np.pad(mini.wave(FIRST), (0, 50)))
    assert of(mini.audit(), "duplicate").examples == (f"{FIRST} = copy.wav = third.wav (but for zeros at the ends)",)


def test_a_rate_that_predicts_the_class_is_reported(mini: Mini) -> None:
    for row in mini.rows:
        if row["EmoClass"] == "sad":
            mini.write(row["FileName"], mini.wave(row["FileName"]), 44100)
    found = of(mini.audit(), "audio-rates")
    assert "which tell the class (Cramer's V 0.98)" in found.what
    assert found.count == 12


def test_segments_of_one_file_are_utterances_of_their_own(tmp_path: Path) -> None:
    wave = tone(300, 2.0, 1)
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    soundfile.write(tmp_path / "b.wav", wave[RATE // 2 : RATE], RATE)
    whole, part, alone = measure(tmp_path / "a.wav"), measure(tmp_path / "a.wav", 0.5, 1.0), measure(tmp_path / "b.wav")
    assert part == alone != whole
    assert part.seconds == 0.5
    assert measure(tmp_path / "a.wav", 5.0, 6.0).problem == "beyond"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    samples=st.lists(st.sampled_from([0, 0, 0, 100, -3000, 32767, 32767, -32768]), min_size=1, max_size=60),
    channels=st.integers(1, 2),
    block=st.integers(1, 7),
)
def test_measures_do_not_depend_on_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, samples: list[int], channels: int, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.wav"
    values = np.array(samples, dtype=np.int16)
    table = np.stack([values, values[::-1]][:channels], axis=1)
    soundfile.write(path, table, RATE, subtype="PCM_16")
    whole = measure(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound, "BLOCK", block)
        assert measure(path) == whole
    count = 0
    for column in table.T:
        for full, run in itertools.groupby(column, lambda value: value in (32767, -32768)):
            length = len(list(run))
            count += length if full and length >= 3 else 0
    scaled = table.astype(np.float64) / 32768
    assert whole.clipped == pytest.approx(count / table.size)
    assert whole.swing == pytest.approx((scaled.max() - scaled.min()) / 2, abs=1e-12)
    assert whole.offset == pytest.approx(scaled.mean(), abs=1e-9)
    soundfile.write(path, np.concatenate([table * 0, table, table[:1] * 0]), RATE, subtype="PCM_16")
    assert measure(path).core == whole.core


# --- splits -----------------------------------------------------------------------------------------------------------


def put(mini: Mini, **changes: str) -> None:
    mini.row(FIRST).update(changes)


def official(mini: Mini, names: tuple[str, str, str] = ("Train", "Development", "Test1")) -> None:
    """Split_Set instead of Fold."""
    for row in mini.rows:
        row["Split_Set"] = names[int(row.pop("Fold")[-1]) - 1]


def official_but(mini: Mini, split: str) -> None:
    """With one utterance of s0, who is trained on, in another split."""
    official(mini)
    put(mini, Split_Set=split)


def of_dev(mini: Mini, split: str) -> None:
    official(mini)
    mini.row("s2_ang_0.wav").update(Split_Set=split)


def texts(mini: Mini, same: bool) -> None:
    for number, row in enumerate(mini.rows):
        row["Text"] = f"Sentence {number % 5 if same else number}."


SPLIT_FAULTS: dict[str, tuple[Callable[[Mini], Any], set[str]]] = {
    "speaker in two folds": (lambda mini: put(mini, Fold="fold2"), {"speaker-overlap"}),
    "no fold": (lambda mini: put(mini, Fold=""), {"split-empty"}),
    "listed twice": (lambda mini: mini.rows.append(mini.rows[0]), {"file-twice"}),
    "listed twice, with two classes": (
        lambda mini: mini.rows.append({**mini.rows[0], "EmoClass": "sad"}), {"file-twice", "file-classes"},
    ),
    "file in two folds": (
        lambda mini: mini.rows.append({**mini.rows[0], "Fold": "fold3"}),
        {"file-twice", "file-overlap", "speaker-overlap", "tested-twice"},
    ),
    "no name": (lambda mini: mini.rows.append({**mini.rows[0], "FileName": ""}), {"file-unnamed"}),
    "official splits are clean": (official, set()),
    "names of splits in any case": (lambda mini: official(mini, ("TRAIN", "validation", "test")), set()),
    "speaker in train and test": (lambda mini: official_but(mini, "Test1"), {"speaker-overlap"}),
    "speaker in train and dev": (lambda mini: official_but(mini, "Development"), {"dev-speakers"}),
    "speaker in dev and test": (lambda mini: of_dev(mini, "Test1"), {"speaker-overlap"}),
    "no test": (lambda mini: official(mini, ("Train", "Train", "Development")), {"split-missing"}),
    "no train": (lambda mini: official(mini, ("Development", "Test1", "Test2")), {"split-missing"}),
    "one fold alone": (lambda mini: [row.update(Fold="fold1") for row in mini.rows], {"split-missing"}),
    "no column of speakers": (lambda mini: [row.pop("SpkrID") for row in mini.rows], {"speaker-unknown"}),
    "a speaker unknown": (lambda mini: put(mini, SpkrID="Unknown"), {"speaker-partly-unknown"}),
    "same texts": (lambda mini: texts(mini, same=True), {"text-overlap"}),
    "other texts": (lambda mini: texts(mini, same=False), set()),
    "no splits: folds are drawn": (lambda mini: [row.pop("Fold") for row in mini.rows], set()),
    "no splits and no speakers": (
        lambda mini: [(row.pop("Fold"), row.pop("SpkrID")) for row in mini.rows], {"no-splits"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPLIT_FAULTS)
def test_fault_of_the_splits_is_found_and_nothing_else(mini: Mini, fault: str) -> None:
    plant, expected = SPLIT_FAULTS[fault]
    plant(mini)
    found = mini.audit(audio=False)
    assert codes(found) == expected
    independent = "no" if "speaker-overlap" in expected else "yes"
    unknown = expected & {"split-missing", "speaker-unknown", "speaker-partly-unknown", "no-splits"}
    assert found.facts["speaker_independent"] == ("unknown" if unknown else independent)


def test_overlap_says_who_where_and_how_many(mini: Mini) -> None:
    put(mini, Fold="fold2")
    found = mini.audit(audio=False)
    overlap = of(found, "speaker-overlap")
    assert overlap.severity == "error"
    assert overlap.examples == ("s0",)
    assert overlap.where == ("fold1: train and test", "fold2: train and test")
    assert "8 of 48 test utterances" in overlap.what  # 7 of s0 in fold1, 1 in fold2
    assert found.facts["speaker_independent"] == "no"


def test_drawn_folds_are_those_of_training(mini: Mini) -> None:
    for row in mini.rows:
        row.pop("Fold")
    found = mini.audit(audio=False)
    assert list(found.listing.folds) == [f"fold{number}" for number in range(1, 6)]
    assert found.listing.drawn
    assert found.facts["speaker_independent"] == "yes"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "labels.csv"


assignments = st.dictionaries(
    st.sampled_from([f"spk{number}" for number in range(6)]),
    st.lists(st.sampled_from(["fold1", "fold2", "fold3"]), min_size=1, max_size=4),
    min_size=2,
)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(assignments)
def test_planted_overlaps_are_found_and_others_never(table: Path, folds_of: dict[str, list[str]]) -> None:
    lines = ["FileName,EmoClass,SpkrID,Fold"]
    for speaker, folds in folds_of.items():
        lines += [f"{speaker}_{place}.wav,{'ab'[place % 2]},{speaker},{fold}" for place, fold in enumerate(folds)]
    table.write_text("\n".join(lines) + "\n")
    found = audit(read_listing(table))
    planted = {speaker for speaker, folds in folds_of.items() if len(set(folds)) > 1}
    told = {name for item in found.findings if item.code == "speaker-overlap" for name in item.examples}
    assert told == planted
    alone = len({fold for folds in folds_of.values() for fold in folds}) == 1  # nothing is left to train on
    assert found.facts["speaker_independent"] == ("no" if planted else "unknown" if alone else "yes")
    assert not codes(found) & {"file-overlap", "file-twice", "dev-speakers", "tested-twice"}


# --- labels -----------------------------------------------------------------------------------------------------------


def every(mini: Mini, change: Callable[[int, Row], dict[str, str]]) -> None:
    for number, row in enumerate(mini.rows):
        row.update(change(number, row))


def confound(mini: Mini, column: str) -> None:
    """One class a speaker, or two a gender; speakers of both genders in every fold."""
    classes = {"SpkrID": lambda row: ["ang", "sad"][int(row["SpkrID"][1]) % 2], "Gender": lambda row: "ang"}
    every(mini, lambda number, row: {"EmoClass": classes[column](row)})


def by_gender(mini: Mini) -> None:
    names = {"Male": ("ang", "hap"), "Female": ("neu", "sad")}
    every(mini, lambda number, row: {"EmoClass": names[row["Gender"]][number % 2]})


def shares(mini: Mini, **first: str) -> None:
    """Shares that agree with the class; the first row's are changed."""
    names = ("ang", "hap", "neu", "sad")
    every(mini, lambda number, row: {name: "0.7" if name == row["EmoClass"] else "0.1" for name in names})
    every(mini, lambda number, row: {"ang": row["ang"] if number else first.get("ang", row["ang"])})
    mini.rows[1].update(dict.fromkeys(names, "0"), ang="1")  # not smoothed
    mini.rows[0].update(first)


def dims(mini: Mini, **first: str) -> None:
    every(mini, lambda n, row: {"EmoAct": f"{1 + n % 5}", "EmoVal": f"{1.5 + n % 3}", "EmoDomStd": f"0.{n % 9}"})
    mini.rows[0].update(first)


def relabel(mini: Mini, fold: str, old: str, new: str) -> None:
    every(mini, lambda n, row: {"EmoClass": new} if (row["Fold"], row["EmoClass"]) == (fold, old) else {})


def imbalanced(mini: Mini) -> None:
    """Of each fold 36 angry utterances to one of each other class."""
    mini.rows = [row for row in mini.rows if row["EmoClass"] == "ang" or row["FileName"][1:] in (
        "0_hap_0.wav", "2_hap_0.wav", "4_hap_0.wav", "1_neu_0.wav", "3_neu_0.wav", "5_neu_0.wav",
    )]  # fmt: skip
    mini.rows += [
        {**row, "FileName": f"{take}_{row['FileName']}"}
        for row in mini.rows[:] if row["EmoClass"] == "ang" for take in range(8)
    ]  # fmt: skip


def shifted(mini: Mini) -> None:
    for take in range(6):
        mini.rows += [
            {**row, "FileName": f"{take}_{row['FileName']}"}
            for row in mini.rows[:48]
            if (row["EmoClass"] == "sad") == (row["Fold"] == "fold1")
        ]


LABEL_FAULTS: dict[str, tuple[Callable[[Mini], Any], set[str]]] = {
    "no class": (lambda mini: put(mini, EmoClass=""), {"class-missing"}),
    "class in one fold": (
        lambda mini: put(mini, EmoClass="fru"), {"class-untrained", "class-untested", "class-imbalance"},
    ),
    "class not in a test": (lambda mini: relabel(mini, "fold2", "sad", "neu"), {"class-untested"}),
    "imbalance": (imbalanced, {"class-imbalance"}),
    "shift": (shifted, {"class-shift", "speaker-confounded"}),
    "speakers tell the class": (
        lambda mini: confound(mini, "SpkrID"), {"speaker-confounded", "gender-confounded"},
    ),
    "genders tell the class": (by_gender, {"speaker-confounded", "gender-confounded"}),
    "one class": (lambda mini: confound(mini, "Gender"), {"class-single"}),
    "one gender": (lambda mini: every(mini, lambda n, row: {"Gender": "Male"}), {"gender-balance"}),
    "speaker of two genders": (lambda mini: put(mini, Gender="Female"), {"speaker-genders"}),
    "shares that agree": (shares, set()),
    "shares that do not sum to 1": (lambda mini: shares(mini, sad="0.2"), {"shares-sum"}),
    "sum within tolerance": (lambda mini: shares(mini, sad="0.1009"), set()),
    "negative share": (lambda mini: shares(mini, sad="-0.1", hap="0.3"), {"shares-negative"}),
    "share missing": (lambda mini: shares(mini, sad=""), {"shares-missing"}),
    "share that is no number": (lambda mini: shares(mini, sad="x"), {"shares-missing", "not-a-number"}),
    "consensus against the shares": (lambda mini: shares(mini, ang="0.3", sad="0.5"), {"consensus"}),
    "consensus of equals": (lambda mini: shares(mini, ang="0.4", sad="0.4"), set()),
    "smoothed": (
        lambda mini: [shares(mini), mini.rows[1].update(ang="0.7", hap="0.1", neu="0.1", sad="0.1")],
        {"shares-smoothed"},
    ),
    "dimensions": (dims, set()),
    "dimension missing": (lambda mini: dims(mini, EmoVal=""), {"dimension-missing"}),
    "dimension that is no number": (lambda mini: dims(mini, EmoVal="inf"), {"not-a-number", "dimension-missing"}),
    "0 on a scale of 1 to 5": (lambda mini: dims(mini, EmoVal="0"), {"dimension-range"}),
    "33 in place of 3.3": (lambda mini: dims(mini, EmoAct="33"), {"dimension-range"}),
    "1 to 7 is a scale as well": (lambda mini: dims(mini, EmoAct="6.5"), set()),
    "negative spread": (lambda mini: dims(mini, EmoDomStd="-1"), {"spread-negative"}),
    "constant dimension": (
        lambda mini: [dims(mini), every(mini, lambda n, row: {"EmoVal": "3"})], {"dimension-constant"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_fault_of_the_labels_is_found_and_nothing_else(mini: Mini, fault: str) -> None:
    plant, expected = LABEL_FAULTS[fault]
    plant(mini)
    assert codes(mini.audit(audio=False)) == expected


def test_msp_letters_are_classes_and_no_agreement_is_none(mini: Mini) -> None:
    letters = {"ang": "A", "hap": "H", "neu": "N", "sad": "X"}
    every(mini, lambda n, row: {"EmoClass": letters[row["EmoClass"]]})
    found = mini.audit(audio=False)
    assert codes(found) == set()
    assert found.listing.classes == ("angry", "happy", "neutral")


def v_by_hand(left: list[str], right: list[str]) -> float:
    """Cramer's V corrected for bias, Bergsma 2013, eqs. for phi^2, r and k in loops."""
    n, total = len(left), 0.0
    for a in set(left):
        for b in set(right):
            expected = left.count(a) * right.count(b) / n
            total += (sum(pair == (a, b) for pair in zip(left, right, strict=True)) - expected) ** 2 / expected
    r, k = len(set(left)), len(set(right))
    phi = max(0.0, total / n - (r - 1) * (k - 1) / (n - 1))
    r_less, k_less = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return math.sqrt(phi / min(r_less - 1, k_less - 1))


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.8])
def test_association_agrees_with_its_definition(strength: float) -> None:
    generator = np.random.default_rng(3)
    classes = generator.integers(0, 4, 300)
    speakers = np.where(generator.uniform(size=300) < strength, classes, generator.integers(0, 6, 300))
    left, right = [f"s{value}" for value in speakers], [f"c{value}" for value in classes]
    tie = association(left, right)
    assert tie is not None
    assert tie.cramers_v == pytest.approx(v_by_hand(left, right), abs=1e-9)
    table = np.array([[sum((speakers == a) & (classes == b)) for b in range(4)] for a in range(6)])
    chance = expected_mutual_information(table.astype(np.int64), 300)
    entropy = mutual_info_score(classes, classes)
    assert tie.explained == pytest.approx(
        max(0, (mutual_info_score(speakers, classes) - chance) / (entropy - chance)), abs=0.01
    )
    assert (tie.p_value == 1 / 500) == (strength > 0)


def test_association_of_equals_and_of_singles() -> None:
    tie = association(["a", "b"] * 50, ["x", "y"] * 50)
    assert tie is not None
    assert (tie.cramers_v, tie.explained) == (pytest.approx(1.0, abs=1e-6), pytest.approx(1.0))
    alone = association([f"s{number}" for number in range(40)], ["x", "y"] * 20)
    assert alone is not None
    assert (alone.cramers_v, alone.explained, alone.p_value) == (0.0, 0.0, 1.0)  # each once: nothing can be said
    assert association(["a", "a"], ["x", "y"]) is None


# --- other formats ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def superb_lists(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Larger than the shared corpus, so that dev has every class."""
    return write_superb_corpus(tmp_path_factory.mktemp("lists"), sessions=3, per_class=20)


def test_superb_lists_share_only_dev_speakers_by_design(superb_lists: TinyCorpus) -> None:
    found = audit(read_listing(superb_lists.labels), superb_lists.root)
    assert (found.listing.form, found.listing.classes) == ("superb", ("neu", "hap", "ang", "sad"))
    assert codes(found) == {"dev-speakers"}
    note = of(found, "dev-speakers")
    assert note.severity == "note"
    assert set(note.examples) == {f"Ses0{session}{letter}" for session in (1, 2, 3) for letter in "FM"}
    assert found.is_clean(strict=True)


def superb_copy(source: Path, folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Path:
    for session in source.iterdir():
        (folder / session.name).mkdir(parents=True)
        lists = {split: json.loads((session / f"{split}_meta_data.json").read_text()) for split in ("train", "test")}
        if session.name == "Session1":
            change(lists["train"], lists["test"])
        for split, content in lists.items():
            (folder / session.name / f"{split}_meta_data.json").write_text(json.dumps(content))
    return folder


SUPERB_FAULTS: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], set[str]]] = {
    "utterance in train and test": (
        lambda train, test: train["meta_data"].append(test["meta_data"][0]), {"file-overlap", "speaker-overlap"},
    ),
    "true speaker in train and test": (
        lambda train, test: test["meta_data"].append(
            {"path": "Session1/Ses02M_impro99_F000.wav", "label": "neu", "speaker": "Ses01F"}
        ),
        {"speaker-overlap"},
    ),
    "listed twice": (lambda train, test: test["meta_data"].append(test["meta_data"][0]), {"file-twice"}),
    "two classes": (lambda train, test: train["meta_data"][0].update(label="sad"), {"file-classes"}),
    "unnumbered class": (
        lambda train, test: test["meta_data"].append(
            {"path": "Session1/Ses01F_impro99_F000.wav", "label": "fru", "speaker": "Ses01F"}
        ),
        {"class-unknown", "class-untrained", "class-untested"},
    ),
    "class without utterances": (
        lambda train, test: [content["labels"].update(fru=4) for content in (train, test)], {"class-empty"},
    ),
    "empty test": (lambda train, test: test.update(meta_data=[]), {"split-missing"}),
}  # fmt: skip


@pytest.mark.parametrize("fault", SUPERB_FAULTS)
def test_fault_of_superb_lists_is_found(superb_lists: TinyCorpus, tmp_path: Path, fault: str) -> None:
    change, expected = SUPERB_FAULTS[fault]
    folder = superb_copy(superb_lists.labels, tmp_path / "meta_data", change)
    found = codes(audit(read_listing(folder))) - {"dev-speakers", "class-imbalance"}
    assert found == expected


def write_emobox(folder: Path, leak: bool = False, valid: bool = False, older: bool = False) -> Path:
    """EMO-DB as EmoBox lists it: four actors, two folds."""
    entries = defaultdict(list)
    for actor in ("03", "08", "09", "10"):
        for take, (letter, emotion) in enumerate([("W", "anger"), ("N", "neutral")] * 2):
            wav = f"downloads/emodb/wav/{actor}a0{take}{letter}a.wav"
            entry = {"key": f"emodb-{actor}{take}", "dataset": "emodb", "wav": wav, "emo": emotion, "length": 1.5}
            entries[actor].append(entry)
    (folder / "label_map.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "label_map.json").write_text(json.dumps({"anger": "Angry", "neutral": "Neutral"}))
    for fold, actors in ((1, ("03", "08")), (2, ("09", "10"))):
        test = [entry for actor in actors for entry in entries[actor]]
        train = [entry for actor, items in entries.items() if actor not in actors for entry in items]
        if leak:
            test[0], train[0] = train[0], test[0]
        parts = {"train": train, "test": test}
        if valid:
            parts |= {"train": train[4:], "valid": train[:4]}
        (folder / f"fold_{fold}").mkdir()
        for split, items in parts.items():
            text = "".join(json.dumps(item) + "\n" for item in items)
            (folder / f"fold_{fold}" / f"emodb_{split}_fold_{fold}.jsonl").write_text(text)
            if older:
                lines = [{"key": item["key"], "audio": item["wav"], "label": item["emo"]} for item in items]
                text = "".join(json.dumps(item) + "\n" for item in lines)
                (folder / f"fold_{fold}" / f"emodb_{split}_fold{fold}.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"dev-drawn"}),
        ({"leak": True}, {"dev-drawn", "speaker-overlap"}),
        ({"valid": True}, set()),
        ({"older": True}, {"dev-drawn", "older-lists"}),
    ],
)
def test_emobox_lists(tmp_path: Path, options: dict[str, bool], expected: set[str]) -> None:
    found = audit(read_listing(write_emobox(tmp_path / "emodb", **options)))
    assert (found.listing.form, found.listing.classes) == ("emobox", ("Angry", "Neutral"))
    assert codes(found) == expected
    assert found.facts["speakers"] == 4
    assert set(found.listing.folds) == {"fold1", "fold2"}


def test_emobox_class_that_the_map_does_not_name(tmp_path: Path) -> None:
    folder = write_emobox(tmp_path / "emodb")
    (folder / "label_map.json").write_text(json.dumps({"anger": "Angry", "Neutral": "Neutral"}))
    found = audit(read_listing(folder))
    assert codes(found) == {"dev-drawn", "class-unknown"}
    assert of(found, "class-unknown").count == 8


def test_emobox_folder_of_a_fold_a_list_and_segments(tmp_path: Path) -> None:
    folder = write_emobox(tmp_path / "emodb")
    assert codes(audit(read_listing(folder / "fold_1"))) == {"dev-drawn"}
    path = folder / "fold_1" / "emodb_test_fold_1.jsonl"
    assert "split-missing" in codes(audit(read_listing(path)))
    lines = [{"wav": "all.flac", "emo": "anger", "start_time": begin, "end_time": begin + 1} for begin in (0, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = audit(read_listing(folder / "fold_1"))
    assert found.facts["utterances"] == 10
    assert "file-twice" not in codes(found)
    assert "all.flac:1.000-2.000" in found.listing.files


def write_emo_superb(path: Path, shared: bool = False, first: str = "FileName", scale: int = 0) -> Path:
    """An EMO-SUPERB fold: shares smoothed, class not said."""
    lines = [f"{first},angry,relax,EmoAct,EmoVal,SpkrID,Gender,Split_Set"]
    for number, split in enumerate(["Train", "Train", "Development", "Test"] * 6):
        speaker = 0 if shared and number == 3 else number % 4
        votes = ("0.95", "0.05") if number // 4 % 2 else ("0.05", "0.95")
        sex = "Male" if speaker % 2 else "Female"
        lines.append(f"u{number}.wav,{','.join(votes)},{1 + number % 5},{2 + number % 2},{speaker},{sex},{split}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    if scale:
        (path.parent / "config.json").write_text(json.dumps({"dimensional": {"min_score": 1, "max_score": scale}}))
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"first": ""}, set()),  # as NNIME's
        ({"shared": True}, {"speaker-overlap"}),
        ({"scale": 5}, set()),
        ({"scale": 4}, {"dimension-range"}),
    ],
)
def test_emo_superb_file(tmp_path: Path, options: dict[str, Any], expected: set[str]) -> None:
    found = audit(read_listing(write_emo_superb(tmp_path / "labels_consensus_1.csv", **options)))
    assert (found.listing.form, found.listing.classes) == ("emo-superb", ("angry", "relax"))
    assert codes(found) - {"shares-smoothed"} == expected
    assert "shares-smoothed" in codes(found)


def test_emo_superb_folder_has_a_fold_a_file(tmp_path: Path) -> None:
    write_emo_superb(tmp_path / "labels_consensus_1.csv")
    write_emo_superb(tmp_path / "labels_consensus_2.csv", shared=True)
    found = audit(read_listing(tmp_path))
    assert list(found.listing.folds) == ["fold1", "fold2"]
    assert found.facts["utterances"] == 24
    assert "tested-twice" in codes(found)


@pytest.mark.parametrize(
    ("corpus", "path", "speaker"),
    [
        ("aesdd", "downloads/aesdd/anger/a08 (04).wav", "4"),
        ("cremad", "downloads/cremad/AudioWAV/1004_TSI_ANG_XX.wav", "1004"),
        ("emodb", "downloads/emodb/wav/03a05Wb.wav", "3"),
        ("ravdess", "downloads/ravdess/Actor_11/03-01-06-01-02-01-11.wav", "11"),
        ("urdu", "downloads/urdu/Neutral/SM5_F37_N065.wav", "SM5"),
        ("shemo", "downloads/shemo/female/F07S20.wav", "F07"),
        ("tess", "downloads/tess/YAF_vine_fear.wav", "YAF"),
        ("enterface", "downloads/enterface/subject 37/anger/sentence 1/s37_an_1.avi", "37"),
        ("subesco", "downloads/subesco/M_09_SHUMANTA_S_4_ANGRY_3.wav", "M_09"),
        ("emodb", "downloads/emodb/wav/other.wav", ""),
    ],
)
def test_speaker_by_file_name(corpus: str, path: str, speaker: str) -> None:
    assert speakers_of([path], compile_pattern(PATTERNS[corpus])) == [speaker]


def test_speaker_pattern_of_the_user(mini: Mini) -> None:
    for row in mini.rows:
        row.pop("SpkrID")
    mini.audit(audio=False)
    found = audit(read_listing(mini.labels, speaker_pattern=r"/s(\d)_"))
    assert found.facts["speakers"] == 6
    assert codes(found) == set()


# --- command line -----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_command_in_a_process(mini: Mini, run: Run, tmp_path: Path) -> None:
    put(mini, Fold="fold2")
    mini.write(FIRST, np.zeros(9000))
    mini.audit()
    done = run("s3prl-emotion", "audit", mini.labels, "--root", mini.root, "--json", tmp_path / "a.json", code=1)
    assert "error   speaker-overlap" in done.stdout
    assert "error   audio-silent" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("not clean: 2 errors, 0 warnings")
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["clean"] is False
    assert {"speaker-overlap", "audio-silent"} <= {item["code"] for item in report["findings"]}


def test_warnings_count_when_strict(mini: Mini, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["audit", str(mini.labels), "--root", str(mini.root)]
    assert main([*words, "--strict"]) == 0
    mini.write(FIRST, mini.wave(FIRST) + 0.05)
    assert main(words) == 0
    assert main([*words, "--strict", "--json", str(tmp_path / "a.json")]) == 1
    out = capsys.readouterr().out
    assert out.count("\nclean: ") == 2
    assert "not clean: 0 errors, 1 warning, 1 note" in out
    assert json.loads((tmp_path / "a.json").read_text())["strict"] is True


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere.csv", "--no_audio"], "nowhere.csv: no such file or folder"),
        (["{labels}"], "--root: name the folder with the audio, or say --no_audio"),
        (["{labels}", "--root", "nowhere"], "nowhere: no such folder; --root"),
        (["{labels}", "--root", "{root}", "--no_audio"], "--root and --no_audio: choose one"),
        (["{labels}", "--no_audio", "--format", "supreb"], "--format supreb: .*nearest: superb"),
        (["{labels}", "--no_audio", "--format", "superb"], "labels.csv: is a file; SUPERB's lists are a folder"),
        (["{labels}", "--no_audio", "--format", "emo-superb"], "no column Split_Set, so not EMO-SUPERB's"),
        (["{labels}", "--no_audio", "--format", "emobox"], "labels.csv: no EmoBox lists"),
        (["{root}", "--no_audio"], "holds neither SUPERB's lists"),
        (["{root}", "--no_audio", "--format", "table"], "is a folder; a label table is a CSV file"),
        (["{root}", "--no_audio", "--format", "superb"], "no SessionN folders"),
        (["{root}", "--no_audio", "--format", "emo-superb"], "no labels_consensus_1.csv"),
        (["{labels}", "--no_audio", "--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["{labels}", "--no_audio", "--speaker_pattern", "("], "not a regular expression"),
        (["{labels}", "--no_audio", "--speaker_pattern", "s."], "put the speaker.s part in brackets"),
        (["{labels}", "--no_audio", "--json", "nowhere/a.json"], "nowhere/a.json: its folder does not exist"),
    ],
)  # fmt: skip
def test_bad_command_is_one_line(
    tiny_corpus: TinyCorpus, capsys: pytest.CaptureFixture[str], words: list[str], match: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    filled = [word.format(labels=tiny_corpus.labels, root=tiny_corpus.root) for word in words]
    assert main(["audit", *filled]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(match, lines[0]), lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.csv", "Name,EmoClass\na.wav,x\n", "no column FileName"),
        ("a.csv", "FileName,SpkrID\na.wav,x\n", "no column EmoClass, nor shares, nor dimensions"),
        ("a.csv", "FileName,EmoClass\n", "the table has no rows"),
        ("a.csv", "FileName,EmoClass\na,b,c,d\n", "more fields than its header"),
        ("a.csv", "", "not readable as CSV"),
        ("a.csv", "FileName,EmoClass\n,x\n", "no row has a FileName"),
        ("a.json", "{}", "name the folder that holds the lists"),
        ("a_test_fold_1.jsonl", "{", "line 1: not JSON"),
        ("a_test_fold_1.jsonl", "[]\n", "line 1: not a JSON object"),
        ("a_test_fold_1.jsonl", '{"wav": "a.wav"}\n', "lacks 'wav' or 'emo'"),
        ("a_test_fold_1.jsonl", "\n", "its lists have no entries"),
        ("a_test_fold_1.jsonl", '{"wav": "a", "emo": "b", "start_time": "x", "end_time": 1}', "must be seconds"),
        ("a.jsonl", "", "no EmoBox lists"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=match) as caught:
        read_listing(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_demo_corpus_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "demo"]) == 0
    assert "192 utterances" in capsys.readouterr().out


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED_DATA / "emodb").is_dir(), reason="EMO-DB is not here")
def test_emodb_is_clean() -> None:
    folder = SHARED_DATA / "emodb"
    found = audit(read_listing(folder / "labels.csv"), folder / "wav", jobs=2)
    assert codes(found) == set()
    assert found.facts["speaker_independent"] == "yes"
    assert found.facts["audio"]["files"] == 535
    assert found.facts["audio"]["rates"] == {"22050": 535}
    assert found.facts["associations"]["speaker"]["cramers_v"] < 0.1


@pytest.mark.skipif(not (SHARED_DATA / "iemocap_superb").is_dir(), reason="SUPERB's lists of IEMOCAP are not here")
def test_superbs_iemocap_shares_speakers_only_between_train_and_dev(tmp_path: Path) -> None:
    for packed in (SHARED_DATA / "iemocap_superb").glob("Session*/*.json.gz"):
        path = tmp_path / packed.parent.name / packed.stem
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    found = audit(read_listing(tmp_path))
    assert codes(found) == {"dev-speakers"}
    assert (found.facts["speakers"], found.facts["utterances"]) == (10, 5531)
    assert found.facts["speaker_independent"] == "yes"
    assert of(found, "dev-speakers").count == 10


@pytest.mark.skipif(not (SHARED_DATA / "iemocap_labels").is_dir(), reason="EMO-SUPERB's labels are not here")
def test_emo_superbs_iemocap() -> None:
    found = audit(read_listing(SHARED_DATA / "iemocap_labels" / "labels_consensus_1.csv.gz"))
    assert found.listing.form == "emo-superb"
    assert codes(found) == {"class-imbalance", "class-untested", "shares-smoothed", "speaker-column"}
    assert (found.facts["speakers"], found.facts["speaker_independent"]) == (10, "yes")
    assert of(found, "speaker-column").examples[0] == "01: Ses01F, Ses01M"
    assert "0.00625" in of(found, "shares-smoothed").what
