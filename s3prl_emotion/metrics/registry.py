"""All metrics by name: whatever lists, labels, ranks or formats metrics reads them here.

To add a metric, write its formula and its entry of ``METRICS`` in the module of its kind: ``class_scores.py``,
``dimension_scores.py``, ``calibration.py`` or ``distribution.py``. Metrics files, reports, figures, ``best_metric`` and
matrices then have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.metrics import calibration, class_scores, dimension_scores, distribution, groups
from s3prl_emotion.metrics.metric import Array, Kind, Metric

DIMENSION_NAMES = {"EmoAct": "activation", "EmoVal": "valence", "EmoDom": "dominance"}
JOINT = "joint"
LOSS = "loss"  # of a whole split, as the head itself computes it; every head has it

OTHERS = (  # computed by a head itself, or by the report
    Metric("distance_R2", "latent", "adjusted R², latent distance on label distance", low=-math.inf),
    Metric("distance_Spearman", "latent", "Spearman's correlation of latent distance and label distance", low=-1.0),
    Metric("label_R2", "latent", "adjusted R², label on latent", low=-math.inf),
    Metric("relative_shift", "shift", "distance from the training latents, in units of their spread", better="neither",
           high=math.inf),
    Metric("shift", "shift", "distance from the training latents", better="neither", high=math.inf),
    Metric("relative_size", "size", "size", percent=True, better="lower", high=math.inf),
    Metric(LOSS, "loss", "loss", better="lower", low=-math.inf, high=math.inf),
)  # fmt: skip
_CLASSES, _DIMENSIONS = class_scores.METRICS, dimension_scores.METRICS
_MEANS = tuple(metric.mean for metric in _DIMENSIONS)
_JOINT = Metric(JOINT, "joint", "mean of UAR and mean CCC", priority=0)
_FAMILIES = (
    _CLASSES,
    _DIMENSIONS,
    _MEANS,
    (_JOINT,),
    calibration.METRICS,
    distribution.METRICS,
    groups.METRICS,
    OTHERS,
)
METRICS: dict[str, Metric] = {metric.name: metric for family in _FAMILIES for metric in family}


def find(name: str) -> Metric | None:
    """Return the metric of a name, ``UAR`` of ``UAR`` and of ``UAR.Female``; ``None`` where there is none."""
    return METRICS.get(name) or METRICS.get(name.partition(".")[0])


def of_kind(*kinds: Kind) -> tuple[Metric, ...]:
    """Return the metrics of these kinds, one kind after the other."""
    return tuple(metric for kind in kinds for metric in METRICS.values() if metric.kind == kind)


def reported(kind: Kind) -> tuple[Metric, ...]:
    """Return the metrics of a kind in the order of a report's columns: by priority, those without one last."""
    return tuple(sorted(of_kind(kind), key=lambda metric: math.inf if metric.priority is None else metric.priority))


def resampled(kind: Kind) -> dict[str, Callable[[Array], Array]]:
    """Return the metrics of a kind that have intervals, by name in the order of :func:`reported`: values from sums."""
    return {metric.name: metric.from_sums for metric in reported(kind) if metric.from_sums is not None}


def label(name: str, short: bool = False, unit: bool = True) -> str:
    """Return a metric's name for readers, as tables and figures have it: ``UA (UAR), %``, ``CCC valence``.

    Args:
        name: of a metric, or of one of a dimension
        short: use the short heading: ``UAR, %``
        unit: add the unit
    """
    kind, _, dimension = ("", "", "") if name in METRICS else name.partition(".")
    metric = METRICS.get(kind or name)
    title = kind if metric is None else metric.title(short, unit)
    return f"{title} {DIMENSION_NAMES.get(dimension, dimension)}" if dimension else title


def scale(name: str) -> int:
    """Return the factor from a metric's value to what figures show, 100 for a percentage; see :func:`find`."""
    metric = find(name)
    return 1 if metric is None else metric.scale


def digits(name: str) -> int:
    """Return how many decimals tables show of a metric; see :func:`find`."""
    metric = find(name)
    return 3 if metric is None else metric.digits


def names_by_dimension(metrics: Iterable[Metric]) -> list[str]:
    """Return ``CCC.EmoAct``, ``CCC.EmoVal``, … for metrics of which each dimension has its own value."""
    return [f"{metric.name}.{dimension}" for metric in metrics for dimension in DIMENSIONS]


def best_metrics(classes: bool = False, dimensions: bool = False) -> tuple[str, ...]:
    """Return the metrics that can pick the best checkpoint of a head, the default first.

    Args:
        classes: whether the head learns classes
        dimensions: whether it learns dimensions
    """
    wanted: dict[Kind, bool] = {"joint": classes and dimensions, "classes": classes, "mean": dimensions}
    kinds = [kind for kind, learnt in wanted.items() if learnt]
    return tuple(metric.name for metric in of_kind(*kinds) if metric.priority is not None)


def lower_is_better(name: str) -> bool:
    """Return whether lower values of a metric are better; see :func:`find`."""
    metric = find(name)
    return metric is not None and metric.better == "lower"


def ranking() -> tuple[str, ...]:
    """Return the metrics that systems may be ranked by, the first choice first."""
    metrics = [metric for metric in of_kind("classes", "mean") if metric.priority is not None]
    return tuple(metric.name for metric in sorted(metrics, key=lambda metric: metric.priority or 0))


def score(metrics: Mapping[str, Any], name: str) -> float | None:
    """Return a metric of a split from its metrics file; ``joint`` is the mean of UAR and mean CCC.

    Returns:
        ``None`` where the split lacks it, or where it is not finite
    """
    parts = [metric for metric in of_kind("classes", "mean") if metric.headline] if name == JOINT else [METRICS[name]]
    values = [part.value(metrics) for part in parts]
    known = all(value is not None and math.isfinite(value) for value in values)
    return sum(map(float, values)) / len(values) if known else None
