"""Write the files that an evaluated split leaves in the experiment directory, and describe what made them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s3prl_emotion.audio.segments import TIMES
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.files.versions import versions
from s3prl_emotion.files.writing import write_json, write_text

PARTS = ("Utterance", "FileName", *TIMES)  # columns that name an utterance; FileName alone where none is a part


def config_hash(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a recipe, which does not depend on the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def provenance(head: str, downstream_expert: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a metrics file records of how it was made: head, seed, upstream, versions, recipe.

    Args:
        head: name of the head
        downstream_expert: this section of the recipe
        arguments: the recipe's other sections and the command line, as the host's runner passes them
    """
    recipe = {key: arguments[key] for key in ("runner", "optimizer", "scheduler", "specaug") if arguments.get(key)}
    recipe["downstream_expert"] = downstream_expert
    return {
        "head": head,
        "seed": arguments.get("seed"),
        "upstream": {key: value for key, value in arguments.items() if key.startswith("upstream")},
        "stored_features": arguments.get("store_dtype") if arguments.get("feature_store") else None,
        "versions": versions(),
        "config_hash": config_hash(recipe),
        "config": recipe,
    }


def model_size(model: nn.Module) -> dict[str, Any]:
    """Return the number of parameters of a head, and their size in MB (10^6 bytes)."""
    parameters = list(model.parameters())
    megabytes = sum(item.numel() * item.element_size() for item in parameters) / 1e6
    return {"num_parameters": sum(item.numel() for item in parameters), "model_size_mb": round(megabytes, 3)}


def write_host_lists(
    folder: Path, stem: str, utterances: Sequence[Utterance], truth: Sequence[str], predicted: Sequence[str]
) -> None:
    """Write the host's ``{stem}_predict.txt`` and ``{stem}_truth.txt``: a line for each utterance."""
    for kind, values in (("predict", predicted), ("truth", truth)):
        names = [Path(item.name).stem if item.part is None else item.name for item in utterances]
        lines = [f"{name} {value}\n" for name, value in zip(names, values, strict=True)]
        write_text(folder / f"{stem}_{kind}.txt", "".join(lines))


def write_predictions(
    folder: Path, stem: str, utterances: Sequence[Utterance], columns: Mapping[str, Sequence[Any]]
) -> Path:
    """Write ``{split}_{fold}_predictions.csv``.

    Args:
        folder: experiment directory
        stem: ``{split}_{fold}``
        utterances: in the order of the rows, ``[N]``
        columns: words or numbers by name, ``[N]`` each, written after FileName, SpkrID and Gender; where some
            utterances are parts of files, Utterance (their names), FileName, Start and End come first
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    has_parts = any(item.part is not None for item in utterances)
    writer.writerow([*(PARTS if has_parts else PARTS[1:2]), "SpkrID", "Gender", *columns])
    for item, *values in zip(utterances, *columns.values(), strict=True):
        cells = [value if isinstance(value, str) else f"{value:.7g}" for value in values]
        times = ["", ""] if item.part is None else str(item.part).split("-")
        named = [item.name, item.file, *times] if has_parts else [item.name]
        writer.writerow([*named, item.speaker or "", item.gender or "", *cells])
    path = folder / f"{stem}_predictions.csv"
    write_text(path, table.getvalue())
    return path


def write_metrics(folder: Path, stem: str, values: dict[str, Any]) -> Path:
    """Write ``{split}_{fold}_metrics.json``."""
    path = folder / f"{stem}_metrics.json"
    write_json(path, values)
    return path


def float32_mean(values: Sequence[float]) -> float:
    """Return the mean in float32, as s3prl's experts log it, so that ``log.log`` equals that of stock tasks."""
    return torch.tensor(values, dtype=torch.float32).mean().item()
