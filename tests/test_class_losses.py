"""Losses of classes against references in float64, written from the papers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_recipe import refused
from torch import Tensor

from s3prl_emotion.losses import AdjustedLoss, FocalLoss, logit_offset
from s3prl_emotion.recipe import HeadSection

COUNTS = [50.0, 5.0, 1.0]


def drawn(rows: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (rows,), generator=generator)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


# --- Lin et al. 2017 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, [0.25, 1.0, 3.0]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_equations_4_and_5(gamma: float, weight: list[float] | None):
    logits, target = drawn()
    alpha = weight or [1.0] * 3
    each = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        p = softmax(row)[label]
        each.append(-alpha[label] * (1 - p) ** gamma * math.log(p))
    expected = sum(each) / sum(alpha[label] for label in target.tolist())
    loss = FocalLoss(gamma, None if weight is None else torch.tensor(weight, dtype=torch.float64))
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-12)


def test_focal_loss_without_focus_is_the_cross_entropy_to_its_gradient():
    logits, target = drawn()
    weight = torch.tensor([0.25, 1.0, 3.0], dtype=torch.float64)
    gradients = []
    for loss in (FocalLoss(0.0, weight), torch.nn.CrossEntropyLoss(weight)):
        leaf = logits.clone().requires_grad_()
        loss(leaf, target).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_gradient_of_the_focal_loss_is_that_of_appendix_b(gamma: float):
    """``dFL/dx = y (1 - p_t)^γ (γ p_t log p_t + p_t - 1)`` of two classes with logits 0 and x."""
    for x in (-3.0, -0.5, 0.0, 2.0):
        for label, y in ((1, 1), (0, -1)):
            leaf = torch.tensor([[0.0, x]], dtype=torch.float64, requires_grad=True)
            FocalLoss(gamma)(leaf, torch.tensor([label])).backward()
            p_t = 1 / (1 + math.exp(-y * x))
            expected = y * (1 - p_t) ** gamma * (gamma * p_t * math.log(p_t) + p_t - 1)
            assert leaf.grad is not None
            assert leaf.grad[0, 1].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_certain_outputs_is_finite(gamma: float):
    leaf = torch.tensor([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)  # right, then wrong
    loss = FocalLoss(gamma)(leaf, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(300.0)  # 0 and 600
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


# --- Ren et al. 2020, Menon et al. 2021 ----------------------------------------------------------------------------


def balanced_softmax(row: list[float], label: int) -> float:
    """Ren et al. 2020, eq. 4."""
    total = sum(count * math.exp(value) for count, value in zip(COUNTS, row, strict=True))
    return -math.log(COUNTS[label] * math.exp(row[label]) / total)


def logit_adjusted(row: list[float], label: int, tau: float) -> float:
    """Menon et al. 2021, eq. 10, in its second form."""
    pi = [count / sum(COUNTS) for count in COUNTS]
    others = (k for k in range(3) if k != label)
    return math.log(1 + sum((pi[k] / pi[label]) ** tau * math.exp(row[k] - row[label]) for k in others))


@pytest.mark.parametrize(
    ("tau", "reference"),
    [
        (1.0, balanced_softmax),
        (1.0, lambda row, label: logit_adjusted(row, label, 1.0)),
        (0.5, lambda row, label: logit_adjusted(row, label, 0.5)),
    ],
)
def test_adjusted_losses_are_the_papers_equations(tau: float, reference: Callable[[list[float], int], float]):
    logits, target = drawn()
    expected = np.mean([reference(row, label) for row, label in zip(logits.tolist(), target.tolist(), strict=True)])
    assert AdjustedLoss(logit_offset(COUNTS, tau))(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_adjusted_loss_is_consistent_with_the_balanced_error():
    """Its minimum ranks classes by p(x | y), Menon et al. 2021, theorem 1; that of the cross-entropy by p(y | x).

    Both losses are convex in the logits, so a gradient of 0 is the minimum. The counts are those of three values of x
    (rows) and of the classes (columns).
    """
    table = np.array([[40, 2, 0.5], [8, 2, 0.3], [2, 1, 0.4]])
    within_class = torch.from_numpy(np.log(table / table.sum(axis=0)))
    x, y = (torch.from_numpy(index.ravel()) for index in np.indices(table.shape))
    weight = torch.from_numpy(table.ravel() / table.sum())

    def gradient(logits: Tensor, loss: torch.nn.Module) -> float:
        leaf = logits.clone().requires_grad_()
        each = torch.stack([loss(leaf[row].unsqueeze(0), label.unsqueeze(0)) for row, label in zip(x, y, strict=True)])
        (weight * each).sum().backward()
        assert leaf.grad is not None
        return leaf.grad.abs().max().item()

    adjusted = AdjustedLoss(logit_offset(table.sum(axis=0).tolist()))
    assert gradient(within_class, adjusted) < 1e-7
    assert gradient(torch.from_numpy(np.log(table)), torch.nn.CrossEntropyLoss()) < 1e-12
    assert gradient(torch.from_numpy(np.log(table)), adjusted) > 0.01
    assert table.argmax(axis=1).tolist() == [0, 0, 0]  # the most frequent class everywhere, UAR 1/3
    assert within_class.argmax(dim=1).tolist() == [0, 1, 2]


def test_soft_targets_are_adjusted_as_indices():
    logits, target = drawn()
    loss = AdjustedLoss(logit_offset(COUNTS))
    soft = torch.nn.functional.one_hot(target, 3).double()
    assert loss(logits, soft).item() == pytest.approx(loss(logits, target).item(), rel=1e-12)


# --- recipe ---------------------------------------------------------------------------------------------------------


def test_a_name_alone_is_a_section():
    loss = HeadSection.read({"datarc": {}, "class_loss": "focal"}, "downstream_expert").class_loss
    assert (loss.name, loss.gamma) == ("focal", 2.0)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            "focl",
            "class_loss.name: Input should be 'cross_entropy', 'focal', 'balanced' or 'logit_adjusted', got 'focl'",
        ),
        ({"name": "focal", "gamma": -1}, "class_loss.gamma: Input should be greater than or equal to 0, got -1"),
        ({"name": "logit_adjusted", "tau": 0}, "class_loss.tau: Input should be greater than 0, got 0"),
        ({"name": "balanced", "tau": 2.0}, "class_loss.tau: balanced has no such option; leave it out"),
        ({"gamma": 1.0}, "class_loss.gamma: cross_entropy has no such option"),
        ({"name": "balanced", "counts": [3.0, 0.0]}, "class_loss.counts.1: Input should be greater than 0, got 0"),
        ({"name": "focal", "gama": 1.0}, "class_loss.gama: unknown key"),
    ],
)
def test_options_that_a_loss_cannot_have(loss: object, said: str):
    with refused("^" + re.escape(f"downstream_expert.{said}")):
        HeadSection.read({"datarc": {}, "class_loss": loss}, "downstream_expert")
