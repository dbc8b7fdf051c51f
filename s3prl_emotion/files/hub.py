"""Fetch packed heads from the Hugging Face hub and upload them; every failure is one line that says how to fix it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import CheckpointError, EmotionError, LabelError, UsageError
from s3prl_emotion.files.packed import CONFIG, read_config

HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,200}))?", re.ASCII
)
LOGIN = "set HF_TOKEN, or log in with: hf auth login"


def is_hub_id(name: str) -> bool:
    """Return whether a name that is no path can be an id on the hub: ``OWNER/NAME[@REVISION]``.

    ``result/demo.ckpt`` is none, nor is a name below a folder that exists, unless it has a revision.
    """
    match = HUB_ID.fullmatch(name)
    if match is None or name.endswith((".ckpt", ".safetensors", ".pt", ".pth", ".yaml")):
        return False
    return match["revision"] is not None or not Path(name).parent.is_dir()


def downloaded(name: str) -> Path:
    """Fetch a packed head into the hub's cache, unless it is there, and return its ``config.yaml``.

    Args:
        name: ``OWNER/NAME``, or ``OWNER/NAME@REVISION`` for a branch, tag or commit

    Raises:
        CheckpointError: there is no such head on the hub, it is gated, or neither hub nor cache can give it
    """
    match = HUB_ID.fullmatch(name)
    if match is None:
        raise CheckpointError(f"{name}: is no id on the hub; write OWNER/NAME or OWNER/NAME@REVISION")
    config = _file(name, match["id"], CONFIG, match["revision"])
    commit = config.parent.name  # one commit for all files, even if the branch moves on meanwhile
    for file in read_config(config)["files"]:
        if Path(file).name != file:
            raise CheckpointError(f"{name}: its {CONFIG} names files outside of its folder; it was not written by pack")
        _file(name, match["id"], file, commit)
    return config


def push(folder: Path, name: str, private: bool) -> str:
    """Upload a packed head, and make its repository if there is none; return its address.

    Raises:
        UsageError: the hub refuses it or cannot be reached; the folder stays
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError

    api = hub.HfApi(endpoint=_endpoint(), token=token())
    try:
        api.create_repo(name, private=private, exist_ok=True)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        with _quiet():
            api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=files, commit_message=f"Upload {name}")
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = {
            401: f"the token is not accepted; {LOGIN}",
            403: "the token may not write there; use one with the role write",
        }
        reason = why.get(status or 0, f"the hub answers: {_line(error)}")
        raise UsageError(f"--push {name}: {reason}; {folder} is kept, {_by_hand(name, folder)} uploads it") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreached(name, folder, error) from error
    except Exception as error:
        if not _is_of_network(error):
            raise
        raise _unreached(name, folder, error) from error
    return f"{_endpoint() or 'https://huggingface.co'}/{name}"


def check_push(name: str) -> None:
    """Refuse an upload that cannot work, before anything is written.

    Raises:
        UsageError: no id, no token, or the hub is switched off
    """
    match = HUB_ID.fullmatch(name)
    if match is None or match["revision"] is not None:
        raise UsageError(f"--push {name}: is no id on the hub; write OWNER/NAME")
    if is_offline():
        raise UsageError("--push: HF_HUB_OFFLINE is set, so nothing is uploaded; unset it")
    if not token():
        raise UsageError(f"--push {name}: there is no token of the hub; {LOGIN}")


def token() -> str | None:
    """Return the user's token of the hub."""
    from huggingface_hub import get_token

    return get_token()


def is_offline() -> bool:
    """Return whether the user has switched the hub off (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _file(name: str, repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    with _fetching(name, "file or folder", f"{file} of this id", revision, CheckpointError):
        try:
            return Path(hf_hub_download(repository, file, revision=revision, endpoint=_endpoint()))
        except hub.LocalEntryNotFoundError:  # a subclass of EntryNotFoundError
            raise
        except hub.EntryNotFoundError as error:
            what = f"{CONFIG}, so it is no packed head" if file == CONFIG else file
            raise CheckpointError(
                f"{name}: holds no {what}; give an id that s3prl-emotion pack --push wrote"
            ) from error


def dataset_folder(name: str, repository: str, revision: str | None) -> Path:
    """Fetch a dataset's files into the hub's cache, unless they are there, and return their folder.

    Args:
        name: as the user wrote it, for messages
        repository: ``OWNER/NAME``
        revision: branch, tag or commit

    Raises:
        LabelError: there is no such dataset, it is gated, or neither hub nor cache can give it
    """
    from huggingface_hub import snapshot_download

    with _fetching(name, "label table", "this dataset", revision, LabelError):
        options: dict[str, Any] = {"revision": revision, "endpoint": _endpoint()}
        return Path(snapshot_download(repository, repo_type="dataset", **options))


@contextmanager
def _fetching(name: str, local: str, content: str, revision: str | None, kind: type[EmotionError]) -> Iterator[None]:
    """Fetch from the hub, and raise what fails as one line.

    Args:
        name: as the user wrote it
        local: what the name could be on this machine
        content: what is fetched
        revision: branch, tag or commit
        kind: of the error
    """
    from huggingface_hub import errors as hub

    try:
        with _quiet():
            yield
    except EmotionError:
        raise
    except hub.GatedRepoError as error:
        raise kind(f"{name}: is gated on the hub; ask for access on its page, then {LOGIN}") from error
    except hub.RepositoryNotFoundError as error:
        raise kind(
            f"{name}: no such {local}, and no such id on the hub, or a private one; check the name, or {LOGIN}"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise kind(f"{name}: has no revision {revision} on the hub; name a branch, tag or commit") from error
    except hub.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if is_offline() else "the hub cannot be reached"
        raise kind(
            f"{name}: no such {local}, and {why} while the hub's cache does not hold {content}; check the network, or "
            f"give a local {local}"
        ) from error
    except Exception as error:  # the hub's client raises errors of several libraries
        if not isinstance(error, (hub.HfHubHTTPError, OSError, ValueError)) and not _is_of_network(error):
            raise
        raise kind(f"{name}: {content} cannot be fetched from the hub ({_line(error)}); try again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the client's warnings of each of its attempts: what failed for good is raised."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _endpoint() -> str | None:
    """Return the address of the hub, where the user names another one than the public hub."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _unreached(name: str, folder: Path, error: Exception) -> UsageError:
    return UsageError(
        f"--push {name}: the upload failed ({_line(error)}); {folder} is kept, {_by_hand(name, folder)} uploads it"
    )


def _by_hand(name: str, folder: Path) -> str:
    return f"hf upload {name} {folder}"


def _is_of_network(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests", "urllib3", "hf_xet")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} …"
