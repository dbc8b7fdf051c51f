"""Several processes, one training: gradients, files and checkpoints are those of one process with the same batch."""

from __future__ import annotations

import atexit
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LAUNCHER, SOURCE, TinyCorpus
from processes import command, joined, suite_command, together
from test_resume import different, outcome_of
from tiny_models import save_tiny_hubert_large
from torch import Tensor, nn

from s3prl_emotion import distributed
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import recipes_folder

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "--device", "cpu")
DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
NO_DROPOUT = {f"{MODEL}.channel_dropout": 0.0}
# Differences stay in proportion: Adam would blow up the rounding of gradients that are 0, such as those of biases.
PLAIN_STEPS = NO_DROPOUT | {
    "optimizer.torch_optim_name": "SGD", "optimizer.momentum": 0.9, "optimizer.lr": 0.1, "runner.save_step": 1,
    "runner.max_keep": 9, "runner.eval_step": 99,
}  # fmt: skip
Train = Callable[..., Path]


def words(corpus: TinyCorpus, folder: str, batch: int = 4, **overrides: object) -> tuple[object, ...]:
    """Command line of a training; ``batch`` utterances in every process."""
    options = {f"{DATA}.train_batch_size": batch, f"{DATA}.pre_load": False} | overrides
    return ("-m", "train", *HEAD, "-p", folder, "-o", corpus.overrides(**options))


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """``train(corpus, world, batch, **overrides)``: train in so many processes (``None``: without torchrun); folder."""

    def call(
        corpus: TinyCorpus, world: int | None, batch: int, *more: object, folder: str = "", **overrides: object
    ) -> Path:
        folder = folder or f"world{world}"
        left = together(tmp_path, world, command, (*words(corpus, folder, batch, **overrides), *more))
        assert [process.value for process in left] == [0] * len(left), left
        return tmp_path / folder

    return call


