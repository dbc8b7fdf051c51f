"""Move a share of other corpora into training, without labels ("access to 20% of the unlabeled data")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from s3prl_emotion.corpora import Corpus, Utterance
from s3prl_emotion.corpora.corpus import NO_CONSENSUS
from s3prl_emotion.errors import ConfigError, LabelError, nearest
from s3prl_emotion.recipe import DataSection, StrictSection

WHERE = "downstream_expert.modelrc.unlabelled"


class UnlabelledSection(StrictSection):
    """``modelrc.unlabelled``: the share of ``datarc.extra_tests`` that is trained on without labels, and not tested."""

    splits: list[str] = Field(min_length=1)
    share: float = Field(default=0.2, gt=0, lt=1)
    learn: bool = True
    """``false`` only leaves it out of the tests, so that runs with and without it are tested on the same utterances."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw, which does not depend on ``--seed``."""


def check_unlabelled(section: UnlabelledSection | None, data: DataSection) -> None:
    """Refuse splits that are not other corpora.

    Raises:
        ConfigError: names the split
    """
    for name in section.splits if section else ():
        if name not in data.extra_tests:
            hint = nearest(name, data.extra_tests)
            raise ConfigError(f"{WHERE}.splits: {name!r} is not in datarc.extra_tests{hint}")


def with_unlabelled(corpus: Corpus, section: UnlabelledSection, train_split: str) -> Corpus:
    """Return the corpus with a share of the named splits moved into training, without class and dimensions.

    The moved utterances are named ``split/name``, so that they cannot be confused with the corpus's own.

    Raises:
        LabelError: a split is too small to be divided
    """
    splits = dict(corpus.splits)
    for name in section.splits:
        moved, left = _divide(corpus.split(name), section.share, section.seed)
        if not moved or not left:
            raise LabelError(f"{WHERE}: {section.share:g} of split {name!r} leaves one part empty; change share")
        splits[name] = left
        if section.learn:
            splits[train_split] += tuple(
                Utterance(
                    f"{name}/{item.name}",
                    item.path,
                    NO_CONSENSUS,
                    item.speaker,
                    item.gender,
                    corpus=name,
                    channel=item.channel,
                    part=item.part,
                )
                for item in moved
            )
    shared = section.splits if section.learn else []
    return replace(corpus, splits=splits, shared_speakers=corpus.shared_speakers | set(shared))


def _divide(
    utterances: Sequence[Utterance], share: float, seed: int
) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...]]:
    """Return a random share of the utterances, which does not depend on their order, and the others."""
    order = sorted(range(len(utterances)), key=lambda index: utterances[index].name)
    drawn = np.random.default_rng(seed).permutation(len(order))[: round(share * len(order))]
    chosen = {order[index] for index in drawn.tolist()}
    moved = tuple(item for index, item in enumerate(utterances) if index in chosen)
    return moved, tuple(item for index, item in enumerate(utterances) if index not in chosen)
