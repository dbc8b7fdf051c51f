"""``--statistics``: training, evaluation and prediction from utterances' means in place of their frames."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus
from store_tools import FAKES, source_of, speech
from torch import Tensor

import s3prl_emotion.cli
from s3prl_emotion.errors import StoreError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.loading import means as means_module
from s3prl_emotion.loading.means import MeansDataset, joined
from s3prl_emotion.masking import pad_features
from s3prl_emotion.rng import draws_part_by_part
from s3prl_emotion.store import upkeep
from s3prl_emotion.training import loop
from s3prl_emotion.training.statistics import check_statistics, reads_means
from s3prl_emotion.upstreams.source import UpstreamSource

NAMES = [f"{number}.wav" for number in range(6)]
MEAN = "config.downstream_expert.modelrc.pooling='mean'"


class Speech:
    """The part of a dataset of utterances that means are read through."""

    def __init__(self) -> None:
        self.utterances = [SimpleNamespace(name=name, label=number % 4) for number, name in enumerate(NAMES)]
        self.waveforms: list[Any] | None = None
        self.read: list[int] = []
        self.hashes = torch.zeros(len(NAMES), dtype=torch.int64)

    def __getitem__(self, index: int) -> tuple[Any, int, str]:
        self.read.append(index)
        return speech()[index].numpy(), self.utterances[index].label, NAMES[index]


def model_of(projector_dim: int | None, dropout: float) -> torch.nn.Module:
    from s3prl.downstream.emotion_corr_attn.model import CorrAttnModel

    torch.manual_seed(0)
    return CorrAttnModel(6, 4, "mean", projector_dim, channel_dropout=dropout).train()


def step_of(source: UpstreamSource, model: torch.nn.Module, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a batch, and its gradients in the layers' weights and in the head."""
    torch.manual_seed(1)
    loss = torch.nn.functional.cross_entropy(model(*pad_features(features, NAMES)), torch.arange(6) % 4)
    return loss, list(torch.autograd.grad(loss, [source.featurizer.weights, *model.parameters()]))


