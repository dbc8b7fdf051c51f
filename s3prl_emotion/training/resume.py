"""Choose the checkpoint that ``-a`` resumes: the newest one that is not damaged."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

from s3prl_emotion.errors import CheckpointError, DamagedCheckpointError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.locate import BEST, counted_checkpoint
from s3prl_emotion.training.run_folder import states_of

logger = logging.getLogger(__name__)
AGAIN = "train again: in another folder, or with --overwrite"


def resumed_checkpoint(args: Namespace, folder: Path) -> str | None:
    """Return the checkpoint that ``-a`` resumes, and ``None`` where there is none to resume.

    The best checkpoint is the last resort: it is no newer than the damaged ones. What is newer than the checkpoint that
    is resumed is set aside when the folder is claimed.

    Args:
        args: of the command line; ``auto_resume`` is cleared where the host would choose a damaged checkpoint
        folder: of the experiment

    Raises:
        CheckpointError: all checkpoints are damaged, or the best one is
    """
    states, best = states_of(folder)[::-1], counted_checkpoint(folder)
    if not states and not any(folder.glob("states-*.ckpt.*")):  # none was set aside either
        return None
    damaged: list[Path] = []
    for path in [*states, best]:
        if path.is_file() and not _is_damaged(path):
            break
        damaged.append(path)
    else:
        raise CheckpointError(f"{folder}: none of its checkpoints is whole, so {AGAIN}")
    if path != best and best.name == BEST and best.is_file() and _is_damaged(best):
        raise CheckpointError(f"{best}: is damaged, and with it the best weights of this run, so {AGAIN}")
    if not damaged:
        return str(path) if path == best else str(folder)
    names = ", ".join(other.name for other in damaged)
    logger.warning("%s: resume from %s, since newer checkpoints are damaged: %s", folder, path.name, names)
    args.auto_resume = False
    return str(path)


def _is_damaged(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except DamagedCheckpointError as error:
        logger.warning("%s", error)
        return True
    return False
