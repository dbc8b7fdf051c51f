"""Where runs are executed: on this machine (:mod:`.local`), or by Ray on many (:mod:`.ray_cluster`).

Either way a run is what :func:`~s3prl_emotion.benchmark.execution.execute` makes of it, in subprocesses, and its line
comes back to the benchmark, which alone writes results.
"""

from __future__ import annotations

from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from s3prl_emotion.benchmark.plan import Run


class Executor(Protocol):
    """Takes runs and gives their lines; a context, which ends everything that still runs when it is left."""

    slots: int | None
    """Runs that may be there at a time; ``None``: any number, which wait inside."""

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def submit(self, run: Run) -> Future[dict[str, Any]]:
        """Execute a run.

        Returns:
            its line; or the exceptions of :func:`~s3prl_emotion.benchmark.execution.execute`
        """

    def check(self) -> None:
        """Called now and then.

        Raises:
            TrainingError: nothing can be executed any more
        """
