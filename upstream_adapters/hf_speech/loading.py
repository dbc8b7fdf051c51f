"""Loading of config, preprocessor and weights, with one clear line for whatever is wrong with them."""

from __future__ import annotations

import json
import logging
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s3prl_emotion.errors import ConfigError, UsageError

from .families import Family, find_family, has_final_norm
from .options import Options

logger = logging.getLogger(__name__)

RATE = 16_000  # Hz
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
ALLOW = "give -g a YAML with 'allow_pickle: true' if you trust its .bin file, or convert that to safetensors"
# what training alone uses: masking and layer drop would change features or their number under -f
NO_TRAINING_TRICKS = {
    "layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False, "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}  # fmt: skip
# what some fine-tuned models put behind the encoder, which would change frame rate and dimension of the last layer
NO_TAIL = {"add_adapter": False, "use_intermediate_ffn_before_adapter": False}
MAY_BE_MISSING = ("masked_spec_embed", "decoder.")  # neither is used


@dataclass(frozen=True)
class Loaded:
    """A model ready for use."""

    model: Any
    """A model of ``transformers``; of Whisper, its encoder."""
    extractor: Any
    """The model's own preprocessor."""
    depth: int
    """Transformer layers that are computed."""
    cut: bool
    """Whether layers above them were left out."""
    commit: str | None
    """Of a model from the hub."""
    where: str
    """How messages call the model."""


def load(ckpt: str | Path, options: Options, refresh: bool = False) -> Loaded:
    """Load a model from a directory or from the hub, which both go through ``from_pretrained``.

    Args:
        ckpt: directory with ``config.json``, ``preprocessor_config.json`` and weights, or id on the hub
        options: of ``-g``
        refresh: download anew

    Raises:
        UsageError: anything is missing, damaged, not supported or does not fit together
        ConfigError: ``num_layers`` exceeds the model's
    """
    import transformers

    source = _find(ckpt, options, refresh)
    with _quiet(transformers):
        values, _ = source.read("config.json", transformers.PretrainedConfig.get_config_dict)
        family = find_family(values.get("model_type"), source.where)
        extractor = _extractor(getattr(transformers, family.extractor), source, values)
        _check_extractor(extractor, source.where)
        config = source.read("config.json", transformers.AutoConfig.from_pretrained)
        commit = getattr(config, "_commit_hash", None)
        cut = _prepare(config, family, options, source.where)
        model = _load_weights(getattr(transformers, family.model), source, config, options)
    if config.model_type == "whisper":
        model = model.encoder
    if config.model_type == "wavlm":  # its attention hands torch masks of two kinds
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
    if cut and has_final_norm(family, config):
        # the norm behind the last layer: a cut model ends with a layer that the whole one does not norm
        norm_owner = model if config.model_type == "whisper" else model.encoder
        norm_owner.layer_norm = nn.Identity()
    return Loaded(model, extractor, getattr(config, family.depth), cut, commit, source.where)


@dataclass(frozen=True)
class _Source:
    """Where a model comes from."""

    place: str
    where: str
    local: bool
    hub: dict[str, Any]

    def read(self, what: str, loader: Callable[..., Any], **more: Any) -> Any:
        """Call a loader of ``transformers``; whatever goes wrong becomes one line."""
        from safetensors import SafetensorError

        try:
            return loader(self.place, **self.hub, **more)
        except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
            raise UsageError(f"{self.where}: {self._reason(what, error)}") from error
        except (pickle.UnpicklingError, EOFError) as error:
            raise UsageError(f"{self.where}: {what} hold more than tensors, or are damaged: {_line(error)}") from error

    def _reason(self, what: str, error: Exception) -> str:
        if self.local:
            return f"{what} cannot be loaded: {_line(error)}"
        if what == "weights" and "safetensors" in str(error):
            return f"the hub offers no safetensors of this model; {ALLOW}"
        return (
            f"no such directory, and {what} cannot be had from the hub or its cache ({_line(error)}); without the hub,"
            " give a local directory that holds the model: -u hf_speech_custom -k DIR"
        )


