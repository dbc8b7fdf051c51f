"""Splits beyond train, dev and test: degraded copies, the same on the fly, other corpora."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, TinyCorpus

from s3prl_emotion import cli as suite
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import Needs, load_corpus
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.recipe import DataSection

LEVELS = ["test_25dB", "test_15dB", "test_5dB"]


@pytest.fixture(scope="module")
def copies(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the tiny corpus's utterances in pink noise."""
    out = tmp_path_factory.mktemp("copies") / "noisy"
    degrade = ["degrade", "--labels", str(tiny_corpus.labels), "--root", str(tiny_corpus.root), "--noise", "pink"]
    assert suite.main([*degrade, "--out", str(out)]) == 0
    return out


def data(corpus: TinyCorpus, **more: object) -> DataSection:
    sizes = {"train_batch_size": 4, "eval_batch_size": 4}
    return DataSection.read({"root": str(corpus.root), "labels": str(corpus.labels), **sizes, **more}, "datarc")


@pytest.mark.parametrize("fold", ["fold1", "fold2", "fold3"])
def test_copies_of_the_test_fold_are_splits(tiny_corpus: TinyCorpus, copies: Path, fold: str):
    corpus = load_corpus(data(tiny_corpus, degraded=str(copies), test_fold=fold))
    clean = corpus.split("test")
    for level in LEVELS:
        noisy = corpus.split(level)
        assert [item.name for item in noisy] == [f"{level}/{item.name}" for item in clean]
        for one, other in zip(noisy, clean, strict=True):
            assert (one.label, one.speaker, one.gender) == (other.label, other.speaker, other.gender)
            assert one.path == copies / one.name


def test_on_the_fly_equals_the_copies(tiny_corpus: TinyCorpus, copies: Path):
    section = data(tiny_corpus, degrade={"noise": "pink"})
    corpus = load_corpus(section)
    loaders = Loaders(corpus, section, seed=0)
    for level in LEVELS:
        heard = {
            name: wave for waves, _, names in loaders.evaluation(level) for wave, name in zip(waves, names, strict=True)
        }
        assert sorted(heard) == sorted(item.name for item in corpus.split("test"))
        for name, wave in heard.items():
            np.testing.assert_array_equal(wave, load_audio(copies / level / name))
    clean = {
        name: wave for waves, _, names in loaders.evaluation("test") for wave, name in zip(waves, names, strict=True)
    }
    assert all(not np.array_equal(clean[name], heard[name]) for name in heard)


def test_noise_is_louder_at_a_lower_ratio(tiny_corpus: TinyCorpus):
    section = data(tiny_corpus, degrade={"noise": "white", "snr": [[30.0, 30.0], [0.0, 0.0]]})
    loaders = Loaders(load_corpus(section), section, seed=0)

    def waves(split: str) -> dict[str, np.ndarray]:
        return {
            name: wave for waves, _, names in loaders.evaluation(split) for wave, name in zip(waves, names, strict=True)
        }

    clean, faint, loud = waves("test"), waves("test_30dB"), waves("test_0dB")
    for name, wave in clean.items():
        gain = np.dot(loud[name], wave) / np.dot(wave, wave)  # scaled down where it would have clipped
        assert np.mean((loud[name] / gain - wave) ** 2) > 100 * np.mean((faint[name] - wave) ** 2)


def test_training_and_clean_splits_stay_clean(tiny_corpus: TinyCorpus):
    section = data(tiny_corpus, degrade={"noise": "pink"})
    corpus = load_corpus(section)
    assert set(corpus.noisy) == set(LEVELS)
    plain = data(tiny_corpus)
    for split in ("train", "dev", "test"):
        ours, theirs = (Loaders(load_corpus(item), item, seed=0).evaluation(split) for item in (section, plain))
        for (waves, *_), (others, *_) in zip(ours, theirs, strict=True):
            for wave, other in zip(waves, others, strict=True):
                np.testing.assert_array_equal(wave, other)


