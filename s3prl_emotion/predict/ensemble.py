"""Join trained models to an ensemble: what its members must have in common, what they share, and their mean.

The probabilities of an ensemble are the means of its members' probabilities (Lakshminarayanan et al. 2017, "Simple and
scalable predictive uncertainty estimation using deep ensembles", section 2.4); its dimensions are the means of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from s3prl_emotion.errors import UsageError
from s3prl_emotion.predict.about import About, about_ensemble
from s3prl_emotion.predict.member import Member
from s3prl_emotion.predict.prediction import SpanPrediction
from s3prl_emotion.upstreams.kept_identity import is_same_upstream

if TYPE_CHECKING:
    from s3prl_emotion.predict.model import TrainedModel

# The labels' moments tell scales apart where recipes name none. Folds of a corpus have means within about 0.3 standard
# deviations of each other; MSP-Podcast (1 to 7) and IEMOCAP (1 to 5) lie more than one apart.
MOST_APART = 1.0  # standard deviations (the larger of two) between the means of labels on one scale
MOST_WIDER = 2.0  # ratio of their standard deviations


def about_of(members: Sequence[Member]) -> About:
    """Return the description of the members together, once they fit together.

    Raises:
        UsageError: a checkpoint is named twice, or two members differ in classes, dimensions or scale; names both
    """
    first, *others = members
    for number, other in enumerate(others, 1):
        if any(other.path == earlier.path for earlier in members[:number]):
            raise UsageError(f"--ckpt {other.about.checkpoint}: is named twice; name each member of an ensemble once")
        _check_pair(first, other)
    if not others:
        return first.about
    heads, upstreams = ({id(part) for part in parts} for parts in (
        [type(member.expert) for member in members], [member.model.upstream.model for member in members]
    ))  # fmt: skip
    attends = all(member.about.attends for member in members) and len(heads) == 1 and len(upstreams) == 1
    return about_ensemble([member.about for member in members], attends)


def mean_of(predictions: Sequence[SpanPrediction]) -> SpanPrediction:
    """Return the mean of the members' predictions for a span of audio, by the names of classes and dimensions.

    Raises:
        UsageError: the members' attention weights are not of the same frames
    """
    if len(predictions) == 1:
        return predictions[0]
    weights = [item.attention for item in predictions if item.attention is not None]
    if len({len(row) for row in weights}) > 1:
        raise UsageError("--attention: the members attend over different numbers of frames; leave it out")
    return SpanPrediction(
        probabilities=_mean([item.probabilities for item in predictions]),
        dimensions=_mean([item.dimensions for item in predictions]),
        attention=np.mean(weights, axis=0) if weights else None,
    )


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = list(rows[0])
    values = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    return dict(zip(names, values.mean(axis=0).tolist(), strict=True))


# --- what members must have in common ---------------------------------------------------------------------------------


def _check_pair(first: Member, other: Member) -> None:
    """Refuse a member that predicts something else than the first.

    Raises:
        UsageError: names both checkpoints and what differs
    """
    for what in ("classes", "dimensions"):
        names, others = (getattr(member.about, what) for member in (first, other))
        if set(names) != set(others):
            raise _apart(other, first, f"{what} {_listed(others)}", _listed(names))
    if first.about.dimensions and (gap := _scale_gap(first, other)) is not None:
        raise _apart(other, first, *gap)


def _scale_gap(first: Member, other: Member) -> tuple[str, str] | None:
    """Return in words how the scales of the dimensions differ: the other's, the first's; ``None``: they do not."""
    scales = _scale_of(first), _scale_of(other)
    if None not in scales:
        return None if scales[0] == scales[1] else (f"the scale {scales[1]}", str(scales[0]))
    ours, theirs = first.expert.label_moments, other.expert.label_moments
    for name in first.about.dimensions:
        (mean, spread), (other_mean, other_spread) = ours[name], theirs[name]
        widest, narrowest = max(spread, other_spread), min(spread, other_spread)
        if abs(mean - other_mean) > MOST_APART * widest or widest > MOST_WIDER * narrowest:
            words = f"labels of another scale ({name} {other_mean:.3g} ± {other_spread:.2g}"
            return words, f"{mean:.3g} ± {spread:.2g})"
    return None


def _scale_of(member: Member) -> list[float] | None:
    """Return lowest and highest grade, where the recipe names them: of the first of several corpora."""
    corpora = (member.expert.data.corpora or {}).values()
    return next((list(section.scale) for section in corpora if section.scale is not None), None)


def _apart(other: Member, first: Member, theirs: str, ours: str) -> UsageError:
    return UsageError(
        f"--ckpt {other.about.checkpoint}: has {theirs}, {first.about.checkpoint} has {ours}; the members of an "
        "ensemble must predict the same"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


# --- what members share -----------------------------------------------------------------------------------------------


class SharedUpstreams:
    """The upstreams of an ensemble, each of which is kept and computed once for all members that have the same."""

    def __init__(self) -> None:
        self._known: list[tuple[str, OncePerWaveform]] = []

    def join(self, model: TrainedModel) -> None:
        """Give a model the upstream of an earlier one, if it is the same; a trained one (``-f``) is its model's own."""
        if model.upstream.trainable:
            return
        found = next((shared for known, shared in self._known if is_same_upstream(known, model.identity)), None)
        if found is None:
            found = OncePerWaveform(model.upstream.model)
            self._known.append((model.identity, found))
        found.readers += 1
        model.use_upstream(found)


class OncePerWaveform:
    """An upstream that computes a waveform once for the models that ask for it one after the other.

    Its output is kept until the last of them has it, so that no more than one is in memory.

    Args:
        upstream: the upstream

    Attributes:
        readers: number of the models
        computed: number of passes of the upstream
    """

    def __init__(self, upstream: Any) -> None:
        self.upstream, self.readers, self.computed = upstream, 0, 0
        self._waveforms: list[Tensor] = []
        self._output: Any = None
        self._left = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.upstream, name)

    def __call__(self, waveforms: Sequence[Tensor]) -> Any:
        """Return the upstream's output for waveforms ``[N_b]``."""
        if not (self._left and _equal(self._waveforms, waveforms)):
            self._waveforms, self._output, self._left = [], None, 0  # frees them before more is computed
            self._output = self.upstream(list(waveforms))
            self._waveforms, self._left = list(waveforms), self.readers
            self.computed += 1
        output, self._left = self._output, self._left - 1
        if not self._left:
            self._waveforms, self._output = [], None
        return output


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))
