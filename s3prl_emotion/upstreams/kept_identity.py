"""Keep in a checkpoint which upstream its head was trained with, and compare it with the one of a later run.

Weights, options, layers and the code of upstreams that are plugged in have to be the same. Versions of libraries and
the suite's own code may differ: that is a warning.
"""

from __future__ import annotations

import inspect
import json
import logging
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import s3prl
import xxhash
from torch import Tensor, nn

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files.folders import PACKAGE, adapters_folder
from s3prl_emotion.files.versions import versions
from s3prl_emotion.store.contents import file_hash
from s3prl_emotion.store.identity import checkpoint_hash
from s3prl_emotion.store.segments import raw_bytes
from s3prl_emotion.upstreams.pretrained import hash_of

logger = logging.getLogger(__name__)
KEY = "UpstreamIdentity"  # of a checkpoint: the identity as JSON
NOTE = "note"  # of an identity: a difference that the user allowed
UNKNOWN = "not known: not checked"
FLAG = "--allow_other_upstream"
LIBRARIES = ("s3prl-emotion", "s3prl", "torch", "torchaudio", "transformers", "numpy")
KINDS = {"upstream": str, "origin": str, "code": dict, "versions": dict, "hub": dict}
# options of the suite's adapters that say where weights come from or which version computes, not what is computed
NOT_COMPARED = {"commit", "ckpt", "version", "adapter_version", "attention"}
VERSIONS = ("opensmile", "s3prl")  # options that are versions of libraries
MOST_CHARACTERS = 1 << 20  # of the JSON; real ones have some thousand
MOST_SHOWN = 3  # differing options
SUITE, HOST, PLUGGED_IN = "suite", "s3prl", "plugged in"


@dataclass
class Comparison:
    """What differs between the upstream of a checkpoint and that of this run.

    Attributes:
        refused: differences that change the features
        warned: differences of versions and of the suite's own code
    """

    refused: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def identity_of(model: nn.Module, args: Namespace, keeps_weights: bool) -> str:
    """Return what the features of this run depend on, as JSON.

    Args:
        model: the upstream, after unused layers were cut off
        args: of the experiment
        keeps_weights: whether the upstream's own weights stay as they are, so that checkpoints do not hold them all
    """
    origin = _origin_of(type(model))
    values = {
        "upstream": args.upstream,
        "origin": origin,
        "weights": tensors_hash(model.parameters()) if keeps_weights else None,
        "buffers": tensors_hash(_kept_buffers(model)) if keeps_weights else None,
        "checkpoint": _content(args.upstream_ckpt) if keeps_weights and origin != SUITE else None,
        "config": None if origin == SUITE else _content(args.upstream_model_config),
        "options": _options(model, args.upstream),
        "selection": args.upstream_feature_selection,
        "layer": args.upstream_layer_selection,
        "normalize": bool(args.upstream_feature_normalize),
        "code": _code(model),
        "hub": dict(commit for part in model.modules() if (commit := getattr(part, "hub_commit", None))),
        "versions": {name: version for name, version in versions().items() if name in LIBRARIES},
    }
    return json.dumps(values, sort_keys=True, default=str)


def _options(model: nn.Module, upstream: str) -> Any:
    """Return what an adapter says of itself, as plain values; ``None`` where it says nothing."""
    describe: Any = getattr(model, "identity", None)
    if not callable(describe):
        return None
    try:
        return json.loads(json.dumps(describe(), default=str))
    except Exception as error:  # foreign code fails in any way, and trains without it
        detail = " ".join(str(error).split())[:200]
        logger.warning("-u %s: its identity() fails (%s); checkpoints do not know its options", upstream, detail)
        return None


def hub_commits(state: dict[str, Any], path: str | Path) -> dict[str, str]:
    """Return the commit of each model on the hub that a checkpoint was trained with, by the model's id.

    Raises:
        CheckpointError: the checkpoint's record of its upstream is damaged
    """
    return _read(state[KEY], path)["hub"] if KEY in state else {}


