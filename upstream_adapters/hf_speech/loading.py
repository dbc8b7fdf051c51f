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

from .families import Family, encoder_values, find_family, has_final_norm
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
DECODER_DEPTH = ("decoder_layers", "decoder_num_hidden_layers")  # of Whisper and Moonshine
LAYERS = r"(.*\.)?layers\.\d+\..*"


@dataclass(frozen=True)
class Loaded:
    """A loaded model."""

    model: Any
    """Model of ``transformers``; for Whisper and Moonshine its encoder."""
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
    """Window of an encoder like Whisper's; ``None`` for other models."""


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
        family, config, commit = read_config(source)
        extractor = _extractor(family, source, config)
        _check_extractor(extractor, source.where)
        window = choose_window(options.window, family, config, extractor, source.where)
        cut = _prepare(config, family, options, source.where)
        model = _load_weights(getattr(transformers, family.model), source, config, family, options, cut)
    if hasattr(model, "decoder"):
        model = model.encoder
    if hasattr(model, "avg_pooler"):
        # Qwen2-Audio halves the frame rate between the last layer and the norm after it; Voxtral does not use its own
        model.avg_pooler = nn.Identity()
    if config.model_type == "wavlm":  # its attention gives torch masks of two types
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
    if cut and has_final_norm(family, config):
        # the norm after the last layer: in the whole model no norm follows the layer that is now last
        owner_of_layers(model).layer_norm = nn.Identity()
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


def read_config(source: Pretrained) -> tuple[Family, Any, str | None]:
    """Return the family of a model, its encoder's config, and the commit of a model from the hub.

    Raises:
        UsageError: unreadable, of another architecture, or with impossible sizes
    """
    import transformers

    values, _ = source.read("config.json", transformers.PretrainedConfig.get_config_dict)
    check_sizes(values, source.where)
    family = find_family(values.get("model_type"), source.where)
    part = encoder_values(values, source.where)
    if part is None:
        config = source.read("config.json", transformers.AutoConfig.from_pretrained)
        return family, config, getattr(config, "_commit_hash", None)
    kind = getattr(transformers, family.model).config_class
    return family, source.read("config.json", lambda *_, **__: kind.from_dict(part)), values.get("_commit_hash")


def owner_of_layers(model: Any) -> Any:
    """Return the module that has the transformer layers and the norm after the last of them."""
    return model if hasattr(model, "layers") else model.encoder


def default_extractor(family: Family, config: Any) -> Any:
    """Return the preprocessor that the published models of a family have, for a model of this config."""
    import transformers

    kind = getattr(transformers, family.extractor)
    if family.extractor in ("WhisperFeatureExtractor", "ParakeetFeatureExtractor"):
        return kind(feature_size=config.num_mel_bins)
    return kind(do_normalize=False) if config.model_type == "moonshine" else kind()


def _extractor(family: Family, source: Pretrained, config: Any) -> Any:
    """Load the model's own preprocessor, or, for a directory without one, the default of its family."""
    import transformers

    names = ("preprocessor_config.json", "processor_config.json")
    kind = getattr(transformers, family.extractor)
    if not source.local or any((Path(source.location) / name).is_file() for name in names):
        # looked up inside: a class that lacks a package raises at its first attribute
        return source.read(names[0], lambda *where, **how: kind.from_pretrained(*where, **how))
    extractor = source.read("the default preprocessor", lambda *_, **__: default_extractor(family, config))
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
    for key in DECODER_DEPTH:
        if hasattr(config, key):
            setattr(config, key, 0)  # its weights need not be read
    depth = getattr(config, family.depth)
    if options.num_layers is None:
        return False
    if options.num_layers > depth:
        raise ConfigError(f"num_layers: {where} has {depth} layers, got {options.num_layers}; give 1 to {depth}")
    setattr(config, family.depth, options.num_layers)
    return options.num_layers < depth


def _load_weights(kind: Any, source: Pretrained, config: Any, family: Family, options: Options, cut: bool) -> Any:
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
        key_mapping={family.prefix: ""} if family.prefix else None,
    )
