"""``s3prl-emotion extract``: fill a feature store ahead of training."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace

from s3prl_emotion.corpora import list_utterances
from s3prl_emotion.errors import UsageError
from s3prl_emotion.extract.filling import extract
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=True)
    add_corpus_arguments(parser)
    parser.add_argument(
        "--batch_seconds", type=float, metavar="S", help="batches of like lengths with so much padded audio (s)"
    )
    parser.add_argument("--max_duration", type=float, metavar="S", help="datarc.max_duration (s): kept cut as well")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that decode audio")


def add_corpus_arguments(parser: ArgumentParser) -> None:
    """Declare the corpus's flags: ``datarc``'s names."""
    parser.add_argument("--labels", required=True, help="label table, SUPERB's meta_data folder, or demo")
    parser.add_argument("--root", help="audio folder")


def read_corpus_arguments(args: Namespace) -> DataSection:
    """``datarc`` as the flags have it."""
    return DataSection(labels=args.labels, root=args.root, train_batch_size=1, eval_batch_size=1)


def run(args: Namespace) -> int:
    """Extract, and say what was done."""
    for name in ("batch_seconds", "max_duration"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: must be above 0 s")
    if args.num_workers < 0:
        raise UsageError(f"--num_workers {args.num_workers}: must be 0 or more")
    utterances = list_utterances(read_corpus_arguments(args))
    source = build_source(args, batched=args.batch_seconds is not None)
    done = extract(source, utterances, args.max_duration, args.batch_seconds, args.num_workers)
    speed = done.audio_seconds / max(done.wall_seconds, 1e-9)
    store = source.store_of()
    sys.stdout.write(
        f"{done.utterances} utterances: {done.computed} computed ({done.audio_seconds:.0f} s of audio, {speed:.1f} s a "
        f"second), the others were there; {store.folder}\n"
    )
    store.close()
    return 0
