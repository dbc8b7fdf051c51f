"""TC-GRU and its loss against Mitra et al. 2024's section 3.4, written out in float64 numpy here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import s3prl_emotion
from s3prl_emotion.errors import ConfigError, EmotionError
from s3prl_emotion.experts.reduction import SalientDimensions
from s3prl_emotion.experts.tcgru import TCGRU

s3prl_emotion.register()

from s3prl.downstream.emotion_tcgru.model import DimensionalLoss, TCGRUModel  # noqa: E402

Array = NDArray[np.float64]
LENGTHS = (7, 3, 12, 1, 2)
PADDINGS = (0.0, 1.0, -1e4, 1e30, float("nan"), float("inf"), float("-inf"))
SMALL: dict[str, Any] = {"conv_channels": 6, "gru_dim": 5, "embedding_dim": 4}

quick = settings(derandomize=True, deadline=None, database=None, max_examples=30)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


# --- the reference: an utterance at a time, a frame at a time -------------------------------------------------------


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def convolved(frames: Array, weight: Array, bias: Array) -> Array:
    """Correlation over time with silence on both sides; ``weight [C, D, K]``, output ``[T, C]`` after ReLU."""
    filters, _, kernel = weight.shape
    result = np.zeros((len(frames), filters))
    for t in range(len(frames)):
        for offset in range(kernel):
            seen = t + offset - kernel // 2
            if 0 <= seen < len(frames):
                result[t] += weight[:, :, offset] @ frames[seen]
    return np.maximum(result + bias, 0)


def recurrent(frames: Array, w_i: Array, w_h: Array, b_i: Array, b_h: Array) -> Array:
    """One GRU layer as torch documents it; the rows of the weights are reset, update, new."""
    units = w_h.shape[1]
    h, states = np.zeros(units), []
    for x in frames:
        i, o = w_i @ x + b_i, w_h @ h + b_h
        r = sigmoid(i[:units] + o[:units])
        z = sigmoid(i[units : 2 * units] + o[units : 2 * units])
        n = np.tanh(i[2 * units :] + r * o[2 * units :])
        h = (1 - z) * n + z * h
        states.append(h)
    return np.stack(states)


def embedded(frames: Array, weights: dict[str, Array]) -> Array:
    """TC-GRU of one utterance ``[T, D]``: ``[E]``."""
    frames = convolved(frames, weights["convolution.weight"], weights["convolution.bias"])
    layer = 0
    while f"gru.weight_ih_l{layer}" in weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        frames = recurrent(frames, *(weights[f"gru.{name}_l{layer}"] for name in names))
        layer += 1
    return np.maximum(weights["embedding.weight"] @ frames[-1] + weights["embedding.bias"], 0)


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def reference(trunk: TCGRU, features: Tensor, lengths: Any) -> Array:
    """TC-GRU of a padded batch ``[B, T, D]``: ``[B, E]``."""
    weights, batch = weights_of(trunk), features.detach().double().numpy()
    return np.stack([embedded(row[:length], weights) for row, length in zip(batch, lengths, strict=True)])


def concordance(x: Array, y: Array) -> float:
    """Eq. 5 with population moments."""
    rho = ((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std())
    return 2 * rho * x.std() * y.std() / (x.std() ** 2 + y.std() ** 2 + (x.mean() - y.mean()) ** 2)


# --- tools ----------------------------------------------------------------------------------------------------------


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def trunk_of(*sizes: Any, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> TCGRU:
    torch.manual_seed(seed)
    return TCGRU(*sizes, **options).to(dtype)


def model_of(*sizes: Any, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> TCGRUModel:
    torch.manual_seed(seed)
    return TCGRUModel(*sizes, **(SMALL | options)).to(dtype)


def pad(features: Tensor, lengths: Any, value: float | Tensor) -> Tensor:
    padded = features.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = value[row, length:] if isinstance(value, Tensor) else value
    return padded


def gradients(model: nn.Module, features: Tensor, lengths: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, and the gradients of a random combination of it with respect to features and parameters."""
    leaf = features.clone().requires_grad_()
    model.zero_grad()
    output = model(leaf, torch.tensor(lengths))
    (output * draw(*output.shape, seed=3, dtype=output.dtype)).sum().backward()
    return output.detach(), leaf.grad, [parameter.grad.clone() for parameter in model.parameters()]


