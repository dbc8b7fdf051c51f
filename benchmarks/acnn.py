"""Time a training step of the attentive CNN of Neumann & Vu 2019 on 7.5 s of 26 log-Mel bands.

The head is compared with a plain network of the same layers: convolution, ReLU, max pooling, softmax over the pooled
maps, their weighted sum, dropout, linear layer. It ignores lengths, so all utterances are equally long.

    python benchmarks/acnn.py                 # on a GPU too, where there is one
    python benchmarks/acnn.py --device cpu --repeats 50
    OMP_WAIT_POLICY=passive python benchmarks/acnn.py --device cpu     # under other load: threads do not spin
"""

from __future__ import annotations

import torch
from steps import Step, compare, training_step
from torch import Tensor, nn

BATCH, FRAMES, BANDS, CLASSES = 32, 750, 26, 4


class Plain(nn.Module):
    """The same layers, without the head's handling of lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.pool = nn.Conv1d(BANDS, 200, 10, 3), nn.MaxPool1d(30, ceil_mode=True)
        self.attention, self.dropout = nn.Linear(200, 1, bias=False), nn.Dropout(0.8)
        self.output = nn.Linear(200, CLASSES + 6)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map ``[B, T, D]`` to ``[B, K + 6]``."""
        maps = self.pool(torch.relu(self.convolution(features.transpose(1, 2)))).transpose(1, 2)
        weights = torch.softmax(self.attention(maps), dim=1)
        return self.output(self.dropout((weights * maps).sum(dim=1)))


def step_of(kind: str, device: str) -> Step:
    """Return a training step of a network; all networks get the same input."""
    from s3prl.downstream.emotion_acnn.model import AttentiveCNN, MultiViewLoss

    torch.manual_seed(0)
    features = torch.randn(BATCH, FRAMES, BANDS, device=device)
    lengths = torch.full((BATCH,), FRAMES, device=device)
    target = torch.stack([torch.randint(top, (BATCH,)) for top in (CLASSES, 3, 3)], dim=1).to(device)
    loss = MultiViewLoss(CLASSES).to(device)
    model = (Plain() if kind == "plain" else AttentiveCNN(BANDS, CLASSES)).to(device)
    return training_step(model, loss, 1e-3, (features, lengths), target)


if __name__ == "__main__":
    compare(str(__doc__), f"[{BATCH}, {FRAMES}, {BANDS}]", ("head", "plain"), [("head", "plain")], step_of)
