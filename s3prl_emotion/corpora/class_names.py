"""Names that published corpora give to classes of emotion."""

from __future__ import annotations

MSP_LETTERS = {
    "A": "angry", "S": "sad", "H": "happy", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt",
    "N": "neutral", "O": "other", "X": "no agreement",
}  # fmt: skip
NO_AGREEMENT = MSP_LETTERS["X"]  # consensus where the graders do not agree on one class
OTHER = MSP_LETTERS["O"]
NO_CLASS = frozenset({"", NO_AGREEMENT})  # consensus of a row that belongs to no class
# Published tables name their columns of grader shares like this; the classes of the table itself count too.
SHARE_NAMES = frozenset({
    "angry", "anger", "sad", "sadness", "happy", "happiness", "surprise", "fear", "disgust", "contempt", "neutral",
    "other", "frustrated", "frustration", "excited", "excitement", "calm", "boredom",
})  # fmt: skip


def spell_out(name: str) -> str:
    """Return the class that one of MSP's letters stands for, or the name itself if it is no such letter."""
    return MSP_LETTERS.get(name, name)
