"""Share what the benchmarks need: models with random weights, a corpus of noise, clocks, tables and subprocesses."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed
FOLDER = Path(tempfile.gettempdir()) / "s3prl-emotion-benchmark"
RATE = 16_000
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
SIZES: dict[str, dict[str, object]] = {"base": {}, "large": LARGE}


# --- command line and set-up ------------------------------------------------------------------------------------------


def parser_of(description: str | None, repeats: int | None = None, folder: bool = False) -> argparse.ArgumentParser:
    """Return a parser with ``--threads`` and, where asked for, ``--repeats`` and ``--folder``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats)
    if folder:
        parser.add_argument("--folder", type=Path, default=FOLDER, help="for models, corpora and stores")
    return parser


def set_up(threads: int) -> None:
    """Set torch's number of threads, and register the suite with s3prl."""
    import torch

    import s3prl_emotion

    torch.set_num_threads(threads)
    s3prl_emotion.register()


def save_model(folder: Path, size: str) -> Path:
    """Save a HuBERT of the base (12 x 768) or large (24 x 1024) size with random weights, once; return its folder."""
    target = folder / f"hubert-{size}"
    if not (target / "model.safetensors").is_file():
        import torch
        from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

        torch.manual_seed(0)
        HubertModel(HubertConfig(**SIZES[size])).save_pretrained(target)
        is_large = size == "large"
        Wav2Vec2FeatureExtractor(do_normalize=is_large, return_attention_mask=is_large).save_pretrained(target)
    return target


def save_corpus(folder: Path, training: int = 64) -> Path:
    """Save noise of 2-6 s in SUPERB's format, which stock s3prl reads too, with ``training`` utterances in its split.

    Returns:
        folder with ``audio`` and ``meta_data``
    """
    generator = np.random.default_rng(0)
    root, classes = folder / "corpus", {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    for split, count in (("train", training * 5 // 4), ("test", 4)):
        entries = []
        for number in range(count):
            samples = int(generator.uniform(2, 6) * RATE)
            path = f"Session{1 if split == 'test' else 2}/{split}{number:03d}.wav"
            (root / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "audio" / path, generator.normal(scale=0.1, size=samples), RATE)
            entries.append({"path": path, "label": list(classes)[number % 4], "speaker": f"{split}{number % 3}"})
        lists = root / "meta_data" / "Session1"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}_meta_data.json").write_text(json.dumps({"labels": classes, "meta_data": entries}))
    return root


# --- clocks and tables ------------------------------------------------------------------------------------------------


def take_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 0, wait: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Run each function in turn, and return the seconds of each, without the first ``warm_up`` rounds.

    Args:
        runs: functions by name
        repeats: rounds that are timed
        warm_up: rounds before
        wait: called before each reading of the clock, to wait for a GPU
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + repeats):
        for name, run in runs.items():
            if wait is not None:
                wait()
            begun = time.perf_counter()
            run()
            if wait is not None:
                wait()
            if number >= warm_up:
                times[name].append(time.perf_counter() - begun)
    return times


def print_table(rows: Mapping[str, Sequence[float]], heading: str = "", width: int = 16) -> None:
    """Print a row with the median, least and greatest of each list of values."""
    print(f"{heading:{width}}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in rows.items():
        print(f"{name:{width}}{spread(values)}")


def spread(values: Sequence[float]) -> str:
    """Return the median, least and greatest value as columns."""
    return f"{statistics.median(values):>10.3f}{min(values):>10.3f}{max(values):>10.3f}"


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured one after the other."""
    return statistics.median(mine / theirs for mine, theirs in zip(one, other, strict=True))


def resident(key: str = "VmRSS") -> float:
    """Return this process's resident memory in MB, now (``VmRSS``) or at its peak (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1e3


# --- subprocesses -----------------------------------------------------------------------------------------------------


def environment_of(threads: int) -> dict[str, str]:
    """Return the environment of a subprocess: this checkout, and a number of threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


def run_script(script: str, words: Sequence[str], threads: int) -> Any:
    """Run a script in a process of its own, and return the JSON that its last line holds."""
    command = [sys.executable, script, *words]
    done = subprocess.run(command, env=environment_of(threads), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def timed_run(command: list[str], threads: int) -> tuple[list[float], float]:
    """Train in a process of its own; return the seconds of its optimizer steps, and of the whole process."""
    begun = time.perf_counter()
    stamps = run_script(__file__, command, threads)
    seconds = time.perf_counter() - begun
    return [later - earlier for earlier, later in itertools.pairwise(stamps)], seconds


def _train(kind: str, words: list[str]) -> None:
    """Train with stock s3prl, patched only so that it runs, or with the suite; print when each optimizer step ended."""
    import torch

    stamps: list[float] = []
    update = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: object, **kwargs: object) -> object:
        result = update(self, *args, **kwargs)
        stamps.append(time.perf_counter())
        return result

    torch.optim.Adam.step = step
    sys.argv = ["run_downstream.py", *words]
    if kind == "stock":
        from s3prl_emotion import host

        host.patch()
        import s3prl.downstream.runner
        import s3prl.run_downstream

        s3prl.run_downstream.main()
    else:
        from s3prl_emotion.run_downstream import main

        code = main()
        if code:
            sys.exit(code)
    print(json.dumps(stamps))


if __name__ == "__main__":
    _train(sys.argv[1], sys.argv[2:])
