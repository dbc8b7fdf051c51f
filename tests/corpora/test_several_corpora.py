"""Training on several corpora at once: unions, names, folds, scales, and labels that a corpus lacks."""

from __future__ import annotations

import importlib
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Cli, TinyCorpus
from test_resume import Interrupt, different, interrupt, outcome_of  # noqa: F401  (a fixture)

from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.corpora import DIMENSIONS, Corpus, Needs, load_corpus
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.loading.class_balance import class_weights, sampling_weights
from s3prl_emotion.loading.dataset import EpochBatches
from s3prl_emotion.recipe import DataSection

CLASSES = ["ang", "hap", "neu", "sad"]
PREFIX = "downstream_expert"
TCGRU: dict[str, object] = {"conv_channels": 8, "gru_dim": 8, "embedding_dim": 8}
SMALL: dict[str, dict[str, object]] = {
    "emotion_corr_attn": {"projector_dim": 8},
    "emotion_tcgru": TCGRU,
    "emotion_multitask": TCGRU,
    "emotion_acnn": {"filters": 8, "pool": 4, "dropout": 0.0, "max_length": 0.5},
}
LEARNT = {  # corpora that a head learns something from, and what it is
    "emotion_corr_attn": (["cat", "both"], Needs()),
    "emotion_tcgru": (["dims", "both"], Needs(classes=False, dimensions=True)),
    "emotion_multitask": (["cat", "dims", "both"], Needs(classes=False, dimensions=True, shares=True)),
    "emotion_acnn": (["cat", "dims", "both"], Needs(dimensions=True)),
}
Sections = dict[str, dict[str, Any]]
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def sections(tiny_corpus: TinyCorpus, graded_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Three corpora as recipes name them: only classes, only dimensions (1 to 7), both and shares (1 to 5)."""
    folder = tmp_path_factory.mktemp("several")
    graded = pd.read_csv(graded_corpus.labels)
    take = graded["FileName"].str[3:4].astype(int)
    dims = graded[take < 5].drop(columns=["EmoClass", "Text"])
    for name in DIMENSIONS:
        dims[name] = 1 + (dims[name] - 1) * 1.5
        dims[f"{name}Std"] *= 1.5
    dims.to_csv(folder / "dims.csv", index=False)
    both = graded[take >= 5].replace({"EmoClass": {"ang": "Wut", "sad": "Trauer"}})
    both["Wut"] = np.where(both["EmoClass"] == "Wut", 0.75, 0.25)
    both["Trauer"] = 1 - both["Wut"]
    both.to_csv(folder / "both.csv", index=False)
    root = str(graded_corpus.root)
    return {
        "cat": {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)},
        "dims": {"labels": str(folder / "dims.csv"), "root": root, "scale": [1, 7]},
        "both": {
            "labels": str(folder / "both.csv"), "root": root, "scale": [1, 5], "merge": {"Wut": "ang", "Trauer": "sad"},
        },
    }  # fmt: skip


def data(corpora: Any, **more: object) -> DataSection:
    sizes = {"train_batch_size": 4, "eval_batch_size": 4, "classes": CLASSES}
    return DataSection.read({"corpora": corpora, **sizes, **more}, "datarc")


def chosen(sections: Sections, names: list[str], head: str = "") -> Sections:
    """Some of the corpora; the one without shares teaches its consensus where shares are learnt."""
    found = {name: dict(sections[name]) for name in names}
    if head == "emotion_multitask" and "cat" in found:
        found["cat"]["distribution"] = {"source": "consensus"}
    return found


def overrides(head: str, corpora: Any, **more: object) -> str:
    values: dict[str, object] = {
        f"{PREFIX}.datarc.labels": None,
        f"{PREFIX}.datarc.root": None,
        f"{PREFIX}.datarc.corpora": corpora,
        f"{PREFIX}.datarc.classes": None if head == "emotion_tcgru" else CLASSES,
        f"{PREFIX}.datarc.train_batch_size": 8,
        f"{PREFIX}.datarc.eval_batch_size": 8,
        "runner.total_steps": 6,
        "runner.log_step": 2,
        "runner.eval_step": 3,
        "runner.save_step": 3,
        **{f"{PREFIX}.modelrc.{key}": value for key, value in SMALL[head].items()},
    }
    return ",,".join(f"config.{key}={value!r}" for key, value in (values | more).items())


@pytest.fixture
def train(cli: Cli) -> Train:
    """``train(head, corpora, folder)``: train a head; folder."""

    def call(head: str, corpora: Any, folder: str = "exp", *words: str, **more: object) -> Path:
        base = ("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", folder)
        cli(*base, "-o", overrides(head, corpora, **more), *words)
        return Path(folder)

    return call


def metrics(folder: Path, split: str = "test") -> dict[str, Any]:
    return json.loads((folder / f"{split}_fold1_metrics.json").read_text())


def predictions(folder: Path, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(folder / f"{split}_fold1_predictions.csv").set_index("FileName")


def sizes(corpus: Corpus) -> dict[str, int]:
    return {name: len(items) for name, items in corpus.splits.items()}


# --- reading ----------------------------------------------------------------------------------------------------------


def test_splits_are_unions_of_each_corpuss_own(sections: Sections):
    names, needs = LEARNT["emotion_acnn"]
    corpus = load_corpus(data(chosen(sections, names), test_fold="fold2"), needs)
    assert corpus.fold == "fold2"
    assert corpus.classes == tuple(CLASSES)
    single = {
        "cat": load_corpus(DataSection(**sections["cat"], test_fold="fold2", train_batch_size=1, eval_batch_size=1)),
        "dims": load_corpus(
            DataSection(
                labels=sections["dims"]["labels"], root=sections["dims"]["root"], test_fold="fold2",
                train_batch_size=1, eval_batch_size=1,
            ),
            Needs(classes=False, dimensions=True),
        ),
    }  # fmt: skip
    for split in ("train", "dev", "test"):
        mine = {name: [item for item in corpus.split(split) if item.name.startswith(f"{name}/")] for name in names}
        assert [len(items) > 0 for items in mine.values()] == [True] * 3
        for name, alone in single.items():
            assert [item.name for item in mine[name]] == [f"{name}/{item.name}" for item in alone.split(split)]
            assert [item.speaker for item in mine[name]] == [f"{name}/{item.speaker}" for item in alone.split(split)]
            assert [item.path for item in mine[name]] == [item.path for item in alone.split(split)]
    assert list(corpus.splits) == ["train", "dev", "test", "test_cat", "test_dims", "test_both"]
    assert sum((corpus.split(f"test_{name}") for name in names), ()) == corpus.split("test")
    every = [item.name for name in ("train", "dev", "test") for item in corpus.split(name)]
    assert len(set(every)) == len(every) == 48 + 30 + 30


def test_what_a_corpus_lacks_is_unknown(sections: Sections):
    names, needs = LEARNT["emotion_multitask"]
    corpus = load_corpus(data(chosen(sections, names, "emotion_multitask")), needs)
    by_corpus = {name: corpus.split(f"test_{name}") for name in names}
    for item in by_corpus["cat"]:
        assert item.dimensions is None
        assert item.target_shares == tuple(float(place == item.label) for place in range(4))  # the consensus
        assert item.shares is None
    for item in by_corpus["dims"]:
        assert item.dimensions is not None
        assert item.label < 0
        assert all(map(math.isnan, item.target_shares or ()))
    for item in by_corpus["both"]:
        assert item.dimensions is not None
        assert item.target_shares == item.shares
        assert item.label == max(range(4), key=lambda place, shares=item.shares: shares[place])


def test_consensus_is_not_learnt_unless_asked_for(sections: Sections, caplog: pytest.LogCaptureFixture):
    needs = Needs(classes=False, shares=True, dimensions=True)
    rows = pd.read_csv(sections["both"]["labels"]).drop(columns=["Wut", "Trauer"])
    labels = Path(sections["both"]["labels"]).with_name("unvoted.csv")
    rows.to_csv(labels, index=False)
    entries = chosen(sections, ["cat", "both"], "emotion_multitask")
    entries["both"]["labels"] = str(labels)
    corpus = load_corpus(data(entries), needs)
    assert "datarc.corpora.both: no grader shares, so its classes are evaluated but not learnt" in caplog.text
    assert all(math.isnan((item.target_shares or (0.0,))[0]) and item.label >= 0 for item in corpus.split("test_both"))
    entries = chosen(sections, ["cat", "both"])
    with pytest.raises(
        LabelError, match=r"corpora\.cat: .* no row with a label that this head learns: .*source: consensus"
    ):
        load_corpus(data(entries), needs)


def test_dimensions_come_to_the_first_scale(sections: Sections, graded_corpus: TinyCorpus):
    needs = Needs(classes=False, dimensions=True, spreads=True)
    grades = pd.read_csv(graded_corpus.labels).set_index("FileName")
    stds = [f"{name}Std" for name in DIMENSIONS]
    for order, slope in ((["both", "dims"], 1.0), (["dims", "both"], 1.5)):
        corpus = load_corpus(data(chosen(sections, order), classes=None), needs)
        for item in corpus.split("train"):
            row = grades.loc[item.name.split("/")[1]]
            expected = 1 + (row[list(DIMENSIONS)].to_numpy(dtype=float) - 1) * slope
            np.testing.assert_allclose(np.array(item.dimensions), expected, atol=1e-9)
            np.testing.assert_allclose(np.array(item.spreads), row[stds].to_numpy(dtype=float) * slope, atol=1e-9)


def test_one_scale_changes_no_digit(sections: Sections):
    rows = pd.read_csv(sections["both"]["labels"]).set_index("FileName")
    halves = {}
    for number, part in enumerate((rows.iloc[::2], rows.iloc[1::2])):
        path = Path(sections["both"]["labels"]).with_name(f"half{number}.csv")
        part.to_csv(path)
        halves[f"half{number}"] = {"labels": str(path), "root": sections["both"]["root"], "scale": [1, 5]}
    corpus = load_corpus(data(halves, classes=None), Needs(classes=False, dimensions=True))
    for item in corpus.split("train"):
        assert item.dimensions == tuple(rows.loc[item.name.split("/")[1], list(DIMENSIONS)])


def test_rows_without_dimensions_are_left_out_where_these_are_all(
    sections: Sections, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rows = pd.read_csv(sections["dims"]["labels"])
    rows.loc[::5, "EmoVal"] = np.nan
    rows.to_csv(tmp_path / "gaps.csv", index=False)
    entries = chosen(sections, ["both"]) | {"gaps": sections["dims"] | {"labels": str(tmp_path / "gaps.csv")}}
    with caplog.at_level(logging.INFO):
        corpus = load_corpus(data(entries, classes=None), Needs(classes=False, dimensions=True))
    assert "gaps.csv: 6 rows without a label that this head learns are left out" in caplog.text
    found = [item for split in ("train", "dev", "test") for item in corpus.split(split) if item.name[:5] == "gaps/"]
    assert len(found) == 24
    assert all(item.dimensions for item in found)


def test_rows_of_other_classes_are_left_out_and_counted(sections: Sections, caplog: pytest.LogCaptureFixture):
    entries = chosen(sections, ["cat", "both"])
    with caplog.at_level(logging.INFO):
        corpus = load_corpus(data(entries, classes=["sad", "ang"]))
    assert "24 rows of other classes are left out (hap 12, neu 12)" in caplog.text
    assert corpus.classes == ("sad", "ang")
    assert sum(len(corpus.split(name)) for name in ("train", "dev", "test")) == 24 + 30


# --- folds ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def official(sections: Sections, tmp_path: Path) -> dict[str, Any]:
    """The graded corpus with both labels, in official partitions instead of folds."""
    rows = pd.read_csv(sections["both"]["labels"])
    parts = {"fold1": "Train", "fold2": "Development", "fold3": "Test1"}
    rows["Split_Set"] = rows.pop("Fold").map(parts)
    rows.loc[rows["SpkrID"] == "s5", "Split_Set"] = "Test2"
    rows.to_csv(tmp_path / "official.csv", index=False)
    return sections["both"] | {"labels": str(tmp_path / "official.csv")}


def test_a_corpus_without_that_fold_keeps_its_own(
    sections: Sections, official: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    corpus = load_corpus(data({"cat": sections["cat"], "msp": official}, test_fold="fold3"))
    assert corpus.fold == "fold3"
    assert "datarc.corpora.msp: " in caplog.text
    assert "has no fold fold3; its own fold1 is tested on" in caplog.text
    assert {item.speaker for item in corpus.split("test_cat")} == {"cat/s4", "cat/s5"}
    assert {item.speaker for item in corpus.split("test_msp")} == {"msp/s4"}
    assert {item.speaker for item in corpus.split("Test2_msp")} == {"msp/s5"}
    assert {item.speaker for item in corpus.split("train")} >= {"msp/s0", "msp/s1"}


def test_a_corpuss_own_fold_rules(sections: Sections, caplog: pytest.LogCaptureFixture):
    entries = {"cat": sections["cat"] | {"test_fold": "fold2"}, "both": sections["both"]}
    corpus = load_corpus(data(entries, test_fold="fold3"))
    assert corpus.fold == "fold3"
    assert {item.speaker for item in corpus.split("test")} == {"cat/s2", "cat/s3", "both/s4", "both/s5"}
    assert "has no fold" not in caplog.text


def test_drawn_folds_have_names_too(sections: Sections, tmp_path: Path):
    rows = pd.read_csv(sections["both"]["labels"]).drop(columns="Fold")
    rows.to_csv(tmp_path / "plain.csv", index=False)
    entries = {"cat": sections["cat"], "plain": sections["both"] | {"labels": str(tmp_path / "plain.csv")}}
    found = [load_corpus(data(entries, test_fold=f"fold{number}", num_folds=3)) for number in (1, 2, 3)]
    speakers = [{item.speaker for item in corpus.split("test_plain")} for corpus in found]
    assert set.union(*speakers) == {f"plain/s{number}" for number in range(6)}
    assert sum(map(len, speakers)) == 6


# --- every head -------------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("head", list(LEARNT))
def test_each_head_trains_on_them(cli: Cli, train: Train, sections: Sections, head: str):
    names, _ = LEARNT[head]
    splits = ["dev", "test", *(f"test_{name}" for name in names)]
    folder = train(head, chosen(sections, names, head), **{"runner.eval_dataloaders": splits})
    whole = predictions(folder)
    left = {name: (folder / f"test_{name}_fold1_predictions.csv").read_bytes() for name in names}
    parts = [predictions(folder, f"test_{name}") for name in names]
    pd.testing.assert_frame_equal(pd.concat(parts), whole, rtol=1e-4, atol=1e-5, check_dtype=False)
    assert whole.index.is_unique
    for name, part in zip(names, parts, strict=True):
        assert all(file.startswith(f"{name}/") for file in part.index)
        assert all(speaker.startswith(f"{name}/") for speaker in part["SpkrID"])
        cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", f"test_{name}")
        assert (folder / f"test_{name}_fold1_predictions.csv").read_bytes() == left[name]


def test_multitask_metrics_are_over_what_is_known(train: Train, sections: Sections):
    names, _ = LEARNT["emotion_multitask"]
    splits = ["dev", "test", "test_cat", "test_dims", "test_both"]
    entries = chosen(sections, names, "emotion_multitask")
    folder = train("emotion_multitask", entries, **{"runner.eval_dataloaders": splits})
    rows, found = predictions(folder), metrics(folder)
    classed, rated = rows[rows["truth"].notna()], rows[rows["EmoAct"].notna()]
    assert [len(rows), len(classed), len(rated)] == [36, 26, 20]
    assert found["counts"]["no_consensus"] == 10
    assert found["WA"] == pytest.approx((classed["truth"] == classed["prediction"]).mean())
    assert found["dimension_utterances"] == 20
    assert found["agreement"]["utterances"] == 10  # graders of one corpus alone are known
    for name in DIMENSIONS:
        truth, guess = rated[name].to_numpy(), rated[f"{name}_pred"].to_numpy()
        covariance = np.mean((truth - truth.mean()) * (guess - guess.mean()))
        ccc = 2 * covariance / (truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2)
        assert found["CCC"][name] == pytest.approx(ccc, abs=1e-5)
    assert rated["EmoAct"].between(1, 7).all()
    assert "CCC" not in metrics(folder, "test_cat")
    alone = metrics(folder, "test_dims")
    assert not {"WA", "UAR", "confusion", "agreement"} & set(alone)
    assert alone["counts"] == {
        "utterances": 10, "evaluated": 0, "no_consensus": 10, "other_class": 0, "no_mass": 0,
    }  # fmt: skip
    assert alone["dimension_utterances"] == 10
    assert set(alone["per_speaker"]) == {"dims/s0", "dims/s1"}


@pytest.mark.full
def test_acnn_metrics_are_over_what_is_known(train: Train, sections: Sections):
    names, _ = LEARNT["emotion_acnn"]
    splits = ["dev", "test", "test_cat", "test_dims"]
    more = {"runner.eval_dataloaders": splits, f"{PREFIX}.datarc.class_weights": "balanced"}
    folder = train("emotion_acnn", chosen(sections, names), **more, **{f"{PREFIX}.datarc.balanced_sampling": True})
    rows, found = predictions(folder), metrics(folder)
    classed = rows[rows["truth"].notna()]
    assert found["utterances"] == len(classed) == 26
    assert found["WA"] == pytest.approx((classed["truth"] == classed["prediction"]).mean())
    assert found["views"]["arousal"]["utterances"] == 20
    assert metrics(folder, "test_cat")["views"]["arousal"] == {"UAR": None, "utterances": 0}
    alone = metrics(folder, "test_dims")
    assert not {"WA", "UAR", "confusion"} & set(alone)
    assert alone["views"]["valence"]["utterances"] == 10


@pytest.mark.full
def test_it_learns_from_corpora_that_lack_something(train: Train, sections: Sections):
    """Classes of one corpus, dimensions of the other: both are learnt."""
    longer = {"runner.total_steps": 50, "runner.eval_step": 50, "runner.save_step": 50, "optimizer.lr": 5e-3}
    more = {f"{PREFIX}.modelrc.{key}": 24 for key in TCGRU} | {f"{PREFIX}.datarc.train_batch_size": 16}
    entries = chosen(sections, ["cat", "dims"], "emotion_multitask")
    found = metrics(train("emotion_multitask", entries, **longer, **more))
    assert found["UAR"] > 0.5  # chance: 0.25
    assert found["CCC"]["EmoAct"] > 0.4


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=[pytest.mark.full] if number else []) for number, head in enumerate(LEARNT)]
)
def test_one_of_several_is_one_to_the_digit(cli: Cli, sections: Sections, head: str):
    """The same corpus, named either way."""
    entry = dict(sections["both"])
    chosen_classes = None if head == "emotion_tcgru" else ["ang", "sad"]
    classes = f"config.{PREFIX}.datarc.classes={chosen_classes!r}"
    plain = {key: entry[key] for key in ("labels", "root", *(("merge",) if chosen_classes else ()))}
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", head)
    text = overrides(head, None, **{f"{PREFIX}.datarc.{key}": value for key, value in plain.items()})
    cli(*words, "-p", "plain", "-o", f"{text},,{classes}")
    cli(*words, "-p", "several", "-o", f"{overrides(head, {'only': entry})},,{classes}")
    one, other = (predictions(Path(name)) for name in ("plain", "several"))
    assert [f"only/{name}" for name in one.index] == list(other.index)
    drop = ["SpkrID"]
    assert one.drop(columns=drop).to_csv(index=False) == other.drop(columns=drop).to_csv(index=False)
    log = [Path(name, "log.log").read_text().splitlines() for name in ("plain", "several")]
    assert log[0] == log[1]
    assert metrics(Path("several"))["loss"] == metrics(Path("plain"))["loss"]


@pytest.mark.full
@pytest.mark.parametrize("head", ["emotion_multitask", "emotion_acnn"])
def test_resumed_equals_uninterrupted(
    cli: Cli,
    train: Train,
    sections: Sections,
    interrupt: Interrupt,  # noqa: F811
    head: str,
):
    entries = chosen(sections, LEARNT[head][0], head)
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-o", overrides(head, entries))
    train(head, entries, "whole")
    interrupt((*words, "-p", "parts"), 5)
    cli(*words, "-p", "parts", "-a")
    assert different(outcome_of("whole"), outcome_of("parts")) == []


def test_inference_needs_no_corpus(cli: Cli, train: Train, sections: Sections, tiny_corpus: TinyCorpus):
    entries = chosen(sections, ["both", "dims"])
    train("emotion_multitask", entries, **{f"{PREFIX}.datarc.classes": ["sad", "ang"]})
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(tiny_corpus.root / "s0_ang_0.wav")).out
    assert "sad" in out
    assert "EmoAct" in out


def test_extra_tests_beside_several(train: Train, sections: Sections):
    extra = {"other": sections["both"] | {"merge": {"Wut": "hap", "Trauer": "neu"}}}
    del extra["other"]["scale"]
    splits = {f"{PREFIX}.datarc.extra_tests": extra, "runner.eval_dataloaders": ["dev", "test", "other"]}
    folder = train("emotion_corr_attn", chosen(sections, ["cat"]), **splits)
    assert metrics(folder, "other")["utterances"] == 30


# --- masking ----------------------------------------------------------------------------------------------------------


def expert_of(head: str, entries: Sections, folder: Path, **modelrc: object) -> Any:
    host.register()
    kind = importlib.import_module(f"s3prl.downstream.{head}.expert").DownstreamExpert
    classes = {} if head == "emotion_tcgru" else {"classes": list(CLASSES)}
    section = {
        "datarc": {"corpora": entries, "train_batch_size": 16, "eval_batch_size": 16, **classes},
        "modelrc": SMALL[head] | modelrc,
    }
    return kind(upstream_dim=6, upstream_rate=160, downstream_expert=section, expdir=str(folder), seed=0)


def batch_of(expert: Any) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Outputs ``[B, O]`` with a gradient, and targets, of a training batch with utterances of every corpus."""
    torch.manual_seed(0)
    _, labels, names = next(iter(expert.get_dataloader("train")))
    features = [torch.randn(20, 6) for _ in names]
    output = expert.model(*expert.inputs("train", features, names)).detach().requires_grad_()
    return output, expert.targets("train", labels, names), names


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Concordance of two columns in float64."""
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_unknown_rows_do_not_count_in_the_multitask_loss(sections: Sections, tmp_path: Path):
    entries = chosen(sections, LEARNT["emotion_multitask"][0], "emotion_multitask")
    expert = expert_of("emotion_multitask", entries, tmp_path, cat_loss="soft_ce")
    output, target, names = batch_of(expert)
    rated = np.array([not name.startswith("cat/") for name in names])
    classed = np.array([not name.startswith("dims/") for name in names])
    assert 2 < rated.sum() < 16
    assert 0 < classed.sum() < 16
    loss = expert.objective(output, target)
    loss.backward()
    assert output.grad[~rated, 4:].abs().max() == 0
    assert output.grad[~classed, :4].abs().max() == 0
    assert output.grad[rated][:, 4:].abs().min() > 0
    assert output.grad[classed][:, :4].abs().min() > 0
    x, y = output.detach().double().numpy(), target.double().numpy()
    logits, shares = x[classed, :4], y[classed, :4]
    entropy = -(shares * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1).mean()
    concordance = np.mean([ccc(x[rated, column], y[rated, column]) for column in (4, 5, 6)])
    assert loss.item() == pytest.approx(entropy - concordance, abs=1e-5)


def test_unknown_rows_do_not_count_in_the_multi_view_loss(sections: Sections, tmp_path: Path):
    expert = expert_of("emotion_acnn", chosen(sections, LEARNT["emotion_acnn"][0]), tmp_path)
    output, target, names = batch_of(expert)
    rated = np.array([not name.startswith("cat/") for name in names])
    classed = np.array([not name.startswith("dims/") for name in names])
    loss = expert.objective(output, target)
    loss.backward()
    assert output.grad[~rated, 4:].abs().max() == 0
    assert output.grad[~classed, :4].abs().max() == 0
    x, y = output.detach().double().numpy(), target.numpy()

    def entropy(logits: np.ndarray, true: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(true)), true]))

    expected = 0.6 * entropy(x[classed, :4], y[classed, 0])
    expected += 0.2 * entropy(x[rated, 4:7], y[rated, 1]) + 0.2 * entropy(x[rated, 7:], y[rated, 2])
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_unknown_spreads_do_not_count(sections: Sections, tmp_path: Path):
    rows = pd.read_csv(sections["dims"]["labels"]).drop(columns=[f"{name}Std" for name in DIMENSIONS])
    rows.to_csv(tmp_path / "means.csv", index=False)
    entries = {"both": sections["both"], "means": sections["dims"] | {"labels": str(tmp_path / "means.csv")}}
    expert = expert_of("emotion_tcgru", entries, tmp_path, target_variance=True)
    output, target, names = batch_of(expert)
    spread = np.array([name.startswith("both/") for name in names])
    assert 2 < spread.sum() < 16
    loss = expert.objective(output, target)
    loss.backward()
    assert output.grad[~spread, 3:].abs().max() == 0
    assert output.grad[~spread][:, :3].abs().min() > 0
    x, y = output.detach().double().numpy(), target.double().numpy()
    expected = -np.mean([ccc(x[:, column], y[:, column]) for column in range(3)])
    expected -= np.mean([ccc(x[spread, column], y[spread, column]) for column in range(3, 6)])
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_labels_are_standardised_by_what_is_known(sections: Sections, tmp_path: Path):
    entries = chosen(sections, LEARNT["emotion_multitask"][0], "emotion_multitask")
    expert = expert_of("emotion_multitask", entries, tmp_path)
    known = np.array([item.dimensions for item in expert.corpus.split("train") if item.dimensions])
    assert len(known) < len(expert.corpus.split("train"))
    np.testing.assert_allclose(expert.label_mean.numpy(), known.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(expert.label_spread.numpy(), known.std(axis=0), rtol=1e-6)


def test_weights_count_only_known_classes():
    labels = [0, 0, 0, 1, -2, -2]
    np.testing.assert_array_equal(class_weights(labels, 2, "balanced"), class_weights([0, 0, 0, 1], 2, "balanced"))
    # 1/6 for each without a class, and two thirds over the others, each class alike
    np.testing.assert_allclose(sampling_weights(labels), [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6], rtol=1e-12)
    assert len(EpochBatches(6, 2, 0, 0, sampling_weights(labels))) == 3


def test_a_single_corpuss_sampling_is_as_it_was():
    labels = np.random.default_rng(0).integers(0, 5, 997).tolist()
    counts = torch.bincount(torch.as_tensor(labels))
    before = 1.0 / counts[torch.as_tensor(labels)].double()
    assert torch.equal(sampling_weights(labels), before / before.sum())


# --- beside training --------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_saliency_of_several(
    sections: Sections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = ["saliency", "-u", "fbank_no_cmvn", "--method", "ccs", "--out", "ccs.safetensors", "-d"]
    text = overrides("emotion_tcgru", chosen(sections, ["dims", "both"]))
    assert suite.main([*words, "emotion_tcgru", "-o", text]) == 0
    assert Path("ccs.safetensors").is_file()
    capsys.readouterr()
    mixed = overrides("emotion_multitask", chosen(sections, ["cat", "both"], "emotion_multitask"))
    assert suite.main([*words, "emotion_multitask", "--out", "mixed.safetensors", "-o", mixed]) == 1
    assert "saliency needs them for every utterance" in capsys.readouterr().err
    assert not Path("mixed.safetensors").exists()


@pytest.mark.full
def test_saliency_file_fits_the_training(train: Train, sections: Sections):
    entries = chosen(sections, ["dims", "both"])
    words = ["saliency", "-u", "fbank_no_cmvn", "--method", "ccs", "--out", "ccs.safetensors", "-d", "emotion_tcgru"]
    assert suite.main([*words, "-o", overrides("emotion_tcgru", entries)]) == 0
    folder = train("emotion_tcgru", entries, **{f"{PREFIX}.modelrc.saliency": {"file": "ccs.safetensors", "keep": 0.5}})
    assert metrics(folder)["utterances"] == 20


# --- bad input --------------------------------------------------------------------------------------------------------


def broken(sections: Sections, *names: str, **changes: dict[str, Any]) -> Sections:
    entries = chosen(sections, list(names))
    for name, change in changes.items():
        entries[name] = entries.get(name, {}) | change
    return entries


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": "x.csv"}, r"datarc\.labels: does not go with datarc\.corpora; each corpus has its own"),
        ({"root": "x"}, r"datarc\.root: does not go with datarc\.corpora"),
        ({"merge": {"a": "b"}}, r"datarc\.merge: does not go with datarc\.corpora; give each corpus its own"),
        ({"degraded": "noisy"}, r"datarc\.degraded: does not go with datarc\.corpora"),
        ({"degrade": {}}, r"datarc\.degrade: does not go with datarc\.corpora"),
        ({"distribution": {"source": "votes", "votes": "v"}}, r"datarc\.distribution: votes belong to one corpus"),
        ({"corpora": {}}, r"datarc\.corpora: names no corpus"),
        ({"classes": None}, r"datarc\.classes: name the classes"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(sections: Sections, change: dict[str, Any], match: str):
    values = {"corpora": chosen(sections, ["cat", "both"])} | change
    with pytest.raises(ConfigError, match=match):
        load_corpus(data(values.pop("corpora"), **values))


@pytest.mark.parametrize("name", ["a/b", "", "ä", "../x", "-x", "a b"])
def test_invalid_names_are_refused(sections: Sections, name: str):
    with pytest.raises(ConfigError, match=r"datarc\.corpora: .* is no valid name; use letters, digits, _ and -"):
        load_corpus(data({name: sections["cat"]}))


def test_names_that_differ_in_case_are_refused(sections: Sections):
    with pytest.raises(ConfigError, match=r"datarc\.corpora: Cat and cat differ only in case; rename one"):
        load_corpus(data({"Cat": sections["cat"], "cat": sections["both"]}))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"merge": {"Wut": "angr"}},
            r"corpora\.both\.merge: Wut maps to 'angr', .* none of datarc\.classes; nearest: ang",
        ),
        ({"labels": "nowhere.csv"}, r"nowhere\.csv: no such label table"),
        ({"root": "nowhere"}, r"nowhere: no such folder"),
        ({"test_fold": "fold9"}, r"both\.csv: no fold 'fold9'"),
        ({"merge": {}}, r"corpora\.both: .*both\.csv has no row with a label that this head learns: a class of ang"),
        ({"distribution": {"source": "votes"}}, None),
    ],
)
def test_bad_entries_are_refused(sections: Sections, change: dict[str, Any], match: str | None):
    entries = broken(sections, "cat", "both", both=change)
    if match is None:  # what a head does not learn is not read
        assert load_corpus(data(entries)).split("test_both")
        return
    with pytest.raises(ValueError, match=match):
        load_corpus(data(entries))


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"labls": "x"}, r"datarc\.corpora\.cat\.labls: unknown key"),
        ({"scale": [1]}, r"datarc\.corpora\.cat\.scale"),
        ({"merge": ["a"]}, r"datarc\.corpora\.cat\.merge"),
    ],
)
def test_malformed_entries_are_refused(sections: Sections, entry: dict[str, Any], match: str):
    with pytest.raises(ConfigError, match=match):
        data({"cat": sections["cat"] | entry})


def test_neither_one_nor_several_is_refused():
    with pytest.raises(ConfigError, match=r"datarc\.labels: this key is required"):
        DataSection.read({"train_batch_size": 1, "eval_batch_size": 1}, "datarc")
    with pytest.raises(ConfigError, match=r"datarc\.corpora"):
        data([])


def test_folders_are_refused(sections: Sections, tmp_path: Path):
    with pytest.raises(
        LabelError, match=r"corpora\.cat\.labels: .* holds neither SUPERB\'s lists .*; name a label table"
    ):
        load_corpus(data(broken(sections, "both", cat=sections["cat"] | {"labels": str(tmp_path)})))


def test_fold_that_no_corpus_has_is_refused(sections: Sections):
    with pytest.raises(LabelError, match=r"datarc\.corpora: no corpus has fold 'fold7' .*nearest: fold"):
        load_corpus(data(chosen(sections, ["cat", "both"]), test_fold="fold7"))


def test_class_that_no_corpus_has_is_refused(sections: Sections):
    with pytest.raises(LabelError, match=r"datarc\.corpora: no utterance has class 'fear' of datarc\.classes"):
        load_corpus(data(chosen(sections, ["cat", "both"]), classes=[*CLASSES, "fear"]))


def test_the_same_table_twice_is_refused(sections: Sections):
    with pytest.raises(LabelError, match=r"corpora\.again: .* is datarc\.corpora\.cat's label table too"):
        load_corpus(data(chosen(sections, ["cat"]) | {"again": sections["cat"]}))


def test_the_same_audio_in_train_and_test_is_refused(sections: Sections, tmp_path: Path):
    rows = pd.read_csv(sections["cat"]["labels"])
    rows["Fold"] = rows["Fold"].map({"fold1": "fold2", "fold2": "fold3", "fold3": "fold1"})
    rows.to_csv(tmp_path / "copy.csv", index=False)
    entries = chosen(sections, ["cat"]) | {"copy": sections["cat"] | {"labels": str(tmp_path / "copy.csv")}}
    with pytest.raises(LabelError, match=r"datarc\.corpora: .*\.wav is both in test and in train"):
        load_corpus(data(entries))


@pytest.mark.parametrize(
    ("both", "match"),
    [
        ({"scale": None}, r"datarc\.corpora\.both\.scale: name its lowest and highest grade"),
        ({"scale": [5, 1]}, r"datarc\.corpora\.both\.scale: the lowest grade must come first"),
        ({"scale": [2, 5]}, r"both\.csv line \d+: EmoAct .* is outside datarc\.corpora\.both\.scale, \[2"),
    ],
)
def test_scales_that_do_not_fit_are_refused(sections: Sections, both: dict[str, Any], match: str):
    with pytest.raises(LabelError, match=match):
        load_corpus(
            data(broken(sections, "dims", "both", both=both), classes=None), Needs(classes=False, dimensions=True)
        )


@pytest.mark.parametrize("scale", [[1, 5], None])
def test_dimensions_that_are_not_learnt_are_on_one_scale_or_dropped(sections: Sections, scale: list[int] | None):
    seven = sections["both"] | {"scale": [1, 5]}
    path = Path(seven["labels"]).with_name("seven.csv")
    rows = pd.read_csv(sections["dims"]["labels"]).assign(EmoClass="ang")
    rows.to_csv(path, index=False)
    entries = {"both": seven | {"scale": scale}, "seven": sections["dims"] | {"labels": str(path)}}
    corpus = load_corpus(data(entries, classes=["ang", "sad"]))
    found = [item.dimensions for item in corpus.split("train")]
    if scale is None:
        assert set(found) == {None}
    else:
        assert max(max(means or (9.0,)) for means in found) <= 5


def test_one_corpus_with_dimensions_needs_no_scale(sections: Sections):
    entries = broken(sections, "cat", "dims", dims={"scale": None})
    corpus = load_corpus(data(entries), Needs(dimensions=True))
    assert max(max(item.dimensions or (0.0,)) for item in corpus.split("train")) > 5


@pytest.mark.parametrize(
    ("head", "names", "error"),
    [
        ("emotion_corr_attn", ["cat", "dims"], "corpora.dims: "),
        ("emotion_tcgru", ["cat", "both"], "corpora.cat: "),
        ("emotion_acnn", ["cat"], "no utterance of train has EmoAct, EmoVal, EmoDom, which this head learns"),
        ("emotion_multitask", ["dims"], "no utterance has class 'ang'"),
    ],
)
def test_a_head_without_anything_to_learn_is_refused(
    cli: Cli, sections: Sections, head: str, names: list[str], error: str
):
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", "exp")
    got = cli(*words, "-o", overrides(head, chosen(sections, names, head)), code=1)
    assert error in got.error
    assert not Path("exp").exists()


def test_fixture_is_what_it_says(sections: Sections):
    """No class in one table, no dimensions in another."""
    columns = {name: set(pd.read_csv(entry["labels"])) for name, entry in sections.items()}
    assert "EmoClass" not in columns["dims"]
    assert "EmoAct" not in columns["cat"]
    assert {"EmoClass", "EmoAct", "Wut"} <= columns["both"]
