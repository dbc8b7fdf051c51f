"""What unlabelled audio there is: every stretch to train on, found from folders, file headers and STM files alone.

Nothing is decoded here. The index takes 40 bytes a stretch and each file's name once, so that memory hardly grows with
the folder; audio is read when its batch comes (:mod:`~s3prl_emotion.rae.audio_stream`).

Layouts: ``librispeech`` (``SPEAKER-CHAPTER-NUMBER.flac`` at any depth), ``tedlium`` (``stm/*.stm`` beside
``sph/*.sph``, as in TED-LIUM 2's ``train``, ``dev`` and ``test``; talks are cut by their STM segments, paper 003,
section 3), and ``folder``: every audio file below it. ``auto`` looks which of the first two fits.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE, SUFFIXES
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.rae.stm import Cut, read_stm

READABLE = SUFFIXES | {".sph"}
LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+\.flac")
TALKS = (".sph", ".wav", ".flac")  # TED-LIUM's own first, then what it may have been converted to
AT_ONCE = 256  # headers that are read at a time
THREADS = 8
LONGEST = 2**40  # samples; a header that says more does not know
UNREADABLE, EMPTY, SHORT, NOT_FINITE = "unreadable", "empty", "shorter than a window", "NaN or infinite"
NO_AUDIO, BAD_LINE, MISNAMED = "STM without audio", "STM line unreadable", "not named as LibriSpeech's"
Found = tuple[Path, str, list[Cut] | None]  # file, group (speaker, talk, file), stretches (None: the whole)


@dataclass
class AudioIndex:
    """Stretches of audio, as flat arrays; number ``i`` is samples ``[start[i], stop[i])`` of a file, at its own rate.

    ``group`` is what a held-out share is made of: the speaker (LibriSpeech), the talk (TED-LIUM) or the file.
    """

    roots: list[Path]
    root: array[int] = field(default_factory=lambda: array("i"))  # per file
    names: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q"))  # of the names, per file
    file: array[int] = field(default_factory=lambda: array("q"))  # per stretch, as all below
    group: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    stop: array[int] = field(default_factory=lambda: array("q"))
    frames: array[int] = field(default_factory=lambda: array("q"))
    samples: int = 0  # at 16 kHz, of all
    skipped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)  # reason -> the first that was skipped for it

    def __len__(self) -> int:
        return len(self.start)

    @property
    def hours(self) -> float:
        """Audio of all stretches."""
        return self.samples / SAMPLE_RATE / 3600

    def path(self, number: int) -> Path:
        """File of a stretch."""
        file = self.file[number]
        begin = self.ends[file - 1] if file else 0
        return self.roots[self.root[file]] / os.fsdecode(bytes(self.names[begin : self.ends[file]]))

    def signature(self) -> str:
        """Hash over the names below their roots and the stretches: what a resumed run has to find again."""
        digest = hashlib.sha256(self.names)
        for values in (self.root, self.ends, self.file, self.start, self.stop):
            digest.update(values)
        return digest.hexdigest()

    def held_out(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split into training and dev, by whole groups.

        Args:
            share: of the stretches, that is held out at least; 0: nothing
            seed: of the choice

        Returns:
            numbers of the stretches ``[N_train]`` and ``[N_dev]``, each in order

        Raises:
            UsageError: there are too few groups to hold any out
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

    def skip(self, reason: str, what: str) -> None:
        """Count something that is left out."""
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
    """Find what there is to train on.

    Args:
        roots: folders, none below another
        layout: one of :data:`s3prl_emotion.rae.LAYOUTS`
        window: samples (16 kHz) of the spectrogram's window; shorter stretches are skipped
        hop: samples (16 kHz) between frames
        max_seconds: longer stretches are cut into equal parts up to so long
        progress: called with numbers of files whose header has been read

    Raises:
        UsageError: no such folder, folders within each other, or a layout that a folder does not have
        AudioError: nothing to train on; says why the first files were skipped
    """
    index = AudioIndex(_checked(roots))
    groups: dict[str, int] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for number, root in enumerate(index.roots):
            found = _FINDERS[_layout(root, layout)](root, index)
            while several := list(islice(found, AT_ONCE)):
                for (path, group, cuts), header in zip(several, pool.map(_header, several), strict=True):
                    key = groups.setdefault(f"{number}/{group}", len(groups)) if group else -1
                    _add(index, number, path, key, cuts, header, (window, hop, max_seconds))
                if progress is not None:
                    progress(len(several))
    if not len(index):
        reasons = "; ".join(f"{count} {why} ({index.first[why]})" for why, count in index.skipped.items())
        raise AudioError(
            f"--audio {' '.join(map(str, roots))}: no audio to train on: {reasons or 'no audio file in it'}"
        )
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


def _layout(root: Path, layout: str) -> Literal["folder", "librispeech", "tedlium"]:
    """What a folder is; a layout that was asked for is only checked."""
    if layout in ("auto", "tedlium"):
        if next(_stm_files(root), None) is not None:
            return "tedlium"
        if layout == "tedlium":
            raise UsageError(f"--layout tedlium: {root} holds no stm/*.stm beside a folder sph; give its train folder")
    if layout in ("auto", "librispeech"):
        first = next(_audio_files(root), None)
        if first is not None and LIBRISPEECH.fullmatch(first.name):
            return "librispeech"
        if layout == "librispeech":
            raise UsageError(f"--layout librispeech: {root} holds no SPEAKER-CHAPTER-NUMBER.flac first; take folder")
    return "folder"


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, in a fixed order; hidden ones are none."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _audio_files(root: Path) -> Iterator[Path]:
    return (path for path in _files(root) if path.suffix.lower() in READABLE)


def _stm_files(root: Path) -> Iterator[Path]:
    for path in _files(root):
        if path.suffix == ".stm" and path.parent.name == "stm" and (path.parent.parent / "sph").is_dir():
            yield path


def _find_in_folder(root: Path, index: AudioIndex) -> Iterator[Found]:
    return ((path, "", None) for path in _audio_files(root))


def _find_librispeech(root: Path, index: AudioIndex) -> Iterator[Found]:
    for path in _audio_files(root):
        match = LIBRISPEECH.fullmatch(path.name)
        if match:
            yield path, match[1], None
        else:
            index.skip(MISNAMED, str(path))


def _find_tedlium(root: Path, index: AudioIndex) -> Iterator[Found]:
    for stm in _stm_files(root):
        talks: dict[str, list[Cut]] = {}
        for line, cut in read_stm(stm):
            if isinstance(cut, Cut):
                talks.setdefault(cut.talk, []).append(cut)
            else:
                index.skip(BAD_LINE, f"{stm}: line {line}: {cut}")
        for talk, cuts in talks.items():
            places = [stm.parent.parent / "sph" / f"{talk}{suffix}" for suffix in TALKS]
            path = next((place for place in places if place.is_file()), None)
            if path is not None:
                yield path, talk, cuts
            else:
                index.skip(NO_AUDIO, f"{stm}: {places[0]} is not there")


_FINDERS = {"folder": _find_in_folder, "librispeech": _find_librispeech, "tedlium": _find_tedlium}


def _header(found: Found) -> tuple[int, int] | str:
    """Samples and rate of a file, or why it has none."""
    path = found[0]
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        how = "; convert it with sph2pipe or sox" if path.suffix.lower() == ".sph" else ""
        return f"{path}: {' '.join(str(error).split())}{how}"
    if info.frames > LONGEST:
        return f"{path}: its header does not say how long it is"
    return info.frames, info.samplerate


def _add(
    index: AudioIndex,
    root: int,
    path: Path,
    group: int,
    cuts: list[Cut] | None,
    header: tuple[int, int] | str,
    limits: tuple[int, int, float],
) -> None:
    """Add a file's stretches."""
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
    """Files without a group are each their own."""
    groups, files = np.frombuffer(index.group, dtype=np.int64), np.frombuffer(index.file, dtype=np.int64)
    index.group = array("q", np.where(groups < 0, named + files, groups).tobytes())
