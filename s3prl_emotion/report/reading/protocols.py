"""Name the systems of a study that are speaker-dependent, and find the same systems without shared speakers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s3prl_emotion.corpora.protocol import SPEAKER_DEPENDENT, is_speaker_dependent
from s3prl_emotion.report.reading.study import RunResult, Study

SUFFIX = f", {SPEAKER_DEPENDENT}"
OF_SPLITS = ("protocol", "test_fold", "num_folds", "fold_seed")  # keys of datarc in which counterparts may differ


def is_dependent(run: RunResult) -> bool:
    """Return whether a run's train and test share speakers."""
    return any(is_speaker_dependent(split.metrics) for split in run.splits.values())


def with_protocols(study: Study) -> Study:
    """Return the study with speaker-dependent runs as systems of their own, whose names say so.

    Every table, figure and file of a report shows a system's name, so all of them say it.
    """
    dependent = {run.system for run in study.runs if is_dependent(run)}
    if not dependent:
        return study
    only = dependent - {run.system for run in study.runs if not is_dependent(run)}
    renamed = {name: marked(name) for name in only}
    runs = tuple(replace(run, system=marked(run.system)) if is_dependent(run) else run for run in study.runs)
    systems: dict[str, str] = {}
    for name, text in study.systems.items():
        for own in [*([] if name in only else [name]), *([marked(name)] if name in dependent else [])]:
            systems[own] = text
    named = replace(
        study,
        runs=runs,
        systems=systems,
        overrides={renamed.get(name, name): values for name, values in study.overrides.items()},
        baseline=renamed.get(study.baseline or "", study.baseline),
        published=tuple(replace(item, system=renamed.get(item.system, item.system)) for item in study.published),
        searches=tuple(
            replace(
                item,
                system=renamed.get(item.system, item.system),
                users=tuple(renamed.get(name, name) for name in item.users),
            )
            for item in study.searches
        ),
    )
    return replace(named, speaker_dependent=_counterparts(named))


def marked(name: str) -> str:
    """Return a system's name with the word that it is speaker-dependent."""
    return name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"


def _counterparts(study: Study) -> dict[str, str | None]:
    """Return the speaker-dependent systems, each with the same system without shared speakers if the study has it.

    It is the system of the same name, or else the first one with the same head and recipe except for the split.
    """
    by_system: dict[str, RunResult] = {}
    for run in study.runs:
        by_system.setdefault(run.system, run)
    dependent = [name for name, run in by_system.items() if is_dependent(run)]
    others = [name for name in by_system if name not in dependent]
    kinds: dict[str, Any] = {}
    found: dict[str, str | None] = {}
    for name in dependent:
        plain = name.removesuffix(SUFFIX)
        if plain not in others:
            kinds = kinds or {other: _kind(by_system[other]) for other in others}
            own = _kind(by_system[name])
            plain = next((other for other in others if own is not None and kinds[other] == own), "")
        found[name] = plain or None
    return found


def _kind(run: RunResult) -> Any:
    """Return head, upstream and recipe of a run without what splits the corpus; ``None`` where it is not known."""
    whole: Mapping[str, Any] = next(iter(run.splits.values())).whole()
    config = copy.deepcopy(whole.get("config"))
    if not isinstance(config, dict):
        return None
    data = (config.get("downstream_expert") or {}).get("datarc") or {}
    for key in OF_SPLITS:
        data.pop(key, None)
    options = run.upstream_options or whole.get("upstream")
    return run.head or whole.get("head"), options, config
