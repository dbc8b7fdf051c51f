"""Sum layers with learned weights and cut features to each utterance's own frames: the host's featurizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from s3prl.upstream.interfaces import Featurizer as HostFeaturizer
from torch import Tensor
from torch.nn import functional

from s3prl_emotion.errors import EmotionError, UsageError, nearest
from s3prl_emotion.masking import OneFrameFeatures, PaddedFeatures, full_precision
from s3prl_emotion.upstreams.fused_sum import sum_layers


class Featurizer(HostFeaturizer):
    """Weighted sum over layers (paper 001, eq. 1) as one matrix product, with the true number of frames.

    The host multiplies a copy of all layers by their weights, then sums; here ``weights [L] @ stack [L, T * D]`` reads
    the layers once. The host cuts every utterance to ``round(samples / rate)`` frames, which keeps padded frames (and
    none at all for upstreams with one frame per utterance); here an utterance that is computed alone keeps all its
    frames. ``as_host`` uses the host's own methods for both, for parity with SUPERB.

    Raises:
        UsageError: ``-s`` names features, or ``-l`` a layer, that the upstream does not have
    """

    as_host = False

    def __init__(
        self,
        upstream: Any,
        feature_selection: str,
        layer_selection: int | None = None,
        as_host: bool = False,
        **options: Any,
    ) -> None:
        self.as_host = as_host  # first, since the host's constructor calls the methods below
        self.available = 1
        self.frames = getattr(upstream, "frames", None)  # of the suite's adapters: frames by samples
        offered: list[str] = []
        try:
            super().__init__(
                upstream=_Listening(upstream, offered),
                feature_selection=feature_selection,
                layer_selection=layer_selection,
                **options,
            )
            if self.available == 1 and layer_selection not in (None, 0, -1):
                raise IndexError("the host ignores -l where there is one layer")
        except EmotionError:
            raise
        except IndexError as error:
            raise UsageError(
                f"-l {layer_selection}: the upstream has no such layer in {feature_selection!r}; it has "
                f"{self.available}, from 0 to {self.available - 1}"
            ) from error
        except (ValueError, AttributeError):  # from the host, if there are no hidden_states to fall back on
            if feature_selection in offered:
                raise
        if getattr(self, "feature_selection", None) != feature_selection:
            raise UsageError(
                f"-s {feature_selection}: the upstream gives no such features{nearest(feature_selection, offered)}"
            )

    @property
    def layer(self) -> int | None:
        """The single layer that ``-l`` selects, from 0, or ``None``."""
        return None if self.layer_selection is None else self.layer_selection % self.available

    def layer_weights(self) -> list[float] | None:
        """Return the current weights of the layers ``[L]``, which sum to 1; ``None`` if no layers are summed."""
        weights = getattr(self, "weights", None)
        return None if weights is None else functional.softmax(weights.detach().double(), dim=-1).tolist()

    def stack(self, features: Any) -> Tensor:
        """Return the selected layers ``[L, T, D]`` of an utterance that was computed alone."""
        selected = self._select_feature(features)
        if isinstance(selected, (list, tuple)):
            return torch.stack([layer[0] for layer in selected])
        return selected[:1]

    def stacks(self, features: Any, lengths: Sequence[int]) -> list[Tensor]:
        """Return the selected layers ``[L, T_b, D]`` of each utterance of a batch, cut to ``lengths`` (frames)."""
        selected = self._select_feature(features)
        layers = selected if isinstance(selected, (list, tuple)) else [selected]
        return [torch.stack([layer[b, :length] for layer in layers]) for b, length in enumerate(lengths)]

    def weigh(self, stack: Tensor) -> Tensor:
        """Sum the layers ``[L, T, D]`` of an utterance to features ``[T, D]``."""
        if len(stack) == 1:
            return stack[0].float()
        return self._weighted_sum(stack)

    def weigh_batch(self, stacks: Iterable[Tensor]) -> list[Tensor]:
        """Sum the layers ``[L, T_b, D]`` of each utterance to features ``[T_b, D]``.

        Where the weights are learned, the features are rows of one padded batch (:class:`PaddedFeatures`); otherwise
        stacks are summed as they come, so that one at a time is in memory.
        """
        weights = getattr(self, "weights", None)
        is_learned = weights is not None and len(weights) > 1 and weights.requires_grad and torch.is_grad_enabled()
        if self.as_host or not is_learned:
            return [self.weigh(stack) for stack in stacks]
        held = list(stacks)
        if not held:
            return []
        return PaddedFeatures(sum_layers(held, self._shares(), self.normalize), [stack.shape[1] for stack in held])

    def _shares(self) -> Tensor:
        """Return the softmax of the weights ``[L]``, in float32 under autocast too."""
        return functional.softmax(self.weights, dim=-1, dtype=torch.promote_types(self.weights.dtype, torch.float32))

    def weigh_means(self, means: Tensor) -> OneFrameFeatures:
        """Sum the layers of utterances' means ``[B, L, D]`` to features ``[1, D]`` of each.

        Nothing is normalised: normalised frames have means of their own.
        """
        with full_precision(means) as cast:
            features = cast(means)
            if means.shape[1] > 1:
                # a product for each utterance: weights @ means would copy the means, which takes six times as long
                features = torch.bmm(self._shares().expand(len(means), 1, -1), features)
        return OneFrameFeatures(features)

    def _select_feature(self, features: Any) -> Any:
        layers = features.get(self.feature_selection)
        self.available = len(layers) if isinstance(layers, (list, tuple, dict)) else 1
        return super()._select_feature(features)

    def _weighted_sum(self, feature: Sequence[Tensor] | Tensor) -> Tensor:
        """Sum layers ``[L, ...]``, or a list of L, to ``[...]``, weighted by the softmax of the weights."""
        if self.as_host:
            return super()._weighted_sum(feature)
        stack = feature if isinstance(feature, Tensor) else torch.stack(list(feature))
        summed = sum_layers([stack.flatten(1, -2)], self._shares(), self.normalize)
        return summed.view(stack.shape[1:])

    def tolist(self, paired_wavs: list[Tensor], paired_feature: Tensor) -> list[Tensor]:
        """Cut features ``[B, T, D]`` to each utterance's own frames, a list of ``[T_b, D]``."""
        if len(paired_wavs) == 1 and not self.as_host:
            return [paired_feature[0]]
        if self.frames is not None and not self.as_host:
            lengths = [self.frames(len(wav)) for wav in paired_wavs]
            return [feature[:length] for feature, length in zip(paired_feature, lengths, strict=True)]
        return super().tolist(paired_wavs, paired_feature)


class _Listening:
    """Wrap the upstream for the host's constructor, and note the names of the features that it returns."""

    def __init__(self, upstream: Any, names: list[str]) -> None:
        self.upstream, self.names = upstream, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.upstream, name)

    def __call__(self, waveforms: list[Tensor]) -> Any:
        features = self.upstream(waveforms)
        self.names += [name for name, value in features.items() if not name.startswith("_") and value is not None]
        return features
