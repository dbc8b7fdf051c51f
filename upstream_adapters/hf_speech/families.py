"""List the supported families of models, by the ``model_type`` of their config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s3prl_emotion.errors import UsageError


@dataclass(frozen=True)
class Family:
    """Properties of a family of models."""

    model: str
    """Class of ``transformers``."""
    extractor: str = "Wav2Vec2FeatureExtractor"
    """Class of its preprocessor."""
    depth: str = "num_hidden_layers"
    """Key of the number of transformer layers in the config."""
    final_norm: str = "stable"
    """Whether a norm follows the last layer: ``always``, ``never``, or in ``stable`` (pre-norm) configs."""
    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """Linear layers of the attention of each transformer layer."""
    feed_forward: tuple[str, ...] = ("intermediate_dense", "output_dense")
    """Linear layers of the feed-forward blocks of each transformer layer."""
    reads_weights: bool = False
    """Whether the attention hands the weights of its linear layers to torch instead of calling them."""


CONFORMER = ("linear_q", "linear_k", "linear_v", "linear_out")
FAMILIES = {
    "hubert": Family("HubertModel"),
    "wavlm": Family("WavLMModel", reads_weights=True),
    "wav2vec2": Family("Wav2Vec2Model"),
    "data2vec-audio": Family("Data2VecAudioModel", final_norm="never"),
    "unispeech-sat": Family("UniSpeechSatModel"),
    "wav2vec2-conformer": Family("Wav2Vec2ConformerModel", final_norm="always", attention=CONFORMER),
    "wav2vec2-bert": Family(
        "Wav2Vec2BertModel", extractor="SeamlessM4TFeatureExtractor", final_norm="never", attention=CONFORMER
    ),
    "whisper": Family(
        "WhisperModel",
        extractor="WhisperFeatureExtractor",
        depth="encoder_layers",
        final_norm="always",
        feed_forward=("fc1", "fc2"),
    ),
}


def find_family(model_type: object, where: str) -> Family:
    """Return the family of a model type.

    Raises:
        UsageError: an unsupported architecture
    """
    if model_type not in FAMILIES:
        raise UsageError(
            f"{where}: model_type {model_type!r} in config.json is not supported; supported: {', '.join(FAMILIES)}"
        )
    return FAMILIES[str(model_type)]


def has_final_norm(family: Family, config: Any) -> bool:
    """Return whether a norm follows the model's last layer."""
    if family.final_norm == "stable":
        return bool(getattr(config, "do_stable_layer_norm", False))
    return family.final_norm == "always"
