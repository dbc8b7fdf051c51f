"""Audio files that go wrong elsewhere, made on the spot, and the right answer to each."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from conftest import RATE, tone

READS, REFUSES = "reads", "refuses"


@dataclass(frozen=True)
class Case:
    """What every command has to answer: whether it reads the file, the kinds of its faults, and its length (s)."""

    answer: str
    faults: tuple[str, ...] = ()
    seconds: float = 1.88


CASES = {
    "wav_GSM610.wav": Case(READS),
    "wav_G721_32.wav": Case(READS),
    "wav_NMS_ADPCM_16.wav": Case(READS),
    "pipe_35s.flac": Case(READS, seconds=35.0),
    "truncated.wav": Case(READS, ("truncated",), 0.94),
    "trunc.mp3": Case(READS, ("truncated",), 0.94),
    "corrupt.ogg": Case(READS, ("truncated",), 1.16),
    "int16scale_float.wav": Case(READS, ("scale",)),
    "antiphase.wav": Case(READS, ("cancels",)),
    "rate44099.wav": Case(READS),
    "rate24414.wav": Case(READS),
    "n0399.wav": Case(READS, seconds=399 / RATE),
    "NIST.sph": Case(READS),
    "ff_m4a.m4a": Case(READS),
    "text.wav": Case(REFUSES),
    "empty.wav": Case(REFUSES),
    "gone.wav": Case(REFUSES),
}
FAR = {"corrupt.ogg", "trunc.mp3"}  # how much is left depends on where the encoder begins its packets
NEAR = 0.07  # s


def speech(seconds: float = 1.88, rate: int = RATE) -> np.ndarray:
    """Return a tone whose level changes, ``[N]``."""
    samples = tone(300.0, seconds, 1, rate)
    return (samples * (0.6 + 0.4 * np.sin(np.arange(len(samples)) / rate * 9))).astype(np.float32)


def make_cases(folder: Path, media: bool) -> dict[str, Case]:
    """Write the files, and return their cases; the m4a file only where PyAV can write it (``media``)."""
    wave = speech()
    for codec in ("GSM610", "G721_32", "NMS_ADPCM_16"):
        soundfile.write(folder / f"wav_{codec}.wav", wave, RATE, subtype=codec)
    (folder / "pipe_35s.flac").write_bytes(flac_of_unknown_length(np.tile(wave, 19)[: 35 * RATE]))
    soundfile.write(folder / "whole.wav", wave, RATE)
    (folder / "truncated.wav").write_bytes((folder / "whole.wav").read_bytes()[: 44 + round(0.94 * RATE) * 2])
    soundfile.write(folder / "trunc.mp3", wave, RATE)
    content = (folder / "trunc.mp3").read_bytes()
    (folder / "trunc.mp3").write_bytes(content[: len(content) // 2])
    soundfile.write(folder / "corrupt.ogg", np.tile(wave, 3), RATE)
    content = bytearray((folder / "corrupt.ogg").read_bytes())
    second = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"][2]
    content[second + 200 : second + 260] = bytes(60)
    (folder / "corrupt.ogg").write_bytes(content)
    soundfile.write(folder / "int16scale_float.wav", wave * 32767, RATE, subtype="FLOAT")
    soundfile.write(folder / "antiphase.wav", np.stack([wave, -wave], axis=1), RATE)
    for rate in (44_099, 24_414):
        soundfile.write(folder / f"rate{rate}.wav", speech(rate=rate), rate)
    soundfile.write(folder / "n0399.wav", wave[:399], RATE)
    soundfile.write(folder / "NIST.sph", wave, RATE, format="NIST", subtype="PCM_16")
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "empty.wav", wave[:0], RATE)
    (folder / "whole.wav").unlink()
    cases = dict(CASES)
    if media:
        write_m4a(folder / "ff_m4a.m4a", wave)
    else:
        del cases["ff_m4a.m4a"]
    return cases


def flac_of_unknown_length(wave: np.ndarray) -> bytes:
    """Return FLAC as encoders write it into a pipe: the header's number of samples is 0, which means unknown."""
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="FLAC")
    content = bytearray(file.getvalue())
    content[21] &= 0xF0  # the number is in the last 4 bits of STREAMINFO's byte 13 and the next four bytes
    content[22:26] = bytes(4)
    return bytes(content)


def write_m4a(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Write AAC in MP4, with PyAV."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0  # so that its delay is marked
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
