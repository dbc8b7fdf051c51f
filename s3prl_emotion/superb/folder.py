"""Refuse an output folder that holds anything but this run, so that no result is overwritten or mixed with others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.plan import Plan
from s3prl_emotion.benchmark.records import ABOUT, MATRIX_COPY, RESULTS, SESSION, TRIALS, finished_runs, read_lines
from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.limits import shown
from s3prl_emotion.yaml_files import read_yaml

BEFORE_A_RUN = {"store", ".lock", SESSION}  # what one leaves that was ended while it computed features
FREE = ("title", "notes", "recipe", "store", "published")  # keys on which no result depends, or only by its content


def check_own(plan: Plan, out: Path) -> None:
    """Check that the directory is new, or holds this run.

    Args:
        plan: the plan for the directory
        out: the directory as the user named it

    Raises:
        UsageError: it holds other settings, results of other lists, or something else
    """
    if not plan.out.is_dir():
        return
    where = f"--out {out}"
    _, store, *_ = plan.runs[0].store_flags
    another = f"name another --out; with --feature_store {store} the features are used again"
    others = sorted(item.name for item in os.scandir(plan.out) if item.name not in BEFORE_A_RUN)
    if others and not {MATRIX_COPY, ABOUT} & set(others):
        raise UsageError(f"{where}: holds {others[0]}, but no run of this command; name another --out")
    if MATRIX_COPY in others:
        difference = first_difference(_read(plan.out / MATRIX_COPY), yaml.safe_load(plan.matrix.text))
        if difference:
            raise UsageError(f"{where}: holds another run ({difference}); {another}")
    for file, runs in ((RESULTS, plan.runs), (TRIALS, plan.trials)):
        done = finished_runs(read_lines(plan.out / file))
        for run in runs:
            if done.get(run.cell.id, {}).get("definition") not in (None, run.definition):
                raise UsageError(f"{where}: {run.cell.id} was run with other lists, options or recipe; {another}")


def first_difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return the first key in which two matrix files differ, with both values; empty where there is none."""
    before, now = (dict(_leaves("", values)) for values in (theirs, ours))
    for key in [*now, *before]:
        if before.get(key) != now.get(key):
            return f"{key}: {shown(before.get(key))} there, {shown(now.get(key))} here"
    return ""


def _leaves(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return dotted keys with their values; a list is one value."""
    leaves: list[tuple[str, Any]] = []
    for name, value in values.items():
        if not prefix and name in FREE:
            continue
        key = f"{prefix}{name}"
        leaves += _leaves(f"{key}.", value) if isinstance(value, dict) and value else [(key, value)]
    return leaves


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path, "cannot be read")
    except EmotionError as error:
        raise UsageError(f"{error}; remove that file to go on with its run, or name another --out") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: is no matrix; remove that file to go on with its run, or name another --out")
    return values
