"""Read and write the format of saliency files: safetensors with metadata as JSON under :data:`KEY`.

Tensors of ``ccs`` and ``mis`` (L layers, D targets, N dimensions): ``scores [L, D, N]``, eq. 1 of each target; ``mean
[L, N]``, eq. 3; ``ranks [L, N]``, 0 for the most salient (of several streams: of its stream, unless ``ranking`` is
``across``). Of ``pca``: ``pca_mean [L, N]``, ``pca_components [L, N, N]``
(rows by falling variance) and ``pca_variance [L, N]``. Values are float32: smaller differences are rounding, and equal
scores are ranked in the order of the dimensions, so that files are the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from s3prl_emotion.corpora.fingerprint import TrainingSplit
from s3prl_emotion.errors import ConfigError, StoreError
from s3prl_emotion.files.writing import write_bytes
from s3prl_emotion.store.segments import raw_bytes
from s3prl_emotion.upstreams.streams import Stream

FORMAT = 1
STREAMS_FORMAT = 2  # of files that say which streams their dimensions belong to
KEY = "s3prl_emotion_saliency"


class Header(BaseModel):
    """Metadata of a saliency file.

    Attributes:
        format: version of the format
        method: ccs, mis or pca
        targets: names, ``[D]``: dimensions or classes; pca does not use them
        layers: numbers of the layers, ``[L]``, from 0
        available: number of layers of the upstream, ``None`` if unknown
        dims: N
        upstream: values of its identity, see :func:`~s3prl_emotion.store.identity.identify`
        training: fingerprint of the training split
        fold: its fold
        recipe: SHA-256 of the recipe
        command: command line that computed it
        device: type of the device that computed
        versions: of Python and of packages
        checksum: of the tensors
        streams: of dimensions side by side; empty for a single one, and in files of format 1
        ranking: whether saliency is computed and dimensions are ranked within each stream or across all
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: int = FORMAT
    method: Literal["ccs", "mis", "pca"]
    targets: tuple[str, ...]
    layers: tuple[int, ...]
    available: int | None
    dims: int
    upstream: dict[str, Any]
    training: TrainingSplit
    fold: str
    recipe: str
    command: str
    device: str
    versions: dict[str, str]
    checksum: str = ""
    streams: tuple[Stream, ...] = ()
    ranking: Literal["within", "across"] = "within"

    @property
    def stream_sizes(self) -> list[int]:
        """Numbers of dimensions that are ranked together: of each stream, or of all."""
        return [item.dims for item in self.streams] if self.streams and self.ranking == "within" else [self.dims]


def read_saliency(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read and check a file.

    Raises:
        ConfigError: missing, damaged, of another kind or of an unknown format
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such saliency file; make it with s3prl-emotion saliency --out {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: damaged, or not a saliency file ({' '.join(str(error).split())}); make it again with "
            "s3prl-emotion saliency"
        ) from error
    if text is None:
        raise ConfigError(f"{path}: safetensors, but not a saliency file; make one with s3prl-emotion saliency")
    header = _read_header(path, text)
    if _shapes(header) != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise ConfigError(f"{path}: damaged: its tensors do not match its header; make it again")
    if checksum(tensors) != header.checksum:
        raise ConfigError(f"{path}: damaged: its checksum differs; make it again")
    return header, tensors


def write_saliency(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write a file whole or not at all; equal content gives equal bytes.

    Raises:
        StoreError: it cannot be written; an older file is unchanged
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    number = STREAMS_FORMAT if header.streams else header.format
    header = header.model_copy(update={"checksum": checksum(tensors), "format": number})
    values = header.model_dump(exclude=set() if header.streams else {"streams", "ranking"})
    text = json.dumps(values, sort_keys=True)  # pydantic would write NaN as null
    write_bytes(path, save(tensors, metadata={KEY: text}), StoreError)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of names, types, shapes and values."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor.contiguous()))
    return digest.hexdigest()


def _read_header(path: Path, text: str) -> Header:
    try:
        version = json.loads(text)["format"]
        header = Header.model_validate_json(text) if version in (FORMAT, STREAMS_FORMAT) else None
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: damaged: its header is not readable; make it again") from error
    if header is not None and header.streams and sum(item.dims for item in header.streams) != header.dims:
        raise ConfigError(f"{path}: damaged: its streams do not match its dimensions; make it again")
    if header is None:
        raise ConfigError(f"{path}: format {version} is not known here; upgrade s3prl-emotion, or make it again")
    return header


def _shapes(header: Header) -> dict[str, tuple[int, ...]]:
    layers, dims = len(header.layers), header.dims
    if header.method == "pca":
        return {"pca_mean": (layers, dims), "pca_components": (layers, dims, dims), "pca_variance": (layers, dims)}
    return {"scores": (layers, len(header.targets), dims), "mean": (layers, dims), "ranks": (layers, dims)}
