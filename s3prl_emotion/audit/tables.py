"""Label tables, and the CSV files of EMO-SUPERB, as listings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.audit.listing import EMO_SUPERB, TABLE, Listing, Places, RowBook, class_names, complete_rows
from s3prl_emotion.audit.speakers import iemocap_speakers, speakers_of
from s3prl_emotion.corpora.folds import OFFICIAL, drawn_folds, natural_order
from s3prl_emotion.corpora.grader_shares import consensus
from s3prl_emotion.corpora.label_table import NUMBER_COLUMNS, TEXT_COLUMNS, read_rows, share_columns, spell_out_letters
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection

OURS = {
    "FileName": "file", "EmoClass": "emotion", "SpkrID": "speaker", "Gender": "gender", "Text": "text",
    "Duration": "duration",
}  # fmt: skip
MOST_DRAWN = 5  # folds that are drawn where a table has none, as by default in training


def read_label_table(path: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read a label table, whatever is wrong with its rows.

    Raises:
        LabelError: not readable, empty, or without file names or any label
    """
    table = read_rows(path, str)
    if "FileName" not in table:
        raise LabelError(f"{path}: no column FileName{nearest('FileName', table.columns)}")
    if "EmoClass" not in table:
        table["EmoClass"] = ""
    shares = share_columns(table)
    return _listing(path, TABLE, table, shares, pattern)


def read_emo_superb(path: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read one fold of EMO-SUPERB, ``labels_consensus_1.csv``, or a folder that holds several.

    Shares are in columns between FileName and the dimensions; ``config.json`` beside the file has the scale. There
    is no consensus column: the class is the one with the largest share, if one alone has it.

    Raises:
        LabelError: no such file, not readable, empty, or not in that layout
    """
    if not path.is_dir():
        return _emo_superb_fold(path, pattern)
    found = sorted(path.glob("labels_consensus_*.csv*"), key=lambda name: [len(name.name), name.name])
    if not found:
        raise LabelError(f"{path}: no labels_consensus_1.csv and the like in it")
    return _joined(path, {f"fold{number}": _emo_superb_fold(name, pattern) for number, name in enumerate(found, 1)})


def _emo_superb_fold(path: Path, pattern: re.Pattern[str] | None) -> Listing:
    table = read_rows(path, str)
    first = str(table.columns[0]) if len(table.columns) else ""
    if "FileName" not in table and first.startswith("Unnamed"):  # NNIME's tables do not name the column
        table = table.rename(columns={first: "FileName"})
    for column in ("FileName", "Split_Set"):
        if column not in table:
            raise LabelError(f"{path}: no column {column}, so not EMO-SUPERB's{nearest(column, table.columns)}")
    shares = [name for name in table.columns if name not in (*TEXT_COLUMNS, *NUMBER_COLUMNS)]
    if len(shares) < 2:
        raise LabelError(f"{path}: no columns of grader shares, so not EMO-SUPERB's; --format table reads label tables")
    table["EmoClass"] = ""
    return _listing(path, EMO_SUPERB, table, shares, pattern, _scale(path.parent / "config.json"))


def _scale(path: Path) -> tuple[float, float] | None:
    """Least and greatest mean that EMO-SUPERB's ``config.json`` names."""
    try:
        section = json.loads(path.read_text(encoding="utf-8"))["dimensional"]
        return float(section["min_score"]), float(section["max_score"])
    except (OSError, ValueError, KeyError, TypeError):  # it is not beside every copy, nor has every corpus dimensions
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
    found: list[Finding] = []
    unnamed = table["FileName"].isna()
    if unnamed.any():
        lines = [f"line {place + 2}" for place in np.flatnonzero(unnamed)]
        found.append(finding(ERROR, "file-unnamed", "rows have no FileName", "name the file or remove the row", lines))
        table = table[~unnamed]
    table = table.reset_index(drop=True)
    if table.empty:
        raise LabelError(f"{path}: no row has a FileName")
    table["EmoClass"] = spell_out_letters(table["EmoClass"].fillna(""))
    shares, wrong = _numbers(table, share_names)
    dimensions, more = _numbers(table, [name for name in NUMBER_COLUMNS if name in table])
    found += wrong + more
    if not (table["EmoClass"] != "").any() and shares.columns.empty and dimensions.columns.empty:
        raise LabelError(f"{path}: no column EmoClass, nor shares, nor dimensions: no labels to check")
    labelled = table
    if not (table["EmoClass"] != "").any() and len(shares.columns):
        labelled = table.assign(EmoClass=consensus(table, shares.fillna(0.0)))
    rows = complete_rows(labelled.rename(columns=OURS)[[name for key, name in OURS.items() if key in labelled]])
    rows, more = _with_speakers(rows, form, pattern)
    found += more
    split_by, drawn, folds, more = _folds(table, rows, path)
    classes = class_names(rows["emotion"], list(shares.columns) if form == EMO_SUPERB else ())
    named = dimensions.drop(columns="Duration", errors="ignore")
    return Listing(
        path, form, rows, folds, classes, split_by, shares, named, scale, drawn=drawn, findings=(*found, *more)
    )


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, list[Finding]]:
    """Columns as numbers, NaN where empty or no finite number; the latter is a fault."""
    text = table[list(names)]
    numbers = text.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    found = []
    for name in names:
        wrong = numbers[name].isna() & text[name].notna()
        if wrong.any():
            cases = [
                f"{file}: {value}" for file, value in zip(table["FileName"][wrong], text[name][wrong], strict=True)
            ]
            what = f"{name} holds what is no finite number"
            found.append(finding(ERROR, "not-a-number", what, "write a number or leave the cell empty", cases, [name]))
    return numbers, found


