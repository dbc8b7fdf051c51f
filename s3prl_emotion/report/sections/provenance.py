"""What was run: recipes, upstreams, versions, machines and durations."""

from __future__ import annotations

from collections.abc import Iterable

from s3prl_emotion.files.versions import versions
from s3prl_emotion.report.reading.provenance import Provenance
from s3prl_emotion.report.sections.base import Place, Section
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, duration

HASH_LENGTH = 12  # characters shown
MOST_HASHES = 3  # in a cell
COLUMNS = [
    "upstream", "head", "runs", "folds", "seeds", "time, all", "time, median run", "upstream's options", "features",
    "recipe's hash", "revision", "host",
]  # fmt: skip


class WhatWasRun(Section):
    """What each system was run with."""

    title = "What was run"
    template = "provenance.html.jinja"
    anchor = "made"
    link = title
    style = "made"
    appendix = True
    always = True

    def tables(self, place: Place) -> Iterable[Table | None]:
        """Return the table of all systems."""
        rows = [[item.system, *_cells(item)] for item in self.results.provenance.values()]
        return [Table("what was run", ["system", *COLUMNS], rows)]

    def runs_of(self, system: str) -> list[Provenance]:
        """Return what a system was run with on each upstream."""
        return [item for item in self.results.provenance.values() if item.system == system]

    def table_of(self, system: str) -> Table:
        """Return the table of one system."""
        return Table(system, COLUMNS, [_cells(item) for item in self.runs_of(system)])

    def run_versions(self) -> dict[str, list[str]]:
        """Return the versions of each package that runs were made with."""
        items = self.results.provenance.values()
        names = dict.fromkeys(name for item in items for name in item.versions)
        return {name: sorted({value for item in items for value in item.versions.get(name, ())}) for name in names}

    def page_versions(self) -> dict[str, str]:
        """Return the versions that the report is made with."""
        return versions()


def _cells(item: Provenance) -> list[str]:
    """Return the cells of :data:`COLUMNS`."""
    cells = [
        item.upstream, ", ".join(item.heads), str(item.runs), ", ".join(item.folds), ", ".join(item.seeds),
        duration(item.total), duration(item.median), "; ".join(item.options),
        f"store, {item.stored}" if item.stored else "computed", _hashes(item.hashes), _hashes(item.revisions),
        ", ".join(item.hosts),
    ]  # fmt: skip
    return [cell or NONE for cell in cells]


def _hashes(values: tuple[str, ...]) -> str:
    """Return the first few hashes, shortened; the ``+`` of a revision with changed files is kept."""
    words = [value[:HASH_LENGTH] + ("+" if value.endswith("+") else "") for value in values[:MOST_HASHES]]
    return ", ".join(words) + (f" and {len(values) - MOST_HASHES} more" if len(values) > MOST_HASHES else "")
