"""What is said: transcripts, their normalisation and embedding (Mitra et al. 2024, section 3.2), and recognising them.

``transcripts.py`` reads texts, ``normalise.py`` strips them to words, ``embedding.py`` gives each a vector and
``features.py`` puts those of several transcripts side by side. ``asr.py`` recognises speech; ``record.py`` keeps what
was recognised through an interruption.
"""

from s3prl_emotion.corpora.normalise import normalise
from s3prl_emotion.corpora.transcripts import read_transcripts, texts_of
from s3prl_emotion.upstreams.lexical.embedding import LexicalEmbedder
from s3prl_emotion.upstreams.lexical.features import LexicalSection, lexical_features

__all__ = ["LexicalEmbedder", "LexicalSection", "lexical_features", "normalise", "read_transcripts", "texts_of"]
