"""Check utterances that are parts of files: whether they lie within their files, and whether they overlap."""

from __future__ import annotations

import logging
import math
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from s3prl_emotion.audio import check_inside
from s3prl_emotion.corpora.corpus import Corpus, Utterance

logger = logging.getLogger(__name__)
Span = tuple[str, float, float]  # file, start and end (s); a whole file ends never


def check_ends(utterances: Iterable[Utterance]) -> None:
    """Check that parts of files lie within their files, from each file's header.

    Raises:
        AudioError: names a part that does not
    """
    last: dict[Path, Utterance] = {}
    for item in utterances:
        if item.part is not None:
            known = last.setdefault(item.path, item)
            if known.part is not None and known.part.end < item.part.end:
                last[item.path] = item
    for path, item in last.items():
        if item.part is not None:
            check_inside(path, item.part)


def warn_of_overlaps(corpus: Corpus) -> None:
    """Warn of test segments that overlap segments of train or dev, and log those that overlap within a split."""
    if not any(item.part is not None for items in corpus.splits.values() for item in items):
        return
    seen = [item for name in ("train", "dev") for item in corpus.splits.get(name, ())]
    for name, items in corpus.splits.items():
        spans = spans_of(items)
        twice = overlapping_before(spans)
        if twice:
            logger.info(
                "%s: %d of the %d segments of %s overlap an earlier one (%s): the audio that they share counts twice",
                *(corpus.source, len(twice), len(items), name, items[twice[0]].name),
            )
        if name in ("train", "dev"):
            continue
        pairs = overlaps(spans, spans_of(seen))
        if pairs:
            index, other = next(iter(pairs.items()))
            logger.warning(
                "%s: %d of the %d segments of %s overlap segments of train or dev (%s and %s), so the head hears parts "
                "of them in training; put such segments into one split",
                *(corpus.source, len(pairs), len(items), name, items[index].name, seen[other].name),
            )


def spans_of(utterances: Iterable[Utterance]) -> list[Span]:
    """Return where utterances lie in their files."""
    return [
        (os.path.abspath(item.path), 0.0, math.inf)
        if item.part is None
        else (os.path.abspath(item.path), item.part.start, item.part.end)
        for item in utterances
    ]


def overlaps(spans: Sequence[Span], others: Sequence[Span]) -> dict[int, int]:
    """Return the indices of spans that overlap one of the others, each with the index of such a one."""
    by_file: dict[str, list[int]] = {}
    for index, (file, *_) in sorted(enumerate(others), key=lambda pair: pair[1][1]):
        by_file.setdefault(file, []).append(index)
    starts = {file: [others[index][1] for index in indices] for file, indices in by_file.items()}
    # of the others up to each, the one that ends last
    longest = {file: list(accumulate(indices, partial(_later_end, others))) for file, indices in by_file.items()}
    found: dict[int, int] = {}
    for index, (file, start, end) in enumerate(spans):
        before = bisect_left(starts.get(file, []), end)  # those that start before it ends
        if before and others[longest[file][before - 1]][2] > start:
            found[index] = longest[file][before - 1]
    return found


def _later_end(spans: Sequence[Span], one: int, other: int) -> int:
    return one if spans[one][2] >= spans[other][2] else other


def overlapping_before(spans: Sequence[Span]) -> list[int]:
    """Return the indices of spans that begin before an earlier one of their file ends."""
    ends: dict[str, float] = {}
    found = []
    for index, (file, start, end) in sorted(enumerate(spans), key=lambda pair: pair[1][1:]):
        if start < ends.get(file, 0.0):
            found.append(index)
        ends[file] = max(ends.get(file, 0.0), end)
    return sorted(found)
