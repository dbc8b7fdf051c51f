"""Keep which utterances and speakers a training saw, as hashes of 64 bits, and find them in another split.

An utterance is known by its corpus and its name in the label table, and by its waveform where the training read it; a
speaker by corpus and name. Two tables are of one corpus if one's audio folder holds the other's, or if files of the
same name sound the same, as in a corpus that was moved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from s3prl_emotion.audio import read_audio, waveform_hash
from s3prl_emotion.corpora.corpus import UNKNOWN_SPEAKERS, Corpus, Utterance
from s3prl_emotion.errors import AudioError, CheckpointError

Hashes = NDArray[np.int64]
KEY = "Seen"  # of a checkpoint
FORMAT = 1
NOT_READ = 0  # stands for the hash of a waveform that was not read
COMPARED_FILES = 5  # files of equal names that are read to tell a moved corpus from another one
EXAMPLES = 3
NOT_KNOWN = "its training set is not known: not checked"
SEEN_SPLITS = ("train", "dev")


@dataclass(frozen=True, eq=False)
class Trace:
    """What a training saw of one corpus.

    Attributes:
        corpus: its key in ``datarc.corpora`` or ``datarc.extra_tests``; empty for ``datarc.labels``
        folders: hashes of the path of the folder that held its audio ``[F]``, ahead of it those of the folders around
            it, outermost first
        is_own: whether the checkpoint's own training saw it, not one that it started from (``-i``)
        train: hashes of name and waveform ``[U, 2]``, sorted by name
        dev: likewise
        held_out: hashes of the names ``[W]`` in its other splits, sorted
        speakers: hashes of the names ``[S]`` in train and dev, sorted
    """

    corpus: str
    folders: Hashes
    is_own: bool
    train: Hashes
    dev: Hashes
    held_out: Hashes
    speakers: Hashes

    def utterances(self) -> Hashes:
        """Return names and waveforms ``[U + V, 2]`` of train and dev."""
        return np.concatenate([self.train, self.dev])

    def waveforms(self) -> Hashes:
        """Return the hashes of the waveforms in train and dev that were read."""
        values = self.utterances()[:, 1]
        return values[values != NOT_READ]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the weights of a checkpoint were trained on; ``is_complete`` is false where a part of it is not known."""

    traces: tuple[Trace, ...] = ()
    is_complete: bool = True

    def heard(self, waveform: NDArray[np.float32]) -> bool:
        """Return whether a waveform ``[N]`` (16 kHz, whole) was in train or dev."""
        return bool(self._sounds) and waveform_hash(waveform) in self._sounds

    @cached_property
    def _sounds(self) -> frozenset[int]:
        return frozenset(value for trace in self.traces for value in trace.waveforms().tolist())

    def joined(self, earlier: Seen) -> Seen:
        """Return this together with what an earlier training saw, whose weights this one started from."""
        inherited = [
            Trace(item.corpus, item.folders, False, item.train, item.dev, item.held_out, item.speakers)
            for item in earlier.traces
        ]
        return Seen((*self.traces, *inherited), self.is_complete and earlier.is_complete)

    def train_names(self) -> Hashes:
        """Return the hashes of the names in its own training split, sorted."""
        own = [trace.train[:, 0] for trace in self.traces if trace.is_own]
        return np.unique(np.concatenate(own)) if own else np.zeros(0, np.int64)

    def to_state(self) -> dict[str, Any]:
        """Return tensors and plain data for a checkpoint: 16 bytes for an utterance in train or dev, else 8."""
        names = ("folders", "train", "dev", "held_out", "speakers")
        rows = [
            {"corpus": item.corpus, "is_own": item.is_own}
            | {name: torch.from_numpy(getattr(item, name).copy()) for name in names}
            for item in self.traces
        ]
        return {"format": FORMAT, "is_complete": self.is_complete, "corpora": rows}


