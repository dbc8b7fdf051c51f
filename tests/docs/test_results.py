"""The tables of the texts are those of docs/results.json, and every entry there says how its figures were made."""

from __future__ import annotations

import importlib.util
import re
from decimal import Decimal
from types import ModuleType

import pytest
from markdown_texts import DOCS

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """``docs/make_tables.py``."""
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(tables: ModuleType):
    results, used = tables.read_results(), set()
    for path in tables.markdown_files():
        text = path.read_text(encoding="utf-8")
        assert tables.with_tables(text, results) == text, f"{path}: run python docs/make_tables.py"
        used |= {match[2] for match in tables.TABLE.finditer(text)}
    assert used == set(results)


def test_a_changed_figure_is_seen(tables: ModuleType):
    results, text = tables.read_results(), (DOCS / "results.md").read_text(encoding="utf-8")
    results["emodb-leaderboard"]["rows"][0]["ua"]["value"] = Decimal("54.5")
    assert tables.with_tables(text, results) != text


def test_every_entry_says_how_its_figures_were_made(tables: ModuleType):
    for name, entry in tables.read_results().items():
        assert {"what", "command", "commit", "date", "columns", "rows"} <= set(entry), name
        assert entry["command"], name
        for made_by in (entry, *entry["rows"]):
            assert re.fullmatch(r"[0-9a-f]{7,40}|not recorded", made_by.get("commit", entry["commit"])), name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d|not recorded", entry["date"]), name
        for row in entry["rows"]:
            assert set(entry["columns"]) <= set(row), name


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        (2047, "2,047"),
        (Decimal("0.50"), "0.50"),
        ({"value": Decimal("54.4"), "std": Decimal("4.50")}, "54.4 (4.50)"),
        ({"value": 2, "interval": [1, 3]}, "2 [1, 3]"),
        ([{"value": 16, "unit": "s"}, "of which 2 s reading"], "16 s, of which 2 s reading"),
        ({"value": 7, "note": "median"}, "7 (median)"),
    ],
)
def test_cells(cell: object, text: str, tables: ModuleType):
    assert tables.cell_text(cell) == text
