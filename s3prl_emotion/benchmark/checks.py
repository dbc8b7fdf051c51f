"""Checks of a whole matrix before anything runs: every recipe, head, upstream, fold and split."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from s3prl_emotion.benchmark.layers import check_layers
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.errors import ConfigError, EmotionError, UsageError, nearest, one_line


def check_plan(plan: Plan) -> None:
    """Refuse a matrix that holds a run which cannot work, as far as that can be told without computing.

    What a prepared step will make cannot be looked at yet: there, the recipe's form alone is checked.

    Raises:
        ConfigError: says which system, upstream or fold, and what is wrong
    """
    from s3prl_emotion import host

    host.register()
    host.register_search_path(plan.matrix.section.upstream_path)
    for name, upstream in plan.matrix.upstreams.items():
        with _named(f"{plan.matrix.path}: upstreams.{name}"):
            host.find_upstream(upstream.name or name)
    checked: set[str] = set()
    for run in [*plan.runs, *plan.trials]:
        what = f"{run.head} {run.config} {bool(run.steps)}"
        if what not in checked:
            with _named(
                f"{plan.matrix.path}: systems.{run.cell.system}{f', {run.cell.fold}' if run.cell.fold else ''}"
            ):
                _check_run(run)
            checked.add(what)
    _check_metric(plan)
    check_layers(plan)


def _check_metric(plan: Plan) -> None:
    """The metric of a search must be one that the heads of its runs have."""
    search = plan.matrix.section.search
    for head in sorted({trial.head for trial in plan.trials}):
        known = importlib.import_module(f"s3prl.downstream.{head}.expert").DownstreamExpert.metrics
        if search is not None and search.metric not in (None, *known):
            raise ConfigError(
                f"{plan.matrix.path}: search.metric: {head} has {', '.join(known)}, got {search.metric!r}"
            )


def _check_run(run: Run) -> None:
    from s3prl_emotion.files.folders import heads
    from s3prl_emotion.recipe import check_recipe
    from s3prl_emotion.training import preflight

    if run.head not in heads():
        raise UsageError(
            f"head {run.head!r} is none of this suite's, whose predictions a report needs{nearest(run.head, heads())}"
        )
    check_recipe(run.config)
    expert = importlib.import_module(f"s3prl.downstream.{run.head}.expert").DownstreamExpert
    expert.check(run.config["downstream_expert"], run.cell.fold, run.config["runner"])
    _check_optimizer(run.config)
    if run.steps:
        return
    for mode, split in (("train", None), *(("evaluate", test) for test in run.tests)):
        words = Namespace(downstream=run.head, downstream_variant=run.cell.fold, mode=mode, evaluate_split=split)
        preflight.check_head(words, run.config)


def _check_optimizer(config: dict[str, Any]) -> None:
    """Build optimizer and scheduler for a model of one parameter: their options are checked nowhere else."""
    import torch
    from s3prl.optimizers import get_optimizer
    from s3prl.schedulers import get_scheduler

    from s3prl_emotion.training import preflight

    preflight.check_builders(config)
    steps, section = config["runner"]["total_steps"], "optimizer"
    try:
        optimizer = get_optimizer([torch.nn.Linear(1, 1)], steps, dict(config["optimizer"]))
        if config.get("scheduler"):
            section = "scheduler"
            get_scheduler(optimizer, steps, dict(config["scheduler"]))
    except (NameError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise ConfigError(f"{section}: s3prl cannot build it from {config[section]} ({error})") from error


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except EmotionError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error
