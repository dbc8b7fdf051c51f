"""Read parts of audio files: by seeking where that is exact, else from decoded audio that is kept for the next part."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from s3prl_emotion.audio.faults import Fault, truncated_fault
from s3prl_emotion.audio.opening import changed_error, header, opened, stamp_of
from s3prl_emotion.audio.segments import Part, segment_name
from s3prl_emotion.audio.sound import REMEDY, Block, Sound
from s3prl_emotion.errors import AudioError, BeyondEndError

KEPT = 1 << 25  # samples over all channels of decoded files (128 MB) that a process keeps
OPEN = 8  # files that are kept open at most
NOTHING: Block = np.zeros((0, 1), np.float32)  # behind a file's last block
TOLERANCE = 0.05  # s that a part may reach beyond the end of its file, since times are rounded


@contextmanager
def opened_part(path: str | Path, part: Part, remedy: str = REMEDY) -> Iterator[Sound]:
    """Open a part of an audio file for reading, as if it were a file of its own.

    A file that cannot be sought in exactly (MP3, m4a, GSM, …) is decoded once for parts that follow each other, or that
    lie within the last 33 million samples of it.

    Args:
        path: the file
        part: of the file; its end may lie 0.05 s beyond that of the file
        remedy: what to do about a damaged file, for messages

    Raises:
        AudioError: a missing or unreadable file, one that changed meanwhile, or a part beyond its end
    """
    name = segment_name(str(path), part)
    if str(path) not in _KEEPER:
        with opened(path, name, remedy) as sound:
            if sound.seeks:
                yield _PartSound(sound, part, name, remedy)
                return
    with _KEEPER.decoded(path) as kept:
        yield _PartSound(kept, part, name, remedy)


def seconds_of(path: str | Path, part: Part | None = None) -> float:
    """Return the duration (s) of a file, from its header, or of a part of it, from its times.

    Raises:
        AudioError: as :func:`~s3prl_emotion.audio.opening.header`
    """
    return header(path).seconds if part is None else part.seconds


def check_inside(path: str | Path, part: Part) -> None:
    """Check that a part lies within its file.

    Raises:
        AudioError: it does not, or as :func:`opened_part`
    """
    with opened_part(path, part):
        pass


class _PartSound(Sound):
    """A part of an open file.

    Args:
        sound: the file
        part: of the file
        name: of the part, for messages
        remedy: what to do about a damaged file, for messages

    Raises:
        AudioError: the part does not lie within the file
    """

    def __init__(self, sound: Sound, part: Part, name: str, remedy: str) -> None:
        self.sound, self.name, self.remedy = sound, name, remedy
        self.rate, self.channels, self.subtype = sound.rate, sound.channels, sound.subtype
        self.first, last = part.frames(sound.rate)
        least = last - TOLERANCE * sound.rate
        if sound.frames is not None and least > sound.frames and not sound.seeks:
            deque(sound.blocks(self.first), maxlen=0)  # decodes up to the end, since a header may say too little
        most = sound.frames
        if most is not None and (least > most or self.first >= most):
            raise self._beyond(most)
        self.is_open_ended = most is None
        self.wanted = (last if most is None else min(last, most)) - self.first
        self.frames = self.wanted

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Yield the samples of the part's frames ``[start, stop)``; all by default."""
        last = self.wanted if stop is None else min(stop, self.wanted)
        at = start
        for block in self.sound.blocks(self.first + start, self.first + last):
            at += len(block)
            yield block
        self.decoded = at
        if self.is_open_ended and self.sound.frames is not None and last - at > TOLERANCE * self.rate:
            raise self._beyond(self.sound.frames)

    def _beyond(self, end: int) -> AudioError:
        return BeyondEndError(
            f"{self.name}: lies beyond the end of the audio ({end / self.rate:.3f} s); correct its Start and End, or "
            "check that table and audio are of the same release",
            f"the audio ends after {end / self.rate:.3f} s",
        )

    def faults(self) -> list[Fault]:
        """Return whether the audio ends before the part does."""
        if self.wanted - self.decoded > TOLERANCE * self.rate:
            return [truncated_fault(self.decoded / self.rate, self.wanted / self.rate)]
        return []

    def close(self) -> None:
        """Do nothing: the file is closed by who opened it."""


class _Decoded(Sound):
    """A file that is decoded from its start on, of which the samples that were decoded last are kept."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.kept: deque[Block] = deque()
        self._stack = ExitStack()
        self._open()

    def _open(self) -> None:
        """Open the file, so that its start is decoded next."""
        self.close()
        self.stamp = stamp_of(self.path)
        file = self._stack.enter_context(opened(self.path))
        self.name, self.remedy, self.subtype = file.name, file.remedy, file.subtype
        self.rate, self.channels, self.frames = file.rate, file.channels, file.frames
        self.kept.clear()
        self.begin = self.end = 0  # frames that are kept
        self._rest = file.blocks()

    @property
    def samples(self) -> int:
        """Number of samples, over all channels, that are kept."""
        return (self.end - self.begin) * self.channels

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Yield the samples of the frames ``[start, stop)``, decoding what was not decoded yet."""
        if start < self.begin:
            self._open()
        at = self.begin
        for block in [*self.kept]:
            yield from _cut(block, at, start, stop)
            at += len(block)
        while stop is None or self.end < stop:
            block = next(self._rest, NOTHING)
            if not len(block):
                if self.frames is None or self.end > self.frames:  # a header may know no length, or say too little
                    self.frames = self.end
                return
            self.kept.append(block)
            at, self.end = self.end, self.end + len(block)
            while self.samples > KEPT and len(self.kept) > 1:
                self.begin += len(self.kept.popleft())
            yield from _cut(block, at, start, stop)

    def faults(self) -> list[Fault]:
        """Return nothing: faults of a file are not those of its parts."""
        return []

    def close(self) -> None:
        """Close the file."""
        with suppress(AudioError):  # it changed, which matters to nobody any more
            self._stack.close()


def _cut(block: Block, at: int, start: int, stop: int | None) -> Iterator[Block]:
    """Yield what a block of the frames from ``at`` on has of ``[start, stop)``."""
    first, last = max(0, start - at), len(block) if stop is None else min(len(block), stop - at)
    if first < last:
        yield block[first:last]


class _Keeper:
    """Keeps files that are decoded part by part; threads take turns."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: OrderedDict[str, _Decoded] = OrderedDict()

    def __contains__(self, path: str) -> bool:
        return path in self.files

    @contextmanager
    def decoded(self, path: str | Path) -> Iterator[Sound]:
        """Open a file, or go on with it where it is open and has not changed.

        Raises:
            AudioError: as :func:`opened_part`
        """
        with self.lock:
            kept = self.files.pop(str(path), None)
            if kept is not None and kept.stamp != stamp_of(Path(path)):
                kept.close()
                kept = None
            kept = kept or _Decoded(path)
            try:
                yield kept
                if kept.stamp != stamp_of(Path(path)):
                    raise changed_error(str(path))
            except BaseException:
                kept.close()
                raise
            self.files[str(path)] = kept
            self._forget()

    def _forget(self) -> None:
        """Close the files that were not read for longest, until the others take little enough."""
        while len(self.files) > 1 and (
            len(self.files) > OPEN or sum(file.samples for file in self.files.values()) > KEPT
        ):
            self.files.popitem(last=False)[1].close()


_KEEPER = _Keeper()
