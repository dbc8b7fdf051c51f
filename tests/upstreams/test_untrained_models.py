"""``-u hf_speech_random``: models with random weights, the same for the same options."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import CONVOLUTIONS, SIZES

from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.files.folders import CACHE_VARIABLE

host.register()
SMALL = {**SIZES, **CONVOLUTIONS}
WHISPER = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(**options: object) -> torch.nn.Module:
    return host.find_upstream("hf_speech_random")(model_config=options).eval()


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([item.flatten() for item in model.parameters()])


@pytest.mark.parametrize(
    ("family", "config"), [("hubert", SMALL), ("wavlm", SMALL), ("wav2vec2", SMALL), ("whisper", WHISPER)]
)
def test_families(family: str, config: dict[str, object]):
    model = build(family=family, config=config)
    layers = model([torch.sin(torch.arange(8000) / 9)])["hidden_states"]
    assert len(layers) == (3 if family == "whisper" else 4)
    assert layers[-1].shape[2] == 16
    assert torch.isfinite(torch.stack(layers)).all()


def test_same_options_same_weights(cache: Path):
    first = weights(build(config=SMALL))
    shutil.rmtree(cache)
    assert torch.equal(first, weights(build(config=SMALL)))
    assert not torch.equal(first, weights(build(config=SMALL, seed=1)))


def test_it_is_made_once(cache: Path):
    build(config=SMALL)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    build(config=SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert not list(cache.rglob("*.tmp-*"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"family": "huber"}, r"model_config\.family: unknown family 'huber'; nearest: hubert"),
        ({"famly": "hubert"}, r"model_config\.famly: unknown key; nearest: family"),
        ({"config": {"hidden_siz": 8}}, r"model_config\.config\.hidden_siz: unknown key; nearest: hidden_size"),
        ({"config": SMALL | {"num_attention_heads": 3}}, r"model_config\.config: no such model"),
    ],
)
def test_bad_options_are_refused(cache: Path, options: dict[str, object], match: str):
    with pytest.raises(ConfigError, match=match):
        build(**options)
    assert not list(cache.rglob("*.safetensors"))


def test_a_checkpoint_is_refused():
    with pytest.raises(UsageError, match="its weights are random, there is no checkpoint; omit -k"):
        host.find_upstream("hf_speech_random")(ckpt="somewhere")


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UsageError, match=rf"cannot be written .* name a folder in {CACHE_VARIABLE}"):
        build(config=SMALL)
