"""Predict waveforms with a trained head and its upstream, or with an ensemble of several."""

from __future__ import annotations

import logging
import math
import multiprocessing
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora.seen import NOT_KNOWN
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.predict.arguments import ModelArguments
from s3prl_emotion.predict.ensemble import SharedUpstreams, about_of, mean_of
from s3prl_emotion.predict.member import Member
from s3prl_emotion.predict.pipeline import classify
from s3prl_emotion.predict.prediction import Prediction, SpanPrediction, Window, average
from s3prl_emotion.predict.waveforms import as_waveform, check_option, check_rate_type, plain, several
from s3prl_emotion.predict.windows import AUTOMATIC, Windows
from s3prl_emotion.upstreams.memory import UNCHECKED

if TYPE_CHECKING:
    from s3prl_emotion.predict.model import TrainedModel

logger = logging.getLogger(__name__)
BATCH_SIZE = 8
BATCH_SECONDS = 600.0  # padded audio in a batch of the head
Utterance = tuple[str, "NDArray[np.float32] | AudioError"]  # name, and waveform [N] at 16 kHz or an error


@dataclass
class _Pending:
    """An utterance whose prediction is not complete."""

    name: str
    samples: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    predictions: list[SpanPrediction] = field(default_factory=list)
    error: AudioError | None = None
    trained_on_by: tuple[str, ...] = ()
    windowed: bool = False
    note: str | None = None

    def is_done(self) -> bool:
        return self.error is not None or len(self.predictions) == len(self.spans)

    def result(self) -> Prediction | AudioError:
        if self.error is not None:
            return self.error
        duration = self.samples / SAMPLE_RATE
        seen: dict[str, Any] = {"was_trained_on": bool(self.trained_on_by), "trained_on_by": self.trained_on_by}
        if not self.windowed:
            return Prediction(**vars(self.predictions[0]), duration=duration, **seen)
        seconds = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in self.spans]
        windows = [Window(*times, item) for times, item in zip(seconds, self.predictions, strict=True)]
        return replace(average(windows, duration), note=self.note, **seen)


_Group = list[tuple[_Pending, list[Tensor]]]  # with the features of each member


