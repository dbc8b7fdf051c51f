"""What a process does on SIGTERM, SIGHUP and Ctrl-C, whatever it is doing at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SOURCE

from s3prl_emotion import cli
from s3prl_emotion.processes import ending
from s3prl_emotion.processes.ending import Ended
from s3prl_emotion.training import main as training_main

# ruff: noqa: PT012  # the signal comes amid a block
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    """Fail where a test leaves a handler behind."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


def send(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.full
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_raises_and_finally_blocks_run(number: signal.Signals, code: int):
    ran = []
    with pytest.raises(Ended) as caught, ending.tidy() as asked:
        try:
            send(number)
        finally:
            ran.append(asked.is_asked)
    assert ran == [True]
    assert ending.code_of(caught.value) == code


@pytest.mark.full
def test_inside_a_deferral_a_flag_is_set(monkeypatch: pytest.MonkeyPatch):
    reached = []
    with pytest.raises(Ended), ending.tidy(), ending.deferred():
        assert not ending.is_asked()
        send()
        assert ending.is_asked()
        send()  # at the same time: a terminal and a parent send one each
        reached.append("end")
    assert reached == ["end"]
    monkeypatch.setattr(ending, "TOGETHER", 0.0)
    with pytest.raises(Ended), ending.tidy(), ending.deferred():
        send()
        send(signal.SIGINT)
        reached.append("the second is not waited for")
    assert reached == ["end"]


@pytest.mark.full
def test_a_second_signal_does_not_break_the_end(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(ending, "TOGETHER", 0.0)
    ran = []
    with pytest.raises(Ended), ending.tidy():
        try:
            send()
        finally:
            send()
            ran.append("whole")
    assert ran == ["whole"]
    assert "still ending after SIGTERM; a third signal ends at once" in capfd.readouterr().err


@pytest.mark.full
def test_swallowed_by_foreign_code_it_is_raised_again():
    class Careless:
        def __del__(self) -> None:
            send()

    def swallow() -> None:
        try:
            send()
            threading.Event().wait(60)
        except BaseException:
            pass

    for careless in (swallow, Careless):
        begun = threading.Event()
        with pytest.raises(Ended), ending.tidy():
            careless()
            begun.wait(60)
            pytest.fail("went on")


@pytest.mark.parametrize("moment", ["install", "remove"])
@pytest.mark.parametrize("program", ["s3prl-emotion", "run_downstream.py"])
def test_at_the_edges_of_a_command(
    moment: str, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Just before the command begins, and when it has just ended."""
    module = {"s3prl-emotion": cli, "run_downstream.py": training_main}[program]
    monkeypatch.setattr(module, "_run", lambda arguments: 0)
    whole = getattr(ending.Ending, moment)

    def at_the_edge(self: ending.Ending) -> None:
        try:
            if moment == "remove":
                send()
        finally:
            whole(self)
        if moment == "install":
            send()

    monkeypatch.setattr(ending.Ending, moment, at_the_edge)
    assert module.main([]) == 143
    assert f"{program}: error: ended by SIGTERM; " in capsys.readouterr().err


@pytest.mark.full
def test_an_error_of_the_end_is_not_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A loader process that gets the signal too makes torch raise something else."""

    def run(arguments: list[str]) -> int:
        try:
            send()
        except KeyboardInterrupt:
            raise RuntimeError("DataLoader worker was killed by signal") from None
        return 0

    monkeypatch.setattr(cli, "_run", run)
    assert cli.main([]) == 143
    said = capsys.readouterr().err
    assert said == "s3prl-emotion: error: ended by SIGTERM; finished work is kept; the same command goes on\n"


def test_other_threads_change_nothing():
    found = []

    def work() -> None:
        with ending.tidy(), ending.deferred():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_nested_blocks_are_one():
    with ending.tidy() as outer, ending.tidy() as inner:
        assert inner is outer


@pytest.mark.full
def test_a_forked_child_has_the_handlers_of_before():
    with ending.tidy() as asked:
        child = os.fork()
        if not child:
            send()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not asked.is_asked


# --- processes --------------------------------------------------------------------------------------------------------

STUCK = """
import ctypes, sys, threading
libc, mutex, locks = ctypes.CDLL(None), ctypes.create_string_buffer(128), threading.Event()
ending.SECONDS_IN_C = 0.5
def say():
    locks.wait()
    print("ready", flush=True)
threading.Thread(target=say, daemon=True).start()
with ending.tidy():
    libc.pthread_mutex_lock(mutex)
    sys.setswitchinterval(1000)  # s: so the thread gets its turn when C code runs, and not before
    locks.set()
    libc.pthread_mutex_lock(mutex)  # for ever: no Python code runs
"""
STUBBORN = """
import time
ending.TOGETHER = 0.0
with ending.tidy():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        while True:
            time.sleep(60)
"""
IGNORING = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
with ending.tidy():
    os.kill(os.getpid(), signal.SIGHUP)
    print("went on", flush=True)
"""


def start(script: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"from s3prl_emotion.processes import ending\n{script}"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.full
def test_stuck_in_c_it_ends_too():
    process = start(STUCK)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.strip() == "error: ended by SIGTERM at once; what was being written is left incomplete"


@pytest.mark.full
def test_the_third_signal_ends_at_once():
    process = start(STUBBORN)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert line_of(process) == "ending"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "still ending after SIGTERM" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.full
def test_nohup_ignores_sighup():
    process = start(IGNORING)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("went on\n", "", 0)


@pytest.mark.full
def test_while_it_imports(tmp_path: Path):
    """A module that is imported waits for the signal, and the whole command ends with one line."""
    (tmp_path / "torch.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SOURCE])}
    command = [sys.executable, "-m", "s3prl_emotion", "extract"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert said == "s3prl-emotion: error: ended by SIGTERM; finished work is kept; the same command goes on\n"
