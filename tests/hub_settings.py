"""Change the settings of huggingface_hub, and the copies of them that older versions of the libraries hold."""

from __future__ import annotations

from typing import Any

import huggingface_hub.file_download
import pytest
import transformers.utils.hub

COPIES = {  # in transformers below 5, and in huggingface_hub below 1
    "HF_HUB_CACHE": (transformers.utils.hub, "TRANSFORMERS_CACHE"),
    "HF_HUB_OFFLINE": (transformers.utils.hub, "_is_offline_mode"),
    "HUGGINGFACE_CO_URL_TEMPLATE": (huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE"),
}


def set_hub(monkeypatch: pytest.MonkeyPatch, **constants: Any) -> None:
    """Set constants of ``huggingface_hub``, as their environment variables do at its import."""
    for name, value in constants.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
        if name in COPIES and hasattr(*COPIES[name]):
            monkeypatch.setattr(*COPIES[name], value)
    close_sessions()


def close_sessions() -> None:
    """Close connections: one that is kept stays offline, or online."""
    for name in ("reset_sessions", "close_session"):  # below and from 1.0
        getattr(huggingface_hub.utils, name, lambda: None)()
