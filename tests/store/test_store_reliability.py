"""The feature store with real processes: killed writers, full disks, several readers and writers at once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import SOURCE, Cli, TinyCorpus
from store_tools import FAKES, fake
from test_extract import left_by
from test_resume import different

from s3prl_emotion.audio import load_audio
from s3prl_emotion.errors import StoreError
from s3prl_emotion.store import FeatureStore, Identity, upkeep, utterance_key
from s3prl_emotion.store.segments import Segment, stems

KILLS = 20
LEAST_KILLS, SPARE = 5, 15  # least number of kills; least number of remaining utterances for a kill in time
LARGE = {"layers": 8, "dim": 512}  # 0.5 to 1 MB per utterance of the tiny corpus
UTTERANCES = 48


class Nursery:
    """Start processes that have imported everything, see ``nursery.py``.

    Args:
        modules: to import beforehand, besides those of every command
        folder: their working directory; ``None``: that of the test
        environment: their variables
    """

    def __init__(self, *modules: str, folder: Path | None = None, **environment: str) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([SOURCE, str(FAKES.parent)])}
        self.process = subprocess.Popen(
            [sys.executable, str(FAKES.parent / "nursery.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env | environment,
            cwd=folder,
        )

    def end(self) -> None:
        """Wait for the last process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def ask(self, **request: Any) -> int:
        """Send a request, see ``nursery.py``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, *words: object, to: Path | str = "output", **options: Any) -> int:
        """Start a process whose output goes to a file, and return its id."""
        return self.ask(words=[str(word) for word in words], to=str(Path(to).absolute()), **options)

    def wait(self, pid: int) -> int:
        """Wait for a process to end, and return its exit code."""
        return self.ask(wait=pid)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.end()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


Command = Callable[..., tuple[str, ...]]


@pytest.fixture
def command(tiny_corpus: TinyCorpus, tmp_path: Path, nursery: Nursery) -> Command:
    """``command("extract", …)`` or ``command("train", …)`` with a fake upstream whose features are large."""

    def words(kind: str, store: str, *more: str, **options: Any) -> tuple[str, ...]:
        config = tmp_path / "options.yaml"
        config.write_text(yaml.safe_dump({**LARGE, **options}))
        upstream = ("-u", "fake_layers", "--upstream_path", str(FAKES), "-g", str(config), "--device", "cpu")
        # the nursery runs in another folder than the test
        place = ("--feature_store", str(tmp_path / store), *upstream)
        if kind == "extract":
            corpus = ("--labels", str(tiny_corpus.labels), "--root", str(tiny_corpus.root))
            return "s3prl-emotion", "extract", *place, *corpus, *more
        head = ("-m", "train", "-d", "emotion_corr_attn", "-o", tiny_corpus.overrides())
        return "run_downstream.py", *head, *place, *more

    return words


def waveforms_of(corpus: TinyCorpus) -> dict[bytes, torch.Tensor]:
    """Return waveforms by their keys, as hexadecimal digits."""
    waveforms = [load_audio(path) for path in sorted(corpus.root.iterdir())]
    return {utterance_key(waveform): torch.from_numpy(waveform) for waveform in waveforms}


def keys_in(store: Path) -> list[bytes]:
    """Return the keys of all entries of the only collection, over all segments."""
    folders = [path.parent for path in store.glob("*/upstream.json")]
    return [entry.key for folder in folders for stem in stems(folder) for entry in Segment(stem).new_entries()]


def check_values(store: Path, corpus: TinyCorpus, whole: bool) -> None:
    """Compare every stored stack with the upstream's own."""
    (item,) = upkeep.collections(store)
    opened, upstream = FeatureStore(store, Identity(item.about["identity"])), fake(**LARGE)
    served = 0
    for key, waveform in waveforms_of(corpus).items():
        stack = opened.get(key, len(waveform))
        if stack is not None:
            with torch.no_grad():
                expected = torch.cat(upstream([waveform])["hidden_states"])
            torch.testing.assert_close(stack, expected, rtol=1e-5, atol=1e-5)
            served += 1
    assert opened.stats.corrupt == 0
    assert served == len(set(keys_in(store)))
    assert not whole or served == UTTERANCES