def close(actual: Any, expected: Any, tolerance: float) -> None:
    """Maximal difference within ``tolerance`` of the largest entry (at least of 1)."""
    actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(1.0, expected.abs().max().item()))


def all_finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- TC-GRU ---------------------------------------------------------------------------------------------------------


@quick
@given(data=st.data())
def test_property_forward_is_the_equations(data: st.DataObject) -> None:
    size = st.integers(1, 6)
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    frames = max(lengths) + data.draw(st.integers(0, 2))
    sizes = {"conv_channels": data.draw(size), "gru_dim": data.draw(size), "embedding_dim": data.draw(size)}
    sizes |= {"kernel_size": data.draw(st.sampled_from([1, 3, 5])), "gru_layers": data.draw(st.integers(1, 3))}
    dims, seed = data.draw(size), data.draw(st.integers(0, 2**16))
    trunk = trunk_of(dims, seed=seed, dtype=torch.float64, **sizes)
    features = 2 * draw(len(lengths), frames, dims, seed=seed, dtype=torch.float64)
    padded = pad(features, lengths, data.draw(st.sampled_from(PADDINGS)))
    output = trunk(padded, torch.tensor(lengths))
    assert output.shape == (len(lengths), sizes["embedding_dim"])
    close(output.detach(), reference(trunk, features, lengths), 1e-12)


@each_dtype
def test_forward_at_the_papers_sizes(dtype: torch.dtype) -> None:
    trunk = trunk_of(40, dtype=dtype)
    features = draw(len(LENGTHS), 12, 40, dtype=dtype)
    expected = reference(trunk, features, LENGTHS)
    close(trunk(features, torch.tensor(LENGTHS)).detach(), expected, 1e-12 if dtype == torch.float64 else 2e-6)
    assert (expected > 0).mean() == pytest.approx(0.5, abs=0.2)  # ReLU: some are off


