"""Embed transcripts with a text encoder as lexical features of utterances (Mitra et al. 2024, section 3.2).

``embedding.py`` embeds texts, ``features.py`` concatenates the embeddings of one or several transcripts.
"""

from s3prl_emotion.corpora.normalise import normalise
from s3prl_emotion.corpora.transcripts import read_transcripts, texts_of
from s3prl_emotion.upstreams.lexical.embedding import LexicalEmbedder
from s3prl_emotion.upstreams.lexical.features import LexicalSection, lexical_features, lexical_streams

__all__ = [
    "LexicalEmbedder", "LexicalSection", "lexical_features", "lexical_streams", "normalise", "read_transcripts",
    "texts_of",
]  # fmt: skip
