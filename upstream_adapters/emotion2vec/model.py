"""The network of emotion2vec: data2vec 2.0's audio encoder, whose sizes follow from the shapes of its tensors.

Z. Ma, Z. Zheng, J. Ye, J. Li, Z. Gao, S. Zhang, X. Chen, "emotion2vec: Self-supervised pre-training for speech emotion
representation", Findings of ACL 2024, section 3. A. Baevski, A. Babu, W.-N. Hsu, M. Auli, "Efficient self-supervised
learning with contextualized target representations for vision, speech and language", ICML 2023. Attention to distant
frames is weakened linearly: O. Press, N. A. Smith, M. Lewis, "Train short, test long", ICLR 2022, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
HOP = math.prod(STRIDES)  # samples per frame: 20 ms at 16 kHz
SHORTEST = 400  # samples of the first frame


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network."""

    channels: int
    """Of the convolutions over the waveform."""
    dim: int
    """Channels of the transformer, D."""
    hidden: int
    """Channels inside its feed-forward layers."""
    heads: int
    prenet: int
    """Blocks ahead of those that the pretraining masks."""
    blocks: int
    tokens: int
    """Learned tokens ahead of the frames, which gather what concerns the utterance."""
    biases: int
    """Scales of the attention's bias: 1 for all blocks, or one of each."""
    position_layers: int
    position_kernel: int
    position_groups: int


def slopes(heads: int) -> list[float]:
    """Return the slope of each head: Press et al. 2022, section 3, and their code for other than powers of two."""
    power = 2 ** math.floor(math.log2(heads))
    found = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return found if power == heads else [*found, *slopes(2 * power)[0::2][: heads - power]]


class Block(nn.Module):
    """Attention and feed-forward layer, each with a residual and the norm behind it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.heads = sizes.heads
        self.qkv, self.projection = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand, self.reduce = nn.Linear(dim, sizes.hidden), nn.Linear(sizes.hidden, dim)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Compute ``[1, S, D]`` from states ``[1, S, D]``, with a bias ``[1, H, S, S]`` of the attention."""
        query, key, value = self.qkv(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        states = self.norm1(states + self.projection(attended.transpose(1, 2).flatten(2)))
        return self.norm2(states + self.reduce(functional.gelu(self.expand(states))))


class Emotion2vec(nn.Module):
    """emotion2vec without what only its pretraining needs: the decoder, the teacher, dropout and masks."""

    slopes: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = [1, *[sizes.channels] * (len(KERNELS) - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, sizes.channels, kernel, stride, bias=False)
            for before, kernel, stride in zip(widths, KERNELS, STRIDES, strict=True)
        )
        self.convolution_norms = nn.ModuleList(nn.LayerNorm(sizes.channels) for _ in KERNELS)
        self.feature_norm, self.projection = nn.LayerNorm(sizes.channels), nn.Linear(sizes.channels, sizes.dim)
        self.positions = nn.ModuleList(
            nn.Conv1d(
                sizes.dim, sizes.dim, sizes.position_kernel,
                padding=sizes.position_kernel // 2, groups=sizes.position_groups,
            )
            for _ in range(sizes.position_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(sizes.dim)
        self.tokens = nn.Parameter(torch.zeros(1, sizes.tokens, sizes.dim))
        self.bias_scale = nn.Parameter(torch.ones(sizes.biases, 1, sizes.heads, 1, 1))
        self.prenet = nn.ModuleList(Block(sizes) for _ in range(sizes.prenet))
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.blocks))
        self.register_buffer("slopes", torch.tensor(slopes(sizes.heads)), persistent=False)

    def forward(self, wav: Tensor) -> list[Tensor]:
        """Compute the layers ``[T, D]`` of a waveform ``[N]`` of 16 kHz, N >= 400.

        Layer 0 is the input of the first block; then comes the output of each, those of the prenet first. Frames are
        computed from the waveform with mean 0 and variance 1, as the model was trained.
        """
        frames = self._embed(functional.layer_norm(wav, wav.shape)[None, None])
        layers = [self.norm(torch.cat([self.tokens, frames], dim=1))]
        bias = self._distance_bias(layers[0].shape[1])
        scales = self.bias_scale.clamp_min(0).expand(self.sizes.prenet + self.sizes.blocks, -1, -1, -1, -1)
        for block, scale in zip([*self.prenet, *self.blocks], scales, strict=False):  # fewer blocks after a cut
            layers.append(block(layers[-1], bias * scale))
        return [layer[0, self.sizes.tokens :] for layer in layers]

    def _embed(self, states: Tensor) -> Tensor:
        """Return the frames ``[1, T, D]`` of a waveform ``[1, 1, N]``, with their positions."""
        for convolution, norm in zip(self.convolutions, self.convolution_norms, strict=True):
            states = functional.gelu(norm(convolution(states).transpose(1, 2)).transpose(1, 2))
        frames = self.projection(self.feature_norm(states.transpose(1, 2)))
        positions = frames.transpose(1, 2)
        for convolution in self.positions:
            positions = convolution(positions)[..., : frames.shape[1]]  # an even kernel gives a frame too many
            positions = functional.layer_norm(positions.transpose(1, 2), (self.sizes.dim,)).transpose(1, 2)
            positions = functional.gelu(positions)
        return frames + positions.transpose(1, 2)

    def _distance_bias(self, length: int) -> Tensor:
        """Return ``-slope |i - j|`` between frames ``[1, H, S, S]``, 0 from and to the tokens."""
        place = torch.arange(length - self.sizes.tokens, device=self.slopes.device)
        distance = (place[:, None] - place).abs().to(self.slopes.dtype)
        bias = -self.slopes[:, None, None] * distance
        return functional.pad(bias, (self.sizes.tokens, 0, self.sizes.tokens, 0))[None]
