"""The upstreams ``logmel26``, ``mel_f0``, ``egemaps``, ``egemaps_lld`` and ``concat``: values, lengths, bad input."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import SHARED_DATA, Cli, TinyCorpus
from hypothesis import example, given, settings
from hypothesis import strategies as st

import s3prl_emotion
from s3prl_emotion.audio import load_audio
from s3prl_emotion.errors import AudioError, ConfigError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint

RATE = 16_000
HAS_SMILE = importlib.util.find_spec("opensmile") is not None
needs_smile = pytest.mark.skipif(not HAS_SMILE, reason="opensmile is an optional extra")
SMILE = [pytest.param(name, marks=needs_smile) for name in ("egemaps", "egemaps_lld")]
FEW = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def registered() -> None:
    s3prl_emotion.register()


def build(name: str, **options: Any) -> Any:
    import s3prl.hub

    return getattr(s3prl.hub, name)(model_config=options or None)


def features(upstream: Any, *wavs: torch.Tensor) -> torch.Tensor:
    """Return the single layer of an upstream ``[B, T, D]``."""
    with torch.no_grad():
        out = upstream(list(wavs))
    assert isinstance(out["hidden_states"], tuple)
    assert torch.equal(out["last_hidden_state"], out["hidden_states"][-1])
    return out["last_hidden_state"]


def noise(samples: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    return scale * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def tone(pitch: float, samples: int = RATE, harmonics: int = 1) -> torch.Tensor:
    time = torch.arange(samples, dtype=torch.float64) / RATE
    return sum(0.3 / k * torch.sin(2 * np.pi * pitch * k * time) for k in range(1, harmonics + 1)).float()


def log_mel_by_hand(
    wav: np.ndarray, filters: int, top: float, window: int = 400, hop: int = 160, floor: float = 1e-8
) -> np.ndarray:
    """Compute log-Mel energies in loops, float64: HTK's Mel scale, triangles linear in Hz, Hamming, FFT of 512."""
    wav = np.concatenate([wav.astype(np.float64), np.zeros(max(0, window - len(wav)))])
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(window) / window)
    highest = 2595 * np.log10(1 + top / 700)
    corners = 700 * (10 ** (highest * np.arange(filters + 2) / (filters + 1) / 2595) - 1)
    bins = RATE / 512 * np.arange(257)
    rows = []
    for start in range(0, len(wav) - window + 1, hop):
        power = np.abs(np.fft.rfft(wav[start : start + window] * hamming, 512)) ** 2
        row = []
        for left, centre, right in zip(corners, corners[1:], corners[2:], strict=False):
            rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
            row.append(np.log(max(floor, (np.maximum(0, np.minimum(rising, falling)) * power).sum())))
        rows.append(row)
    return np.array(rows)


# --- logmel26 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 399, 560, 5000])
def test_logmel26_is_the_filterbank_of_the_definition(samples: int) -> None:
    wav = noise(samples) + tone(440, samples)
    got = features(build("logmel26"), wav)[0].double().numpy()
    np.testing.assert_allclose(got, log_mel_by_hand(wav.numpy(), 26, 6500.0), atol=5e-4)


def test_logmel26_has_nothing_above_6500_hz() -> None:
    quiet, loud = (features(build("logmel26"), tone(pitch))[0].max() for pitch in (7500.0, 6000.0))
    assert loud - quiet > 10


def test_logmel26_follows_its_options() -> None:
    wav = noise(8000)
    upstream = build("logmel26", window_ms=32, hop_ms=20.0, num_mels=20, f_max=4000.0, floor=5.0)
    got = features(upstream, wav)[0].double().numpy()
    np.testing.assert_allclose(got, log_mel_by_hand(wav.numpy(), 20, 4000.0, 512, 320, 5.0), atol=5e-4)
    assert 0.1 < (got < np.log(5) + 1e-6).mean() < 0.9
    assert upstream.get_downsample_rates("hidden_states") == 320
    hann = features(build("logmel26", window="hann"), wav)
    assert (hann - features(build("logmel26"), wav)).abs().max() > 0.1


