"""Prepared steps: done once for all runs that need them, marked when finished."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.plan import Step
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.results import write_text

Say = Callable[[str], None]


class Preparation:
    """Does steps when they are first needed; a step that failed is not tried again by the same benchmark.

    Args:
        processes: that run the commands
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._lock = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}
        self._failed: dict[Path, str] = {}

    def ensure(self, step: Step, say: Say) -> None:
        """Return when a step is done.

        Args:
            step: those that it needs must be done
            say: told what is being done

        Raises:
            TrainingError: a command failed
        """
        with self._lock:
            lock = self._locks.setdefault(step.folder, threading.Lock())
        with lock:
            if step.folder in self._failed:
                raise TrainingError(self._failed[step.folder])
            if read_json(step.beside(".json")).get("definition") == step.definition:
                return
            say(f"prepare {step.name}")
            try:
                self._do(step)
            except TrainingError as error:
                self._failed[step.folder] = f"prepare {step.name}: {error}"
                raise TrainingError(self._failed[step.folder]) from error

    def _do(self, step: Step) -> None:
        step.beside(".json").unlink(missing_ok=True)
        shutil.rmtree(step.folder, ignore_errors=True)
        step.folder.mkdir(parents=True)
        write_text(step.beside(".yaml"), yaml.safe_dump(step.recipe, sort_keys=False, allow_unicode=True))
        for command in step.commands:
            self.processes.run(command, step.beside(".log"))
        write_json(step.beside(".json"), {"definition": step.definition, "commands": step.commands})


def read_json(path: Path) -> dict[str, Any]:
    """A file of ours, or nothing where it is not there or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Any) -> None:
    """Write a file of ours, whole or not at all."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n")
