"""Run prepared steps, each once for all the runs that need it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import yaml

from s3prl_emotion.benchmark.plan import Step
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes
from s3prl_emotion.benchmark.records import read_json, write_json
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.writing import write_text

Report = Callable[[str], None]


class FailedStepError(TrainingError):
    """A prepared step failed, so the run that needs it was not started."""


class Preparation:
    """Runs a step when a process first needs it; other processes wait for it.

    Args:
        processes: run the commands
        session: id of the benchmark's session; a step that failed in it is not tried again in it
    """

    def __init__(self, processes: Processes, session: str) -> None:
        self.processes, self.session = processes, session

    def ensure(self, step: Step, report: Report) -> None:
        """Return once a step is done.

        Args:
            step: the step; the steps that it needs must be done
            report: called with what is being done

        Raises:
            FailedStepError: a command failed
            InterruptedRunError: a command was ended from outside
        """
        report(f"prepare {step.name}")
        with self.processes.locking(step.beside(".lock")) as processes:
            left = read_json(step.beside(".json"))
            if is_done(step, left):
                return
            if "failed" in left and left.get("session") == self.session:
                raise FailedStepError(left["failed"])
            try:
                self._run(step, processes)
            except InterruptedRunError:
                raise
            except TrainingError as error:
                message = f"prepare {step.name}: {error}"
                write_json(step.beside(".json"), {"failed": message, "session": self.session})
                raise FailedStepError(message) from error

    @staticmethod
    def _run(step: Step, processes: Processes) -> None:
        step.beside(".json").unlink(missing_ok=True)
        shutil.rmtree(step.folder, ignore_errors=True)
        step.folder.mkdir(parents=True)
        write_text(step.beside(".yaml"), yaml.safe_dump(step.recipe, sort_keys=False, allow_unicode=True))
        for command in step.commands:
            processes.run(command, step.beside(".log"))
        write_json(step.beside(".json"), {"definition": step.definition, "commands": step.commands})


def is_done(step: Step, left: dict[str, Any] | None = None) -> bool:
    """Return whether a step was done as it is defined now; ``left`` is the content of its ``.json``."""
    left = read_json(step.beside(".json")) if left is None else left
    return left.get("definition") == step.definition
