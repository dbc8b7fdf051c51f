"""``s3prl-emotion extract``: fill a feature store before training."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

from s3prl_emotion.corpora import list_utterances
from s3prl_emotion.errors import UsageError
from s3prl_emotion.extract.filling import extract
from s3prl_emotion.files.terminal import say
from s3prl_emotion.processes.processors import check_workers
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=True)
    add_corpus_arguments(parser)
    parser.add_argument(
        "--batch_seconds",
        type=float,
        metavar="S",
        help="batches of similar lengths with at most S seconds of padded audio",
    )
    parser.add_argument(
        "--max_duration", type=float, metavar="S", help="datarc.max_duration (s): store longer audio cut to it, too"
    )
    parser.add_argument(
        "--cut_eval",
        action="store_true",
        help="datarc.cut_eval: store audio longer than --max_duration only cut to it, as evaluation cuts it too",
    )
    parser.add_argument("--num_workers", type=int, default=0, help="processes that decode audio")


def add_corpus_arguments(parser: ArgumentParser) -> None:
    """Declare the corpus's flags, named as in ``datarc``."""
    parser.add_argument("--labels", required=True, help="label table, SUPERB's meta_data folder, or demo")
    parser.add_argument("--root", help="audio folder")
    parser.add_argument("--allow_outside", action="store_true", help="read also files that lie outside of --root")


def read_corpus_arguments(args: Namespace) -> DataSection:
    """Return the flags as ``datarc``."""
    options = {"labels": args.labels, "root": args.root, "allow_outside": args.allow_outside}
    return DataSection(**options, train_batch_size=1, eval_batch_size=1)


def run(args: Namespace) -> int:
    """Extract, and print what was done."""
    for name in ("batch_seconds", "max_duration"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: must be above 0 s")
    check_workers(args.num_workers, "--num_workers")
    if args.cut_eval and args.max_duration is None:
        raise UsageError("--cut_eval needs --max_duration, the length to which audio is cut (s)")
    utterances = list_utterances(read_corpus_arguments(args))
    source = build_source(args, batched=args.batch_seconds is not None)
    done = extract(source, utterances, args.max_duration, args.batch_seconds, args.num_workers, args.cut_eval)
    speed = done.audio_seconds / max(done.wall_seconds, 1e-9)
    store = source.required_store()
    say(
        f"{done.utterances} utterances: {done.computed} computed ({done.audio_seconds:.0f} s of audio, {speed:.1f} s "
        f"per second), the others were stored already; {store.folder}"
    )
    store.close()
    return 0
