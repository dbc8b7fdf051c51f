"""The recurrent autoencoder and its spectrogram: equations, padding, sizes, degenerate input."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_adapters import noise, tone

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.rae.adapter import (
    MelSpectrogramDb,
    RecurrentAutoencoder,
    SpectrogramSection,
    root_mean,
    squared_error,
)

hosted = importlib.import_module("s3prl.upstream.rae.model")
AutoencoderSection, reversed_in_time = hosted.AutoencoderSection, hosted.reversed_in_time
RATE, WINDOW, HOP, MELS = 16_000, 1280, 640, 128
Array = NDArray[np.float64]
FEW = settings(max_examples=25, deadline=None, derandomize=True)
ORDERS = ("audeep", "aligned")


# --- the spectrogram ----------------------------------------------------------------------------------------------


def powers_by_hand(wav: Array) -> Array:
    """Mel powers ``[T, 128]``, frame by frame and filter by filter."""
    wav = np.concatenate([wav, np.zeros(max(0, WINDOW - len(wav)))])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    corners = 700 * (10 ** (2595 * np.log10(1 + 8000 / 700) * np.arange(MELS + 2) / (MELS + 1) / 2595) - 1)
    bins = RATE / 2048 * np.arange(1025)
    rows = []
    for start in range(0, len(wav) - WINDOW + 1, HOP):
        power = np.abs(np.fft.rfft(wav[start : start + WINDOW] * hann, 2048)) ** 2
        triangles = [
            np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))
            for left, centre, right in zip(corners, corners[1:], corners[2:], strict=False)
        ]
        rows.append([(triangle * power).sum() for triangle in triangles])
    return np.array(rows)


def spectrogram_by_hand(wav: Array, clip: float | None) -> Array:
    decibels = 10 * np.log10(np.maximum(powers_by_hand(wav), 1e-8))
    decibels -= decibels.max()
    if clip is not None:
        decibels = np.maximum(decibels, clip)
    return 2 * (decibels - decibels.min()) / (decibels.max() - decibels.min()) - 1


@pytest.mark.parametrize("clip", [None, -60.0, -20.0])
@pytest.mark.parametrize("samples", [300, 1279, 1281, 9999])
def test_spectrogram_is_that_of_the_definition(samples: int, clip: float | None) -> None:
    wav = noise(samples) + tone(440, samples)
    got = MelSpectrogramDb(SpectrogramSection(clip_db=clip))(wav)
    assert got.shape == (1 + max(0, samples - WINDOW) // HOP, MELS)
    np.testing.assert_allclose(got.double(), spectrogram_by_hand(wav.double().numpy(), clip), atol=1e-4)


def test_spectrogram_ranges_from_minus_one_to_one_and_clipping_raises_what_is_quiet() -> None:
    wav = torch.cat([tone(300, 8000), 1e-4 * noise(8000)])
    plain, clipped = (MelSpectrogramDb(SpectrogramSection(clip_db=clip))(wav) for clip in (None, -30.0))
    for got in (plain, clipped):
        assert (got.min(), got.max()) == (-1, 1)
    assert (clipped == -1).float().mean() > 0.5 > (plain == -1).float().mean()


def test_loudness_does_not_matter_and_silence_is_zero() -> None:
    wav, spectrogram = noise(RATE), MelSpectrogramDb(SpectrogramSection())
    torch.testing.assert_close(spectrogram(0.25 * wav), spectrogram(wav), atol=1e-5, rtol=0)
    assert spectrogram(torch.zeros(RATE)).abs().max() == 0
    assert torch.isfinite(spectrogram(torch.full((RATE,), 0.3))).all()


def test_spectrogram_refuses_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"here\.num_mels: \d+ of 900 filters contain no FFT bin"):
        MelSpectrogramDb(SpectrogramSection(num_mels=900), "here")
    with pytest.raises(ConfigError, match=r"spectrogram\.clip_db: Input should be less than 0"):
        SpectrogramSection.read({"clip_db": 60.0}, "spectrogram")


# --- the equations ------------------------------------------------------------------------------------------------


def built(order: str = "audeep", mels: int = 3, **options: Any) -> RecurrentAutoencoder:
    """A small autoencoder with weights large enough for states to differ, in float64 and evaluation mode."""
    torch.manual_seed(1)
    options = {"hidden_size": 4, "num_layers": 2, "decoder": order} | options
    model = RecurrentAutoencoder(mels, AutoencoderSection(**options)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.7)
    return model


def utterance(frames: int, seed: int = 0, mels: int = 3) -> torch.Tensor:
    return torch.rand(frames, mels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def sigmoid(value: Array) -> Array:
    return 1 / (1 + np.exp(-value))


def gru_by_hand(weights: dict[str, Array], inputs: Array, state: Array) -> Array:
    """States ``[T, H]``: reset r, update z, candidate n; the state is (1 - z) n + z h (Cho et al. 2014)."""
    in_r, in_z, in_n = np.split(weights["weight_ih_l0"], 3)
    re_r, re_z, re_n = np.split(weights["weight_hh_l0"], 3)
    in_br, in_bz, in_bn = np.split(weights["bias_ih_l0"], 3)
    re_br, re_bz, re_bn = np.split(weights["bias_hh_l0"], 3)
    states = []
    for x in inputs:
        r = sigmoid(in_r @ x + in_br + re_r @ state + re_br)
        z = sigmoid(in_z @ x + in_bz + re_z @ state + re_bz)
        n = np.tanh(in_n @ x + in_bn + r * (re_n @ state + re_bn))
        state = (1 - z) * n + z * state
        states.append(state)
    return np.array(states)


def by_hand(model: RecurrentAutoencoder, x: Array, order: str) -> tuple[list[Array], Array, Array]:
    """States of each layer, embedding and reconstruction of one utterance ``[T, M]``."""
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def stack(prefix: str, inputs: Array, initial: list[Array]) -> list[Array]:
        layers = []
        for number, state in enumerate(initial):
            head = f"{prefix}.layers.{number}."
            own = {name.removeprefix(head): value for name, value in weights.items() if name.startswith(head)}
            inputs = gru_by_hand(own, inputs, state)
            layers.append(inputs)
        return layers

    def linear(name: str, value: Array) -> Array:
        return weights[f"{name}.weight"] @ value + weights[f"{name}.bias"]

    states = stack("encoder.gru", x, [np.zeros(4), np.zeros(4)])
    embedding = np.tanh(linear("encoder.to_embedding", np.concatenate([layer[-1] for layer in states])))
    target, count, nothing = x[::-1], len(x), np.zeros(x.shape[1])
    if order == "audeep":
        ahead = [target[t - 2] if t > 1 else nothing for t in range(count)]
        back = [target[count - 1 - t] if t > 0 else nothing for t in range(count)]
    else:
        ahead = [target[t - 1] if t > 0 else nothing for t in range(count)]
        back = [target[count - t] if t > 0 else nothing for t in range(count)]
    first = embedding.reshape(2, 2, 4)  # layer, direction
    tops = [
        stack(f"decoder.directions.{direction}", np.array(shown), list(first[:, direction]))[-1]
        for direction, shown in enumerate((ahead, back))
    ]
    frames = [
        [np.tanh(linear(f"decoder.projections.{direction}", state)) for state in top]
        for direction, top in enumerate(tops)
    ]
    if order == "aligned":
        frames[1] = frames[1][::-1]
    output = [np.tanh(linear("decoder.output", np.concatenate(pair))) for pair in zip(*frames, strict=True)]
    return states, embedding, np.array(output)[::-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_equations(order: str, frames: int) -> None:
    model, x = built(order), utterance(frames)
    lengths = torch.tensor([frames])
    states, embedding, reconstruction = by_hand(model, x.numpy(), order)
    with torch.no_grad():
        got_states, got_embedding = model.encoder(x.unsqueeze(0), lengths)
        top, same = model.encode(x.unsqueeze(0), lengths)
        got = model(x.unsqueeze(0), lengths)
    for layer, expected in zip(got_states, states, strict=True):
        np.testing.assert_allclose(layer[0], expected, atol=1e-12)
    np.testing.assert_allclose(top[0], states[-1], atol=1e-12)
    np.testing.assert_allclose(got_embedding[0], embedding, atol=1e-12)
    assert torch.equal(same, got_embedding)
    np.testing.assert_allclose(got[0], reconstruction, atol=1e-12)


def seen(order: str, frames: int) -> torch.Tensor:
    """Frames of the input ``[T_out, T_in]`` that a reconstructed frame depends on through the decoder alone."""
    model, lengths = built(order), torch.tensor([frames])
    embedding = torch.rand(1, 16, dtype=torch.float64)

    def decode(x: torch.Tensor) -> torch.Tensor:
        return reversed_in_time(model.decoder(reversed_in_time(x[None], lengths), lengths, embedding), lengths)[0]

    return torch.autograd.functional.jacobian(decode, utterance(frames)).abs().sum(dim=(1, 3)) > 0


def test_aligned_decoder_is_shown_all_but_the_frame_that_it_gives() -> None:
    assert torch.equal(seen("aligned", 6), ~torch.eye(6, dtype=torch.bool))


def test_audeeps_decoder_is_shown_what_the_module_says() -> None:
    count = 7
    expected = torch.zeros(count, count, dtype=torch.bool)
    for t in range(count):  # step t gives frame t of the target, which is frame count - 1 - t
        shown = {*range(t - 1), *range(count - 1 - t, count - 1)}
        for frame in shown:
            expected[count - 1 - t, count - 1 - frame] = True
    assert torch.equal(seen("audeep", count), expected)


def test_parameters_of_the_papers_sizes() -> None:
    model = RecurrentAutoencoder(MELS, AutoencoderSection())
    layer = 3 * 256 * (256 + 256) + 6 * 256
    stack = 3 * 256 * (128 + 256) + 6 * 256 + layer
    embedding, frame = 512 * 1024 + 1024, 256 * 128 + 128
    assert sum(weight.numel() for weight in model.parameters()) == 3 * stack + embedding + 3 * frame == 2_697_600
    assert model.encoder.embedding_size == 1024


# --- loss ---------------------------------------------------------------------------------------------------------


@FEW
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_loss_counts_the_utterances_own_frames_alone(counts: list[int], seed: int) -> None:
    lengths, generator = torch.tensor(counts), torch.Generator().manual_seed(seed)
    x, y = (torch.randn(len(counts), max(counts), 3, dtype=torch.float64, generator=generator) for _ in range(2))
    errors = [float(e) for b, n in enumerate(counts) for e in (x[b, :n] - y[b, :n]).square().flatten()]
    want = np.sqrt(np.mean(errors))
    for row, count in enumerate(counts):
        x[row, count:] = float("nan")
    assert float(root_mean(squared_error(x, y, lengths))) == pytest.approx(want, rel=1e-12)


def test_loss_of_batches_adds_up_and_is_exact_in_half_precision() -> None:
    x, y = torch.rand(4, 5, 3), torch.rand(4, 5, 3)
    lengths = torch.tensor([5, 2, 4, 1])
    parts = squared_error(x[:1], y[:1], lengths[:1]) + squared_error(x[1:], y[1:], lengths[1:])
    torch.testing.assert_close(parts, squared_error(x, y, lengths))
    assert squared_error(x.half(), y.half(), lengths).dtype == torch.float32


def test_a_perfect_reconstruction_has_loss_and_gradient_zero() -> None:
    x = torch.rand(1, 3, 2, requires_grad=True)
    loss = root_mean(squared_error(x.detach(), x, torch.tensor([3])))
    loss.backward()
    assert loss == 0
    assert x.grad is not None
    assert x.grad.abs().max() == 0


# --- padding, degenerate input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@FEW
@given(counts=st.lists(st.integers(1, 8), min_size=1, max_size=4), extra=st.integers(0, 3))
def test_padding_and_company_change_nothing(order: str, counts: list[int], extra: int) -> None:
    model, lengths = built(order), torch.tensor(counts)
    x = torch.full((len(counts), max(counts) + extra, 3), float("nan"), dtype=torch.float64)
    for row, count in enumerate(counts):
        x[row, :count] = utterance(count, seed=row)
    loss = root_mean(squared_error(x, model(x, lengths), lengths))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    total = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        states, embeddings = model.encode(x, lengths)
        together = model(x, lengths)
    for row, count in enumerate(counts):
        alone, length = x[row : row + 1, :count], torch.tensor([count])
        own_states, own_embedding = model.encode(alone, length)
        own = model(alone, length)
        total = total + squared_error(alone, own, length)
        torch.testing.assert_close(states[row, :count], own_states[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(embeddings[row], own_embedding[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together[row, :count], own[0], rtol=0, atol=1e-12)
        assert (together[row, count:] == 0).all()
        assert (states[row, count:] == 0).all()
    torch.testing.assert_close(loss, root_mean(total), rtol=1e-12, atol=0)
    for got, want in zip(gradients, torch.autograd.grad(root_mean(total), list(model.parameters())), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "x", [torch.zeros(1, 1, 3), torch.zeros(2, 9, 3), torch.full((2, 9, 3), 1.0), -torch.ones(1, 40, 3)]
)
def test_one_frame_silence_and_constants_have_finite_gradients(x: torch.Tensor, order: str) -> None:
    model = built(order).float().train()
    lengths = torch.full((len(x),), x.shape[1])
    root_mean(squared_error(x, model(x, lengths), lengths)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


def test_dropout_is_for_training_alone() -> None:
    model, x, lengths = built(dropout=0.5), utterance(6)[None], torch.tensor([6])
    assert torch.equal(model(x, lengths), model(x, lengths))
    model.train()
    assert not torch.equal(model(x, lengths), model(x, lengths))


def test_reversed_in_time() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]]).unsqueeze(-1)
    got = reversed_in_time(x, torch.tensor([3, 2])).squeeze(-1)
    assert got.tolist() == [[3.0, 2.0, 1.0], [5.0, 4.0, 0.0]]
