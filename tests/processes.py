"""Processes as torchrun starts them, without the seconds that each would need for its imports.

A fork server imports torch, s3prl and the suite once; every process of a test is a fork of it. They find each other
through a store that the test holds, as torchrun's agent does.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

import pytest

WARM = "S3PRL_EMOTION_TESTS_WARM"
Setup = Callable[[int], None]

if WARM in os.environ:  # in the fork server: what its children would import
    import torch

    from s3prl_emotion import host
    from s3prl_emotion.training import warm

    torch.set_num_threads(1)
    host.register()
    warm.import_all(["fbank_no_cmvn"])
    gc.freeze()  # else the first collection of each child copies all pages


@dataclass(frozen=True)
class Left:
    """What a process left: the function's value, and both streams."""

    value: Any
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong; fails where there are more, or a traceback."""
        lines = [line for line in self.err.splitlines() if ": error: " in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        return lines[0]


def together(
    folder: Path,
    world: int | None,
    function: Callable[..., Any],
    *args: Any,
    ranks: Sequence[int] | None = None,
    seconds: float = 90,
    **environment: str,
) -> list[Left]:
    """Call ``function(*args)`` in ``world`` processes at once.

    Args:
        folder: working directory of all
        world: processes, which find what torchrun tells them in the environment; ``None``: one without torchrun
        function: a function of a module, for it is found by its name
        args: of the function
        ranks: which of the processes are started; all by default
        seconds: until the processes count as stuck
        environment: variables of the processes

    Returns:
        what each of them left
    """
    from torch.distributed import TCPStore

    context = _context()
    store = None if world is None else TCPStore("localhost", 0, world, is_master=True, wait_for_workers=False)
    variables = environment if store is None else environment | _torchrun(store.port, world or 1)
    started = []
    for rank in range(world or 1) if ranks is None else ranks:
        receiver, sender = context.Pipe(duplex=False)
        own = variables if world is None else variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = context.Process(target=_child, args=(rank, folder, own, sender, function, args))
        process.start()
        sender.close()
        started.append((rank, process, receiver))
    return _collect(folder, started, time.monotonic() + seconds)


def command(words: Sequence[object], setup: Setup | None = None) -> int:
    """``run_downstream.py`` in this process; ``setup(rank)`` may put something in place before. Exit code.

    Confusion matrices are not drawn, which takes longer than training.
    """
    from s3prl_emotion import run_downstream
    from s3prl_emotion.training import summary

    summary.plot_confusion = lambda path, *others: path
    if setup is not None:
        setup(int(os.environ.get("RANK", 0)))
    return run_downstream.main([str(word) for word in words])


def suite_command(words: Sequence[object]) -> int:
    """``s3prl-emotion`` in this process. Exit code."""
    from s3prl_emotion import cli

    return cli.main([str(word) for word in words])


def joined(function: Callable[..., Any], *args: Any) -> Any:
    """Join the other processes, then call ``function(*args)``."""
    from s3prl_emotion import distributed

    distributed.start("gloo")
    return function(*args)


def _torchrun(port: int, world: int) -> dict[str, str]:
    return {
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def _context() -> Any:
    from conftest import FOLDERS, SOURCE

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    path = os.pathsep.join([SOURCE, *FOLDERS])
    needed = {WARM: "1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in needed.items():
            patch.setenv(name, value)
        forkserver.ensure_running()  # the first time; the server keeps the environment of its start
    return context


def _child(rank: int, folder: Path, variables: dict[str, str], sender: Any, function: Any, args: Any) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    multiprocessing.set_start_method(None, force=True)  # of data loaders' workers: the usual, not this process's own
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        os.dup2(os.open(f"{name}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    sys.argv = ["run_downstream.py"]
    try:
        answer = pickle.dumps((True, function(*args)))
    except BaseException:
        answer = pickle.dumps((False, traceback.format_exc()))
    sys.stdout.flush()
    sender.send_bytes(answer)
    sender.close()


def _collect(folder: Path, started: list[Any], deadline: float) -> list[Left]:
    answers: dict[int, Any] = {}
    waiting = {receiver: rank for rank, _, receiver in started}
    while waiting and time.monotonic() < deadline:
        for receiver in connection.wait(list(waiting), timeout=1.0):
            rank = waiting.pop(receiver)
            try:
                answers[rank] = pickle.loads(receiver.recv_bytes())
            except EOFError:
                answers[rank] = (False, "the process died")
    for rank, process, _ in started:
        process.join(max(0.0, deadline - time.monotonic()) if rank in answers else 0.0)
        process.kill()
        process.join()
    streams = {
        rank: [(folder / f"{name}.{rank}").read_text(errors="replace") for name in ("out", "err")]
        for rank, _, _ in started
        if (folder / f"err.{rank}").exists()
    }
    bad = {rank: "stuck" if rank not in answers else answers[rank][1] for rank, _, _ in started}
    bad = {rank: text for rank, text in bad.items() if rank not in answers or not answers[rank][0]}
    if bad:
        pytest.fail("\n".join(f"process {rank}: {text}\n{streams.get(rank)}" for rank, text in bad.items()))
    return [Left(answers[rank][1], *streams[rank]) for rank, _, _ in started]
