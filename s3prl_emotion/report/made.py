"""What a study's systems were made with: recipe, upstream, code, machine and time, from its runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from s3prl_emotion.benchmark.records import read_json
from s3prl_emotion.report.study import RunResult, Study
from s3prl_emotion.report.superb_track import Track, superb_track

OPTIONS = ("upstream", "upstream_ckpt", "upstream_revision", "upstream_layer_selection", "upstream_feature_selection")
PLAIN = (None, False, "hidden_states")  # options that need no word


@dataclass(frozen=True)
class Made:
    """What one system on one upstream was made with; several values where its runs differ.

    Attributes:
        recipe: that of its first run, where its metrics file is there
        stored: number format of the features that came from a feature store, or nothing
        seconds: of each run, training and evaluation together
    """

    upstream: str
    system: str
    heads: tuple[str, ...]
    recipe: dict[str, Any]
    options: tuple[str, ...]
    hashes: tuple[str, ...]
    revisions: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    runs: int
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    hosts: tuple[str, ...]
    stored: str | None
    seconds: tuple[float, ...]
    track: Track

    @property
    def total(self) -> float | None:
        """Seconds of all runs, or nothing where none was timed."""
        return sum(self.seconds) if self.seconds else None

    @property
    def median(self) -> float | None:
        """Seconds of the middle run, likewise."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def recipe_text(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True) if self.recipe else ""


def what_was_run(study: Study) -> dict[tuple[str, str], Made]:
    """By upstream and system, in the study's order.

    Args:
        study: as loaded; the metrics file of each system's first run on each upstream is read for its recipe
    """
    runs: dict[tuple[str, str], list[RunResult]] = {
        (upstream, system): [] for upstream in study.upstreams for system in study.systems
    }
    for run in study.runs:
        runs.setdefault((run.upstream, run.system), []).append(run)
    return {place: _made(*place, found) for place, found in runs.items() if found}


def duration(seconds: float | None) -> str:
    """``3 h 07 min``, ``4 min 05 s``, ``41 s``."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _made(upstream: str, system: str, runs: Sequence[RunResult]) -> Made:
    about = _metrics_file(runs[0])
    heads = _distinct(run.head for run in runs)
    options = runs[0].upstream_options or about.get("upstream") or {}
    recipe = about.get("config") or {}
    names = dict.fromkeys(name for run in runs for name in run.versions)
    return Made(
        upstream=upstream,
        system=system,
        heads=heads,
        recipe=recipe,
        options=_distinct(_options(run.upstream_options or {}) for run in runs),
        hashes=_distinct(run.config_hash for run in runs),
        revisions=_distinct(run.git for run in runs),
        versions={name: _distinct(run.versions.get(name) for run in runs) for name in names},
        runs=len(runs),
        folds=_distinct(run.fold for run in runs),
        seeds=_distinct(None if run.seed is None else str(run.seed) for run in runs),
        hosts=_distinct(run.host for run in runs),
        stored=about.get("stored_features"),
        seconds=tuple(sum(run.seconds.values()) for run in runs if run.seconds),
        track=superb_track(heads[0] if len(heads) == 1 else None, recipe, options),
    )


def _metrics_file(run: RunResult) -> dict[str, Any]:
    """All of a run's metrics file: a benchmark's results leave out what would make them long."""
    split = next(iter(run.splits.values()))
    return split.metrics if "config" in split.metrics else read_json(split.beside("_metrics.json"))


def _options(options: dict[str, Any]) -> str | None:
    """An upstream's options in a few words, without those that are as they come."""
    words = [f"{key.removeprefix('upstream_')}: {options[key]}" for key in OPTIONS if options.get(key) not in PLAIN]
    words += [key.removeprefix("upstream_") for key in ("upstream_trainable",) if options.get(key)]
    return ", ".join(words).removeprefix("upstream: ") or None


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
