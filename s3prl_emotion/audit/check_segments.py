"""Check segments: times of a label table, and segments that overlap others of their file."""

from __future__ import annotations

import math

import pandas as pd

from s3prl_emotion.audio.segments import TIMES
from s3prl_emotion.audit.findings import ERROR, NOTE, Finding, finding
from s3prl_emotion.audit.listing import SEEN, Indices, Listing
from s3prl_emotion.corpora.segment_columns import parse_seconds
from s3prl_emotion.corpora.segments import Span, overlapping_before, overlaps


def with_times(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Turn ``Start`` and ``End`` into seconds, and leave out the rows whose times are none.

    Args:
        table: a label table as its reader returns it

    Returns:
        the table, without these columns where one is missing, and what is wrong with them
    """
    present = [name for name in TIMES if name in table]
    if len(present) < 2:
        if not present:
            return table, []
        what = f"a column {present[0]} without its counterpart: training refuses the table"
        return table.drop(columns=present), [finding(ERROR, "segment-times", what, "add it", where=present)]
    start, end = (parse_seconds(table[name]) for name in TIMES)
    start = start.mask(table["End"].isna() & (start == 0))  # a whole file, as audformat writes it
    lacking = start.isna() != end.isna()
    for name, times in zip(TIMES, (start, end), strict=True):
        lacking |= times.isna() & table[name].notna() & ~((name == "Start") & table["End"].isna())
    backward = end <= start
    findings = []
    for wrong, what, fix in (
        (lacking, "Start or End is empty, or no time", "write seconds, or timedeltas, in both"),
        (backward, "segments whose End does not lie behind their Start", "correct the times"),
    ):
        if wrong.any():
            cases = [
                f"{file}: {first}, {last}"
                for file, first, last in table.loc[wrong, ["FileName", *TIMES]].fillna("").itertuples(index=False)
            ]
            findings.append(finding(ERROR, "segment-times", what, fix, cases, list(TIMES)))
    sound = ~(lacking | backward)
    return table.assign(Start=start, End=end)[sound].reset_index(drop=True), findings


def check_overlaps(listing: Listing) -> list[Finding]:
    """Check for segments that overlap others of their file, above all those of test and of train or dev."""
    if listing.rows["start"].isna().all():
        return []
    spans: list[Span] = [
        (file, 0.0, math.inf) if start != start else (file, start, end)
        for file, start, end in zip(*(listing.rows[name].tolist() for name in ("file", "start", "end")), strict=True)
    ]
    leaks: dict[str, None] = {}
    where = []
    for fold, splits in listing.folds.items():
        for seen in (name for name in SEEN if name in splits):
            for other in (name for name in splits if name not in SEEN):
                found = _shared(listing, spans, splits[seen], splits[other])
                leaks |= dict.fromkeys(found)
                where += [f"{fold}: {seen} and {other}"] if found else []
    own = [listing.files[index] for index in overlapping_before(spans)]
    findings = []
    if leaks:
        what = "segments of train or dev and of test overlap: the same audio stands in both"
        findings.append(
            finding(ERROR, "segment-leak", what, "put them into one split, or cut them apart", leaks, where)
        )
    if own:
        what = "segments overlap an earlier one of their file"
        findings.append(finding(NOTE, "segment-overlap", what, "fine where people talk at once; else correct", own))
    return findings


def _shared(listing: Listing, spans: list[Span], seen: Indices, tested: Indices) -> list[str]:
    """Return the tested segments that overlap a seen one, each with that; equal ones are another finding."""
    inside, outside = ([spans[index] for index in indices] for indices in (seen, tested))
    pairs = [(int(tested[index]), int(seen[other])) for index, other in overlaps(outside, inside).items()]
    return [f"{listing.files[one]}: {listing.files[two]}" for one, two in pairs if spans[one] != spans[two]]
