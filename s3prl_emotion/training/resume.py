"""Choose the checkpoint that ``-a`` resumes: the newest one that is not damaged."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from pathlib import Path

from s3prl_emotion.errors import CheckpointError, DamagedCheckpointError
from s3prl_emotion.files.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)
BEST = "dev-best.ckpt"
AGAIN = "train again: in another folder, or with --overwrite"
DAMAGED = ".damaged"  # ending of a checkpoint that is set aside, so that newer ones are not deleted for its sake


def resumed_checkpoint(args: Namespace, folder: Path) -> str | None:
    """Return the checkpoint that ``-a`` resumes, and ``None`` where there is none to resume.

    The best checkpoint is the last resort: it is whole, and older than the damaged ones. Damaged ones are renamed to
    end in ``.damaged``.

    Args:
        args: of the command line; ``auto_resume`` is cleared where the host would choose a damaged checkpoint
        folder: of the experiment

    Raises:
        CheckpointError: all checkpoints are damaged, or the best one is
    """
    states = sorted(folder.glob("states-*.ckpt"), key=lambda state: int(state.stem.split("-")[-1]), reverse=True)
    best = folder / BEST
    if not states and not any(folder.glob(f"states-*.ckpt{DAMAGED}")):
        return None
    damaged: list[Path] = []
    for path in [*states, best]:
        if path.is_file() and not _is_damaged(path):
            break
        damaged.append(path)
    else:
        raise CheckpointError(f"{folder}: none of its checkpoints is whole, so {AGAIN}")
    if path != best and best.is_file() and _is_damaged(best):
        raise CheckpointError(f"{best}: is damaged, and with it the best weights of this run, so {AGAIN}")
    if not damaged:
        return str(path) if path == best else str(folder)
    if args.local_rank is None or os.environ.get("RANK") == "0":
        for other in damaged:
            other.replace(other.with_name(other.name + DAMAGED))
    names = ", ".join(other.name for other in damaged)
    logger.warning("%s: resume from %s; newer ones are damaged (%s, renamed to …%s)", folder, path.name, names, DAMAGED)
    args.auto_resume = False
    return str(path)


def _is_damaged(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except DamagedCheckpointError as error:
        logger.warning("%s", error)
        return True
    return False
