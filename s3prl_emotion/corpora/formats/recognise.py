"""Recognise the format of labels by the names of their files, without reading them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from s3prl_emotion.corpora.formats.audiofolder import metadata_files
from s3prl_emotion.corpora.formats.class_folders import has_class_folders
from s3prl_emotion.errors import LabelError

TABLE, SUPERB, EMOBOX, EMO_SUPERB, FOLDERS = "table", "superb", "emobox", "emo-superb", "folders"
DATASET, EXTRACTED, AUDIOFOLDER = "dataset on disk", "dataset", "audiofolder"
AUDFORMAT, AUDFORMAT_HEADER = "audformat", "db.yaml"
EXTRACTED_MARK = "s3prl_emotion_dataset.json"  # in a folder into which a dataset's audio was laid
DATASET_FILES = ("dataset_dict.json", "state.json", "*.parquet", "data/*.parquet", "*/*.parquet")
LISTS = ("*_fold*.jsonl", "*/*_fold*.jsonl", "*/*/*_fold*.jsonl")  # EmoBox's, by how deep they lie
UNKNOWN = (
    "holds neither SUPERB's lists (SessionN/train_meta_data.json), nor EmoBox's (*_fold_1.jsonl), nor EMO-SUPERB's "
    "(labels_consensus_1.csv), nor an audformat database (db.yaml), nor a Hugging Face dataset (*.parquet, state.json, "
    "metadata.csv), nor a folder of audio for each class; name a label table, or a folder of these"
)


def form_of(path: Path) -> str:
    """Return the format of labels, one of the constants above; a file is a label table unless it is a ``.jsonl``.

    Raises:
        LabelError: a folder that holds labels in none of the formats
    """
    if not path.is_dir():
        return {".jsonl": EMOBOX, ".parquet": DATASET}.get(path.suffix.lower(), TABLE)
    if (path / EXTRACTED_MARK).is_file():
        return EXTRACTED
    if (path / AUDFORMAT_HEADER).is_file():
        return AUDFORMAT
    if _holds(path, "Session*/*_meta_data.json"):
        return SUPERB
    if any(_holds(path, pattern) for pattern in LISTS):
        return EMOBOX
    if _holds(path, "labels_consensus_*.csv*"):
        return EMO_SUPERB
    if any(_holds(path, pattern) for pattern in DATASET_FILES):
        return DATASET
    if metadata_files(path):
        return AUDIOFOLDER
    if has_class_folders(path):
        return FOLDERS
    raise LabelError(f"{path}: {UNKNOWN}")


def is_of_form(path: Path, form: str) -> bool:
    """Return whether labels are of a format; a folder that holds none is of no format."""
    try:
        return path.exists() and form_of(path) == form
    except LabelError:
        return False


def lists_files(path: Path) -> bool:
    """Return whether a path holds lists of audio files in a format other than a label table or SUPERB's."""
    if not path.is_dir():
        return path.suffix.lower() in (".jsonl", ".parquet") and path.is_file()
    if any(_holds(path, pattern) for pattern in (EXTRACTED_MARK, AUDFORMAT_HEADER, *DATASET_FILES, *LISTS[:2])):
        return True
    return bool(metadata_files(path))


def own_root(path: Path) -> Path | None:
    """Return the audio folder that the labels imply; ``None`` where it must be named."""
    if not path.exists():
        return None
    form = form_of(path)
    if form in (FOLDERS, AUDIOFOLDER, AUDFORMAT):
        return path
    if form == EXTRACTED:
        return path / "audio"
    if form == EMOBOX:  # as EmoBox is published: data/CORPUS/fold_1/CORPUS_test_fold_1.jsonl beside downloads
        data = next((folder for folder in path.absolute().parents if folder.name == "data"), None)
        return data.parent if data is not None else None
    return None


def _holds(folder: Path, pattern: str) -> bool:
    return any(islice(folder.glob(pattern), 1))
