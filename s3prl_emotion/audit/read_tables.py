"""Read label tables, and the CSV files of EMO-SUPERB."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.audit.check_segments import with_times
from s3prl_emotion.audit.check_values import check_columns, check_names, check_partitions
from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.audit.listing import EMO_SUPERB, TABLE, Indices, Listing, RowCollector, class_names, complete_rows
from s3prl_emotion.corpora.folds import drawn_folds, natural_order
from s3prl_emotion.corpora.formats.renaming import NO_COLUMNS
from s3prl_emotion.corpora.formats.speakers import iemocap_speakers, speakers_of
from s3prl_emotion.corpora.grader_shares import consensus
from s3prl_emotion.corpora.label_table import NUMBER_COLUMNS, TEXT_COLUMNS, read_rows, share_columns, spell_out_letters
from s3prl_emotion.corpora.partitions import partition_of
from s3prl_emotion.corpora.protocol import FOLDS
from s3prl_emotion.corpora.segment_columns import TIMES
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection

OURS = {
    "FileName": "file", "EmoClass": "emotion", "SpkrID": "speaker", "Gender": "gender", "Text": "text",
    "Duration": "duration", "Start": "start", "End": "end",
}  # fmt: skip


def read_label_table(
    path: Path, pattern: re.Pattern[str] | None, form: str = TABLE, columns: Mapping[str, str] = NO_COLUMNS
) -> Listing:
    """Read a label table, or labels that are read as one; faults in its rows become findings.

    Raises:
        LabelError: not readable, empty, or without file names or any label
    """
    table = read_rows(path, str, columns=columns)
    if "FileName" not in table:
        raise LabelError(f"{path}: no column FileName{nearest('FileName', table.columns)}")
    if "EmoClass" not in table:
        table["EmoClass"] = ""
    shares = share_columns(table)
    return _listing(path, form, table, shares, pattern)


def read_emo_superb(path: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read one fold of EMO-SUPERB, ``labels_consensus_1.csv``, or a folder with several.

    Shares are in the columns between FileName and the dimensions; ``config.json`` beside the file has the scale. There
    is no consensus column: the class is the one with the largest share, unless several tie.

    Raises:
        LabelError: no such file, not readable, empty, or not in that format
    """
    if not path.is_dir():
        return _emo_superb_fold(path, pattern)
    files = sorted(path.glob("labels_consensus_*.csv*"), key=lambda file: [len(file.name), file.name])
    if not files:
        raise LabelError(f"{path}: no labels_consensus_1.csv and the like in it")
    return _joined(path, {f"fold{number}": _emo_superb_fold(file, pattern) for number, file in enumerate(files, 1)})


def _emo_superb_fold(path: Path, pattern: re.Pattern[str] | None) -> Listing:
    table = read_rows(path, str)
    first = str(table.columns[0]) if len(table.columns) else ""
    if "FileName" not in table and first.startswith("Unnamed"):  # NNIME's tables do not name the column
        table = table.rename(columns={first: "FileName"})
    for column in ("FileName", "Split_Set"):
        if column not in table:
            raise LabelError(f"{path}: no column {column}, so not EMO-SUPERB's{nearest(column, table.columns)}")
    shares = [name for name in table.columns if name not in (*TEXT_COLUMNS, *NUMBER_COLUMNS, *TIMES)]
    if len(shares) < 2:
        raise LabelError(f"{path}: no columns of grader shares, so not EMO-SUPERB's; --format table reads label tables")
    table["EmoClass"] = ""
    return _listing(path, EMO_SUPERB, table, shares, pattern, _scale(path.parent / "config.json"))


