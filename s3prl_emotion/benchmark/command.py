"""``s3prl-emotion benchmark``: run a matrix of systems x upstreams x folds x seeds; an interrupted one is resumed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_emotion.files.terminal import say

if TYPE_CHECKING:
    from s3prl_emotion.benchmark import Summary

HINT = "the same command resumes interrupted runs; --retry_failed tries failed ones again"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("matrix", type=Path, metavar="MATRIX.yaml", help="what to run (kind: matrix)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the runs and results.jsonl")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: 1; with Ray, as many as resources allow)")
    add("--device", help="cuda where there is one, else cpu; with several GPUs and cuda, jobs take turns on them")
    add("--executor", choices=("local", "ray"), default="local", help="this machine's processes, or Ray")
    add("--ray-address", metavar="HOST:PORT", help="a running Ray cluster, or auto (default: start one)")
    add("--retries", type=int, default=1, metavar="N", help="how often a failed run is tried again (default: 1)")
    add("--retry_failed", action="store_true", help="also repeat runs given up, or with a damaged dev-best.ckpt")
    add("--isolate", action="store_true", help="start each run in a fresh interpreter, which takes seconds more")
    add("--trust_upstream", action="store_true", help="load upstreams' files even if they are pickles, as in a run")
    add("--allow_seen", action="store_true", help="test runs also on what they were trained on; results then say so")
    add("--dry-run", action="store_true", help="list the runs, and predict the store's size and the time; run nothing")
    add("--no_measure", action="store_true", help="--dry-run without measuring steps: list only")


def run(args: Namespace) -> int:
    """Run what is not finished, and return the exit code: 1 where a run failed."""
    from s3prl_emotion.files.trust import children_trusting

    with children_trusting(args.trust_upstream):
        return _run(args)


def _run(args: Namespace) -> int:
    from s3prl_emotion.benchmark import Plan, read_matrix, run_matrix
    from s3prl_emotion.errors import UsageError

    plan = Plan(read_matrix(args.matrix), args.out, args.allow_seen)
    if args.dry_run:
        from s3prl_emotion.benchmark.dry_run.preview import preview

        preview(plan, args.jobs or 1, args.device, args.retries, measured=not args.no_measure)
        return 0
    if args.no_measure:
        raise UsageError("--no_measure needs --dry-run")
    options = {name: getattr(args, name) for name in ("executor", "ray_address", "retries", "retry_failed", "isolate")}
    summary = run_matrix(plan, args.jobs, args.device, **options)
    for name, choice in summary.choices.items():
        scores = ", ".join(
            f"{rate}: {'failed' if score is None else f'{score:.4f}'}" for rate, score in choice.tried.items()
        )
        say(f"learning rate: {name}: {choice.rate} ({choice.metric} on dev: {scores})")
    failed = say_failures(summary)
    counts = f"{len(summary.finished)} runs finished, {len(summary.skipped)} were finished before, {failed} failed"
    hint = HINT if failed else f"s3prl-emotion report {args.out}"
    say(f"{args.out}: {counts}; {hint}")
    return 1 if failed else 0


def say_failures(summary: Summary) -> int:
    """Print what failed, and return the number of failed runs."""
    for name, error in summary.failed.items():
        say(f"failed: {name}: {error}")
    for name, error in summary.given_up.items():
        say(f"failed before: {name}: {error}")
    return len(summary.failed) + len(summary.given_up)
