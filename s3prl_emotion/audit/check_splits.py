"""Check splits: speakers, files and transcripts shared between them, duplicates, and empty splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audit.check_segments import check_overlaps
from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.audit.listing import SEEN, TABLE, Indices, Listing
from s3prl_emotion.corpora.normalise import normalise

YES, NO, UNKNOWN = "yes", "no", "unknown"


def check_splits(listing: Listing) -> list[Finding]:
    """Run all checks of splits."""
    return [
        *_twice(listing),
        *_empty(listing),
        *_shared_speakers(listing),
        *_unknown_speakers(listing),
        *_shared_files(listing),
        *check_overlaps(listing),
        *_tested_twice(listing),
        *_shared_texts(listing),
    ]


def speaker_independent(listing: Listing) -> str:
    """Return whether no test speaker is in train or dev: ``yes``, ``no``, or ``unknown``."""
    if any(item.code == "speaker-overlap" for item in _shared_speakers(listing)):
        return NO
    incomplete = not listing.folds or bool(_empty(listing))
    return UNKNOWN if incomplete or (listing.column("speaker") == "").any() else YES


@dataclass(frozen=True)
class _Pair:
    """Two splits of a fold, the first of them used in training."""

    fold: str
    seen: str
    other: str
    inside: Indices
    outside: Indices

    @property
    def where(self) -> str:
        return f"{self.fold}: {self.seen} and {self.other}"


def _pairs(listing: Listing) -> Iterator[_Pair]:
    """Yield every pair of train or dev with a test, and the pair of train and dev."""
    for fold, splits in listing.folds.items():
        for seen in SEEN:
            for other in splits:
                if seen in splits and other != seen and (other not in SEEN or (seen, other) == SEEN):
                    yield _Pair(fold, seen, other, splits[seen], splits[other])


def _common(values: NDArray[np.object_], pair: _Pair) -> list[str]:
    return sorted((set(values[pair.inside]) & set(values[pair.outside])) - {""})


def _shared_speakers(listing: Listing) -> list[Finding]:
    speakers = listing.column("speaker")
    leaks: dict[str, list[str]] = defaultdict(list)
    tests, affected = 0, 0
    dev: dict[str, list[str]] = defaultdict(list)
    for pair in _pairs(listing):
        shared = _common(speakers, pair)
        if not shared:
            continue
        (dev if pair.other == "dev" else leaks)[pair.where] += shared
    for splits in listing.folds.values():
        seen = {name for split in SEEN if split in splits for name in speakers[splits[split]]} - {""}
        for name in set(splits) - set(SEEN):
            tests += len(splits[name])
            affected += int(np.isin(speakers[splits[name]].astype(str), [*seen]).sum()) if seen else 0
    findings = []
    if leaks:
        cases = [name for names in leaks.values() for name in names]
        what = f"test speakers are also in train or dev: {affected} of {tests} test utterances"
        fix = (
            "split by speaker: s3prl-emotion draws speaker-disjoint folds where a table has neither Fold nor Split_Set"
        )
        findings.append(finding(ERROR, "speaker-overlap", what, fix, cases, leaks))
    if dev:
        cases = [name for names in dev.values() for name in names]
        findings.append(_dev_finding(listing, cases, list(dev)))
    return findings


def _dev_finding(listing: Listing, cases: list[str], where: list[str]) -> Finding:
    what = "speakers stand in both train and dev"
    if listing.dev_by_design:
        what += ": SUPERB's protocol draws dev at random from train"
        return finding(
            NOTE, "dev-speakers", what, "dev scores look better than they are for new speakers", cases, where
        )
    severity = ERROR if listing.form == TABLE else WARNING  # training refuses such a table
    return finding(severity, "dev-speakers", what, "hold whole speakers out for dev", cases, where)


def _unknown_speakers(listing: Listing) -> list[Finding]:
    unknown = listing.column("speaker") == ""
    if not unknown.any() or not listing.folds:
        return []
    if unknown.all():
        what = "no speaker is known: nobody can tell whether test speakers are in train"
        fix = "add the column SpkrID" if listing.form == TABLE else "tell them by --speaker_pattern"
        return [finding(WARNING, "speaker-unknown", what, fix)]
    cases = listing.files[unknown]
    what = "utterances of unknown speakers, who may be in train as well as in test"
    fix = "leave them out of test, or find out who speaks"
    return [finding(NOTE, "speaker-partly-unknown", what, fix, cases)]


def _shared_files(listing: Listing) -> list[Finding]:
    cases, where = [], []
    for pair in _pairs(listing):
        shared = _common(listing.files, pair)
        cases += shared
        where += [pair.where] if shared else []
    if not cases:
        return []
    what = "utterances stand in two splits of a fold"
    return [finding(ERROR, "file-overlap", what, "keep each in one of them", cases, where)]


def _twice(listing: Listing) -> list[Finding]:
    """Check for utterances that are listed twice in a list, or that have two classes."""
    findings = []
    files, rows = listing.files, range(len(listing.rows))
    lists = [("", rows)] if listing.form == TABLE else _lists(listing)
    twice: dict[str, str] = {}
    for where, chosen in lists:
        twice |= {name: where for name, count in Counter(files[list(chosen)]).items() if count > 1}
    if twice:
        lists_at_fault = [where for where in twice.values() if where]
        findings.append(
            finding(ERROR, "file-twice", "utterances are listed twice", "remove one row of each", twice, lists_at_fault)
        )
    classes = defaultdict(set)
    for name, emotion in zip(files, listing.column("emotion"), strict=True):
        classes[name].add(emotion)
    torn = [f"{name}: {', '.join(sorted(emotions))}" for name, emotions in classes.items() if len(emotions) > 1]
    if torn:
        findings.append(finding(ERROR, "file-classes", "utterances have two classes", "keep the right one", torn))
    return findings


def _lists(listing: Listing) -> list[tuple[str, list[int]]]:
    """Return the row numbers of each list; SUPERB's train list is train and dev together."""
    findings = []
    for fold, splits in listing.folds.items():
        parts = {name: chosen.tolist() for name, chosen in splits.items()}
        if listing.dev_by_design and "dev" in parts:
            parts["train"] = parts["train"] + parts.pop("dev")
        findings += [(f"{fold}: {name}", chosen) for name, chosen in parts.items()]
    return findings


