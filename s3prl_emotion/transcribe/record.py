"""The file of transcripts while it is made: nothing that was recognised is lost when the process dies.

Beside ``OUT.csv`` lies, while it is made, ``OUT.csv.partial``: a line of JSON on what recognises, then one for each
utterance as it comes. Afterwards it is ``OUT.csv.json``: what recognised it, with a hash of the CSV, so that one which
was changed by hand is told apart.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping
from io import FileIO, StringIO
from pathlib import Path
from typing import Any

import xxhash

from s3prl_emotion.corpora.transcripts import COLUMNS, read_transcripts
from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.files.locks import lock
from s3prl_emotion.files.writing import write_json, write_text

FORMAT = 1
MODEL = {"model_type", "weights", "vocabulary", "do_normalize"}  # of an identity: what only its author could name


class Record:
    """Transcripts of one speech recogniser; :func:`open_record` makes one.

    Args:
        path: of the CSV
        file: the partial file, locked
        identity: what the transcripts depend on
    """

    def __init__(self, path: Path, file: FileIO, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity
        self.texts: dict[str, str] = {}
        self._file = file
        self._finished = 0  # rows of OUT.csv
        self._before: str | None = None  # hash of OUT.csv, where its rows were taken over

    @property
    def is_finished(self) -> bool:
        """Whether the CSV holds everything."""
        return 0 < self._finished == len(self.texts)

    def add(self, name: str, text: str) -> None:
        """Keep the transcript of an utterance.

        Raises:
            UsageError: no room on the disk; what was there before is kept
        """
        self._write({"FileName": name, "Text": text})
        self.texts[name] = text

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the CSV, sorted by name, and what is known about it beside it.

        Raises:
            TrainingError: no room on the disk; what was recognised is kept
        """
        table = StringIO()
        writer = csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n")  # an empty text is seen to be one
        writer.writerow(COLUMNS)
        writer.writerows(sorted(self.texts.items()))
        text = table.getvalue()
        # a process that dies between the two files leaves the older CSV beside the newer description
        digests = {"csv": _hash(text.encode()), "csv_before": self._before}
        values = {"format": FORMAT, "identity": self.identity, **digests, **about}
        write_json(_sidecar(self.path), values)
        write_text(self.path, text)
        _partial(self.path).unlink(missing_ok=True)
        self._finished = len(self.texts)

    # --- inside ----------------------------------------------------------------------------------------------------

    def read_finished(self, overwrite: bool) -> None:
        """Take over what the CSV holds, where the same recognised it; else refuse, or leave it be replaced."""
        if not self.path.exists():
            return
        try:
            self._take_over_finished()
        except EmotionError:
            if not overwrite:
                raise

    def read_partial(self, overwrite: bool) -> None:
        """Take over what a process that died had done; what another recogniser did is refused, or dropped."""
        lines = self._file.read().split(b"\n")[:-1]  # a torn last line has no end
        whole, rows = 0, lines[1:]
        theirs = _json(lines[0]).get("identity") if lines else None
        if isinstance(theirs, dict):
            other = _differing(self.identity, theirs)
            if other and not overwrite:
                raise UsageError(
                    f"{_partial(self.path)}: was begun with another {other}; finish it as it was begun, or give"
                    " --overwrite to begin anew"
                )
            whole = 0 if other else sum(len(line) + 1 for line in lines)
        self._file.seek(whole)
        self._file.truncate()
        if not whole:
            self._write({"format": FORMAT, "identity": self.identity})
            return
        for values in map(_json, rows):
            name, text = values.get("FileName"), values.get("Text")
            if isinstance(name, str) and isinstance(text, str):  # a damaged line is recognised again
                self.texts[name] = text

    def _take_over_finished(self) -> None:
        sidecar = _sidecar(self.path)
        try:
            about = json.loads(sidecar.read_text(encoding="utf-8"))
            theirs, digests = dict(about["identity"]), (about["csv"], about["csv_before"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"-o {self.path}: is there, and no {sidecar.name} says what made it; name another file, or give"
                " --overwrite"
            ) from error
        if other := _differing(self.identity, theirs):
            raise UsageError(f"-o {self.path}: was made with another {other}; name another file, or give --overwrite")
        self._before = _hash(self.path.read_bytes())
        if self._before not in digests:
            raise UsageError(
                f"-o {self.path}: was changed after it was made; name another file, or give --overwrite to lose that"
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
                f"{_partial(self.path)}: cannot be written ({error.strerror}); free room on the disk and run again:"
                " what is done is kept"
            ) from error


@contextlib.contextmanager
def open_record(path: Path, identity: dict[str, Any], overwrite: bool = False) -> Iterator[Record]:
    """Open a file of transcripts to go on with it, or begin it.

    Args:
        path: of the CSV
        identity: what the transcripts depend on, as plain values
        overwrite: replace what was made with another identity

    Raises:
        UsageError: it was made otherwise, another process makes it, or it cannot be written
    """
    if path.is_dir():
        raise UsageError(f"-o {path}: a folder stands there; name a file")
    identity = json.loads(json.dumps(identity))
    partial = _partial(path)
    existed = partial.exists()
    try:
        partial.touch()
        file = partial.open("r+b", buffering=0)
    except OSError as error:
        raise UsageError(f"-o {path}: cannot be written ({error.strerror}); mend its folder or name another") from error
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


def _lock(file: FileIO, path: Path) -> None:
    if not lock(file):
        raise UsageError(f"-o {path}: another process makes it right now; wait for it, or name another file")


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """In what two identities differ, for a message; ``""`` where they are equal."""
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
