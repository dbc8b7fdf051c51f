"""``s3prl-emotion superb``: one upstream on SUPERB's emotion task, from its lists and the audio to the submission."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_emotion.files.terminal import say
from s3prl_emotion.superb.protocol import LEARNING_RATES
from s3prl_emotion.upstreams.build import add_upstream_arguments

if TYPE_CHECKING:
    from s3prl_emotion.benchmark import Plan

SEED = 1337  # the default of run_downstream.py
DTYPES = ("float32", "float16", "bfloat16")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_upstream_arguments(parser)
    add = parser.add_argument
    add("--meta_data", type=Path, required=True, metavar="DIR",
        help="SUPERB's lists, SessionN/{train,test}_meta_data.json")  # fmt: skip
    add("--root", type=Path, required=True, metavar="DIR", help="IEMOCAP: the folder that holds Session1 to Session5")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for everything; the same command resumes in it")
    add("--learning_rates", type=float, nargs="+", default=LEARNING_RATES, metavar="LR",
        help="rates to try on dev of fold1 (default: SUPERB's, 1e-1 to 1e-7)")  # fmt: skip
    add("--steps", type=int, metavar="N", help="training steps of each run (default: SUPERB's 30000)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"rules the initialisation and the order ({SEED})")
    add("--feature_store", type=Path, metavar="DIR", help="feature store (default: OUT/store)")
    add("--store_dtype", choices=DTYPES, default=DTYPES[0], help="of the store: float32 is exact (default)")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: 1)")
    add("--retries", type=int, default=1, metavar="N", help="how often a failed run is tried again (default: 1)")
    add("--retry_failed", action="store_true", help="also repeat runs given up, or with a damaged dev-best.ckpt")
    add("--dry-run", action="store_true", help="list the runs, and predict the store's size and the time; run nothing")


def run(args: Namespace) -> int:
    """Run what is not finished, write the submission and the report, and print the scores.

    Returns:
        exit code: 1 where a fold failed

    Raises:
        UsageError: an option is out of range, or ``--out`` holds something else
        LabelError: the lists are not SUPERB's
        AudioError: audio is missing or unreadable
    """
    from s3prl_emotion.files.trust import children_trusting

    for name in ("meta_data", "root", "out", "feature_store"):
        value = getattr(args, name)
        setattr(args, name, None if value is None else value.expanduser())
    with children_trusting(args.trust_upstream):
        return _run(args)


def _run(args: Namespace) -> int:
    from s3prl_emotion import host
    from s3prl_emotion.benchmark import Plan, run_matrix
    from s3prl_emotion.benchmark.command import HINT, say_failures
    from s3prl_emotion.devices import check_device
    from s3prl_emotion.files.outputs import check_folder
    from s3prl_emotion.superb.folder import check_own
    from s3prl_emotion.superb.outcome import lines, write_outcome
    from s3prl_emotion.superb.protocol import superb_matrix

    if args.device is not None:
        check_device(args.device)
    plan = Plan(superb_matrix(args), args.out)
    check_folder(args.out)
    check_own(plan, args.out)
    host.register()
    host.register_search_path(args.upstream_path)
    host.find_upstream(args.upstream)
    if args.dry_run:
        from s3prl_emotion.benchmark.dry_run.preview import preview

        preview(plan, args.jobs or 1, args.device, args.retries)
        return 0
    options = {"retries": args.retries, "retry_failed": args.retry_failed}
    summary = run_matrix(plan, args.jobs, args.device, before=lambda: _extract(plan, args), **options)
    say_failures(summary)  # a learning rate that cannot be trained is out, and hinders nothing
    finished = len(summary.finished) + len(summary.skipped)
    if finished < len(plan.runs):
        say(f"{args.out}: {finished} of {len(plan.runs)} folds finished; {HINT}")
        return 1
    say(*lines(write_outcome(args.out, args.meta_data), args.out))
    return 0


def _extract(plan: Plan, args: Namespace) -> None:
    """Compute and store the features that the store lacks, unless all runs are finished."""
    from s3prl_emotion.benchmark.records import RESULTS, finished_runs, read_lines
    from s3prl_emotion.benchmark.scheduler import is_finished
    from s3prl_emotion.extract.filling import extract
    from s3prl_emotion.store.means import MEANS
    from s3prl_emotion.superb.protocol import utterances_of
    from s3prl_emotion.upstreams.build import build_source

    done = finished_runs(read_lines(plan.out / RESULTS))
    if all(is_finished(run, done) for run in plan.runs):
        return
    _, args.feature_store, *_ = plan.runs[0].store_flags
    source = build_source(args)
    try:
        extract(source, utterances_of(args.meta_data, args.root), keep=MEANS)  # all that mean pooling reads
    finally:
        source.close()
