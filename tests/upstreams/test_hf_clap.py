"""``hf_clap``: embeddings and frames of CLAP's audio encoder against plain ``transformers``, windows, bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import tone
from tiny_models import save_model

import s3prl_emotion
from s3prl_emotion.audio import resample
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.upstreams.check.checks import check_upstream

s3prl_emotion.register()
import s3prl.hub  # noqa: E402

Folders = Callable[[str], Path]
WINDOW = 160_000  # samples at 16 kHz
FRAME = 5_000


def save_clap(folder: Path, fused: bool) -> Path:
    """Save a CLAP with its text encoder, as the published ones but narrow."""
    audio = {
        "patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "hidden_size": 64,
        "enable_fusion": fused, "fusion_type": "aff_2d" if fused else None,
    }  # fmt: skip
    text = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    transformers.ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc").save_pretrained(folder)
    return save_model(folder, transformers.ClapModel, config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a directory of a tiny CLAP, fused or unfused; it is shared, so tests must not write into it."""
    root = tmp_path_factory.mktemp("clap")
    return cache(lambda kind: save_clap(root / kind, kind == "fused"))


def build(folder: Path, **options: Any) -> Any:
    return s3prl.hub.hf_clap_custom(str(folder), options)


@torch.no_grad()
def features(upstream: Any, *waveforms: np.ndarray) -> torch.Tensor:
    [layer] = upstream([torch.from_numpy(wav.copy()) for wav in waveforms])["hidden_states"]
    return layer


@torch.no_grad()
def plain(folder: Path, wav: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embedding ``[D]`` and the last layer ``[D, F, T]`` of at most 10 s, from the whole model's parts."""
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    inputs = extractor(resample(wav, 16_000, 48_000), sampling_rate=48_000, return_tensors="pt")
    output = model.audio_model(inputs["input_features"].float(), is_longer=torch.zeros(1, 1, dtype=torch.bool))
    return model.audio_projection(output.pooler_output)[0], output.last_hidden_state[0]


@pytest.mark.parametrize("kind", ["unfused", "fused"])
def test_features_are_those_of_plain_transformers(kind: str, folders: Folders):
    wav = tone(200.0, 1, 3)[:12_345]
    embedding, last = plain(folders(kind), wav)
    upstream = build(folders(kind))
    torch.testing.assert_close(features(upstream, wav)[0, 0], embedding, rtol=0, atol=1e-5)
    assert upstream.one_frame
    assert upstream.frames(12_345) == 1
    assert not [name for name, _ in upstream.named_parameters() if "text" in name]
    frames = features(build(folders(kind), output="frames"), wav)
    assert frames.shape == (1, 3, 64)
    torch.testing.assert_close(frames[0], last.mean(dim=1).t()[:3], rtol=0, atol=1e-5)


def test_frames_follow_time(folders: Folders):
    """Noise in one part of the spectrogram changes the frames of that part most."""
    upstream = build(folders("unfused"), output="frames")
    wav = tone(200.0, 10, 1)[:WINDOW]
    before = features(upstream, wav)[0]
    for first in (2, 13, 30):  # in different rows of the square into which the spectrogram is folded
        other = wav.copy()
        other[first * FRAME : (first + 1) * FRAME] = 0.3 * np.random.default_rng(0).standard_normal(FRAME)
        changed = (features(upstream, other)[0] - before).norm(dim=1)
        assert abs(int(changed.argmax()) - first) <= 1
    assert upstream.get_downsample_rates() == FRAME
    assert [upstream.frames(samples) for samples in (1, FRAME, FRAME + 1, WINDOW, WINDOW + 1)] == [1, 1, 2, 32, 33]


def test_longer_audio_is_split_into_windows(folders: Folders):
    fused = folders("fused")
    wav = np.concatenate([tone(200.0, 10, 1)[:WINDOW], tone(400.0, 5, 2)[:40_000]])
    parts = [plain(fused, wav[:WINDOW]), plain(fused, wav[WINDOW:])]
    embedding = 0.8 * parts[0][0] + 0.2 * parts[1][0]
    # the resampler sees both windows at once, so that their edge differs
    torch.testing.assert_close(features(build(fused), wav)[0, 0], embedding, rtol=0, atol=1e-3)
    frames = torch.cat([part[1].mean(dim=1).t() for part in parts])[:40]
    ours = features(build(fused, output="frames"), wav)[0]
    assert ours.shape == frames.shape
    assert (ours - frames).norm() < 1e-3 * frames.norm()


def test_an_utterance_does_not_depend_on_its_batch_nor_on_the_seed(folders: Folders):
    upstream = build(folders("fused"), output="frames")
    waveforms = [tone(150.0, 1, row)[:length] for row, length in enumerate((5_001, 1))]
    state = np.random.get_state()[2], torch.get_rng_state()
    together = features(upstream, *waveforms)
    assert np.random.get_state()[2] == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    for row, wav in enumerate(waveforms):
        alone = features(upstream, wav)[0]
        assert len(alone) == upstream.frames(len(wav))
        assert torch.isfinite(alone).all()
        assert torch.equal(together[row, : len(alone)], alone)
        assert not together[row, len(alone) :].any()


def test_gradients_reach_the_encoder(folders: Folders):
    upstream = build(folders("unfused")).train()
    upstream([torch.from_numpy(tone(150.0, 1, 1)[:4_000].copy())])["hidden_states"][0].square().sum().backward()
    reached = {name for name, parameter in upstream.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in reached} == {"audio_model", "audio_projection"}


def test_what_is_refused(folders: Folders, tmp_path: Path):
    with pytest.raises(UsageError, match="-u hf_clap_custom: -k is required"):
        s3prl.hub.hf_clap_custom()
    with pytest.raises(ConfigError, match=r"output: .*'embedding' or 'frames'"):
        build(folders("unfused"), output="words")
    own = Path(shutil.copytree(folders("unfused"), tmp_path / "own"))
    settings = json.loads((own / "preprocessor_config.json").read_text())
    (own / "preprocessor_config.json").write_text(
        json.dumps(settings | {"max_length_s": 20, "nb_max_samples": 960_000})
    )
    with pytest.raises(UsageError, match=r"2001 frames of 64 bands, config.json at most 1024 of 64; the two files do"):
        build(own)
    values = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(values | {"model_type": "bert"}))
    with pytest.raises(UsageError, match=r"model_type 'bert' in config.json is no CLAP; supported: clap, clap_audio"):
        build(own)


@pytest.mark.full
@pytest.mark.parametrize("output", ["embedding", "frames"])
def test_check_upstream_passes(output: str, folders: Folders):
    checks = check_upstream(build(folders("unfused"), output=output).eval(), "hidden_states")
    assert [check for check in checks if check.ok is False] == []
