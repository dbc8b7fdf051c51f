"""The host's featurizer, except that an utterance computed alone keeps exactly the frames that its upstream gave it."""

from __future__ import annotations

from typing import Any

from s3prl.upstream.interfaces import Featurizer as HostFeaturizer
from torch import Tensor

from s3prl_emotion.errors import UsageError, nearest


class Featurizer(HostFeaturizer):
    """Weighted sum over layers (paper 001, eq. 1) and cutting to lengths.

    The host cuts every utterance to ``round(samples / rate)`` frames, which keeps frames of the padding (and gives none
    for upstreams with one frame an utterance). Here an utterance that comes alone keeps all its frames; batches are cut
    as by the host.

    Raises:
        UsageError: ``-s`` names features that the upstream does not give, or ``-l`` a layer that it does not have
    """

    def __init__(
        self, upstream: Any, feature_selection: str, layer_selection: int | None = None, **options: Any
    ) -> None:
        try:
            super().__init__(
                upstream=upstream, feature_selection=feature_selection, layer_selection=layer_selection, **options
            )
            if self.has_one_layer and layer_selection not in (None, 0, -1):
                raise IndexError("the host ignores -l where there is one layer")
        except IndexError as error:
            raise UsageError(
                f"-l {layer_selection}: the upstream has no such layer in {feature_selection!r}"
            ) from error
        if self.feature_selection != feature_selection:
            raise UsageError(
                f"-s {feature_selection}: the upstream gives no such features; leave -s out for 'hidden_states'"
                f"{nearest(feature_selection, ['hidden_states', 'last_hidden_state'])}"
            )

    def _select_feature(self, features: Any) -> Any:
        layers = features.get(self.feature_selection)
        self.has_one_layer = not isinstance(layers, (list, tuple, dict)) or len(layers) == 1
        return super()._select_feature(features)

    def tolist(self, paired_wavs: list[Tensor], paired_feature: Tensor) -> list[Tensor]:
        """Cut features ``[B, T, D]`` to each utterance's own frames: a list of ``[T_b, D]``."""
        if len(paired_wavs) == 1:
            return [paired_feature[0]]
        return super().tolist(paired_wavs, paired_feature)