def test_normalising_is_asked_for_and_by_utterance() -> None:
    wav = noise(RATE) + 0.01
    assert features(build("logmel26"), wav)[0].mean(dim=0).abs().min() > 1
    got = features(build("logmel26", normalize="utterance"), wav)[0].double()
    plain = log_mel_by_hand(wav.numpy(), 26, 6500.0)
    np.testing.assert_allclose(got, (plain - plain.mean(0)) / plain.std(0), atol=1e-3)
    assert features(build("logmel26", normalize="utterance"), torch.zeros(3)).abs().max() == 0


def test_half_precision_around_it_changes_nothing() -> None:
    wav = noise(4000)
    with torch.autocast("cpu", torch.bfloat16):
        inside = features(build("logmel26"), wav)
    assert torch.equal(inside, features(build("logmel26"), wav))


# --- mel_f0 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harmonics", [1, 8])
@pytest.mark.parametrize("pitch", [100.0, 150.0, 220.0, 300.0])
def test_pitch_of_tones(pitch: float, harmonics: int) -> None:
    got = features(build("mel_f0", f0="hz"), tone(pitch, harmonics=harmonics))[0, :, -1]
    assert (got / pitch - 1).abs().max() < 0.03
    assert (got / pitch - 1).abs().median() < 0.001


def test_pitch_of_a_glide_is_that_of_each_frames_centre() -> None:
    time = np.arange(2 * RATE) / RATE
    wav = torch.from_numpy(0.3 * np.sin(2 * np.pi * (100 * time + 50 * time**2))).float()  # 100 to 300 Hz in 2 s
    got = features(build("mel_f0", f0="hz"), wav)[0, :, -1].numpy()
    centres = (160 * np.arange(len(got)) + 200) / RATE
    inner = slice(5, -5)  # windows of 50 ms: the first and last extend beyond the audio
    np.testing.assert_allclose(got[inner], (100 + 100 * centres)[inner], rtol=0.01)


@pytest.mark.parametrize("wav", [torch.zeros(RATE), torch.full((RATE,), 0.3), noise(RATE), 1e-9 * tone(200)])
def test_silence_constants_and_noise_have_no_pitch(wav: torch.Tensor) -> None:
    got = features(build("mel_f0", voicing=True), wav)[0, :, -2:]
    assert (got[:, 0] == 0).all()
    assert ((got[:, 1] >= 0) & (got[:, 1] < 0.45)).all()


def test_voiced_and_unvoiced_parts_are_told_apart() -> None:
    wav = torch.cat([tone(200, 8000), noise(8000, scale=0.05), torch.zeros(8000), tone(120, 8000, harmonics=5)])
    got = features(build("mel_f0", f0="hz", voicing=True), wav)[0]
    pitch, strength = got[:, -2], got[:, -1]
    for start, want in ((0, 200.0), (50, 0.0), (100, 0.0), (150, 120.0)):
        part = pitch[start + 5 : start + 43]
        torch.testing.assert_close(part, torch.full_like(part, want), rtol=0.03, atol=0)
        assert ((strength[start + 5 : start + 43] > 0.9) == (want > 0)).all()


def alternating(loudness: torch.Tensor) -> torch.Tensor:
    """Return harmonics of 200 Hz; ``loudness`` scales the second of each two periods (80 samples)."""
    second = torch.arange(len(loudness)) // 80 % 2 == 1
    return tone(200, len(loudness), harmonics=5) * torch.where(second, loudness, 1.0)


def test_periods_of_unequal_loudness_do_not_halve_the_pitch() -> None:
    got = features(build("mel_f0", f0="hz"), alternating(torch.full((RATE,), 0.95)))[0, :, -1]
    assert got == pytest.approx(200, rel=0.03)  # the double period is stronger by less than the cost of an octave
    loudness = torch.ones(RATE)
    loudness[8000:9000] = 0.6
    assert features(build("mel_f0", f0="hz"), alternating(loudness))[0, :, -1] == pytest.approx(200, rel=0.03)
    low = features(build("mel_f0", f0="hz"), alternating(torch.full((RATE,), 0.6)))[0, :, -1]
    assert low == pytest.approx(100, rel=0.03)  # in the whole signal it is the pitch


def test_an_offset_does_not_hide_the_pitch() -> None:
    got = features(build("mel_f0", f0="hz"), 0.01 * tone(200) + 0.5)[0, :, -1]
    assert got == pytest.approx(200, rel=0.03)


