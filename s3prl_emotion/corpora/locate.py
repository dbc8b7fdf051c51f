"""Find the labels and the audio folder that a recipe or a command line names."""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.corpora.demo import demo_corpus
from s3prl_emotion.errors import AudioError, LabelError

DEMO = "demo"  # names the built-in corpus instead of a file


def locate(labels: str | None, root: str | None, prefix: str = "datarc.") -> tuple[Path, Path]:
    """Return the path of the labels and the audio folder.

    Args:
        labels: label table, SUPERB's ``meta_data`` folder, or ``demo``
        root: audio folder; not needed for ``demo``
        prefix: what error messages put before the names ``labels`` and ``root``: ``datarc.``, or ``--``

    Raises:
        LabelError: one of them is not given, or there are no such labels
        AudioError: no such audio folder
    """
    if labels == DEMO:
        audio, table = demo_corpus()
        return table, audio
    if labels is None:
        raise LabelError(f"{prefix}labels: name a label table, a meta_data folder or demo")
    source = Path(labels).expanduser()
    if root is None:
        raise LabelError(f"{prefix}root: name the folder with the audio")
    audio = Path(root).expanduser()
    if not audio.is_dir():
        raise AudioError(f"{audio}: no such folder; {prefix}root must be the folder with the audio")
    if not source.exists():
        raise LabelError(f"{source}: no such label table or meta_data folder; check {prefix}labels")
    return source, audio
