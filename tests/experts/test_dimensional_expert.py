"""``-d emotion_tcgru`` through the command line: dimensions from recipe to files, whatever the labels' scale."""

from __future__ import annotations

import csv
import json
import logging
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Cli, TinyCorpus, TinyGradedCorpus
from numpy.typing import NDArray
from processes import command, together
from test_distributed import PLAIN_STEPS, assert_same_training
from test_resume import different
from tiny_text_models import save_tiny_bert

from s3prl_emotion.corpora import DIMENSIONS
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.training.loop import Training

UPSTREAM = ("-u", "fbank_no_cmvn", "--device", "cpu")
HEAD = (*UPSTREAM, "-d", "emotion_tcgru")
DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
OFTEN = {"optimizer.lr": 0.03, "runner.eval_step": 1}
MEANS = list(DIMENSIONS)
SPREADS = [f"{name}Std" for name in MEANS]
Table = list[dict[str, str]]
Array = NDArray[np.float64]
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature store that runs on the graded tones share: what takes time in them is the filterbank."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def train(cli: Cli, graded_corpus: TinyGradedCorpus, filled: Path) -> Train:
    """``train("exp", *words, corpus=…, **overrides)``: train on the graded tones; folder."""

    def call(folder: str = "exp", *words: object, corpus: TinyCorpus = graded_corpus, **overrides: object) -> Path:
        store = ("--feature_store", filled)
        overrides = {"runner.early_stopping": None} | overrides
        cli("-m", "train", *HEAD, *store, "-p", folder, "-o", corpus.overrides(**overrides), *words)
        return Path(folder)

    return call


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs are kept from one test to the next."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def trained(train: Train, shelf: Path) -> Callable[..., Path]:
    """``trained(**overrides)``: a run as by ``train``, which several tests share: evaluating it must change nothing."""

    def call(**overrides: object) -> Path:
        folder = shelf / f"{zlib.crc32(repr(sorted(overrides.items())).encode()):08x}"
        return folder if folder.exists() else train(str(folder), **overrides)

    return call


