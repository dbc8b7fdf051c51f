"""Describe the streams side by side in a head's input: acoustic upstreams and lexical embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict


class Stream(BaseModel):
    """One representation among several side by side (Mitra et al. 2024, Fig. 3).

    Attributes:
        name: upstream or text encoder
        dims: number of its dimensions, next to each other in the joined input
        lexical: hash of text encoder, layer, pooling and transcripts of a lexical stream; empty for an acoustic one
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    dims: int
    lexical: str = ""


def slices_of(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield the range of dimensions of each stream, from the streams' sizes."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size