def test_gradcheck_of_features_and_parameters() -> None:
    trunk = trunk_of(3, 4, 3, 3, 2, 3, dtype=torch.float64)
    features = draw(2, 5, 3, dtype=torch.float64).requires_grad_()
    names = [name for name, _ in trunk.named_parameters()]

    def forward(values: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(trunk, given, (values, torch.tensor([5, 3])))

    assert torch.autograd.gradcheck(forward, (features, *trunk.parameters()))


@pytest.mark.full
def test_a_minute_is_finite() -> None:
    trunk, features = trunk_of(8, **SMALL), 3 * draw(1, 3000, 8) + 1
    output, gradient, slopes = gradients(trunk, features, [3000])
    assert all_finite(output, gradient, *slopes)
    close(output, reference(trunk, features, [3000]), 1e-5)


# --- padding, batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [*PADDINGS, "random"])
@pytest.mark.parametrize("layers", [1, 2])
def test_content_of_padding_changes_nothing(value: float | str, layers: int) -> None:
    model = model_of(4, gru_layers=layers)
    lengths = [6, 3, 1]
    features = draw(3, 6, 4)
    content = 100 * draw(3, 6, 4, seed=9) if isinstance(value, str) else value
    expected, slope, slopes = gradients(model, pad(features, lengths, 0.0), lengths)
    output, gradient, of_parameters = gradients(model, pad(features, lengths, content), lengths)
    assert torch.equal(output, expected)  # to the bit: what was padded is set to 0 before anything is computed
    assert torch.equal(gradient, slope)
    for mine, before in zip(of_parameters, slopes, strict=True):
        assert torch.equal(mine, before)
    for row, length in enumerate(lengths):
        assert not gradient[row, length:].any()
        assert gradient[row, :length].any()


@quick
@given(data=st.data())
def test_property_neighbours_and_padding_change_nothing(data: st.DataObject) -> None:
    """Values and gradients of each utterance in a batch are those of the utterance alone."""
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    more = data.draw(st.integers(0, 3))
    value = data.draw(st.sampled_from(PADDINGS))
    model = model_of(4, seed=data.draw(st.integers(0, 99)), dtype=torch.float64, target_variance=True)
    features = draw(len(lengths), max(lengths) + more, 4, seed=data.draw(st.integers(0, 99)), dtype=torch.float64)
    padded = pad(features, lengths, value).requires_grad_()
    together = model(padded, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = features[row : row + 1, :length].clone().requires_grad_()
        output = model(alone, torch.tensor([length]))
        close(together[row].detach(), output[0].detach(), 1e-12)
        (gradient,) = torch.autograd.grad(together[row].sum(), padded, retain_graph=True)
        output.sum().backward()
        close(gradient[row, :length], alone.grad[0], 1e-12)
        gradient[row, :length] = 0
        assert not gradient.any()


def test_order_of_the_batch_is_the_order_of_the_output() -> None:
    model = model_of(4)
    features, lengths, order = draw(5, 12, 4), torch.tensor(LENGTHS), torch.tensor([3, 0, 4, 2, 1])
    close(model(features[order], lengths[order]).detach(), model(features, lengths)[order].detach(), 1e-6)


def test_inputs_stay_as_they_were() -> None:
    features, lengths = pad(draw(3, 6, 4), [6, 3, 1], 5.0), torch.tensor([6, 3, 1])
    before = features.clone()
    model_of(4)(features, lengths).sum().backward()
    assert torch.equal(features, before)
    assert lengths.tolist() == [6, 3, 1]


# --- degenerate utterances ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("level", [0.0, 0.1, -3.7, 1000.3])
def test_constant_and_silent_utterances_are_finite(level: float, frames: int) -> None:
    model = model_of(4, target_variance=True)
    output, gradient, slopes = gradients(model, torch.full((3, frames, 4), level), [frames] * 3)
    assert all_finite(output, gradient, *slopes)
    close(output[0], output[2], 1e-6)


@pytest.mark.parametrize("frames", [1, 50])
def test_a_batch_of_equal_utterances_gives_a_finite_loss(frames: int) -> None:
    """Predictions that do not vary: 0/0 wherever the labels do not either."""
    model, loss = model_of(4, target_variance=True), DimensionalLoss()
    for target in (draw(3, 6), torch.zeros(3, 6), torch.full((3, 6), 1e6)):
        model.zero_grad()
        value = loss(model(torch.zeros(3, frames, 4), torch.full((3,), frames)), target)
        value.backward()
        assert value.item() == pytest.approx(0.0, abs=1e-6)
        assert all_finite(*(parameter.grad for parameter in model.parameters()))


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [False, True])
def test_model_is_tcgru_and_linear_outputs(variance: bool) -> None:
    model = model_of(5, target_variance=variance, dtype=torch.float64)
    features, lengths = draw(3, 8, 5, dtype=torch.float64), [8, 5, 1]
    embedding = reference(model.acoustic, features, lengths)
    expected = embedding @ model.output.weight.detach().numpy().T + model.output.bias.detach().numpy()
    output = model(features, torch.tensor(lengths))
    assert output.shape == (3, 6 if variance else 3)
    close(output.detach(), expected, 1e-12)


def test_lexical_embedding_stands_beside_the_acoustic_one() -> None:
    model = model_of(5, lexical_dim=7, target_variance=True, dtype=torch.float64)
    features, lengths = draw(3, 8, 5, dtype=torch.float64), [8, 5, 1]
    words = draw(3, 7, seed=1, dtype=torch.float64)
    branch = weights_of(model.lexical)
    lexical = np.maximum(words.numpy() @ branch["0.weight"].T + branch["0.bias"], 0)
    both = np.concatenate([reference(model.acoustic, features, lengths), lexical], axis=1)
    expected = both @ model.output.weight.detach().numpy().T + model.output.bias.detach().numpy()
    output = model(features, torch.tensor(lengths), words)
    close(output.detach(), expected, 1e-12)
    assert not torch.allclose(model(features, torch.tensor(lengths), -words), output)


@pytest.mark.parametrize("kept", [None, [0, 3, 5, 11]])
def test_lexical_embedding_joined_early_is_repeated_over_the_frames(kept: list[int] | None) -> None:
    reduction = None if kept is None else SalientDimensions(12, kept)
    sizes = {"lexical_dim": 7, "lexical_join": "early", "target_variance": True}
    model = model_of(5, reduction, dtype=torch.float64, **sizes)
    features, lengths, words = draw(3, 8, 5, dtype=torch.float64), [8, 5, 1], draw(3, 7, seed=1, dtype=torch.float64)
    joined = np.stack([np.array([[*frame, *said] for frame in row]) for row, said in zip(features, words, strict=True)])
    joined = joined if kept is None else joined[..., kept]
    embedding = reference(model.acoustic, torch.from_numpy(joined), lengths)
    expected = embedding @ model.output.weight.detach().numpy().T + model.output.bias.detach().numpy()
    close(model(pad(features, lengths, torch.nan), torch.tensor(lengths), words).detach(), expected, 1e-12)
    assert model.lexical is None
    assert model.acoustic.convolution.in_channels == (12 if kept is None else 4)


@pytest.mark.parametrize("join", ["early", "late"])
def test_lexical_branch_without_an_embedding_is_refused(join: str) -> None:
    with pytest.raises(ConfigError, match=r"modelrc\.lexical: the model has a lexical branch, but no lexical"):
        model_of(5, lexical_dim=7, lexical_join=join)(draw(1, 3, 5), torch.tensor([3]))


def paper_size(join: str, filters: int, keep: float = 1.0) -> int:
    """Parameters with the streams of Fig. 3, two of 1024 dimensions and two of 768, as the README's table has them."""
    dims = [1024, 1024, *([768, 768] if join == "early" else [])]
    kept = sum(int(keep * size + 0.5) for size in dims)
    with torch.device("meta"):  # only counted
        reduction = None if keep == 1 else SalientDimensions(sum(dims), range(kept))
        model = TCGRUModel(2048, reduction, 1536, True, conv_channels=filters, lexical_join=join)
    return count(model)


@pytest.mark.parametrize(
    ("join", "filters", "size", "falls"),
    [("early", 288, 15.8, [16, 31, 47]), ("early", 256, 14.3, [15, 31, 46]), ("late", 256, 10.4, [12, 24, 36])],
)
def test_sizes_of_table_2(join: str, filters: int, size: float, falls: list[int]) -> None:
    """The paper has 15.6 MB, and 16, 32 and 49 % less with 80, 60 and 40 % of the input: no late join has."""
    whole = paper_size(join, filters)
    assert round(4 * whole / 1e6, 1) == size
    assert [round(100 * (1 - paper_size(join, filters, keep) / whole)) for keep in (0.8, 0.6, 0.4)] == falls
    if join == "early":  # weights and biases of section 3.4, by hand
        gru = 3 * 256 * (filters + 256 + 2) + 3 * 256 * (256 + 256 + 2)
        assert whole == filters * (3 * 3584 + 1) + gru + 128 * 257 + 6 * 129
    else:
        at_most = [filters for filters in range(32, 1024, 32) if 4 * paper_size(join, filters) / 1e6 < 16]
        assert at_most[-1] == 448
        assert all(1 - paper_size(join, filters, 0.8) / paper_size(join, filters) < 0.145 for filters in at_most)


def test_reduction_stands_ahead_of_the_convolution() -> None:
    class Every(nn.Module):
        output_dim = 2

        def forward(self, features: Tensor) -> Tensor:
            return features[..., ::3]

    model = model_of(6, Every(), dtype=torch.float64)
    features, lengths = draw(2, 8, 6, dtype=torch.float64), [8, 5]
    assert model.acoustic.convolution.weight.shape == (6, 2, 3)
    expected = reference(model.acoustic, features[..., ::3], lengths) @ model.output.weight.detach().numpy().T
    output = model(pad(features, lengths, torch.nan), torch.tensor(lengths))
    close(output.detach(), expected + model.output.bias.detach().numpy(), 1e-12)


def test_defaults_are_the_papers() -> None:
    model = TCGRUModel(1024)
    assert model.acoustic.convolution.kernel_size == (3,)
    assert (model.acoustic.gru.hidden_size, model.acoustic.gru.num_layers) == (256, 2)
    assert not model.acoustic.gru.bidirectional
    assert model.acoustic.embedding.out_features == 128
    assert model.acoustic.dropout.p == model.acoustic.gru.dropout == 0.0
    torch.testing.assert_close(DimensionalLoss().weights, torch.full((3,), 1 / 3))


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_is_of_training_alone(layers: int) -> None:
    model = model_of(4, dropout=0.5, gru_layers=layers)
    features, lengths = draw(4, 9, 4), torch.tensor([9, 5, 2, 1])
    assert not torch.equal(model(features, lengths), model(features, lengths))
    plain = model_of(4, gru_layers=layers)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(features, lengths), plain(features, lengths))


