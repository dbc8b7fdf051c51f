"""Measure `s3prl-emotion report` over 1,000 runs: seconds and peak memory of the whole command.

25 systems x 4 upstreams x 5 folds x 2 seeds of four-class emotion recognition at IEMOCAP's size (5,531 utterances of 10
speakers), each run with the files of a real one: predictions, metrics, a learning curve and the weights of 25 layers.
The runs are written to a temporary folder before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT

CLASSES = ("ang", "hap", "neu", "sad")
FOLDS, SPEAKERS, UTTERANCES = 5, 10, 5531
LAYERS, EVALUATIONS = 25, 30
VERSIONS = {"s3prl-emotion": "1", "torch": "2"}


def main() -> None:
    """Write the runs, report on them, and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=int, default=25)
    parser.add_argument("--upstreams", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write the runs (default: a temporary folder)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write cProfile's statistics")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        runs = write_benchmark(folder, args.systems, args.upstreams, args.seeds)
        command = [sys.executable, *(["-m", "cProfile", "-o", str(args.profile)] if args.profile else [])]
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "-m", "s3prl_emotion", "report", str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        seconds, usage = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        size = (folder / "report.html").stat().st_size / 1e6
    print(done.stdout.splitlines()[-1])
    print(
        f"{runs} runs: {seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of processor time), "
        f"{usage.ru_maxrss / 1e6:.2f} GB at most, page of {size:.1f} MB"
    )


def write_benchmark(folder: Path, systems: int, upstreams: int, seeds: int) -> int:
    """Write a directory like those of ``s3prl-emotion benchmark``, and return its number of runs."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"system {number}": ("mean", "mean_std", "corr", "corr_attn")[number % 4] for number in range(systems)}
    lines: list[dict[str, Any]] = []
    for upstream in (f"upstream {number}" for number in range(upstreams)):
        for number, (system, pooling) in enumerate(names.items()):
            for fold in range(1, FOLDS + 1):
                for seed in range(seeds):
                    lines.append(_run(folder, upstream, system, number, pooling, fold, seed))
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {
        "title": f"{len(lines)} runs", "head": "emotion_corr_attn", "baseline": "system 0", "tests": ["test"],
        "upstreams": list(dict.fromkeys(line["upstream"] for line in lines)),
        "systems": {name: {"downstream_expert.modelrc.pooling": pooling} for name, pooling in names.items()},
        "runs": [{key: line[key] for key in ("run", "definition", "folder")} for line in lines],
    }  # fmt: skip
    (folder / "matrix.json").write_text(json.dumps(about))
    return len(lines)


def _run(folder: Path, upstream: str, system: str, number: int, pooling: str, fold: int, seed: int) -> dict[str, Any]:
    """Write one run's files, and return its line for ``results.jsonl``."""
    import torch
    from tensorboardX import SummaryWriter

    from s3prl_emotion.metrics.categorical import categorical_metrics

    place = f"runs/{upstream}/{system}/fold{fold}-{seed}".replace(" ", "_")
    expdir = folder / place / "exp"
    expdir.mkdir(parents=True)
    count = UTTERANCES // FOLDS
    labels = np.random.default_rng(fold)
    draw = np.random.default_rng([number, fold, seed, *upstream.encode()])
    truth, speakers = labels.integers(0, 4, count), labels.integers(0, SPEAKERS // FOLDS, count)
    scores = draw.normal(size=(count, 4)) + (1 + 0.05 * number) * np.eye(4)[truth]
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    who = [f"Ses{fold:02d}{'FM'[speaker]}" for speaker in speakers]
    rows = ["FileName,SpkrID,Gender,truth,prediction," + ",".join(f"p_{name}" for name in CLASSES)]
    for index, values in enumerate(chances):
        guess = CLASSES[int(values.argmax())]
        words = f"{who[index]}/utterance_{index:05d}.wav,{who[index]},{'Female' if who[index][-1] == 'F' else 'Male'}"
        rows.append(f"{words},{CLASSES[truth[index]]},{guess}," + ",".join(f"{value:.7g}" for value in values))
    (expdir / f"test_fold{fold}_predictions.csv").write_text("\n".join(rows) + "\n")
    metrics = categorical_metrics(truth.tolist(), chances, CLASSES, who)
    metrics |= {"split": "test", "fold": f"fold{fold}", "classes": list(CLASSES), "checkpoint": "dev-best.ckpt"}
    options = {"upstream": upstream.replace(" ", "_"), "upstream_feature_selection": "hidden_states"}
    config = {
        "downstream_expert": {
            "datarc": {"root": "IEMOCAP", "labels": "meta_data", "test_fold": f"fold{fold}"},
            "modelrc": {"pooling": pooling, "channel_dropout": 0, "label_smoothing": 0},
        }
    }
    about = {"head": "emotion_corr_attn", "config": config, "upstream": options, "versions": VERSIONS}
    (expdir / f"test_fold{fold}_metrics.json").write_text(json.dumps(metrics | about, indent=2))
    with SummaryWriter(str(expdir)) as writer:
        for step in range(1, EVALUATIONS + 1):
            for name in ("train-loss", "dev-loss", "dev-WA", "dev-UAR"):
                writer.add_scalar(f"emotion-fold{fold}/{name}", float(draw.random()), 1000 * step)
    states = {"Featurizer": {"weights": torch.tensor(draw.normal(size=LAYERS))}, "Args": Namespace(), "Config": {}}
    torch.save(states, expdir / "dev-best.ckpt")
    kept = {name: value for name, value in metrics.items() if name != "per_speaker"}
    return {
        "format": 1, "run": f"{upstream} | {system} | fold{fold} | seed {seed}", "definition": "d",
        "folder": place, "upstream": upstream, "system": system, "fold": f"fold{fold}", "seed": seed,
        "head": "emotion_corr_attn", "num_parameters": 263_172 + 1000 * number, "model_size_mb": 1.1,
        "splits": {"test": {"predictions": f"{place}/exp/test_fold{fold}_predictions.csv", "metrics": kept}},
        "versions": VERSIONS, "git": "a" * 40, "config_hash": f"{number:064x}", "host": "node",
        "upstream_options": options, "seconds": {"train": 600.0, "test": 20.0},
    }  # fmt: skip


if __name__ == "__main__":
    main()