def _empty(listing: Listing) -> list[Finding]:
    where = []
    for fold, splits in listing.folds.items():
        names = {"train", *splits}
        where += [f"{fold}: {name}" for name in sorted(names) if not len(splits.get(name, ()))]
        if not set(splits) - set(SEEN):
            where.append(f"{fold}: test")
    if not where:
        return []
    return [finding(ERROR, "split-missing", "splits are missing or empty", "check the lists", where, where)]


def _tested_twice(listing: Listing) -> list[Finding]:
    """Check for files that several folds test on: they would count more in scores over all folds."""
    count: Counter[str] = Counter()
    for splits in listing.folds.values():
        count.update({file for split in set(splits) - set(SEEN) for file in listing.files[splits[split]]})
    cases = [name for name, number in count.items() if number > 1]
    if not cases:
        return []
    what = "utterances are tested in more than one fold"
    return [finding(WARNING, "tested-twice", what, "test each utterance in one fold", cases)]


def _shared_texts(listing: Listing) -> list[Finding]:
    """Count test utterances whose transcript also occurs in train, which matters to heads that read transcripts."""
    words = listing.column("text")
    if (words == "").all():
        return []
    texts = np.array([normalise(text) for text in words], dtype=object)
    tests = affected = 0
    shared: dict[str, None] = {}
    where = []
    for pair in _pairs(listing):
        if pair.seen == "train" and pair.other != "dev":
            common = _common(texts, pair)
            shared |= dict.fromkeys(common)
            where += [pair.where] if common else []
            tests += len(pair.outside)
            affected += int(np.isin(texts[pair.outside].astype(str), common).sum()) if common else 0
    if not shared:
        return []
    what = f"transcripts of test are also said in train: {affected} of {tests} test utterances"
    fix = "expected of corpora with fixed sentences; a head that reads text may then learn sentences"
    return [finding(NOTE, "text-overlap", what, fix, shared, where)]
