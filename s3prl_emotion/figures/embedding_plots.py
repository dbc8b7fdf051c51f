"""Plot embeddings in two dimensions, with a panel for each label that the utterances have."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import UsageError
from s3prl_emotion.figures.canvas import new_figure, plain_text, save_figure
from s3prl_emotion.figures.embeddings import SUFFIX, Embeddings

PANEL = 4.2  # inches
MOST_NAMED = 12  # most values in a legend; with more (speakers), only the colours are shown
WORDS = {"class": "EmoClass", "prediction": "prediction", "speaker": "SpkrID", "gender": "Gender"}
NUMBERS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
Labels = dict[str, NDArray[Any]]  # words or numbers of the utterances, [N], by name


def read_labels(embeddings: Embeddings, path: Path, table: Path | None = None) -> Labels:
    """Read the labels of the utterances, ``[N]`` each: words (class, speaker, gender), or numbers (dimensions).

    They come from the label table if there is one, otherwise from the predictions beside the embeddings, otherwise from
    the file of the embeddings.

    Args:
        embeddings: the embeddings
        path: their file
        table: a label table

    Raises:
        UsageError: the table cannot be read, lacks an utterance or has one twice, or a dimension is not a number
    """
    beside = path.with_name(path.name.replace(SUFFIX, "_predictions.csv")) if path.name.endswith(SUFFIX) else None
    table = table or (beside if beside is not None and beside.is_file() else None)
    if table is None:
        return dict(embeddings.about)
    rows = _rows(table, embeddings)
    if "EmoClass" not in rows and "truth" in rows:
        rows = rows.rename(columns={"truth": "EmoClass"})
    labels: Labels = {name: rows[column].to_numpy(dtype=str) for name, column in WORDS.items() if column in rows}
    labels = {name: values for name, values in labels.items() if (values != "").any()}
    for name, column in NUMBERS.items():
        if column in rows:
            labels[name] = _numbers(rows[column], table)
    return labels


def _numbers(words: Any, table: Path) -> NDArray[np.float64]:
    """Return a column ``[N]`` as numbers, NaN where it is empty."""
    try:
        return np.asarray(words.replace("", "nan").to_numpy(dtype=np.float64))
    except ValueError as error:
        raise UsageError(f"{table}: {words.name} has a value that is not a number ({error})") from error


def _rows(table: Path, embeddings: Embeddings) -> Any:
    import pandas as pd

    from s3prl_emotion.audio.segments import TIMES
    from s3prl_emotion.corpora.segment_columns import name_segments

    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8")
        if "Utterance" in rows:
            rows = rows.set_index("Utterance")
        elif set(TIMES) <= set(rows):
            times = {name: rows[name].replace("", None) for name in TIMES}
            rows = name_segments(rows.assign(**times), table).set_index("FileName")
        else:
            rows = rows.set_index("FileName")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{table}: not readable as a label table ({' '.join(str(error).split())})") from error
    missing = [name for name in embeddings.names.tolist() if name not in rows.index]
    if missing:
        raise UsageError(
            f"{table}: lacks {len(missing)} of the utterances, such as {missing[0]}; give the table of this corpus"
        )
    rows = rows.loc[embeddings.names.tolist()]
    if len(rows) != len(embeddings.names):
        raise UsageError(f"{table}: {rows.index[rows.index.duplicated()][0]} is listed twice")
    return rows


def plot_embeddings(
    path: Path,
    points: NDArray[np.float64],
    labels: Mapping[str, NDArray[Any]],
    title: str,
    leave_out: Collection[str] = (),
) -> Path:
    """Plot points ``[N, 2]``, with a panel for each label; Neumann & Vu 2019, Figs. 3-4.

    Args:
        path: path of the PNG
        points: the embeddings in two dimensions, ``[N, 2]``
        labels: labels ``[N]`` by name, which colour the points
        title: title of the figure
        leave_out: classes that the panel ``class`` does not show; every other panel shows all points

    Raises:
        TrainingError: the file cannot be written
    """
    names = list(labels) or [""]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, panels = new_figure(PANEL * columns, (PANEL + 0.3) * rows, rows, columns)
    for index, axes in enumerate(np.atleast_1d(panels).flat):
        if index >= len(names):
            axes.set_axis_off()
            continue
        without = list(leave_out) if names[index] == "class" else []
        _draw_points(axes, points, labels.get(names[index]), without)
        heading = f"{names[index]}, without {', '.join(without)}" if without else names[index]
        axes.set_title(plain_text(heading), fontsize=11)
    figure.suptitle(plain_text(title), fontsize=12)
    return save_figure(figure, path)


def _draw_points(
    axes: Any, points: NDArray[np.float64], values: NDArray[Any] | None, without: Sequence[str] = ()
) -> None:
    """Draw points coloured by their values, with a legend for words and a colour bar for numbers."""
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
        _draw_words(axes, points, values, style, without)


def _draw_words(
    axes: Any, points: NDArray[np.float64], values: NDArray[Any], style: dict[str, Any], without: Sequence[str]
) -> None:
    from matplotlib import colormaps

    words = sorted(set(values.tolist()))
    palette = colormaps["tab10" if len(words) <= 10 else "hsv"]
    for number, word in enumerate(words):
        if word in without:
            continue  # the others keep the colours that they have in the other panels
        colour = palette(number if len(words) <= 10 else number / len(words))
        axes.scatter(*points[values == word].T, color=colour, label=plain_text(word or "unknown"), **style)
    if len(words) <= MOST_NAMED:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(4, len(words)), fontsize=8, frameon=False,
                    markerscale=1.5, handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    else:
        axes.set_xlabel(f"{len(words)} values", fontsize=8)
