"""One run by the real command line: train, evaluate from dev-best.ckpt what is left, collect."""

from __future__ import annotations

import functools
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.locks import waited_for
from s3prl_emotion.benchmark.plan import Run, is_superb
from s3prl_emotion.benchmark.prepare import FailedStepError, Preparation, read_json, write_json
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.folders import PACKAGE
from s3prl_emotion.files.writing import write_text

BEST = "dev-best.ckpt"
STATE = "state.json"
LONGEST_DEATH = 120  # s; after which no process of a killed benchmark should be left, on this machine or another
ELSEWHERE = {  # of the metrics file: stands once in the line, or would make it long
    "config", "versions", "upstream", "config_hash", "seed", "head", "per_speaker", "stored_features", "classes",
    "num_parameters", "model_size_mb", "store_key",
}  # fmt: skip
ONCE = ("num_parameters", "model_size_mb", "config_hash", "versions", "store_key")


@dataclass
class State:
    """What is known of a run that is not finished, kept in ``state.json``.

    Attributes:
        definition: of the run
        rate: learning rate that a search chose or tries
        trained: whether training is done
        error: why it failed at last; ``None`` where it did not, or was ended from outside
        failures: how often it failed
        seconds: that training and evaluations took
        doing: what is being done
        session: of the benchmark that does it
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
        """What an earlier benchmark left of the run as it is defined now, if it began it."""
        found = read_json(run.folder / STATE)
        if (found.get("definition"), found.get("rate")) != (run.definition, run.rate):
            return None
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})

    def keep(self, run: Run) -> None:
        """Write it down."""
        write_json(run.folder / STATE, vars(self))


def execute(run: Run, processes: Processes, session: str, device: str | None) -> dict[str, Any]:
    """Do a run from where an earlier benchmark left it.

    What is being done stands in its ``state.json`` and ``log.txt``, wherever it is done.

    Args:
        run: what to do
        processes: that run the commands
        session: of the benchmark
        device: ``--device``

    Returns:
        the run's line for ``results.jsonl``

    Raises:
        TrainingError: a command failed, or left other files than it should
        FailedStepError: a prepared step failed
        InterruptedRunError: it was ended from outside, or another process still works on the run
    """
    lock = run.folder.with_name(f".{run.folder.name}.lock")
    with waited_for(lock, processes.stopped.is_set, LONGEST_DEATH) as held:
        return _execute(run, processes.variant(kept=[held]), session, device)


def _execute(run: Run, processes: Processes, session: str, device: str | None) -> dict[str, Any]:
    state = _begin(run, session)

    def say(doing: str | None) -> None:
        state.doing = doing
        state.keep(run)

    try:
        for step in run.steps:
            Preparation(processes, session).ensure(step, say)
        if not state.trained:
            say("train")
            _timed(state, "train", processes, _train_command(run, device), run)
            state.trained = True
        for split in run.tests:
            if _best_metrics(run.expdir, split) is None:
                say(f"evaluate {split}")
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
        say(None)


def _begin(run: Run, session: str) -> State:
    """Take up what an interrupted benchmark left, or begin anew."""
    found = State.of(run)
    state = State(run.definition, run.rate, failures=found.failures if found else 0, session=session)
    interrupted = found is not None and found.error is None and not is_superb(run.config)  # whose order has no resume
    if found is not None and (found.trained or interrupted):
        state.trained, state.seconds = found.trained, found.seconds
    else:
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
    write_text(run.folder / "recipe.yaml", yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    state.keep(run)
    return state


def _timed(state: State, name: str, processes: Processes, command: list[str], run: Run) -> None:
    begun = time.monotonic()
    processes.run(command, run.folder / "log.txt")
    state.seconds[name] = round(state.seconds.get(name, 0.0) + time.monotonic() - begun, 1)


def _train_command(run: Run, device: str | None) -> list[str]:
    words = ["run_downstream.py", "-m", "train", "-d", run.head, "-c", str(run.folder / "recipe.yaml")]
    words += ["-p", str(run.expdir), "--seed", str(run.cell.seed), *run.upstream_flags, *run.store_flags]
    words += ["--device", device] if device else []
    return [*words, "-a", *_here(run)] if any(run.expdir.glob("states-*.ckpt")) else words


def _evaluate_command(run: Run, split: str, device: str | None) -> list[str]:
    words = ["run_downstream.py", "-m", "evaluate", "-e", str(run.expdir / BEST), "-t", split, *run.store_flags]
    flags = list(run.upstream_flags)
    if "--upstream_path" in flags:  # a checkpoint does not choose folders whose code is run
        words += ["--upstream_path", flags[flags.index("--upstream_path") + 1]]
    return [*words, *_here(run), *(["--device", device] if device else [])]


def _here(run: Run) -> list[str]:
    """A checkpoint brings its experiment directory along, which may have been moved since."""
    return ["-o", f"args.expdir={str(run.expdir)!r}"]


def _best_metrics(expdir: Path, split: str) -> dict[str, Any] | None:
    """Metrics of a split, where they are there and come from the best checkpoint."""
    for path in sorted(expdir.glob(f"{split}_*_metrics.json")):  # test_… also finds test_5dB_…
        metrics = read_json(path)
        if metrics.get("split") == split and Path(str(metrics.get("checkpoint"))).name == BEST:
            predictions = path.with_name(path.name.replace("_metrics.json", "_predictions.csv"))
            return {**metrics, "predictions": predictions}
    return None


def _line(run: Run, state: State) -> dict[str, Any]:
    """The run's line for ``results.jsonl``."""
    splits: dict[str, Any] = {}
    for split in ("dev", *run.tests):
        metrics = _best_metrics(run.expdir, split)
        if metrics is None and split in run.tests:
            raise TrainingError(
                f"{run.expdir}: no metrics of {split} from {BEST}; was dev evaluated at all (runner.eval_step)?"
            )
        if metrics is not None:
            predictions = metrics.pop("predictions").relative_to(run.folder.parents[3])
            values = {name: value for name, value in metrics.items() if name not in ELSEWHERE}
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
        **{name: about.get(name) for name in ONCE},
        "upstream_options": about.get("upstream"),
        **({"search": vars(run.choice)} if run.choice else {}),
        "git": git_revision(),
        "host": platform.node(),
        "seconds": state.seconds,
    }


@functools.cache
def git_revision() -> str | None:
    """Commit of the checkout that the suite runs from, ``+`` where files differ from it, or nothing."""
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"],
                          ["ls-files", "__init__.py"])
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found[0] + ("+" if found[1] else "") if found[2] else None
