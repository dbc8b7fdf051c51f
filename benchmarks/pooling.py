"""Compare attentive correlation pooling, forward and backward, with a loop over utterances.

The loop is the formulation of the code published with Kakouros et al. 2023: attention over the batch, then one
correlation matrix after the other. It has the paper's mask and eps, so that both compute the same.

    python benchmarks/pooling.py                 # on a GPU too, where there is one
    python benchmarks/pooling.py --device cpu --repeats 15
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from steps import Step, compare
from torch import Tensor

BATCH, FRAMES, CHANNELS = 32, 225, 256  # 225 frames of 20 ms: IEMOCAP's mean utterance, 4.5 s


def step_of(kind: str, device: str) -> Step:
    """Return a step of a formulation; both get the same input and weights, and the loop is checked to agree."""
    from s3prl.downstream.emotion_corr_attn.model import AttentiveCorrelationPooling

    torch.manual_seed(0)
    pooling = AttentiveCorrelationPooling(CHANNELS).to(device)
    features = torch.randn(BATCH, FRAMES, CHANNELS, device=device, requires_grad=True)
    lengths = torch.full((BATCH,), FRAMES, device=device)
    slope = torch.randn(BATCH, pooling.output_dim, device=device)
    forward: dict[str, Callable[[], Tensor]] = {
        "batched": lambda: pooling(features, lengths),
        "loop": lambda: loop(pooling, features, lengths),
    }
    if kind == "loop":
        with torch.no_grad():
            torch.testing.assert_close(forward["batched"](), forward["loop"](), rtol=1e-4, atol=1e-5)

    def step() -> float:
        features.grad = None
        pooling.zero_grad()
        output = forward[kind]()
        output.backward(slope)
        return float(output.detach().sum())  # waits for the GPU

    return step


def loop(pooling: torch.nn.Module, features: Tensor, lengths: Tensor) -> Tensor:
    """Compute attention over the batch, then one correlation matrix after the other."""
    inside = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
    logits = torch.logsumexp(pooling.heads(torch.relu(pooling.attention(features))), dim=-1)
    weights = torch.softmax(logits.masked_fill(~inside, -torch.inf), dim=-1).unsqueeze(-1)
    means = (features * weights).sum(dim=1)
    pooled = []
    for index in range(len(features)):
        centred = features[index] - means[index]
        covariance = torch.einsum("tk,tl->kl", weights[index] * centred, centred)
        std = torch.sqrt(torch.diagonal(covariance))
        correlation = covariance / (torch.outer(std, std) + pooling.eps)
        rows, columns = torch.triu_indices(CHANNELS, CHANNELS, offset=1, device=features.device)
        pooled.append(correlation[rows, columns])
    return torch.stack(pooled)


if __name__ == "__main__":
    size = f"[{BATCH}, {FRAMES}, {CHANNELS}], forward and backward"
    compare(str(__doc__), size, ("batched", "loop"), [("loop", "batched")], step_of)
