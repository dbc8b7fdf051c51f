"""Measure pretraining of the ``rae`` upstream: its speed, and its memory for a folder and one ten times as long.

The longer folder holds every file ten times, as hard links. Each training is a process of its own with the same number
of steps, so that only the folder differs.

    python benchmarks/rae.py            # some minutes on 2 cores
    python benchmarks/rae.py --files 50 --steps 5
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from common import RATE, parser_of, run_script

TIMES = 10


def main() -> None:
    """Print the figures of both folders, and their ratio of memory."""
    parser = parser_of(__doc__)
    parser.add_argument("--files", type=int, default=400, help="of 2 to 12 s, in the short folder")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        short, long = save_audio(Path(name), args.files)
        print(f"{'':8}{'files':>8}{'hours':>8}{'h of audio an hour':>20}{'peak MB':>10}")
        peaks = []
        for label, folder, files in (("short", short, args.files), ("long", long, TIMES * args.files)):
            done = train(folder, Path(name) / f"out-{label}", args)
            peaks.append(done["peak"])
            print(f"{label:8}{files:>8}{done['there']:>8.2f}{done['speed']:>20.1f}{done['peak']:>10.0f}")
    print(f"memory, long / short: {peaks[1] / peaks[0]:.3f}")


def save_audio(folder: Path, files: int) -> tuple[Path, Path]:
    """Save a folder of noise, and one with every file ten times."""
    generator = np.random.default_rng(0)
    short, long = folder / "short", folder / "long"
    for part in (short, *(long / str(copy) for copy in range(TIMES))):
        part.mkdir(parents=True)
    for number in range(files):
        path = short / f"{number:05d}.flac"
        soundfile.write(path, generator.normal(scale=0.1, size=int(generator.uniform(2, 12) * RATE)), RATE)
        for copy in range(TIMES):
            os.link(path, long / str(copy) / path.name)
    return short, long


def train(folder: Path, out: Path, args: argparse.Namespace) -> dict[str, float]:
    """Train in a process of its own."""
    options = [str(value) for value in (folder, out, args.steps, args.batch_size, args.num_workers, args.device)]
    return run_script(__file__, ["--", *options], args.threads)


def _train(folder: str, out: str, steps: str, batch_size: str, num_workers: str, device: str) -> None:
    import torch

    from s3prl_emotion.rae.adapter import Configuration, MelSpectrogramDb
    from s3prl_emotion.rae.audio_index import index_audio
    from s3prl_emotion.rae.training import Pretraining

    options = {"steps": int(steps), "batch_size": int(batch_size), "valid": 0.0}
    config = Configuration.read({"training": options}, "benchmark")
    spectrogram = MelSpectrogramDb(config.spectrogram)
    index = index_audio([Path(folder)], "auto", spectrogram.window, spectrogram.hop, config.training.max_seconds)
    Path(out).mkdir()
    done = Pretraining(config, index, Path(out), torch.device(device), int(num_workers)).run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"there": index.hours, "speed": done.hours / done.seconds * 3600, "peak": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--"]:
        _train(*sys.argv[2:])
    else:
        main()
