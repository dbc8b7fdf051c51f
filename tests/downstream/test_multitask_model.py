"""The network and loss of ``emotion_multitask`` against references written from Mitra et al. 2025."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.loading.class_balance import EFFECTIVE_BETA, weights_of_counts

host.register()
model = importlib.import_module("s3prl.downstream.emotion_multitask.model")
MultiTaskModel, MultiTaskLoss = model.MultiTaskModel, model.MultiTaskLoss
KINDS = ("ccc", "soft_ce", "kl")


def batch(seed: int, size: int, classes: int, columns: int = 3) -> tuple[Tensor, Tensor]:
    """Outputs and targets ``[B, K + columns]``, float64; shares are distributions with zeros among them."""
    random = np.random.default_rng(seed)
    votes = random.integers(0, 3, size=(size, classes)) + np.eye(classes)[random.integers(0, classes, size)]
    shares = votes / votes.sum(axis=1, keepdims=True)
    target = np.concatenate([shares, random.normal(size=(size, columns))], axis=1)
    return torch.from_numpy(random.normal(size=target.shape)), torch.from_numpy(target)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Eq. 5 with population moments."""
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def reference(output: np.ndarray, target: np.ndarray, k: int, kind: str, weight: np.ndarray | None = None) -> float:
    """The classes' loss as the recipe names it, plus eq. 4 of the dimensions."""
    p, s = softmax(output[:, :k]), target[:, :k]
    w = np.ones(k) if weight is None else weight
    if kind == "ccc":
        categories = -sum(w[i] * ccc(p[:, i], s[:, i]) for i in range(k)) / w.sum()
    elif kind == "soft_ce":
        categories = -np.mean(np.sum(w * s * np.log(p), axis=1))
    else:
        surprise = np.where(s > 0, s * np.log(np.where(s > 0, s, 1.0) / p), 0.0)
        categories = np.mean(np.sum(w * surprise, axis=1))
    return categories - np.mean([ccc(output[:, i], target[:, i]) for i in range(k, output.shape[1])])


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(3, 40), st.integers(2, 9), st.sampled_from(KINDS), st.booleans())
def test_loss_is_the_papers(seed: int, size: int, classes: int, kind: str, weighted: bool):
    output, target = batch(seed, size, classes)
    weight = torch.linspace(0.5, 1.5, classes) if weighted else None
    loss = MultiTaskLoss(classes, kind, class_weight=weight)(output, target).item()
    expected = reference(output.numpy(), target.numpy(), classes, kind, None if weight is None else weight.numpy())
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)  # the classes' part is in float32


def test_equal_weights_of_all_outputs_are_eq_4():
    output, target = batch(0, 32, 9)
    loss = MultiTaskLoss(9, "ccc", category_weight=9 / 12, dimension_weight=3 / 12)(output, target).item()
    columns = np.concatenate([softmax(output[:, :9].numpy()), output[:, 9:].numpy()], axis=1)
    expected = -np.mean([ccc(columns[:, i], target[:, i].numpy()) for i in range(12)])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_weighted(kind: str):
    output, target = batch(1, 16, 4, columns=6)
    parts = [MultiTaskLoss(4, kind, *weights)(output, target) for weights in np.eye(3).tolist()]
    whole = MultiTaskLoss(4, kind, 0.7, 2.0, 0.1)(output, target)
    torch.testing.assert_close(whole, 0.7 * parts[0] + 2.0 * parts[1] + 0.1 * parts[2])