def checked_identity(
    state: dict[str, Any], model: nn.Module, args: Namespace, keeps_weights: bool = True
) -> tuple[str, str | None]:
    """Return the identity of this run's upstream, once it is the one that the run's checkpoint was trained with.

    Args:
        state: the checkpoint; empty where the run has none
        model: the upstream, after unused layers were cut off
        args: of this run, with ``init_ckpt`` and ``allow_other_upstream``
        keeps_weights: see :func:`identity_of`

    Returns:
        the identity, to be kept in new checkpoints, and what outputs have to say about the upstream (``None``: nothing)

    Raises:
        CheckpointError: another upstream, and ``--allow_other_upstream`` is not given
    """
    here, path = identity_of(model, args, keeps_weights), args.init_ckpt
    if not state:
        return here, None
    if KEY not in state:
        logger.warning("%s: the upstream that it was trained with is not known: not checked", path)
        return here, UNKNOWN
    theirs, ours = _read(state[KEY], path), json.loads(here)
    found = compare(theirs, ours)
    if found.warned:
        logger.warning("%s: was trained with other versions: %s", path, ", ".join(found.warned))
    if not found.refused:
        note = theirs.get(NOTE)  # of a training that was resumed with another upstream
        return (json.dumps(ours | {NOTE: note}, sort_keys=True), note) if isinstance(note, str) else (here, None)
    what = ", ".join(found.refused)
    if not getattr(args, "allow_other_upstream", False):
        raise CheckpointError(
            f"{path}: was trained with another upstream: {what}; give the same -u, -k, -g, -s and -l, or {FLAG} to use "
            "this one all the same"
        )
    logger.warning("%s: was trained with another upstream: %s; used all the same (%s)", path, what, FLAG)
    note = f"another than in training: {what}"
    return json.dumps(ours | {NOTE: note}, sort_keys=True), note


def compare(theirs: dict[str, Any], here: dict[str, Any]) -> Comparison:
    """Compare the upstream of a checkpoint with that of this run."""
    found, suite = Comparison(), theirs["origin"] == here["origin"] == SUITE
    versions_differ = [
        f"{name} {_shown(theirs['versions'].get(name))} (here {_shown(version)})"
        for name, version in here["versions"].items()
        if theirs["versions"].get(name) != version
    ]
    found.warned += versions_differ
    for name in ("selection", "layer", "normalize") if suite else ("upstream", "selection", "layer", "normalize"):
        if theirs.get(name) != here[name]:
            found.refused.append(f"{name} {_shown(theirs.get(name))} (here {_shown(here[name])})")
    for name, what in (("weights", "weights"), ("buffers", "buffers"), ("checkpoint", "content of -k")):
        pair = (theirs.get(name), here[name])
        if None not in pair and pair[0] != pair[1]:
            only_versions = name == "buffers" and versions_differ  # such as windows that a library computes
            (found.warned if only_versions else found.refused).append(_digests(what, *pair))
            if name == "weights":
                found.refused += _other_commits(theirs["hub"], here["hub"])
    if theirs.get("config") != here["config"] and not suite:
        found.refused.append(_digests("options (-g)", theirs.get("config"), here["config"]))
    for item in _differing_options(theirs.get("options"), here["options"], bool(versions_differ)):
        is_version = item.split()[1].endswith(VERSIONS)
        (found.warned if is_version else found.refused).append(item)
    for origin in (PLUGGED_IN, HOST, SUITE):
        pair = (theirs["code"].get(origin), here["code"].get(origin))
        if pair[0] != pair[1]:
            same_host = theirs["versions"].get("s3prl") == here["versions"].get("s3prl")
            refused = origin == PLUGGED_IN or (origin == HOST and same_host and not suite)
            (found.refused if refused else found.warned).append(_digests(f"code ({origin})", *pair))
    return found


def is_same_upstream(one: str, other: str) -> bool:
    """Return whether two identities are of upstreams that give the same output for the same audio.

    What heads read of the output (``-s``, ``-l``, ``--upstream_feature_normalize``) may differ.

    Args:
        one: of :func:`identity_of`, in this process
        other: likewise
    """
    read = dict.fromkeys(("selection", "layer", "normalize"))
    first, second = (json.loads(identity) | read for identity in (one, other))
    if None in (first["weights"], second["weights"]):  # trained: each has its own
        return False
    found = compare(first, second)
    return not (found.refused or found.warned)


def _other_commits(theirs: dict[str, str], here: dict[str, str]) -> list[str]:
    """Return the models of the hub that are read at another commit than in training."""
    return [
        f"revision of {model} {_shown(theirs[model])} (here {commit}; give 'revision: {_shown(theirs[model])}' in -g)"
        for model, commit in here.items()
        if theirs.get(model, commit) != commit
    ]


