"""Check what is read back of a split's metrics: wrong types and impossible values are no scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_emotion.errors import LabelError
from s3prl_emotion.files.checks import (
    Check,
    boolean,
    count,
    integer,
    listing,
    mapping,
    must,
    number,
    optional,
    record,
    text,
)
from s3prl_emotion.files.plain_json import parse
from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.groups import N_BEST_KEYS
from s3prl_emotion.metrics.metric import Metric

SHARE = number(0, 1)
CORRELATION = number(-1, 1)


def damage_of(metrics: Any) -> str | None:
    """Return what is wrong with the metrics of a split, or ``None``.

    Args:
        metrics: content of a metrics file, or the part of it that a benchmark's results keep

    Returns:
        ``WA: must be a number from 0 to 1, got '0.7'``
    """
    return METRICS(metrics) or _deep(metrics) or _sizes(metrics)


def read_metrics(path: Path) -> dict[str, Any]:
    """Read ``{split}_{fold}_metrics.json``.

    Raises:
        LabelError: missing, damaged, or something in it has a wrong type or an impossible value
    """
    try:
        metrics = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LabelError(f"{path}: missing or damaged ({reason}); evaluate the split again") from error
    wrong = damage_of(metrics)
    if wrong is not None:
        raise LabelError(f"{path}: {wrong}; evaluate the split again")
    return metrics


def _value(metric: Metric) -> Check:
    value = optional(number(metric.low, metric.high))
    return optional(mapping(value)) if metric.kind == "dimensions" else value


def _deep(metrics: dict[str, Any]) -> str | None:
    """Check the metrics that a file has below other keys."""
    for metric in registry.of_kind("graders"):
        value: Any = metrics
        for depth, key in enumerate(metric.path):
            if not isinstance(value, dict):
                return f"{'.'.join(metric.path[:depth])}: {must('a mapping', value)}"
            value = value.get(key)
            if value is None:
                break
        wrong = _value(metric)(value)
        if wrong is not None:
            return f"{'.'.join(metric.path)}: {wrong}"
    return None


def _latent(value: Any) -> str | None:
    """Check the distances in a head's latent space: numbers, and numbers by dimension."""
    if not isinstance(value, dict):
        return must("a mapping", value)
    of_dimension = {metric.name: _value(metric) for metric in registry.of_kind("latent")}
    of_space = {metric.name: _value(metric) for metric in registry.of_kind("shift")}
    others = {name: item for name, item in value.items() if name not in of_space}
    return record({}, of_space)(value) or mapping(
        lambda item: record({}, of_dimension)(item) if isinstance(item, dict) else optional(number())(item)
    )(others)


def _matrix(entry: Check) -> Check:
    def check(value: Any) -> str | None:
        size = len(value) if isinstance(value, list) else 0
        return listing(listing(entry, size))(value)

    return check


_SCORES = {metric.name: _value(metric) for metric in registry.of_kind("classes", "dimensions", "mean", "probabilities")}
_OF_N = {**dict.fromkeys(N_BEST_KEYS.values(), optional(SHARE)), "paUAR": optional(mapping(optional(SHARE)))}
_N_BEST: dict[str, Check] = {
    "n_best": optional(mapping(record({}, _OF_N))),
    "paUAR": optional(mapping(optional(SHARE))),
    "class_counts": optional(mapping(count)),
    "speakers": optional(mapping(count)),
    **dict.fromkeys(("utterances", "dimension_utterances"), optional(count)),
}  # fmt: skip
_GROUPS = optional(mapping(record({}, {**_SCORES, **_N_BEST})))
_BIN = {"from": SHARE, "to": SHARE, "utterances": count, "confidence": optional(SHARE), "accuracy": optional(SHARE)}
_CONFIG = record(
    {},
    {
        **dict.fromkeys(("runner", "optimizer", "scheduler", "specaug", "upstream"), optional(mapping())),
        "downstream_expert": optional(record({}, dict.fromkeys(("datarc", "modelrc"), optional(mapping())))),
    },
)
METRICS = record(
    {},
    {
        **_SCORES,
        **_N_BEST,
        **dict.fromkeys(("split", "fold"), text),
        **dict.fromkeys(("checkpoint", "head", "config_hash", "stored_features", "statistics"), optional(text)),
        **dict.fromkeys(("step", "num_parameters", "upstream_parameters", "upstream_parameters_computed",
                         "parameters", "parameters_trained"), optional(count)),
        "seed": optional(integer),
        "loss": optional(number()),
        "model_size_mb": optional(number(0)),
        **dict.fromkeys(("classes", "evaluated_classes"), optional(listing(text))),
        "recall": optional(mapping(optional(SHARE))),
        "confusion": _matrix(count),
        "hypotheses": optional(mapping(record({"utterances": count, "shares": optional(_matrix(SHARE))}, {}))),
        "reliability": optional(listing(record(_BIN, {}))),
        **dict.fromkeys(("per_gender", "per_speaker"), _GROUPS),
        "UAR_against_share": optional(mapping(optional(CORRELATION))),
        "counts": optional(mapping(count)),
        "latent": optional(_latent),
        "layer_weights": optional(listing(SHARE)),
        "protocol": optional(record({"name": text}, {"note": optional(text), "dev": optional(boolean)})),
        "partition": optional(record({}, {"note": optional(text)})),
        "seen": optional(record({}, {"note": optional(text)})),
        "versions": optional(mapping(text)),
        "upstream": optional(mapping()),
        "config": optional(_CONFIG),
    },
)  # fmt: skip


def _sizes(metrics: dict[str, Any]) -> str | None:
    """Check that tables over classes have as many rows as there are classes, and that bins that count have means."""
    classes = metrics.get("evaluated_classes") or metrics.get("recall") or metrics.get("classes")
    tables = {"confusion": metrics.get("confusion")}
    tables |= {f"hypotheses.{name}": entry["shares"] for name, entry in (metrics.get("hypotheses") or {}).items()}
    for name, table in tables.items():
        if table is not None and classes and len(table) != len(classes):
            return f"{name}: must have a row for each of the {len(classes)} classes, has {len(table)}"
    for row in metrics.get("reliability") or ():
        if row["utterances"] and None in (row["confidence"], row["accuracy"]):
            return "reliability: a bin with utterances must have its confidence and accuracy"
    return None
