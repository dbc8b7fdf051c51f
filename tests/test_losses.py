"""Test the CCC loss against the paper's equations in float64, and where its terms vanish."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3prl_emotion.errors import EmotionError
from s3prl_emotion.losses import concordance_loss


def ccc(x: list[float], y: list[float]) -> float:
    """Compute CCC as in Mitra et al. 2024, eq. 5, term by term, with population moments."""
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    deviation_x = (sum((a - mean_x) ** 2 for a in x) / n) ** 0.5
    deviation_y = (sum((b - mean_y) ** 2 for b in y) / n) ** 0.5
    rho = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / n / (deviation_x * deviation_y)
    return 2 * rho * deviation_x * deviation_y / (deviation_x**2 + deviation_y**2 + (mean_x - mean_y) ** 2)


def pair(rows: int = 12, columns: int = 3, seed: int = 0, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = 4 + torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    prediction = 3.5 + 0.6 * (target - 4) + 0.5 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return prediction.to(kind), target.to(kind)


def test_loss_is_eqs_4_and_5() -> None:
    prediction, target = pair()
    values = [ccc(prediction[:, k].tolist(), target[:, k].tolist()) for k in range(3)]
    alpha = beta = 1 / 3
    expected = -(alpha * values[0] + beta * values[1] + (1 - alpha - beta) * values[2])
    loss = concordance_loss(prediction, target)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert len(set(np.round(values, 3))) == 3  # else a wrong weight would not show


@pytest.mark.parametrize("rows", [2, 3, 64])
def test_moments_are_those_of_the_population(rows: int) -> None:
    prediction, target = pair(rows, columns=1, seed=rows)
    expected = audmetric.concordance_cc(target[:, 0].numpy(), prediction[:, 0].numpy())
    assert -concordance_loss(prediction, target).item() == pytest.approx(expected, rel=1e-12)


def test_weights_are_shares_of_the_columns() -> None:
    prediction, target = pair()
    values = [ccc(prediction[:, k].tolist(), target[:, k].tolist()) for k in range(3)]
    loss = concordance_loss(prediction, target, torch.tensor([2.0, 0.0, 6.0]))
    assert loss.item() == pytest.approx(-(0.25 * values[0] + 0.75 * values[2]), rel=1e-7)
    equal = concordance_loss(prediction, target, torch.full((3,), 5.0, dtype=torch.float64))
    assert equal.item() == pytest.approx(concordance_loss(prediction, target).item(), rel=1e-14)


def test_gradient_is_that_of_finite_differences() -> None:
    prediction, target = (values.requires_grad_() for values in pair(6))
    assert torch.autograd.gradcheck(concordance_loss, (prediction, target))
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, y: concordance_loss(x, y, weights), (prediction, target))


def test_equal_prediction_and_target_are_the_minimum() -> None:
    _, target = pair(kind=torch.float32)
    prediction = target.clone().requires_grad_()
    loss = concordance_loss(prediction, target)
    loss.backward()
    assert loss.item() == pytest.approx(-1, abs=1e-6)
    assert prediction.grad is not None
    assert prediction.grad.abs().max() < 1e-6


def with_gradient(prediction: Tensor, target: Tensor) -> tuple[float, Tensor]:
    prediction = prediction.clone().requires_grad_()
    loss = concordance_loss(prediction, target)
    loss.backward()
    assert prediction.grad is not None
    return loss.item(), prediction.grad


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6])
def test_constant_prediction_and_target(rows: int, value: float) -> None:
    """0/0 is defined as 0 with gradient 0, also where the mean has a rounding error (0.1) or is large (1e6)."""
    same = torch.full((rows, 2), value)
    loss, gradient = with_gradient(same, same)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))
    loss, gradient = with_gradient(same + 1, same)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_one_constant_column_leaves_the_others_alone() -> None:
    prediction, target = pair(kind=torch.float32)
    alone, slope = with_gradient(prediction[:, :1], target[:, :1])
    prediction[:, 1:], target[:, 1:] = 0.1, 0.1
    loss, gradient = with_gradient(prediction, target)
    assert loss == pytest.approx(alone / 3, rel=1e-6)
    torch.testing.assert_close(gradient[:, :1], slope / 3)


def test_a_constant_prediction_is_pulled_towards_a_varying_target() -> None:
    _, target = pair(kind=torch.float32)
    prediction = torch.full_like(target, 4.2)
    loss, gradient = with_gradient(prediction, target)
    assert loss == pytest.approx(0, abs=1e-7)
    after, _ = with_gradient(prediction - 0.1 * gradient, target)
    assert after < loss


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 9),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    exponent=st.integers(-40, 15),
    levels=st.integers(1, 3),
)
def test_value_and_gradient_are_finite(rows: int, seed: int, kind: torch.dtype, exponent: int, levels: int) -> None:
    """Draw from few distinct values, from vanishing to huge, so that constant and equal columns are frequent."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** min(exponent, 4 if kind == torch.float16 else 15)
    draw = [torch.randint(levels, (rows, 2), generator=generator).double() * scale for _ in range(2)]
    prediction, target = (values.to(kind) for values in draw)
    loss, gradient = with_gradient(prediction, target)
    assert -1 - 1e-6 <= loss <= 1 + 1e-6
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("scale", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_gradient_of_vanishing_float16_does_not_overflow(scale: float) -> None:
    """The slope 1 / (B std) may exceed 65504, float16's largest value; a case that hypothesis found."""
    prediction, target = (torch.tensor(values, dtype=torch.float64)[:, None] * scale for values in ([0, 1], [0, 2]))
    _, gradient = with_gradient(prediction.half(), target.half())
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    """300² overflows float16."""
    prediction, target = (100 * values for values in pair(64, kind=kind))
    loss = concordance_loss(prediction, target)
    assert loss.dtype == torch.float32
    exact = concordance_loss(prediction.double(), target.double())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_large_offsets_do_not_cancel() -> None:
    prediction, target = pair(64)
    exact = concordance_loss(prediction.float().double(), target.float().double()).item()
    shifted = concordance_loss(prediction.float().double() + 1e6, target.float().double() + 1e6).item()
    assert shifted == pytest.approx(exact, abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 20), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_properties_of_ccc(seed: int, rows: int, scale: float, shift: float) -> None:
    """CCC is symmetric, invariant to a common change of scale, and never exceeds Pearson's correlation."""
    prediction, target = pair(rows, 1, seed)
    loss = concordance_loss(prediction, target).item()
    assert concordance_loss(target, prediction).item() == pytest.approx(loss, abs=1e-12)
    changed = concordance_loss(scale * prediction + shift, scale * target + shift).item()
    assert changed == pytest.approx(loss, abs=1e-8)
    pearson = np.corrcoef(prediction[:, 0], target[:, 0])[0, 1]
    assert abs(loss) <= abs(pearson) + 1e-9


@pytest.mark.parametrize(
    ("prediction", "target", "weights"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), None),
        (torch.zeros(4), torch.zeros(4), None),
        (torch.zeros(0, 3), torch.zeros(0, 3), None),
        (torch.zeros(4, 3), torch.zeros(4, 3), torch.ones(2)),
    ],
)
def test_shapes_that_do_not_fit(prediction: Tensor, target: Tensor, weights: Tensor | None) -> None:
    with pytest.raises(EmotionError, match=r"concordance_loss: .*\[") as error:
        concordance_loss(prediction, target, weights)
    assert "\n" not in str(error.value)
