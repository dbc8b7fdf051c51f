"""Whisper's features in other windows than its own, against a plain encoder with as many positions."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import tone
from tiny_models import save_tiny_hubert, save_tiny_whisper

import s3prl_emotion
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.upstreams import memory
from s3prl_emotion.upstreams.check.checks import check_upstream

s3prl_emotion.register()
import s3prl.hub  # noqa: E402

MIXED = (16_000, 5_003, 40_000, 320, 16_001, 1, 32_000)  # samples
Layers = list[torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper with windows of 30 s; tests must not write into it."""
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper") / "whole")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper saved with 150 positions (3 s), whose preprocessor is the usual one of 30 s."""
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper") / "short", max_source_positions=150)


def build(folder: Path, **options: Any) -> Any:
    return s3prl.hub.hf_speech_custom(ckpt=str(folder), model_config=options)


def speech(*lengths: int) -> list[torch.Tensor]:
    """Return tones in noise with these numbers of samples."""
    return [torch.from_numpy(tone(100.0 + 50 * number, 1, number).repeat(1 + length // 16_000)[:length].copy())
            for number, length in enumerate(lengths)]  # fmt: skip


@torch.no_grad()
def features(upstream: Any, *waveforms: torch.Tensor) -> Layers:
    """Return ``[B, T, D]`` of each layer."""
    return list(upstream(list(waveforms))["hidden_states"])


@torch.no_grad()
def plain(folder: Path, waveform: torch.Tensor, positions: int) -> Layers:
    """Return ``[1, T, D]`` of each layer from an encoder that has no more positions, computed by ``transformers``."""
    whole = transformers.WhisperModel.from_pretrained(folder).encoder
    config = copy.deepcopy(whole.config)
    config.max_source_positions = positions
    encoder = type(whole)(config).eval()
    weights = whole.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:positions]
    encoder.load_state_dict(weights)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt", max_length=positions * 320)
    layers = encoder(inputs["input_features"], output_hidden_states=True).hidden_states
    return [layer[:, : -(-len(waveform) // 320)] for layer in layers]


@pytest.mark.parametrize(
    ("window", "samples", "positions"),
    [("audio", 1, 50), ("audio", 16_000, 50), ("audio", 16_001, 100), (15, 40_001, 750), (2.5, 40_000, 125)],
)
def test_features_are_those_of_an_encoder_with_as_many_positions(
    window: Any, samples: int, positions: int, folder: Path
):
    [waveform] = speech(samples)
    ours, theirs = features(build(folder, window=window), waveform), plain(folder, waveform, positions)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    [_, *others] = features(build(folder), waveform)
    assert any((one - other).norm() > 1e-3 * other.norm() for one, other in zip(ours[1:], others, strict=True))


@pytest.mark.parametrize("window", ["audio", 2])
def test_an_utterance_does_not_depend_on_its_batch(window: Any, folder: Path):
    upstream, waveforms = build(folder, window=window), speech(*MIXED)
    together = features(upstream, *waveforms)
    for row, waveform in enumerate(waveforms):
        frames = upstream.frames(len(waveform))
        for layer, mixed in zip(features(upstream, waveform), together, strict=True):
            torch.testing.assert_close(mixed[row, :frames], layer[0], rtol=0, atol=1e-5)
            assert not mixed[row, frames:].any()


@pytest.mark.parametrize(("window", "rest"), [("audio", 100), (2, 100), (None, 150)])
def test_longer_audio_is_split_into_windows(window: Any, rest: int, short: Path):
    size = 32_000 if window == 2 else 48_000  # samples
    upstream = build(short, **({"window": window} if window else {}))
    assert upstream.window_samples == size
    [waveform] = speech(2 * size + 20_000)
    parts = [plain(short, part, rest if len(part) < size else size // 320) for part in waveform.split(size)]
    for number, layer in enumerate(features(upstream, waveform)):
        joined = torch.cat([part[number][0] for part in parts])
        torch.testing.assert_close(layer[0], joined, rtol=0, atol=1e-5)


def test_only_the_window_is_computed(folder: Path):
    upstream, seen = build(folder, window="audio"), []
    upstream.model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[:2]))
    features(upstream, *speech(*MIXED))
    assert sorted(map(tuple, seen)) == [(1, 150), (2, 100), (4, 50)]
    assert upstream.model.config.max_source_positions == upstream.model.embed_positions.num_embeddings == 1500


def test_the_window_of_the_model_is_the_default_and_any_other_has_a_key_of_its_own(folder: Path):
    default = build(folder).identity()
    assert "window" not in default["preprocessor"]
    assert build(folder, window=30).identity() == default
    [waveform] = speech(8_000)
    assert all(map(torch.equal, features(build(folder, window=30), waveform), features(build(folder), waveform)))
    keys = [json.dumps(build(folder, window=window).identity()) for window in ("audio", 15, 29.98)]
    assert len({*keys, json.dumps(default)}) == 4


def test_threads_share_an_upstream(folder: Path):
    upstream, waveforms = build(folder, window="audio"), speech(8_000, 40_000)
    alone = [features(upstream, waveform)[-1] for waveform in waveforms]
    wrong: list[object] = []

    def compute(number: int) -> None:
        try:
            for _ in range(10):
                torch.testing.assert_close(features(upstream, waveforms[number])[-1], alone[number])
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=compute, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_error_leaves_the_encoder_as_it_was(folder: Path):
    upstream = build(folder, window="audio")
    hook = upstream.model.layers[0].register_forward_pre_hook(lambda module, inputs: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        features(upstream, *speech(8_000))
    hook.remove()
    assert upstream.model.config.max_source_positions == upstream.model.embed_positions.num_embeddings == 1500
    assert features(upstream, *speech(8_000))[0].shape == (1, 25, 16)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (0.01, r"takes multiples of a frame \(0.02 s\) up to its 1500 positions \(30 s\), or audio, got 0.01"),
        (0, "got 0"),
        (-1, "got -1"),
        (30.02, "got 30.02"),
        (1.01, "got 1.01"),
        (float("nan"), "window"),
        (float("inf"), "window"),
        ("word", "window: .*must be a number of seconds, or audio"),
        (True, "window: .*must be a number of seconds, or audio"),
    ],
)
def test_windows_that_are_none(window: Any, message: str, folder: Path):
    with pytest.raises(ConfigError, match=message) as caught:
        build(folder, window=window)
    assert "\n" not in str(caught.value)


def test_windows_above_the_positions_of_a_model_with_fewer(short: Path):
    with pytest.raises(ConfigError, match=r"150 positions \(3 s\), or audio, got 30"):
        build(short, window=30)


def test_only_whisper_has_a_window(tmp_path: Path):
    folder = save_tiny_hubert(tmp_path / "hubert")
    with pytest.raises(ConfigError, match=r"window: only Whisper has one, .* is of type hubert; leave it out"):
        build(folder, window="audio")


def test_a_preprocessor_with_shorter_windows_than_the_model(tmp_path: Path):
    folder = save_tiny_whisper(tmp_path / "whisper")
    transformers.WhisperFeatureExtractor(chunk_length=15).save_pretrained(folder)
    with pytest.raises(UsageError, match=r"240000 samples, .* 1500 positions .* together. 'window: 30' in -g"):
        build(folder)
    assert build(folder, window=30).window_samples == 480_000


@pytest.mark.full
def test_check_upstream_passes(folder: Path):
    """Speech of mixed lengths in a batch, 0.02 s to 60 s, silence, determinism."""
    checks = check_upstream(build(folder, window="audio").eval(), "hidden_states")
    assert [check for check in checks if check.ok is False] == []


def recorded(compute: Callable[[torch.Tensor], object], samples: int) -> float:
    """Return the peak of a computation, by the same count of tensors, with the margin."""
    run, wav = memory._Recorder(), torch.randn(samples)
    with run:
        compute(wav)
    own = [(size, size, size) for size in run.sizes]
    return memory.Allocations(1, tuple(own), tuple(run.events)).peak(memory.SHORTEST + 2)


@pytest.mark.parametrize(("window", "seconds"), [("audio", 2.5), ("audio", 20), ("audio", 31), (1, 2.5), (15, 31)])
def test_memory_is_that_of_the_window(window: Any, seconds: float, folder: Path):
    upstream = build(folder, window=window)

    def compute(wav: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([layer[0] for layer in upstream([wav])["hidden_states"]])

    found = memory.measure(compute, 320, torch.device("cpu"), upstream)
    assert found is not None
    samples = round(seconds * SAMPLE_RATE)
    peak = recorded(compute, samples)
    assert 0.99 * peak <= found.peak(samples) <= 1.2 * peak
