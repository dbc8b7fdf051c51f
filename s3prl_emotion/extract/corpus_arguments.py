"""Declare and read the flags that name a corpus: its labels and audio folder, or a recipe that has them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from s3prl_emotion.audio import channel
from s3prl_emotion.corpora.formats.renaming import add_columns_argument
from s3prl_emotion.errors import UsageError
from s3prl_emotion.recipe import DataSection, HeadSection, check_recipe, overridden, read_recipe

OVERRIDE = "--override"


def add_corpus_arguments(parser: ArgumentParser, recipe: bool = False, short: str | None = None) -> None:
    """Declare the corpus's flags, named as in ``datarc``.

    Args:
        parser: to add them to
        recipe: whether ``-c RECIPE`` may name the corpus, with ``--override``
        short: another name of ``--override``
    """
    parser.add_argument("--labels", required=not recipe, help="label table, labels in another known format, or demo")
    parser.add_argument("--root", help="audio folder")
    add_columns_argument(parser)
    parser.add_argument("--allow_outside", action="store_true", help="read also files that lie outside of --root")
    parser.add_argument(
        "--channel", type=channel, metavar="C", help="mean, left, right or a number from 1 (default: mean)"
    )
    if recipe:
        parser.add_argument(
            "-c",
            "--config",
            metavar="RECIPE",
            help="a head's recipe, whose datarc names the corpus",
        )
        parser.add_argument(
            *([short] if short else []),
            OVERRIDE,
            metavar="OVERRIDES",
            help="overrides of the recipe, as -o of run_downstream.py",
        )


def read_corpus_arguments(args: Namespace) -> DataSection:
    """Return the flags as ``datarc``."""
    options = {"labels": args.labels, "root": args.root, "allow_outside": args.allow_outside}
    options["columns"] = args.columns
    options["channel"] = "mean" if args.channel is None else args.channel
    return DataSection(**options, train_batch_size=1, eval_batch_size=1)


def read_recipe_arguments(args: Namespace, add_arguments: Any, flag: str = OVERRIDE) -> tuple[Namespace, DataSection]:
    """Return the arguments with ``--override`` applied, and ``datarc`` of the recipe with the flags over it.

    A layer that the recipe selects is selected as by ``-l``.

    Args:
        args: parsed flags
        add_arguments: declares the command's flags on a parser, whose types the overrides must have
        flag: name of ``--override``, for messages

    Raises:
        UsageError: neither ``--labels`` nor ``-c``, or flags that contradict each other or the recipe
        ConfigError: the recipe is malformed
    """
    if args.config is None:
        if args.override is not None:
            raise UsageError(f"{flag}: changes a recipe, and none is given; name one with -c RECIPE")
        if args.labels is None:
            raise UsageError("--labels is required, or -c RECIPE, whose datarc names the corpus")
        return args, read_corpus_arguments(args)
    from s3prl_emotion.training.argument_values import check_overrides
    from s3prl_emotion.upstreams.layer_choice import chosen_layer

    declared = ArgumentParser()
    add_arguments(declared)
    check_overrides(args, declared._actions, flag)
    args, recipe = overridden(args.override, args, read_recipe(args.config), flag)
    check_recipe(recipe)
    section = HeadSection.read(recipe["downstream_expert"], "downstream_expert")
    data = DataSection.read(section.datarc, "downstream_expert.datarc")
    args.upstream_layer_selection = chosen_layer(args, recipe)
    given = {name: value for name in ("labels", "root") if (value := getattr(args, name)) is not None}
    if given and data.corpora is not None:
        raise UsageError(
            f"--{next(iter(given))}: the recipe names several corpora (datarc.corpora); leave one of them out"
        )
    if args.columns:
        given["columns"] = args.columns
    if args.allow_outside:
        given["allow_outside"] = True
    if args.channel is not None:
        given["channel"] = args.channel
    return args, data.model_copy(update=given)
