"""``hf_codec``: latents of EnCodec and DAC against plain ``transformers``, rates, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
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


def save_encodec(folder: Path, **options: Any) -> Path:
    config = transformers.EncodecConfig(num_filters=4, hidden_size=8, codebook_size=16, **options)
    transformers.EncodecFeatureExtractor(sampling_rate=config.sampling_rate).save_pretrained(folder)
    return save_model(folder, transformers.EncodecModel, config)


def save_dac(folder: Path, rate: int, ratios: tuple[int, ...]) -> Path:
    config = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=16, downsampling_ratios=list(ratios), n_codebooks=2,
        codebook_size=16, sampling_rate=rate,
    )  # fmt: skip
    extractor = transformers.DacFeatureExtractor(sampling_rate=rate, hop_length=int(np.prod(ratios)))
    extractor.save_pretrained(folder)
    return save_model(folder, transformers.DacModel, config)


MAKE: dict[str, Callable[[Path], Path]] = {  # as the published ones, but narrow
    "encodec_24khz": save_encodec,
    "encodec_32khz": lambda folder: save_encodec(
        folder, sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], use_causal_conv=False
    ),
    "dac_24khz": lambda folder: save_dac(folder, 24_000, (2, 4, 5, 8)),
    "dac_44khz": lambda folder: save_dac(folder, 44_100, (2, 4, 8, 8)),
}
RATES = {
    "encodec_24khz": Fraction(640, 3),
    "encodec_32khz": 320,
    "dac_24khz": Fraction(640, 3),
    "dac_44khz": Fraction(512 * 16_000, 44_100),
}
KINDS = list(MAKE)
FULL = ("encodec_32khz", "dac_24khz")
SOME = [pytest.param(kind, marks=pytest.mark.full) if kind in FULL else kind for kind in KINDS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a directory of a tiny codec by kind; it is shared, so tests must not write into it."""
    root = tmp_path_factory.mktemp("codecs")
    return cache(lambda kind: MAKE[kind](root / kind))


def build(folder: Path, **options: Any) -> Any:
    return s3prl.hub.hf_codec_custom(str(folder), options)


@pytest.fixture(scope="module")
def upstreams(folders: Folders) -> Callable[[str], Any]:
    """Return the upstream of a kind, built once."""
    return cache(lambda kind: build(folders(kind)))


@pytest.mark.parametrize("kind", SOME)
def test_latents_are_those_of_plain_transformers(kind: str, folders: Folders, upstreams: Callable[[str], Any]):
    wav = tone(200.0, 1, 3)[:6_345]
    upstream = upstreams(kind)
    with torch.no_grad():
        [ours] = upstream([torch.from_numpy(wav)])["hidden_states"]
        model = transformers.AutoModel.from_pretrained(folders(kind)).eval()
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folders(kind))
        rate = extractor.sampling_rate
        inputs = extractor(soxr.resample(wav, 16_000, rate, "HQ"), sampling_rate=rate, return_tensors="pt")
        theirs = model.encoder(inputs["input_values"]).transpose(1, 2)
    frames = min(ours.shape[1], theirs.shape[1])
    assert upstream.frames(len(wav)) == ours.shape[1]
    assert abs(ours.shape[1] - theirs.shape[1]) <= 1  # soxr rounds the length, the suite rounds it up
    # both resamplers agree to 1e-4 but for the last samples, whose frames differ by the sample more
    torch.testing.assert_close(ours[:, : frames - 2], theirs[:, : frames - 2], rtol=1e-3, atol=1e-4)
    assert not hasattr(upstream, "decoder")
    assert len(upstream.encoder.state_dict()) == len(model.encoder.state_dict())


@pytest.mark.parametrize("kind", SOME)
def test_frames_and_rate(kind: str, upstreams: Callable[[str], Any]):
    upstream = upstreams(kind)
    assert upstream.get_downsample_rates() == RATES[kind]
    lengths = (1, 213, 214, 320, 321, 5_000)
    with torch.no_grad():
        [together] = upstream([torch.from_numpy(tone(150.0, 1, 1)[:length].copy()) for length in lengths])[
            "hidden_states"
        ]
        for row, length in enumerate(lengths):
            [alone] = upstream([torch.from_numpy(tone(150.0, 1, 1)[:length].copy())])["hidden_states"]
            assert alone.shape[1] == upstream.frames(length) == max(1, alone.shape[1])
            assert torch.isfinite(alone).all()
            assert torch.equal(together[row, : alone.shape[1]], alone[0])
            assert not together[row, alone.shape[1] :].any()


