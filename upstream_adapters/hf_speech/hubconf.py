"""Names for ``-u``: ``hf_speech_custom`` for any checkpoint, ``hf_speech_random`` for none, shortcuts for one each."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.upstreams.shortcuts import shortcuts as _shortcuts

from .expert import UpstreamExpert as _UpstreamExpert
from .untrained import save_untrained as _save_untrained

_SHORTCUTS = {
    "hf_hubert_base_ls960": "facebook/hubert-base-ls960",
    "hf_hubert_large_ll60k": "facebook/hubert-large-ll60k",
    "hf_hubert_large_ls960_ft": "facebook/hubert-large-ls960-ft",
    "hf_wavlm_base": "microsoft/wavlm-base",
    "hf_wavlm_base_plus": "microsoft/wavlm-base-plus",
    "hf_wavlm_large": "microsoft/wavlm-large",
    "hf_wav2vec2_base": "facebook/wav2vec2-base",
    "hf_wav2vec2_large_lv60": "facebook/wav2vec2-large-lv60",
    "hf_wav2vec2_xls_r_300m": "facebook/wav2vec2-xls-r-300m",
    "hf_wav2vec2_xls_r_1b": "facebook/wav2vec2-xls-r-1b",
    "hf_wav2vec2_xls_r_2b": "facebook/wav2vec2-xls-r-2b",
    "hf_mms_300m": "facebook/mms-300m",
    "hf_mms_1b": "facebook/mms-1b",
    "hf_audeering_msp_dim": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
    "hf_wav2vec2_conformer_rel_pos_large": "facebook/wav2vec2-conformer-rel-pos-large",
    "hf_data2vec_audio_base": "facebook/data2vec-audio-base",
    "hf_data2vec_audio_large": "facebook/data2vec-audio-large",
    "hf_unispeech_sat_base_plus": "microsoft/unispeech-sat-base-plus",
    "hf_unispeech_sat_large": "microsoft/unispeech-sat-large",
    "hf_w2v_bert_2": "facebook/w2v-bert-2.0",
    "hf_whisper_tiny": "openai/whisper-tiny",
    "hf_whisper_base": "openai/whisper-base",
    "hf_whisper_small": "openai/whisper-small",
    "hf_whisper_medium": "openai/whisper-medium",
    "hf_whisper_large_v2": "openai/whisper-large-v2",
    "hf_whisper_large_v3": "openai/whisper-large-v3",
    "hf_whisper_large_v3_turbo": "openai/whisper-large-v3-turbo",
    "hf_distil_whisper_large_v3": "distil-whisper/distil-large-v3",
    "hf_distil_whisper_medium_en": "distil-whisper/distil-medium.en",
    "hf_distil_whisper_small_en": "distil-whisper/distil-small.en",
    "hf_moonshine_tiny": "UsefulSensors/moonshine-tiny",
    "hf_moonshine_base": "UsefulSensors/moonshine-base",
    "hf_parakeet_ctc_1_1b": "nvidia/parakeet-ctc-1.1b",
    "hf_parakeet_tdt_0_6b_v3": "nvidia/parakeet-tdt-0.6b-v3",
    "hf_qwen2_audio": "Qwen/Qwen2-Audio-7B",
    "hf_voxtral_mini": "mistralai/Voxtral-Mini-3B-2507",
}
__all__ = ["hf_speech_custom", "hf_speech_random", *_SHORTCUTS]  # shortcuts are made below


def hf_speech_custom(
    ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
) -> _UpstreamExpert:
    """Build any supported model.

    Args:
        ckpt: ``-k``: a local directory, or the id of a model on the hub
        model_config: ``-g``: a YAML file of options, see :class:`.options.Options`, or a mapping
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: no ``ckpt``, or it cannot be loaded
        ConfigError: an option is unknown or out of range
    """
    if ckpt is None:
        raise UsageError("-u hf_speech_custom: -k is required: a local directory, or a hub id as in -k org/name")
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)


def hf_speech_random(
    ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
) -> _UpstreamExpert:
    """Build a model with random weights, as a baseline without any training.

    Args:
        ckpt: must be ``None``
        model_config: ``-g``: a YAML file or mapping of options, see :class:`.untrained.Untrained`

    Raises:
        UsageError: ``ckpt`` is given, or the cache cannot be written
        ConfigError: an option is unknown or out of range
    """
    if ckpt is not None:
        raise UsageError("-u hf_speech_random: its weights are random, there is no checkpoint; omit -k")
    return _UpstreamExpert(_save_untrained(model_config))


def _build(*args: Any, **kwargs: Any) -> _UpstreamExpert:
    return _UpstreamExpert(*args, **kwargs)


globals().update(_shortcuts(_SHORTCUTS, _build, "hf_speech_custom", __name__))
