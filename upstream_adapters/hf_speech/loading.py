"""Load config, preprocessor and weights; every failure is one line that says how to fix it."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.upstreams.pretrained import Pretrained, check_sizes, find_pretrained, quiet

from .families import Family, find_family, has_final_norm
from .options import Options
from .window import Window, choose_window

logger = logging.getLogger(__name__)

RATE = 16_000  # Hz
# only for training: masking and layer drop would change features or their number with -f
NO_TRAINING_TRICKS = {
    "layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False, "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}  # fmt: skip
# after the encoder of some fine-tuned models; would change frame rate and dimension of the last layer
NO_TAIL = {"add_adapter": False, "use_intermediate_ffn_before_adapter": False}
MAY_BE_MISSING = r"(masked_spec_embed|decoder\.).*"  # neither is used
# weights that are left out on purpose: what only training uses, Whisper's decoder, the layers above a cut
NOT_USED = r"(.*\.)?masked_spec_embed|(model\.)?decoder\..*|proj_out\..*"
LAYERS = r"(.*\.)?layers\.\d+\..*"


@dataclass(frozen=True)
class Loaded:
    """A loaded model."""

    model: Any
    """Model of ``transformers``; for Whisper its encoder."""
    extractor: Any
    """The model's own preprocessor."""
    depth: int
    """Number of computed transformer layers."""
    cut: bool
    """Whether the layers above were cut off."""
    commit: str | None
    """Commit of a model from the hub."""
    where: str
    """Name of the model in messages."""
    hub_commit: tuple[str, str] | None = None
    """Id and commit of a model from the hub, whatever the version of ``transformers``."""
    window: Window | None = None
    """Window of Whisper's encoder; ``None`` for other models."""


def load(ckpt: str | Path, options: Options, refresh: bool = False) -> Loaded:
    """Load a model from a directory or from the hub, both with ``from_pretrained``.

    Args:
        ckpt: directory with ``config.json``, ``preprocessor_config.json`` and weights, or id on the hub
        options: of ``-g``
        refresh: download again

    Raises:
        UsageError: a part is missing, damaged or not supported, or parts do not fit together
        ConfigError: ``num_layers`` exceeds the model's, or it has no such ``window``
    """
    import transformers

    if options.allow_pickle:
        logger.warning("-g: allow_pickle has no effect any more: .bin files are read without it, and run no code")
    source = find_model(ckpt, options, refresh)
    with quiet():
        values, _ = source.read("config.json", transformers.PretrainedConfig.get_config_dict)
        check_sizes(values, source.where)
        family = find_family(values.get("model_type"), source.where)
        extractor = _extractor(getattr(transformers, family.extractor), source, values)
        _check_extractor(extractor, source.where)
        config = source.read("config.json", transformers.AutoConfig.from_pretrained)
        window = choose_window(options.window, config, extractor, source.where)
        commit = getattr(config, "_commit_hash", None)
        cut = _prepare(config, family, options, source.where)
        model = _load_weights(getattr(transformers, family.model), source, config, options, cut)
    if config.model_type == "whisper":
        model = model.encoder
    if config.model_type == "wavlm":  # its attention gives torch masks of two types
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
    if cut and has_final_norm(family, config):
        # the norm after the last layer: in the whole model no norm follows the layer that is now last
        norm_owner = model if config.model_type == "whisper" else model.encoder
        norm_owner.layer_norm = nn.Identity()
    pinned = source.commit()
    hub_commit = (source.location, pinned) if pinned else None
    return Loaded(model, extractor, getattr(config, family.depth), cut, commit, source.where, hub_commit, window)


def find_model(ckpt: str | Path, options: Options, refresh: bool) -> Pretrained:
    """Locate a model.

    Raises:
        UsageError: neither a directory with a supported model nor of the form of a hub id
    """
    return find_pretrained(
        ckpt,
        "-k",
        revision=options.revision,
        example="-u hf_speech_custom -k DIR",
        check=lambda values, where: find_family(values.get("model_type"), where),
        local_files_only=options.local_files_only,
        force_download=refresh,
    )


def _extractor(kind: Any, source: Pretrained, config: dict[str, Any]) -> Any:
    """Load the model's own preprocessor, or, for a directory without one, the default of its family."""
    names = ("preprocessor_config.json", "processor_config.json")
    if not source.local or any((Path(source.location) / name).is_file() for name in names):
        return source.read(names[0], kind.from_pretrained)
    extractor = kind(feature_size=config["num_mel_bins"]) if config.get("model_type") == "whisper" else kind()
    normalised: dict[Any, str] = {True: ", waveforms normalised", False: ", waveforms as they are"}
    logger.warning(
        "%s: the directory holds no preprocessor_config.json; using the defaults of %s%s. If the model was trained "
        "with others, add the file of its feature extractor",
        source.where,
        kind.__name__,
        normalised.get(getattr(extractor, "do_normalize", None), ""),
    )
    return extractor


def _check_extractor(extractor: Any, where: str) -> None:
    if extractor.sampling_rate != RATE:
        raise UsageError(
            f"{where}: the model needs audio of {extractor.sampling_rate} Hz (preprocessor_config.json), s3prl has"
            f" {RATE} Hz; use a model for {RATE} Hz"
        )
    if getattr(extractor, "dither", 0.0):
        extractor.dither = 0.0  # noise for training: features would differ between calls


def _prepare(config: Any, family: Family, options: Options, where: str) -> bool:
    """Disable what only training uses, and cut off layers; return whether any were cut off."""
    for key, value in (NO_TRAINING_TRICKS | NO_TAIL).items():
        if hasattr(config, key):
            setattr(config, key, value)
    if config.model_type == "whisper":
        config.decoder_layers = 0  # its weights need not be read
    depth = getattr(config, family.depth)
    if options.num_layers is None:
        return False
    if options.num_layers > depth:
        raise ConfigError(f"num_layers: {where} has {depth} layers, got {options.num_layers}; give 1 to {depth}")
    setattr(config, family.depth, options.num_layers)
    return options.num_layers < depth


def _load_weights(kind: Any, source: Pretrained, config: Any, options: Options, cut: bool) -> Any:
    attention = options.attention
    if attention == "sdpa" and not getattr(kind, "_supports_sdpa", False):
        logger.info(
            "%s: this version of transformers has no SDPA attention for it; using eager attention", source.where
        )
        attention = "eager"
    return source.model(
        kind,
        config,
        MAY_BE_MISSING,
        unused=f"{NOT_USED}|{LAYERS}" if cut else NOT_USED,
        dtype=getattr(torch, options.precision),
        attn_implementation=attention,
    )
