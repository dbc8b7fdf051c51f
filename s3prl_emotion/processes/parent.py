"""End processes with their parent, also one that is killed and cannot end them.

``python parent.py PARENT COMMAND…`` runs a command that ends with the process PARENT. It is started by its path and
imports nothing of the suite, since it runs before each of a benchmark's commands, which would go on writing where a
restarted benchmark repeats them. The kernel ends them (Linux: prctl's PR_SET_PDEATHSIG, which holds across exec).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_PARENTS: set[int] = set()  # processes with whom forked children end


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends; only Linux can.

    Precisely, when the parent's thread ends that started this process.

    Args:
        parent: id of the parent, which may have ended already
        number: the signal
    """
    if not hasattr(_LIBC, "prctl"):
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it ended before prctl took effect
        os.kill(os.getpid(), number)


def end_with_torchrun() -> None:
    """Have a process that torchrun started end when torchrun is killed: tidily, since it may be amid a step."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(os.getppid(), signal.SIGTERM)


def end_children_too() -> None:
    """Have children end with this process that are forked from now on, such as s3prl's own loader processes."""
    _PARENTS.add(os.getpid())


def _end_in_child() -> None:
    if os.getppid() in _PARENTS:
        end_with_parent(os.getppid())


os.register_at_fork(after_in_child=_end_in_child)


def main() -> None:
    """Replace this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    end_with_parent(parent)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"benchmark: error: {command[0]}: cannot be started ({error.strerror})")


if __name__ == "__main__":
    main()
