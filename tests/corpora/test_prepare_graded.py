"""``s3prl-emotion prepare`` for corpora with graders: miniatures in their own layout, and IEMOCAP's real lists."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED_DATA
from corpus_minis import lay_out, prepare, sound, table
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_emotion.corpora.class_names import NO_AGREEMENT
from s3prl_emotion.corpora.corpus import Needs
from s3prl_emotion.corpora.preparers.cmu_mosei import votes_of
from s3prl_emotion.corpora.preparers.iemocap import CODES, EMO_SUPERB, VOTES, parse_evaluation
from s3prl_emotion.corpora.preparers.msp_improv import parse_evaluation as parse_improv
from s3prl_emotion.corpora.utterances import read_corpus, read_labelled_rows, to_utterances
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


# --- IEMOCAP ----------------------------------------------------------------------------------------------------------

DIALOGUE = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.5000, 2.0000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tNeutral; Frustration;\t()
C-F1:\tAnger;\t(curious)
A-E3:\tval 3; act 4; dom  2;\t()
A-E4:\tval 2; act 3; dom  ;\t(mildly aggravated but polite; act 5)
A-F1:\tval 5; act 1; dom  1;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.0000, 4.0000, 3.0000]
C-E2:\tExcited;\t()
C-E3:\tOther;\t(amused)
C-E4:\tHappiness;\t()
A-E3:\tval 4; act 4; dom  3;\t()

[12.0000 - 13.0000]\tSes01F_impro01_M002\toth\t[3.0000, 3.0000, 3.0000]
C-E2:\tOther;\t(bored)
C-E3:\tMelancholy;\t()
A-E3:\tval 3; act 3; dom  3;\t()
"""
SECOND = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0 - 2.0]\tSes02M_script01_1b_F000\txxx\t[2.0000, 2.0000, 2.0000]
C-E1:\tSadness;\t()
C-E2:\tAnger;\t()
A-E1:\tval 2; act 2; dom  2;\t()
"""
NAMES = ("Ses01F_impro01_F000", "Ses01F_impro01_M001", "Ses01F_impro01_M002")
SECOND_NAME = "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_F000.wav"


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    audio = [f"Session1/sentences/wav/Ses01F_impro01/{name}.wav" for name in NAMES]
    texts = {
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": DIALOGUE,
        "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt": "\x00\x05\x16\x07 Mac OS X",
        "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt": "not a dialogue's summary",
        "Session2/dialog/EmoEvaluation/Ses02M_script01_1b.txt": SECOND,
        "Session1/dialog/transcriptions/Ses01F_impro01.txt": (
            'Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me, "sir".\n'
            "Ses01F_impro01_FXX0 [008.3-009.1]: [LAUGHTER]\n"
            "M: no time is given here\n"
            "Ses01F_impro01_M001 [010.0100-011.3925]: Yeah.\n"
        ),
    }
    return lay_out(tmp_path / "IEMOCAP", [*audio, SECOND_NAME], texts)


def test_iemocap_reads_consensus_votes_levels_text_and_true_speaker(iemocap: Path, tmp_path: Path, caplog) -> None:
    prepare("iemocap", iemocap, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    first = rows.loc[f"Session1/sentences/wav/Ses01F_impro01/{NAMES[0]}.wav"]
    assert list(first[["EmoClass", "SpkrID", "Gender", "Fold"]]) == ["neutral", "Ses01F", "Female", "fold1"]
    assert first["Text"] == 'Excuse me, "sir".'
    # the file has valence, activation, dominance; the actor's own evaluation (F1) is not counted
    assert [float(first[name]) for name in ("EmoAct", "EmoVal", "EmoDom")] == [3.5, 2.5, 2.0]
    assert [float(first[f"{name}Std"]) for name in ("EmoAct", "EmoVal", "EmoDom")] == [0.5, 0.5, 0.0]
    # three graders, four classes: each counts one
    assert [float(first[name]) for name in ("neutral", "frustrated", "angry", "other")] == [0.75, 0.25, 0.0, 0.0]
    excited = rows.loc[f"Session1/sentences/wav/Ses01F_impro01/{NAMES[1]}.wav"]
    assert list(excited[["EmoClass", "SpkrID", "Gender"]]) == ["excited", "Ses01M", "Male"]
    assert float(excited["other"]) == pytest.approx(1 / 3)
    assert list(rows.loc[SECOND_NAME, ["EmoClass", "SpkrID", "Fold", "Text"]]) == [NO_AGREEMENT, "Ses02F", "fold2", ""]
    votes = pd.read_csv(tmp_path / "out" / "votes.csv")
    assert Counter(votes["EmoClass"])["neutral"] == 3
    assert set(votes["Grader"]) == {"E1", "E2", "E3", "E4"}
    ratings = pd.read_csv(tmp_path / "out" / "ratings.csv")
    assert ratings["EmoDom"].isna().sum() == 1
    assert "1 votes are for classes that are not of the list, as 'melancholy': other" in caplog.text
    assert "4 utterances, expected 10039" in caplog.text


def test_iemocap_superb_selection_joins_excited_and_happy(iemocap: Path, tmp_path: Path) -> None:
    prepare("iemocap", iemocap, tmp_path / "out", "--classes", "superb")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["EmoClass"]) == ["neu", "hap"]
    assert "neutral" not in rows


def test_iemocap_nine_classes_drop_utterances_with_votes_for_other_only(iemocap: Path, tmp_path: Path, caplog) -> None:
    prepare("iemocap", iemocap, tmp_path / "out", "--classes", "emo-superb", "--smoothing", 0.05)
    rows = table(tmp_path / "out" / "labels.csv")
    assert len(rows) == 3
    assert "1 utterances are not of the selection emo-superb" in caplog.text
    assert set(EMO_SUPERB) <= set(rows.columns)
    assert "other" not in rows
    excited = rows.loc[f"Session1/sentences/wav/Ses01F_impro01/{NAMES[1]}.wav"]
    # half a vote between 0.95 for one in full and 0.00625 for none
    assert float(excited["excited"]) == pytest.approx(0.5 * (0.95 + 0.00625), abs=1e-6)
    assert rows[list(EMO_SUPERB)].astype(float).sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_votes_file_and_table_train_the_same_distribution(iemocap: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("iemocap", iemocap, out)

    def shares(**distribution: str) -> dict[str, tuple[float, ...] | None]:
        section = DataSection(
            labels=str(out / "labels.csv"),
            train_batch_size=1,
            eval_batch_size=1,
            classes=["angry", "sad", "neutral", "frustrated", "excited", "happy", "other"],
            distribution=distribution,
        )
        rows, classes = read_labelled_rows(out / "labels.csv", section, Needs(shares=True))
        found = to_utterances(rows, iemocap, {name: number for number, name in enumerate(classes)})
        return {item.name: item.shares for item in found}

    by_columns, by_votes = shares(source="shares"), shares(source="votes", votes=str(out / "votes.csv"))
    assert by_columns.keys() == by_votes.keys()
    assert len(by_columns) == 4
    for name, values in by_columns.items():
        assert by_votes[name] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("\tneu\t", "\tnue\t", "line 3: Ses01F_impro01_F000 has class 'nue'; nearest: neu"),
        ("Ses01F_impro01_F000\tneu", "Ses01F_impro01\tneu", "line 3: Ses01F_impro01 is not an utterance's name"),
        ("Ses01F_impro01_M001\texc", "Ses01F_impro01_F000\texc", "Ses01F_impro01_F000 is evaluated twice"),
    ],
)
def test_malformed_evaluation_is_refused(iemocap: Path, tmp_path: Path, capsys, old: str, new: str, match: str) -> None:
    path = iemocap / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.write_text(DIALOGUE.replace(old, new))
    prepare("iemocap", iemocap, tmp_path / "out", code=1)
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


EVALUATIONS = st.lists(
    st.tuples(
        st.sampled_from(sorted(CODES)),
        st.lists(st.sampled_from(sorted(VOTES)), min_size=1, max_size=3),
        st.tuples(*[st.integers(1, 5)] * 3),
    ),
    max_size=5,
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(EVALUATIONS)
def test_evaluations_that_are_written_are_read_back(turns) -> None:
    lines = []
    for index, (code, votes, (val, act, dom)) in enumerate(turns):
        lines += [f"[1.0 - 2.0]\tSes03M_impro05a_F{index:03d}\t{code}\t[{val}.0, {act}.0, {dom}.0]"]
        lines += [
            f"C-E1:\t{'; '.join(votes)};\t(a comment; with C-E2: in it)",
            f"A-E2:\tval {val}; act {act}; dom  {dom};",
        ]
    found = parse_evaluation("\n".join(lines), Path("a.txt"))
    assert [(turn.code, turn.means) for turn in found] == [
        (code, (act, val, dom)) for code, _, (val, act, dom) in turns
    ]
    assert [[vote for _, vote in turn.votes] for turn in found] == [
        [VOTES[word] for word in votes] for _, votes, _ in turns
    ]
    assert all(turn.levels == [("E2", turn.means)] for turn in found)


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]() \t\n-;:.,CAESval0123neuM_F"), max_size=80))
def test_junk_in_an_evaluation_is_read_or_refused_but_never_crashes(text: str) -> None:
    head = "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"
    for parse in (parse_evaluation, parse_improv):
        try:
            parse(head + text, Path("a.txt"))
        except LabelError:
            continue


# --- IEMOCAP on SUPERB's real lists and the real grades ---------------------------------------------------------------

LISTS, GRADES = SHARED_DATA / "iemocap_superb", SHARED_DATA / "iemocap_labels" / "labels_consensus_1.csv.gz"
LONG = {name: code for code, name in CODES.items()}


def superb_lists() -> dict[str, dict[str, str]]:
    """Class of each utterance by its path, for each test list."""
    found = {}
    for number in range(1, 6):
        with gzip.open(LISTS / f"Session{number}" / "test_meta_data.json.gz", "rt") as file:
            found[f"fold{number}"] = {item["path"]: item["label"] for item in json.load(file)["meta_data"]}
    return found


def real_evaluations(root: Path) -> pd.DataFrame:
    """IEMOCAP in its own layout, with the real consensus of SUPERB's lists and the real grades; made-up audio."""
    with gzip.open(GRADES, "rt") as file:
        grades = pd.read_csv(file, dtype={"SpkrID": str})
    names = list(EMO_SUPERB)
    shares = (grades[names].to_numpy() - 0.00625) / 0.94375  # a share is smoothed by 0.05 over nine classes
    selected = {Path(path).stem: label for part in superb_lists().values() for path, label in part.items()}
    grades["stem"] = grades["FileName"].str.removesuffix(".wav")
    dialogues: dict[str, list[str]] = {}
    for row, share in zip(grades.itertuples(), shares, strict=True):
        parts = [Fraction(value).limit_denominator(9) for value in share]
        votes = np.lcm.reduce([part.denominator for part in parts])
        code = selected.get(row.stem)
        if code is None:
            code = "fru" if share[0] > 0.5 else "xxx"
        elif code == "hap":
            code = "exc" if share[names.index("excited")] > share[names.index("happy")] else "hap"
        levels = f"{row.EmoVal}, {row.EmoAct}, {row.EmoDom}"
        lines = dialogues.setdefault(row.stem.rpartition("_")[0], [])
        lines.append(f"[0.0 - 1.0]\t{row.stem}\t{code}\t[{levels}]")
        words = [name for name, part in zip(names, parts, strict=True) for _ in range(int(part * votes))]
        lines += [f"C-E{number}:\t{word};\t()" for number, word in enumerate(words, start=1)]
        folder = root / f"Session{row.stem[4]}" / "sentences" / "wav" / row.stem.rpartition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row.stem}.wav").write_bytes(sound())
    for dialogue, lines in dialogues.items():
        path = root / f"Session{dialogue[4]}" / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return grades


