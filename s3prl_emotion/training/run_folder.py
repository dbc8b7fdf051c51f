"""Keep the folder of a training to that training: unused before, or resumed, and locked as long as it runs."""

from __future__ import annotations

import logging
import re
import shutil
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from s3prl_emotion.errors import CheckpointError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.leftovers import remove_left
from s3prl_emotion.files.locate import BEST, LAST
from s3prl_emotion.files.locks import locked
from s3prl_emotion.files.outputs import missing_folders, remove_unused
from s3prl_emotion.files.writing import name_aside, put_back, set_aside

logger = logging.getLogger(__name__)
LOCK = ".lock"
HOSTS_NOTES = re.compile(r".+_\d{4}(-\d\d){5}\..+")  # files that the host writes before it builds anything
LEFT_BY_RUNS = ("*.ckpt", "log.log", "*_metrics.json", "*_predictions.csv", "*_predict.txt", "*_truth.txt")
CURVES = "events.out.tfevents.*"
NO_CURVES = 40  # bytes of the header that tensorboardX writes before the first value
READ_FROM = {
    "-e": "past_exp", "-i": "init_ckpt", "-c": "config", "-k": "upstream_ckpt", "-g": "upstream_model_config",
    "--feature_store": "feature_store", "--upstream_path": "upstream_path", "--downstream_path": "downstream_path",
}  # fmt: skip


def states_of(folder: Path) -> list[Path]:
    """Return the checkpoints ``states-N.ckpt`` of a folder by their step, the newest last."""
    return sorted(folder.glob("states-*.ckpt"), key=_step)


def is_used(folder: Path) -> bool:
    """Return whether a run left more in a folder than the host's notes of a start that failed."""
    left = any(any(folder.glob(pattern)) for pattern in LEFT_BY_RUNS)
    return left or any(path.stat().st_size > NO_CURVES for path in folder.glob(CURVES))


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds at most the lock, and what a failed start leaves: the host's notes, empty curves."""
    with suppress(OSError):  # it is gone already
        if all(_is_nothing(path) for path in folder.iterdir()):
            shutil.rmtree(folder)


def remove_if_failed(folder: Path, held: ExitStack) -> None:
    """Remove a folder that does not exist yet, with new ones above it, if the run fails and leaves no result in it.

    Args:
        folder: of a run
        held: closed at the end of the run
    """
    missing = missing_folders(folder.resolve())

    def clean(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and missing:
            if not (folder / LOCK).exists():  # a training removes its folder itself
                remove_if_empty(folder)
            remove_unused(missing[1:], ())

    held.push(clean)


def check_free(args: Namespace, folder: Path, past: Path | None) -> None:
    """Refuse to train in a folder in which another process trains, or that another run used.

    Args:
        args: of the command line
        folder: in which to train
        past: checkpoint from which training goes on

    Raises:
        UsageError: says what the folder holds and how to get on
    """
    if (folder / LOCK).exists():
        with locked(folder / LOCK, _busy(folder)):
            pass
    if _resumes(folder, past):
        if args.overwrite:
            raise UsageError(f"--overwrite: {past} is resumed in its own folder; choose another with -p, or omit it")
    elif is_used(folder):
        _check_used(args, folder)


def claim(args: Namespace, folder: Path, past: Path | None, step: int, held: ExitStack) -> None:
    """Lock the folder of a training until ``held`` is closed, and set aside what an earlier run left in it.

    Args:
        args: of the command line
        folder: in which to train
        past: checkpoint from which training goes on
        step: of that checkpoint
        held: holds the lock; when it is closed, a folder in which nothing was computed is removed

    Raises:
        UsageError: another process trains in it, or has trained in it since it was checked
    """
    _lock(folder, held)
    if past is not None and _resumes(folder, past):
        _set_later_aside(folder, past, step)
    elif is_used(folder):
        _check_used(args, folder)
        _set_aside(folder, held)


def _is_nothing(path: Path) -> bool:
    is_note = path.name == LOCK or HOSTS_NOTES.fullmatch(path.name) is not None
    return is_note or (path.match(CURVES) and path.stat().st_size <= NO_CURVES)


def _lock(folder: Path, held: ExitStack) -> None:
    folder.resolve().mkdir(parents=True, exist_ok=True)  # resolved: where a link's target was just set aside
    held.enter_context(locked(folder / LOCK, _busy(folder)))
    remove_left(folder.resolve())
    held.push(lambda kind, error, trace: None if kind is None else remove_if_empty(folder))


def _busy(folder: Path) -> str:
    return f"{folder}: another training is running in this folder"


def _resumes(folder: Path, past: Path | None) -> bool:
    """Return whether training goes on in the folder of the checkpoint."""
    return past is not None and past.parent.resolve() == folder.resolve()


def _check_used(args: Namespace, folder: Path) -> None:
    """Refuse a used folder unless it is to be set aside and can be."""
    if not args.overwrite and not args.auto_resume:
        raise UsageError(
            f"{folder}: holds another run; resume that with -a, choose another folder with -n or -p, or set the old "
            f"one aside as {name_aside(folder.resolve()).name} with --overwrite"
        )
    real = folder.resolve()
    paths = {flag: getattr(args, name, None) for flag, name in READ_FROM.items()}
    inside = [f"{flag} {path}" for flag, path in paths.items() if path and Path(path).resolve().is_relative_to(real)]
    inside += ["the working directory"] if Path.cwd().resolve().is_relative_to(real) else []
    if inside:
        raise UsageError(f"{folder}: cannot be set aside with {inside[0]} in it; choose another folder with -n or -p")


def _set_aside(folder: Path, held: ExitStack) -> None:
    """Rename the folder of an earlier run, and take a new one in its place; undone if nothing is computed in it."""
    real = folder.resolve()  # a link stays, and its target is renamed
    aside = set_aside(real)
    held.callback(_put_back, aside, real)
    _lock(folder, held)
    logger.warning("%s: the run in it was set aside as %s", folder, aside)


def _put_back(aside: Path, real: Path) -> None:
    if put_back(aside, real):
        logger.warning("%s: the run that was set aside is back, since nothing new was computed", real)


def _set_later_aside(folder: Path, past: Path, step: int) -> None:
    """Rename checkpoints that are later than the one resumed: ``-e`` and ``-a`` would take them for the newest."""
    later = [path for path in states_of(folder) if _step(path) > step and path.name != past.name]
    if not later:
        return
    for counted in (folder / BEST, folder / LAST):
        if counted.is_file() and counted.name != past.name and _is_later(counted, step):
            later.append(counted)
    for path in later:
        set_aside(path)
    logger.warning("%s: resumes from step %s; %s set aside under names that end in .N", folder, step, _names(later))


def _is_later(checkpoint: Path, step: int) -> bool:
    try:
        return bool(load_checkpoint(checkpoint, mmap=True).get("Step", 0) > step)
    except CheckpointError:  # a damaged one serves nobody
        return True


def _names(paths: Sequence[Path]) -> str:
    return f"{', '.join(path.name for path in paths)} {'was' if len(paths) == 1 else 'were'}"


def _step(path: Path) -> int:
    number = path.stem.split("-")[-1]
    return int(number) if number.isdigit() else 0
