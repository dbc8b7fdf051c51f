"""Compute lexical features of utterances for a head: concatenated embeddings of one or several transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import xxhash
from pydantic import Field
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.normalise import normalise
from s3prl_emotion.corpora.transcripts import texts_of
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.lexical.embedding import LexicalEmbedder
from s3prl_emotion.upstreams.streams import Stream


class LexicalSection(StrictSection):
    """A lexical branch of a head: the transcripts, the text encoder and its layer."""

    model: str
    """Directory or hub id of a text encoder; the paper uses BERT base."""
    layer: int = Field(default=12, ge=0)
    """Index of its hidden states; 0 is the embeddings."""
    pooling: Literal["mean", "cls"] = "mean"
    """Mean over the text's own tokens, or the first token; the paper does not specify it."""
    transcripts: str | list[str] | None = None
    """CSV with FileName and Text, or several of them; by default the label table's Text."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""


def lexical_features(
    utterances: Sequence[Utterance],
    sections: LexicalSection | Sequence[LexicalSection],
    device: str | torch.device = "cpu",
    feature_store: str | Path | None = None,
) -> dict[str, Tensor]:
    """Return the lexical embedding of each utterance, ``[E]``, by its name; see :func:`lexical_streams`."""
    return lexical_streams(utterances, sections, device, feature_store)[0]


def lexical_streams(
    utterances: Sequence[Utterance],
    sections: LexicalSection | Sequence[LexicalSection],
    device: str | torch.device = "cpu",
    feature_store: str | Path | None = None,
) -> tuple[dict[str, Tensor], tuple[Stream, ...]]:
    """Return the lexical embedding of each utterance, and the streams that it consists of.

    Args:
        utterances: of a corpus
        sections: the branches, whose embeddings are concatenated in this order
        device: where the text encoders compute
        feature_store: folder of the store for embeddings, or ``None``

    Returns:
        ``[E]`` float32 on the CPU, by name of the utterance, where E is the sum of the branches' dimensions; and a
        stream for each branch

    Raises:
        LabelError: an utterance has no text, or utterances of the same name have different texts
        UsageError: a text encoder cannot be loaded
        ConfigError: a text encoder lacks the layer
        StoreError: the store cannot be used
    """
    branches = [sections] if isinstance(sections, LexicalSection) else list(sections)
    texts = [texts_of(utterances, branch.transcripts) for branch in branches]  # all, before a model is loaded
    embedders: dict[LexicalSection, LexicalEmbedder] = {}
    parts, streams = [torch.empty(len(utterances), 0)], []
    for branch, lines in zip(branches, texts, strict=True):
        encoder = branch.model_copy(update={"transcripts": None})
        if encoder not in embedders:
            embedders[encoder] = LexicalEmbedder(
                branch.model, branch.layer, branch.pooling, branch.revision, device, feature_store
            )
        parts.append(embedders[encoder].embed(lines))
        made_by = embedders[encoder].identity.variant(batched=False).id  # the same on a CPU and a GPU
        name = f"{Path(branch.model).name} layer {branch.layer}"
        streams.append(Stream(name=name, dims=parts[-1].shape[1], lexical=_hash_of(made_by, utterances, lines)))
    for embedder in embedders.values():
        embedder.close()
    rows = torch.cat(parts, dim=1)
    features: dict[str, Tensor] = {}
    for item, row in zip(utterances, rows, strict=True):
        if not torch.equal(features.setdefault(item.name, row.clone()), row):
            raise LabelError(f"{item.name}: utterances of this name have different texts; embed each corpus separately")
    return features, tuple(streams)


def _hash_of(made_by: str, utterances: Sequence[Utterance], texts: Sequence[str]) -> str:
    """Return a hash of a text encoder and the texts of utterances, whatever their order."""
    digest = xxhash.xxh3_128(made_by.encode())
    for line in sorted(f"{item.name}\0{normalise(text)}\n" for item, text in zip(utterances, texts, strict=True)):
        digest.update(line.encode())
    return digest.hexdigest()
