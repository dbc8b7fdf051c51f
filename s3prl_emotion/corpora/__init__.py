"""Read corpora: label tables and split lists become utterances with labels, in speaker-disjoint splits."""

from s3prl_emotion.corpora.corpus import DIMENSIONS, Corpus, Needs, Utterance
from s3prl_emotion.corpora.load import load_corpus
from s3prl_emotion.corpora.whole import list_utterances, load_whole

__all__ = ["DIMENSIONS", "Corpus", "Needs", "Utterance", "list_utterances", "load_corpus", "load_whole"]