def read_seen(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> Seen:
    """Read what a checkpoint's weights were trained on; one without a record of it saw what is not known.

    Raises:
        CheckpointError: the record is damaged or of a newer format
    """
    if KEY not in checkpoint:
        return Seen(is_complete=False)
    try:
        record = checkpoint[KEY]
        form, is_complete, rows = record["format"], record["is_complete"], list(record["corpora"])
        if form != FORMAT:
            raise CheckpointError(
                f"{path}: its record of what it was trained on has format {form}; upgrade s3prl-emotion"
            )
        traces = tuple(
            Trace(
                str(row["corpus"]),
                _hashes(row["folders"], ()),
                row["is_own"] is True,
                _hashes(row["train"], (2,)),
                _hashes(row["dev"], (2,)),
                _hashes(row["held_out"], ()),
                _hashes(row["speakers"], ()),
            )
            for row in rows
        )
    except CheckpointError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: its record of what it was trained on is damaged; use an older checkpoint"
        ) from error
    return Seen(traces, is_complete is True)


def _hashes(tensor: torch.Tensor, row: tuple[int, ...]) -> Hashes:
    if tensor.dtype != torch.int64 or tensor.dim() != 1 + len(row) or tuple(tensor.shape[1:]) != row:
        raise ValueError(f"hashes of shape {tuple(tensor.shape)} and type {tensor.dtype}")
    return tensor.cpu().numpy()