def _find(ckpt: str | Path, options: Options, refresh: bool) -> _Source:
    path = Path(ckpt).expanduser()
    where = f"-k {ckpt}"
    hub = {"local_files_only": options.local_files_only, "trust_remote_code": False}
    if path.is_dir():
        if options.revision is not None:
            raise UsageError(f"{where}: revision is for models on the hub, not for a directory; leave it out of -g")
        _check_directory(path, where, options)
        return _Source(str(path), where, True, hub)
    if path.exists():
        raise UsageError(f"{where}: is a file; give the directory that holds config.json and the weights")
    if not HUB_ID.fullmatch(str(ckpt)):
        raise UsageError(f"{where}: no such directory, and not of the form org/name of a hub id either")
    return _Source(str(ckpt), where, False, hub | {"revision": options.revision or "main", "force_download": refresh})


def _check_directory(path: Path, where: str, options: Options) -> None:
    """Say what a directory lacks, ahead of ``transformers``, which would speak of the hub."""
    if not (path / "config.json").is_file():
        raise UsageError(f"{where}: the directory holds no config.json; give the one that save_pretrained wrote")
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{where}: config.json is not readable as JSON: {_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{where}: config.json must hold a mapping, as save_pretrained writes it")
    find_family(values.get("model_type"), where)
    safe = any(path.glob("*.safetensors"))
    pickled = any(path.glob("pytorch_model*.bin"))
    if not safe and not pickled:
        raise UsageError(f"{where}: the directory holds no weights (model.safetensors)")
    if not safe and not options.allow_pickle:
        raise UsageError(f"{where}: the weights are a pickle, not safetensors; {ALLOW}")


def _extractor(kind: Any, source: _Source, config: dict[str, Any]) -> Any:
    """The model's own preprocessor; where a directory has none, that of its family as ``transformers`` has it."""
    names = ("preprocessor_config.json", "processor_config.json")
    if not source.local or any((Path(source.place) / name).is_file() for name in names):
        return source.read(names[0], kind.from_pretrained)
    extractor = kind(feature_size=config["num_mel_bins"]) if config.get("model_type") == "whisper" else kind()
    normalised: dict[Any, str] = {True: ", waveforms normalised", False: ", waveforms as they are"}
    logger.warning(
        "%s: the directory holds no preprocessor_config.json; taken as %s has it by default%s. If the model was "
        "trained otherwise, put the file of its feature extractor there",
        source.where,
        kind.__name__,
        normalised.get(getattr(extractor, "do_normalize", None), ""),
    )
    return extractor


def _check_extractor(extractor: Any, where: str) -> None:
    if extractor.sampling_rate != RATE:
        raise UsageError(
            f"{where}: the model takes audio of {extractor.sampling_rate} Hz (preprocessor_config.json), s3prl gives"
            f" {RATE} Hz; use a model of {RATE} Hz"
        )
    if getattr(extractor, "dither", 0.0):
        extractor.dither = 0.0  # noise, for training: features would differ from call to call


def _prepare(config: Any, family: Family, options: Options, where: str) -> bool:
    """Switch off what training alone uses and cut layers off; returns whether any were."""
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


def _load_weights(kind: Any, source: _Source, config: Any, options: Options) -> Any:
    attention = options.attention
    if attention == "sdpa" and not getattr(kind, "_supports_sdpa", False):
        logger.info("%s: this version of transformers has no SDPA attention for it; eager it is", source.where)
        attention = "eager"
    model, told = source.read(
        "weights",
        kind.from_pretrained,
        config=config,
        dtype=getattr(torch, options.precision),
        attn_implementation=attention,
        use_safetensors=None if options.allow_pickle else True,
        output_loading_info=True,
    )
    # from_pretrained fills what the file lacks with random numbers
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(MAY_BE_MISSING))
    if missing:
        raise UsageError(
            f"{source.where}: the weights do not fit config.json: {len(missing)} are missing, {missing[0]} for one;"
            " give a directory whose weights and config belong together"
        )
    return model


def _line(error: Exception, most: int = 200) -> str:
    """The gist of an error of another library, on one line."""
    text = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} …"


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence bars and reports of weights that are left out on purpose; what matters becomes an error here."""
    tell = transformers.utils.logging
    level, bars = tell.get_verbosity(), tell.is_progress_bar_enabled()
    tell.set_verbosity_error()
    tell.disable_progress_bar()
    try:
        yield
    finally:
        tell.set_verbosity(level)
        if bars:
            tell.enable_progress_bar()
