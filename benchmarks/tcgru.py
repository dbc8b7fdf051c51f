"""Time a training step of TC-GRU (forward, backward, Adam) at the papers' size, and what fewer input dimensions save.

The head of Mitra et al. 2024 is compared with a plain PyTorch network of the same layers: ``Conv1d``, ReLU, ``nn.GRU``,
its last output, two linear layers. It ignores lengths, so all utterances are equally long. Then the head on 40 % of the
dimensions of the same features is compared with the head on all.

    python benchmarks/tcgru.py                 # on a GPU too, where there is one
    python benchmarks/tcgru.py --device cpu --repeats 15
    OMP_WAIT_POLICY=passive python benchmarks/tcgru.py --device cpu     # under other load: threads do not spin
"""

from __future__ import annotations

import torch
from steps import Step, compare, training_step
from torch import Tensor, nn

from s3prl_emotion.experts.reduction import SalientDimensions

BATCH, FRAMES, CHANNELS = 64, 250, 1024  # 5 s of a large model's features
KEEP = 0.4


class Plain(nn.Module):
    """The same layers, without the head's handling of lengths."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(input_dim, 256, 3, padding=1)
        self.gru = nn.GRU(256, 256, 2, batch_first=True)
        self.embedding, self.output = nn.Linear(256, 128), nn.Linear(128, 6)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map ``[B, T, D]`` to ``[B, 6]``."""
        frames = torch.relu(self.convolution(features.transpose(1, 2))).transpose(1, 2)
        return self.output(torch.relu(self.embedding(self.gru(frames)[0][:, -1])))


def step_of(kind: str, device: str) -> Step:
    """Return a training step of a network; all networks get the same input."""
    from s3prl.downstream.emotion_tcgru.model import DimensionalLoss, TCGRUModel

    torch.manual_seed(0)
    features = torch.randn(BATCH, FRAMES, CHANNELS, device=device)
    lengths = torch.full((BATCH,), FRAMES, device=device)
    target, loss = torch.randn(BATCH, 6, device=device), DimensionalLoss().to(device)
    if kind == "plain":
        model: nn.Module = Plain(CHANNELS)
    else:
        kept = torch.randperm(CHANNELS)[: round(KEEP * CHANNELS)].sort().values.tolist()
        model = TCGRUModel(
            CHANNELS, SalientDimensions(CHANNELS, kept) if kind == "keep" else None, target_variance=True
        )
    model.to(device)
    return training_step(model, loss, 5e-4, (features, lengths), target)


if __name__ == "__main__":
    size = f"[{BATCH}, {FRAMES}, {CHANNELS}], keep {KEEP}"
    compare(str(__doc__), size, ("head", "plain", "keep"), [("head", "plain"), ("keep", "head")], step_of)
