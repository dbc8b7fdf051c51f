"""Tools for tests of the feature store: fake upstreams, sources of their features, damage to files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import tone
from numpy.typing import NDArray

import s3prl_emotion
from s3prl_emotion.host import ADAPTERS
from s3prl_emotion.store import FeatureStore, Identity
from s3prl_emotion.upstreams.featurizer import Featurizer
from s3prl_emotion.upstreams.source import UpstreamSource, UpstreamSpec

FAKES = Path(__file__).parent / "fake_upstreams"
FRAME = 160  # samples
ENTRY = struct.Struct("<16s16sQQIIIIQQ")  # of the format: key, checksum, offset, bytes, L, T, D, dtype, samples, …
MAGIC = 8  # bytes


def fake(name: str = "fake_layers", **options: Any) -> torch.nn.Module:
    """Build a frozen fake upstream of ``fake_upstreams``."""
    s3prl_emotion.register()
    ADAPTERS.register_folder(FAKES)
    import s3prl.hub

    return getattr(s3prl.hub, name)(model_config=options).eval()


def features_of(waveform: NDArray[np.floating[Any]], layers: int = 4, dim: int = 6, seed: int = 0) -> torch.Tensor:
    """Compute the layers ``[L, T, D]`` of a fake upstream from the definition, float64."""
    weights = torch.randn((layers, FRAME, dim), generator=torch.Generator().manual_seed(seed)).double().numpy()
    frames = [waveform[start : start + FRAME] for start in range(0, len(waveform) - FRAME + 1, FRAME)]
    frames = frames or [np.pad(waveform, (0, FRAME - len(waveform)))]
    offset = np.linspace(-1, 1, dim)
    stack = [[np.tanh(10 * frame.astype(np.float64) @ weight) + offset for frame in frames] for weight in weights]
    return torch.from_numpy(np.asarray(stack))


def speech(count: int = 6) -> list[torch.Tensor]:
    """Return waveforms of similar, but different lengths."""
    return [torch.from_numpy(tone(100.0 + 30 * number, 0.1 + 0.037 * number, number)) for number in range(count)]


def source_of(
    folder: Path | None,
    upstream: torch.nn.Module | None = None,
    *,
    layer: int | None = None,
    selection: str = "hidden_states",
    **options: Any,
) -> UpstreamSource:
    """Return a source of features of a fake upstream, with a store in ``folder``."""
    upstream = fake() if upstream is None else upstream
    featurizer = Featurizer(
        upstream=upstream, feature_selection=selection, layer_selection=layer, upstream_device="cpu"
    )
    return UpstreamSource(upstream, featurizer, UpstreamSpec("fake_layers"), "cpu", folder=folder, **options)


def identity(**changes: Any) -> Identity:
    """Return the identity of an imaginary upstream."""
    return Identity({"upstream": "up", "dtype": "float32", "layer": None, "batched": False, **changes})


def record(number: int, frames: int = 7) -> tuple[bytes, torch.Tensor, int]:
    """Return key, stack ``[3, T, 5]`` and samples of an imaginary utterance."""
    stack = torch.randn(3, frames, 5, generator=torch.Generator().manual_seed(number))
    return bytes([number]) * 16, stack, 160 * frames + number


def filled(folder: Path, count: int = 6) -> FeatureStore:
    """Write ``count`` records to a store, and close it."""
    store = FeatureStore(folder, identity())
    for number in range(count):
        store.put(*record(number, frames=4 + 3 * number))
    store.close()
    return store


def segment_of(folder: Path) -> tuple[Path, Path]:
    """Return the payload and index of the only segment in a store."""
    (payload,), (index,) = folder.glob("*/*.features"), folder.glob("*/*.index")
    return payload, index


def places(index: Path) -> list[tuple[int, int]]:
    """Return the offset and bytes of each payload in an index."""
    return [fields[2:4] for fields in ENTRY.iter_unpack(index.read_bytes()[MAGIC:])]


def flip(path: Path, offset: int, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)
