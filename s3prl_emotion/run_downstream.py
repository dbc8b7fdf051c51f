"""``run_downstream.py``: s3prl's command line with the suite's heads, adapters, checks and runner."""

from __future__ import annotations

import sys
from typing import NoReturn

from s3prl_emotion.processes.collection import own_process
from s3prl_emotion.training.main import main

__all__ = ["command", "main"]


def command() -> NoReturn:
    """Run the installed ``run_downstream.py`` and exit with its code."""
    own_process()
    code = main()
    from s3prl_emotion.distributed import leave

    leave(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
