"""Read what each system was run with: recipe, upstream, code, machine and time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from s3prl_emotion.report.reading.study import RunResult, Study
from s3prl_emotion.report.superb_track import Track, superb_track

OPTIONS = ("upstream", "upstream_ckpt", "upstream_revision", "upstream_layer_selection", "upstream_feature_selection")
DEFAULTS = (None, False, "hidden_states")  # values of options that are not shown


@dataclass(frozen=True)
class Provenance:
    """What a system on an upstream was run with; several values where its runs differ.

    Attributes:
        recipe: recipe of the first run, empty if its metrics file is missing
        stored: number format of the features if they came from a feature store, else ``None``
        seconds: training and evaluation together, of each run
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
        """Seconds of all runs together, or ``None`` where none was timed."""
        return sum(self.seconds) if self.seconds else None

    @property
    def median(self) -> float | None:
        """Seconds of the median run, or ``None`` where none was timed."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def recipe_text(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True) if self.recipe else ""


def read_provenance(study: Study) -> dict[tuple[str, str], Provenance]:
    """Return what was run by upstream and system, in the study's order.

    Args:
        study: the study, as loaded; the recipe is read from the metrics file of each system's first run on an upstream
    """
    runs: dict[tuple[str, str], list[RunResult]] = {
        (upstream, system): [] for upstream in study.upstreams for system in study.systems
    }
    for run in study.runs:
        runs.setdefault((run.upstream, run.system), []).append(run)
    return {(upstream, system): _of(upstream, system, own) for (upstream, system), own in runs.items() if own}


def _of(upstream: str, system: str, runs: Sequence[RunResult]) -> Provenance:
    about = next(iter(runs[0].splits.values())).whole()
    heads = _distinct(run.head for run in runs)
    options = runs[0].upstream_options or about.get("upstream") or {}
    recipe = about.get("config") or {}
    names = dict.fromkeys(name for run in runs for name in run.versions)
    return Provenance(
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


def _options(options: dict[str, Any]) -> str | None:
    """Return an upstream's options in a few words, without those that have their defaults."""
    words = [f"{key.removeprefix('upstream_')}: {options[key]}" for key in OPTIONS if options.get(key) not in DEFAULTS]
    words += [key.removeprefix("upstream_") for key in ("upstream_trainable",) if options.get(key)]
    return ", ".join(words).removeprefix("upstream: ") or None


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
