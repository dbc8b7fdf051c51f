"""Make the CSV files of the MSP-Podcast challenges (Odyssey 2024, Interspeech 2025), checked against the test list.

The attributes' file is that of the organisers' own ``eval_dim_ser_test3.py`` (github.com/msplabresearch/
MSP-Podcast_Challenge): FileName, EmoAct, EmoVal, EmoDom, each limited to the scale of 1 to 7. For classes, no public
code of the organisers writes a file; participants of both challenges submitted FileName and EmoClass, the letter that
the corpus's own label table has for the class. Both challenges score macro-F1 of eight classes and the CCC of each
attribute with population moments (÷n), as the organisers' ``CCC_loss`` has it.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from s3prl_emotion.corpora.class_names import MSP_LETTERS, spell_out
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.errors import LabelError, UsageError, nearest

FORMATS = ("odyssey2024", "is2025")
CATEGORICAL, ATTRIBUTES = "categorical", "attributes"
LETTERS = {name: letter for letter, name in MSP_LETTERS.items() if letter in "ASHUFDCN"}  # the eight classes
SCALE = (1.0, 7.0)
PARTITION = "test3"  # in the names of the files, and in Split_Set
AUDIO = ".wav"
Row = dict[str, str]


@dataclass(frozen=True)
class TestList:
    """The utterances of a challenge's test set: names of files, and their labels by column where they are known."""

    path: Path
    names: tuple[str, ...]
    labels: Mapping[str, Row]


@dataclass(frozen=True)
class ChallengeFile:
    """A file to submit.

    Attributes:
        task: ``categorical`` or ``attributes``
        text: of the CSV
        utterances: in it
        scores: by name, where the list has labels
        notes: of what was changed in the predictions
    """

    task: str
    text: str
    utterances: int
    scores: Mapping[str, float]
    notes: tuple[str, ...] = ()


def challenge_files(predictions: Sequence[Path], test_list: Path) -> list[ChallengeFile]:
    """Read predictions, check them against the test list, and make the file of each task that they hold.

    Args:
        predictions: CSV files of ``s3prl-emotion predict``, or of an evaluated split
        test_list: folder of audio, whose files have ``test3`` in their names; a label table; or a text file of names

    Raises:
        UsageError: a file is no predictions, or two are of the same task
        LabelError: utterances are missing, not listed or listed twice, or predictions are not those of the challenge
    """
    listed = read_test_list(test_list)
    files: dict[str, tuple[ChallengeFile, Path]] = {}
    for path in predictions:
        header, rows = _read(path)
        made = []
        if "prediction" in header:
            made.append(_categorical(path, header, _by_name(path, rows, listed), listed))
        if any(f"{name}_pred" in header for name in DIMENSIONS):
            made.append(_attributes(path, header, _by_name(path, rows, listed), listed))
        if not made:
            raise UsageError(
                f"{path}: no column prediction or {DIMENSIONS[0]}_pred; give a CSV of s3prl-emotion predict"
            )
        for file in made:
            if file.task in files:
                raise UsageError(f"{path}: {files[file.task][1]} holds {file.task} predictions too; name one of them")
            files[file.task] = file, path
    return [file for file, _ in files.values()]


# --- the list ---------------------------------------------------------------------------------------------------------


def read_test_list(path: Path) -> TestList:
    """Read the names of a challenge's test set.

    Raises:
        UsageError: no such file or folder, or it names no test utterance
        LabelError: a name is listed twice
    """
    if path.is_dir():
        names = sorted(file.name for file in path.rglob(f"*{AUDIO}") if PARTITION in file.name.lower())
        labels: dict[str, Row] = {}
        if not names:
            raise UsageError(f"--test_list {path}: no {AUDIO} file in it has {PARTITION} in its name")
    else:
        names, labels = _listed(path)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LabelError(f"{path}: {twice[0]} is listed twice; remove one")
    return TestList(path, tuple(names), labels)


def _listed(path: Path) -> tuple[list[str], dict[str, Row]]:
    text = _text(path, "--test_list ")
    first = text.partition("\n")[0]
    if "," not in first and "FileName" not in first:
        names = [_file(line) for line in text.splitlines() if line.strip()]
        if not names:
            raise UsageError(f"--test_list {path}: names no utterance")
        return names, {}
    header, rows = _table(path, text)
    if "FileName" not in header:
        raise UsageError(f"--test_list {path}: no column FileName{nearest('FileName', header)}")
    if "Split_Set" in header:
        partitions = sorted({row["Split_Set"] for row in rows})
        rows = [row for row in rows if row["Split_Set"].lower() == PARTITION or len(partitions) == 1]
        if not rows:
            raise UsageError(
                f"--test_list {path}: no row has Split_Set {PARTITION.title()}, only {', '.join(partitions)}; give a "
                "table of the rows to submit"
            )
    return [_file(row["FileName"]) for row in rows], {_file(row["FileName"]): row for row in rows}


# --- predictions ------------------------------------------------------------------------------------------------------