def table(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def relabelled(corpus: TinyCorpus, path: Path, change: Callable[[Table], None]) -> TinyGradedCorpus:
    """The corpus with another label table."""
    rows, path = table(corpus.labels), path.resolve()  # a corpus is read once in a process, and known by its paths
    change(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return TinyGradedCorpus(corpus.root, path)


def without(corpus: TinyCorpus, column: str) -> TinyGradedCorpus:
    """The corpus without a column of its label table."""

    def change(rows: Table) -> None:
        for row in rows:
            del row[column]

    return relabelled(corpus, Path(f"without_{column}.csv"), change)


def metrics(folder: Path, split: str = "test") -> dict[str, Any]:
    return json.loads((folder / f"{split}_fold1_metrics.json").read_text())


def values(folder: Path, names: list[str], split: str = "test") -> Array:
    """Columns of a predictions file, ``[U, O]``."""
    return np.array([[float(row[name]) for name in names] for row in table(folder / f"{split}_fold1_predictions.csv")])


def predicted(folder: Path, names: list[str] = MEANS, split: str = "test") -> Array:
    return values(folder, [f"{name}_pred" for name in names], split)


def concordance(x: Array, y: Array) -> float:
    """Mitra et al. 2024, eq. 5, with population moments."""
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def log(folder: Path, begin: str) -> dict[int, float]:
    """Steps and values of ``log.log``'s lines that begin so."""
    text = (folder / "log.log").read_text()
    return {int(step): float(value) for step, value in re.findall(rf"^{begin} at step (\d+): (\S+)$", text, re.M)}


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [True, False])
def test_files_of_a_run(trained: Train, graded_corpus: TinyGradedCorpus, variance: bool):
    folder = trained(**{} if variance else {f"{MODEL}.target_variance": False})
    names = [*MEANS, *(SPREADS if variance else [])]
    labels = {row["FileName"]: row for row in table(graded_corpus.labels)}
    for split, count in (("dev", 10), ("test", 20)):
        rows = table(folder / f"{split}_fold1_predictions.csv")
        assert list(rows[0]) == ["FileName", "SpkrID", "Gender", *names, *(f"{name}_pred" for name in names)]
        assert len(rows) == count
        for row in rows:
            for name in ("SpkrID", "Gender"):
                assert row[name] == labels[row["FileName"]][name]
            for name in names:
                assert float(row[name]) == float(labels[row["FileName"]][name])
        for kind, columns in (("truth", MEANS), ("predict", [f"{name}_pred" for name in MEANS])):
            lines = (folder / f"{split}_fold1_{kind}.txt").read_text().splitlines()
            shown = [[row["FileName"].removesuffix(".wav"), *(row[name] for name in columns)] for row in rows]
            for line, expected in zip(lines, shown, strict=True):
                stem, *numbers = line.split()
                assert stem == expected[0]
                assert [float(number) for number in numbers] == pytest.approx([float(word) for word in expected[1:]])
        assert not (folder / f"{split}_fold1_confusion.png").exists()
    assert not [path.name for path in folder.iterdir() if "partial" in path.name]


def test_metrics_are_those_of_the_predictions(trained: Train):
    folder = trained()
    for split in ("dev", "test"):
        found = metrics(folder, split)
        for names, part in ((MEANS, found), (SPREADS, found["spreads"])):
            truth, estimates = values(folder, names, split), predicted(folder, names, split)
            expected: dict[str, list[float]] = {
                "CCC": [concordance(*pair) for pair in zip(truth.T, estimates.T, strict=True)],
                "MSE": ((truth - estimates) ** 2).mean(axis=0).tolist(),
                "Pearson": [np.corrcoef(*pair)[0, 1] for pair in zip(truth.T, estimates.T, strict=True)],
            }
            for key, numbers in expected.items():
                tolerance = 2e-3 if key == "Pearson" else 1e-6  # seven digits in the file, estimates that vary little
                assert list(part[key]) == names
                assert list(part[key].values()) == pytest.approx(numbers, abs=tolerance)
                assert part[f"mean_{key}"] == pytest.approx(np.mean(list(part[key].values())), abs=1e-12)
        assert found["utterances"] == len(values(folder, MEANS, split))
        # eqs. 4-5 of the whole split, of means and spreads, though it was evaluated in batches
        assert found["loss"] == pytest.approx(-found["mean_CCC"] - found["spreads"]["mean_CCC"], abs=1e-6)
        bins = found["MSE_per_bin"]["EmoAct"]
        assert sum(item["utterances"] for item in bins) == found["utterances"]
        speakers = {row["SpkrID"] for row in table(folder / f"{split}_fold1_predictions.csv")}
        assert set(found["per_speaker"]) == speakers


@pytest.mark.parametrize("variance", [True, False])
def test_size_of_the_model(trained: Train, variance: bool):
    """From the layers' sizes: 240 filterbank channels, 8 filters, 2 x 8 units, embedding of 8."""
    found = metrics(trained(**{} if variance else {f"{MODEL}.target_variance": False}))
    outputs = 6 if variance else 3
    expected = 8 * (240 * 3 + 1) + 2 * 3 * 8 * (8 + 8 + 2) + 8 * 9 + outputs * 9
    assert found["num_parameters"] == expected
    assert found["model_size_mb"] == pytest.approx(4 * expected / 1e6, abs=5e-4)


def test_predictions_that_stay_are_those_of_dev_best(cli: Cli, trained: Train):
    folder = trained(**OFTEN)
    best, found = load_checkpoint(folder / "dev-best.ckpt"), metrics(folder)
    assert (found["checkpoint"], found["step"]) == ("dev-best.ckpt", best["Step"])
    before = (folder / "test_fold1_predictions.csv").read_bytes()
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt", "-t", "test")
    assert (folder / "test_fold1_predictions.csv").read_bytes() == before
    assert metrics(folder)["CCC"] == found["CCC"]


def test_dev_best_is_picked_by_mean_ccc(trained: Train):
    folder = trained(**OFTEN)
    dev, best = log(folder, "dev"), log(folder, "New best on dev")
    highest, expected = -np.inf, {}
    for step, value in dev.items():
        if value > highest:
            highest, expected[step] = value, pytest.approx(value, abs=1e-7)  # best so far is kept in float32
    assert best == expected
    assert len(expected) < len(dev) == 6
    step = max(expected)
    assert load_checkpoint(folder / "dev-best.ckpt")["Step"] == step
    assert metrics(folder, "dev")["mean_CCC"] == pytest.approx(dev[step], abs=1e-6)


def test_a_worse_score_than_chance_can_be_the_best(train: Train):
    """CCC may be below 0 from beginning to end; there must be a checkpoint all the same."""
    folder = train(**{"optimizer.lr": 0.0, "runner.eval_step": 1})
    assert list(log(folder, "New best on dev")) == [1]
    assert load_checkpoint(folder / "dev-best.ckpt")["Step"] == 1


def test_inference_says_dimensions_on_the_corpuss_scale(cli: Cli, trained: Train, graded_corpus: TinyGradedCorpus):
    folder = trained(**{f"{MODEL}.target_variance": False})
    row = table(folder / "test_fold1_predictions.csv")[3]
    said = cli("-m", "inference", "-e", folder / "dev-best.ckpt", "-t", graded_corpus.root / row["FileName"]).out
    found = dict(re.findall(r"^  (\w+) +(\S+)$", said, re.M))
    assert list(found) == MEANS
    for name in MEANS:
        assert float(found[name]) == pytest.approx(float(row[f"{name}_pred"]), abs=1e-4)


# --- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_planted_dimensions_are_learnt(train: Train):
    sizes = {f"{MODEL}.{name}": 16 for name in ("conv_channels", "gru_dim", "embedding_dim")}
    steps = {"runner.total_steps": 60, "runner.eval_step": 20, "runner.log_step": 20, "runner.save_step": 60}
    batches = {f"{DATA}.train_batch_size": 15, f"{DATA}.eval_batch_size": 20, "optimizer.lr": 3e-3}
    folder = train(**sizes, **steps, **batches, **{f"{MODEL}.target_variance": False, f"{MODEL}.gru_layers": 1})
    for split in ("dev", "test"):
        found = metrics(folder, split)
        assert found["CCC"]["EmoAct"] > 0.6
        assert found["mean_CCC"] > 0.3


def rescaled(corpus: TinyCorpus, scale: float, offset: float) -> TinyGradedCorpus:
    """The corpus with grades on another scale."""

    def change(rows: Table) -> None:
        for row in rows:
            row |= {name: repr(scale * float(row[name]) + offset) for name in MEANS}
            row |= {name: repr(scale * float(row[name])) for name in SPREADS}

    return relabelled(corpus, Path("rescaled.csv"), change)


@pytest.mark.full
@pytest.mark.parametrize(("scale", "offset"), [(1.5, -0.5), (0.01, 0.0), (100.0, -5e3)])
def test_scale_of_the_labels_does_not_matter(
    train: Train, graded_corpus: TinyGradedCorpus, scale: float, offset: float
):
    """1-5 to 1-7 is the first; the others are scales that nobody has."""
    steps = {"runner.eval_step": 2, "optimizer.lr": 0.01}
    one, two = train("one", **steps), train("two", corpus=rescaled(graded_corpus, scale, offset), **steps)
    expected = scale * predicted(one, MEANS + SPREADS) + np.array([offset] * 3 + [0.0] * 3)
    spread = scale * values(one, MEANS + SPREADS).std(axis=0)
    # 1e-4 of what labels vary by; beside it, what seven digits in the file leave of an offset
    tolerance = 1e-4 * spread + 1e-6 * np.abs(expected).max(axis=0)
    assert (np.abs(predicted(two, MEANS + SPREADS) - expected) < tolerance).all()
    assert np.ptp(expected, axis=0).min() > 0
    for name in ("CCC", "Pearson"):
        assert list(metrics(two)[name].values()) == pytest.approx(list(metrics(one)[name].values()), abs=1e-4)
    assert metrics(two)["step"] == metrics(one)["step"]


def test_predictions_are_on_the_scale_of_training(cli: Cli, train: Train, graded_corpus: TinyGradedCorpus):
    """A checkpoint keeps its scale, whatever the labels are on that it is evaluated with."""
    folder = train()
    before = predicted(folder, MEANS + SPREADS)
    other = f"config.{DATA}.labels='{rescaled(graded_corpus, 10.0, 3.0).labels}'"
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt", "-t", "test", "-o", other)
    assert np.array_equal(predicted(folder, MEANS + SPREADS), before)
    assert values(folder, MEANS).max() > 40


def constant(rows: Table) -> None:
    for row in rows:
        row["EmoVal"] = row["EmoValStd"] = "3.3"


def all_constant(rows: Table) -> None:
    for row in rows:
        row |= dict.fromkeys(MEANS + SPREADS, "3.3")


def negative(rows: Table) -> None:
    for row in rows:
        row |= {name: str(round(float(row[name]) - 6, 2)) for name in MEANS}


def constant_on_dev(rows: Table) -> None:
    for row in rows:
        row |= dict.fromkeys(MEANS, "2.0") if row["SpkrID"] in ("s2", "s3", "s4", "s5") else {}


@pytest.mark.parametrize("change", [constant, all_constant, negative, constant_on_dev])
def test_odd_labels_give_finite_predictions(
    train: Train, graded_corpus: TinyGradedCorpus, tmp_path: Path, change: Callable[[Table], None]
):
    corpus = relabelled(graded_corpus, tmp_path / "odd.csv", change)
    folder = train(corpus=corpus, **{"runner.eval_step": 2})
    truth, estimates = values(folder, MEANS + SPREADS), predicted(folder, MEANS + SPREADS)
    assert np.isfinite(estimates).all()
    assert np.abs(estimates).max() < 20
    found = metrics(folder)
    for name, column in zip(MEANS, truth[:, :3].T, strict=True):
        if np.ptp(column) == 0:
            assert found["CCC"][name] == 0
            assert found["Pearson"][name] is None
    state = load_checkpoint(folder / "dev-best.ckpt")["Downstream"]
    assert all(torch.isfinite(value).all() for value in state.values() if isinstance(value, torch.Tensor))
    still = [float(row["EmoVal"]) for row in table(corpus.labels)]
    assert (state["label_spread"][1].item() == 1.0) == (len(set(still[20:])) == 1)


def test_seed_fixes_everything(train: Train, trained: Train):
    one, again, other = trained(), train("again"), train("other", "--seed", 7)
    states = [load_checkpoint(folder / "states-6.ckpt") for folder in (one, again, other)]
    for name in ("Downstream", "Featurizer", "Optimizer", "Rng"):
        assert different(states[0][name], states[1][name]) == []
    assert different(states[0]["Downstream"], states[2]["Downstream"])
    contents = [(folder / "test_fold1_predictions.csv").read_bytes() for folder in (one, again, other)]
    assert contents[0] == contents[1] != contents[2]


def test_with_a_store_as_without(cli: Cli, trained: Train, graded_corpus: TinyGradedCorpus):
    stored = trained()
    cli("-m", "train", *HEAD, "-p", "plain", "-o", graded_corpus.overrides())
    states = [load_checkpoint(folder / "states-6.ckpt") for folder in (stored, Path("plain"))]
    for name in ("Downstream", "Featurizer", "Optimizer", "Rng", "Records"):
        assert different(states[0][name], states[1][name]) == []
    names = [f"{split}_fold1_predictions.csv" for split in ("dev", "test")]
    assert [(stored / name).read_bytes() for name in names] == [Path("plain", name).read_bytes() for name in names]


def test_classes_that_are_named_choose_rows(train: Train, graded_corpus: TinyGradedCorpus):
    steps = {"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1}
    folder = train(**{f"{DATA}.classes": ["sad", "ang"]}, **steps)
    assert metrics(folder)["classes"] == ["sad", "ang"]
    unclassed = without(graded_corpus, "EmoClass")
    assert metrics(train("none", corpus=unclassed, **steps))["classes"] == []


@pytest.mark.full
@pytest.mark.parametrize("batch", [5, 4])  # of 30 utterances to train on: the last batch whole, or smaller
def test_two_processes_equal_one(tmp_path: Path, graded_corpus: TinyGradedCorpus, batch: int):
    """CCC is over the whole batch, of which each process has a part."""
    steps = PLAIN_STEPS | {
        "runner.log_step": 4,
        "runner.eval_step": 2,
        "runner.early_stopping": 9,
        "optimizer.lr": 0.02,
    }
    del steps[f"{MODEL}.channel_dropout"]
    for folder, world, size in (("one", None, 2 * batch), ("two", 2, batch)):
        options = graded_corpus.overrides(**steps | {f"{DATA}.train_batch_size": size, f"{DATA}.pre_load": False})
        words = ("-m", "train", *HEAD, "--feature_store", tmp_path / "store", "-p", folder, "-o", options)
        left = together(tmp_path, world, command, words)
        assert [process.value for process in left] == [0] * len(left), left
    one, two = tmp_path / "one", tmp_path / "two"
    assert_same_training(one, two, 6)
    states = [load_checkpoint(folder / "states-6.ckpt") for folder in (one, two)]
    assert states[1]["Records"]["loss"] == pytest.approx(states[0]["Records"]["loss"], abs=1e-5)
    assert states[1]["Unimproved"] == states[0]["Unimproved"]
    for begin in ("train", "dev", "test"):
        assert log(two, begin) == pytest.approx(log(one, begin), abs=1e-5)
    assert max(abs(value) for value in log(one, "dev").values()) > 1e-3
    for split in ("dev", "test"):
        np.testing.assert_allclose(predicted(two, MEANS, split), predicted(one, MEANS, split), atol=1e-4)
        assert metrics(two, split)["mean_CCC"] == pytest.approx(metrics(one, split)["mean_CCC"], abs=1e-5)


# --- early stopping ----------------------------------------------------------------------------------------------

# Dev gets worse at times, so that patience is used up and given back.
STOPPING = {
    "runner.total_steps": 60, "runner.eval_step": 2, "runner.save_step": 4, "runner.log_step": 3,
    "runner.early_stopping": 3, "optimizer.lr": 0.02,
}  # fmt: skip


def expected_end(dev: dict[int, float], patience: int) -> int | None:
    """Step of the evaluation that is the ``patience``-th in a row without a better one, from the scores alone."""
    best, unimproved = -np.inf, 0
    for step, value in dev.items():
        best, unimproved = (value, 0) if value > np.float32(best) else (best, unimproved + 1)
        if unimproved == patience:
            return step
    return None


def last_state(folder: Path) -> dict[str, Any]:
    steps = [int(path.stem.partition("-")[2]) for path in folder.glob("states-*.ckpt")]
    return load_checkpoint(folder / f"states-{max(steps)}.ckpt")


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_ends_when_dev_gets_no_better(
    train: Train, trained: Train, caplog: pytest.LogCaptureFixture, patience: int
):
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        folder = trained(**STOPPING) if patience == 3 else train(**STOPPING | {"runner.early_stopping": patience})
    dev = log(folder, "dev")
    end = expected_end(dev, patience)
    assert end is not None
    assert 2 * patience < end < 60
    assert max(dev) == end == last_state(folder)["Step"]
    said = f"step {end}: dev has not improved in {patience} evaluations, training ends"
    assert said in caplog.text or patience == 3  # then another test may have trained it
    best = max(log(folder, "New best on dev"))
    assert best == end - 2 * patience
    assert load_checkpoint(folder / "dev-best.ckpt")["Step"] == metrics(folder)["step"] == best
    assert [path.name for path in folder.glob("states-*.ckpt")] == [f"states-{end}.ckpt"]


def test_without_early_stopping_all_steps_are_made(train: Train, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        still = {"optimizer.lr": 0.0, "runner.eval_step": 1, "runner.save_step": 5, "runner.total_steps": 5}
        folder = train(**STOPPING | still | {"runner.early_stopping": None})
    assert last_state(folder)["Step"] == 5
    assert expected_end(log(folder, "dev"), 3) is not None
    assert "training ends" not in caplog.text


@pytest.mark.full
@pytest.mark.parametrize("at", ["ahead of the first checkpoint", "in the middle", "while patience runs out"])
def test_early_stopping_is_exact_under_resume(train: Train, monkeypatch: pytest.MonkeyPatch, at: str):
    whole = train("whole", **STOPPING)
    end = last_state(whole)["Step"]
    step = {"ahead of the first checkpoint": 3, "in the middle": end // 2, "while patience runs out": end - 1}[at]
    after_update = Training._after_update

    def mortal(self: Training, total: int) -> None:
        after_update(self, total)
        if self.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_after_update", mortal)
        with pytest.raises(AssertionError, match="exit code 130"):
            train("parts", **STOPPING)
    parts = train("parts", "-a", **STOPPING)
    states = [last_state(folder) for folder in (whole, parts)]
    for name in ("Step", "Downstream", "Optimizer", "Rng", "Unimproved", "Records", "Batch", "Epoch"):
        assert different(states[0][name], states[1][name]) == []
    assert states[0]["Unimproved"] == 3
    assert log(whole, "dev") == log(parts, "dev")
    name = "test_fold1_predictions.csv"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_resuming_a_run_that_stopped_trains_no_further(train: Train, trained: Train, caplog: pytest.LogCaptureFixture):
    folder = trained(**STOPPING)
    kept = ("states-", "dev-best", "log.log", "test_fold1", "dev_fold1")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(kept)}
    with caplog.at_level(logging.INFO, logger="s3prl_emotion"):
        train(str(folder), "-a", **STOPPING)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(kept)} == before
    assert "dev has not improved in 3 evaluations" in caplog.text


@pytest.mark.full
def test_more_patience_goes_on(cli: Cli, train: Train):
    folder = train(**STOPPING | {"runner.early_stopping": 1})
    end = last_state(folder)["Step"]
    cli("-m", "train", "-e", folder, "-o", "config.runner.early_stopping=3")
    assert last_state(folder)["Step"] > end
    whole = train("whole", **STOPPING)
    assert different(last_state(folder)["Downstream"], last_state(whole)["Downstream"]) == []


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"runner.gradient_accumulate_steps": 2}, ["runner.gradient_accumulate_steps: CCC is computed over a batch"]),
        ({f"{DATA}.train_batch_size": 1}, ["datarc.train_batch_size: CCC of one utterance is 0", "at least 2"]),
        ({f"{DATA}.class_weights": "balanced"}, ["class_weights and balanced_sampling are for heads with classes"]),
        ({f"{DATA}.balanced_sampling": True}, ["class_weights and balanced_sampling are for heads with classes"]),
        ({"downstream_expert.best_metric": "WA"}, ["best_metric: this head has mean_CCC, loss, got WA"]),
        ({"downstream_expert.best_metric": "UAR"}, ["best_metric: this head has mean_CCC, loss, got UAR"]),
        ({"runner.early_stopping": 0}, ["runner.early_stopping"]),
        ({"runner.early_stopping": 3, "runner.eval_dataloaders": ["test"]}, ["early_stopping: needs dev among"]),
        ({"downstream_expert.attention_dir": "att"}, ["attention_dir: emotion_tcgru has no attention"]),
        ({f"{MODEL}.kernel_size": 2}, ["modelrc.kernel_size: must be odd", "2"]),
        ({f"{MODEL}.gru_layer": 2}, [f"{MODEL}.gru_layer: unknown key", "nearest: gru_layers"]),
        ({f"{MODEL}.conv_channels": 0}, [f"{MODEL}.conv_channels"]),
        ({f"{MODEL}.dropout": 1.0}, [f"{MODEL}.dropout"]),
        ({f"{MODEL}.alpha": 0.7, f"{MODEL}.beta": 0.7}, ["alpha (0.7) and beta (0.7)", "sum to at most 1"]),
        ({f"{MODEL}.variance_weight": 0.0}, [f"{MODEL}.variance_weight"]),
        ({f"{MODEL}.saliency": {}}, ["modelrc.saliency.file: name the file"]),
        ({f"{DATA}.labels": "nowhere.csv"}, ["nowhere.csv: no such label table"]),
        ({f"{DATA}.classes": ["ang", "sda"]}, ["no utterance has class 'sda'", "nearest: sad"]),
    ],
)
def test_recipe_that_does_not_fit(
    cli: Cli, graded_corpus: TinyGradedCorpus, overrides: dict[str, object], said: list[str]
):
    error = cli("-m", "train", *HEAD, "-p", "exp", "-o", graded_corpus.overrides(**overrides), code=1).error
    assert all(part in error for part in said), error
    assert not Path("exp").exists()


