"""Run all checks on a corpus: labels, splits and, if its folder is given, audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.audit.check_audio import check_audio, read_audio
from s3prl_emotion.audit.check_labels import associations, check_labels, class_counts
from s3prl_emotion.audit.check_splits import check_splits, speaker_independent
from s3prl_emotion.audit.findings import ERROR, WARNING, Finding
from s3prl_emotion.audit.listing import Listing
from s3prl_emotion.audit.waveform import Waveform


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        listing: the corpus that was checked
        findings: findings of all checks
        facts: utterances, speakers, genders, whether splits are speaker-independent, associations, audio
        counts: number of utterances by fold, split and class
    """

    listing: Listing
    findings: tuple[Finding, ...]
    facts: dict[str, Any]
    counts: dict[str, dict[str, dict[str, int]]]

    def is_clean(self, strict: bool = False) -> bool:
        """Return whether there are no errors and, if ``strict``, no warnings either."""
        return not any(item.severity == ERROR or (strict and item.severity == WARNING) for item in self.findings)


def audit(
    listing: Listing,
    root: Path | None = None,
    jobs: int = 1,
    allow_outside: bool = False,
    channel: str | int = "mean",
) -> Audit:
    """Check a corpus.

    Args:
        listing: from :func:`~s3prl_emotion.audit.read_formats.read_listing`
        root: audio folder; ``None``: audio is not read
        jobs: number of threads that read audio
        allow_outside: read also files that lie outside of ``root``
        channel: ``datarc.channel``
    """
    ties = associations(listing)
    waves = read_audio(listing, root, jobs, allow_outside, channel) if root is not None else []
    findings = [*listing.findings, *check_splits(listing), *check_labels(listing, ties)]
    if root is not None:
        findings += check_audio(listing, waves, root)
    speakers, genders = listing.column("speaker"), listing.column("gender")
    facts = {
        "utterances": len(set(listing.files)),
        "speakers": len(set(speakers) - {""}),
        "genders": dict(Counter(genders[genders != ""]).most_common()),
        "speaker_independent": speaker_independent(listing),
        "associations": {
            name: {"cramers_v": tie.cramers_v, "told": tie.explained, "p_value": tie.p_value}
            for name, tie in ties.items()
        },
        "audio": _audio_facts(listing, waves) if root is not None else None,
    }
    return Audit(listing, tuple(findings), facts, class_counts(listing))


def _audio_facts(listing: Listing, waves: Sequence[Waveform]) -> dict[str, Any]:
    usable = [wave for wave in dict(zip(listing.files, waves, strict=True)).values() if not wave.problem]
    return {
        "files": len(usable),
        "hours": sum(wave.seconds for wave in usable) / 3600,
        "rates": {str(rate): count for rate, count in Counter(wave.rate for wave in usable).most_common()},
        "shortest_s": min((wave.seconds for wave in usable), default=None),
        "longest_s": max((wave.seconds for wave in usable), default=None),
    }
