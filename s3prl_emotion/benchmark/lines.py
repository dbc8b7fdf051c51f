"""Check the lines of finished runs and the description of the matrix, before a benchmark or a report uses them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from s3prl_emotion.files.checks import count, integer, listing, mapping, must, number, optional, record, text
from s3prl_emotion.metrics.stored import damage_of


def _inside(value: Any) -> str | None:
    """Check a path inside the benchmark's folder."""
    wrong = text(value)
    path = PurePosixPath(value if wrong is None else "")
    return wrong or (must("a path inside the folder", value) if path.is_absolute() or ".." in path.parts else None)


def _predictions(value: Any) -> str | None:
    wrong = _inside(value)
    return wrong or (None if value.endswith("_predictions.csv") else must("a file of predictions", value))


def _splits(value: Any) -> str | None:
    wrong = mapping(record({"predictions": _predictions, "metrics": damage_of}, {}))(value)
    if wrong is not None or not value:
        return wrong or must("splits by name", value)
    named = {name: part["metrics"].get("split", name) for name, part in value.items()}
    other = next((name for name in named if named[name] != name), None)
    return None if other is None else f"{other}.metrics.split: {must(repr(other), named[other])}"


_SEARCH = record(
    {"rate": number(0), "metric": text, "tried": mapping(optional(number()))}, {}
)  # of the chosen learning rate
_LINE = record(
    {
        "format": integer, "run": text, "definition": text, "upstream": text, "system": text, "splits": _splits,
    },
    {
        **dict.fromkeys(("fold", "head", "config_hash", "git", "host", "store_key"), optional(text)),
        "seed": optional(integer),
        "num_parameters": optional(count),
        "model_size_mb": optional(number(0)),
        "versions": optional(mapping(text)),
        "upstream_options": optional(mapping()),
        "search": optional(_SEARCH),
        "seconds": optional(mapping(number(0))),
    },
)  # fmt: skip
_PUBLISHED = {**dict.fromkeys(("upstream", "split", "system", "metric", "source"), text), "value": number()}
_BESIDE = {"std": optional(number(0)), "min": optional(number()), "max": optional(number()), "note": optional(text)}
_ABOUT = record(
    {},
    {
        **dict.fromkeys(("title", "notes", "head", "baseline"), optional(text)),
        **dict.fromkeys(("upstreams", "tests"), optional(listing(text))),
        "systems": optional(mapping(optional(mapping()))),
        "published": optional(listing(record(_PUBLISHED, _BESIDE))),
        "search": optional(mapping(_SEARCH)),
        "runs": optional(listing(record({"run": text}, {"definition": optional(text), "folder": _inside}))),
    },
)


def damage_of_line(entry: Any) -> str | None:
    """Return what is wrong with a line of a finished run, or ``None``.

    A line whose names do not make its id was changed: its scores may be another run's.
    """
    if not isinstance(entry, dict):
        return must("an object", entry)
    wrong = _LINE(entry)
    if wrong is not None:
        return wrong
    names = [entry["upstream"], entry["system"], entry.get("fold"), f"seed {entry.get('seed')}"]
    own = " | ".join(filter(None, names))
    if entry["run"] != own and not entry["run"].startswith(f"{own} | lr "):
        return f"run: must be {own!r} by its other names, got {entry['run'][:200]!r}"
    return None


def damage_of_about(about: Any) -> str | None:
    """Return what is wrong with the description of a matrix, or ``None``."""
    wrong = _ABOUT(about)
    if wrong is None and about.get("baseline") not in (None, *(about.get("systems") or ())):
        return f"baseline: {must('one of the systems', about['baseline'])}"
    return wrong
