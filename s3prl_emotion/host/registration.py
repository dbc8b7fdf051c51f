"""Register the suite with s3prl: patch and guard it, then add the heads and the upstream adapters."""

from __future__ import annotations

from s3prl_emotion.host.adapters import ADAPTERS, add_suite_adapters
from s3prl_emotion.host.guards import guard
from s3prl_emotion.host.heads import HEADS, add_suite_heads
from s3prl_emotion.host.patches import patch

LAUNCHER_HINT = "s3prl-emotion's own run_downstream.py has both"
_state = {"launched": False, "registered": False, "own": False}


def register_own() -> None:
    """Patch and guard the host, then add the suite's own heads and adapters; once per process."""
    if _state["own"]:
        return
    patch()
    guard()
    add_suite_heads()
    add_suite_adapters()
    _state["own"] = True


def register() -> None:
    """Patch and guard the host, then add the suite's heads and adapters, and installed or named ones; once per process.

    Raises:
        UsageError: ``S3PRL_UPSTREAM_PATH`` or ``S3PRL_DOWNSTREAM_PATH`` names a folder without adapters or heads, or
            names clash
    """
    if _state["registered"]:
        return
    register_own()
    ADAPTERS.register_entry_points()
    HEADS.register_entry_points()
    register_search_path()
    _state["registered"] = True


def register_search_path(upstreams: str | None = None, downstreams: str | None = None) -> list[str]:
    """Add the adapters and heads of all folders that flags and environment variables name.

    Args:
        upstreams: value of ``--upstream_path``, folders separated as in ``PATH``; those of ``S3PRL_UPSTREAM_PATH`` are
            added too
        downstreams: value of ``--downstream_path``, likewise with ``S3PRL_DOWNSTREAM_PATH``

    Returns:
        the upstreams and heads that ``-u`` and ``-d`` know from then on

    Raises:
        UsageError: no such folder, no adapter or head in it, or a clash of names
    """
    return ADAPTERS.register_search_path(upstreams) + HEADS.register_search_path(downstreams)


def launched() -> bool:
    """Return whether the suite's own ``run_downstream.py`` started this process."""
    return _state["launched"]


def mark_launched(launched: bool = True) -> None:
    """Note that the suite's own ``run_downstream.py`` runs."""
    _state["launched"] = launched
