"""Read the configuration and checkpoints of the ``rae`` autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from s3prl_emotion.errors import CheckpointError, ConfigError, nearest
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.structure import check_entries
from s3prl_emotion.files.values import check_values
from s3prl_emotion.recipe import StrictSection

from .model import AutoencoderSection, RecurrentAutoencoder
from .spectrogram import SpectrogramSection

CHECKPOINT = "rae.ckpt"
REQUIRED = ("Rae", "Model", "Step")
KIND = "s3prl-emotion pretrain-rae"
ENTRIES = {
    **dict.fromkeys(("Rae", "Model", "Last"), (lambda value: isinstance(value, dict), "a mapping")),
    **dict.fromkeys(("Losses", "Unread"), (lambda value: isinstance(value, list), "a list")),
    "Audio": (lambda value: isinstance(value, str), "text"),
    "Unevaluated": (lambda value: isinstance(value, bool), "true or false"),
}
MAY_CHANGE = ("steps", "epochs", "log_step", "eval_step", "save_step")  # when a run is resumed


class TrainingSection(StrictSection):
    """``training:`` of the configuration; learning rate and epochs are those of paper 003, section 4.2."""

    batch_size: int = Field(default=64, ge=1)
    """Stretches of audio per process. auDeep's default; the paper does not specify it."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate of Adam."""
    gradient_clip: float = Field(default=2.0, gt=0)
    """Largest absolute value of a gradient's component, as in auDeep."""
    epochs: int = Field(default=64, ge=1)
    """The paper's number is 64, and 32 on the full TED-LIUM 2."""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps; replaces ``epochs``."""
    max_seconds: float = Field(default=30.0, ge=2)
    """Cut longer audio into equal parts of at most this length, which limits memory."""
    valid: float = Field(default=0.02, ge=0, lt=1)
    """Share of files, speakers (LibriSpeech) or talks (TED-LIUM) to hold out for the dev loss."""
    seed: int = Field(default=0, ge=0)
    precision: Literal["fp32", "fp16"] = "fp32"
    """``fp16``: mixed precision on a GPU, with loss scaling. There is no bf16: under autocast torch runs cuDNN's GRUs
    in float16, whatever the type."""
    log_step: int = Field(default=50, ge=1)
    eval_step: int = Field(default=500, ge=1)
    save_step: int = Field(default=500, ge=1)


@dataclass(frozen=True)
class Configuration:
    """The three sections of the configuration."""

    spectrogram: SpectrogramSection
    model: AutoencoderSection
    training: TrainingSection

    @classmethod
    def read(cls, values: dict[str, Any], where: str) -> Configuration:
        """Read a mapping with the optional sections ``spectrogram``, ``model`` and ``training``.

        Raises:
            ConfigError: an unknown section or key, or a value out of range
        """
        for key in values:
            if key not in _SECTIONS:
                raise ConfigError(f"{where}: {key}: unknown section{nearest(key, _SECTIONS)}")
        sections = {key: kind.read(values.get(key) or {}, f"{where}: {key}") for key, kind in _SECTIONS.items()}
        return cls(**sections)

    def dump(self) -> dict[str, dict[str, Any]]:
        """Return the sections as plain data."""
        return {key: getattr(self, key).model_dump() for key in _SECTIONS}


_SECTIONS: dict[str, Any] = {
    "spectrogram": SpectrogramSection,
    "model": AutoencoderSection,
    "training": TrainingSection,
}


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a pretraining; no code in it is run.

    Raises:
        CheckpointError: missing, damaged, or not of a pretraining
    """
    state = load_checkpoint(path, required=REQUIRED, kind=KIND)
    check_entries(path, state, ENTRIES)
    return state


def load_autoencoder(path: Path) -> tuple[RecurrentAutoencoder, Configuration, int]:
    """Load a checkpoint's autoencoder in eval mode; return it with its configuration and number of steps.

    Raises:
        CheckpointError: missing, damaged, not of a pretraining, or of a version with other settings or weights
    """
    state = read_state(path)
    try:
        config = Configuration.read(dict(state["Rae"]), "its configuration")
        model = RecurrentAutoencoder(config.spectrogram.num_mels, config.model)
        check_values(model, state["Model"], "its Model")
        model.load_state_dict(state["Model"])
        return model.eval(), config, int(state["Step"])
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: does not fit this version of the rae upstream ({reason})") from error


def check_resumable(path: Path, state: dict[str, Any], config: Configuration, audio: str, world: int) -> None:
    """Check that a checkpoint belongs to this run before it is resumed.

    Args:
        path: of the checkpoint, for messages
        state: content of the checkpoint
        config: of this run
        audio: signature of this run's audio
        world: number of processes of this run

    Raises:
        CheckpointError: it does not; the message names the difference
    """
    other = "name another --out, or use the same settings"
    for section, values in config.dump().items():
        for key, value in values.items():
            before = (state["Rae"].get(section) or {}).get(key)
            if before != value and key not in MAY_CHANGE:
                raise CheckpointError(f"{path}: was trained with {section}.{key} {before}, not {value}; {other}")
    if state.get("WorldSize") != world:
        raise CheckpointError(f"{path}: was trained by {state.get('WorldSize')} processes, not {world}; {other}")
    if state.get("Audio") != audio:
        raise CheckpointError(
            f"{path}: was trained on other audio, or files were added, removed or changed since; {other}"
        )
