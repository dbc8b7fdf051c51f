"""Denoising and variational autoencoders of utterance features, with a linear classifier on the latent.

S. Das, "Influence of loss functions on the latent representation of speech emotions", 2022. Equation numbers below are
those slides'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from s3prl_emotion.masking import frame_mask, without_padding

from .losses import Outputs

LIMIT = 10.0  # z-scores beyond it are outliers ("Evaluation": -10 > z > 10)
NO_LIMIT = math.inf
LOG_VARIANCES = (-20.0, 20.0)  # limits that keep the exponential finite
SAMPLE = 256  # training latents that a checkpoint keeps, for plots
NO_CLASS = -1
ABSENT = -1e4  # decision value of a class that the training split lacks, so that its probability is 0


class LatentModel(nn.Module):
    """Encodes the features of an utterance to a latent and decodes it again.

    Frames are averaged (functionals have one), standardised and clipped to ``±limit``. The encoder is a multilayer
    perceptron with ReLU between its layers, the decoder its mirror image; without ``hidden`` both are one linear layer.
    What is fitted rather than trained is in buffers, so that a checkpoint suffices: mean and standard deviation of the
    features, the classifier, and mean, covariance and a sample of the training latents.

    Args:
        input_dim: number of features, D (88 functionals)
        num_classes: K
        method: ``none`` (the features are the latent), ``dae…`` or ``vae…``
        hidden: widths of the encoder's hidden layers
        latent_dim: size of the latent, E
        noise: standard deviation of the noise on a DAE's standardised input in training
        multi_class: ``ovr``, the classifier compares each class with all others; ``ovo``, each two classes
        limit: of z-scores
        names: of the classes, whose alphabetical order ``ovo`` needs
    """

    location: Tensor
    scale: Tensor
    ready: Tensor
    center: Tensor
    covariance: Tensor
    sample: Tensor
    sample_classes: Tensor

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        method: str = "dae",
        hidden: Sequence[int] = (),
        latent_dim: int = 4,
        noise: float = 0.1,
        multi_class: str = "ovr",
        limit: float = LIMIT,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.variational, self.coded = method.startswith("vae"), method != "none"
        self.limit = limit
        self.noise = noise if method.startswith("dae") else 0.0
        self.latent_dim = latent_dim if self.coded else input_dim
        if self.coded:
            widths = [
                input_dim,
                *hidden,
                latent_dim * (2 if self.variational else 1),
            ]  # the last: μ and log σ²
            self.encoder = perceptron(widths)
            self.decoder = perceptron([latent_dim, *reversed(widths[:-1])])
        self.classifier: nn.Module = LinearScores(self.latent_dim, num_classes)
        if multi_class == "ovo":
            self.classifier = PairVotes(self.latent_dim, names)
        self.register_buffer("location", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(input_dim))
        self.register_buffer("ready", torch.zeros(1, dtype=torch.int64))  # whether these two are fitted
        self.register_buffer("center", torch.zeros(self.latent_dim))
        self.register_buffer("covariance", torch.zeros(self.latent_dim, self.latent_dim))
        self.register_buffer("sample", torch.zeros(SAMPLE, self.latent_dim))
        self.register_buffer("sample_classes", torch.full((SAMPLE,), NO_CLASS))

    def forward(self, features: Tensor, lengths: Tensor) -> Outputs:
        """Encode, decode and classify features ``[B, T, D]`` of ``lengths [B]`` frames.

        No gradient reaches the features: a layer weighting that is trained to be easy to reconstruct would collapse.
        """
        inputs = self.standardise(pooled(features.detach(), lengths))
        noisy = inputs + self.noise * torch.randn_like(inputs) if self.training and self.noise else inputs
        mean, log_variance = self.encode(noisy)
        latent = mean
        if log_variance is not None and self.training:
            latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        reconstruction = self.decoder(latent) if self.coded else None
        return Outputs(inputs, reconstruction, mean, log_variance, latent, self.classifier(mean))

    def standardise(self, rows: Tensor) -> Tensor:
        """Return features ``[B, D]`` as z-scores within ``±limit``."""
        return ((rows - self.location) / self.scale).clamp(-self.limit, self.limit)

    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return mean and, of a VAE, log-variance ``[B, E]`` of the latent of standardised features ``[B, D]``."""
        if not self.coded:
            return inputs, None
        if not self.variational:
            return self.encoder(inputs), None
        mean, log_variance = self.encoder(inputs).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def sizes(self) -> dict[str, int]:
        """Return the number of parameters of encoder and decoder."""
        parts = {"encoder": self.encoder, "decoder": self.decoder} if self.coded else {}
        return {
            f"{name}_parameters": sum(item.numel() for item in parts[name].parameters()) if parts else 0
            for name in ("encoder", "decoder")
        }


class LinearScores(nn.Module):
    """A linear classifier that is fitted elsewhere: ``coefficients [K, E]`` and ``intercepts [K]``."""

    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.zeros(num_classes, latent_dim))
        self.register_buffer("intercepts", torch.zeros(num_classes))

    def forward(self, latent: Tensor) -> Tensor:
        """Return decision values ``[B, K]`` of latents ``[B, E]``."""
        return nn.functional.linear(latent, self.coefficients, self.intercepts)


class PairVotes(nn.Module):
    """Linear classifiers of each two classes, fitted elsewhere, which vote.

    ``coefficients [P, E]`` and ``intercepts [P]`` are of the P = K (K - 1) / 2 pairs (0, 1), (0, 2), …, (1, 2), … of
    the classes in alphabetical order; a positive decision value is a vote for the first class of the pair. ``present
    [K]`` is 1 for the classes of the training split; the others get no vote.

    Args:
        latent_dim: E
        classes: names, K
    """

    coefficients: Tensor
    intercepts: Tensor
    present: Tensor
    sides: Tensor
    places: Tensor
    votes: Tensor

    def __init__(self, latent_dim: int, classes: Sequence[str]) -> None:
        super().__init__()
        ranks = alphabetical_ranks(classes)
        pairs = torch.tensor(list(combinations(np.argsort(ranks).tolist(), 2)), dtype=torch.int64).reshape(-1, 2)
        self.register_buffer("coefficients", torch.zeros(len(pairs), latent_dim))
        self.register_buffer("intercepts", torch.zeros(len(pairs)))
        self.register_buffer("present", torch.zeros(len(classes)))
        self.register_buffer("sides", nn.functional.one_hot(pairs, len(classes)).float(), persistent=False)  # [P, 2, K]
        self.register_buffer("places", torch.tensor(ranks) / (2.0 * len(classes)), persistent=False)  # [K], below 1

    def forward(self, latent: Tensor) -> Tensor:
        """Return the votes ``[B, K]`` of latents ``[B, E]``; of equal ones, as in scikit-learn, the first name wins."""
        first, second = self.sides.unbind(dim=1)
        wins = (nn.functional.linear(latent, self.coefficients, self.intercepts) > 0).to(first.dtype)
        votes = wins @ first + (1 - wins) @ second
        return torch.where(self.present > 0, votes - self.places, ABSENT)


def alphabetical_ranks(classes: Sequence[str]) -> list[int]:
    """Return the place of each class in alphabetical order."""
    return [sorted(classes).index(name) for name in classes]


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers of ``widths`` with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers[1:])


def pooled(features: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean ``[B, D]`` over the frames of features ``[B, T, D]`` with ``lengths [B]``."""
    inside = frame_mask(lengths, features.shape[1])
    return without_padding(features, inside).sum(dim=1) / lengths.unsqueeze(1)
