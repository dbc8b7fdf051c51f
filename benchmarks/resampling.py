"""Compare the resampling to 16 kHz with torchaudio's default, which the suite used before: pass band and speed.

python benchmarks/resampling.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from common import parser_of
from numpy.typing import NDArray
from torchaudio.transforms import Resample

from s3prl_emotion.audio import SAMPLE_RATE, resample

RATES = (44_100, 48_000)  # Hz
TONES = (6_000, 7_000, 7_500, 7_900, 8_200, 9_000, 12_000)  # Hz
SECONDS = 60.0


def main() -> None:
    """Print the level of tones after resampling (dB), and the time for a minute of audio."""
    args = parser_of(__doc__, repeats=5).parse_args()
    torch.set_num_threads(1)
    rows = []
    for rate in RATES:
        before = Resample(rate, SAMPLE_RATE)
        for name, function in (
            ("soxr HQ", lambda wave, rate=rate: resample(wave, rate)),
            ("torchaudio", lambda wave, before=before: before(torch.from_numpy(wave)).numpy()),
        ):
            noise = np.random.default_rng(0).standard_normal(round(SECONDS * rate)).astype(np.float32)
            times = []
            for _ in range(args.repeats):
                begun = time.perf_counter()
                function(noise)
                times.append(time.perf_counter() - begun)
            levels = [level(function(tone(pitch, rate))) for pitch in TONES]
            rows.append(
                [f"{rate} Hz", name, *(f"{value:.1f}" for value in levels), f"{1000 * np.median(times):.0f} ms"]
            )
    for row in [["from", "by", *(f"{pitch} Hz" for pitch in TONES), "a minute"], *rows]:
        print("".join(f"{cell:>10}" for cell in row))  # levels in dB


def tone(pitch: float, rate: int) -> NDArray[np.float32]:
    """Return half a second of a tone at full scale, ``[N]``."""
    return np.sin(2 * np.pi * pitch * np.arange(rate // 2) / rate).astype(np.float32)


def level(samples: NDArray[np.float32]) -> float:
    """Return the level relative to a tone at full scale (dB), without the edges; at least -150 dB."""
    power = np.mean(np.square(samples[1000:-1000], dtype=np.float64))
    return float(10 * np.log10(max(2 * power, 1e-15)))


if __name__ == "__main__":
    main()