def test_mel_f0_is_the_filterbank_and_log_f0_frame_by_frame() -> None:
    wav = tone(200, 4000, harmonics=5)
    got = features(build("mel_f0"), wav)[0].double().numpy()
    assert got.shape == (23, 41)
    # above the harmonics, energies are rounding errors of the loudest bin
    np.testing.assert_allclose(got[:, :20], log_mel_by_hand(wav.numpy(), 40, 8000.0)[:, :20], atol=5e-4)
    np.testing.assert_allclose(got[:, 40], np.log(200), atol=0.01)
    hertz = features(build("mel_f0", f0="hz", normalize="utterance"), wav)[0].double().numpy()
    np.testing.assert_allclose(np.log(hertz[:, 40]), got[:, 40], atol=1e-6)
    np.testing.assert_allclose(hertz[:, :40].mean(axis=0), 0, atol=1e-6)
    assert np.abs(hertz[:, 5]).max() < 0.01  # a steady tone has no spread, and rounding is not scaled up to one


def test_pitch_range_is_an_option() -> None:
    upstream = build("mel_f0", f0="hz", pitch_min=150.0, pitch_max=250.0)  # frames shorter than the filterbank's
    assert features(upstream, tone(200))[0, :, -1] == pytest.approx(200, rel=0.03)
    assert features(upstream, tone(200)).shape[1] == upstream.frames(RATE)
    high = features(build("mel_f0", f0="hz", pitch_min=400.0, pitch_max=1000.0), tone(600))[0]
    assert high[:, -1] == pytest.approx(600, rel=0.03)
    assert len(high) == 98


@needs_smile
def test_pitch_of_real_speech_is_opensmiles() -> None:
    files = sorted((SHARED_DATA / "emodb" / "wav").glob("*"))[::150]
    if not files:
        pytest.skip("EMO-DB is not here")
    for path in files:
        wav = torch.from_numpy(load_audio(path))
        ours = features(build("mel_f0", f0="hz"), wav)[0, 2:, -1]  # its windows of 60 ms are centred two frames later
        semitones = features(build("egemaps_lld"), wav)[0, :, 10][: len(ours)]
        ours = ours[: len(semitones)]
        theirs = torch.where(semitones > 0, 27.5 * 2 ** (semitones / 12), 0.0)
        both = (ours > 0) & (theirs > 0)
        wrong = ((ours / theirs - 1).abs() > 0.2)[both].float().mean()
        assert wrong < 0.2, path
        assert ((ours > 0) == (theirs > 0)).float().mean() > 0.75, path


# --- egemaps ------------------------------------------------------------------------------------------------------


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    wav = tone(150, samples, harmonics=12) * (torch.sin(torch.arange(samples) / 1500) > -0.5) + noise(
        samples, seed, 0.01
    )
    return (wav * 0.8 / wav.abs().max()).numpy()


@needs_smile
@pytest.mark.parametrize(("name", "level"), [("egemaps", "Functionals"), ("egemaps_lld", "LowLevelDescriptors")])
def test_egemaps_is_what_opensmile_gives_for_the_file(tmp_path: Path, name: str, level: str) -> None:
    import opensmile

    soundfile.write(tmp_path / "a.wav", speechlike(24_000), RATE, subtype="PCM_16")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel[level])
    want = smile.process_file(tmp_path / "a.wav").to_numpy()
    got = features(build(name), torch.from_numpy(load_audio(tmp_path / "a.wav")))[0].numpy()
    assert got.shape == want.shape == ((1, 88) if name == "egemaps" else (146, 25))
    np.testing.assert_array_equal(got, want.astype(np.float32))


@needs_smile
def test_full_scale_does_not_wrap_around() -> None:
    wav = torch.from_numpy(speechlike(16_000)) * 1.3
    loudness = features(build("egemaps_lld"), wav)[0, :, 0]
    clipped = features(build("egemaps_lld"), wav.clamp(-1, 32767 / 32768))[0, :, 0]
    assert torch.equal(loudness, clipped)
    assert torch.equal(
        features(build("egemaps_lld"), torch.ones(8000)), features(build("egemaps_lld"), torch.full((8000,), 1.5))
    )


@needs_smile
def test_what_opensmile_leaves_undefined_becomes_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = build("egemaps_lld")
    monkeypatch.setattr(upstream, "smile", lambda samples, rate: np.array([[[1.0, np.nan], [np.inf, 2.0]]]))
    assert features(upstream, noise(960))[0].tolist() == [[1.0, 0.0], [0.0, 2.0]]