@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("EmoDom", None, "no column EmoDom, which this head learns"),
        ("EmoValStd", None, "no column EmoValStd, which this head learns"),
        ("EmoAct", "", "line 4: EmoAct is empty"),
        ("EmoAct", "nan", "line 4: EmoAct is not a number: 'nan'"),
        ("EmoActStd", "inf", "line 4: EmoActStd is not a number: 'inf'"),
        ("EmoDomStd", "-0.5", "line 4: EmoDomStd is a standard deviation, but negative"),
    ],
)
def test_labels_that_do_not_fit(
    cli: Cli, graded_corpus: TinyGradedCorpus, mode: str, column: str, value: str | None, said: str
):
    def change(rows: Table) -> None:
        for row in rows if value is None else rows[2:3]:
            row.pop(column)
            row |= {} if value is None else {column: value}

    options = relabelled(graded_corpus, Path("bad.csv"), change).overrides()
    error = cli("-m", mode, *HEAD, "-p", "exp", "-o", options, code=1).error
    assert said in error
    assert "bad.csv" in error
    assert not Path("exp").exists()


def test_corpus_without_dimensions(cli: Cli, tiny_corpus: TinyCorpus):
    options = TinyGradedCorpus(tiny_corpus.root, tiny_corpus.labels).overrides()
    error = cli("-m", "train", *HEAD, "-p", "exp", "-o", options, code=1).error
    assert "no column EmoAct, which this head learns" in error
    assert not Path("exp").exists()


