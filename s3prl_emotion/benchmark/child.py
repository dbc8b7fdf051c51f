"""``python child.py PARENT COMMAND…``: run a command that ends when the benchmark does.

A killed benchmark cannot end its runs, and they would go on writing where a restarted benchmark repeats them. So the
kernel is asked to end them (Linux: prctl's PR_SET_PDEATHSIG, which holds across exec). This file is started by its path
and imports nothing of the suite, since it runs before every command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl took effect
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"benchmark: error: {command[0]}: cannot be started ({error.strerror})")


if __name__ == "__main__":
    main()
