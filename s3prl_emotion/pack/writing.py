"""Write a packed head: the files appear together, once they are read back and found equal to the checkpoint."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion import host
from s3prl_emotion.errors import CheckpointError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.digest import digest_of
from s3prl_emotion.files.locate import find_head
from s3prl_emotion.files.packed import CARD, CONFIG, OPTIONS, SEEN, WEIGHTS, is_packed, sha256_of, written_tensors
from s3prl_emotion.files.trust import trusting
from s3prl_emotion.files.writing import write_bytes, write_text, writing_folder
from s3prl_emotion.pack.card import write_card
from s3prl_emotion.pack.description import Description, describe
from s3prl_emotion.pack.scores import scores_of

logger = logging.getLogger(__name__)


def pack(args: Namespace) -> None:
    """Write the packed head of a checkpoint.

    Args:
        args: of the command line

    Raises:
        UsageError: the folder cannot be written, or an argument does not fit
        CheckpointError: the checkpoint is missing, damaged or of another kind
    """
    host.register_search_path(args.upstream_path, args.downstream_path)
    path = find_head(args.ckpt)
    if is_packed(path):
        raise CheckpointError(f"{args.ckpt}: is packed already; hf upload OWNER/NAME {path.parent} uploads it")
    with trusting(checkpoint=args.trust_checkpoint):
        state = load_checkpoint(path, mmap=True)
    found = describe(state, path, args.upstream_model_config, args.base_model, args.dataset)
    found.values["metrics"] = scores = scores_of(path, state.get("Step"))
    if scores and found.values["data"]["fold"] is None:
        found.values["data"]["fold"] = scores[0]["fold"]
    if not scores:
        logger.warning("%s: no results of its evaluation lie beside it, so the card has no scores; evaluate it", path)
    upstream = found.values["upstream"]
    if upstream["checkpoint"] is not None and upstream["revision"] is None:
        logger.warning(
            "%s: its upstream is a local folder, %s, which others must have and name with -k; --base_model "
            "OWNER/NAME@COMMIT names it where the hub has the same",
            path,
            upstream["checkpoint"],
        )
    try:
        if args.out.is_dir():
            args.out.rmdir()  # empty, as was checked
        with writing_folder(args.out) as folder:
            _write(folder, found, args.push or args.out.resolve().name, args.license)
            _check(folder / CONFIG, found)
    except OSError as error:
        raise UsageError(f"{args.out}: could not be written ({error.strerror or error}); free disk space") from error


def _write(folder: Path, found: Description, name: str, license_id: str) -> None:
    for key, tensors in found.tensors.items():
        write_bytes(folder / WEIGHTS[key], written_tensors(tensors))
    if found.seen:
        write_bytes(folder / SEEN, written_tensors(found.seen))
    if found.options is not None:
        write_bytes(folder / OPTIONS, found.options)
    found.values["files"] = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    write_text(folder / CONFIG, yaml.dump(found.values, sort_keys=False, allow_unicode=True, Dumper=_Dumper))
    write_text(folder / CARD, write_card(found.values, name, license_id))


class _Dumper(yaml.SafeDumper):
    """Writes each value where it stands, without references between equal ones."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return ``True``."""
        return True


def _check(config: Path, found: Description) -> None:
    """Compare what a reader gets with what was packed.

    Raises:
        CheckpointError: something is not the same, as of a head that keeps other values than tensors and plain data
    """
    read = load_checkpoint(config)
    for key, tensors in found.tensors.items():
        packed = tensors | found.values["state"][key]
        if digest_of(dict(sorted(packed.items()))) != digest_of(dict(sorted(read[key].items()))):
            raise CheckpointError(f"{config.parent}: its {key} does not read back as it was; it cannot be packed")
    if digest_of(found.values["recipe"]) != digest_of(read["Config"]):
        raise CheckpointError(f"{config.parent}: its recipe does not read back as it was; it cannot be packed")
