"""Print the summary of a run: scores, confusion matrix, and the files written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from s3prl_emotion.corpora.protocol import words_of
from s3prl_emotion.errors import visible
from s3prl_emotion.figures.split_plots import plot_confusion, plot_split
from s3prl_emotion.metrics.registry import of_kind

if TYPE_CHECKING:
    from s3prl_emotion.experts.base import EmotionExpert


def print_summary(expert: EmotionExpert, splits: Sequence[str]) -> None:
    """Print the scores of evaluated splits, the confusion matrix of the last one, and the paths of the files."""
    console = Console(highlight=False, markup=False, emoji=False)
    written: list[Path] = []
    results = {}
    for split in splits:
        path = expert.expdir / f"{split}_{expert.fold}_metrics.json"
        results[split] = json.loads(path.read_text(encoding="utf-8"))
        written += [path, expert.expdir / f"{split}_{expert.fold}_predictions.csv"]
    words = dict.fromkeys(word for metrics in results.values() for word in words_of(metrics))
    protocol = "".join(f", {word}" for word in words)
    title = visible(f"{expert.head}, {expert.fold}{protocol}")
    classed = {split: metrics for split, metrics in results.items() if "confusion" in metrics}
    if classed:
        console.print(_class_scores(classed, title))
        last = list(classed)[-1]
        console.print(_confusion(classed[last], _classes(classed[last]), last))
        for split, metrics in classed.items():
            stem = f"{split}_{expert.fold}"
            figure = expert.expdir / f"{stem}_confusion.png"
            written.append(plot_confusion(figure, metrics["confusion"], _classes(metrics), f"{stem}{protocol}"))
            if "hypotheses" in metrics:
                written += plot_split(expert.expdir, stem, metrics)
    rated = {split: metrics for split, metrics in results.items() if "CCC" in metrics}
    if rated:
        console.print(_dimension_scores(rated, title))
    for key in ("protocol", "seen"):
        for split, metrics in results.items():
            if note := metrics.get(key, {}).get("note"):
                console.print(visible(f"{split}: {note}"), soft_wrap=True)
    console.print("written:", *(visible(f"  {path}") for path in written), sep="\n", soft_wrap=True)


def _classes(metrics: dict[str, Any]) -> list[str]:
    """Return the classes of the confusion matrix: those that were evaluated, which may be fewer than were learnt."""
    return metrics.get("evaluated_classes") or metrics["classes"]


def _class_scores(results: dict[str, dict[str, Any]], title: str) -> Table:
    shown = [metric for metric in of_kind("classes") if metric.of_split is not None]
    scores = Table("split", "utterances", *(metric.label for metric in shown), "checkpoint", title=title)
    for split, metrics in results.items():
        values = [f"{metric.scale * metrics[metric.name]:.2f}{' %' if metric.percent else ''}" for metric in shown]
        scores.add_row(visible(split), str(metrics["utterances"]), *values, _checkpoint(metrics))
    return scores


def _dimension_scores(results: dict[str, dict[str, Any]], title: str) -> Table:
    names = list(next(iter(results.values()))["CCC"])
    scores = Table("split", "utterances", *names, "mean", "checkpoint", title=f"{title}: CCC")  # fits 80 columns
    for split, metrics in results.items():
        values = [*(metrics["CCC"][name] for name in names), metrics["mean_CCC"]]
        shown = ["undefined" if value is None else f"{value:.3f}" for value in values]
        count = metrics.get("dimension_utterances", metrics.get("utterances"))
        scores.add_row(visible(split), str(count), *shown, _checkpoint(metrics))
    return scores


def _confusion(metrics: dict[str, Any], classes: Sequence[str], split: str) -> Table:
    matrix = Table("truth \\ prediction", *map(visible, classes), title=visible(f"confusion, {split}"))
    for name, row in zip(classes, metrics["confusion"], strict=True):
        matrix.add_row(visible(name), *(str(count) for count in row))
    return matrix


def _checkpoint(metrics: dict[str, Any]) -> str:
    return f"{metrics['checkpoint']} (step {metrics['step']})"
