"""Execute runs by Ray: on a local cluster that lives as long as the benchmark, or on a running one, by its address.

A run is a Ray task with resources. Its worker starts the same processes as the local pool, from a server that it keeps
for its next runs, and Ray sets ``CUDA_VISIBLE_DEVICES`` for them. The benchmark's directory must be on a file system
that all nodes share, and the suite must be installed on each. When a worker is killed, its processes end too and Ray
gives the run to another worker.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.benchmark.execution import execute
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.benchmark.prepare import FailedStepError
from s3prl_emotion.benchmark.processes import (
    SECONDS_TO_END,
    FullDiskError,
    InterruptedRunError,
    Processes,
    is_full_disk,
)
from s3prl_emotion.benchmark.records import SESSION
from s3prl_emotion.errors import ConfigError, EmotionError, TrainingError, UsageError
from s3prl_emotion.files import trust
from s3prl_emotion.files.folders import PACKAGE
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.processes.commands import CommandServer
from s3prl_emotion.processes.ending import rearm

NO_SESSION = "ended"
LOST_WORKERS = 10  # number that a run may lose before it counts as interrupted
OBJECTS = 80 * 2**20  # bytes of shared memory: lines of results are small
OWN_CLUSTER = {  # environment of a cluster that the benchmark starts
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # a dead head node does not come back
    "RAY_task_oom_retries": "3",  # per run whose worker ran out of memory; Ray's default is endless
}
WATCH_SECONDS = 2.0
CHECK_SECONDS = 5.0
CONNECT_SECONDS = 10.0
OUTCOMES: dict[str, type[TrainingError]] = {
    kind.__name__: kind for kind in (FullDiskError, InterruptedRunError, FailedStepError, TrainingError)
}


class RayExecutor:
    """An executor that submits runs to Ray.

    Args:
        plan: plan of the runs that will be submitted
        session: id of the benchmark's session
        device: ``--device``
        address: address of a running cluster; ``None`` starts one on this machine
        jobs: runs at a time; ``None``: as many as there are resources for
        isolate: start each command in a fresh interpreter; else each worker keeps a server that forks them

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address
        ConfigError: a run asks for more than any node has
    """

    def __init__(
        self,
        plan: Plan,
        session: str,
        device: str | None,
        address: str | None = None,
        jobs: int | None = None,
        isolate: bool = False,
    ) -> None:
        self.ray = _import_ray()
        self.plan, self.session, self.device, self.address, self.slots = plan, session, device, address, jobs
        self.references: dict[Future[dict[str, Any]], Any] = {}
        self.isolate, self.checked, self.gone = isolate, 0.0, False

    def __enter__(self) -> RayExecutor:
        write_text(self.plan.out / SESSION, self.session)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            for name, value in OWN_CLUSTER.items():
                os.environ.setdefault(name, value)
            options |= {"include_dashboard": False, "object_store_memory": OBJECTS}
        else:
            _check_listening(self.address)
        try:
            with _importable():
                self.ray.init(address=self.address or "local", **options)
            rearm()  # Ray has taken SIGTERM over, and would exit at once
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"--ray-address {self.address}: cannot connect" if self.address else "Ray does not start here"
            token = "; a cluster that asks for a token wants RAY_AUTH_MODE=token" if self.address else ""
            raise UsageError(f"{where} ({' '.join(str(error).split())[:200]}){token}") from error
        try:
            self.has_gpus = self.ray.cluster_resources().get("GPU", 0) > 0
            self._check_resources()
            self.work = self.ray.remote(max_calls=0)(_work)  # keep workers with GPUs too, which only children use
        except BaseException:
            self.ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unfinished = [reference for future, reference in self.references.items() if not future.done()]
        if unfinished and not self.gone:
            unfinished = self._end_tidily(unfinished)
        for reference in unfinished:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()

    def _end_tidily(self, references: list[Any]) -> list[Any]:
        """Have the workers end their runs, which then save their checkpoints; return the runs that go on all the same.

        Ray may abort this process where a run is cancelled that has just ended.
        """
        with suppress(EmotionError):  # a full disk
            write_text(self.plan.out / SESSION, NO_SESSION)
            _, references = self.ray.wait(
                references, num_returns=len(references), timeout=SECONDS_TO_END + 2 * WATCH_SECONDS
            )
        return references

    def submit(self, run: Run) -> Future[dict[str, Any]]:
        """Execute a run, once there are resources for it."""
        cpus, gpus = self._resources(run)
        task = self.work.options(num_cpus=cpus, num_gpus=gpus, max_retries=LOST_WORKERS, name=run.cell.id)
        where = (str(self.plan.out), self.session, self.device, os.getcwd(), _plugin_paths())
        reference = task.remote(run, *where, self.isolate)
        future: Future[dict[str, Any]] = Future()
        self.references[future] = reference
        reference.future().add_done_callback(lambda done: self._forward(done, future))
        return future

    def check(self) -> None:
        """Check that Ray is still alive.

        Raises:
            TrainingError: no node is alive
        """
        if time.monotonic() - self.checked < CHECK_SECONDS and not self.gone:
            return
        try:
            alive = not self.gone and any(node["Alive"] for node in self.ray.nodes())
        except (RuntimeError, OSError, self.ray.exceptions.RayError):
            alive = False
        self.checked = time.monotonic()
        if not alive:
            raise TrainingError("Ray has died; start the same command again to resume")

    def _forward(self, done: Future[Any], future: Future[dict[str, Any]]) -> None:
        """Copy an outcome into the benchmark's future, with Ray's own errors as interruptions."""
        try:
            kind, content = done.result()
        except BaseException as error:  # whatever Ray raises must reach the benchmark, not Ray's own thread
            self.gone = self.gone or isinstance(error, self.ray.exceptions.LocalRayletDiedError)
            message = " ".join(str(error).split())[:300]
            future.set_exception(InterruptedRunError(f"Ray: {type(error).__name__}: {message}"))
            return
        if kind == "line":
            future.set_result(content)
        else:
            future.set_exception(OUTCOMES[kind](content))

    def _resources(self, run: Run) -> tuple[float, float]:
        """Return the CPUs and GPUs of a run."""
        cpus, gpus = run.resources.cpus, run.resources.gpus
        if gpus is None:
            gpus = float(self.has_gpus and self.device != "cpu")
        return (1.0 if cpus is None else cpus), gpus

    def _check_resources(self) -> None:
        """Refuse runs that no node can ever execute; Ray would wait silently."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for run in self.plan.runs:
            cpus, gpus = self._resources(run)
            if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
                most = ", ".join(sorted({f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes}))
                raise ConfigError(
                    f"{self.plan.matrix.path}: systems.{run.cell.system}: no node of the Ray cluster has {cpus:g} CPUs "
                    f"and {gpus:g} GPUs (there are: {most}); lower resources, or add a larger node"
                )


