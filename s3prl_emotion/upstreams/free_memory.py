"""Read how much memory this process can still use, on the CPU or on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # bytes; version 1 of cgroups writes a number near 2^63 where there is no limit
FILES_V2 = ("memory.max", "memory.current", "")
FILES_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can be allocated on a device, or ``None`` where the system does not say.

    On a CPU that is the smallest of the machine's available memory, what the process's control groups (Docker, SLURM,
    Kubernetes) leave of their limits, and what ``ulimit -v`` leaves; processes that torchrun started on this machine
    share it. On a GPU it is what the driver says, and what torch keeps for reuse.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    known = [size for size in (_available(), *_left_in_groups(), _left_of_addresses()) if size is not None]
    return max(0, min(known)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if known else None


def _available() -> int | None:
    """Return ``MemAvailable``: free memory and caches that the kernel gives up."""
    for line in _lines(PROC / "meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_in_groups() -> Iterator[int]:
    """Yield what the limit of each control group of this process leaves, from its own up to the outermost."""
    for line in _lines(PROC / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = CGROUPS, FILES_V2
        elif "memory" in controllers.split(","):
            root, files = CGROUPS / "memory", FILES_V1
        else:
            continue
        group = root / path.strip("/")
        while True:  # in a container, the path may be that of the host: then only the outermost exists
            left = _left_in(group, *files)
            if left is not None:
                yield left
            if group == root:
                break
            group = group.parent


def _left_in(group: Path, limit_file: str, usage_file: str, prefix: str) -> int | None:
    """Return the limit minus the usage, in which caches of files do not count, since the kernel gives them up."""
    limit, usage = _number(group / limit_file), _number(group / usage_file)
    if limit is None or usage is None or limit >= UNLIMITED:
        return None
    counts = dict(line.split()[:2] for line in _lines(group / "memory.stat") if len(line.split()) > 1)
    caches = sum(int(counts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return limit - max(0, usage - caches)


def _left_of_addresses() -> int | None:
    """Return what ``ulimit -v`` leaves of the addresses of this process."""
    try:
        import resource
    except ImportError:  # not on this system
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = next(iter(_lines(PROC / "self/statm")), "").split()
    if limit == resource.RLIM_INFINITY or not used:
        return None
    return limit - int(used[0]) * resource.getpagesize()


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max": no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
