"""``s3prl-emotion prepare`` for acted corpora, whose file names say everything, and for any corpus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from conftest import SHARED_DATA
from corpus_minis import lay_out, prepare, table

from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.recipe import DataSection


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


# --- whole corpora, made up from their own rules ----------------------------------------------------------------------


def ravdess() -> Iterator[str]:
    for actor, emotion, intensity, statement, take in product(range(1, 25), range(1, 9), "12", "12", "12"):
        if emotion > 1 or intensity == "1":
            name = f"03-01-{emotion:02d}-0{intensity}-0{statement}-0{take}-{actor:02d}.wav"
            yield f"Audio_Speech_Actors_01-24/Actor_{actor:02d}/{name}"


def cafe() -> Iterator[str]:
    folders = {"C": "ColŠre", "D": "D‚go–t", "J": "Joie", "N": "Neutre", "P": "Peur", "S": "Surprise", "T": "Tristesse"}
    for actor, code, intensity, sentence in product(range(1, 13), folders, "12", range(1, 7)):
        if code != "N" or intensity == "1":
            depth = "" if code == "N" else ("Faible/" if intensity == "1" else "Fort/")
            yield f"CaFE_48k/{folders[code]}/{depth}{actor:02d}-{code}-{intensity}-{sentence}.wav"


def savee(pattern: str = "AudioData/{speaker}/{code}{take:02d}.wav") -> Iterator[str]:
    for speaker, code in product(("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su")):
        for take in range(1, 31 if code == "n" else 16):
            yield pattern.format(speaker=speaker, code=code, take=take)


def tess() -> Iterator[str]:
    classes = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    for speaker, word, name in product(("OAF", "YAF"), range(200), classes):
        yield f"TESS/{speaker}_{name}/{speaker}_word{chr(97 + word % 26)}{chr(97 + word // 26)}_{name}.wav"


@pytest.mark.full
@pytest.mark.parametrize(
    ("corpus", "audio", "speakers", "gender"),
    [
        ("ravdess", ravdess(), {f"{number:02d}" for number in range(1, 25)}, {"Male": 720, "Female": 720}),
        ("cafe", cafe(), {f"{number:02d}" for number in range(1, 13)}, {"Male": 468, "Female": 468}),
        ("savee", savee(), {"DC", "JE", "JK", "KL"}, {"Male": 480}),
        ("savee", savee("ALL/{speaker}_{code}{take:02d}.wav"), {"DC", "JE", "JK", "KL"}, {"Male": 480}),
        ("tess", tess(), {"OAF", "YAF"}, {"Female": 2800}),
    ],
    ids=["ravdess", "cafe", "savee", "savee-flat", "tess"],
)
def test_whole_corpus_has_the_published_counts(tmp_path: Path, capsys, corpus, audio, speakers, gender) -> None:
    prepare(corpus, lay_out(tmp_path / "corpus", audio), tmp_path / "out")
    assert "counts are those of the published corpus" in capsys.readouterr().out
    rows = table(tmp_path / "out" / "labels.csv")
    assert set(rows["SpkrID"]) == speakers
    assert rows["Gender"].value_counts().to_dict() == gender
    assert set(rows["Duration"]) == {"0.05"}


def test_ravdess_songs_and_second_copies(tmp_path: Path, caplog) -> None:
    names = ["Actor_02/03-01-08-02-02-01-02.wav", "Actor_02/03-02-05-01-01-01-02.wav"]
    root = lay_out(
        tmp_path / "corpus", [*names, f"copy/{names[0]}", "Actor_02/._03-01-08-02-02-01-02.wav", "noise.wav"]
    )
    prepare("ravdess", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert rows[["EmoClass", "Intensity", "Text"]].values.tolist() == [
        ["surprise", "strong", "Dogs are sitting by the door."]
    ]
    for note in (
        "1 sung utterances",
        "1 files are second copies",
        "1 audio files are not named as in RAVDESS",
        "noise.wav",
    ):
        assert note in caplog.text
    prepare("ravdess", root, tmp_path / "songs", "--songs")
    assert list(table(tmp_path / "songs" / "labels.csv")["Channel"]) == ["speech", "song"]


def test_cafe_reads_aiff_and_intensity(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "corpus", ["Colère/Fort/02-C-2-4.aiff", "Neutre/01-N-1-2.aiff"])
    prepare("cafe", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert list(rows["EmoClass"]) == ["angry", "neutral"]
    assert list(rows["Intensity"]) == ["strong", "mild"]
    assert rows["Text"].iloc[1] == "Deux ânes aigris au pelage brun"


def test_savee_needs_a_speaker(tmp_path: Path, capsys) -> None:
    prepare("savee", lay_out(tmp_path / "corpus", ["a01.wav", "DC_a02.wav"]), tmp_path / "out", code=1)
    assert "no speaker known for" in capsys.readouterr().err


def test_tess_odd_names(tmp_path: Path) -> None:
    names = ["OA_bite_neutral.wav", "YAF_pleasant_surprised/YAF_back_ps.wav", "OAF_Sad/OAF_half-way_SAD.wav"]
    prepare("tess", lay_out(tmp_path / "corpus", names), tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names]
    assert list(rows["EmoClass"]) == ["neutral", "surprise", "sad"]
    assert list(rows["SpkrID"]) == ["OAF", "YAF", "OAF"]
    assert list(rows["Text"]) == ["Say the word bite.", "Say the word back.", "Say the word half-way."]


def test_urdu(tmp_path: Path) -> None:
    names = ["Angry/SM4_F48_A0100.wav", "Happy/SF10_F1_H01.wav", "Neutral/SM20_F8_N012.wav", "Sad/SM5_F61_S089.wav"]
    prepare("urdu", lay_out(tmp_path / "corpus", names), tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names]
    assert list(rows["EmoClass"]) == ["angry", "happy", "neutral", "sad"]
    assert list(rows["SpkrID"]) == ["SM4", "SF10", "SM20", "SM5"]
    assert list(rows["Gender"]) == ["Male", "Female", "Male", "Male"]


def test_aesdd_odd_names_and_its_broken_file(tmp_path: Path, caplog) -> None:
    names = [
        "anger/a03 (4).wav",
        "fear/f10 (01).wav",
        "fear/f09 (1).wav",
        "sadness/s01 (5)b.wav",
        "sadness/s05 (3).wav",
    ]
    root = lay_out(tmp_path / "corpus", names)
    (root / names[-1]).write_bytes(b"RIFF")
    prepare("aesdd", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names[:4]]
    assert list(rows["SpkrID"]) == ["4", "1", "1", "5"]
    assert list(rows["EmoClass"]) == ["angry", "fear", "fear", "sad"]
    assert "Gender" not in rows
    assert "s05 (3).wav is left out: unreadable audio" in caplog.text


def test_shemo_transcripts_and_codes(tmp_path: Path, caplog) -> None:
    names = ["female/F21N23.wav", "male/M02F01.wav", "male/M36S02.wav", "male/M01W01.wav"]
    texts = {
        "transcript/final text/F21N23.ort": "\ufeff\u200fسلام \u200eدنیا\n",
        "transcript/final phonetic/F21N23.ort": "salAm",
        "transcript/final text/M36S02.ort": "نه",
    }
    prepare("shemo", lay_out(tmp_path / "corpus", names, texts), tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names]
    assert list(rows["EmoClass"]) == ["neutral", "fear", "sad", "surprise"]
    assert list(rows["SpkrID"]) == ["F21", "M02", "M36", "M01"]
    assert list(rows["Gender"]) == ["Female", "Male", "Male", "Male"]
    assert list(rows["Text"]) == ["سلام دنیا", "", "نه", ""]
    assert "2 utterances have no transcript" in caplog.text


# --- EMO-DB -----------------------------------------------------------------------------------------------------------

HEARD = (
    "Satz         \terkannt\tnatürlich\tUEB\n03a01Fa.wav\t90,00\t75,00\t1,00\n10b10Wa.wav\t\xa0100\t95,5\n"
    "16a02Lb.wav\tnichts\n"
)


def test_emodb_with_recognition_rates(tmp_path: Path) -> None:
    names = ["wav/03a01Fa.wav", "wav/10b10Wa.wav", "wav/16a02Lb.wav"]
    root = lay_out(tmp_path / "emodb", names, {"erkennung.txt": HEARD}, encoding="latin-1")
    prepare("emodb", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names]
    assert list(rows["EmoClass"]) == ["happy", "angry", "boredom"]
    assert list(rows["Recognized"]) == ["90", "100", ""]
    assert list(rows["Natural"]) == ["75", "95.5", ""]
    assert rows["Text"].iloc[1] == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."
    (root / "erkennung.txt").write_text("something else\n")
    prepare("emodb", root, tmp_path / "other", code=1)


REAL = SHARED_DATA / "emodb"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs data of its own")
@pytest.mark.parametrize("below", ["", "wav"])
def test_emodb_on_the_real_files(tmp_path: Path, capsys, below: str) -> None:
    prepare("emodb", REAL / below, tmp_path)
    assert "counts are those of the published corpus" in capsys.readouterr().out
    found = table(tmp_path / "labels.csv")
    found.index = found["FileName"].map(lambda name: Path(name).name)
    known = pd.read_csv(REAL / "labels.csv", dtype=str).set_index("FileName")
    assert len(found) == len(known) == 535
    columns = ["EmoClass", "SpkrID", "Gender", "SentenceID"]
    pd.testing.assert_frame_equal(found.loc[known.index, columns], known[columns], check_names=False)
    section = DataSection(
        labels=str(tmp_path / "labels.csv"), train_batch_size=1, eval_batch_size=1, num_folds="speakers"
    )
    assert len(read_corpus(tmp_path / "labels.csv", REAL / below, section).split("test")) == 49  # speaker 03


# --- any corpus -------------------------------------------------------------------------------------------------------


def test_folders_are_classes(tmp_path: Path, caplog) -> None:
    root = lay_out(tmp_path / "corpus", ["joy/deep/a.wav", "joy/b, c.flac", "rage/a.wav", "loose.wav", ".cache/x.wav"])
    prepare("generic", root, tmp_path / "out", "--names", "joy=happy,fury=angry")
    rows = table(tmp_path / "out" / "labels.csv")
    assert rows["EmoClass"].to_dict() == {"joy/deep/a.wav": "happy", "joy/b, c.flac": "happy", "rage/a.wav": "rage"}
    assert "SpkrID" not in rows
    assert "1 audio files lie in no folder" in caplog.text
    assert "--names: no utterance has class 'fury'" in caplog.text


def test_file_names_by_a_pattern(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "corpus", ["x/spk1_f_A_fold1.wav", "x/spk2_m_S_fold2.wav", "x/other.wav"])
    pattern = r"(?P<speaker>spk\d)_(?P<gender>[fm])_(?P<emotion>[AS])_(?P<fold>fold\d)"
    prepare("generic", root, tmp_path / "out", "--pattern", pattern, "--names", "A=angry,S=sad")
    rows = table(tmp_path / "out" / "labels.csv")
    assert rows[["EmoClass", "SpkrID", "Gender", "Fold"]].values.tolist() == [
        ["angry", "spk1", "Female", "fold1"],
        ["sad", "spk2", "Male", "fold2"],
    ]


def test_table_with_columns_of_its_own(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "corpus", ["a.wav", "b.wav"])
    source = tmp_path / "source.csv"
    source.write_text('path,label,who,arousal,angry,sad,remark\na.wav,A,7,3.5,0.75,0.25,"x, y"\nb.wav,S,007,,0,1,\n')
    columns = "FileName=path,EmoClass=label,SpkrID=who,EmoAct=arousal"
    prepare("generic", root, tmp_path / "out", "--csv", source, "--columns", columns, "--names", "A=angry,S=sad")
    rows = table(tmp_path / "out" / "labels.csv")
    assert rows[["EmoClass", "SpkrID", "EmoAct", "angry", "sad", "remark"]].values.tolist() == [
        ["angry", "7", "3.5", "0.75", "0.25", "x, y"],
        ["sad", "007", "", "0", "1", ""],
    ]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--pattern", "(?P<emotion>["], "not a regular expression"),
        (["--pattern", r"(?P<emotoin>\w+)"], "no group 'emotoin'; nearest: emotion"),
        (["--pattern", r"\w+"], "needs a group (?P<emotion>…)"),
        (["--pattern", r"(?P<emotion>\d+)"], "does not look like a corpus; looked for file stems that fit"),
        (["--pattern", r"(?P<emotion>x?)a"], "the group emotion of --pattern is empty"),
        (["--pattern", "x", "--csv", "x.csv"], "use one of them"),
        (["--columns", "FileName=path"], "--columns needs --csv FILE"),
        (["--csv", "{csv}", "--columns", "Filename=path"], "no column 'Filename'; nearest: FileName"),
        (["--csv", "{csv}", "--columns", "FileName=pth"], "no column pth; has path, label"),
        (["--csv", "{csv}", "--columns", "FileName=path,EmoClass=label"], "line 3: label is empty"),
        (["--csv", "nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory)"),
        (["--names", "A"], "must be pairs as A=angry,S=sad"),
        ([], "looked for a folder for each class"),
    ],
)
def test_bad_options_for_any_corpus_are_refused(tmp_path: Path, capsys, words: list[str], match: str) -> None:
    root = lay_out(tmp_path / "corpus", ["a.wav"])
    source = tmp_path / "source.csv"
    source.write_text("path,label\na.wav,A\nb.wav,\n")
    prepare(
        "generic",
        root,
        tmp_path / "out",
        *(word.format(csv=source) if "{csv}" in word else word for word in words),
        code=1,
    )
    error = capsys.readouterr().err
    assert match in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
