r"""Any corpus: a folder for each class, a pattern of file names, or a table with column names of its own.

Licence, official split, counts: your corpus's.
Folders: ``ROOT/happy/a.wav``: the first folder below ROOT is the class.
Pattern: ``--pattern '(?P<speaker>\d+)_(?P<emotion>[a-z]+)_.*'``: a regular expression for the whole stem, with the
    named groups emotion (required), speaker, gender, fold, split, text.
Table: ``--csv FILE --columns FileName=path,EmoClass=label``: our column = theirs; other columns keep their names.
``--names A=angry,S=sad`` renames classes in all three cases; without it they keep the corpus's names.
Known faults: without speakers no speaker-disjoint split can be drawn: provide them, or Fold or Split_Set.
Citation: none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3prl_emotion.audio.segments import TIMES
from s3prl_emotion.corpora.audio_files import in_other_form
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.prepare.preparer import Clip, Levels, Prepared, Preparer, flag, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import all_audio_files, gender, named_files, number, read_csv
from s3prl_emotion.corpora.table_file import tidy_file
from s3prl_emotion.errors import LabelError, UsageError, nearest

TITLE = "a corpus"
LAYOUT = "a folder for each class with audio files in it; else give --pattern, or --csv with --columns"
LEVELS = [f"{name}{suffix}" for suffix in ("", "Std") for name in DIMENSIONS]
GROUPS = ("emotion", "speaker", "gender", "fold", "split", "text")
COLUMNS = (
    "FileName", "EmoClass", "SpkrID", "Gender", "Fold", "Split_Set", "Text", "EmoAct", "EmoVal", "EmoDom", "EmoActStd",
    "EmoValStd", "EmoDomStd", *TIMES,
)  # fmt: skip


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or not all(item.strip() for item in pair) for pair in pairs):
        raise ValueError("must be pairs as A=angry,S=sad")
    return {left.strip(): right.strip() for left, right in pairs}


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare generic``."""

    pattern: str | None = field(
        default=None,
        metadata=flag(metavar="REGEX", help="pattern of file stems, with groups emotion, speaker, gender, fold, …"),
    )
    csv: Path | None = field(
        default=None,
        metadata=flag(type=Path, convert=Path.expanduser, metavar="FILE", help="table of files and classes"),
    )
    columns: Mapping[str, str] = field(
        default_factory=dict,
        metadata=flag(convert=_pairs, metavar="OURS=THEIRS,…", help="columns of --csv, as FileName=path"),
    )
    names: Mapping[str, str] = field(
        default_factory=dict,
        metadata=flag(convert=_pairs, metavar="THEIRS=OURS,…", help="names of classes, as A=angry,S=sad"),
    )


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of any corpus.

    Raises:
        LabelError: ROOT or the table does not fit the options
        UsageError: an option is malformed
    """
    if options.pattern and options.csv:
        raise UsageError("--pattern and --csv: use one of them")
    if options.columns and not options.csv:
        raise UsageError("--columns needs --csv FILE")
    if options.csv:
        prepared = _from_table(root, options.csv, options)
    elif options.pattern:
        prepared = _from_names(root, options.pattern, options)
    else:
        prepared = _from_folders(root, options)
    unused = sorted(set(options.names) - {clip.emotion for clip in prepared.clips} - set(options.names.values()))
    clips = [replace(clip, emotion=options.names.get(clip.emotion, clip.emotion)) for clip in prepared.clips]
    known = {clip.emotion for clip in prepared.clips}
    notes = [*prepared.notes, *(f"--names: no utterance has class {name!r}{nearest(name, known)}" for name in unused)]
    return Prepared(root, clips, notes=notes)


def _from_folders(root: Path, options: Options) -> Prepared:
    clips, notes = [], []
    loose = 0
    for path in all_audio_files(root):
        first, *rest = path.relative_to(root).parts
        if not rest:
            loose += 1
            continue
        clips.append(Clip(path, first))
    if not clips:
        raise wrong_layout(root, TITLE, LAYOUT)
    if loose:
        notes.append(f"{loose} audio files lie in no folder and are left out")
    notes.append("folders do not say who speaks: no column SpkrID; --pattern or --csv can")
    return Prepared(root, clips, notes=notes)


def _from_names(root: Path, text: str, options: Options) -> Prepared:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--pattern {text!r}: not a regular expression ({error})") from error
    for name in pattern.groupindex:
        if name not in GROUPS:
            raise UsageError(f"--pattern: no group {name!r}{nearest(name, GROUPS)}")
    if "emotion" not in pattern.groupindex:
        raise UsageError("--pattern needs a group (?P<emotion>…)")
    files, notes = named_files(
        root,
        pattern,
        TITLE,
        f"file stems that fit {text!r}",
        key=lambda path: str(path.relative_to(root)),
        search=all_audio_files,
    )
    clips = []
    for path, match in files:
        given = {name: value for name, value in match.groupdict().items() if value}
        if "emotion" not in given:
            raise LabelError(f"{path}: the group emotion of --pattern is empty")
        sex = given.get("gender")
        who = (given.get("speaker"), gender(sex) or sex if sex else None)
        clips.append(Clip(path, given["emotion"], *who, given.get("fold"), given.get("split"), given.get("text")))
    return Prepared(root, clips, notes=notes)


def _from_table(root: Path, path: Path, options: Options) -> Prepared:
    for name in options.columns:
        if name not in COLUMNS:
            raise UsageError(f"--columns: no column {name!r}{nearest(name, COLUMNS, most=5)}")
    theirs = {name: options.columns.get(name, name) for name in COLUMNS}
    rows = read_csv(path, (theirs["FileName"], theirs["EmoClass"], *options.columns.values()))
    if not rows:
        raise LabelError(f"{path}: the table has no rows")
    used = set(theirs.values())
    clips, notes = [], []
    for line, row in enumerate(rows, start=2):
        cells = {name: row.get(column, "").strip() for name, column in theirs.items()}
        if not cells["FileName"] or not cells["EmoClass"]:
            empty = theirs["EmoClass" if cells["FileName"] else "FileName"]
            raise LabelError(f"{path} line {line}: {empty} is empty")
        more = {name: value for name, value in row.items() if name not in used and name and value}
        more |= {name: cells[name] for name in TIMES if cells[name]}
        clips.append(_clip(root, path, line, cells, more))
    commas = [name for name in LEVELS if any("," in row.get(theirs[name], "") for row in rows)]
    if commas:
        notes.append(f"decimal commas are read in {', '.join(theirs[name] for name in commas)}")
    return Prepared(root, clips, notes=notes)


def _clip(root: Path, source: Path, line: int, cells: dict[str, str], more: dict[str, str]) -> Clip:
    def levels(suffix: str) -> Levels | None:
        given = [cells[f"{name}{suffix}"] for name in DIMENSIONS]
        values = [number(text) for text in given]
        for text, value in zip(given, values, strict=True):
            if text and value is None:
                raise LabelError(f"{source} line {line}: {text!r} is not a number")
        return (values[0], values[1], values[2]) if any(given) else None

    name = tidy_file(cells["FileName"])
    return Clip(
        in_other_form(root, root / name) or root / name,
        cells["EmoClass"],
        cells["SpkrID"] or None,
        gender(cells["Gender"]) or cells["Gender"] or None,
        cells["Fold"] or None,
        cells["Split_Set"] or None,
        cells["Text"] or None,
        levels(""),
        levels("Std"),
        more=more,
    )


PREPARER = Preparer(
    "generic",
    "any corpus",
    "a folder for each class, a pattern of file names, or a table",
    "your corpus's",
    LAYOUT,
    read,
    Options,
)
