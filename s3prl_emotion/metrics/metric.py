"""What a metric is: its name, its formula and how it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal[
    "classes", "dimensions", "mean", "joint", "probabilities", "graders", "speakers", "latent", "shift", "size"
]  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One metric: everything that files, reports, recipes and matrices need to know of it.

    Attributes:
        name: in ``*_metrics.json``, recipes, matrices and ``scores.csv``
        kind: what it is about: predicted ``classes``; ``dimensions``, each for itself; their ``mean``; classes and
            dimensions (``joint``); class ``probabilities`` against the true class, or against the ``graders``;
            ``speakers``; distances in a head's ``latent`` space against the labels of a dimension; the ``shift`` of
            that space; or the ``size`` of systems
        label: heading of its column in tables, without the unit
        short: the same where several metrics share a heading, in figures and log lines; ``label`` by default
        unit: behind the label, such as ``bits``; shares in percent need none
        percent: whether it is a share that is shown in percent
        better: whether ``higher`` or ``lower`` values are better; ``neither`` for what only describes
        low: lowest possible value
        high: highest possible value
        of_split: truth and prediction of a whole split to the value, ``None`` where it is not defined; by kind: class
            indices ``[N]`` (classes); numbers ``[N]`` (dimensions); class indices ``[N]`` and probabilities ``[N, K]``
            (probabilities); shares and probabilities ``[N, K]`` (graders)
        from_sums: its form for resampling: sums over the utterances of any speakers, ``[..., P]``, to values ``[...]``,
            NaN where it is not defined; ``None`` where reports give no interval
        path: keys that lead to it in ``*_metrics.json``; by default its name
        priority: its place among the metrics that rank systems and pick checkpoints; ``None``: it does neither. Of a
            metric of dimensions, this is about its mean.
        headline: whether it stands for its kind: shown speaker by speaker, and part of ``joint``
        main: whether reports show it among the main scores rather than behind them
        tested: whether reports test differences between systems; what is not tested follows from what is
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
        """Decimals that tables show: one of a percentage, else three."""
        return 1 if self.percent else 3

    @property
    def scale(self) -> int:
        """Factor from the value to what figures and tables show: 100 for a percentage."""
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
            short: whether to leave synonyms out: ``UAR, %``
            unit: whether to add the unit
        """
        name = self.short if short and self.short else self.label
        if self.percent and unit:
            return f"{name}, %"
        return f"{name} ({self.unit})" if self.unit and unit else name

    def value(self, metrics: Mapping[str, Any]) -> Any:
        """Return what a metrics file holds under :attr:`path`, ``None`` where there is nothing."""
        found: Any = metrics
        for key in self.path or (self.name,):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found
