"""Compare extracting eGeMAPS functionals into a store by one process with two that torchrun starts.

openSMILE computes on one core, so processes share the work. The audio is the demo corpus. The time is that of the
extraction itself, as the command reports it, without the start of the processes.

    python benchmarks/egemaps.py
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT, environment_of, parser_of, print_table, ratio


def main() -> None:
    """Print the seconds of audio per second of both, and their ratio."""
    parser = parser_of(__doc__, repeats=1, folder=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    speeds: dict[int, list[float]] = {1: [], args.processes: []}
    for _ in range(args.repeats):
        for processes, values in speeds.items():
            values.append(speed(processes, args.folder / "egemaps"))
    print("seconds of audio a second")
    print_table({str(processes): values for processes, values in speeds.items()}, "processes")
    print(f"{args.processes} processes / 1: {ratio(speeds[args.processes], speeds[1]):.2f}")


def speed(processes: int, store: Path) -> float:
    """Extract into an empty store; return the seconds of audio per second of all processes together."""
    shutil.rmtree(store, ignore_errors=True)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    words = [*start, "-m", "s3prl_emotion", "extract", "-u", "egemaps", "--labels", "demo"]
    words += ["--feature_store", str(store), "--device", "cpu"]
    command, environment = [sys.executable, *words], environment_of(1)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    rates = [float(rate) for rate in re.findall(r"s of audio, ([\d.]+) s per second", done.stdout)]
    if len(rates) != processes:
        raise SystemExit(f"{processes} processes reported {len(rates)} times:\n{done.stdout}\n{done.stderr}")
    return sum(rates)


if __name__ == "__main__":
    main()
