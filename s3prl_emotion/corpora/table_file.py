"""Read a CSV file as people save it: recognise its encoding and separator, check its quotation marks and its header."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
COMPRESSED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar", ".tgz")
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
QUOTE = ord('"')
HEAD = 1 << 16  # bytes in which the header is looked for
SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?\r?\n')  # Excel's own first line
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
A_ROW = re.compile(r"\.(wav|flac|mp3|ogg|opus|m4a|aac|mp4|sph|aiff?)\b", re.IGNORECASE)  # within a text: a lost row
MARKS = (
    (b"\xef\xbb\xbf", "utf-8", "UTF-8 with a byte-order mark"),
    (b"\xff\xfe\x00\x00", "utf-32", "UTF-32"),
    (b"\x00\x00\xfe\xff", "utf-32", "UTF-32"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
)


@dataclass(frozen=True)
class TableFile:
    """The checked text of a CSV file.

    Attributes:
        path: the file
        data: its text in UTF-8, without byte-order mark
        separator: of its cells
        header: names of its columns, without spaces around them, in the Unicode form NFC; ``""`` for a blank one
        notes: what was recognised that is not usual
        first_line: the number of the line in the file that ``data`` begins with
    """

    path: Path
    data: bytes
    separator: str
    header: tuple[str, ...]
    notes: tuple[str, ...]
    first_line: int = 1

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows below the header, each with the number of its first line; lines of blanks are skipped.

        Raises:
            LabelError: a cell that holds rows, or that the csv module refuses
        """
        refuse_swallowed_rows(self.data, self.separator, self.path, self.first_line)
        lines = csv.reader(io.StringIO(self.data.decode(), newline=""), delimiter=self.separator, strict=True)
        is_header, before = True, 0
        try:
            for row in lines:
                first, before = before + self.first_line, lines.line_num
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                if not is_header:
                    yield first, row
                is_header = False
        except csv.Error as error:
            raise LabelError(f"{self.path} line {before + self.first_line}: not readable as CSV: {error}") from error

    @cached_property
    def breaks(self) -> int:
        """Number of lines."""
        lines = int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == ord("\n")))
        return lines + (not self.data.endswith(b"\n"))

    def cells(self) -> int:
        """Return the number of separators outside of quotation marks."""
        outside = re.sub(rb'"[^"]*"', b"", self.data) if b'"' in self.data else self.data
        return outside.count(self.separator.encode())


def open_table(path: Path, expected: Sequence[str] = ("FileName",)) -> TableFile:
    """Read a CSV file, compressed or not, up to its cells.

    Args:
        path: the file
        expected: columns by one of which the separator is recognised

    Raises:
        LabelError: no text, quotation marks that do not fit, or two columns of one name
    """
    data, notes = _text(_bytes(path), path)
    first_line, separator = 1, None
    named = SEPARATOR_LINE.match(data)
    if named is not None:
        first_line, separator, data = 2, named[1].decode("utf-8", "replace"), data[named.end() :]
    if b"\r" in data and b"\n" not in data:  # lines as the Macintosh ended them
        data = data.replace(b"\r", b"\n")
    head = data[: max(HEAD, data.find(b"\n") + 1)].decode("utf-8", "ignore")
    separator = separator if separator in SEPARATORS else _separator(head, expected)
    if separator != ",":
        notes = [*notes, f"separated by {SEPARATORS[separator]}"]
    check_quotes(data, separator, path, first_line)
    header = _header(head, separator)
    if not header:
        raise LabelError(f"{path}: not readable as CSV: the file is empty")
    _refuse_twice(header, path)
    return TableFile(path, data, separator, tuple(map(clean, header)), tuple(notes), first_line)


def clean(text: str) -> str:
    """Return text without spaces around it, in the Unicode form NFC."""
    stripped = text.strip()
    return stripped if stripped.isascii() else unicodedata.normalize("NFC", stripped)


def tidy_file(name: str) -> str:
    r"""Return a file's name without spaces around it, with ``/`` for Windows' ``\``."""
    return name.strip().replace("\\", "/")


# --- encoding ---------------------------------------------------------------------------------------------------------


def _bytes(path: Path) -> bytes:
    if path.suffix.lower() not in COMPRESSED:
        try:
            return path.read_bytes()
        except OSError as error:
            raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        from pandas.io.common import get_handle

        with get_handle(path, "rb", compression="infer", is_text=False) as opened:
            return bytes(opened.handle.read())
    except (OSError, ValueError, EOFError, ImportError, zlib.error, zipfile.BadZipFile) as error:
        raise LabelError(f"{path}: not readable as CSV: {' '.join(str(error).split())}") from error


def _text(data: bytes, path: Path) -> tuple[bytes, list[str]]:
    """Return the bytes in UTF-8, and what is said about their encoding."""
    for mark, encoding, name in MARKS:
        if data.startswith(mark):
            if encoding == "utf-8":
                return _utf8(data[len(mark) :], path), [name]
            return _decoded(data, encoding, path), [name]
    if data.startswith(b"PK\x03\x04") or data.startswith(b"\xd0\xcf\x11\xe0"):
        raise LabelError(f"{path}: not readable as CSV: a spreadsheet or an archive; save the table as CSV (UTF-8)")
    for encoding, zeros, letters in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        head = data[:200]
        if len(head) > 3 and not any(head[zeros::2]) and all(head[letters::2]):
            return _decoded(data, encoding, path), ["UTF-16 without a byte-order mark"]
    if b"\x00" in data:
        raise LabelError(f"{path}: not readable as CSV: it holds zero bytes, so it is no text")
    try:
        return _utf8(data, path), []
    except LabelError:
        return _windows(data, path)


