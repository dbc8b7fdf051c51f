"""Extraction of eGeMAPS functionals into a store: one process, and two that torchrun starts.

openSMILE computes on one core, so the work is shared out by processes. Audio is the demo corpus; what is timed is the
extraction itself, without the start of the processes, as the command reports it.

    python benchmarks/egemaps.py
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, spread


def main() -> None:
    """Print seconds of audio per second of each, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "s3prl-emotion-benchmark")
    args = parser.parse_args()
    speeds: dict[int, list[float]] = {1: [], args.processes: []}
    for _ in range(args.repeats):
        for processes, values in speeds.items():
            values.append(speed(processes, args.folder / "egemaps"))
    print(f"{'processes':12}{'median':>10}{'min':>10}{'max':>10}  seconds of audio a second")
    for processes, values in speeds.items():
        print(f"{processes:<12}{spread(values)}")
    pairs = [many / one for one, many in zip(*speeds.values(), strict=True)]
    print(f"{args.processes} processes / 1: {statistics.median(pairs):.2f}")


def speed(processes: int, store: Path) -> float:
    """Extract into an empty store: seconds of audio a second, all processes together."""
    shutil.rmtree(store, ignore_errors=True)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    words = [*start, "-m", "s3prl_emotion", "extract", "-u", "egemaps", "--labels", "demo"]
    words += ["--feature_store", str(store), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    rates = [float(rate) for rate in re.findall(r"s of audio, ([\d.]+) s a second", done.stdout)]
    if len(rates) != processes:
        raise SystemExit(f"{processes} processes reported {len(rates)} times:\n{done.stdout}\n{done.stderr}")
    return sum(rates)


if __name__ == "__main__":
    main()
