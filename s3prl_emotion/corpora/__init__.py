"""Corpora: label tables and split lists to utterances with classes, speakers and speaker-disjoint splits."""

from s3prl_emotion.corpora.corpus import Corpus, Utterance, load_corpus

__all__ = ["Corpus", "Utterance", "load_corpus"]