@pytest.mark.filterwarnings("error")
def test_one_layer_with_dropout_warns_of_nothing() -> None:
    trunk_of(4, gru_layers=1, dropout=0.5, conv_channels=2, gru_dim=2, embedding_dim=2)


def test_training_lowers_the_loss() -> None:
    model, loss = model_of(6, target_variance=True), DimensionalLoss()
    features, lengths = draw(8, 20, 6), torch.tensor([20, 5, 9, 1, 14, 2, 7, 20])
    target, optimizer = draw(8, 6, seed=1), torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(30):
        value = loss(model(features, lengths), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_model_under_autocast_is_near_float32() -> None:
    model = model_of(12, target_variance=True)
    features, lengths = draw(3, 50, 12), torch.tensor([50, 30, 1])
    expected = model(features, lengths).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(pad(features, [50, 30, 1], torch.nan), lengths)
        value = DimensionalLoss()(output, draw(3, 6))
    value.backward()
    assert value.dtype == torch.float32
    close(output.detach().float(), expected, 3e-2)
    assert all_finite(*(parameter.grad for parameter in model.parameters()))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TCGRU(0), r"TC-GRU: all sizes must be at least 1"),
        (lambda: TCGRU(4, conv_channels=0), r"all sizes must be at least 1"),
        (lambda: TCGRU(4, kernel_size=0), r"all sizes must be at least 1"),
        (lambda: TCGRU(4, gru_dim=0), r"all sizes must be at least 1"),
        (lambda: TCGRU(4, gru_layers=0), r"all sizes must be at least 1"),
        (lambda: TCGRU(4, embedding_dim=0), r"all sizes must be at least 1"),
        (lambda: TCGRU(4, kernel_size=4), r"modelrc\.kernel_size: must be odd, so that no frame moves, got 4"),
        (lambda: TCGRU(4, dropout=1.0), r"modelrc\.dropout: must lie in \[0, 1\), got 1.0"),
        (lambda: TCGRU(4, dropout=-0.1), r"modelrc\.dropout: must lie in \[0, 1\), got -0.1"),
        (lambda: TCGRU(4, dropout=float("nan")), r"modelrc\.dropout: must lie in \[0, 1\), got nan"),
        (lambda: DimensionalLoss(alpha=0.7, beta=0.5), r"alpha \(0.7\) and beta \(0.5\) must be at least 0 and sum to"),
        (lambda: DimensionalLoss(alpha=-0.1), r"must be at least 0"),
        (lambda: DimensionalLoss(beta=-0.1), r"must be at least 0"),
        (lambda: DimensionalLoss(alpha=float("nan")), r"must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


# --- parameters -----------------------------------------------------------------------------------------------------


@quick
@given(data=st.data())
def test_property_number_of_parameters(data: st.DataObject) -> None:
    size = st.integers(1, 20)
    d, c, h, e, lexical = (data.draw(size) for _ in range(5))
    kernel, layers = data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(1, 3))
    variance, with_text = data.draw(st.booleans()), data.draw(st.booleans())
    sizes = {"conv_channels": c, "kernel_size": kernel, "gru_dim": h, "gru_layers": layers, "embedding_dim": e}
    model = TCGRUModel(d, None, lexical * with_text, variance, **sizes)
    trunk = c * (d * kernel + 1) + 3 * h * (c + h + 2) + (layers - 1) * 3 * h * (2 * h + 2) + e * (h + 1)
    outputs = 6 if variance else 3
    branch = e * (lexical + 1) if with_text else 0
    assert count(model.acoustic) == trunk
    assert count(model) == trunk + branch + outputs * (e * (2 if with_text else 1) + 1)


