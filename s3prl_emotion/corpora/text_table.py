"""The corpus to degrade: its label table as text, its speakers, and which rows are evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora import superb
from s3prl_emotion.corpora.folds import OFFICIAL, UNKNOWN_SPEAKERS, _natural
from s3prl_emotion.corpora.location import DEMO
from s3prl_emotion.corpora.table import read_table
from s3prl_emotion.errors import AudioError, LabelError, UsageError, nearest
from s3prl_emotion.recipe import DataSection

TEST = "test"


@dataclass(frozen=True)
class Labels:
    """A label table.

    Attributes:
        path: of the table, or of SUPERB's ``meta_data``
        root: audio folder
        rows: every row, each value as the text that stands in the table
        digest: SHA-256 of the table
    """

    path: Path
    root: Path
    rows: pd.DataFrame
    digest: str

    @property
    def names(self) -> list[str]:
        """``FileName`` of every row."""
        return self.rows["FileName"].tolist()

    @property
    def speakers(self) -> dict[str, str | None]:
        """Speaker of every utterance, ``None`` where not known.

        Raises:
            LabelError: the table has no column for it
        """
        if "SpkrID" not in self.rows:
            raise LabelError(
                f"{self.path}: no column SpkrID, without which babble cannot leave the speaker out; add it"
            )
        known = [None if speaker.lower() in UNKNOWN_SPEAKERS else speaker for speaker in self.rows["SpkrID"]]
        return dict(zip(self.names, known, strict=True))

    def choose(self, split: str | None) -> tuple[str, pd.DataFrame]:
        """Rows of a split: of official partitions the first Test or the one named; else all, each being in some test.

        Returns:
            the split's name, and its rows

        Raises:
            LabelError: no such partition
        """
        if "Fold" in self.rows or "Split_Set" not in self.rows:  # folds come first, as in training
            if split not in (None, TEST):
                raise LabelError(
                    f"{self.path}: --split {split}: has no official partitions, all is degraded; leave --split out"
                )
            return TEST, self.rows
        names = self.rows["Split_Set"].map(lambda name: OFFICIAL.get(name.lower(), name))
        known = sorted(names.unique(), key=_natural)
        tests = [name for name in known if name.lower().startswith(TEST)]
        wanted = OFFICIAL.get(split.lower(), split) if split else TEST
        if wanted == TEST and tests and TEST not in known:
            return TEST, self.rows[names == tests[0]]
        if wanted not in known:
            raise LabelError(f"{self.path}: no partition {wanted!r} (Split_Set){nearest(wanted, known)}")
        return wanted, self.rows[names == wanted]

    def check_audio(self, names: Iterable[str]) -> None:
        """Refuse to begin with files missing.

        Raises:
            AudioError: names the first
        """
        for name in names:
            if not (self.root / name).is_file():
                raise AudioError(f"{self.root / name}: no such audio file, though {self.path} lists it; check --root")


def read_labels(labels: str, root: str | None) -> Labels:
    """Read a label table, SUPERB's ``meta_data`` folder, or the built-in corpus.

    Args:
        labels: path, or ``demo``
        root: audio folder; not needed for ``demo``

    Raises:
        LabelError: missing or malformed
        UsageError: no audio folder is named
        AudioError: the audio folder is missing
    """
    if labels == DEMO:
        from s3prl_emotion.corpora.demo import demo_corpus

        folder, path = demo_corpus()
        return _read_table(path, folder)
    if root is None:
        raise UsageError("--root: name the folder with the audio")
    path, folder = Path(labels).expanduser(), Path(root).expanduser()
    if not folder.is_dir():
        raise AudioError(f"{folder}: no such folder; --root must be the folder with the audio")
    if path.is_dir():
        return _read_superb(path, folder)
    if not path.is_file():
        raise LabelError(f"{path}: no such label table or meta_data folder; check --labels")
    return _read_table(path, folder)


def _read_table(path: Path, root: Path) -> Labels:
    read_table(path, classes=False)  # checks it; what is written must be the text as it stands, say 007 and 3.10
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return Labels(path, root, rows, hashlib.sha256(path.read_bytes()).hexdigest())


def _read_superb(folder: Path, root: Path) -> Labels:
    """Every utterance of SUPERB's split lists once, with the fold in whose test list it stands."""
    lists = sorted(folder.glob("Session*/*_meta_data.json"))
    folds = sorted((path.name.replace("Session", "fold") for path in folder.glob("Session*")), key=_natural)
    if not folds:
        raise LabelError(f"{folder}: no SessionN folders with SUPERB's split lists; check --labels")
    rows = {}
    for fold in folds:
        section = DataSection(labels=str(folder), test_fold=fold, train_batch_size=1, eval_batch_size=1)
        corpus = superb.read_corpus(folder, root, section)
        for item in corpus.splits[TEST]:
            if item.name in rows:
                raise LabelError(f"{folder}: {item.name} stands in two test lists")
            rows[item.name] = (item.name, corpus.classes[item.label], item.speaker or "", item.gender or "", fold)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    return Labels(folder, root, pd.DataFrame(list(rows.values()), columns=_SUPERB_COLUMNS, dtype=str), digest)


_SUPERB_COLUMNS = ["FileName", "EmoClass", "SpkrID", "Gender", "Fold"]