needs_real = pytest.mark.skipif(not GRADES.is_file() or not LISTS.is_dir(), reason="needs data of its own")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("real") / "IEMOCAP"
    return root, real_evaluations(root)


@pytest.mark.full
@needs_real
def test_superb_selection_is_superbs_own_on_the_real_lists(real, tmp_path: Path, caplog, capsys) -> None:
    root, _ = real
    prepare("iemocap", root, tmp_path, "--classes", "superb")
    assert "counts are those of the published corpus" in capsys.readouterr().out
    assert "not as published" not in caplog.text
    rows = table(tmp_path / "labels.csv")
    lists = superb_lists()
    assert len(rows) == 5531
    for fold, expected in lists.items():
        assert rows.loc[rows["Fold"] == fold, "EmoClass"].to_dict() == expected
    assert rows["SpkrID"].nunique() == 10
    section = DataSection(labels=str(tmp_path / "labels.csv"), train_batch_size=1, eval_batch_size=1, test_fold="fold3")
    corpus = read_corpus(tmp_path / "labels.csv", root, section)
    assert {item.name for item in corpus.split("test")} == set(lists["fold3"])


@pytest.mark.full
@needs_real
def test_nine_class_shares_are_emo_superbs_on_the_real_grades(real, tmp_path: Path) -> None:
    root, grades = real
    prepare("iemocap", root, tmp_path, "--classes", "emo-superb", "--smoothing", 0.05)
    rows = pd.read_csv(tmp_path / "labels.csv")
    assert len(rows) == len(grades) == 10039
    rows = rows.set_index(rows["FileName"].map(lambda name: Path(name).name)).loc[grades["FileName"]]
    names = [*EMO_SUPERB]
    assert np.abs(rows[names].to_numpy() - grades[names].to_numpy()).max() < 2e-6
    levels = ["EmoAct", "EmoVal", "EmoDom"]
    assert np.abs(rows[levels].to_numpy() - grades[levels].to_numpy()).max() < 1e-6
    assert (rows["Gender"].to_numpy() == grades["Gender"].to_numpy()).all()


