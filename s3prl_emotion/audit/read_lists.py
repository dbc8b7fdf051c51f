"""Read the split lists of SUPERB (``meta_data``) and of EmoBox (JSONL)."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from s3prl_emotion.audit.findings import ERROR, NOTE, finding
from s3prl_emotion.audit.listing import EMOBOX, SEEN, SUPERB, Indices, Listing, RowCollector, as_indices, class_names
from s3prl_emotion.corpora.folds import natural_order
from s3prl_emotion.corpora.formats.emobox import ClassNames, entries, find_lists, label_map, speakers_by_name
from s3prl_emotion.corpora.formats.speakers import speakers_of
from s3prl_emotion.corpora.superb import drawn_validation, read_entries, speaker_of
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection

SPLITS = ("train", "test")


def read_superb(folder: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read SUPERB's split lists; dev is drawn from train as s3prl's own task does.

    Raises:
        LabelError: no lists, or malformed ones
    """
    sessions = sorted(folder.glob("Session*"), key=lambda path: natural_order(path.name))
    if not sessions:
        raise LabelError(f"{folder}: no SessionN folders with SUPERB's split lists")
    collector = RowCollector()
    folds: dict[str, dict[str, Indices]] = {}
    named: dict[str, None] = {}
    strangers, where = [], []
    for session in sessions:
        lists: dict[str, list[int]] = {}
        for split in SPLITS:
            path = session / f"{split}_meta_data.json"
            labels, entries = read_entries(path)
            named |= dict.fromkeys(sorted(labels, key=lambda name: labels[name]))
            unknown = [f"{name}: {label}" for name, label, _ in entries if label not in labels]
            strangers += unknown
            where += [str(path.relative_to(folder))] if unknown else []
            lists[split] = [_superb_row(collector, *entry, pattern) for entry in entries]
        folds[session.name.replace("Session", "fold")] = _with_dev(lists)
    findings = []
    if strangers:
        what = "classes that the list's own 'labels' does not number"
        findings.append(
            finding(ERROR, "class-unknown", what, "add them to 'labels' or fix the entries", strangers, where)
        )
    rows = collector.frame()
    if rows.empty:
        raise LabelError(f"{folder}: its lists have no entries")
    classes = class_names(rows["emotion"], list(named))
    how = "SUPERB's lists; dev drawn from train"
    return Listing(folder, SUPERB, rows, folds, classes, how, dev_by_design=True, findings=tuple(findings))


def _superb_row(collector: RowCollector, name: str, label: str, dialogue: str, pattern: re.Pattern[str] | None) -> int:
    speaker, gender = speaker_of(name, dialogue)
    if pattern is not None:
        speaker = speakers_of([name], pattern)[0]
    return collector.add(file=name, emotion=label, speaker=speaker, gender=gender or "")


def _with_dev(lists: dict[str, list[int]]) -> dict[str, Indices]:
    listed = lists["train"]
    ratio = DataSection.model_fields["valid_ratio"].default
    train, dev = drawn_validation(len(listed), ratio)
    return {
        "train": as_indices(listed[index] for index in train),
        "dev": as_indices(listed[index] for index in dev),
        "test": as_indices(lists["test"]),
    }


def read_emobox(source: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read a corpus of EmoBox: its folder, one of its fold folders, or one JSONL file.

    Entries have no speaker, which is taken from the file names if these contain it.

    Raises:
        LabelError: no lists, or malformed ones
    """
    lists, older = find_lists(source)
    names = ClassNames(label_map(source))
    collector = RowCollector()
    folds: dict[str, dict[str, Indices]] = defaultdict(dict)
    unknown: list[str] = []
    corpus = lists[0].corpus
    for item in lists:
        own = []
        for entry in entries(item.path):
            corpus = entry.corpus or corpus
            if names.mapped and entry.emotion not in names.mapped:
                unknown.append(f"{entry.file}: {entry.emotion}")
            label = names.name(entry.emotion)
            own.append(
                collector.add(file=entry.file, emotion=label, start=entry.start, end=entry.end, duration=entry.length)
            )
        folds[item.fold][item.split] = as_indices(own)
    rows = collector.frame()
    if rows.empty:
        raise LabelError(f"{source}: its lists have no entries")
    findings = []
    if older:
        what = "older lists of the same folds lie beside the newer ones, and are passed over"
        findings.append(finding(NOTE, "older-lists", what, "use one edition only", older))
    if unknown:
        what = "classes that label_map.json does not name"
        findings.append(finding(ERROR, "class-unknown", what, "add them to label_map.json or fix the entries", unknown))
    files = rows["file"].tolist()
    rows = rows.assign(
        **(speakers_by_name(files, corpus) if pattern is None else {"speaker": speakers_of(files, pattern)})
    )
    ordered = {fold: _in_order(folds[fold]) for fold in sorted(folds, key=natural_order)}
    if all("dev" not in parts for parts in ordered.values()):
        what = "no valid lists: EmoBox draws a fifth of train at random, so that train and dev share speakers"
        findings.append(finding(NOTE, "dev-drawn", what, "hold whole speakers out for validation"))
    named = list(dict.fromkeys(names.mapped.values()))
    classes = class_names(rows["emotion"], named)
    return Listing(source, EMOBOX, rows, ordered, classes, "EmoBox's lists", findings=tuple(findings))


def _in_order(parts: dict[str, Indices]) -> dict[str, Indices]:
    return {split: parts[split] for split in (*SEEN, "test") if split in parts}