@pytest.mark.parametrize("way", ["copies", "on the fly"])
def test_a_head_is_evaluated_on_them(cli: Cli, tiny_corpus: TinyCorpus, copies: Path, way: str):
    section = {"degraded": str(copies)} if way == "copies" else {"degrade": {"noise": "pink"}}
    more = {f"downstream_expert.datarc.{key}": value for key, value in section.items()}
    cli(
        "-m",
        "train",
        "-u",
        "fbank_no_cmvn",
        "-d",
        "emotion_corr_attn",
        "-p",
        "exp",
        "-o",
        tiny_corpus.overrides(**more),
    )
    for level in ("test_5dB", "test_25dB"):
        cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", level)
        metrics = json.loads(Path(f"exp/{level}_fold1_metrics.json").read_text())
        assert metrics["split"] == level
        assert metrics["utterances"] == 16
        assert Path(f"exp/{level}_fold1_predictions.csv").is_file()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"degraded": "nowhere"},
            r"nowhere: no label table in it; datarc\.degraded is the --out of s3prl-emotion degrade",
        ),
        ({"degrade": {"snr": [[0.0, 10.0], [5.0, 5.0]]}}, r"both would be called 5dB"),
        ({"degrade": {"snr": [[10.0, 0.0]]}}, r"SNR 10:0: must be LOWEST:HIGHEST"),
    ],
)
def test_bad_options_are_refused(tiny_corpus: TinyCorpus, options: dict[str, object], match: str):
    with pytest.raises(ValueError, match=match):
        load_corpus(data(tiny_corpus, **options))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"degrade": {"nois": "pink"}}, r"datarc\.degrade\.nois"),
        ({"degrade": {"snr": []}}, r"datarc\.degrade\.snr"),
        ({"degrade": {"snr": [[5.0]]}}, r"datarc\.degrade\.snr"),
        ({"extra_tests": {"other": {"labels": "x"}}}, r"datarc\.extra_tests\.other\.root"),
    ],
)
def test_malformed_options_are_refused(tiny_corpus: TinyCorpus, options: dict[str, object], match: str):
    with pytest.raises(ConfigError, match=match):
        data(tiny_corpus, **options)


def test_unknown_noise_is_refused_when_it_is_needed(tiny_corpus: TinyCorpus):
    section = data(tiny_corpus, degrade={"noise": "pinkish"})
    loaders = Loaders(load_corpus(section), section, seed=0)
    with pytest.raises(ValueError, match=r"pinkish"):
        loaders.evaluation("test_5dB")


def test_copies_and_on_the_fly_at_once_are_refused(tiny_corpus: TinyCorpus, copies: Path):
    with pytest.raises(LabelError, match=r"has a split 'test_15dB' already"):
        load_corpus(data(tiny_corpus, degraded=str(copies), degrade={"noise": "pink"}))


def test_copies_of_another_corpus_are_refused(tiny_corpus: TinyCorpus, tmp_path: Path):
    (tmp_path / "test_5dB.csv").write_text("FileName,EmoClass,SourceFile\ntest_5dB/x.wav,neu,x.wav\n")
    with pytest.raises(LabelError, match=r"copies of other files than .*labels\.csv lists"):
        load_corpus(data(tiny_corpus, degraded=str(tmp_path)))


def test_tables_that_are_no_copies_are_refused(tiny_corpus: TinyCorpus, tmp_path: Path):
    (tmp_path / "test_5dB.csv").write_text(tiny_corpus.labels.read_text())
    with pytest.raises(LabelError, match=r"test_5dB\.csv: no column SourceFile; s3prl-emotion degrade writes it"):
        load_corpus(data(tiny_corpus, degraded=str(tmp_path)))


# --- other corpora ----------------------------------------------------------------------------------------------------


