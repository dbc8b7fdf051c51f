"""``s3prl-emotion export``: write features of a corpus as npz."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.corpora import load_whole
from s3prl_emotion.errors import UsageError
from s3prl_emotion.export.features import POOLINGS, export
from s3prl_emotion.extract.corpus_arguments import add_corpus_arguments, read_recipe_arguments
from s3prl_emotion.files.outputs import check_file
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.words import check_layer, check_not_read
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=False)
    add_corpus_arguments(parser, recipe=True)
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="over time; frames does not pool")
    parser.add_argument(
        "--ckpt", help="checkpoint whose learned weights sum the layers; by default layers are not summed"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="NPZ", help="the file to write")


def run(args: Namespace) -> int:
    """Export, and print what was written."""
    args, data = read_recipe_arguments(args, add_arguments)
    if args.feature_store is None and args.store_dtype != "float32":
        raise UsageError("--store_dtype needs --feature_store DIR")
    check_file(args.output, "-o ")
    check_layer(args.upstream_layer_selection)
    read = (args.config, data.labels, args.ckpt, args.upstream_ckpt, args.upstream_model_config)
    check_not_read(args.output, read, "-o")
    for key in ("extra_tests", "degraded", "degrade"):
        if getattr(data, key):
            logger.warning("-c %s: datarc.%s is not exported; name such labels with --labels", args.config, key)
    corpus = load_whole(data)
    count = export(build_source(args), corpus, args.output, args.pooling, args.ckpt)
    say(f"{args.output}: {args.pooling} of {count} utterances", about=args.output)
    return 0
