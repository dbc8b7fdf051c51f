"""Check the names in a label table: two spellings of one, misspelt ones, values that are none, unknown partitions."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.corpora.class_spelling import misspelt
from s3prl_emotion.corpora.partitions import meant_by
from s3prl_emotion.corpora.table_values import no_values, spelt_apart
from s3prl_emotion.limits import shown

NAMES = ("EmoClass", "SpkrID", "Gender", "Fold")


def check_names(table: pd.DataFrame) -> list[Finding]:
    """Check the columns whose values are names.

    Args:
        table: a label table as its reader returns it
    """
    findings = []
    for column in (name for name in NAMES if name in table):
        apart = [" and ".join(map(shown, group)) for group in spelt_apart(table[column].unique())]
        if apart:
            what = f"names in {column} that differ in letter case alone: training refuses them"
            findings.append(finding(ERROR, "two-spellings", what, "write them alike", apart, [column]))
        wrong = no_values(table[column])
        if wrong:
            what = f"values in {column} that look like missing ones, but count as names"
            cases = [f"{name} {count}" for name, count in wrong.items()]
            findings.append(finding(WARNING, "no-value", what, "empty the cells, or remove the rows", cases, [column]))
    counts = {str(name): int(count) for name, count in table["EmoClass"].value_counts().items()}
    rare = [f"{name} {counts[name]}: {other} {counts[other]}" for name, other in misspelt(counts).items()]
    if rare:
        what = "classes that are spelt nearly as another, far more frequent one"
        fix = "correct them, or join them with datarc.merge"
        findings.append(finding(WARNING, "class-misspelt", what, fix, rare, ["EmoClass"]))
    return findings


def check_columns(table: pd.DataFrame) -> list[Finding]:
    """Point out that a table has both columns of splits."""
    if "Split_Set" not in table:
        return []
    what = "the table has Fold and Split_Set: Fold holds"
    return [
        finding(NOTE, "two-splits", what, "datarc.partition: split_set chooses the other", [], ["Fold", "Split_Set"])
    ]


def check_partitions(names: pd.Series) -> list[Finding]:
    """Check the values of ``Split_Set``."""
    unknown = list(_unknown(names))
    if not unknown:
        return []
    what = "values of Split_Set that are nearly a known partition, but not quite: training refuses them"
    return [finding(ERROR, "split-unknown", what, "write the known ones", unknown, ["Split_Set"])]


def _unknown(names: pd.Series) -> Iterator[str]:
    for name, count in names[names != ""].value_counts().items():
        meant = meant_by(str(name))
        if meant is not None:
            yield f"{shown(str(name))} {count}: write {meant}"
