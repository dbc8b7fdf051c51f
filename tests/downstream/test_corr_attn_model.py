"""The poolings and the model of Kakouros et al. 2023 against the paper's equations, written out in float64 here."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import s3prl_emotion
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.recipe import ClassLossSection

s3prl_emotion.register()

from s3prl.downstream.emotion_corr_attn.correlation import weighted_correlation  # noqa: E402
from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert, ModelSection  # noqa: E402
from s3prl.downstream.emotion_corr_attn.model import (  # noqa: E402
    AttentiveCorrelationPooling,
    AttentiveStatisticsPooling,
    CorrAttnModel,
    CorrelationPooling,
    MeanPooling,
    MeanStdPooling,
)

EPS = 1e-8
POOLINGS = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "corr": CorrelationPooling,
    "corr_attn": AttentiveCorrelationPooling,
    "attn_stats": AttentiveStatisticsPooling,
}
NAMES = tuple(POOLINGS)
CORRELATIONS = ("corr", "corr_attn")
LENGTHS = (7, 3, 12, 1, 2)
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-10}
PADDINGS = (0.0, 1.0, -1e4, 1e30, float("nan"), float("inf"), float("-inf"))

each_pooling = pytest.mark.parametrize("name", NAMES)
each_correlation = pytest.mark.parametrize("name", CORRELATIONS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
quick = settings(derandomize=True, deadline=None, database=None, max_examples=40)


# --- the paper's equations, an utterance at a time ------------------------------------------------------------------


def root(value: Tensor) -> Tensor:
    """Square root, by convention with value and slope 0 where a channel does not vary."""
    return value.sqrt() if value.item() > 0 else torch.zeros((), dtype=value.dtype)


def equation_2(frames: list[Tensor]) -> Tensor:
    total = torch.zeros_like(frames[0])
    for frame in frames:
        total = total + frame
    return total / len(frames)


def equation_3(frames: list[Tensor]) -> Tensor:
    mean = equation_2(frames)
    deviations = [
        root(sum(((frame[d] - mean[d]) ** 2 for frame in frames), torch.zeros((), dtype=mean.dtype)) / len(frames))
        for d in range(len(mean))
    ]
    return torch.cat([mean, torch.stack(deviations)])


def equations_5_and_6(frames: list[Tensor], weights: list[Any], eps: float = EPS) -> Tensor:
    size = len(frames[0])
    mu = sum((w * v for w, v in zip(weights, frames, strict=True)), torch.zeros_like(frames[0]))
    sigma = torch.zeros(size, size, dtype=mu.dtype)
    for w, v in zip(weights, frames, strict=True):
        sigma = sigma + w * torch.outer(v - mu, v - mu)
    s = [root(sigma[d, d]) for d in range(size)]
    above = [sigma[i, j] / (s[i] * s[j] + eps) for i in range(size) for j in range(i + 1, size)]
    return torch.stack(above)


def equations_7_and_8(frames: list[Tensor], w_att: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """Weights of the frames, the second way: softmax over all H x T similarities at once, then the sum over heads."""
    similarities = []
    for v in frames:
        o = torch.clamp(w_att @ v, min=0.0)
        similarities.append(torch.stack([q[h] @ o + b[h] for h in range(len(b))]))
    everything = torch.stack(similarities)  # [T, H]
    powers = (everything - everything.max().detach()).exp()
    return powers.sum(dim=1) / powers.sum()


def okabe_equations_2_to_6(frames: list[Tensor], w: Tensor, b: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attentive statistics of Okabe et al. 2018 and their weights; eq. 6 with differences in place of squares."""
    scores = torch.stack([v @ torch.tanh(w @ h + b) for h in frames])  # eq. 2
    powers = (scores - scores.max().detach()).exp()
    alpha = powers / powers.sum()  # eq. 3
    mu = sum((a * h for a, h in zip(alpha, frames, strict=True)), torch.zeros_like(frames[0]))  # eq. 4
    squares = sum((a * (h - mu) ** 2 for a, h in zip(alpha, frames, strict=True)), torch.zeros_like(frames[0]))
    return torch.cat([mu, torch.stack([root(square) for square in squares])]), alpha


