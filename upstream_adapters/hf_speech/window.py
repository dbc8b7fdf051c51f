"""Choose the window in which an encoder like Whisper's computes audio, and let it compute no more than that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE as RATE
from s3prl_emotion.errors import ConfigError, UsageError

from .families import Family

_CHANGING = threading.Lock()  # an encoder has one length at a time


@dataclass(frozen=True)
class Window:
    """A window of an encoder like Whisper's."""

    samples: int
    """Longest window; longer audio is split into adjacent windows."""
    rate: int
    """Samples per position."""
    step: int = 0
    """Audio below ``samples`` is padded to a multiple of this; 0 if it is padded to ``samples``."""
    option: float | str | None = None
    """What was chosen, unless it is the window of the model."""

    def padded(self, samples: int) -> int:
        """Return the length in samples to which audio of at most a window is padded."""
        return min(self.samples, -(-samples // self.step) * self.step) if self.step else self.samples


def choose_window(option: float | str | None, family: Family, config: Any, extractor: Any, where: str) -> Window | None:
    """Return the window of a model; ``None`` if its kind has none.

    Args:
        option: seconds, ``audio``, or ``None`` for the model's own window
        family: of the model
        config: the encoder's
        extractor: its preprocessor
        where: name of the model in messages

    Raises:
        ConfigError: below one frame, above the model's positions, no whole number of frames, or no windows
        UsageError: the preprocessor's window exceeds or falls below the model's in a way that no window explains
    """
    if not family.windowed:
        if option is not None:
            raise ConfigError(
                f"window: only Whisper has one, with Qwen2-Audio and Voxtral; {where} is of type {config.model_type}; "
                "leave it out"
            )
        return None
    rate = 2 * extractor.hop_length  # the second convolution has stride 2
    own = config.max_source_positions * rate
    if option is None:
        if extractor.n_samples < own:
            raise UsageError(
                f"{where}: preprocessor_config.json has windows of {extractor.n_samples} samples, but config.json has"
                f" {config.max_source_positions} positions of {rate} samples each; the two files do not belong"
                f" together. 'window: {own / RATE:g}' in -g computes all positions"
            )
        return Window(own, rate)
    if isinstance(option, str):
        return Window(own, rate, step=-(-RATE // rate) * rate, option=option)
    positions = option * RATE / rate
    if not 1 <= positions <= config.max_source_positions or abs(positions - round(positions)) > 1e-6:
        raise ConfigError(
            f"window: {where} takes multiples of a frame ({rate / RATE:g} s) up to its {config.max_source_positions}"
            f" positions ({own / RATE:g} s), or audio, got {option:g}"
        )
    samples = round(positions) * rate
    return Window(samples, rate, option=None if samples == own else samples / RATE)


@contextmanager
def shortened(encoder: Any, window: Window, samples: int) -> Iterator[dict[str, Tensor]]:
    """Let the encoder take windows of ``samples`` samples: it then adds only the first of its positions' embeddings.

    Whisper numbers its positions; the others add all weights of the table.

    Yields:
        weights to compute with instead of the encoder's own, by their names
    """
    if window.option is None:
        yield {}
        return
    config, table = encoder.config, encoder.embed_positions
    positions = samples // window.rate
    with _CHANGING:
        own = config.max_source_positions, table.num_embeddings
        config.max_source_positions = table.num_embeddings = positions
        try:
            yield {} if config.model_type == "whisper" else {"embed_positions.weight": table.weight[:positions]}
        finally:
            config.max_source_positions, table.num_embeddings = own
