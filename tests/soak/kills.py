"""Kill trainings of every head at random moments, resume them, and compare the weights bit for bit.

By hand (``tests/training/test_kills.py`` does two moments a head)::

    OMP_NUM_THREADS=1 python tests/soak/kills.py --moments 15 --log kills.log

One line a kill, and a summary at the end; the exit code is 1 where a resumed run differs from the uninterrupted one or
a process was left behind. SIGKILL and SIGTERM take turns. Processes are forks of one that has imported everything.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script

import conftest  # noqa: F401  # puts the folders of tests on the path
from test_resume import different
from test_store_reliability import Nursery

from s3prl_emotion.files.checkpoint import load_checkpoint

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
TCGRU = {f"{MODEL}.conv_channels": 8, f"{MODEL}.gru_dim": 8, f"{MODEL}.embedding_dim": 8, f"{MODEL}.dropout": 0.2}
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "emotion_corr_attn": ("fbank_no_cmvn", {f"{MODEL}.projector_dim": 8, f"{DATA}.balanced_sampling": True}),
    "emotion_tcgru": ("fbank_no_cmvn", TCGRU),
    "emotion_multitask": ("fbank_no_cmvn", TCGRU),
    "emotion_acnn": ("logmel26", {f"{MODEL}.filters": 8, f"{MODEL}.pool": 4, f"{MODEL}.max_length": 0.4}),
    "emotion_latent": ("fbank_no_cmvn", {}),
}
"""Upstream and overrides that keep a head small; dropout and noise draw from the generators that a checkpoint keeps."""
STEPS = {
    "runner.total_steps": 15, "runner.save_step": 5, "runner.eval_step": 6, "runner.log_step": 3,
    f"{DATA}.pre_load": False, f"{DATA}.max_duration": 0.4, f"{DATA}.cut_eval": True,
    f"{DATA}.train_batch_size": 12, f"{DATA}.eval_batch_size": 16,
}  # fmt: skip
COMPARED = ("Featurizer", "Downstream", "Optimizer", "Rng", "Step", "Epoch", "Batch")
SECONDS_TO_DIE = 20
MARK = "S3PRL_EMOTION_SOAK"


@dataclass(frozen=True)
class Trained:
    """An uninterrupted run: its final states, and how long it took."""

    head: str
    workers: int
    outcome: dict[str, Any]
    seconds: float


def words(head: str, workers: int, folder: Path) -> list[str]:
    """The command line of a training on the demo corpus."""
    upstream, overrides = HEADS[head]
    values = STEPS | overrides | {f"{DATA}.num_workers": workers}
    text = ",,".join(f"config.{key}={value!r}" for key, value in values.items())
    return ["run_downstream.py", "-m", "train", "-u", upstream, "-d", head, "-p", str(folder), "-o", text, "-a"]


def outcome_of(folder: Path) -> dict[str, Any]:
    """Weights, optimizer and generators of the last and the best checkpoint, and the predictions."""
    states = sorted(folder.glob("states-*.ckpt"), key=lambda path: int(path.stem.split("-")[1]))
    last, best = load_checkpoint(states[-1]), load_checkpoint(folder / "dev-best.ckpt")
    left = {f"last {name}": last[name] for name in COMPARED}
    left |= {f"best {name}": best[name] for name in ("Featurizer", "Downstream", "Step")}
    return left | {path.name: path.read_text() for path in sorted(folder.glob("*_predictions.csv"))}


def train_whole(nursery: Nursery, head: str, workers: int, folder: Path) -> Trained:
    """Train without an interruption."""
    begun = time.monotonic()
    target = folder / f"{head}-{workers}-whole"
    assert nursery.wait(nursery.start(*words(head, workers, target), to=f"{target}.log", env=QUIET)) == 0, target
    seconds = time.monotonic() - begun
    return Trained(head, workers, outcome_of(target), seconds)


def kill_once(nursery: Nursery, whole: Trained, number: signal.Signals, share: float, target: Path) -> str:
    """Kill a training after a share of the time that a whole one takes, resume it to its end, and compare.

    Returns:
        what is wrong; empty where the weights are equal and no process was left
    """
    command, mark = words(whole.head, whole.workers, target), uuid.uuid4().hex
    pid = nursery.start(*command, to=f"{target}.log", env=QUIET | {MARK: mark})
    time.sleep(share * whole.seconds)
    try:
        os.kill(pid, number)  # a zombie until the nursery waits for it, so the number is no other's
    finally:
        code = nursery.wait(pid)
    if code not in (0, -number, 128 + number):
        return f"exit code {code}, see {target}.log"
    if left := left_behind(mark):
        return f"processes left: {left}"
    if nursery.wait(nursery.start(*command, to=f"{target}.resumed.log", env=QUIET)) != 0:
        return f"does not resume, see {target}.resumed.log"
    partial = [path.name for path in target.iterdir() if "partial" in path.name and number != signal.SIGKILL]
    return "; ".join([*different(whole.outcome, outcome_of(target)), *partial])


def left_behind(mark: str, seconds: float = SECONDS_TO_DIE) -> list[int]:
    """Processes with a variable in their environment that are still there after a while."""
    deadline = time.monotonic() + seconds
    while found := marked(mark):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.05)
    return []


def marked(mark: str) -> list[int]:
    """Processes that were started with a variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


QUIET = {"TQDM_DISABLE": "1", "MPLBACKEND": "agg"}


@contextmanager
def born() -> Iterator[Nursery]:
    """Start the process of which trainings are forks."""
    nursery = Nursery("torch._dynamo", "sklearn.metrics", "sklearn.svm", "scipy.stats", "matplotlib.pyplot", "pandas")
    try:
        yield nursery
    finally:
        nursery.end()


def soak(heads: Sequence[str], workers: Sequence[int], moments: int, seed: int, folder: Path, log: TextIO) -> int:
    """Kill at ``moments`` moments a head and setting, two settings at a time; return the number of failures."""
    settings = [(head, count) for head in heads for count in workers]

    def of_setting(setting: tuple[str, int]) -> tuple[str, int, list[float]]:
        head, count = setting
        draw, bad, seconds = random.Random(f"{seed} {head} {count}"), 0, []
        with born() as nursery:
            whole = train_whole(nursery, head, count, folder)
            for moment in range(moments):
                number, share = (signal.SIGKILL, signal.SIGTERM)[moment % 2], draw.uniform(0.0, 1.0)
                begun = time.monotonic()
                fault = kill_once(nursery, whole, number, share, folder / f"{head}-{count}-{moment}")
                seconds.append(time.monotonic() - begun)
                bad += bool(fault)
                log.write(
                    f"{head} workers {count} moment {moment}: {number.name} at {share:.2f} of {whole.seconds:.1f} s: "
                    f"{fault or 'equal'} ({seconds[-1]:.1f} s)\n"
                )
                log.flush()
        return f"{head} workers {count}", bad, seconds

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(of_setting, settings))
    for name, bad, seconds in results:
        log.write(f"summary: {name}: {len(seconds) - bad} of {len(seconds)} equal, {sum(seconds):.0f} s\n")
    failed = sum(bad for _, bad, _ in results)
    log.write(f"summary: {sum(len(seconds) for _, _, seconds in results)} kills, {failed} failed\n")
    log.flush()
    return failed


def main() -> int:
    """Run the soak; exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=15)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--log", type=Path, default=Path("kills.log"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, args.log.open("a") as log:
        failed = soak(args.heads, args.workers, args.moments, args.seed, Path(folder), log)
    sys.stdout.write(f"{args.log}: {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
