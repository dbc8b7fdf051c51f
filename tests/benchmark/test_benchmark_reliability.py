"""Benchmarks that are killed: whatever dies, the same command goes on, and comes to the same in the end."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import SOURCE, TinyCorpus
from test_matrix import MODEL, recipe_for, write_matrix

from s3prl_emotion.benchmark import read_results
from s3prl_emotion.files.checkpoint import load_checkpoint

pytestmark = pytest.mark.full
STEPS = {"runner.total_steps": 60, "runner.save_step": 5, "runner.eval_step": 15}
RUNS = 2
SECONDS_TO_DIE = 60


class Benchmark:
    """``s3prl-emotion benchmark`` on a small matrix, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, out: str, *words: str, matrix: str = "matrix.yaml") -> subprocess.Popen[str]:
        """Begin, with what it prints in ``out.log``."""
        env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "s3prl_emotion", "benchmark", matrix, "--out", out, *words]

        with (self.folder / f"{out}.log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdout=log,
                stderr=log,
                text=True,
            )

    def finish(self, out: str, *words: str, code: int = 0, matrix: str = "matrix.yaml") -> str:
        """Run to the end; what it printed."""
        process = self.start(out, *words, matrix=matrix)
        try:
            assert process.wait(240) == code, self.said(out)
        finally:
            process.kill()
        return self.said(out)

    def said(self, out: str) -> str:
        return (self.folder / f"{out}.log").read_text()

    def alive(self, out: str) -> dict[int, str]:
        """Processes that train or evaluate a run of it: command lines by process."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{self.folder.resolve() / out}/runs/" in line:
                found[int(path.parent.name)] = line
        return found

    def wait_for(self, what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120) -> Any:
        """What the function gives, once it gives something; ``None`` where the benchmark ended before."""
        end = time.monotonic() + seconds
        while not (found := what()):
            if process.poll() is not None:
                return None
            assert time.monotonic() < end, "it never came"
            time.sleep(0.02)
        return found

    def kill(self, process: subprocess.Popen[str], out: str) -> None:
        """Kill the benchmark; its runs must end with it."""
        process.send_signal(signal.SIGKILL)
        process.wait()
        end = time.monotonic() + SECONDS_TO_DIE
        while self.alive(out) and time.monotonic() < end:
            time.sleep(0.05)
        assert not self.alive(out), "a run outlived its benchmark"


def assert_equal(folder: Path, one: str, other: str) -> None:
    """Both hold the same runs, each once, with the same scores and predictions."""
    lines = [read_results(folder / name / "results.jsonl") for name in (one, other)]
    assert len(lines[0]) == len((folder / other / "results.jsonl").read_text().splitlines()) == RUNS
    assert set(lines[0]) == set(lines[1])
    for name, line in lines[0].items():
        assert lines[1][name]["definition"] == line["definition"]
        assert lines[1][name]["splits"] == line["splits"]
        for split in line["splits"].values():
            predictions = [(folder / place / split["predictions"]).read_bytes() for place in (one, other)]
            assert predictions[0] == predictions[1]


def assert_same(one: Any, other: Any) -> None:
    """Both hold the same tensors, to the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_same(value, other[name])
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(pid: int) -> dict[int, str]:
    """Command lines of a process's children, and of theirs, by process."""
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            parents[int(path.parent.name)] = (
                parent_of(int(path.parent.name)), path.read_bytes().replace(b"\0", b" ").decode()
            )  # fmt: skip
        except (OSError, ValueError):
            continue
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {child for child, (parent, _) in parents.items() if parent in new}
        found |= {child: parents[child][1] for child in new}
    return found


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: TinyCorpus) -> Iterator[Benchmark]:
    """With an undisturbed one in ``whole``."""
    folder = tmp_path_factory.mktemp("benchmark")
    systems = {"mean": {}, "corr": {"overrides": {f"{MODEL}.pooling": "corr"}}}
    write_matrix(folder, recipe_for(tiny_corpus, **STEPS), systems=systems)
    found = Benchmark(folder)
    found.finish("whole", "--jobs", "2")
    return found


def test_killed_at_random_points(benchmark: Benchmark):
    """The benchmark, or one of its trainings, dies again and again."""
    draw = random.Random(6)
    for victim in ("run", "benchmark", "run", "benchmark"):
        process = benchmark.start("killed", "--jobs", "2", "--retries", "3")
        if benchmark.wait_for(lambda: benchmark.alive("killed"), process) is None:
            break  # it was done before
        time.sleep(draw.uniform(0, 6))
        if victim == "run":
            trained = sorted(benchmark.alive("killed"))
            if trained:
                os.kill(draw.choice(trained), signal.SIGKILL)
                time.sleep(draw.uniform(0, 3))
        benchmark.kill(process, "killed")
    benchmark.finish("killed", "--jobs", "2")
    assert_equal(benchmark.folder, "whole", "killed")


