"""``s3prl-emotion pack``: write a trained head as a folder that others can load, and upload it."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.outputs import check_folder
from s3prl_emotion.pack.licenses import check_license

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("ckpt", metavar="CKPT", help="checkpoint of a head, or an experiment directory for its dev-best.ckpt")
    add("out", type=Path, metavar="OUT", help="folder to write; it must not exist yet")
    add("--license", metavar="ID", help="licence of the weights as the Hugging Face hub names it: cc-by-4.0, mit, …")
    add("--dataset", metavar="NAME", help="name of the corpus in the card (default: that of its folder)")
    add("--base_model", metavar="ID", help="OWNER/NAME[@COMMIT] on the hub of an upstream that was a local folder")
    add("-g", "--upstream_model_config", metavar="YAML", help="the upstream's options, if moved since training")
    add("--downstream_path", metavar="DIR", help="more folders with heads")
    add("--upstream_path", metavar="DIR", help="more folders with upstream adapters")
    add("--trust_checkpoint", action="store_true", help="Below torch 2.6: load a checkpoint that another user wrote")
    add("--push", metavar="OWNER/NAME", help="upload the folder to the hub, with the token of HF_TOKEN or of a login")
    add("--private", action="store_true", help="make a new repository on the hub private")


def run(args: Namespace) -> int:
    """Pack, and upload where asked.

    Raises:
        UsageError: no licence, a folder that exists, or an upload that fails
        CheckpointError: the checkpoint is missing, damaged or of another kind
    """
    if args.license is None:
        raise UsageError("--license is required: whoever loads the weights has to know it; give one, such as cc-by-4.0")
    check_license(args.license)
    if args.private and args.push is None:
        raise UsageError("--private is for --push; omit it, or give --push OWNER/NAME")
    check_folder(args.out, "")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(f"{args.out}: exists; name another folder")
    from s3prl_emotion import host
    from s3prl_emotion.files.hub import check_push, push

    if args.push is not None:
        check_push(args.push)
    host.register()
    from s3prl_emotion.pack.writing import pack

    pack(args)
    logger.info("%s: packed; load it with s3prl-emotion predict --ckpt %s FILES", args.out, args.out)
    if args.push is not None:
        logger.info("uploaded to %s", push(args.out, args.push, args.private))
    return 0
