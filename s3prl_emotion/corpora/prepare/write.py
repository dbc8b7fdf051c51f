"""Check what a preparer has read (audio, counts, the table) and write it, all files or none."""

from __future__ import annotations

import csv
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.audio_files import none_found
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.prepare.circumplex import with_points
from s3prl_emotion.corpora.prepare.preparer import Clip, Levels, Prepared, Rating, Vote
from s3prl_emotion.corpora.prepare.source_files import ABOUT, LABELS, RATINGS, VOTES
from s3prl_emotion.corpora.prepare.votes import smoothed
from s3prl_emotion.errors import AudioError, LabelError, UsageError
from s3prl_emotion.files.outputs import check_folder, new_folder
from s3prl_emotion.files.progress import progress

logger = logging.getLogger(__name__)

SHOWN = 20  # faulty files that are logged one by one
_POINTER = b"version https://git-lfs"  # beginning of a Git LFS pointer, in place of a file that was not fetched


@dataclass(frozen=True)
class Written:
    """The table that was written: its path, its rows, and where its counts differ from the published corpus."""

    labels: Path
    clips: Sequence[Clip]
    differences: Sequence[str]


def check_out(out: Path, overwrite: bool) -> None:
    """Raise, before any work is done, if the folder holds an earlier table.

    Raises:
        UsageError: there is a table and ``overwrite`` is not set or it is another's, or OUT is a file
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; OUT must be a folder")
    check_folder(out, "")
    existing = [name for name in (LABELS, VOTES, RATINGS) if (out / name).exists()]
    if existing and not (out / ABOUT).is_file():
        raise UsageError(
            f"{out / existing[0]}: is not a table that prepare wrote ({ABOUT} is not beside it); name another OUT"
        )
    if existing and not overwrite:
        raise UsageError(f"{out / existing[0]}: exists already; --overwrite replaces it, or name another OUT")


def write(
    prepared: Prepared, out: Path, about: Mapping[str, Any], smoothing: float, circumplex: bool, skip_missing: bool
) -> Written:
    """Check what a preparer has read, and write ``labels.csv``, ``votes.csv``, ``ratings.csv`` and ``prepare.json``.

    Args:
        prepared: the preparer's result
        out: folder; made if it does not exist
        about: corpus and options, for ``prepare.json``
        smoothing: of the shares, as :func:`~s3prl_emotion.corpora.prepare.votes.smoothed` does it
        circumplex: whether to set dimensions to the classes' points on Russell's circle
        skip_missing: whether to drop rows without readable audio instead of raising

    Raises:
        AudioError: audio is missing or unreadable
        LabelError: the table does not pass the checks of the suite's own reader
        UsageError: the folder cannot be written
    """
    clips, seconds = _with_audio(prepared, skip_missing)
    for note in prepared.notes:
        logger.info("%s", note)
    differences = prepared.expected.differences(clips)
    for difference in differences:
        logger.warning("not as published: %s", difference)
    if circumplex:
        clips = with_points(clips)
        logger.warning("EmoAct, EmoVal and EmoDom are the classes' points on Russell's circle, not anybody's grades")
    if smoothing:
        clips = [replace(clip, shares=smoothed(clip.shares, smoothing)) for clip in clips]
    kept = {clip.path for clip in clips}
    texts = {
        RATINGS: _ratings_text([item for item in prepared.ratings if item.path in kept], prepared.root),
        VOTES: _votes_text([vote for vote in prepared.votes if vote.path in kept], prepared.root),
        LABELS: _labels_text(clips, seconds, prepared.root),
    }
    _validate(texts[LABELS], out / LABELS)
    counts = dict(Counter(clip.emotion for clip in clips).most_common())
    record = {**about, "utterances": len(clips), "classes": counts, "differences": differences}
    _publish(out, texts, {**record, "notes": list(prepared.notes)})
    return Written(out / LABELS, clips, differences)


def _with_audio(prepared: Prepared, skip_missing: bool) -> tuple[list[Clip], dict[Path, float]]:
    """Return the clips whose audio can be read, and the length of each (s)."""
    if not prepared.clips:
        raise LabelError(f"{prepared.root}: no utterance is left; check ROOT and the options")
    paths = [clip.path for clip in prepared.clips]
    with ThreadPoolExecutor(8) as pool:  # mostly waits for the disk
        lengths = list(progress(pool.map(_length, paths), "audio", "files", total=len(paths), leave=False))
    seconds: dict[Path, float] = {}
    faulty = []
    for path, length in zip(paths, lengths, strict=True):
        if isinstance(length, float):
            seconds[path] = length
        elif path.stem in prepared.tolerated:
            logger.info("%s is left out: %s (%s)", path, length, prepared.tolerated[path.stem])
        else:
            faulty.append(f"{path}: {length}")
    for line in faulty[:SHOWN]:
        logger.error("%s", line)
    if len(faulty) > SHOWN:
        logger.error("… and %d more", len(faulty) - SHOWN)
    if faulty and not skip_missing and not any(path.is_file() for path in paths):
        names = [file_name(path, prepared.root) for path in paths]
        raise AudioError(f"{none_found(prepared.root, names, 'the table or the list', 'ROOT')}; nothing was written")
    if faulty and not skip_missing:
        raise AudioError(
            f"{len(faulty)} of {len(paths)} audio files are missing or unreadable, the first: {faulty[0]}; fix "
            "them, or drop them with --skip_missing; nothing was written"
        )
    if not seconds:
        raise AudioError(f"{prepared.root}: none of {len(paths)} audio files can be read; check ROOT")
    if faulty:
        logger.warning("%d utterances without readable audio are left out", len(faulty))
    return [clip for clip in prepared.clips if clip.path in seconds], seconds


def _length(path: Path) -> float | str:
    """Return the length of an audio file (s), or the reason why it cannot be used."""
    from s3prl_emotion.audio import REMEDY, header

    if not path.is_file():
        return "no such audio file"
    try:
        found = header(path)
    except AudioError as error:
        if _starts_as_pointer(path):
            return "a Git LFS pointer instead of audio: git lfs pull fetches it"
        return str(error).removeprefix(f"{path}: ").removesuffix(f"; {REMEDY}")
    return found.seconds if found.frames else "audio has 0 samples"


def _starts_as_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def file_name(path: Path, root: Path) -> str:
    """Return a file's name in the table: its path below the audio root.

    Raises:
        LabelError: it is not below the root
    """
    try:
        return path.relative_to(root).as_posix()
    except ValueError as error:
        raise LabelError(f"{path}: is not below the audio root {root}") from error


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


def _level_cells(levels: Levels | None) -> list[str]:
    return [_cell(level) for level in levels or (None, None, None)]


def _labels_text(clips: Sequence[Clip], seconds: Mapping[Path, float], root: Path) -> str:
    """Return the label table as text, without empty columns."""
    rows = []
    for clip in sorted(clips, key=lambda clip: clip.path.as_posix()):
        spreads = [f"{name}Std" for name in DIMENSIONS]
        cells = {"FileName": file_name(clip.path, root), "EmoClass": clip.emotion}
        cells |= dict(zip(DIMENSIONS, _level_cells(clip.means), strict=True))
        cells |= dict(zip(spreads, _level_cells(clip.spreads), strict=True))
        cells |= {name: _cell(share) for name, share in clip.shares.items()}
        cells |= {"SpkrID": clip.speaker or "", "Gender": clip.gender or "", "Split_Set": clip.split or ""}
        is_segment = any(name.casefold() == "start" for name in clip.more)  # whose times are its duration
        length = None if is_segment else seconds[clip.path]
        cells |= {"Fold": clip.fold or "", "Text": clip.text or "", "Duration": _cell(length)}
        clashing = sorted(set(clip.more) & {name for name, cell in cells.items() if cell})
        if clashing:
            raise LabelError(f"{root}: the corpus's own column {clashing[0]} has the name of one of ours; rename it")
        rows.append(cells | dict(clip.more))
    known = dict.fromkeys(name for row in rows for name, cell in row.items() if cell)
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name in known]
    return _csv_text(columns, ([row.get(name, "") for name in columns] for row in rows))


def _votes_text(votes: Sequence[Vote], root: Path) -> str:
    """Return a table with one row per vote, as ``datarc.distribution: {source: votes}`` reads it."""
    rows = sorted((file_name(vote.path, root), vote.grader, vote.emotion) for vote in votes)
    return _csv_text(["FileName", "Grader", "EmoClass"], rows) if rows else ""


def _ratings_text(ratings: Sequence[Rating], root: Path) -> str:
    rows = sorted([file_name(item.path, root), item.grader, *_level_cells(item.levels)] for item in ratings)
    return _csv_text(["FileName", "Grader", *DIMENSIONS], rows) if rows else ""


def _csv_text(columns: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _validate(text: str, path: Path) -> None:
    """Read the table as training will.

    Raises:
        LabelError: the table is malformed
    """
    from s3prl_emotion.corpora.class_spelling import refuse_classes_apart
    from s3prl_emotion.corpora.label_table import read_table

    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        try:
            trial.write_text(text, encoding="utf-8")
            classes = read_table(trial)["EmoClass"].unique()
            refuse_classes_apart(classes, classes, trial)
        except LabelError as error:
            message = str(error).replace(str(trial), str(path))
            raise LabelError(f"{message} (the table was not written)") from error
        except OSError as error:
            raise UsageError(
                f"{path}: could not be checked in {folder} ({error.strerror}); free disk space there or set TMPDIR"
            ) from error


def _publish(out: Path, texts: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Write the files, the label table last; remove earlier files that this corpus does not have."""
    from s3prl_emotion.files.versions import versions
    from s3prl_emotion.files.writing import write_json, write_text

    with new_folder(out):
        try:
            for name, text in texts.items():
                if not text:
                    (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{out}: cannot be written ({error.strerror}); name another OUT") from error
        write_json(out / ABOUT, {**record, "versions": versions()}, UsageError, ensure_ascii=False)
        for name, text in texts.items():
            if text:
                write_text(out / name, text, UsageError)
