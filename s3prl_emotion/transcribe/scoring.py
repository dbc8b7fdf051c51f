"""Score transcripts by their word error rate."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_emotion.corpora.normalise import normalise

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Normaliser:
    """How texts are made alike before words are compared, and its name in outputs."""

    name: str
    apply: Callable[[str], str]


PLAIN = Normaliser("lower case, no punctuation", normalise)


def normaliser_of(language: str | None, spelling: Mapping[str, str] | None = None) -> Normaliser:
    """Return Whisper's English normaliser for English, else the plain one.

    Whisper's writes out contractions, writes numbers in digits, and drops fillers (um) and titles' dots.

    Args:
        language: code of the language; ``None``: not known
        spelling: British to American spelling, from the model's ``normalizer.json``; without it, both spellings differ
    """
    if language != "en":
        return PLAIN
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    table = dict(spelling or {})
    name = "Whisper's English normaliser" + ("" if table else ", without its table of spellings")
    return Normaliser(name, EnglishTextNormalizer(table))


def word_error_rate(
    references: Sequence[str], transcripts: Sequence[str], normaliser: Normaliser = PLAIN
) -> float | None:
    """Return the word error rate over all utterances: edits divided by words of the references; by ``jiwer``.

    Both sides are normalised first, so that case and punctuation do not count. The insertions of an utterance whose
    reference has no words do count.

    Args:
        references: correct texts, ``[U]``
        transcripts: recognised texts, ``[U]``
        normaliser: applied to both

    Returns:
        0 or more, above 1 with many insertions; ``None`` if the references have no words or ``jiwer`` is missing
    """
    expected, recognised = ([normaliser.apply(text) for text in texts] for texts in (references, transcripts))
    if not any(expected):
        return None
    try:
        jiwer: Any = importlib.import_module("jiwer")
    except ImportError:
        logger.info('the word error rate needs jiwer: pip install "s3prl-emotion[asr]"')
        return None
    return float(jiwer.wer(expected, recognised))
