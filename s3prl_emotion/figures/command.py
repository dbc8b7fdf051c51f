"""``s3prl-emotion tsne``: plot utterance embeddings, coloured by class, dimension, speaker or gender."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

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
    check_file(out, parents=True)
    points = tsne(embeddings.rows, args.perplexity)
    say(str(plot_embeddings(out, points, {name: labels[name] for name in wanted}, args.file.stem)), about=out)
    return 0
