"""Find the audio files that a label table lists, and say what is there instead where they are missing."""

from __future__ import annotations

import heapq
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from s3prl_emotion.corpora.corpus import Utterance
from s3prl_emotion.corpora.segments import check_ends
from s3prl_emotion.errors import AudioError
from s3prl_emotion.limits import shown

SHOWN = 3  # names of a message


def with_audio(
    utterances: Sequence[Utterance], source: Path, everything: Iterable[Utterance] = (), fix: str = "datarc.root"
) -> Sequence[Utterance]:
    """Return the utterances with paths of files that exist, in whichever Unicode form the disk has their names.

    Args:
        utterances: of a corpus
        source: the table or list that they are from, for messages
        everything: all utterances of the corpus, if these are a part of them
        fix: where the audio folder is named

    Raises:
        AudioError: a file is missing; if all are, it says what the folder holds. Or a segment lies beyond its file
    """
    found: list[Utterance] | None = None
    for index, item in enumerate(utterances):
        if item.path.is_file():
            continue
        root = audio_root(item)
        path = in_other_form(root, item.path)
        if path is None:
            raise AudioError(missing([*everything] or utterances, item, root, source, fix))
        found = list(utterances) if found is None else found
        found[index] = replace(item, path=path)
    utterances = utterances if found is None else tuple(found)
    check_ends(utterances)
    return utterances


def audio_root(item: Utterance) -> Path:
    """Return the audio folder of an utterance: its path without its name."""
    name = item.file.removeprefix(f"{item.corpus}/") if item.corpus else item.file
    return Path(str(item.path).removesuffix(name) or ".")


def missing(utterances: Sequence[Utterance], item: Utterance, root: Path, source: Path, fix: str) -> str:
    """Return the message for an utterance whose file is not there."""
    names = {other.file: other.path for other in utterances if audio_root(other) == root}
    if len(names) > 1 and not any(path.is_file() for path in names.values()):
        return none_found(root, [*names], source, fix)
    return f"{item.path}: no such audio file, though {source} lists it; check {fix}"


def none_found(root: Path, names: Sequence[str], source: Path | str, fix: str) -> str:
    """Return the message for labels none of whose files are there: those of another corpus, or another folder."""
    listed = ", ".join(names[:SHOWN])
    return (
        f"{root}: none of the {len(names)} audio files that {source} lists ({listed}{', …' * (len(names) > SHOWN)}) is "
        f"there: no such audio file; the folder holds {contents(root)}; check {fix}, or whether these are its labels"
    )


def contents(folder: Path) -> str:
    """Return the first names in a folder, for messages."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, heapq.nsmallest(SHOWN, names))) + more if names else "nothing"


def in_other_form(root: Path, path: Path) -> Path | None:
    """Return the file whose name below ``root`` is equal but for its Unicode form (NFC, NFD); ``None`` if none is."""
    if str(path).isascii() or not path.is_relative_to(root):
        return None
    found = root
    for part in path.relative_to(root).parts:
        if (found / part).exists():
            found /= part
            continue
        try:
            name = _composed(found, found.stat().st_mtime_ns).get(unicodedata.normalize("NFC", part))
        except OSError:
            return None
        if name is None:
            return None
        found /= name
    return found if found.is_file() else None


@lru_cache(maxsize=8)
def _composed(folder: Path, changed: int) -> dict[str, str]:
    """Return the names in a folder by their Unicode form NFC; ``changed`` is the folder's time of change (ns)."""
    return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder)}