def calls_in(path: Path, known: dict[bytes, torch.Tensor]) -> list[bytes]:
    """Return the utterances that the upstream computed, each once, in order."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [key for key in dict.fromkeys(bytes.fromhex(line.decode().split()[1]) for line in lines) if key in known]


@pytest.mark.full
def test_a_killed_writer_loses_the_utterance_in_flight_and_no_other(
    nursery: Nursery, command: Command, tiny_corpus: TinyCorpus, tmp_path: Path
):
    draw, known = random.Random(3), waveforms_of(tiny_corpus)
    store, calls = tmp_path / "S", tmp_path / "calls"
    words = command("extract", "S", delay=0.02, calls=str(calls))
    begun: list[bytes] = []
    kills = 0
    for number in range(KILLS):
        calls.unlink(missing_ok=True)
        before, wanted = set(keys_in(store)), draw.randrange(4)
        if len(before) > UTTERANCES - SPARE:
            break  # the next process would end before it is killed
        kills += 1
        pid = nursery.start(*words)
        while len(calls_in(calls, known)) < wanted:
            time.sleep(0.0005)
        time.sleep(draw.random() * (0.02 if wanted else 0.2))
        os.kill(pid, signal.SIGKILL)
        assert nursery.wait(pid) == -signal.SIGKILL, Path("output").read_text()
        called, now = calls_in(calls, known), set(keys_in(store))
        begun += called
        assert not before & set(called), "computed though it was stored"
        assert now >= before | set(called[:-1]), f"round {number}: lost more than the utterance in flight"
        assert now <= before | set(called)
        if list(store.glob("*/upstream.json")):
            assert sum(verdict.bad for verdict in upkeep.verify(store)) == 0
    check_values(store, tiny_corpus, whole=False)
    stored = len(set(keys_in(store)))
    assert kills >= LEAST_KILLS
    assert len(begun) >= kills  # training had an effect
    assert stored >= len(begun) - kills
    assert nursery.wait(nursery.start(*words)) == 0
    assert f"48 utterances: {UTTERANCES - stored} computed" in Path("output").read_text()
    assert upkeep.clean(store)[0] == 0
    check_values(store, tiny_corpus, whole=True)


@pytest.mark.full
def test_two_processes_share_an_extraction(nursery: Nursery, command: Command, tiny_corpus: TinyCorpus, tmp_path: Path):
    words = command("extract", "S", delay=0.001)
    pids = [nursery.start(*words, to=f"out{rank}", env={"RANK": str(rank), "WORLD_SIZE": "2"}) for rank in range(2)]
    assert [nursery.wait(pid) for pid in pids] == [0, 0]
    for rank in range(2):
        assert "24 utterances: 24 computed" in Path(f"out{rank}").read_text()
    assert len(keys_in(tmp_path / "S")) == UTTERANCES
    check_values(tmp_path / "S", tiny_corpus, whole=True)


@pytest.mark.full
def test_many_read_and_write_at_once(nursery: Nursery, tmp_path: Path):
    store = tmp_path / "S"
    store.mkdir()
    writers = [nursery.start("write", store, seed, to=f"w{seed}") for seed in range(2)]
    readers = [nursery.start("read", store, number, to=f"r{number}") for number in range(4)]
    while len(list(store.glob("*/*.index"))) < 2:
        time.sleep(0.001)
    with pytest.raises(StoreError, match="is being written to"):
        upkeep.clean(store)
    (store / "go").touch()
    codes = [nursery.wait(pid) for pid in (*writers, *readers)]
    assert codes == [0] * 6, [Path(name).read_text() for name in ("w0", "w1", "r0", "r1", "r2", "r3")]
    entries = keys_in(store)
    assert len(set(entries)) == 80
    assert len(entries) <= 90  # utterances that both computed at the same time
    gone, freed = upkeep.clean(store)
    assert gone == len(entries) - 80
    assert (freed > 0) == (gone > 0)
    assert len(keys_in(store)) == 80
    assert nursery.wait(nursery.start("read", store, 9)) == 0


def error_in(output: Path | str) -> str:
    """Return the line of an error; fail if there are more, or a traceback."""
    text = Path(output).read_text()
    lines = [line for line in re.split(r"[\r\n]+", text) if "error:" in line.lower()]
    assert len(lines) == 1, text
    assert "Traceback" not in text, text
    return lines[0]


@pytest.mark.full
def test_extraction_onto_a_full_disk(nursery: Nursery, command: Command, tiny_corpus: TinyCorpus, tmp_path: Path):
    words = command("extract", "S")
    assert nursery.wait(nursery.start(*words, limit=6_000_000)) == 1
    message = r"s3prl-emotion: error: .*/S/fake_layers-\w+: no room for [01]\.\d MB more \(File too large\); free disk"
    assert re.match(message, error_in("output"))
    stored = len(keys_in(tmp_path / "S"))
    assert 4 < stored < 15
    check_values(tmp_path / "S", tiny_corpus, whole=False)
    assert nursery.wait(nursery.start(*words)) == 0
    assert f"48 utterances: {UTTERANCES - stored} computed" in Path("output").read_text()
    check_values(tmp_path / "S", tiny_corpus, whole=True)


def run_until_full(nursery: Nursery, command: Command, corpus: TinyCorpus, store: str, why: str, **limit: Any) -> None:
    """Train until the disk is full, and check the store's folder."""
    folder = Path("exp").absolute()
    words = command("train", store, "-p", str(folder))
    assert nursery.wait(nursery.start(*words, **limit)) == 1
    line = error_in("output")
    assert re.match(rf"run_downstream.py: error: .*: no room for [01]\.\d MB more \({why}\); free disk space", line)
    assert keys_in(Path(store).absolute())
    check_values(Path(store).absolute(), corpus, whole=False)


@pytest.mark.full
def test_training_onto_a_full_disk(
    nursery: Nursery, command: Command, cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path
):
    run_until_full(nursery, command, tiny_corpus, "S", "File too large", limit=6_000_000)
    stored = keys_in(tmp_path / "S")
    cli(*command("train", "S", "-p", "again")[1:])
    cli(*command("train", "other", "-p", "plain")[1:])
    assert different(left_by("plain"), left_by("again")) == []
    assert keys_in(tmp_path / "S")[: len(stored)] == stored
    assert len(keys_in(tmp_path / "S")) == len(keys_in(tmp_path / "other"))  # none is stored twice


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.full
def test_a_file_system_that_is_full(
    nursery: Nursery, command: Command, tiny_corpus: TinyCorpus, small_disk: Path, tmp_path: Path
):
    assert nursery.wait(nursery.start(*command("extract", "disk/S"))) == 1
    assert re.search(r"disk/S: needs about 0\.0 GB more, but 0\.0 GB are free there", error_in("output"))
    run_until_full(nursery, command, tiny_corpus, "disk/S", "No space left on device")
    stored = keys_in(small_disk / "S")
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert nursery.wait(nursery.start(*command("extract", "disk/S"))) == 0
    assert f"48 utterances: {UTTERANCES - len(stored)} computed" in Path("output").read_text()
    check_values(small_disk / "S", tiny_corpus, whole=True)
