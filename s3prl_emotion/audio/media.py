"""Decode what soundfile cannot read (m4a, mp4, webm, wma, amr, …) with PyAV, the media extra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio.faults import Fault, damaged_fault, truncated_fault
from s3prl_emotion.audio.sound import LOSSY_TOLERANCE, Sound
from s3prl_emotion.errors import AudioError

JOINED = 1 << 16  # frames that are decoded before they are passed on
ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError)


class MediaSound(Sound):
    """The first audio stream of a file that FFmpeg decodes.

    Args:
        source: path, or an open file that can seek
        kind: name of FFmpeg's demuxer
        name: of the file, for messages
        remedy: what to do about a damaged file, for messages
    """

    def __init__(self, source: Path | BinaryIO, kind: str, name: str, remedy: str) -> None:
        self.source, self.kind, self.name, self.remedy = source, kind, name, remedy
        self._damaged = 0  # packets
        try:
            container, stream = self._open()
        except ERRORS as error:
            raise self.unreadable(error) from error
        with container:
            self.rate, self.channels = int(stream.codec_context.sample_rate), stream.codec_context.layout.nb_channels
            seconds = None
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                seconds = container.duration / av.time_base
        if not self.rate or not self.channels:
            raise AudioError(f"{self.name}: unreadable audio (no rate or no channels); {self.remedy}")
        self.subtype = stream.codec_context.name
        self.frames = round(seconds * self.rate) if seconds is not None and seconds > 0 else None

    def _open(self) -> tuple[Any, Any]:
        if isinstance(self.source, Path):
            container: Any = av.open(str(self.source), format=self.kind, metadata_errors="replace")
        else:
            self.source.seek(0)
            container = av.open(self.source, format=self.kind, metadata_errors="replace")
        if not container.streams.audio:
            container.close()
            raise AudioError(f"{self.name}: holds no audio; {self.remedy}")
        return container, container.streams.audio[0]

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of the frames ``[start, stop)``, decoded from the file's start on."""
        at, self._damaged = 0, 0
        try:
            for block in self._joined():
                first, last = max(0, start - at), len(block) if stop is None else min(len(block), stop - at)
                if first < last:
                    yield block[first:last]
                at += len(block)
                if stop is not None and at >= stop and (self.frames is None or stop < self.frames):
                    return
        except ERRORS as error:
            raise self.unreadable(error) from error
        if not at and self._damaged:
            raise AudioError(f"{self.name}: unreadable audio (nothing in it can be decoded); {self.remedy}")
        self.decoded = at

    def _joined(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of several of the codec's frames, which are short."""
        parts: list[NDArray[np.float32]] = []
        for part in self._decoded():
            parts.append(part)
            if sum(map(len, parts)) >= JOINED:
                yield np.concatenate(parts)
                parts = []
        if parts:
            yield np.concatenate(parts)

    def _decoded(self) -> Iterator[NDArray[np.float32]]:
        container, stream = self._open()
        with container:
            converter = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=self.rate)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    self._damaged += 1
                    continue
                for frame in frames:
                    for item in converter.resample(frame):
                        yield np.ascontiguousarray(item.to_ndarray().T, dtype=np.float32)
            for item in converter.resample(None):
                yield np.ascontiguousarray(item.to_ndarray().T, dtype=np.float32)

    def faults(self) -> list[Fault]:
        """Return whether packets could not be decoded, or the audio ends early."""
        if self._damaged:
            return [damaged_fault()]
        if self.frames is not None and self.frames - self.decoded > LOSSY_TOLERANCE * self.rate:
            return [truncated_fault(self.decoded / self.rate, self.frames / self.rate)]
        return []

    def close(self) -> None:
        """Do nothing: the file is open only while it is decoded."""
