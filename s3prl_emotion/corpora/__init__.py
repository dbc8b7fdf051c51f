"""Corpora: label tables and split lists to utterances with classes, speakers and speaker-disjoint splits."""

from s3prl_emotion.corpora.corpus import DIMENSIONS, Corpus, Needs, Utterance
from s3prl_emotion.corpora.load import list_utterances, load_corpus

__all__ = ["DIMENSIONS", "Corpus", "Needs", "Utterance", "list_utterances", "load_corpus"]
