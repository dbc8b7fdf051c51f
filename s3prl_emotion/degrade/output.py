"""The folder that degraded copies are written to: what made it, what is finished, and files whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files import writing
from s3prl_emotion.loading.degradation.degrader import Waveform

ABOUT = "degrade.json"
FINISHED = "degrade.jsonl"
EXACT = "FLOAT"
SUBTYPES = {EXACT: 4, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}  # of WAV in soundfile's words; bytes of a sample
REMEDY = f"{writing.REMEDY}, then run the same command again: finished copies are kept"
_HEADER = 60  # bytes of a WAV header, about
_ROW = 600  # bytes of an utterance in the tables and in FINISHED, about
Record = dict[str, Any]


def encode(waveform: Waveform, subtype: str) -> bytes:
    """A 16 kHz WAV file of a waveform ``[N]``, the same bytes every time."""
    file = io.BytesIO()
    if subtype == EXACT:
        # soundfile would write the time of day into float files (chunk PEAK)
        from scipy.io import wavfile

        wavfile.write(file, SAMPLE_RATE, waveform)
    else:
        soundfile.write(file, waveform, SAMPLE_RATE, subtype=subtype, format="WAV")
    return file.getvalue()


def decode(content: bytes) -> Waveform:
    """The waveform ``[N]`` of a WAV file."""
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    return np.asarray(samples, np.float32)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with the folders above it.

    Raises:
        UsageError: the folder cannot be written or the disk is full
    """
    writing.write_bytes(path, content, UsageError, REMEDY, parents=True)


class Output:
    """The folder of ``--out``.

    Args:
        folder: made where it is not there
        about: what makes the copies; a folder made otherwise is refused
        by: versions and arguments of this run, for the record
        splits: folders of audio to come

    Raises:
        UsageError: the folder holds other copies or other files under the same names, or cannot be written
    """

    def __init__(self, folder: Path, about: Record, by: Record, splits: Iterable[str]) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder}: a file stands there; name a folder")
        path = folder / ABOUT
        earlier = _read_about(path)
        if earlier is None:
            _refuse_strangers(folder, splits)
            made_by = []
        else:
            _refuse_other(path, earlier, about)
            made_by = earlier["by"]
        if by not in made_by:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"--out {folder}: cannot be made ({error.strerror}); name another folder") from error
            writing.write_json(path, {**about, "by": [*made_by, by]}, ensure_ascii=False)
        self.records = self._read_finished()

    def finished(self, file: str) -> Record | None:
        """What is known of a copy that is there and whole; ``None`` where it is to be made."""
        record = self.records.get(file)
        if record is None:
            return None
        try:
            info = soundfile.info(str(self.folder / file))
            size = (self.folder / file).stat().st_size
        except (soundfile.SoundFileError, OSError, RuntimeError):
            return None
        whole = (size, info.samplerate, info.frames) == (record["bytes"], SAMPLE_RATE, record["samples"])
        return record if whole else None

    def note(self, records: Iterable[Record]) -> None:
        """Keep what is known of finished copies, for the tables and for a later run.

        Raises:
            UsageError: it cannot be written
        """
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        path = self.folder / FINISHED
        try:
            with path.open("a+b") as file:
                if file.tell() and not _ends_line(path):  # a process was killed while it wrote
                    lines = "\n" + lines
                file.write(lines.encode())
        except OSError as error:
            raise UsageError(f"{path}: could not be written ({error.strerror}); free room and run again") from error

    def check_room(self, copies: Mapping[str, int], subtype: str) -> None:
        """Refuse to begin what will not fit.

        Args:
            copies: samples of each copy to come, by its path below the folder
            subtype: of the WAV files

        Raises:
            UsageError: says how much is missing
        """
        needed = sum(samples * SUBTYPES[subtype] + _HEADER + _ROW for samples in copies.values())
        there = sum(path.stat().st_size for file in copies if (path := self.folder / file).is_file())  # to be replaced
        free = shutil.disk_usage(self.folder).free
        if needed - there > free:
            raise UsageError(
                f"--out {self.folder}: needs about {(needed - there) / 1e9:.3g} GB more, but {free / 1e9:.3g} GB are "
                f"free there; free room, or take less: fewer --snr, or --subtype PCM_16, which halves {EXACT}"
            )

    def tidy(self) -> None:
        """Remove what killed processes left half-written."""
        writing.remove_stale(self.folder.rglob(".*.partial"))

    def _read_finished(self) -> dict[str, Record]:
        path = self.folder / FINISHED
        records = {}
        if path.is_file():
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                    records[str(record["file"])] = {key: kind(record[key]) for key, kind in _RECORD.items()}
                except (ValueError, KeyError, TypeError):
                    continue  # a torn line: that copy is made again
        return records


_RECORD = {
    "file": str, "bytes": int, "samples": int, "snr": float, "drawn": float, "gain": float, "noise": str, "reverb": str,
}  # fmt: skip


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, io.SEEK_END)
        return file.read(1) == b"\n"


def _read_about(path: Path) -> Record | None:
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about, dict) or not isinstance(about["by"], list):
            raise TypeError("a value of another kind than it should be")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error}); remove {path.parent} or name another --out") from error
    return about


def _refuse_other(path: Path, earlier: Record, about: Record) -> None:
    for key in about:
        if earlier.get(key) != about[key]:
            raise UsageError(
                f"{path}: the copies there were made with {key} {_short(earlier.get(key))}, not {_short(about[key])}; "
                "name another --out, or remove that folder"
            )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_strangers(folder: Path, splits: Iterable[str]) -> None:
    for name in [FINISHED, *(item for split in splits for item in (split, f"{split}.csv"))]:
        if (folder / name).exists():
            raise UsageError(f"{folder / name}: is there, but no {ABOUT} that says how it was made; name another --out")
