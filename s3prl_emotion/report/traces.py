"""What runs leave beside their metrics: learning curves, learned weights of layers, and layers' saliency."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import CheckpointError, ConfigError
from s3prl_emotion.report.study import RunResult

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
BEST = "dev-best.ckpt"
NAMES = re.compile(r"train-loss|dev-.+")  # behind the fold in a tag: emotion-fold1/dev-mean_CCC
RECORD = struct.Struct("<QI")  # a record's length and that length's checksum
CHECKSUM = 4  # bytes behind a record
STEPS = 200  # of a curve that are drawn


@dataclass(frozen=True)
class Curve:
    """A value over training: ``steps [P]`` ascending, ``values [P]``."""

    steps: NDArray[np.int64]
    values: Array


@dataclass(frozen=True)
class LayerSaliency:
    """Saliency of layers; Mitra et al. 2025, eq. 3.

    Attributes:
        layers: numbers, ``[L]``
        scores: by target and ``mean``, ``[L]`` each
        best: number of the most salient layer
        method: ccs or mis
    """

    layers: tuple[int, ...]
    scores: dict[str, Array]
    best: int
    method: str


def learning_curves(expdir: Path, fold: str) -> dict[str, Curve]:
    """Read a run's curves from its tensorboard files: ``train-loss``, ``dev-loss`` and what else is logged of dev.

    A resumed run has several files; of a step that was made twice the later one counts, as in the weights. A file
    whose end is torn, as by a killed process, is read up to there.

    Args:
        expdir: of the run
        fold: that the run tested

    Returns:
        curves by name, empty where there are no files
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(expdir.glob("events.out.tfevents.*")):
        try:
            for record in _records(path.read_bytes()):
                event = Event.FromString(record)
                for value in event.summary.value:
                    where, _, name = value.tag.rpartition("/")
                    if where == f"emotion-{fold}" and NAMES.fullmatch(name) and np.isfinite(value.simple_value):
                        found.setdefault(name, {})[event.step] = value.simple_value
        except (OSError, DecodeError) as error:
            logger.warning("%s: learning curves end where it cannot be read (%s)", path, error)
    return {name: _curve(points) for name, points in found.items()}


def learned_weights(run: RunResult) -> Array | None:
    """Weights of a run's layers, softmax of the featurizer's, ``[L]``, sum 1.

    Metrics files hold them; of older ones the best checkpoint beside them is read, which takes longer.

    Args:
        run: that has a split

    Returns:
        ``None`` where one layer was taken, the upstream has one, or there is no checkpoint any more
    """
    split = next(iter(run.splits.values()))
    if "layer_weights" in split.metrics:
        values = np.array(split.metrics["layer_weights"] or [], dtype=np.float64)
    else:
        values = _weights_of_checkpoint(run, split.predictions.with_name(BEST))
    return values if len(values) > 1 and np.isfinite(values).all() else None


def _weights_of_checkpoint(run: RunResult, path: Path) -> Array:
    """``[L]``, or ``[0]`` where there is nothing to read."""
    nothing = np.zeros(0)
    if (run.upstream_options or {}).get("upstream_layer_selection") is not None or not path.is_file():
        return nothing
    from s3prl_emotion.files.checkpoint import load_checkpoint

    try:
        featurizer = load_checkpoint(path, mmap=True).get("Featurizer") or {}
    except CheckpointError as error:
        logger.warning("no weights of layers are shown of a run: %s", error)
        return nothing
    raw = featurizer.get("weights")
    return nothing if raw is None else raw.double().reshape(-1).softmax(dim=0).numpy()


def layer_saliency(paths: Iterable[Path]) -> list[LayerSaliency]:
    """Read what saliency files say of layers; those of one layer and of components say nothing.

    Args:
        paths: ``.safetensors`` files, each counted once; what is not there or no saliency file is warned of
    """
    from s3prl_emotion.upstreams.saliency_file import SaliencyFile

    found = []
    for path in dict.fromkeys(paths):
        try:
            file = SaliencyFile.read(path)
        except ConfigError as error:
            logger.warning("no saliency of layers is shown of it: %s", error)
            continue
        if file.method == "pca" or len(file.layers) < 2:
            continue
        each = zip(file.header.targets, file.layer_scores(per_target=True), strict=True)
        scores = {name: values.numpy() for name, values in each} | {"mean": file.layer_scores().numpy()}
        found.append(LayerSaliency(tuple(file.layers), scores, file.salient_layer(), file.method))
    return found


def saliency_paths(config: Any, folder: Path | None) -> list[Path]:
    """Saliency files that a run's recipe names.

    Args:
        config: of a metrics file
        folder: the benchmark's directory; where it has been moved since, files are looked for in its ``prepared``
    """
    section = config.get("downstream_expert") if isinstance(config, dict) else None
    section = section if isinstance(section, dict) else {}
    modelrc = section.get("modelrc")
    saliency = modelrc.get("saliency") if isinstance(modelrc, dict) else None
    named = [section.get("layer_file"), saliency.get("file") if isinstance(saliency, dict) else None]
    return [_moved(Path(str(name)).expanduser(), folder) for name in named if name]


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Mean over runs at the steps that all of them have, or ``None`` where these are fewer than two.

    With early stopping runs end apart: the mean ends with the first of them, since one over those that are left would
    tell of other runs.
    """
    common = set(curves[0].steps.tolist()).intersection(*(curve.steps.tolist() for curve in curves[1:]))
    if len(common) < 2:
        return None
    steps = np.array(sorted(common))
    return Curve(steps, np.mean([curve.values[np.isin(curve.steps, steps)] for curve in curves], axis=0))


def thinned(curve: Curve) -> Curve:
    """At most :data:`STEPS` points, evenly chosen, first and last among them."""
    if len(curve.steps) <= STEPS:
        return curve
    chosen = np.unique(np.linspace(0, len(curve.steps) - 1, STEPS).round().astype(int))
    return Curve(curve.steps[chosen], curve.values[chosen])


def _records(data: bytes) -> Iterable[bytes]:
    """Whole records of a tensorboard file."""
    place = 0
    while place + RECORD.size <= len(data):
        length, _ = RECORD.unpack_from(data, place)
        begin, place = place + RECORD.size, place + RECORD.size + length + CHECKSUM
        if place > len(data):
            return
        yield data[begin : begin + length]


def _curve(points: dict[int, float]) -> Curve:
    steps = sorted(points)
    return Curve(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps]))


def _moved(path: Path, folder: Path | None) -> Path:
    parts = path.parts
    if path.is_file() or folder is None or "prepared" not in parts:
        return path
    last = len(parts) - 1 - parts[::-1].index("prepared")
    return folder.joinpath(*parts[last:])
