"""How well speech was recognised."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from s3prl_emotion.corpora.normalise import normalise

logger = logging.getLogger(__name__)


def word_error_rate(references: Sequence[str], transcripts: Sequence[str]) -> float | None:
    """Word error rate over all utterances together: edits to the references, over their words; by ``jiwer``.

    Both sides are normalised first, so that case and punctuation do not count. An utterance whose reference has no word
    counts with the words that were put in.

    Args:
        references: what was said, ``[U]``
        transcripts: what was recognised, ``[U]``

    Returns:
        0 to above 1 (more words put in than said); ``None`` where the references have no word, or ``jiwer`` is missing
    """
    said, heard = [normalise(text) for text in references], [normalise(text) for text in transcripts]
    if not any(said):
        return None
    try:
        jiwer: Any = importlib.import_module("jiwer")
    except ImportError:
        logger.info('the word error rate needs jiwer: pip install "s3prl-emotion[asr]"')
        return None
    return float(jiwer.wer(said, heard))
