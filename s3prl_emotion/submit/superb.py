"""Make the submission of SUPERB's ER task: a zip of ``predict/er_fold{1..5}_public/predict.txt``.

Its lines are ``<wav stem> <class>``. The layout is that of s3prl's own ``submit/submit.py``, which copies each fold's
``test_foldN_predict.txt`` unchecked. SUPERB scores the task only with all five folds.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_emotion.corpora.superb import drawn_validation, read_entries
from s3prl_emotion.errors import LabelError, UsageError, nearest
from s3prl_emotion.report.superb_track import CONSTRAINED, LESS_CONSTRAINED, Track, superb_track
from s3prl_emotion.submit.agreement import check_agreement
from s3prl_emotion.submit.predictions import Prediction, check_ids, read_predictions, stem
from s3prl_emotion.submit.sources import FoldRun, check_best

CLASSES = ("neu", "hap", "ang", "sad")
UTTERANCES = {"fold1": 1085, "fold2": 1023, "fold3": 1151, "fold4": 1031, "fold5": 1241}  # in SUPERB's test lists
FOLDS = tuple(UTTERANCES)
VALID_RATIO = 0.2
EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest time of a zip entry; a fixed one gives equal bytes for equal predictions


@dataclass(frozen=True)
class FoldScore:
    """A fold of a submission: ``text`` of its ``predict.txt``, and ``accuracy`` against the labels of the list."""

    fold: str
    utterances: int
    accuracy: float
    text: str


@dataclass(frozen=True)
class SuperbSubmission:
    """A submission that has passed all checks."""

    folds: tuple[FoldScore, ...]
    track: Track
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the folds, as SUPERB reports it."""
        return sum(fold.accuracy for fold in self.folds) / len(self.folds)

    def archive(self) -> bytes:
        """Return the zip file; it is uncompressed and has no times, so equal predictions give equal bytes."""
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
            for fold in self.folds:
                entry = zipfile.ZipInfo(f"predict/er_{fold.fold}_public/predict.txt", EPOCH)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                archive.writestr(entry, fold.text)
        return data.getvalue()


def superb_submission(
    runs: Sequence[FoldRun], meta_data: Path | None, unfinished: dict[str, str] | None = None
) -> SuperbSubmission:
    """Check five folds against SUPERB's lists, and make their submission.

    Args:
        runs: one run for each fold
        meta_data: folder of SUPERB's lists, ``SessionN/{train,test}_meta_data.json``, or ``None`` for the recipe's
        unfinished: runs of the benchmark that are not finished, each with the reason

    Raises:
        UsageError: a fold is missing or occurs twice, predictions are not from ``dev-best.ckpt`` or damaged, or the
            folds were made differently
        LabelError: an id, a label or a count differs from that of the list
    """
    by_fold = _five_folds(runs, unfinished or {})
    for run in by_fold.values():
        check_best(run)
    check_agreement(by_fold)
    lists = {fold: _test_list(meta_data or _own_lists(run), fold) for fold, run in by_fold.items()}
    fold_of = {name: fold for fold, listed in lists.items() for name in listed}
    scores = tuple(_score(run, lists[fold], fold_of) for fold, run in by_fold.items())
    counts = {score.fold: score.utterances for score in scores}
    return SuperbSubmission(scores, _track(by_fold, meta_data), lists_note(counts))


def check_lists(folder: Path) -> dict[str, int]:
    """Check that a folder holds the test lists of SUPERB's five folds; return the number of utterances of each.

    Raises:
        LabelError: a list is missing or malformed, has other classes, or lists an id twice
    """
    return {fold: len(_test_list(folder, fold)) for fold in FOLDS}


def lists_note(counts: dict[str, int]) -> tuple[str, ...]:
    """Return a note if lists that test so many utterances of each fold are not SUPERB's own, else none."""
    if counts == UTTERANCES:
        return ()
    total, own = sum(counts.values()), sum(UTTERANCES.values())
    return (f"the lists are not SUPERB's own, which test {own} utterances: these test {total}",)


