"""Moonshine, Parakeet, Qwen2-Audio and Voxtral as ``hf_speech``, against plain ``transformers``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from conftest import tone
from safetensors import safe_open
from tiny_models import ENCODERS

import s3prl_emotion
from s3prl_emotion.errors import AudioError, ConfigError, UsageError
from s3prl_emotion.files.folders import CACHE_VARIABLE
from s3prl_emotion.upstreams.check.checks import check_upstream

s3prl_emotion.register()
import s3prl.hub  # noqa: E402
from s3prl.upstream.hf_speech import frontends  # noqa: E402
from s3prl.upstream.hf_speech.depth import count_layers  # noqa: E402

KINDS = list(ENCODERS)
SOME = [*KINDS[:-1], pytest.param("voxtral", marks=pytest.mark.full)]  # its code here is Qwen2-Audio's
WINDOWED = ("qwen2_audio", "voxtral")
RATES = {"moonshine": 384, "parakeet": 1280, "qwen2_audio": 320, "voxtral": 320}  # samples
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a directory of a tiny model by kind; it is shared, so tests must not write into it."""
    root = tmp_path_factory.mktemp("encoders")
    return cache(lambda kind: ENCODERS[kind](root / kind))


def build(folder: Path, **options: Any) -> Any:
    return s3prl.hub.hf_speech_custom(str(folder), options)


def short(kind: str) -> dict[str, Any]:
    """Return options with which a window costs little."""
    return {"window": "audio"} if kind in WINDOWED else {}


