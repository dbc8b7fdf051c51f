"""One of several corpora (``datarc.corpora``): its rows in the classes and on the scale that all share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora import labelled, table
from s3prl_emotion.corpora.corpus import DIMENSIONS, Needs
from s3prl_emotion.corpora.distribution import choose_shares
from s3prl_emotion.corpora.folds import line_of
from s3prl_emotion.corpora.location import places
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import CorpusSection, DataSection, DistributionSection

logger = logging.getLogger(__name__)
SOURCE = Path("datarc.corpora")  # in messages, where a corpus has its file


@dataclass(frozen=True, eq=False)
class Part:
    """One of the corpora: its entry in the recipe, its own ``datarc``, and the rows that the head learns from.

    Attributes:
        distribution: what is learnt of its classes by a head that learns shares; ``None``: nothing
    """

    name: str
    section: CorpusSection
    config: DataSection
    path: Path
    root: Path
    rows: pd.DataFrame
    distribution: DistributionSection | None

    @property
    def where(self) -> str:
        """Its key in the recipe, for messages."""
        return f"{SOURCE}.{self.name}"


def read_part(name: str, section: CorpusSection, config: DataSection, needs: Needs) -> Part:
    """Read the label table of one corpus.

    Args:
        name: in the recipe
        section: its entry
        config: ``datarc``
        needs: what the head learns; of a row, one of these labels will do

    Raises:
        LabelError: a malformed table, ``merge`` to an unknown class, or no row with what the head learns
        AudioError: a missing audio folder
    """
    where = f"{SOURCE}.{name}"
    own = config.model_copy(
        update={
            "labels": section.labels,
            "root": section.root,
            "merge": section.merge,
            "test_fold": section.test_fold,
            "corpora": None,
        }
    )
    path, root = places(own)
    if path.is_dir():
        raise LabelError(f"{where}.labels: {path} is a folder; name a label table, as s3prl-emotion prepare writes it")
    found = table.read_table(path, classes=False)
    _check_merge(section.merge, config, where)
    learnt = _distribution(section, config, found, where) if needs.shares else None
    if needs.shares:
        read = learnt or DistributionSection(source="consensus")  # which a table without shares will do for
        rows, _ = choose_shares(found, path, own.model_copy(update={"distribution": read}), partial=True)
    else:
        rows = _with_classes(found, path, own, needs)
    if needs.spreads:
        _check_spreads(rows, path)
    rows = _useful(rows, path, where, config, needs, learnt)
    return Part(name, section, own, path, root, rows, learnt)


def _check_merge(merge: Mapping[str, str], config: DataSection, where: str) -> None:
    """A class that leads nowhere is a slip: rows of other classes are left out without it."""
    if config.classes is None:
        return
    for old, new in merge.items():
        if new not in config.classes:
            raise LabelError(
                f"{where}.merge: {old} leads to {new!r}, which is none of datarc.classes{nearest(new, config.classes)}"
            )


def _distribution(
    section: CorpusSection, config: DataSection, rows: pd.DataFrame, where: str
) -> DistributionSection | None:
    """What is learnt of the corpus's classes; nothing of one that has no shares, unless the recipe says otherwise."""
    options = section.distribution or config.distribution or DistributionSection()
    if section.distribution is not None or options.source != "shares" or table.share_columns(rows):
        return options
    if (rows["EmoClass"] != "").any():
        logger.warning(
            "%s: no grader shares, so its classes are evaluated but not learnt; distribution: {source: consensus} "
            "learns them",
            where,
        )
    return None


def _with_classes(rows: pd.DataFrame, path: Path, own: DataSection, needs: Needs) -> pd.DataFrame:
    """Rows of the chosen classes in their words, and those without a class."""
    named = rows["EmoClass"] != ""
    if not named.any():
        return rows
    kept, _ = labelled.choose_classes(rows[named], path, own, needs, partial=True)
    return pd.concat([kept, rows[~named]]).sort_index()