def _work(
    run: Run,
    out: str,
    session: str,
    device: str | None,
    folder: str,
    plugin_paths: dict[str, str],
    isolate: bool = False,
) -> tuple[str, Any]:
    """Execute a run in a worker; errors are returned as data, since Ray would wrap them."""
    os.environ.update(plugin_paths)
    upstream = run.upstream_flag("-u")
    processes = Processes(folder=folder, isolate=isolate, upstreams=[upstream] if upstream else [])
    ended = threading.Event()
    if processes.server is not None:
        processes.server = _SERVERS.setdefault(frozenset(processes.server.fixed.items()), processes.server)
    threading.Thread(target=_watch, args=(Path(out) / SESSION, session, processes, ended), daemon=True).start()
    try:
        return "line", execute(run, processes, session, device)
    except (TrainingError, OSError) as error:
        kind = next((name for name, kind in OUTCOMES.items() if isinstance(error, kind)), TrainingError.__name__)
        return FullDiskError.__name__ if is_full_disk(error) else kind, " ".join(str(error).split())
    finally:
        ended.set()


_SERVERS: dict[Any, CommandServer] = {}  # of this worker, by the variables that differ for libraries


def _plugin_paths() -> dict[str, str]:
    """Return variables that a cluster's workers do not inherit: folders of adapters and heads, trust in upstreams."""
    variables = (host.ADAPTERS.variable, host.HEADS.variable, trust.VARIABLE)
    return {name: os.environ[name] for name in variables if name in os.environ}


def _watch(path: Path, session: str, processes: Processes, ended: threading.Event) -> None:
    """End a worker's processes once the session has ended, or another has begun: Ray died and left the worker."""
    while not ended.wait(WATCH_SECONDS):
        try:
            current = path.read_text(encoding="utf-8")
        except OSError:
            continue
        if current != session:
            processes.stop()
            return


@contextmanager
def _importable() -> Iterator[None]:
    """Put this suite on ``PYTHONPATH`` while a local cluster starts, so that a checkout need not be installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), *filter(None, [before])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _check_listening(address: str) -> None:
    """Refuse a ``HOST:PORT`` on which nothing listens; Ray would try for minutes. Other forms (``auto``) go to Ray.

    Raises:
        UsageError: nothing listens on the address
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "/" in host:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({error}); start a cluster on it (ray start --head), "
            "or leave --ray-address out"
        ) from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--executor ray: Ray is not installed; pip install 's3prl-emotion[ray]', or leave --executor out"
        ) from error
    return ray
