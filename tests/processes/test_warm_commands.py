"""Commands that are forked from a warm server run as in fresh interpreters, and die alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import FOLDERS, SOURCE

from s3prl_emotion.benchmark import processes
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.processes import command_server
from s3prl_emotion.processes.command_server import _Server
from s3prl_emotion.processes.commands import LOST, Command, CommandServer, RefusedError
from s3prl_emotion.processes.wire import receive, send

MODULE = "warm_commands"  # beside this file: both the server's module and the command
SECONDS = 60.0
COMMANDS = 50


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([SOURCE, *FOLDERS])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", **more}


class Started:
    """Starts commands of the module, with their output in files."""

    def __init__(self, server: CommandServer, folder: Path) -> None:
        self.server, self.folder = server, folder

    def __call__(self, *words: str, name: str = "log", **more: str) -> Command:
        with (self.folder / name).open("ab") as log:
            return self.server.start(MODULE, words, log.fileno(), str(self.folder), environment(**more))

    def said(self, name: str = "log") -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[CommandServer]]:
    """One with torch, and one without."""
    servers = [CommandServer(MODULE, environment(), ["torch"]), CommandServer(MODULE, environment())]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def with_torch(servers: list[CommandServer], tmp_path: Path) -> Started:
    return Started(servers[0], tmp_path)


@pytest.fixture
def start(servers: list[CommandServer], tmp_path: Path) -> Started:
    return Started(servers[1], tmp_path)


def until(what: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


# --- without processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", [None, "ImportError: no torch"])
def test_the_loop_ends_with_its_caller_and_refuses_what_it_must_not_fork(
    why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_server, "_threads", lambda: 3)
    ours, theirs = socket.socketpair()
    status, other = socket.socketpair()
    with ours, theirs, status, other:
        job = {"module": "m", "arguments": [], "folder": "/", "environment": {}, "locks": ""}
        send(ours, {"start": 0, "job": job}, [other.fileno(), other.fileno()])
        send(ours, {"end": 5, "signal": 15})  # ended long ago
        ours.close()
        before = signal.getsignal(signal.SIGCHLD)
        try:
            assert _Server(theirs, 1, why).serve() is None
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, before)
        assert receive(status)[0] == {"refused": why or "imports have started 2 threads"}


def test_threads_are_counted_and_errors_of_imports_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    before, go = command_server._threads(), threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    assert command_server._threads() == before + 1
    go.set()
    thread.join()
    most, refusal = command_server._import("no_such_module", [])
    assert (most >= before, refusal) == (True, "ModuleNotFoundError: No module named 'no_such_module'")
    monkeypatch.setattr(command_server, "THREADS", Path("/nowhere"))
    assert command_server._threads() == threading.active_count()


def test_a_command_without_a_server_is_refused() -> None:
    ours, theirs = socket.socketpair()
    command = Command(CommandServer(MODULE, {}), 0, ours)
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.01)
    theirs.close()
    for _ in range(2):
        with pytest.raises(RefusedError, match="it was killed"):
            command.wait()
    command.terminate()


def test_a_command_whose_server_dies_was_ended_from_outside() -> None:
    ours, theirs = socket.socketpair()
    command = Command(CommandServer(MODULE, {}), 0, ours)
    send(theirs, {"pid": 7})
    theirs.close()
    assert command.wait() == LOST
    assert (command.pid, command.wait(1)) == (7, LOST)


class Refusing:
    """A server that forks nothing."""

    def start(self, *args: object) -> Command:
        raise RefusedError("a thread of Python runs")

    def close(self) -> None: ...


def test_a_refused_command_runs_in_a_fresh_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = Processes()
    own.server = Refusing()  # type: ignore[assignment]
    monkeypatch.setattr(processes, "_as_installed", lambda command: ["true"])
    for _ in range(2):
        own.run(["run_downstream.py", "-m", "train"], tmp_path / "log")
    said = ["runs start in fresh interpreters, which takes seconds for each: a thread of Python runs"]
    assert caplog.messages == said  # once
    assert own.variant(environment={"A": "b"}).server is own.server
    assert Processes(isolate=True).server is None
    own.close()


# --- with processes -------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_child_is_as_a_fresh_process(with_torch: Started, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    words = ("show", "a b", "ü")
    with lock.open("w") as held, (tmp_path / "log").open("ab") as log:
        more = environment(OWN="1", CUDA_VISIBLE_DEVICES="7")
        command = with_torch.server.start(MODULE, words, log.fileno(), str(tmp_path), more, ("LOCKS", (held.fileno(),)))
        assert command.wait(SECONDS) == 3
    with (tmp_path / "fresh").open("ab") as fresh, lock.open("w") as held:
        done = subprocess.run(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-m", MODULE, *words],  # type: ignore[attr-defined]
            cwd=tmp_path, env={**more, "LOCKS": str(held.fileno())}, pass_fds=[held.fileno()], stdin=subprocess.DEVNULL,
            stdout=fresh, stderr=fresh,
        )  # fmt: skip
    assert done.returncode == 3
    assert with_torch.said().splitlines() == with_torch.said("fresh").splitlines()


@pytest.mark.full
def test_errors_and_exit_codes(start: Started) -> None:
    assert start("fail").wait(SECONDS) == 1
    assert start.said().splitlines()[-1] == "ValueError: as asked"
    assert start("leave", name="left").wait(SECONDS) == 1
    assert start.said("left").splitlines() == ["prog: error: as asked", "at the end"]


@pytest.mark.full
def test_each_child_draws_its_own(with_torch: Started) -> None:
    """As fresh interpreters do, torch's generator included."""
    for command in [with_torch("draw", name=str(number)) for number in range(2)]:
        assert command.wait(SECONDS) == 0
    one, other = (with_torch.said(str(number)).split() for number in range(2))
    assert len(one) == len(other) == 3
    assert not set(one) & set(other)


