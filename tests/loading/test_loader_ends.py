"""Loader processes end with whatever started them, hold no locks, and start beside threads that hold any lock."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import LAUNCHER, RATE, SOURCE, TinyCorpus, write_tiny_corpus
from processes import command, joined, together
from test_distributed import words
from test_matrix import recipe_for, write_matrix

from s3prl_emotion import distributed
from s3prl_emotion.benchmark import read_results

pytestmark = pytest.mark.full
DATA = "downstream_expert.datarc"
WORKERS = {f"{DATA}.num_workers": 2, f"{DATA}.pre_load": False}
ENDLESS = WORKERS | {"runner.total_steps": 10**6, "runner.save_step": 1, "runner.eval_step": 10**6}
MARK = "S3PRL_EMOTION_TESTS_MARK"
SECONDS = 15  # of a waveform


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The corpus of tones, 15 s each: a waveform of 960 kB is many times what a pipe holds."""
    corpus = write_tiny_corpus(tmp_path_factory.mktemp("long"))
    for path in corpus.root.glob("*.wav"):
        wave, _ = soundfile.read(path, dtype="float32")
        soundfile.write(path, np.resize(wave, SECONDS * RATE), RATE)
    return corpus


class Marked:
    """A process whose descendants are found by a variable of their environment, wherever they belong."""

    def __init__(self, folder: Path, *line: object) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.log = folder / "said.log"
        name, _, value = self.mark.partition("=")
        environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", name: value}
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *(str(word) for word in line)], cwd=folder, env=environment, stdout=file, stderr=file
            )

    def alive(self) -> list[int]:
        """Ids of its processes that have not ended."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes().split(b"\0"):  # empty for one that only waits to be reaped
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def wait_for(self, what: Callable[[], Any], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{self.alive()}\n{self.log.read_text()}"
            time.sleep(0.02)

    def end(self) -> None:
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Marked]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*line)``: a Python process, ended at the end of the test with all that it started."""
    started: list[Marked] = []

    def call(*line: object) -> Marked:
        started.append(Marked(tmp_path, *line))
        return started[-1]

    yield call
    for item in started:
        item.end()


def states(folder: Path) -> list[Path]:
    return list(folder.rglob("states-*.ckpt"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_of_a_training(start: Start, tmp_path: Path, long_corpus: TinyCorpus, number: int):
    training = start(*LAUNCHER, *words(long_corpus, "exp", **ENDLESS))
    training.wait_for(lambda: states(tmp_path))
    assert len(training.alive()) >= 4, "the training, the server and two loader processes"
    training.process.send_signal(number)
    training.process.wait(30)
    training.wait_for(lambda: not training.alive(), 15)


def test_nothing_is_left_of_torchrun(start: Start, tmp_path: Path, long_corpus: TinyCorpus):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    agent = start(*torchrun, *LAUNCHER, *words(long_corpus, "exp", **ENDLESS))
    agent.wait_for(lambda: states(tmp_path))
    agent.process.kill()
    agent.process.wait()
    agent.wait_for(lambda: not agent.alive(), 30)


def test_a_killed_benchmark_goes_on_at_once(start: Start, tmp_path: Path, tiny_corpus: TinyCorpus):
    steps = WORKERS | {"runner.total_steps": 12, "runner.save_step": 1, "runner.eval_step": 6}
    write_matrix(tmp_path, recipe_for(tiny_corpus, **steps), systems={"mean": {}})
    line = ("-m", "s3prl_emotion", "benchmark", "matrix.yaml", "--out", "out")
    benchmark = start(*line)
    benchmark.wait_for(lambda: states(tmp_path / "out"))
    benchmark.process.kill()
    benchmark.process.wait()
    again = start(*line)
    assert again.process.wait(120) == 0, again.log.read_text()
    assert "another process still works here" not in again.log.read_text()
    assert len(read_results(tmp_path / "out" / "results.jsonl")) == 1


# --- threads that hold locks ---------------------------------------------------------------------------------------


def hold_the_lock_of_threads(rank: int) -> None:
    """Have a thread hold the lock of Python's lists of threads about half of the time, as gloo's do for an instant.

    A C loop looks the interpreter up, for which it takes that lock without the interpreter's: ``lfind`` calls it for
    each of the items of a list that has no end, and never finds what it looks for.
    """
    library = ctypes.CDLL(None)
    look_up, find = library._PyInterpreterState_LookUpID, library.lfind
    find.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    count, item = ctypes.c_size_t(2**62), ctypes.c_char(b"0")
    address = ctypes.cast(look_up, ctypes.c_void_p)
    more = (None, ctypes.addressof(item), ctypes.addressof(count), 0, address)
    kept.extend((count, item))
    threading.Thread(target=find, args=more, daemon=True).start()


kept: list[Any] = []


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "_PyInterpreterState_LookUpID"), reason="another Python")
def test_loader_processes_start_while_a_thread_holds_a_lock(tmp_path: Path, tiny_corpus: TinyCorpus):
    """A fork at such a moment waits for the lock for ever (cpython issue 112275), and its parent for the fork."""
    options = WORKERS | {"runner.total_steps": 12, "runner.eval_step": 4, "runner.save_step": 4}
    left = together(tmp_path, 2, command, words(tiny_corpus, "exp", **options), hold_the_lock_of_threads)
    assert [process.value for process in left] == [0, 0]
    shutil.rmtree(tmp_path / "exp")


def waits_alone() -> list[int]:
    """The first process comes late to a collective; the second ends, or would if it could."""
    distributed.STUCK, said = timedelta(seconds=0.5), Path("said")

    def end(code: int) -> None:
        said.touch()
        threading.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", end)
        while distributed.rank() == 0 and not said.exists():
            time.sleep(0.01)
        return distributed.everyones(distributed.rank())


def test_a_rank_says_for_what_it_waits(tmp_path: Path):
    left = together(tmp_path, 2, joined, waits_alone)
    assert [process.value for process in left] == [[0, 1]] * 2
    assert left[0].err == ""
    said = "run_downstream.py: error: rank 1 of 2 has waited for results of the other ranks for 0:00:00.5"
    assert left[1].error.startswith(said)


def test_stock_tasks_wait_longer(monkeypatch: pytest.MonkeyPatch):
    watch = distributed._Watch()
    monkeypatch.setattr(distributed, "_WATCH", watch)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    distributed.be_patient()
    with distributed.in_touch("gradients"):
        assert watch.waiting[1:] == (distributed.PATIENCE, "gradients")
    assert watch.waiting is None
