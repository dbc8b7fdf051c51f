"""Augment features: masks over frames and channels (SpecAugment), and mixtures of two utterances (mixup)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora.degradation_levels import generator
from s3prl_emotion.distributed import leaders
from s3prl_emotion.recipe import AugmentSection, SpecAugmentSection


class FeatureAugmenter:
    """Augments the features of training batches.

    Args:
        section: ``datarc.augment``
        seed: of the run; the section's own comes first
        samples_per_frame: of the upstream, at 16 kHz
    """

    def __init__(self, section: AugmentSection, seed: int, samples_per_frame: int) -> None:
        self.section = section
        self.seed = seed if section.seed is None else section.seed
        self.frames_per_second = SAMPLE_RATE / samples_per_frame

    def masked(self, features: Sequence[Tensor], names: Sequence[str], epoch: int) -> Sequence[Tensor]:
        """Return features ``[T_b, D]`` of utterances, with zeros in the frames and channels that are drawn."""
        options = self.section.spec_augment
        if options is None:
            return features
        masked = []
        for feature, name in zip(features, names, strict=True):
            rng = generator(self.seed, name, "augment", "spec_augment", epoch)
            if rng.random() < options.p:
                frames, channels = draw_masks(rng, feature.shape, options, self.frames_per_second)
                hidden = torch.from_numpy(frames[:, None] | channels[None]).to(feature.device)
                feature = feature.masked_fill(hidden, 0.0)
            masked.append(feature)
        return masked

    def mixing(self, names: Sequence[str], sizes: Sequence[int] | None, epoch: int) -> Mixing | None:
        """Return how the utterances of batches are mixed; ``None`` where they are not.

        Weight and probability are the same in all processes of a distributed training, drawn with the first utterance
        of the first process. Each process mixes the utterances of its own share.

        Args:
            names: of the utterances, ``[B]``
            sizes: utterances of each batch where several are computed together; ``None``: one batch
            epoch: from 0
        """
        options = self.section.mixup
        if options is None:
            return None
        weights, partners, first = [], [], 0
        for size in sizes or [len(names)]:
            rng = generator(self.seed, leaders(names[first]), "augment", "mixup", epoch)
            drawn, weight = rng.random() < options.p, float(rng.beta(options.alpha, options.alpha))
            weights.append(weight if drawn else 1.0)
            own = generator(self.seed, names[first], "augment", "partners", epoch)
            partners.append(first + own.permutation(size))
            first += size
        if set(weights) == {1.0}:
            return None
        return Mixing(torch.tensor(weights), torch.from_numpy(np.concatenate(partners)), sizes)


@dataclass(frozen=True)
class Mixing:
    """Mixup of batches; Zhang et al. 2018, "mixup: Beyond empirical risk minimization", eq. of section 1.

    ``x̃ = λ x + (1 - λ) x'`` and ``ỹ = λ y + (1 - λ) y'``, where x', y' are of the utterance's partner in its batch.

    Attributes:
        weights: λ of each batch, ``[N]``, float32
        partners: index of each utterance's partner ``[B]``
        sizes: utterances of each batch, where there are several
    """

    weights: Tensor
    partners: Tensor
    sizes: Sequence[int] | None = None

    def inputs(self, features: Tensor, lengths: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
        """Mix what a head reads of utterances; each keeps its own number of frames.

        Args:
            features: ``[B, T, D]``, padded
            lengths: frames of each utterance ``[B]``; a partner with fewer is repeated, one with more is cut
            rows: other inputs, ``[B, E]`` each

        Returns:
            the same, mixed; padding stays as it is
        """
        partners = self.partners.to(features.device)
        at = torch.arange(features.shape[1], device=features.device)
        inside = (at < lengths.to(at.device)[:, None]).unsqueeze(-1)
        others = features[partners[:, None], at % lengths.to(at.device)[partners][:, None]]
        mixed = torch.where(inside, self._mean(features, others), features)
        return mixed, lengths, *(self._mean(row, row[partners]) for row in rows)

    def targets(self, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the targets ``[B, ...]`` of the mixtures, and ``None``, or class indices and those of the partners.

        The loss of a mixture of class indices is ``λ L(y) + (1 - λ) L(y')``, which for the cross-entropy equals that of
        the mixed one-hot targets, since it is linear in them.
        """
        others = targets[self.partners.to(targets.device)]
        return (self._mean(targets, others), None) if targets.is_floating_point() else (targets, others)

    def losses(self, own: Tensor, others: Tensor) -> Tensor:
        """Return the losses of the mixtures from those with own and with partners' targets: ``[N]`` or a scalar."""
        weights = self.weights.to(own)
        weights = weights if self.sizes is not None else weights[0]
        return weights * own + (1 - weights) * others

    def _mean(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return ``λ rows + (1 - λ) others`` of tensors ``[B, ...]``."""
        weights = self.weights.to(rows)
        if self.sizes is not None:
            weights = weights.repeat_interleave(torch.tensor(self.sizes, device=rows.device))
            weights = weights.view(-1, *(1 for _ in rows.shape[1:]))
        return weights * rows + (1 - weights) * others


def draw_masks(
    rng: np.random.Generator, shape: Sequence[int], options: SpecAugmentSection, frames_per_second: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw which frames ``[T]`` and channels ``[D]`` are masked; Park et al. 2019, section 2.

    A time mask is ``t`` frames wide, ``t`` uniform in 0..min(``time_seconds``, ``time_share`` · T), and begins at a
    uniform ``t0`` in [0, T - t). A channel mask is ``f`` wide, uniform in 0..``channel_share`` · D, likewise.

    Args:
        rng: of the utterance
        shape: T, D
        options: ``datarc.augment.spec_augment``
        frames_per_second: of the features
    """
    frames, channels = shape
    longest = min(int(options.time_seconds * frames_per_second), int(options.time_share * frames))
    widest = int(options.channel_share * channels)
    return _masks(rng, frames, longest, options.time_masks), _masks(rng, channels, widest, options.channel_masks)


def _masks(rng: np.random.Generator, size: int, widest: int, count: int) -> NDArray[np.bool_]:
    masked = np.zeros(size, dtype=bool)
    for _ in range(count):
        width = int(rng.integers(widest, endpoint=True))
        start = int(rng.integers(max(1, size - width)))
        masked[start : start + width] = True
    return masked
