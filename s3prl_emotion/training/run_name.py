"""Name the folder of a run that the user did not name: after its head and the time."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from s3prl_emotion import distributed
from s3prl_emotion.errors import UsageError
from s3prl_emotion.training.run_folder import remove_if_empty

logger = logging.getLogger(__name__)
RUNS = Path("result", "downstream")  # as in s3prl


def made_folder(args: Namespace, held: ExitStack) -> str:
    """Make a folder ``result/downstream/HEAD_DATE_TIME`` that no other run has, the same one for all processes.

    Args:
        args: of the command line
        held: when it is closed by an error, the folder is removed if nothing was computed in it

    Raises:
        UsageError: it cannot be made
    """
    if args.local_rank is not None:  # the processes must agree on the time
        distributed.set_device(args.local_rank)
        distributed.start(args.backend)
    return str(distributed.leaders(_make(args.downstream, held) if distributed.is_first(args) else None))


def _make(head: str, held: ExitStack) -> str:
    wanted = RUNS / f"{head}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    new = [path for path in (RUNS, *RUNS.parents[:-1]) if not path.exists()]
    try:
        RUNS.mkdir(parents=True, exist_ok=True)
        folder = next(path for path in _names(wanted) if _is_made(path))
    except OSError as error:
        raise UsageError(f"{wanted}: cannot be made ({error.strerror}); name another folder with -p") from error
    held.push(lambda kind, error, trace: None if kind is None else _remove(folder, new))
    logger.info("no -n or -p: this run goes to %s", folder)
    return str(folder)


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    yield from (wanted.with_name(f"{wanted.name}_{number}") for number in count(2))


def _is_made(path: Path) -> bool:
    """Make a folder; ``False`` if another run, perhaps of the same second, has it."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _remove(folder: Path, above: list[Path]) -> None:
    remove_if_empty(folder)
    with suppress(OSError):  # they hold other runs
        for path in above:
            path.rmdir()