def test_number_of_parameters_of_mitra_2025() -> None:
    """TC-GRU of the 2025 paper, which shares it: 9 classes and 3 dimensions from 1024 channels."""
    trunk = TCGRU(1024, conv_channels=256, gru_dim=256, gru_layers=2, embedding_dim=256)
    assert count(trunk) + count(nn.Linear(256, 12)) == 1_645_068


@pytest.mark.parametrize("keep", [0.8, 0.6, 0.4])
def test_parameters_fall_with_the_dimensions(keep: float) -> None:
    from s3prl_emotion.experts.reduction import SalientDimensions

    kept = list(range(round(1024 * keep)))
    reduced = TCGRUModel(1024, SalientDimensions(1024, kept))
    assert count(TCGRUModel(1024)) - count(reduced) == 3 * 256 * (1024 - len(kept))


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1 / 3, 1 / 3), (0.5, 0.2), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.6, 0.4)]
)
def test_loss_is_equations_4_and_5(alpha: float, beta: float) -> None:
    output, target = draw(40, 3, dtype=torch.float64), draw(40, 3, seed=1, dtype=torch.float64)
    target = target + output * torch.tensor([0.5, 2.0, -1.0])
    activation, valence, dominance = (concordance(*np.stack([output[:, k], target[:, k]])) for k in range(3))
    expected = -(alpha * valence + beta * activation + (1 - alpha - beta) * dominance)
    assert DimensionalLoss(alpha, beta)(output, target).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("alone", "column"), [({"alpha": 1.0, "beta": 0.0}, 1), ({"alpha": 0.0, "beta": 1.0}, 0)])
