"""``python child.py PARENT COMMAND…``: run a command that ends when the benchmark does.

A benchmark that is killed cannot end its runs. Left alone they would go on writing where a restarted benchmark runs the
same; so the kernel is asked to end them (Linux: prctl's PR_SET_PDEATHSIG, which holds across exec). Called by its path
and with nothing imported, since it runs ahead of every command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be asked
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"benchmark: error: {command[0]}: cannot be started ({error.strerror})")


if __name__ == "__main__":
    main()