# --- MSP-Podcast ------------------------------------------------------------------------------------------------------

CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,3.4,4.2,4.0,127,Male,Train
MSP-PODCAST_0001_0019.wav,X,2.0,3.0,3.5,Unknown,Unknown,Validation
MSP-PODCAST_0002_0033.wav,H,6.0,6.0,4.6,17,Female,Test1
MSP-PODCAST_0003_0001.wav,,,,,,,Test3
"""
DETAILED = """FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,W1,Neutral,"Neutral,Concerned",3,4,4
MSP-PODCAST_0001_0008.wav,W2,Angry,Angry,4,3,5
MSP-PODCAST_0001_0019.wav,W1,Other-tired,Depressed,2,3,3
MSP-PODCAST_0001_0019.wav,W3,Sad,Sad,2,3,4
MSP-PODCAST_0002_0033.wav,W1,Happy,Happy,6,6,4
MSP-PODCAST_0002_0033.wav,W2,Sleepy,Sleepy,6,6,5
"""
PODCAST_AUDIO = [f"Audios/MSP-PODCAST_{name}.wav" for name in ("0001_0008", "0001_0019", "0002_0033", "0003_0001")]


def podcast_json() -> str:
    content: dict[str, dict[str, dict[str, object]]] = {}
    for row in csv.DictReader(io.StringIO(DETAILED)):
        levels = {name: float(row[name]) for name in ("EmoAct", "EmoVal", "EmoDom")}
        grade = {"EmoClass_Major": row["EmoClass_Major"], **levels}
        content.setdefault(row["FileName"], {})[row["WorkerID"]] = grade
    return json.dumps(content)


@pytest.mark.parametrize("detailed", ["csv", "json"])
@pytest.mark.parametrize("spelling", ["labels_consensus.csv", "labels_concensus.csv"])
def test_msp_podcast_reads_consensus_grades_and_split(tmp_path: Path, caplog, detailed: str, spelling: str) -> None:
    texts = {
        f"Labels/{spelling}": CONSENSUS,
        f"Labels/labels_detailed.{detailed}": DETAILED if detailed == "csv" else podcast_json(),
        "Transcripts/MSP-PODCAST_0001_0008.txt": "so, well, yes\n",
        "readme.txt": "MSP-PODCAST Database\nRelease 1.11 (June 6, 2023)\n",
    }
    root = lay_out(tmp_path / "podcast", PODCAST_AUDIO, texts)
    prepare("msp-podcast", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["EmoClass"]) == ["neutral", NO_AGREEMENT, "happy"]
    assert list(rows["Split_Set"]) == ["Train", "Development", "Test1"]
    assert list(rows["SpkrID"]) == ["127", "Unknown", "17"]
    assert list(rows["Gender"]) == ["Male", "", "Female"]
    first = rows.iloc[0]
    assert [float(first[name]) for name in ("EmoAct", "EmoVal", "EmoDom")] == [3.4, 4.2, 4.0]
    assert [float(first[name]) for name in ("EmoActStd", "EmoValStd", "EmoDomStd")] == [0.5, 0.5, 0.5]
    assert (first["neutral"], first["angry"], first["Text"]) == ("0.5", "0.5", "so, well, yes")
    assert list(rows["other"]) == ["0", "0.5", "0.5"]
    assert "1 utterances have no published label" in caplog.text
    assert "as 'Sleepy': other" in caplog.text
    assert "split Train: 1 utterances, expected 84030" in caplog.text
    assert len(pd.read_csv(tmp_path / "out" / "ratings.csv")) == 6


def test_msp_podcast_reads_the_split_from_partitions_and_needs_no_grades(tmp_path: Path, caplog) -> None:
    consensus = "\n".join(line.rsplit(",", 1)[0] for line in CONSENSUS.splitlines()[:4]) + "\n"
    partitions = (
        "Train; MSP-PODCAST_0001_0008.wav\nDevelopment; MSP-PODCAST_0001_0019.wav\nTest1; MSP-PODCAST_0002_0033.wav\n"
    )
    texts = {"Labels/labels_consensus.csv": consensus, "Partitions.txt": partitions}
    prepare("msp-podcast", lay_out(tmp_path / "podcast", PODCAST_AUDIO, texts), tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["Split_Set"]) == ["Train", "Development", "Test1"]
    assert "neutral" not in rows
    assert "EmoActStd" not in rows
    assert not (tmp_path / "out" / "votes.csv").exists()
    assert "release not known" in caplog.text
    (tmp_path / "podcast" / "Partitions.txt").write_text("MSP-PODCAST_0001_0008.wav Train\n")
    prepare("msp-podcast", tmp_path / "podcast", tmp_path / "out", "--overwrite")
    assert "2 utterances have no official split" in caplog.text


def test_msp_podcast_without_votes_on_one_row_has_no_shares(tmp_path: Path, caplog) -> None:
    detailed = "".join(line for line in DETAILED.splitlines(keepends=True) if "0002_0033" not in line)
    texts = {"Labels/labels_consensus.csv": CONSENSUS, "Labels/labels_detailed.csv": detailed}
    prepare("msp-podcast", lay_out(tmp_path / "podcast", PODCAST_AUDIO, texts), tmp_path / "out")
    assert "neutral" not in table(tmp_path / "out" / "labels.csv")
    assert (tmp_path / "out" / "votes.csv").exists()
    assert "1 utterances have no votes, as MSP-PODCAST_0002_0033.wav" in caplog.text


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (
            {"Labels/labels_consensus.csv": CONSENSUS.replace(",N,", ",Q,")},
            "line 2: EmoClass 'Q' is none of MSP's letters",
        ),
        ({"Labels/labels_consensus.csv": "FileName,Emotion\na.wav,N\n"}, "no column EmoClass; has FileName, Emotion"),
        (
            {"Labels/labels_consensus.csv": CONSENSUS, "Labels/labels_detailed.json": "[1, 2]"},
            "not the detailed labels of MSP-Podcast",
        ),
        ({"labels.csv": CONSENSUS}, "does not look like MSP-Podcast; looked for Labels/labels_consensus.csv"),
    ],
)
def test_malformed_msp_podcast_is_refused(tmp_path: Path, capsys, files: dict[str, str], match: str) -> None:
    prepare("msp-podcast", lay_out(tmp_path / "podcast", PODCAST_AUDIO, files), tmp_path / "out", code=1)
    assert match in capsys.readouterr().err


# --- MSP-IMPROV -------------------------------------------------------------------------------------------------------

IMPROV = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.500000; V:3.500000; D:3.000000 ; N:4.500000;
R10_M; Neutral; Neutral,Happy; A:2.000000; V:3.000000; D:3.000000; N:5.000000;
R11_M; Angry; Angry; A:3.000000; V:4.000000; D:NaN; N:4.000000;
R11_M; Angry; Angry; A:3.000000; V:4.000000; D:NaN; N:4.000000;

UTD-IMPROV-S14H-M02-T-FM02.avi; X; A:NaN; V:2.000000; D:3.000000 ; N:NaN;
R2; Happy; Happy,Excited; A:1.000000; V:2.000000; D:3.000000; N:3.000000;
R3; Other; Other; A:NaN; V:2.000000; D:3.000000; N:3.000000;
"""
IMPROV_AUDIO = [
    "Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
    "session2/S14H/T/MSP-IMPROV-S14H-M02-T-FM02.wav",
]


