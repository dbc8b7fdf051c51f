"""Lexical features of utterances for a head: embeddings of one or several transcripts, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.transcripts import texts_of
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.lexical.embedding import LexicalEmbedder


class LexicalSection(StrictSection):
    """One lexical branch of a head: which transcripts, and which layer of which text encoder."""

    model: str
    """Directory or hub id of a text encoder; the paper: BERT base."""
    layer: int = Field(default=12, ge=0)
    """Of its hidden states, 0 being the embeddings."""
    pooling: Literal["mean", "cls"] = "mean"
    """Over the text's own tokens, or the first token; the paper does not say."""
    transcripts: str | list[str] | None = None
    """CSV with FileName and Text, or several; by default the label table's Text."""
    revision: str | None = None
    """Of a model on the hub."""


def lexical_features(
    utterances: Sequence[Utterance],
    sections: LexicalSection | Sequence[LexicalSection],
    device: str | torch.device = "cpu",
    feature_store: str | Path | None = None,
) -> dict[str, Tensor]:
    """Lexical embedding of each utterance.

    Args:
        utterances: of a corpus
        sections: the branches, whose embeddings stand one behind the other in this order
        device: where the text encoders compute
        feature_store: where embeddings are kept, or ``None``

    Returns:
        ``[E]`` float32 on the CPU by the utterance's name; E is the sum of the branches' dimensions

    Raises:
        LabelError: an utterance has no text, or two utterances of one name have different ones
        UsageError: a text encoder cannot be loaded
        ConfigError: it has no such layer
        StoreError: the store cannot be used
    """
    branches = [sections] if isinstance(sections, LexicalSection) else list(sections)
    texts = [texts_of(utterances, branch.transcripts) for branch in branches]  # all, before a model is loaded
    embedders: dict[LexicalSection, LexicalEmbedder] = {}
    parts = [torch.empty(len(utterances), 0)]
    for branch, lines in zip(branches, texts, strict=True):
        encoder = branch.model_copy(update={"transcripts": None})
        if encoder not in embedders:
            embedders[encoder] = LexicalEmbedder(
                branch.model, branch.layer, branch.pooling, branch.revision, device, feature_store
            )
        parts.append(embedders[encoder].embed(lines))
    for embedder in embedders.values():
        embedder.close()
    rows = torch.cat(parts, dim=1)
    features: dict[str, Tensor] = {}
    for item, row in zip(utterances, rows, strict=True):
        if not torch.equal(features.setdefault(item.name, row.clone()), row):
            raise LabelError(
                f"{item.name}: two utterances of this name say different things; ask for each corpus apart"
            )
    return features
