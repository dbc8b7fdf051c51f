"""What a pretraining run is made of, and its checkpoint, from which the ``rae`` upstream is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from s3prl.upstream.rae.model import AutoencoderSection, RecurrentAutoencoder
from s3prl.upstream.rae.spectrogram import SpectrogramSection

from s3prl_emotion.errors import CheckpointError, ConfigError, nearest
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.recipe import StrictSection

CHECKPOINT = "rae.ckpt"
REQUIRED = ("Rae", "Model", "Step")
KIND = "s3prl-emotion pretrain-rae"
MAY_CHANGE = ("steps", "epochs", "log_step", "eval_step", "save_step")  # of a run that is resumed


class TrainingSection(StrictSection):
    """``training:`` of the configuration; learning rate and epochs are paper 003's (section 4.2), else see each."""

    batch_size: int = Field(default=64, ge=1)
    """Stretches of audio, in each process. auDeep's default; the paper does not say."""
    lr: float = Field(default=1e-3, gt=0)
    """Of Adam."""
    gradient_clip: float = Field(default=2.0, gt=0)
    """Greatest absolute value of a gradient's component, as in auDeep."""
    epochs: int = Field(default=64, ge=1)
    """Paper: 64, for the whole of TED-LIUM 2 32."""
    steps: int | None = Field(default=None, ge=1)
    """In place of ``epochs``."""
    max_seconds: float = Field(default=30.0, ge=2)
    """Longer audio is cut into equal parts up to so long, which bounds memory."""
    valid: float = Field(default=0.02, ge=0, lt=1)
    """Share that is held out for the dev loss, by file, speaker (LibriSpeech) or talk (TED-LIUM)."""
    seed: int = Field(default=0, ge=0)
    precision: Literal["fp32", "fp16"] = "fp32"
    """``fp16``: mixed precision on a GPU, with loss scaling. There is no bf16: under autocast torch runs cuDNN's GRUs
    in float16, whatever type is asked for."""
    log_step: int = Field(default=50, ge=1)
    eval_step: int = Field(default=500, ge=1)
    save_step: int = Field(default=500, ge=1)


@dataclass(frozen=True)
class Configuration:
    """The three sections."""

    spectrogram: SpectrogramSection
    model: AutoencoderSection
    training: TrainingSection

    @classmethod
    def read(cls, values: dict[str, Any], where: str) -> Configuration:
        """Check a mapping with the sections ``spectrogram``, ``model`` and ``training``; each may be left out.

        Raises:
            ConfigError: an unknown section or key, or a value out of range
        """
        for key in values:
            if key not in _SECTIONS:
                raise ConfigError(f"{where}: {key}: unknown section{nearest(key, _SECTIONS)}")
        read = {key: kind.read(values.get(key) or {}, f"{where}: {key}") for key, kind in _SECTIONS.items()}
        return cls(**read)

    def dump(self) -> dict[str, dict[str, Any]]:
        """The sections as plain data."""
        return {key: getattr(self, key).model_dump() for key in _SECTIONS}


_SECTIONS: dict[str, Any] = {
    "spectrogram": SpectrogramSection,
    "model": AutoencoderSection,
    "training": TrainingSection,
}


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint of the pretraining; nothing that it holds is run.

    Raises:
        CheckpointError: missing, damaged, or of something else
    """
    return load_checkpoint(path, required=REQUIRED, kind=KIND)


def load_autoencoder(path: Path) -> tuple[RecurrentAutoencoder, Configuration, int]:
    """The trained autoencoder of a checkpoint, in evaluation mode, its configuration, and its number of steps.

    Raises:
        CheckpointError: missing, damaged, of something else, or of a version whose settings or weights do not fit
    """
    state = read_state(path)
    try:
        config = Configuration.read(dict(state["Rae"]), "its configuration")
        model = RecurrentAutoencoder(config.spectrogram.num_mels, config.model)
        model.load_state_dict(state["Model"])
        return model.eval(), config, int(state["Step"])
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: does not fit this version of the rae upstream ({reason})") from error


def check_resumable(path: Path, state: dict[str, Any], config: Configuration, audio: str, world: int) -> None:
    """Refuse to go on from a checkpoint of another run.

    Args:
        path: of the checkpoint, for messages
        state: what it holds
        config: of this run
        audio: signature of this run's audio
        world: processes of this run

    Raises:
        CheckpointError: says what differs
    """
    other = "name another --out, or start as that run was started"
    for section, values in config.dump().items():
        for key, value in values.items():
            before = state["Rae"].get(section, {}).get(key)
            if before != value and key not in MAY_CHANGE:
                raise CheckpointError(f"{path}: was trained with {section}.{key} {before}, not {value}; {other}")
    if state["WorldSize"] != world:
        raise CheckpointError(f"{path}: was trained by {state['WorldSize']} processes, not {world}; {other}")
    if state["Audio"] != audio:
        raise CheckpointError(f"{path}: was trained on other audio, or files have come, gone or changed since; {other}")
