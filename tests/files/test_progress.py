"""Progress: bars on a terminal, lines some time apart elsewhere."""

from __future__ import annotations

import ast
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import tqdm

import s3prl_emotion
from s3prl_emotion import cli, host
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.files import progress as module
from s3prl_emotion.files.progress import progress

ROOT = Path(s3prl_emotion.__file__).resolve().parents[1]
HOME_OF_BARS = {"s3prl_emotion/files/progress.py", "s3prl_emotion/host/bars.py"}


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal; in a test's body, since pytest replaces it between fixtures and test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_a_line_about_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    for _ in progress(range(10), "train", "steps", total=20):
        clock.now += 4
    assert caplog.messages == [
        "train: 3 of 20 steps, 0.25 a second, about 0:01:08 left",
        "train: 6 of 20 steps, 0.25 a second, about 0:00:56 left",
        "train: 9 of 20 steps, 0.25 a second, about 0:00:44 left",
        "train: 10 of 20 steps in 0:00:40",
    ]


def test_counts_by_hand_without_a_total_and_from_a_start(clock: Clock, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with progress(name="headers", unit="files", initial=100) as bar:
        clock.now = 10.0
        bar.update(50)
        bar.update(0)
        clock.now = 3700.0
    assert bar.n == 150
    assert caplog.messages == ["headers: 150 files, 5 a second", "headers: 150 files in 1:01:40"]


def test_what_leaves_nothing(clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]):
    caplog.set_level(logging.INFO)
    assert list(progress(iter("abc"), "dev", "batches", leave=False)) == ["a", "b", "c"]
    assert list(progress([], "none", "batches", leave=False)) == []
    for options in ({"hidden": True}, {"lines": False}):
        for _ in progress([1, 2], "train", "batches", **options):
            clock.now += 60
    with pytest.raises(ValueError, match="broken"), progress(name="x", unit="y", total=3):
        raise ValueError("broken")
    assert caplog.messages == []
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    terminal = on_terminal(monkeypatch)
    assert list(progress([1, 2], "train", "batches", lines=False, leave=False)) == [1, 2]
    assert "\rtrain:   0%|" in terminal.getvalue()
    with progress(name="overall", unit="steps", total=4, initial=1) as bar:
        bar.update(3)
        bar.write("a line", file=sys.stderr)
    assert "overall: 100%|" in terminal.getvalue()
    assert "\ra line\n" in terminal.getvalue()
    before = terminal.getvalue()
    assert list(progress([1, 2], "train", "batches", hidden=True)) == [1, 2]
    assert terminal.getvalue() == before
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["a dumb terminal", "no standard error", "a pipe"])
def test_where_lines_cannot_be_redrawn(kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    caplog.set_level(logging.INFO)
    terminal = on_terminal(monkeypatch)
    if kind == "a dumb terminal":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(sys, "stderr", None if kind == "no standard error" else io.StringIO())
    list(progress([1, 2], "train", "batches"))
    assert caplog.messages == ["train: 2 of 2 batches in 0:00:00"]
    assert terminal.getvalue() == ""


# --- the bars of s3prl's own tasks ------------------------------------------------------------------------------------


@pytest.fixture
def task() -> Iterator[ModuleType]:
    task = ModuleType("s3prl.downstream.of_a_test.dataset")
    vars(task).update(library=tqdm, tqdm=tqdm.tqdm, trange=tqdm.trange)
    sys.modules[task.__name__] = task
    yield task
    del sys.modules[task.__name__]


def test_bars_of_the_hosts_tasks_are_lines_too(
    task: ModuleType, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.INFO)
    host.replace_bars()
    assert list(task.tqdm([1, 2], dynamic_ncols=True, desc="read", total=2)) == [1, 2]
    assert list(task.library.tqdm(iter([1]), ncols=0)) == [1]
    with task.tqdm(total=3, desc="overall") as bar:
        bar.update(3)
    task.tqdm.write("[dev] 0.5")
    assert caplog.messages == [
        "read: 2 of 2 items in 0:00:00",
        "progress: 1 of 1 items in 0:00:00",
        "overall: 3 of 3 items in 0:00:00",
    ]
    assert capsys.readouterr() == ("[dev] 0.5\n", "")
    assert task.library.trange is task.trange is tqdm.trange
    assert tqdm.tqdm is not task.tqdm  # other libraries keep theirs


def test_bars_of_the_hosts_tasks_stay_on_a_terminal(task: ModuleType, monkeypatch: pytest.MonkeyPatch):
    on_terminal(monkeypatch)
    host.replace_bars()
    assert task.tqdm is tqdm.tqdm
    assert task.library is tqdm


def test_downloads_are_lines_too(clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    host.register()
    from s3prl.util import download

    monkeypatch.setattr(download, "tqdm", tqdm.tqdm)
    host.replace_bars()
    with download.tqdm(total=4096, disable=False, unit="B", unit_scale=True, unit_divisor=1024) as bar:
        clock.now = 10.0
        bar.update(1024)
    with download.tqdm(total=9, disable=True) as bar:
        clock.now = 30.0
        bar.update(9)
    assert caplog.messages == [
        "progress: 1024 of 4096 B, 102 a second, about 0:00:30 left", "progress: 1024 of 4096 B in 0:00:10"
    ]  # fmt: skip


def test_bars_of_the_hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(module.HIDES_HUB_BARS, "before")
    module.hide_hub_bars()
    assert os.environ[module.HIDES_HUB_BARS] == Processes(isolate=True).environment[module.HIDES_HUB_BARS] == "before"
    monkeypatch.delenv(module.HIDES_HUB_BARS)
    on_terminal(monkeypatch)
    module.hide_hub_bars()
    assert module.HIDES_HUB_BARS not in os.environ
    assert Processes(isolate=True).environment[module.HIDES_HUB_BARS] == "1"  # its processes write into logs
    monkeypatch.setenv("TERM", "dumb")
    assert cli.main(["no-such-command"]) == 1
    assert os.environ[module.HIDES_HUB_BARS] == "1"


def test_one_place_makes_bars():
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("s3prl_emotion", "downstream", "upstream_adapters")
        for path in (ROOT / folder).rglob("*.py")
        if b"tqdm" in (text := path.read_bytes()) and "tqdm" in _imports(ast.parse(text))
    }
    assert users == HOME_OF_BARS


def _imports(tree: ast.AST) -> set[str]:
    """First parts of the names of the modules that are imported."""
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [item.name for node in ast.walk(tree) if isinstance(node, ast.Import) for item in node.names]
    return {name.partition(".")[0] for name in names}
