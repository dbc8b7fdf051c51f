"""The recurrent sequence-to-sequence autoencoder of auDeep (Amiriparian et al. 2017; Freitag et al. 2017).

The encoder, a stack of GRUs, reads a spectrogram. The final states of all layers pass through a fully connected layer
with tanh. The result is the utterance's embedding and the initial state of the decoder, which reconstructs the
spectrogram from its end to its start. The sizes are those of paper 003 (Neumann & Vu 2019, section 4.2): two layers of
256 GRUs in both, a unidirectional encoder, a bidirectional decoder, dropout 0.2.

**The bidirectional decoder.** In training, a decoder's input is the part of the target that it should have output
before. Two directions cannot both be autoregressive: the input of one may be what the other has yet to output. auDeep's
decoder consists of two independent stacks. Each is projected to a frame, and a last layer joins the two *step by step*:
step ``t``, which reconstructs frame ``t`` of the target, joins the forward stack with the input frames ``0 … t-2`` and
the backward stack with the input frames ``T-2, T-3, …, T-1-t``. This follows from auDeep's program, not from the
papers, which mention the expected output of the previous step and do not say how the directions are joined. So the
first half of the target, the utterance's end, has to come from the embedding and from earlier frames; for the second
half, the backward stack has already read the frame. ``decoder: audeep`` does the same, with variable lengths.
``decoder: aligned`` is ours: step ``t`` joins the forward stack with the input ``0 … t-1`` and the backward stack with
the input ``T-1 … t+1``, so that the frame to reconstruct is never an input, and its neighbours always are.

**Dropout** as in auDeep: on the input and output of each layer (twice between two layers), not on states.

**Differences.** auDeep has one length per batch; here everything is restricted to an utterance's own frames, so padding
has no effect. torch's GRU applies the reset gate after the matrix product (Cho et al. 2014, as cuDNN), TensorFlow's
before it. Initial weights are torch's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.limits import MOST_STACKED, MOST_WIDTH
from s3prl_emotion.masking import frame_mask, guarded_sqrt, without_padding
from s3prl_emotion.recipe import StrictSection


class AutoencoderSection(StrictSection):
    """``model:`` of the configuration; the defaults are those of paper 003, section 4.2."""

    hidden_size: int = Field(default=256, ge=1, le=MOST_WIDTH)
    """GRUs per layer, in the encoder and in each direction of the decoder."""
    num_layers: int = Field(default=2, ge=1, le=MOST_STACKED)
    """Layers of the encoder, and of the decoder."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    decoder: Literal["audeep", "aligned"] = "audeep"
    """Inputs of the decoder's two directions and how they are joined; see the module."""


class GruStack(nn.Module):
    """GRU layers that read forward, so that the padding after an utterance does not affect it.

    Sequences are not packed, which would make the gradient several times slower on a CPU.
    """

    def __init__(self, input_size: int, options: AutoencoderSection) -> None:
        super().__init__()
        sizes = [input_size] + [options.hidden_size] * options.num_layers
        self.layers = nn.ModuleList(nn.GRU(size, following, batch_first=True) for size, following in pairwise(sizes))
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, inputs: Tensor, initial: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Run the layers over the sequences.

        Args:
            inputs: ``[B, T, D]``, finite in padding too
            initial: initial states ``[L, B, H]``; ``None``: zeros

        Returns:
            states of each layer ``[B, T, H]``; and the top layer's output after dropout, ``[B, T, H]``
        """
        states = []
        for number, layer in enumerate(self.layers):
            begin = None if initial is None else initial[number : number + 1]
            outputs, _ = layer(self.dropout(inputs), begin)
            states.append(outputs)
            inputs = self.dropout(outputs)
        return states, inputs


class Encoder(nn.Module):
    """Encode a spectrogram to states of each frame and an embedding of the utterance."""

    def __init__(self, num_mels: int, options: AutoencoderSection) -> None:
        super().__init__()
        self.gru = GruStack(num_mels, options)
        states = options.num_layers * options.hidden_size
        self.embedding_size = 2 * states  # a state for each layer and direction of the decoder
        self.to_embedding = nn.Linear(states, self.embedding_size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encode spectrograms.

        Args:
            features: ``[B, T, M]``
            lengths: frames of each utterance, ``[B]``, each in [1, T]

        Returns:
            states of each layer ``[B, T, H]``, 0 in padding, and embeddings ``[B, E]`` in (-1, 1), E = 2 L H
        """
        inside = frame_mask(lengths, features.shape[1])
        states, _ = self.gru(without_padding(features, inside))
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, states[0].shape[-1])
        finals = torch.cat([layer.gather(1, last)[:, 0] for layer in states], dim=1)
        return [without_padding(layer, inside) for layer in states], torch.tanh(self.to_embedding(finals))