def _five_folds(runs: Sequence[FoldRun], unfinished: dict[str, str]) -> dict[str, FoldRun]:
    by_fold: dict[str, FoldRun] = {}
    for run in runs:
        if run.fold not in FOLDS:
            raise UsageError(f"{run.expdir}: SUPERB has no fold {run.fold!r}{nearest(run.fold, FOLDS)}")
        if run.named not in (None, run.fold):
            raise UsageError(f"--fold {run.named}={run.expdir}: holds {run.fold}; name the directory of {run.named}")
        if run.fold in by_fold:
            raise UsageError(f"{run.fold} occurs twice: {by_fold[run.fold].expdir} and {run.expdir}; give one of them")
        by_fold[run.fold] = run
    missing = [fold for fold in FOLDS if fold not in by_fold]
    if missing:
        reasons = {name: reason for name, reason in unfinished.items() if set(missing) & set(name.split(" | "))}
        why = "".join(f"; {name}: {reason}" for name, reason in reasons.items())
        raise UsageError(
            f"no predictions of {', '.join(missing)}; SUPERB scores the task only with all five folds{why}"
        )
    return {fold: by_fold[fold] for fold in FOLDS}


def _own_lists(run: FoldRun) -> Path:
    folder = Path(str(run.data.get("labels"))).expanduser()
    if not (folder / "Session1").is_dir():
        raise UsageError(f"{run.expdir}: {folder} holds no Session1: give SUPERB's lists with --meta_data DIR")
    return folder


def _session(folder: Path, fold: str, split: str) -> Path:
    return folder / fold.replace("fold", "Session") / f"{split}_meta_data.json"


def _test_list(folder: Path, fold: str) -> dict[str, str]:
    """Return the class of every id, in the order of the list."""
    path = _session(folder, fold, "test")
    labels, entries = read_entries(path)
    if set(labels) != set(CLASSES):
        raise LabelError(f"{path}: has classes {', '.join(labels)}, but SUPERB's are {', '.join(CLASSES)}")
    listed: dict[str, str] = {}
    for name, label, _ in entries:
        if stem(name) in listed:
            raise LabelError(f"{path}: {stem(name)} is listed twice")
        listed[stem(name)] = label
    return listed


def _score(run: FoldRun, listed: dict[str, str], fold_of: dict[str, str]) -> FoldScore:
    predictions = read_predictions(run)
    for item in predictions:
        if item.label not in CLASSES:
            known = ", ".join(CLASSES)
            raise LabelError(f"{run.predictions}: {item.id} is predicted as {item.label!r}; SUPERB's classes: {known}")
    elsewhere = {name: fold for name, fold in fold_of.items() if fold != run.fold}
    ordered = check_ids(run, predictions, list(listed), elsewhere, f"SUPERB's test list of {run.fold}")
    for name, item in ordered.items():
        if item.truth != listed[name]:
            raise LabelError(f"{run.predictions}: {name} has class {item.truth!r}, SUPERB's list says {listed[name]!r}")
    hits = sum(item.label == listed[name] for name, item in ordered.items())
    return FoldScore(run.fold, len(ordered), hits / len(ordered), _lines(ordered))


def _lines(predictions: dict[str, Prediction]) -> str:
    return "".join(f"{name} {item.label}\n" for name, item in predictions.items())


def _track(runs: dict[str, FoldRun], meta_data: Path | None) -> Track:
    """Return the recipe's track; it is the constrained one only if the validation sets are SUPERB's as well."""
    first = next(iter(runs.values()))
    track = superb_track(first.metrics.get("head"), first.config, first.metrics.get("upstream"))
    if track.name != CONSTRAINED:
        return track
    for fold, run in runs.items():
        path = run.expdir / f"dev_{fold}_predict.txt"
        listed = read_entries(_session(meta_data or _own_lists(run), fold, "train"))[1]
        expected = {stem(listed[index][0]) for index in drawn_validation(len(listed), VALID_RATIO)[1]}
        try:
            used = {line.partition(" ")[0] for line in path.read_text(encoding="utf-8").splitlines()}
        except (OSError, UnicodeDecodeError):
            return Track(LESS_CONSTRAINED, f"mean pooling, but without {path} nothing shows that dev was SUPERB's")
        if used != expected:
            return Track(LESS_CONSTRAINED, f"mean pooling, but dev of {fold} is not what SUPERB draws for validation")
    return track
