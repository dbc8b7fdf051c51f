"""Write a file of transcripts so that no transcript is lost if the process dies.

While ``OUT.csv`` is being made, ``OUT.csv.partial`` holds a line of JSON about the recogniser, then one line for each
finished utterance. Afterwards ``OUT.csv.json`` describes the recogniser and has a hash of the CSV, which reveals
changes by hand.
"""

from __future__ import annotations

import contextlib
import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from io import FileIO, StringIO
from pathlib import Path
from typing import Any

import xxhash

from s3prl_emotion.corpora.transcripts import COLUMNS, read_transcripts
from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.files.locks import lock
from s3prl_emotion.files.outputs import check_file, check_regular, place_of
from s3prl_emotion.files.writing import write_json, write_text

FORMAT = 1
# Parts of an identity that say nothing to users, who know the model by its name.
MODEL = {"model_type", "weights", "vocabulary", "do_normalize"}


class Record:
    """Transcripts of one speech recogniser; :func:`open_record` opens one.

    Args:
        path: the CSV's path
        file: the partial file, locked
        identity: what the transcripts depend on
    """

    def __init__(self, path: Path, file: FileIO, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity
        self.is_stream = place_of(path).is_stream  # a pipe or a device: nothing stands beside it, nothing is continued
        self.texts: dict[str, str] = {}
        self._file = file
        self._finished = 0  # rows of OUT.csv
        self._before: str | None = None  # hash of OUT.csv, if its rows were kept

    @property
    def is_finished(self) -> bool:
        """Whether the CSV has all transcripts."""
        return 0 < self._finished == len(self.texts)

    def add(self, name: str, text: str) -> None:
        """Record the transcript of an utterance.

        Raises:
            UsageError: no room on the disk; earlier transcripts are kept
        """
        self._write({"FileName": name, "Text": text})
        self.texts[name] = text

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the CSV, sorted by name, and its description beside it.

        Raises:
            TrainingError: no room on the disk; the transcripts are kept
        """
        table = StringIO()
        # quoted, so that an empty text is distinct from a missing one
        writer = csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(self.texts.items()))
        text = table.getvalue()
        # If the process dies between the two files, the older CSV is left beside the newer description.
        digests = {"csv": _hash(text.encode()), "csv_before": self._before}
        values = {"format": FORMAT, "identity": self.identity, **digests, **about}
        if not self.is_stream:
            write_json(_sidecar(self.path), values)
        write_text(self.path, text)
        if not self.is_stream:
            _partial(self.path).unlink(missing_ok=True)
        self._finished = len(self.texts)

    # --- inside ----------------------------------------------------------------------------------------------------

    def read_finished(self, overwrite: bool) -> None:
        """Keep the CSV's transcripts if the same recogniser made them; otherwise raise, or drop them to overwrite."""
        if not self.path.exists():
            return
        try:
            self._keep_finished()
        except EmotionError:
            if not overwrite:
                raise

    def read_partial(self, overwrite: bool) -> None:
        """Keep the transcripts of a process that died; raise for those of another, or drop them to overwrite."""
        lines = self._file.read().split(b"\n")[:-1]  # an incomplete last line has no line break
        valid, rows = 0, lines[1:]  # bytes that are kept
        theirs = _json(lines[0]).get("identity") if lines else None
        if isinstance(theirs, dict):
            other = _differing(self.identity, theirs)
            if other and not overwrite:
                raise UsageError(
                    f"{_partial(self.path)}: was begun with another {other}; finish it with that, or use"
                    " --overwrite to start again"
                )
            valid = 0 if other else sum(len(line) + 1 for line in lines)
        self._file.seek(valid)
        self._file.truncate()
        if not valid:
            self._write({"format": FORMAT, "identity": self.identity})
            return
        for values in map(_json, rows):
            name, text = values.get("FileName"), values.get("Text")
            if isinstance(name, str) and isinstance(text, str):  # the utterance of a damaged line is transcribed again
                self.texts[name] = text

    def _keep_finished(self) -> None:
        sidecar = _sidecar(self.path)
        try:
            about = json.loads(sidecar.read_text(encoding="utf-8"))
            theirs, digests = dict(about["identity"]), (about["csv"], about["csv_before"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"-o {self.path}: exists, but no {sidecar.name} says what made it; name another file, or use"
                " --overwrite"
            ) from error
        if other := _differing(self.identity, theirs):
            raise UsageError(f"-o {self.path}: was made with another {other}; name another file, or use --overwrite")
        self._before = _hash(self.path.read_bytes())
        if self._before not in digests:
            raise UsageError(
                f"-o {self.path}: was changed after it was made; name another file, or use --overwrite to discard it"
            )
        finished = read_transcripts(self.path)
        self.texts |= finished
        self._finished = len(finished)

    def _write(self, values: Mapping[str, Any]) -> None:
        data, end = memoryview(json.dumps(values).encode() + b"\n"), self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
                self._file.seek(end)
            raise UsageError(
                f"{_partial(self.path)}: cannot be written ({error.strerror}); free disk space and run again:"
                " finished transcripts are kept"
            ) from error


@contextlib.contextmanager
def open_record(path: Path, identity: dict[str, Any], overwrite: bool = False) -> Iterator[Record]:
    """Open a file of transcripts, to begin or to continue it.

    Args:
        path: the CSV's path
        identity: what the transcripts depend on, as plain values
        overwrite: whether to replace transcripts with another identity

    Raises:
        UsageError: it has another identity, another process is writing it, or it cannot be written
    """
    check_record(path)
    identity = json.loads(json.dumps(identity))
    if place_of(path).is_stream:
        with tempfile.TemporaryFile(buffering=0) as unnamed:
            record = Record(path, unnamed, identity)
            record.read_partial(overwrite)
            yield record
        return
    partial = _partial(path)
    existed = partial.exists()
    try:
        partial.touch()
        file = partial.open("r+b", buffering=0)
    except OSError as error:
        raise UsageError(f"-o {path}: cannot be written ({error.strerror}); fix its folder or name another") from error
    with file:
        _lock(file, path)
        record = Record(path, file, identity)
        try:
            record.read_finished(overwrite)
            record.read_partial(overwrite)
        except EmotionError:
            if not existed:
                partial.unlink(missing_ok=True)
            raise
        yield record
        if record.is_finished:
            partial.unlink(missing_ok=True)


def check_record(path: Path) -> None:
    """Refuse a file of transcripts that cannot be written, before a model is loaded.

    Raises:
        UsageError: it is a folder, or its folder does not exist or cannot be written
    """
    check_file(path, "-o ")
    if not place_of(path).is_stream:
        check_regular(_partial(path), UsageError)
        check_regular(_sidecar(path), UsageError)


def _lock(file: FileIO, path: Path) -> None:
    if not lock(file):
        raise UsageError(f"-o {path}: another process is writing it; wait for it, or name another file")


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Say in what two identities differ, for a message; ``""`` if they are equal."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    of_model = ["model"] if MODEL & set(names) else []
    return ", ".join(
        [*of_model, *(f"{name} ({theirs.get(name)}, here {ours.get(name)})" for name in names if name not in MODEL)]
    )


def _json(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _hash(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
