"""Import s3prl's hub without the models of transformers, which take seconds: they are imported when they are built."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

SLOW = ("s3prl.upstream.hf_hubert.expert", "s3prl.upstream.hf_wav2vec2.expert")


def import_hub() -> ModuleType:
    """Import ``s3prl.hub``, of which ``hf_hubert_custom`` and ``hf_wav2vec2_custom`` import their models when built."""
    waiting = [name for name in SLOW if name not in sys.modules and "s3prl.hub" not in sys.modules]
    for name in waiting:
        stand_in = ModuleType(name)
        vars(stand_in)["UpstreamExpert"] = _builder(name)
        sys.modules[name] = stand_in
    try:
        return importlib.import_module("s3prl.hub")
    finally:
        for name in waiting:  # whoever imports the module itself gets the real one
            del sys.modules[name]


def _builder(name: str) -> Any:
    def build(*args: Any, **options: Any) -> Any:
        return importlib.import_module(name).UpstreamExpert(*args, **options)

    return build
