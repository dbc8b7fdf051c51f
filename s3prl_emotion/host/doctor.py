"""``s3prl-emotion doctor``: print versions, patches of the host, devices and folders."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion import host
from s3prl_emotion.files import folders
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.versions import versions


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(args: Namespace) -> int:
    """Print the report."""
    say(*report())
    return 0


def report() -> list[str]:
    """Return versions, patches of the host, devices, and the folders of heads, adapters and recipes, line by line."""
    import s3prl
    import torch

    host.register()
    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    lines = ["versions:", *(f"  {name} {version}" for name, version in versions().items())]
    lines += [f"s3prl: {Path(s3prl.__file__).parent}", f"suite: {folders.PACKAGE}"]
    patches = host.PATCHED or ["nothing: these versions need no patch"]
    lines += ["patched in the host:", *(f"  {line}" for line in patches)]
    lines += ["guarded in the host:", *(f"  {line}" for line in host.GUARDED)]
    lines += [f"devices: {', '.join(devices) or 'no CUDA device'}; cpu with {os.cpu_count()} cores"]
    lines += ["heads:", *(f"  -d {head}  {folders.heads_folder() / head / 'config.yaml'}" for head in folders.heads())]
    lines += [f"  -d {head}  {folder}" for head, folder in host.plugged_in_heads().items()]
    lines += [f"upstreams: {len(host.upstream_names())}, with adapters of {folders.adapters_folder()}"]
    recipes = sorted(folders.recipes_folder().rglob("*.yaml"))
    lines += ["recipes:", *(f"  {path}" for path in recipes)]
    return lines
