"""``s3prl-emotion link S3PRL_DIR``: link the heads into s3prl, for its own unchanged ``run_downstream.py``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.host.linking import link


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    parser.add_argument("folder", type=Path, metavar="S3PRL_DIR", help="an s3prl checkout, or its package's folder")


def run(args: Namespace) -> int:
    """Link, and say what was done."""
    sys.stdout.write("\n".join(link(args.folder)) + "\n")
    return 0
