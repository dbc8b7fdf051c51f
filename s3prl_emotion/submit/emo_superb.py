"""Make EMO-SUPERB-style prediction files: for each fold a CSV with FileName and the probability of every class.

EMO-SUPERB (Wu et al. 2024) publishes its partitions as ``labels_consensus_N.csv`` with FileName, one column for each
class, and Split_Set. Its README documents training and evaluation, but no format of predictions. These files have the
names, the order of rows and the class columns of those tables, with the head's probabilities in place of the graders'
shares, so that EMO-SUPERB's score (macro-F1 of the classes above 1/K) can be computed from both. Whether its
leaderboard accepts them as they are could not be verified.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.submit.agreement import check_agreement
from s3prl_emotion.submit.predictions import Prediction, check_ids, read_predictions, stem
from s3prl_emotion.submit.sources import SPLIT, FoldRun, check_best

TABLE = re.compile(r"labels_consensus_(\d+)\.csv(\.gz)?")


@dataclass(frozen=True)
class FoldFile:
    """The file of a fold; ``macro_f1`` is EMO-SUPERB's score."""

    fold: str
    utterances: int
    macro_f1: float
    text: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{SPLIT}_{self.fold}.csv"


@dataclass(frozen=True)
class EmoSuperbFiles:
    """The files of all folds, which passed all checks."""

    folds: tuple[FoldFile, ...]

    @property
    def macro_f1(self) -> float:
        """Mean over the folds."""
        return sum(fold.macro_f1 for fold in self.folds) / len(self.folds)


def emo_superb_files(runs: Sequence[FoldRun], tables: Path | None) -> EmoSuperbFiles:
    """Check the folds against EMO-SUPERB's label tables, and make their files.

    The fold of a run is the number of the table that it was trained on. Such a table has official partitions, so the
    run's own files know only one fold. Runs on other tables have the fold that ``--fold`` names, or else their own.

    Args:
        runs: one run for each fold
        tables: folder of ``labels_consensus_N.csv``, or ``None`` for the tables that the recipes name

    Raises:
        UsageError: a fold is missing or occurs twice, predictions are not from ``dev-best.ckpt`` or damaged, or the
            folds were made differently
        LabelError: utterances or classes differ from those of the table
    """
    by_fold: dict[str, FoldRun] = {}
    for run in runs:
        fold = _fold_of(run)
        if fold in by_fold:
            raise UsageError(f"{fold} occurs twice: {by_fold[fold].expdir} and {run.expdir}; name them with --fold")
        by_fold[fold] = run
    lists = {fold: _lists(run, tables) for fold, run in by_fold.items()}
    published = sorted({fold for known in lists.values() for fold in known}, key=_number)
    missing = [fold for fold in published if fold not in by_fold]
    if missing:
        raise UsageError(
            f"no predictions of {', '.join(missing)}, but there are tables of {', '.join(published)}; train them too"
        )
    for run in by_fold.values():
        check_best(run)
    check_agreement(by_fold)
    files = [_fold_file(fold, run, _table(fold, run, lists[fold])) for fold, run in by_fold.items()]
    files.sort(key=lambda file: _number(file.fold))
    return EmoSuperbFiles(tuple(files))


def _number(fold: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", fold)
    return int(digits or 0), fold


def _own_table(run: FoldRun) -> Path:
    return Path(str(run.data.get("labels"))).expanduser()


def _fold_of(run: FoldRun) -> str:
    match = TABLE.fullmatch(_own_table(run).name)
    fold = f"fold{match.group(1)}" if match else run.named or run.fold
    if run.named not in (None, fold):
        raise UsageError(f"--fold {run.named}={run.expdir}: was trained on {_own_table(run).name}; name it {fold}")
    return fold


def _lists(run: FoldRun, tables: Path | None) -> dict[str, Path]:
    """Return EMO-SUPERB's tables by fold; empty if the run's table has another name."""
    folder = tables or _own_table(run).parent
    matches = {path: TABLE.fullmatch(path.name) for path in sorted(folder.glob("labels_consensus_*"))}
    by_fold = {f"fold{match.group(1)}": path for path, match in matches.items() if match}
    if tables is not None and not by_fold:
        raise UsageError(f"{tables}: holds no labels_consensus_N.csv; give EMO-SUPERB's folder with --meta_data")
    return by_fold if tables or TABLE.fullmatch(_own_table(run).name) else {}


def _table(fold: str, run: FoldRun, lists: dict[str, Path]) -> Path:
    if fold in lists:
        return lists[fold]
    if lists:
        raise UsageError(
            f"{run.expdir}: there is no table of {fold}, only of {', '.join(lists)}; name the fold with --fold"
        )
    if not _own_table(run).is_file():
        raise UsageError(
            f"{run.expdir}: its label table {_own_table(run)} does not exist; give a folder of tables with --meta_data"
        )
    return _own_table(run)


def _fold_file(fold: str, run: FoldRun, path: Path) -> FoldFile:
    from s3prl_emotion.metrics.distribution import threshold_f1

    predictions = read_predictions(run)
    table, classes = _test_rows(path, fold, predictions[0])
    ids = [stem(name) for name in table["FileName"]]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise LabelError(f"{path}: {twice[0]} is listed twice; remove one row")
    ordered = check_ids(run, predictions, ids, {}, f"the test rows of {path}")
    rows = [[item.probability[name] for name in classes] for item in ordered.values()]
    shares = table[classes].astype(float).to_numpy()
    score = threshold_f1(shares, _normalised(rows), classes)["macro_f1"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["FileName", *classes])
    for name, row in zip(table["FileName"], rows, strict=True):
        writer.writerow([name, *(f"{value:.7g}" for value in row)])
    return FoldFile(fold, len(rows), score, text.getvalue())


def _normalised(rows: list[list[float]]) -> Any:
    """Return the probabilities divided by their sums, since the file has seven digits of each."""
    import numpy as np

    array = np.asarray(rows)
    return array / array.sum(axis=1, keepdims=True)


def _test_rows(path: Path, fold: str, example: Prediction) -> tuple[Any, list[str]]:
    """Return the test rows of the table, and its class columns in their order."""
    from s3prl_emotion.corpora.class_names import SHARE_NAMES
    from s3prl_emotion.corpora.label_table import TEXT_COLUMNS, read_rows
    from s3prl_emotion.corpora.segment_columns import name_segments

    table = name_segments(read_rows(path, dict.fromkeys(TEXT_COLUMNS, str)), path)
    for column in ("FileName", "Split_Set" if "Fold" not in table else "Fold"):
        if column not in table:
            raise LabelError(f"{path}: no column {column}; is it one of EMO-SUPERB's label tables?")
    predicted = list(example.probability)
    classes = [name for name in table.columns if name in predicted or name.lower() in SHARE_NAMES]
    if set(classes) != set(predicted):
        raise LabelError(
            f"{path}: has shares of {', '.join(classes) or 'no class'}, but the head predicts {', '.join(predicted)}; "
            "the classes must be the same"
        )
    if "Fold" in table:
        rows = table[table["Fold"] == fold]
    else:
        partitions = sorted({str(name) for name in table["Split_Set"] if str(name).lower().startswith("test")})
        rows = table[table["Split_Set"].isin(partitions[:1])]
    if rows.empty:
        raise LabelError(f"{path}: no test rows in {fold}; is it the table of this fold?")
    return rows, classes
