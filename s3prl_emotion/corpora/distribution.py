"""What share of the graders heard each class: from a table's columns, from raw votes, or from the consensus.

Mitra et al. 2025 (section 2) learn the distribution of the graders' decisions instead of their consensus.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.table import MSP_LETTERS, SHARE_PREFIX, SOURCE, share_columns
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection, DistributionSection

logger = logging.getLogger(__name__)
VOTE_COLUMNS = ("EmoClass", "EmoClass_Major")  # a grader's class: ours, and MSP-Podcast's detailed labels
_NO_CLASS = {MSP_LETTERS["X"], ""}


def choose_shares(
    table: pd.DataFrame, path: Path, config: DataSection, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Give every row its shares over the classes that are learnt, and its consensus.

    Rows whose graders heard none of the classes are left out and counted. Shares over the classes that are left sum
    to 1. The consensus is ``EmoClass``; in a table without that column it is the class with the largest share, if one
    alone has it. A table without shares will do where the consensus is learnt: rows without one are kept for their
    dimensions.

    Args:
        table: checked label table
        path: where it came from, for messages
        config: ``classes``, ``merge`` and ``distribution``
        partial: whether the table may lack some of the classes

    Returns:
        the rows, with ``EmoClass`` and, where shares are known, columns ``share of <class>``; and the classes

    Raises:
        LabelError: no shares, an unknown class, or votes that do not fit the table
    """
    options = config.distribution or DistributionSection()
    merge = {_name(old): _name(new) for old, new in config.merge.items()}
    spelt = share_columns(table)  # columns are named as the table's own classes, before these are merged
    table = table.assign(EmoClass=table["EmoClass"].map(_name).replace(merge))
    if options.source == "votes":
        table, heard = _with_votes(table, path, options)
    else:
        named = spelt or share_columns(table)
        heard = _columns(table, named, path, required=options.source == "shares")
    heard = heard.T.groupby(lambda name: merge.get(_name(name), _name(name)), sort=False).sum().T
    known = tuple(heard.columns) or tuple(sorted(set(table["EmoClass"]) - _NO_CLASS))
    classes = tuple(_name(name) for name in config.classes) if config.classes else known
    if len(set(classes)) < len(classes) or len(classes) < 2:
        raise LabelError(f"datarc.classes: name at least two classes, each once, got {list(classes)}")
    for name in classes:
        if name not in known and not partial:
            raise LabelError(f"{path}: no shares of class {name!r} of datarc.classes{nearest(name, known)}")
    if heard.empty:
        return _left(table, table["EmoClass"].isin({*classes, *_NO_CLASS}), path), classes
    shares = heard.reindex(columns=list(classes), fill_value=0.0)
    mass = shares.sum(axis=1)
    table = _left(table.assign(EmoClass=consensus(table, heard)), mass > 0, path)
    shares = shares.div(mass, axis=0).loc[table.index]
    return table.assign(**{SHARE_PREFIX + name: shares[name] for name in classes}), classes


def _left(table: pd.DataFrame, kept: pd.Series, path: Path) -> pd.DataFrame:
    if not kept.all():
        logger.info("%s: %d rows of other classes are left out", path, (~kept).sum())
    return table[kept]


def _name(name: str) -> str:
    return MSP_LETTERS.get(name, name)


def _columns(table: pd.DataFrame, named: Sequence[str], path: Path, required: bool) -> pd.DataFrame:
    """Columns of the table that hold grader shares; none where there are none and none are required."""
    if named:
        return table[list(named)].apply(pd.to_numeric)
    if required:
        raise LabelError(
            f"{path}: no columns of grader shares (one for each class, named as it); this head learns them: add them, "
            "or set datarc.distribution to {source: votes, votes: FILE} or {source: consensus}"
        )
    return pd.DataFrame(index=table.index)


def consensus(table: pd.DataFrame, heard: pd.DataFrame) -> pd.Series:
    """``EmoClass`` where the table has it, else the class that most graders heard, if it is one alone."""
    if (table["EmoClass"] != "").any():
        return table["EmoClass"]
    values = heard.to_numpy()
    top = values.max(axis=1, keepdims=True)
    alone = np.isclose(values, top).sum(axis=1) == 1
    return pd.Series(np.where(alone, heard.columns.to_numpy()[values.argmax(axis=1)], MSP_LETTERS["X"]), heard.index)


def _with_votes(table: pd.DataFrame, path: Path, options: DistributionSection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with dimensions from the raw votes, where graders gave them, and the votes' shares."""
    votes, column = _read_votes(Path(options.votes or "").expanduser())
    counts = pd.crosstab(votes["FileName"], votes[column].map(_name))
    files = table[SOURCE] if SOURCE in table else table["FileName"]  # noisy copies: the votes are on what was copied
    missing = ~files.isin(counts.index)
    if missing.any():
        raise LabelError(f"{options.votes}: no votes on {files[missing].iloc[0]}, which {path} lists")
    counts = counts.loc[files].set_axis(table.index)
    by_file = votes.groupby("FileName")
    for name in DIMENSIONS:
        if name in votes:
            means, spreads = by_file[name].mean(), by_file[name].std(ddof=0)
            table = table.assign(**{name: files.map(means), f"{name}Std": files.map(spreads)})
    return table, counts.div(counts.sum(axis=1), axis=0)


def _read_votes(path: Path) -> tuple[pd.DataFrame, str]:
    """One row a vote: FileName, the grader's class, and ratings of the dimensions where there are some."""
    if not path.is_file():
        raise LabelError(f"{path}: no such file of votes; name it in datarc.distribution.votes")
    try:
        votes = pd.read_csv(path, dtype={"FileName": str}, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: not readable as CSV: {' '.join(str(error).split())}") from error
    column = next((name for name in VOTE_COLUMNS if name in votes), None)
    if column is None or "FileName" not in votes:
        raise LabelError(f"{path}: votes need the columns FileName and {' or '.join(VOTE_COLUMNS)}, one row a vote")
    if votes[["FileName", column]].isna().any(axis=None):
        raise LabelError(f"{path}: a vote has no FileName or no {column}")
    for name in DIMENSIONS:
        if name in votes:
            votes[name] = pd.to_numeric(votes[name], errors="coerce")
    return votes, column
