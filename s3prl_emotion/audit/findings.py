"""What an audit finds: one finding a kind of fault, with where, how many, examples, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
KEPT = 50  # examples of a finding that are kept for --json; the report shows fewer


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: ``error``: results on this corpus are wrong or training fails; ``warning``: they may mislead;
            ``note``: worth knowing
        code: short name of the kind, stable over versions
        what: one sentence
        mend: how to mend it, or what to keep in mind
        where: folds, splits or columns
        count: how many files, rows or speakers are concerned
        examples: up to :data:`KEPT` of them
    """

    severity: str
    code: str
    what: str
    mend: str
    where: tuple[str, ...] = ()
    count: int = 0
    examples: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "severity": self.severity,
            "code": self.code,
            "what": self.what,
            "where": list(self.where),
            "count": self.count,
            "examples": list(self.examples),
            "mend": self.mend,
        }


def finding(
    severity: str, code: str, what: str, mend: str, cases: Iterable[object] = (), where: Iterable[str] = ()
) -> Finding:
    """A finding whose count and examples are its cases, each counted once."""
    names = list(dict.fromkeys(str(case) for case in cases))
    return Finding(severity, code, what, mend, tuple(dict.fromkeys(where)), len(names), tuple(names[:KEPT]))


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; in the order of their codes."""
    return sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), item.code))


def is_clean(findings: Sequence[Finding], strict: bool = False) -> bool:
    """Whether there are no errors and, if ``strict``, no warnings either."""
    return not any(item.severity == ERROR or (strict and item.severity == WARNING) for item in findings)
