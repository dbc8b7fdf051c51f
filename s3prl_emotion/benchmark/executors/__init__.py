"""Execute runs on this machine (:mod:`.local`), or by Ray on several (:mod:`.ray_cluster`).

Both call :func:`~s3prl_emotion.benchmark.execution.execute`, which works in other processes, and return the run's line
to the benchmark, the only process that writes results.
"""

from __future__ import annotations

from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from s3prl_emotion.benchmark.plan import Run


class Executor(Protocol):
    """Executes runs and returns their lines; leaving its context ends the runs that are still active."""

    slots: int | None
    """Number of runs to submit at a time; ``None``: all, since the executor queues them itself."""

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def submit(self, run: Run) -> Future[dict[str, Any]]:
        """Execute a run.

        Returns:
            a future with its line, or with an exception of :func:`~s3prl_emotion.benchmark.execution.execute`
        """

    def check(self) -> None:
        """Check that runs can still be executed; the benchmark calls this now and then.

        Raises:
            TrainingError: no run can be executed any more
        """