@pytest.mark.parametrize(
    ("projector_dim", "dropout", "normalize"), [(8, 0.0, False), (8, 0.25, False), (None, 0.25, False), (8, 0.25, True)]
)
def test_a_step_has_the_loss_and_gradients_of_frames(projector_dim: int | None, dropout: float, normalize: bool):
    source = source_of(None)
    source.featurizer.normalize = normalize
    with torch.no_grad():
        source.featurizer.weights.copy_(torch.tensor([0.3, -0.2, 0.9, 0.1]))
    model = model_of(projector_dim, dropout)
    frames = step_of(source, model, source.featurizer.weigh_batch(list(source.stacks(speech()))))
    means = step_of(source, model, source.featurizer.weigh_means(torch.stack(list(source.means(speech())))))
    torch.testing.assert_close(means[0], frames[0], rtol=1e-5, atol=0)
    for mine, theirs in zip(means[1], frames[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def test_batches_computed_together_draw_what_they_drew_apart():
    """SUPERB's 4 x 8 utterances in one forward pass give the same dropout as eight of 4."""
    dropout = torch.nn.Dropout1d(0.25)
    torch.manual_seed(2)
    apart = torch.cat([dropout(torch.ones(4, 256, 7))[..., :1] for _ in range(8)])
    torch.manual_seed(2)
    assert torch.equal(dropout(torch.ones(32, 256, 1)), apart) == draws_part_by_part(torch.device("cpu"))


@pytest.mark.parametrize(
    ("dropout", "part_by_part", "joins"), [(0.25, True, True), (0.25, False, False), (0.0, False, True)]
)
def test_batches_are_computed_together_only_where_that_draws_the_same(
    dropout: float, part_by_part: bool, joins: bool, monkeypatch: pytest.MonkeyPatch
):
    """CUDA, and CPUs under torch 2.4, draw other numbers for a whole tensor than for its parts."""
    expert = model_of(8, dropout)
    expert.joins_batches = True  # type: ignore[assignment]
    monkeypatch.setattr(loop, "draws_part_by_part", lambda device: part_by_part)
    runner = SimpleNamespace(reads_means=True, downstream=SimpleNamespace(model=expert), device=torch.device("cpu"))
    training: Any = SimpleNamespace(runner=runner, accumulate=4)
    assert loop.Training._may_join(training) is joins


# --- the means of a split ---------------------------------------------------------------------------------------------


def test_audio_is_read_once_and_means_stay_in_memory(tmp_path: Path):
    dataset = Speech()
    means = MeansDataset(dataset, source_of(tmp_path), "train")  # type: ignore[arg-type]
    batch, labels, names = means.collate([4, 1, ~2])
    assert (labels, names) == ([0, 1, -1], ["4.wav", "1.wav", "2.wav"])
    expected = torch.stack(list(source_of(None).means(speech())))
    assert torch.equal(batch.rows(), expected[[4, 1, 2]])
    assert torch.equal(means.rows([0, 1, 1, 5]), expected[[0, 1, 1, 5]])
    assert sorted(dataset.read) == [0, 1, 2, 4, 5]
    read = MeansDataset(dataset, source_of(tmp_path), "dev", pre_load=True)  # type: ignore[arg-type]
    dataset.read.clear()
    assert torch.equal(read.rows([5, 0]), expected[[5, 0]])
    assert not dataset.read
    both, others, options = joined([(0, batch, [labels, names]), (1, *_split(means.collate([3])))])
    assert torch.equal(both.rows(), expected[[4, 1, 2, 3]])
    assert (others[1], options) == ([*names, "3.wav"], {"sizes": [3, 1]})


def _split(batch: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    return batch[0], list(batch[1:])


def test_means_that_do_not_fit_into_memory_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(means_module, "free_memory", lambda device: 100)
    monkeypatch.setattr(means_module, "_warned", set())
    source, dataset = source_of(tmp_path), Speech()
    for split in ("train", "dev"):
        means = MeansDataset(dataset, source, split)  # type: ignore[arg-type]
        assert means.table is None
    expected = torch.stack(list(source_of(None).means(speech())))
    assert torch.equal(means.rows([2, 3]), expected[[2, 3]])
    assert torch.equal(means.rows([3, 4]), expected[[3, 4]])
    assert sorted(dataset.read) == [2, 3, 4]
    (warning,) = [record.getMessage() for record in caplog.records if "that are free" in record.getMessage()]
    assert "the means of split train take" in warning
    assert "are read from the store for each batch" in warning


# --- what is refused --------------------------------------------------------------------------------------------------


def run_of(source: UpstreamSource, wish: str, **changes: Any) -> tuple[Any, Any]:
    """Return a stand-in for a runner and its head, which reads means."""
    store = None if source.store is None else str(source.store.root)
    args = Namespace(
        statistics=wish, feature_store=store, upstream="fake_layers", upstream_ckpt=None, upstream_model_config=None,
        upstream_feature_selection="hidden_states", upstream_layer_selection=None, store_dtype="float32",
        upstream_feature_normalize=changes.pop("normalize", False), mode=changes.pop("mode", "train"),
    )  # fmt: skip
    data = SimpleNamespace(labels="labels.csv", root="wav")
    expert = SimpleNamespace(features_read=changes.pop("reads", "means"), head="emotion_tcgru", data=data)
    runner = SimpleNamespace(
        args=args, config={}, source=source, init_ckpt={}, host_order=False, is_suite=True,
        upstream=SimpleNamespace(trainable=False),
    )  # fmt: skip
    vars(runner).update(changes)
    return runner, expert


@pytest.mark.parametrize(
    ("downstream", "trainable", "config", "message"),
    [
        ("emotion", False, {}, "-d emotion is a stock task, which reads frames"),
        ("emotion_corr_attn", True, {}, r"a trained upstream \(-f\) changes with every step"),
        ("emotion_corr_attn", False, {"specaug": {"apply": True}}, "the recipe's specaug masks frames"),
    ],
)
def test_always_is_refused_where_frames_are_needed(downstream: str, trainable: bool, config: dict, message: str):
    effective = Namespace(downstream=downstream, upstream_trainable=trainable)
    with pytest.raises(UsageError, match=f"--statistics always: {message}"):
        check_statistics(Namespace(statistics="always"), effective, config)
    check_statistics(Namespace(statistics="auto"), effective, config)


def test_a_head_that_reads_frames_cannot_be_given_means(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = source_of(tmp_path)
    source.keeps = "means"
    source.save(b"k" * 16, source.compute(speech()[0]), len(speech()[0]))
    source.close()
    with pytest.raises(UsageError, match="-d emotion_tcgru as its recipe sets it reads frames; leave the flag out"):
        reads_means(*run_of(source_of(tmp_path), "always", reads="frames"))
    assert not reads_means(*run_of(source_of(tmp_path), "auto", reads="frames"))
    assert "holds means alone; emotion_tcgru reads frames, which are computed and stored" in caplog.text


def test_means_are_read_by_themselves_with_a_store(tmp_path: Path):
    assert not reads_means(*run_of(source_of(None), "auto"))
    assert reads_means(*run_of(source_of(None), "always"))
    assert reads_means(*run_of(source_of(None), "auto", init_ckpt={"Statistics": "means"}))  # as it was trained
    assert not reads_means(*run_of(source_of(tmp_path), "auto", init_ckpt={"Statistics": "frames"}))  # likewise
    evaluation = run_of(source_of(tmp_path), "auto", mode="evaluate", init_ckpt={"Statistics": "frames"})
    assert reads_means(*evaluation)
    runner, expert = run_of(source_of(tmp_path), "auto")
    assert reads_means(runner, expert)
    assert runner.source.keeps == "means"  # no frames are stored yet
    assert not reads_means(*run_of(source_of(tmp_path), "never"))
    assert not reads_means(*run_of(source_of(tmp_path), "auto", host_order=True))
    assert reads_means(*run_of(source_of(tmp_path), "always", host_order=True))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_read_only_store_of_frames_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normalize: bool
):
    filled = source_of(tmp_path)
    list(filled.stacks(speech()))
    filled.close()
    if not normalize:  # means of another normalisation are there, and of no use
        for folder in tmp_path.glob("*/means"):
            folder.rename(folder.with_name("means-normalised"))
    monkeypatch.setattr("s3prl_emotion.store.store.os.access", lambda *_: False)
    source = source_of(tmp_path)
    source.featurizer.normalize = normalize
    assert not reads_means(*run_of(source, "auto", normalize=normalize))
    command = (
        rf"s3prl-emotion extract -u fake_layers --feature_store {tmp_path} --labels labels\.csv --root wav --keep means"
        f"{' --upstream_feature_normalize' if normalize else ''}$"
    )
    with pytest.raises(StoreError, match=f"is read-only and holds no means.* where it can be written, run: {command}"):
        reads_means(*run_of(source, "always", normalize=normalize))


# --- runs -------------------------------------------------------------------------------------------------------------


def train(cli: Cli, corpus: TinyCorpus, folder: str, *words: object, **overrides: object) -> dict[str, Any]:
    """Train with mean pooling; return the metrics of the test split, rounded as they are printed."""
    options = f"{corpus.overrides(**overrides)},,{MEAN}"
    upstream = ("-u", "fake_layers", "--upstream_path", FAKES, "--device", "cpu")
    cli("-m", "train", "-d", "emotion_corr_attn", "-p", folder, *upstream, "-o", options, *words)
    return metrics_of(folder)


def metrics_of(folder: str, split: str = "test_fold1") -> dict[str, Any]:
    metrics = json.loads(Path(folder, f"{split}_metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name in ("statistics", "WA", "UAR", "macro_F1", "step")}


@pytest.mark.full
def test_a_run_from_means_scores_as_one_from_frames(cli: Cli, tiny_corpus: TinyCorpus):
    frames = train(cli, tiny_corpus, "frames", "--feature_store", "S", "--statistics", "never")
    means = train(cli, tiny_corpus, "means", "--feature_store", "S2")
    assert (frames.pop("statistics"), means.pop("statistics")) == ("frames", "means")
    assert means == pytest.approx(frames, abs=1e-4)
    one, other = (load_checkpoint(f"{folder}/dev-best.ckpt")["Downstream"] for folder in ("frames", "means"))
    for name, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    assert not list(Path("S2").glob("*/*.features"))  # a run that needs means alone writes no frames
    assert upkeep.collections(Path("S2"))[0].means["means"] == 48


@pytest.mark.full
def test_later_uses_of_a_checkpoint_read_what_its_training_read(cli: Cli, tiny_corpus: TinyCorpus):
    """Resuming, evaluation and prediction; the resumed run equals the whole one to the bit."""
    upstream = ("-u", "fake_layers", "--upstream_path", FAKES, "--device", "cpu")
    whole = train(cli, tiny_corpus, "whole", "--feature_store", "S")
    train(cli, tiny_corpus, "parts", "--feature_store", "S", **{"runner.total_steps": 3})
    cli("-m", "train", "-e", "parts", *upstream, "-o", "config.runner.total_steps=6")
    assert metrics_of("parts") == whole
    first, second = (load_checkpoint(f"{folder}/states-6.ckpt") for folder in ("whole", "parts"))
    assert (first["Statistics"], second["Statistics"]) == ("means", "means")
    for name, value in first["Downstream"].items():
        assert not isinstance(value, Tensor) or torch.equal(value, second["Downstream"][name])
    predictions = Path("whole/test_fold1_predictions.csv").read_text()
    cli("-m", "evaluate", "-e", "whole/dev-best.ckpt", "-t", "test", *upstream)
    assert metrics_of("whole") == whole
    assert Path("whole/test_fold1_predictions.csv").read_text() == predictions
    flags = ["--ckpt", "whole", "--upstream_path", FAKES, "--device", "cpu", "--out", "p.csv"]
    words = ["predict", *flags, tiny_corpus.root]
    assert s3prl_emotion.cli.main([str(word) for word in words]) == 0
    with open("p.csv") as file, open("whole/test_fold1_predictions.csv") as truth:
        predicted = {Path(row["FileName"]).name: float(row["p_hap"]) for row in csv.DictReader(file)}
        for row in csv.DictReader(truth):
            assert predicted[row["FileName"]] == pytest.approx(float(row["p_hap"]), abs=1e-6)


@pytest.mark.full
def test_superbs_batches_are_computed_together(cli: Cli, superb_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    """One forward pass for the accumulated batches gives the losses, weights and draws of one for each."""
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert

    options = {"runner.seeding": "superb", "runner.gradient_accumulate_steps": 4}
    options |= {"downstream_expert.datarc.train_batch_size": 2, "downstream_expert.modelrc.channel_dropout": 0.25}
    together = train(cli, superb_corpus, "together", "--statistics", "always", "--feature_store", "S", **options)
    monkeypatch.setattr(DownstreamExpert, "joins_batches", False)
    apart = train(cli, superb_corpus, "apart", "--statistics", "always", **options)
    assert together == apart
    assert together["statistics"] == "means"
    one, other = (load_checkpoint(f"{folder}/states-6.ckpt")["Downstream"] for folder in ("together", "apart"))
    for name, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)
    assert Path("together/log.log").read_text() == Path("apart/log.log").read_text()