def test_alpha_is_of_valence_and_beta_of_activation(alone: dict[str, float], column: int) -> None:
    output = draw(9, 3, dtype=torch.float64).requires_grad_()
    DimensionalLoss(**alone)(output, draw(9, 3, seed=1, dtype=torch.float64)).backward()
    felt = output.grad.abs().sum(dim=0) > 0
    assert felt.nonzero().flatten().tolist() == [column]


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_spreads_are_learnt_beside_the_means(weight: float) -> None:
    output, target = draw(20, 6, dtype=torch.float64), draw(20, 6, seed=1, dtype=torch.float64)
    loss = DimensionalLoss(0.5, 0.2, weight)
    means, spreads = loss(output[:, :3], target[:, :3]), loss(output[:, 3:], target[:, 3:])
    assert loss(output, target).item() == pytest.approx((means + weight * spreads).item(), abs=1e-12)


def test_gradcheck_of_the_loss() -> None:
    output = draw(7, 6, dtype=torch.float64).requires_grad_()
    target = draw(7, 6, seed=1, dtype=torch.float64)
    loss = DimensionalLoss(0.5, 0.2, 0.7)
    assert torch.autograd.gradcheck(lambda values: loss(values, target), output)


def test_one_utterance_has_no_concordance() -> None:
    output = draw(1, 6).requires_grad_()
    value = DimensionalLoss()(output, draw(1, 6, seed=1))
    value.backward()
    assert value.item() == 0
    assert not output.grad.any()


def test_outputs_and_targets_of_other_widths_are_refused() -> None:
    with pytest.raises(EmotionError, match=r"concordance_loss: prediction \[4, 3\] and target \[4, 2\]"):
        DimensionalLoss()(draw(4, 3), draw(4, 2))
