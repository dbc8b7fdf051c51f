"""Score transcripts by their word error rate."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from s3prl_emotion.corpora.normalise import normalise

logger = logging.getLogger(__name__)


def word_error_rate(references: Sequence[str], transcripts: Sequence[str]) -> float | None:
    """Return the word error rate over all utterances: edits divided by words of the references; by ``jiwer``.

    Both sides are normalised first, so that case and punctuation do not count. The insertions of an utterance whose
    reference has no words do count.

    Args:
        references: correct texts, ``[U]``
        transcripts: recognised texts, ``[U]``

    Returns:
        0 or more, above 1 with many insertions; ``None`` if the references have no words or ``jiwer`` is missing
    """
    expected, recognised = [normalise(text) for text in references], [normalise(text) for text in transcripts]
    if not any(expected):
        return None
    try:
        jiwer: Any = importlib.import_module("jiwer")
    except ImportError:
        logger.info('the word error rate needs jiwer: pip install "s3prl-emotion[asr]"')
        return None
    return float(jiwer.wer(expected, recognised))
