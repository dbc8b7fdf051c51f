"""Audio files of any format become 16 kHz mono float32, or an error of one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import RATE, tone

from s3prl_emotion.audio import Resampler, faults, load_audio, resample, resampled_length
from s3prl_emotion.errors import AudioError

RATES = [8_000, 11_025, 22_050, 44_100, 48_000]
ODD_RATES = [1_000, 15_991, 24_414, 44_099, 44_101, 384_000, 768_000]  # 24,414 Hz: TESS


def sine(pitch: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def peak(samples: np.ndarray) -> float:
    """Return the frequency of the strongest partial (Hz)."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def assert_refused(path: Path, match: str) -> None:
    with pytest.raises(AudioError, match=match) as caught:
        load_audio(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(f"{path}: ")


# --- sound files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "FLOAT", 0.0),
        ("a.wav", "DOUBLE", 0.0),
        ("a.flac", "PCM_16", 2**-15),
        ("a.ogg", "VORBIS", 0.1),
    ],
)
def test_formats(tmp_path: Path, name: str, subtype: str, tolerance: float):
    samples = tone(220.0, 0.2, seed=1)
    soundfile.write(tmp_path / name, samples, RATE, subtype=subtype)
    loaded = load_audio(tmp_path / name)
    assert (loaded.dtype, loaded.shape) == (np.float32, samples.shape)
    assert np.abs(loaded - samples).max() <= tolerance


def test_path_may_be_a_string_and_the_name_unicode(tmp_path: Path):
    path = tmp_path / "Jürgen 悲しい.flac"
    soundfile.write(path, tone(220.0, 0.1, seed=1), RATE)
    assert len(load_audio(str(path))) == 1600


def test_the_content_counts_not_the_ending(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(220.0, 0.1, seed=1), RATE, format="FLAC")
    assert len(load_audio(tmp_path / "a.wav")) == 1600


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int):
    samples = np.stack([tone(100.0 * (n + 1), 0.1, seed=n) for n in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), samples.mean(axis=1), atol=1e-7)


def test_channels_are_averaged_before_resampling(tmp_path: Path):
    samples = np.stack([tone(200.0, 0.1, 1, 44_100), tone(300.0, 0.1, 2, 44_100)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    expected = resample(samples.mean(axis=1), 44_100)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), expected, atol=1e-6)


def test_one_sample_is_audio(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5, np.float32), RATE, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav").tolist() == [0.5]


@pytest.mark.parametrize("rate", RATES)
def test_one_sample_at_another_rate_is_audio(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5, np.float32), rate, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav")
    assert len(loaded) >= 1
    assert np.isfinite(loaded).all()


def test_silence_is_audio(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.float32), RATE)
    assert not load_audio(tmp_path / "a.wav").any()


