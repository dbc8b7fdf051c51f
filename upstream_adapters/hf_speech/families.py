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
    prefix: str = ""
    """Pattern of what the encoder's weights have ahead of their names in a whole model's file; empty if
    ``transformers`` removes it by itself."""

    @property
    def windowed(self) -> bool:
        """Whether the encoder computes windows of one length, as Whisper's does."""
        return self.extractor == "WhisperFeatureExtractor"


@dataclass(frozen=True)
class Whole:
    """A model that has one of the families as its encoder."""

    encoder: str
    """``model_type`` of the encoder."""
    config: str
    """Key of the encoder's configuration in the model's."""


CONFORMER = ("linear_q", "linear_k", "linear_v", "linear_out")
LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj")
TOWER = r"^audio_tower\."
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
    "moonshine": Family(
        "MoonshineModel",
        depth="encoder_num_hidden_layers",
        final_norm="always",
        attention=LLAMA,
        feed_forward=("fc1", "fc2"),
    ),
    "parakeet_encoder": Family(
        "ParakeetEncoder",
        extractor="ParakeetFeatureExtractor",
        final_norm="never",
        attention=LLAMA,
        feed_forward=("linear1", "linear2"),
    ),
    "qwen2_audio_encoder": Family(
        "Qwen2AudioEncoder",
        extractor="WhisperFeatureExtractor",
        depth="encoder_layers",
        final_norm="always",
        feed_forward=("fc1", "fc2"),
        prefix=TOWER,
    ),
    "voxtral_encoder": Family(
        "VoxtralEncoder",
        extractor="WhisperFeatureExtractor",
        final_norm="always",
        feed_forward=("fc1", "fc2"),
        prefix=TOWER,
    ),
}
WHOLE = {
    "parakeet_ctc": Whole("parakeet_encoder", "encoder_config"),
    "parakeet_rnnt": Whole("parakeet_encoder", "encoder_config"),
    "parakeet_tdt": Whole("parakeet_encoder", "encoder_config"),
    "qwen2_audio": Whole("qwen2_audio_encoder", "audio_config"),
    "voxtral": Whole("voxtral_encoder", "audio_config"),
}


def find_family(model_type: object, where: str) -> Family:
    """Return the family of a model type.

    Raises:
        UsageError: an unsupported architecture
    """
    name = WHOLE[str(model_type)].encoder if model_type in WHOLE else model_type
    if name not in FAMILIES:
        raise UsageError(
            f"{where}: model_type {model_type!r} in config.json is not supported; supported: "
            f"{', '.join([*FAMILIES, *WHOLE])}"
        )
    return FAMILIES[str(name)]


def encoder_values(values: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return the values of the encoder's configuration within that of a whole model; ``None`` if it is no such model.

    Raises:
        UsageError: the part is missing
    """
    whole = WHOLE.get(str(values.get("model_type")))
    if whole is None:
        return None
    part = values.get(whole.config)
    if not isinstance(part, dict):
        raise UsageError(f"{where}: config.json must hold {whole.config}, the encoder's configuration")
    return part


def has_final_norm(family: Family, config: Any) -> bool:
    """Return whether a norm follows the model's last layer."""
    if family.final_norm == "stable":
        return bool(getattr(config, "do_stable_layer_norm", False))
    return family.final_norm == "always"