class Predictor:
    """A trained head with its upstream, or an ensemble of such models, which gives the mean of their predictions.

    The upstream computes each utterance, or each window, as a batch of its own; the head computes up to ``batch_size``
    at once, and its results do not depend on the padding. So every result is that of ``run_downstream.py -m
    inference``, whatever else is in the batch. An upstream that several members share computes each utterance once.

    Args:
        models: the model, or those of the ensemble

    Attributes:
        about: description of the model, or of the ensemble
        rate: sampling rate of the upstream (Hz); other rates are resampled

    Raises:
        UsageError: the models do not predict the same
    """

    rate = SAMPLE_RATE

    def __init__(self, models: Sequence[TrainedModel]) -> None:
        self._members = [Member(model) for model in models]
        self._warned_of_windows = False
        self.about = about_of(self._members)

    def longest(self, shared_by: int | None = None) -> float:
        """Return how many samples (16 kHz) the upstream can compute at once in the memory that is free.

        Args:
            shared_by: number of processes that share the memory, from now on

        Returns:
            at least 30 s; infinity where it is not known; of an ensemble, the shortest of its members'
        """
        longest = math.inf
        for member in self._members:
            memory = member.model.memory
            memory.shared_by = shared_by or memory.shared_by
            with torch.no_grad():
                longest = min(longest, memory.longest())
        return longest

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the order of the outputs; empty for a head without classes."""
        return self.about.classes

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions; empty for a head without dimensions."""
        return self.about.dimensions

    @property
    def head(self) -> str:
        """Name of the head."""
        return self.about.head

    @property
    def upstream(self) -> str:
        """Name of the upstream."""
        return self.about.upstream

    @property
    def channel(self) -> str | int:
        """Which channel of a file with several it was trained on: ``datarc.channel`` of its recipe.

        Raises:
            UsageError: the members of an ensemble were trained on different channels
        """
        first, *others = self._members
        for other in others:
            if other.expert.data.channel != first.expert.data.channel:
                raise UsageError(
                    f"--ckpt {other.about.checkpoint}: was trained on channel {other.expert.data.channel}, "
                    f"{first.about.checkpoint} on {first.expert.data.channel}; choose one with predict --channel"
                )
        return first.expert.data.channel

    @property
    def training_is_known(self) -> bool:
        """Whether the checkpoint keeps what it was trained on, so that its training audio is recognised."""
        return not self.of_unknown_training

    @property
    def of_unknown_training(self) -> tuple[str, ...]:
        """The checkpoints that do not keep what they were trained on."""
        known = {item.about.checkpoint: item.model.seen_data.is_complete for item in self._members}
        return tuple(name for name, is_known in known.items() if not is_known)

    @property
    def label_moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each dimension's labels in training, on the corpus's scale; may be empty.

        Of an ensemble, both are means over the members.
        """
        moments = [member.expert.label_moments for member in self._members]
        if len(moments) == 1:
            return moments[0]
        return {
            name: (mean([own[name][0] for own in moments]), mean([own[name][1] for own in moments]))
            for name in moments[0]
        }

    def __call__(self, inputs: Any, top_k: int | None = None, batch_size: int = BATCH_SIZE) -> Any:
        """Classify audio as pipelines of ``transformers`` do: the most probable classes of each input, best first.

        Args:
            inputs: path of an audio file; waveform ``[N]`` at 16 kHz, or ``{"array": …, "sampling_rate": …}`` (or
                ``"raw"``) for another rate; or several of these, in a list or an iterator
            top_k: number of classes to return; all by default
            batch_size: utterances per batch of the head

        Returns:
            ``[{"label": …, "score": …}, …]``; for several inputs a list of these, for an iterator an iterator. The
            score of a class is its probability. A head without classes gives its dimensions, in their own order, with
            the value on the training corpus's scale as score.

        Raises:
            AudioError: an input cannot be read or predicted
            UsageError: an input of another kind, or options that are out of range
        """
        return classify(self, inputs, top_k, batch_size)

    def predict(self, waveform: ArrayLike | Tensor, rate: int = SAMPLE_RATE, **options: Any) -> Prediction:
        """Predict one waveform.

        Args:
            waveform: ``[N]`` or ``[N, C]``, floats in [-1, 1]; channels are averaged, a warning says where samples are
                far beyond, as if they were integers
            rate: sampling rate (Hz); other rates than 16 kHz are resampled
            options: ``window``, ``hop``, ``attention``, ``batch_size`` of :meth:`predict_batch`

        Raises:
            AudioError: no samples, NaN, or too short for the upstream
            UsageError: not a waveform, no rate, or windows or attention that are not possible
        """
        return self.predict_batch([waveform], rate, **options)[0]

    def predict_batch(
        self,
        waveforms: Iterable[ArrayLike | Tensor],
        rate: int = SAMPLE_RATE,
        window: float | None = None,
        hop: float | None = None,
        attention: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> list[Prediction]:
        """Predict waveforms; each result is the same as that of :meth:`predict`.

        Args:
            waveforms: waveforms, each as for :meth:`predict`
            rate: their sampling rate (Hz)
            window: length of the windows to split them into (s); ``None`` for no windows
            hop: time from one window to the next (s); half a window by default
            attention: return the attention weights too
            batch_size: utterances or windows per batch of the head

        Raises:
            AudioError: a waveform cannot be predicted; names the first one by its number, from 0
            UsageError: not a waveform, no rate, or windows or attention that are not possible
        """
        check_rate_type(rate)
        utterances = ((f"waveform {n}", as_waveform(item, rate, f"waveform {n}")) for n, item in several(waveforms))
        check_option("window", window, float, optional=True)
        check_option("hop", hop, float, optional=True)
        check_option("batch_size", batch_size, int)
        predictions = []
        for result in self.stream(utterances, Windows.read(window, hop), bool(attention), int(batch_size)):
            if isinstance(result, AudioError):
                raise result
            predictions.append(result)
        return predictions

    def stream(
        self,
        utterances: Iterable[Utterance],
        windows: Windows | None = None,
        attention: bool = False,
        batch_size: int = BATCH_SIZE,
        longest: float | None = None,
    ) -> Iterator[Prediction | AudioError]:
        """Predict utterances one after the other, with no more than a batch of them in memory.

        Args:
            utterances: name of each, and its waveform ``[N]`` at 16 kHz or an error in its place
            windows: how to split them; ``None`` for no windows
            attention: return the attention weights too
            batch_size: utterances or windows per batch of the head
            longest: most samples to compute at once; longer ones are split into windows of 30 s, which the prediction's
                ``note`` says; ``None``: as many as fit into the memory that is free when it is their turn

        Yields:
            the prediction for each utterance in order, or the error that prevents it

        Raises:
            UsageError: attention was requested and the head has none, or ``batch_size`` is below 1
        """
        if batch_size < 1:
            raise UsageError(f"--batch_size {batch_size}: must be 1 or more")
        if attention and not self.about.attends:
            why = f"{self.head} as it was trained has no attention"
            if self.about.members:
                why = "the members are not of one kind of head with attention on one upstream"
            raise UsageError(f"--attention: {why}; leave it out")
        waiting: deque[_Pending] = deque()
        group: _Group = []
        for name, waveform in utterances:
            item = _Pending(name)
            waiting.append(item)
            for features in self._features(item, waveform, windows, longest):
                if group and (len(group) >= batch_size or self._is_long(group, features)):
                    self._predict(group, attention)
                    group = []
                group.append((item, features))
            while waiting and waiting[0].is_done():
                yield waiting.popleft().result()
        if group:
            self._predict(group, attention)
        for item in waiting:
            yield item.result()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _features(
        self,
        item: _Pending,
        waveform: NDArray[np.float32] | AudioError,
        windows: Windows | None,
        longest: float | None,
    ) -> Iterator[list[Tensor]]:
        """Yield the features ``[T, D]`` of each window, one of each member, until an error, which ``item`` keeps."""
        if isinstance(waveform, AudioError):
            item.error = plain(waveform)
            return
        seen = [member.about.checkpoint for member in self._members if member.model.seen_data.heard(waveform)]
        item.samples, item.trained_on_by = len(waveform), tuple(seen)
        if windows is None and self._is_too_long(len(waveform), longest):
            windows, item.note = AUTOMATIC, AUTOMATIC.note(len(waveform))
            self._warn_of_windows(item)
        item.windowed = windows is not None
        item.spans = windows.spans(len(waveform)) if windows else [(0, len(waveform))]
        whole = torch.from_numpy(np.ascontiguousarray(waveform))
        for start, end in item.spans:
            try:
                features = [member.model.frames(whole[start:end], item.name) for member in self._members]
            except AudioError as error:
                item.error = plain(error)
                return
            yield features

    def _is_too_long(self, samples: int, longest: float | None) -> bool:
        if samples <= UNCHECKED:
            return False
        return samples > (self.longest() if longest is None else longest)

    def _warn_of_windows(self, item: _Pending) -> None:
        if not self._warned_of_windows:
            logger.warning("%s: %s; later ones are noted in their results alone", item.name, item.note)
        self._warned_of_windows = True

    def _is_long(self, group: _Group, features: list[Tensor]) -> bool:
        """Return whether a batch with one more utterance would hold too much padded audio."""
        longest = max(len(features[0]), *(len(others[0]) for _, others in group))
        return longest * (len(group) + 1) * self.about.frame_shift > BATCH_SECONDS

    def _predict(self, group: _Group, attention: bool) -> None:
        """Compute a batch, and add each prediction to its utterance."""
        names = [item.name for item, _ in group]
        found = [
            member.predict([features[number] for _, features in group], names, attention)
            for number, member in enumerate(self._members)
        ]
        for (item, _), *predictions in zip(group, *found, strict=True):
            prediction = mean_of(predictions)
            values = [*prediction.probabilities.values(), *prediction.dimensions.values()]
            if not all(map(math.isfinite, values)):
                item.error = item.error or AudioError(f"{item.name}: the head's answer is not finite")
            item.predictions.append(prediction)


def load_predictor(arguments: Sequence[ModelArguments], quiet: bool = False) -> Predictor:
    """Load a trained head and its upstream from a checkpoint, or those of an ensemble, without their corpora.

    Args:
        arguments: of each model: the checkpoint, and where its upstream is now
        quiet: send what an upstream prints to standard error, since standard output holds a command's results

    Raises:
        CheckpointError: a checkpoint is missing, damaged, of another kind, or its head needs more than audio
        UsageError: the device does not exist, an upstream cannot be found or built, or the models do not predict the
            same
    """
    host.register()  # before the import: s3prl must be patched before its runner can be imported
    from s3prl_emotion.predict.model import restore

    upstreams, models = SharedUpstreams(), []
    with redirect_stdout(sys.stderr) if quiet else nullcontext():
        for wanted in arguments:
            models.append(restore(wanted))
            if len(arguments) > 1:
                upstreams.join(models[-1])
        predictor = Predictor(models)
    if multiprocessing.parent_process() is None:  # else that one says it
        for name in predictor.of_unknown_training:
            logger.warning("%s: %s", name, NOT_KNOWN)
    return predictor
