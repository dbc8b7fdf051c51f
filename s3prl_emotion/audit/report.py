"""Report an audit as text for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from s3prl_emotion.audit.findings import ERROR, NOTE, SEVERITIES, WARNING, Finding, by_severity
from s3prl_emotion.audit.run import Audit
from s3prl_emotion.errors import visible

SHOWN = 5  # examples of a finding in the printed report, and splits where it occurs
SHOWN_ROWS = 18  # rows of the table of classes: six folds with three splits each
COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}


def print_report(audit: Audit, strict: bool) -> None:
    """Print the report to standard output."""
    Console(width=160, soft_wrap=True, highlight=False, markup=False, emoji=False).print(Group(*_parts(audit, strict)))


def _parts(audit: Audit, strict: bool) -> Iterator[RenderableType]:
    listing = audit.listing
    yield Text(visible(f"{listing.source}: {listing.form}, {audit.facts['utterances']} utterances"))
    yield Text(f"splits: {listing.split_by}; speaker-independent: {audit.facts['speaker_independent']}")
    yield Text(visible("; ".join(_facts(audit))))
    if listing.folds and listing.classes:
        yield _class_table(audit)
    for item in by_severity(audit.findings):
        yield _lines(item)
    counts = {name: sum(item.severity == name for item in audit.findings) for name in SEVERITIES}
    summary = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    yield Text(f"{'clean' if audit.is_clean(strict) else 'not clean'}: {summary}", style="bold")


def _facts(audit: Audit) -> Iterator[str]:
    facts = audit.facts
    yield f"{facts['speakers'] or 'unknown'} speakers"
    if facts["genders"]:
        yield ", ".join(f"{name} {count}" for name, count in facts["genders"].items())
    for name, tie in facts["associations"].items():
        yield f"{name} and class: Cramer's V {tie['cramers_v']:.2f} (p {tie['p_value']:.3f})"
    audio = facts["audio"]
    if audio:
        rates = ", ".join(f"{rate} Hz" for rate in audio["rates"])
        yield f"audio: {audio['files']} read, {audio['hours']:.2f} h, {rates or 'no rate'}"
    else:
        yield "audio: not read"


def _class_table(audit: Audit) -> Table:
    classes = audit.listing.classes
    table = Table("split", "all", *map(visible, classes), "none of them", box=None)
    rows = [(fold, split) for fold, parts in audit.counts.items() for split in parts]
    for fold, split in rows[:SHOWN_ROWS]:
        counts, every = audit.counts[fold][split], len(audit.listing.folds[fold][split])
        cells = [every, *(counts[label] for label in classes), every - sum(counts.values())]
        table.add_row(visible(f"{fold} {split}"), *map(str, cells))
    if len(rows) > SHOWN_ROWS:
        table.add_row(f"... {len(rows) - SHOWN_ROWS} more")
    return table


def _lines(item: Finding) -> Text:
    count = f" [{item.count}]" if item.count else ""
    text = Text.assemble((f"{item.severity:<8}", COLOURS[item.severity]), visible(f"{item.code}: {item.what}{count}"))
    if item.where:
        text.append(f"\n{'':8}in {_some(item.where)}")
    if item.examples and item.examples != item.where:
        text.append(f"\n{'':8}{_some(item.examples, item.count)}")
    return text.append(f"\n{'':8}fix: {visible(item.fix)}")


def _some(names: tuple[str, ...], number: int | None = None) -> str:
    number = len(names) if number is None else number
    return "; ".join(map(visible, names[:SHOWN])) + (f"; ... {number - SHOWN} more" if number > SHOWN else "")


def as_json(audit: Audit, strict: bool) -> dict[str, Any]:
    """Return an audit as plain data: facts, counts of the classes, and findings."""
    return {
        "source": str(audit.listing.source),
        "format": audit.listing.form,
        "clean": audit.is_clean(strict),
        "strict": strict,
        "splits": audit.listing.split_by,
        **audit.facts,
        "classes": list(audit.listing.classes),
        "class_counts": audit.counts,
        "findings": [item.as_json() for item in by_severity(audit.findings)],
    }
