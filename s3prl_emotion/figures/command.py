"""``s3prl-emotion tsne``: utterance embeddings in a plane, coloured by class, dimensions, speaker or gender."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.errors import UsageError, nearest

COLOURS = ("class", "prediction", "activation", "valence", "dominance", "speaker", "gender")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="NPZ",
        help="SPLIT_FOLD_embeddings.npz of an experiment (downstream_expert.embeddings: true), or a file of export "
        "--pooling",
    )
    parser.add_argument(
        "--by", nargs="+", action="extend", metavar="WHAT", help=f"of {', '.join(COLOURS)}; by default what is known"
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="label table that tells of the utterances")
    parser.add_argument("--perplexity", type=float, help="about how many neighbours count (default: 30)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="by default beside the file")


def run(args: Namespace) -> int:
    """Lay out, draw, and say where."""
    for name in args.by or ():
        if name not in COLOURS:
            raise UsageError(f"--by {name}: not one of {', '.join(COLOURS)}{nearest(name, COLOURS)}")
    from s3prl_emotion.figures.embedding_plots import known_of, plot_plane
    from s3prl_emotion.figures.embeddings import in_a_plane, load

    embeddings = load(args.file)
    known = known_of(embeddings, args.file, args.labels)
    wanted = args.by or list(known)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"--by {name}: not known of these utterances ({', '.join(known) or 'nothing'} is); name their table "
                "with --labels"
            )
    points = in_a_plane(embeddings.rows, args.perplexity)
    out = args.out or args.file.with_name(f"{args.file.stem.removesuffix('_embeddings')}_tsne.png")
    if out.suffix != ".png":
        raise UsageError(f"--out {out}: is written as PNG; call it {out.stem}.png")
    sys.stdout.write(f"{plot_plane(out, points, {name: known[name] for name in wanted}, args.file.stem)}\n")
    return 0