def okabe_parameters(pooling: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    return pooling.attention.weight, pooling.attention.bias, pooling.score.weight[0]


def reference(name: str, features: Tensor, lengths: list[int], pooling: nn.Module) -> Tensor:
    """Pool float64 ``features`` one utterance at a time, with ``pooling``'s parameters where it has any."""
    rows = []
    for utterance, length in zip(features, lengths, strict=True):
        frames = list(utterance[:length])
        if name == "mean":
            rows.append(equation_2(frames))
        elif name == "mean_std":
            rows.append(equation_3(frames))
        elif name == "corr":
            rows.append(equations_5_and_6(frames, [1 / length] * length))
        elif name == "attn_stats":
            rows.append(okabe_equations_2_to_6(frames, *okabe_parameters(pooling))[0])
        else:
            weights = equations_7_and_8(frames, pooling.attention.weight, pooling.heads.weight, pooling.heads.bias)
            rows.append(equations_5_and_6(frames, list(weights)))
    return torch.stack(rows)


# --- tools ----------------------------------------------------------------------------------------------------------


def make(name: str, size: int, dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return POOLINGS[name](size, **options).to(dtype)


def twin(pooling: nn.Module, name: str, size: int, **options: Any) -> nn.Module:
    """The same parameters in float64, as leaves of their own."""
    copy = POOLINGS[name](size, **options).double()
    copy.load_state_dict(pooling.state_dict())
    return copy


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers with a mean and a scale for each channel."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator, dtype=torch.float64)
    scale = 0.5 + torch.rand(shape[-1], generator=generator, dtype=torch.float64)
    return (values * scale + torch.randn(shape[-1], generator=generator, dtype=torch.float64)).to(dtype)


def pad(features: Tensor, lengths: list[int] | tuple[int, ...], value: float | Tensor) -> Tensor:
    padded = features.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = value[row, length:] if isinstance(value, Tensor) else value
    return padded


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Maximal difference within ``tolerance`` of the largest entry (at least of 1)."""
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=tolerance * max(1.0, expected.abs().max().item())
    )


def gradients(pooling: nn.Module, features: Tensor, lengths: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Output, and the gradient of a random combination of it with respect to the features."""
    leaf = features.clone().requires_grad_()
    pooling.zero_grad()
    output = pooling(leaf, lengths)
    (output * draw(*output.shape, seed=seed, dtype=output.dtype)).sum().backward()
    return output.detach(), leaf.grad


def all_finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


# --- values and gradients -------------------------------------------------------------------------------------------


@each_dtype
@each_pooling
def test_values_and_gradients_follow_the_equations(name: str, dtype: torch.dtype) -> None:
    pooling = make(name, 5, dtype)
    mirror = twin(pooling, name, 5)
    features = draw(len(LENGTHS), 12, 5, dtype=dtype)
    exact = features.double().clone().requires_grad_()
    expected = reference(name, exact, list(LENGTHS), mirror)
    (expected * draw(*expected.shape, dtype=dtype).double()).sum().backward()

    output, gradient = gradients(pooling, features, torch.tensor(LENGTHS))

    assert output.dtype == dtype
    close(output, expected.detach(), TOLERANCE[dtype])
    close(gradient, exact.grad, 5 * TOLERANCE[dtype])
    for mine, theirs in zip(pooling.parameters(), mirror.parameters(), strict=True):
        close(mine.grad, theirs.grad, 5 * TOLERANCE[dtype])


@pytest.mark.parametrize("scale", [1e-5, 1e-4, 1e-3])
@each_correlation
def test_quiet_channels_feel_eps_as_in_equation_5(name: str, scale: float) -> None:
    """Where variances are near ε, n and n - 1, and ε inside or outside of a root, give different correlations."""
    pooling = make(name, 4, torch.float64)
    features = draw(2, 6, 4, dtype=torch.float64) * scale
    output = pooling(features, torch.tensor([6, 4]))
    close(output, reference(name, features, [6, 4], pooling), 1e-10)
    assert output.abs().max() < 1 - 1e-4 * EPS / scale**2


@pytest.mark.parametrize("eps", [1e-8, 1e-3, 0.5])
@each_correlation
def test_eps_is_the_argument(name: str, eps: float) -> None:
    pooling = make(name, 3, torch.float64, eps=eps)
    frames = list(draw(8, 3, dtype=torch.float64))
    weights = [1 / 8] * 8
    if name == "corr_attn":
        weights = list(equations_7_and_8(frames, *pooling.parameters()))
    output = pooling(torch.stack(frames).unsqueeze(0), torch.tensor([8]))
    close(output[0], equations_5_and_6(frames, weights, eps), 1e-12)


@pytest.mark.parametrize("heads", [1, 2, 4, 7])
def test_any_number_of_heads_follows_equation_8(heads: int) -> None:
    pooling = make("corr_attn", 4, torch.float64, num_heads=heads)
    features = 3 * draw(3, 9, 4, dtype=torch.float64)
    output = pooling(features, torch.tensor([9, 5, 2]))
    close(output, reference("corr_attn", features, [9, 5, 2], pooling), 1e-10)


@pytest.mark.parametrize("sharp", [False, True])
def test_weighted_correlation_is_equations_5_and_6(sharp: bool) -> None:
    features = draw(3, 8, 4, dtype=torch.float64)
    weights = torch.softmax((20 if sharp else 1) * draw(3, 8, seed=1, dtype=torch.float64), dim=1)
    expected = [equations_5_and_6(list(v), list(w)) for v, w in zip(features, weights, strict=True)]
    close(weighted_correlation(features, weights, EPS), torch.stack(expected), 1e-10)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_gradcheck_of_features_and_weights(eps: float) -> None:
    features = draw(2, 6, 4, dtype=torch.float64).requires_grad_()
    weights = torch.softmax(draw(2, 6, seed=1, dtype=torch.float64), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: weighted_correlation(v, w, eps), (features, weights))


def test_gradcheck_through_a_softmax_with_masked_frames() -> None:
    features = draw(2, 6, 3, dtype=torch.float64).requires_grad_()
    logits = draw(2, 6, seed=1, dtype=torch.float64).requires_grad_()
    outside = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])

    def correlate(v: Tensor, a: Tensor) -> Tensor:
        return weighted_correlation(v, torch.softmax(a.masked_fill(outside, -torch.inf), dim=1), EPS)

    assert torch.autograd.gradcheck(correlate, (features, logits))