def test_gradients_reach_the_encoder(folders: Folders):
    upstream = build(folders("encodec_24khz")).train()
    upstream([torch.from_numpy(tone(150.0, 1, 1)[:4_000].copy())])["hidden_states"][0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in upstream.parameters())


def test_identity_tells_apart_what_changes_features(upstreams: Callable[[str], Any]):
    kinds = ("encodec_24khz", "dac_44khz", "dac_24khz")
    assert len({json.dumps(upstreams(kind).identity()) for kind in kinds}) == len(kinds)


def test_rates_that_are_not_whole_stand_beside_others(folders: Folders, upstreams: Callable[[str], Any]):
    """``concat`` aligns frames of 640 / 3 samples with those of 160."""
    members = [{"name": "hf_codec_custom", "ckpt": str(folders("encodec_24khz"))}, {"name": "logmel26"}]
    upstream = s3prl.hub.concat(model_config={"upstreams": members})
    assert upstream.get_downsample_rates() == Fraction(640, 3)
    assert json.loads(json.dumps(upstream.identity()))["rate"] == "640/3"
    wav = torch.from_numpy(tone(150.0, 20, 1))
    with torch.no_grad():
        [features] = upstream([wav])["hidden_states"]
        [codec] = upstreams("encodec_24khz")([wav])["hidden_states"]
    assert abs(features.shape[1] - 1_500) <= 1
    assert torch.equal(features[0, :, :8], codec[0, : features.shape[1]])
    coarser = s3prl.hub.concat(model_config={"upstreams": members, "rate": 320})
    assert abs(coarser([wav])["hidden_states"][0].shape[1] - 1_000) <= 1


def test_resampling_to_the_rate_of_a_model():
    """The one resampler of the suite, upwards: the length is the duration rounded up, a tone stays that tone."""
    wav = tone(440.0, 1, 0)
    for rate in (24_000, 44_100, 48_000):
        assert len(resample(wav[:1_001], 16_000, rate)) == -(-1_001 * rate // 16_000)
        spectrum = np.abs(np.fft.rfft(resample(wav, 16_000, rate)))
        assert abs(int(spectrum.argmax()) - int(np.abs(np.fft.rfft(wav)).argmax())) <= 1
    assert resample(wav, 16_000, 16_000) is wav


def test_what_is_refused(folders: Folders, tmp_path: Path):
    with pytest.raises(UsageError, match="-u hf_codec_custom: -k is required"):
        s3prl.hub.hf_codec_custom()
    with pytest.raises(ConfigError, match=r"hf_codec.revison: unknown key; nearest: revision"):
        build(folders("dac_24khz"), revison="main")
    with pytest.raises(UsageError, match=r"stands for facebook/encodec_24khz; .* use -u hf_codec_custom -k mine"):
        s3prl.hub.hf_encodec_24khz(ckpt="mine")
    own = Path(shutil.copytree(folders("encodec_24khz"), tmp_path / "own"))
    values = json.loads((own / "config.json").read_text())
    for change, message in (
        ({"audio_channels": 2, "chunk_length_s": 1.0}, "takes several channels, or audio in chunks, as that of 48 kHz"),
        ({"model_type": "bert"}, "model_type 'bert' in config.json is no codec; supported: encodec, dac"),
        ({"sampling_rate": 48_000}, "says 24000 Hz, config.json 48000 Hz; the two files do not belong together"),
        ({"num_filters": 8}, "weights cannot be loaded"),
    ):
        (own / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(UsageError, match=message) as caught:
            build(own)
        assert "\n" not in str(caught.value)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["encodec_24khz", "dac_24khz"])
def test_check_upstream_passes(kind: str, folders: Folders):
    checks = check_upstream(build(folders(kind)).eval(), "hidden_states")
    assert [check for check in checks if check.ok is False] == []