def _by_name(path: Path, rows: Sequence[Row], listed: TestList) -> dict[str, Row]:
    """Return the row of each listed utterance, in the list's order."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.get("window"):
            continue
        name = _file(row.get("FileName", ""))
        if row.get("error"):
            raise LabelError(f"{path}: {name} was not predicted ({row['error']}); predict it, every file must be there")
        if name in found:
            raise LabelError(f"{path}: {name} is predicted twice; remove one row")
        found[name] = row
    known = set(listed.names)
    foreign = [name for name in found if name not in known]
    if foreign:
        raise LabelError(f"{path}: {len(foreign)} of {len(found)} utterances are not in {listed.path}: {foreign[0]}")
    missing = [name for name in listed.names if name not in found]
    if missing:
        raise LabelError(f"{path}: {len(missing)} of {len(listed.names)} in {listed.path} are missing: {missing[0]}")
    return {name: found[name] for name in listed.names}


def _categorical(path: Path, header: Sequence[str], rows: Mapping[str, Row], listed: TestList) -> ChallengeFile:
    lacking = [name for name in LETTERS if f"p_{name}" not in header]
    if lacking:
        raise LabelError(
            f"{path}: no probability of {', '.join(lacking)}; the challenge has the classes {', '.join(LETTERS)}; "
            "train with these (datarc.classes)"
        )
    chosen, others = {}, 0
    for name, row in rows.items():
        values = {emotion: _number(path, name, row, f"p_{emotion}") for emotion in LETTERS}
        chosen[name] = max(values, key=lambda emotion: values[emotion])
        others += row["prediction"] not in LETTERS
    notes = (f"{others} utterances were predicted to be of other classes; the likeliest of the eight stands for them",)
    text = _csv(["FileName", "EmoClass"], ([name, LETTERS[emotion]] for name, emotion in chosen.items()))
    return ChallengeFile(CATEGORICAL, text, len(chosen), _f1(chosen, listed), notes if others else ())


def _attributes(path: Path, header: Sequence[str], rows: Mapping[str, Row], listed: TestList) -> ChallengeFile:
    lacking = [f"{name}_pred" for name in DIMENSIONS if f"{name}_pred" not in header]
    if lacking:
        raise LabelError(f"{path}: no column {', '.join(lacking)}; the challenge has {', '.join(DIMENSIONS)}")
    low, high = SCALE
    values = {
        name: [_number(path, name, row, f"{dimension}_pred") for dimension in DIMENSIONS] for name, row in rows.items()
    }
    outside = sum(not low <= value <= high for line in values.values() for value in line)
    limited = {name: [min(max(value, low), high) for value in line] for name, line in values.items()}
    notes = (
        f"{outside} of {3 * len(values)} values lay outside of {low:g} to {high:g} and were set to the nearer end",
    )
    text = _csv(["FileName", *DIMENSIONS], ([name, *(f"{v:.7g}" for v in line)] for name, line in limited.items()))
    return ChallengeFile(ATTRIBUTES, text, len(values), _ccc(limited, listed), notes if outside else ())


def _f1(chosen: Mapping[str, str], listed: TestList) -> dict[str, float]:
    """Return macro-F1 of the utterances that the list gives one of the eight classes; nothing without labels."""
    from s3prl_emotion.metrics.class_scores import macro_f1, whole_split

    classes = list(LETTERS)
    truth = {name: spell_out(row.get("EmoClass", "")) for name, row in listed.labels.items()}
    known = [name for name in chosen if truth.get(name) in LETTERS]
    if not known:
        return {}
    score = whole_split(macro_f1)
    return {"macro_f1": score([classes.index(truth[n]) for n in known], [classes.index(chosen[n]) for n in known])}


def _ccc(values: Mapping[str, Sequence[float]], listed: TestList) -> dict[str, float]:
    """Return the CCC of each attribute and their mean; nothing without labels."""
    import numpy as np

    from s3prl_emotion.metrics.dimension_scores import concordance

    truth = {name: [_optional(row.get(column)) for column in DIMENSIONS] for name, row in listed.labels.items()}
    known = [name for name in values if None not in truth.get(name, [None])]
    if not known:
        return {}
    pairs = np.array([truth[name] for name in known], dtype=float), np.array([values[name] for name in known])
    scores = {name: concordance(pairs[0][:, n], pairs[1][:, n]) for n, name in enumerate(DIMENSIONS)}
    defined = {f"CCC.{name}": value for name, value in scores.items() if value is not None}
    return {**defined, **({"mean_CCC": sum(defined.values()) / len(defined)} if len(defined) == len(scores) else {})}


# --- files ------------------------------------------------------------------------------------------------------------


def _file(name: str) -> str:
    """Return the name of the audio file, as the challenges' files have it."""
    name = PurePath(name.strip().replace("\\", "/")).name
    return name if not name or name.lower().endswith(AUDIO) else f"{name}{AUDIO}"


def _optional(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _number(path: Path, name: str, row: Row, column: str) -> float:
    value = _optional(row[column])
    if value is None:
        raise LabelError(f"{path}: {name}: {column} is {row[column]!r}, not a finite number; predict again")
    return value


def _text(path: Path, flag: str = "") -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"{flag}{path}: cannot be read ({reason}); check the path") from error


def _read(path: Path) -> tuple[list[str], list[Row]]:
    if path.is_dir():
        inside = next(iter(sorted(path.glob("*_predictions.csv"))), None)
        hint = f", such as {inside}" if inside is not None else ""
        raise UsageError(f"{path}: is a folder; for this format name files of predictions{hint}")
    return _table(path, _text(path))


def _table(path: Path, text: str) -> tuple[list[str], list[Row]]:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: not readable as CSV ({error})") from error
    if len(lines) < 2:
        raise UsageError(f"{path}: holds no rows; predict again")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]):
            raise UsageError(f"{path} line {number}: {len(line)} fields, the header names {len(lines[0])}")
    return lines[0], [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
