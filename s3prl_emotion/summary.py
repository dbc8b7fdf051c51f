"""What a finished run shows on the terminal: scores, the confusion matrix, and the files it wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from s3prl_emotion.plots import plot_confusion

if TYPE_CHECKING:
    from s3prl_emotion.expert import EmotionExpert


def print_summary(expert: EmotionExpert, splits: Sequence[str]) -> None:
    """Print the scores of evaluated splits, the confusion matrix of the last one, and where the files are."""
    console = Console(highlight=False)
    scores = Table(
        "split", "utterances", "WA", "UA (UAR)", "macro-F1", "checkpoint", title=f"{expert.head}, {expert.fold}"
    )
    written = []
    for split in splits:
        stem = f"{split}_{expert.fold}"
        path = expert.expdir / f"{stem}_metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        percent = [f"{100 * metrics[name]:.2f} %" for name in ("WA", "UAR", "macro_f1")]
        scores.add_row(split, str(metrics["utterances"]), *percent, f"{metrics['checkpoint']} (step {metrics['step']})")
        figure = plot_confusion(expert.expdir / f"{stem}_confusion.png", metrics["confusion"], expert.classes, stem)
        written += [path, expert.expdir / f"{stem}_predictions.csv", figure]
    console.print(scores)
    matrix = Table("truth \\ prediction", *expert.classes, title=f"confusion, {splits[-1]}")
    for name, row in zip(expert.classes, metrics["confusion"], strict=True):
        matrix.add_row(name, *(str(count) for count in row))
    console.print(matrix)
    console.print("written:", *(f"  {path}" for path in written), sep="\n", soft_wrap=True)
