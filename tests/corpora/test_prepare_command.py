"""``s3prl-emotion prepare``: the command, checks of audio, writing, the circumplex, and the documentation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, Run
from corpus_minis import lay_out, prepare, table
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_emotion.corpora.class_names import NO_AGREEMENT
from s3prl_emotion.corpora.label_table import read_table
from s3prl_emotion.corpora.prepare.circumplex import ANGLES, point_on_circle
from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared
from s3prl_emotion.corpora.prepare.votes import mean_and_spread, plurality, shares_of, smoothed
from s3prl_emotion.corpora.prepare.write import write
from s3prl_emotion.corpora.preparers import corpus_names, crema_d, iemocap, msp_podcast, preparer
from s3prl_emotion.corpora.preparers.generic import Options
from s3prl_emotion.corpora.preparers.generic import read as read_any
from s3prl_emotion.errors import EmotionError, LabelError

NAMES = corpus_names()
TWO = ["wav/03a01Fa.wav", "wav/08a02Wb.wav"]


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_command_in_a_process_of_its_own(run: Run, tmp_path: Path) -> None:
    root = lay_out(tmp_path / "emodb", TWO)
    done = run("s3prl-emotion", "prepare", "emodb", root, "out")
    assert "out/labels.csv: 2 utterances, 2 speakers; happy 1, angry 1" in done.stdout
    assert "not as published: 2 utterances, expected 535" in done.stderr
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert (record["corpus"], record["utterances"], record["classes"]) == ("emodb", 2, {"happy": 1, "angry": 1})
    assert "2 utterances, expected 535" in record["differences"]


def test_list_shows_every_corpus(capsys) -> None:
    prepare("--list")
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == list(NAMES)
    assert shown.count("Licence: ") == len(NAMES)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["emodb"], "name CORPUS, ROOT and OUT"),
        (["emo-db", "{root}", "{out}"], "no corpus 'emo-db'; nearest: emodb"),
        (["emodb", "{root}/none", "{out}"], "no such folder; ROOT is the folder with EMO-DB"),
        (["emodb", "{root}", "{out}", "--classes", "superb"], "--classes: EMO-DB does not take it"),
        (["emodb", "{root}", "{out}", "--songs"], "--songs: EMO-DB does not take it"),
        (["emodb", "{root}", "{out}", "--smoothing", "0.05"], "there are no shares of graders"),
        (["emodb", "{root}", "{out}", "--smoothing", "1"], "must lie in 0..1"),
        (["iemocap", "{root}", "{out}", "--circumplex"], "IEMOCAP has grades of activation, valence and dominance"),
        (["iemocap", "{root}", "{out}"], "does not look like IEMOCAP; looked for Session1 to Session5"),
        (["emodb", "{root}", "{file}"], "is a file; OUT must be a folder"),
        (["emodb", "{root}", "{file}/below"], "is a file; name a folder"),
    ],
)
def test_bad_command_line_is_one_line(tmp_path: Path, capsys, words: list[str], match: str) -> None:
    root = lay_out(tmp_path / "emodb", TWO)
    (tmp_path / "file").write_text("x")
    places = {"root": root, "out": tmp_path / "out", "file": tmp_path / "file"}
    prepare(*(word.format(**places) for word in words), code=1)
    error = capsys.readouterr().err
    assert match in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "generic"])
def test_other_folder_is_refused_and_says_what_was_looked_for(tmp_path: Path, capsys, name: str) -> None:
    lay_out(tmp_path / "root", ["something/else.wav"], {"readme.txt": "hello"})
    prepare(name, tmp_path / "root", tmp_path / "out", code=1)
    error = capsys.readouterr().err
    assert "does not look like" in error
    assert "looked for" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- audio ------------------------------------------------------------------------------------------------------------


def broken_corpus(folder: Path, faulty: int) -> Path:
    root = lay_out(folder / "emodb", [*TWO, *(f"wav/03a01N{chr(97 + number)}.wav" for number in range(faulty))])
    for number in range(faulty):
        (root / f"wav/03a01N{chr(97 + number)}.wav").write_bytes(b"" if number else b"RIFF....WAVE")
    return root


def test_unreadable_audio_is_reported_file_by_file_up_to_a_limit_and_nothing_is_written(
    tmp_path: Path, capsys, caplog
) -> None:
    prepare("emodb", broken_corpus(tmp_path, 26), tmp_path / "out", code=1)
    error = capsys.readouterr().err.splitlines()[-1]
    assert "26 of 28 audio files are missing or unreadable, the first: " in error
    assert "--skip_missing" in error
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 21
    assert "unreadable audio" in told[0].getMessage()
    assert told[-1].getMessage() == "… and 6 more"
    assert not (tmp_path / "out").exists()


def test_unreadable_audio_is_left_out_when_asked(tmp_path: Path, caplog) -> None:
    prepare("emodb", broken_corpus(tmp_path, 2), tmp_path / "out", "--skip_missing")
    assert list(table(tmp_path / "out" / "labels.csv")["FileName"]) == TWO
    assert "2 utterances without readable audio are left out" in caplog.text


def test_corpus_without_any_readable_audio_is_refused(tmp_path: Path, capsys) -> None:
    root = broken_corpus(tmp_path, 2)
    for name in TWO:
        (root / name).unlink()
    prepare("emodb", root, tmp_path / "out", "--skip_missing", code=1)
    assert "none of 2 audio files can be read" in capsys.readouterr().err


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    real = lay_out(tmp_path / "real", TWO)
    root = tmp_path / "emodb"
    root.mkdir()
    (root / "link").symlink_to(real)
    (real / "wav" / "loop").symlink_to(root)
    prepare("emodb", root, tmp_path / "out")
    assert len(table(tmp_path / "out" / "labels.csv")) == 2


# --- writing ----------------------------------------------------------------------------------------------------------


def test_earlier_table_is_kept_unless_overwrite_is_given(tmp_path: Path, capsys) -> None:
    root, out = lay_out(tmp_path / "emodb", TWO), tmp_path / "out"
    prepare("emodb", root, out)
    (out / "labels.csv").write_text("mine")
    (out / "votes.csv").write_text("of another corpus")
    prepare("emodb", root, out, code=1)
    assert "labels.csv: exists already; --overwrite replaces it" in capsys.readouterr().err
    assert (out / "labels.csv").read_text() == "mine"
    prepare("emodb", root, out, "--overwrite")
    assert len(table(out / "labels.csv")) == 2
    assert not (out / "votes.csv").exists()
    assert sorted(path.name for path in out.iterdir()) == ["labels.csv", "prepare.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights_is_one_line(tmp_path: Path, capsys) -> None:
    root, out = lay_out(tmp_path / "emodb", TWO), tmp_path / "out"
    out.mkdir(mode=0o500)
    prepare("emodb", root, out, code=1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_table_is_checked_by_the_suites_own_reader(tmp_path: Path, capsys) -> None:
    root = lay_out(tmp_path / "corpus", ["a.wav", "b.wav"])
    source = tmp_path / "source.csv"
    source.write_text("FileName,EmoClass,angry,sad\na.wav,angry,0.9,0.9\nb.wav,sad,0,1\n")
    prepare("generic", root, tmp_path / "out", "--csv", source, code=1)
    error = capsys.readouterr().err
    assert f"{tmp_path / 'out' / 'labels.csv'} line 2: the grader shares" in error
    assert "(the table was not written)" in error
    source.write_text("FileName,EmoClass\na.wav,angry\na.wav,sad\n")
    prepare("generic", root, tmp_path / "out", "--csv", source, code=1)
    assert "a.wav is listed twice" in capsys.readouterr().err
    source.write_text(f"FileName,EmoClass\na.wav,angry\n{lay_out(tmp_path / 'else', ['c.wav']) / 'c.wav'},sad\n")
    prepare("generic", root, tmp_path / "out", "--csv", source, code=1)
    assert "is not below the audio root" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda word: word.strip() == word and word != "." and "/" not in word
)
LEVEL = st.one_of(st.none(), st.floats(1, 7).map(lambda value: round(value, 3)))
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["angry", "sad", "neutral", "no agreement", "Freude, laut", "12", "nan"]),
        WORDS,
        st.one_of(st.none(), WORDS),
        st.tuples(LEVEL, LEVEL, LEVEL),
        st.lists(st.sampled_from(["angry", "sad", "neutral"]), min_size=1, max_size=7),
    ),
    min_size=1,
    max_size=6,
)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(ROWS)
def test_whatever_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    lay_out(folder, [f"{number}, a.wav" for number in range(len(rows))])
    classes = ("angry", "sad", "neutral")
    clips = [
        Clip(
            folder / f"{number}, a.wav",
            emotion,
            speaker,
            None,
            None,
            None,
            text,
            levels,
            None,
            shares_of(votes, classes),
        )
        for number, (emotion, speaker, text, levels, votes) in enumerate(rows)
    ]
    written = write(Prepared(folder, clips), folder / "out", {}, 0.0, circumplex=False, skip_missing=False)
    found = read_table(written.labels)
    assert list(found["EmoClass"]) == [emotion for emotion, *_ in rows]
    assert list(found["SpkrID"]) == [speaker for _, speaker, *_ in rows]
    for number, (_, _, text, levels, votes) in enumerate(rows):
        row = found.iloc[number]
        if text is not None:
            assert row["Text"] == text
        for name, level in zip(("EmoAct", "EmoVal", "EmoDom"), levels, strict=True):
            assert name not in found or pd.isna(row[name]) if level is None else row[name] == pytest.approx(level)
        for name in classes:
            if name in found:
                assert row[name] == pytest.approx(votes.count(name) / len(votes), abs=1e-6)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=120), st.text(alphabet='FileNam,EoCls\n"a.wv\x00', max_size=120).map(str.encode)))
def test_any_bytes_as_a_table_are_read_or_refused_in_one_line(tmp_path_factory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("junk")
    (folder / "source.csv").write_bytes(b"FileName,EmoClass\n" + content)
    try:
        prepared = read_any(folder, Options(csv=folder / "source.csv"))
    except EmotionError as error:
        message = str(error)
        assert "source.csv" in message or "folder" in message
    else:
        assert all(clip.emotion for clip in prepared.clips)


# --- counts, votes, levels --------------------------------------------------------------------------------------------


def test_differences_from_the_published_counts_have_both_numbers() -> None:
    clips = [Clip(Path("a"), "sad", "1", fold="fold1", split="Train"), Clip(Path("b"), "sad", "1", fold="fold1")]
    expected = Expected(3, {"sad": 2, "angry": 1}, 2, {"fold1": 2}, {"Train": 2})
    assert expected.differences(clips) == [
        "2 utterances, expected 3",
        "1 speakers, expected 2",
        "emotion angry: 0 utterances, expected 1",
        "split Train: 1 utterances, expected 2",
    ]
    assert Expected().differences(clips) == []


@pytest.mark.parametrize("name", NAMES)
def test_expected_counts_are_consistent(name: str) -> None:
    modules = {"iemocap": iemocap.EXPECTED, "msp-podcast": msp_podcast.EXPECTED}
    module = __import__(f"s3prl_emotion.corpora.preparers.{name.replace('-', '_')}", fromlist=["EXPECTED"])
    found = modules.get(name, {"": getattr(module, "EXPECTED", Expected())})
    for expected in found.values():
        for parts in (expected.classes, expected.folds):
            assert expected.utterances is None or sum(parts.values()) <= expected.utterances
    for votes in (*crema_d._BY_VOTES.values(), crema_d._BY_ACTING):
        assert sum(votes.values()) == 7442


LEVELS = st.lists(st.tuples(*[st.one_of(st.none(), st.integers(1, 7).map(float))] * 3), max_size=6)


@settings(derandomize=True, deadline=None)
@given(LEVELS)
def test_means_and_spreads_are_numpys_population_moments(levels) -> None:
    means, spreads = mean_and_spread(levels)
    for place_of, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        known = [row[place_of] for row in levels if row[place_of] is not None]
        if known:
            assert (mean, spread) == (pytest.approx(np.mean(known)), pytest.approx(np.std(known)))
        else:
            assert (mean, spread) == (None, None)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from("abcx"), max_size=9), st.floats(0, 0.5))
def test_shares_are_distributions_and_plurality_is_a_unique_maximum(votes, amount) -> None:
    shares = shares_of(votes, ("a", "b", "c"))
    counts = {name: votes.count(name) for name in "abc"}
    if not sum(counts.values()):
        assert shares == {}
        return
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(smoothed(shares, amount).values()) == pytest.approx(1)
    top = [name for name in "abc" if counts[name] == max(counts.values())]
    assert plurality(shares) == (top[0] if len(top) == 1 else NO_AGREEMENT)


def test_smoothing_is_emo_superbs() -> None:
    # its nine-class table has 0.95 for a vote in full and 0.00625 for none
    shares = dict(zip("abcdefghi", [1.0] + [0.0] * 8, strict=True))
    assert list(smoothed(shares, 0.05).values()) == pytest.approx([0.95] + [0.00625] * 8)


# --- Russell's circle -------------------------------------------------------------------------------------------------


def test_circumplex_is_only_made_when_asked_for(tmp_path: Path, caplog) -> None:
    root = lay_out(tmp_path / "emodb", [*TWO, "wav/03a01Nc.wav"])
    prepare("emodb", root, tmp_path / "without")
    assert "EmoAct" not in table(tmp_path / "without" / "labels.csv")
    prepare("emodb", root, tmp_path / "with", "--circumplex")
    rows = table(tmp_path / "with" / "labels.csv")
    found = {row.EmoClass: (float(row.EmoAct), float(row.EmoVal), float(row.EmoDom)) for row in rows.itertuples()}
    half = 3 / np.sqrt(2)
    assert found["happy"] == pytest.approx((4, 7, 4))
    assert found["angry"] == pytest.approx((4 + half, 4 - half, 4), abs=1e-3)
    assert found["neutral"] == (4, 4, 4)
    assert "not anybody's grades" in caplog.text


def test_points_lie_on_the_circle_and_unknown_classes_are_refused() -> None:
    for name in ANGLES:
        activation, valence, _ = point_on_circle(name)
        assert np.hypot(activation - 4, valence - 4) == pytest.approx(3, abs=1e-3)
        assert 1 <= activation <= 7
    with pytest.raises(LabelError, match="class 'Q' has no place on the circle; known: neutral, happy"):
        point_on_circle("Q")


# --- documentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_what_a_user_must_know(name: str) -> None:
    module = __import__(f"s3prl_emotion.corpora.preparers.{name.replace('-', '_')}", fromlist=["PREPARER"])
    for word in ("Licence", "split", "Known faults:", "Citation:", *(() if name == "generic" else ("Expected:",))):
        assert word in (module.__doc__ or ""), word


DOCS = REPOSITORY / "docs" / "corpora.md"


@pytest.mark.skipif(not DOCS.is_file(), reason="the documentation is in the checkout")
@pytest.mark.parametrize("name", NAMES)
def test_every_corpus_has_its_command_and_counts_in_the_documentation(name: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    sections = {part.splitlines()[0].strip(): part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    item = preparer(name)
    section = sections[item.title if name != "generic" else "Any corpus"]
    assert f"s3prl-emotion prepare {name} " in section
    for what in ("Licence", "Layout", "Expected", "Official split", "Known faults", "Citation"):
        assert f"**{what}**" in section, what
    module = __import__(f"s3prl_emotion.corpora.preparers.{name.replace('-', '_')}", fromlist=["EXPECTED"])
    expected = {"crema-d": Expected(7442, crema_d._BY_VOTES["voice"], 91)}.get(name, getattr(module, "EXPECTED", {}))
    for counts in expected.values() if isinstance(expected, dict) else [expected]:
        numbers = [counts.utterances, counts.speakers, *counts.classes.values(), *counts.folds.values()]
        for number in [*numbers, *counts.splits.values()]:
            assert number is None or f"{number:,}" in section, number
