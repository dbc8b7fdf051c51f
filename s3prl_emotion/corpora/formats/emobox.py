"""Read EmoBox's lists: a JSONL file for each split of each fold, and ``label_map.json`` with the names of classes."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.formats.speakers import PATTERNS, iemocap_speakers, speakers_of
from s3prl_emotion.errors import LabelError

logger = logging.getLogger(__name__)

# emodb_test_fold_1.jsonl; EmoBox also keeps an older edition of the same fold, emodb_test_fold1.jsonl.
LIST_NAME = re.compile(r"(?P<corpus>.+)_(?P<split>train|valid|test)_fold(?P<new>_?)(?P<fold>\d+)\.jsonl")
SPLITS = {"train": "Train", "dev": "Development", "test": "Test"}  # as in Split_Set


@dataclass(frozen=True)
class FoldList:
    """One list: its corpus, fold (``fold1``) and split (``train``, ``dev`` or ``test``)."""

    corpus: str
    fold: str
    split: str
    path: Path


@dataclass(frozen=True)
class Entry:
    """An utterance of a list; ``start`` and ``end`` (s) where it is a part of its file, ``length`` (s) where known."""

    file: str
    emotion: str
    start: float | None
    end: float | None
    length: float | None
    corpus: str | None

    @property
    def name(self) -> str:
        """What the utterance is called in messages."""
        return self.file if self.start is None else f"{self.file} [{self.start:.3f}-{self.end:.3f} s]"


def find_lists(source: Path) -> tuple[list[FoldList], list[str]]:
    """Return the lists of the newest edition of each fold, and the names of older ones.

    Args:
        source: a corpus's folder, one of its folds' folders, or a list

    Raises:
        LabelError: no lists, or those of several corpora
    """
    paths = [source] if source.is_file() else sorted(source.rglob("*_fold*.jsonl"))
    editions: dict[str, dict[bool, list[FoldList]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        match = LIST_NAME.fullmatch(path.name)
        if match:
            fold, split = f"fold{match['fold']}", match["split"].replace("valid", "dev")
            editions[fold][bool(match["new"])].append(FoldList(match["corpus"], fold, split, path))
    if not editions:
        raise LabelError(f"{source}: no EmoBox lists, as emodb_train_fold_1.jsonl and emodb_test_fold_1.jsonl")
    chosen = [item for both in editions.values() for item in both[max(both)]]
    corpora = sorted({item.corpus for item in chosen})
    if len(corpora) > 1:
        raise LabelError(f"{source}: lists of several corpora ({', '.join(corpora[:4])}); name one corpus's folder")
    return chosen, [item.path.name for both in editions.values() if len(both) > 1 for item in both[min(both)]]


def label_map(source: Path) -> dict[str, str]:
    """Read EmoBox's names for a corpus's own classes from ``label_map.json`` in the corpus's folder.

    Raises:
        LabelError: it is malformed
    """
    folder = source if source.is_dir() else source.parent
    for candidate in (folder, folder.parent):
        path = candidate / "label_map.json"
        if path.is_file():
            try:
                return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
            except (ValueError, AttributeError) as error:
                raise LabelError(f"{path}: not a JSON object of class names") from error
    return {}


class ClassNames:
    """Names of a corpus's classes by ``label_map.json``; a class in other letter case is not another class."""

    def __init__(self, mapped: dict[str, str]) -> None:
        self.mapped = mapped
        self._spellings = {key.lower(): value for key, value in mapped.items()}

    def name(self, emotion: str) -> str:
        """Return the name of a class; one that the map does not name keeps its own."""
        return self.mapped.get(emotion, self._spellings.get(emotion.lower(), emotion))


def entries(path: Path) -> Iterator[Entry]:
    """Read a list.

    Entries have ``wav`` and ``emo`` (in older files ``audio`` and ``label``), and for segments ``start_time`` and
    ``end_time``.

    Raises:
        LabelError: names the line at fault
    """
    for number, entry in _objects(path):
        name, emotion = entry.get("wav", entry.get("audio")), entry.get("emo", entry.get("label"))
        if not isinstance(name, str) or not isinstance(emotion, str) or not name:
            raise LabelError(f"{path}: an entry lacks 'wav' or 'emo', so not EmoBox's: {json.dumps(entry)[:80]}")
        length = entry.get("length")
        known = length if isinstance(length, (int, float)) and not isinstance(length, bool) else None
        start, end = entry.get("start_time"), entry.get("end_time")
        corpus = str(entry["dataset"]) if entry.get("dataset") else None
        if start is None or end is None:
            yield Entry(name, emotion, None, None, known, corpus)
            continue
        try:
            yield Entry(name, emotion, float(start), float(end), known, corpus)
        except (TypeError, ValueError) as error:
            raise LabelError(
                f"{path} line {number}: {name}: start_time and end_time must be seconds, got {start!r}, {end!r}"
            ) from error


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read as text ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(entry, dict):
            raise LabelError(f"{path} line {number}: not a JSON object but {line[:40]!r}")
        yield number, entry


