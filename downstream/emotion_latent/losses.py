"""Losses on the latent representation: annealed KL divergence, cluster loss, continuous metric loss.

S. Das, "Influence of loss functions on the latent representation of speech emotions", 2022 (slides on two papers of Das
et al. at ICASSP and NLDL 2022). Equation numbers below are those slides'.

A loss whose divisor is 0 is defined as 0, with a gradient of 0: a batch of one class, of one sample or of equal labels
tells nothing about classes or distances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.outputs import map_tensors
from s3prl_emotion.masking import full_precision, guarded_sqrt

TOP = 0.25  # maximum of β, eq. 3
LEAST = 1e-6  # a smaller sum of distances counts as 0: its reciprocal would blow up the gradient
UNKNOWN = -1.0  # class of an utterance without one; an unknown label is NaN
METHODS = ("none", "dae", "vae", "vae_annealed", "vae_cluster", "vae_metric", "dae_metric")


class Outputs(NamedTuple):
    """What the network returns for B utterances.

    Attributes:
        inputs: standardised features, ``[B, D]``
        reconstruction: of the inputs, ``[B, D]``; ``None`` without a decoder
        mean: of the latent distribution, or the latent itself, ``[B, E]``
        log_variance: of the latent distribution, ``[B, E]``; ``None`` where the latent is no distribution
        latent: what is decoded: a sample in training, else the mean, ``[B, E]``
        scores: decision values of the SVC, ``[B, K]``
    """

    inputs: Tensor
    reconstruction: Tensor | None
    mean: Tensor
    log_variance: Tensor | None
    latent: Tensor
    scores: Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return ``D_KL(N(μ, σ²) || N(0, 1))``, summed over the latent, averaged over the batch; eq. 2.

    Args:
        mean: μ, ``[B, E]``, B >= 1
        log_variance: log σ², ``[B, E]``

    Returns:
        scalar, at least 0
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1).mean()


def annealed_weight(epoch: int, ramp: float, cycles: float, epochs: float) -> float:
    """Return β_e, the weight of the KL divergence, which in each cycle rises to 0.25 and stays there; eq. 3.

    Args:
        epoch: e, from 1
        ramp: R, the share of a cycle in which β rises, in (0, 1]
        cycles: M
        epochs: T; a cycle lasts T / M epochs

    Returns:
        in [0, 0.25]
    """
    length = epochs / cycles
    tau = (epoch - 1) % length / length
    return TOP / ramp * tau if tau <= ramp else TOP


def cluster_loss(latent: Tensor, classes: Tensor) -> Tensor:
    """Return the distances of utterances to their class's centroid over those between centroids, both summed; eq. 5.

    Args:
        latent: ``[B, E]``
        classes: indices ``[B]``; utterances with a negative index do not count

    Returns:
        scalar, at least 0; 0, with a gradient of 0, for fewer than two classes or coinciding centroids
    """
    known = classes >= 0
    latent, classes = latent[known], classes[known].long()
    present, cluster = torch.unique(classes, return_inverse=True)
    if len(present) < 2:
        return latent.sum() * 0
    members = nn.functional.one_hot(cluster, len(present)).to(latent)  # [B, K]
    centroids = members.T @ latent / members.sum(dim=0).unsqueeze(1)
    intra = _norms(latent - centroids[cluster]).sum()
    first, second = torch.triu_indices(len(present), len(present), offset=1, device=latent.device)
    inter = _norms(centroids[first] - centroids[second]).sum()
    defined = inter > LEAST
    return torch.where(defined, intra / torch.where(defined, inter, 1.0), 0.0)


def metric_loss(latent: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return residual and slope of latent against label distances of neighbours in the batch; eqs. 7-10.

    The distances of each utterance and the next are ``z_d`` (Euclidean) and ``l_d`` (absolute difference), and ``p`` is
    the slope of the line through the origin that fits them best. Eq. 10 is the slope of that same line minus 1,
    ``|p - 1|``, which needs no quotient of differences.

    Args:
        latent: ``[B, E]``
        labels: on the corpus's own scale, ``[B]``; pairs with a NaN do not count

    Returns:
        residual ``E(z_d - p l_d)²`` and slope term ``|p - 1|``, scalars; both 0, with a gradient of 0, if there is
        no pair or all pairs have equal labels
    """
    known = ~(labels[:-1].isnan() | labels[1:].isnan())
    between = _norms(latent[1:] - latent[:-1])[known]
    apart = (labels[1:] - labels[:-1]).abs()[known].to(between)
    power = apart.square().sum()
    if not power > LEAST**2:  # no pair, or equal labels: p is 0/0
        return latent.sum() * 0, latent.sum() * 0
    slope = (apart @ between) / power
    return (between - slope * apart).square().mean(), (slope - 1).abs()


