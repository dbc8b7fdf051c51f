"""Options that are off by default: class losses, schedules that end with the run, ``best_metric: loss``, averages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Cli, TinyCorpus
from torch import nn
from torch.nn import functional

from s3prl_emotion import host
from s3prl_emotion.benchmark.search import choose
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.base import OF_BATCHES, EmotionExpert
from s3prl_emotion.files.checkpoint import load_checkpoint, save_checkpoint
from s3prl_emotion.files.folders import heads_folder
from s3prl_emotion.training.loop import Training

DATA = "downstream_expert.datarc"
HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")


def train(cli: Cli, corpus: TinyCorpus, folder: str = "exp", *words: str, code: int = 0, **overrides: object) -> Any:
    return cli("-m", "train", *HEAD, "-p", folder, "-o", corpus.overrides(**overrides), *words, code=code)


# --- learning-rate schedule ----------------------------------------------------------------------------------------


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each step."""
    seen: list[float] = []
    step = Training._step

    def spy(self: Training) -> None:
        seen.append(self.optimizer.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(Training, "_step", spy)
    return seen


def test_schedule_ends_at_the_last_step_of_the_epochs(cli: Cli, tiny_corpus: TinyCorpus, rates: list[float]):
    """Two epochs of six batches, of which a quarter warms up, whatever ``total_steps`` allows."""
    train(cli, tiny_corpus, **{
        "runner.epochs": 2, "runner.total_steps": 1000, "runner.eval_step": 1000, "optimizer.lr": 0.1,
        "scheduler.name": "linear_schedule_with_warmup", "scheduler.warmup_ratio": 0.25,
    })  # fmt: skip
    rising, falling = np.arange(3) / 3, (12 - np.arange(3, 12)) / 9
    assert rates == pytest.approx([*(0.1 * rising), *(0.1 * falling)])
    after = load_checkpoint("exp/states-12.ckpt")["Scheduler"]["_last_lr"]
    assert after == [0.0]  # of the step that would come next


def test_warm_up_longer_than_the_run_is_warned_of(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    train(cli, tiny_corpus, **{
        "runner.total_steps": 1, "scheduler.name": "cosine_schedule_with_warmup", "scheduler.num_warmup_steps": 5,
    })  # fmt: skip
    assert "num_warmup_steps: 5, but the run has 1 steps" in caplog.text


def test_weight_decay_that_s3prl_would_drop_is_refused(cli: Cli, tiny_corpus: TinyCorpus):
    outcome = train(cli, tiny_corpus, code=1, **{"optimizer.name": "AdamW", "optimizer.weight_decay": 0.1})
    assert "optimizer.weight_decay: s3prl's AdamW reads lr alone; set optimizer.name: TorchOptim" in outcome.error


# --- best_metric: loss ---------------------------------------------------------------------------------------------


def test_lowest_loss_of_dev_picks_the_checkpoint_and_ends_training(cli: Cli, tiny_corpus: TinyCorpus):
    """With a learning rate far too high, dev's loss rises from the first evaluation on."""
    options = {"downstream_expert.best_metric": "loss", "runner.eval_step": 1, "runner.total_steps": 9,
               "runner.early_stopping": 2, "optimizer.lr": 0.3}  # fmt: skip
    train(cli, tiny_corpus, **options)
    lines = [line for line in Path("exp/log.log").read_text().splitlines() if line.startswith("New best on dev")]
    losses = [float(line.rpartition(" ")[2]) for line in lines]
    assert losses == sorted(losses, reverse=True)
    assert min(losses) > 0
    best = load_checkpoint("exp/dev-best.ckpt")
    assert best["Downstream"]["best_score"].item() == pytest.approx(-losses[-1])
    assert best["Step"] < 9


def test_loss_is_that_of_the_whole_split():
    """Weighted cross-entropy divides by the sum of the weights, so batches of other classes weigh otherwise."""
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(7, 3, generator=generator), torch.tensor([0, 0, 0, 1, 2, 1, 0])
    objective = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 0.8, 2.0]))
    parts = [(logits[part], targets[part]) for part in (slice(0, 4), slice(4, 6), slice(6, 7))]
    records = {
        OF_BATCHES: parts,
        "loss": [objective(*part).item() for part in parts],
        "batch_size": [len(part[1]) for part in parts],
    }
    weight = np.array([0.2, 0.8, 2.0])[targets]
    each = -functional.log_softmax(logits.double(), dim=1)[torch.arange(7), targets].numpy()
    expected = pytest.approx((weight * each).sum() / weight.sum())
    head = SimpleNamespace(objective=objective, best_metric="loss", best_score=torch.zeros(1))
    assert EmotionExpert.split_loss(head, records) == expected  # type: ignore[arg-type]
    head.best_metric = "UAR"
    assert EmotionExpert.split_loss(head, records) != expected  # type: ignore[arg-type]