@pytest.mark.parametrize("flag", ["-e", "-i"])
def test_checkpoint_of_another_head_is_refused(
    cli: Cli, train: Train, tiny_corpus: TinyCorpus, graded_corpus: TinyGradedCorpus, flag: str
):
    short = tiny_corpus.overrides(**{"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1})
    cli("-m", "train", *UPSTREAM, "-d", "emotion_corr_attn", "-p", "classes", "-o", short)
    words = ("-m", "evaluate", *HEAD, "-p", "exp", flag, "classes/dev-best.ckpt", "-o", graded_corpus.overrides())
    assert "is a checkpoint of -d emotion_corr_attn, not of -d emotion_tcgru" in cli(*words, code=1).error
    assert not Path("exp").exists()


# --- what is said ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of random weights with 16 dimensions."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "bert")


def branch(model: Path, join: str = "late", **more: object) -> dict[str, object]:
    return {f"{MODEL}.lexical": [{"model": str(model), "layer": 2, **more}], f"{MODEL}.lexical_join": join}


def test_prediction_depends_on_the_text(cli: Cli, train: Train, graded_corpus: TinyGradedCorpus, bert: Path):
    folder = train(**branch(bert))
    assert load_checkpoint(folder / "dev-best.ckpt")["Downstream"]["model.lexical.0.weight"].shape == (8, 16)
    expected = 8 * (240 * 3 + 1) + 2 * 3 * 8 * (8 + 8 + 2) + 8 * 9 + 8 * 17 + 6 * 17
    assert metrics(folder)["num_parameters"] == expected

    def change(rows: Table) -> None:
        rows[0]["Text"] = "stop the train"
        rows[1]["Text"] = rows[1]["Text"].upper() + " ?"  # the same words

    other = relabelled(graded_corpus, Path("other.csv"), change)
    before = predicted(folder)
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt", "-t", "test")
    assert np.array_equal(predicted(folder), before)
    override = f"config.{DATA}.labels='{other.labels}'"
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt", "-t", "test", "-o", override)
    assert (np.abs(predicted(folder) - before) > 1e-6).any(axis=1).tolist() == [True] + [False] * 19


def test_text_joined_early_is_in_the_convolution(train: Train, bert: Path):
    folder = train(**branch(bert, "early"), **{"runner.total_steps": 1, "runner.eval_step": 1})
    state = load_checkpoint(folder / "dev-best.ckpt")["Downstream"]
    assert state["model.acoustic.convolution.weight"].shape == (8, 240 + 16, 3)
    assert not any(name.startswith("model.lexical.") for name in state)


def test_embeddings_land_in_the_store(cli: Cli, graded_corpus: TinyGradedCorpus, bert: Path):
    words = ("-m", "train", *HEAD, "-o", graded_corpus.overrides(**branch(bert, layer=1)))
    cli(*words, "-p", "stored", "--feature_store", "store")
    cli(*words, "-p", "plain")
    (place,) = Path("store").glob("lexical-*")
    identity = json.loads(next(place.glob("*.json")).read_text())["identity"]
    assert (identity["upstream"], identity["layer"], identity["selection"]) == ("lexical", 1, "mean")
    assert len(list(place.glob("*.features"))) >= 1
    names = [f"{split}_fold1_predictions.csv" for split in ("dev", "test")]
    assert [Path("stored", name).read_bytes() for name in names] == [Path("plain", name).read_bytes() for name in names]


def test_transcripts_of_a_file_and_several_branches(train: Train, graded_corpus: TinyGradedCorpus, bert: Path):
    """Fig. 3 has transcripts of two recognisers side by side."""
    lines = [f"{row['FileName']},hello there\n" for row in table(graded_corpus.labels)]
    Path("heard.csv").write_text("FileName,Text\n" + "".join(lines))
    both = [{"model": str(bert), "layer": 2}, {"model": str(bert), "layer": 1, "transcripts": "heard.csv"}]
    folder = train(**{f"{MODEL}.lexical": both}, **{"runner.total_steps": 1, "runner.eval_step": 1})
    state = load_checkpoint(folder / "dev-best.ckpt")["Downstream"]
    assert state["model.acoustic.convolution.weight"].shape == (8, 240 + 32, 3)


def test_missing_transcripts_are_refused(cli: Cli, graded_corpus: TinyGradedCorpus, bert: Path):
    Path("heard.csv").write_text("FileName,Text\ns0_0.wav,hello\n")

    def silence(rows: Table) -> None:
        rows[0]["Text"] = ""  # of the test split, which training comes to last

    quiet = relabelled(graded_corpus, Path("quiet.csv"), silence)
    textless = without(graded_corpus, "Text")
    for corpus, options, said in (
        (quiet, branch(bert), "s0_0.wav: has no text in the label table"),
        (textless, branch(bert), "has no text in the label table"),
        (graded_corpus, branch(bert, transcripts="heard.csv"), "has no row in heard.csv"),
        (graded_corpus, branch(bert, transcripts="nowhere.csv"), "nowhere.csv"),
        (graded_corpus, branch(bert, layer=9), "has 3 layers, got 9"),
        (graded_corpus, branch(Path("/nowhere/bert")), "/nowhere/bert: no such directory"),
    ):
        error = cli("-m", "train", *HEAD, "-p", "exp", "-o", corpus.overrides(**options), code=1).error
        assert said in error
        assert not Path("exp").exists()


def test_inference_has_no_transcript(cli: Cli, train: Train, graded_corpus: TinyGradedCorpus, bert: Path):
    folder = train(**branch(bert), **{"runner.total_steps": 1, "runner.eval_step": 1})
    audio = graded_corpus.root / "s0_0.wav"
    error = cli("-m", "inference", "-e", folder / "dev-best.ckpt", "-t", audio, code=1).error
    assert "modelrc.lexical: a new file has no transcript" in error


# --- the recipe that ships ---------------------------------------------------------------------------------------


def test_shipped_recipe_says_its_defaults():
    """What ``config.yaml`` writes out is what stands there when it is left out, but for two keys.

    A checkpoint from before ``lexical_join`` lacks it and joined late.
    """
    from s3prl.downstream.emotion_tcgru.expert import ModelSection

    from s3prl_emotion.files.folders import heads_folder

    recipe = yaml.safe_load((heads_folder() / "emotion_tcgru/config.yaml").read_text())
    section = ModelSection.read(recipe["downstream_expert"]["modelrc"], "modelrc")
    differing = {"target_variance", "lexical_join"}
    assert section.model_dump(exclude=differing) == ModelSection().model_dump(exclude=differing)
    assert (section.lexical_join, ModelSection().lexical_join) == ("early", "late")
    assert set(recipe["downstream_expert"]["modelrc"]) == set(ModelSection.model_fields)
