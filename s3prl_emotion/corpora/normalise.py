"""Normalise transcripts: lower case, no punctuation (Mitra et al. 2024, section 3.2)."""

from __future__ import annotations

import re
import unicodedata

NORMALISATION_VERSION = 1  # raise it whenever a text's result changes: stored embeddings depend on it
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\uff07", "'"))  # curly quotes, modifier letter, full width
INSIDE_A_WORD = re.compile(r"(?<=[^\W_])'(?=[^\W_])")
SPACED = {"P", "S", "Z"}  # Unicode's punctuation, symbols (also emoji and spacing accents) and spaces
INVISIBLE = "Cf"  # soft hyphen, zero-width characters, marks of direction
NO_TEXT = {"Cc", "Co", "Cs"}  # tabs and line breaks, private use, and halves of a pair, which UTF-8 cannot hold


def normalise(text: str) -> str:
    """Return a text in lower case, without punctuation and with single spaces.

    Punctuation marks and symbols become spaces, so that "well-known" is two words. The exception is an apostrophe
    between two letters or digits, which is part of the word ("don't" is not "dont", "we'll" not "well"): it is kept, as
    ', however it was typed. Recognisers trained on LibriSpeech write it, and BERT's vocabulary has words with it.
    Accents are kept and composed (NFC). Normalising twice gives the same as normalising once.

    Args:
        text: in any script

    Returns:
        words separated by single spaces, possibly none
    """
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    visible = "".join(character for character in lowered if unicodedata.category(character) != INVISIBLE)
    pieces = INSIDE_A_WORD.split(visible.translate(APOSTROPHES))
    words = "'".join("".join(map(_spaced, piece)) for piece in pieces)
    return " ".join(unicodedata.normalize("NFC", words).split())


def _spaced(character: str) -> str:
    category = unicodedata.category(character)
    return " " if category[0] in SPACED or category in NO_TEXT else character
