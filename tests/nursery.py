"""A process that has imported everything and forks others, which tests may kill: ``test_store_reliability.py``.

One line of JSON a request on standard input: ``{"words": …, "to": …, "limit": …, "env": …}`` starts a process and
answers its id, ``{"wait": PID}`` waits for one and answers its exit code (negative: the signal that ended it).
Arguments are modules that all processes need and that are imported beforehand.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

import s3prl_emotion
from s3prl_emotion import cli, run_downstream
from s3prl_emotion.store import FeatureStore, Identity

IDENTITY = Identity({"upstream": "up", "dtype": "float32", "layer": None, "batched": False})
RECORDS = 80


def record(number: int) -> tuple[bytes, torch.Tensor, int]:
    """Key, stack and samples of an utterance: all values are its number, and its key."""
    return number.to_bytes(16, "big"), torch.full((2, 10 + number % 7, 50), float(number)), 1000 + number


def write(folder: str, seed: str) -> int:
    """Put all records that are not there, in an order of this process's own; the last one once ``go`` exists."""
    store, numbers = FeatureStore(folder, IDENTITY), list(range(RECORDS))
    random.Random(int(seed)).shuffle(numbers)
    for count, number in enumerate(numbers):
        while count == RECORDS // 2 and not Path(folder, "go").exists():
            time.sleep(0.001)
        key, stack, samples = record(number)
        store.refresh()
        if store.get(key, samples) is None:
            store.put(key, stack, samples)
        time.sleep(0.002)
    return 0


def read(folder: str, _: str) -> int:
    """Read until all records were there; 1 where one was wrong."""
    store, seen = FeatureStore(folder, IDENTITY), set()
    end = time.monotonic() + 60
    while len(seen) < RECORDS and time.monotonic() < end:
        store.refresh()
        for number in range(RECORDS):
            key, stack, samples = record(number)
            got = store.get(key, samples)
            if got is not None and not torch.equal(got, stack):
                return 1
            seen |= set() if got is None else {number}
    return 0 if len(seen) == RECORDS and store.stats.corrupt == 0 else 2


def born(request: dict[str, Any]) -> int:
    """What a new process does."""
    output = os.open(request["to"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.environ.update(request.get("env", {}))
    if request.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    program, *words = request["words"]
    mains: dict[str, Any] = {"s3prl-emotion": cli.main, "run_downstream.py": run_downstream.main}
    if program in mains:
        sys.argv = [program]
        return int(mains[program](words))
    return {"write": write, "read": read}[program](*words)


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    s3prl_emotion.register()
    for name in ("training.runner", "extract.command", "corpora.utterances"):  # so that children need not import them
        importlib.import_module(f"s3prl_emotion.{name}")
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            code = 70
            try:
                code = born(request)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
