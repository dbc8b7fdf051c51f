"""Measure a few steps of a training, and predict from them how long a whole run will take."""

from __future__ import annotations

import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion import host
from s3prl_emotion.benchmark.expansion import FOLD_KEY, apply
from s3prl_emotion.benchmark.matrix import LEARNING_RATE
from s3prl_emotion.benchmark.plan import Plan, Run, is_superb
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.benchmark.records import read_json
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.recipe import EVALUATED_SPLITS

STEPS = 8  # training steps that are measured
BATCHES = 4  # batches of dev whose evaluation is measured


@dataclass(frozen=True)
class Measured:
    """Times of a training, as the stopwatch measured them.

    Attributes:
        startup: from the process's start to the first step, plus from the last evaluation to its end (s)
        step: median time of a step, without computing features (s)
        utterance: time to evaluate one utterance, without computing features (s)
        features: time to compute the features of one second of audio (s)
    """

    startup: float
    step: float
    utterance: float
    features: float


@dataclass(frozen=True)
class Work:
    """The work of a run, from its recipe and corpus.

    Attributes:
        steps: training steps, without early stopping
        evaluations: number of evaluations during training
        evaluated: utterances of one evaluation during training
        final: utterances that the best checkpoint is evaluated on
        commands: number of evaluations that are separate commands
        computed: seconds of audio whose features the run computes itself, since no store keeps them
    """

    steps: int
    evaluations: int
    evaluated: int
    final: int
    commands: int
    computed: float

    def seconds(self, measured: Measured) -> float:
        """Return the predicted duration (s)."""
        utterances = self.evaluations * self.evaluated + self.final
        return (
            measured.startup * (1 + self.commands)
            + measured.step * self.steps
            + measured.utterance * utterances
            + measured.features * self.computed
        )


def kind_of(run: Run) -> str:
    """Return a key that runs of equal duration share: head, recipe and upstream."""
    config = copy.deepcopy(run.config)
    apply(config, {FOLD_KEY: None, LEARNING_RATE: None, "runner.eval_dataloaders": None}, "")
    content = json.dumps([run.head, config, run.upstream_flags, run.store_flags], sort_keys=True, default=str)
    for step in run.steps:  # its folder may differ from fold to fold
        content = content.replace(str(step.folder), step.name)
    return content


def corpus_of(run: Run) -> Any:
    """Load the corpus of a run as its head reads it."""
    from s3prl_emotion.corpora import load_corpus

    expert = host.expert_class(run.head)
    _, data, modelrc = expert.read_section(run.config["downstream_expert"], run.cell.fold, run.config["runner"])
    return load_corpus(data, expert.required_labels(modelrc))


def work_of(run: Run, mean_seconds: float) -> Work:
    """Return the work of a run.

    Args:
        run: the run; its corpus must exist
        mean_seconds: mean duration of its utterances
    """
    corpus, runner, data = corpus_of(run), run.config["runner"], run.config["downstream_expert"]["datarc"]
    during = corpus.existing(runner.get("eval_dataloaders", EVALUATED_SPLITS))
    sizes = {name: len(utterances) for name, utterances in corpus.splits.items()}
    steps = runner["total_steps"]
    if runner.get("epochs"):
        batches = -(-sizes[runner.get("train_dataloader", "train")] // data["train_batch_size"])
        steps = min(steps, max(1, runner["epochs"] * batches // runner["gradient_accumulate_steps"]))
    evaluations = max(1, steps // runner["eval_step"]) if runner.get("epochs") else steps // runner["eval_step"]
    evaluated = sum(sizes[name] for name in during)
    others = [name for name in run.tests if name not in during or is_superb(run.config)]
    final = sum(sizes[name] for name in [*during, *others])
    seen = steps * runner["gradient_accumulate_steps"] * data["train_batch_size"] + evaluations * evaluated + final
    computes = not run.store_flags and not is_superb(run.config)  # in SUPERB's order, steps include the features
    return Work(steps, evaluations, evaluated, final, len(others), seen * mean_seconds if computes else 0.0)


def measure(run: Run, plan: Plan, scratch: Path, device: str | None) -> Measured:
    """Train a few steps of a run and evaluate a few batches, with the real command line, in a scratch folder.

    Args:
        run: the run; its prepared steps must be done
        plan: the plan that it belongs to
        scratch: an empty folder
        device: ``--device``

    Raises:
        TrainingError: the training failed
    """
    config = copy.deepcopy(run.config)
    data = config["downstream_expert"]["datarc"]
    corpus = corpus_of(run)
    evaluated = corpus.existing(("dev", "test"))[0]
    batches = math.ceil(len(corpus.split(evaluated)) / data["eval_batch_size"])
    short = {
        "total_steps": STEPS, "eval_step": STEPS, "save_step": STEPS, "log_step": STEPS,
        "eval_dataloaders": [evaluated], "evaluate_ratio": min(1.0, BATCHES / batches),
    }  # fmt: skip
    apply(config, {f"runner.{name}": value for name, value in short.items()}, "")
    write_text(scratch / "recipe.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    words = ["-m", "train", "-d", run.head, "-c", str(scratch / "recipe.yaml"), "-p", str(scratch / "exp")]
    words += ["--seed", str(run.cell.seed), *self_contained(run.upstream_flags, plan, scratch)]
    words += run.statistics_flags
    if run.store_flags:
        words += ["--feature_store", str(scratch / "store"), *run.store_flags[2:]]
    words += ["--device", device] if device else []
    times = scratch / "stopwatch.json"
    begun = time.monotonic()
    command = [sys.executable, "-m", "s3prl_emotion.benchmark.dry_run.stopwatch", str(times), *words]
    Processes(isolate=True).run(command, scratch / "log.txt")
    return _read(read_json(times), begun)


def self_contained(flags: Iterable[str], plan: Plan, scratch: Path) -> list[str]:
    """Return an upstream's flags, with options that stand in the matrix written to a file in the scratch folder."""
    result = []
    for flag in flags:
        options = next((values for path, values in plan.model_options.items() if str(path) == flag), None)
        if options is not None:
            flag = str(scratch / "upstream.yaml")
            write_text(Path(flag), yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
        result.append(flag)
    return result


def _read(times: dict[str, Any], begun: float) -> Measured:
    """Evaluate the stopwatch's file without the first step, which fills caches and compiles kernels."""
    if not times.get("steps") or times.get("begun") is None:
        raise TrainingError("the stopwatch saw no step")
    return Measured(
        startup=times["begun"] - begun + times["ended"] - times["done"],
        step=statistics.median(times["steps"][1:] or times["steps"]),
        utterance=times["evaluations"] / max(1, times["evaluated"]),
        features=times["features"] / times["audio"] if times["audio"] else 0.0,
    )
