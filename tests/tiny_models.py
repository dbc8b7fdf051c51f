"""Tiny speech models with random weights, saved as their real counterparts are: config, weights, preprocessor.

``from tiny_models import save_tiny_hubert``; each returns the folder, which ``-u hf_speech_custom -k FOLDER`` takes.
Seven convolutions make 320 samples a frame, three layers of 16 dimensions follow; weights are the same for a seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from s3prl_emotion.files.trust import can_load_safely

with_bin = pytest.mark.skipif(not can_load_safely(), reason="torch below 2.6, where .bin files are refused")
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
CONVOLUTIONS = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def save_tiny_hubert(folder: Path, **options: Any) -> Path:
    """HuBERT as the base model: group norm over time in the first convolution, norms after each layer."""
    return _save_conv(folder, "Hubert", False, SIZES | CONVOLUTIONS | options)


def save_tiny_hubert_large(folder: Path, **options: Any) -> Path:
    """HuBERT as the large models: layer norm in the convolutions, norms ahead of each layer, normalised waveforms."""
    return _save_conv(folder, "Hubert", True, SIZES | CONVOLUTIONS | LARGE | options)


def save_tiny_wavlm(folder: Path, **options: Any) -> Path:
    """WavLM as the base models, with gated relative positions."""
    return _save_conv(folder, "WavLM", False, SIZES | CONVOLUTIONS | options)


def save_tiny_wavlm_large(folder: Path, **options: Any) -> Path:
    """WavLM as the large model."""
    return _save_conv(folder, "WavLM", True, SIZES | CONVOLUTIONS | LARGE | options)


def save_tiny_wav2vec2(folder: Path, **options: Any) -> Path:
    """wav2vec 2.0 as the base model."""
    return _save_conv(folder, "Wav2Vec2", True, SIZES | CONVOLUTIONS | options)


def save_tiny_wav2vec2_large(folder: Path, **options: Any) -> Path:
    """wav2vec 2.0 as the large model trained on 60,000 hours."""
    return _save_conv(folder, "Wav2Vec2", True, SIZES | CONVOLUTIONS | LARGE | options)


def save_tiny_data2vec(folder: Path, **options: Any) -> Path:
    """data2vec-audio: several convolutions one after another encode positions."""
    positions = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}
    return _save_conv(folder, "Data2VecAudio", True, SIZES | CONVOLUTIONS | positions | options)


def save_tiny_unispeech_sat(folder: Path, **options: Any) -> Path:
    """UniSpeech-SAT as the large model."""
    return _save_conv(folder, "UniSpeechSat", True, SIZES | CONVOLUTIONS | LARGE | options)


def save_tiny_conformer(folder: Path, **options: Any) -> Path:
    """wav2vec2-conformer with relative positions: its layers hold convolutions that look ahead."""
    more = {"feat_extract_norm": "layer", "position_embeddings_type": "relative", "conv_depthwise_kernel_size": 7}
    return _save_conv(folder, "Wav2Vec2Conformer", True, SIZES | CONVOLUTIONS | more | options)


def save_tiny_w2v_bert(folder: Path, **options: Any) -> Path:
    """w2v-BERT 2.0: log-Mel frames in pairs, relative positions, causal convolutions."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    config = Wav2Vec2BertConfig(**SIZES | {"conv_depthwise_kernel_size": 7} | options)
    SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    return save_model(folder, Wav2Vec2BertModel, config)


def save_tiny_whisper(folder: Path, **options: Any) -> Path:
    """Whisper with its decoder, as it is published: 80 log-Mel bands, windows of 30 s."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    sizes = {
        "d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 20,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
        "suppress_tokens": None, "begin_suppress_tokens": None,
    }  # fmt: skip
    WhisperFeatureExtractor().save_pretrained(folder)
    return save_model(folder, WhisperForConditionalGeneration, WhisperConfig(**sizes | options))


def save_tiny_moonshine(folder: Path, **options: Any) -> Path:
    """Moonshine with its decoder: raw waveforms, a frame every 24 ms, rotary positions."""
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration, Wav2Vec2FeatureExtractor

    sizes = {
        "hidden_size": 16, "intermediate_size": 24, "encoder_num_hidden_layers": 3, "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2, "vocab_size": 20,
    }  # fmt: skip
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    return save_model(folder, MoonshineForConditionalGeneration, MoonshineConfig(**sizes | options))


def save_tiny_parakeet(folder: Path, **options: Any) -> Path:
    """Parakeet for CTC: log-Mel frames eight to a frame of 80 ms, a conformer with relative positions."""
    import pytest
    from transformers import ParakeetCTCConfig, ParakeetFeatureExtractor, ParakeetForCTC

    try:
        ParakeetFeatureExtractor(feature_size=16).save_pretrained(folder)
    except ImportError:
        pytest.skip("transformers 4.57 needs librosa for Parakeet")
    encoder = SIZES | {"subsampling_conv_channels": 8, "num_mel_bins": 16, "initializer_range": 0.2} | options
    config = ParakeetCTCConfig(vocab_size=20, pad_token_id=19, encoder_config=encoder)
    return save_model(folder, ParakeetForCTC, config)


TEXT = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def save_tiny_qwen2_audio(folder: Path, **options: Any) -> Path:
    """Qwen2-Audio with its language model; its own output has half as many frames as its layers."""
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

    sizes = {
        "d_model": 16,
        "encoder_layers": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "num_mel_bins": 16,
    }
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    encoder = {"model_type": "qwen2_audio_encoder"} | sizes | options
    config = Qwen2AudioConfig(audio_config=encoder, text_config={"model_type": "qwen2"} | TEXT, audio_token_index=3)
    return save_model(folder, Qwen2AudioForConditionalGeneration, config)


def save_tiny_voxtral(folder: Path, **options: Any) -> Path:
    """Voxtral with its language model, in several files of weights."""
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

    sizes = SIZES | {"num_mel_bins": 16, "vocab_size": 20}
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    encoder = {"model_type": "voxtral_encoder"} | sizes | options
    config = VoxtralConfig(audio_config=encoder, text_config={"model_type": "llama"} | TEXT, audio_token_id=3)
    return save_model(folder, VoxtralForConditionalGeneration, config, max_shard_size="40KB")


TINY = {
    "hubert": save_tiny_hubert,
    "hubert_large": save_tiny_hubert_large,
    "wavlm": save_tiny_wavlm,
    "wavlm_large": save_tiny_wavlm_large,
    "wav2vec2": save_tiny_wav2vec2,
    "wav2vec2_large": save_tiny_wav2vec2_large,
    "data2vec": save_tiny_data2vec,
    "unispeech_sat": save_tiny_unispeech_sat,
    "conformer": save_tiny_conformer,
    "w2v_bert": save_tiny_w2v_bert,
    "whisper": save_tiny_whisper,
}
ENCODERS = {  # of models that recognise speech or talk about it
    "moonshine": save_tiny_moonshine,
    "parakeet": save_tiny_parakeet,
    "qwen2_audio": save_tiny_qwen2_audio,
    "voxtral": save_tiny_voxtral,
}


def save_model(folder: Path, kind: type, config: Any, seed: int = 0, **save: Any) -> Path:
    """Save a model of random weights; norms and biases are random too, so that leaving one out shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 1 or "pos_bias" in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(folder, **save)
    return Path(folder)


def _save_conv(folder: Path, name: str, normalise: bool, options: dict[str, Any]) -> Path:
    import transformers

    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=normalise)
    extractor.save_pretrained(folder)
    config = getattr(transformers, f"{name}Config")(**options)
    return save_model(folder, getattr(transformers, f"{name}Model"), config)
