"""Train a part of an upstream: which parameters, in which mode, with which learning rate, and what checkpoints hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from s3prl_emotion.errors import ConfigError, TrainingError
from s3prl_emotion.recipe import ALL, LORA, FinetuningSection
from s3prl_emotion.rng import own_seed
from s3prl_emotion.upstreams.finetuning.adapters import add_adapters, public_name
from s3prl_emotion.upstreams.finetuning.targets import adapter_targets, trained_layers

logger = logging.getLogger(__name__)
MOST_NAMED = 3  # parameters in a message


class TrainedPart(nn.Module):
    """Trained parameters of a model by their names, as a checkpoint holds them.

    It owns none of them: they belong to the model.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.trained = parameters  # a dict: nn.Module registers nothing

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the values by name."""
        return {name: parameter.detach() for name, parameter in self.trained.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Set the values.

        Raises:
            RuntimeError: names or shapes differ
        """
        if state_dict.keys() != self.trained.keys():
            raise RuntimeError("other names")
        if any(state_dict[name].shape != parameter.shape for name, parameter in self.trained.items()):
            raise RuntimeError("other shapes")
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state_dict[name])


class Finetuning:
    """What a recipe's ``upstream:`` section does to an upstream and to the optimizer.

    Args:
        upstream: the model with its pretrained weights, after unused layers were cut off; changed in place
        section: the recipe's ``upstream:``
        name: ``-u``, for messages
        seed: decides the adapters' initial values, whatever was drawn before

    Attributes:
        part: what is trained, where that is not the whole upstream

    Raises:
        ConfigError: the upstream lacks what the section names
    """

    def __init__(self, upstream: Any, section: FinetuningSection, name: str, seed: int) -> None:
        self.upstream, self.section, self.name = upstream, section, name
        enable = getattr(upstream, "checkpoint_activations", None)
        if section.gradient_checkpointing and enable is None:
            raise ConfigError(f"upstream.gradient_checkpointing: -u {name} has none; leave it out")
        self.layers = None if section.trainable == ALL else trained_layers(upstream, section, name)
        self.part = None if section.trainable == ALL else self._prepared(seed)
        if section.dropout is not None:
            set_dropout(self.layers or ([upstream] if section.trainable == ALL else []), section.dropout)
        if section.gradient_checkpointing and enable is not None:
            enable()
        self._own: list[int] = []  # positions of the optimizer's groups that hold the upstream's parameters
        self.is_checked = self.part is None
        whole = sum(parameter.numel() for parameter in upstream.parameters())
        logger.info("-u %s: %d of %d parameters are trained (%s)", name, self.count, whole, section.trainable)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The upstream's parameters that are trained."""
        return [parameter for parameter in self.upstream.parameters() if parameter.requires_grad]

    @property
    def count(self) -> int:
        """Number of trained parameters of the upstream."""
        return sum(parameter.numel() for parameter in self.parameters)

    def train(self) -> None:
        """Set the mode for training: the trained layers have dropout, and all else computes as in evaluation.

        Batch normalisation keeps its statistics, which checkpoints do not hold.
        """
        if self.part is None:
            self.upstream.train()
            return
        self.upstream.eval()
        for layer in self.layers or ():
            layer.train()
            for module in layer.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        if self.layers is None:
            for name, module in self.upstream.named_modules():
                module.train(".lora_dropout" in name)

    def split(self, optimizer: Any) -> None:
        """Give the upstream's parameters groups of their own, with its learning rate and weight decay.

        Raises:
            ConfigError: the optimizer has no weight decay
        """
        own = {id(parameter) for parameter in self.upstream.parameters()}
        rates = {"lr": self.section.lr, "weight_decay": self.section.weight_decay}
        changes = {key: value for key, value in rates.items() if value is not None}
        groups: list[dict[str, Any]] = []
        self._own = []
        for group in optimizer.param_groups:
            lacks = next((key for key in changes if key not in group), None)
            if lacks is not None:
                raise ConfigError(f"upstream.{lacks}: the recipe's optimizer has none; leave it out or choose another")
            ours = [item for item in group["params"] if id(item) in own and item.requires_grad]
            others = [item for item in group["params"] if id(item) not in own]
            if others:
                groups.append({**group, "params": others})
            if ours:
                self._own.append(len(groups))
                groups.append({**group, "params": ours, **changes})
        optimizer.param_groups[:] = groups

    @contextmanager
    def warming_up(self, optimizer: Any, step: int) -> Iterator[None]:
        """Lower the upstream's learning rate during the first ``warm_up`` steps.

        Args:
            optimizer: of the training
            step: number of steps before this one
        """
        groups = [optimizer.param_groups[position] for position in self._own]
        rates = [group["lr"] for group in groups]
        factor = min(1.0, (step + 1) / self.section.warm_up) if self.section.warm_up else 1.0
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    def check_reached(self) -> None:
        """Check after the first backward pass that every trained parameter has a gradient.

        Raises:
            TrainingError: the features do not depend on some of them
        """
        if self.is_checked or self.part is None:
            return
        self.is_checked = True
        unreached = [name for name, parameter in self.part.trained.items() if parameter.grad is None]
        if unreached:
            more = f" and {len(unreached) - MOST_NAMED} more" if len(unreached) > MOST_NAMED else ""
            raise TrainingError(
                f"upstream.trainable: {self.section.trainable}: no gradient reaches {len(unreached)} of "
                f"{len(self.part.trained)} trained weights of -u {self.name} ({', '.join(unreached[:MOST_NAMED])}"
                f"{more}), since the features do not depend on them; choose other targets or layers"
            )

    def _prepared(self, seed: int) -> TrainedPart:
        """Make the part trainable, and freeze everything else."""
        if self.section.trainable == LORA:
            targets = adapter_targets(self.upstream, self.layers, self.section, self.name)
            self._check_dropout()
            with own_seed(seed):
                add_adapters(self.upstream, targets, self.section)
        else:
            self.upstream.requires_grad_(False)
            for layer in self.layers or ():
                layer.requires_grad_(True)
            self._check_precision()
        names = {public_name(name): item for name, item in self.upstream.named_parameters() if item.requires_grad}
        return TrainedPart(names)

    def _check_dropout(self) -> None:
        reads = getattr(self.upstream, "attention_reads_weights", False)
        if self.section.adapter_dropout and reads and self.section.targets != "feed_forward":
            raise ConfigError(
                f"upstream.adapter_dropout: the attention of -u {self.name} reads weights with adapters added to them, "
                "which have no input of their own; leave it out, or set targets: feed_forward"
            )

    def _check_precision(self) -> None:
        for parameter in self.parameters:
            if parameter.dtype != torch.float32:
                raise ConfigError(
                    f"upstream.trainable: top_layers would train weights in {str(parameter.dtype).split('.')[1]} "
                    "(precision in -g), which small updates do not change; use precision: float32 with runner.bf16"
                )


def set_dropout(modules: Sequence[nn.Module], rate: float) -> None:
    """Set the rate of every dropout inside, whether a module of its own or a number that its forward uses."""
    for part in (inner for module in modules for inner in module.modules()):
        if isinstance(part, nn.Dropout):
            part.p = rate
        for name, value in list(vars(part).items()):
            if name.endswith("dropout") and type(value) is float:
                setattr(part, name, rate)


def count_trained(models: Mapping[str, nn.Module]) -> dict[str, int]:
    """Return the numbers of trained and of all parameters of the models, for a metrics file."""
    every: list[Tensor] = [parameter for model in models.values() for parameter in model.parameters()]
    return {
        "parameters_trained": sum(parameter.numel() for parameter in every if parameter.requires_grad),
        "parameters": sum(parameter.numel() for parameter in every),
    }
