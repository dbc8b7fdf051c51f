"""``s3prl-emotion benchmark``: run a matrix of systems x upstreams x folds x seeds, and go on where it stopped."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    parser.add_argument("matrix", type=Path, metavar="MATRIX.yaml", help="what to run (kind: matrix)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where runs and results.jsonl go")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--device", help="cuda where there is one, else cpu")


def run(args: Namespace) -> int:
    """Run what is not finished; exit code 1 where a run failed."""
    from s3prl_emotion.benchmark import Plan, read_matrix, run_matrix

    summary = run_matrix(Plan(read_matrix(args.matrix), args.out), args.jobs, args.device)
    for name, error in summary.failed.items():
        sys.stdout.write(f"failed: {name}: {error}\n")
    counts = f"{len(summary.finished)} runs finished, {len(summary.skipped)} were there, {len(summary.failed)} failed"
    hint = "the same command tries again what failed" if summary.failed else f"s3prl-emotion report {args.out}"
    sys.stdout.write(f"{args.out}: {counts}; {hint}\n")
    return 1 if summary.failed else 0
