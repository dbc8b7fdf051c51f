"""Where outputs go: through links, into pipes and devices, over regular files alone; and what dead processes left."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from full_disk import fill_disk

from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.files import leftovers, outputs, writing
from s3prl_emotion.files.locks import locked
from s3prl_emotion.files.terminal import say


def names(folder: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_links_stay_and_their_target_is_written(tmp_path: Path, exists: bool) -> None:
    far = tmp_path / "far"
    far.mkdir()
    target, middle, link = far / "target", tmp_path / "middle", tmp_path / "link"
    middle.symlink_to("far/target")
    link.symlink_to(middle)
    if exists:
        target.write_text("older")
    writing.write_text(link, "new")
    assert (link.is_symlink(), middle.is_symlink(), target.is_symlink()) == (True, True, False)
    assert target.read_text() == "new"
    assert (names(far), names(tmp_path)) == (["target"], ["far", "link", "middle"])


def test_the_target_of_a_link_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("older")
    link.symlink_to(target)
    fill_disk(monkeypatch)
    with pytest.raises(TrainingError, match=rf"^{link}: could not be written \(No space left on device\)"):
        writing.write_text(link, "new")
    assert target.read_text() == "older"
    assert names(tmp_path) == ["link", "target"]


@pytest.mark.parametrize("parents", [True, False])
def test_a_link_that_leads_nowhere_is_one_error(tmp_path: Path, parents: bool) -> None:
    link, circle = tmp_path / "link", tmp_path / "circle"
    link.symlink_to(tmp_path / "none" / "file")
    circle.symlink_to(circle)
    expected = rf"^{link}: is a link to {tmp_path}/none/file, whose folder does not exist; make that folder or remove"
    for refuse in (
        lambda path: writing.write_bytes(path, b"", UsageError, parents=parents),
        lambda path: outputs.check_file(path, "", parents=parents),
    ):
        with pytest.raises(UsageError, match=expected):
            refuse(link)
        with pytest.raises(UsageError, match=rf"^{circle}: is a link that leads in a circle; remove it"):
            refuse(circle)
    assert names(tmp_path) == ["circle", "link"]


def test_a_folder_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    with writing.writing_folder(tmp_path / "link" / "made") as folder:
        (folder / "a").touch()
    assert names(tmp_path / "far" / "made") == ["a"]
    (tmp_path / "dangling").symlink_to("none")
    for path in (tmp_path / "dangling", tmp_path / "dangling" / "below"):
        for refuse in (outputs.check_folder, lambda path: outputs.make_folder(path, "--out ")):
            with pytest.raises(UsageError, match=r"^--out .*link to none, which does not exist; make that folder"):
                refuse(path)


# --- pipes and devices -----------------------------------------------------------------------------------------------


def zipped(path: Path) -> None:
    """Write a zip file, which needs positions where a file has them."""
    with writing.writing(path) as target, zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a", "1")


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    pipe, content = tmp_path / "pipe", []
    os.mkfifo(pipe)
    for write in (lambda path: writing.write_text(path, "ü\n"), zipped):
        reader = threading.Thread(target=lambda: content.append(pipe.read_bytes()))
        reader.start()
        write(pipe)
        reader.join()
        assert pipe.is_fifo()
    assert content[0] == "ü\n".encode()
    with zipfile.ZipFile(io.BytesIO(content[1])) as archive:
        assert archive.read("a") == b"1"
    assert names(tmp_path) == ["pipe"]


def test_devices_stay_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    monkeypatch.setattr(writing, "partial_name", lambda path: pytest.fail("a device would be replaced"))
    writing.write_text(link, "gone")
    writing.write_json(Path("/dev/null"), {})
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert link.is_symlink()
    with pytest.raises(TrainingError, match=r"^/dev/full: could not be written \(No space left on device\); free disk"):
        writing.write_text(Path("/dev/full"), "x")


def test_an_open_descriptor_is_written_and_what_it_holds_stays(tmp_path: Path) -> None:
    """As with ``--out /dev/stdout >> log`` and ``--out >(sort)``."""
    for path in ("/dev/fd/{}", "/proc/self/fd/{}", str(tmp_path / "link")):
        log = tmp_path / "log"
        log.write_text("before\n")
        with log.open("a") as file:
            (tmp_path / "link").unlink(missing_ok=True)
            (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
            writing.write_text(Path(path.format(file.fileno())), "now\n")
            file.write("after\n")
        assert log.read_text() == "before\nnow\nafter\n"
        with log.open() as file, pytest.raises(TrainingError, match=r"fd/\d+: may not be written \(it is read-only\)"):
            writing.write_text(Path(f"/dev/fd/{file.fileno()}"), "x")
    assert names(tmp_path) == ["link", "log"]


def test_what_is_said_does_not_mix_with_the_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    say("a", about=Path("/dev/stdout"))
    for path in (tmp_path / "none", Path("/dev/null")):
        say("b", about=path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("b\nb\n", "a\n")


def test_only_regular_files_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        cases = [("folder", "folder"), ("socket", "socket")]
        with monkeypatch.context() as patch:
            seen = os.stat
            blocks = os.stat_result((stat.S_IFBLK | 0o600, *[0] * 9))
            patch.setattr(os, "stat", lambda path, *a, **k: blocks if path == Path("disk") else seen(path, *a, **k))
            for name, kind in [*cases, ("disk", "block device")]:
                for refuse in (lambda path: writing.write_text(path, "x", UsageError), outputs.check_file):
                    with pytest.raises(UsageError, match=rf"{name}: is a {kind}; name a file"):
                        refuse(Path(name))
    assert names(tmp_path) == ["folder", "socket"]


def test_what_takes_the_name_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    with (
        pytest.raises(TrainingError, match=rf"^{path}: could not be written \(a device or a pipe"),
        writing.writing(path),
    ):
        os.mkfifo(path)
    assert path.is_fifo()
    assert names(tmp_path) == ["pipe"]


# --- an existing file ------------------------------------------------------------------------------------------------


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    path = tmp_path / "private"
    path.write_text("older")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    with writing.writing(path) as file:
        (partial,) = tmp_path.glob(".private.*.partial")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o640  # before there is anything to read in it
        file.write(b"new")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert path.read_text() == "new"


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "protected"
    path.write_text("older")
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda item, mode: Path(item) != path and allowed(item, mode)
    )  # root may write it
    for refuse in (lambda item: writing.write_text(item, "new", UsageError), outputs.check_file):
        with pytest.raises(UsageError, match=rf"{path}: may not be written \(it is read-only\); name another file"):
            refuse(path)
    assert path.read_text() == "older"


# --- decided before the work -----------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_seen_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .*none/a: its folder does not exist; make it"):
        outputs.check_file(tmp_path / "none" / "a")
    with pytest.raises(UsageError, match=rf"--out {tmp_path}/file/a: {tmp_path}/file is a file; name a folder"):
        outputs.check_folder(tmp_path / "file" / "a")
    outputs.check_file(tmp_path / "none" / "a", parents=True)
    outputs.check_folder(tmp_path / "none" / "a")

    def refuse(**options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
    for check, what in ((outputs.check_file, "its folder cannot"), (outputs.check_folder, "cannot")):
        with pytest.raises(UsageError, match=rf"^--out {tmp_path}/a: {what} be written \(Read-only file system\)"):
            check(tmp_path / "a")
    assert names(tmp_path) == ["file"]


def test_a_failed_start_leaves_no_folder(tmp_path: Path) -> None:
    def start(fail: bool, *work: str) -> None:
        with outputs.new_folder(tmp_path / "a" / "b"), locked(tmp_path / "a" / "b" / ".lock", "busy"):
            for name in work:
                (tmp_path / "a" / "b" / name).touch()
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(True)
    assert names(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        start(True, "work")
    assert names(tmp_path / "a" / "b") == [".lock", "work"]
    (tmp_path / "a" / "b" / "work").unlink()
    with pytest.raises(KeyboardInterrupt):
        start(True)  # it was there before
    assert names(tmp_path / "a" / "b") == [".lock"]


def test_a_failed_start_leaves_the_folder_of_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    missing = outputs.missing_folders(folder)
    folder.mkdir()
    with locked(folder / ".lock", "busy"):
        outputs.remove_unused(missing)
        assert names(folder) == [".lock"]
    outputs.remove_unused(missing)
    assert names(tmp_path) == []


def test_a_log_gets_whole_lines_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, log, pipe = tmp_path / "target", tmp_path / "log", tmp_path / "pipe"
    log.symlink_to(target)
    outputs.append(log, "one\n", UsageError, "free it")
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match=rf"^{pipe}: is a device or a pipe, which keeps no log"):
        outputs.append(pipe, "two\n", UsageError, "free it")

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if len(data) < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[:2])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, buffering: Full(path, mode))
        with pytest.raises(UsageError, match=rf"^{log}: could not be written \(No space left on device\); free it"):
            outputs.append(log, "two\n", UsageError, "free it")
    assert target.read_bytes() == b"one\n"


# --- what dead processes left ----------------------------------------------------------------------------------------


def ended_process(statement: str) -> str:
    """Run a statement in a process that then ends at once, and return what it printed."""
    code = f"import pathlib; from s3prl_emotion.files import leftovers; {statement}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def test_partial_files_of_dead_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial, scratch = ended_process(
        "p = pathlib.Path('out.csv'); print(leftovers.partial_name(p), leftovers.scratch_name(p))"
    ).split()
    assert re.fullmatch(r"\.out\.csv\.\d+-\d+-[0-9a-f]{8}-\d+\.partial", partial)
    mine = leftovers.partial_name(tmp_path / "out.csv").name
    pid, start, host, _ = mine.split(".")[3].split("-")
    reused = f".out.csv.{pid}-{int(start) + 1}-{host}-0.partial"  # the id of a living process, of which it is not
    foreign = partial.replace(host, "0" * 8)
    others = [mine, foreign, ".film.partial", "out.csv.partial", ".out.csv.77.partial", "out.csv.tmp-1"]
    for name in (partial, reused, *others):
        (tmp_path / name).touch()
    (tmp_path / scratch).mkdir()
    (tmp_path / scratch / "a").touch()
    writing.write_text(tmp_path / "out.csv", "x")
    assert names(tmp_path) == sorted(["out.csv", *others])
    os.utime(tmp_path / foreign, (0, 0))
    os.utime(tmp_path / mine, (0, 0))  # old, but its process lives
    os.utime(tmp_path / ".film.partial", (0, 0))  # another program's
    outputs.check_file(tmp_path / "out.csv")
    assert names(tmp_path) == sorted(["out.csv", *others[:1], *others[2:]])
    monkeypatch.setattr(leftovers, "_start", lambda pid: None)  # a system without /proc
    leftovers.remove_left(tmp_path)
    assert (tmp_path / mine).exists()


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the table of processes
    host = leftovers.partial_name(Path("a")).name.split("-")[2]
    left = tmp_path / f".a.{child}-123-{host}-0.partial"
    left.touch()
    leftovers.remove_left(tmp_path)
    os.waitpid(child, 0)
    assert not left.exists()


def test_the_longest_names_hold_their_process_too(tmp_path: Path) -> None:
    name = leftovers.partial_name(tmp_path / ("ü" * 127)).name
    assert len(os.fsencode(name)) < 100
    assert leftovers._owner_in(name) is not None
