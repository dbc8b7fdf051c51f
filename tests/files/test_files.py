"""The one writer and the one lock of the suite."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import fill_disk

from s3prl_emotion.errors import StoreError, TrainingError, UsageError
from s3prl_emotion.files import folders, leftovers, writing
from s3prl_emotion.files.locks import lock, locked

WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: writing.write_bytes(path, b"\0\xff"),
    "text": lambda path: writing.write_text(path, "ü\r\n"),
    "json": lambda path: writing.write_json(path, {"ü": [1, Path("a")]}),
    "arrays": lambda path: writing.write_arrays(path, {"a": np.arange(3)}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_older_file_stays_until_the_new_one_is_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ä b"
    path.write_text("older")
    with monkeypatch.context() as patch:
        fill_disk(patch)
        with pytest.raises(TrainingError, match=rf"^{path}: could not be written \(No space left on device\); free"):
            WRITERS[kind](path)
    assert path.read_text() == "older"
    WRITERS[kind](path)
    assert path.read_text(errors="replace") != "older"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written(tmp_path: Path) -> None:
    for kind, write in WRITERS.items():
        write(tmp_path / kind)
    assert (tmp_path / "bytes").read_bytes() == b"\0\xff"
    assert (tmp_path / "text").read_bytes() == b"\xc3\xbc\r\n"
    assert (tmp_path / "json").read_text() == '{\n  "\\u00fc": [\n    1,\n    "a"\n  ]\n}\n'
    with np.load(tmp_path / "arrays") as file:
        assert file["a"].tolist() == [0, 1, 2]
    writing.write_json(tmp_path / "json", {"ü": 1}, indent=None, ensure_ascii=False)
    assert (tmp_path / "json").read_text(encoding="utf-8") == '{"ü": 1}\n'
    with writing.writing_text(tmp_path / "rows") as file:
        file.write("a\r\n")
        file.write("ü\n")
        assert not (tmp_path / "rows").exists()
    assert (tmp_path / "rows").read_bytes() == b"a\r\n\xc3\xbc\n"


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    def fail(failure: BaseException) -> None:
        with writing.writing_text(tmp_path / "a") as file:
            file.write("half")
            raise failure

    for failure in (KeyboardInterrupt(), ValueError("a defect")):
        with pytest.raises(type(failure)):
            fail(failure)
    with pytest.raises(FileNotFoundError), writing.writing(tmp_path / "a"):
        Path("another file").read_bytes()  # is not blamed on this one
    assert list(tmp_path.iterdir()) == []


def test_folders_above(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a/b: could not be written \(No such file or directory\); look"):
        writing.write_bytes(tmp_path / "a/b", b"", StoreError, "look")
    writing.write_bytes(tmp_path / "a/b", b"1", parents=True)
    with pytest.raises(UsageError, match=r"a/b/c: could not be written \(.*\)"):
        writing.write_bytes(tmp_path / "a/b/c", b"", UsageError, parents=True)


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    writing.write_text(path, "x")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with writing.writing_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert [item.name for item in path.iterdir()] == ["a"]
    with pytest.raises(KeyboardInterrupt), writing.writing_folder(path.with_name("other")):
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("complete", [True, False])
def test_a_folder_of_a_faster_process(complete: bool, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with writing.writing_folder(path, lambda folder: complete) as folder:
        (folder / "a").write_text("mine")
        path.mkdir()
        (path / "a").write_text("theirs")
    assert (path / "a").read_text() == ("theirs" if complete else "mine")
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.1.partial", tmp_path / ".b.1.partial"
    for path in (old, young):
        path.mkdir()
    os.utime(old, (0, 0))
    leftovers.remove_stale(tmp_path.glob(".*.partial"))
    assert list(tmp_path.iterdir()) == [young]


def test_nobody_else_writes_whole_or_locks() -> None:
    """There is one writer and one lock, so that a change of either is a change everywhere."""
    pattern = re.compile(r"os\.replace\(|\bpartial\.replace|\.rename\((?!columns)|NamedTemporaryFile|mkstemp|\bflock\(")
    modules = [
        path.relative_to(folders.PACKAGE.parent).as_posix()
        for folder in (folders.PACKAGE, folders.heads_folder(), folders.adapters_folder())
        for path in folder.rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert sorted(modules) == ["s3prl_emotion/files/locks.py", "s3prl_emotion/files/writing.py"]


# --- locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = "import sys, pathlib; from s3prl_emotion.files.locks import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with (
        pytest.raises(StoreError, match=rf"^busy \(process {process.pid}\); wait for it"),
        locked(path, "busy", StoreError),
    ):
        pass
    process.kill()
    process.wait()
    with locked(path, "busy"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_shared_locks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second, path.open() as third:
        assert lock(first, shared=True)
        assert lock(second, shared=True)
        assert not lock(third)
        second.close()
        first.close()
        assert lock(third)


def test_a_file_system_without_locks_counts_as_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(file: Any, mode: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path / "lock", "busy"):
        pass
    assert json.loads((tmp_path / "lock").read_text()) == os.getpid()
