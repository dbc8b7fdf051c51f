"""s3prl as the host: what is mended in it on today's stack, and how heads and adapters are added.

s3prl 0.4.18 was written for torchaudio < 2.9 and huggingface_hub < 1. Nothing of it is edited on disk; what is missing
is put in place in the running process, and only where it is missing. ``s3prl-emotion doctor`` lists what was mended.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import adapters_folder, heads_folder
from s3prl_emotion.host.adapters import (
    find_upstream,
    register_adapters,
    register_entry_points,
    register_search_path,
    upstream_names,
)

__all__ = [
    "MENDED", "downstream_names", "find_upstream", "launched", "mark_launched", "mend", "register",
    "register_adapters", "register_search_path", "soundfile_info", "soundfile_load", "upstream_names",
]  # fmt: skip
LAUNCHER_HINT = "s3prl-emotion's own run_downstream.py has both"
MENDED: list[str] = []
_state = {"launched": False, "registered": False}


def launched() -> bool:
    """Whether this process was started by the suite's own ``run_downstream.py``."""
    return _state["launched"]


def mark_launched() -> None:
    """Note that the suite's own ``run_downstream.py`` runs."""
    _state["launched"] = True


def register() -> None:
    """Mend the host, then add the suite's heads and adapters to it, and those of others; once per process.

    Raises:
        UsageError: ``S3PRL_UPSTREAM_PATH`` names no folder of adapters, or adapters clash by name
    """
    if _state["registered"]:
        return
    mend()
    downstream = importlib.import_module("s3prl.downstream")
    if str(heads_folder()) not in downstream.__path__:  # a clash of adapters may have stopped an earlier call
        downstream.__path__.append(str(heads_folder()))
    register_adapters(adapters_folder())
    register_entry_points()
    register_search_path()
    _state["registered"] = True


def downstream_names() -> list[str]:
    """Heads and tasks that ``-d`` knows: the suite's and the host's."""
    package = importlib.import_module("s3prl.downstream")
    return sorted({path.parent.name for folder in package.__path__ for path in Path(folder).glob("*/expert.py")})


def mend() -> None:
    """Put in place what s3prl 0.4.18 expects of its libraries and no longer finds there."""
    if MENDED:
        return
    import huggingface_hub
    import torchaudio

    if not hasattr(torchaudio, "set_audio_backend"):
        _put(
            torchaudio, "set_audio_backend", lambda backend: None, "no longer there; soundfile decodes whatever it says"
        )
    if importlib.util.find_spec("torchaudio.sox_effects") is None:
        _put_module("torchaudio.sox_effects", ("apply_effects_file", "apply_effects_tensor"))
    if not hasattr(torchaudio, "info") or _decodes_by_torchcodec(torchaudio):
        _put(torchaudio, "load", soundfile_load, "needs torchcodec, which is not installed; soundfile decodes instead")
        _put(torchaudio, "info", soundfile_info, "no longer there; soundfile reads the header instead")
    for name in ("HfFolder", "Repository"):
        if not hasattr(huggingface_hub, name):
            _put(huggingface_hub, name, _unavailable(name, "huggingface_hub < 1"), "no longer there; raises when used")


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
    """``torchaudio.load`` by soundfile: float32 ``[C, N]`` (``[N, C]`` unless ``channels_first``) and rate in Hz."""
    import soundfile
    import torch

    samples, rate = soundfile.read(
        uri, start=frame_offset, frames=num_frames, dtype="float32" if normalize else "int16", always_2d=True
    )
    waveform = torch.from_numpy(samples)
    return (waveform.t().contiguous() if channels_first else waveform), rate


def soundfile_info(uri: Any, format: str | None = None, buffer_size: int = 4096, backend: str | None = None) -> Any:
    """``torchaudio.info`` by soundfile: an object with ``sample_rate`` (Hz), ``num_frames`` and ``num_channels``."""
    from types import SimpleNamespace

    import soundfile

    header = soundfile.info(uri)
    return SimpleNamespace(sample_rate=header.samplerate, num_frames=header.frames, num_channels=header.channels)


def _decodes_by_torchcodec(torchaudio: ModuleType) -> bool:
    return hasattr(torchaudio, "load_with_torchcodec") and importlib.util.find_spec("torchcodec") is None


def _put(module: ModuleType, name: str, value: Any, why: str) -> None:
    setattr(module, name, value)
    MENDED.append(f"{module.__name__}.{name}: {why}")


def _put_module(name: str, functions: tuple[str, ...]) -> None:
    module = ModuleType(name)
    for function in functions:
        setattr(module, function, _unavailable(f"{name}.{function}", "torchaudio < 2.9"))
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)
    MENDED.append(f"{name}: no longer there; can be imported, raises when used")


def _unavailable(name: str, needs: str) -> Any:
    class Unavailable:
        """Stands in for what a library dropped: can be imported, not used."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise UsageError(f"{name} is gone from this version of its library; this task of s3prl needs {needs}")

        def __getattr__(self, attribute: str) -> Any:
            raise UsageError(f"{name} is gone from this version of its library; this task of s3prl needs {needs}")

    Unavailable.__name__ = Unavailable.__qualname__ = name.rpartition(".")[2]
    return Unavailable