@pytest.mark.parametrize("name", ["Evalution.txt", "Evaluation.txt"])
@pytest.mark.parametrize("flip", [False, True])
def test_msp_improv(tmp_path: Path, caplog, name: str, flip: bool) -> None:
    root = lay_out(tmp_path / "improv", IMPROV_AUDIO, {name: IMPROV})
    prepare("msp-improv", root, tmp_path / "out", *(["--flip_activation"] if flip else []))
    rows = table(tmp_path / "out" / "labels.csv")
    first, second = rows.loc[IMPROV_AUDIO[0]], rows.loc[IMPROV_AUDIO[1]]
    assert list(first[["EmoClass", "SpkrID", "Gender", "Fold", "Acted", "Recording", "Naturalness"]]) == [
        "neutral", "F01", "Female", "fold1", "angry", "P", "4.5",
    ]  # fmt: skip
    assert list(second[["EmoClass", "SpkrID", "Gender", "Fold", "Acted"]]) == [
        NO_AGREEMENT,
        "M02",
        "Male",
        "fold2",
        "happy",
    ]
    assert (first["EmoAct"], second["EmoAct"]) == (("3.5" if flip else "2.5"), "")
    assert [float(first[name]) for name in ("EmoVal", "EmoDom", "EmoActStd")] == [3.5, 3.0, 0.5]
    assert (first["neutral"], first["angry"], second["other"]) == ("0.5", "0.5", "0.5")
    assert len(pd.read_csv(tmp_path / "out" / "votes.csv")) == 4
    assert "1 graders' lines stand twice" in caplog.text
    assert ("--flip_activation turns it" in caplog.text) is not flip


