"""Patch what keeps s3prl 0.4.18 from running on today's torchaudio and huggingface_hub.

s3prl 0.4.18 was written for torchaudio < 2.9 and huggingface_hub < 1. No file of it is edited: what is missing is added
to the running process, and only where it is missing. ``s3prl-emotion doctor`` lists the patches.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import UsageError

PATCHED: list[str] = []
"""One line for each patch of this process: what was added, and why."""


def patch() -> None:
    """Add what s3prl 0.4.18 expects of its libraries and today's versions lack; once per process."""
    if PATCHED:
        return
    import huggingface_hub
    import torchaudio

    if not hasattr(torchaudio, "set_audio_backend"):
        _add(torchaudio, "set_audio_backend", lambda backend: None, "was removed; soundfile decodes whatever is set")
    if importlib.util.find_spec("torchaudio.sox_effects") is None:
        _add_module("torchaudio.sox_effects", ("apply_effects_file", "apply_effects_tensor"))
    if not hasattr(torchaudio, "info") or _decodes_by_torchcodec(torchaudio):
        _add(torchaudio, "load", soundfile_load, "needs torchcodec, which is not installed; soundfile decodes instead")
        _add(torchaudio, "info", soundfile_info, "was removed; soundfile reads the header instead")
    for name in ("HfFolder", "Repository"):
        if not hasattr(huggingface_hub, name):
            _add(huggingface_hub, name, _unavailable(name, "huggingface_hub < 1"), "was removed; raises when used")


def soundfile_load(
    uri: Any,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
    buffer_size: int = 4096,
    backend: str | None = None,
) -> tuple[Any, int]:
    """Read audio as ``torchaudio.load`` does: float32 ``[C, N]`` (``[N, C]`` unless ``channels_first``), rate in Hz."""
    import numpy as np
    import torch

    from s3prl_emotion.audio import opened

    with opened(uri) as sound:
        samples = sound.read(frame_offset, None if num_frames < 0 else frame_offset + num_frames)
        rate = sound.rate
    if not normalize:
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    waveform = torch.from_numpy(samples)
    return (waveform.t().contiguous() if channels_first else waveform), rate


def soundfile_info(uri: Any, format: str | None = None, buffer_size: int = 4096, backend: str | None = None) -> Any:
    """Read a header as ``torchaudio.info`` does: ``sample_rate`` (Hz), ``num_frames`` and ``num_channels``."""
    from types import SimpleNamespace

    from s3prl_emotion.audio import header

    found = header(uri)
    return SimpleNamespace(sample_rate=found.rate, num_frames=found.frames, num_channels=found.channels)


def _decodes_by_torchcodec(torchaudio: ModuleType) -> bool:
    return hasattr(torchaudio, "load_with_torchcodec") and importlib.util.find_spec("torchcodec") is None


def _add(module: ModuleType, name: str, value: Any, why: str) -> None:
    setattr(module, name, value)
    PATCHED.append(f"{module.__name__}.{name}: {why}")


def _add_module(name: str, functions: tuple[str, ...]) -> None:
    module = ModuleType(name)
    for function in functions:
        setattr(module, function, _unavailable(f"{name}.{function}", "torchaudio < 2.9"))
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)
    PATCHED.append(f"{name}: was removed; can be imported, raises when used")


def _unavailable(name: str, needs: str) -> Any:
    class Unavailable:
        """Stand in for what a library dropped: can be imported, not used."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise UsageError(f"{name} is gone from this version of its library; this task of s3prl needs {needs}")

        def __getattr__(self, attribute: str) -> Any:
            raise UsageError(f"{name} is gone from this version of its library; this task of s3prl needs {needs}")

    Unavailable.__name__ = Unavailable.__qualname__ = name.rpartition(".")[2]
    return Unavailable
