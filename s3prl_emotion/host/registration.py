"""Register the suite with s3prl: patch it, then add the heads and the upstream adapters."""

from __future__ import annotations

import importlib
from pathlib import Path

from s3prl_emotion.files.folders import adapters_folder, heads_folder
from s3prl_emotion.host.adapters import register_adapters, register_entry_points, register_search_path
from s3prl_emotion.host.patches import patch

LAUNCHER_HINT = "s3prl-emotion's own run_downstream.py has both"
_state = {"launched": False, "registered": False}


def register() -> None:
    """Patch the host, then add the suite's heads and adapters to it, and installed or named ones; once per process.

    Raises:
        UsageError: ``S3PRL_UPSTREAM_PATH`` names no folder of adapters, or adapters clash by name
    """
    if _state["registered"]:
        return
    patch()
    downstream = importlib.import_module("s3prl.downstream")
    if str(heads_folder()) not in downstream.__path__:  # a clash of adapters may have stopped an earlier call
        downstream.__path__.append(str(heads_folder()))
    register_adapters(adapters_folder())
    register_entry_points()
    register_search_path()
    _state["registered"] = True


def launched() -> bool:
    """Return whether the suite's own ``run_downstream.py`` started this process."""
    return _state["launched"]


def mark_launched(launched: bool = True) -> None:
    """Note that the suite's own ``run_downstream.py`` runs."""
    _state["launched"] = launched


def downstream_names() -> list[str]:
    """Return the heads and tasks that ``-d`` knows: the suite's and the host's."""
    package = importlib.import_module("s3prl.downstream")
    return sorted({path.parent.name for folder in package.__path__ for path in Path(folder).glob("*/expert.py")})
