"""``s3prl-emotion unlink S3PRL_DIR``: undo ``link``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.host.linking import unlink


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    parser.add_argument("folder", type=Path, metavar="S3PRL_DIR", help="an s3prl checkout, or its package's folder")


def run(args: Namespace) -> int:
    """Unlink, and say what was done."""
    sys.stdout.write("\n".join(unlink(args.folder)) + "\n")
    return 0
