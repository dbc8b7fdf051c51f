"""``s3prl-emotion doctor``: what there is to know when something does not run."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion import host
from s3prl_emotion.files import folders
from s3prl_emotion.files.versions import versions


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name: nothing."""


def run(args: Namespace) -> int:
    """Print the report."""
    sys.stdout.write("\n".join(report()) + "\n")
    return 0


def report() -> list[str]:
    """Versions, what was mended in the host, devices, and where heads, adapters and recipes were found."""
    import s3prl
    import torch

    host.register()
    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    lines = ["versions:", *(f"  {name} {version}" for name, version in versions().items())]
    lines += [f"s3prl: {Path(s3prl.__file__).parent}", f"suite: {folders.PACKAGE}"]
    lines += ["mended in the host:", *(f"  {line}" for line in host.MENDED or ["nothing: this stack needs no mending"])]
    lines += [f"devices: {', '.join(devices) or 'no CUDA device'}; cpu with {os.cpu_count()} cores"]
    lines += ["heads:", *(f"  -d {head}  {folders.heads_folder() / head / 'config.yaml'}" for head in folders.heads())]
    lines += [f"upstreams: {len(host.upstream_names())}, with adapters of {folders.adapters_folder()}"]
    recipes = sorted(folders.recipes_folder().rglob("*.yaml"))
    lines += ["recipes:", *(f"  {path}" for path in recipes)]
    return lines
