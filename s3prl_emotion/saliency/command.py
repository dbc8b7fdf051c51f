"""``s3prl-emotion saliency``: which dimensions and layers of an upstream tell of emotion."""

from __future__ import annotations

import logging
import shlex
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.corpora import Corpus, Needs, load_corpus
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.recipe import DataSection, HeadSection, check_recipe, overridden, read_recipe
from s3prl_emotion.upstreams.build import add_store_arguments, add_upstream_arguments, build_source

logger = logging.getLogger(__name__)
SPLIT = "train"
LENGTH = 8  # bytes ahead of the header of a safetensors file
METHODS = {
    "ccs": "cross-correlation",
    "mis": "mutual information",
    "pca": "principal components, which are no scores but a projection",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name; ``-c -d -o -v`` are ``run_downstream.py``'s."""
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
    add("--layers", action="store_true", help="print the layers' ranking")
    add("--keep", type=float, default=0.6, metavar="SHARE", help="share of the dimensions that the plots show as kept")
    add("--split", "-t", "--evaluate_split", default=SPLIT, help=SUPPRESS)  # to say why there is no other


def run(args: Namespace) -> int:
    """Compute, write, and say what was written."""
    host.register()
    args, recipe = _recipe(args)
    _check(args)
    data = _data(recipe, args)
    corpus = load_corpus(data, _needs(recipe, args))
    _check_writable(args.out)

    from s3prl_emotion.files.writing import write_text
    from s3prl_emotion.saliency.plots import draw
    from s3prl_emotion.saliency.tables import layer_ranking, table

    saliency = _saliency(args, recipe, data, corpus)
    saliency.write()
    beside = args.out.with_suffix(".csv")
    write_text(beside, table(saliency))
    drawn = draw(saliency, args.keep)
    count, layers = saliency.header.training.utterances, saliency.layers
    what = f"{len(layers)} layers" if len(layers) > 1 else f"layer {layers[0]}"
    sys.stdout.write(
        f"{args.out}: {args.method} of {what} x {saliency.header.dims} dimensions, {count} training utterances of "
        f"{corpus.fold}\n" + "".join(f"{path}\n" for path in (beside, *drawn))
    )
    if args.layers:
        sys.stdout.write(layer_ranking(saliency))
    return 0


def _saliency(args: Namespace, recipe: dict[str, Any], data: DataSection, corpus: Corpus) -> Any:
    """Compute what goes into the file, a :class:`~s3prl_emotion.saliency.SaliencyFile`."""
    source = build_source(args)
    from s3prl_emotion.corpora.fingerprint import TARGETS, fingerprint, target_values
    from s3prl_emotion.files.versions import versions  # s3prl is mended by now
    from s3prl_emotion.metrics.results import config_hash  # s3prl is mended by now
    from s3prl_emotion.saliency import compute
    from s3prl_emotion.upstreams.saliency_file import SaliencyFile
    from s3prl_emotion.upstreams.saliency_format import Header

    targets, utterances = tuple(TARGETS), corpus.split(SPLIT)
    dims = int(source.featurizer.output_dim)
    _warn_of_little(args.method, target_values(utterances, targets), targets, dims)
    identity = compute.identity_of(source)
    tensors = compute.compute_saliency(source, utterances, targets, args.method, data.max_duration, data.num_workers)
    header = Header(
        method=args.method,
        targets=targets,
        layers=compute.layers_of(source),
        available=compute.layers_there(source),
        dims=dims,
        upstream=identity.values,
        training=fingerprint(utterances, targets, data.max_duration),
        fold=corpus.fold,
        recipe=config_hash(recipe),
        command=command_line(args),
        device=source.device.type,
        versions=versions(),
    )
    return SaliencyFile(args.out, header, tensors)


def command_line(args: Namespace) -> str:
    """The command without what does not change the result: where it is written, how it is shown, the store's place."""
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
    ):
        value = getattr(args, name)
        words += [] if value is None else [flag, str(value)]
    return shlex.join(words)