@pytest.mark.full
def test_commands_in_a_row_compute_with_all_threads(with_torch: Started) -> None:
    """OpenMP's team and OpenBLAS's pool begin anew in each; ``--count 4`` makes it 200 commands."""
    for _ in range(COMMANDS):
        command = with_torch("compute")
        try:
            assert command.wait(SECONDS) == 0, with_torch.said()
        except subprocess.TimeoutExpired:
            command.kill()
            raise
    lines = with_torch.said().splitlines()
    assert (len(lines), len(set(lines))) == (COMMANDS, 1)  # the same sums
    assert lines[0].startswith("2 ")  # threads


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_dies_alone(start: Started, number: signal.Signals) -> None:
    one, other = start("hold", name="one"), start("hold", name="other")
    until(lambda: (start.folder / "one").stat().st_size and (start.folder / "other").stat().st_size)
    line = Path(f"/proc/{start.said('one').strip()}/cmdline").read_bytes()
    assert line.rstrip(b"\0").split(b"\0")[1:] == [b"-m", MODULE.encode(), b"hold"]
    (one.kill if number == signal.SIGKILL else one.terminate)()
    assert one.wait(SECONDS) == -number
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(0.05)
    (start.folder / "go").touch()
    assert other.wait(SECONDS) == 0


@pytest.mark.full
def test_all_end_with_the_server_and_the_next_command_starts_another(tmp_path: Path) -> None:
    server = CommandServer(MODULE, environment())
    start = Started(server, tmp_path)
    held = [start("hold", name=str(number)) for number in range(2)]
    until(lambda: all((tmp_path / str(number)).stat().st_size for number in range(2)))
    waiting = threading.Thread(target=held[0].wait)
    waiting.start()
    assert server._process is not None
    server._process.kill()
    assert [command.wait(SECONDS) for command in held] == [LOST, LOST]
    waiting.join(SECONDS)
    for number in range(2):
        until(lambda number=number: not Path(f"/proc/{start.said(str(number)).strip()}").exists())
    assert start("leave").wait(SECONDS) == 1
    last = start("hold", name="last")
    until(lambda: (tmp_path / "last").stat().st_size)
    server.close()
    assert last.wait(SECONDS) == LOST
    until(lambda: not Path(f"/proc/{start.said('last').strip()}").exists())


@pytest.mark.full
def test_a_benchmarks_commands_are_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WARM", MODULE)
    monkeypatch.setitem(processes.OWN, "own", MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(FOLDERS))
    own, log = Processes(), tmp_path / "log"
    try:
        with own.locking(tmp_path / "lock") as locked:
            locked.run(["own", "go"], log)
        with pytest.raises(TrainingError, match=r"^as asked \(log: "):
            own.run(["own", "leave"], log)
        ended: list[Exception] = []

        def held() -> None:
            try:
                own.run(["own", "hold"], tmp_path / "held")
            except TrainingError as error:
                ended.append(error)

        thread = threading.Thread(target=held)
        thread.start()
        until(lambda: (tmp_path / "held").exists() and (tmp_path / "held").read_text().count("\n") > 1)
        own.stop()
        thread.join(SECONDS)
        assert isinstance(ended[0], InterruptedRunError)
        with pytest.raises(InterruptedRunError, match="not started"):
            own.run(["own", "go"], log)
    finally:
        own.close()
