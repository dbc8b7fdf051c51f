"""The findings of an audit: one per kind of fault, with where, how many, examples, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
KEPT = 50  # examples of a finding that --json writes; the printed report shows fewer


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: ``error``: results on this corpus are wrong or training fails; ``warning``: results may mislead;
            ``note``: worth knowing
        code: short name of the kind of fault, the same in all versions
        what: one sentence
        fix: how to fix it, or what to keep in mind
        where: folds, splits or columns
        count: number of files, rows or speakers affected
        examples: up to :data:`KEPT` of them
    """

    severity: str
    code: str
    what: str
    fix: str
    where: tuple[str, ...] = ()
    count: int = 0
    examples: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {
            "severity": self.severity,
            "code": self.code,
            "what": self.what,
            "where": list(self.where),
            "count": self.count,
            "examples": list(self.examples),
            "mend": self.fix,  # the key is part of the file format
        }


def finding(
    severity: str, code: str, what: str, fix: str, cases: Iterable[object] = (), where: Iterable[str] = ()
) -> Finding:
    """Return a finding whose count and examples are its cases, each counted once."""
    names = list(dict.fromkeys(str(case) for case in cases))
    return Finding(severity, code, what, fix, tuple(dict.fromkeys(where)), len(names), tuple(names[:KEPT]))


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings: errors first, then warnings, then notes; each in the order of their codes."""
    return sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), item.code))
