"""``s3prl-emotion submit``: write predictions as SUPERB, EMO-SUPERB or a challenge has them, checked against lists."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.outputs import check_file, check_folder, new_folder, place_of
from s3prl_emotion.files.terminal import say

if TYPE_CHECKING:
    from s3prl_emotion.submit.sources import FoldRun

ARCHIVE = "predict.zip"  # as s3prl's own submit.py names it
FOLDER = "emo_superb"
CHALLENGES = ("odyssey2024", "is2025")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="a benchmark's directory, or experiment directories; for a challenge, CSV files of predict",
    )
    add("--fold", action="append", default=[], metavar="FOLD=DIR", help="a fold and its experiment directory")
    add("--system", help="which one to submit, of a benchmark with several")
    add("--upstream", help="which one to submit, of a benchmark with several")
    add("--seed", type=int, help="which one to submit, of a benchmark with several")
    add(
        "--format",
        choices=("superb", "emo-superb", *CHALLENGES),
        default="superb",
        help="(default: superb); odyssey2024 and is2025 are the MSP-Podcast challenges",
    )
    add(
        "--test_list",
        type=Path,
        metavar="LIST",
        help="of a challenge: its folder of audio (files with test3 in their names), a label table, or a text file",
    )
    add(
        "--meta_data",
        type=Path,
        metavar="DIR",
        help="SUPERB's lists, SessionN/{train,test}_meta_data.json; EMO-SUPERB's labels_consensus_N.csv "
        "(default: what the recipe names)",
    )
    add(
        "--out", type=Path, metavar="OUT", help=f"zip file, or folder for it or for CSVs (default: {ARCHIVE}, {FOLDER})"
    )


def run(args: Namespace) -> int:
    """Check the predictions, write the files, and print their scores and paths.

    Raises:
        UsageError: runs are missing, differ or are not from ``dev-best.ckpt``, or a file cannot be written
        LabelError: ids, labels or counts differ from those of the lists
    """
    from s3prl_emotion.corpora.protocol import SPEAKER_DEPENDENT, is_speaker_dependent
    from s3prl_emotion.submit.sources import Wanted, find_runs, missing_runs

    if args.format in CHALLENGES:
        return _challenge(args)
    if args.test_list is not None:
        raise UsageError(f"--test_list: is for --format {' or '.join(CHALLENGES)}; leave it out")
    if args.meta_data is not None and not args.meta_data.is_dir():
        raise UsageError(f"--meta_data {args.meta_data}: no such folder; give one with SUPERB's or EMO-SUPERB's lists")
    named = _named(args.fold)
    wanted = Wanted(args.system, args.upstream, args.seed)
    runs = find_runs(args.folders, named, wanted)
    for found in runs:
        if is_speaker_dependent(found.metrics) and args.format == "superb":
            raise UsageError(
                f"{found.expdir}: {SPEAKER_DEPENDENT} (datarc.protocol random), which SUPERB's folds are not"
            )
        if note := (found.metrics.get("protocol") or {}).get("note"):
            say(f"note: {found.fold}: {note}")
        if note := (found.metrics.get("seen") or {}).get("note"):
            say(f"note: {found.fold}: {note}")
    if args.format == "emo-superb":
        return _emo_superb(runs, args)
    return _superb(runs, args, missing_runs(args.folders, wanted))


def _named(words: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for word in words:
        fold, equals, folder = word.partition("=")
        if not (equals and fold and folder):
            raise UsageError(f"--fold {word}: not of the form FOLD=DIR, such as fold1=result/downstream/er_fold1")
        if fold in named:
            raise UsageError(f"--fold {word}: {fold} is given twice; name one directory for each fold")
        named[fold] = Path(folder)
    return named


def _superb(runs: Sequence[FoldRun], args: Namespace, unfinished: dict[str, str]) -> int:
    from s3prl_emotion.submit.superb import superb_submission

    out = args.out or Path(ARCHIVE)
    if out.is_dir() or (out.suffix.lower() != ".zip" and not place_of(out, label="--out ").is_stream):
        out = out / ARCHIVE
    check_file(out, parents=True)
    submission = superb_submission(runs, args.meta_data, unfinished)
    _write(out, submission.archive())
    for fold in submission.folds:
        say(f"{fold.fold}: {fold.utterances} utterances, accuracy {100 * fold.accuracy:.2f} %")
    total = sum(fold.utterances for fold in submission.folds)
    say(f"mean of the folds: {total} utterances, accuracy {100 * submission.accuracy:.2f} %")
    say(f"SUPERB track: {submission.track.name or 'none'} ({submission.track.reason or 'SUPERB has no such task'})")
    for note in submission.notes:
        say(f"note: {note}")
    say(str(out))
    return 0


def _emo_superb(runs: Sequence[FoldRun], args: Namespace) -> int:
    from s3prl_emotion.submit.emo_superb import emo_superb_files

    out = args.out or Path(FOLDER)
    check_folder(out)
    files = emo_superb_files(runs, args.meta_data)
    for fold in files.folds:
        _write(out / fold.name, fold.text.encode())
    for fold in files.folds:
        score = f"macro-F1 of classes above 1/K {fold.macro_f1:.4f}"
        say(f"{fold.fold}: {fold.utterances} utterances, {score}: {out / fold.name}")
    say(f"mean of the folds: {files.macro_f1:.4f}")
    say("EMO-SUPERB documents no format of predictions; these files have the columns of its label tables")
    return 0


def _challenge(args: Namespace) -> int:
    from s3prl_emotion.submit.msp_challenge import challenge_files

    unused = ("fold", "system", "upstream", "seed", "meta_data")
    given = next((name for name in unused if getattr(args, name) not in (None, [])), None)
    if given is not None:
        raise UsageError(f"--{given}: does not go with --format {args.format}; leave it out")
    if not args.folders:
        raise UsageError(f"--format {args.format}: name CSV files of predictions, which s3prl-emotion predict writes")
    if args.test_list is None:
        raise UsageError(
            f"--test_list is required for --format {args.format}: the challenge's folder of audio, or a list"
        )
    out = args.out or Path(args.format)
    check_folder(out)
    files = challenge_files(args.folders, args.test_list)
    for file in files:
        _write(out / f"{file.task}.csv", file.text.encode())
    for file in files:
        scores = "".join(f", {name} {value:.4f}" for name, value in file.scores.items())
        say(f"{file.task}: {file.utterances} utterances{scores}: {out / file.task}.csv")
        for note in file.notes:
            say(f"note: {file.task}: {note}")
    if any(file.task == "categorical" for file in files):
        say("the organisers publish no code that writes the categorical file; docs/howto/superb.md says what is known")
    return 0


def _write(path: Path, data: bytes) -> None:
    from s3prl_emotion.files.writing import write_bytes

    with new_folder(path.parent, "--out "):
        write_bytes(path, data, UsageError)
