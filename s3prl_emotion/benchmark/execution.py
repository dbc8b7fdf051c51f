"""Execute one run with the real command line: prepare its steps, train, evaluate dev-best.ckpt, collect the metrics."""

from __future__ import annotations

import functools
import logging
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.plan import Run, is_superb
from s3prl_emotion.benchmark.prepare import FailedStepError, Preparation
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes
from s3prl_emotion.benchmark.records import read_json, write_json
from s3prl_emotion.errors import CheckpointError, DamagedCheckpointError, LabelError, TrainingError
from s3prl_emotion.files.checks import boolean, count, mapping, number, optional, record, text
from s3prl_emotion.files.folders import PACKAGE
from s3prl_emotion.files.locate import BEST, LAST, counted_checkpoint
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.metrics.stored import read_metrics

logger = logging.getLogger(__name__)
STATE = "state.json"
LONGEST_WAIT = 120  # s; by then every process of a killed benchmark should have ended, also on other machines
NOT_PER_SPLIT = {  # keys of a metrics file that a line holds once, or that would make it long
    "config", "versions", "upstream", "config_hash", "seed", "head", "per_speaker", "stored_features", "classes",
    "num_parameters", "model_size_mb", "store_key",
}  # fmt: skip
ONCE_A_RUN = ("num_parameters", "model_size_mb", "config_hash", "versions", "store_key")
STATE_VALUES = record(
    {"definition": text},
    {
        "trained": boolean, "failures": count, "seconds": mapping(number(0)),
        **dict.fromkeys(("error", "doing", "session"), optional(text)),
    },
)  # fmt: skip


@dataclass
class State:
    """The state of an unfinished run, kept in ``state.json``.

    Attributes:
        definition: hash of the run
        rate: learning rate that a search chose or tries
        trained: whether training is done
        error: why it last failed; ``None`` where it did not fail, or was ended from outside
        failures: how often it failed
        seconds: duration of training and of each evaluation
        doing: current action
        session: id of the benchmark's session that performs it
    """

    definition: str
    rate: float | None = None
    trained: bool = False
    error: str | None = None
    failures: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    doing: str | None = None
    session: str | None = None

    @classmethod
    def of(cls, run: Run) -> State | None:
        """Read the state of a run; ``None`` where it was not started as it is defined now."""
        values = read_json(run.folder / STATE)
        if (values.get("definition"), values.get("rate")) != (run.definition, run.rate):
            return None
        wrong = STATE_VALUES(values)
        if wrong is not None:
            logger.warning("%s: is damaged (%s); the run starts again", run.folder / STATE, wrong)
            return None
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})

    def save(self, run: Run) -> None:
        """Write ``state.json``."""
        write_json(run.folder / STATE, vars(self))


def execute(run: Run, processes: Processes, session: str, device: str | None) -> dict[str, Any]:
    """Execute a run, from where an earlier benchmark left it.

    Its ``state.json`` and ``log.txt`` show the progress, on whatever machine it is executed.

    Args:
        run: the run
        processes: run the commands
        session: id of the benchmark's session
        device: ``--device``

    Returns:
        the run's line for ``results.jsonl``

    Raises:
        TrainingError: a command failed or did not leave the expected files
        FailedStepError: a prepared step failed
        InterruptedRunError: the run was ended from outside, or another process still works on it
    """
    lock = run.folder.with_name(f".{run.folder.name}.lock")
    with processes.locking(lock, LONGEST_WAIT) as locked:
        return _execute(run, locked, session, device)


def _execute(run: Run, processes: Processes, session: str, device: str | None) -> dict[str, Any]:
    state = _begin(run, session)

    def report(doing: str | None) -> None:
        state.doing = doing
        state.save(run)

    try:
        for step in run.steps:
            Preparation(processes, session).ensure(step, report)
        if not state.trained:
            report("train")
            if not _states(run):
                shutil.rmtree(run.expdir, ignore_errors=True)  # an interrupted run without one starts again
            _timed(state, "train", processes, _train_command(run, device), run)
            state.trained = True
        for split in run.tests:
            if _best_metrics(run.expdir, split) is None:
                report(f"evaluate {split}")
                _timed(state, split, processes, _evaluate_command(run, split, device), run)
        return _line(run, state)
    except InterruptedRunError:
        state.error = None
        raise
    except TrainingError as error:
        state.error = str(error)
        state.failures += not isinstance(error, FailedStepError)
        raise
    finally:
        report(None)


