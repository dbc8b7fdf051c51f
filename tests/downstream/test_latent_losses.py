"""Losses of ``emotion_latent`` against references written from Das et al. 2022, and batches that say nothing."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError

host.register()
losses = importlib.import_module("s3prl.downstream.emotion_latent.losses")
model = importlib.import_module("s3prl.downstream.emotion_latent.model")

CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- KL ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_kl_is_that_of_torch(seed: int):
    mean, log_variance = random(5, 3, seed=seed), random(5, 3, seed=seed + 9)
    latent = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(latent, prior).sum(dim=1).mean()
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected, rtol=1e-12, atol=0)


def test_kl_of_the_prior_itself_is_0():
    assert losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0


# --- annealing --------------------------------------------------------------------------------------------------------


def test_schedule_by_hand():
    """T = 8, M = 2, R = 0.5: a cycle has 4 epochs with τ = 0, 0.25, 0.5, 0.75."""
    found = [losses.annealed_weight(epoch, ramp=0.5, cycles=2, epochs=8) for epoch in range(1, 10)]
    assert found == [0, 0.125, 0.25, 0.25, 0, 0.125, 0.25, 0.25, 0]


def test_schedule_of_cycles_that_are_no_whole_epochs():
    """T = 50, M = 4: a cycle has 12.5 epochs, so that the second begins within epoch 13."""
    found = [losses.annealed_weight(epoch, 0.5, 4, 50) for epoch in (1, 2, 13, 14)]
    assert found == pytest.approx([0, 0.25 / 0.5 / 12.5, 0.25, 0.25 / 0.5 * 0.5 / 12.5])


@settings(derandomize=True, deadline=None)
@given(
    epoch=st.integers(1, 500), ramp=st.floats(0.05, 1), cycles=st.integers(1, 10), length=st.integers(1, 60)
)  # fmt: skip
def test_schedule_is_eq_3(epoch: int, ramp: float, cycles: int, length: int):
    tau = math.fmod(epoch - 1, length) / length
    expected = 0.25 / ramp * tau if tau <= ramp else 0.25
    assert losses.annealed_weight(epoch, ramp, cycles, cycles * length) == pytest.approx(expected)
    assert 0 <= expected <= 0.25


# --- cluster loss -----------------------------------------------------------------------------------------------------


def cluster_reference(latent: np.ndarray, classes: np.ndarray) -> float:
    """Eq. 5 with loops."""
    names = sorted({name for name in classes.tolist() if name >= 0})
    centroids = {name: np.mean([row for row, own in zip(latent, classes, strict=True) if own == name], axis=0)
                 for name in names}  # fmt: skip
    intra = sum(math.dist(row, centroids[own]) for row, own in zip(latent, classes.tolist(), strict=True) if own >= 0)
    inter = sum(math.dist(centroids[one], centroids[other]) for one, other in itertools.combinations(names, 2))
    return intra / inter


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [CLASSES, CLASSES.clamp(max=1), torch.tensor([5, 5, -1, 0, 0, -1, 2, 2])])
def test_cluster_loss_is_eq_5(seed: int, classes: Tensor):
    latent = random(8, 4, seed=seed)
    expected = cluster_reference(latent.numpy(), classes.numpy())
    assert losses.cluster_loss(latent, classes).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_of_the_losses():
    latent = random(8, 3).requires_grad_()
    labels = torch.tensor([1.0, 2, 4, 4, 3.5, torch.nan, 1, 5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: losses.cluster_loss(z, CLASSES), latent)
    assert torch.autograd.gradcheck(lambda z: losses.metric_loss(z, labels), latent)
    log_variance = random(8, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(losses.kl_divergence, (latent, log_variance))


def test_cluster_loss_does_not_depend_on_scale():
    latent = random(8, 4)
    one, other = (losses.cluster_loss(scale * latent, CLASSES).item() for scale in (1, 100))
    assert one == pytest.approx(other)


# --- metric loss ------------------------------------------------------------------------------------------------------


def metric_reference(latent: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Eqs. 8-10 with numpy's least squares; eq. 10 as the quotient of differences of two points on the fitted line."""
    pairs = [(math.dist(latent[i], latent[i + 1]), abs(labels[i] - labels[i + 1])) for i in range(len(labels) - 1)]
    between, apart = np.array([pair for pair in pairs if not math.isnan(pair[1])]).T
    slope = np.linalg.lstsq(apart[:, None], between, rcond=None)[0].item()
    fitted, (first, second) = slope * apart, (np.argmin(apart), np.argmax(apart))
    quotient = (fitted[first] - fitted[second]) / (apart[first] - apart[second])
    return float(np.mean((between - fitted) ** 2)), abs(quotient - 1)


@pytest.mark.parametrize("seed", range(4))
def test_metric_loss_is_eqs_7_to_10(seed: int):
    latent, labels = random(9, 4, seed=seed), 3 + random(9, seed=seed + 20)
    labels[4] = torch.nan if seed % 2 else labels[4]
    found = [part.item() for part in losses.metric_loss(latent, labels)]
    assert found == pytest.approx(metric_reference(latent.numpy(), labels.numpy()), rel=1e-9)