def _check(args: Namespace) -> None:
    """Check what the command line alone tells."""
    if args.split != SPLIT:
        raise UsageError(
            f"--split {args.split}: saliency is computed from the training split alone; from test data, what is kept "
            "would leak the test's labels into the model"
        )
    if not 0 < args.keep <= 1:
        raise UsageError(f"--keep {args.keep}: must be above 0 and at most 1, 0.6 for example")
    if args.method not in METHODS:
        raise UsageError(f"--method {args.method}: no such method{nearest(args.method, METHODS)}")
    if args.layers and args.upstream_layer_selection is not None:
        raise UsageError(f"--layers ranks all layers: leave -l {args.upstream_layer_selection} out")
    if args.layers and args.method == "pca":
        raise UsageError("--layers: principal components know no targets, so they rank no layers; take --method ccs")
    if args.feature_store is None and args.store_dtype != "float32":
        raise UsageError("--store_dtype needs --feature_store DIR")


def _recipe(args: Namespace) -> tuple[Namespace, dict[str, Any]]:
    """The recipe with ``-o`` applied, and the arguments with the recipe's place."""
    from s3prl_emotion.experts.heads import emotion_heads, is_emotion_head

    if args.downstream is not None and not is_emotion_head(args.downstream):
        hint = f"{nearest(args.downstream, emotion_heads())}{host.HEADS.hint()}"
        raise UsageError(f"-d {args.downstream}: the suite has no such head{hint}")
    if args.config is None:
        from s3prl_emotion.training.preflight import find_recipe

        if args.downstream is None:
            raise UsageError("-c RECIPE is required, or -d HEAD for a head's own recipe")
        args.config = str(find_recipe(args.downstream))
    args, recipe = overridden(args.override, args, read_recipe(args.config))
    check_recipe(recipe)
    return args, recipe


def _data(recipe: dict[str, Any], args: Namespace) -> DataSection:
    """``datarc``, with ``-v`` where it names no fold."""
    section = HeadSection.read(recipe["downstream_expert"], "downstream_expert")
    data = DataSection.read(section.datarc, "downstream_expert.datarc")
    trained_on = recipe["runner"].get("train_dataloader", SPLIT)
    if trained_on != SPLIT:
        raise UsageError(f"runner.train_dataloader {trained_on}: saliency is computed from the split {SPLIT!r} alone")
    fold = args.downstream_variant
    if fold is not None and data.test_fold not in (None, fold):
        logger.warning("-v %s is ignored, as in training: the recipe's datarc.test_fold is %s", fold, data.test_fold)
    return data.model_copy(update={"test_fold": fold}) if data.test_fold is None and fold else data


def _needs(recipe: dict[str, Any], args: Namespace) -> Needs:
    """Which labels a row must have: dimensions, and what else the head learns, for training leaves other rows out."""
    if args.downstream is None:
        return Needs(classes=False, dimensions=True)
    expert = host.expert_class(args.downstream)
    *_, modelrc = expert.read_section(recipe["downstream_expert"], args.downstream_variant, recipe["runner"])
    return replace(expert.required_labels(modelrc), dimensions=True)


def _check_writable(out: Path) -> None:
    """Refuse a file that cannot be written, or that would overwrite something else, before hours are lost to it."""
    if out.is_dir() or not out.name:
        raise UsageError(f"--out {out}: a folder stands there; name a file")
    if out.suffix in (".csv", ".png"):
        raise UsageError(f"--out {out}: table and plots beside it are named so; call it {out.stem}.safetensors")
    for path, begin, offset in ((out, b"{", LENGTH), (out.with_suffix(".csv"), b"layer,", 0)):
        if path.is_file() and path.read_bytes()[offset : offset + len(begin)] != begin:
            raise UsageError(f"--out {out}: {path} would be overwritten and is no saliency file; choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UsageError(f"--out {out}: its folder cannot be written ({error.strerror}); choose another") from error


def _warn_of_little(method: str, labels: Any, targets: Sequence[str], dims: int) -> None:
    """Say where there is too little data; ``labels`` are ``[U, D]``."""
    if method == "pca":
        if len(labels) <= dims:
            logger.warning(
                "%d training utterances vary along %d components at most; the other directions of %d are arbitrary",
                len(labels),
                len(labels) - 1,
                dims,
            )
    elif len(labels) == 1:
        logger.warning("one training utterance: nothing varies, and every saliency is 0")
    else:
        for name, same in zip(targets, (labels == labels[0]).all(dim=0).tolist(), strict=True):
            if same:
                logger.warning("%s is the same in all training utterances: its saliency is 0", name)
