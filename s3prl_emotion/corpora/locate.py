"""Find the labels and the audio folder that a recipe or a command line names."""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.corpora.demo import demo_corpus
from s3prl_emotion.corpora.formats.audformat_address import audb_folder, is_audb
from s3prl_emotion.corpora.formats.extracted import extracted
from s3prl_emotion.corpora.formats.hub_dataset import fetched, hub_dataset
from s3prl_emotion.corpora.formats.recognise import DATASET, EXTRACTED, is_of_form, own_root
from s3prl_emotion.errors import AudioError, LabelError

DEMO = "demo"  # names the built-in corpus instead of a file


def locate(labels: str | None, root: str | None, prefix: str = "datarc.") -> tuple[Path, Path]:
    """Return the path of the labels and the audio folder.

    Args:
        labels: label table, labels in another format that :mod:`.formats.recognise` knows, a dataset on the Hugging
            Face hub, or ``demo``
        root: audio folder; not needed for ``demo``, nor where the labels imply it
        prefix: what error messages put before the names ``labels`` and ``root``: ``datarc.``, or ``--``

    Raises:
        LabelError: one of them is not given, or there are no such labels
        AudioError: no such audio folder
    """
    if labels == DEMO:
        folder, table = demo_corpus()
        return table, folder
    if not labels:
        raise LabelError(f"{prefix}labels: no such label table; name a label table, a meta_data folder or demo")
    source = located(labels)
    if root is not None and is_of_form(source, EXTRACTED):
        raise LabelError(f"{prefix}root: the dataset {labels} has its own audio; leave it out (root: null)")
    audio = own_root(source) if root is None else Path(root).expanduser()
    if root is None and not source.exists():
        raise _missing(source, prefix)
    if audio is None:
        raise LabelError(f"{prefix}root: name the folder with the audio")
    if not audio.is_dir():
        raise AudioError(f"{audio}: no such folder; {prefix}root must be the folder with the audio")
    if not source.exists():
        raise _missing(source, prefix)
    return source, audio


def _missing(source: Path, prefix: str) -> LabelError:
    return LabelError(f"{source}: no such label table or meta_data folder; check {prefix}labels")


def located(labels: str) -> Path:
    """Return the path of labels; what lies on the hub or in audb is fetched, and a dataset's audio laid into files.

    Raises:
        LabelError: no such dataset, or not readable
        UsageError: ``datasets`` is not installed, or the cache cannot be written
    """
    if is_audb(labels):
        return audb_folder(labels)
    dataset = hub_dataset(labels)
    source = Path(labels).expanduser() if dataset is None else fetched(dataset)
    if not is_of_form(source, DATASET):
        return source
    name, config = (labels, None) if dataset is None else (dataset.name, dataset.config)
    return extracted(source, name, config)
