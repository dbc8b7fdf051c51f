"""``hf_speech``: every family against plain ``transformers``, alone against batched, options, errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
import yaml
from conftest import Cli, TinyCorpus, tone
from tiny_models import TINY, save_tiny_conformer, save_tiny_hubert, save_tiny_hubert_large, save_tiny_whisper

import s3prl_emotion
from s3prl_emotion.errors import AudioError, ConfigError, UsageError

s3prl_emotion.register()
import s3prl.hub  # noqa: E402
from s3prl.upstream.hf_speech import hubconf  # noqa: E402
from s3prl.upstream.hf_speech.batching import buckets  # noqa: E402
from s3prl.upstream.hf_speech.expert import UpstreamExpert  # noqa: E402

MIXED = (16_000, 5_003, 320, 15_700, 16_000, 5_100, 9_999, 400, 1)  # samples
KINDS = list(TINY)
WAVEFORM_KINDS = [kind for kind in KINDS if kind not in ("w2v_bert", "whisper")]
Make = Callable[..., UpstreamExpert]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a directory of a tiny model by kind; it is shared, so tests must not write into it."""
    root = tmp_path_factory.mktemp("tiny_models")
    return cache(lambda kind: TINY[kind](root / kind))


@pytest.fixture(scope="session")
def make(folders: Callable[[str], Path]) -> Make:
    """Build the upstream of a tiny model, once for each set of options."""
    built: dict[str, UpstreamExpert] = {}

    def upstream(kind: str, **options: Any) -> UpstreamExpert:
        key = f"{kind} {sorted(options.items())}"
        if key not in built:
            built[key] = s3prl.hub.hf_speech_custom(str(folders(kind)), options)
        return built[key]

    return upstream


