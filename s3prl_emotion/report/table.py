"""A table of plain words, which every format of the report writes in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of plain words.

    Attributes:
        title: title, in lower case unless it begins with a name
        header: titles of the columns
        rows: cells of each row, as many as the header has
        note: sentence below the table
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def table_of(title: str, header: list[str], rows: list[list[str]], note: str = "") -> Table | None:
    """Return a table, or ``None`` where it has no rows."""
    return Table(title, header, rows, note) if rows else None
