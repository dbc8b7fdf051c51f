"""Read learning-rate searches: the rates tried, their scores on dev, and the rate that the runs use."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)
MOST_NAMED = 5  # searches that a warning names


@dataclass(frozen=True)
class Search:
    """A learning-rate search; its runs count in no score of the report.

    Attributes:
        upstream: upstream of the search
        system: system whose training tried the rates; empty where it is not known
        users: systems with finished runs that use the chosen rate
        metric: dev metric, averaged over the search's folds and seeds
        tried: score of each rate, rates ascending; ``None`` where training failed or gave no score
        chosen: the rate with the best score
    """

    upstream: str
    system: str
    users: tuple[str, ...]
    metric: str
    tried: dict[float, float | None]
    chosen: float

    @property
    def end(self) -> str:
        """``lowest`` or ``highest`` if the chosen rate is at that end of the rates tried, else empty."""
        if len(self.tried) < 2:
            return ""
        return "lowest" if self.chosen == min(self.tried) else "highest" if self.chosen == max(self.tried) else ""


def read_searches(
    lines: Sequence[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]], choices: Mapping[str, Any]
) -> tuple[Search, ...]:
    """Return the learning-rate searches of a benchmark.

    Args:
        lines: lines of ``results.jsonl``, finished runs; each holds the search that decided its rate
        trials: lines of ``search.jsonl``, runs of the searches
        choices: ``search`` of ``matrix.json``, for searches whose runs are not finished

    Returns:
        each search once, in the order of the runs; unreadable ones are skipped with a warning
    """
    trying: dict[str, dict[str, None]] = {}
    for trial in trials:
        trying.setdefault(str(trial.get("upstream")), {})[str(trial.get("system"))] = None
    searches: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        if line.get("search"):
            upstream, system = str(line.get("upstream")), str(line.get("system"))
            own = f"{upstream} | {system}" in choices
            by = system if own else _searching_system(system, trying.get(upstream, {}))
            entry = searches.setdefault((upstream, by), {"choice": line["search"], "users": {}})
            entry["users"][system] = None
    for name, choice in choices.items():
        upstream, _, system = name.partition(" | ")
        by = system or next(iter(trying.get(upstream, {})), "")
        if system or not any(place == upstream for place, _ in searches):
            searches.setdefault((upstream, by), {"choice": choice, "users": {}})
    read = [_search(*place, tuple(entry["users"]), entry["choice"]) for place, entry in searches.items()]
    return tuple(search for search in read if search is not None)


def end_warning(searches: Sequence[Search]) -> str | None:
    """Return a warning naming the searches whose best rate is the lowest or highest tried, or ``None``."""
    at_end = [search for search in searches if search.end]
    if not at_end:
        return None
    places = [" on ".join(filter(None, [search.system, search.upstream])) for search in at_end[:MOST_NAMED]]
    named = "; ".join(
        f"{place}: {rate_words(search.chosen)} is the {search.end}"
        for place, search in zip(places, at_end, strict=False)
    )
    more = f"; and {len(at_end) - MOST_NAMED} more" if len(at_end) > MOST_NAMED else ""
    return (
        f"the best learning rate is at an end of the range tried, so a better one may lie beyond ({named}{more}); "
        "widen search.learning_rates"
    )


def rate_words(rate: float) -> str:
    """Return a learning rate as text: ``0.001``, ``1e-05``."""
    return f"{rate:g}"


def _searching_system(system: str, trying: Mapping[str, None]) -> str:
    """Return the system that tried the rates for ``system`` on the same upstream."""
    return system if system in trying or not trying else next(iter(trying))


def _search(upstream: str, system: str, users: tuple[str, ...], choice: Any) -> Search | None:
    try:
        tried = {float(rate): _score(value) for rate, value in choice["tried"].items()}
        chosen, metric = float(choice["rate"]), str(choice["metric"])
        if not tried:
            raise ValueError("no rate")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        logger.warning("the search for the learning rate of %s on %s cannot be read (%s)", system, upstream, error)
        return None
    return Search(upstream, system, users, metric, dict(sorted(tried.items())), chosen)


def _score(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
