"""A whole audit: labels and, where a folder is named, audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.audit.audio_checks import check_audio, read_audio
from s3prl_emotion.audit.findings import Finding, is_clean
from s3prl_emotion.audit.labels_checks import associations, check_labels, class_counts
from s3prl_emotion.audit.listing import Listing
from s3prl_emotion.audit.splits import check_splits, speaker_independent
from s3prl_emotion.audit.waveform import Waveform


@dataclass(frozen=True)
class Audit:
    """Findings, and what there is to know beside them.

    Attributes:
        listing: what was checked
        findings: of all checks
        facts: utterances, speakers, genders, whether splits are speaker-independent, associations, audio
        counts: of the classes by fold and split
    """

    listing: Listing
    findings: tuple[Finding, ...]
    facts: dict[str, Any]
    counts: dict[str, dict[str, dict[str, int]]]

    def is_clean(self, strict: bool = False) -> bool:
        """Whether there are no errors and, if ``strict``, no warnings either."""
        return is_clean(self.findings, strict)


def audit(listing: Listing, root: Path | None = None, jobs: int = 1) -> Audit:
    """Check a corpus.

    Args:
        listing: from :func:`~s3prl_emotion.audit.reading.read_listing`
        root: folder below which its files lie; ``None``: audio is not read
        jobs: threads that read audio
    """
    ties = associations(listing)
    waves = read_audio(listing, root, jobs) if root is not None else []
    findings = [*listing.findings, *check_splits(listing), *check_labels(listing, ties)]
    if root is not None:
        findings += check_audio(listing, waves)
    speakers, genders = listing.column("speaker"), listing.column("gender")
    facts = {
        "utterances": len(set(listing.files)),
        "speakers": len(set(speakers) - {""}),
        "genders": dict(Counter(genders[genders != ""]).most_common()),
        "speaker_independent": speaker_independent(listing),
        "associations": {name: asdict(tie) for name, tie in ties.items()},
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
