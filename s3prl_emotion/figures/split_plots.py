"""Plot the results of a split: confusion matrix, hypotheses, speakers, reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_emotion.errors import LabelError
from s3prl_emotion.figures.canvas import new_figure, plain_text, save_figure
from s3prl_emotion.metrics.checks import Floats
from s3prl_emotion.metrics.distribution import rank_correlation
from s3prl_emotion.metrics.groups import speaker_points

CELL = 0.4  # inches
MOST_LABELLED = 12  # classes; with more, the shares in the cells are left to the colour


def plot_split(folder: Path, stem: str, metrics: Mapping[str, Any]) -> list[Path]:
    """Plot hypotheses, reliability and speakers of a split; Mitra et al. 2025, Figs. 4-5.

    Args:
        folder: folder of the figures
        stem: ``{split}_{fold}``
        metrics: from :func:`~s3prl_emotion.metrics.split.split_metrics`, or the content of its JSON file

    Returns:
        paths of ``{stem}_hypotheses.png``, ``{stem}_reliability.png`` and, if a speaker has enough utterances,
        ``{stem}_speakers.png``

    Raises:
        TrainingError: a file cannot be written
    """
    classes = metrics["evaluated_classes"]
    drawn = [
        plot_hypotheses(folder / f"{stem}_hypotheses.png", metrics["hypotheses"], classes, stem),
        plot_reliability(folder / f"{stem}_reliability.png", metrics["reliability"], stem, metrics["ECE"]),
    ]
    if metrics.get("speakers", {}).get("counted"):
        least = metrics["speakers"]["min_utterances"]
        drawn.append(plot_speakers(folder / f"{stem}_speakers.png", metrics["per_speaker"], classes, stem, least))
    return drawn


def plot_confusion(path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Path:
    """Plot a confusion matrix ``[K, K]``, coloured by recall; Kakouros et al. 2023, Fig. 2.

    Args:
        path: path of the PNG
        confusion: counts, ``[K, K]``, rows truth, columns prediction
        classes: names, ``[K]``
        title: title of the figure

    Raises:
        TrainingError: the file cannot be written
    """
    figure, axes = new_figure(1.2 + 0.8 * len(classes), 1.0 + 0.7 * len(classes))
    counts = np.asarray(confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        shade = "white" if shares[row, column] > 0.5 else "black"
        text = f"{100 * shares[row, column]:.0f} %\n({counts[row, column]:.0f})"
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="prediction", ylabel="truth", title=title)
    return save_figure(figure, path)


def plot_hypotheses(
    path: Path, hypotheses: Mapping[str, Mapping[str, Any]], classes: Sequence[str], title: str
) -> Path:
    """Plot a matrix of first (rows) and second hypothesis (columns) for each true class; Mitra et al. 2025, Fig. 5.

    Outlined in grey: the true class's row, where the first hypothesis is right, and its column, where the second is.

    Args:
        path: path of the PNG
        hypotheses: from :func:`~s3prl_emotion.metrics.split.hypothesis_pairs`
        classes: names, ``[K]``
        title: title of the figure

    Raises:
        TrainingError: the file cannot be written
    """
    number = len(classes)
    rows, columns = _layout(number)
    side = max(CELL * number, 1.9)
    figure, panels = new_figure(columns * (side + 0.5) + 2.0, rows * (side + 0.45) + 1.6, rows, columns)
    grid = np.array(panels).reshape(rows, columns)
    tops = [np.max(pairs["shares"]) for pairs in hypotheses.values() if pairs["shares"] is not None]
    top = max(tops, default=1.0)
    image = None
    for index, axes in enumerate(grid.flat):
        if index >= number:
            axes.set_axis_off()
            continue
        pairs = hypotheses[classes[index]]
        axes.set_title(f"true: {plain_text(classes[index])} ({pairs['utterances']})", fontsize=10)
        image = _draw_pairs(axes, pairs["shares"], index, number, top)
        lowest = index + columns >= number
        axes.set_xticks(range(number), map(plain_text, classes) if lowest else [""] * number, rotation=90, fontsize=9)
        axes.set_yticks(range(number), map(plain_text, classes) if index % columns == 0 else [""] * number, fontsize=9)
    figure.get_layout_engine().set(hspace=0.03, wspace=0.03)
    figure.colorbar(image, ax=grid, label="utterances of the true class (%)", aspect=40, pad=0.02)
    figure.supxlabel("second hypothesis", fontsize=11)
    figure.supylabel("first hypothesis", fontsize=11)
    figure.suptitle(plain_text(title), fontsize=12)
    return save_figure(figure, path)


def _draw_pairs(axes: Any, shares: Sequence[Sequence[float]] | None, true: int, number: int, top: float) -> Any:
    """Draw the matrix of one true class, in percent; if the class does not occur, the panel says so."""
    from matplotlib.patches import Rectangle

    axes.set_facecolor("0.93")  # shows on the diagonal: no class is both hypotheses
    percent = 100 * np.asarray(np.zeros((number, number)) if shares is None else shares)
    hidden = np.eye(number, dtype=bool) | (shares is None)
    image = axes.imshow(np.ma.masked_array(percent, hidden), cmap="Blues", vmin=0, vmax=100 * top)
    if shares is None:
        axes.text(0.5, 0.5, "does not occur", ha="center", va="center", transform=axes.transAxes, fontsize=9)
        return image
    for row, column in np.ndindex(percent.shape):
        if number <= MOST_LABELLED and percent[row, column] >= 0.5:
            shade = "white" if percent[row, column] > 55 * top else "black"
            text = f"{percent[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    for corner, width, height in (((-0.5, true - 0.5), number, 1), ((true - 0.5, -0.5), 1, number)):
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="0.4", linewidth=2.2, clip_on=False))
    return image


def plot_speakers(
    path: Path,
    per_speaker: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    title: str,
    min_utterances: int = 1,
) -> Path:
    """Plot UAR of each speaker against the share of each class in the utterances; Mitra et al. 2025, Fig. 4.

    There is a panel for each class, with Spearman's correlation over the speakers.

    Args:
        path: path of the PNG
        per_speaker: from :func:`~s3prl_emotion.metrics.groups.group_metrics`
        classes: names, ``[K]``
        title: title of the figure
        min_utterances: speakers with fewer utterances are left out

    Raises:
        LabelError: no speaker has enough utterances
        TrainingError: the file cannot be written
    """
    uars, shares = speaker_points(per_speaker, classes, min_utterances)
    if not len(uars):
        raise LabelError(f"no speaker has {min_utterances} utterances or more; lower min_utterances")
    rows, columns = _layout(len(classes))
    figure, panels = new_figure(3.2 * columns + 0.5, 2.8 * rows + 0.9, rows, columns)
    ranges = {"xlim": _range(100 * shares.ravel(), 0.0), "ylim": _range(100 * uars)}
    opaque = 0.75 if len(uars) <= 100 else 0.35
    for index, axes in enumerate(np.array(panels).flat):
        if index >= len(classes):
            axes.set_axis_off()
            continue
        rho = rank_correlation(uars, shares[:, index])
        axes.scatter(100 * shares[:, index], 100 * uars, s=18, color="tab:blue", alpha=opaque, linewidths=0)
        axes.set_title(plain_text(classes[index]), fontsize=10, loc="left")
        axes.set_title("ρ undefined" if rho is None else f"ρ {rho:+.2f}", fontsize=10, loc="right")
        axes.set(**ranges)
        axes.grid(visible=True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.supxlabel("share of the class in the speaker's utterances (%)", fontsize=11)
    figure.supylabel("UAR of the speaker (%)", fontsize=11)
    speakers = f"{len(uars)} speaker{'s' if len(uars) > 1 else ''}"
    least = f" with {min_utterances} utterances or more" if min_utterances > 1 else ""
    figure.suptitle(f"{plain_text(title)}: {speakers}{least}; ρ: Spearman's", fontsize=12)
    return save_figure(figure, path)


def plot_reliability(path: Path, table: Sequence[Mapping[str, Any]], title: str, ece: float | None = None) -> Path:
    """Plot accuracy against confidence, and the number of utterances of each bin; Guo et al. 2017, Figs. 1 and 4.

    Args:
        path: path of the PNG
        table: from :func:`~s3prl_emotion.metrics.calibration.reliability_table`
        title: title of the figure
        ece: expected calibration error, shown in the title

    Raises:
        TrainingError: the file cannot be written
    """
    figure, panels = new_figure(5.2, 6.4)
    figure.delaxes(panels)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    filled = [row for row in table if row["utterances"]]
    left, width = [row["from"] for row in filled], [row["to"] - row["from"] for row in filled]
    accuracy, confidence = [row["accuracy"] for row in filled], [row["confidence"] for row in filled]
    bars = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.8}
    upper.bar(left, accuracy, color="tab:blue", label="accuracy", **bars)
    draw_calibrated(upper, lower, "0.4")
    upper.vlines(confidence, accuracy, confidence, color="tab:red", linewidth=1.6)
    upper.plot(confidence, confidence, color="tab:red", marker="o", markersize=5, linestyle="none",
               label="mean confidence, gap")  # fmt: skip
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
    lower.bar(left, [row["utterances"] for row in filled], color="0.6", **bars)
    note = "" if ece is None else f": ECE {100 * ece:.1f} %"
    figure.suptitle(f"{plain_text(title)}{note}", fontsize=12)
    return save_figure(figure, path)


def draw_calibrated(upper: Any, lower: Any, colour: str) -> None:
    """Set up the axes of a reliability diagram with its line of perfect calibration, and below those of utterances."""
    upper.plot([0, 1], [0, 1], color=colour, linestyle="--", linewidth=1.2, label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of right answers")
    lower.set(xlabel="confidence: probability of the first hypothesis", ylabel="utterances")
    lower.yaxis.get_major_locator().set_params(integer=True)


def _layout(panels: int) -> tuple[int, int]:
    """Return the numbers of rows and columns for a number of panels."""
    columns = min(3, panels) if panels <= 9 else math.ceil(math.sqrt(panels))
    return math.ceil(panels / columns), columns


def _range(percent: Floats, low: float | None = None) -> tuple[float, float]:
    """Return limits at the tens around the values, with room for the dots at the ends."""
    ends = (math.floor(percent.min() / 10) * 10 if low is None else low, math.ceil(percent.max() / 10) * 10)
    bottom, top = ends if ends[0] < ends[1] else (max(0, ends[0] - 10), min(100, ends[1] + 10))
    room = 0.03 * (top - bottom)
    return bottom - room, top + room
