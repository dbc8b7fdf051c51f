"""Read audformat databases: labels by scheme, from filewise and segmented tables, with their splits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from s3prl_emotion.corpora.formats.renaming import USUAL, usual_columns
from s3prl_emotion.errors import LabelError, UsageError, nearest
from s3prl_emotion.limits import shown

logger = logging.getLogger(__name__)

EXTRA = 'pip install "s3prl-emotion[audformat]"'
HEADER = "db.yaml"
YAML_TAG = "tag:yaml.org,2002:"  # of plain data: str, int, map, …
TABLES = ("db.*.csv", "db.*.parquet")  # never db.*.pkl, which can run code
SPLITS = {"train": "Train", "dev": "Development", "test": "Test"}  # by the type of an audformat split
LABELS = ("EmoClass", "EmoAct", "EmoVal", "EmoDom")  # of which an utterance must have one


def read_audformat(folder: Path, columns: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Read the labels of a database: a row for each file or segment that has a class, or a dimension.

    Labels are looked up by the names of schemes, of columns, and of the labels' own properties (a speaker's gender).
    ``TABLE/COLUMN`` names one column of one table. Splits of the tables are ``Split_Set``.

    Args:
        folder: holds ``db.yaml``
        columns: ``datarc.columns``, by which further labels are read

    Returns:
        columns by the names that they have in the database, with ``FileName``, and ``Start`` and ``End`` (s) where a
        row is a segment

    Raises:
        LabelError: not readable, no labels of emotions, or labels that contradict each other
        UsageError: ``audformat`` is not installed
    """
    with _opened(folder) as database:
        known = _names(database)
        usual = usual_columns(known, columns)
        wanted = {**usual, **columns}
        source = next((wanted[name] for name in LABELS if name in wanted), None)
        if source is None:
            usually = ", ".join(name for ours in LABELS for name in USUAL[ours])
            raise LabelError(
                f"{folder}: has no labels that are called as emotions usually are ({usually}); name them with "
                f"datarc.columns: {{EmoClass: …}}; it has {', '.join(known[:12])}"
            )
        base = _labels(database, source, known, folder).dropna()
        if base.empty:
            raise LabelError(f"{folder}: no file has a label {source}")
        table = {**_places(base.index), source: _texts(base)}
        for name in dict.fromkeys(wanted.values()):
            if name != source:
                table[name] = _texts(_aligned(_labels(database, name, known, folder), base.index))
        return table | _splits(database, base.index, folder)


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    """Open a database by its header and its tables in CSV or parquet, apart from any pickled ones."""
    try:
        import audformat
    except ImportError as error:
        raise UsageError(f"{folder}: an audformat database needs the package audformat; {EXTRA}") from error
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / HEADER).write_bytes(_checked_header(folder / HEADER))
        for path in (path for pattern in TABLES for path in folder.glob(pattern)):
            (Path(scratch) / path.name).symlink_to(path.resolve())
        try:
            database = audformat.Database.load(scratch)
            for name in (*database.tables, *database.misc_tables):
                if not any((Path(scratch) / f"db.{name}.{kind}").is_file() for kind in ("csv", "parquet")):
                    raise LabelError(
                        f"{folder}: has no table db.{name} as CSV or parquet; pickled tables can run code and are not "
                        "read: save the database with storage_format csv"
                    )
            yield database
        except LabelError:
            raise
        except (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).replace(scratch, str(folder)).split())[:300]
            raise LabelError(f"{folder}: not readable as an audformat database: {reason}") from error