def tensors_hash(tensors: Iterator[Tensor]) -> str:
    """Return a hash of types, shapes and values, whatever the tensors' names, which depend on versions of libraries."""
    digests = []
    for tensor in tensors:
        digest = xxhash.xxh3_128(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor.detach().cpu().contiguous()))
        digests.append(digest.digest())
    return xxhash.xxh3_128_hexdigest(b"".join(sorted(digests)))


def _kept_buffers(model: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers that a checkpoint of the model holds; libraries add others from version to version."""
    for part in model.modules():
        passing = part._non_persistent_buffers_set
        yield from (tensor for name, tensor in part._buffers.items() if tensor is not None and name not in passing)


def _code(model: nn.Module) -> dict[str, str]:
    """Return a hash of the source of a model's classes for each origin; code of other libraries does not count."""
    files: dict[str, set[Path]] = {}
    for item in {base for part in model.modules() for base in type(part).__mro__} | {type(model)}:
        try:
            file = Path(inspect.getfile(item)).resolve()
        except (TypeError, OSError):  # a builtin, or made at run time
            continue
        origin = _origin(file)
        if origin != PLUGGED_IN:
            files.setdefault(origin, set()).add(file)
        elif item is type(model) or item.__module__.partition(".")[0] == type(model).__module__.partition(".")[0]:
            files.setdefault(origin, set()).update(_with_folder(file))
    return {
        origin: hash_of(sorted(f"{path.name}:{file_hash(path)}" for path in paths)) for origin, paths in files.items()
    }


def _with_folder(file: Path) -> set[Path]:
    """Return a module's file, or all modules of the adapter that it belongs to."""
    folder = next((folder for folder in file.parents[:2] if (folder / "hubconf.py").is_file()), None)
    return {file} if folder is None else {path.resolve() for path in folder.rglob("*.py")}


def _origin_of(item: type) -> str:
    try:
        return _origin(Path(inspect.getfile(item)))
    except (TypeError, OSError):  # made at run time
        return PLUGGED_IN


def _origin(file: Path) -> str:
    """Return whom a file of code belongs to: the suite, s3prl, or somebody else."""
    file = file.resolve()
    if any(file.is_relative_to(Path(folder).resolve()) for folder in (adapters_folder(), PACKAGE)):
        return SUITE
    return HOST if any(file.is_relative_to(Path(folder).resolve()) for folder in s3prl.__path__) else PLUGGED_IN


def _content(name: Any) -> str | None:
    """Return a hash of what ``-k`` or ``-g`` names; of options that are given themselves, of these."""
    return checkpoint_hash(name) if name is None or isinstance(name, str) else hash_of(name)


def _read(text: Any, path: str | Path) -> dict[str, Any]:
    try:
        if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
            raise TypeError("not a text of this size")
        values = json.loads(text)
        if not isinstance(values, dict) or not all(isinstance(values.get(key), kind) for key, kind in KINDS.items()):
            raise TypeError("not of this form")
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its record of the upstream ({KEY}) is damaged; use an older one") from error
    return values


def _differing_options(theirs: Any, here: Any, versions_differ: bool) -> list[str]:
    """Return the options that differ; those that only one version of a library has do not count."""
    ours, other = dict(_leaves(here)), dict(_leaves(theirs))
    names = ours.keys() & other.keys() if versions_differ and ours and other else ours.keys() | other.keys()
    differing = sorted(name for name in names if ours.get(name) != other.get(name))
    shown = [f"{name} {_shown(other.get(name))} (here {_shown(ours.get(name))})" for name in differing[:MOST_SHOWN]]
    more = len(differing) - len(shown)
    return [f"options {item}" for item in shown] + ([f"options: {more} more"] if more else [])


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values of nested options, by the path of their keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in NOT_COMPARED:
                yield from _leaves(inner, f"{name}.{key}".strip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{number}".strip("."))
    elif name.endswith("last_layer") and str(value).startswith("transformers"):
        yield name, "transformers"  # its version is compared as a version
    else:
        yield name, value


def _digests(what: str, theirs: Any, here: Any) -> str:
    return f"{what} {str(theirs)[:8]} (here {str(here)[:8]})"


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]} …"
