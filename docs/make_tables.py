"""Write the tables of ``results.json`` into README.md, the documentation and the recipes' READMEs.

A table stands between two comments in the Markdown, and what is written between them by hand is replaced::

    <!-- table: ID -->
    <!-- end of table -->

Run ``python docs/make_tables.py`` after a change of ``results.json``; ``--check`` changes nothing and exits with 1 when
a table differs. ``results.json`` is a list of entries: ``id``; ``what`` was measured; ``command``, the command lines
that produce the figures; ``commit`` and ``date``, when the figures entered the repository, or "not recorded";
``columns``, the title of each; and ``rows``. A row may have its own ``command`` and ``commit``. A cell is a number, a
text, null, or a list of cells that are joined by commas; or an object with ``value`` and any of ``unit``, ``std``,
``interval`` and ``note``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results.json"
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def read_results(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the entries of ``results.json`` by their id; numbers keep their digits (0.50 stays 0.50)."""
    return {entry["id"]: entry for entry in json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)}


def markdown_files() -> Iterator[Path]:
    """Yield the files that may hold tables: README.md, the documentation and the recipes' READMEs."""
    yield REPOSITORY / "README.md"
    yield from sorted((REPOSITORY / "docs").rglob("*.md"))
    yield from sorted((REPOSITORY / "recipes").rglob("README.md"))


def cell_text(cell: Any) -> str:
    """Return one cell as Markdown."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list):
        return ", ".join(map(cell_text, cell))
    if not isinstance(cell, dict):
        return f"{cell:,}" if isinstance(cell, int) and cell >= 1000 else str(cell)
    text = cell_text(cell["value"])
    text += f" {cell['unit']}" if "unit" in cell else ""
    text += f" ({cell['std']})" if "std" in cell else ""
    text += f" [{', '.join(map(str, cell['interval']))}]" if "interval" in cell else ""
    return text + (f" ({cell['note']})" if "note" in cell else "")


def table_text(entry: dict[str, Any]) -> str:
    """Return an entry as a Markdown table, followed by the commands, commit and date of its figures."""
    columns = entry["columns"]
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell_text(row[key]) for key in columns) + " |" for row in entry["rows"]]
    lines = [re.sub(r"\|  (?=\|)", "| ", line) for line in lines]  # an empty cell is one space
    made_by = " and ".join(f"`{command}`" for command in entry["command"])
    commits = list(dict.fromkeys(row.get("commit", entry["commit"]) for row in entry["rows"]))
    made_at = f"commit{'s' * (len(commits) > 1)} {', '.join(commits)}"
    return "\n".join([*lines, "", f"*Made with {made_by}; {made_at}, {entry['date']}.*", ""])


def with_tables(text: str, results: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown text with its tables replaced by those of ``results``.

    Raises:
        KeyError: the text names an entry that ``results`` does not have
    """
    return TABLE.sub(lambda match: match[1] + table_text(results[match[2]]) + match[3], text)


def main() -> int:
    """Write the tables, or with ``--check`` name the files whose tables differ."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/results.json into the Markdown files.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a table differs")
    check, results, code = parser.parse_args().check, read_results(), 0
    for path in markdown_files():
        text = path.read_text(encoding="utf-8")
        new = with_tables(text, results)
        if new == text:
            continue
        name = path.relative_to(REPOSITORY)
        if check:
            sys.stderr.write(f"{name}: a table differs from docs/results.json; run python docs/make_tables.py\n")
            code = 1
        else:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{name}: tables written\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
