"""Take inputs and give outputs as the audio classification pipelines of ``transformers`` do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from os import PathLike, fspath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE, load_audio
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.limits import shown
from s3prl_emotion.predict.prediction import Prediction
from s3prl_emotion.predict.waveforms import as_waveform, check_option, plain

Scores = list[dict[str, Any]]
SAMPLES = ("array", "raw")


class Predicts(Protocol):
    """What is needed of a :class:`~s3prl_emotion.predict.Predictor`."""

    def stream(self, utterances: Iterable[tuple[str, Any]], *, batch_size: int) -> Iterator[Prediction | AudioError]:
        """Predict utterances one after the other."""
        ...


def classify(predictor: Predicts, inputs: Any, top_k: int | None, batch_size: int) -> Any:
    """Classify one input or several; see :meth:`~s3prl_emotion.predict.Predictor.__call__`."""
    check_option("top_k", top_k, int, optional=True)
    check_option("batch_size", batch_size, int)
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k: {top_k} is no number of classes; pass 1 or more, or None for all")
    if _is_one(inputs):
        return next(_scores(predictor, [inputs], top_k, batch_size))
    if not isinstance(inputs, Iterable):
        raise UsageError(f"inputs: takes paths and waveforms, got {shown(inputs, 60)}; pass a path, or an array [N]")
    found = _scores(predictor, inputs, top_k, batch_size)
    return found if isinstance(inputs, Iterator) else list(found)


def _scores(predictor: Predicts, inputs: Iterable[Any], top_k: int | None, batch_size: int) -> Iterator[Scores]:
    utterances = (_utterance(item, f"input {number}") for number, item in enumerate(inputs))
    for result in predictor.stream(utterances, batch_size=batch_size):
        if isinstance(result, AudioError):
            raise result
        pairs = result.nbest(len(result.probabilities)) if result.probabilities else list(result.dimensions.items())
        yield [{"label": label, "score": score} for label, score in pairs[:top_k]]


def _is_one(inputs: Any) -> bool:
    """Return whether it is a single input rather than several."""
    if isinstance(inputs, (str, bytes, PathLike, Mapping)) or hasattr(inputs, "ndim"):
        return True
    return isinstance(inputs, (list, tuple)) and bool(inputs) and isinstance(inputs[0], Real)


def _utterance(item: Any, name: str) -> tuple[str, NDArray[np.float32]]:
    """Return the name of an input and its waveform ``[N]`` at 16 kHz.

    Raises:
        AudioError: it cannot be read, or has no samples
        UsageError: it is no input
    """
    if isinstance(item, (str, PathLike)):
        try:
            return fspath(item), load_audio(fspath(item))
        except AudioError as error:
            raise plain(error) from error
    if isinstance(item, Mapping):
        key = next((key for key in SAMPLES if item.get(key) is not None), None)
        if key is None or "sampling_rate" not in item:
            raise UsageError(
                f'{name}: a mapping must hold "array" (or "raw") and "sampling_rate", got {shown(list(item))}'
            )
        return name, as_waveform(item[key], item["sampling_rate"], name)
    return name, as_waveform(item, SAMPLE_RATE, name)
