"""Train without a dev split, ``datarc.valid_ratio: 0``: refuse what needs one, and say what has no effect."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from s3prl_emotion.corpora import Corpus
from s3prl_emotion.corpora.protocol import NO_DEV
from s3prl_emotion.distributed import rank
from s3prl_emotion.errors import ConfigError

logger = logging.getLogger(__name__)
FIX = "or set datarc.valid_ratio: 0.2"


def check_without_dev(corpus: Corpus, runner: Mapping[str, Any]) -> None:
    """Refuse a recipe that needs a dev split where the corpus has none.

    Args:
        corpus: of the recipe
        runner: the recipe's section

    Raises:
        ConfigError: names the key that needs dev
    """
    if corpus.protocol.has_dev:
        return
    if runner.get("early_stopping"):
        raise ConfigError(
            f"runner.early_stopping: ends training by its score on dev, and there is {NO_DEV} (datarc.valid_ratio: 0); "
            f"set early_stopping: null, {FIX}"
        )
    if runner.get("seeding") == "superb":
        raise ConfigError(
            f"runner.seeding superb: SUPERB picks the checkpoint on dev, and there is {NO_DEV} (datarc.valid_ratio: "
            f"0); use seeding: seed, {FIX}"
        )


def warn_without_dev(expert: Any) -> None:
    """Say which settings have no effect where the corpus has no dev split.

    Args:
        expert: the :class:`~s3prl_emotion.experts.base.EmotionExpert`, which is about to be trained
    """
    if expert.corpus.protocol.has_dev or rank():
        return
    logger.warning(
        "%s: downstream_expert.best_metric (%s) and dev in runner.eval_dataloaders have no effect",
        NO_DEV, expert.best_metric,
    )  # fmt: skip