# --- resampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [220.0, 1000.0])
def test_resampled_tone_keeps_its_pitch_length_and_level(tmp_path: Path, rate: int, pitch: float):
    soundfile.write(tmp_path / "a.wav", sine(pitch, 1.0, rate), rate, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.dtype == np.float32
    assert len(loaded) == RATE
    assert peak(loaded) == pytest.approx(pitch, abs=1.0)
    assert np.abs(loaded[100:-100]).max() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("rate", [*RATES, *ODD_RATES])
@pytest.mark.parametrize("length", [1, 1001, 4410])
def test_resampling_does_not_depend_on_blocks_and_keeps_the_duration(rate: int, length: int):
    samples = np.random.default_rng(rate).uniform(-0.5, 0.5, length).astype(np.float32)
    whole, blocks = resample(samples, rate), Resampler(rate)
    parts = [blocks.add(samples[at : at + 333]) for at in range(0, length, 333)]
    np.testing.assert_array_equal(np.concatenate([*parts, blocks.end()]), whole)
    assert len(whole) == -(-length * RATE // rate) == resampled_length(length, rate)


@pytest.mark.parametrize("rate", [*RATES, *ODD_RATES])
def test_resampling_is_soxrs(rate: int):
    samples = np.random.default_rng(rate).uniform(-0.5, 0.5, rate // 5).astype(np.float32)
    expected = soxr.resample(samples, rate, RATE, quality="HQ")
    np.testing.assert_allclose(resample(samples, rate)[: len(expected) - 1], expected[:-1], atol=1e-6)


@pytest.mark.parametrize("rate", [44_100, 48_000, 24_414])
def test_the_pass_band_is_flat_to_7_khz_and_nothing_above_9_khz_is_left(rate: int):
    for pitch, lowest, highest in ((1000, -0.02, 0.02), (7000, -0.02, 0.02), (7300, -0.02, 0.02), (9000, -999, -100)):
        found = resample(sine(pitch, 0.5, rate), rate)[1000:-1000].astype(np.float64)
        level = 20 * np.log10(np.sqrt(np.mean(found**2)) / (0.5 / np.sqrt(2)) + 1e-9)
        assert lowest <= level <= highest, (rate, pitch, level)


def test_what_16_khz_cannot_hold_is_filtered_out(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", sine(12_000.0, 0.5, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(load_audio(tmp_path / "a.wav")[200:-200]).max() < 0.01


# --- bad files --------------------------------------------------------------------------------------------------------


def test_missing_file_is_refused(tmp_path: Path):
    assert_refused(tmp_path / "a.wav", r"a\.wav: no such audio file; check datarc\.root and the FileName column")


def test_folder_is_refused(tmp_path: Path):
    (tmp_path / "a.wav").mkdir()
    assert_refused(tmp_path / "a.wav", r"a\.wav: no such audio file")


@pytest.mark.parametrize(
    "content",
    [b"", b"this is no audio\nat all\n", b"RIFF", b"RIFF\x24\x00\x00\x00WAVEfmt ", bytes(1000), b"fLaC" + bytes(60)],
    ids=["empty", "text", "riff", "header", "zeros", "flac"],
)
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes, name: str):
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, r"unreadable audio \(.+\); replace the file or leave it out of the labels")


def test_headerless_audio_is_refused(tmp_path: Path):
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    assert_refused(tmp_path / "a.raw", r"a\.raw: unreadable audio \(.+\)")


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_file_without_samples_is_refused(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), rate)
    assert_refused(tmp_path / "a.wav", r"audio has 0 samples; replace the file or leave it out of the labels")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("rate", [RATE, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, value: float, rate: int, channels: int):
    samples = np.zeros((160, channels))
    samples[77, channels - 1] = value
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="DOUBLE")
    assert_refused(tmp_path / "a.wav", r"audio holds NaN or infinite samples; replace the file")


@pytest.mark.parametrize("rate", ODD_RATES)
def test_any_rate_is_resampled(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", sine(300.0, 1.0, rate), rate, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav")
    assert len(loaded) == RATE
    assert peak(loaded) == pytest.approx(300.0, abs=1.0)


@pytest.mark.parametrize("rate", [999, 768_001])
def test_a_rate_that_cannot_be_resampled_is_refused(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", np.zeros(160, np.float32), rate)
    assert_refused(
        tmp_path / "a.wav",
        rf"a\.wav: a sampling rate of {rate} Hz is not supported \(1000 to 768000 Hz are\); resample it to",
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_that_does_not_know_its_length(tmp_path: Path, channels: int):
    """Encoders that write to a pipe set the number of samples in the header to 0, which means unknown."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * RATE, channels))
    soundfile.write(tmp_path / "known.flac", samples, RATE)
    content = bytearray((tmp_path / "known.flac").read_bytes())
    content[21] &= (
        0xF0  # STREAMINFO follows 8 bytes; the number is in the last 4 bits of its byte 13 and the next four bytes
    )
    content[22:26] = bytes(4)
    (tmp_path / "unknown.flac").write_bytes(content)
    found = load_audio(tmp_path / "unknown.flac")
    assert len(found) == 3 * RATE
    np.testing.assert_array_equal(found, load_audio(tmp_path / "known.flac"))


# --- scale -------------------------------------------------------------------------------------------------------


def said_of_scale(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "full scale is 1" in record.getMessage()]


def test_a_file_far_beyond_full_scale_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(faults, "_warned", {})
    integers = (tone(300, 0.2, 1) * 32768).astype(np.float32)
    for number in range(faults.NAMED + 3):
        soundfile.write(tmp_path / f"{number}.wav", integers, RATE, subtype="FLOAT")
    loaded = [load_audio(tmp_path / f"{number}.wav") for number in range(faults.NAMED + 3) for _ in range(2)]
    np.testing.assert_array_equal(loaded[0], integers)  # what is read is as before
    lines = said_of_scale(caplog)
    assert len(lines) == faults.NAMED
    assert lines[0].startswith(f"{tmp_path / '0.wav'}: samples reach 1.")
    assert "divide 16-bit samples by 32768" in lines[0]
    assert lines[-1].endswith("; further files are not named")


@pytest.mark.parametrize("peak", [1.0, 1.3, -1.9])
def test_overshoot_of_clipped_audio_is_none_of_that(tmp_path: Path, caplog: pytest.LogCaptureFixture, peak: float):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, peak, 0.0]), RATE, subtype="FLOAT")
    load_audio(tmp_path / "a.wav")
    assert said_of_scale(caplog) == []