def _norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row; its gradient at 0 is 0."""
    return guarded_sqrt(rows.square().sum(dim=1))


class LatentLoss(nn.Module):
    """The loss of each method; eqs. 1-10.

    The reconstruction error is summed over the features. A VAE has half of it, the negative log-likelihood under unit
    variance without its constant, so that the KL divergence has the weight of eq. 2.

    Args:
        method: one of :data:`METHODS`
        ramp: R of :func:`annealed_weight`
        cycles: M
        epochs: T
        gamma: γ, the weight of the cluster loss, eq. 4

    Raises:
        ConfigError: an unknown method
    """

    batches: Tensor

    def __init__(
        self,
        method: str,
        ramp: float = 0.5,
        cycles: float = 5,
        epochs: float = 50,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ConfigError(f"modelrc.method: {method!r}; known: {', '.join(METHODS)}")
        self.method, self.gamma = method, gamma
        self.ramp, self.cycles, self.epochs = ramp, cycles, epochs
        self.batches_per_epoch = 1
        self.register_buffer("batches", torch.zeros(1, dtype=torch.int64))  # trained on, also before a resume
        self.parts: dict[str, float] = {}
        if method == "none":
            self.nothing = nn.Parameter(torch.zeros(1))  # an optimizer needs a parameter; this one is never trained

    @property
    def kl_weight(self) -> float:
        """The weight of the KL divergence in this epoch."""
        if self.method == "vae":
            return 1.0
        epoch = int(self.batches.item()) // self.batches_per_epoch + 1
        return annealed_weight(epoch, self.ramp, self.cycles, self.epochs)

    def forward(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return the loss of a batch, and leave its unweighted terms in ``parts``.

        Args:
            outputs: of the network
            targets: class or :data:`UNKNOWN`, label or NaN, and 1 for utterances that count or else 0, ``[B, 3]``

        Returns:
            scalar; 0 where no utterance counts
        """
        counted = targets[:, 2] > 0
        with full_precision(outputs.inputs) as cast:
            if self.method == "none":
                loss = self.nothing.sum() * 0
            elif counted.any():
                loss = self._loss(map_tensors(lambda rows: cast(rows)[counted], outputs), targets[counted])
            else:  # every parameter gets a gradient of 0
                loss = torch.stack([cast(rows).sum() for rows in outputs if rows is not None]).sum() * 0
        if self.training:
            self.batches += 1
        return loss

    def _loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        parts, loss = {}, outputs.mean.new_zeros(())
        if outputs.reconstruction is not None:
            parts["reconstruction"] = (outputs.inputs - outputs.reconstruction).square().sum(dim=1).mean()
            loss = parts["reconstruction"] / 2 if self.method.startswith("vae") else parts["reconstruction"]
        if outputs.log_variance is not None:
            parts["KL"] = kl_divergence(outputs.mean, outputs.log_variance)
            loss = loss + self.kl_weight * parts["KL"]
        if self.method == "vae_cluster":
            parts["cluster"] = cluster_loss(outputs.latent, targets[:, 0])
            loss = loss + self.gamma * parts["cluster"]
        if self.method.endswith("metric"):
            parts["residual"], parts["slope"] = metric_loss(outputs.latent, targets[:, 1])
            loss = loss + parts["residual"] + parts["slope"]
        self.parts = {name: part.item() for name, part in parts.items()}
        return loss
