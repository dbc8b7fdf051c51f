"""Loader processes: batches as in this process, errors as in this process, and an end with this process."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_datasets import LARGE, Faulty, Numbers, lists, whole
from torch.utils.data import DataLoader

from s3prl_emotion.errors import AudioError, LoaderError
from s3prl_emotion.processes import loaders
from s3prl_emotion.processes.loaders import Loader

pytestmark = pytest.mark.full


def faulty(fault: str) -> Loader:
    dataset = Faulty(12)
    dataset.fault = fault
    return Loader(dataset, 2, "--num_workers", batch_size=2, collate_fn=lists)


def test_order_and_draws_are_those_of_torchs_loader():
    seen: list[Any] = []
    for build in (
        lambda data, **options: DataLoader(data, **options),
        lambda data, **options: Loader(data, 0, **options),
        lambda data, **options: Loader(data, 3, **options),
    ):
        torch.manual_seed(3), random.seed(3), np.random.seed(3)
        epochs = [list(build(Numbers(11), batch_size=2, shuffle=True, collate_fn=lists)) for _ in range(2)]
        own = torch.Generator().manual_seed(4)
        epochs.append(list(build(Numbers(5), batch_size=None, shuffle=True, generator=own, collate_fn=np.sum)))
        drawn = torch.rand(1).item(), random.random(), np.random.rand(), torch.rand(1, generator=own).item()
        seen.append((epochs, drawn))
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


def test_processes_are_kept_and_shared_by_iterations_that_take_turns():
    training = Loader(Numbers(20, LARGE), 2, batch_size=1, collate_fn=whole)
    evaluation = Loader(Numbers(7, LARGE), 2, batch_size=2, collate_fn=whole)
    pids = set()
    for _ in range(3):
        batches = iter(training)
        firsts = [int(next(batches)[0][0]) for _ in range(3)]
        pids |= {worker.pid for worker in batches.workers}
        assert [[int(item[-1]) for item in batch] for batch in evaluation] == [[0, 1], [2, 3], [4, 5], [6]]
        assert firsts + [int(batch[0][0]) for batch in batches] == list(range(20))
        del batches
        for _, batch in zip(range(2), training, strict=False):  # abandoned: what was asked for ahead is dropped
            assert len(batch[0]) == LARGE
    assert len(pids) == 2, "new processes for each iteration"
    assert os.getpid() not in pids


def test_notes_are_those_of_the_batches_that_were_returned():
    dataset = Numbers(10)
    batches = iter(Loader(dataset, 2, batch_size=2, collate_fn=lists))
    next(batches)
    assert dataset.noted == [0, 1]
    list(batches)
    assert dataset.noted == list(range(10))


def test_datasets_that_are_gone_are_forgotten():
    loaders._POOL.stop()
    first = Numbers(4, LARGE)
    list(Loader(first, 1, collate_fn=whole))
    (worker,) = loaders._POOL.workers
    (key,) = worker.known
    del first
    gc.collect()
    list(Loader(Numbers(4), 1, collate_fn=whole))
    assert len(worker.known) == 1
    assert key not in worker.known


def test_errors_and_warnings_are_those_of_the_dataset(caplog: pytest.LogCaptureFixture):
    batches = iter(faulty("audio"))
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(AudioError, match=r"^five\.wav: unreadable$"):
        next(batches)
    assert list(batches) == []
    with pytest.raises(RuntimeError, match=r"^UnlikePickledError: two words$"):
        list(faulty("unlike"))
    assert not caplog.records
    assert len(list(faulty(""))) == 6
    assert caplog.record_tuples == [("of.the.dataset", logging.WARNING, "item 5 is five")]


@pytest.mark.parametrize(
    ("fault", "said"), [("killed", r"was killed by signal 9 \(SIGKILL\)"), ("exit", "ended with exit code 3")]
)
def test_a_process_that_dies_is_one_line(fault: str, said: str):
    before = iter(Loader(Numbers(20), 2, batch_size=2, collate_fn=lists))
    next(before)
    message = rf"^loader process \d+ {said} while it read item 4 or one of the next 1 files; start the same command "
    with pytest.raises(LoaderError, match=message + r"again, with more free memory or a lower --num_workers "):
        list(faulty(fault))
    with pytest.raises(LoaderError, match=r"ended by an earlier error|^loader process"):
        list(before)
    assert len(list(faulty(""))) == 6


def test_a_killed_process_between_epochs_is_one_line():
    loader = faulty("")
    list(loader)
    os.kill(loaders._POOL.workers[1].pid, signal.SIGKILL)
    with pytest.raises(LoaderError, match=r"^loader process \d+ was killed by signal 9 \(SIGKILL\)"):
        list(loader)


def test_a_server_that_dies_is_one_line():
    loader = faulty("")
    loaders._POOL.start([])
    loaders._POOL.server.kill()
    loaders._POOL.server.wait()
    for worker in loaders._POOL.workers:
        worker.connection.close()
    loaders._POOL.workers.clear()
    with pytest.raises(LoaderError, match=r"^--num_workers 2: loader processes cannot be started \(.*; lower "):
        list(loader)


def test_a_process_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch):
    loader = faulty("stopped")
    list(faulty(""))  # its processes are started
    pids = [worker.pid for worker in loaders._POOL.workers]
    monkeypatch.setattr(loaders, "TIMEOUT", 1)
    with pytest.raises(
        LoaderError, match=r"^loader process \d+ has not finished within 0 minutes while it read item 4 "
    ):
        list(loader)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
