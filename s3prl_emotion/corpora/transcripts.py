"""Read transcripts of utterances from a CSV file or from the label table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from s3prl_emotion.audio.segments import TIMES, Part, segment_name
from s3prl_emotion.corpora.corpus import Utterance
from s3prl_emotion.corpora.table_file import open_table, tidy_file
from s3prl_emotion.errors import LabelError, nearest

logger = logging.getLogger(__name__)
COLUMNS = ("FileName", "Text")
FIX = "run s3prl-emotion transcribe for all of them"


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Read a CSV of transcripts, as ``s3prl-emotion transcribe`` writes it.

    An empty ``Text`` is a transcript too: nothing was said or recognised. Only an utterance without a row has no
    transcript. Other columns are ignored.

    Args:
        path: with a header that names ``FileName`` (as in the label table) and ``Text``; encoding and separator are
            recognised. Segments have their names as ``FileName``, or ``Start`` and ``End`` besides

    Returns:
        text by file name, in the order of the rows

    Raises:
        LabelError: no such file, not CSV, a column is missing, a file is listed twice or has no name
    """
    path = Path(path).expanduser()
    texts: dict[str, str] = {}
    if not path.is_file():
        raise LabelError(f"{path}: cannot be read as a file of transcripts (no such file); {FIX}")
    file = open_table(path, COLUMNS)
    name_at, text_at, *times_at = _columns(path, file.header)
    for line, row in file.rows():
        if len(row) != len(file.header):
            raise LabelError(
                f"{path} line {line}: {len(row)} fields, its header names {len(file.header)}; quote texts that hold "
                "commas"
            )
        name, text = tidy_file(row[name_at]), row[text_at]
        if name and any(row[place] for place in times_at):
            name = segment_name(name, _part(path, line, *(row[place] for place in times_at)))
        if not name:
            raise LabelError(f"{path} line {line}: FileName is empty")
        if name in texts:
            raise LabelError(f"{path} line {line}: {name} is listed twice")
        texts[name] = text
    for note in file.notes:
        logger.info("%s: %s", path, note)
    return texts


def texts_of(
    utterances: Sequence[Utterance], transcripts: str | Path | Sequence[str | Path] | None = None
) -> list[str]:
    """Return the text of every utterance, in their order.

    Args:
        utterances: of a corpus
        transcripts: file with the texts, or several (clean utterances and degraded copies); ``None``: the label table's
            column ``Text``, where an empty cell is a missing text, not one without words

    Raises:
        LabelError: an utterance has no text, or a file of transcripts is malformed
    """
    if transcripts is None:
        texts = [item.text for item in utterances]
        where = "has no text in the label table"
        fix = f"fill in its column Text, or {FIX} and name the file as transcripts"
    else:
        paths = [transcripts] if isinstance(transcripts, (str, Path)) else list(transcripts)
        known: dict[str, str] = {}
        for path in paths:
            rows = read_transcripts(path)
            repeated = next((name for name in rows if name in known), None)
            if repeated is not None:
                raise LabelError(f"{path}: {repeated} is in another file of transcripts too; remove it from one")
            known |= rows
        texts = [known.get(item.name) for item in utterances]
        files = ", ".join(map(str, paths))
        where, fix = f"has no row in {files}", f"{FIX} with -o {files}, or add the row"
    missing = [item.name for item, text in zip(utterances, texts, strict=True) if text is None]
    if missing:
        others = f" ({len(missing)} of {len(utterances)} have none)" if len(missing) > 1 else ""
        raise LabelError(f"{missing[0]}: {where}{others}; {fix}")
    return [text for text in texts if text is not None]


def _part(path: Path, line: int, *cells: str) -> Part:
    try:
        return Part(*(float(cell) for cell in cells))
    except ValueError as error:
        raise LabelError(f"{path} line {line}: Start and End must be seconds, got {', '.join(cells)}") from error


def _columns(path: Path, header: Sequence[str]) -> list[int]:
    """Return the indices of the two columns, and of Start and End where both are there."""
    for column in COLUMNS:
        if column not in header:
            raise LabelError(f"{path}: no column {column}{nearest(column, header)}")
    times = TIMES if set(TIMES) <= set(header) else ()
    return [header.index(name) for name in (*COLUMNS, *times)]