@pytest.mark.parametrize("wanted", ["features", "weights"])
def test_gradient_of_one_input_needs_no_gradient_of_the_other(wanted: str) -> None:
    inputs = {
        "features": draw(2, 5, 3, dtype=torch.float64),
        "weights": torch.softmax(draw(2, 5, seed=1, dtype=torch.float64), dim=1),
    }
    both = [value.clone().requires_grad_() for value in inputs.values()]
    weighted_correlation(*both, EPS).sum().backward()
    inputs[wanted].requires_grad_()
    weighted_correlation(**inputs, eps=EPS).sum().backward()
    assert torch.equal(inputs[wanted].grad, both[list(inputs).index(wanted)].grad)
    assert all(value.grad is None for key, value in inputs.items() if key != wanted)


@pytest.mark.parametrize("name", ["mean_std", "corr"])
def test_numpy_agrees(name: str) -> None:
    features = draw(1, 50, 6)
    expected = features[0].double().numpy()
    if name == "mean_std":
        oracle = np.concatenate([expected.mean(axis=0), expected.std(axis=0, ddof=0)])
    else:
        oracle = np.corrcoef(expected.T)[np.triu_indices(6, 1)]
    close(make(name, 6)(features, torch.tensor([50]))[0], torch.from_numpy(oracle), 1e-6)


# --- layout ---------------------------------------------------------------------------------------------------------


@each_correlation
def test_pairs_are_the_upper_triangle_row_by_row(name: str) -> None:
    """A pair of equal channels gives the only correlation near 1; its place tells the order."""
    pooling = make(name, 5)
    pairs = list(itertools.combinations(range(5), 2))  # (0, 1), (0, 2), …, (3, 4)
    for place, (first, second) in enumerate(pairs):
        features = draw(1, 400, 5, seed=place)
        features[..., second] = features[..., first]
        output = pooling(features, torch.tensor([400]))[0]
        assert output.argmax() == place
        assert output[place].item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("mean", 6), ("mean_std", 12), ("corr", 15), ("corr_attn", 15), ("attn_stats", 12)]
)
def test_output_dim_is_the_width_of_the_output(name: str, size: int) -> None:
    pooling = make(name, 6)
    assert pooling.output_dim == size
    assert pooling(draw(3, 4, 6), torch.tensor([4, 2, 1])).shape == (3, size)


@pytest.mark.parametrize("size", [2, 5, 256])
def test_output_dim_of_correlations_is_the_number_of_pairs(size: int) -> None:
    assert CorrelationPooling(size).output_dim == AttentiveCorrelationPooling(size).output_dim == size * (size - 1) / 2


def test_parameters_are_w_att_and_the_heads() -> None:
    shapes = {key: tuple(value.shape) for key, value in AttentiveCorrelationPooling(6, num_heads=3).named_parameters()}
    assert shapes == {"attention.weight": (6, 6), "heads.weight": (3, 6), "heads.bias": (3,)}
    assert AttentiveCorrelationPooling(6).heads.bias.shape == (4,)


@pytest.mark.parametrize("name", ["mean", "mean_std", "corr"])
def test_the_other_poolings_have_no_parameters(name: str) -> None:
    assert not make(name, 6).state_dict()


@each_correlation
def test_correlations_lie_between_minus_1_and_1(name: str) -> None:
    pooling = make(name, 6)
    base = draw(40, 20, 1)
    features = base * torch.tensor([1.0, 2.0, -3.0, 7.0, 0.01, -1.0])  # all pairs at ±1, where rounding may pass it
    output = pooling(features, torch.full((40,), 20))
    assert output.abs().max() <= 1
    assert output.abs().min() > 0.999


