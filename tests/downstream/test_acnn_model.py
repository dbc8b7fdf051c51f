"""The network and loss of ``emotion_acnn`` against references written from Neumann & Vu 2019."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError

host.register()
model = importlib.import_module("s3prl.downstream.emotion_acnn.model")
AttentiveCNN, MultiViewLoss, levels, UNKNOWN = model.AttentiveCNN, model.MultiViewLoss, model.levels, model.UNKNOWN
SMALL = {"filters": 5, "width": 4, "stride": 3, "pool": 2, "dropout": 0.0}


def network(seed: int = 0, **options: object) -> AttentiveCNN:
    torch.manual_seed(seed)
    return AttentiveCNN(**({"input_dim": 3, "num_classes": 4} | SMALL | options)).double().eval()


def reference(net: AttentiveCNN, utterance: np.ndarray, embedding: np.ndarray | None = None) -> np.ndarray:
    """Logits of one utterance ``[T, D]``: convolution, max pooling and eq. 1 in loops."""
    kernel, bias = (item.detach().numpy() for item in (net.convolution.weight, net.convolution.bias))
    if len(utterance) < net.width:
        utterance = np.concatenate([utterance, np.zeros((net.width - len(utterance), utterance.shape[1]))])
    maps = []
    for first in range(0, len(utterance) - net.width + 1, net.stride):
        window = utterance[first : first + net.width]  # [W, D]; kernel is [F, D, W]
        maps.append([max(0.0, np.sum(kernel[f] * window.T) + bias[f]) for f in range(len(kernel))])
    pooled = np.array([np.max(maps[first : first + net.pool], axis=0) for first in range(0, len(maps), net.pool)])
    scores = pooled @ net.attention.weight.detach().numpy()[0]
    alpha = np.exp(scores) / np.exp(scores).sum()
    vector = (alpha[:, None] * pooled).sum(axis=0)
    vector = vector if embedding is None else np.concatenate([vector, embedding])
    return net.output.weight.detach().numpy() @ vector + net.output.bias.detach().numpy()


def padded(utterances: list[Tensor], filler: float = 0.0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(item) for item in utterances])
    batch = torch.full((len(utterances), int(lengths.max()) + 3, utterances[0].shape[1]), filler, dtype=torch.float64)
    for row, item in zip(batch, utterances, strict=True):
        row[: len(item)] = item
    return batch, lengths


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6),
       st.booleans())  # fmt: skip
def test_network_is_the_papers_whatever_the_padding(frames: list[int], width: int, stride: int, pool: int, more: bool):
    net = network(width=width, stride=stride, pool=pool, embedding_dim=2 if more else 0)
    generator = torch.Generator().manual_seed(sum(frames))
    utterances = [torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in frames]
    embedding = torch.randn(len(frames), 2, generator=generator, dtype=torch.float64) if more else None
    expected = [
        reference(net, item.numpy(), None if embedding is None else embedding[row].numpy())
        for row, item in enumerate(utterances)
    ]
    for filler in (0.0, float("nan"), 1e6):
        output = net(*padded(utterances, filler), *([] if embedding is None else [embedding]))
        np.testing.assert_allclose(output.detach().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["zeros", "constant", "one frame", "huge"])
def test_degenerate_inputs_give_finite_gradients(kind: str):
    net = network().float()
    features = {
        "zeros": torch.zeros(2, 20, 3), "constant": torch.full((2, 20, 3), 4.2), "one frame": torch.randn(2, 1, 3),
        "huge": 1e4 * torch.randn(2, 20, 3),
    }[kind].requires_grad_()  # fmt: skip
    loss = MultiViewLoss(4)(net(features, torch.full((2,), features.shape[1])), torch.tensor([[0, 1, 2], [3, 0, 1]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(item.grad).all() for item in (features, *net.parameters()))


def test_attention_of_frames():
    net = network()
    features, lengths = padded([torch.randn(30, 3, dtype=torch.float64), torch.randn(11, 3, dtype=torch.float64)])
    weights = net.frame_weights(features, lengths)
    assert weights.shape == (2, features.shape[1])
    np.testing.assert_allclose(weights[0, :30].sum().item(), 1.0, atol=0.2)  # the last window is cut
    maps, inside = net.feature_maps(features, lengths)
    found = net.weights(maps, inside)
    np.testing.assert_allclose(found.sum(dim=1).detach(), 1.0, atol=1e-6)
    np.testing.assert_allclose(weights[0, :6].detach(), found[0, 0].item() / 6, atol=1e-7)
    assert not found[~inside].any()


def test_size_and_initialisation():
    net = AttentiveCNN(26, 4)
    count = 26 * 10 * 200 + 200 + 200 + 200 * (4 + 6) + 4 + 6  # filters, attention, three classifiers
    assert sum(item.numel() for item in net.parameters()) == count
    bound = np.sqrt(6 / (26 * 10 + 200 * 10))  # Glorot & Bengio 2010, eq. 16
    assert 0.99 * bound < net.convolution.weight.abs().max().item() <= bound
    assert AttentiveCNN(26, 4, embedding_dim=512, views=False).output.weight.shape == (4, 712)


def test_dropout_is_of_the_whole_vector():
    net = network(embedding_dim=400, dropout=0.8).train()
    seen = []
    net.output.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net(torch.randn(1, 9, 3, dtype=torch.float64), torch.tensor([9]), torch.ones(1, 400, dtype=torch.float64))
    kept = seen[0][0, 5:]
    assert ((kept == 0) | (kept - 5).abs().lt(1e-9)).all()
    assert 40 < (kept > 0).sum() < 120


# --- loss -------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    known = target != UNKNOWN
    if not known.any():
        return 0.0
    logits, target = logits[known], target[known]
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(target)), target]
    return np.sum(weight[target] * surprise) / weight[target].sum()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0, 0.45), st.floats(0, 0.45), st.booleans())
def test_loss_is_eq_2(seed: int, size: int, alpha: float, beta: float, weighted: bool):
    random = np.random.default_rng(seed)
    output = random.normal(size=(size, 10))
    target = np.stack([random.integers(0, top, size) for top in (4, 3, 3)], axis=1)
    target[random.random(size) < 0.3, 1:] = UNKNOWN
    weight = random.uniform(0.5, 2, 4) if weighted else np.ones(4)
    parts = [
        cross_entropy(output[:, first:last], target[:, view], weight if view == 0 else np.ones(3))
        for view, (first, last) in enumerate([(0, 4), (4, 7), (7, 10)])
    ]
    expected = (1 - alpha - beta) * parts[0] + alpha * parts[1] + beta * parts[2]
    loss = MultiViewLoss(4, alpha, beta, torch.from_numpy(weight).float() if weighted else None)
    found = loss(torch.from_numpy(output), torch.from_numpy(target)).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_nothing_known_of_the_views_leaves_the_classes():
    output = torch.randn(3, 10, requires_grad=True)
    target = torch.tensor([[0, UNKNOWN, UNKNOWN]] * 3)
    loss = MultiViewLoss(4)(output, target)
    loss.backward()
    assert loss.item() == pytest.approx(0.6 * torch.nn.functional.cross_entropy(output[:, :4], target[:, 0]).item())
    assert not output.grad[:, 4:].any()


@pytest.mark.parametrize(("alpha", "beta"), [(-0.1, 0.2), (0.5, 0.5), (0.2, 0.9)])
def test_weights_that_mean_nothing(alpha: float, beta: float):
    with pytest.raises(ConfigError, match="alpha"):
        MultiViewLoss(4, alpha, beta)


def test_levels():
    values = torch.tensor([1.0, 2.0, 2.01, 3.0, 3.99, 4.0, 5.0, float("nan")])  # low [1, 2], medium (2, 4), high [4, 5]
    assert levels(values).tolist() == [0, 0, 1, 1, 1, 2, 2, UNKNOWN]
