"""Read a packed head, a folder of safetensors and ``config.yaml`` that ``s3prl-emotion pack`` writes, as a checkpoint.

Nothing in such a folder can run code: weights are safetensors, everything else is plain YAML, and what is read goes
through the same checks as a checkpoint of another origin.
"""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.errors import CheckpointError, DamagedCheckpointError, EmotionError, one_line
from s3prl_emotion.files.checks import boolean, count, integer, listing, mapping, optional, record, text
from s3prl_emotion.limits import shown
from s3prl_emotion.yaml_files import read_yaml

CONFIG = "config.yaml"
CARD = "README.md"
OPTIONS = "upstream.yaml"  # the upstream's options (-g), where they name no files
WEIGHTS = {"Downstream": "head.safetensors", "Featurizer": "featurizer.safetensors", "Upstream": "upstream.safetensors"}
SEEN = "seen.safetensors"  # hashes of what the head was trained on
SEEN_KEY = "Seen"  # of a checkpoint
HASHES = ("folders", "train", "dev", "held_out", "speakers")
KIND, FORMAT = "s3prl-emotion head", 1
CHUNK = 2**20  # bytes
ARGUMENTS = {
    "upstream": text,
    "upstream_ckpt": optional(text),
    "upstream_feature_selection": text,
    "upstream_layer_selection": optional(integer),
    "upstream_feature_normalize": optional(boolean),
    "upstream_trainable": optional(boolean),
    "downstream": text,
    "downstream_variant": optional(text),
    "seed": count,
    "hub": optional(text),
}
CHECK = record(
    {
        "kind": text,
        "format": count,
        "arguments": record(ARGUMENTS, {}),
        "recipe": mapping(),
        "files": mapping(text),
        "state": mapping(mapping()),
    },
    {
        "step": count,
        "upstream": record({}, {"identity": optional(mapping())}),
        "statistics": optional(text),
        "seen": optional(record({"corpora": listing(mapping())}, {})),
    },
)


def is_packed(path: Path) -> bool:
    """Return whether a path is the ``config.yaml`` of a packed head, by its name."""
    return path.name == CONFIG


def read_packed(path: Path) -> dict[str, Any]:
    """Read a packed head.

    Args:
        path: of its ``config.yaml``

    Returns:
        the entries of a checkpoint from which the head is rebuilt

    Raises:
        DamagedCheckpointError: a file is missing, damaged or was changed
        CheckpointError: no packed head, or one of a newer format
    """
    values = read_config(path)
    arguments, folder = values["arguments"], path.parent
    for name in values["files"]:
        if Path(name).name != name or not hash_fits(folder / name, values["files"][name]):
            raise DamagedCheckpointError(
                f"{folder / name}: missing, damaged or changed (its SHA-256 is not that in {CONFIG}); fetch or pack "
                "the head again"
            )
    for key in ("Downstream", "Featurizer"):
        if WEIGHTS[key] not in values["files"]:
            raise DamagedCheckpointError(
                f"{path}: names no {WEIGHTS[key]} among its files; fetch or pack the head again"
            )
    state: dict[str, Any] = {
        "Args": Namespace(
            **{name: arguments[name] for name in ARGUMENTS},
            upstream_model_config=str(folder / OPTIONS) if OPTIONS in values["files"] else arguments.get("options"),
            **{"expdir": str(folder), "local_rank": None, "override": None, "upstream_refresh": False},
        ),
        "Config": values["recipe"],
    }
    if "step" in values:
        state["Step"] = values["step"]
    identity = (values.get("upstream") or {}).get("identity")
    if identity is not None:
        state["UpstreamIdentity"] = json.dumps(identity, sort_keys=True)
    if values.get("statistics") is not None:
        state["Statistics"] = values["statistics"]
    for key, name in WEIGHTS.items():
        if name in values["files"]:
            state[key] = OrderedDict(_tensors(folder / name)) | values["state"].get(key, {})
    if values.get("seen") is not None:
        state[SEEN_KEY] = _seen(path, values["seen"])
    return state


def read_config(path: Path) -> dict[str, Any]:
    """Read and check the ``config.yaml`` of a packed head.

    Raises:
        CheckpointError: it is missing or none, or of a newer format
    """
    try:
        values = read_yaml(path, "no such file; give a packed head, which holds it")
    except EmotionError as error:
        raise CheckpointError(one_line(error)) from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise CheckpointError(
            f"{path}: is no packed head (kind: {KIND}); give the folder that s3prl-emotion pack wrote"
        )
    if type(values.get("format")) is int and values["format"] > FORMAT:
        raise CheckpointError(
            f"{path}: has format {shown(values['format'])}, this version reads up to {FORMAT}; upgrade s3prl-emotion"
        )
    wrong = CHECK(values)
    if wrong is not None:
        raise CheckpointError(f"{path}: {wrong}; fetch or pack the head again")
    return values


def hash_fits(path: Path, expected: str) -> bool:
    """Return whether a file exists and has this SHA-256."""
    return path.is_file() and sha256_of(path) == expected


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            hasher.update(part)
    return hasher.hexdigest()


def seen_parts(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint keeps of its training data as plain values and tensors; see :func:`_seen`."""
    rows = record["corpora"]
    plain = record | {"corpora": [{key: value for key, value in row.items() if key not in HASHES} for row in rows]}
    return plain, {f"{number}.{name}": row[name] for number, row in enumerate(rows) for name in HASHES}


def _seen(path: Path, plain: dict[str, Any]) -> dict[str, Any]:
    tensors = _tensors(path.parent / SEEN)
    try:
        rows = [
            row | {name: tensors[f"{number}.{name}"] for name in HASHES} for number, row in enumerate(plain["corpora"])
        ]
    except KeyError as error:
        raise DamagedCheckpointError(f"{path.parent / SEEN}: lacks {error}; fetch or pack the head again") from error
    return plain | {"corpora": rows}


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise DamagedCheckpointError(f"{path}: damaged ({detail}); fetch or pack the head again") from error


def written_tensors(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors as the bytes of a safetensors file."""
    from safetensors.torch import save

    return save(
        {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    )
