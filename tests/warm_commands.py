"""A command for ``test_warm_commands.py``, and what a server of it imports."""

from __future__ import annotations

# ruff: noqa: T201
import atexit
import importlib
import os
import sys
import time


def import_all(words: list[str]) -> None:
    """Import what the command needs."""
    for word in words:
        importlib.import_module(word)


def show() -> None:
    """Print all that a process may see of how it was started."""
    import signal

    import torch

    lock = int(os.environ["LOCKS"])
    same = os.path.samestat(os.fstat(lock), os.stat("lock"))
    left_out = ("LOCKS", "_", "LC_CTYPE")
    print({name: value for name, value in sorted(os.environ.items()) if name not in left_out})
    print(
        os.getcwd(),
        sys.path,
        sys.argv,
        sys.orig_argv[sys.orig_argv.index("-m") :],
        __name__,
        sys.modules["__main__"].__name__,
    )
    print(same, os.get_inheritable(lock), os.read(0, 1), sys.stdout.isatty(), sys.stdout.encoding)
    print(sys.stdout.line_buffering, sys.stderr.line_buffering, sys.flags, signal.pthread_sigmask(signal.SIG_BLOCK, []))
    print([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)])
    print(torch.get_num_threads(), len(os.listdir("/proc/self/fd")), os.umask(0o22))
    sys.exit(3)


def draw() -> None:
    """Draw from the generators as they are at the start."""
    import random

    import numpy as np
    import torch

    print(random.random(), float(np.random.rand()), float(torch.rand(1)))


def compute() -> None:
    """Compute with all threads, and end without tidying, which would copy the memory of all that was imported."""
    import numpy as np
    import torch

    total = torch.arange(40_000.0).sqrt().sum() + (torch.ones(300, 300) @ torch.ones(300, 300)).sum()
    print(torch.get_num_threads(), float(total), float((np.ones((300, 300)) @ np.ones((300, 300))).sum()), flush=True)
    os._exit(0)


def go() -> None:
    """Do nothing."""


def fail() -> None:
    """End by an error."""
    raise ValueError("as asked")


def leave() -> None:
    """End as a command does that cannot go on."""
    atexit.register(print, "at the end")
    sys.exit("prog: error: as asked")


def hold() -> None:
    """Wait until a file is there."""
    print(os.getpid(), flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