def test_malformed_msp_improv_is_refused(tmp_path: Path, capsys) -> None:
    texts = {"Evalution.txt": IMPROV.replace("; N; A", "; Z; A")}
    prepare("msp-improv", lay_out(tmp_path / "improv", IMPROV_AUDIO, texts), tmp_path / "out", code=1)
    assert "line 1: S01A-F01-P-FM01 has class 'Z', none of A, H, S, N, O, X" in capsys.readouterr().err
    prepare("msp-improv", lay_out(tmp_path / "none", [], {"Evalution.txt": "nothing\n"}), tmp_path / "out", code=1)
    assert "does not look like MSP-IMPROV; looked for Evalution.txt with lines as" in capsys.readouterr().err


# --- CREMA-D ----------------------------------------------------------------------------------------------------------

CREMA_AUDIO = ["AudioWAV/1001_IEO_NEU_XX.wav", "AudioWAV/1002_DFA_ANG_XX.wav", "AudioWAV/1076_MTI_SAD_XX.wav"]
CREMA = {
    "processedResults/tabulatedVotes.csv": (
        '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
        '"100001",0,0,0,1,3,0,"1001_IEO_NEU_XX",4,0.75,"N"\n'
        '"100002",2,0,2,0,0,0,"1002_DFA_ANG_XX",4,0.5,"A:F"\n'
        '"100003",0,0,0,0,1,0,"1076_MTI_SAD_XX",1,1,"N"\n'
        '"200001",0,0,0,4,0,0,"1001_IEO_NEU_XX",4,1,"H"\n'
        '"300001",0,1,0,3,0,0,"1001_IEO_NEU_XX",4,0.75,"H"\n'
    ),
    "VideoDemographics.csv": (
        '"ActorID","Age","Sex","Race","Ethnicity"\n'
        '1001,51,"Male","Caucasian","Not Hispanic"\n1002,21,"Female","Asian",""\n'
    ),
}


