"""Give each row the share of graders who chose each class: from columns, from single votes, or from the consensus.

Mitra et al. 2025 (section 2) train on the distribution of the graders' decisions instead of on their consensus.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.corpora.class_names import NO_AGREEMENT, NO_CLASS, spell_out
from s3prl_emotion.corpora.class_spelling import refuse_classes_apart, warn_of_classes
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.label_table import SOURCE_FILE, read_rows, share_columns, share_target
from s3prl_emotion.corpora.segment_columns import name_segments
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection, DistributionSection

logger = logging.getLogger(__name__)
VOTE_COLUMNS = ("EmoClass", "EmoClass_Major")  # a grader's class: in our votes.csv, in MSP-Podcast's detailed labels


def choose_shares(
    table: pd.DataFrame, path: Path, config: DataSection, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Give every row its shares over the chosen classes, and its consensus.

    Rows without a vote for any of the classes are dropped and counted; the remaining shares are normalised to sum to 1.
    The consensus is ``EmoClass``; in a table without that column it is the class with the largest share, unless several
    classes tie. With ``distribution: {source: consensus}`` a table without shares is enough: its rows without a
    consensus are kept for their dimensions.

    Args:
        table: checked label table
        path: the table's path, for messages
        config: ``classes``, ``merge`` and ``distribution``
        partial: whether the table may lack some of the classes

    Returns:
        the rows, with ``EmoClass`` and, where shares are known, columns ``share of <class>``; and the classes

    Raises:
        LabelError: no shares, an unknown class, or votes that do not fit the table
    """
    options = config.distribution or DistributionSection()
    warn_of_classes(table["EmoClass"], path)
    merge = {spell_out(old): spell_out(new) for old, new in config.merge.items()}
    named = share_columns(table)  # before merging: columns are named after the table's own classes
    table = table.assign(EmoClass=table["EmoClass"].map(spell_out).replace(merge))
    if options.source == "votes":
        table, shares = _from_votes(table, path, options)
    else:
        shares = _from_columns(table, named or share_columns(table), path, required=options.source == "shares")
    own = {
        name.casefold(): name for name in set(table["EmoClass"].unique()) - NO_CLASS
    }  # columns may be in another case
    names = {name: merge.get(spell_out(name), spell_out(name)) for name in shares.columns}
    shares = shares.T.groupby(lambda name: own.get(names[name].casefold(), names[name]), sort=False).sum().T
    known = tuple(shares.columns) or tuple(sorted(set(table["EmoClass"].unique()) - NO_CLASS))
    classes = tuple(spell_out(name) for name in config.classes) if config.classes else known
    if len(set(classes)) < len(classes) or len(classes) < 2:
        raise LabelError(f"datarc.classes: name at least two classes, each once, got {list(classes)}")
    for name in classes:
        if name not in known and not partial:
            raise LabelError(f"{path}: no shares of class {name!r} of datarc.classes{nearest(name, known)}")
    refuse_classes_apart(table["EmoClass"].unique(), classes, path)
    if shares.empty:
        return _keep(table, table["EmoClass"].isin({*classes, *NO_CLASS}), path), classes
    chosen = shares.reindex(columns=list(classes), fill_value=0.0)
    total = chosen.sum(axis=1)
    table = _keep(table.assign(EmoClass=consensus(table, shares)), total > 0, path)
    chosen = chosen.div(total, axis=0).loc[table.index]
    return table.assign(**{share_target(name): chosen[name] for name in classes}), classes


def _keep(table: pd.DataFrame, kept: pd.Series, path: Path) -> pd.DataFrame:
    if not kept.all():
        logger.info("%s: %d rows of other classes are left out", path, (~kept).sum())
    return table[kept]


def _from_columns(table: pd.DataFrame, named: list[str], path: Path, required: bool) -> pd.DataFrame:
    """Return the table's columns of grader shares; no columns if it has none and none are required."""
    if named:
        return table[named].apply(pd.to_numeric)
    if required:
        raise LabelError(
            f"{path}: no columns of grader shares (one for each class, named as it); this head learns them: add them, "
            "or set datarc.distribution to {source: votes, votes: FILE} or {source: consensus}"
        )
    return pd.DataFrame(index=table.index)


def consensus(table: pd.DataFrame, shares: pd.DataFrame) -> pd.Series:
    """Return ``EmoClass`` if the table has it, or else the class with the largest share; a tie is no agreement."""
    if (table["EmoClass"] != "").any():
        return table["EmoClass"]
    values = shares.to_numpy()
    top = values.max(axis=1, keepdims=True)
    unique = np.isclose(values, top).sum(axis=1) == 1
    return pd.Series(np.where(unique, shares.columns.to_numpy()[values.argmax(axis=1)], NO_AGREEMENT), shares.index)


def _from_votes(table: pd.DataFrame, path: Path, options: DistributionSection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table with dimensions computed from the votes, if graders gave them, and the votes' shares."""
    votes, column = _read_votes(Path(options.votes or "").expanduser())
    counts = pd.crosstab(votes["FileName"], votes[column].map(spell_out))
    files = table[SOURCE_FILE] if SOURCE_FILE in table else table["FileName"]  # votes are on the clean files
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
    """Read a table with one row per vote; also return the name of the column with the grader's class."""
    if not path.is_file():
        raise LabelError(f"{path}: no such file of votes; name it in datarc.distribution.votes")
    votes = name_segments(read_rows(path, {"FileName": str}), path)
    column = next((name for name in VOTE_COLUMNS if name in votes), None)
    if column is None or "FileName" not in votes:
        raise LabelError(f"{path}: votes need the columns FileName and {' or '.join(VOTE_COLUMNS)}, one row a vote")
    if votes[["FileName", column]].isna().any(axis=None):
        raise LabelError(f"{path}: a vote has no FileName or no {column}")
    for name in DIMENSIONS:
        if name in votes:
            votes[name] = pd.to_numeric(votes[name], errors="coerce")
    return votes, column
