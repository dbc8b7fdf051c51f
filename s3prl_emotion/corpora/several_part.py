"""Read one of several corpora (``datarc.corpora``), and bring its classes and scale in line with the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.audio_names import check_below
from s3prl_emotion.corpora.corpus import DIMENSIONS, Needs
from s3prl_emotion.corpora.folds import as_published, with_drawn_folds
from s3prl_emotion.corpora.formats.recognise import SUPERB, form_of
from s3prl_emotion.corpora.grader_shares import choose_shares
from s3prl_emotion.corpora.label_table import line_of, read_table, share_columns
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.utterances import check_spreads, choose_classes
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import CorpusSection, DataSection, DistributionSection

logger = logging.getLogger(__name__)
SOURCE = Path("datarc.corpora")  # stands in messages where a single corpus has its file


@dataclass(frozen=True, eq=False)
class Part:
    """One of the corpora: its entry in the recipe, its own ``datarc``, and the rows that the head can use.

    Attributes:
        distribution: where a head that learns shares takes this corpus's targets from; ``None``: it has none
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
        """The corpus's key in the recipe, for messages."""
        return f"{SOURCE}.{self.name}"


def read_part(name: str, section: CorpusSection, config: DataSection, needs: Needs) -> Part:
    """Read the label table of one corpus.

    Args:
        name: its key in the recipe
        section: its entry
        config: ``datarc``
        needs: the labels that the head trains on; a row must have at least one of them

    Raises:
        LabelError: a malformed table, a path outside of the audio folder, ``merge`` to an unknown class, or
            no row with one of the head's targets
        AudioError: a missing audio folder
    """
    where = f"{SOURCE}.{name}"
    own = config.model_copy(
        update={
            "labels": section.labels,
            "columns": section.columns,
            "speaker_pattern": section.speaker_pattern,
            "root": section.root,
            "merge": section.merge,
            "test_fold": section.test_fold,
            "corpora": None,
        }
    )
    path, root = locate(own.labels, own.root)
    try:
        own = as_published(path, own)
        is_superb = form_of(path) == SUPERB
    except LabelError as error:
        raise LabelError(f"{where}.labels: {error}") from error
    if is_superb:
        raise LabelError(f"{where}.labels: {path} is a folder; name a label table, as s3prl-emotion prepare writes it")
    table = with_drawn_folds(read_table(path, classes=False, config=own), path, config)
    if not config.allow_outside:
        check_below(table["FileName"].tolist(), path)
    _check_merge(section.merge, config, where)
    distribution = _distribution(section, config, table, where) if needs.shares else None
    if needs.shares:
        source = distribution or DistributionSection(source="consensus")  # works for a table without shares
        rows, _ = choose_shares(table, path, own.model_copy(update={"distribution": source}), partial=True)
    else:
        rows = _with_classes(table, path, own, needs)
    if needs.spreads:
        check_spreads(rows, path)
    rows = _with_a_target(rows, path, where, config, needs, distribution)
    return Part(name, section, own, path, root, rows, distribution)


def _check_merge(merge: Mapping[str, str], config: DataSection, where: str) -> None:
    """Raise if ``merge`` maps to an unknown class: the rows would be dropped silently."""
    if config.classes is None:
        return
    for old, new in merge.items():
        if new not in config.classes:
            raise LabelError(
                f"{where}.merge: {old} maps to {new!r}, which is none of datarc.classes{nearest(new, config.classes)}"
            )


def _distribution(
    section: CorpusSection, config: DataSection, rows: pd.DataFrame, where: str
) -> DistributionSection | None:
    """Return the source of the corpus's target shares; ``None`` if it has no shares and the recipe names no other."""
    options = section.distribution or config.distribution or DistributionSection()
    if section.distribution is not None or options.source != "shares" or share_columns(rows):
        return options
    if (rows["EmoClass"] != "").any():
        logger.warning(
            "%s: no grader shares, so its classes are evaluated but not learnt; distribution: {source: consensus} "
            "learns them",
            where,
        )
    return None


def _with_classes(rows: pd.DataFrame, path: Path, own: DataSection, needs: Needs) -> pd.DataFrame:
    """Return the rows of the chosen classes, renamed by ``merge``, and the rows without a class."""
    named = rows["EmoClass"] != ""
    if not named.any():
        return rows
    kept, _ = choose_classes(rows[named], path, own, needs, partial=True)
    return pd.concat([kept, rows[~named]]).sort_index()


def _with_a_target(
    rows: pd.DataFrame,
    path: Path,
    where: str,
    config: DataSection,
    needs: Needs,
    distribution: DistributionSection | None,
) -> pd.DataFrame:
    """Keep the rows that have at least one of the head's targets."""
    in_class = rows["EmoClass"].isin(config.classes or ())
    useful = pd.Series(False, index=rows.index)
    wanted = []
    if needs.classes:
        useful |= in_class
        wanted.append(f"a class of {', '.join(config.classes or ())} (map its classes with merge)")
    if needs.dimensions:
        useful |= _rated(rows)
        wanted.append(", ".join(DIMENSIONS))
    if needs.shares:
        from_consensus = distribution is not None and distribution.source == "consensus"
        useful |= in_class if from_consensus else distribution is not None
        wanted.append("shares of the graders, or distribution: {source: consensus}")
    if not useful.any():
        raise LabelError(f"{where}: {path} has no row with a label that this head learns: {'; or '.join(wanted)}")
    if not useful.all():
        logger.info("%s: %d rows without a label that this head learns are left out", path, (~useful).sum())
    return rows[useful]


def _rated(rows: pd.DataFrame) -> pd.Series:
    """Return which rows have all three dimensions."""
    return rows.reindex(columns=list(DIMENSIONS)).notna().all(axis=1)


# --- scales -----------------------------------------------------------------------------------------------------------


def on_one_scale(parts: list[Part], required: bool) -> list[Part]:
    """Map dimensions and spreads to the scale of the first corpus that has dimensions.

    Args:
        parts: in the recipe's order
        required: whether the head learns dimensions; otherwise they are dropped if a corpus names no scale

    Raises:
        LabelError: several corpora have dimensions and one names no scale, or a label is outside its scale
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
            "dimensions, which must be mapped to one scale"
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
        raise LabelError(f"{part.where}.scale: the lowest grade must come first, got [{low}, {high}]")
    for column in DIMENSIONS:
        wrong = (part.rows[column] < low) | (part.rows[column] > high)
        if wrong.any():
            value = part.rows[column][wrong].iloc[0]
            raise LabelError(
                f"{part.path} line {line_of(wrong)}: {column} {value} is outside {part.where}.scale, [{low}, {high}]"
            )


def _rescaled(part: Part, scale: list[float] | None) -> Part:
    """Map dimensions linearly to another scale, and spreads by the slope of that map."""
    (low, high), (own_low, own_high) = scale or (0.0, 1.0), part.section.scale or (0.0, 1.0)
    slope = (high - low) / (own_high - own_low)
    new = {column: low + (part.rows[column] - own_low) * slope for column in DIMENSIONS}
    stds = [f"{column}Std" for column in DIMENSIONS if f"{column}Std" in part.rows]
    return replace(part, rows=part.rows.assign(**new, **{column: part.rows[column] * slope for column in stds}))
