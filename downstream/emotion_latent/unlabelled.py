"""A share of other corpora's utterances for training, without their labels ("access to 20% of the unlabeled data")."""

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
    """``modelrc.unlabelled:`` what of ``datarc.extra_tests`` is not tested on, but learnt from without labels."""

    splits: list[str] = Field(min_length=1)
    share: float = Field(default=0.2, gt=0, lt=1)
    learn: bool = True
    """``false``: it is left out of the tests alone, so that runs with and without it are tested on the same."""
    seed: int = Field(default=0, ge=0)
    """Of the draw, which does not depend on ``--seed``."""


def check_unlabelled(section: UnlabelledSection | None, data: DataSection) -> None:
    """Refuse splits that are no other corpora.

    Raises:
        ConfigError: says which
    """
    for name in section.splits if section else ():
        if name not in data.extra_tests:
            hint = nearest(name, data.extra_tests)
            raise ConfigError(f"{WHERE}.splits: {name!r} is none of datarc.extra_tests{hint}")


def with_unlabelled(corpus: Corpus, section: UnlabelledSection, train_split: str) -> Corpus:
    """The corpus with a share of the named splits moved into training, without class and dimensions.

    Their names are those of the split and the utterance, so that they cannot be taken for the corpus's own.

    Raises:
        LabelError: a split is too small to be shared out
    """
    splits = dict(corpus.splits)
    for name in section.splits:
        taken, left = _shared_out(corpus.split(name), section.share, section.seed)
        if not taken or not left:
            raise LabelError(f"{WHERE}: {section.share:g} of split {name!r} leaves nothing on one side; change share")
        splits[name] = left
        if section.learn:
            splits[train_split] += tuple(
                Utterance(f"{name}/{item.name}", item.path, NO_CONSENSUS, item.speaker, item.gender) for item in taken
            )
    return replace(corpus, splits=splits)


def _shared_out(
    utterances: Sequence[Utterance], share: float, seed: int
) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...]]:
    """A share of the utterances, drawn by seed whatever their order, and the others."""
    order = sorted(range(len(utterances)), key=lambda index: utterances[index].name)
    drawn = np.random.default_rng(seed).permutation(len(order))[: round(share * len(order))]
    chosen = {order[index] for index in drawn.tolist()}
    taken = tuple(item for index, item in enumerate(utterances) if index in chosen)
    return taken, tuple(item for index, item in enumerate(utterances) if index not in chosen)