def test_what_is_killed_goes_on_in_the_same_benchmark(benchmark: Benchmark):
    """One run's training, then the server of commands, which takes the other run's training along."""
    process = benchmark.start("child", "--retries", "3")
    runs = benchmark.folder / "child/runs/fbank"
    for system in ("mean", "corr"):
        assert benchmark.wait_for(lambda name=system: list(runs.glob(f"{name}/*/exp/states-*.ckpt")), process)
        (trained,) = benchmark.alive("child")
        os.kill(trained if system == "mean" else parent_of(trained), signal.SIGKILL)
    assert process.wait(240) == 0, benchmark.said("child")
    assert benchmark.said("child").count("ended from outside, by signal 9") == 2
    for log in runs.glob("*/*/log.txt"):
        assert " -a " in log.read_text()  # from its checkpoint
    assert_equal(benchmark.folder, "whole", "child")


def test_a_warm_run_equals_an_isolated_one(benchmark: Benchmark):
    matrix = yaml.safe_load((benchmark.folder / "matrix.yaml").read_text())
    del matrix["systems"]["mean"]
    (benchmark.folder / "one.yaml").write_text(yaml.safe_dump(matrix, sort_keys=False))
    benchmark.finish("isolated", "--isolate", matrix="one.yaml")
    ((name, line),) = read_results(benchmark.folder / "isolated/results.jsonl").items()
    assert read_results(benchmark.folder / "whole/results.jsonl")[name]["splits"] == line["splits"]
    folders = [benchmark.folder / out / "runs/fbank/corr/fold1-seed1/exp" for out in ("whole", "isolated")]
    tables = [[path.read_bytes() for path in sorted(folder.glob("*_predictions.csv"))] for folder in folders]
    assert tables[0] == tables[1] != []
    assert_same(*(load_checkpoint(folder / "dev-best.ckpt")["Downstream"] for folder in folders))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_asked_to_end(benchmark: Benchmark, executor: str, tmp_path: Path):
    """Its runs end with it and keep their last step; the same command goes on without waiting for a lock."""
    if executor == "ray":
        pytest.importorskip("ray")
    out, words = tmp_path.name, ("--executor", executor)
    process = benchmark.start(out, *words)
    states = benchmark.folder / out / "runs"
    assert benchmark.wait_for(lambda: list(states.glob("*/*/*/exp/states-*.ckpt")), process), benchmark.said(out)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143, benchmark.said(out)
    said = benchmark.said(out).splitlines()
    assert said[-1] == "s3prl-emotion: error: ended by SIGTERM; finished work is kept; the same command goes on"
    assert not benchmark.alive(out)
    logs = "".join(path.read_text() for path in states.glob("*/*/*/log.txt"))
    how = "goes on from step|resumes from the last checkpoint"  # within its steps, or outside of them
    assert re.search(f"ended by SIGTERM; the same command with -a ({how})", logs)
    assert "another process still works here" not in benchmark.finish(out, *words)
    assert_equal(benchmark.folder, "whole", out)


HELD = """
import os, time
replace = os.replace
def held(source, target, **options):
    replace(source, target, **options)
    while os.path.basename(target).startswith("states-") and not os.path.exists(os.environ["GO_ON"]):
        time.sleep(0.05)
os.replace = held
"""  # trainings wait after their first checkpoint, until a test lets them go on


@pytest.fixture
def small_disk(benchmark: Benchmark) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = benchmark.folder / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(benchmark: Benchmark, small_disk: Path):
    process = benchmark.start("full", "--jobs", "2")
    assert process.wait(240) == 1
    said = [line for line in benchmark.said("full").splitlines() if "error" in line]
    assert len(said) == 1, said
    assert re.search(r"No space left on device.*free room, then start the same command again", said[0])
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    benchmark.finish("full", "--jobs", "2")
    assert_equal(benchmark.folder, "whole", "full")


def test_a_second_benchmark_says_so(benchmark: Benchmark):
    first = benchmark.start("two", "--jobs", "2")
    assert benchmark.wait_for(lambda: benchmark.alive("two"), first)
    first.send_signal(signal.SIGSTOP)  # else it may be done before the second has begun
    second = benchmark.start("two")
    try:
        assert second.wait(120) == 1
    finally:
        first.send_signal(signal.SIGCONT)
    assert f"another benchmark is running there (process {first.pid}); wait for it or end it" in benchmark.said("two")
    assert first.wait(240) == 0
    assert_equal(benchmark.folder, "whole", "two")


