"""Index unlabelled audio: every segment to train on, from file headers and STM files.

Nothing is decoded here. The index takes 40 bytes per segment and each file's name once, so that memory hardly grows
with the folder; :mod:`~s3prl_emotion.rae.audio_stream` reads the audio batch by batch.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import MEAN, SAMPLE_RATE, header
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.whole import list_utterances
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.rae.layouts import Listed, list_audio
from s3prl_emotion.rae.stm import Cut
from s3prl_emotion.recipe import DataSection

AT_ONCE = 256  # headers that are read at a time
THREADS = 8
UNREADABLE, EMPTY, SHORT, NOT_FINITE = "unreadable", "empty", "shorter than a window", "NaN or infinite"


@dataclass
class AudioIndex:
    """Segments of audio, as flat arrays; segment ``i`` is samples ``[start[i], stop[i])`` of a file, at its own rate.

    ``group`` is the unit of a held-out share: the speaker (LibriSpeech), the talk (TED-LIUM) or the file.
    """

    roots: list[Path]
    root: array[int] = field(default_factory=lambda: array("i"))  # per file
    names: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q"))  # end of each name, per file
    file: array[int] = field(default_factory=lambda: array("q"))  # per segment, like all below
    group: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    stop: array[int] = field(default_factory=lambda: array("q"))
    frames: array[int] = field(default_factory=lambda: array("q"))
    samples: int = 0  # total, at 16 kHz
    skipped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)  # reason -> the first file or line that was skipped for it
    channel: str | int = MEAN  # of files with several

    def __len__(self) -> int:
        return len(self.start)

    @property
    def hours(self) -> float:
        """Total duration (h)."""
        return self.samples / SAMPLE_RATE / 3600

    def path(self, number: int) -> Path:
        """Return the file of a segment."""
        file = self.file[number]
        begin = self.ends[file - 1] if file else 0
        return self.roots[self.root[file]] / os.fsdecode(bytes(self.names[begin : self.ends[file]]))

    def signature(self) -> str:
        """Return a hash of the files' names, the segments and the channel, which a resumed run must match."""
        digest = hashlib.sha256(self.names)
        for values in (self.root, self.ends, self.file, self.start, self.stop):
            digest.update(values)
        digest.update(b"" if self.channel == MEAN else f"channel {self.channel}".encode())
        return digest.hexdigest()

    def held_out(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split the segments into training and dev, by whole groups.

        Args:
            share: least share of the segments to hold out; 0 for none
            seed: seed of the choice

        Returns:
            numbers of the segments ``[N_train]`` and ``[N_dev]``, each in order

        Raises:
            UsageError: too few groups to hold any out
        """
        numbers, groups = np.arange(len(self)), np.frombuffer(self.group, dtype=np.int64)
        if share == 0:
            return numbers, numbers[:0]
        sizes = np.bincount(groups)
        order = np.random.default_rng([seed, 0]).permutation(np.flatnonzero(sizes))
        taken = 1 + int(np.searchsorted(np.cumsum(sizes[order]), share * len(self)))
        if taken >= len(order):
            raise UsageError(
                f"--valid {share:g}: there are {len(order)} files, speakers or talks, too few to hold any out; give a "
                "smaller share, or 0 for none"
            )
        held = np.isin(groups, order[:taken])
        return numbers[~held], numbers[held]

    def name(self, number: int) -> str:
        """Return the path of a segment's file below its folder."""
        return self.path(number).relative_to(self.roots[self.root[self.file[number]]]).as_posix()

    def skip(self, reason: str, what: str) -> None:
        """Count a file or line that is skipped."""
        self.skipped[reason] += 1
        self.first.setdefault(reason, what)


def index_audio(
    roots: Sequence[Path],
    layout: str,
    window: int,
    hop: int,
    max_seconds: float,
    progress: Callable[[int], object] | None = None,
) -> AudioIndex:
    """Index the audio to train on.

    Args:
        roots: folders, none below another
        layout: one of :data:`s3prl_emotion.rae.LAYOUTS`
        window: window of the spectrogram in samples at 16 kHz; shorter segments are skipped
        hop: samples at 16 kHz between frames
        max_seconds: longer segments are cut into equal parts of at most this duration (s)
        progress: called with the number of files whose headers were read since the last call

    Raises:
        UsageError: no such folder, a folder within another, or a folder without the layout
        AudioError: no audio to train on; says why the first files were skipped
    """
    index = AudioIndex(_checked(roots))
    listings = [list_audio(root, layout, index.skip) for root in index.roots]
    return _filled(index, listings, f"--audio {' '.join(map(str, roots))}", (window, hop, max_seconds), progress)


def index_table(
    labels: str,
    root: str | None,
    window: int,
    hop: int,
    max_seconds: float,
    progress: Callable[[int], object] | None = None,
) -> AudioIndex:
    """Index the audio of a label table: every file or segment that it lists, once, whatever its labels.

    A corpus's folder may hold the same speech twice, as turns and as whole dialogues (IEMOCAP).

    Args:
        labels: label table, SUPERB's ``meta_data`` folder, or ``demo``
        root: audio folder; not needed for ``demo``
        window: as for :func:`index_audio`, like ``hop``, ``max_seconds`` and ``progress``

    Raises:
        LabelError: missing or malformed labels
        AudioError: missing audio root or files, or no audio to train on
    """
    _, folder = locate(labels, root, "--")
    data = DataSection(labels=labels, root=root, train_batch_size=1, eval_batch_size=1)
    cuts: dict[Path, list[Cut] | None] = {}
    for item in list_utterances(data):
        own = cuts.setdefault(item.path, [])
        if item.part is None:
            cuts[item.path] = None
        elif own is not None:
            own.append(Cut(item.file, *item.part))
    listed = (Listed(path, "", segments) for path, segments in cuts.items())
    return _filled(AudioIndex([folder]), [listed], f"--labels {labels}", (window, hop, max_seconds), progress)


def _filled(
    index: AudioIndex,
    listings: Sequence[Iterator[Listed]],
    where: str,
    limits: tuple[int, int, float],
    progress: Callable[[int], object] | None,
) -> AudioIndex:
    """Add the files that are listed for each root to an index, and return it."""
    groups: dict[str, int] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for number, files in enumerate(listings):
            while chunk := list(islice(files, AT_ONCE)):
                for (path, group, cuts), header in zip(chunk, pool.map(_header, chunk), strict=True):
                    key = groups.setdefault(f"{number}/{group}", len(groups)) if group else -1
                    _add(index, number, path, key, cuts, header, limits)
                if progress is not None:
                    progress(len(chunk))
    if not len(index):
        reasons = "; ".join(f"{count} {why} ({index.first[why]})" for why, count in index.skipped.items())
        raise AudioError(f"{where}: no audio to train on: {reasons or 'no audio file in it'}")
    _group_files(index, len(groups))
    return index


def _checked(roots: Sequence[Path]) -> list[Path]:
    resolved = [root.expanduser().resolve() for root in roots]
    for root, given in zip(resolved, roots, strict=True):
        if not root.is_dir():
            raise UsageError(f"--audio {given}: no such folder")
    for number, root in enumerate(resolved):
        for other in resolved[:number] + resolved[number + 1 :]:
            if root == other or other in root.parents:
                raise UsageError(f"--audio {root}: lies in {other} or is given twice; give one of them")
    return resolved


def _header(file: Listed) -> tuple[int, int] | str:
    """Return the samples and the rate of a file, or why its header cannot be read."""
    try:
        found = header(file.path)
    except AudioError as error:
        how = "; convert it with sph2pipe or sox" if file.path.suffix.lower() == ".sph" else ""
        return f"{error}{how}"
    return found.frames, found.rate


def _add(
    index: AudioIndex,
    root: int,
    path: Path,
    group: int,
    cuts: list[Cut] | None,
    header: tuple[int, int] | str,
    limits: tuple[int, int, float],
) -> None:
    """Add a file's segments."""
    if isinstance(header, str):
        index.skip(UNREADABLE, header)
        return
    total, rate = header
    if total <= 0:
        index.skip(EMPTY, f"{path}: 0 samples")
        return
    window, hop, max_seconds = limits
    before = len(index)
    for start, stop in [(0, total)] if cuts is None else [cut.samples(rate, total) for cut in cuts]:
        length = (stop - start) * SAMPLE_RATE // rate
        if length < window:
            index.skip(SHORT, f"{path}: {max(0, length) / SAMPLE_RATE:.3f} s from {start / rate:.3f} s on")
            continue
        parts = int(-(-length // (max_seconds * SAMPLE_RATE)))
        edges = [start + (stop - start) * part // parts for part in range(parts + 1)]
        for begin, end in pairwise(edges):
            samples = (end - begin) * SAMPLE_RATE // rate
            index.file.append(len(index.ends))
            index.group.append(group)
            index.start.append(begin)
            index.stop.append(end)
            index.frames.append(1 + max(0, samples - window) // hop)
            index.samples += samples
    if len(index) > before:
        index.names += os.fsencode(path.relative_to(index.roots[root]))
        index.ends.append(len(index.names))
        index.root.append(root)


def _group_files(index: AudioIndex, named: int) -> None:
    """Make each file without a group a group of its own."""
    groups, files = np.frombuffer(index.group, dtype=np.int64), np.frombuffer(index.file, dtype=np.int64)
    index.group = array("q", np.where(groups < 0, named + files, groups).tobytes())