@needs_smile
def test_egemaps_computes_in_threads() -> None:
    upstream, wavs = build("egemaps"), [torch.from_numpy(speechlike(8000, seed)) for seed in range(4)]
    want, got = [features(upstream, wav) for wav in wavs], [torch.empty(0)] * 4

    def compute(number: int) -> None:
        got[number] = features(upstream, wavs[number])

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


def test_without_opensmile_the_others_work_and_egemaps_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny_corpus: TinyCorpus
) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(UsageError, match=r"-u egemaps_lld: openSMILE is not installed .*s3prl-emotion\[egemaps\]"):
        build("egemaps_lld")
    error = cli("-m", "train", "-u", "egemaps", *HEAD, "-o", tiny_corpus.overrides(), code=1).error
    assert "pip install 's3prl-emotion[egemaps]'" in error


# --- concat -------------------------------------------------------------------------------------------------------


class Member(torch.nn.Module):
    """An upstream at any rate, whose frame ``t`` depends on the samples ``[t rate, (t + 1) rate)``."""

    def __init__(self, rate: int, dims: int = 3, layers: int = 1, whole: bool = False, lengths: bool = True) -> None:
        super().__init__()
        self.rate, self.dims, self.count, self.one_frame = rate, dims, layers, whole
        self.dropout = torch.nn.Dropout(0.5)
        self.weight = torch.nn.Parameter(torch.arange(1.0, dims + 1))
        if lengths:
            self.frames = lambda samples: 1 if whole else max(1, samples // rate)

    def get_downsample_rates(self, key: str) -> int:
        return self.rate

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        longest = max(len(wav) for wav in wavs)
        padded = torch.stack([torch.nn.functional.pad(wav, (0, longest - len(wav))) for wav in wavs])
        rate = longest if self.one_frame else min(self.rate, longest)
        frames = padded[:, : longest // rate * rate].reshape(len(wavs), -1, rate).square().sum(dim=-1, keepdim=True)
        hidden = [self.dropout(frames * self.weight) * (1 + layer) for layer in range(self.count)]
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1], "_private": None}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Add an upstream to the hub: ``hub(name, member)``."""
    import s3prl.hub

    def put(name: str, member: Any) -> Any:
        made = member if callable(member) and not isinstance(member, torch.nn.Module) else lambda **others: member
        monkeypatch.setattr(s3prl.hub, name, made, raising=False)
        return member

    return put


def concat(*members: str | dict[str, Any], **options: Any) -> Any:
    sections = [{"name": member} if isinstance(member, str) else member for member in members]
    return build("concat", upstreams=sections, **options).eval()


def aligned_by_hand(frames: np.ndarray, rate: int, out_rate: int, length: int) -> np.ndarray:
    """Compute each output frame from the definition, in a loop; times in samples as exact fractions."""
    from fractions import Fraction

    centres = [Fraction(rate) * (2 * t + 1) / 2 for t in range(len(frames))]
    rows = []
    for j in range(length):
        inside = [t for t, centre in enumerate(centres) if j * out_rate <= centre < (j + 1) * out_rate]
        if rate > out_rate or not inside:
            middle = Fraction(out_rate) * (2 * j + 1) / 2
            rows.append(frames[min(int(middle // rate), len(frames) - 1)])
        else:
            rows.append(frames[inside].mean(axis=0))
    return np.array(rows)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.integers(1, 100), st.integers(1, 100))
@example(4, 160, 320)
@example(5, 160, 320)
@example(3, 320, 160)
@example(1, 1, 500)
def test_alignment_follows_its_definition(frames: int, rate: int, out_rate: int) -> None:
    align = importlib.import_module("s3prl.upstream.concat.align")
    values = np.random.default_rng(frames).normal(size=(frames, 2))
    length = align.aligned_length(frames, rate, out_rate)
    assert length == max(1, int(np.floor(np.float64(2 * frames * rate + out_rate) / (2 * out_rate))))
    got = align.aligned(torch.from_numpy(values), rate, out_rate, length).numpy()
    assert got.shape == (length, 2)
    np.testing.assert_allclose(got, aligned_by_hand(values, rate, out_rate, length), atol=1e-12)


@pytest.mark.parametrize(("rate", "out"), [(None, 320), (160, 160), (200, 200)])
def test_members_stand_side_by_side_on_one_rate(hub: Any, rate: int | None, out: int) -> None:
    fine, coarse = hub("fine", Member(160)).eval(), hub("coarse", Member(320, dims=2)).eval()
    upstream = concat("fine", "coarse", **({} if rate is None else {"rate": rate}))
    assert upstream.get_downsample_rates("hidden_states") == out
    wav = noise(4000)
    got = features(upstream, wav)[0]
    parts = [(features_of(member, wav), member.rate) for member in (fine, coarse)]
    length = min(int(len(part) * own / out + 0.5) for part, own in parts)
    want = np.concatenate([aligned_by_hand(part, own, out, length) for part, own in parts], axis=1)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)
    assert upstream.frames(4000) == len(got) == length


def features_of(member: Any, wav: torch.Tensor, layer: int = -1) -> np.ndarray:
    with torch.no_grad():
        return member([wav])["hidden_states"][layer][0].numpy()


def test_one_frame_is_repeated_and_its_rate_ignored(hub: Any) -> None:
    hub("fine", Member(160))
    whole = hub("whole", Member(16_000, dims=2, whole=True)).eval()
    upstream = concat("whole", "fine")
    wav = noise(3200)
    got = features(upstream, wav)[0]
    assert upstream.get_downsample_rates() == 160
    assert got.shape == (20, 5)
    np.testing.assert_array_equal(got[:, :2].numpy(), np.repeat(features_of(whole, wav), 20, axis=0))
    assert not upstream.one_frame
    assert concat("whole", "whole").one_frame
    assert features(concat("whole", "whole"), wav).shape == (1, 1, 4)
    with pytest.raises(ConfigError, match=r"upstreams\.1 \(fine\)\.one_frame: it returned 100 frames"):
        concat("whole", {"name": "fine", "one_frame": True})


def test_layers_meet_and_single_ones_are_repeated(hub: Any) -> None:
    deep, flat = hub("deep", Member(160, layers=3)).eval(), hub("flat", Member(160, dims=2)).eval()
    hub("deeper", Member(160, layers=4))
    wav = noise(1600)
    with torch.no_grad():
        layers = concat("deep", "flat")([wav])["hidden_states"]
    assert len(layers) == 3
    for number, layer in enumerate(layers):
        want = np.concatenate([features_of(deep, wav, number), features_of(flat, wav)], axis=1)
        np.testing.assert_array_equal(layer[0].numpy(), want)
    one = features(concat({"name": "deep", "layer": 1}, {"name": "deeper", "layer": -1}), wav)
    np.testing.assert_array_equal(one[0, :, :3].numpy(), features_of(deep, wav, 1))
    last = concat({"name": "deep", "feature": "last_hidden_state"}, "flat")
    assert len(last([wav])["hidden_states"]) == 1
    with pytest.raises(ConfigError, match=r"numbers of layers differ \(deep 3, deeper 4\)"):
        concat("deep", "deeper")
    with pytest.raises(ConfigError, match=r"\(deep\)\.layer: 3 is not among its 3 layers"):
        concat({"name": "deep", "layer": 3}, "flat")
    with pytest.raises(ConfigError, match=r"\(deep\)\.feature: it has no 'fc2'; it has hidden_states, last_hidden"):
        concat({"name": "deep", "feature": "fc2"}, "flat")


def test_concat_has_frames_only_where_all_members_have_them(hub: Any) -> None:
    hub("told", Member(160)), hub("untold", Member(160, lengths=False))
    assert hasattr(concat("told", "told"), "frames")
    assert not hasattr(concat("told", "untold"), "frames")


def test_building_concat_draws_no_random_number_and_leaves_modes_alone(hub: Any) -> None:
    hub("one", Member(160)), hub("two", Member(160).eval())
    before = torch.get_rng_state()
    upstream = build("concat", upstreams=[{"name": "one"}, {"name": "two"}])
    assert torch.equal(torch.get_rng_state(), before)
    assert [member.training for member in upstream.members] == [True, False]


def test_gradients_reach_the_members(hub: Any) -> None:
    fine, coarse = hub("fine", Member(160)), hub("coarse", Member(400, layers=2))
    out = concat("fine", "coarse")([noise(4000), noise(2000, 1)])
    torch.stack(out["hidden_states"]).sum().backward()
    assert all(member.weight.grad.abs().min() > 0 for member in (fine, coarse))
    assert len(list(concat("fine", "coarse").parameters())) == 2


def test_concat_of_the_hosts_upstreams_keeps_their_true_lengths() -> None:
    upstream = concat("fbank_no_cmvn", "logmel26")
    import s3prl.hub

    alone = s3prl.hub.fbank_no_cmvn()([noise(5000)])["last_hidden_state"]
    got = features(upstream, noise(5000))
    assert not hasattr(upstream, "frames")
    torch.testing.assert_close(got[..., : alone.shape[-1]], alone, rtol=0, atol=0)
    torch.testing.assert_close(got[..., alone.shape[-1] :], features(build("logmel26"), noise(5000)), rtol=0, atol=0)


def test_concat_names_what_it_is_made_of(hub: Any, tmp_path: Path) -> None:
    def identity(**bank: Any) -> dict[str, Any]:
        path = tmp_path / "bank.yaml"
        path.write_text(yaml.safe_dump(bank))
        member = {"name": "mel_f0", "model_config": str(path)}
        return concat("logmel26", member, "fbank_no_cmvn").identity()

    first = identity(num_mels=30)
    assert json.loads(json.dumps(first)) == first
    assert first == identity(num_mels=30)
    assert first != identity(num_mels=31)
    assert [member["name"] for member in first["members"]] == ["logmel26", "mel_f0", "fbank_no_cmvn"]
    assert first["members"][0]["identity"] == build("logmel26").identity()
    hub("untold", Member(160))  # it has no identity()
    path, identities = tmp_path / "any.yaml", []
    for text in ("a: 1", "a: 2", "a: 1"):
        path.write_text(text)
        identities.append(concat("mel_f0", {"name": "untold", "model_config": str(path)}).identity())
    assert identities[0] == identities[2] != identities[1]
    weights, identities = tmp_path / "weights", []
    weights.mkdir()
    for content in (b"1", b"2", b"1"):
        (weights / "stats.npy").write_bytes(content)
        identities.append(concat("mel_f0", {"name": "untold", "ckpt": str(weights)}).identity())
    assert identities[0] == identities[2] != identities[1]
    assert concat("logmel26", "mel_f0", rate=320).identity() != concat("logmel26", "mel_f0").identity()


# --- all of them --------------------------------------------------------------------------------------------------


MIXED: dict[str, Any] = {"upstreams": [{"name": "logmel26"}, {"name": "mel_f0", "model_config": {"hop_ms": 16}}]}
ALL = [("logmel26", {}), ("mel_f0", {"voicing": True}), ("concat", MIXED)]
ALL_PARAMS = [pytest.param(name, options, id=name) for name, options in ALL] + [
    pytest.param(name, {}, id=name, marks=needs_smile) for name in ("egemaps", "egemaps_lld")
]


@pytest.mark.parametrize(("name", "options"), ALL_PARAMS)
def test_neighbours_change_nothing(name: str, options: dict[str, Any]) -> None:
    upstream = build(name, **options)
    wavs = [torch.from_numpy(speechlike(samples, samples)) for samples in (9000, 1, 16_000, 320, 5001)]
    together = features(upstream, *wavs)
    for wav, row in zip(wavs, together, strict=True):
        alone = features(upstream, wav)[0]
        assert len(alone) == upstream.frames(len(wav))
        assert torch.equal(row[: len(alone)], alone)
        assert row[len(alone) :].abs().sum() == 0
    assert together.dtype == torch.float32


@pytest.mark.parametrize(("name", "options"), ALL_PARAMS)
def test_short_silent_constant_and_long_audio_is_finite(name: str, options: dict[str, Any]) -> None:
    upstream = build(name, **options)
    for wav in (
        torch.zeros(RATE),
        torch.full((RATE,), 0.5),
        torch.zeros(1),
        torch.ones(1),
        noise(320),
        noise(20 * RATE),
    ):
        got = features(upstream, wav)
        assert torch.isfinite(got).all()
        assert got.shape[1] == upstream.frames(len(wav)) >= 1


@FEW
@given(st.integers(1, 20_000))
@example(399)
@example(400)
@example(559)
@example(560)
def test_frames_are_known_ahead(samples: int) -> None:
    for name, options in ALL:
        upstream = build_once(name, json.dumps(options))
        assert features(upstream, noise(samples)).shape[1] == upstream.frames(samples), name


@needs_smile
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 20_000))
@example(959)
@example(1119)
@example(1120)
def test_frames_of_egemaps_are_known_ahead(samples: int) -> None:
    for name in ("egemaps", "egemaps_lld"):
        upstream = build_once(name, "{}")
        assert features(upstream, noise(samples)).shape[1] == upstream.frames(samples), name


BUILT: dict[tuple[str, str], Any] = {}


def build_once(name: str, options: str) -> Any:
    if (name, options) not in BUILT:
        BUILT[name, options] = build(name, **json.loads(options))
    return BUILT[name, options]


@pytest.mark.parametrize("name", ["logmel26", "mel_f0", *SMILE])
def test_identity_is_plain_and_tells_what_matters(name: str) -> None:
    identity = build(name).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["adapter"] == name
    assert "version" in identity
    if name in ("logmel26", "mel_f0"):
        assert build(name, floor=1e-7).identity() != identity
        assert identity["f_max"] == {"logmel26": 6500.0, "mel_f0": 8000.0}[name]
    else:
        assert identity["opensmile"] == importlib.metadata.version("opensmile")


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logmel26", "mel_f0", "concat", *SMILE])
def test_a_checkpoint_is_refused(name: str) -> None:
    import s3prl.hub

    with pytest.raises(UsageError, match=f"-k some.pt: -u {name} has no checkpoint"):
        getattr(s3prl.hub, name)(ckpt="some.pt", model_config=MIXED if name == "concat" else None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("logmel26", {"f_mx": 3.0}, r"logmel26\.f_mx: unknown key; nearest: f_max"),
        ("logmel26", {"num_mels": 0}, r"logmel26\.num_mels: .*greater than or equal to 1"),
        ("logmel26", {"num_mels": 26.0}, r"logmel26\.num_mels: .*valid integer"),
        ("logmel26", {"f_max": 9000.0}, r"logmel26\.f_max: "),
        ("logmel26", {"f_min": 6500.0}, r"logmel26\.f_min: must be below f_max \(6500 Hz\)"),
        ("logmel26", {"num_mels": 300}, r"logmel26\.num_mels: \d+ of 300 filters contain no FFT bin"),
        ("mel_f0", {"f0": "Hz"}, r"mel_f0\.f0: .*'log' or 'hz'"),
        ("mel_f0", {"pitch_min": 500.0}, r"mel_f0\.pitch_min: must be below pitch_max \(500 Hz\), got 500"),
        ("concat", {"upstreams": [{"name": "logmel26"}]}, r"concat\.upstreams: .*at least 2 items"),
        ("concat", {**MIXED, "rat": 3}, r"concat\.rat: unknown key; nearest: rate"),
        ("concat", {**MIXED, "rate": 0}, r"concat\.rate: "),
        (
            "concat",
            {"upstreams": [{"name": "logmel26", "model_confg": None}, {"name": "mel_f0"}]},
            r"concat\.upstreams\.0\.model_confg: unknown key; nearest: model_config$",
        ),
        ("concat", {"upstreams": [{"name": "logmel26"}, {}]}, r"concat\.upstreams\.1\.name: this key is required"),
        ("concat", {"upstreams": [{"name": "concat"}, {"name": "mel_f0"}]}, "a concat cannot contain another one"),
        (
            "concat",
            {"upstreams": [{"name": "mel_f0"}, {"name": "logmel26", "model_config": {"flor": 1.0}}]},
            r"concat\.upstreams\.1: logmel26\.flor: unknown key; nearest: floor",
        ),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(name, **options)
    assert "\n" not in str(caught.value)


def test_bad_members_are_named(hub: Any) -> None:
    def broken(**others: Any) -> Any:
        raise AssertionError

    hub("broken", broken)
    hub("nothing", lambda **others: torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match=r"concat\.upstreams\.1\.name logmel62: no such upstream; nearest: logmel26"):
        concat("mel_f0", "logmel62")
    with pytest.raises(UsageError, match=r"upstreams\.1: broken cannot be built \(AssertionError\); try it alone"):
        concat("mel_f0", "broken")
    with pytest.raises(UsageError, match=r"upstreams\.0: nothing is not an upstream"):
        concat("nothing", "mel_f0")
    with pytest.raises(UsageError, match=r"concat\.upstreams\.0: -k a\.pt: -u mel_f0 has no checkpoint"):
        concat({"name": "mel_f0", "ckpt": "a.pt"}, "logmel26")
    with pytest.raises(UsageError, match="-u concat: list the upstreams with -g FILE"):
        build("concat")


def test_bad_option_files_are_named(tmp_path: Path) -> None:
    import s3prl.hub

    for text, message in (
        ("a: [", r"not readable as YAML"),
        ("- 1", "must be a mapping"),
        ("windw: hann", r"o\.yaml: logmel26\.windw: unknown key; nearest: window"),
    ):
        (tmp_path / "o.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            s3prl.hub.logmel26(model_config=str(tmp_path / "o.yaml"))
    (tmp_path / "o.yaml").write_text("# nothing yet\n")
    assert s3prl.hub.logmel26(model_config=tmp_path / "o.yaml").frames(400) == 1
    with pytest.raises(UsageError, match=r"-g .*none\.yaml: no such file"):
        s3prl.hub.logmel26(model_config=str(tmp_path / "none.yaml"))


@needs_smile
def test_egemaps_has_no_options() -> None:
    with pytest.raises(ConfigError, match=r"egemaps\.level: unknown key"):
        build("egemaps", level="lld")


@pytest.mark.parametrize("wav", [torch.zeros(0), torch.zeros(2, 100)])
def test_what_is_no_waveform_is_refused(wav: torch.Tensor) -> None:
    with pytest.raises(AudioError, match=r"waveforms \[N\] with N >= 1 samples, got \["):
        build("logmel26")([wav])


# --- the command line ---------------------------------------------------------------------------------------------

HEAD = ("-d", "emotion_corr_attn", "-p", "exp", "--device", "cpu")
SIZES = {"logmel26": 26, "mel_f0": 41, "egemaps": 88, "egemaps_lld": 25}


@pytest.mark.full
@pytest.mark.parametrize("name", ["logmel26", "mel_f0", *SMILE])
def test_a_head_trains_on_it(cli: Cli, tiny_corpus: TinyCorpus, name: str) -> None:
    cli("-m", "train", "-u", name, *HEAD, "-o", tiny_corpus.overrides())
    head = load_checkpoint("exp/states-6.ckpt")["Downstream"]
    assert SIZES[name] in {size for weight in head.values() for size in getattr(weight, "shape", ())}
    assert "test_fold1_metrics.json" in {path.name for path in Path("exp").iterdir()}


@pytest.mark.full
@needs_smile
def test_a_head_trains_on_several_side_by_side(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    members = [{"name": "fbank_no_cmvn"}, {"name": "mel_f0", "model_config": "f0.yaml"}, {"name": "egemaps"}]
    Path("f0.yaml").write_text("num_mels: 20\n")
    Path("several.yaml").write_text(yaml.safe_dump({"upstreams": members}))
    words = ("-m", "train", "-u", "concat", "-g", "several.yaml", *HEAD, "-o", tiny_corpus.overrides())
    cli(*words)
    head = load_checkpoint("exp/states-6.ckpt")["Downstream"]
    assert 240 + 21 + 88 in {size for weight in head.values() for size in getattr(weight, "shape", ())}
    members[1]["name"] = "mel_fO"
    Path("several.yaml").write_text(yaml.safe_dump({"upstreams": members}))
    assert (
        "concat.upstreams.1.name mel_fO: no such upstream; nearest: mel_f0" in cli(*words, "--overwrite", code=1).error
    )


def test_the_command_line_refuses_what_an_adapter_does_not_know(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    Path("o.yaml").write_text("f_mx: 1\n")
    words = ("-m", "train", "-u", "logmel26", *HEAD, "-o", tiny_corpus.overrides())
    assert "-g o.yaml: logmel26.f_mx: unknown key; nearest: f_max" in cli(*words, "-g", "o.yaml", code=1).error
    assert "-k o.yaml: -u logmel26 has no checkpoint" in cli(*words, "-k", "o.yaml", code=1).error