def test_search_takes_the_rate_with_the_lowest_loss():
    trials = [SimpleNamespace(cell=SimpleNamespace(id=str(rate), rate=rate)) for rate in (0.1, 0.01, 0.001)]
    losses = {"0.1": 2.0, "0.01": 0.5, "0.001": 0.5}
    lines = {name: {"splits": {"dev": {"metrics": {"loss": loss}}}} for name, loss in losses.items()}
    assert choose(trials, lines, "loss").rate == 0.001  # type: ignore[arg-type]


def test_loss_that_changes_its_weights_picks_no_checkpoint(cli: Cli, tiny_corpus: TinyCorpus):
    error = cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_latent", "-p", "exp", "-o",
                f"config.{DATA}.labels={str(tiny_corpus.labels)!r},,config.{DATA}.root={str(tiny_corpus.root)!r},,"
                "config.downstream_expert.best_metric=loss,,config.downstream_expert.modelrc.method=vae_annealed",
                code=1).error  # fmt: skip
    assert "best_metric: loss: with modelrc.method vae_annealed the loss changes its weights" in error


# --- losses of classes ---------------------------------------------------------------------------------------------

LOSS = "downstream_expert.class_loss"
SMOOTHING = "downstream_expert.modelrc.label_smoothing"


def test_counts_of_the_training_split_are_kept_in_the_checkpoint(cli: Cli, own_tiny_corpus: TinyCorpus):
    """Predictions need no labels, and an evaluation uses the counts of the training, whatever its own labels are."""
    lines = own_tiny_corpus.labels.read_text().splitlines()
    fewer = [line for line in lines if not re.match(r"s[2-5]_sad_0", line)]  # train on half as many sad utterances
    own_tiny_corpus.labels.write_text("\n".join(fewer) + "\n")
    train(cli, own_tiny_corpus, **{LOSS: {"name": "logit_adjusted", "tau": 0.5}, SMOOTHING: 0})
    state = load_checkpoint("exp/dev-best.ckpt")
    kept = state["Config"]["downstream_expert"]["class_loss"]
    assert kept == {"name": "logit_adjusted", "tau": 0.5, "counts": [6.0, 6.0, 6.0, 3.0]}
    assert not [name for name in state["Downstream"] if name.startswith("objective")]
    own_tiny_corpus.labels.write_text("\n".join(lines) + "\n")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "dev", "--allow_seen")
    again = json.loads(Path("exp/dev_fold1_metrics.json").read_text())
    assert again["config"]["downstream_expert"]["class_loss"] == kept


@pytest.mark.parametrize(
    ("head", "overrides", "said"),
    [
        ("emotion_tcgru", {LOSS: "focal"}, "class_loss: emotion_tcgru has cross_entropy, got focal"),
        ("emotion_latent", {LOSS: "balanced"}, "class_loss: emotion_latent has cross_entropy, got balanced"),
        (
            "emotion_multitask", {LOSS: "focal"},
            "class_loss: emotion_multitask has cross_entropy, balanced, logit_adjusted, got focal",
        ),
        ("emotion_multitask", {LOSS: "balanced"}, "cat_loss: ccc is not; set modelrc.cat_loss: soft_ce"),
        ("emotion_corr_attn", {LOSS: "focal"}, "focal has no meaning with smoothed labels; set modelrc.label"),
        (
            "emotion_acnn", {LOSS: "balanced", f"{DATA}.class_weights": "effective"},
            "balanced corrects for imbalance, and so does datarc.class_weights; leave one out",
        ),
        (
            "emotion_acnn", {LOSS: "logit_adjusted", f"{DATA}.balanced_sampling": True},
            "logit_adjusted corrects for imbalance, and so does datarc.balanced_sampling",
        ),
    ],
)  # fmt: skip
def test_losses_that_a_head_or_recipe_does_not_go_with(head: str, overrides: dict[str, object], said: str):
    recipe = yaml.safe_load((heads_folder() / head / "config.yaml").read_text())
    for key, value in overrides.items():
        section = recipe
        *above, last = key.split(".")
        for name in above:
            section = section[name]
        section[last] = value
    expert = host.expert_class(head)
    with pytest.raises(ConfigError, match=re.escape(said)):
        expert.read_section(recipe["downstream_expert"], None, recipe["runner"])


