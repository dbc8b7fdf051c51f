"""A model may return any structure of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s3prl_emotion.experts.outputs import map_tensors


class Pair(NamedTuple):
    logits: Tensor
    variance: Tensor | None


@dataclass(frozen=True)
class Both:
    pair: Pair
    extra: dict[str, list[Tensor]]
    name: str = "both"


def test_every_tensor_is_mapped_and_the_structure_stays() -> None:
    rows = torch.arange(3.0, requires_grad=True)
    mapped = map_tensors(lambda tensor: 2 * tensor[1:], Both(Pair(rows, None), {"latent": [rows + 1]}))
    assert isinstance(mapped, Both)
    assert isinstance(mapped.pair, Pair)
    assert mapped.pair.logits.tolist() == [2, 4]
    assert (mapped.pair.variance, mapped.name) == (None, "both")
    assert mapped.extra["latent"][0].tolist() == [4, 6]
    (mapped.pair.logits.sum() + mapped.extra["latent"][0].sum()).backward()
    assert rows.grad.tolist() == [0, 4, 4]


def test_a_tensor_and_a_tuple() -> None:
    rows = torch.ones(2)
    assert map_tensors(torch.sum, rows).item() == 2
    assert [part.item() for part in map_tensors(torch.sum, (rows, 2 * rows))] == [2, 4]