def test_metric_loss_of_distances_that_are_the_labels_is_0():
    labels = torch.tensor([1.0, 3, 2, 5])
    residual, slope = losses.metric_loss(labels.unsqueeze(1), labels)
    assert (residual.item(), slope.item()) == pytest.approx((0, 0), abs=1e-6)
    residual, slope = losses.metric_loss(3 * labels.unsqueeze(1), labels)
    assert (residual.item(), slope.item()) == pytest.approx((0, 2), abs=1e-5)


# --- batches that say nothing -----------------------------------------------------------------------------------------

NAN = torch.nan
BATCHES = {
    "one sample": (torch.tensor([[1.0, 2]]), torch.tensor([0]), torch.tensor([1.0])),
    "one class, equal labels": (torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([1, 1]), torch.tensor([2.0, 2])),
    "coinciding centroids": (torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), torch.tensor([0, 0, 1, 1]),
                             torch.tensor([2.0, 2, 2, 2])),
    "all the same": (torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), torch.full((4,), 3.0)),
    "nothing known": (torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([-1, -1]), torch.tensor([NAN, NAN])),
    "no neighbours known": (torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([-1, 0, -1]),
                            torch.tensor([1.0, NAN, 2])),
}  # fmt: skip


@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_say_nothing_cost_nothing(case: str):
    latent, classes, labels = BATCHES[case]
    latent = latent.clone().requires_grad_()
    residual, slope = losses.metric_loss(latent, labels)
    total = losses.cluster_loss(latent, classes) + residual + slope
    assert total.item() == 0
    total.backward()
    assert latent.grad is not None
    assert (latent.grad == 0).all()


def test_same_latents_under_different_labels_have_a_gradient_that_is_finite():
    latent = torch.ones(4, 2, requires_grad=True)
    residual, slope = losses.metric_loss(latent, torch.tensor([1.0, 2, 3, 1]))
    assert slope.item() == 1
    (residual + slope).backward()
    assert torch.isfinite(latent.grad).all()


def outputs_of(method: str, rows: int = 4) -> Any:
    torch.manual_seed(0)
    network = model.LatentModel(6, 3, method, latent_dim=2)
    return network(torch.randn(rows, 1, 6), torch.ones(rows))


@pytest.mark.parametrize("method", losses.METHODS)
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("counted", [0.0, 1.0])
def test_loss_of_every_method_is_finite(method: str, rows: int, counted: float):
    loss = losses.LatentLoss(method)
    value = loss(outputs_of(method, rows), torch.tensor([[0.0, 2.0, counted]] * rows))
    value.backward()
    assert torch.isfinite(value)
    assert (value.item() == 0) == (method == "none" or not counted)


def test_what_does_not_count_changes_nothing():
    outputs = outputs_of("vae_cluster", 6)
    target = torch.tensor([[0.0, NAN, 1], [1, NAN, 1], [0, NAN, 1], [1, NAN, 1], [2, NAN, 0], [2, NAN, 0]])
    loss = losses.LatentLoss("vae_cluster").eval()
    counted = losses.Outputs(*(rows[:4] for rows in outputs))
    assert loss(outputs, target).item() == pytest.approx(loss(counted, target[:4]).item())


def test_the_sum_that_each_method_is():
    target = torch.tensor([[0.0, 1.0, 1], [1, 3.0, 1], [0, 2.0, 1], [1, 5.0, 1]])
    for method, weights in {
        "dae": {"reconstruction": 1},
        "vae": {"reconstruction": 0.5, "KL": 1},
        "vae_annealed": {"reconstruction": 0.5, "KL": 0.125},
        "vae_cluster": {"reconstruction": 0.5, "KL": 0.125, "cluster": 3},
        "vae_metric": {"reconstruction": 0.5, "KL": 0.125, "residual": 1, "slope": 1},
        "dae_metric": {"reconstruction": 1, "residual": 1, "slope": 1},
    }.items():
        outputs = outputs_of(method)
        loss = losses.LatentLoss(method, ramp=0.5, cycles=2, epochs=8, gamma=3)
        loss.batches_per_epoch = 2
        loss.batches.fill_(2)  # the second epoch: τ = 0.25
        value = loss(outputs, target).item()
        assert loss.parts.keys() == weights.keys()
        assert value == pytest.approx(sum(weight * loss.parts[name] for name, weight in weights.items()), rel=1e-5)
        error = (outputs.inputs - outputs.reconstruction).square().sum(dim=1).mean().item()
        assert loss.parts["reconstruction"] == pytest.approx(error)


def test_epochs_are_counted_in_training_alone():
    output = outputs_of("vae_annealed")
    loss, target = losses.LatentLoss("vae_annealed", 1.0, 1, 4), torch.tensor([[0.0, NAN, 1]] * 4)
    loss.batches_per_epoch = 2
    seen = []
    for _ in range(6):
        seen.append(loss.kl_weight)
        loss(output, target)
        loss.eval()(output, target)
        loss.train()
    assert seen == [0, 0, 0.0625, 0.0625, 0.125, 0.125]
    assert losses.LatentLoss("vae").kl_weight == 1


def test_unknown_method_is_refused():
    with pytest.raises(ConfigError, match=r"modelrc\.method: 'gan'; known: none, dae"):
        losses.LatentLoss("gan")
