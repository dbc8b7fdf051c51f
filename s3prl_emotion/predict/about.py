"""Describe what a predictor predicts with: one trained model, or an ensemble of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class About:
    """Description of a trained model, or of an ensemble.

    Attributes:
        checkpoint: path of the checkpoint; ``ensemble of N checkpoints``
        head: name of the head (``-d``); of an ensemble, the names of all
        upstream: name of the upstream (``-u``); likewise
        classes: classes in the order of the outputs; empty for a head without classes
        dimensions: names of the dimensions; empty for a head without dimensions
        attends: whether the head has attention over frames; of an ensemble, whether its members' weights have a mean
        step: training step of the checkpoint; ``None`` for an ensemble
        frame_shift: time from one frame to the next (s); of an ensemble, that of the first member
        notes: what every output has to say, such as another upstream than in training
        members: the models of an ensemble; empty for a single one
    """

    checkpoint: str
    head: str
    upstream: str
    classes: tuple[str, ...]
    dimensions: tuple[str, ...]
    attends: bool
    step: int | None
    frame_shift: float
    notes: tuple[str, ...] = ()
    members: tuple[About, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, of which only an ensemble has ``members``."""
        values = asdict(self)
        del values["members"]
        return values | ({"members": [member.to_plain() for member in self.members]} if self.members else {})


def about_ensemble(members: Sequence[About], attends: bool) -> About:
    """Return the description of an ensemble.

    Args:
        members: its models, two or more; the first one's order of classes and dimensions is the ensemble's
        attends: whether their attention weights have a mean
    """
    first = members[0]
    return About(
        checkpoint=f"ensemble of {len(members)} checkpoints",
        head=_joined(member.head for member in members),
        upstream=_joined(member.upstream for member in members),
        classes=first.classes,
        dimensions=first.dimensions,
        attends=attends,
        step=None,
        frame_shift=first.frame_shift,
        notes=_notes(members),
        members=tuple(members),
    )


def _notes(members: Sequence[About]) -> tuple[str, ...]:
    """Return the members' notes: those of all as they are, others after the last parts of the member's checkpoint."""
    notes: dict[str, None] = {}
    for member in members:
        for note in member.notes:
            of_all = all(note in other.notes for other in members)
            notes[note if of_all else f"{last_parts(member.checkpoint)}: {note}"] = None
    return tuple(notes)


def last_parts(checkpoint: str) -> str:
    """Return experiment and file of a checkpoint's path, as the rest is private; an id on the hub as it is."""
    return "/".join(Path(checkpoint).parts[-2:]).lstrip("/")


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
