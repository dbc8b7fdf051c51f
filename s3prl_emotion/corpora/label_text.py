"""Read a corpus's labels as text, row by row, for commands that copy rows of the table unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s3prl_emotion.audio.segments import find_audio
from s3prl_emotion.corpora import superb
from s3prl_emotion.corpora.audio_files import none_found
from s3prl_emotion.corpora.corpus import UNKNOWN_SPEAKERS
from s3prl_emotion.corpora.folds import natural_order
from s3prl_emotion.corpora.formats.reading import is_table
from s3prl_emotion.corpora.formats.recognise import SUPERB, form_of
from s3prl_emotion.corpora.formats.renaming import NO_COLUMNS
from s3prl_emotion.corpora.label_table import read_rows, read_table, speakers_in_names
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.partitions import check_partitions, partition_of
from s3prl_emotion.corpora.segment_columns import name_segments, without_times
from s3prl_emotion.errors import AudioError, LabelError, nearest
from s3prl_emotion.recipe import DataSection

TEST = "test"
SUPERB_COLUMNS = ["FileName", "EmoClass", "SpkrID", "Gender", "Fold"]  # of the table made from SUPERB's split lists


@dataclass(frozen=True)
class Labels:
    """A label table as text.

    Attributes:
        path: the table, or SUPERB's ``meta_data`` folder
        root: audio folder
        rows: every row, each value as the table has it, but for the spaces and separators that its reader brings into
            one form; of segments, ``FileName`` holds the names, and there are no times
        digest: SHA-256 of the table
    """

    path: Path
    root: Path
    rows: pd.DataFrame
    digest: str

    @property
    def names(self) -> list[str]:
        """``FileName`` of every row; of segments, their names."""
        return self.rows["FileName"].tolist()

    @property
    def speakers(self) -> dict[str, str | None]:
        """Speaker of every utterance, ``None`` if unknown.

        Raises:
            LabelError: the table has no column SpkrID
        """
        if "SpkrID" not in self.rows:
            raise LabelError(
                f"{self.path}: no column SpkrID, without which babble cannot leave the speaker out; add it"
            )
        known = [None if speaker.lower() in UNKNOWN_SPEAKERS else speaker for speaker in self.rows["SpkrID"]]
        return dict(zip(self.names, known, strict=True))

    def choose(self, split: str | None) -> tuple[str, pd.DataFrame]:
        """Return the name and the rows of a split.

        Where the table has official partitions and no folds, that is the one named, or else the first Test partition.
        Otherwise it is all rows, since each is in the test split of some fold.

        Raises:
            LabelError: no such partition
        """
        if "Split_Set" not in self.rows or ("Fold" in self.rows and split in (None, TEST)):  # as in training
            if split not in (None, TEST):
                raise LabelError(
                    f"{self.path}: --split {split}: has no official partitions, all is degraded; leave --split out"
                )
            return TEST, self.rows
        check_partitions(self.rows["Split_Set"].unique(), self.path)
        names = self.rows["Split_Set"].map(partition_of)
        known = sorted(names.unique(), key=natural_order)
        tests = [name for name in known if name.lower().startswith(TEST)]
        wanted = partition_of(split) if split else TEST
        if wanted == TEST and tests and TEST not in known:
            return TEST, self.rows[names == tests[0]]
        if wanted not in known:
            raise LabelError(f"{self.path}: no partition {wanted!r} (Split_Set){nearest(wanted, known)}")
        return wanted, self.rows[names == wanted]

    def check_audio(self, names: Iterable[str]) -> None:
        """Raise if an audio file is missing.

        Raises:
            AudioError: names the first missing file
        """
        for name in names:
            path = find_audio(self.root, name)[0]
            if not path.is_file():
                every = list(dict.fromkeys(find_audio(self.root, other)[0] for other in self.names))
                if len(every) > 1 and not any(other.is_file() for other in every):
                    listed = [str(other.relative_to(self.root)) for other in every]
                    raise AudioError(none_found(self.root, listed, self.path, "--root"))
                raise AudioError(f"{path}: no such audio file, though {self.path} lists it; check --root")


def read_labels(
    labels: str, root: str | None, columns: Mapping[str, str] = NO_COLUMNS, speaker_pattern: str | None = None
) -> Labels:
    """Read a label table, labels in another format, or the built-in corpus.

    Args:
        labels: path, or ``demo``
        root: audio folder; not needed for ``demo``, nor where the labels imply it
        columns: ``datarc.columns``
        speaker_pattern: ``datarc.speaker_pattern``

    Raises:
        LabelError: missing or malformed labels, or no audio folder is given
        AudioError: the audio folder is missing
    """
    path, folder = locate(labels, root, prefix="--")
    if form_of(path) == SUPERB:
        return _read_superb(path, folder)
    # It checks the table; what is written must be the text as it is, such as 007 and 3.10.
    config = DataSection(labels=labels, columns=dict(columns), train_batch_size=1, eval_batch_size=1)
    read_table(path, classes=False, config=config)
    rows = read_rows(path, str, quiet=True, columns=columns)
    if speaker_pattern is not None:
        rows["SpkrID"] = speakers_in_names(rows["FileName"], path, speaker_pattern)
    rows = without_times(name_segments(rows, path)).fillna("")
    data = path.read_bytes() if is_table(path) else rows.to_csv(index=False).encode()
    return Labels(path, folder, rows, hashlib.sha256(data).hexdigest())


def _read_superb(folder: Path, root: Path) -> Labels:
    """Read every utterance of SUPERB's split lists once, with the fold whose test list it is in."""
    lists = sorted(folder.glob("Session*/*_meta_data.json"))
    folds = sorted((path.name.replace("Session", "fold") for path in folder.glob("Session*")), key=natural_order)
    if not folds:
        raise LabelError(f"{folder}: no SessionN folders with SUPERB's split lists; check --labels")
    rows = {}
    for fold in folds:
        section = DataSection(labels=str(folder), test_fold=fold, train_batch_size=1, eval_batch_size=1)
        corpus = superb.read_corpus(folder, root, section)
        for item in corpus.splits[TEST]:
            if item.name in rows:
                raise LabelError(f"{folder}: {item.name} is in two test lists")
            rows[item.name] = (item.name, corpus.classes[item.label], item.speaker or "", item.gender or "", fold)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    return Labels(folder, root, pd.DataFrame(list(rows.values()), columns=SUPERB_COLUMNS, dtype=str), digest)
