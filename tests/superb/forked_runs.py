"""Have a benchmark run its commands in forks of its own process, which has imported everything: for a nursery.

Runs of the search train; those of the folds pretend, and confusion matrices and the report's panels are not drawn,
since all these would take longer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from nursery import born
from pretended import folder_of, pretend

from s3prl_emotion.benchmark.processes import Processes, last_error
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.processes.parent import end_with_parent
from s3prl_emotion.report.drawing.figure import Panel
from s3prl_emotion.training import summary

EMPTY = '<svg width="1pt" height="1pt" viewBox="0 0 1 1" xmlns="http://www.w3.org/2000/svg"></svg>'


def run(processes: Processes, command: Sequence[str], log: Path) -> None:
    """Stand in for ``Processes.run``; the fork ends with this process, also where that is killed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    if (child := os.fork()) == 0:
        code = 70
        try:
            end_with_parent(parent)
            if "search" in folder_of(command).parts:
                code = born({"words": list(command), "to": log})
            else:
                pretend(command)
                code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise TrainingError(last_error(log))


torch.optim.Adam([torch.zeros(1)])  # the first optimizer of a process imports for seconds
Processes.run = run  # type: ignore[method-assign]
summary.plot_confusion = lambda path, *others: path
Panel.svg = lambda panel: EMPTY  # type: ignore[method-assign]
