"""The sum of a batch's layers, written into one padded batch, against its definition in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s3prl_emotion.errors import AudioError
from s3prl_emotion.masking import PaddedFeatures, pad_features
from s3prl_emotion.upstreams import fused_sum
from s3prl_emotion.upstreams.featurizer import Featurizer
from s3prl_emotion.upstreams.fused_sum import sum_layers

FRAMES = {"mixed": [3, 1, 4], "one frame": [1], "none in one": [0, 2]}
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert two frames of 4 x 6 at a time, and one of more layers."""
    for name in ("BLOCK_ON_CPU", "BLOCK_ON_GPU"):
        monkeypatch.setattr(fused_sum, name, 50)


def random_stacks(frames: Sequence[int], layers: int = 4, dim: int = 6, **options: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(frames) + layers)
    stacks = [torch.randn(layers, length, dim, generator=generator, dtype=torch.float64) * 2 + 1 for length in frames]
    return [stack.to(**options) for stack in stacks]


def shares_of(layers: int, **options: Any) -> Tensor:
    return torch.linspace(-1.0, 2.0, layers, dtype=torch.float64).softmax(0).to(**options).requires_grad_()


def expected(stacks: Sequence[Tensor], weights: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """The sum in float64 and its gradient for the weights, frame by frame from the definition; slope cos(1, 2, ...)."""
    batch = torch.zeros(len(stacks), max(stack.shape[1] for stack in stacks), stacks[0].shape[-1], dtype=torch.float64)
    slope, gradient = slope_of(batch), torch.zeros(len(weights), dtype=torch.float64)
    for b, stack in enumerate(stacks):
        for t in range(stack.shape[1]):
            for number, weight in enumerate(weights.detach().double()):
                frame = stack[number, t].detach().double()
                if normalize:
                    frame = (frame - frame.mean()) / (frame.var(correction=0) + 1e-5).sqrt()
                batch[b, t] += weight * frame
                gradient[number] += (slope[b, t] * frame).sum()
    return batch, gradient


def slope_of(batch: Tensor) -> Tensor:
    return torch.arange(batch.numel(), dtype=torch.float64).cos().view_as(batch).to(batch)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("frames", FRAMES)
def test_gradients_are_those_of_finite_differences(frames: str, layers: int, normalize: bool):
    frozen, weights = random_stacks(FRAMES[frames], layers, 3), shares_of(layers)
    assert torch.autograd.gradcheck(lambda values: sum_layers(frozen, values, normalize), [weights])
    learned = [stack.requires_grad_() for stack in frozen]
    assert torch.autograd.gradcheck(lambda values, *stacks: sum_layers(stacks, values, normalize), [weights, *learned])


def compare(frames: str, dtype: torch.dtype, normalize: bool, device: str, autocast: bool) -> None:
    stacks = random_stacks(FRAMES[frames], dtype=dtype, device=device)
    weights = shares_of(4, dtype=torch.float32, device=device)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        batch = sum_layers(stacks, weights, normalize)
        batch.backward(slope_of(batch))
    assert batch.dtype == torch.float32
    values, gradient = expected([stack.cpu() for stack in stacks], weights.cpu(), normalize)
    torch.testing.assert_close(batch.detach().cpu().double(), values, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(weights.grad.cpu().double(), gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("frames", "autocast"), [*((frames, False) for frames in FRAMES), ("mixed", True)])
def test_it_is_the_weighted_sum_padded_with_zeros(frames: str, dtype: torch.dtype, normalize: bool, autocast: bool):
    compare(frames, dtype, normalize, "cpu", autocast)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_is_the_same_on_a_gpu():
    for dtype in DTYPES:
        for normalize, autocast in ((False, False), (True, False), (False, True)):
            compare("mixed", dtype, normalize, "cuda", autocast)


def test_memory_layouts_do_not_matter():
    stacks, weights = random_stacks([5, 3], dtype=torch.float32), shares_of(4, dtype=torch.float32)
    twisted = [stack.transpose(1, 2).contiguous().transpose(1, 2) for stack in stacks]
    batch = sum_layers(twisted, weights)
    batch.backward(slope_of(batch).transpose(0, 2).contiguous().transpose(0, 2))
    values, gradient = expected(stacks, weights, False)
    torch.testing.assert_close(batch.detach().double(), values, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(weights.grad.double(), gradient, rtol=1e-5, atol=1e-5)
    weights.grad = None
    sum_layers(stacks, weights).sum().backward()  # an expanded gradient
    torch.testing.assert_close(weights.grad, sum(stack.sum((1, 2)) for stack in stacks))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_that_holds_nan_leaves_no_trace(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    weights = shares_of(4, dtype=torch.float32)
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size: torch.full(size, torch.nan, dtype=self.dtype))
    assert sum_layers(random_stacks([5, 1, 0], dtype=dtype), weights).isfinite().all()


class _Largest(TorchDispatchMode):
    """Note the elements of the largest tensor that an operation made, views apart, and count those of one size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.largest, self.of_size, self.size = 0, 0, size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            held = {value.untyped_storage().data_ptr() for value in args if isinstance(value, Tensor)}
            is_new = result.untyped_storage().data_ptr() not in held
            self.largest = max(self.largest, result.numel() * is_new)
            self.of_size += is_new and result.numel() == self.size
        return result


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_neither_stacks_nor_the_padded_gradient_are_copied(dtype: torch.dtype, normalize: bool):
    featurizer = featurizer_of(normalize=normalize)
    stacks = random_stacks([7, 5, 6, 7], layers=16, dtype=dtype)
    with _Largest(4 * 7 * 6) as seen:
        batch, _ = pad_features(featurizer.weigh_batch(stacks), list("abcd"))
        batch.backward(slope := torch.ones_like(batch))
    assert seen.largest == batch.numel() == seen.size
    assert seen.of_size <= 2  # the batch, and the slope of ones
    assert slope.shape == batch.shape
    assert featurizer.weights.grad.abs().sum() > 0


# --- the featurizer and the heads -------------------------------------------------------------------------------------


class _Upstream(torch.nn.Module):
    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        return {"hidden_states": [torch.ones(len(wavs), 5, 6) for _ in range(16)]}


def featurizer_of(**options: Any) -> Featurizer:
    featurizer = Featurizer(_Upstream(), "hidden_states", upstream_device="cpu", **options)
    featurizer.weights.data = torch.linspace(-1, 1, 16)
    return featurizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("normalize", [False, True])
def test_training_and_evaluation_read_the_same_features(dtype: torch.dtype, normalize: bool):
    featurizer, stacks = featurizer_of(normalize=normalize), random_stacks([4, 9], layers=16, dtype=dtype)
    trained = featurizer.weigh_batch(iter(stacks))
    assert isinstance(trained, PaddedFeatures)
    with torch.no_grad():
        evaluated = featurizer.weigh_batch(iter(stacks))
    assert not isinstance(evaluated, PaddedFeatures)  # stacks need not be in memory together
    for one, other in zip(trained, evaluated, strict=True):  # a product's last bit can depend on its row's address
        torch.testing.assert_close(one.detach(), other, rtol=1e-6, atol=1e-6)


def test_heads_that_read_single_utterances_have_the_same_gradients():
    featurizer, stacks, names = featurizer_of(), random_stacks([4, 9], layers=16, dtype=torch.float32), list("ab")
    gradients = []
    for read in (lambda rows: pad_features(rows, names)[0], lambda rows: pad_features(list(rows), names)[0]):
        featurizer.weights.grad = None
        batch = read(featurizer.weigh_batch(stacks))
        batch.backward(slope_of(batch))
        gradients.append(featurizer.weights.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_a_batch_without_utterances():
    assert featurizer_of().weigh_batch(iter([])) == []


def test_frozen_weights_need_no_stack_for_a_backward_pass():
    featurizer = featurizer_of()
    featurizer.weights.requires_grad_(False)
    features = featurizer.weigh_batch(random_stacks([4, 9], layers=16, dtype=torch.float32))
    assert type(features) is list
    assert not any(feature.requires_grad for feature in features)


def test_a_changed_list_is_padded_anew():
    rows = PaddedFeatures(torch.ones(2, 3, 4), [3, 2])
    assert pad_features(rows, list("ab"))[0] is rows.batch()
    rows[1] = rows[1] * 2
    assert rows.batch() is None
    padded, lengths = pad_features(rows, list("ab"))
    assert padded[1].sum() == 2 * 2 * 4
    assert lengths.tolist() == [3, 2]
    rows.append(torch.ones(5, 4))
    assert pad_features(rows, list("abc"))[0].shape == (3, 5, 4)
    with pytest.raises(AudioError, match=r"^b: too short"):
        pad_features(PaddedFeatures(torch.ones(2, 3, 4), [3, 0]), list("ab"))
