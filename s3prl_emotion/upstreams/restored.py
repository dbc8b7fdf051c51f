"""Decide which upstreams a checkpoint may bring back by itself: none that reads files with code in them."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Collection
from pathlib import Path
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files.folders import adapters_folder
from s3prl_emotion.files.packed import OPTIONS, is_packed
from s3prl_emotion.upstreams.pretrained import HUB_ID, PINNED

logger = logging.getLogger(__name__)
COMPOSED = "concat"  # its options name other upstreams, with their files
FLAGS = {"upstream": "-u", "upstream_ckpt": "-k", "upstream_model_config": "-g"}


def check_restored(args: Namespace, own: Collection[str], path: Path, hub: dict[str, str]) -> None:
    """Check that a checkpoint's upstream, where it is not the user's own choice, reads only safe files.

    A checkpoint may name an adapter of the suite with a local file or folder, or with a model on the hub at a pinned
    revision, which it reads as safetensors or with ``weights_only=True``; and an upstream of s3prl whose files have
    their addresses in s3prl's own ``hubconf.py``. Everything else has to be named by the user.

    Args:
        args: the experiment's arguments, with the user's own in place of the checkpoint's
        own: names of the arguments that the user gave
        path: of the checkpoint
        hub: commit of each model on the hub that the checkpoint was trained with, by its id

    Raises:
        CheckpointError: names the flags that the user has to give
    """
    if (getattr(args, "from_hf_hub", False) or getattr(args, "hub", None) == "huggingface") and "hub" not in own:
        raise CheckpointError(
            f"{path}: its upstream is code from the Hugging Face hub (--hub huggingface), which a checkpoint cannot "
            "choose; give --hub huggingface and -u yourself"
        )
    name, ckpt, config = (getattr(args, key, None) for key in FLAGS)
    if is_packed(path) and isinstance(ckpt, str) and "upstream_ckpt" not in own and ckpt not in hub:
        _check_local(path, name, ckpt)
    PINNED.clear()
    PINNED.update({model: commit for model, commit in hub.items() if is_commit(commit)})
    missing = {}
    if config is not None and "upstream_model_config" not in own and not _is_packed_with(path, config, name):
        missing["-g"] = config
    if ckpt is not None and "upstream_ckpt" not in own and not _is_safe(name, ckpt):
        missing["-k"] = ckpt
    if missing.keys() == {"-k"} and is_suite_upstream(str(name)):
        raise CheckpointError(
            f"{path}: its upstream {_short(name)} is a model on the hub at no fixed commit (-k {_short(ckpt)}), which "
            f"can be another one today; name it yourself: -u {_short(name)} -k {_short(ckpt)}"
        )
    if missing:
        what = " ".join(f"{flag} {_short(value)}" for flag, value in missing.items())
        raise CheckpointError(
            f"{path}: its upstream {_short(name)} reads files that the checkpoint names ({what}), and such files can "
            f"run code; if you trust them, name them yourself: -u {_short(name)} {what}"
        )
    if ckpt is not None and "upstream_ckpt" not in own:
        logger.info("%s: its upstream is -u %s -k %s, as the checkpoint says", path, name, ckpt)
    for model, commit in PINNED.items():
        if not Path(model).exists():
            logger.info("%s: %s is read at revision %s, and fetched if it is not in the cache", path, model, commit)


def is_commit(text: Any) -> bool:
    """Return whether a revision is a full commit, which names the same files for ever."""
    return isinstance(text, str) and len(text) == 40 and set(text) <= set("0123456789abcdef")


def _is_safe(name: Any, ckpt: Any) -> bool:
    """Return whether an upstream reads ``-k`` without running code, and always the same content of the hub."""
    if not isinstance(name, str) or not isinstance(ckpt, str) or name not in host.upstream_names():
        return False
    if not is_suite_upstream(name):
        return False
    return ckpt in PINNED or not HUB_ID.fullmatch(ckpt) or Path(ckpt).expanduser().exists()


def _check_local(path: Path, name: Any, ckpt: str) -> None:
    """Refuse a packed head whose upstream was a local folder in training that is not here.

    Raises:
        CheckpointError: names the flag that the user has to give
    """
    if not Path(ckpt).expanduser().exists():
        raise CheckpointError(
            f"{path.parent}: its upstream {_short(name)} was a local file or folder in training, {_short(ckpt)}; name "
            "your copy of it with -k (its weights are compared)"
        )


def _is_packed_with(path: Path, config: Any, name: Any) -> bool:
    """Return whether the upstream's options lie in the packed head itself, and can name no files."""
    return is_packed(path) and config == str(path.parent / OPTIONS) and has_plain_options(name)


def has_plain_options(name: Any) -> bool:
    """Return whether an upstream's options (``-g``) are numbers and words alone, which name no files."""
    return isinstance(name, str) and name != COMPOSED and name in host.upstream_names() and is_suite_upstream(name)


def is_suite_upstream(name: str) -> bool:
    """Return whether an upstream is one of the suite's own adapters."""
    return host.origin_of_upstream(name).is_relative_to(adapters_folder().resolve())


def _short(value: Any) -> str:
    text = " ".join(str(value).split()) if isinstance(value, str | int | Path) else type(value).__name__
    return text if len(text) <= 120 else f"{text[:120]} …"
