"""``s3prl-emotion saliency``: compute which dimensions and layers of an upstream carry emotion."""

from __future__ import annotations

import shlex
from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.files.outputs import check_file, new_folder, place_of
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.words import check_layer, check_not_read
from s3prl_emotion.processes.processors import check_workers
from s3prl_emotion.saliency.training_split import SPLIT, load_training_corpus, read_recipe_of, saliency_file
from s3prl_emotion.training.argument_values import check_overrides
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source

LENGTH = 8  # bytes before the header of a safetensors file
METHODS = {
    "ccs": "cross-correlation",
    "mis": "mutual information",
    "pca": "principal components, which are no scores but a projection",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments; ``-c -d -o -v`` are those of ``run_downstream.py``."""
    add_upstream_arguments(parser)
    add_store_arguments(parser, required=False)
    add = parser.add_argument
    add("-c", "--config", metavar="RECIPE", help="a head's recipe: its datarc names corpus and fold")
    add(
        "-d",
        "--downstream",
        metavar="HEAD",
        help="a head: its labels decide which rows count; without -c, its own recipe",
    )
    add("-o", "--override", metavar="OVERRIDES", help="overrides of the recipe, as in run_downstream.py")
    add("-v", "--downstream_variant", metavar="FOLD", help="the fold, where the recipe names none")
    add("--method", choices=METHODS, required=True, help="; ".join(f"{name}: {text}" for name, text in METHODS.items()))
    add("--out", type=Path, required=True, metavar="FILE", help="the file to write; a table and plots come beside it")
    add(
        "--targets",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="what saliency is for: EmoAct, EmoVal, EmoDom, classes of the recipe (the share of the graders who chose "
        "them), or all (default: the three dimensions); layers are ranked by the mean over them",
    )
    add(
        "--ranking",
        choices=("within", "across"),
        help="of several streams side by side (concat, lexical embeddings joined early): rank the dimensions within "
        "each stream (default), or across all",
    )
    add("--layers", action="store_true", help="print the layers' ranking")
    add("--keep", type=float, default=0.6, metavar="SHARE", help="share of the dimensions that the plots show as kept")
    add("--split", "-t", "--evaluate_split", default=SPLIT, help=SUPPRESS)  # for an error that says why


def run(args: Namespace) -> int:
    """Compute the saliency, write file, table and plots, and report what was written."""
    host.register()
    declared = ArgumentParser()
    add_arguments(declared)
    check_overrides(args, declared._actions)
    args, recipe = read_recipe_of(args)
    check_layer(args.upstream_layer_selection)
    _check(args)
    data, corpus, targets = load_training_corpus(recipe, args.downstream, args.downstream_variant, args.targets)
    _check_writable(args.out)
    check_workers(data.num_workers, "datarc.num_workers", failure=ConfigError)
    check_not_read(args.out, [args.config, data.labels, args.upstream_ckpt, args.upstream_model_config], "--out")

    from s3prl_emotion.files.writing import write_text
    from s3prl_emotion.saliency.plots import draw
    from s3prl_emotion.saliency.tables import layer_ranking, table

    ranking: Any = args.ranking or "within"
    made_by = (args.method, recipe, command_line(args), targets)
    source = build_source(args)
    saliency = saliency_file(args.out, source, corpus, data, *made_by, ranking, args.feature_store)
    beside: list[Path] = []
    with new_folder(args.out.parent):
        saliency.write()
        if not place_of(args.out).is_stream:
            beside = [args.out.with_suffix(".csv")]
            write_text(beside[0], table(saliency))
            beside += draw(saliency, args.keep)
    count, layers = saliency.header.training.utterances, saliency.layers
    what = f"{len(layers)} layers" if len(layers) > 1 else f"layer {layers[0]}"
    say(
        f"{args.out}: {args.method} of {what} x {saliency.header.dims} dimensions, {count} training utterances of "
        f"{corpus.fold}",
        *map(str, beside),
        about=args.out,
    )
    if saliency.header.streams:
        parts = ", ".join(f"{item.name} ({item.dims})" for item in saliency.header.streams)
        how = ", ranked within each" if saliency.header.ranking == "within" else ", ranked across all"
        how = how if args.method != "pca" else ""
        say(f"streams: {parts}{how}", about=args.out)
    if args.layers:
        say(*layer_ranking(saliency).splitlines(), about=args.out)
    return 0


def command_line(args: Namespace) -> str:
    """Return the command without the flags that do not change the result, such as ``--out`` and the store."""
    words = ["s3prl-emotion", "saliency"]
    for flag, name in (
        ("-u", "upstream"),
        ("-k", "upstream_ckpt"),
        ("-g", "upstream_model_config"),
        ("-s", "upstream_feature_selection"),
        ("-l", "upstream_layer_selection"),
        ("-d", "downstream"),
        ("-c", "config"),
        ("-o", "override"),
        ("-v", "downstream_variant"),
        ("--method", "method"),
        ("--targets", "targets"),
        ("--ranking", "ranking"),
    ):
        value = getattr(args, name)
        words += [] if value is None else [flag, *(value if isinstance(value, list) else [str(value)])]
    return shlex.join(words)


def _check(args: Namespace) -> None:
    """Check the flags."""
    if args.split != SPLIT:
        raise UsageError(
            f"--split {args.split}: saliency is computed from the training split only; from test data, the kept "
            "dimensions would leak test labels into the model"
        )
    if not 0 < args.keep <= 1:
        raise UsageError(f"--keep {args.keep}: must be above 0 and at most 1, 0.6 for example")
    if args.method not in METHODS:
        raise UsageError(f"--method {args.method}: no such method{nearest(args.method, METHODS)}")
    if args.layers and args.upstream_layer_selection is not None:
        raise UsageError(f"--layers ranks all layers: leave -l {args.upstream_layer_selection} out")
    if args.targets and args.method == "pca":
        raise UsageError("--targets: principal components ignore the targets; use --method ccs, or leave --targets out")
    if args.layers and args.method == "pca":
        raise UsageError(
            "--layers: principal components ignore the targets, so they cannot rank layers; use --method ccs"
        )
    if args.ranking is not None and args.method == "pca":
        raise UsageError("--ranking: principal components combine all dimensions and rank none; leave it out")
    if args.feature_store is None and args.store_dtype != "float32":
        raise UsageError("--store_dtype needs --feature_store DIR")


def _check_writable(out: Path) -> None:
    """Refuse a file that cannot be written or would overwrite another kind of file, before hours of computing."""
    if out.is_dir() or not out.name:
        raise UsageError(f"--out {out}: is a folder; name a file")
    if out.suffix in (".csv", ".png"):
        raise UsageError(f"--out {out}: the table and the plots use this suffix; call it {out.stem}.safetensors")
    for path, begin, offset in ((out, b"{", LENGTH), (out.with_suffix(".csv"), b"layer,", 0)):
        if path.is_file() and path.read_bytes()[offset : offset + len(begin)] != begin:
            raise UsageError(f"--out {out}: {path} would be overwritten and is no saliency file; choose another name")
    for path in (out,) if place_of(out).is_stream else (out, out.with_suffix(".csv")):
        check_file(path, parents=True)
