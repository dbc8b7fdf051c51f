"""Find the streams that a head's input consists of: the members of ``concat``, and lexical embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import shown
from s3prl_emotion.rng import own_seed
from s3prl_emotion.upstreams.lexical import LexicalSection, lexical_streams
from s3prl_emotion.upstreams.source import UpstreamSource
from s3prl_emotion.upstreams.streams import Stream


def joined_embeddings(
    source: UpstreamSource, utterances: Sequence[Utterance], recipe: dict[str, Any], store: str | None = None
) -> tuple[dict[str, Tensor] | None, tuple[Stream, ...]]:
    """Return the lexical embeddings that a recipe joins to the acoustic input, and all streams of the input.

    Args:
        source: the upstream
        utterances: of the training split
        recipe: with ``modelrc.lexical_join: early`` where lexical embeddings are joined
        store: folder of the feature store, or ``None``

    Returns:
        embeddings ``[E]`` by name, ``None`` without any; and the streams, empty where there is only one

    Raises:
        ConfigError: a malformed section, or a text encoder without the layer
        LabelError: an utterance has no text
        UsageError: a text encoder cannot be loaded
    """
    acoustic = _acoustic(source)
    sections = _early(recipe)
    if not sections:
        return None, tuple(acoustic if len(acoustic) > 1 else ())
    rows, lexical = lexical_streams(utterances, sections, source.device, store)
    return rows, (*acoustic, *lexical)


def _early(recipe: dict[str, Any]) -> list[LexicalSection]:
    """Return the lexical embeddings that a recipe joins early; other heads have no such keys."""
    where, modelrc = "downstream_expert.modelrc", recipe["downstream_expert"].get("modelrc") or {}
    if modelrc.get("lexical_join") != "early":
        return []
    values = modelrc.get("lexical") or []
    if not isinstance(values, list):
        raise ConfigError(f"{where}.lexical: must be a list of mappings, got {shown(values)}")
    return [LexicalSection.read(value, f"{where}.lexical.{number}") for number, value in enumerate(values)]


@torch.no_grad()
def _acoustic(source: UpstreamSource) -> list[Stream]:
    """Return a stream for each member of ``concat``, or one for any other upstream."""
    sections, members = getattr(source.upstream, "sections", None), getattr(source.upstream, "members", None)
    if sections is None or members is None:
        return [Stream(name=source.spec.name, dims=int(source.featurizer.output_dim))]
    tone, streams = 0.1 * torch.sin(torch.arange(SAMPLE_RATE, device=source.device) * 0.08), []
    with own_seed(0):  # upstreams may draw even in eval mode
        for section, member in zip(sections, members, strict=True):
            features = member([tone])[section.feature]
            layers = list(features.values()) if isinstance(features, dict) else features
            layer = layers if isinstance(layers, Tensor) else layers[section.layer or 0]
            of = f" {Path(section.ckpt).name}" if section.ckpt else ""
            streams.append(Stream(name=f"{section.name}{of}", dims=layer.shape[-1]))
    return streams
