"""Define what a metric is: its name, its formula, and how it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal[
    "classes", "dimensions", "mean", "joint", "probabilities", "graders", "speakers", "latent", "shift", "size", "loss"
]  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A metric, with everything that files, reports, recipes and matrices need to know about it.

    Attributes:
        name: name in ``*_metrics.json``, recipes, matrices and ``scores.csv``
        kind: what it measures: predicted ``classes``; each of the ``dimensions``, or their ``mean``; classes and
            dimensions together (``joint``); class ``probabilities`` against the true class, or against the
            ``graders``; ``speakers``; distances in a head's ``latent`` space against the labels of a dimension; the
            ``shift`` of that space; the ``size`` of systems; or the head's own ``loss``
        label: heading in tables, without the unit
        short: heading where the label would be too long, in figures and tables of groups; the label by default
        unit: unit shown after the label, such as ``bits``; not needed for percentages
        percent: whether it is a share that is shown in percent
        better: whether ``higher`` or ``lower`` values are better, or ``neither``
        low: lowest possible value
        high: highest possible value
        of_split: function of the truth and the prediction of a whole split that returns the value, ``None`` where it is
            not defined. Its arguments are, by kind: class indices ``[N]`` (classes); numbers ``[N]`` (dimensions);
            class indices ``[N]`` and probabilities ``[N, K]`` (probabilities); shares and probabilities ``[N, K]``
            (graders). Without it, metrics files do not have the metric.
        from_sums: the same for resampling: function of sums over the utterances of any speakers, ``[..., P]``, that
            returns values ``[...]``, NaN where they are not defined. Without it, reports give no interval, and
            speakers, genders and n-best do not have the metric.
        path: keys under which ``*_metrics.json`` has the value; its name by default
        priority: order among the metrics that can rank systems and pick checkpoints; ``None`` if it can do neither. For
            a metric of dimensions, this is about its mean.
        headline: whether it represents its kind: it is shown speaker by speaker, and is part of ``joint``
        main: whether reports show it among the main scores
        tested: whether reports test differences between systems; each tested metric makes Holm's correction stricter
    """

    name: str
    kind: Kind
    label: str
    _: dataclasses.KW_ONLY
    short: str = ""
    unit: str = ""
    percent: bool = False
    better: Literal["higher", "lower", "neither"] = "higher"
    low: float = 0.0
    high: float = 1.0
    of_split: Callable[[Any, Any], float | None] | None = None
    from_sums: Callable[[Array], Array] | None = None
    path: tuple[str, ...] = ()
    priority: int | None = None
    headline: bool = False
    main: bool = True
    tested: bool = False

    @property
    def digits(self) -> int:
        """Number of decimals in tables: one for percentages, otherwise three."""
        return 1 if self.percent else 3

    @property
    def scale(self) -> int:
        """Factor from the value to the number shown: 100 for percentages, otherwise 1."""
        return 100 if self.percent else 1

    @property
    def mean(self) -> Metric:
        """The metric that is the mean of this one over the dimensions."""
        name, label, short = f"mean_{self.name}", f"mean {self.label}", f"mean {self.short or self.label}"
        return dataclasses.replace(
            self, name=name, kind="mean", label=label, short=short, path=(), of_split=None, from_sums=None, tested=False
        )

    def title(self, short: bool = False, unit: bool = True) -> str:
        """Return the label as tables and figures have it: ``UA (UAR), %``, ``JS (bits)``.

        Args:
            short: use the short heading: ``UAR, %``
            unit: add the unit
        """
        name = self.short if short and self.short else self.label
        if self.percent and unit:
            return f"{name}, %"
        return f"{name} ({self.unit})" if self.unit and unit else name

    def value(self, metrics: Mapping[str, Any]) -> Any:
        """Return the value in the content of a metrics file, or ``None`` if it lacks the metric."""
        value: Any = metrics
        for key in self.path or (self.name,):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value