@pytest.fixture(scope="module")
def uneven_corpus(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The corpus of tones with most of one class left out: 19 utterances to train on, classes unlike in size."""
    with tiny_corpus.labels.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    kept = [row for row in rows if row[1] != "sad" or row[0].endswith("_0.wav")]
    kept = [row for row in kept if row[0] not in ("s2_sad_0.wav", "s5_sad_0.wav", "s4_hap_1.wav")]
    labels = tmp_path_factory.mktemp("uneven") / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    return TinyCorpus(tiny_corpus.root, labels)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- the functions -------------------------------------------------------------------------------------------------


def correlation_loss(rows: Tensor) -> Tensor:
    """Minus the correlation of two columns ``[B, 2]`` over the batch: no mean of losses of parts comes to it."""
    return -torch.corrcoef(rows.T)[0, 1]


def rows_of(rank: int) -> Tensor:
    """Shares of 2, 0 and 3 rows."""
    counts = (2, 0, 3)
    generator = torch.Generator().manual_seed(5)
    return torch.randn(sum(counts), 2, generator=generator, dtype=torch.float64).split(counts)[rank]


def gathers() -> dict[str, Any]:
    own = rows_of(distributed.rank()).clone().requires_grad_()
    whole = distributed.gather_rows(own)
    loss = correlation_loss(whole)
    loss.backward()
    labels = distributed.gather_rows(torch.full((2,), distributed.rank()))
    rank = distributed.rank()
    objects = (distributed.everyones({"rank": rank}), distributed.leaders(f"of {rank}"), distributed.world())
    return {"whole": whole.detach(), "gradient": own.grad, "loss": loss.item(), "labels": labels, "objects": objects}


@pytest.mark.full
def test_rows_are_gathered_and_gradients_flow_to_each_ones_own(tmp_path: Path):
    left = [process.value for process in together(tmp_path, 3, joined, gathers)]
    whole = torch.cat([rows_of(rank) for rank in range(3)]).requires_grad_()
    correlation_loss(whole).backward()
    for value in left:
        torch.testing.assert_close(value["whole"], whole.detach(), rtol=0, atol=0)
        assert value["loss"] == pytest.approx(correlation_loss(whole).item(), rel=1e-12)
        assert value["labels"].tolist() == [0, 0, 1, 1, 2, 2]
        assert value["objects"] == ([{"rank": 0}, {"rank": 1}, {"rank": 2}], "of 0", 3)
    assert [len(value["gradient"]) for value in left] == [2, 0, 3]
    torch.testing.assert_close(torch.cat([value["gradient"] for value in left]), whole.grad, rtol=1e-12, atol=1e-14)


def sums() -> dict[str, Any]:
    rank = distributed.rank()
    names = ("nobody", "one", "all", "half", "matrix", "frozen")
    parameters = {name: nn.Parameter(torch.zeros(2)) for name in names}
    parameters["half"] = nn.Parameter(torch.zeros(2, dtype=torch.float16))
    parameters["matrix"] = nn.Parameter(torch.zeros(2, 3).t())  # as transposed weights: not contiguous
    parameters["frozen"].requires_grad_(False)
    parameters["all"].grad = torch.tensor([1.0, -2.0]) * (rank + 1)
    parameters["half"].grad = torch.tensor([0.5, 3.0], dtype=torch.float16)
    parameters["matrix"].grad = torch.arange(6.0).reshape(3, 2) + 10 * rank
    if rank == 1:
        parameters["one"].grad = torch.tensor([4.0, 5.0])
    distributed.sum_gradients(parameters.values(), 0.5)
    return {name: parameter.grad for name, parameter in parameters.items()}


@pytest.mark.full
def test_gradients_are_summed(tmp_path: Path):
    for process in together(tmp_path, 2, joined, sums):
        gradients = process.value
        assert gradients["nobody"] is None
        assert gradients["frozen"] is None
        assert gradients["one"].tolist() == [2.0, 2.5]
        assert gradients["all"].tolist() == [1.5, -3.0]
        assert gradients["half"].tolist() == [0.5, 3.0]
        assert gradients["half"].dtype == torch.float16
        assert gradients["matrix"].tolist() == [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]


def shares() -> dict[str, Tensor]:
    torch.manual_seed(distributed.rank())
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model.register_buffer("mask", torch.rand(8) > 0.5)
    with torch.no_grad():
        model[0].weight.set_(torch.randn(3, 2).t())
        model[1].running_mean.normal_()
        model[1].num_batches_tracked.fill_(distributed.rank() + 7)
    distributed.share_weights([model])
    return model.state_dict()


@pytest.mark.full
def test_weights_and_buffers_of_the_first_are_shared(tmp_path: Path):
    first, *others = [process.value for process in together(tmp_path, 3, joined, shares)]
    assert different(others, [first, first]) == []
    assert first["1.num_batches_tracked"].item() == 7


def leaves() -> list[str]:
    """What a process that joined others does to end."""
    done: list[str] = []
    atexit.register(done.append, "exit hooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", lambda code: done.append(f"exit {code}"))
        distributed.leave(3)
    return done


@pytest.mark.full
def test_no_thread_of_gloo_can_abort_the_exit(tmp_path: Path):
    assert [process.value for process in together(tmp_path, 2, joined, leaves)] == [["exit hooks", "exit 3"]] * 2


def test_alone_the_functions_do_nothing():
    distributed.leave(3)
    rows = torch.randn(3, 2, requires_grad=True)
    assert distributed.gather_rows(rows) is rows
    parameter = nn.Parameter(torch.ones(2))
    distributed.sum_gradients([parameter], 0.5)
    assert parameter.grad is None
    parameter.grad = torch.ones(2)
    distributed.sum_gradients([parameter], 0.5)
    assert parameter.grad.tolist() == [1.0, 1.0]
    distributed.share_weights([nn.Linear(2, 2)])
    value = object()
    assert distributed.everyones(value) == [value]
    assert distributed.leaders(value) is value
    assert (distributed.rank(), distributed.world()) == (0, 1)


# --- gradients and weights -----------------------------------------------------------------------------------------


def first_gradient(folder: Path) -> list[Tensor]:
    """Gradients of the first step, clipped, as the optimizer remembers them."""
    state = load_checkpoint(folder / "states-1.ckpt")["Optimizer"]["state"]
    return [state[number]["momentum_buffer"] for number in sorted(state)]


def weights(folder: Path, step: int, *entries: str) -> dict[str, Any]:
    state = load_checkpoint(folder / f"states-{step}.ckpt")
    return {
        f"{entry}.{name}": value
        for entry in entries or ("Featurizer", "Downstream")
        for name, value in state[entry].items()
        if isinstance(value, Tensor)
    }


def assert_same_training(one: Path, many: Path, step: int, *entries: str, tolerance: float = 2e-5) -> None:
    """Gradients of the first step and weights of the last agree up to rounding, and something was learnt."""
    gradients = first_gradient(one)
    scale = max(gradient.abs().max().item() for gradient in gradients)
    assert scale > 0
    torch.testing.assert_close(first_gradient(many), gradients, rtol=tolerance, atol=0.1 * tolerance * scale)
    ours, theirs = weights(many, step, *entries), weights(one, step, *entries)
    # a score of little data magnifies the rounding of the weights that it comes of, and more so on some processors
    scores = [found.pop("Downstream.best_score", torch.zeros(1)) for found in (ours, theirs)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize(
    ("world", "batch", "overrides"),
    [
        pytest.param(2, 2, {f"{MODEL}.label_smoothing": 0.0}, id="plain"),
        pytest.param(2, 4, {f"{DATA}.class_weights": "balanced"}, id="smoothed, weighted"),
        pytest.param(
            3,
            2,
            {"runner.ema_decay": 0.6, "downstream_expert.best_metric": "loss", "runner.eval_step": 3},
            id="last batch smaller than processes, averaged weights, picked by loss",
        ),
        pytest.param(
            2, 3, {"runner.gradient_accumulate_steps": 2, f"{DATA}.class_weights": "balanced"}, id="accumulated"
        ),
        pytest.param(2, 3, {f"{DATA}.balanced_sampling": True, f"{MODEL}.pooling": "mean"}, id="balanced, from means"),
    ],
)
def test_training_equals_that_of_one_process(
    train: Train, uneven_corpus: TinyCorpus, world: int, batch: int, overrides: dict[str, Any]
):
    """19 utterances: the last batches of an epoch hold 3, 3, 1, 1 and 1; six steps reach beyond them."""
    options = PLAIN_STEPS | {"runner.total_steps": 6, "runner.log_step": 99} | overrides
    more = ("--statistics", "always") if options.get(f"{MODEL}.pooling") == "mean" else ()
    one = train(uneven_corpus, None, world * batch, *more, **options)
    many = train(uneven_corpus, world, batch, *more, **options)
    assert_same_training(one, many, 6)
    assert load_checkpoint(many / "states-6.ckpt")["Statistics"] == ("means" if more else "frames")
    assert load_checkpoint(one / "states-6.ckpt")["Epoch"] >= 1
    together_size = world * batch
    epoch = [together_size] * (19 // together_size) + [19 % together_size]
    for folder in (one, many):
        assert load_checkpoint(folder / "states-6.ckpt")["Records"]["batch_size"][: len(epoch)] == epoch


@pytest.mark.full
def test_superbs_seeding_from_means(train: Train, superb_corpus: TinyCorpus):
    """Split, initialisation and order are those of one process, and all processes evaluate."""
    more = ("--statistics", "always", "--feature_store", "S")
    options = PLAIN_STEPS | {"runner.seeding": "superb", "runner.total_steps": 8, "runner.log_step": 4}
    options |= {"runner.eval_step": 4, f"{MODEL}.pooling": "mean"}
    one = train(superb_corpus, None, 6, *more, **options)
    many = train(superb_corpus, 2, 3, *more, **options)
    assert_same_training(one, many, 8)
    assert (one / "log.log").read_text() == (many / "log.log").read_text()


class OfTheBatch(nn.Module):
    """A loss over batch statistics: minus the correlation of the true class's logit with its index."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        own = logits.gather(1, target[:, None])[:, 0]
        return correlation_loss(torch.stack([own, target.to(own.dtype)], 1))


def of_the_batch(rank: int) -> None:
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert

    DownstreamExpert.build_loss = lambda self, modelrc: OfTheBatch()


@pytest.mark.full
def test_loss_over_batch_statistics_sees_the_whole_batch(tmp_path: Path, uneven_corpus: TinyCorpus):
    steps = PLAIN_STEPS | {"runner.total_steps": 3}
    for folder, world, batch in (("one", None, 6), ("many", 3, 2)):
        line = words(uneven_corpus, folder, batch, **steps)
        left = together(tmp_path, world, command, line, of_the_batch)
        assert [process.value for process in left] == [0] * len(left), left
    assert_same_training(tmp_path / "one", tmp_path / "many", 3)


AUGMENT = {"speed": {}, "noise": {"source": "pink"}, "babble": {}, "gain": {}, "spec_augment": {}}
LORA = {"upstream.trainable": "lora", "upstream.rank": 2, "upstream.lr": 0.01, f"{DATA}.augment": AUGMENT}


@pytest.mark.full
@pytest.mark.parametrize("section", [{}, LORA], ids=["whole", "lora"])
def test_trainable_upstream(tmp_path: Path, train: Train, uneven_corpus: TinyCorpus, section: dict[str, Any]):
    if section:
        pytest.importorskip("peft")
    calm = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    model = save_tiny_hubert_large(tmp_path / "hubert", apply_spec_augment=False, **dict.fromkeys(calm, 0.0))
    more = ("-u", "hf_speech_custom", "-k", model, "-f")
    steps = PLAIN_STEPS | {"runner.total_steps": 3} | section
    one = train(uneven_corpus, None, 8, *more, **steps)
    many = train(uneven_corpus, 2, 4, *more, **steps)
    assert_same_training(one, many, 3, "Upstream", "Featurizer", "Downstream", tolerance=3e-4)
    before, after = (weights(many, step, "Upstream") for step in (1, 3))
    assert all(".lora_" in name for name in after) == bool(section)
    assert different(before, after)


# --- whole runs ----------------------------------------------------------------------------------------------------


def assert_same_results(one: Path, many: Path) -> None:
    """Files of two runs agree up to rounding, in the same order."""
    assert (many / "log.log").read_text() == (one / "log.log").read_text()
    for split in ("dev", "test"):
        for kind in ("predict.txt", "truth.txt"):
            name = f"{split}_fold1_{kind}"
            assert (many / name).read_text() == (one / name).read_text()
        rows = [table(folder / f"{split}_fold1_predictions.csv") for folder in (one, many)]
        for own, theirs in zip(*rows, strict=True):
            assert own.keys() == theirs.keys()
            for key in own:
                expected = pytest.approx(float(own[key]), abs=1e-4) if key.startswith("p_") else own[key]
                assert (float(theirs[key]) if key.startswith("p_") else theirs[key]) == expected
        ours, theirs = (json.loads((folder / f"{split}_fold1_metrics.json").read_text()) for folder in (one, many))
        numbers = {key: value for key, value in ours.items() if isinstance(value, float)}
        assert {key: theirs[key] for key in numbers} == pytest.approx(numbers, abs=1e-4)
        assert len(numbers) >= 4
        assert [theirs[key] for key in ("step", "checkpoint")] == [ours[key] for key in ("step", "checkpoint")]


@pytest.mark.full
@pytest.mark.parametrize(
    ("world", "batch", "overrides"),
    [
        pytest.param(2, 4, {f"{DATA}.eval_batch_size": 3}, id="batches of evaluation do not divide evenly"),
        pytest.param(3, 2, {f"{DATA}.eval_batch_size": 99}, id="evaluation has fewer batches than processes"),
        pytest.param(2, 4, {"runner.evaluate_ratio": 0.5}, id="evaluation of a part"),
        pytest.param(2, 4, {f"{DATA}.num_workers": 1, f"{DATA}.pre_load": True}, id="workers, preloaded"),
    ],
)
def test_run_equals_that_of_one_process(
    train: Train, tiny_corpus: TinyCorpus, world: int, batch: int, overrides: dict[str, Any]
):
    options = NO_DROPOUT | {"optimizer.lr": 0.03, "runner.eval_step": 1} | overrides
    one = train(tiny_corpus, None, world * batch, **options)
    many = train(tiny_corpus, world, batch, **options)
    assert_same_results(one, many)
    assert load_checkpoint(many / "dev-best.ckpt")["Step"] < 6  # not that of the last weights
    whole = "runner.evaluate_ratio" not in overrides
    assert len({row["FileName"] for row in table(many / "test_fold1_predictions.csv")}) == (16 if whole else 8)


@pytest.mark.full
def test_one_set_of_files(tmp_path: Path, tiny_corpus: TinyCorpus):
    exports = {"downstream_expert.attention_dir": "att"}
    for folder, world in (("one", None), ("many", 2)):
        (tmp_path / folder).mkdir()
        left = together(tmp_path / folder, world, command, words(tiny_corpus, "exp", **exports))
    assert left[0].out.count("written:") == 1
    assert left[1].out.count("written:") == 0
    assert ["overall: 6 of 6 steps" in process.err for process in left] == [True, False]
    kinds = [
        sorted(re.sub(r"\d{4}.*", "", path.name) for path in (tmp_path / folder).rglob("*") if path.is_file())
        for folder in ("one", "many")
    ]
    assert kinds[1] == sorted([*kinds[0], "err.1", "out.1"])
    assert sum(name.startswith("events") for name in kinds[1]) == 1


def watched(rank: int) -> None:
    """Write what the head gives for the same input, before the first step, and the gradients of the process."""
    from s3prl_emotion.experts.base import EmotionExpert

    forward, seen = EmotionExpert.forward, []

    def forward_watched(self: Any, split: str, features: Any, *others: Any, **options: Any) -> Tensor:
        if split == "train" and len(seen) < 2:
            ones = torch.linspace(-1, 1, 10 * features[0].shape[1]).reshape(1, 10, -1)
            seen.append(self.model(ones, torch.tensor([10])).tolist())
            Path(f"seen.{rank}").write_text(json.dumps(seen))
        return forward(self, split, features, *others, **options)

    EmotionExpert.forward = forward_watched


@pytest.mark.full
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_processes_share_weights_but_not_dropout(tmp_path: Path, tiny_corpus: TinyCorpus, dropout: float):
    line = words(tiny_corpus, "exp", **{f"{MODEL}.channel_dropout": dropout, "runner.eval_step": 99})
    together(tmp_path, 2, command, line, watched)
    seen = [np.array(json.loads((tmp_path / f"seen.{rank}").read_text())) for rank in range(2)]
    assert np.array_equal(*seen) == (dropout == 0)
    assert not np.array_equal(seen[0][0], seen[0][1])


@pytest.mark.full
def test_evaluation_mode(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    trained = train(tiny_corpus, None, 4)
    line = ("-m", "evaluate", *HEAD, "-i", trained / "dev-best.ckpt", "-o")
    for folder, world in (("one", None), ("many", 3)):
        for split in ("dev", "test"):
            options = tiny_corpus.overrides(**{f"{DATA}.eval_batch_size": 3})
            left = together(tmp_path, world, command, (*line, options, "-p", folder, "-t", split))
            assert [process.value for process in left] == [0] * len(left), left
    assert_same_results(tmp_path / "one", tmp_path / "many")
    assert sorted(path.name for path in (tmp_path / "many").glob("*predictions.csv")) == [
        "dev_fold1_predictions.csv",
        "test_fold1_predictions.csv",
    ]


@pytest.mark.full
def test_what_was_trained_on_is_known_together(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    kept = [
        load_checkpoint(train(tiny_corpus, world, batch) / "states-6.ckpt")["Seen"]
        for world, batch in ((None, 8), (2, 4))
    ]
    one, many = (seen["corpora"][0] for seen in kept)
    for name in ("train", "dev", "held_out", "speakers"):
        assert torch.equal(one[name], many[name]), name
    assert (many["train"] != 0).all()  # every waveform was read by one of the processes
    other = tmp_path / "other"
    other.mkdir()
    rows = [f"{number}.wav,ang" for number, path in enumerate(sorted(tiny_corpus.root.iterdir()))
            if shutil.copy(path, other / f"{number}.wav")]  # fmt: skip
    (tmp_path / "other.csv").write_text("\n".join(["FileName,EmoClass", *rows]) + "\n")
    tests = {"other": {"labels": str(tmp_path / "other.csv"), "root": str(other)}}
    line = ("-m", "evaluate", "-e", "world2/dev-best.ckpt", "-t", "other", "-i", "world2/dev-best.ckpt")
    options = tiny_corpus.overrides(**{f"{DATA}.extra_tests": tests, f"{DATA}.pre_load": False})
    left = together(tmp_path, 2, command, (*line, "-o", options))
    assert [process.value for process in left] == [1, 1]
    for process in left:
        assert "trained on 32 of its 48 utterances and 0 of its 0 speakers" in process.error


@pytest.mark.full
def test_feature_store_is_shared(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    plain = train(tiny_corpus, 2, 4, folder="plain")
    for name in ("cold", "warm"):
        stored = train(tiny_corpus, 2, 4, "--feature_store", tmp_path / "store", folder=name)
        assert different(outcome_of(str(plain)), outcome_of(str(stored))) == []
    (said,) = together(tmp_path, None, suite_command, ("store", "verify", tmp_path / "store"))
    assert said.value == 0, said.err
    (listed,) = together(tmp_path, None, suite_command, ("store", "ls", tmp_path / "store"))
    assert " 48 " in listed.out, listed.out


@pytest.mark.full
def test_extraction_is_shared(tmp_path: Path, tiny_corpus: TinyCorpus):
    corpus = ("--labels", tiny_corpus.labels, "--root", tiny_corpus.root, "--device", "cpu")
    line = ("extract", "-u", "fbank_no_cmvn", "--feature_store", tmp_path / "store", *corpus)
    left = together(tmp_path, 3, suite_command, line)
    assert [process.value for process in left] == [0, 0, 0], left
    assert ["16 utterances: 16 computed" in process.out for process in left] == [True] * 3, left
    (again,) = together(tmp_path, None, suite_command, line)
    assert "48 utterances: 0 computed" in again.out


# --- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_resumed_run_equals_an_uninterrupted_one(train: Train, tiny_corpus: TinyCorpus):
    """With dropout, whose draws differ between processes, and in the middle of an epoch."""
    options = {"runner.save_step": 2, "runner.eval_step": 4, "runner.log_step": 3, f"{DATA}.num_workers": 1}
    specaug = {"specaug.apply_time_warp": True, "runner.gradient_accumulate_steps": 2}
    whole = train(tiny_corpus, 2, 2, folder="whole", **options, **specaug, **{"runner.total_steps": 8})
    parts = train(tiny_corpus, 2, 2, folder="parts", **options, **specaug, **{"runner.total_steps": 4})
    assert load_checkpoint(parts / "states-4.ckpt")["Batch"] not in (0, 6)
    train(tiny_corpus, 2, 2, "-a", folder="parts", **options, **specaug, **{"runner.total_steps": 8})
    assert different(outcome_of(str(whole)), outcome_of(str(parts))) == []
    generators = load_checkpoint(whole / "states-8.ckpt")["Rng"]
    assert len(generators) == 2
    assert different(*generators)


def _struck(rank: int) -> None:
    """Send the second process alone a signal amid its fifth step."""
    if rank:
        from s3prl_emotion.training.loop import Training

        backward = Training._backward

        def struck(self: Training, *given: Any) -> bool:
            if self.step + 1 == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return backward(self, *given)

        Training._backward = struck  # type: ignore[method-assign]


@pytest.mark.full
def test_processes_end_after_the_same_step(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    options = {"runner.save_step": 8, "runner.eval_step": 4, "runner.total_steps": 8}
    whole = train(tiny_corpus, 2, 2, folder="whole", **options)
    for left in together(tmp_path, 2, command, words(tiny_corpus, "parts", 2, **options), _struck):
        assert left.value == 143, left
        assert "error: ended by SIGTERM; the same command with -a goes on from step 5" in left.error
    assert sorted(path.name for path in (tmp_path / "parts").glob("states-*")) == ["states-5.ckpt"]
    train(tiny_corpus, 2, 2, "-a", folder="parts", **options)
    assert different(outcome_of(str(whole)), outcome_of(str(tmp_path / "parts"))) == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (2, 3, "by torchrun with 2 processes"),
        pytest.param(2, 1, "by torchrun with 2 processes"),
        (2, None, "by torchrun with 2 processes"),
        (None, 2, "without torchrun"),
        (None, 1, "without torchrun"),
        pytest.param(1, None, "by torchrun with 1 process"),
    ],
)
def test_resuming_needs_as_many_processes(
    tmp_path: Path, train: Train, tiny_corpus: TinyCorpus, before: int | None, now: int | None, said: str
):
    short = {"runner.total_steps": 2, "runner.save_step": 2, "runner.eval_step": 99}
    train(tiny_corpus, before, 4, folder="exp", **short)
    files = {path: path.read_bytes() for path in (tmp_path / "exp").iterdir()}
    for left in together(tmp_path, now, command, (*words(tiny_corpus, "exp", **short), "-a")):
        assert left.value == 1
        assert "states-2.ckpt" in left.error
        assert said in left.error
    assert {path: path.read_bytes() for path in (tmp_path / "exp").iterdir()} == files


@pytest.mark.full
def test_checkpoint_of_many_is_evaluated_by_one(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    trained = train(tiny_corpus, 2, 4)
    names = ("test_fold1_predictions.csv", "test_fold1_predict.txt")
    before = [(trained / name).read_text() for name in names]
    for name in names:
        (trained / name).unlink()
    (left,) = together(tmp_path, None, command, ("-m", "evaluate", "-e", trained / "dev-best.ckpt", "--device", "cpu"))
    assert left.value == 0, left.err
    assert [(trained / name).read_text() for name in names] == before


# --- the host's own tasks ------------------------------------------------------------------------------------------


def local_gradients(rank: int) -> None:
    """Write the gradients of this process, before they are combined, and those that the step takes."""
    from s3prl_emotion.training import loop as training

    combine = training.sum_gradients

    def written(parameters: list[nn.Parameter], scale: float = 1.0, asks: bool = False) -> bool:
        before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        ends = combine(parameters, scale, asks)
        after = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        if not Path(f"gradients.{rank}").exists():
            torch.save((before, after), f"gradients.{rank}")
        return ends

    training.sum_gradients = written


@pytest.mark.full
def test_stock_task(tmp_path: Path, superb_corpus: TinyCorpus):
    """Gradients are averaged over processes, as ``DistributedDataParallel`` does for s3prl; one process evaluates."""
    values = {
        f"{DATA}.root": str(superb_corpus.root), f"{DATA}.meta_data": str(superb_corpus.labels),
        "runner.total_steps": 4, "runner.gradient_accumulate_steps": 1, "runner.log_step": 2, "runner.eval_step": 2,
        "runner.save_step": 2,
    }  # fmt: skip
    options = ",,".join(f"config.{key}={value!r}" for key, value in values.items())
    recipe = recipes_folder() / "stock/emotion.yaml"
    line = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion", "-c", recipe, "-p", "exp", "--device", "cpu")
    left = together(tmp_path, 2, command, (*line, "-o", options), local_gradients)
    assert [process.value for process in left] == [0, 0], left
    one, two = (torch.load(tmp_path / f"gradients.{rank}", weights_only=True) for rank in range(2))
    assert different(one[0], two[0])  # each had its own utterances
    mean = [(own + other) / 2 for own, other in zip(one[0], two[0], strict=True)]
    torch.testing.assert_close(one[1], mean, rtol=1e-6, atol=1e-8)
    assert different(one[1], two[1]) == []
    lines = (tmp_path / "exp/log.log").read_text().splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("New best")] == [
        f"{split} at step {step}" for step in (2, 4) for split in ("train", "dev", "test")
    ]
    assert len((tmp_path / "exp/test_fold1_predict.txt").read_text().splitlines()) == 24
    more = (*line, "-a", "-o", "config.runner.total_steps=6,,config.runner.save_step=6,,config.runner.eval_step=6")
    left = together(tmp_path, 2, command, more)
    assert [process.value for process in left] == [0, 0], left
    assert load_checkpoint(tmp_path / "exp/states-6.ckpt")["WorldSize"] == 2
    evaluation = ("-m", "evaluate", "-e", tmp_path / "exp/states-6.ckpt", "--device", "cpu")
    assert [process.value for process in together(tmp_path, 2, command, evaluation)] == [0, 0]


# --- what is refused -----------------------------------------------------------------------------------------------


def refused(folder: Path, line: tuple[object, ...], **environment: str) -> str:
    """The error line of the first of two processes, which does not get as far as waiting for the other."""
    (left,) = together(folder, 2, command, line, ranks=[0], **environment)
    assert left.value == 1
    assert not (folder / "exp").exists()
    return left.error


@pytest.mark.full
def test_what_is_for_one_process_only(tmp_path: Path, tiny_corpus: TinyCorpus):
    line = words(tiny_corpus, "exp", **{"runner.seeding": "superb"})
    assert "runner.seeding superb" in refused(tmp_path, line)
    audio = tiny_corpus.root / "s0_ang_0.wav"
    assert "-m inference" in refused(tmp_path, ("-m", "inference", *HEAD, "-p", "exp", "-t", audio))
    line = words(tiny_corpus, "exp")
    assert "--backend nccl" in refused(tmp_path, (*line, "--backend", "nccl"))


@pytest.mark.full
def test_local_rank_without_torchrun(tmp_path: Path, tiny_corpus: TinyCorpus):
    (left,) = together(tmp_path, None, command, (*words(tiny_corpus, "exp"), "--local_rank", 0))
    assert left.value == 1
    assert "--local_rank" in left.error
    assert "torchrun" in left.error
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("device", "processes", "said"),
    [("cuda:1", 1, "--device cuda:1: torchrun gives each process"), ("cuda", 99, "--nproc_per_node 99: there are")],
)
def test_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch, device: str, processes: int, said: str):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "RANK": 0, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with pytest.raises(UsageError, match=said):
        distributed.join(Namespace(device=device, mode="train", backend="nccl", local_rank=None), [])


# --- processes that fail -------------------------------------------------------------------------------------------


@pytest.mark.full
def test_bad_audio_in_one_process(tmp_path: Path, own_tiny_corpus: TinyCorpus):
    (own_tiny_corpus.root / "s3_ang_0.wav").write_bytes(b"RIFF, but then nothing")
    left = together(tmp_path, 2, command, words(own_tiny_corpus, "exp"))
    assert [process.value for process in left] == [1, 1]
    errors = sorted((process.error for process in left), key=lambda error: "s3_ang_0" in error)
    assert "another process of this training ended" in errors[0]
    assert "unreadable" in errors[1]


def without_weights(rank: int) -> None:
    """The first process fails in its upstream, for which the others wait."""
    from s3prl_emotion.training.runner import ConfigError, Runner

    build = Runner._get_upstream

    def failing(self: Any) -> Any:
        if rank == 0:
            raise ConfigError("no such weights")
        return build(self)

    Runner._get_upstream = failing


@pytest.mark.full
def test_upstream_that_fails_in_the_first_process(tmp_path: Path, tiny_corpus: TinyCorpus):
    left = together(tmp_path, 2, command, words(tiny_corpus, "exp"), without_weights)
    assert [process.value for process in left] == [1, 1]
    assert "no such weights" in left[0].error
    assert "another process of this training ended" in left[1].error
    assert not (tmp_path / "exp").exists()


# --- s3prl's own script --------------------------------------------------------------------------------------------


def labels_of_an_epoch(corpus: TinyCorpus) -> list[list[int]]:
    """Labels of this process's batches as s3prl's own runner gets them; it cannot leave any out of the loss."""
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert

    data = {"root": str(corpus.root), "labels": str(corpus.labels), "train_batch_size": 3, "eval_batch_size": 3}
    expert = DownstreamExpert(8, 160, {"datarc": data | {"pre_load": False}, "modelrc": {}}, "exp", mode="train")
    return [labels for _, labels, _ in expert.get_dataloader("train", epoch=1)]


@pytest.mark.full
def test_under_s3prls_own_script_no_utterance_is_a_stand_in(tmp_path: Path, uneven_corpus: TinyCorpus):
    left = [process.value for process in together(tmp_path, 2, joined, labels_of_an_epoch, uneven_corpus)]
    assert [[len(labels) for labels in batches] for batches in left] == [[3, 3, 3, 1]] * 2
    assert left[0][-1] == left[1][-1]
    assert min(label for batches in left for labels in batches for label in labels) == 0


# --- torchrun itself -----------------------------------------------------------------------------------------------


def torchrun(*line: object) -> list[str]:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # torchrun takes a script or, with -m, a module
    return [sys.executable, *start, *LAUNCHER, *(str(word) for word in line)]


def begin(folder: Path, *line: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        torchrun(*line), cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.full
def test_torchrun(tmp_path: Path, train: Train, tiny_corpus: TinyCorpus):
    """A killed process ends its training; resumed, it comes to the same end as one that was not killed."""
    options = {"runner.total_steps": 60, "runner.save_step": 3, "runner.eval_step": 20}
    whole = train(tiny_corpus, 2, 4, folder="whole", **options)
    line = words(tiny_corpus, "parts", 4, **options)
    process = begin(tmp_path, *line)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("parts/states-*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        (victim,) = (
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if is_second_of(path, process.pid)
        )
        os.kill(victim, signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0, said
    (state,) = tmp_path.glob("parts/states-*.ckpt")
    assert load_checkpoint(state)["Step"] < 60
    process = begin(tmp_path, *line, "-a")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert different(outcome_of(str(whole)), outcome_of(str(tmp_path / "parts"))) == []


def is_second_of(environ: Path, parent: int) -> bool:
    """Whether a process is the second that a torchrun of ours started; its data loaders are not."""
    try:
        stat = (environ.parent / "stat").read_text()
        return int(stat.rpartition(")")[2].split()[1]) == parent and b"\0RANK=1\0" in environ.read_bytes()
    except OSError:
        return False


@pytest.mark.full
def test_bad_audio_in_one_process_ends_all(tmp_path: Path, own_tiny_corpus: TinyCorpus):
    for path in own_tiny_corpus.root.glob("s3_ang_*.wav"):
        path.write_bytes(b"RIFF, but then nothing")
    begun = time.monotonic()
    process = begin(tmp_path, *words(own_tiny_corpus, "exp", 2))
    try:
        said, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode != 0
    lines = [line for line in said.splitlines() if "run_downstream.py: error:" in line]
    assert any("s3_ang_" in line and "unreadable" in line for line in lines), said
    assert time.monotonic() - begun < 60
