"""Decide in which folder a run writes: one that the user named, never one that stands in a checkpoint."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Collection
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.packed import is_packed
from s3prl_emotion.recipe import overridden

logger = logging.getLogger(__name__)
ATTENTION = "attention"  # below the other outputs, where a checkpoint's recipe names a folder for attention weights

TO_GIVE_AGAIN = ("cache_dir", "push_to_hf_hub")


def check_flags(args: Namespace) -> None:
    """Check the flags that choose the folder against each other.

    Raises:
        UsageError: ``-a`` without a folder, or ``--overwrite`` with ``-a`` or without training
    """
    if args.auto_resume and args.expdir is None and args.expname is None:
        raise UsageError("-a needs the folder of the run to resume: name it with -n NAME or -p DIR")
    if args.overwrite and args.mode != "train":
        raise UsageError(f"--overwrite: is for -m train; omit it, -m {args.mode} changes no checkpoint")
    if args.overwrite and args.auto_resume:
        raise UsageError("--overwrite sets the old run aside, -a resumes it; omit one of them")


def chosen_folder(args: Namespace, past: Path | None, own: Collection[str] = ()) -> str | None:
    """Return the folder to write into: ``-p``, ``-n``, or that of the checkpoint that ``-e`` or ``-i`` names.

    Args:
        args: of the command line
        past: checkpoint whose arguments ``-e`` or ``-a`` restores
        own: names of the arguments that the user gave, also by ``-o``

    Returns:
        the folder, or ``None`` if none is named, as for a packed head, whose folder stays as it was packed
    """
    if args.expdir is not None:
        return str(args.expdir)
    if args.expname is None and past is not None and not is_packed(past):
        return str(past.parent)
    initial = None if args.init_ckpt is None or args.mode == "train" else Path(args.init_ckpt)
    if args.expname is None and initial is not None and past is None and not is_packed(initial):
        return str(Path(args.init_ckpt).parent)
    if args.expname is None:
        return str(overridden(args.override, args, {})[0].expdir) if "expdir" in own else None
    return f"result/downstream/{args.expname}"  # as in s3prl


def warn_of_places(restored: Namespace, args: Namespace, past: Path) -> None:
    """Warn of arguments of a checkpoint that are not restored, since they decide where files go.

    Args:
        restored: arguments in the checkpoint
        args: of the command line
        past: file of the checkpoint
    """
    for name in TO_GIVE_AGAIN:
        theirs = getattr(restored, name, None)
        if theirs and not getattr(args, name, None):
            logger.warning(
                "%s: its --%s %s is not used, since a checkpoint does not choose where files go; give it again if you "
                "want it",
                past,
                name,
                theirs,
            )


def attention_folder(args: Namespace, named: str | None) -> str | None:
    """Return the folder for attention weights: below the other outputs, where a checkpoint's recipe names one.

    Args:
        args: of the run
        named: ``downstream_expert.attention_dir``, from the recipe or from ``-o``
    """
    if named is None or not args.past_exp or "attention_dir" in (args.override or ""):
        return named
    own = str(Path(args.expdir) / ATTENTION)
    logger.warning(
        "attention weights go to %s, not to %s as the checkpoint says; -o config.downstream_expert.attention_dir=DIR "
        "chooses another folder",
        own,
        named,
    )
    return own
