"""Find audio files, and their segments, in the folders of LibriSpeech, TED-LIUM or any other audio.

Layouts: ``librispeech`` (``SPEAKER-CHAPTER-NUMBER.flac`` at any depth), ``tedlium`` (``stm/*.stm`` beside
``sph/*.sph``, as in TED-LIUM 2's ``train``, ``dev`` and ``test``; talks are cut into their STM segments, paper 003,
section 3), and ``folder``: every audio file below it. ``auto`` chooses the first of these that fits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from s3prl_emotion.audio import readable_suffixes
from s3prl_emotion.errors import UsageError
from s3prl_emotion.rae.stm import Cut, read_stm

LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+\.flac")
TALKS = (".sph", ".wav", ".flac")  # TED-LIUM's own format first, then formats that it may have been converted to
NO_AUDIO, BAD_LINE, MISNAMED = "STM without audio", "STM line unreadable", "not named as LibriSpeech's"
Skip = Callable[[str, str], None]  # reason, and what is skipped


class Listed(NamedTuple):
    """An audio file of a folder."""

    path: Path
    group: str
    """the speaker (LibriSpeech) or the talk (TED-LIUM), empty for others"""
    cuts: list[Cut] | None
    """its segments; ``None``: the whole file"""


def list_audio(root: Path, layout: str, skip: Skip) -> Iterator[Listed]:
    """Yield the audio files of a folder, in a fixed order.

    Args:
        root: the folder
        layout: one of :data:`s3prl_emotion.rae.LAYOUTS`
        skip: called with a reason and a name for whatever is left out

    Raises:
        UsageError: the folder does not have the layout
    """
    return _LISTINGS[_layout(root, layout)](root, skip)


def _layout(root: Path, layout: str) -> Literal["folder", "librispeech", "tedlium"]:
    """Return the layout of a folder; a requested layout is only checked."""
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
            raise UsageError(
                f"--layout librispeech: {root} does not start with a SPEAKER-CHAPTER-NUMBER.flac; use --layout folder"
            )
    return "folder"


def _files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, in a fixed order and without hidden ones."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _audio_files(root: Path) -> Iterator[Path]:
    return (path for path in _files(root) if path.suffix.lower() in readable_suffixes())


def _stm_files(root: Path) -> Iterator[Path]:
    for path in _files(root):
        if path.suffix == ".stm" and path.parent.name == "stm" and (path.parent.parent / "sph").is_dir():
            yield path


def _list_folder(root: Path, skip: Skip) -> Iterator[Listed]:
    return (Listed(path, "", None) for path in _audio_files(root))


def _list_librispeech(root: Path, skip: Skip) -> Iterator[Listed]:
    for path in _audio_files(root):
        match = LIBRISPEECH.fullmatch(path.name)
        if match:
            yield Listed(path, match[1], None)
        else:
            skip(MISNAMED, str(path))


def _list_tedlium(root: Path, skip: Skip) -> Iterator[Listed]:
    for stm in _stm_files(root):
        talks: dict[str, list[Cut]] = {}
        for line, cut in read_stm(stm):
            if isinstance(cut, Cut):
                talks.setdefault(cut.talk, []).append(cut)
            else:
                skip(BAD_LINE, f"{stm}: line {line}: {cut}")
        for talk, cuts in talks.items():
            candidates = [stm.parent.parent / "sph" / f"{talk}{suffix}" for suffix in TALKS]
            path = next((candidate for candidate in candidates if candidate.is_file()), None)
            if path is not None:
                yield Listed(path, talk, cuts)
            else:
                skip(NO_AUDIO, f"{stm}: {candidates[0]} does not exist")


_LISTINGS = {"folder": _list_folder, "librispeech": _list_librispeech, "tedlium": _list_tedlium}