# --- padding, batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [*PADDINGS, "random"])
@each_pooling
def test_content_of_padding_changes_nothing(name: str, value: float | str) -> None:
    pooling = make(name, 4)
    lengths = [6, 3, 1]
    features = draw(3, 6, 4)
    content = 100 * draw(3, 6, 4, seed=9) if isinstance(value, str) else value
    expected, slope = gradients(pooling, pad(features, lengths, 0.0), torch.tensor(lengths))
    expected_parameters = [parameter.grad.clone() for parameter in pooling.parameters()]

    output, gradient = gradients(pooling, pad(features, lengths, content), torch.tensor(lengths))

    close(output, expected, 1e-6)
    close(gradient, slope, 1e-6)
    for parameter, before in zip(pooling.parameters(), expected_parameters, strict=True):
        close(parameter.grad, before, 1e-6)
    for row, length in enumerate(lengths):
        assert not gradient[row, length:].any()
        assert name not in ("mean", "mean_std") or gradient[row, :length].any()


@each_pooling
def test_longer_padding_changes_nothing(name: str) -> None:
    pooling = make(name, 4)
    features, lengths = draw(3, 6, 4), torch.tensor([6, 3, 1])
    longer = torch.cat([features, torch.full((3, 5, 4), torch.nan)], dim=1)
    close(pooling(longer, lengths), pooling(features, lengths), 1e-6)


@each_pooling
def test_order_of_the_batch_is_the_order_of_the_output(name: str) -> None:
    pooling = make(name, 4)
    features, lengths = draw(5, 12, 4), torch.tensor(LENGTHS)
    order = torch.tensor([3, 0, 4, 2, 1])
    close(pooling(features[order], lengths[order]), pooling(features, lengths)[order], 1e-6)


