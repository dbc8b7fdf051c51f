"""Figures of embeddings in a plane: one panel for each thing that is known of the utterances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import UsageError
from s3prl_emotion.figures.embeddings import SUFFIX, Embeddings
from s3prl_emotion.figures.plots import new_figure, save_figure

PANEL = 4.2  # inches
MOST_NAMED = 12  # values that a legend names; of more (speakers), the colours alone are shown
WORDS = {"class": "EmoClass", "prediction": "prediction", "speaker": "SpkrID", "gender": "Gender"}
NUMBERS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
Known = dict[str, NDArray[Any]]


def known_of(embeddings: Embeddings, path: Path, labels: Path | None = None) -> Known:
    """What is known of the utterances, each ``[N]``: words (class, speaker, gender), or numbers (dimensions).

    It comes from the label table, else from the predictions that lie beside the embeddings, else from their file.

    Raises:
        UsageError: the table cannot be read, lacks an utterance or has one twice, or a dimension is no number
    """
    beside = path.with_name(path.name.replace(SUFFIX, "_predictions.csv")) if path.name.endswith(SUFFIX) else None
    table = labels or (beside if beside is not None and beside.is_file() else None)
    if table is None:
        return dict(embeddings.about)
    rows = _rows(table, embeddings)
    if "EmoClass" not in rows and "truth" in rows:
        rows = rows.rename(columns={"truth": "EmoClass"})
    known: Known = {name: rows[column].to_numpy(dtype=str) for name, column in WORDS.items() if column in rows}
    known = {name: values for name, values in known.items() if (values != "").any()}
    for name, column in NUMBERS.items():
        if column in rows:
            known[name] = _numbers(rows[column], table)
    return known


def _numbers(words: Any, table: Path) -> NDArray[np.float64]:
    """A column ``[N]`` as numbers, NaN where it is empty."""
    try:
        return np.asarray(words.replace("", "nan").to_numpy(dtype=np.float64))
    except ValueError as error:
        raise UsageError(f"{table}: {words.name} holds what is no number ({error})") from error


def _rows(table: Path, embeddings: Embeddings) -> Any:
    import pandas as pd

    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8").set_index("FileName")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{table}: not readable as a label table ({' '.join(str(error).split())})") from error
    missing = [name for name in embeddings.names.tolist() if name not in rows.index]
    if missing:
        raise UsageError(
            f"{table}: says nothing of {len(missing)} utterances, {missing[0]} for one; give their own table"
        )
    rows = rows.loc[embeddings.names.tolist()]
    if len(rows) != len(embeddings.names):
        raise UsageError(f"{table}: {rows.index[rows.index.duplicated()][0]} stands there twice")
    return rows


def plot_plane(path: Path, points: NDArray[np.float64], known: Mapping[str, NDArray[Any]], title: str) -> Path:
    """Draw points ``[N, 2]``, once for each of ``known``.

    Raises:
        TrainingError: the file cannot be written
    """
    names = list(known) or [""]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, panels = new_figure(PANEL * columns, (PANEL + 0.3) * rows, rows, columns)
    for place, axes in enumerate(np.atleast_1d(panels).flat):
        if place >= len(names):
            axes.set_axis_off()
            continue
        draw_plane(axes, points, known.get(names[place]))
        axes.set_title(names[place], fontsize=11)
    figure.suptitle(title.replace("$", r"\$"), fontsize=12)
    return save_figure(figure, path)


def draw_plane(axes: Any, points: NDArray[np.float64], values: NDArray[Any] | None) -> None:
    """Points in the colours of their values: words as a legend, numbers as a scale; axes mean nothing and are bare."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    style = {"s": 14 if len(points) <= 1000 else 5, "linewidths": 0, "alpha": 0.8}
    if values is None:
        axes.scatter(*points.T, **style)
    elif values.dtype.kind == "f":
        unknown = np.isnan(values)
        axes.scatter(*points[unknown].T, color="0.8", **style)
        shown = axes.scatter(*points[~unknown].T, c=values[~unknown], cmap="viridis", **style)
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    else:
        _draw_words(axes, points, values, style)


def _draw_words(axes: Any, points: NDArray[np.float64], values: NDArray[Any], style: dict[str, Any]) -> None:
    from matplotlib import colormaps

    words = sorted(set(values.tolist()))
    palette = colormaps["tab10" if len(words) <= 10 else "hsv"]
    for number, word in enumerate(words):
        colour = palette(number if len(words) <= 10 else number / len(words))
        axes.scatter(*points[values == word].T, color=colour, label=(word or "unknown").replace("$", r"\$"), **style)
    if len(words) <= MOST_NAMED:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(4, len(words)), fontsize=8, frameon=False,
                    markerscale=1.5, handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    else:
        axes.set_xlabel(f"{len(words)} of them", fontsize=8)
