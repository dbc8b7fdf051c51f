"""``s3prl-emotion report``: tables, figures and one HTML page about a benchmark or about experiments."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.terminal import say

MIN_RESAMPLES = 1000  # fewer say little about the tails


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="a benchmark's directory, or experiment directories, which are compared with the first one",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: DIR; of several, report)")
    parser.add_argument(
        "--resamples", type=int, default=10_000, metavar="N", help="resamples of the bootstrap and of permutation tests"
    )


def run(args: Namespace) -> int:
    """Read the folders, write the report, and print its files."""
    if args.resamples < MIN_RESAMPLES:
        raise UsageError(f"--resamples {args.resamples}: at least {MIN_RESAMPLES}, or 95 % intervals mean nothing")
    from s3prl_emotion.files.outputs import check_folder
    from s3prl_emotion.report import analyse, load_study, write_report

    study = load_study(args.folders)
    out = args.out or study.folder or Path("report")
    check_folder(out)
    analysis = analyse(study, args.resamples)
    files = write_report(analysis, out)
    if study.missing:
        say(f"{len(study.missing)} of {len(study.missing) + len(study.runs)} runs are missing")
    figures = [path for path in files if path.suffix == ".svg"]
    say(*(str(path) for path in files if path not in figures), f"{out / 'figures'}: {len(figures)} figures")
    return 0
