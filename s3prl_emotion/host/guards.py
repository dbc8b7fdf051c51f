"""Keep s3prl's upstreams and tasks from running code that their files hold.

s3prl 0.4.18 evaluates strings of a model's configuration and of a task's recipe, and unpickles some files in full. None
of its files is edited: ``eval`` is replaced by name in the modules that evaluate such strings, and ``torch.load`` reads
tensors and plain data alone where s3prl calls it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import pickle
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files.trust import trusts_upstream, unsafe_origin
from s3prl_emotion.host.literals import kaldi_function, read_literal, read_name
from s3prl_emotion.limits import wrong_size

EVALUATING = {
    "s3prl.downstream.timit_phone.upstream_expert": read_name,
    "s3prl.upstream.baseline.extracter": kaldi_function,
    **dict.fromkeys(
        (
            "s3prl.upstream.data2vec.data2vec_model",
            "s3prl.upstream.distiller.model",
            "s3prl.upstream.hubert.hubert_model",
            "s3prl.upstream.lighthubert.lighthubert.lighthubert",
            "s3prl.upstream.multires_hubert.hubert_model",
            "s3prl.upstream.roberta.roberta_model",
            "s3prl.upstream.wav2vec.wav2vec_model",
            "s3prl.upstream.wav2vec2.wav2vec2_model",
            "s3prl.upstream.wavlm.WavLM",
        ),
        read_literal,
    ),
}
"""Modules of s3prl that evaluate strings of files, and what replaces ``eval`` in each."""
UNPICKLING = ("s3prl.upstream.mockingjay.", "s3prl.upstream.distiller.", "s3prl.upstream.roberta.", "espnet2.", "pase.")
"""Modules whose files are pickles in full; the last two are packages that s3prl's upstreams load their files with."""
GUARDED: list[str] = []
"""One line for each guard of this process."""


def guard() -> None:
    """Replace ``eval`` and ``torch.load`` for s3prl's upstreams; once per process."""
    if GUARDED:
        return
    import torch

    root = Path(_host_folder()).parent
    sys.meta_path.insert(0, _Evaluating())
    for name, replacement in EVALUATING.items():
        if name in sys.modules:
            vars(sys.modules[name])["eval"] = replacement
        if root.joinpath(*name.split(".")).with_suffix(".py").is_file():  # other versions of s3prl lack some
            GUARDED.append(f"{name}: eval reads literals alone")
    torch.load = _guarded(torch.load)
    GUARDED.append("torch.load: reads tensors and plain data alone where s3prl calls it")


class _Evaluating(MetaPathFinder):
    """Give the modules that evaluate strings their own ``eval`` ahead of their code, whenever they are imported."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in EVALUATING else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def guarded(module: ModuleType) -> None:
                vars(module)["eval"] = EVALUATING[fullname]
                execute(module)

            vars(spec.loader)["exec_module"] = guarded
        return spec


def guard_task(name: str) -> None:
    """Replace ``eval`` in the modules of one of s3prl's own tasks, whose recipe a checkpoint may bring.

    Args:
        name: of the task (``-d``)
    """
    importlib.import_module(f"s3prl.downstream.{name}.expert")
    root = _host_folder()
    for known, module in list(sys.modules.items()):
        if known.startswith("s3prl.downstream.") and str(getattr(module, "__file__", None)).startswith(root):
            vars(module).setdefault("eval", read_name)


def _host_folder() -> str:
    """Return the folder of s3prl's own files, with a separator at its end."""
    return f"{Path(importlib.import_module('s3prl').__file__ or '').resolve().parent}{os.sep}"


def _guarded(load: Any) -> Any:
    """Return ``torch.load`` with ``weights_only=True`` for callers in s3prl."""
    import torch

    root = _host_folder()

    @functools.wraps(load)
    def guarded(file: Any, *args: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals
        name = str(caller.get("__name__"))
        unpickles = name.startswith(UNPICKLING)
        if not unpickles and not os.path.realpath(str(caller.get("__file__"))).startswith(root):
            return load(file, *args, **options)
        if unpickles and trusts_upstream():
            return load(file, *args, **{"weights_only": False, **options})
        _check_origin(file)
        torch.serialization.add_safe_globals([argparse.Namespace])
        try:
            content = load(file, *args, **{**options, "weights_only": True})
        except pickle.UnpicklingError as error:
            remedy = "--trust_upstream loads it if you trust its origin" if unpickles else "convert it"
            raise CheckpointError(
                f"{file}: refused, since this file of an upstream holds objects other than tensors and plain data, "
                f"which can run code; no code in it was run; {remedy}"
            ) from error
        reason = wrong_size(content)
        if reason is not None:
            raise CheckpointError(f"{file}: refused, since it is no file of a model: {reason}")
        return content

    return guarded


def _check_origin(file: Any) -> None:
    if trusts_upstream() or not isinstance(file, str | os.PathLike) or not os.path.exists(file):
        return
    why = unsafe_origin(file)
    if why is not None:
        raise CheckpointError(f"{file}: {why}, or pass --trust_upstream if you trust its origin")
