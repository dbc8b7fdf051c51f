"""Describe a checkpoint for those who load it: upstream, recipe, data, protocol and scores, without paths or speech."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.errors import CheckpointError, UsageError
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.files.packed import ARGUMENTS, FORMAT, KIND, SEEN_KEY, WEIGHTS, seen_parts
from s3prl_emotion.files.versions import versions
from s3prl_emotion.upstreams.finetuning.check import trained_part
from s3prl_emotion.upstreams.kept_identity import KEY, hub_commits
from s3prl_emotion.upstreams.pretrained import HUB_ID
from s3prl_emotion.upstreams.restored import has_plain_options, is_commit

SNAPSHOT = re.compile(r".*/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?")
DEMO = "demo"


@dataclass
class Description:
    """What a packed head holds.

    Attributes:
        values: content of its ``config.yaml``, without the hashes of its files
        tensors: of each file of weights, by key of the checkpoint
        seen: hashes of what the head was trained on; empty where that is not known
        options: the upstream's options file, where it is packed too
    """

    values: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    seen: dict[str, Tensor] = field(default_factory=dict)
    options: bytes | None = None


def describe(
    state: dict[str, Any], path: Path, options_file: str | None, base_model: str | None, dataset: str | None
) -> Description:
    """Return what is packed of a checkpoint.

    Args:
        state: the checkpoint
        path: of its file
        options_file: the upstream's options (``-g``), if their file was moved since training
        base_model: id on the hub of the upstream that was a local folder in training, with ``@COMMIT`` where known
        dataset: name of the corpus, where that of its folder does not do

    Raises:
        CheckpointError: it is not of one of the suite's heads, or does not know its upstream
        UsageError: the options file is missing, or the id is none
    """
    args, recipe = state["Args"], portable(state["Config"])
    if not is_emotion_head(args.downstream):
        raise CheckpointError(f"{path}: is a checkpoint of -d {args.downstream}, not of one of the suite's heads")
    if KEY not in state:
        raise CheckpointError(
            f"{path}: does not say which upstream it was trained with, so nobody could check theirs; train again, or "
            "resume it for a step with this version"
        )
    hub = hub_commits(state, path)
    identity = portable(json.loads(state[KEY]))
    upstream, commit = _upstream(args.upstream_ckpt, hub, base_model)
    if upstream is not None and commit is not None:
        identity["hub"] = {**identity["hub"], upstream: commit}
    tensors, plain = _weights(state, args.downstream)
    arguments = {name: getattr(args, name, None) for name in ARGUMENTS} | {"upstream_ckpt": upstream}
    values: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "head": args.downstream,
        "classes": list(recipe["downstream_expert"]["datarc"].get("classes") or ()) if _has_classes(args) else [],
        "dimensions": _dimensions(state, recipe, args.downstream),
        "upstream": {
            "name": args.upstream,
            "checkpoint": upstream,
            "revision": commit,
            "base_model": _model_of(base_model) or next((model for model in identity["hub"]), None),
            "is_trained": bool(args.upstream_trainable),
            "trained_part": trained_part(state),
            "identity": identity,
        },
        "data": _data(recipe, args, dataset, state),
        "metrics": [],
        "recipe": recipe,
        "arguments": arguments,
        "state": plain,
        "versions": versions(),
    }
    values |= {name.lower(): state[name] for name in ("Step", "Statistics") if name in state}
    options = _options(args, options_file, path)
    if args.upstream_model_config is not None and options is None:
        arguments["options"] = Path(str(args.upstream_model_config)).name
    found = Description(values, tensors, options=options)
    if SEEN_KEY in state:
        values["seen"], found.seen = seen_parts(state[SEEN_KEY])
    return found


def portable(value: Any) -> Any:
    """Return plain values with the last part of absolute paths alone, which name a machine and its users."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and len(value) > 1:
        return Path(value).name
    return value


