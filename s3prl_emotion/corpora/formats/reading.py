"""Read labels that are no label table into the rows of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.formats.class_folders import read_class_folders
from s3prl_emotion.corpora.formats.emobox import read_emobox_table
from s3prl_emotion.corpora.formats.recognise import EMOBOX, FOLDERS, TABLE, form_of
from s3prl_emotion.errors import LabelError

Columns = dict[str, list[str | None]]
READERS: Mapping[str, Callable[[Path], Columns]] = {EMOBOX: read_emobox_table, FOLDERS: read_class_folders}


def is_table(path: Path) -> bool:
    """Return whether labels are a CSV file, the label table itself.

    Raises:
        LabelError: a folder that holds labels in none of the formats
    """
    return form_of(path) == TABLE


def read_rows_of(path: Path) -> pd.DataFrame:
    """Read labels in another format than a label table; values are text, NaN or ``None`` where there is none.

    Raises:
        LabelError: malformed, or in a format that is no list of utterances
    """
    form = form_of(path)
    if form not in READERS:
        raise LabelError(f"{path}: is a folder; name a label table, as s3prl-emotion prepare writes it")
    return pd.DataFrame({name: pd.Series(values) for name, values in READERS[form](path).items()})