def test_cross_entropy_and_divergence_pull_alike():
    output, target = batch(2, 16, 5)
    slopes = []
    for kind in ("soft_ce", "kl"):
        leaf = output.clone().requires_grad_()
        MultiTaskLoss(5, kind)(leaf, target).backward()
        slopes.append(leaf.grad)
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_labels_count_for_nothing(kind: str):
    output, target = batch(3, 12, 4, columns=6)
    holes = target.clone()
    holes[:4, :4] = torch.nan  # no grader shares
    holes[2:6, 4:7] = torch.nan  # no dimensions
    holes[8:, 7:] = torch.nan  # no spreads
    leaf = output.clone().requires_grad_()
    loss = MultiTaskLoss(4, kind)
    value = loss(leaf, holes)
    value.backward()
    known = [slice(4, 12), [0, 1, *range(6, 12)], slice(0, 8)]
    columns = [slice(0, 4), slice(4, 7), slice(7, 10)]
    for number, (rows, part) in enumerate(zip(known, columns, strict=True)):
        weights = [float(number == other) for other in range(3)]
        only = MultiTaskLoss(4, kind, *weights)
        torch.testing.assert_close(only(output, holes), only(output[rows], target[rows]))
        unknown = torch.ones(12, dtype=torch.bool)
        unknown[rows] = False
        assert (leaf.grad[unknown][:, part] == 0).all()
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_known_is_no_loss(kind: str):
    output = torch.randn(5, 7, requires_grad=True)
    loss = MultiTaskLoss(4, kind)(output, torch.full((5, 7), torch.nan))
    loss.backward()
    assert loss.item() == 0
    assert (output.grad == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2])
def test_small_and_extreme_batches_are_finite(kind: str, size: int):
    output = torch.full((size, 7), 80.0)
    output[:, 0] = -80.0
    output.requires_grad_()
    target = torch.zeros(size, 7)
    target[:, 0] = 1.0
    loss = MultiTaskLoss(4, kind)(output, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str, monkeypatch: pytest.MonkeyPatch):
    output, target = batch(4, 6, 3)
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # the loss's own float32 is too coarse for differences
    torch.autograd.gradcheck(lambda leaf: MultiTaskLoss(3, kind)(leaf, target), output.requires_grad_())


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_weights_from_soft_counts(kind: str):
    counts = np.array([10.5, 0.0, 2.25, 700.0])
    weights = weights_of_counts(counts, kind)
    amount = counts if kind == "balanced" else (1 - EFFECTIVE_BETA**counts) / (1 - EFFECTIVE_BETA)
    expected = np.where(counts > 0, 1 / np.where(counts > 0, amount, 1), 0)
    np.testing.assert_allclose(weights, expected / expected[counts > 0].mean(), rtol=1e-6)
    assert weights[1] == 0  # an absent class has no weight, and no NaN


def test_number_of_parameters_is_the_papers():
    network = MultiTaskModel(1024, 9)
    assert sum(item.numel() for item in network.parameters()) == 1_645_068  # appendix A.8: 1.6M


@pytest.mark.parametrize(("spreads", "width"), [(False, 7), (True, 10)])
def test_outputs_and_padding(spreads: bool, width: int):
    torch.manual_seed(0)
    network = MultiTaskModel(6, 4, True, spreads, conv_channels=8, gru_dim=8, embedding_dim=8).eval()
    features, lengths = torch.randn(3, 9, 6), torch.tensor([9, 1, 4])
    features[1, 1:], features[2, 4:] = torch.nan, 1e9
    together = network(features, lengths)
    assert together.shape == (3, width)
    for number, length in enumerate(lengths.tolist()):
        alone = network(features[number : number + 1, :length], lengths[number : number + 1])
        torch.testing.assert_close(together[number], alone[0], rtol=1e-5, atol=1e-6)


def test_mfbf0_has_the_published_share_of_the_parameters():
    """Appendix A.8: 2.1 MB for the models of 1024 channels, 700 KB for mel filterbank and pitch."""
    matrix = yaml.safe_load((recipes_folder() / "mitra2025" / "mfbf0.yaml").read_text(encoding="utf-8"))
    prefix = "downstream_expert.modelrc."
    sizes = {key.removeprefix(prefix): value for key, value in matrix["overrides"].items() if key.startswith(prefix)}
    width, inputs, outputs = 200, 41, 12  # 40 Mel bands and the pitch; nine classes and three dimensions
    assert sizes == dict.fromkeys(("conv_channels", "gru_dim", "embedding_dim"), width)
    small = sum(item.numel() for item in MultiTaskModel(inputs, 9, **sizes).parameters())
    by_hand = (3 * inputs + 1) * width + 2 * (6 * width**2 + 6 * width) + (width + 1) * (width + outputs)
    assert small == by_hand == 13 * width**2 + 149 * width + 12 == 549_812
    large = sum(item.numel() for item in MultiTaskModel(1024, 9).parameters())
    assert small / large == pytest.approx(700 / 2100, rel=0.005)
