"""Learning curves of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from s3prl_emotion.report.computing.details import TrainingDetails
from s3prl_emotion.report.drawing.figure import Figure, Panel, series_style
from s3prl_emotion.report.reading.training import Curve, mean_curve, thinned
from s3prl_emotion.report.sections.base import Place, TrainingSection

TITLES = {
    "dev-acc": "dev: accuracy",
    "dev-mean_CCC": "dev: mean CCC",
    "dev-loss": "dev: loss",
    "train-loss": "train: loss",
}


class LearningCurves(TrainingSection):
    """Losses and dev scores over training."""

    title = "Learning curves"

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the curves of all systems, a panel for each value."""
        systems = self.details(place)
        names = {name for details in systems.values() for run in details.curves for name in run}
        if names:
            caption = (
                "Learning curves: each run (faint) and the mean over runs, up to the end of the shortest. Training "
                "loss is over the batches since the previous log entry, dev loss over all batches of dev."
            )
            order = sorted(names, key=lambda name: (name == "train-loss", name == "dev-loss", name))
            panels = tuple(Panel(TITLES.get(name, name), partial(_draw, systems, name)) for name in order)
            yield Figure(place.figure_name("curves"), caption, tuple(systems), panels)


def _draw(systems: Mapping[str, TrainingDetails], name: str, figure: Any) -> None:
    axes = figure.subplots()
    for system, details in systems.items():
        colour = series_style(tuple(systems), system)["color"]
        runs = [run[name] for run in details.curves if name in run]
        mean = mean_curve(runs) if runs else None
        for curve in map(thinned, runs):
            single = {"marker": "."} if len(curve.steps) == 1 else {}
            axes.plot(curve.steps, curve.values, color=colour, linewidth=0.8, alpha=0.4 if mean else 1.0, **single)
        if mean is not None:
            _draw_mean(axes, thinned(mean), systems, system)
    axes.set_xlabel("steps")
    axes.margins(x=0.02)


def _draw_mean(axes: Any, curve: Curve, systems: Mapping[str, Any], system: str) -> None:
    style = series_style(tuple(systems), system)
    every = max(1, len(curve.steps) // 8)
    axes.plot(curve.steps, curve.values, **style, markersize=4, markevery=every, linewidth=1.5)
