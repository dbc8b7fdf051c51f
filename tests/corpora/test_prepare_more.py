"""``s3prl-emotion prepare`` for JL-Corpus, EMOVO, nEMO, ASVP-ESD, EmoV-DB, ESD, MELD, Emozionalmente, SUBESCO, MESD."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from corpus_minis import lay_out, prepare, table

from s3prl_emotion.corpora.preparers import preparer
from s3prl_emotion.corpora.utterances import read_corpus
from s3prl_emotion.recipe import DataSection


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


# Names as they are published: for each file, the cells that its row must have
JL = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/"
MESD = "Mexican Emotional Speech Database (MESD)/"
NAMED: dict[str, dict[str, dict[str, str]]] = {
    "jl-corpus": {
        f"{JL}female1_angry_10a_1.wav": {"EmoClass": "angry", "SpkrID": "female1", "Gender": "Female", "Fold": "fold2"},
        f"{JL}male2_encouraging_6b_2.wav": {
            "EmoClass": "encouraging", "SpkrID": "male2", "Gender": "Male", "Fold": "fold1", "Sentence": "6b",
        },
    },
    "emovo": {
        "f2/gio-f2-b2.wav": {"EmoClass": "happy", "SpkrID": "f2", "Gender": "Female", "Fold": "fold1"},
        "m1/rab-m1-n5.wav": {"EmoClass": "angry", "SpkrID": "m1", "Gender": "Male", "Fold": "fold6", "Sentence": "n5"},
        "m3/pau-m3-d2.wav": {"EmoClass": "fear", "SpkrID": "m3", "Fold": "fold2"},
    },
    "subesco": {
        "F_02_MONIKA_S_2_SURPRISE_3].wav": {"EmoClass": "surprise", "SpkrID": "F_02_MONIKA", "Gender": "Female"},
        "M_02_NIPUN_S_10_ANGRY_1.wav": {"EmoClass": "angry", "SpkrID": "M_02_NIPUN", "Gender": "Male", "Fold": "fold5"},
    },
    "mesd": {
        f"{MESD}Anger_C_A_por_favor.wav": {"EmoClass": "angry", "SpkrID": "C", "Gender": "", "Text": "por favor"},
        f"{MESD}Sadness_F_B_explosion.wav": {"EmoClass": "sad", "SpkrID": "F", "Gender": "Female"},
        f"{MESD}Happiness_M_B_respiracion.wav": {"EmoClass": "happy", "SpkrID": "M", "Gender": "Male"},
    },
    "asvp-esd": {
        "Audio/actor_36/03-01-09-01-06-36-02-02-01-39.wav": {
            "EmoClass": "excited", "SpkrID": "36", "Gender": "Male", "Channel": "speech", "Intensity": "normal",
        },
        "Audio/actor_/03-02-13-01-04-091-02-02-02-13.wav": {
            "EmoClass": "breath", "SpkrID": "91", "Gender": "Female", "Channel": "non-speech",
        },
        "Bonus/actor_150/03-02-04-02-52-150-04-01-00-14 -03.wav": {
            "EmoClass": "sad", "SpkrID": "150", "Gender": "", "Intensity": "high",
        },
        "Bonus/actor_200/03-01-17-01-02-200-05-02-01-12.wav": {"EmoClass": "other", "SpkrID": "200"},
        "Audio/actor_12/03-01-05-021-02-12-02-02.wav": {"EmoClass": "angry", "Intensity": ""},
    },
    "emovdb": {
        "bea_Amused/amused_1-28_0011.wav": {"EmoClass": "amused", "SpkrID": "bea", "Gender": "Female"},
        "jenie/Amused/amused_1-28_0011.wav": {"EmoClass": "amused", "SpkrID": "jenie", "Gender": "Female"},
        "sam_Disgusted/Disgust_57-84_0071.wav": {"EmoClass": "disgust", "SpkrID": "sam", "Gender": "Male"},
        "josh_Sleepy/sleepiness_113_140_0113.wav": {"EmoClass": "sleepy", "SpkrID": "josh", "Sentence": "0113"},
    },
}  # fmt: skip


@pytest.mark.parametrize("corpus", NAMED)
def test_names_of_the_release_are_read(tmp_path: Path, corpus: str) -> None:
    prepare(corpus, lay_out(tmp_path / "corpus", NAMED[corpus]), tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert {name: {key: rows.loc[name].get(key, "") for key in cells} for name, cells in NAMED[corpus].items()} == (
        NAMED[corpus]
    )
    assert len(rows) == len(NAMED[corpus])


def jl_corpus() -> Iterable[str]:
    module = preparer("jl-corpus").read.__globals__
    for speaker, emotion, number, session, take in product(
        module["FOLDS"], module["CLASSES"], range(1, 16), "ab", "12"
    ):
        yield f"{speaker}_{emotion}_{number}{session}_{take}"


def emovo() -> Iterable[str]:
    sentences = ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2")
    emotions = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    return ("-".join(parts) for parts in product(emotions, ("f1", "f2", "f3", "m1", "m2", "m3"), sentences))


def subesco() -> Iterable[str]:
    module = preparer("subesco").read.__globals__
    for speaker, number, code, take in product(module["FOLDS"], range(1, 11), module["CODES"], range(1, 6)):
        yield f"{speaker}_S_{number}_{code}_{take}"


@pytest.mark.full
@pytest.mark.parametrize(
    ("corpus", "stems"),
    [("jl-corpus", jl_corpus()), ("emovo", emovo()), ("subesco", subesco())],
    ids=["jl-corpus", "emovo", "subesco"],
)
def test_rules_of_the_release_give_the_published_counts(tmp_path: Path, corpus: str, stems: Iterable[str]) -> None:
    for stem in stems:
        (tmp_path / f"{stem}.wav").touch()
    item = preparer(corpus)
    prepared = item.read(tmp_path, item.options())
    assert prepared.expected.differences(prepared.clips) == []
    assert prepared.notes == []


def test_jl_corpus_has_the_transcript_beside_each_file(tmp_path: Path) -> None:
    names = ["female1_angry_10a_1.wav", "male1_sad_1b_2.wav"]
    root = lay_out(tmp_path / "corpus", names, {"female1_angry_10a_1.txt": "Tom beats\n that farmer \n"})
    prepare("jl-corpus", root, tmp_path / "out")
    assert table(tmp_path / "out" / "labels.csv").loc[names, "Text"].tolist() == ["Tom beats that farmer", ""]


# --- nEMO -------------------------------------------------------------------------------------------------------------

NEMO = (
    "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    "WR0_surprised_64.wav\tsurprised\tUcho wykrywa dźwięki.\tucho wykrywa dźwięki\t        WR0\tmale\t23\n"
    "EB0_neutral_13.wav\tneutral\tInteresuje mnie historia Polski.\tinteresuje mnie\t        EB0\tfemale\t27\n"
)


def test_nemo_with_its_table_and_without(tmp_path: Path, caplog) -> None:
    names = ["samples/EB0_neutral_13.wav", "samples/WR0_surprised_64.wav"]
    root = lay_out(tmp_path / "nEMO", names, {"data.tsv": NEMO})
    prepare("nemo", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    assert rows[["EmoClass", "SpkrID", "Gender", "Age", "Text"]].values.tolist() == [
        ["neutral", "EB0", "Female", "27", "Interesuje mnie historia Polski."],
        ["surprise", "WR0", "Male", "23", "Ucho wykrywa dźwięki."],
    ]
    prepare("nemo", root / "samples", tmp_path / "below")  # the table is one folder up
    assert set(table(tmp_path / "below" / "labels.csv")["Gender"]) == {"Male", "Female"}
    (root / "data.tsv").unlink()
    prepare("nemo", root, tmp_path / "without")
    assert "Gender" not in table(tmp_path / "without" / "labels.csv")
    assert "no data.tsv: no columns Gender, Age and Text" in caplog.text


# --- ASVP-ESD, EmoV-DB ------------------------------------------------------------------------------------------------


def test_asvp_esd_speech_alone(tmp_path: Path, caplog) -> None:
    root = lay_out(tmp_path / "corpus", NAMED["asvp-esd"])
    prepare("asvp-esd", root, tmp_path / "out", "--speech")
    assert set(table(tmp_path / "out" / "labels.csv")["Channel"]) == {"speech"}
    assert "2 recordings of other sounds than speech are left out" in caplog.text
    assert "3 utterances, expected 5140" in caplog.text


def test_emovdb_needs_a_speakers_folder_and_reads_arctics_sentences(tmp_path: Path, capsys) -> None:
    arctic = '( arctic_a0011 "It was simple, in its way." )\n( arctic_b0011 "Another \\"b\\" sentence." )\n'
    root = lay_out(tmp_path / "corpus", ["sam_Amused/amused_1-28_0011.wav"], {"cmuarctic.data": arctic})
    prepare("emovdb", root, tmp_path / "out")
    assert table(tmp_path / "out" / "labels.csv")["Text"].tolist() == ["It was simple, in its way."]
    prepare("emovdb", root / "sam_Amused", tmp_path / "one")  # ROOT is a speaker's folder
    assert table(tmp_path / "one" / "labels.csv")["SpkrID"].tolist() == ["sam"]
    lay_out(root, ["1/amused_1-28_0012.wav"])
    prepare("emovdb", root, tmp_path / "lost", code=1)
    assert "no speaker known for" in capsys.readouterr().err


# --- ESD --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speaker", "text", "encoding", "gender", "fold"),
    [
        ("0001", "打远一看", "gb2312", "Female", "fold5"),
        ("0003", "打远一看", "utf-16", "Female", "fold3"),
        ("0011", "The nine the eggs, I keep.", "utf-8", "Male", "fold1"),
        ("0016", "It’s naïve.".replace("’", "'"), "latin-1", "Female", "fold1"),
    ],
)
def test_esd_transcripts_in_every_encoding_of_the_release(
    tmp_path: Path, speaker: str, text: str, encoding: str, gender: str, fold: str
) -> None:
    names = [f"{speaker}/Angry/evaluation/{speaker}_000355.wav", f"{speaker}/Surprise/{speaker}_001750.wav"]
    lines = f"{speaker}_000355\t{text}\tAngry\n\n{speaker}_001750 {text}\t惊喜\n"  # the second lacks a tab
    lines = lines if encoding in ("gb2312", "utf-16") else lines.replace("惊喜", "Surprise")
    root = lay_out(tmp_path / "ESD", names, {f"{speaker}/{speaker}.txt": lines}, encoding=encoding)
    prepare("esd", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv").loc[names]
    assert rows["EmoClass"].tolist() == ["angry", "surprise"]
    assert rows["Text"].tolist() == [text, text]
    assert rows["Sentence"].tolist() == ["5", "350"]
    assert set(rows["Language"]) == {"Mandarin" if speaker <= "0010" else "English"}
    assert (set(rows["SpkrID"]), set(rows["Gender"]), set(rows["Fold"])) == ({speaker}, {gender}, {fold})
    assert "Split_Set" not in rows


def test_esd_numbers_beyond_its_sentences_are_refused(tmp_path: Path, capsys) -> None:
    prepare("esd", lay_out(tmp_path / "ESD", ["0020/Happy/0020_001751.wav"]), tmp_path / "out", code=1)
    assert "0020_001751.wav: number 1751 must lie in 1..1750" in capsys.readouterr().err


# --- MELD -------------------------------------------------------------------------------------------------------------

HEAD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TIMES = '8,21,"00:16:16,059","00:16:21,731"\n'
MELD = {
    "train/train_sent_emo.csv": f"{HEAD}1,my company’s transition,Chandler,neutral,neutral,0,0,{TIMES}"
    f'2,"Oh my God, no.",Phoebe,sadness,negative,0,1,{TIMES}3,broken,Joey,joy,positive,125,3,{TIMES}',
    "dev_sent_emo.csv": f"{HEAD}1,What?,Monica,surprise,negative,0,0,{TIMES}2,lost,Ross,joy,positive,110,7,{TIMES}",
    "test_sent_emo.csv": f"{HEAD}1,Hi,Phoebe,joy,positive,0,0,{TIMES}",
}
FILMS = ["train/train_splits/dia0_utt0.wav", "train/train_splits/dia0_utt1.wav", "dev_splits_complete/dia0_utt0.wav",
         "output_repeated_splits_test/dia0_utt0.wav"]  # fmt: skip
FURTHER = ["output_repeated_splits_test/final_videos_testdia0_utt1.wav", "output_repeated_splits_test/._dia0_utt0.wav"]


def test_meld_has_its_official_split_or_its_speakers(tmp_path: Path, caplog) -> None:
    root, out = lay_out(tmp_path / "MELD.Raw", [*FILMS, *FURTHER], MELD), tmp_path / "out"
    prepare("meld", root, out)
    rows = table(out / "labels.csv").loc[FILMS]
    assert rows["EmoClass"].tolist() == ["neutral", "sad", "surprise", "happy"]
    assert rows["Split_Set"].tolist() == ["Train", "Train", "Development", "Test"]
    assert rows["Speaker"].tolist() == ["Chandler", "Phoebe", "Monica", "Phoebe"]
    assert rows["Text"].tolist() == ["my company’s transition", "Oh my God, no.", "What?", "Hi"]
    for stem in ("dia125_utt3", "dia110_utt7"):
        assert f"{stem}.mp4 is left out: no such audio file" in caplog.text
    assert "--speakers has them" in caplog.text
    section = DataSection(labels=str(out / "labels.csv"), train_batch_size=1, eval_batch_size=1)
    splits = read_corpus(out / "labels.csv", root, section).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "dev": 1, "test": 1, "Test": 1}
    prepare("meld", root, tmp_path / "speakers", "--speakers")
    rows = table(tmp_path / "speakers" / "labels.csv").loc[FILMS]
    assert rows["SpkrID"].tolist() == ["Chandler", "Phoebe", "Monica", "Phoebe"]
    assert not {"Split_Set", "Speaker"} & set(rows)


def test_meld_takes_converted_audio_before_films_and_names_missing_ones(tmp_path: Path, capsys) -> None:
    films = [str(Path(name).with_suffix(".mp4")) for name in FILMS]
    root = lay_out(tmp_path / "MELD.Raw", [*films, FILMS[1]], MELD)
    prepare("meld", root, tmp_path / "out")
    assert sorted(table(tmp_path / "out" / "labels.csv")["FileName"]) == sorted([films[0], FILMS[1], *films[2:]])
    (root / films[2]).unlink()
    prepare("meld", root, tmp_path / "other", code=1)
    assert "dev_splits_complete/dia0_utt0.mp4: no such audio file" in capsys.readouterr().err
    (root / "test_sent_emo.csv").write_text(MELD["test_sent_emo.csv"].replace("joy", "glee"), encoding="utf-8")
    prepare("meld", root, tmp_path / "other", code=1)
    assert "dia0_utt0 has emotion 'glee', none of anger, disgust" in capsys.readouterr().err
    (root / "test_sent_emo.csv").unlink()
    prepare("meld", root, tmp_path / "other", code=1)
    assert "does not look like MELD" in capsys.readouterr().err


# --- Emozionalmente ---------------------------------------------------------------------------------------------------

EMOZIONALMENTE = {
    "metadata/users.csv": "username,gender,age,mother_tongue\nu1,female,31,italian\nu2,other,40,italian\n",
    "metadata/samples.csv": "file_name,sentence,sentence_language,actor,emotion_expressed\n"
    "1.wav,La casa.,it,u1,joy\n2.wav,La casa.,it,u2,neutrality\n",
    "metadata/evaluations.csv": "file_name,evaluator,audio_quality,emotion_recognized\n"
    "1.wav,e1,good,joy\n1.wav,e2,bad,surprise\n2.wav,e1,good,neutrality\n",
}
COLUMNS = "file_name,sentence,sentence_language,actor,emotion_expressed\n"
SPLITS = {
    "metadata/split/train.csv": f"{COLUMNS}1.wav,La casa.,it,u1,joy\n",
    "metadata/split/test.csv": f"{COLUMNS}2.wav,La casa.,it,u2,neutrality\n",
}


def test_emozionalmente_has_what_was_meant_and_what_was_heard(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "corpus", ["audio/1.wav", "audio/2.wav"], EMOZIONALMENTE | SPLITS)
    prepare("emozionalmente", root, tmp_path / "out")
    rows = table(tmp_path / "out" / "labels.csv")
    columns = ["EmoClass", "SpkrID", "Gender", "Split_Set", "Text", "happy", "surprise", "neutral", "BadAudio"]
    assert rows[columns].values.tolist() == [
        ["happy", "u1", "Female", "Train", "La casa.", "0.5", "0.5", "0", "0.5"],
        ["neutral", "u2", "", "Test", "La casa.", "0", "0", "1", "0"],
    ]
    votes = pd.read_csv(tmp_path / "out" / "votes.csv")
    assert votes.values.tolist() == [
        ["audio/1.wav", "e1", "happy"], ["audio/1.wav", "e2", "surprise"], ["audio/2.wav", "e1", "neutral"],
    ]  # fmt: skip


def test_emozionalmente_without_votes_users_or_in_no_split(tmp_path: Path, caplog, capsys) -> None:
    root = lay_out(tmp_path / "corpus", ["audio/1.wav", "audio/2.wav"], EMOZIONALMENTE)
    for name in ("evaluations", "users"):
        (root / "metadata" / f"{name}.csv").unlink()
    prepare("emozionalmente", root, tmp_path / "out")
    assert list(table(tmp_path / "out" / "labels.csv")) == ["FileName", "EmoClass", "SpkrID", "Text", "Duration"]
    assert "no evaluations.csv: no votes" in caplog.text
    assert "no users.csv: no column Gender" in caplog.text
    lay_out(root, [], {"metadata/split/train.csv": SPLITS["metadata/split/train.csv"]})
    prepare("emozionalmente", root, tmp_path / "train")
    assert table(tmp_path / "train" / "labels.csv")["Split_Set"].tolist() == ["Train"]
    assert "1 utterances are in no official split and are left out" in caplog.text
    lay_out(root, [], {"metadata/samples.csv": EMOZIONALMENTE["metadata/samples.csv"].replace("joy", "gioia")})
    prepare("emozionalmente", root, tmp_path / "bad", code=1)
    assert "emotion 'gioia' is none of anger" in capsys.readouterr().err