def _weights(state: dict[str, Any], head: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
    """Return the tensors of each model of a checkpoint, without rows of training data, and what is no tensor."""
    tensors: dict[str, dict[str, Tensor]] = {}
    plain: dict[str, dict[str, Any]] = {}
    for key in WEIGHTS:
        if key in state:
            items = OrderedDict(state[key]).items()
            tensors[key] = {name: value for name, value in items if isinstance(value, Tensor)}
            plain[key] = {name: value for name, value in items if not isinstance(value, Tensor)}
    for name, empty in host.expert_class(head).of_training_data.items():
        if name in tensors["Downstream"]:
            tensors["Downstream"][name] = tensors["Downstream"][name].clone().fill_(empty)
    return tensors, plain


def _has_classes(args: Namespace) -> bool:
    return bool(host.expert_class(args.downstream).learns_classes)


def _dimensions(state: dict[str, Any], recipe: dict[str, Any], head: str) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation of the training labels of each number that the head estimates."""
    expert, weights = host.expert_class(head), state["Downstream"]
    if "label_mean" not in weights:
        return {}
    modelrc = expert.model_section.read(recipe["downstream_expert"].get("modelrc") or {}, "modelrc")
    rows = zip(
        expert.dimension_names(modelrc), weights["label_mean"].tolist(), weights["label_spread"].tolist(), strict=True
    )
    return {name: {"mean": mean, "std": spread} for name, mean, spread in rows}


def _upstream(ckpt: Any, hub: dict[str, str], base_model: str | None) -> tuple[str | None, str | None]:
    """Return how others name the upstream's checkpoint, and its commit on the hub where it is one.

    A folder of the hub's cache is an id at a commit; of another folder the name alone is kept.
    """
    if base_model is not None and "@" in base_model:
        name, _, commit = base_model.partition("@")
        return name, commit
    if ckpt is None:
        only = list(hub.items())
        return None, only[0][1] if len(only) == 1 else None
    match = SNAPSHOT.fullmatch(str(Path(str(ckpt)).expanduser().absolute()))
    if match is not None:
        return f"{match['owner']}/{match['name']}", match["commit"]
    if str(ckpt) in hub:
        return str(ckpt), hub[str(ckpt)]
    path = Path(str(ckpt))
    return (path.name if path.is_absolute() or str(ckpt).startswith("~") else str(ckpt)), None


def _model_of(base_model: str | None) -> str | None:
    """Return the id of ``OWNER/NAME[@COMMIT]``.

    Raises:
        UsageError: it is none
    """
    if base_model is None:
        return None
    name, at, commit = base_model.partition("@")
    if not HUB_ID.fullmatch(name) or "/" not in name or (at and not is_commit(commit)):
        raise UsageError(f"--base_model {base_model}: write OWNER/NAME, or OWNER/NAME@COMMIT with all 40 digits")
    return name


def _options(args: Namespace, given: str | None, path: Path) -> bytes | None:
    """Return the content of the upstream's options file, where it names no files and may go with the head."""
    named = given or args.upstream_model_config
    if named is None:
        return None
    if not has_plain_options(args.upstream):
        return None
    try:
        return Path(str(named)).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: the options of its upstream, -g {named}, cannot be read ({error.strerror}); give their file "
            "with -g"
        ) from error


def _data(recipe: dict[str, Any], args: Namespace, dataset: str | None, state: dict[str, Any]) -> dict[str, Any]:
    """Return on what the head was trained, and by which protocol."""
    datarc = recipe["downstream_expert"]["datarc"]
    seen = [row for row in (state.get(SEEN_KEY) or {}).get("corpora", ()) if row.get("is_own")]
    counts = {name: sum(len(row[name]) for row in seen) for name in ("train", "dev", "speakers")} if seen else {}
    return {
        "name": dataset or _dataset(state["Config"]["downstream_expert"]["datarc"]),
        "fold": datarc.get("test_fold") or args.downstream_variant,
        "num_folds": datarc.get("num_folds"),
        "fold_seed": datarc.get("fold_seed", 0),
        "protocol": datarc.get("protocol") or "speaker_disjoint",
        "utterances": {name: counts[name] for name in ("train", "dev")} if counts else None,
        "speakers_in_train_and_dev": counts.get("speakers"),
    }


def _dataset(datarc: dict[str, Any]) -> str:
    """Return a name for the corpus: the keys of several, or the folder of its labels."""
    if datarc.get("corpora"):
        return ", ".join(map(str, datarc["corpora"]))
    labels = str(datarc.get("labels") or "")
    if labels == DEMO:
        return "s3prl-emotion demo corpus (synthetic speech)"
    path = Path(labels)
    return (path.parent.name or path.stem) if path.suffix else path.name
