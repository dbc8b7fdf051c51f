"""Reduce a head's input to salient dimensions or principal components (Mitra et al. 2024, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.saliency_file import PCAProjection, SaliencyFile


class SaliencySection(StrictSection):
    """``modelrc.saliency``: which input dimensions a head gets.

    Attributes:
        file: written by ``s3prl-emotion saliency``, whose method decides: CCS and MIS select, PCA projects
        keep: share of the dimensions to keep
        dimensions: which to keep, in place of a file; a checkpoint's recipe has those that the file gave
        components: number of principal components; only in a checkpoint's recipe, whose weights hold the projection
    """

    file: str | None = None
    keep: float = Field(default=1.0, gt=0, le=1)
    dimensions: list[int] | None = None
    components: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class Reduction:
    """A section with the dimensions or components that its file gave, and the file itself if it was read."""

    section: SaliencySection
    file: SaliencyFile | None = None
    projection: PCAProjection | None = None


def read(
    section: SaliencySection,
    train: Sequence[Utterance] | None,
    max_duration: float | None,
    layer: int | None,
    from_checkpoint: bool,
) -> Reduction:
    """Read the file that a recipe names, and check that it was computed from the training split.

    Args:
        section: of the recipe
        train: training split; ``None`` without a corpus (``-m inference``)
        max_duration: ``datarc.max_duration`` (s)
        layer: ``-l``; ``None`` for the weighted sum
        from_checkpoint: whether the recipe is a checkpoint's, which has what the file gave

    Raises:
        ConfigError: neither a file nor dimensions are named, or the file is of other data
    """
    known = section.dimensions is not None or section.components is not None
    if known and (from_checkpoint or section.file is None):
        if section.dimensions is None and not from_checkpoint:
            raise ConfigError("modelrc.saliency.components: only checkpoints have this key; name the PCA file instead")
        if section.file is None and section.keep != 1:
            raise ConfigError(
                "modelrc.saliency.keep: is the share of a file's dimensions; leave it out if you list dimensions"
            )
        return Reduction(section)
    if section.file is None:
        raise ConfigError("modelrc.saliency.file: name the file that s3prl-emotion saliency wrote, or list dimensions")
    file = SaliencyFile.read(section.file)
    if train is not None:
        file.check_corpus(train, max_duration)
    if file.method == "pca":
        projection = file.projection(section.keep, layer)
        update: dict[str, Any] = {"components": len(projection.components), "dimensions": None}
        return Reduction(section.model_copy(update=update), file, projection)
    update = {"dimensions": file.dimensions(section.keep, layer).tolist(), "components": None}
    return Reduction(section.model_copy(update=update), file)


def build(reduction: Reduction | None, upstream_dim: int, lexical_dim: int = 0) -> nn.Module | None:
    """Return the module that reduces a head's input, or ``None`` where the head gets all dimensions.

    Args:
        reduction: the section, with what its file gave
        upstream_dim: dimensions of the upstream
        lexical_dim: dimensions of the lexical embeddings that are joined to them

    Raises:
        ConfigError: the file's upstream has another number of dimensions
    """
    if reduction is None:
        return None
    input_dim = upstream_dim + lexical_dim
    if reduction.file is not None and reduction.file.header.dims != input_dim:
        theirs, more = reduction.file.header.dims, f" and the lexical embedding {lexical_dim}" if lexical_dim else ""
        raise ConfigError(
            f"{reduction.file.path}: has {theirs} dimensions, the upstream has {upstream_dim}{more}; run s3prl-emotion "
            "saliency again with the upstream of this training"
        )
    if reduction.section.components is not None:
        return PrincipalComponents(input_dim, reduction.section.components, reduction.projection)
    return SalientDimensions(input_dim, reduction.section.dimensions or [])


class SalientDimensions(nn.Module):
    """Select input dimensions, ``[..., D]`` to ``[..., K]``, so that the next layer gets smaller.

    Args:
        input_dim: D
        dimensions: which to keep, ascending, each once, ``[K]``

    Raises:
        ConfigError: a dimension that does not exist, is listed twice or out of order
    """

    def __init__(self, input_dim: int, dimensions: Sequence[int]) -> None:
        super().__init__()
        kept = list(dimensions)
        if not kept or kept != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= input_dim:
            raise ConfigError(
                f"modelrc.saliency.dimensions: must be numbers from 0 to {input_dim - 1} (the upstream's dimensions), "
                "ascending, each once"
            )
        self.output_dim = len(kept)
        self.register_buffer("dimensions", torch.tensor(kept))
        self.dimensions: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Select the dimensions; as a matrix, on which torch is many times as fast as on three axes."""
        rows = features.reshape(-1, features.shape[-1])
        return rows.index_select(1, self.dimensions).view(*features.shape[:-1], self.output_dim)


class PrincipalComponents(nn.Module):
    """Project the input to principal components, ``[..., D]`` to ``[..., K]``; fitted once, never trained.

    Args:
        input_dim: D
        components: K
        projection: the fitted one; ``None`` where a checkpoint's weights bring it
    """

    def __init__(self, input_dim: int, components: int, projection: PCAProjection | None = None) -> None:
        super().__init__()
        if not 1 <= components <= input_dim:
            raise ConfigError(f"modelrc.saliency.components: must lie in 1..{input_dim}, got {components}")
        self.output_dim = components
        mean = torch.zeros(input_dim) if projection is None else projection.mean.float()
        rows = torch.zeros(components, input_dim) if projection is None else projection.components.float()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("components", rows.clone())
        self.mean: Tensor
        self.components: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Project the features."""
        return (features - self.mean) @ self.components.T
