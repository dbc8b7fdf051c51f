"""Shared fixtures: small synthetic corpora, and the command line in a subprocess."""

from __future__ import annotations

import csv
import gc
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from s3prl_emotion.files.folders import PACKAGE

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ["HF_HUB_OFFLINE"] = "1"  # else every unknown model waits for a network that tests do not have

TESTS = Path(__file__).resolve().parent
FOLDERS = [str(folder) for folder in (TESTS, *sorted(path for path in TESTS.iterdir() if path.is_dir()))]
sys.path += [folder for folder in FOLDERS if folder not in sys.path]  # tests import each other's helpers by bare name

REPOSITORY = TESTS.parent
SOURCE = str(PACKAGE.parent)  # what must stand on the path: the checkout, or where the wheel was installed
SCRIPT = REPOSITORY / "run_downstream.py"
LAUNCHER = [str(SCRIPT)] if SCRIPT.is_file() else ["-m", "s3prl_emotion.run_downstream"]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
RATE = 16_000
FILTERBANKS: dict[tuple[bytes, bytes], Any] = {}
MOST_FILTERBANKS = 2000  # some 100 MB
PITCH = {"ang": 440.0, "hap": 330.0, "neu": 220.0, "sad": 110.0}  # Hz: what tells the classes apart


def pytest_collection() -> None:
    """Do not search modules and tests for garbage, now or later: it took a tenth of the time of all tests."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See above."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@dataclass(frozen=True)
class TinyCorpus:
    """A corpus of tones: six speakers, four classes, 0.3 to 0.6 s, two takes each."""

    root: Path
    labels: Path
    modelrc: ClassVar[dict[str, object]] = {"projector_dim": 8}

    def overrides(self, **more: object) -> str:
        """``-o`` that points a head at this corpus and keeps it small and quick."""
        values: dict[str, object] = {
            "downstream_expert.datarc.root": str(self.root),
            "downstream_expert.datarc.labels": str(self.labels),
            "downstream_expert.datarc.train_batch_size": 4,
            "downstream_expert.datarc.eval_batch_size": 4,
            **{f"downstream_expert.modelrc.{key}": value for key, value in self.modelrc.items()},
            "runner.total_steps": 6,
            "runner.log_step": 2,
            "runner.eval_step": 3,
            "runner.save_step": 3,
        }
        values |= more
        return ",,".join(f"config.{key}={value!r}" for key, value in values.items())


def tone(pitch: float, seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """A tone in noise, the same for the same seed."""
    noise = np.random.default_rng(seed).normal(scale=0.02, size=int(seconds * rate))
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(len(noise)) / rate) + noise).astype(np.float32)


def write_tiny_corpus(folder: Path) -> TinyCorpus:
    root = folder / "audio"
    root.mkdir(parents=True)
    rows = []
    for speaker in range(6):
        for number, (name, pitch) in enumerate(PITCH.items()):
            for take in range(2):
                seed = 100 * speaker + 10 * number + take
                file = f"s{speaker}_{name}_{take}.wav"
                seconds = 0.3 + 0.05 * (seed % 7)
                soundfile.write(root / file, tone(pitch * (1 + 0.02 * speaker), seconds, seed), RATE)
                rows.append([file, name, f"s{speaker}", "Female" if speaker % 2 else "Male", f"fold{speaker // 2 + 1}"])
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["FileName", "EmoClass", "SpkrID", "Gender", "Fold"])
        writer.writerows(rows)
    return TinyCorpus(root, labels)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The corpus of tones, shared: tests must not write into it."""
    return write_tiny_corpus(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_tiny_corpus(tiny_corpus: TinyCorpus, tmp_path: Path) -> TinyCorpus:
    """A corpus of tones of the test's own, to damage."""
    shutil.copytree(tiny_corpus.root, tmp_path / "own/audio")
    shutil.copy2(tiny_corpus.labels, tmp_path / "own/labels.csv")
    return TinyCorpus(tmp_path / "own/audio", tmp_path / "own/labels.csv")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are made in one order: torch uses one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of a report are empty, for tests that look at tables and words: drawing is most of a report's time."""
    empty = '<svg width="1pt" height="1pt" viewBox="0 0 1 1" xmlns="http://www.w3.org/2000/svg"></svg>'
    monkeypatch.setattr("s3prl_emotion.report.drawing.figure.Panel.svg", lambda panel: empty)


class TinyGradedCorpus(TinyCorpus):
    """A corpus of tones with graded dimensions: ten utterances of each of six speakers, in three folds.

    Pitch tells activation, a high tone valence, loudness dominance; grades run from 1 to 5.
    """

    modelrc: ClassVar[dict[str, object]] = {"conv_channels": 8, "gru_dim": 8, "embedding_dim": 8}


def write_graded_corpus(folder: Path) -> TinyGradedCorpus:
    root = folder / "audio"
    root.mkdir(parents=True)
    rows = []
    for number in range(60):
        speaker, generator = number // 10, np.random.default_rng(number)
        act, val, dom = (float(value) for value in generator.uniform(size=3).round(2))
        spreads = generator.uniform(0.1, 0.9, size=3).round(2).tolist()
        pitch, seconds = 110 * (1 + 0.02 * speaker) * 4**act, 0.3 + 0.03 * (number % 7)
        wave = tone(pitch, seconds, number) + val * tone(6000, seconds, number + 60)
        file = f"s{speaker}_{number % 10}.wav"
        soundfile.write(root / file, wave * 10 ** (dom - 1.5), RATE)
        text = f"{'A good' if val > 0.5 else 'no bad'} day, number {number % 10}!"
        who = [f"s{speaker}", "Female" if speaker % 2 else "Male", f"fold{speaker // 2 + 1}"]
        means = [round(1 + 4 * value, 2) for value in (act, val, dom)]
        rows.append([file, "ang" if act > 0.5 else "sad", *who, *means, *spreads, text])
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as handle:
        writer = csv.writer(handle)
        names = ["EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd", "Text"]
        writer.writerow(["FileName", "EmoClass", "SpkrID", "Gender", "Fold", *names])
        writer.writerows(rows)
    return TinyGradedCorpus(root, labels)


@pytest.fixture(scope="session")
def graded_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyGradedCorpus:
    """The corpus of graded tones, shared: tests must not write into it."""
    return write_graded_corpus(tmp_path_factory.mktemp("graded"))


def write_superb_corpus(folder: Path, sessions: int = 2, per_class: int = 6) -> TinyCorpus:
    """Stand-in audio with split lists in SUPERB's format; ``labels`` is the meta_data folder."""
    root, lists = folder / "IEMOCAP", folder / "meta_data"
    classes = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    entries: dict[int, list[dict[str, str]]] = {}
    for session in range(1, sessions + 1):
        entries[session] = []
        for take in range(per_class):
            for name, number in classes.items():
                letter = "FM"[take % 2]
                dialogue = f"Ses{session:02d}F_impro{take:02d}"
                path = f"Session{session}/sentences/wav/{dialogue}/{dialogue}_{letter}{number:03d}.wav"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                seed = 1000 * session + 10 * take + number
                soundfile.write(root / path, tone(PITCH[name], 0.3 + 0.03 * (seed % 9), seed), RATE)
                entries[session].append({"path": path, "label": name, "speaker": f"Ses{session:02d}F"})
    for session in entries:
        target = lists / f"Session{session}"
        target.mkdir(parents=True)
        train = [entry for other, items in entries.items() if other != session for entry in items]
        for split, items in (("train", train), ("test", entries[session])):
            (target / f"{split}_meta_data.json").write_text(json.dumps({"labels": classes, "meta_data": items}))
    return TinyCorpus(root, lists)


@pytest.fixture(scope="session")
def superb_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Stand-in for IEMOCAP in SUPERB's own format, shared: tests must not write into it."""
    return write_superb_corpus(tmp_path_factory.mktemp("superb"))


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in an empty working directory: ``run("run_downstream.py", "-m", "train", …)``.

    ``run_downstream.py`` is the checkout's launcher, ``s3prl-emotion`` the suite's command; ``code`` is the exit code
    that the test expects (``None``: any).
    """
    commands = {
        "run_downstream.py": [sys.executable, *LAUNCHER],
        "s3prl-emotion": [sys.executable, "-m", "s3prl_emotion"],
    }

    def call(
        *words: object, code: int | None = 0, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [*commands.get(str(words[0]), [str(words[0])]), *(str(word) for word in words[1:])]
        env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", **environment}
        done = subprocess.run(
            command, cwd=cwd or tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        if code is not None and done.returncode != code:
            pytest.fail(
                f"{' '.join(command)}\nexit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
            )
        return done

    return call


@dataclass(frozen=True)
class Outcome:
    """What a command line left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong; fails where there are more, or a traceback."""
        lines = [line for line in re.split(r"[\r\n]+", self.err) if line.startswith("run_downstream.py: error:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        return lines[0]


def _filterbanks(expert: Any, waveforms: Sequence[Any]) -> list[Any]:
    """What s3prl's filterbanks are for each waveform, which tests of the same corpus share."""
    found = []
    for waveform in waveforms:
        key = f"{expert.config} {waveform.dtype} {waveform.device}".encode(), waveform.cpu().numpy().tobytes()
        if key not in FILTERBANKS:
            FILTERBANKS[key] = expert.extracter(waveform)
        found.append(FILTERBANKS[key].clone())
    while len(FILTERBANKS) > MOST_FILTERBANKS:
        del FILTERBANKS[next(iter(FILTERBANKS))]
    return found


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """``run_downstream.py`` inside this process and in an empty working directory, for it takes seconds to start.

    ``cli("-m", "train", …)``; ``code`` is the exit code that the test expects. What ``main`` leaves behind in the
    process is put back: the host's module, generators, logging, the file sharing of torch. One thread: more are
    slower on so little data, and by far where tests share their cores. Confusion matrices are not drawn, which takes
    longer than training, and filterbanks are computed once for each waveform; tests with ``run`` do both anew.
    """
    import torch

    from s3prl_emotion import host, rng, run_downstream
    from s3prl_emotion.training import summary

    host.register()
    import s3prl.downstream.runner as host_runner
    import s3prl.run_downstream as script
    from s3prl.upstream.baseline.expert import UpstreamExpert

    monkeypatch.setattr(UpstreamExpert, "_extractor_forward", _filterbanks)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_downstream.py"])
    monkeypatch.setattr(summary, "plot_confusion", lambda path, *others: path)
    monkeypatch.setattr(summary, "plot_split", lambda *others: [])
    modules = [(module, dict(vars(module))) for module in (script, host_runner)]
    launched, generators = host.launched(), rng.rng_state()
    sharing, threads = torch.multiprocessing.get_sharing_strategy(), torch.get_num_threads()
    torch.set_num_threads(1)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = run_downstream.main([str(word) for word in words])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        return outcome

    yield call
    for module, names in modules:
        vars(module).update(names)
    host.mark_launched(launched)
    rng.restore_rng(generators)
    torch.multiprocessing.set_sharing_strategy(sharing)
    torch.set_num_threads(threads)
    root.handlers[:] = handlers
    root.setLevel(level)
