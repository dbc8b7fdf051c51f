"""Prepared steps: done once for all runs that need them, marked when finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.locks import waited_for
from s3prl_emotion.benchmark.plan import Step
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files import writing

Say = Callable[[str], None]


class FailedStepError(TrainingError):
    """A prepared step failed: what needs it was not even begun."""


class Preparation:
    """Does steps when they are first needed, by whichever process needs them first.

    Args:
        processes: that run the commands
        session: of the benchmark; a step that failed is not tried again by the same one
    """

    def __init__(self, processes: Processes, session: str) -> None:
        self.processes, self.session = processes, session

    def ensure(self, step: Step, say: Say) -> None:
        """Return when a step is done.

        Args:
            step: those that it needs must be done
            say: told what is being done

        Raises:
            FailedStepError: a command failed
            InterruptedRunError: a command was ended from outside
        """
        say(f"prepare {step.name}")
        with waited_for(step.beside(".lock"), self.processes.stopped.is_set) as lock:
            found = read_json(step.beside(".json"))
            if is_done(step, found):
                return
            if "failed" in found and found.get("session") == self.session:
                raise FailedStepError(found["failed"])
            try:
                self._do(step, self.processes.variant(kept=[lock]))
            except InterruptedRunError:
                raise
            except TrainingError as error:
                said = f"prepare {step.name}: {error}"
                write_json(step.beside(".json"), {"failed": said, "session": self.session})
                raise FailedStepError(said) from error

    @staticmethod
    def _do(step: Step, processes: Processes) -> None:
        step.beside(".json").unlink(missing_ok=True)
        shutil.rmtree(step.folder, ignore_errors=True)
        step.folder.mkdir(parents=True)
        writing.write_text(step.beside(".yaml"), yaml.safe_dump(step.recipe, sort_keys=False, allow_unicode=True))
        for command in step.commands:
            processes.run(command, step.beside(".log"))
        write_json(step.beside(".json"), {"definition": step.definition, "commands": step.commands})


def is_done(step: Step, found: dict[str, Any] | None = None) -> bool:
    """Whether a step is made as it is defined now; ``found`` is what lies in its ``.json``."""
    found = read_json(step.beside(".json")) if found is None else found
    return found.get("definition") == step.definition


def read_json(path: Path) -> dict[str, Any]:
    """A file of ours, or nothing where it is not there or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Any) -> None:
    """Write a file of ours, whole or not at all."""
    writing.write_json(path, values, indent=1, ensure_ascii=False)
