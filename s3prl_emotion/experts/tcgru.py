"""The time-convolutional GRU (TC-GRU) that Mitra et al. 2024 (section 3.4) and Mitra et al. 2025 (section 4) share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.masking import frame_mask, without_padding


class TCGRU(nn.Module):
    """Embed utterances by a convolution over time and a GRU: ``features [B, T, D]`` to ``[B, E]``.

    The GRU reads forwards, and its output at the last frame stands for the utterance. The papers name neither the
    activations of convolution and embedding, nor how frames become an utterance, nor dropout; here: ReLU, ReLU, the
    last output, none.

    Args:
        input_dim: channels of the features, D
        conv_channels: filters of the convolution; not given by Mitra et al. 2024, 256 in Mitra et al. 2025
        kernel_size: frames that the convolution sees, odd (3)
        gru_dim: units of each GRU layer (256)
        gru_layers: number of GRU layers (2)
        embedding_dim: E; 128 in Mitra et al. 2024, 256 in Mitra et al. 2025
        dropout: before each GRU layer and before the embedding

    Raises:
        ConfigError: a value out of range
    """

    def __init__(
        self,
        input_dim: int,
        conv_channels: int = 256,
        kernel_size: int = 3,
        gru_dim: int = 256,
        gru_layers: int = 2,
        embedding_dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(input_dim, conv_channels, kernel_size, gru_dim, gru_layers, embedding_dim) < 1:
            raise ConfigError("TC-GRU: all sizes must be at least 1")
        if kernel_size % 2 == 0:
            raise ConfigError(f"modelrc.kernel_size: must be odd, so that no frame moves, got {kernel_size}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"modelrc.dropout: must lie in [0, 1), got {dropout}")
        self.convolution = nn.Conv1d(input_dim, conv_channels, kernel_size, padding=kernel_size // 2)
        between = dropout if gru_layers > 1 else 0.0  # torch warns if there is only one layer
        self.gru = nn.GRU(conv_channels, gru_dim, gru_layers, batch_first=True, dropout=between)
        self.embedding = nn.Linear(gru_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, E]`` of ``features [B, T, D]`` with ``lengths [B]`` (frames, at least 1).

        Padding changes nothing, whatever it holds: the convolution sees zeros there, as it does beyond the end of an
        unpadded utterance, and the GRU, which reads forwards, is read off at the last frame before it.
        """
        inside = frame_mask(lengths, features.shape[1])
        features = without_padding(features, inside)
        frames = torch.relu(self.convolution(features.transpose(1, 2))).transpose(1, 2)  # [B, T, C]
        outputs, _ = self.gru(self.dropout(frames))  # [B, T, H]
        utterances = outputs[torch.arange(len(outputs), device=outputs.device), lengths - 1]  # [B, H]
        return torch.relu(self.embedding(self.dropout(utterances)))