def speech(*lengths: int) -> list[torch.Tensor]:
    """Return tones in noise with these numbers of samples."""
    return [torch.from_numpy(tone(100.0 + 50 * number, 1, number).repeat(1 + length // 16_000)[:length].copy())
            for number, length in enumerate(lengths)]  # fmt: skip


@torch.no_grad()
def features(upstream: Any, *waveforms: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return upstream(list(waveforms))["hidden_states"]


@torch.no_grad()
def plain(folder: Path, waveform: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, Any]:
    """Return what goes into and comes out of each layer of the whole model's encoder, its output, and the encoder."""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(folder).eval()
    names = ("Encoder", "MoonshineEncoder")
    encoder = next(part for part in model.modules() if type(part).__name__.endswith(names) and hasattr(part, "layers"))
    layers: list[torch.Tensor] = []
    encoder.layers[0].register_forward_pre_hook(lambda module, inputs: layers.append(inputs[0]))
    for layer in encoder.layers:
        layer.register_forward_hook(
            lambda module, inputs, output: layers.append(output[0] if isinstance(output, tuple) else output)
        )
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    return layers, encoder(**inputs).last_hidden_state, encoder


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_plain_transformers(kind: str, folders: Folders):
    [waveform] = speech(12_345)
    upstream = build(folders(kind))
    ours = upstream([waveform])
    (*theirs, last), output, encoder = plain(folders(kind), waveform)
    if kind == "qwen2_audio":  # its frames are halved behind the last layer, which is left out here
        halved = encoder.layer_norm(encoder.avg_pooler(last.transpose(1, 2)).transpose(1, 2))
        torch.testing.assert_close(output, halved, rtol=0, atol=1e-6)
        output = encoder.layer_norm(last)
    frames = upstream.frames(len(waveform))
    assert frames == {"moonshine": (len(waveform) - 895) // 384 + 1}.get(kind, -(-len(waveform) // RATES[kind]))
    assert len(ours["hidden_states"]) == 4
    for one, other in zip(ours["hidden_states"], [*theirs, output], strict=True):
        torch.testing.assert_close(one, other[:, :frames], rtol=0, atol=1e-5)
    assert torch.equal(ours["hidden_states"][-1], ours["last_hidden_state"])


@pytest.mark.parametrize("kind", SOME)
def test_an_utterance_does_not_depend_on_its_batch(kind: str, folders: Folders):
    upstream = build(folders(kind), **short(kind))
    assert upstream.get_downsample_rates() == RATES[kind]
    waveforms = speech(16_000, 5_003, 320, 15_700, 16_000, 5_100, 894, 895, 1)
    together = features(upstream, *waveforms)
    for row, waveform in enumerate(waveforms):
        frames = upstream.frames(len(waveform))
        for layer, mixed in zip(features(upstream, waveform), together, strict=True):
            assert layer.shape[1] == frames >= 1
            assert torch.isfinite(layer).all()
            assert (mixed[row, :frames] - layer[0]).norm() < 1e-5 * layer.norm()
            assert not mixed[row, frames:].any()


@pytest.mark.parametrize("kind", SOME)
def test_silence_and_one_frame_are_finite(kind: str, folders: Folders):
    upstream = build(folders(kind), **short(kind))
    for waveform in (torch.zeros(8_000), torch.full((8_000,), 0.5), torch.zeros(1), torch.ones(321)):
        assert all(torch.isfinite(layer).all() for layer in features(upstream, waveform))


@pytest.mark.parametrize("kind", SOME)
def test_layers_above_are_cut_off(kind: str, folders: Folders):
    [waveform] = speech(8_000)
    whole, cut = build(folders(kind), **short(kind)), build(folders(kind), num_layers=2, **short(kind))
    expected = features(whole, waveform)
    whole.cut_after(2)
    for upstream in (cut, whole):
        assert len(upstream.transformer_layers()) == 2
        assert all(map(torch.equal, features(upstream, waveform), expected[:3]))
    assert count_layers("hf_speech_custom", str(folders(kind)), None) == 4
    assert count_layers("hf_speech_custom", str(folders(kind)), {"num_layers": 2}) == 3


@pytest.mark.parametrize("kind", SOME)
def test_gradients_reach_every_layer_in_training(kind: str, folders: Folders):
    upstream = build(folders(kind), **short(kind)).train()
    layers = upstream(speech(8_000, 4_000))["hidden_states"]
    sum(layer.square().sum() for layer in layers).backward()
    gradients = {name: p.grad for name, p in upstream.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    for number in range(3):
        assert any(f"layers.{number}." in name and gradient.any() for name, gradient in gradients.items())


def test_window_of_qwen2_audio_is_that_of_an_encoder_with_as_many_positions(folders: Folders, tmp_path: Path):
    [waveform] = speech(20_000)
    fewer = ENCODERS["qwen2_audio"](tmp_path / "fewer", max_source_positions=100)
    weights = safetensors.torch.load_file(folders("qwen2_audio") / "model.safetensors")
    name = "audio_tower.embed_positions.weight"
    weights[name] = weights[name][:100].clone()
    safetensors.torch.save_file(weights, fewer / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((fewer / "preprocessor_config.json").read_text()) | {"chunk_length": 2, "n_samples": 32_000}
    (fewer / "preprocessor_config.json").write_text(json.dumps(settings))
    upstream = build(folders("qwen2_audio"), window="audio")
    for one, other in zip(features(upstream, waveform), features(build(fewer), waveform), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert upstream.model.embed_positions.weight.shape[0] == upstream.model.config.max_source_positions == 1500


# --- loading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_alone_is_loaded(kind: str, folders: Folders):
    upstream = build(folders(kind))
    names = {name for file in folders(kind).glob("*.safetensors") for name in safe_open(file, "pt").keys()}  # noqa: SIM118
    own = [name for name in names if "audio_tower." in name or "encoder." in name]
    others = names - set(own)
    assert others
    assert len(upstream.model.state_dict()) == len(own)


def test_an_encoder_saved_by_itself(folders: Folders, tmp_path: Path):
    for kind in ("parakeet", "voxtral"):
        whole = build(folders(kind), **short(kind))
        plain(folders(kind), torch.zeros(4_000))[2].save_pretrained(tmp_path / kind)
        shutil.copy(folders(kind) / "preprocessor_config.json", tmp_path / kind)
        [waveform] = speech(4_000)
        again = build(tmp_path / kind, **short(kind))
        assert all(map(torch.equal, features(again, waveform), features(whole, waveform)))
        assert again.identity() == whole.identity()


def test_parts_that_do_not_fit(folders: Folders, tmp_path: Path):
    own = Path(shutil.copytree(folders("qwen2_audio"), tmp_path / "own"))
    weights = safetensors.torch.load_file(own / "model.safetensors")
    lost = {name: tensor for name, tensor in weights.items() if "audio_tower.layers.1.fc1" not in name}
    safetensors.torch.save_file(lost, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"2 weights of Qwen2AudioEncoder are missing, for example layers.1.fc1.bias"):
        build(own)
    values = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(values | {"audio_config": None}))
    with pytest.raises(UsageError, match=r"config.json must hold audio_config, the encoder's configuration"):
        build(own)
    with pytest.raises(ConfigError, match=r"only Whisper has one, with Qwen2-Audio and Voxtral; .* of type moonshine"):
        build(folders("moonshine"), window=15)


def test_audio_beyond_parakeets_positions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """transformers 5 computes the positions of any length, version 4 refuses."""
    upstream = build(ENCODERS["parakeet"](tmp_path / "parakeet", max_position_embeddings=10))
    if not transformers.__version__.startswith("4."):
        assert features(upstream, *speech(16_000))[0].shape[1] == 13
    monkeypatch.setattr(frontends.transformers, "__version__", "4.57.6")
    assert features(upstream, *speech(12_800))[0].shape[1] == 10
    with pytest.raises(AudioError, match=r"1 s of audio are 13 frames, but Parakeet takes 10 at most \(1 s\) in"):
        upstream(speech(16_000))


def test_parakeet_without_librosa_is_one_line(folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """transformers 4.57 needs librosa for Parakeet's preprocessor, and says so wherever the class is used."""
    own = Path(shutil.copytree(folders("parakeet"), tmp_path / "own"))

    class Lacking(type):
        def __getattribute__(cls, name: str) -> None:
            raise ImportError("\nParakeetFeatureExtractor requires the librosa library.\n")

        def __call__(cls, **options: object) -> None:
            raise ImportError("\nParakeetFeatureExtractor requires the librosa library.\n")

    monkeypatch.setattr(sys.modules["transformers"], "ParakeetFeatureExtractor", Lacking("Extractor", (), {}))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"cannot be loaded: ParakeetFeatureExtractor requires the librosa") as at:
            build(own)
        assert "\n" not in str(at.value)
        (own / "preprocessor_config.json").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", SOME)
def test_preprocessor_is_that_of_the_family_where_there_is_none(kind: str, folders: Folders, tmp_path: Path):
    own = Path(shutil.copytree(folders(kind), tmp_path / "own"))
    for file in own.glob("p*_config.json"):
        file.unlink()
    [waveform] = speech(4_000)
    expected = features(build(folders(kind), **short(kind)), waveform)
    assert all(map(torch.equal, features(build(own, **short(kind)), waveform), expected))


def test_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    upstream = s3prl.hub.hf_speech_random(model_config={"family": "qwen2_audio_encoder", "config": sizes})
    assert features(upstream, *speech(4_000))[-1].shape == (1, 13, 16)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_check_upstream_passes(kind: str, folders: Folders):
    """Speech of mixed lengths in a batch, 0.02 s to 60 s, silence, determinism."""
    checks = check_upstream(build(folders(kind)).eval(), "hidden_states")
    assert [check for check in checks if check.ok is False] == []
