"""Read transcripts of utterances from a CSV file or from the label table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from s3prl_emotion.corpora.corpus import Utterance
from s3prl_emotion.errors import LabelError, nearest

COLUMNS = ("FileName", "Text")
FIX = "run s3prl-emotion transcribe for all of them"


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Read a CSV of transcripts, as ``s3prl-emotion transcribe`` writes it.

    An empty ``Text`` is a transcript too: nothing was said or recognised. Only an utterance without a row has no
    transcript. Other columns are ignored.

    Args:
        path: UTF-8, with a header that names ``FileName`` (as in the label table) and ``Text``

    Returns:
        text by file name, in the order of the rows

    Raises:
        LabelError: no such file, not UTF-8 or CSV, a column is missing, a file is listed twice or has no name
    """
    path = Path(path).expanduser()
    texts: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte-order mark
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            name_at, text_at = _columns(path, header)
            for row in rows:
                if not row:  # an empty line
                    continue
                if len(row) != len(header):
                    raise LabelError(
                        f"{path} line {rows.line_num}: {len(row)} fields, its header names {len(header)}; quote texts"
                        " that hold commas"
                    )
                name, text = row[name_at], row[text_at]
                if not name:
                    raise LabelError(f"{path} line {rows.line_num}: FileName is empty")
                if name in texts:
                    raise LabelError(f"{path} line {rows.line_num}: {name} is listed twice")
                texts[name] = text
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise LabelError(f"{path} line {rows.line_num}: not readable as CSV: {error}") from error
    except OSError as error:
        raise LabelError(f"{path}: cannot be read as a file of transcripts ({error.strerror}); {FIX}") from error
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


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int]:
    """Return the indices of the two columns."""
    for column in COLUMNS:
        if column not in header:
            raise LabelError(f"{path}: no column {column}{nearest(column, header)}")
        if header.count(column) > 1:
            raise LabelError(f"{path}: two columns {column}")
    return header.index(COLUMNS[0]), header.index(COLUMNS[1])
