"""The predictor: waveforms in, what the head says of them out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.predict.answers import Judgement, Prediction, Window, averaged
from s3prl_emotion.predict.waveforms import as_waveform, plain
from s3prl_emotion.predict.windows import Windows

if TYPE_CHECKING:
    from s3prl_emotion.predict.model import TrainedModel

BATCH_SIZE = 8
BATCH_SECONDS = 600.0  # padded audio that the head sees at once
Utterance = tuple[str, "NDArray[np.float32] | AudioError"]  # name, and waveform [N] at 16 kHz or why there is none


@dataclass(frozen=True)
class About:
    """What a checkpoint is.

    Attributes:
        checkpoint: its file
        head: ``-d``
        upstream: ``-u``
        classes: in the order of the outputs; empty where the head learns none
        dimensions: names of the numbers that the head gives; empty where it gives none
        attends: whether the head weighs frames
        step: of training
        frame_shift: from one frame to the next (s)
    """

    checkpoint: str
    head: str
    upstream: str
    classes: tuple[str, ...]
    dimensions: tuple[str, ...]
    attends: bool
    step: int | None
    frame_shift: float


@dataclass
class _Open:
    """An utterance that is not judged to its end."""

    name: str
    samples: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    judged: list[Judgement] = field(default_factory=list)
    error: AudioError | None = None

    def is_done(self) -> bool:
        return self.error is not None or len(self.judged) == len(self.spans)

    def result(self, windowed: bool) -> Prediction | AudioError:
        if self.error is not None:
            return self.error
        duration = self.samples / SAMPLE_RATE
        if not windowed:
            return Prediction(**vars(self.judged[0]), duration=duration)
        seconds = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in self.spans]
        return averaged(
            [Window(*times, judgement) for times, judgement in zip(seconds, self.judged, strict=True)], duration
        )


_Group = list[tuple[_Open, Tensor]]


class Predictor:
    """A trained head with its upstream.

    The upstream sees each utterance, or each window of one, alone; the head sees up to ``batch_size`` at once, with
    padding that no result depends on. So results are those of ``run_downstream.py -m inference``, whatever is beside.

    Attributes:
        about: what the checkpoint is
        rate: at which the upstream takes audio (Hz); other rates are resampled
    """

    rate = SAMPLE_RATE

    def __init__(self, model: TrainedModel) -> None:
        self._model = model
        self._expert = expert = model.downstream.model
        modelrc = type(expert).model_section.read(model.config["downstream_expert"].get("modelrc") or {}, "modelrc")
        self.about = About(
            checkpoint=model.args.init_ckpt,
            head=model.args.downstream,
            upstream=model.args.upstream,
            classes=expert.learnt_classes,
            dimensions=expert.learnt_dimensions,
            attends=expert.has_attention(modelrc),
            step=model.step,
            frame_shift=model.featurizer.model.downsample_rate / SAMPLE_RATE,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the outputs; empty where the head learns none."""
        return self.about.classes

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the numbers that the head gives; empty where it gives none."""
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
    def label_moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each dimension's labels in training, on the corpus's scale; may be empty."""
        return self._expert.label_moments

    def predict(self, waveform: ArrayLike | Tensor, rate: int = SAMPLE_RATE, **options: Any) -> Prediction:
        """Judge one waveform.

        Args:
            waveform: ``[N]`` or ``[N, C]``, floats in [-1, 1]; channels are averaged
            rate: Hz; what is not 16 kHz is resampled
            options: as of :meth:`predict_batch`

        Raises:
            AudioError: no samples, NaN, too short for the upstream
            UsageError: not a waveform; windows or attention that cannot be
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
        """Judge waveforms; each result is what :meth:`predict` gives.

        Args:
            waveforms: each as of :meth:`predict`
            rate: of all of them (Hz)
            window: take them apart into windows of so many s
            hop: from one window to the next (s), half a window by default
            attention: give the frames' weights too
            batch_size: utterances or windows that the head sees at once

        Raises:
            AudioError: names the first waveform that cannot be judged by its number, from 0
            UsageError: not a waveform; windows or attention that cannot be
        """
        utterances = ((f"waveform {n}", as_waveform(item, rate, f"waveform {n}")) for n, item in enumerate(waveforms))
        found = []
        for result in self.stream(utterances, Windows.read(window, hop), attention, batch_size):
            if isinstance(result, AudioError):
                raise result
            found.append(result)
        return found

    def stream(
        self,
        utterances: Iterable[Utterance],
        windows: Windows | None = None,
        attention: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Prediction | AudioError]:
        """Judge utterances one after the other, with no more than a batch of them in memory.

        Args:
            utterances: name, and waveform ``[N]`` at 16 kHz or the error that comes in its place
            windows: take them apart
            attention: give the frames' weights too
            batch_size: utterances or windows that the head sees at once

        Yields:
            in the order of the utterances what the head says, or why it cannot

        Raises:
            UsageError: the head weighs no frames, or ``batch_size`` is below 1
        """
        if batch_size < 1:
            raise UsageError(f"--batch_size {batch_size}: must be 1 or more")
        if attention and not self.about.attends:
            raise UsageError(f"--attention: {self.head} as it was trained weighs no frames; leave it out")
        waiting: deque[_Open] = deque()
        group: _Group = []
        for name, waveform in utterances:
            item = _Open(name)
            waiting.append(item)
            for feature in self._features(item, waveform, windows):
                if group and (len(group) >= batch_size or self._is_long(group, feature)):
                    self._judge(group, attention)
                    group = []
                group.append((item, feature))
            while waiting and waiting[0].is_done():
                yield waiting.popleft().result(windows is not None)
        if group:
            self._judge(group, attention)
        for item in waiting:
            yield item.result(windows is not None)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _features(
        self, item: _Open, waveform: NDArray[np.float32] | AudioError, windows: Windows | None
    ) -> Iterator[Tensor]:
        """Features ``[T, D]`` of each window of an utterance; ends at the first that fails, which ``item`` notes."""
        if isinstance(waveform, AudioError):
            item.error = plain(waveform)
            return
        item.samples = len(waveform)
        item.spans = windows.spans(len(waveform)) if windows else [(0, len(waveform))]
        whole = torch.from_numpy(np.ascontiguousarray(waveform))
        for start, end in item.spans:
            try:
                feature = self._model.frames(whole[start:end], item.name)
            except AudioError as error:
                item.error = plain(error)
                return
            yield feature

    def _is_long(self, group: _Group, feature: Tensor) -> bool:
        """Whether a batch with one more would hold too much padded audio."""
        longest = max(len(feature), *(len(other) for _, other in group))
        return longest * (len(group) + 1) * self.about.frame_shift > BATCH_SECONDS

    def _judge(self, group: _Group, attention: bool) -> None:
        """Let the head judge a batch, and note in each utterance what it said."""
        expert, features = self._expert, [feature for _, feature in group]
        names = [item.name for item, _ in group]
        with torch.no_grad():
            output = expert.model(*expert.inputs(None, features, names))
        weights = expert.attention_weights(features, names) if attention else [None] * len(group)
        for (item, _), answer, weight in zip(group, expert.describe(output), weights, strict=True):
            if not all(map(math.isfinite, answer.values())):
                item.error = item.error or AudioError(f"{item.name}: the head's answer is not finite")
            item.judged.append(
                Judgement(
                    probabilities={name: answer[name] for name in self.classes},
                    dimensions={name: answer[name] for name in self.dimensions},
                    attention=weight,
                )
            )


def load(
    ckpt: str | Path,
    device: str | None = None,
    upstream_ckpt: str | None = None,
    upstream_model_config: str | None = None,
    upstream_path: str | None = None,
) -> Predictor:
    """Load a trained head and its upstream from a checkpoint, without its corpus; see :func:`s3prl_emotion.load`."""
    host.register()  # ahead of the import: s3prl's runner cannot be imported before it is mended
    from s3prl_emotion.predict.model import restore

    return Predictor(restore(ckpt, device, upstream_ckpt, upstream_model_config, upstream_path))