def test_crema_d_takes_the_votes_on_the_voice(tmp_path: Path, caplog) -> None:
    root = lay_out(tmp_path / "crema", CREMA_AUDIO, CREMA)
    (root / CREMA_AUDIO[2]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    prepare("crema-d", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["EmoClass"]) == ["neutral", NO_AGREEMENT]
    assert list(rows["Acted"]) == ["neutral", "angry"]
    assert list(rows["Gender"]) == ["Male", "Female"]
    assert list(rows["Text"]) == ["It's eleven o'clock.", "Don't forget a jacket."]
    assert [float(rows.iloc[0][name]) for name in ("neutral", "happy", "sad")] == [0.75, 0.25, 0.0]
    assert len(pd.read_csv(tmp_path / "out" / "votes.csv")) == 8
    assert "1076_MTI_SAD_XX.wav is left out" in caplog.text
    assert "2 utterances, expected 7442" in caplog.text


def test_crema_d_other_modality_and_acted_class(tmp_path: Path, capsys) -> None:
    root = lay_out(tmp_path / "crema", CREMA_AUDIO[:1], CREMA)
    prepare("crema-d", root, tmp_path / "face", "--modality", "both")
    assert list(table(tmp_path / "face" / "labels.csv")["EmoClass"]) == ["happy"]
    lay_out(root, CREMA_AUDIO[1:])
    prepare("crema-d", root, tmp_path / "more", "--modality", "face", code=1)
    assert "has no votes on it; --label acted does without" in capsys.readouterr().err
    (root / "processedResults/tabulatedVotes.csv").unlink()
    prepare("crema-d", root, tmp_path / "none", code=1)
    assert "looked for AudioWAV/1001_DFA_ANG_XX.wav, processedResults/tabulatedVotes.csv" in capsys.readouterr().err
    prepare("crema-d", root, tmp_path / "acted", "--label", "acted")
    assert list(table(tmp_path / "acted" / "labels.csv")["EmoClass"]) == ["neutral", "angry", "sad"]


def test_crema_d_tables_that_do_not_fit_are_refused(tmp_path: Path, capsys) -> None:
    root = lay_out(tmp_path / "crema", CREMA_AUDIO[:1], CREMA)
    votes = root / "processedResults/tabulatedVotes.csv"
    for old, new, match in [
        ('"",', '"row",', "should number the rows as 100001"),
        (",0,0,0,1,3,0,", ",0,0,0,1,3.5,0,", "line 2: a count of votes is not a whole number"),
    ]:
        votes.write_text(CREMA["processedResults/tabulatedVotes.csv"].replace(old, new))
        prepare("crema-d", root, tmp_path / "out", code=1)
        assert match in capsys.readouterr().err


def test_no_agreement_has_no_point_on_the_circle(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "crema", CREMA_AUDIO[:2], CREMA)
    prepare("crema-d", root, tmp_path / "out", "--circumplex")
    assert list(table(tmp_path / "out" / "labels.csv")["EmoVal"]) == ["4", ""]


def test_git_lfs_pointers_are_named(tmp_path: Path, capsys) -> None:
    root = lay_out(tmp_path / "crema", CREMA_AUDIO[:1], CREMA)
    (root / CREMA_AUDIO[0]).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    prepare("crema-d", root, tmp_path / "out", code=1)
    assert "a Git LFS pointer instead of audio" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- CMU-MOSEI --------------------------------------------------------------------------------------------------------

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def mosei_labels() -> str:
    columns = ["Input.VIDEO_ID", "Input.CLIP", "WorkerId", "Answer.sentiment", *(f"Answer.{name}" for name in EMOTIONS)]
    rows = [
        ["-3g5yACwYnA", "0", "A1", 1, 0, 0, 0, 2, 0, 0],
        ["-3g5yACwYnA", "0", "A2", 2, 0, 0, 0, 1, 1, 0],
        ["-3g5yACwYnA", "0", "A3", 0, 0, 0, 0, 0, 0, 0],
        ["folder/--qXJuDtHPw", "4", "A1", -2, 3, 0, 0, 0, 1, 0],
        ["not_found", "1", "A1", 0, 0, 0, 0, 0, 0, 0],
        ["--qXJuDtHPw", "4", "A2", -2, 3, 0, 0, 0, "", 0],
    ]
    return "\n".join(",".join(str(cell) for cell in row) for row in [columns, *rows]) + "\n"


MOSEI_TEXTS = {
    "Raw/Labels/batch1.csv": mosei_labels(),
    "Raw/Transcript/Segmented/Combined/-3g5yACwYnA.txt": (
        "-3g5yACwYnA___0___-0.01___0.02______I love it, really.\n-3g5yACwYnA___1___0.02___0.02___nothing\n"
    ),
    "Raw/Transcript/Segmented/Combined/--qXJuDtHPw.txt": "--qXJuDtHPw___4___0.01___9.0___no\n",
    "cmu_mosei_std_folds.py": "standard_train_fold=['-3g5yACwYnA']\nstandard_test_fold=['--qXJuDtHPw']\nother=open\n",
}


def test_cmu_mosei_segments_in_folders(tmp_path: Path) -> None:
    audio = ["Raw/Segmented/train/-3g5yACwYnA_0.wav", "Raw/Segmented/dev/--qXJuDtHPw_4.wav"]
    root = lay_out(tmp_path / "mosei", audio, {"Raw/Labels/batch1.csv": mosei_labels()})
    prepare("cmu-mosei", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    first = rows.loc[audio[0]]
    # three workers: happy; happy and sad level; nothing
    assert [float(first[name]) for name in ("happy", "sad", "neutral")] == [0.5, 0.25, 0.25]
    assert list(first[["EmoClass", "SpkrID", "Split_Set", "Sentiment"]]) == ["happy", "-3g5yACwYnA", "Train", "1"]
    assert float(first["happy_intensity"]) == 1.0
    assert list(rows.loc[audio[1], ["EmoClass", "Split_Set"]]) == ["angry", "Development"]


def test_cmu_mosei_cuts_whole_videos(tmp_path: Path, caplog) -> None:
    import soundfile

    audio = [f"Raw/Audio/Full/WAV_16000/{name}.wav" for name in ("-3g5yACwYnA", "--qXJuDtHPw")]
    root = lay_out(tmp_path / "mosei", audio, MOSEI_TEXTS)
    prepare("cmu-mosei", root, tmp_path / "out", "--cut", tmp_path / "cut")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["FileName"]) == ["--qXJuDtHPw_4.flac", "-3g5yACwYnA_0.flac"]
    assert list(rows["Split_Set"]) == ["Test", "Train"]
    assert rows.loc["-3g5yACwYnA_0.flac", "Text"] == "I love it, really."
    whole, _ = soundfile.read(root / audio[0], dtype="int16")
    part, _ = soundfile.read(tmp_path / "cut" / "-3g5yACwYnA_0.flac", dtype="int16")
    assert np.array_equal(part, whole[:320])
    assert soundfile.info(tmp_path / "cut" / "--qXJuDtHPw_4.flac").frames == 800 - 160
    assert "1 utterances begin before 0 s" in caplog.text
    assert "1 utterances have no length" in caplog.text
    assert "1 rated utterances have no audio" in caplog.text
    assert "1 workers' answers are not complete" in caplog.text


def test_cmu_mosei_folds_are_read_not_run(tmp_path: Path, capsys) -> None:
    texts = {**MOSEI_TEXTS, "cmu_mosei_std_folds.py": "standard_train_fold=open('x').read()\n"}
    root = lay_out(tmp_path / "mosei", ["-3g5yACwYnA_0.wav"], texts)
    prepare("cmu-mosei", root, tmp_path / "out", code=1)
    assert "not the SDK's standard folds" in capsys.readouterr().err


@settings(derandomize=True, deadline=None)
@given(st.tuples(*[st.integers(0, 3)] * 6))
def test_a_workers_votes_are_for_the_strongest(levels) -> None:
    given_levels = dict(zip(EMOTIONS, map(float, levels), strict=True))
    votes = votes_of(given_levels)
    assert len(votes) == (levels.count(max(levels)) if max(levels) else 1)
    assert (votes == ["neutral"]) is (max(levels) == 0)
