"""Put LoRA adapters of ``peft`` beside linear layers, so that they count however a model uses these layers."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from s3prl_emotion.recipe import FinetuningSection

ADAPTER = "default"  # peft's name of an adapter, which stands in its parameters' names


def add_adapters(upstream: nn.Module, targets: list[str], section: FinetuningSection) -> None:
    """Add adapters to linear layers, and freeze everything else; the output is the same until they are trained.

    Adapters are float32 whatever the precision of the weights, which small updates would not change otherwise.

    Args:
        upstream: the model, changed in place; random numbers are drawn
        targets: full names of the linear layers
        section: the recipe's ``upstream:``
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=section.rank, lora_alpha=section.alpha, lora_dropout=section.adapter_dropout, target_modules=targets
    )
    inject_adapter_in_model(config, upstream, adapter_name=ADAPTER)
    plain, merging = _layer_types()
    for part in upstream.modules():
        if type(part) is plain:
            part.__class__ = merging
    for parameter in upstream.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


@functools.cache
def _layer_types() -> tuple[type, type]:
    """Return peft's layer with adapters, and one that also counts where its weight is read in place of a call.

    WavLM in ``transformers``, and the fairseq models of s3prl, hand ``q_proj.weight`` and its fellows to torch's
    functional attention. peft gives them the weight without adapters, which then have no effect and no gradient.
    """
    from peft.tuners.lora.layer import Linear

    class MergingLinear(Linear):
        """A linear layer with adapters, whose ``weight`` has them added."""

        @property
        def weight(self) -> Tensor:
            weight: Tensor = self.get_base_layer().weight
            return (weight + self.get_delta_weight(ADAPTER)).to(weight.dtype)

    return Linear, MergingLinear


def public_name(name: str) -> str:
    """Return the name of a parameter in a checkpoint: without peft's name of the adapter."""
    return name.replace(f".{ADAPTER}.", ".")
