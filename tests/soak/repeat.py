"""Run tests again and again, two at a time, into one log with a summary line a test.

By hand, for tests of processes and signals, which must not depend on who is faster::

    python tests/soak/repeat.py -n 50 --log repeat.log tests/test_ending.py tests/training/test_kills.py::test_killed…

Each node id is a pytest of its own. The log keeps the output of those that failed; the exit code is 1 where one did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 900  # s for one run of a node


def run_once(node: str, number: int, log: TextIO, lock: threading.Lock) -> tuple[bool, float]:
    """Run a node once; return whether it passed, and its duration (s)."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        "full or not full",
        node,
    ]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        code, output = str(done.returncode), done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        code, output = f"none after {LIMIT} s", str(error.stdout)
    seconds = time.monotonic() - begun
    with lock:
        log.write(
            f"{node} run {number}: {'passed' if code == '0' else f'FAILED, exit code {code}'} ({seconds:.1f} s)\n"
        )
        if code != "0":
            log.write(f"{output}\n")
        log.flush()
    return code == "0", seconds


def main() -> int:
    """Run all nodes; exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="+", metavar="NODE")
    parser.add_argument("-n", "--times", type=int, default=50)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--log", type=Path, default=Path("repeat.log"))
    args = parser.parse_args()
    lock, failed = threading.Lock(), 0
    with args.log.open("a") as log, ThreadPoolExecutor(args.jobs) as pool:
        turns = [(node, number) for number in range(args.times) for node in args.nodes]
        runs = [pool.submit(run_once, node, number, log, lock) for node, number in turns]
        for node in args.nodes:
            results = [run.result() for run, (other, _) in zip(runs, turns, strict=True) if other == node]
            passed, seconds = sum(good for good, _ in results), sum(time for _, time in results)
            failed += len(results) - passed
            with lock:
                log.write(f"summary: {node}: {passed} of {len(results)} passed, {seconds / len(results):.1f} s each\n")
    sys.stdout.write(f"{args.log}: {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