def _begin(run: Run, session: str) -> State:
    """Resume an interrupted run, or start it from scratch in an empty folder."""
    old = State.of(run)
    state = State(run.definition, run.rate, failures=old.failures if old else 0, session=session)
    resumable = old is not None and old.error is None and not is_superb(run.config)  # SUPERB's order has no resume
    damage = best_damage(run) if old is not None and old.trained else None
    if damage is not None:
        logger.warning("%s; the run is repeated: %s", damage, run.cell.id)
    if old is not None and (old.trained or resumable) and damage is None:
        state.trained, state.seconds = old.trained, old.seconds
    else:
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
    write_text(run.folder / "recipe.yaml", yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    state.save(run)
    return state


def best_damage(run: Run) -> str | None:
    """Return how the checkpoint that counts is damaged; ``None`` if it is whole, or was removed to save room."""
    from s3prl_emotion.files.checkpoint import load_checkpoint

    path = counted_checkpoint(run.expdir)
    if not path.is_file():
        return None
    try:
        load_checkpoint(path, mmap=True)
    except DamagedCheckpointError as error:
        return str(error).removesuffix("; use an older one")
    except CheckpointError:  # the evaluation says what is wrong
        return None
    return None


def _timed(state: State, name: str, processes: Processes, command: list[str], run: Run) -> None:
    begun = time.monotonic()
    processes.run(command, run.folder / "log.txt")
    state.seconds[name] = round(state.seconds.get(name, 0.0) + time.monotonic() - begun, 1)


def _train_command(run: Run, device: str | None) -> list[str]:
    words = ["run_downstream.py", "-m", "train", *(["-a"] if _states(run) else []), "-d", run.head]
    words += ["-c", str(run.folder / "recipe.yaml")]
    words += ["-p", str(run.expdir), "--seed", str(run.cell.seed), *run.upstream_flags, *run.store_flags]
    words += run.statistics_flags
    words += [*(["--device", device] if device else []), *_seen_flag(run)]
    return words


def _states(run: Run) -> bool:
    """Return whether the run has a checkpoint to resume from."""
    return any(run.expdir.glob("states-*.ckpt"))


def _evaluate_command(run: Run, split: str, device: str | None) -> list[str]:
    checkpoint = counted_checkpoint(run.expdir)
    words = ["run_downstream.py", "-m", "evaluate", "-e", str(checkpoint), "-t", split, *run.store_flags]
    words += run.statistics_flags
    for flag in ("-u", "-k", "-g", "--upstream_path"):  # a checkpoint does not choose files that can run code
        value = run.upstream_flag(flag)
        words += [flag, value] if value is not None else []
    return [*words, *(["--device", device] if device else []), *_seen_flag(run)]


def _seen_flag(run: Run) -> list[str]:
    return ["--allow_seen"] if run.allow_seen else []


def _best_metrics(expdir: Path, split: str) -> dict[str, Any] | None:
    """Return the metrics of a split, if they were computed from the checkpoint that counts."""
    for path in sorted(expdir.glob(f"{split}_*_metrics.json")):  # test_… also matches test_5dB_…
        try:
            metrics = read_metrics(path)
        except LabelError as error:
            logger.warning("%s", error)
            continue
        if metrics.get("split") == split and Path(str(metrics.get("checkpoint"))).name in (BEST, LAST):
            predictions = path.with_name(path.name.replace("_metrics.json", "_predictions.csv"))
            return {**metrics, "predictions": predictions}
    return None


def _line(run: Run, state: State) -> dict[str, Any]:
    """Return the run's line for ``results.jsonl``."""
    splits: dict[str, Any] = {}
    for split in ("dev", *run.tests):
        metrics = _best_metrics(run.expdir, split)
        if metrics is None and split in run.tests:
            raise TrainingError(
                f"{run.expdir}: no metrics of {split} from {BEST}; was dev evaluated at all (runner.eval_step)?"
            )
        if metrics is not None:
            predictions = metrics.pop("predictions").relative_to(run.folder.parents[3])
            values = {name: value for name, value in metrics.items() if name not in NOT_PER_SPLIT}
            splits[split] = {"predictions": str(predictions), "metrics": values}
            about = metrics
    cell = run.cell
    return {
        "run": cell.id,
        "definition": run.definition,
        "upstream": cell.upstream,
        "system": cell.system,
        "fold": cell.fold,
        "seed": cell.seed,
        "head": run.head,
        "splits": splits,
        **{name: about.get(name) for name in ONCE_A_RUN},
        "upstream_options": about.get("upstream"),
        **({"search": vars(run.choice)} if run.choice else {}),
        "git": git_revision(),
        "host": platform.node(),
        "seconds": state.seconds,
    }


@functools.cache
def git_revision() -> str | None:
    """Return the commit of the suite's checkout, with ``+`` where files differ from it; ``None`` without a checkout."""
    try:
        head, changes, package = [
            subprocess.run(
                ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"],
                          ["ls-files", "__init__.py"])
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "") if package else None
