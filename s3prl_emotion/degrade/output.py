"""Keep the folder of degraded copies: its settings, the finished copies, and the room on its disk."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from s3prl_emotion.audio import MEAN, SAMPLE_RATE, header, opened
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.files import leftovers, writing
from s3prl_emotion.files.outputs import append, check_folder, make_folder
from s3prl_emotion.loading.degradation.degrader import Waveform

ABOUT = "degrade.json"
FINISHED = "degrade.jsonl"
EXACT = "FLOAT"
SUBTYPES = {EXACT: 4, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}  # sample formats in soundfile's words; bytes per sample
REMEDY = f"{writing.REMEDY}, then run the same command again: finished copies are kept"
_HEADER = 60  # approximate bytes of a WAV header
_ROW = 600  # approximate bytes of an utterance in the tables and in FINISHED
Record = dict[str, Any]


def encode(waveform: Waveform, subtype: str) -> bytes:
    """Encode a waveform ``[N]`` as a 16 kHz WAV file, with the same bytes every time."""
    file = io.BytesIO()
    if subtype == EXACT:
        # soundfile writes the current time into float files (chunk PEAK)
        from scipy.io import wavfile

        wavfile.write(file, SAMPLE_RATE, waveform)
    else:
        soundfile.write(file, waveform, SAMPLE_RATE, subtype=subtype, format="WAV")
    return file.getvalue()


def decode(content: bytes) -> Waveform:
    """Decode the waveform ``[N]`` of a WAV file."""
    with opened(io.BytesIO(content), "the copy") as sound:
        return sound.read()[:, 0]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with the folders above it.

    Raises:
        UsageError: the folder cannot be written or the disk is full
    """
    writing.write_bytes(path, content, UsageError, REMEDY, parents=True)


class Output:
    """The folder of ``--out``.

    Args:
        folder: made if it does not exist
        about: the settings that the copies depend on
        by: versions and arguments of this run, for the record
        splits: names of the splits to be written

    Raises:
        UsageError: the folder holds copies made with other settings, or unknown files with the same names, or cannot be
            written
    """

    def __init__(self, folder: Path, about: Record, by: Record, splits: Iterable[str]) -> None:
        self.folder = folder
        check_folder(folder)
        path = folder / ABOUT
        earlier = _read_about(path)
        if earlier is None:
            _check_no_unknown_files(folder, splits)
            made_by = []
        else:
            _check_same_settings(path, earlier, about)
            made_by = earlier["by"]
        if by not in made_by:
            make_folder(folder, "--out ")
            writing.write_json(path, {**about, "by": [*made_by, by]}, ensure_ascii=False)
        self.records = self._read_finished()

    def finished(self, file: str) -> Record | None:
        """Return the record of a copy that is complete, or ``None`` if it has to be made."""
        record = self.records.get(file)
        if record is None:
            return None
        try:
            found = header(self.folder / file)
            size = (self.folder / file).stat().st_size
        except (AudioError, OSError):
            return None
        whole = (size, found.rate, found.frames) == (record["bytes"], SAMPLE_RATE, record["samples"])
        return record if whole else None

    def add(self, records: Sequence[Record]) -> None:
        """Record finished copies, for the tables and for a later run.

        Raises:
            UsageError: the record cannot be written
        """
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        path = self.folder / FINISHED
        if path.is_file() and path.stat().st_size and not _ends_line(path):  # a process was killed while it wrote
            lines = "\n" + lines
        append(path, lines, UsageError, REMEDY)
        self.records.update((record["file"], record) for record in records)

    def check_room(self, copies: Mapping[str, int], subtype: str) -> None:
        """Raise if the disk has no room for the copies.

        Args:
            copies: samples of each copy to be written, by its path below the folder
            subtype: sample format of the WAV files

        Raises:
            UsageError: says how much room is missing
        """
        needed = sum(samples * SUBTYPES[subtype] + _HEADER + _ROW for samples in copies.values())
        replaced = sum(path.stat().st_size for file in copies if (path := self.folder / file).is_file())
        free = shutil.disk_usage(self.folder).free
        if needed - replaced > free:
            lacking = f"needs about {(needed - replaced) / 1e9:.3g} GB more, but {free / 1e9:.3g} GB are free there"
            raise UsageError(
                f"--out {self.folder}: {lacking}; free disk space, or write less: fewer --snr, or --subtype PCM_16, "
                f"half the size of {EXACT}"
            )

    def tidy(self) -> None:
        """Remove partial files that killed processes left."""
        leftovers.remove_stale(self.folder.rglob(".*.partial"))

    def _read_finished(self) -> dict[str, Record]:
        path = self.folder / FINISHED
        records = {}
        if path.is_file():
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                    records[str(record["file"])] = {key: kind(record[key]) for key, kind in _RECORD.items()}
                except (ValueError, KeyError, TypeError):
                    continue  # an incomplete line: that copy is made again
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
            raise TypeError("a value has the wrong type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error}); remove {path.parent} or name another --out") from error
    return {"channel": MEAN} | about  # earlier versions had no other


def _check_same_settings(path: Path, earlier: Record, about: Record) -> None:
    for key in about:
        if earlier.get(key) != about[key]:
            raise UsageError(
                f"{path}: the copies there were made with {key} {_short(earlier.get(key))}, not {_short(about[key])}; "
                "name another --out, or remove that folder"
            )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_no_unknown_files(folder: Path, splits: Iterable[str]) -> None:
    for name in [FINISHED, *(item for split in splits for item in (split, f"{split}.csv"))]:
        if (folder / name).exists():
            raise UsageError(f"{folder / name}: exists, but no {ABOUT} that says how it was made; name another --out")