def _checked_header(path: Path) -> bytes:
    """Return the header's text, which audformat's own loader of YAML would let run code, if it holds plain data.

    Raises:
        LabelError: not YAML, or it names objects of Python
    """
    try:
        data = path.read_bytes()
        for event in yaml.parse(data, Loader=yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
            tag = getattr(event, "tag", None)
            if tag is not None and (not tag.startswith(YAML_TAG) or "python" in tag):
                raise LabelError(f"{path}: holds {shown(tag)}, an object that could run code; a header is plain data")
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: not readable as YAML ({' '.join(str(error).split())[:200]})") from error
    return data


def _names(database: Any) -> list[str]:
    """Return the names by which labels can be looked up: schemes, properties of their labels, columns."""
    names: dict[str, None] = {}
    used = {column.scheme_id for table in database.tables.values() for column in table.columns.values()}
    for key, scheme in database.schemes.items():
        if key not in used:
            continue
        names[key] = None
        labels = scheme.labels
        if isinstance(labels, str) and labels in database.misc_tables:
            names |= dict.fromkeys(database.misc_tables[labels].columns)
        elif isinstance(labels, dict):
            names |= dict.fromkeys(key for values in labels.values() if isinstance(values, dict) for key in values)
    for table in database.tables.values():
        names |= dict.fromkeys(table.columns)
    return list(names)


def _labels(database: Any, name: str, known: list[str], folder: Path) -> pd.Series:
    """Return labels by file, or by file, start and end."""
    table, slash, column = name.partition("/")
    if slash and table in database.tables and column in database.tables[table].columns:
        return database.tables[table].get()[column]
    if name not in known:
        raise LabelError(f"{folder}: has no labels {name!r}, which datarc.columns names{nearest(name, known, most=10)}")
    try:
        return database.get(name)[name]
    except (ValueError, TypeError) as error:  # tables that contradict each other
        tables = [f"{key}/{name}" for key, table in database.tables.items() if name in table.columns]
        reason = " ".join(str(error).split())[:160]
        raise LabelError(
            f"{folder}: its tables have different labels {name} of one file ({reason}); name one of them in "
            f"datarc.columns: {', '.join(tables) or 'TABLE/COLUMN'}"
        ) from error


def _is_segmented(index: pd.Index) -> bool:
    return index.nlevels > 1


def _places(index: pd.Index) -> dict[str, list[str | None]]:
    if not _is_segmented(index):
        return {"FileName": [str(name) for name in index]}
    ends = [None if pd.isna(end) else str(end.total_seconds()) for end in index.get_level_values("end")]
    starts = [
        None if end is None and not start.total_seconds() else str(start.total_seconds())
        for start, end in zip(index.get_level_values("start"), ends, strict=True)
    ]
    return {"FileName": [str(name) for name in index.get_level_values("file")], "Start": starts, "End": ends}


def _aligned(labels: pd.Series, index: pd.Index) -> pd.Series:
    """Return labels for the rows of an index; those of a whole file are those of all its segments."""
    if _is_segmented(labels.index):
        whole = labels[labels.index.get_level_values("end").isna()]
        if _is_segmented(index):
            own = labels.reindex(index)
            return own.where(own.notna(), _by_file(whole.droplevel(["start", "end"]), index).to_numpy())
        labels = whole.droplevel(["start", "end"])
    return _by_file(labels, index)


def _by_file(labels: pd.Series, index: pd.Index) -> pd.Series:
    files = index.get_level_values("file") if _is_segmented(index) else index
    labels = labels[~labels.index.duplicated()].astype(object)
    return pd.Series(labels.reindex(files).to_numpy(), index=index)


def _texts(labels: Iterable[Any]) -> list[str | None]:
    return [None if pd.isna(value) else str(value) for value in labels]


def _splits(database: Any, index: pd.Index, folder: Path) -> dict[str, list[str | None]]:
    """Return the splits of the tables as ``Split_Set``; nothing if rows have none, or there is no test split."""
    places: dict[str, str] = {}
    for table in database.tables.values():
        if table.split_id is not None:
            kind = database.splits[table.split_id].type
            value = SPLITS.get(str(kind), str(table.split_id))
            places |= dict.fromkeys((str(name) for name in table.files), value)
    files = index.get_level_values("file") if _is_segmented(index) else index
    found = [places.get(str(name)) for name in files]
    if not any(found):
        return {}
    if None in found or not {"Train", "Test"} <= set(found):
        logger.warning("%s: its splits do not cover train and test of all files, so they are left out", folder)
        return {}
    return {"Split_Set": found}
