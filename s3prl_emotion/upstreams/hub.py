"""Fetch single files of a model from the hub or its cache; every failure is one line that says how to fix it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import UsageError

logger = logging.getLogger(__name__)
WEIGHTS = (".safetensors", ".bin")
DOWNLOAD = ("local_files_only", "force_download")  # options of from_pretrained that huggingface_hub has too

OFFLINE = "the network is off (HF_HUB_OFFLINE or local_files_only); turn it on"


def fetch(model: str, name: str, options: Mapping[str, Any], where: str, example: str = "") -> Path | None:
    """Return the path of a file in the hub's cache, downloaded if it is not there yet.

    Args:
        model: id on the hub
        name: of the file
        options: of ``from_pretrained``: ``revision``, ``local_files_only``, ``force_download``
        where: the model's name in messages
        example: how to name a local directory on the command line, for messages

    Returns:
        a path whose parent is named after the commit; ``None``: the model has no such file, or it is not in the cache
        and the network is off

    Raises:
        UsageError: no such model or revision, a gated one, or the hub cannot be reached
    """
    from huggingface_hub import constants, errors, hf_hub_download

    revision, offline = options["revision"], is_offline(options)
    given = {key: options[key] for key in DOWNLOAD if key in options}
    if offline:
        given |= {"local_files_only": True, "force_download": False}
    elif name.endswith(WEIGHTS) and cached(model, name, revision) is None:
        logger.info("%s: fetching %s from the hub", where, name)  # no bar shows it in a log
    try:
        return Path(hf_hub_download(model, name, revision=revision, **given))
    except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError
        if offline:
            return None
        raise UsageError(
            f"{where}: no such directory, {name} is not in the hub's cache, and the hub cannot be reached "
            f"({_cause(error)}); connect to the network, or {local_directory(example)}"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:  # a subclass of RepositoryNotFoundError
        raise UsageError(
            f"{where}: the hub gives this model only to users who accepted its terms: accept them on its page, "
            f"{constants.ENDPOINT}/{model}, and log in with 'hf auth login' or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{where}: no such directory, and the hub has no model of this id that you may read; check its spelling, "
            f"log in with 'hf auth login' if it is private, or {local_directory(example)}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{where}: the hub has no revision {str(revision)[:80]!r} of this model; give one of its branches, tags or "
            "commits"
        ) from error
    except (errors.HFValidationError, OSError) as error:
        raise UsageError(f"{where}: {name} cannot be fetched from the hub ({_cause(error)})") from error


def local_directory(example: str) -> str:
    """Return the advice to use a local directory, with an example of the command line where there is one."""
    return f"give a local directory that holds the model{f': {example}' if example else ''}"


def cached(model: str, name: str, revision: str) -> Path | None:
    """Return the path of a file that the hub's cache holds, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def is_offline(options: Mapping[str, Any]) -> bool:
    """Return whether the network is off, by an option or by ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants

    return bool(options.get("local_files_only") or constants.HF_HUB_OFFLINE)


def _cause(error: BaseException) -> str:
    """Return the first cause of an error of another library, on one line."""
    first = error
    while first.__cause__ is not None and len(str(first.__cause__)) > 0:
        first = first.__cause__
    return " ".join(str(first).split())[:200] or type(first).__name__
