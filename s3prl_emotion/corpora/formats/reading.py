"""Read labels that are no label table into the rows of one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.formats.audformat_database import read_audformat
from s3prl_emotion.corpora.formats.audiofolder import read_audiofolder
from s3prl_emotion.corpora.formats.class_folders import read_class_folders
from s3prl_emotion.corpora.formats.emobox import read_emobox_table
from s3prl_emotion.corpora.formats.extracted import extracted, read_extracted
from s3prl_emotion.corpora.formats.recognise import (
    AUDFORMAT,
    AUDIOFOLDER,
    DATASET,
    EMOBOX,
    EXTRACTED,
    FOLDERS,
    TABLE,
    form_of,
)
from s3prl_emotion.corpora.formats.renaming import renamed_columns, usual_columns
from s3prl_emotion.errors import LabelError

logger = logging.getLogger(__name__)

Columns = dict[str, list[str | None]]
GENDERS = {"female": "Female", "f": "Female", "male": "Male", "m": "Male"}
READERS: Mapping[str, Callable[[Path], Columns]] = {
    EMOBOX: read_emobox_table, FOLDERS: read_class_folders, EXTRACTED: read_extracted, AUDIOFOLDER: read_audiofolder,
}  # fmt: skip


def is_table(path: Path) -> bool:
    """Return whether labels are a CSV file, the label table itself.

    Raises:
        LabelError: a folder that holds labels in none of the formats
    """
    return form_of(path) == TABLE


def read_rows_of(path: Path, columns: Mapping[str, str], known: Sequence[str]) -> pd.DataFrame:
    """Read labels in another format than a label table; values are text, NaN or ``None`` where there is none.

    Columns that the user does not name are taken for those of a label table where they have a usual name.

    Args:
        path: the labels
        columns: ``datarc.columns``
        known: columns of label tables

    Raises:
        LabelError: malformed, or in a format that is no list of utterances
    """
    form = form_of(path)
    if form == DATASET:
        path, form = extracted(path, str(path)), EXTRACTED
    if form != AUDFORMAT and form not in READERS:
        raise LabelError(f"{path}: is a folder; name a label table, as s3prl-emotion prepare writes it")
    read = read_audformat(path, columns) if form == AUDFORMAT else READERS[form](path)
    table = pd.DataFrame({name: pd.Series(values) for name, values in read.items()})
    usual = usual_columns(table.columns, columns)
    if usual:
        said = ", ".join(f"{name} is {source}" for name, source in usual.items())
        logger.info("%s: columns by usual names: %s (datarc.columns names others)", path, said)
    table.columns = pd.Index(renamed_columns(table.columns, {**usual, **columns}, known, path))
    if "Gender" in table:
        table["Gender"] = table["Gender"].map(lambda name: GENDERS.get(str(name).lower(), name))
    return table