def text_hash(text: str) -> int:
    """Return the hash of a name, a signed number of 64 bits."""
    return _signed(xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogateescape")))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# --- what a training sees ---------------------------------------------------------------------------------------------


class TrainingData:
    """The utterances and speakers that a training on a corpus sees; their names are hashed once.

    Args:
        corpus: with the utterances that are trained on, those without labels among them
        train_split: name of the split that is trained on
    """

    def __init__(self, corpus: Corpus, train_split: str) -> None:
        self.names = {"train": train_split, "dev": "dev"}
        parts = {kind: _by_corpus(corpus.splits[split]) for kind, split in self.names.items()}
        trained_on = {train_split, *SEEN_SPLITS}
        others = [item for split, items in corpus.splits.items() if split not in trained_on for item in items]
        held_out = _by_corpus(others)
        self.parts = []
        for key in sorted({*parts["train"], *parts["dev"]}):
            mine = {kind: part.get(key, []) for kind, part in parts.items()}
            items = [item for part in mine.values() for _, item in part]
            speakers = {text_hash(speaker) for item in items if (speaker := known_speaker(item)) is not None}
            apart = {name_hash(item) for _, item in held_out.get(key, [])}
            rows = {kind: _named_rows(part) for kind, part in mine.items()}
            self.parts.append((key, folder_hashes(audio_folder(items)), rows, _sorted(apart), _sorted(speakers)))

    def seen(self, waveforms: Mapping[str, Hashes], earlier: Seen | None = None) -> Seen:
        """Return it as a checkpoint keeps it.

        Args:
            waveforms: by split, the hash of each utterance's waveform ``[U]``, or :data:`NOT_READ`
            earlier: of the checkpoint that the training resumes, which may have read what this process has not yet
        """
        traces = []
        for key, folders, rows, held_out, speakers in self.parts:
            arrays = {}
            for kind, (names, places) in rows.items():
                hashes = waveforms.get(self.names[kind])
                sounds = np.full(len(names), NOT_READ, np.int64) if hashes is None else hashes[places]
                arrays[kind] = _with_earlier(np.stack([names, sounds], axis=1), key, kind, earlier)
            traces.append(Trace(key, folders, True, arrays["train"], arrays["dev"], held_out, speakers))
        return Seen(tuple(traces))


def name_hash(item: Utterance) -> int:
    """Return the hash of an utterance's name in its own label table; a degraded copy has that of its source."""
    return text_hash(item.source or item.name.removeprefix(f"{item.corpus}/"))


def known_speaker(item: Utterance) -> str | None:
    """Return the speaker's name in its own label table; ``None`` for an unknown one."""
    if item.speaker is None:
        return None
    name = item.speaker.removeprefix(f"{item.corpus}/")
    return None if name.strip().lower() in UNKNOWN_SPEAKERS else name


def audio_folder(items: Iterable[Utterance]) -> str:
    """Return the innermost folder that holds the audio of all utterances; degraded copies do not count."""
    folders = {os.path.dirname(item.path) for item in items if item.source is None}
    return os.path.realpath(os.path.commonpath(map(os.path.abspath, folders))) if folders else ""


def folder_hashes(folder: str) -> Hashes:
    """Return the hashes of the paths of a folder and, ahead of it, of those around it; none for an empty path."""
    paths = [*reversed(Path(folder).parents), Path(folder)] if folder else []
    return np.array([text_hash(str(path)) for path in paths], dtype=np.int64)


def _by_corpus(items: Sequence[Utterance]) -> dict[str, list[tuple[int, Utterance]]]:
    parts: dict[str, list[tuple[int, Utterance]]] = {}
    for index, item in enumerate(items):
        parts.setdefault(item.corpus or "", []).append((index, item))
    return parts


def _named_rows(part: Sequence[tuple[int, Utterance]]) -> tuple[Hashes, Hashes]:
    """Return the hashes of the names, sorted, and the place of each in its split."""
    names = np.array([name_hash(item) for _, item in part], dtype=np.int64)
    order = np.argsort(names)
    return names[order], np.array([index for index, _ in part], dtype=np.int64)[order]


def _sorted(values: Iterable[int]) -> Hashes:
    return np.array(sorted(values), dtype=np.int64)


def _with_earlier(rows: Hashes, corpus: str, split: str, earlier: Seen | None) -> Hashes:
    """Fill in waveforms that an earlier process of the same training has read."""
    known: dict[int, int] = {}
    for trace in earlier.traces if earlier is not None else ():
        if trace.is_own and trace.corpus == corpus:
            known |= dict(getattr(trace, split).tolist())
    for row in rows if known else ():
        if row[1] == NOT_READ:
            row[1] = known.get(int(row[0]), NOT_READ)
    return rows


# --- what another split shares with it --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """What a split shares with what a checkpoint was trained on.

    Attributes:
        split: name
        total: utterances in it
        utterances: those that were in train or dev, by name or waveform
        all_speakers: known speakers in it
        speakers: those who were in train or dev; 0 where the split shares its speakers on purpose
        duplicates: further utterances with the waveform of one that was, though the training held them out itself
        examples: some of the utterances, or else of the speakers, in words
        is_complete: whether all that was trained on is known
    """

    split: str
    total: int = 0
    utterances: int = 0
    all_speakers: int = 0
    speakers: int = 0
    duplicates: int = 0
    examples: str = ""
    is_complete: bool = True

    @property
    def is_seen(self) -> bool:
        """Whether the split holds anything that was trained on."""
        return bool(self.utterances or self.speakers)

    @property
    def counts(self) -> str:
        """How much of the split was seen, in words."""
        return (
            f"{self.utterances} of its {self.total} utterances and {self.speakers} of its {self.all_speakers} speakers"
        )

    @property
    def note(self) -> str | None:
        """What every output says about it, if there is anything to say."""
        said = [] if self.is_complete else [NOT_KNOWN]
        if self.is_seen:
            said.append(f"trained on {self.counts} (--allow_seen)")
        return "; ".join(said) or None

    def to_metrics(self) -> dict[str, Any]:
        """Return the entry of a metrics file."""
        numbers = {name: getattr(self, name) for name in ("utterances", "speakers", "duplicates")}
        return {"checked": self.is_complete, **numbers, "note": self.note}


def overlap_of(seen: Seen, corpus: Corpus, split: str, waveforms: Hashes | None = None) -> Overlap:
    """Find the utterances and speakers of a split that were trained on.

    Args:
        seen: what was trained on
        corpus: that has the split
        split: its name
        waveforms: hash of each utterance's waveform ``[N]``, or :data:`NOT_READ`; ``None``: none was read
    """
    items = corpus.split(split)
    hashed = np.zeros(len(items), np.int64) if waveforms is None else waveforms
    found, duplicates, shared, everyone = set(), set(), set(), set()
    for key, part in _by_corpus(items).items():
        traces = _traces_of(seen, corpus, [item for _, item in part], key)
        names = np.array([name_hash(item) for _, item in part], dtype=np.int64)
        sounds = hashed[[index for index, _ in part]]
        is_seen, is_duplicate = np.zeros(len(part), bool), np.zeros(len(part), bool)
        for trace in seen.traces:
            sounds_alike = np.isin(sounds, trace.waveforms())
            if trace in traces:
                is_seen |= np.isin(names, trace.utterances()[:, 0])
                is_held_out = np.isin(names, trace.held_out)
                is_seen |= sounds_alike & ~is_held_out
                is_duplicate |= sounds_alike & is_held_out
            else:
                is_seen |= sounds_alike
        found |= {part[index][1].name for index in np.flatnonzero(is_seen)}
        duplicates |= {part[index][1].name for index in np.flatnonzero(is_duplicate & ~is_seen)}
        speakers = {speaker for _, item in part if (speaker := known_speaker(item)) is not None}
        everyone |= {(key, speaker) for speaker in speakers}
        if split not in corpus.shared_speakers:
            theirs = {value for trace in traces for value in trace.speakers.tolist()}
            shared |= {(key, speaker) for speaker in speakers if text_hash(speaker) in theirs}
    named = sorted(found) or sorted({speaker for _, speaker in shared})
    counts = (len(items), len(found), len(everyone), len(shared), len(duplicates))
    return Overlap(split, *counts, examples_of(named), seen.is_complete)


def examples_of(names: Sequence[str]) -> str:
    """Return some of the names, in words."""
    return ", ".join([*names[:EXAMPLES], *(["…"] if len(names) > EXAMPLES else [])])


def _traces_of(seen: Seen, corpus: Corpus, items: Sequence[Utterance], key: str) -> list[Trace]:
    """Return the traces of the corpus that the utterances are from."""
    every = [item for part in corpus.splits.values() for item in part if (item.corpus or "") == key]
    folders = folder_hashes(audio_folder(items) or audio_folder(every))  # degraded copies lie elsewhere
    return [
        item
        for item in seen.traces
        if (_is_nested(item.folders, folders) if len(folders) else _is_copied(item, items)) or _is_moved(item, every)
    ]


def _is_nested(one: Hashes, other: Hashes) -> bool:
    """Return whether one of two folders holds the other, or is it."""
    return bool(len(one) and len(other)) and (one[-1] in other or other[-1] in one)


def _is_copied(trace: Trace, items: Sequence[Utterance]) -> bool:
    """Return whether at least half of some degraded copies are of utterances of the trace's corpus."""
    names = np.array([name_hash(item) for item in items], dtype=np.int64)
    return 2 * int(np.isin(names, np.concatenate([trace.utterances()[:, 0], trace.held_out])).sum()) >= len(names)


def _is_moved(trace: Trace, items: Iterable[Utterance]) -> bool:
    """Return whether one of some files has the name and the waveform of one that was trained on."""
    known = {name: sound for name, sound in trace.utterances().tolist() if sound != NOT_READ}
    named = {name_hash(item): item for item in items if item.source is None}
    compared = sorted(known.keys() & named.keys())[:COMPARED_FILES]
    return any(_hash_of_file(named[name]) == known[name] for name in compared)


def _hash_of_file(item: Utterance) -> int:
    try:
        return waveform_hash(read_audio(item.path, item.channel, item.part).waveform)
    except AudioError:  # evaluating it will say so
        return NOT_READ
