"""A fold's predictions: read strictly, and held against the list of what should have been predicted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from s3prl_emotion.errors import LabelError, UsageError, nearest
from s3prl_emotion.submit.sources import FoldRun

TOLERANCE = 1e-5  # of probabilities, which the file has with seven digits
WA_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Prediction:
    """What was predicted of an utterance; ``probability`` by class."""

    name: str
    truth: str
    label: str
    probability: dict[str, float]

    @property
    def id(self) -> str:
        """The file's stem, by which SUPERB knows it."""
        return stem(self.name)


def stem(name: str) -> str:
    """The stem of a file that a table or list names."""
    return PurePosixPath(name).stem


def read_predictions(run: FoldRun) -> list[Prediction]:
    """Read and check the file of a run.

    Returns:
        in the file's order

    Raises:
        UsageError: damaged, or of another evaluation than the metrics file beside it
    """
    path = run.predictions
    header, rows = _read(path)
    for column in ("FileName", "truth", "prediction"):
        if column not in header:
            raise UsageError(f"{path}: no column {column}{nearest(column, header)}; is it of a head with classes?")
    classes = [column.removeprefix("p_") for column in header if column.startswith("p_")]
    found = [_prediction(path, number, dict(zip(header, row, strict=True)), classes) for number, row in rows]
    _check_metrics(run, found)
    return found


def check_ids(
    run: FoldRun, predictions: Sequence[Prediction], listed: Sequence[str], elsewhere: Mapping[str, str], of: str
) -> dict[str, Prediction]:
    """Every listed utterance must have been predicted once, and no other.

    Args:
        run: that the predictions are of
        predictions: as read
        listed: ids, the files' stems
        elsewhere: the fold of every id that another fold's list holds
        of: what the ids are of, for messages

    Returns:
        predictions by id, in the list's order

    Raises:
        LabelError: says how many are missing, foreign or there twice, and the first of them
    """
    by_id: dict[str, Prediction] = {}
    for item in predictions:
        if item.id in by_id:
            raise LabelError(f"{run.predictions}: {item.id} is predicted twice")
        by_id[item.id] = item
    known = set(listed)
    foreign = [name for name in by_id if name not in known]
    if foreign:
        place = elsewhere.get(foreign[0])
        swapped = f" ({place} tests it; are the folds swapped?)" if place else ""
        raise LabelError(
            f"{run.predictions}: {len(foreign)} of {len(by_id)} utterances are not in {of}: {foreign[0]}{swapped}"
        )
    missing = [name for name in listed if name not in by_id]
    if missing:
        raise LabelError(f"{run.predictions}: {len(missing)} of {len(listed)} in {of} are missing: {missing[0]}")
    return {name: by_id[name] for name in listed}


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and every other row with its line number."""
    try:
        text = path.read_bytes().decode("utf-8")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not readable as CSV: {error}") from error
    if len(rows) < 2:
        raise UsageError(f"{path}: holds no predictions")
    if not text.endswith("\n"):
        raise UsageError(f"{path}: ends in the middle of line {rows[-1][0]}; evaluate again")
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise UsageError(f"{path} line {number}: {len(row)} fields, the header names {len(header)}; evaluate again")
    return header, rows[1:]


def _prediction(path: Path, number: int, row: dict[str, str], classes: Sequence[str]) -> Prediction:
    if not stem(row["FileName"]):
        raise UsageError(f"{path} line {number}: FileName is empty")
    where = f"{path} line {number}: {stem(row['FileName'])}"
    try:
        probability = {name: float(row[f"p_{name}"]) for name in classes}
    except ValueError as error:
        raise UsageError(f"{where}: a probability is not a number ({error})") from error
    values = list(probability.values())
    if not all(math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise UsageError(f"{where}: probabilities must lie in 0..1, got {values}")
    if values and abs(sum(values) - 1) > TOLERANCE * len(values):
        raise UsageError(f"{where}: the probabilities sum to {sum(values):.6g}, not to 1")
    return Prediction(row["FileName"], row["truth"], row["prediction"], probability)


def _check_metrics(run: FoldRun, predictions: Sequence[Prediction]) -> None:
    """Files of two evaluations lie side by side where one was ended between them."""
    evaluated = run.metrics.get("evaluated_classes")  # heads that learn the graders' distribution judge fewer rows
    counted = [item for item in predictions if evaluated is None or item.truth in evaluated]
    hits = sum(item.truth == item.label for item in counted)
    told = run.metrics.get("WA")
    if not counted or not isinstance(told, (int, float)) or abs(hits / len(counted) - told) > WA_TOLERANCE:
        raise UsageError(
            f"{run.predictions}: {hits} of {len(counted)} are right, but the metrics file beside it has WA {told}; "
            "evaluate again"
        )
