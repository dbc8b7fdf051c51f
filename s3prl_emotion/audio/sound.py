"""Read an open audio file block by block: what all decoders have in common, and soundfile's."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from s3prl_emotion.audio.faults import Fault, damaged_fault, truncated_fault
from s3prl_emotion.audio.riff import promised_frames
from s3prl_emotion.errors import AudioError

Block = NDArray[np.float32]
REMEDY = "replace the file or leave it out of the labels"
BLOCK = 1 << 20  # samples, over all channels, to decode at once
UNKNOWN_LENGTH = 1 << 62  # frames; a longer header means an unknown length, as in FLAC that was written to a pipe
EXACT_SUBTYPES = re.compile("PCM_[SU0-9]+|FLOAT|DOUBLE|ULAW|ALAW|ALAC_[0-9]+|VORBIS")  # decoded alike after seeking
LOSSY_TOLERANCE = 0.05  # s by which the length of MP3 and of media may differ from the header's
ERRORS = (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError)  # TypeError: headerless, .raw


class Sound(ABC):
    """An open audio file.

    Attributes:
        name: of the file, for messages
        remedy: what to do about a damaged file, for messages
        rate: Hz
        channels: number of channels
        frames: length by the header; ``None`` where the header does not know it
        subtype: sample format in soundfile's words
        seeks: whether any frames can be read without those before them, and are the same to the bit then
    """

    name: str
    remedy: str = REMEDY
    rate: int
    channels: int
    frames: int | None
    subtype: str = ""
    seeks = False
    decoded = 0  # frames, by the last run over the whole file

    @abstractmethod
    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Yield the samples of the frames ``[start, stop)`` as blocks ``[n, C]``, n >= 1; all by default.

        Raises:
            AudioError: they cannot be decoded
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def faults(self) -> list[Fault]:
        """Return what is wrong with the file, after all its blocks were read."""

    def read(self, start: int = 0, stop: int | None = None) -> Block:
        """Return the frames ``[start, stop)`` as ``[n, C]``; fewer where the file ends before."""
        blocks = list(self.blocks(start, stop))
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros((0, self.channels), np.float32), *blocks])

    def length(self) -> int:
        """Return the number of frames: by the header, or by decoding where the header does not know it."""
        if self.frames is None:
            self.frames = sum(map(len, self.blocks()))
        return self.frames

    def unreadable(self, error: Exception) -> AudioError:
        """Return the error to raise for what a decoder raised."""
        return AudioError(f"{self.name}: unreadable audio ({reason_of(error)}); {self.remedy}")


class _Forward(soundfile.SoundFile):
    """A sound file that is read from start to end, so that neither seeking nor its header's length is needed."""

    def seekable(self) -> bool:
        """Return ``False``: soundfile would seek after each block."""
        return False


class SoundFileSound(Sound):
    """Audio that libsndfile decodes."""

    def __init__(self, source: Path | BinaryIO, name: str, remedy: str) -> None:
        self.source, self.name, self.remedy = source, name, remedy
        self._file = _Forward(source)
        self.rate, self.channels, self.subtype = self._file.samplerate, self._file.channels, self._file.subtype
        self.frames = self._file.frames if 0 <= self._file.frames < UNKNOWN_LENGTH else None
        exact = self.frames is not None and EXACT_SUBTYPES.fullmatch(self.subtype) is not None
        self.seeks = exact and super(_Forward, self._file).seekable()
        self._at = 0

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Yield the samples of the frames ``[start, stop)``; without seeking where the format cannot."""
        try:
            yield from self._blocks(start, stop)
        except ERRORS as error:
            raise self.unreadable(error) from error

    def _blocks(self, start: int, stop: int | None) -> Iterator[Block]:
        self._go_to(start)
        promised = self.frames if stop is None else min(stop, self.frames if self.frames is not None else stop)
        whole = start == 0 and (stop is None or (self.frames is not None and stop >= self.frames))
        while promised is None or self._at < promised:
            size = max(1, BLOCK // self.channels)
            size = size if promised is None else min(size, promised - self._at)
            block = self._file.read(size, dtype="float32", always_2d=True)
            if not len(block):
                break
            self._at += len(block)
            yield block
        if whole:
            self.decoded = self._at

    def _go_to(self, frame: int) -> None:
        """Move to a frame: by seeking where the format can, else by decoding what stands before it."""
        if frame == self._at:
            return
        if super(_Forward, self._file).seekable() and self.frames is not None:
            self._at = self._file.seek(min(frame, self.frames))
            return
        if frame < self._at:
            self._file.close()
            if not isinstance(self.source, Path):
                self.source.seek(0)
            self._file, self._at = _Forward(self.source), 0
        while self._at < frame:
            block = self._file.read(min(BLOCK // self.channels, frame - self._at), dtype="float32", always_2d=True)
            if not len(block):
                break
            self._at += len(block)

    def faults(self) -> list[Fault]:
        """Return whether the audio ends early, or has damaged pages (Ogg)."""
        promised = self.frames
        if self._file.format in ("WAV", "WAVEX") and self.frames:
            promised = promised_frames(self.source, self.frames)
        tolerance = LOSSY_TOLERANCE if "MPEG" in self.subtype else 0.0
        if promised is not None and promised - self.decoded > tolerance * self.rate:
            return [truncated_fault(self.decoded / self.rate, promised / self.rate)]
        if self._file.format == "OGG" and "hole" in self._file.extra_info:  # libsndfile's log of damaged pages
            return [damaged_fault()]
        return []

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def reason_of(error: Any) -> str:
    """Return what a decoder says in one line, without the file's name."""
    return " ".join(str(getattr(error, "error_string", error)).split())
