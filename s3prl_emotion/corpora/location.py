"""Where a corpus's labels and audio lie."""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection

DEMO = "demo"  # datarc.labels of the built-in corpus


def places(config: DataSection) -> tuple[Path, Path]:
    """Where labels and audio are."""
    if config.labels == DEMO:
        from s3prl_emotion.corpora.demo import demo_corpus

        root, source = demo_corpus()
        return source, root
    if config.labels is None:
        raise LabelError("datarc.labels: name a label table, a meta_data folder or demo")
    source = Path(config.labels).expanduser()
    if config.root is None:
        raise LabelError("datarc.root: name the folder with the audio")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; datarc.root must be the folder with the audio")
    if not source.exists():
        raise LabelError(f"{source}: no such label table or meta_data folder; check datarc.labels")
    return source, root