# --- Ray --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["worker", "benchmark"])
def test_ray_killed(benchmark: Benchmark, victim: str):
    """A worker's run is given to another one; after the benchmark nothing of it is left."""
    pytest.importorskip("ray")
    out = f"ray_{victim}"
    process = benchmark.start(out, "--executor", "ray")
    states = benchmark.folder / out / "runs"
    assert benchmark.wait_for(lambda: list(states.glob("*/*/*/exp/states-*.ckpt")), process), benchmark.said(out)
    if victim == "benchmark":
        benchmark.kill(process, out)
        benchmark.finish(out, "--executor", "ray")
    else:
        saved = next(states.glob("*/*/*/exp/states-*.ckpt")).parent  # another run may not have come so far
        trained = next(pid for pid, line in benchmark.alive(out).items() if str(saved) in line)
        os.kill(parent_of(parent_of(trained)), signal.SIGKILL)  # the worker; between them stands its server
        assert process.wait(240) == 0, benchmark.said(out)
        logs = [path.read_text() for path in states.glob("*/*/*/log.txt")]
        assert sum(" -a " in log for log in logs) == 1  # that run went on from its checkpoint
    assert_equal(benchmark.folder, "whole", out)


def test_ray_itself_killed(benchmark: Benchmark):
    """With a run that waits and cannot be begun any more: the benchmark ends; called again, it goes on."""
    pytest.importorskip("ray")
    out = "ray_itself"
    matrix = yaml.safe_load((benchmark.folder / "matrix.yaml").read_text())
    matrix["resources"] = {"cpus": os.cpu_count()}
    (benchmark.folder / "one_at_a_time.yaml").write_text(yaml.safe_dump(matrix, sort_keys=False))
    process = benchmark.start(out, "--executor", "ray", matrix="one_at_a_time.yaml")
    states = benchmark.folder / out / "runs"
    assert benchmark.wait_for(lambda: list(states.glob("*/*/*/exp/states-*.ckpt")), process), benchmark.said(out)
    for pid, line in descendants(process.pid).items():
        if "/raylet " in line:
            os.kill(pid, signal.SIGKILL)
    assert process.wait(180) == 1, benchmark.said(out)
    benchmark.finish(out, "--jobs", "2")
    assert_equal(benchmark.folder, "whole", out)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Ray's head, which gives no CPU to runs, and two nodes of one CPU each; ``(address, nodes)``."""
    pytest.importorskip("ray")
    port = free_port()
    ray = str(Path(sys.executable).parent / "ray")
    (tmp_path / "sitecustomize.py").write_text(HELD)
    path = os.pathsep.join([str(tmp_path), SOURCE])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    env["GO_ON"] = str(tmp_path / "go")
    size = ["--object-store-memory", str(80 * 2**20), "--block", "--disable-usage-stats"]
    head = ["--head", "--port", str(port), "--num-cpus", "0", "--include-dashboard", "false"]
    node = ["--address", f"127.0.0.1:{port}", "--num-cpus", "1"]
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "ray.log"

    def start(words: list[str]) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            command = [ray, "start", *words, *size]
            started.append(subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True))
        return started[-1]

    def cpus() -> str:
        words = [ray, "status", "--address", f"127.0.0.1:{port}"]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False).stdout

    try:
        start(head)
        wait_until_listening(port)
        nodes = []
        deadline = time.monotonic() + 240
        for number in (1, 2):  # one after the other: a run that is over before the second joined would meet no other
            nodes.append(start(node))
            while f"/{number}.0 CPU" not in cpus():
                assert time.monotonic() < deadline, log.read_text()
                if nodes[-1].poll() is not None:  # on a busy machine ray gives up after 30 s
                    nodes[-1] = start(node)
        yield f"127.0.0.1:{port}", nodes
    finally:
        for process in started:
            kill_with_children(process.pid)
            process.wait()


def test_nodes_of_a_cluster(benchmark: Benchmark, cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path):
    """By address, over two nodes; one dies while it trains, the other takes its run over."""
    (address, nodes), out = cluster, tmp_path.name
    words = ("--executor", "ray", "--ray-address", address)
    process = benchmark.start(out, *words)
    try:
        states = benchmark.folder / out / "runs"
        both = benchmark.wait_for(lambda: len(list(states.glob("*/*/*/exp/states-*.ckpt"))) == 2, process)
        assert both, benchmark.said(out)
        children = [set(descendants(node.pid)) for node in nodes]
        assert all(set(benchmark.alive(out)) & family for family in children)  # a run on each
        kill_with_children(nodes[0].pid)
        (tmp_path / "go").touch()
        assert process.wait(240) == 0, benchmark.said(out)
    finally:
        process.kill()
    assert_equal(benchmark.folder, "whole", out)
    assert nodes[1].poll() is None  # the cluster is not the benchmark's to end


def test_no_cluster_at_an_address(benchmark: Benchmark):
    pytest.importorskip("ray")
    said = benchmark.finish("nobody", "--executor", "ray", "--ray-address", f"127.0.0.1:{free_port()}", code=1)
    assert re.search(r"error: --ray-address 127\.0\.0\.1:\d+: nothing answers there \(.*refused", said.splitlines()[-1])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until_listening(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


def kill_with_children(pid: int) -> None:
    """End a node as a machine that loses power does."""
    for child in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
