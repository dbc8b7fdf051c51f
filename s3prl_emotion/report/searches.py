"""Searches for learning rates: which rates were tried, how good each was on dev, and which one the runs took."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)
NAMED = 5  # searches that a warning names


@dataclass(frozen=True)
class Search:
    """A search for a learning rate; its runs are no results and count in no score.

    Attributes:
        upstream: that it was for
        system: that tried the rates; empty where that is not told
        users: systems with finished runs that took the rate
        metric: of dev, averaged over the search's folds and seeds
        tried: score of each rate, ascending; ``None`` where training failed or has no score
        chosen: the rate that was taken
    """

    upstream: str
    system: str
    users: tuple[str, ...]
    metric: str
    tried: dict[float, float | None]
    chosen: float

    @property
    def end(self) -> str:
        """``lowest`` or ``highest`` where the chosen rate is at that end of several, else nothing."""
        if len(self.tried) < 2:
            return ""
        return "lowest" if self.chosen == min(self.tried) else "highest" if self.chosen == max(self.tried) else ""


def read_searches(
    lines: Sequence[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]], choices: Mapping[str, Any]
) -> tuple[Search, ...]:
    """Searches of a benchmark.

    Args:
        lines: of ``results.jsonl``, finished runs; each holds the search that decided its rate
        trials: of ``search.jsonl``, runs of the searches
        choices: of ``matrix.json``, for searches whose runs are not finished

    Returns:
        each once, in the order of the runs; what cannot be read is left out with a warning
    """
    trying: dict[str, dict[str, None]] = {}
    for trial in trials:
        trying.setdefault(str(trial.get("upstream")), {})[str(trial.get("system"))] = None
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        if line.get("search"):
            upstream, system = str(line.get("upstream")), str(line.get("system"))
            own = f"{upstream} | {system}" in choices
            by = system if own else _by(system, trying.get(upstream, {}))
            entry = found.setdefault((upstream, by), {"choice": line["search"], "users": {}})
            entry["users"][system] = None
    for name, choice in choices.items():
        upstream, _, system = name.partition(" | ")
        by = system or next(iter(trying.get(upstream, {})), "")
        if system or not any(place == upstream for place, _ in found):
            found.setdefault((upstream, by), {"choice": choice, "users": {}})
    searches = [_search(*place, tuple(entry["users"]), entry["choice"]) for place, entry in found.items()]
    return tuple(search for search in searches if search is not None)


def end_warning(searches: Sequence[Search]) -> str | None:
    """What to say where the best rate lies at an end of those that were tried, or nothing."""
    there = [search for search in searches if search.end]
    if not there:
        return None
    places = [" on ".join(filter(None, [search.system, search.upstream])) for search in there[:NAMED]]
    named = "; ".join(
        f"{place}: {rate_words(search.chosen)} is the {search.end}"
        for place, search in zip(places, there, strict=False)
    )
    more = f"; and {len(there) - NAMED} more" if len(there) > NAMED else ""
    return (
        f"the best learning rate lies at an end of those that were tried, so that a better one may lie beyond "
        f"({named}{more}); widen search.learning_rates"
    )


def rate_words(rate: float) -> str:
    """``0.001``, ``1e-05``."""
    return f"{rate:g}"


def _by(system: str, trying: Mapping[str, None]) -> str:
    """The system that tried rates for another, on the same upstream."""
    return system if system in trying or not trying else next(iter(trying))


def _search(upstream: str, system: str, users: tuple[str, ...], choice: Any) -> Search | None:
    try:
        tried = {float(rate): _score(value) for rate, value in choice["tried"].items()}
        chosen, metric = float(choice["rate"]), str(choice["metric"])
        if not tried:
            raise ValueError("no rate")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        logger.warning("the search for the learning rate of %s on %s cannot be read (%s)", system, upstream, error)
        return None
    return Search(upstream, system, users, metric, dict(sorted(tried.items())), chosen)


def _score(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
