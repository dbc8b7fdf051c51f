"""emotion2vec from checkpoints in FunASR's format: the same features as FunASR's own code, safe loading, bad input."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hub_settings import set_hub
from torch import Tensor
from torch.nn import functional

import s3prl_emotion
from s3prl_emotion.errors import CheckpointError, ConfigError, UsageError

RATE = 16_000
SIZES: dict[str, Any] = {"channels": 16, "dim": 24, "hidden": 48, "heads": 3, "prenet": 2, "blocks": 3, "tokens": 4}
AUDIO = "modality_encoders.AUDIO."
SCALE = f"{AUDIO}alibi_scale"
CONVOLUTION = f"{AUDIO}local_encoder.conv_layers.3.0.weight"
KERNELS = (10, 3, 3, 3, 3, 2, 2)


def funasr_tensors(
    channels: int, dim: int, hidden: int, heads: int, prenet: int, blocks: int, tokens: int, biases: int = 1
) -> dict[str, Tensor]:
    """Random tensors under FunASR's names."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{AUDIO}extra_tokens": (1, tokens, dim),
        SCALE: (biases, 1, heads, 1, 1),
        f"{AUDIO}project_features.1.weight": (channels,),
        f"{AUDIO}project_features.1.bias": (channels,),
        f"{AUDIO}project_features.2.weight": (dim, channels),
        f"{AUDIO}project_features.2.bias": (dim,),
        f"{AUDIO}context_encoder.norm.weight": (dim,),
        f"{AUDIO}context_encoder.norm.bias": (dim,),
        f"{AUDIO}decoder.blocks.0.0.weight": (8, 2, 7),  # of the pretraining
        "proj.weight": (9, dim),  # of the classes of "plus"
        "proj.bias": (9,),
    }
    for number, kernel in enumerate(KERNELS):
        local = f"{AUDIO}local_encoder.conv_layers.{number}."
        shapes |= {f"{local}0.weight": (channels, channels if number else 1, kernel)}
        shapes |= {f"{local}2.1.{name}": (channels,) for name in ("weight", "bias")}
    for number in range(1, 6):
        shapes[f"{AUDIO}relative_positional_encoder.{number}.0.weight"] = (dim, dim // 4, 19)
        shapes[f"{AUDIO}relative_positional_encoder.{number}.0.bias"] = (dim,)
    for part, count in ((f"{AUDIO}context_encoder.blocks", prenet), ("blocks", blocks)):
        for number in range(count):
            sizes = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "norm1": (dim,), "norm2": (dim,)}
            sizes |= {"mlp.fc1": (hidden, dim), "mlp.fc2": (dim, hidden)}
            for name, shape in sizes.items():
                shapes |= {f"{part}.{number}.{name}.weight": shape, f"{part}.{number}.{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, shape in shapes.items():
        fan = math.prod(shape[1:]) if len(shape) > 1 else 4
        tensors[name] = torch.randn(shape, generator=generator) / math.sqrt(fan)
        if "norm" in name or "project_features.1" in name or ".2.1." in name:
            tensors[name] = tensors[name] / 4 + name.endswith("weight")
    tensors[SCALE] = torch.rand(shapes[SCALE], generator=generator) + 0.5
    return tensors


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return funasr_tensors(**SIZES)


@pytest.fixture(scope="module")
def checkpoint(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emotion2vec")
    torch.save({"model": tensors}, folder / "model.pt")
    return folder


def upstream(ckpt: str | Path, **options: Any) -> Any:
    s3prl_emotion.register()
    import s3prl.hub as hub

    return hub.emotion2vec_custom(ckpt=str(ckpt), model_config=options)


def layers_of(model: Any, wav: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [layer[0] for layer in model([wav])["hidden_states"]]


@pytest.fixture(scope="module")
def wav() -> Tensor:
    return torch.randn(RATE, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.02


def reference(tensors: dict[str, Tensor], sizes: SimpleNamespace, wav: Tensor) -> list[Tensor]:
    """The layers in float64, written from the papers: loops over heads, an explicit softmax."""
    own = {name: value.double() for name, value in tensors.items()}
    wav = wav.double()
    states = ((wav - wav.mean()) / (wav.var(correction=0) + 1e-5).sqrt())[None]

    def norm(states: Tensor, name: str | None) -> Tensor:
        deviation = states - states.mean(-1, keepdim=True)
        states = deviation / (deviation.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return states if name is None else states * own[f"{name}.weight"] + own[f"{name}.bias"]

    def gelu(states: Tensor) -> Tensor:
        return states * (1 + torch.erf(states / math.sqrt(2))) / 2

    def linear(states: Tensor, name: str) -> Tensor:
        return states @ own[f"{name}.weight"].t() + own[f"{name}.bias"]

    for number, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        local = f"{AUDIO}local_encoder.conv_layers.{number}."
        states = functional.conv1d(states, own[f"{local}0.weight"], stride=stride)
        states = gelu(norm(states.t(), f"{local}2.1").t())
    frames = linear(norm(states.t(), f"{AUDIO}project_features.1"), f"{AUDIO}project_features.2")
    positions = frames.t()
    for number in range(1, 6):
        name = f"{AUDIO}relative_positional_encoder.{number}.0"
        positions = functional.conv1d(positions, own[f"{name}.weight"], own[f"{name}.bias"], padding=9, groups=4)
        positions = gelu(norm(positions.t(), None).t())
    states = torch.cat([own[f"{AUDIO}extra_tokens"][0], frames + positions.t()])
    states = norm(states, f"{AUDIO}context_encoder.norm")
    layers, count = [states], len(states)
    bias = torch.zeros(sizes.heads, count, count, dtype=torch.float64)
    for head, slope in enumerate([1 / 16, 1 / 256, 1 / 4]):  # Press et al.: two heads, then every other one of four
        for row in range(sizes.tokens, count):
            bias[head, row, sizes.tokens :] = -slope * (torch.arange(sizes.tokens, count) - row).abs()
    names = [f"{AUDIO}context_encoder.blocks.{n}" for n in range(sizes.prenet)]
    width = sizes.dim // sizes.heads
    scales = own[SCALE].clamp_min(0).expand(sizes.prenet + sizes.blocks, -1, -1, -1, -1)
    for number, name in enumerate([*names, *(f"blocks.{n}" for n in range(sizes.blocks))]):
        query, key, value = linear(states, f"{name}.attn.qkv").chunk(3, dim=1)
        heads = []
        for head in range(sizes.heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].t() / math.sqrt(width) + bias[head] * scales[number, 0, head]
            heads.append(
                torch.exp(scores - scores.max())
                / torch.exp(scores - scores.max()).sum(1, keepdim=True)
                @ value[:, part]
            )
        states = norm(states + linear(torch.cat(heads, dim=1), f"{name}.attn.proj"), f"{name}.norm1")
        states = norm(states + linear(gelu(linear(states, f"{name}.mlp.fc1")), f"{name}.mlp.fc2"), f"{name}.norm2")
        layers.append(states)
    return [layer[sizes.tokens :] for layer in layers]


@pytest.mark.parametrize("biases", [1, 5])
def test_layers_against_a_reference_in_float64(tmp_path: Path, wav: Tensor, biases: int):
    tensors = funasr_tensors(**SIZES, biases=biases)
    torch.save(tensors, tmp_path / "model.pt")
    found = layers_of(upstream(tmp_path / "model.pt"), wav)
    expected = reference(tensors, SimpleNamespace(**SIZES), wav)
    assert len(found) == len(expected) == 1 + SIZES["prenet"] + SIZES["blocks"]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


def test_the_embedding_is_each_layers_mean(checkpoint: Path, wav: Tensor):
    frames, means = layers_of(upstream(checkpoint), wav), layers_of(upstream(checkpoint, output="embedding"), wav)
    assert upstream(checkpoint, output="embedding").get_downsample_rates("hidden_states") == RATE
    for layer, mean in zip(frames, means, strict=True):
        torch.testing.assert_close(mean, layer.mean(dim=0, keepdim=True))


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 16_000, 50_000])
def test_frames(checkpoint: Path, samples: int):
    model = upstream(checkpoint)
    assert model.frames(samples) == len(layers_of(model, torch.randn(samples))[0]) >= 1
    assert model.get_downsample_rates("hidden_states") == 320


def test_silence_and_padding(checkpoint: Path, wav: Tensor):
    model = upstream(checkpoint)
    assert all(layer.isfinite().all() for layer in layers_of(model, torch.zeros(RATE)))
    with torch.no_grad():
        both = model([wav, wav[:5000]])["hidden_states"]
    alone = layers_of(model, wav[:5000])
    for layer, own in zip(both, alone, strict=True):
        assert torch.equal(layer[1, : len(own)], own)
        assert not layer[1, len(own) :].any()


@pytest.mark.parametrize("layer", [1, 2, 4])
def test_cutting_off_blocks_changes_no_layer_below(checkpoint: Path, wav: Tensor, layer: int):
    whole, cut = layers_of(upstream(checkpoint), wav), upstream(checkpoint)
    cut.cut_after(layer)
    below = layers_of(cut, wav)
    assert len(below) == layer + 1
    assert all(torch.equal(*pair) for pair in zip(below, whole[: layer + 1], strict=True))


@pytest.mark.parametrize(
    "content",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors},
        lambda tensors: {"model": {f"d2v_model.{name}": value for name, value in tensors.items()}},
        lambda tensors: {"model": {name: value.half() for name, value in tensors.items()}},
        lambda tensors: tensors | {SCALE: tensors[SCALE][0]},
    ],
    ids=["plain", "state_dict", "prefix", "float16", "old alibi_scale"],
)  # fmt: skip
def test_forms_of_checkpoints(checkpoint: Path, tensors: dict[str, Tensor], wav: Tensor, tmp_path: Path, content: Any):
    torch.save(content(tensors), tmp_path / "emotion2vec_base.pt")
    found = upstream(tmp_path)
    own = upstream(checkpoint).model.state_dict()
    if any(value.dtype == torch.float16 for value in content(tensors).get("model", {}).values()):
        assert all(torch.equal(value, own[name].half().float()) for name, value in found.model.state_dict().items())
    else:
        assert torch.equal(layers_of(found, wav)[-1], layers_of(upstream(checkpoint), wav)[-1])


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_no_code_is_run(tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": tensors, "cfg": Hostile()}, "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: refused, since it holds objects other than tensors"):
        upstream("model.pt")
    assert not Path("ran").exists()


def without(name: str) -> Any:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(f"{AUDIO}extra_tokens"), r"not a checkpoint of emotion2vec \(it lacks "),
        (without("blocks.1.mlp.fc1.weight"), r"not a whole emotion2vec: it lacks blocks.1.expand.weight"),
        (lambda t: t | {"norm.weight": torch.ones(24)}, r"parts that are not known here \(norm\.weight, 1 tensors\)"),
        (without(SCALE), r"not a checkpoint of emotion2vec: bias_scale is missing"),
        (lambda t: t | {"blocks.0.norm1.bias": torch.zeros(7)}, r"blocks.0.norm1.bias has shape \(7,\), but"),
        (lambda t: t | {CONVOLUTION: torch.zeros(16, 16, 5)}, r"convolutions over \(10, 3, 3, 5, 3, 2, 2\) samples"),
        (lambda t: t | {SCALE: torch.ones(2, 1, 3, 1, 1)}, r"does not tell the heads of 5 blocks"),
    ],
)  # fmt: skip
def test_checkpoints_of_other_things(tensors: dict[str, Tensor], tmp_path: Path, change: Any, message: str):
    torch.save(change(tensors), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        upstream(tmp_path)


def test_tensors_that_are_not_known_are_named(
    tensors: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    torch.save(tensors | {"adapter.weight": torch.zeros(2)}, tmp_path / "model.pt")
    upstream(tmp_path)
    assert "model.pt: 1 tensors are not known here and are left out: adapter.weight" in caplog.text


@pytest.mark.parametrize(
    ("ckpt", "message"),
    [
        (None, r"-u emotion2vec_custom: -k is required"),
        ("nothing here", r"-k nothing here: no such file or folder, and no hub id"),
        (".", r"-k \.: holds no model\.pt or emotion2vec_base\.pt"),
    ],
)
def test_no_checkpoint(ckpt: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    s3prl_emotion.register()
    import s3prl.hub as hub

    with pytest.raises(UsageError, match=message):
        hub.emotion2vec_custom(ckpt=ckpt)
    with pytest.raises(UsageError, match="emotion2vec_base stands for emotion2vec/emotion2vec_base"):
        hub.emotion2vec_base(ckpt="x")


def test_options(checkpoint: Path):
    with pytest.raises(ConfigError, match=r"output: must be one of|output"):
        upstream(checkpoint, output="mean")


def test_a_filled_cache_of_the_hub_needs_no_network(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wav: Tensor
):
    folder = tmp_path / "models--emotion2vec--emotion2vec_plus_base"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    (folder / "snapshots" / "c0ffee").mkdir(parents=True)
    (folder / "snapshots" / "c0ffee" / "model.pt").write_bytes((checkpoint / "model.pt").read_bytes())
    set_hub(monkeypatch, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE=True)
    s3prl_emotion.register()
    import s3prl.hub as hub

    model = hub.emotion2vec_plus_base()
    assert model.hub_commit == ("emotion2vec/emotion2vec_plus_base", "c0ffee")
    assert model.identity()["commit"] == "c0ffee"
    assert torch.equal(layers_of(model, wav)[-1], layers_of(upstream(checkpoint), wav)[-1])
    with pytest.raises(UsageError, match=r"-k emotion2vec/emotion2vec_base: .* is neither in the hub's cache"):
        hub.emotion2vec_base()


# --- beside FunASR's own code ---------------------------------------------------------------------------------------

AUDIO_CONFIGURATION: dict[str, Any] = {
    "type": "AUDIO", "prenet_depth": SIZES["prenet"], "prenet_layerdrop": 0.05, "prenet_dropout": 0.1,
    "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "num_extra_tokens": SIZES["tokens"],
    "init_extra_token_zero": True, "local_grad_mult": 1.0, "use_alibi_encoder": True, "alibi_scale": 1.0,
    "learned_alibi": False, "alibi_max_pos": None, "learned_alibi_scale": True, "learned_alibi_scale_per_head": True,
    "learned_alibi_scale_per_layer": False, "num_alibi_heads": SIZES["heads"], "model_depth": SIZES["blocks"],
    "decoder": None, "extractor_mode": "layer_norm", "conv_pos_width": 95, "conv_pos_groups": 4, "conv_pos_depth": 5,
    "feature_encoder_spec": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] + [(16, 2, 2)]",
    "conv_pos_pre_ln": False,
}  # fmt: skip
CONFIGURATION: dict[str, Any] = {
    "depth": SIZES["blocks"], "embed_dim": SIZES["dim"], "num_heads": SIZES["heads"], "mlp_ratio": 2.0,
    "norm_eps": 1e-5, "norm_affine": True, "layer_norm_first": False, "end_of_block_targets": False,
    "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "encoder_dropout": 0.1, "attention_dropout": 0.1,
    "activation_dropout": 0.0, "post_mlp_drop": 0.1, "dropout_input": 0.0, "layerdrop": 0.05, "loss_beta": 0.0,
    "average_top_k_layers": 3, "loss_scale": None, "normalize": True, "modalities": {"audio": AUDIO_CONFIGURATION},
}  # fmt: skip


def test_features_are_those_of_funasr(tensors: dict[str, Tensor], checkpoint: Path, wav: Tensor):
    funasr = pytest.importorskip("funasr.models.emotion2vec.model", reason="needs funasr and its dependencies")
    theirs = funasr.Emotion2vec(model_conf=CONFIGURATION, vocab_size=9)
    missing, unexpected = theirs.load_state_dict(tensors, strict=False)
    assert not missing
    assert all(re.search("decoder", name) for name in unexpected)
    theirs.eval()
    outputs: list[Tensor] = []
    encoder = theirs.modality_encoders["AUDIO"].context_encoder
    for block in [*encoder.blocks, *theirs.blocks]:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output[0][0, SIZES["tokens"] :]))
    encoder.blocks[0].register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0][0, SIZES["tokens"] :]))
    options = {"device": "cpu", "fs": RATE, "key": ["wav"]}
    with torch.no_grad():
        result, _ = theirs.inference([wav], granularity="frame", **options)
    found = layers_of(upstream(checkpoint), wav)
    for ours, expected in zip(found, outputs, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[-1], torch.from_numpy(result[0]["feats"]), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        vector, _ = theirs.inference([wav], granularity="utterance", **options)
    embedded = layers_of(upstream(checkpoint, output="embedding"), wav)[-1][0]
    torch.testing.assert_close(embedded, torch.from_numpy(vector[0]["feats"]), rtol=1e-4, atol=1e-5)
