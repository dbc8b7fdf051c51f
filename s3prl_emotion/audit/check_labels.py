"""Check labels: class balance, association of speakers with classes, grader shares, and dimensions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pandas as pd

from s3prl_emotion.audit.association import Association, association
from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.audit.listing import EMO_SUPERB, SEEN, Listing
from s3prl_emotion.corpora.class_names import NO_CLASS
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.label_table import SHARE_TOLERANCE

IMBALANCE = 10  # ratio of the largest to the smallest class
SHIFT = 0.25  # total variation distance between the classes of train and of test
CONFOUNDED = 0.3  # Cramer's V from which on speakers predict the class
SIGNIFICANT = 0.01
ONE_GENDER = 0.1  # share below which a gender hardly counts
FEW = 10  # utterances of a class in a test; with fewer, its recall moves in steps of more than a tenth
TIE = 1e-6  # shares closer than this are equal
# Scales in use, narrowest first: 0-1, -1-1, SAM's and IEMOCAP's 1-5, MSP-Podcast's 1-7, CMU-MOSEI's -3-3, 1-9, percent
SCALES = ((0, 1), (-1, 1), (1, 5), (1, 7), (-3, 3), (1, 9), (0, 100))
STRAY = 0.01  # share of values that may be outside the scale that fits the others


def class_counts(listing: Listing) -> dict[str, dict[str, dict[str, int]]]:
    """Count the utterances of each class, by fold and split."""
    emotions = listing.column("emotion")
    return {
        fold: {
            split: {name: int((emotions[chosen] == name).sum()) for name in listing.classes}
            for split, chosen in splits.items()
        }
        for fold, splits in listing.folds.items()
    }


def associations(listing: Listing) -> dict[str, Association]:
    """Measure how well speakers and genders, where known, predict the class."""
    emotions = listing.column("emotion")
    measured = {}
    for name in ("speaker", "gender"):
        values = listing.column(name)
        known = (values != "") & ~np.isin(emotions.astype(str), [*NO_CLASS])
        tie = association(values[known], emotions[known]) if known.any() else None
        if tie is not None:
            measured[name] = tie
    return measured


def check_labels(listing: Listing, ties: dict[str, Association]) -> list[Finding]:
    """Run all checks of labels; ``ties`` is the result of :func:`associations`."""
    return [
        *_unlabelled(listing),
        *_classes(listing),
        *_shift(listing),
        *_confounded(listing, ties),
        *_genders(listing),
        *_shares(listing),
        *_consensus(listing),
        *_dimensions(listing),
    ]


def _unlabelled(listing: Listing) -> list[Finding]:
    empty = listing.column("emotion") == ""
    if not empty.any() or not listing.classes:
        return []
    return [finding(ERROR, "class-missing", "rows have no class", "fill it in, or remove them", listing.files[empty])]


def _classes(listing: Listing) -> list[Finding]:
    """Check for empty classes, classes missing in train or a test, rare classes, and imbalance."""
    totals: Counter[str] = Counter(listing.column("emotion").tolist())
    empty = [name for name in listing.classes if not totals[name]]
    findings = []
    if empty:
        what = "classes that are named, but of which there is no utterance"
        findings.append(finding(ERROR, "class-empty", what, "do not name them, or find their utterances", empty))
    if len(listing.classes) == 1:
        what = f"there is one class alone, {listing.classes[0]}"
        findings.append(finding(ERROR, "class-single", what, "check the column of classes"))
    absent: dict[str, list[str]] = defaultdict(list)
    rare, where = [], []
    for fold, splits in class_counts(listing).items():
        for split, counts in splits.items():
            labelled = sum(counts.values()) > 0  # an empty split is a finding of its own
            for name in set(listing.classes) - set(empty):
                if not counts[name] and labelled:
                    absent["train" if split == "train" else "test"].append(f"{fold}: {split}: {name}")
                elif counts[name] < FEW and split not in SEEN and labelled:
                    rare.append(f"{fold}: {split}: {name} {counts[name]}")
                    where.append(f"{fold}: {split}")
    if absent["train"]:
        what = "classes of which train has no utterance: they cannot be learnt"
        findings.append(
            finding(ERROR, "class-untrained", what, "change the split or the classes", sorted(absent["train"]))
        )
    if absent["test"]:
        what = "classes of which dev or test has no utterance: their recall is not defined, UAR is over fewer classes"
        fix = "change the split or the classes, or score all folds together"
        findings.append(finding(WARNING, "class-untested", what, fix, sorted(absent["test"])))
    if rare:
        what = f"classes with fewer than {FEW} utterances in a test: their recall is coarse"
        findings.append(finding(NOTE, "class-rare", what, "read UAR with its interval", sorted(rare), where))
    sizes = [totals[name] for name in listing.classes if totals[name]]
    if len(sizes) > 1 and max(sizes) >= IMBALANCE * min(sizes):
        cases = [f"{name} {totals[name]}" for name in sorted(listing.classes, key=lambda name: -totals[name])]
        what = f"the largest class has {max(sizes) / min(sizes):.0f} times as many utterances as the smallest"
        fix = "compare by UAR, not by accuracy; datarc.class_weights or balanced_sampling help in training"
        findings.append(finding(WARNING, "class-imbalance", what, fix, cases))
    return findings


def _shift(listing: Listing) -> list[Finding]:
    """Check whether class proportions of a test differ from those of train, beyond chance."""
    cases = []
    for fold, splits in class_counts(listing).items():
        train = np.array([*splits.get("train", {}).values()], dtype=float)
        for split, counts in splits.items():
            test = np.array([*counts.values()], dtype=float)
            if split in SEEN or not train.sum() or not test.sum():
                continue
            distance = np.abs(train / train.sum() - test / test.sum()).sum() / 2
            if distance > SHIFT and _p_value(train, test) < SIGNIFICANT:
                cases.append(f"{fold}: {split}: {distance:.2f}")
    if not cases:
        return []
    what = f"shares of the classes differ between train and test by more than {SHIFT:g} (total variation)"
    return [finding(WARNING, "class-shift", what, "accuracy then depends on the shift; compare by UAR", cases)]


def _p_value(train: Any, test: Any) -> float:
    from scipy.stats import chi2_contingency

    table = np.stack([train, test])
    return float(chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue)


def _confounded(listing: Listing, ties: dict[str, Association]) -> list[Finding]:
    findings = []
    emotions = listing.column("emotion")
    for name, tie in ties.items():
        if tie.cramers_v < CONFOUNDED or tie.p_value > SIGNIFICANT:
            continue
        by_value = defaultdict(set)
        for value, emotion in zip(listing.column(name), emotions, strict=True):
            if value and emotion not in NO_CLASS:
                by_value[value].add(emotion)
        fewest = sorted(by_value.items(), key=lambda item: (len(item[1]), item[0]))
        cases = [f"{value}: {', '.join(sorted(classes))}" for value, classes in fewest]
        what = f"the {name} tells the class (Cramer's V {tie.cramers_v:.2f}, {tie.explained:.0%} of its entropy)"
        fix = f"a model may learn {name}s in place of emotions; test on {name}s with all classes"
        findings.append(finding(WARNING, f"{name}-confounded", what, fix, cases))
    return findings


def _genders(listing: Listing) -> list[Finding]:
    genders, speakers = listing.column("gender"), listing.column("speaker")
    known = Counter(genders[genders != ""])
    findings = []
    if known and (len(known) < 2 or min(known.values()) < ONE_GENDER * sum(known.values())):
        cases = [f"{name} {count}" for name, count in known.most_common()]
        what = "one gender has hardly any utterances"
        findings.append(finding(NOTE, "gender-balance", what, "read scores by gender with care", cases))
    of_speaker = defaultdict(set)
    for speaker, gender in zip(speakers, genders, strict=True):
        if speaker and gender:
            of_speaker[speaker].add(gender)
    both = [f"{name}: {', '.join(sorted(known))}" for name, known in sorted(of_speaker.items()) if len(known) > 1]
    if both:
        what = "speakers have two genders: the column of speakers or of genders is wrong"
        findings.append(finding(WARNING, "speaker-genders", what, "check both columns", both))
    return findings


def _shares(listing: Listing) -> list[Finding]:
    shares = listing.shares
    if shares.columns.empty:
        return []
    files, values = listing.files, shares.to_numpy(dtype=float)
    missing, negative = np.isnan(values).any(axis=1), (values < 0).any(axis=1)
    sums = values.sum(axis=1)
    off = ~missing & ~negative & (np.abs(sums - 1) > SHARE_TOLERANCE)
    columns = tuple(str(name) for name in shares.columns)
    findings = []
    if missing.any():
        what = "rows lack shares of some class"
        findings.append(
            finding(ERROR, "shares-missing", what, "write 0 where nobody heard it", files[missing], columns)
        )
    if negative.any():
        what = "rows have negative shares"
        findings.append(finding(ERROR, "shares-negative", what, "count the votes again", files[negative], columns))
    if off.any():
        cases = [f"{name}: {total:.4g}" for name, total in zip(files[off], sums[off], strict=True)]
        what = f"rows whose shares do not sum to 1 within {SHARE_TOLERANCE:g}"
        findings.append(finding(ERROR, "shares-sum", what, "divide by the sum", cases, columns))
    least = np.nanmin(values) if not np.isnan(values).all() else 0.0
    if least > 0:
        what = f"no share is below {least:.4g}: the shares are smoothed"
        fix = "undo the smoothing before votes are counted or entropies compared"
        findings.append(finding(NOTE, "shares-smoothed", what, fix))
    return findings


def _consensus(listing: Listing) -> list[Finding]:
    """Check for rows whose class has a smaller share than another class."""
    shares = listing.shares
    if shares.columns.empty or listing.form == EMO_SUPERB:  # there the class is taken from the shares
        return []
    names = {str(name).lower(): index for index, name in enumerate(shares.columns)}
    values, cases = shares.to_numpy(dtype=float), []
    for row, (file, emotion) in enumerate(zip(listing.files, listing.column("emotion"), strict=True)):
        own = names.get(emotion.lower())
        if own is not None and values[row, own] < np.nanmax(values[row]) - TIE:
            top = shares.columns[int(np.nanargmax(values[row]))]
            cases.append(f"{file}: {emotion} {values[row, own]:.2f}, {top} {np.nanmax(values[row]):.2f}")
    if not cases:
        return []
    what = "rows whose class has a smaller share of the graders than another class"
    return [finding(WARNING, "consensus", what, "check which column is right", cases)]


def _dimensions(listing: Listing) -> list[Finding]:
    means = [name for name in DIMENSIONS if name in listing.dimensions]
    spreads = [f"{name}Std" for name in DIMENSIONS if f"{name}Std" in listing.dimensions]
    findings = []
    for name in (*means, *spreads):
        values = listing.dimensions[name]
        empty = values.isna()
        if empty.any():
            fix = "fill it in, or leave the rows out where dimensions are learnt"
            findings.append(
                finding(WARNING, "dimension-missing", f"{name} is empty", fix, listing.files[empty], [name])
            )
        if name in means and values.nunique() == 1 and len(values) > 1:
            what = f"{name} is the same everywhere, so that its CCC means nothing"
            findings.append(finding(ERROR, "dimension-constant", what, "check the column", [], [name]))
        negative = values < 0
        if name in spreads and negative.any():
            what = f"{name} is a standard deviation, but negative"
            findings.append(finding(ERROR, "spread-negative", what, "check it", listing.files[negative], [name]))
    return findings + _out_of_scale(listing, listing.dimensions[means])


def _out_of_scale(listing: Listing, means: pd.DataFrame) -> list[Finding]:
    values = means.to_numpy(dtype=float)
    known = values[~np.isnan(values)]
    scale, margin = listing.scale or _scale_of(known), 0.0
    if scale is None or not len(known):
        return []
    if listing.scale is None:  # the scale is a guess: 1-7 may look like 1-5
        margin = (scale[1] - scale[0]) / 2
    wrong = (values < scale[0]) | (values > scale[1] + margin)
    if not wrong.any():
        return []
    cases = [
        f"{listing.files[row]}: {means.columns[column]} {values[row, column]:g}" for row, column in np.argwhere(wrong)
    ]
    how = "" if listing.scale else ", on which nearly all others lie"
    what = f"values outside of the scale {scale[0]:g} to {scale[1]:g}{how}"
    where = [str(means.columns[column]) for column in np.flatnonzero(wrong.any(axis=0))]
    return [finding(ERROR, "dimension-range", what, "fix them, or leave the cells empty", cases, where)]


def _scale_of(known: Any) -> tuple[float, float] | None:
    """Return the narrowest common scale that contains all but a few stray values."""
    strays = max(1, int(STRAY * len(known)))
    fits = [scale for scale in SCALES if ((known < scale[0]) | (known > scale[1])).sum() <= strays]
    return fits[0] if fits else None
