"""Paths of label tables stay below the audio folder, and outputs stay out of it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import TinyCorpus, write_superb_corpus

from s3prl_emotion import cli
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.audio_names import check_apart, check_below, is_below
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.recipe import DataSection

REFUSED = (
    r"FileName '\.\./x\.wav' must be a path below the audio folder, without '\.\.'; correct it, or datarc\.allow_out"
)


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("a.wav", True), ("a/b.wav", True), ("./a.wav", True), ("..a.wav", True), ("a..b/c.wav", True), (".a", True),
        ("../a.wav", False), ("a/../b.wav", False), ("/a.wav", False), ("a/..", False), ("..", False), (".", False),
    ],
)  # fmt: skip
def test_only_the_name_counts(name: str, below: bool):
    assert is_below(name) is below


def test_the_first_name_that_leads_out_is_named():
    check_below(["a.wav"], Path("t.csv"))
    with pytest.raises(LabelError, match=r"t\.csv: FileName '/b\.wav' must be a path below the audio folder"):
        check_below(["a.wav", "/b.wav", "../c.wav"], Path("t.csv"))


@pytest.fixture
def outside(own_tiny_corpus: TinyCorpus) -> TinyCorpus:
    """A corpus whose first row names a file beside the audio folder."""
    root, labels = own_tiny_corpus.root, own_tiny_corpus.labels
    with labels.open(newline="") as file:
        rows = list(csv.reader(file))
    (root / rows[1][0]).rename(root.parent / "x.wav")
    rows[1][0] = "../x.wav"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return own_tiny_corpus


def section(corpus: TinyCorpus, **options: object) -> DataSection:
    values = {"labels": str(corpus.labels), "root": str(corpus.root), "train_batch_size": 1, "eval_batch_size": 1}
    return DataSection.read(values | options, "datarc")


def test_label_tables_are_refused_or_allowed(outside: TinyCorpus):
    for read in (load_corpus, list_utterances):
        with pytest.raises(LabelError, match=REFUSED):
            read(section(outside))
        read(section(outside, allow_outside=True))


def test_other_corpora_are_refused_or_allowed(outside: TinyCorpus, tiny_corpus: TinyCorpus):
    other = {"labels": str(outside.labels), "root": str(outside.root)}
    several = {"labels": None, "root": None, "corpora": {"one": other}, "classes": ["ang", "hap", "neu", "sad"]}
    for corpus, options in ((tiny_corpus, {"extra_tests": {"other": other}}), (outside, several)):
        with pytest.raises(LabelError, match=REFUSED):
            load_corpus(section(corpus, **options))
        load_corpus(section(corpus, **options, allow_outside=True))


def test_superbs_lists_are_refused_or_allowed(tmp_path: Path):
    corpus = write_superb_corpus(tmp_path / "superb")
    lists = corpus.labels / "Session1" / "train_meta_data.json"
    content = json.loads(lists.read_text())
    name = content["meta_data"][0]["path"]
    (corpus.root / name).rename(corpus.root.parent / "x.wav")
    content["meta_data"][0]["path"] = "../x.wav"
    lists.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=REFUSED):
        load_corpus(section(corpus))
    load_corpus(section(corpus, allow_outside=True))


def test_links_below_the_audio_folder_may_lead_out(own_tiny_corpus: TinyCorpus):
    first = next(own_tiny_corpus.root.iterdir())
    first.rename(own_tiny_corpus.root.parent / "x.wav")
    first.symlink_to(own_tiny_corpus.root.parent / "x.wav")
    load_corpus(section(own_tiny_corpus))


@pytest.fixture
def error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> str:
        assert cli.main([str(word) for word in words]) == 1
        out, err = capfd.readouterr()
        return out + err

    return call


def test_audit_finds_them(outside: TinyCorpus, error, capfd: pytest.CaptureFixture[str]):
    words = ("audit", outside.labels, "--root", outside.root)
    report = error(*words)
    assert "audio-outside" in report
    assert "../x.wav" in report
    assert "audio-missing" not in report
    cli.main([str(word) for word in (*words, "--allow_outside")])
    assert "audio-outside" not in capfd.readouterr().out


@pytest.mark.parametrize("command", ["export", "extract", "transcribe"])
def test_commands_refuse_them(outside: TinyCorpus, error, command: str):
    model = ("-k", "none") if command == "transcribe" else ("-u", "fbank_no_cmvn", "--device", "cpu")
    store = ("--feature_store", "S") if command == "extract" else ("-o", "out.x")
    line = error(command, *model, *store, "--labels", outside.labels, "--root", outside.root)
    assert "FileName '../x.wav' must be a path below the audio folder" in line
    assert not Path("S").exists()
    assert not Path("out.x").exists()


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_outputs_is_apart_from_the_audio(tmp_path: Path):
    audio = tmp_path / "corpus" / "audio"
    audio.mkdir(parents=True)
    (tmp_path / "link").symlink_to(audio)
    check_apart(tmp_path / "corpus" / "copies", audio, "--root")
    check_apart(tmp_path / "corpus", audio, "--noise", above=False)
    for out, how in (
        (audio, "is"), (audio / "new" / "er", "lies in"), (tmp_path / "corpus", "holds"), (tmp_path / "link", "is"),
        (tmp_path / "link" / "new", "lies in"), (tmp_path / "corpus" / "new" / ".." / "audio", "is"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=rf"^--out .*: {how} the folder with the audio that is read \(--root "):
            check_apart(out, audio, "--root")


def test_degrade_writes_into_no_folder_that_it_reads(own_tiny_corpus: TinyCorpus, error):
    root = own_tiny_corpus.root
    before = sorted(root.parent.rglob("*"))
    words = ("degrade", "--labels", own_tiny_corpus.labels, "--root", root)
    for out in (root, root / "copies", root.parent):
        assert "the folder with the audio that is read (--root" in error(*words, "--out", out)
    noise = root.parent / "noise"
    shutil.copytree(root, noise)
    assert "(--noise" in error(*words, "--noise", noise, "--out", noise / "copies")
    shutil.rmtree(noise)
    assert sorted(root.parent.rglob("*")) == before


def test_outputs_over_the_labels_are_refused(own_tiny_corpus: TinyCorpus, error):
    table = own_tiny_corpus.labels
    before = table.read_bytes()
    corpus = ("--labels", table, "--root", own_tiny_corpus.root)
    for words in (
        ("transcribe", "-k", "none", *corpus, "-o", table, "--overwrite"),
        ("export", "-u", "fbank_no_cmvn", *corpus, "-o", table),
        ("audit", table, "--root", own_tiny_corpus.root, "--json", table),
    ):
        assert "is a file that this command reads; name another" in error(*words)
    line = error("prepare", "generic", own_tiny_corpus.root, table.parent, "--pattern", "x", "--overwrite")
    assert "labels.csv: is not a table that prepare wrote (prepare.json is not beside it); name another OUT" in line
    assert table.read_bytes() == before


def test_predict_writes_over_no_input_and_nothing_that_it_would_read(own_tiny_corpus: TinyCorpus, error):
    wav = next(own_tiny_corpus.root.iterdir())
    words = ("predict", "--ckpt", own_tiny_corpus.labels, wav, "--format", "csv", "--out")
    assert "is named as audio, which a later predict would read" in error(*words, wav)
    assert "is a file that this command reads" in error(*words, own_tiny_corpus.labels)
