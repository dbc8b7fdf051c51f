"""``s3prl-emotion export``: write features of a corpus as npz."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.corpora import load_corpus
from s3prl_emotion.errors import UsageError
from s3prl_emotion.export.features import POOLINGS, export
from s3prl_emotion.extract.command import add_corpus_arguments, read_corpus_arguments
from s3prl_emotion.files.outputs import check_file
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.words import check_layer, check_not_read
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=False)
    add_corpus_arguments(parser)
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="over time; frames does not pool")
    parser.add_argument(
        "--ckpt", help="checkpoint whose learned weights sum the layers; by default layers are not summed"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="NPZ", help="the file to write")


def run(args: Namespace) -> int:
    """Export, and print what was written."""
    if args.feature_store is None and args.store_dtype != "float32":
        raise UsageError("--store_dtype needs --feature_store DIR")
    check_file(args.output, "-o ")
    check_layer(args.upstream_layer_selection)
    read = (args.labels, args.ckpt, args.upstream_ckpt, args.upstream_model_config)
    check_not_read(args.output, read, "-o")
    corpus = load_corpus(read_corpus_arguments(args))
    count = export(build_source(args), corpus, args.output, args.pooling, args.ckpt)
    say(f"{args.output}: {args.pooling} of {count} utterances", about=args.output)
    return 0
