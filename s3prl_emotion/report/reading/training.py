"""Read what a run left of its training: learning curves, learned layer weights, and layer saliency."""

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
from s3prl_emotion.files.locate import counted_checkpoint
from s3prl_emotion.report.reading.study import RunResult, expert_section

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
CURVES = re.compile(r"train-loss|dev-.+")  # follows the fold in a tag: emotion-fold1/dev-mean_CCC
RECORD = struct.Struct("<QI")  # a record's length and that length's checksum
CHECKSUM = 4  # bytes after a record
MOST_POINTS = 200  # points of a curve that are drawn


@dataclass(frozen=True)
class Curve:
    """A value over training: ascending ``steps [P]`` and their ``values [P]``."""

    steps: NDArray[np.int64]
    values: Array


@dataclass(frozen=True)
class LayerSaliency:
    """Saliency of the layers of an upstream; Mitra et al. 2025, eq. 3.

    Attributes:
        layers: layer numbers, ``[L]``
        scores: saliency ``[L]`` by target, and their ``mean``
        best: number of the most salient layer
        method: ``ccs`` or ``mis``
    """

    layers: tuple[int, ...]
    scores: dict[str, Array]
    best: int
    method: str


def learning_curves(expdir: Path, fold: str) -> dict[str, Curve]:
    """Read a run's learning curves from its tensorboard files: ``train-loss``, ``dev-loss`` and the other dev values.

    A resumed run has several files; of a step that was run twice the later value counts, as it does for the weights.
    A file that a killed process left incomplete is read up to its last whole record.

    Args:
        expdir: experiment directory of the run
        fold: fold that the run tested

    Returns:
        curves by name, empty where there are no files
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboardX.proto.event_pb2 import Event

    points: dict[str, dict[int, float]] = {}
    for path in sorted(expdir.glob("events.out.tfevents.*")):
        try:
            for record in _records(path.read_bytes()):
                event = Event.FromString(record)
                for value in event.summary.value:
                    where, _, name = value.tag.rpartition("/")
                    if where == f"emotion-{fold}" and CURVES.fullmatch(name) and np.isfinite(value.simple_value):
                        points.setdefault(name, {})[event.step] = value.simple_value
        except (OSError, DecodeError) as error:
            logger.warning("%s: learning curves stop where the file cannot be read (%s)", path, error)
    return {name: _curve(values) for name, values in points.items()}


def learned_weights(run: RunResult) -> Array | None:
    """Return the layer weights that a run learned: softmax of the featurizer's, ``[L]``, sum 1.

    Metrics files hold them; for older files the best checkpoint beside them is read, which takes longer.

    Args:
        run: a run with at least one split

    Returns:
        the weights, or ``None`` where the run used one layer, the upstream has one, or the checkpoint is gone
    """
    split = next(iter(run.splits.values()))
    if "layer_weights" in split.metrics:
        values = np.array(split.metrics["layer_weights"] or [], dtype=np.float64)
    else:
        values = _weights_of_checkpoint(run, counted_checkpoint(split.predictions.parent))
    return values if len(values) > 1 and np.isfinite(values).all() else None


def _weights_of_checkpoint(run: RunResult, path: Path) -> Array:
    """Return the weights ``[L]``, or ``[0]`` where there is nothing to read."""
    nothing = np.zeros(0)
    if (run.upstream_options or {}).get("upstream_layer_selection") is not None or not path.is_file():
        return nothing
    from s3prl_emotion.files.checkpoint import load_checkpoint

    try:
        featurizer = load_checkpoint(path, mmap=True).get("Featurizer") or {}
    except CheckpointError as error:
        logger.warning("layer weights of a run are not shown: %s", error)
        return nothing
    raw = featurizer.get("weights")
    return nothing if raw is None else raw.double().reshape(-1).softmax(dim=0).numpy()


def layer_saliency(paths: Iterable[Path]) -> list[LayerSaliency]:
    """Read the layer saliency of saliency files; files of a single layer or of principal components have none.

    Args:
        paths: ``.safetensors`` files; repeated ones are read once, missing and foreign ones skipped with a warning
    """
    from s3prl_emotion.upstreams.saliency_file import SaliencyFile

    saliency = []
    for path in dict.fromkeys(paths):
        try:
            file = SaliencyFile.read(path)
        except ConfigError as error:
            logger.warning("saliency of layers is not shown: %s", error)
            continue
        if file.method == "pca" or len(file.layers) < 2:
            continue
        each = zip(file.header.targets, file.layer_scores(per_target=True), strict=True)
        scores = {name: values.numpy() for name, values in each} | {"mean": file.layer_scores().numpy()}
        saliency.append(LayerSaliency(tuple(file.layers), scores, file.salient_layer(), file.method))
    return saliency


def saliency_paths(config: Any, folder: Path | None) -> list[Path]:
    """Return the paths of the saliency files that a run's recipe names.

    Args:
        config: the recipe, as a metrics file has it
        folder: the benchmark's directory; if it has been moved since, files are looked for in its ``prepared``
    """
    section = expert_section(config)
    modelrc = section.get("modelrc")
    saliency = modelrc.get("saliency") if isinstance(modelrc, dict) else None
    named = [section.get("layer_file"), saliency.get("file") if isinstance(saliency, dict) else None]
    return [_moved(Path(str(name)).expanduser(), folder) for name in named if name]


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Return the mean over runs at the steps that all of them have, or ``None`` where these are fewer than two.

    Early stopping ends runs at different steps. The mean ends with the first of them: over the remaining runs it would
    jump, since it would be the mean of other runs.
    """
    common = set(curves[0].steps.tolist()).intersection(*(curve.steps.tolist() for curve in curves[1:]))
    if len(common) < 2:
        return None
    steps = np.array(sorted(common))
    return Curve(steps, np.mean([curve.values[np.isin(curve.steps, steps)] for curve in curves], axis=0))


def thinned(curve: Curve) -> Curve:
    """Return at most :data:`MOST_POINTS` evenly chosen points of a curve, its first and last among them."""
    if len(curve.steps) <= MOST_POINTS:
        return curve
    chosen = np.unique(np.linspace(0, len(curve.steps) - 1, MOST_POINTS).round().astype(int))
    return Curve(curve.steps[chosen], curve.values[chosen])


def _records(data: bytes) -> Iterable[bytes]:
    """Yield the whole records of a tensorboard file."""
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
    """Return where a file of a benchmark lies after its directory was moved to ``folder``."""
    parts = path.parts
    if path.is_file() or folder is None or "prepared" not in parts:
        return path
    last = len(parts) - 1 - parts[::-1].index("prepared")
    return folder.joinpath(*parts[last:])
