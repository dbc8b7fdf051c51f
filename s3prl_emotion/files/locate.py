"""Find the file of a trained head from what a user names: checkpoint, folder, packed head, or id on the hub."""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files.hub import downloaded, is_hub_id
from s3prl_emotion.files.packed import CONFIG, KIND

BEST = "dev-best.ckpt"
LAST = "last.ckpt"  # of the last step, where the corpus has no dev split


def packed_head(name: str) -> Path | None:
    """Return the ``config.yaml`` of a packed head: of a folder, or of an id on the hub, which is fetched.

    Args:
        name: path of a folder or file, or ``OWNER/NAME[@REVISION]``

    Returns:
        ``None`` where the name is of another file or folder, or of none at all

    Raises:
        CheckpointError: the id does not exist, is gated, or cannot be reached
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path / CONFIG if _is_head(path / CONFIG) else None
    if path.exists():
        return path if path.name == CONFIG else None
    return downloaded(name) if is_hub_id(name) else None


def find_head(name: str) -> Path:
    """Return the file of a trained head, for :func:`~s3prl_emotion.files.checkpoint.load_checkpoint`.

    Args:
        name: a checkpoint, an experiment directory for its ``dev-best.ckpt`` (or ``last.ckpt``), a packed head, or an
            id on the hub

    Raises:
        CheckpointError: there is no such head, or it cannot be fetched
    """
    packed = packed_head(name)
    if packed is not None:
        return packed
    path = Path(name).expanduser()
    if path.is_dir():
        counted = counted_checkpoint(path)
        if not counted.is_file():
            raise CheckpointError(f"{path}: holds no {BEST}; name a checkpoint file, or a folder that pack wrote")
        return counted
    return path


def counted_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of an experiment that its results are of: the best on dev, or the last without a dev split.

    Args:
        folder: of the experiment; the checkpoint may not exist (yet)
    """
    return folder / LAST if (folder / LAST).is_file() and not (folder / BEST).is_file() else folder / BEST


def _is_head(path: Path) -> bool:
    """Return whether a file starts as the ``config.yaml`` of a packed head; an experiment may hold one of its own."""
    try:
        with path.open("rb") as file:
            return f"kind: {KIND}".encode() in file.read(4096)
    except OSError:
        return False