def other_table(corpus: TinyCorpus, folder: Path, names: dict[str, str]) -> Path:
    """The tiny corpus's table with other words for its classes."""
    folder.mkdir(exist_ok=True)
    with corpus.labels.open(newline="") as handle:
        rows = list(csv.reader(handle))
    path = folder / "other.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([rows[0], *([row[0], names[row[1]], *row[2:]] for row in rows[1:])])
    return path


WORDS = {"ang": "Wut", "hap": "Freude", "neu": "neutral", "sad": "Langeweile"}


def test_another_corpus_is_a_split_with_our_classes(tiny_corpus: TinyCorpus, tmp_path: Path):
    labels = other_table(tiny_corpus, tmp_path, WORDS)
    section = {
        "labels": str(labels),
        "root": str(tiny_corpus.root),
        "merge": {"Wut": "ang", "Freude": "hap", "neutral": "neu"},
    }
    corpus = load_corpus(data(tiny_corpus, extra_tests={"german": section}))
    items = corpus.split("german")
    assert len(items) == 36  # three of four classes, all folds
    assert {corpus.classes[item.label] for item in items} == {"ang", "hap", "neu"}
    assert all(item.name.split("_")[1] == corpus.classes[item.label] for item in items)


def test_one_fold_of_another_corpus(tiny_corpus: TinyCorpus):
    section = {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root), "split": "fold2"}
    corpus = load_corpus(data(tiny_corpus, extra_tests={"again": section}))
    assert {item.speaker for item in corpus.split("again")} == {"s2", "s3"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"split": "fold9"}, r"no row has Split_Set or Fold 'fold9'; check datarc\.extra_tests\.other\.split"),
        ({"labels": "nowhere.csv"}, r"nowhere\.csv: no such label table; check datarc\.extra_tests\.other\.labels"),
        ({"root": "nowhere"}, r"nowhere: no such folder; check datarc\.extra_tests\.other\.root"),
    ],
)
def test_bad_extra_tests_are_refused(tiny_corpus: TinyCorpus, change: dict[str, str], match: str):
    section = {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)} | change
    with pytest.raises(ValueError, match=match):
        load_corpus(data(tiny_corpus, extra_tests={"other": section}))


def test_corpus_without_any_of_the_classes_is_refused(tiny_corpus: TinyCorpus, tmp_path: Path):
    labels = other_table(tiny_corpus, tmp_path, WORDS)
    section = {"labels": str(labels), "root": str(tiny_corpus.root)}
    with pytest.raises(LabelError, match=r"other\.csv: no row has a class of ang, hap, neu, sad; map its classes"):
        load_corpus(data(tiny_corpus, extra_tests={"other": section}))


def test_extra_test_with_the_name_of_a_split_is_refused(tiny_corpus: TinyCorpus):
    section = {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)}
    with pytest.raises(LabelError, match=r"datarc\.extra_tests\.test: .* has a split of that name"):
        load_corpus(data(tiny_corpus, extra_tests={"test": section}))


def test_distribution_head_is_tested_on_a_corpus_without_shares_and_dimensions(tmp_path: Path, tiny_corpus: TinyCorpus):
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Fold,neu,sad"
    with tiny_corpus.labels.open(newline="") as handle:
        rows = [row for row in csv.reader(handle) if row[1] in ("neu", "sad")]
    lines = [
        f"{row[0]},{row[1]},3,2,1,{row[2]},{row[4]},{float(row[1] == 'neu')},{float(row[1] == 'sad')}" for row in rows
    ]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join([header, *lines]) + "\n")
    other = {
        "labels": str(tiny_corpus.labels),
        "root": str(tiny_corpus.root),
        "distribution": {"source": "consensus"},
    }
    section = data(TinyCorpus(tiny_corpus.root, labels), extra_tests={"plain": other})
    corpus = load_corpus(section, Needs(classes=False, dimensions=True, shares=True))
    items = corpus.split("plain")
    assert len(items) == 24
    assert all(item.dimensions is None for item in items)
    assert {item.label for item in items} == {0, 1}
    assert all(item.shares is None for item in items)