def test_class_without_training_utterances_cannot_be_adjusted(cli: Cli, own_tiny_corpus: TinyCorpus):
    lines = own_tiny_corpus.labels.read_text().splitlines()
    own_tiny_corpus.labels.write_text("\n".join(line for line in lines if not re.match(r"s[2-5]_sad", line)) + "\n")
    error = train(cli, own_tiny_corpus, code=1, **{LOSS: "balanced", SMOOTHING: 0}).error
    assert "class_loss: balanced needs utterances of every class, but train has none of sad" in error


# --- exponential moving average ------------------------------------------------------------------------------------


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """The trained weights after each step, in float64."""
    seen: list[dict[str, np.ndarray]] = []
    update = Training._update

    def spy(self: Training) -> None:
        update(self)
        head = self.runner.downstream.model
        seen.append({name: item.detach().double().numpy().copy() for name, item in head.named_parameters()})

    monkeypatch.setattr(Training, "_update", spy)
    return seen


def test_averages_follow_the_recursion(cli: Cli, tiny_corpus: TinyCorpus, weights: list[dict[str, np.ndarray]]):
    """The mean of the weights so far, then with a decay of 0.75, from the fifth step on, the moving average."""
    train(cli, tiny_corpus, "plain", **{"runner.total_steps": 9})
    plain = [dict(item) for item in weights]
    weights.clear()
    options = {"runner.total_steps": 9, "runner.ema_decay": 0.75, "runner.early_stopping": 9}
    train(cli, tiny_corpus, **options)
    for one, other in zip(plain, weights, strict=True):  # it does not change the training
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for name in ("states-9.ckpt", "dev-best.ckpt"):
        state = load_checkpoint(f"exp/{name}")
        expected: dict[str, np.ndarray] = {}
        for step, now in enumerate(weights[: state["Step"]], start=1):
            for key, value in now.items():
                if step == 1:
                    expected[key] = value
                elif step <= 4:
                    expected[key] = np.mean([item[key] for item in weights[:step]], axis=0)
                else:
                    expected[key] = 0.75 * expected[key] + 0.25 * value
        for key, value in expected.items():
            np.testing.assert_allclose(state["Downstream"][key].double().numpy(), value, rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(
                state["Unaveraged"][f"Downstream.{key}"].double().numpy(), weights[state["Step"] - 1][key]
            )
    assert "Unaveraged" not in load_checkpoint("plain/states-9.ckpt")


def test_averages_are_what_is_evaluated(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, **{"runner.ema_decay": 0.5, "runner.total_steps": 3, "optimizer.lr": 0.05})
    scored = Path("exp/dev_fold1_predictions.csv").read_text()
    cli("-m", "evaluate", "-e", "exp/states-3.ckpt", "-t", "dev")
    assert Path("exp/dev_fold1_predictions.csv").read_text() == scored
    state = load_checkpoint("exp/states-3.ckpt")
    del state["Unaveraged"]
    save_checkpoint(state, Path("exp/states-3.ckpt"))
    cli("-m", "evaluate", "-e", "exp/states-3.ckpt", "-t", "dev")
    assert Path("exp/dev_fold1_predictions.csv").read_text() == scored


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"runner.ema_decay": 1.0}, "runner.ema_decay: Input should be less than 1, got 1.0"),
        ({"runner.ema_decay": 0.0}, "runner.ema_decay: Input should be greater than 0, got 0.0"),
        ({"runner.ema_decay": 0.9, "runner.seeding": "superb"}, "runner.ema_decay: of heads of this suite with"),
        ({"scheduler.name": "linear_schedule_with_warmup", "scheduler.warmup_ratio": 1.5},
         "scheduler.warmup_ratio: a share of the steps, at least 0 and below 1, got 1.5"),
        ({"scheduler.name": "linear_schedule_with_warmup", "scheduler.warmup_ratio": 0.1,
          "scheduler.num_warmup_steps": 3}, "scheduler.warmup_ratio: does not go with num_warmup_steps"),
    ],
)  # fmt: skip
def test_values_out_of_range(cli: Cli, tiny_corpus: TinyCorpus, overrides: dict[str, object], said: str):
    assert said in train(cli, tiny_corpus, code=1, **overrides).error
