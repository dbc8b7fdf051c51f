"""Write features of a corpus to one npz file, for use outside of s3prl, with bounded memory."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.corpora import Corpus
from s3prl_emotion.errors import AudioError, CheckpointError, StoreError
from s3prl_emotion.extract.filling import all_utterances
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.outputs import check_file
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.structure import check_arguments
from s3prl_emotion.files.values import check_values
from s3prl_emotion.files.writing import writing
from s3prl_emotion.loading.dataset import UtteranceDataset
from s3prl_emotion.masking import guarded_sqrt
from s3prl_emotion.upstreams.source import UpstreamSource

POOLINGS = ("mean", "mean_std", "frames")


def export(source: UpstreamSource, corpus: Corpus, path: Path, pooling: str, ckpt: str | None = None) -> int:
    """Write features of every utterance.

    Arrays of the file: ``names [U]``, ``classes [U]``, ``speakers [U]``; and ``features``, pooled over time,
    ``[U, L, D]`` (``[U, D]`` where one layer is selected or layers are summed), or by frame
    ``features/<name> [L, T, D]`` (``[T, D]``).

    Args:
        source: upstream and, if any, store
        corpus: of the utterances
        path: the npz file
        pooling: mean, mean_std (``[..., 2D]``, population standard deviation) or frames
        ckpt: checkpoint whose learned weights sum the layers; ``None``: layers are not summed

    Returns:
        number of utterances

    Raises:
        StoreError: the file cannot be written
        CheckpointError: the checkpoint has no layer weights for this upstream
        AudioError: the upstream returns no frame of an utterance
    """
    check_file(path, "", StoreError)
    if ckpt is not None:
        _load_weights(source, ckpt)
    if pooling == "mean":
        source.keep_means()
    source.memory.remedy = "cut the file, or leave it out of the labels"
    utterances = all_utterances(corpus)
    dataset = UtteranceDataset(utterances, pre_load=False, max_duration=None)
    pooled: list[NDArray[np.float32]] = []
    with writing(path, StoreError) as target, zipfile.ZipFile(target, "w", allowZip64=True) as file:
        for waveform, _, name in progress(dataset, "export", "utterances"):
            if pooling == "mean":
                mean = next(source.means([torch.from_numpy(waveform)], [name]))
                pooled.append(_of_layers(source, mean, ckpt is not None).cpu().numpy())
                continue
            stack = next(source.stacks([torch.from_numpy(waveform)], [name]))
            if stack.shape[1] == 0:
                raise AudioError(f"{name}: too short for this upstream, which gives it no frame; leave it out")
            features = _pool(_layers(source, stack, ckpt is not None), pooling).cpu().numpy()
            if pooling == "frames":
                _write(file, f"features/{name}", features)
            else:
                pooled.append(features)
        if pooled:
            _write(file, "features", np.stack(pooled))
        for key, values in (
            ("names", [item.name for item in utterances]),
            ("classes", [corpus.classes[item.label] for item in utterances]),
            ("speakers", [item.speaker or "" for item in utterances]),
        ):
            _write(file, key, np.asarray(values, dtype=np.str_))
    return len(utterances)


def _of_layers(source: UpstreamSource, mean: Tensor, weighted: bool) -> Tensor:
    """Return means ``[D]`` of a single layer or of summed layers, else ``[L, D]``; float32."""
    if not weighted and len(mean) > 1:
        return mean
    with torch.no_grad():
        return source.featurizer.weigh_means(mean.unsqueeze(0).to(source.device))[0][0]


def _layers(source: UpstreamSource, stack: Tensor, weighted: bool) -> Tensor:
    """Return ``[T, D]`` of a single layer or of summed layers, else ``[L, T, D]``; float32."""
    if weighted or len(stack) == 1:
        with torch.no_grad():
            return source.featurizer.weigh(stack)
    return stack.float()


def _pool(features: Tensor, pooling: str) -> Tensor:
    """Pool ``[..., T, D]`` over time, except to the mean alone."""
    if pooling == "frames":
        return features
    mean = features.mean(dim=-2)
    return torch.cat([mean, guarded_sqrt(features.var(dim=-2, correction=0))], dim=-1)


def _load_weights(source: UpstreamSource, ckpt: str) -> None:
    state = load_checkpoint(ckpt)
    check_arguments(Path(ckpt), state["Args"])
    trained, weights = state["Args"], state.get("Featurizer")
    used = f"-u {trained.upstream} -s {trained.upstream_feature_selection}"
    here = f"-u {source.spec.name} -s {source.featurizer.feature_selection}"
    if used != here or not weights:
        raise CheckpointError(f"{ckpt}: holds no layer weights for {here} (it is of {used})")
    source.featurizer.normalize = trained.upstream_feature_normalize
    try:
        check_values(source.featurizer, weights, f"{ckpt}: its Featurizer")
        source.featurizer.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{ckpt}: its layer weights do not fit {here} with these options") from error


def _write(file: zipfile.ZipFile, name: str, values: NDArray[np.generic] | Sequence[str]) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
