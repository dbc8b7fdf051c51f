"""A few steps of each distinct training, measured, and what a whole run will take by them."""

from __future__ import annotations

import copy
import importlib
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

from s3prl_emotion.benchmark.expansion import FOLD_KEY, apply
from s3prl_emotion.benchmark.matrix import LEARNING_RATE
from s3prl_emotion.benchmark.plan import Plan, Run, is_superb
from s3prl_emotion.benchmark.prepare import read_json
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.writing import write_text

STEPS = 8  # that are trained
BATCHES = 4  # of dev that are evaluated


@dataclass(frozen=True)
class Measured:
    """What the stopwatch said of a training.

    Attributes:
        startup: from the start of the process to the first step, and from the last evaluation to its end (s)
        step: median of a step (s), without computing features
        utterance: of evaluating one utterance (s), likewise
        features: of computing one second of audio (s)
    """

    startup: float
    step: float
    utterance: float
    features: float


@dataclass(frozen=True)
class Work:
    """What a run has to do, from its recipe and corpus.

    Attributes:
        steps: of training, at most
        evaluations: during training
        evaluated: utterances of one evaluation during training
        final: utterances of the evaluations of the best checkpoint
        commands: evaluations that are commands of their own
        computed: seconds of audio whose features the run computes itself, where no store keeps them
    """

    steps: int
    evaluations: int
    evaluated: int
    final: int
    commands: int
    computed: float

    def seconds(self, measured: Measured) -> float:
        """What it will take."""
        utterances = self.evaluations * self.evaluated + self.final
        return (
            measured.startup * (1 + self.commands)
            + measured.step * self.steps
            + measured.utterance * utterances
            + measured.features * self.computed
        )


def kind_of(run: Run) -> str:
    """What runs share that take the same time: head, recipe, upstream."""
    config = copy.deepcopy(run.config)
    apply(config, {FOLD_KEY: None, LEARNING_RATE: None, "runner.eval_dataloaders": None}, "")
    content = json.dumps([run.head, config, run.upstream_flags, run.store_flags], sort_keys=True, default=str)
    for step in run.steps:  # another folder for each fold, perhaps
        content = content.replace(str(step.folder), step.name)
    return content


def corpus_of(run: Run) -> Any:
    """The corpus of a run, as its head reads it."""
    from s3prl_emotion.corpora import load_corpus

    expert = importlib.import_module(f"s3prl.downstream.{run.head}.expert").DownstreamExpert
    _, data, modelrc = expert.check(run.config["downstream_expert"], run.cell.fold, run.config["runner"])
    return load_corpus(data, expert.needs(modelrc))


def work_of(run: Run, mean_seconds: float) -> Work:
    """What a run has to do.

    Args:
        run: whose corpus is there
        mean_seconds: of its utterances
    """
    corpus, runner, data = corpus_of(run), run.config["runner"], run.config["downstream_expert"]["datarc"]
    during = list(runner.get("eval_dataloaders", ["dev", "test"]))
    sizes = {name: len(utterances) for name, utterances in corpus.splits.items()}
    evaluations = runner["total_steps"] // runner["eval_step"]
    evaluated = sum(sizes[name] for name in during)
    others = [name for name in run.tests if name not in during or is_superb(run.config)]
    final = sum(sizes[name] for name in [*during, *others])
    batches = runner["total_steps"] * runner["gradient_accumulate_steps"]
    seen = batches * data["train_batch_size"] + evaluations * evaluated + final
    alone = not run.store_flags and not is_superb(run.config)  # in SUPERB's order features belong to the step
    return Work(
        runner["total_steps"], evaluations, evaluated, final, len(others), seen * mean_seconds if alone else 0.0
    )


def measure(run: Run, plan: Plan, scratch: Path, device: str | None) -> Measured:
    """Train a few steps of a run and evaluate a few batches, by the real command line, in a folder of its own.

    Args:
        run: whose prepared steps are done
        plan: that it is of
        scratch: an empty folder
        device: ``--device``

    Raises:
        TrainingError: the training failed
    """
    config = copy.deepcopy(run.config)
    data = config["downstream_expert"]["datarc"]
    batches = math.ceil(len(corpus_of(run).split("dev")) / data["eval_batch_size"])
    short = {
        "total_steps": STEPS, "eval_step": STEPS, "save_step": STEPS, "log_step": STEPS,
        "eval_dataloaders": ["dev"], "evaluate_ratio": min(1.0, BATCHES / batches),
    }  # fmt: skip
    apply(config, {f"runner.{name}": value for name, value in short.items()}, "")
    write_text(scratch / "recipe.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    words = ["-m", "train", "-d", run.head, "-c", str(scratch / "recipe.yaml"), "-p", str(scratch / "exp")]
    words += ["--seed", str(run.cell.seed), *moved(run.upstream_flags, plan, scratch)]
    if run.store_flags:
        words += ["--feature_store", str(scratch / "store"), *run.store_flags[2:]]
    words += ["--device", device] if device else []
    told = scratch / "stopwatch.json"
    begun = time.monotonic()
    Processes().run([sys.executable, "-m", "s3prl_emotion.benchmark.stopwatch", str(told), *words], scratch / "log.txt")
    return _read(read_json(told), begun)


def moved(flags: Iterable[str], plan: Plan, scratch: Path) -> list[str]:
    """An upstream's flags, with the options that the matrix holds written to the scratch folder."""
    moved = []
    for flag in flags:
        options = next((values for path, values in plan.model_options.items() if str(path) == flag), None)
        if options is not None:
            flag = str(scratch / "upstream.yaml")
            write_text(Path(flag), yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
        moved.append(flag)
    return moved


def _read(told: dict[str, Any], begun: float) -> Measured:
    """The stopwatch's file; the first step, in which caches and kernels are made, does not count."""
    if not told.get("steps") or told.get("begun") is None:
        raise TrainingError("the stopwatch saw no step")
    return Measured(
        startup=told["begun"] - begun + told["ended"] - told["done"],
        step=statistics.median(told["steps"][1:] or told["steps"]),
        utterance=told["evaluations"] / max(1, told["evaluated"]),
        features=told["features"] / told["audio"] if told["audio"] else 0.0,
    )