def _check_spreads(rows: pd.DataFrame, path: Path) -> None:
    for column in (f"{name}Std" for name in DIMENSIONS):
        negative = rows[column] < 0 if column in rows else pd.Series(dtype=bool)
        if negative.any():
            raise LabelError(f"{path} line {line_of(negative)}: {column} is a standard deviation, but negative")


def _useful(
    rows: pd.DataFrame, path: Path, where: str, config: DataSection, needs: Needs, learnt: DistributionSection | None
) -> pd.DataFrame:
    """Rows of which something is known that the head learns."""
    classed = rows["EmoClass"].isin(config.classes or ())
    useful = pd.Series(False, index=rows.index)
    wanted = []
    if needs.classes:
        useful |= classed
        wanted.append(f"a class of {', '.join(config.classes or ())} (map its classes with merge)")
    if needs.dimensions:
        useful |= _rated(rows)
        wanted.append(", ".join(DIMENSIONS))
    if needs.shares:
        useful |= classed if learnt is not None and learnt.source == "consensus" else learnt is not None
        wanted.append("shares of the graders, or distribution: {source: consensus}")
    if not useful.any():
        raise LabelError(f"{where}: {path} has no row with what this head learns: {'; or '.join(wanted)}")
    if not useful.all():
        logger.info("%s: %d rows without a label that this head learns are left out", path, (~useful).sum())
    return rows[useful]


def _rated(rows: pd.DataFrame) -> pd.Series:
    """Which rows have all dimensions."""
    return rows.reindex(columns=list(DIMENSIONS)).notna().all(axis=1)


# --- scales -----------------------------------------------------------------------------------------------------------


def on_one_scale(parts: list[Part], required: bool) -> list[Part]:
    """Dimensions and their spreads on the scale of the first corpus that has some.

    Args:
        parts: in the recipe's order
        required: whether the head learns them; else they are dropped where they cannot be brought together

    Raises:
        LabelError: several corpora have dimensions and one names no scale, or a label lies beyond it
    """
    rated = [part for part in parts if _rated(part.rows).any()]
    without = [part for part in rated if part.section.scale is None]
    for part in rated:
        if part.section.scale is not None:
            _check_scale(part, *part.section.scale)
    if len(rated) < 2:
        return parts
    if without and required:
        raise LabelError(
            f"{without[0].where}.scale: name its lowest and highest grade, [1, 5] for example; several corpora have "
            "dimensions, which must be brought to one scale"
        )
    if without:
        logger.info("%s names no scale: the dimensions of all corpora are dropped", without[0].where)
        return [
            replace(part, rows=part.rows.drop(columns=list(DIMENSIONS))) if part in rated else part for part in parts
        ]
    first = rated[0].section.scale
    return [_rescaled(part, first) if part in rated[1:] and part.section.scale != first else part for part in parts]


def _check_scale(part: Part, low: float, high: float) -> None:
    if not low < high:
        raise LabelError(f"{part.where}.scale: must rise, got [{low}, {high}]")
    for column in DIMENSIONS:
        wrong = (part.rows[column] < low) | (part.rows[column] > high)
        if wrong.any():
            value = part.rows[column][wrong].iloc[0]
            raise LabelError(
                f"{part.path} line {line_of(wrong)}: {column} {value} is beyond {part.where}.scale, [{low}, {high}]"
            )


def _rescaled(part: Part, scale: list[float] | None) -> Part:
    """Linearly from the part's scale to another; spreads by its slope."""
    (low, high), (own_low, own_high) = scale or (0.0, 1.0), part.section.scale or (0.0, 1.0)
    slope = (high - low) / (own_high - own_low)
    new = {column: low + (part.rows[column] - own_low) * slope for column in DIMENSIONS}
    stds = [f"{column}Std" for column in DIMENSIONS if f"{column}Std" in part.rows]
    return replace(part, rows=part.rows.assign(**new, **{column: part.rows[column] * slope for column in stds}))