def _with_speakers(
    rows: pd.DataFrame, form: str, pattern: re.Pattern[str] | None
) -> tuple[pd.DataFrame, list[Finding]]:
    """Speakers by the user's pattern, by IEMOCAP's file names in EMO-SUPERB, else as the column has them."""
    if pattern is not None:
        return rows.assign(speaker=speakers_of(rows["file"].tolist(), pattern)), []
    true = iemocap_speakers(rows["file"].tolist())
    if true is None:
        return rows, []
    told = pd.Series([speaker for speaker, _ in true], index=rows.index)
    given = rows["speaker"]
    mixed = sorted({name for name in given.unique() if name and told[given == name].nunique() > 1})
    if form != EMO_SUPERB:
        if not mixed:
            return rows, []
        cases = [f"{name}: {', '.join(sorted(told[given == name].unique()))}" for name in mixed]
        what = "SpkrID stands for several speakers, as IEMOCAP's file names tell"
        return rows, [
            finding(WARNING, "speaker-column", what, "write the true speakers into SpkrID", cases, ["SpkrID"])
        ]
    found = []
    if mixed:
        what = "SpkrID is the session, not the speaker: speakers are taken from IEMOCAP's file names"
        cases = [f"{name}: {', '.join(sorted(told[given == name].unique()))}" for name in mixed]
        found.append(finding(NOTE, "speaker-column", what, "do not use SpkrID as the speaker", cases, ["SpkrID"]))
    return rows.assign(speaker=told), found


def _folds(
    table: pd.DataFrame, rows: pd.DataFrame, path: Path
) -> tuple[str, bool, dict[str, dict[str, Places]], list[Finding]]:
    """By column Fold, else Split_Set, else drawn, as in training: how, whether drawn, the folds, and faults."""
    for column, how in (("Fold", "column Fold, each fold tested in turn"), ("Split_Set", "column Split_Set")):
        if column not in table:
            continue
        empty = table[column].isna()
        found = []
        if empty.any():
            mend = f"fill {column} in or remove the rows"
            found.append(finding(ERROR, "split-empty", f"{column} is empty", mend, table["FileName"][empty], [column]))
        names = table[column].fillna("").str.strip()
        return how, False, (_by_fold(names) if column == "Fold" else _by_partition(names)), found
    return _drawn(rows, path)


def _by_fold(names: pd.Series) -> dict[str, dict[str, Places]]:
    known = sorted(set(names) - {""}, key=natural_order)
    return {
        fold: {
            "train": np.flatnonzero((names != fold) & (names != "")).astype(np.int64),
            "test": np.flatnonzero(names == fold).astype(np.int64),
        }
        for fold in known
    }


def _by_partition(names: pd.Series) -> dict[str, dict[str, Places]]:
    names = names.map(lambda name: OFFICIAL.get(name.lower(), name))
    parts = {
        name: np.flatnonzero(names == name).astype(np.int64) for name in sorted(set(names) - {""}, key=natural_order)
    }
    order = [name for name in ("train", "dev") if name in parts]
    return {"fold1": {name: parts[name] for name in [*order, *(name for name in parts if name not in order)]}}


def _drawn(rows: pd.DataFrame, path: Path) -> tuple[str, bool, dict[str, dict[str, Places]], list[Finding]]:
    """Folds as training draws them from a table without any."""
    speakers = set(rows["speaker"])
    if "" in speakers or len(speakers) < 3:
        what = "there are no splits, and none that are speaker-disjoint can be drawn: "
        what += "speakers are not known" if "" in speakers else f"{len(speakers)} speaker(s), of three at least"
        cases = rows["file"][rows["speaker"] == ""]
        mend = "add the columns SpkrID, and Fold or Split_Set where the corpus has official ones"
        return "none", True, {}, [finding(ERROR, "no-splits", what, mend, cases)]
    number = min(MOST_DRAWN, len(speakers))
    config = DataSection(labels=str(path), num_folds=number, train_batch_size=1, eval_batch_size=1)
    frame = rows.rename(columns={"emotion": "EmoClass", "speaker": "SpkrID", "file": "FileName"})
    how = f"none in the table: {number} speaker-disjoint folds as training draws them"
    return how, True, _by_fold(drawn_folds(frame, path, config)), []


def _joined(path: Path, parts: dict[str, Listing]) -> Listing:
    """Several folds of EMO-SUPERB over the same utterances as one listing; an utterance's labels are its first ones."""
    book = RowBook()
    firsts: dict[int, tuple[str, int]] = {}
    folds: dict[str, dict[str, Places]] = {}
    for fold, part in parts.items():
        known = ({key: value for key, value in row.items() if value == value} for row in part.rows.to_dict("records"))
        own = [book.add(**values) for values in known]  # without NaN, which equals nothing
        for row, place in enumerate(own):
            firsts.setdefault(place, (fold, row))
        own_places = np.array(own, dtype=np.int64)
        folds[fold] = {split: own_places[chosen] for split, chosen in part.folds["fold1"].items()}
    first = next(iter(parts.values()))
    pairs = [firsts[place] for place in range(len(firsts))]
    shares = pd.DataFrame([parts[fold].shares.iloc[row] for fold, row in pairs]).reset_index(drop=True)
    dimensions = pd.DataFrame([parts[fold].dimensions.iloc[row] for fold, row in pairs]).reset_index(drop=True)
    rows = book.frame()
    found = {(item.code, item.where): item for part in parts.values() for item in part.findings}
    return Listing(
        path, EMO_SUPERB, rows, folds, class_names(rows["emotion"], list(shares.columns)), "one file a fold",
        shares, dimensions, first.scale, findings=tuple(found.values()),
    )  # fmt: skip