@pytest.fixture
def own(folders: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of a model's directory, to damage."""
    return Path(shutil.copytree(folders("hubert_large"), tmp_path / "own"))


def speech(*lengths: int) -> list[torch.Tensor]:
    """Return tones in noise with these numbers of samples."""
    return [torch.from_numpy(tone(100.0 + 50 * number, 1, number).repeat(1 + length // 16_000)[:length].copy())
            for number, length in enumerate(lengths)]  # fmt: skip


@torch.no_grad()
def features(upstream: UpstreamExpert, waveforms: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return upstream(waveforms)["hidden_states"]


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).norm() / other.norm())


@cache
def plain(folder: Path) -> tuple[Any, Any]:
    """Load model and feature extractor with ``transformers``."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.encoder if hasattr(model, "decoder") else model
    return model, transformers.AutoFeatureExtractor.from_pretrained(folder)


@torch.no_grad()
def plain_features(folder: Path, waveform: torch.Tensor) -> list[torch.Tensor]:
    """Return ``[1, T, D]`` of each layer."""
    model, extractor = plain(folder)
    output = model(**extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt"), output_hidden_states=True)
    return list(output.hidden_states)


# --- features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_final_norm_makes_the_last_layer_the_models_output(kind: str, make: Make):
    [waveform] = speech(16_000)
    as_it_is, normed = make(kind)([waveform]), make(kind, final_norm=True)([waveform])
    assert torch.equal(normed["hidden_states"][-1], as_it_is["last_hidden_state"])
    assert torch.equal(normed["last_hidden_state"], as_it_is["last_hidden_state"])
    assert all(map(torch.equal, normed["hidden_states"][:-1], as_it_is["hidden_states"][:-1]))
    assert make(kind).identity() != make(kind, final_norm=True).identity()


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_plain_transformers(kind: str, folders: Callable[[str], Path], make: Make):
    upstream = make(kind)
    for samples in (16_000, 12_345):
        [waveform] = speech(samples)
        ours, theirs = features(upstream, [waveform]), plain_features(folders(kind), waveform)
        assert len(ours) == len(theirs) == 4
        frames = {"whisper": -(-samples // 320), "w2v_bert": (1 + (samples - 400) // 160) // 2}.get(
            kind, theirs[0].shape[1]
        )
        for one, other in zip(ours, theirs, strict=True):
            assert one.shape == (1, frames, 16)
            assert one.dtype == torch.float32
            torch.testing.assert_close(one, other[:, :frames], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_does_not_depend_on_its_batch(kind: str, make: Make):
    upstream, waveforms = make(kind), speech(*MIXED)
    together = features(upstream, waveforms)
    order = torch.randperm(len(MIXED), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = features(upstream, [waveforms[row] for row in order])
    assert together[0].shape[:2] == (len(MIXED), max(upstream.frames(samples) for samples in MIXED))
    for row, waveform in enumerate(waveforms):
        alone = features(upstream, [waveform])
        frames = upstream.frames(len(waveform))
        for layer, mixed, other in zip(alone, together, shuffled, strict=True):
            assert layer.shape[1] == frames >= 1
            assert distance(mixed[row, :frames], layer[0]) < 1e-5
            assert distance(other[order.index(row), :frames], layer[0]) < 1e-5
            assert not mixed[row, frames:].any()


def test_waste_of_one_bucket_is_padded_and_padding_matters(make: Make):
    """Check that two utterances share a pass and one is padded; else the other tests would compare nothing."""
    assert buckets([16_000, 15_700]) == [[0, 1]]
    upstream, calls = make("hubert_large"), []
    hook = upstream.model.register_forward_pre_hook(
        lambda model, inputs, more: calls.append((inputs[0].shape, more["attention_mask"].sum(1).tolist())),
        with_kwargs=True,
    )
    features(upstream, speech(15_700, 16_000))
    hook.remove()
    assert calls == [((2, 16_000), [16_000, 15_700])]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_rate(kind: str, make: Make):
    upstream = make(kind)
    assert upstream.get_downsample_rates("hidden_states") == upstream.get_downsample_rates() == 320
    for samples in (1, 320, 399, 400, 559, 560, 719, 720, 880, 1_040, 16_000, 16_079, 16_080, 16_400):
        assert features(upstream, speech(samples))[0].shape[1] == upstream.frames(samples) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_silent_constant_and_very_short_input_is_finite_and_repeatable(kind: str, make: Make):
    upstream = make(kind)
    waveforms = [torch.zeros(8_000), torch.full((8_000,), 0.5), torch.zeros(320), torch.ones(1)]
    first, second = features(upstream, waveforms), features(upstream, waveforms)
    for one, other in zip(first, second, strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


def test_short_input_is_padded_to_one_frame_after_normalisation(folders: Callable[[str], Path], make: Make):
    [waveform] = speech(320)
    values = waveform.double().numpy()
    normalised = np.pad((values - values.mean()) / np.sqrt(values.var() + 1e-7), (0, 80)).astype(np.float32)
    model, _ = plain(folders("hubert_large"))
    with torch.no_grad():
        theirs = model(torch.from_numpy(normalised)[None]).last_hidden_state
    ours = make("hubert_large")([waveform])["last_hidden_state"]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [[], [torch.zeros(0)], [torch.zeros(2, 400)]])
def test_waveforms_that_are_none_are_refused(batch: list[torch.Tensor], make: Make):
    with pytest.raises(AudioError, match="batch"):
        make("hubert")(batch)


def test_whisper_cuts_longer_audio_into_windows(make: Make):
    upstream, window = make("whisper"), 480_000
    long, short = speech(2 * window + 1_000, 5_000)
    together = features(upstream, [long, short])
    pieces = [features(upstream, [long[start : start + window]]) for start in range(0, len(long), window)]
    assert [piece[0].shape[1] for piece in pieces] == [1_500, 1_500, 4]
    for number, layer in enumerate(together):
        joined = torch.cat([piece[number][0] for piece in pieces])
        assert layer.shape == (2, upstream.frames(len(long)), 16)
        assert distance(layer[0], joined) < 1e-5
        assert distance(layer[1, :16], features(upstream, [short])[number][0]) < 1e-5


def test_sixty_seconds(make: Make):
    upstream = make("hubert")
    assert features(upstream, speech(960_000))[-1].shape == (1, 2_999, 16)


def test_whisper_keeps_no_decoder(make: Make):
    assert not [name for name, _ in make("whisper").named_parameters() if "decoder" in name]


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_layer_in_training(kind: str, folders: Callable[[str], Path]):
    upstream = UpstreamExpert(folders(kind)).train()
    layers = upstream(speech(4_000, 3_900, 1_000))["hidden_states"]
    sum(layer.square().sum() for layer in layers).backward()
    gradients = {name: p.grad for name, p in upstream.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    for number in range(3):
        assert any(f"layers.{number}." in name and gradient.any() for name, gradient in gradients.items())
    assert any(("conv_layers.0" in name or "conv1" in name or "feature_projection" in name) for name in gradients)


def test_layer_drop_and_masking_stay_off_in_training(tmp_path: Path):
    still = {f"{name}_dropout": 0.0 for name in ("hidden", "attention", "activation", "feat_proj")}
    tricks = {"layerdrop": 0.9, "mask_time_prob": 0.9, "mask_time_length": 2, "mask_feature_prob": 0.5,
              "mask_feature_length": 2}  # fmt: skip
    upstream = UpstreamExpert(save_tiny_hubert_large(tmp_path / "hubert", **still, **tricks))
    waveforms = speech(8_000, 7_000)
    before = features(upstream, waveforms)
    for one, other in zip(features(upstream.train(), waveforms), before, strict=True):
        assert distance(one, other) < 1e-6


def test_models_arrive_in_evaluation_mode(folders: Callable[[str], Path]):
    assert not any(module.training for module in UpstreamExpert(folders("wavlm")).modules())


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_num_layers_cuts_computation_and_leaves_the_rest_as_it_is(kind: str, make: Make):
    whole, waveforms = make(kind), speech(8_000, 7_900, 3_000)
    expected = features(whole, waveforms)
    sizes = []
    for count in (1, 2, 3):
        upstream = make(kind, num_layers=count)
        got = features(upstream, waveforms)
        assert len(got) == count + 1
        for one, other in zip(got, expected[: count + 1], strict=True):
            assert torch.equal(one, other)
        sizes.append(sum(p.numel() for p in upstream.parameters()))
    assert sizes[0] < sizes[1] < sizes[2] == sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("kind", ["hubert", "wavlm_large", "w2v_bert", "whisper"])
@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_precision_is_that_of_weights_and_computation(kind: str, precision: str, most: float, make: Make):
    upstream, waveforms = make(kind, precision=precision), speech(8_000, 7_000)
    assert {p.dtype for p in upstream.parameters()} == {getattr(torch, precision)}
    for one, other in zip(features(upstream, waveforms), features(make(kind), waveforms), strict=True):
        assert one.dtype == torch.float32
        assert 0 < distance(one, other) < most


@pytest.mark.parametrize("kind", ["hubert_large", "conformer", "w2v_bert", "whisper"])
def test_attention_by_sdpa_and_eager_agree(kind: str, make: Make):
    waveforms = speech(8_000, 7_900)
    eager = make(kind, attention="eager")
    assert eager.identity()["attention"] == "eager"
    for one, other in zip(features(eager, waveforms), features(make(kind), waveforms), strict=True):
        assert distance(one, other) < 1e-5


def test_a_family_without_sdpa_says_so(folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture):
    assert not transformers.WavLMModel._supports_sdpa
    with caplog.at_level("INFO"):
        upstream = UpstreamExpert(folders("wavlm"))
    assert upstream.identity()["attention"] == "eager"
    assert "no SDPA attention" in caplog.text


def test_options_come_from_a_file(folders: Callable[[str], Path], tmp_path: Path):
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump({"num_layers": 1, "precision": "bfloat16"}))
    upstream = s3prl.hub.hf_speech_custom(ckpt=str(folders("hubert")), model_config=str(path), refresh=False)
    assert upstream.identity()["num_layers"] == 1
    assert upstream.identity()["precision"] == "bfloat16"
    path.write_text("")
    assert UpstreamExpert(folders("hubert"), path).options.num_layers is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_layer": 2}, ConfigError, "model_config.num_layer: unknown key; nearest: num_layers"),
        ({"num_layers": 0}, ConfigError, "model_config.num_layers: .*greater than or equal to 1, got 0"),
        ({"num_layers": 4}, ConfigError, "num_layers: .* has 3 layers, got 4; give 1 to 3"),
        ({"precision": "float64"}, ConfigError, "precision: .*'float32', 'bfloat16' or 'float16'"),
        ({"attention": "flash"}, ConfigError, "attention: .*'sdpa' or 'eager'"),
        ({"revision": "main"}, UsageError, "revision is for models on the hub"),
        ("nowhere.yaml", UsageError, "-g nowhere.yaml: no such file"),
    ],
)
def test_wrong_options(options: Any, error: type, message: str, folders: Callable[[str], Path]):
    with pytest.raises(error, match=message) as caught:
        UpstreamExpert(folders("hubert"), options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not readable as YAML"), ("- 1", "must be a mapping")])
def test_options_that_are_no_mapping(text: str, message: str, tmp_path: Path, folders: Callable[[str], Path]):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        UpstreamExpert(folders("hubert"), path)


def test_identity_tells_apart_what_changes_features(folders: Callable[[str], Path], own: Path, make: Make):
    whole = make("hubert_large").identity()
    assert json.loads(json.dumps(whole)) == whole
    assert UpstreamExpert(own).identity() == whole  # the path does not matter
    assert make("hubert_large", num_layers=3).identity() == whole  # all layers
    others = [
        make("hubert_large", num_layers=2),
        make("hubert_large", precision="bfloat16"),
        make("hubert_large", attention="eager"),
        make("wavlm_large"),
    ]
    settings = json.loads((own / "preprocessor_config.json").read_text())
    (own / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}))
    others.append(UpstreamExpert(own))
    found = [json.dumps(whole), *(json.dumps(upstream.identity()) for upstream in others)]
    assert len(set(found)) == len(found)
    shallow = TINY["hubert_large"](own.parent / "shallow", num_hidden_layers=2)  # a norm follows its last layer
    assert UpstreamExpert(shallow).identity() != make("hubert_large", num_layers=2).identity()
    [waveform] = speech(8_000)
    assert distance(features(others[-1], [waveform])[0], features(make("hubert_large"), [waveform])[0]) > 1e-3


# --- batching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [16, 64, 5_531])
def test_padding_wastes_under_a_tenth_on_lengths_like_iemocaps(batch: int):
    draw = np.random.default_rng(0)
    seconds = np.clip(draw.lognormal(np.log(4.5) - 0.6**2 / 2, 0.6, 5_531), 1, 20)
    assert seconds.mean() == pytest.approx(4.5, abs=0.2)
    lengths = [int(length) for length in 16_000 * seconds]
    padded, groups = 0, 0
    for start in range(0, len(lengths), batch):
        part = lengths[start : start + batch]
        found = buckets(part)
        assert sorted(row for group in found for row in group) == list(range(len(part)))
        padded += sum(max(part[row] for row in group) * len(group) for group in found)
        groups += len(found)
    assert padded / sum(lengths) < 1.10
    assert len(lengths) / groups > {16: 1.5, 64: 4, 5_531: 150}[batch]  # else each would be computed alone


def test_equal_lengths_stay_together():
    assert buckets([5, 5, 5, 5]) == [[0, 1, 2, 3]]
    assert sorted(map(sorted, buckets([100, 10, 100, 10, 95]))) == [[0, 2, 4], [1, 3]]
    assert buckets([7]) == [[0]]


def test_group_norm_never_sees_padding(make: Make):
    upstream, shapes = make("wav2vec2"), []
    stack = upstream.model.feature_extractor.convolutions
    hook = stack.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    features(upstream, speech(16_000, 15_900, 16_000))
    hook.remove()
    assert sorted(shapes) == [(1, 15_900), (2, 16_000)]


# --- loading -----------------------------------------------------------------------------------------------------


def test_shortcuts_are_upstreams_of_the_host():
    papers = "hubert_large_ll60k hubert_large_ls960_ft wavlm_base_plus wavlm_large wav2vec2_large_lv60 whisper_medium"
    for name in [f"hf_{model}" for model in papers.split()] + ["hf_speech_custom"]:
        entry = getattr(s3prl.hub, name)
        assert isinstance(entry, FunctionType)
        assert entry.__module__ == hubconf.__name__
        assert entry.__name__ == name
        assert entry.__doc__


def test_shortcuts_load_what_they_stand_for(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(hubconf, "_UpstreamExpert", lambda *args, **options: asked.append((args, options)))
    s3prl.hub.hf_wavlm_large(ckpt=None, model_config={"num_layers": 2}, refresh=True)
    s3prl.hub.hf_whisper_large_v3(ckpt=None, model_config=None, refresh=False)
    assert asked == [
        (("microsoft/wavlm-large", {"num_layers": 2}), {"refresh": True}),
        (("openai/whisper-large-v3", None), {"refresh": False}),
    ]


def test_a_shortcut_takes_no_checkpoint():
    with pytest.raises(UsageError, match=r"stands for microsoft/wavlm-large; .* use -u hf_speech_custom -k mine"):
        s3prl.hub.hf_wavlm_large(ckpt="mine")
    with pytest.raises(UsageError, match="-k is required"):
        s3prl.hub.hf_speech_custom(ckpt=None)


def refused(ckpt: Path | str, **options: Any) -> str:
    """Return the line of the error that loading raises."""
    with pytest.raises(UsageError) as caught:
        UpstreamExpert(ckpt, options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    message = refused("suite-test/no-such-model", local_files_only=True)
    assert "is not in the hub's cache, and the network is off" in message
    assert "-u hf_speech_custom -k DIR" in message


def test_what_a_directory_may_lack(own: Path, tmp_path: Path):
    assert "no such directory" in refused(tmp_path / "nowhere")
    assert "is a file" in refused(own / "config.json")
    weights = (own / "model.safetensors").rename(tmp_path / "kept.safetensors")
    assert "holds no weights" in refused(own)
    shutil.copy(weights, own / "model.safetensors")
    (own / "config.json").unlink()
    assert "holds no config.json" in refused(own)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_without_preprocessor_takes_its_familys_and_says_so(
    kind: str, tmp_path: Path, folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    bare = tmp_path / "bare"
    shutil.copytree(folders(kind), bare)
    (bare / "preprocessor_config.json").unlink()
    upstream = UpstreamExpert(bare)
    assert "holds no preprocessor_config.json" in caplog.text
    assert ("waveforms normalised" in caplog.text) == (kind not in ("whisper", "w2v_bert"))
    assert all(torch.isfinite(layer).all() for layer in features(upstream, speech(8_000)))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_does_not_fit(own: Path):
    change(own / "preprocessor_config.json", sampling_rate=8_000)
    assert "needs audio of 8000 Hz" in refused(own)
    change(own / "preprocessor_config.json", sampling_rate=16_000)
    config = (own / "config.json").read_text()
    change(own / "config.json", num_hidden_layers=5)
    assert (
        "weights do not fit config.json: 32 weights of HubertModel are missing, for example encoder.layers"
        in refused(own)
    )
    change(own / "config.json", num_hidden_layers=3, intermediate_size=30)
    assert "weights cannot be loaded" in refused(own)
    change(own / "config.json", model_type="bert")
    message = refused(own)
    assert "model_type 'bert' in config.json is not supported" in message
    assert "hubert, wavlm, wav2vec2, data2vec-audio" in message
    (own / "config.json").write_text("[]")
    assert "config.json must hold a mapping" in refused(own)
    (own / "config.json").write_text(config[:50])
    assert "config.json is not readable as JSON" in refused(own)


def test_weights_of_other_shapes_or_other_models(own: Path, folders: Callable[[str], Path]):
    shutil.copy(folders("whisper") / "model.safetensors", own / "model.safetensors")
    assert "weights do not fit config.json" in refused(own)
    whole = (folders("hubert_large") / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "weights cannot be loaded" in refused(own)
    (own / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "weights cannot be loaded" in refused(own)


def test_whisper_files_that_do_not_belong_together(tmp_path: Path):
    folder = save_tiny_whisper(tmp_path / "whisper")
    change(folder / "preprocessor_config.json", chunk_length=15)
    assert "1500 positions of 320 samples each" in refused(folder)


def test_fine_tuned_models_and_old_names_of_weights(own: Path, make: Make):
    """A CTC model's weights have a prefix; older files have other names for the parts of a normed weight."""
    renamed = {}
    for name, tensor in safetensors.torch.load_file(own / "model.safetensors").items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed["hubert." + name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    renamed["lm_head.weight"], renamed["lm_head.bias"] = torch.zeros(32, 16), torch.zeros(32)
    assert {"hubert.encoder.pos_conv_embed.conv.weight_g"} < set(renamed)
    safetensors.torch.save_file(renamed, own / "model.safetensors", metadata={"format": "pt"})
    change(own / "config.json", architectures=["HubertForCTC"])
    waveforms = speech(8_000, 5_000)
    for one, other in zip(
        features(UpstreamExpert(own), waveforms), features(make("hubert_large"), waveforms), strict=True
    ):
        assert torch.equal(one, other)


def test_an_adapter_behind_the_encoder_is_left_out(tmp_path: Path):
    upstream = UpstreamExpert(TINY["w2v_bert"](tmp_path / "w2v_bert", add_adapter=True, output_hidden_size=16))
    assert features(upstream, speech(16_000))[-1].shape == (1, 49, 16)


def test_batch_norm_ahead_of_positions_keeps_padding_out(tmp_path: Path):
    upstream = UpstreamExpert(save_tiny_hubert(tmp_path / "hubert", conv_pos_batch_norm=True))
    waveforms = speech(8_000, 7_900)
    together = features(upstream, waveforms)[-1]
    assert distance(together[1, : upstream.frames(7_900)], features(upstream, waveforms[1:])[-1][0]) < 1e-5


@pytest.mark.parametrize("positions", ["rotary", None])
def test_conformers_with_other_positions(positions: str | None, tmp_path: Path):
    folder = save_tiny_conformer(tmp_path / "conformer", position_embeddings_type=positions)
    upstream, waveforms = UpstreamExpert(folder), speech(8_000, 7_900)
    for number, layer in enumerate(features(upstream, waveforms)):
        alone = features(upstream, waveforms[1:])[number][0]
        assert distance(layer[1, : len(alone)], alone) < 1e-5
        torch.testing.assert_close(alone[None], plain_features(folder, waveforms[1])[number], rtol=0, atol=1e-5)


# --- in the host -------------------------------------------------------------------------------------------------


def test_a_head_trains_on_it(cli: Cli, tiny_corpus: TinyCorpus, folders: Callable[[str], Path]):
    words = ("-m", "train", "-u", "hf_speech_custom", "-d", "emotion_corr_attn", "-p", "exp")
    cli(*words, "-k", folders("wavlm_large"), "-o", tiny_corpus.overrides())
    assert Path("exp/dev-best.ckpt").is_file()
    scores = json.loads(Path("exp/test_fold1_metrics.json").read_text())
    assert scores["step"] > 0


def test_a_wrong_directory_is_one_line_on_the_command_line(cli: Cli, tiny_corpus: TinyCorpus):
    words = ("-m", "train", "-u", "hf_speech_custom", "-d", "emotion_corr_attn", "-p", "exp")
    outcome = cli(*words, "-k", "/nowhere/at/all", "-o", tiny_corpus.overrides(), code=1)
    assert "-k /nowhere/at/all: no such directory" in outcome.error