class Decoder(nn.Module):
    """Reconstruct the target from the embedding and from the target's frames that are inputs."""

    def __init__(self, num_mels: int, options: AutoencoderSection) -> None:
        super().__init__()
        self.order, self.shape = options.decoder, (options.num_layers, 2, options.hidden_size)
        self.directions = nn.ModuleList(GruStack(num_mels, options) for _ in range(2))
        self.projections = nn.ModuleList(nn.Linear(options.hidden_size, num_mels) for _ in range(2))
        self.output = nn.Linear(2 * num_mels, num_mels)

    def forward(self, target: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Reconstruct ``target [B, T, M]`` of ``lengths [B]`` from ``embedding [B, E]``: ``[B, T, M]`` in (-1, 1).

        Values in padding have no meaning.
        """
        initial = embedding.unflatten(1, self.shape).permute(1, 2, 0, 3).contiguous()  # [L, 2, B, H]
        steps, ends = torch.arange(target.shape[1], device=target.device), lengths.unsqueeze(1)
        if self.order == "audeep":
            inputs = (steps - 2).expand(len(target), -1), torch.where(steps > 0, ends - 1 - steps, -1)
        else:
            inputs = (steps - 1).expand(len(target), -1), torch.where(steps > 0, ends - steps, -1)
        frames = []
        for direction, which in enumerate(inputs):
            _, top = self.directions[direction](_select(target, which), initial[:, direction].contiguous())
            frames.append(torch.tanh(self.projections[direction](top)))
        if self.order == "aligned":
            frames[1] = reversed_in_time(frames[1], lengths)
        return torch.tanh(self.output(torch.cat(frames, dim=-1)))


class RecurrentAutoencoder(nn.Module):
    """Encoder and decoder.

    Args:
        num_mels: M, values per frame
        options: sizes
    """

    def __init__(self, num_mels: int, options: AutoencoderSection) -> None:
        super().__init__()
        self.encoder = Encoder(num_mels, options)
        self.decoder = Decoder(num_mels, options)

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the encoder's top layer ``[B, T, H]`` and embeddings ``[B, E]``."""
        states, embedding = self.encoder(features, lengths)
        return states[-1], embedding

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Reconstruct spectrograms.

        Args:
            features: ``[B, T, M]``; values in padding do not matter
            lengths: frames of each utterance, ``[B]``, each in [1, T]

        Returns:
            ``[B, T, M]``, in the order of the input, 0 in padding
        """
        inside = frame_mask(lengths, features.shape[1])
        features = without_padding(features, inside)
        _, embedding = self.encoder(features, lengths)
        output = self.decoder(reversed_in_time(features, lengths), lengths, embedding)
        return without_padding(reversed_in_time(output, lengths), inside)


def squared_error(features: Tensor, reconstruction: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum of squared errors and the number of values, over the utterances' own frames.

    Args:
        features: ``[B, T, M]``
        reconstruction: ``[B, T, M]``
        lengths: ``[B]``

    Returns:
        ``[2]``, float32, or float64 if ``reconstruction`` is; sums over several batches can be added
    """
    inside = frame_mask(lengths, features.shape[1])
    exact = torch.promote_types(reconstruction.dtype, torch.float32)
    error = without_padding(features.to(exact) - reconstruction.to(exact), inside).square().sum()
    return torch.stack([error, (lengths.sum() * features.shape[-1]).to(exact)])


def root_mean(errors: Tensor) -> Tensor:
    """Return the loss, as in auDeep: the root mean squared error of a batch, from :func:`squared_error`."""
    return guarded_sqrt(errors[0] / errors[1])


def reversed_in_time(features: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each utterance's own frames of ``[B, T, D]``; padding is 0."""
    steps = torch.arange(features.shape[1], device=features.device)
    return _select(features, lengths.unsqueeze(1) - 1 - steps)


def _select(features: Tensor, which: Tensor) -> Tensor:
    """Select the frames ``which [B, T]`` of ``features [B, T, D]``; zeros where ``which`` is negative."""
    index = which.clamp(min=0).unsqueeze(-1).expand(-1, -1, features.shape[-1])
    return torch.where((which >= 0).unsqueeze(-1), features.gather(1, index), 0.0)