def _decoded(data: bytes, encoding: str, path: Path) -> bytes:
    try:
        return data.decode(encoding).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise LabelError(f"{path}: not readable as CSV: damaged {encoding.upper()} ({error.reason})") from error


def _utf8(data: bytes, path: Path) -> bytes:
    if not data.isascii():
        _decoded(data, "utf-8", path)
    return data


def _windows(data: bytes, path: Path) -> tuple[bytes, list[str]]:
    """Read what is not UTF-8 as cp1252, in which Windows saves it in Western Europe and America."""
    place = next(index for index, value in enumerate(data) if value > 127)
    if BINARY.search(data):
        raise LabelError(f"{path}: not readable as CSV: it holds control characters, so it is no text")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise LabelError(
            f"{path} line {_line(data, error.start)}: not readable as CSV: neither UTF-8 nor cp1252; save it as UTF-8"
        ) from error
    words = re.finditer(r"[^\s,;|\"]+", text[max(0, place - 40) : place + 40])
    example = next(word[0] for word in words if not word[0].isascii())
    return text.encode(), [f"not UTF-8: read as cp1252, {shown(example)} for example"]


# --- separator and header ---------------------------------------------------------------------------------------------


def _header(head: str, separator: str) -> list[str]:
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator):
            if row and (len(row) > 1 or row[0].strip()):
                return row
    except csv.Error:  # a cell longer than the csv module takes
        return [head.partition("\n")[0]]
    return []


def _separator(head: str, expected: Sequence[str]) -> str:
    """Return the separator by which the header has an expected column, or else the most columns."""
    wanted = {name.casefold() for name in expected}
    found = {separator: _header(head, separator) for separator in SEPARATORS}
    for separator, header in found.items():
        if len(header) > 1 and wanted & {clean(name).casefold() for name in header}:
            return separator
    return max(found, key=lambda separator: len(found[separator]))  # of equals the first, the comma


def _refuse_twice(header: Sequence[str], path: Path) -> None:
    places: dict[str, int] = {}
    for place, raw in enumerate(header):
        name = clean(raw)
        if name and name in places:
            first = header[places[name]]
            both = shown(name) if first == raw else f"{shown(first)} and {shown(raw)}"
            raise LabelError(
                f"{path}: the column {both} is there twice (columns {places[name] + 1} and {place + 1}); "
                "rename or remove one"
            )
        places[name] = place


# --- quotation marks --------------------------------------------------------------------------------------------------


def check_quotes(data: bytes, separator: str, path: Path, first_line: int = 1) -> None:
    """Raise unless quotation marks enclose whole cells, and those within a cell are doubled.

    Readers of CSV take a stray mark for the beginning of a cell that lasts until the next mark, some rows below.

    Raises:
        LabelError: names the line of the mark
    """
    if b'"' not in data:
        return
    text = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(text == QUOTE)
    opening, closing = marks[0::2], marks[1::2]
    may_stand_beside = np.zeros(256, bool)
    may_stand_beside[[ord(separator), ord("\n"), ord("\r"), QUOTE]] = True  # a doubled mark closes and opens
    wrong_open = ~may_stand_beside[text[np.maximum(opening - 1, 0)]] & (opening > 0)
    wrong_close = ~may_stand_beside[text[np.minimum(closing + 1, len(text) - 1)]] & (closing < len(text) - 1)
    faults = [int(places[wrong][0]) for places, wrong in ((opening, wrong_open), (closing, wrong_close)) if wrong.any()]
    if faults:
        _raise_stray(data, marks, min(faults), path, first_line)
    if len(marks) % 2:
        line = _line(data, int(marks[-1])) + first_line - 1
        raise LabelError(f"{path} line {line}: not readable as CSV: a quotation mark opens a cell that never closes")


def _raise_stray(data: bytes, marks: NDArray[np.int64], fault: int, path: Path, first_line: int) -> None:
    order = int(np.searchsorted(marks, fault))
    line = _line(data, fault) + first_line - 1
    if order % 2:  # a closing mark: the cell may have begun some lines above, which is where the fault is then
        begun = _line(data, int(marks[order - 1])) + first_line - 1
        if begun != line:
            raise LabelError(
                f"{path} line {begun}: not readable as CSV: a quotation mark opens a cell that would last until line "
                f"{line}; remove it, or close the cell"
            )
    raise LabelError(
        f"{path} line {line}: not readable as CSV: a stray quotation mark; enclose the whole cell in quotation marks "
        "and double those within it"
    )


def refuse_swallowed_rows(data: bytes, separator: str, path: Path, first_line: int = 1) -> None:
    """Raise if a cell holds lines of several cells that name audio files, since a quotation mark is missing.

    Args:
        data: in which :func:`check_quotes` found no stray marks

    Raises:
        LabelError: names the lines
    """
    if b'"' not in data:
        return
    text = np.frombuffer(data, np.uint8)
    marks, breaks = np.flatnonzero(text == QUOTE), np.flatnonzero(text == ord("\n"))
    opening, closing = marks[0::2], marks[1::2]
    several = np.searchsorted(breaks, opening) != np.searchsorted(breaks, closing)
    for start, end in zip(opening[several].tolist(), closing[several].tolist(), strict=True):
        below = data[start:end].decode("utf-8", "ignore").split("\n")[1:]
        if any(A_ROW.search(line) and separator in line for line in below):
            lines = [_line(data, place) + first_line - 1 for place in (start, end)]
            raise LabelError(
                f"{path} line {lines[0]}: not readable as CSV: a quotation mark opens a cell that holds the rows up to "
                f"line {lines[1]}; remove it, or close the cell"
            )


def _line(data: bytes, place: int) -> int:
    """Return the number of the line that a byte is on, from 1."""
    return data.count(b"\n", 0, place) + 1
