"""Read the split lists of SUPERB (``meta_data``) and of EmoBox (JSONL)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.audit.findings import ERROR, NOTE, Finding, finding
from s3prl_emotion.audit.listing import EMOBOX, SEEN, SUPERB, Indices, Listing, RowCollector, as_indices, class_names
from s3prl_emotion.audit.speakers import PATTERNS, compile_pattern, iemocap_speakers, speakers_of
from s3prl_emotion.corpora.folds import natural_order
from s3prl_emotion.corpora.superb import drawn_validation, read_entries, speaker_of
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection

SPLITS = ("train", "test")
# emodb_test_fold_1.jsonl; EmoBox also keeps an older edition of the same fold, emodb_test_fold1.jsonl.
LIST_NAME = re.compile(r"(?P<corpus>.+)_(?P<split>train|valid|test)_fold(?P<new>_?)(?P<fold>\d+)\.jsonl")


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


@dataclass(frozen=True)
class _Split:
    corpus: str
    fold: str
    split: str
    path: Path


def read_emobox(source: Path, pattern: re.Pattern[str] | None) -> Listing:
    """Read a corpus of EmoBox: its folder, one of its fold folders, or one JSONL file.

    Entries have ``wav`` and ``emo`` (in older files ``audio`` and ``label``), and for segments ``start_time`` and
    ``end_time``. They have no speaker, which is taken from the file names if these contain it.

    Raises:
        LabelError: no lists, or malformed ones
    """
    splits, findings = _splits(source)
    mapped = _label_map(source)
    spellings = {key.lower(): value for key, value in mapped.items()}  # a class in other case is not another class
    collector = RowCollector()
    folds: dict[str, dict[str, Indices]] = defaultdict(dict)
    unknown: list[str] = []
    corpus = splits[0].corpus
    for item in splits:
        own = []
        for entry in _entries(item.path):
            name, emotion, start, end = _utterance(entry, item.path)
            corpus = str(entry.get("dataset") or corpus)
            if mapped and emotion not in mapped:
                unknown.append(f"{name}: {emotion}")
            label, length = mapped.get(emotion, spellings.get(emotion.lower(), emotion)), entry.get("length")
            own.append(collector.add(file=name, emotion=label, start=start, end=end, duration=length))
        folds[item.fold][item.split] = as_indices(own)
    rows = collector.frame()
    if rows.empty:
        raise LabelError(f"{source}: its lists have no entries")
    if unknown:
        what = "classes that label_map.json does not name"
        findings.append(finding(ERROR, "class-unknown", what, "add them to label_map.json or fix the entries", unknown))
    rows = rows.assign(**_speakers(rows["file"].tolist(), corpus, pattern))
    ordered = {fold: _in_order(folds[fold]) for fold in sorted(folds, key=natural_order)}
    if all("dev" not in parts for parts in ordered.values()):
        what = "no valid lists: EmoBox draws a fifth of train at random, so that train and dev share speakers"
        findings.append(finding(NOTE, "dev-drawn", what, "hold whole speakers out for validation"))
    named = list(dict.fromkeys(mapped.values()))
    classes = class_names(rows["emotion"], named)
    return Listing(source, EMOBOX, rows, ordered, classes, "EmoBox's lists", findings=tuple(findings))


def _in_order(parts: dict[str, Indices]) -> dict[str, Indices]:
    return {split: parts[split] for split in (*SEEN, "test") if split in parts}


def _splits(source: Path) -> tuple[list[_Split], list[Finding]]:
    """Return the lists of the newest edition of each fold."""
    paths = [source] if source.is_file() else sorted(source.rglob("*_fold*.jsonl"))
    editions: dict[str, dict[bool, list[_Split]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        match = LIST_NAME.fullmatch(path.name)
        if match:
            fold, split = f"fold{match['fold']}", match["split"].replace("valid", "dev")
            editions[fold][bool(match["new"])].append(_Split(match["corpus"], fold, split, path))
    if not editions:
        raise LabelError(f"{source}: no EmoBox lists, as emodb_train_fold_1.jsonl and emodb_test_fold_1.jsonl")
    chosen = [item for both in editions.values() for item in both[max(both)]]
    corpora = sorted({item.corpus for item in chosen})
    if len(corpora) > 1:
        raise LabelError(f"{source}: lists of several corpora ({', '.join(corpora[:4])}); name one corpus's folder")
    skipped = [item.path.name for both in editions.values() if len(both) > 1 for item in both[min(both)]]
    what = "older lists of the same folds lie beside the newer ones, and are passed over"
    return chosen, [finding(NOTE, "older-lists", what, "use one edition only", skipped)] if skipped else []


def _label_map(source: Path) -> dict[str, str]:
    """Read EmoBox's names for a corpus's own classes from ``label_map.json`` in the corpus's folder."""
    folder = source if source.is_dir() else source.parent
    for candidate in (folder, folder.parent):
        path = candidate / "label_map.json"
        if path.is_file():
            try:
                return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
            except (ValueError, AttributeError) as error:
                raise LabelError(f"{path}: not a JSON object of class names") from error
    return {}


def _entries(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read as text ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise LabelError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(entry, dict):
            raise LabelError(f"{path} line {number}: not a JSON object but {line[:40]!r}")
        yield entry


def _utterance(entry: dict[str, Any], path: Path) -> tuple[str, str, float | None, float | None]:
    """Return file and class, and for a segment its start and end in the file (s)."""
    name, emotion = entry.get("wav", entry.get("audio")), entry.get("emo", entry.get("label"))
    if not isinstance(name, str) or not isinstance(emotion, str) or not name:
        raise LabelError(f"{path}: an entry lacks 'wav' or 'emo', so not EmoBox's: {json.dumps(entry)[:80]}")
    start, end = entry.get("start_time"), entry.get("end_time")
    if start is None or end is None:
        return name, emotion, None, None
    try:
        return name, emotion, float(start), float(end)
    except (TypeError, ValueError) as error:
        raise LabelError(f"{path}: {name}: start_time and end_time must be seconds, got {start!r}, {end!r}") from error


def _speakers(files: list[str], corpus: str, pattern: re.Pattern[str] | None) -> dict[str, list[str]]:
    true = iemocap_speakers(files) if pattern is None else None
    if true is not None:
        return {"speaker": [speaker for speaker, _ in true], "gender": [gender for _, gender in true]}
    if pattern is None and corpus in PATTERNS:
        pattern = compile_pattern(PATTERNS[corpus])
    return {"speaker": speakers_of(files, pattern)} if pattern is not None else {}
