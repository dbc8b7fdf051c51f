"""``s3prl-emotion extract``: fill a feature store before training."""

from __future__ import annotations

import logging
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from s3prl_emotion.corpora import Utterance, list_utterances
from s3prl_emotion.errors import UsageError
from s3prl_emotion.extract.corpus_arguments import add_corpus_arguments, read_recipe_arguments
from s3prl_emotion.extract.filling import extract, free_space, predict_extraction
from s3prl_emotion.files.terminal import say
from s3prl_emotion.processes.processors import check_workers
from s3prl_emotion.store.means import BOTH, FRAMES, KEEP, MEANS
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source
from s3prl_emotion.upstreams.source import UpstreamSource, check_store_dtype

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=True)
    add_corpus_arguments(parser, recipe=True, short="-o")
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
    parser.add_argument(
        "--keep",
        choices=KEEP,
        default=BOTH,
        help="what to store of an utterance: its frames, the means over its frames (all that mean pooling needs), or "
        "both (default)",
    )
    parser.add_argument(
        "--upstream_feature_normalize",
        action="store_true",
        help="means of normalised frames, for training with this flag of run_downstream.py",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the size of frames and of means; store nothing")


def run(args: Namespace) -> int:
    """Extract, and print what was done."""
    args, data = read_recipe_arguments(args, add_arguments, "-o")
    args.max_duration = data.max_duration if args.max_duration is None else args.max_duration
    args.cut_eval = args.cut_eval or (data.cut_eval and args.max_duration is not None)
    args.num_workers = args.num_workers or data.num_workers
    if data.degrade is not None:
        logger.warning("-c %s: noise that datarc.degrade adds on the fly is not stored", args.config)
    if data.augment is not None and data.augment.of_waveforms:
        logger.warning("-c %s: utterances as datarc.augment changes them are not stored; training does it", args.config)
    for name in ("batch_seconds", "max_duration"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: must be above 0 s")
    check_workers(args.num_workers, "--num_workers")
    if args.cut_eval and args.max_duration is None:
        raise UsageError("--cut_eval needs --max_duration, the length to which audio is cut (s)")
    if args.keep == FRAMES and args.upstream_feature_normalize:
        raise UsageError(
            "--upstream_feature_normalize: changes means alone, and --keep frames stores none; leave one of them out"
        )
    utterances = list_utterances(data)
    if args.dry_run:
        return _predict(args, utterances)
    source = build_source(args, batched=args.batch_seconds is not None)
    source.featurizer.normalize = args.upstream_feature_normalize
    options = (args.max_duration, args.batch_seconds, args.num_workers, args.cut_eval, args.keep)
    done = extract(source, utterances, *options)
    speed = done.audio_seconds / max(done.wall_seconds, 1e-9)
    say(
        f"{done.utterances} utterances: {done.computed} computed ({done.audio_seconds:.0f} s of audio, {speed:.1f} s "
        f"per second), the others were stored already; {kept_in(source)}"
    )
    source.close()
    return 0


def kept_in(source: UpstreamSource) -> str:
    """Return the folders that hold what is kept of utterances, for people."""
    folders = [] if source.keeps == MEANS else [source.required_store().folder]
    folders += [] if source.keeps == FRAMES else [source.mean_store.own.folder]
    return ", ".join(map(str, folders))


def _predict(args: Namespace, utterances: Sequence[Utterance]) -> int:
    """Print what the store would take, and what is free where it is."""
    folder = Path(args.feature_store).expanduser()
    check_store_dtype(args.store_dtype)
    args.feature_store = None
    source = build_source(args)
    sizes = predict_extraction(source, utterances, args.max_duration, args.cut_eval, getattr(torch, args.store_dtype))
    stored = [kind for kind in sizes if args.keep in (BOTH, kind)]
    for kind, size in sizes.items():
        say(f"{kind:<6} {size / 1e9:>10.3f} GB{'' if kind in stored else f'  (not with --keep {args.keep})'}")
    say(
        f"{len(utterances)} utterances, --keep {args.keep}: {sum(map(sizes.__getitem__, stored)) / 1e9:.3f} GB; "
        f"{free_space(folder) / 1e9:.1f} GB are free at {folder}"
    )
    return 0
