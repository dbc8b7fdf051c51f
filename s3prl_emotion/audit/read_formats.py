"""Read labels in any of the known formats: label table, SUPERB, EmoBox, EMO-SUPERB, class folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s3prl_emotion.audit.listing import EMO_SUPERB, EMOBOX, FORMATS, SUPERB, TABLE, Listing
from s3prl_emotion.audit.read_lists import read_emobox, read_superb
from s3prl_emotion.audit.read_tables import read_emo_superb, read_label_table
from s3prl_emotion.corpora.formats.recognise import form_of
from s3prl_emotion.corpora.formats.renaming import NO_COLUMNS
from s3prl_emotion.corpora.formats.speakers import compile_pattern
from s3prl_emotion.corpora.label_table import read_columns
from s3prl_emotion.errors import LabelError, UsageError, nearest

AUTO = "auto"


def read_listing(
    source: Path, form: str = AUTO, speaker_pattern: str | None = None, columns: Mapping[str, str] = NO_COLUMNS
) -> Listing:
    """Read labels; faults in their rows become findings, not errors.

    Args:
        source: a label table, SUPERB's ``meta_data``, an EmoBox corpus's folder or list, EMO-SUPERB's file or folder,
            or a folder of class folders
        form: one of :data:`~s3prl_emotion.audit.listing.FORMATS`, or ``auto``
        speaker_pattern: regular expression for ``/`` and the file's path; its first group is the speaker
        columns: ``datarc.columns``, for label tables

    Raises:
        UsageError: unknown format, or an invalid pattern
        LabelError: missing, or not in that format
    """
    if form not in (AUTO, *FORMATS):
        raise UsageError(f"--format {form}: not one of {', '.join((AUTO, *FORMATS))}{nearest(form, FORMATS)}")
    pattern = compile_pattern(speaker_pattern) if speaker_pattern is not None else None
    if not source.exists():
        raise LabelError(f"{source}: no such file or folder; LABELS is a label table, or a folder with split lists")
    chosen = _guess(source, columns) if form == AUTO else form
    if source.is_dir() and chosen == TABLE:
        raise LabelError(f"{source}: is a folder; a label table is a CSV file")
    if source.is_file() and chosen == SUPERB:
        raise LabelError(f"{source}: is a file; SUPERB's lists are a folder with SessionN folders, meta_data")
    lists = {SUPERB: read_superb, EMOBOX: read_emobox, EMO_SUPERB: read_emo_superb}
    if chosen not in lists:
        return read_label_table(source, pattern, chosen, columns)
    if columns:
        raise UsageError(f"--columns: {source} has lists of format {chosen}, whose columns are known; leave it out")
    return lists[chosen](source, pattern)


def _guess(source: Path, columns: Mapping[str, str]) -> str:
    """Return the format, judging by file names and by the columns of a table."""
    if source.is_dir():
        return form_of(source)
    if form_of(source) != TABLE:
        return form_of(source)
    if source.suffix == ".json":
        raise LabelError(f"{source}: name the folder that holds the lists, such as SUPERB's meta_data")
    names = read_columns(source, columns)
    smoothed = "EmoClass" not in names and "Fold" not in names and source.name.startswith("labels_consensus_")
    return EMO_SUPERB if smoothed or names[:1] == ["Unnamed: 0"] else TABLE
