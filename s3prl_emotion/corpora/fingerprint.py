"""Fingerprint a training split, to tell whether another split has the same utterances, labels and audio."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import xxhash
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.corpus import consensus_shares
from s3prl_emotion.errors import AudioError, LabelError, nearest

# Targets by name, and their index in ``corpora.DIMENSIONS``; a corpus's classes are targets too, by their own names.
TARGETS = {"activation": 0, "valence": 1, "dominance": 2}
READING_THREADS = 4


class TrainingSplit(BaseModel):
    """Fingerprint of a training split, independent of the order of its rows and the location of its audio folder.

    Attributes:
        utterances: number of utterances
        names: hash of their names
        labels: hash of their target values
        audio: hash of their audio files' bytes
        max_duration: longest audio (s); longer audio is cut; ``None``: no limit
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    utterances: int
    names: str
    labels: str
    audio: str
    max_duration: float | None


def by_name(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return utterances sorted by name, so that their order does not matter."""
    return sorted(utterances, key=lambda utterance: utterance.name)


def target_values(utterances: Sequence[Utterance], targets: Sequence[str], classes: Sequence[str] = ()) -> Tensor:
    """Return the labels ``[U, D]`` of the utterances, float64: dimensions on the corpus's own scale, shares of classes.

    The value of a class is the share of the graders who chose it; in a corpus without shares it is 1 for utterances of
    that class and 0 for others.

    Args:
        utterances: of the training split
        targets: names among :data:`TARGETS` and ``classes``
        classes: of the corpus, ``[K]``

    Raises:
        LabelError: an utterance has no such label, or there is no such target
    """
    unknown = next((name for name in targets if name not in TARGETS and name not in classes), None)
    if unknown is not None:
        raise LabelError(f"saliency: no target {unknown!r}{nearest(unknown, [*TARGETS, *classes])}")
    rated = [name for name in targets if name in TARGETS]
    chosen = {name: index for index, name in enumerate(classes) if name in targets and name not in TARGETS}
    rows = []
    for utterance in utterances:
        values: dict[str, float] = {}
        if rated:
            if utterance.dimensions is None:
                raise LabelError(
                    f"{utterance.name}: has no {' or '.join(rated)}; saliency needs them for every utterance"
                )
            values |= {name: utterance.dimensions[TARGETS[name]] for name in rated}
        if chosen:
            shares = utterance.target_shares or utterance.shares or consensus_shares(utterance.label, len(classes), 0.0)
            if any(map(math.isnan, shares)):
                raise LabelError(
                    f"{utterance.name}: has neither shares of the graders nor a class; saliency for "
                    f"{' or '.join(chosen)} needs one of them for every utterance"
                )
            values |= {name: shares[index] for name, index in chosen.items()}
        rows.append([values[name] for name in targets])
    return torch.tensor(rows, dtype=torch.float64).view(len(rows), len(targets))


def fingerprint(
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    max_duration: float | None = None,
    classes: Sequence[str] = (),
) -> TrainingSplit:
    """Fingerprint a training split; reads all of its audio files once.

    Raises:
        LabelError: as :func:`target_values`
        AudioError: a file cannot be read
    """
    return TrainingSplit(
        utterances=len(utterances),
        names=names_hash(utterances),
        labels=labels_hash(utterances, targets, classes),
        audio=audio_hash(utterances),
        max_duration=max_duration,
    )


def names_hash(utterances: Sequence[Utterance]) -> str:
    """Return a hash of the utterances' names."""
    return xxhash.xxh3_128_hexdigest(json.dumps([item.name for item in by_name(utterances)]).encode())


def labels_hash(utterances: Sequence[Utterance], targets: Sequence[str], classes: Sequence[str] = ()) -> str:
    """Return a hash of the targets' names and of each utterance's values."""
    digest = xxhash.xxh3_128(json.dumps(list(targets)).encode())
    for row in target_values(by_name(utterances), targets, classes).tolist():
        digest.update(struct.pack(f"<{len(row)}d", *row))
    return digest.hexdigest()


def audio_hash(utterances: Sequence[Utterance]) -> str:
    """Return a hash of the audio files' bytes.

    Raises:
        AudioError: a file cannot be read
    """
    digest = xxhash.xxh3_128()
    ordered = by_name(utterances)
    paths = dict.fromkeys(item.path for item in ordered)  # a file with several segments is read once
    with ThreadPoolExecutor(READING_THREADS) as pool:
        contents = dict(zip(paths, pool.map(_content, paths), strict=True))
    for item in ordered:
        digest.update(contents[item.path])
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return xxhash.xxh3_128_digest(path.read_bytes())
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check datarc.root") from error