@each_pooling
def test_alone_as_in_a_batch(name: str) -> None:
    pooling = make(name, 4)
    features = draw(5, 12, 4)
    together = pooling(features, torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone = pooling(features[row : row + 1, :length], torch.tensor([length]))
        close(alone[0], together[row], 1e-6)


@each_pooling
def test_inputs_stay_as_they_were(name: str) -> None:
    pooling = make(name, 4)
    features, lengths = draw(3, 6, 4), torch.tensor([6, 3, 1])
    before = features.clone()
    gradients(pooling, features, lengths)
    pooling(features, lengths)
    assert torch.equal(features, before)
    assert lengths.tolist() == [6, 3, 1]


# --- degenerate utterances ------------------------------------------------------------------------------------------


@each_correlation
def test_one_frame_has_no_correlations(name: str) -> None:
    pooling = make(name, 4)
    output, gradient = gradients(pooling, 10 * draw(2, 1, 4), torch.tensor([1, 1]))
    assert not output.any()
    assert all_finite(gradient, *(parameter.grad for parameter in pooling.parameters()))


@pytest.mark.parametrize("name", ["mean_std", "attn_stats"])
def test_one_frame_is_its_own_mean_without_deviation(name: str) -> None:
    features = draw(2, 1, 4)
    output, gradient = gradients(make(name, 4), features, torch.tensor([1, 1]))
    assert torch.equal(output[:, :4], features[:, 0])
    assert not output[:, 4:].any()
    assert all_finite(gradient)


@pytest.mark.parametrize("length", [2, 3, 7, 49, 1000])
@pytest.mark.parametrize("level", [0.0, 0.1, -3.7, 1000.3])
@each_correlation
def test_constant_channels_are_uncorrelated(name: str, level: float, length: int) -> None:
    """In float32 the mean of a constant is off by a rounding error; it must not pass for variation."""
    pooling = make(name, 4)
    features = draw(1, length, 4)
    features[..., 1], features[..., 3] = level, -1.37 * level
    output, gradient = gradients(pooling, features, torch.tensor([length]))
    involved = torch.tensor([1 in pair or 3 in pair for pair in itertools.combinations(range(4), 2)])
    assert output[0, involved].abs().max() < 1e-6
    assert output[0, ~involved].abs().max() > 1e-3
    assert all_finite(gradient, *(parameter.grad for parameter in pooling.parameters()))


@pytest.mark.parametrize("level", [0.0, 0.25, -3.7])
@each_pooling
def test_constant_utterance_is_finite(name: str, level: float) -> None:
    """Silence gives zeros; here a whole utterance beside a normal one, which must not notice."""
    pooling = make(name, 4)
    features = draw(2, 9, 4)
    expected, slope = gradients(pooling, features, torch.tensor([9, 9]))
    features[1] = level
    output, gradient = gradients(pooling, features, torch.tensor([9, 9]))
    assert all_finite(output, gradient, *(parameter.grad for parameter in pooling.parameters()))
    close(output[0], expected[0], 1e-6)
    close(gradient[0], slope[0], 1e-6)
    moments = [level] * 4 + [0.0] * 4
    still = {"mean": moments[:4], "mean_std": moments, "attn_stats": moments}.get(name, [0.0] * 6)
    close(output[1], torch.tensor(still), 1e-6)


@each_dtype
@each_correlation
def test_dropped_channels_leave_the_others_alone(name: str, dtype: torch.dtype) -> None:
    pooling = make(name, 5, dtype)
    features = draw(2, 9, 5, dtype=dtype)
    features[0, :, [0, 3]] = 0.0
    output, gradient = gradients(pooling, features, torch.tensor([9, 6]))
    close(output, reference(name, features.double(), [9, 6], twin(pooling, name, 5)).detach(), TOLERANCE[dtype])
    dropped = torch.tensor([0 in pair or 3 in pair for pair in itertools.combinations(range(5), 2)])
    assert not output[0, dropped].any()
    assert output[0, ~dropped].all()
    assert output[1].all()
    assert all_finite(gradient, *(parameter.grad for parameter in pooling.parameters()))


def test_sharp_attention_on_one_frame_is_finite() -> None:
    pooling = make("corr_attn", 4)
    with torch.no_grad():
        pooling.attention.weight.mul_(1e3)
        pooling.heads.weight.mul_(1e3)
        pooling.heads.bias.fill_(1e4)
    features = draw(3, 8, 4).requires_grad_()
    output, weights = pooling(features, torch.tensor([8, 4, 1]), return_weights=True)
    output.sum().backward()
    assert weights.max(dim=1).values.min() > 0.999
    assert all_finite(output, weights, features.grad, *(parameter.grad for parameter in pooling.parameters()))


@each_pooling
def test_three_minutes_follow_the_equations(name: str) -> None:
    """9000 frames of 20 ms, on an offset, where float32 sums lose the most."""
    pooling = make(name, 3)
    features = draw(1, 9000, 3) + 2.0
    output, gradient = gradients(pooling, features, torch.tensor([9000]))
    with torch.no_grad():
        expected = reference(name, features.double(), [9000], twin(pooling, name, 3))
    close(output, expected, 5e-6)
    assert all_finite(gradient)
    assert gradient.any()


@each_correlation
def test_three_minutes_at_full_width(name: str) -> None:
    pooling = make(name, 256)
    features = draw(1, 9000, 256)
    features[..., 1] = features[..., 0] + 0.5 * features[..., 1]
    output, gradient = gradients(pooling, features, torch.tensor([9000]))
    assert output.shape == (1, 256 * 255 // 2)
    assert all_finite(output, gradient)
    weights = None
    if name == "corr_attn":
        weights = pooling(features, torch.tensor([9000]), return_weights=True)[1][0].detach().double().numpy()
    covariance = np.cov(features[0].double().numpy().T, aweights=weights, ddof=0)
    std = np.sqrt(np.diag(covariance))
    expected = (covariance / (np.outer(std, std) + EPS))[np.triu_indices(256, 1)]
    close(output[0], torch.from_numpy(expected), 5e-6)


# --- attention ------------------------------------------------------------------------------------------------------


@each_dtype
def test_attention_weights_follow_both_forms_of_equations_7_and_8(dtype: torch.dtype) -> None:
    pooling = make("corr_attn", 5, dtype)
    features = 2 * draw(len(LENGTHS), 12, 5, dtype=dtype)
    _, weights = pooling(features, torch.tensor(LENGTHS), return_weights=True)
    mirror = twin(pooling, "corr_attn", 5)
    for row, length in enumerate(LENGTHS):
        frames = list(features[row, :length].double())
        over_heads_and_frames = equations_7_and_8(frames, *mirror.parameters())
        w_att, q, b = mirror.parameters()
        a = torch.stack([sum(torch.exp(q[h] @ torch.relu(w_att @ v) + b[h]) for h in range(4)).log() for v in frames])
        close(over_heads_and_frames, a.exp() / a.exp().sum(), 1e-12)
        close(weights[row, :length], over_heads_and_frames, TOLERANCE[dtype])


@each_dtype
def test_attentive_statistics_weigh_frames_as_okabe_equation_3(dtype: torch.dtype) -> None:
    pooling = make("attn_stats", 5, dtype)
    features = 2 * draw(len(LENGTHS), 12, 5, dtype=dtype)
    _, weights = pooling(features, torch.tensor(LENGTHS), return_weights=True)
    mirror = twin(pooling, "attn_stats", 5)
    for row, length in enumerate(LENGTHS):
        expected = okabe_equations_2_to_6(list(features[row, :length].double()), *okabe_parameters(mirror))[1]
        close(weights[row, :length], expected, TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["corr_attn", "attn_stats"])
@pytest.mark.parametrize("value", PADDINGS)
def test_attention_weights_are_a_distribution_over_the_frames(value: float, name: str) -> None:
    pooling = make(name, 4)
    lengths = torch.tensor(LENGTHS)
    _, weights = pooling(pad(draw(5, 12, 4), LENGTHS, value), lengths, return_weights=True)
    assert weights.shape == (5, 12)
    assert weights.dtype == torch.float32
    close(weights.sum(dim=1), torch.ones(5), 1e-6)
    assert weights.min() >= 0
    assert weights.max() <= 1
    for row, length in enumerate(LENGTHS):
        assert not weights[row, length:].any()
        assert weights[row, :length].all()


@pytest.mark.parametrize("name", ["corr_attn", "attn_stats"])
def test_return_weights_adds_them_and_changes_nothing(name: str) -> None:
    pooling = make(name, 4)
    features, lengths = draw(2, 6, 4), torch.tensor([6, 3])
    plain = pooling(features, lengths)
    both = pooling(features, lengths, return_weights=True)
    assert isinstance(plain, Tensor)
    assert isinstance(both, tuple)
    assert torch.equal(both[0], plain)
    assert both[1].requires_grad


def test_attention_without_preference_is_plain_correlation() -> None:
    pooling = make("corr_attn", 4)
    nn.init.zeros_(pooling.heads.weight)  # every frame gets the same similarity, whatever the biases
    features, lengths = draw(3, 8, 4), torch.tensor([8, 5, 2])
    close(pooling(features, lengths), make("corr", 4)(features, lengths), 1e-6)


def test_attentive_statistics_without_preference_are_plain_statistics() -> None:
    pooling = make("attn_stats", 4)
    nn.init.zeros_(pooling.score.weight)
    features, lengths = draw(3, 8, 4), torch.tensor([8, 5, 2])
    close(pooling(features, lengths), make("mean_std", 4)(features, lengths), 1e-6)


@pytest.mark.parametrize("name", ["corr_attn", "attn_stats"])
def test_model_gives_the_attention_of_its_pooling(name: str) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(6, 4, pooling=name, projector_dim=3).eval()
    features, lengths = draw(2, 7, 6), torch.tensor([7, 4])
    expected = model.pooling(model.projector(features), lengths, return_weights=True)[1]
    assert torch.equal(model.attention(features, lengths), expected)


# --- half precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mean_std", "corr", "corr_attn", "attn_stats"])
def test_second_order_statistics_stay_in_float32_under_autocast(name: str, dtype: torch.dtype) -> None:
    pooling = make(name, 8)
    lengths = torch.tensor([200, 120])
    features = (draw(2, 200, 8) + 3.0).to(dtype)  # what a projector gives under autocast is bfloat16
    expected = pooling(features.float(), lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        leaf = features.clone().requires_grad_()
        output = pooling(leaf, lengths)
    output.sum().backward()
    assert output.dtype == torch.float32
    # W_att and the heads run in bfloat16, which moves the weights a little; statistics alone move nothing
    close(output, expected, 1e-2 if name in ("corr_attn", "attn_stats") else 1e-6)
    assert leaf.grad.dtype == dtype
    assert all_finite(leaf.grad)


def test_attention_weights_are_a_float32_distribution_under_autocast() -> None:
    pooling = make("corr_attn", 8)
    features, lengths = draw(2, 300, 8), torch.tensor([300, 150])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, weights = pooling(features, lengths, return_weights=True)
    assert weights.dtype == torch.float32
    close(weights.sum(dim=1), torch.ones(2), 1e-6)
    assert not weights[1, 150:].any()


@each_pooling
def test_model_under_autocast_is_near_float32(name: str) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(12, 4, pooling=name, projector_dim=6, channel_dropout=0.0)
    features, lengths = draw(3, 50, 12), torch.tensor([50, 30, 1])
    expected = model(features, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(features, lengths)
    output.float().sum().backward()
    close(output.float(), expected, 3e-2)
    assert all_finite(*(parameter.grad for parameter in model.parameters()))


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projector_dim", [None, 3])
@each_pooling
def test_model_projects_pools_and_classifies(name: str, projector_dim: int | None) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(5, 4, pooling=name, projector_dim=projector_dim).double().eval()
    features = draw(3, 8, 5, dtype=torch.float64)
    lengths = [8, 5, 1]
    projected = features
    if projector_dim is not None:
        projected = features @ model.projector.weight.T + model.projector.bias
    pooled = reference(name, projected, lengths, model.pooling)
    expected = pooled @ model.classifier.weight.T + model.classifier.bias
    close(model(pad(features, lengths, torch.nan), torch.tensor(lengths)), expected, 1e-10)


def test_without_projector_the_upstreams_channels_are_pooled() -> None:
    model = CorrAttnModel(5, 4, projector_dim=None)
    assert not list(model.projector.parameters())
    assert model.pooling.output_dim == 10
    assert model.classifier.weight.shape == (4, 10)


def test_defaults_are_the_papers() -> None:
    model = CorrAttnModel(768, 4)
    assert type(model.pooling) is AttentiveCorrelationPooling
    assert model.projector.weight.shape == (256, 768)
    assert model.pooling.heads.bias.shape == (4,)
    assert model.pooling.eps == 1e-8
    assert model.dropout.p == 0.25
    assert ModelSection().model_dump() == {
        "pooling": "corr_attn",
        "projector_dim": 256,
        "num_heads": 4,
        "channel_dropout": 0.25,
        "label_smoothing": 0.25,
        "standardize": False,
    }


@each_pooling
def test_one_step_of_training_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(6, 3, pooling=name, projector_dim=4, channel_dropout=0.0)
    features, lengths, labels = draw(6, 20, 6), torch.tensor([20, 5, 9, 1, 14, 2]), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(features, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_channel_dropout_drops_whole_channels_of_an_utterance(rate: float) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(64, 4, pooling="mean", projector_dim=None, channel_dropout=rate)
    channels = model.channels(torch.ones(64, 5, 64))
    assert torch.equal(channels, channels[:, :1].expand_as(channels))  # all frames of a channel share its fate
    kept = channels[:, 0] > 0
    close(channels[:, 0][kept], torch.full((int(kept.sum()),), 1 / (1 - rate)), 1e-6)
    assert (~kept).double().mean().item() == pytest.approx(rate, abs=0.03)  # over 4096 draws
    assert not (kept == kept[:1]).all()  # utterances lose different ones


def test_channel_dropout_is_off_in_evaluation() -> None:
    model = CorrAttnModel(6, 4, projector_dim=None, channel_dropout=0.9).eval()
    features = draw(3, 7, 6)
    assert torch.equal(model.channels(features), features)


def test_no_channel_dropout_is_the_identity_in_training() -> None:
    model = CorrAttnModel(6, 4, projector_dim=None, channel_dropout=0.0).train()
    features = draw(3, 7, 6)
    assert torch.equal(model.channels(features), features)


@pytest.mark.parametrize("frames", [1, 6])
@each_pooling
def test_training_with_heavy_dropout_is_finite(name: str, frames: int) -> None:
    torch.manual_seed(0)
    model = CorrAttnModel(6, 4, pooling=name, projector_dim=5, channel_dropout=0.9)
    model(draw(8, frames, 6), torch.full((8,), frames)).logsumexp(dim=1).sum().backward()
    assert all_finite(*(parameter.grad for parameter in model.parameters()))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CorrAttnModel(8, 4, pooling="cor_attn"), r"pooling: unknown pooling 'cor_attn'; nearest: corr_attn"),
        (lambda: CorrAttnModel(8, 4, channel_dropout=-0.1), r"channel_dropout: must lie in \[0, 1\), got -0.1"),
        (lambda: CorrAttnModel(8, 4, channel_dropout=1.0), r"channel_dropout: must lie in \[0, 1\), got 1.0"),
        (lambda: CorrAttnModel(8, 4, channel_dropout=float("nan")), r"channel_dropout: must lie in .* got nan"),
        (lambda: CorrAttnModel(8, 4, projector_dim=0), r"projector_dim: must be at least 1, or null for none, got 0"),
        (lambda: CorrAttnModel(8, 4, num_heads=0), r"at least 1 head, got num_heads=0"),
        (lambda: CorrAttnModel(8, 4, projector_dim=1), r"at least 2 channels, got input_dim=1"),
        (lambda: AttentiveCorrelationPooling(4, num_heads=0), r"at least 1 head, got num_heads=0"),
        (lambda: AttentiveCorrelationPooling(1), r"at least 2 channels, got input_dim=1"),
        (lambda: CorrelationPooling(1), r"at least 2 channels, got input_dim=1"),
        (lambda: CorrelationPooling(4, eps=0.0), r"needs eps > 0, got eps=0.0"),
        (lambda: AttentiveCorrelationPooling(4, eps=-1.0), r"needs eps > 0, got eps=-1.0"),
    ],
)
def test_values_out_of_range_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


# --- label smoothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.25])
def test_loss_is_cross_entropy_against_equation_9(smoothing: float, weighted: bool) -> None:
    logits = 3 * draw(5, 4, dtype=torch.float64)
    labels = [2, 0, 3, 3, 1]
    weight = torch.tensor([0.5, 2.0, 1.0, 0.7], dtype=torch.float64) if weighted else None
    head = SimpleNamespace(class_weights=lambda: weight, class_offset=lambda: None, class_loss=ClassLossSection())
    head.categorical_loss = partial(DownstreamExpert.categorical_loss, head)
    loss = DownstreamExpert.build_loss(head, ModelSection(label_smoothing=smoothing))

    w = [1.0] * 4 if weight is None else weight.tolist()
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        partition = sum(np.exp(value) for value in row)
        for k in range(4):
            target = (k == label) * (1 - smoothing) + smoothing / 4  # eq. 9
            total -= w[k] * target * np.log(np.exp(row[k]) / partition)
    expected = total / sum(w[label] for label in labels)

    assert loss(logits, torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-12)


# --- properties -----------------------------------------------------------------------------------------------------


@st.composite
def batches(draw_value: Callable[..., Any], min_frames: int = 1) -> tuple[Tensor, list[int]]:
    """Features ``[B, T, D]`` in float64 with lengths, of which one need not reach T."""
    batch, frames = draw_value(st.integers(1, 4)), draw_value(st.integers(min_frames, 12))
    size, seed = draw_value(st.integers(2, 6)), draw_value(st.integers(0, 2**16))
    lengths = draw_value(st.lists(st.integers(min_frames, frames), min_size=batch, max_size=batch))
    return draw(batch, frames, size, seed=seed, dtype=torch.float64), lengths


@each_pooling
@quick
@given(data=batches(), value=st.sampled_from(PADDINGS))
def test_property_padding_counts_for_nothing(name: str, data: tuple[Tensor, list[int]], value: float) -> None:
    features, lengths = data
    pooling = make(name, features.shape[-1], torch.float64)
    output, gradient = gradients(pooling, pad(features, lengths, value), torch.tensor(lengths))
    close(output, reference(name, features, lengths, pooling).detach(), 1e-9)
    assert all_finite(gradient)
    assert not any(gradient[row, length:].any() for row, length in enumerate(lengths))


@each_pooling
@quick
@given(data=batches(), order=st.permutations(range(4)))
def test_property_batch_order_is_kept(name: str, data: tuple[Tensor, list[int]], order: list[int]) -> None:
    features, lengths = data
    pooling = make(name, features.shape[-1], torch.float64)
    new = [row for row in order if row < len(lengths)]
    expected = pooling(features, torch.tensor(lengths))[new]
    close(pooling(features[new], torch.tensor(lengths)[new]), expected, 1e-12)


@quick
@given(data=batches(min_frames=2), scale=st.floats(0.5, 1e3), shift=st.floats(-10, 10))
def test_property_correlation_ignores_scale_and_offset(
    data: tuple[Tensor, list[int]], scale: float, shift: float
) -> None:
    features, lengths = data
    assume(all(x[:n].std(dim=0, correction=0).min() > 0.1 for x, n in zip(features, lengths, strict=True)))
    pooling = make("corr", features.shape[-1], torch.float64)
    expected = pooling(features, torch.tensor(lengths))
    close(pooling(features * scale + shift, torch.tensor(lengths)), expected, 5e-6)  # ε against variances of 0.0025


@quick
@given(data=batches(), channel=st.integers(0, 5))
def test_property_turning_a_channel_turns_its_correlations(data: tuple[Tensor, list[int]], channel: int) -> None:
    features, lengths = data
    size = features.shape[-1]
    channel %= size
    pooling = make("corr", size, torch.float64)
    turned = features.clone()
    turned[..., channel] *= -1
    signs = torch.tensor([-1.0 if channel in pair else 1.0 for pair in itertools.combinations(range(size), 2)])
    expected = signs * pooling(features, torch.tensor(lengths))
    close(pooling(turned, torch.tensor(lengths)), expected, 1e-12)


@quick
@given(data=batches(), seed=st.integers(0, 2**16))
def test_property_swapping_frames_with_their_weights_changes_nothing(data: tuple[Tensor, list[int]], seed: int) -> None:
    features = data[0]
    weights = torch.softmax(draw(*features.shape[:2], seed=seed, dtype=torch.float64), dim=1)
    order = torch.randperm(features.shape[1], generator=torch.Generator().manual_seed(seed))
    expected = weighted_correlation(features, weights, EPS)
    close(weighted_correlation(features[:, order], weights[:, order], EPS), expected, 1e-10)
