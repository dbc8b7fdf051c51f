"""Read the predictions of a fold strictly, and compare them with the list of utterances to predict."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_emotion.audio.segments import list_name
from s3prl_emotion.errors import LabelError, UsageError, nearest
from s3prl_emotion.submit.sources import FoldRun

TOLERANCE = 1e-5  # for probabilities, which the file has with seven digits
WA_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Prediction:
    """The prediction for an utterance: true class, predicted class, and probability by class."""

    name: str
    truth: str
    label: str
    probability: dict[str, float]

    @property
    def id(self) -> str:
        """Stem of the file, the utterance's name in SUPERB's files."""
        return stem(self.name)


def stem(name: str) -> str:
    """Return the stem of a file name in a table or list; a segment keeps its whole name."""
    return list_name(name)


def read_predictions(run: FoldRun) -> list[Prediction]:
    """Read and check the predictions file of a run.

    Returns:
        the predictions in the order of the file

    Raises:
        UsageError: the file is damaged, or from another evaluation than the metrics file beside it
    """
    path = run.predictions
    header, rows = _read(path)
    for column in ("FileName", "truth", "prediction"):
        if column not in header:
            raise UsageError(
                f"{path}: no column {column}{nearest(column, header)}; submit the run of a head with classes"
            )
    classes = [column.removeprefix("p_") for column in header if column.startswith("p_")]
    predictions = [_prediction(path, number, dict(zip(header, row, strict=True)), classes) for number, row in rows]
    _check_metrics(run, predictions)
    return predictions


def check_ids(
    run: FoldRun, predictions: Sequence[Prediction], listed: Sequence[str], elsewhere: Mapping[str, str], of: str
) -> dict[str, Prediction]:
    """Check that each listed utterance was predicted once, and no other.

    Args:
        run: run of the predictions
        predictions: the predictions
        listed: ids of the utterances to predict, the stems of their files
        elsewhere: fold of each id in the list of another fold
        of: name of the list in messages

    Returns:
        predictions by id, in the order of the list

    Raises:
        LabelError: utterances are missing, not listed, or predicted twice; the message has their number and the first
    """
    by_id: dict[str, Prediction] = {}
    for item in predictions:
        if item.id in by_id:
            raise LabelError(f"{run.predictions}: {item.id} is predicted twice; evaluate again")
        by_id[item.id] = item
    known = set(listed)
    foreign = [name for name in by_id if name not in known]
    if foreign:
        fold = elsewhere.get(foreign[0])
        swapped = f" ({fold} tests it; are the folds swapped?)" if fold else ""
        raise LabelError(
            f"{run.predictions}: {len(foreign)} of {len(by_id)} utterances are not in {of}: {foreign[0]}{swapped}"
        )
    missing = [name for name in listed if name not in by_id]
    if missing:
        raise LabelError(f"{run.predictions}: {len(missing)} of {len(listed)} in {of} are missing: {missing[0]}")
    return {name: by_id[name] for name in listed}


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and every other row with its line number."""
    try:
        text = path.read_bytes().decode("utf-8")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not readable as CSV ({error}); evaluate again") from error
    if len(rows) < 2:
        raise UsageError(f"{path}: holds no predictions; evaluate again")
    if not text.endswith("\n"):
        raise UsageError(f"{path}: ends in the middle of line {rows[-1][0]}; evaluate again")
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise UsageError(f"{path} line {number}: {len(row)} fields, the header names {len(header)}; evaluate again")
    return header, rows[1:]


def _prediction(path: Path, number: int, row: dict[str, str], classes: Sequence[str]) -> Prediction:
    utterance = row.get("Utterance", row["FileName"])  # of segments, FileName is that of their file
    if not stem(utterance):
        raise UsageError(f"{path} line {number}: FileName is empty")
    where = f"{path} line {number}: {stem(utterance)}"
    try:
        probability = {name: float(row[f"p_{name}"]) for name in classes}
    except ValueError as error:
        raise UsageError(f"{where}: a probability is not a number ({error})") from error
    values = list(probability.values())
    if not all(math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise UsageError(f"{where}: probabilities must lie in 0..1, got {values}")
    if values and abs(sum(values) - 1) > TOLERANCE * len(values):
        raise UsageError(f"{where}: the probabilities sum to {sum(values):.6g}, not to 1")
    return Prediction(utterance, row["truth"], row["prediction"], probability)


def _check_metrics(run: FoldRun, predictions: Sequence[Prediction]) -> None:
    """Raise an error if the metrics are of another evaluation, as after one that was killed between the two files."""
    evaluated = run.metrics.get("evaluated_classes")  # heads that learn the graders' distribution evaluate fewer rows
    counted = [item for item in predictions if evaluated is None or item.truth in evaluated]
    hits = sum(item.truth == item.label for item in counted)
    accuracy = run.metrics.get("WA")
    if not counted or not isinstance(accuracy, (int, float)) or abs(hits / len(counted) - accuracy) > WA_TOLERANCE:
        raise UsageError(
            f"{run.predictions}: {hits} of {len(counted)} are right, but the metrics file beside it has WA {accuracy}; "
            "evaluate again"
        )