def speakers_by_name(files: list[str], corpus: str) -> dict[str, list[str]]:
    """Return speakers, and genders where known, from the names of a corpus's files; nothing if they do not tell."""
    true = iemocap_speakers(files)
    if true is not None:
        return {"speaker": [speaker for speaker, _ in true], "gender": [gender for _, gender in true]}
    return {"speaker": speakers_of(files, re.compile(PATTERNS[corpus]))} if corpus in PATTERNS else {}


# --- as a label table -------------------------------------------------------------------------------------------------


def read_emobox_table(source: Path) -> dict[str, list[str | None]]:
    """Read a corpus of EmoBox as a label table: one fold's lists as ``Split_Set``, several folds as ``Fold``.

    Returns:
        columns of a label table, in the order of the lists

    Raises:
        LabelError: malformed lists, an utterance in two splits or of two classes, or folds whose test lists are no
            partition of the corpus
    """
    lists, older = find_lists(source)
    if older:
        logger.info("%s: older lists of the same folds are passed over: %s", source, ", ".join(older))
    names = ClassNames(label_map(source))
    known: dict[Entry, str] = {}
    found: dict[tuple[str, float | None, float | None], Entry] = {}
    places: dict[str, dict[Entry, str]] = defaultdict(dict)  # the split of each utterance, by fold
    for item in lists:
        for read in entries(item.path):
            entry = found.setdefault((read.file, read.start, read.end), read)
            emotion = names.name(read.emotion)
            if known.setdefault(entry, emotion) != emotion:
                raise LabelError(f"{item.path}: {entry.name} is {emotion}, but {known[entry]} in another place")
            other = places[item.fold].setdefault(entry, item.split)
            if other != item.split:
                raise LabelError(f"{item.path}: {entry.name} is in the {other} list of {item.fold} too")
    if not known:
        raise LabelError(f"{source}: its lists have no entries")
    unnamed = sorted({name for name in known.values() if names.mapped and name not in names.mapped.values()})
    if unnamed:
        logger.warning("%s: label_map.json does not name the classes %s", source, ", ".join(unnamed))
    every = [*known]
    corpus = next((entry.corpus for entry in every if entry.corpus), lists[0].corpus)
    files = [entry.file for entry in every]
    told = speakers_by_name(files, corpus)
    table: dict[str, list[str | None]] = {"FileName": [*files], "EmoClass": [known[entry] for entry in every]}
    for column, key in (("SpkrID", "speaker"), ("Gender", "gender")):
        if any(told.get(key, ())):
            table[column] = [name or None for name in told[key]]
    if any(entry.start is not None for entry in every):
        table |= {"Start": _texts(entry.start for entry in every), "End": _texts(entry.end for entry in every)}
    table |= _splits(source, places, every)
    if all(entry.length is not None for entry in every):
        table["Duration"] = [str(entry.length) for entry in every]
    return table


def _texts(times: Iterable[float | None]) -> list[str | None]:
    return [None if time is None else str(time) for time in times]


def _splits(source: Path, places: dict[str, dict[Entry, str]], every: Sequence[Entry]) -> dict[str, list[str | None]]:
    """Return the column that holds the folds.

    A column holds one fold of each utterance. So the lists of several folds must test each utterance once, and train
    on all others.
    """
    if len(places) == 1:
        (own,) = places.values()
        return {"Split_Set": [SPLITS[own[entry]] for entry in every]}
    tested: dict[Entry, str] = {}
    is_tested_twice = False
    for fold, own in places.items():
        for entry, split in own.items():
            if split == "test":
                is_tested_twice |= entry in tested
                tested[entry] = fold
    is_whole = all(len(own) == len(every) and "dev" not in own.values() for own in places.values())
    if is_tested_twice or not is_whole or len(tested) < len(every):
        raise LabelError(
            f"{source}: its folds do not test each utterance once and train on all others; name the folder of one "
            f"fold ({', '.join(sorted(places))})"
        )
    return {"Fold": [tested[entry] for entry in every]}
