"""``s3prl-emotion tsne``: plot utterance embeddings, coloured by class, dimension, speaker or gender."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.files.outputs import check_file, place_of
from s3prl_emotion.files.terminal import say

COLOURS = ("class", "prediction", "activation", "valence", "dominance", "speaker", "gender")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="NPZ",
        help="SPLIT_FOLD_embeddings.npz of an experiment (downstream_expert.embeddings: true), or a file of export "
        "--pooling",
    )
    parser.add_argument(
        "--by",
        nargs="+",
        action="extend",
        metavar="WHAT",
        help=f"labels to colour by: {', '.join(COLOURS)} (default: all known ones)",
    )
    parser.add_argument(
        "--leave_out",
        nargs="+",
        action="extend",
        metavar="CLASS",
        help="classes not to draw in the panel of classes, neutral for example; the layout stays that of all",
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="label table of the utterances")
    parser.add_argument("--perplexity", type=float, help="about how many neighbours of a point count (default: 30)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="path of the figure (default: beside the file)")


def run(args: Namespace) -> int:
    """Lay out the embeddings, plot them, and print the path of the figure.

    Raises:
        UsageError: a file cannot be read, or a label is unknown
        LabelError: the embeddings cannot be laid out
    """
    for name in args.by or ():
        if name not in COLOURS:
            raise UsageError(f"--by {name}: not one of {', '.join(COLOURS)}{nearest(name, COLOURS)}")
    out = args.out or args.file.with_name(f"{args.file.stem.removesuffix('_embeddings')}_tsne.png")
    if out.suffix != ".png" and (args.out is None or not place_of(out).is_stream):
        raise UsageError(f"--out {out}: the figure is a PNG; name it {out.stem}.png")
    from s3prl_emotion.figures.embedding_plots import plot_embeddings, read_labels
    from s3prl_emotion.figures.embeddings import load
    from s3prl_emotion.figures.tsne import tsne

    embeddings = load(args.file)
    labels = read_labels(embeddings, args.file, args.labels)
    wanted = args.by or list(labels)
    for name in wanted:
        if name not in labels:
            raise UsageError(
                f"--by {name}: unknown for these utterances (known: {', '.join(labels) or 'nothing'}); give their "
                "label table with --labels"
            )
    for name in args.leave_out or ():
        _check_class(name, labels, wanted)
    check_file(out, parents=True)
    points = tsne(embeddings.rows, args.perplexity)
    shown = {name: labels[name] for name in wanted}
    say(str(plot_embeddings(out, points, shown, args.file.stem, args.leave_out or ())), about=out)
    return 0


def _check_class(name: str, labels: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Refuse a class to leave out that no utterance has, or without a panel of classes."""
    if "class" not in wanted:
        raise UsageError(f"--leave_out {name}: there is no panel of classes; add class to --by, or give --labels")
    known = sorted(set(labels["class"].tolist()))
    if name not in known:
        raise UsageError(f"--leave_out {name}: no utterance has this class; there are {', '.join(known)}")