def _scale(path: Path) -> tuple[float, float] | None:
    """Read the lowest and highest possible mean from EMO-SUPERB's ``config.json``."""
    try:
        section = json.loads(path.read_text(encoding="utf-8"))["dimensional"]
        return float(section["min_score"]), float(section["max_score"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # some copies come without the file, and some corpora without dimensions
        return None


def _listing(
    path: Path,
    form: str,
    table: pd.DataFrame,
    share_names: Sequence[str],
    pattern: re.Pattern[str] | None,
    scale: tuple[float, float] | None = None,
) -> Listing:
    if table.empty:
        raise LabelError(f"{path}: the table has no rows")
    findings: list[Finding] = []
    unnamed = table["FileName"].isna()
    if unnamed.any():
        lines = [f"line {row + 2}" for row in table.index[unnamed]]
        findings.append(
            finding(ERROR, "file-unnamed", "rows have no FileName", "name the file or remove the row", lines)
        )
        table = table[~unnamed]
    table = table.reset_index(drop=True)
    if table.empty:
        raise LabelError(f"{path}: no row has a FileName")
    table, wrong = with_times(table)
    findings += wrong
    if table.empty:
        raise LabelError(f"{path}: no row has times that can be used: {findings[-1].what} ({', '.join(TIMES)})")
    table["EmoClass"] = spell_out_letters(table["EmoClass"].fillna(""))
    findings += check_names(table)
    shares, wrong = _numbers(table, share_names)
    dimensions, more = _numbers(table, [name for name in NUMBER_COLUMNS if name in table])
    findings += wrong + more
    if not (table["EmoClass"] != "").any() and shares.columns.empty and dimensions.columns.empty:
        raise LabelError(f"{path}: no column EmoClass, nor shares, nor dimensions: no labels to check")
    labelled = table
    if not (table["EmoClass"] != "").any() and len(shares.columns):
        labelled = table.assign(EmoClass=consensus(table, shares.fillna(0.0)))
    rows = complete_rows(labelled.rename(columns=OURS)[[name for key, name in OURS.items() if key in labelled]])
    rows, more = _with_speakers(rows, form, pattern)
    findings += more
    split_by, drawn, folds, more = _folds(table, rows, path)
    classes = class_names(rows["emotion"], list(shares.columns) if form == EMO_SUPERB else ())
    named = dimensions.drop(columns="Duration", errors="ignore")
    return Listing(
        path, form, rows, folds, classes, split_by, shares, named, scale, drawn=drawn, findings=(*findings, *more)
    )


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, list[Finding]]:
    """Return columns as numbers, NaN where a cell is empty or not a finite number; the latter is a finding."""
    text = table[list(names)]
    numbers = text.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    findings = []
    for name in names:
        wrong = numbers[name].isna() & text[name].notna()
        if wrong.any():
            cases = [
                f"{file}: {value}" for file, value in zip(table["FileName"][wrong], text[name][wrong], strict=True)
            ]
            what = f"{name} holds what is no finite number"
            findings.append(
                finding(ERROR, "not-a-number", what, "write a number or leave the cell empty", cases, [name])
            )
    return numbers, findings


def _with_speakers(
    rows: pd.DataFrame, form: str, pattern: re.Pattern[str] | None
) -> tuple[pd.DataFrame, list[Finding]]:
    """Set the speakers from the user's pattern, from IEMOCAP's file names in EMO-SUPERB, or from the column."""
    if pattern is not None:
        return rows.assign(speaker=speakers_of(rows["file"].tolist(), pattern)), []
    true = iemocap_speakers(rows["file"].tolist())
    if true is None:
        return rows, []
    actual = pd.Series([speaker for speaker, _ in true], index=rows.index)
    given = rows["speaker"]
    mixed = sorted({name for name in given.unique() if name and actual[given == name].nunique() > 1})
    if form != EMO_SUPERB:
        if not mixed:
            return rows, []
        cases = [f"{name}: {', '.join(sorted(actual[given == name].unique()))}" for name in mixed]
        what = "SpkrID stands for several speakers, as IEMOCAP's file names tell"
        return rows, [
            finding(WARNING, "speaker-column", what, "write the true speakers into SpkrID", cases, ["SpkrID"])
        ]
    findings = []
    if mixed:
        what = "SpkrID is the session, not the speaker: speakers are taken from IEMOCAP's file names"
        cases = [f"{name}: {', '.join(sorted(actual[given == name].unique()))}" for name in mixed]
        findings.append(finding(NOTE, "speaker-column", what, "do not use SpkrID as the speaker", cases, ["SpkrID"]))
    return rows.assign(speaker=actual), findings


def _folds(
    table: pd.DataFrame, rows: pd.DataFrame, path: Path
) -> tuple[str, bool, dict[str, dict[str, Indices]], list[Finding]]:
    """Split by the column Fold, by Split_Set, or by drawing folds, in this order of preference, as training does.

    Returns:
        where the folds come from, whether they are drawn, the folds, and findings
    """
    for column, how in (("Fold", "column Fold, each fold tested in turn"), ("Split_Set", "column Split_Set")):
        if column not in table:
            continue
        empty = table[column].isna()
        findings = []
        if empty.any():
            fix = f"fill {column} in or remove the rows"
            findings.append(
                finding(ERROR, "split-empty", f"{column} is empty", fix, table["FileName"][empty], [column])
            )
        names = table[column].fillna("")
        findings += check_columns(table) if column == "Fold" else check_partitions(names)
        names = names.str.strip()
        return how, False, (_by_fold(names) if column == "Fold" else _by_partition(names)), findings
    return _drawn(rows, path)


def _by_fold(names: pd.Series) -> dict[str, dict[str, Indices]]:
    known = sorted(set(names) - {""}, key=natural_order)
    return {
        fold: {
            "train": np.flatnonzero((names != fold) & (names != "")).astype(np.int64),
            "test": np.flatnonzero(names == fold).astype(np.int64),
        }
        for fold in known
    }


def _by_partition(names: pd.Series) -> dict[str, dict[str, Indices]]:
    names = names.map(partition_of)
    parts = {
        name: np.flatnonzero(names == name).astype(np.int64) for name in sorted(set(names) - {""}, key=natural_order)
    }
    order = [name for name in ("train", "dev") if name in parts]
    return {"fold1": {name: parts[name] for name in [*order, *(name for name in parts if name not in order)]}}


def _drawn(rows: pd.DataFrame, path: Path) -> tuple[str, bool, dict[str, dict[str, Indices]], list[Finding]]:
    """Draw folds as training does for a table without any."""
    speakers = set(rows["speaker"])
    if "" in speakers or len(speakers) < 2:
        what = "there are no splits, and none that are speaker-disjoint can be drawn: "
        what += "speakers are not known" if "" in speakers else f"{len(speakers)} speaker(s), of two at least"
        cases = rows["file"][rows["speaker"] == ""]
        fix = "add the columns SpkrID, and Fold or Split_Set where the corpus has official ones"
        return "none", True, {}, [finding(ERROR, "no-splits", what, fix, cases)]
    number = min(FOLDS, len(speakers))
    config = DataSection(labels=str(path), num_folds=number, train_batch_size=1, eval_batch_size=1)
    frame = rows.rename(columns={"emotion": "EmoClass", "speaker": "SpkrID", "file": "FileName"})
    how = f"none in the table: {number} speaker-disjoint folds as training draws them"
    return how, True, _by_fold(drawn_folds(frame, path, config)), []


def _joined(path: Path, parts: dict[str, Listing]) -> Listing:
    """Join several folds of EMO-SUPERB over the same utterances; the first fold's labels of an utterance are kept."""
    collector = RowCollector()
    firsts: dict[int, tuple[str, int]] = {}
    folds: dict[str, dict[str, Indices]] = {}
    for fold, part in parts.items():
        known = ({key: value for key, value in row.items() if value == value} for row in part.rows.to_dict("records"))
        own = [collector.add(**values) for values in known]  # without NaN, which equals nothing
        for row, joined in enumerate(own):
            firsts.setdefault(joined, (fold, row))
        numbers = np.array(own, dtype=np.int64)
        folds[fold] = {split: numbers[chosen] for split, chosen in part.folds["fold1"].items()}
    first = next(iter(parts.values()))
    pairs = [firsts[joined] for joined in range(len(firsts))]
    shares = pd.DataFrame([parts[fold].shares.iloc[row] for fold, row in pairs]).reset_index(drop=True)
    dimensions = pd.DataFrame([parts[fold].dimensions.iloc[row] for fold, row in pairs]).reset_index(drop=True)
    rows = collector.frame()
    findings = {(item.code, item.where): item for part in parts.values() for item in part.findings}
    return Listing(
        path, EMO_SUPERB, rows, folds, class_names(rows["emotion"], list(shares.columns)), "one file a fold",
        shares, dimensions, first.scale, findings=tuple(findings.values()),
    )  # fmt: skip
