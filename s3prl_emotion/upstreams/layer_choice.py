"""Select one layer of an upstream, if need be by saliency, and skip the layers above (Mitra et al. 2025, Table 7)."""

from __future__ import annotations

import logging
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from s3prl_emotion.corpora import Corpus
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.files.words import check_layer
from s3prl_emotion.store.identity import Identity, identify
from s3prl_emotion.upstreams.saliency_file import SaliencyFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cut:
    """Size and identity of an upstream before unused layers were cut off.

    Attributes:
        parameters: number of parameters of the whole upstream
        computed: number of parameters that remain
        identity: of the whole upstream, on which features depend; ``None`` if nothing was cut
    """

    parameters: int
    computed: int
    identity: Identity | None = None


def chosen_layer(args: Namespace, config: dict[str, Any]) -> int | None:
    """Return the layer that ``-l`` or the recipe (``downstream_expert.layer``) names, ``None`` for all.

    Raises:
        ConfigError: ``layer: auto`` without ``layer_file``, or the other way round
        UsageError: ``-l`` and the recipe name different layers
    """
    section = config.get("downstream_expert")
    section = section if isinstance(section, dict) else {}
    layer, file, flag = section.get("layer"), section.get("layer_file"), args.upstream_layer_selection
    if (layer == "auto") != (file is not None):
        raise ConfigError("downstream_expert.layer: auto needs layer_file, and layer_file needs layer: auto")
    if isinstance(layer, int):
        check_layer(layer, "downstream_expert.layer:")
    if layer is None:
        return flag
    if layer == "auto":
        layer = SaliencyFile.read(str(file)).salient_layer()
        logger.info("%s: layer %d is the most salient", file, layer)
    if flag is not None and flag != layer:
        raise UsageError(f"-l {flag}: the recipe selects layer {layer} (downstream_expert.layer); omit one of the two")
    return layer


def read_layer_file(
    path: str | None, corpus: Corpus | None, split: str, max_duration: float | None, from_checkpoint: bool
) -> SaliencyFile | None:
    """The file that chose the layer, held to the training split; a checkpoint's layer was chosen before.

    Raises:
        ConfigError: not a saliency file
        LabelError: of another training split
    """
    if path is None or corpus is None or from_checkpoint:
        return None
    file = SaliencyFile.read(path)
    file.check_corpus(corpus.split(split), max_duration, corpus.classes)
    return file


def cut_upstream(
    model: nn.Module, name: str, ckpt: str | None, model_config: str | None, selection: str, layer: int | None
) -> Cut:
    """Drop the layers of a frozen upstream above the selected one, if its adapter can (``cut_after``).

    Args:
        model: the upstream; it is changed in place
        name: ``-u``
        ckpt: ``-k``
        model_config: ``-g``
        selection: ``-s``
        layer: ``-l``
    """
    whole, cut = _parameters(model), getattr(model, "cut_after", None)
    if layer is None or layer < 0 or selection != "hidden_states" or cut is None:
        return Cut(whole, whole)
    identity = identify(model, name, ckpt, model_config, selection, layer, torch.float32)
    cut(layer)
    kept = _parameters(model)
    if kept < whole:
        logger.info("layers above %d are not computed: %d of %d parameters remain", layer, kept, whole)
    return Cut(whole, kept, identity)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
