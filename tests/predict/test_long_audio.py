"""Audio for which memory does not suffice: split into windows by ``predict`` and ``serve``, refused elsewhere."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from conftest import RATE, Cli, Run, TinyCorpus, tone

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.audio import load_audio
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.predict.predictor import Predictor
from s3prl_emotion.serve.limits import Limits
from s3prl_emotion.serve.worker import Worker
from s3prl_emotion.upstreams import memory

NOTE = "too long for the memory at once (32 s): the mean over windows of 30 s, as with --window 30"  # of LONG
ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoint is kept, with a short file and a long one."""
    folder = tmp_path_factory.mktemp("long")
    soundfile.write(folder / "short.wav", tone(200, 0.8, 1), RATE)
    soundfile.write(folder / "long.wav", tone(300, 32, 2), RATE)
    return folder


@pytest.fixture
def ckpt(cli: Cli, shelf: Path, tiny_corpus: TinyCorpus) -> Path:
    """The checkpoint of a head on filterbanks."""
    if not (shelf / "run/dev-best.ckpt").exists():
        words = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", shelf / "run")
        cli("-m", "train", *words, "-o", tiny_corpus.overrides())
    return shelf / "run/dev-best.ckpt"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing fits that is longer than 30 s."""
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)


def predicted(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """What ``predict`` writes."""
    capfd.readouterr()
    assert suite.main(["predict", *map(str, words)]) == 0
    return capfd.readouterr().out


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def test_files_are_split_where_memory_does_not_suffice(
    ckpt: Path, shelf: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    files = (shelf / "short.wav", shelf / "long.wav")
    spared = rows(predicted(capfd, "--ckpt", ckpt, *files))
    windows = rows(predicted(capfd, "--ckpt", ckpt, files[1], "--window", "30"))
    assert not {"window", "note"} & set(spared[0])
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)
    split = rows(predicted(capfd, "--ckpt", ckpt, *files))
    assert [row.pop("note") for row in split] == ["", NOTE, "", ""]
    assert split[0] == spared[0] | {"window": ""}
    assert split[1:] == windows
    assert [row["window"] for row in windows] == ["", "1", "2"]
    short, long = map(json.loads, predicted(capfd, "--ckpt", ckpt, *files, "--format", "jsonl").splitlines())
    assert not {"note", "windows"} & set(short) or short["windows"] == []
    assert long["note"] == NOTE
    assert [item["end"] for item in long["windows"]] == [30.0, 32.0]


def test_python_splits_too_and_says_so_once(ckpt: Path, shelf: Path, little: None, caplog: pytest.LogCaptureFixture):
    predictor, wave = s3prl_emotion.load(ckpt), load_audio(shelf / "long.wav")
    caplog.clear()
    for _ in range(2):
        found = predictor.predict(wave)
        asked = predictor.predict(wave, window=30)
        assert found.note == NOTE
        assert asked.note is None
        assert found.windows == asked.windows
        assert found.probabilities == asked.probabilities
    assert [record.getMessage() for record in caplog.records] == [
        f"waveform 0: {NOTE}; later ones are noted in their results alone"
    ]
    with pytest.raises(AudioError, match=r"waveform 0 \(32 s\): upstream fbank_no_cmvn needs .* use --window, or a"):
        predictor.predict(wave, window=40)
    assert predictor.predict(wave[: 30 * RATE]).windows == ()


def test_memory_to_spare_changes_nothing(ckpt: Path, shelf: Path):
    found = s3prl_emotion.load(ckpt).predict(load_audio(shelf / "long.wav"))
    assert (found.windows, found.note) == ((), None)


def test_processes_share_the_memory(ckpt: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = s3prl_emotion.load(ckpt)
    with torch.no_grad():
        need = predictor._members[0].model.memory.need(60 * RATE)
    assert need is not None
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * need)
    assert predictor.longest() > 100 * RATE
    assert predictor.longest(shared_by=2) == pytest.approx(60 * RATE, abs=RATE)


def test_page_shows_the_windows_and_why(ckpt: Path, shelf: Path, little: None):
    worker = Worker(s3prl_emotion.load(ckpt), Limits())
    with (shelf / "long.wav").open("rb") as file:
        result = worker._respond("long.wav", file)
    worker.close()
    assert result["error"] is None
    assert result["note"] == NOTE
    assert len(result["windows"]) == 2


# --- out of memory after all ----------------------------------------------------------------------------------------


def failing(*args: Any, **options: Any) -> Any:
    """The CPU's allocator without memory."""
    raise RuntimeError(ALLOCATOR)


def test_no_memory_for_a_file_is_its_error(ckpt: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = s3prl_emotion.load(ckpt)
    monkeypatch.setattr(predictor._members[0].model.source.upstream, "forward", failing)
    with pytest.raises(AudioError, match=r"^waveform 0: the memory of cpu does not suffice for 1 s; use --window, or"):
        predictor.predict(tone(200, 1.0, 0))


def test_no_memory_for_a_batch_names_its_size(ckpt: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = s3prl_emotion.load(ckpt)
    monkeypatch.setattr(predictor._members[0].expert.model, "forward", failing)
    with pytest.raises(UsageError, match=r"^out of memory in a batch of 2 \(waveform 0, …\); lower --batch_size"):
        predictor.predict_batch([tone(200, 1.0, 0)] * 2)


def test_no_memory_on_the_page_is_an_answer(ckpt: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch):
    worker = Worker(s3prl_emotion.load(ckpt), Limits())
    monkeypatch.setattr(Predictor, "stream", failing)
    with (shelf / "short.wav").open("rb") as file:
        assert worker._respond("a.wav", file)["error"] == "the server's memory does not suffice for this audio; cut it"
    worker.close()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(ALLOCATOR), OSError(12, "Cannot allocate memory")])
def test_no_memory_in_a_command_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(args: object) -> int:
        raise error

    from s3prl_emotion.transcribe import command

    monkeypatch.setattr(command, "run", fail)
    words = ["transcribe", "--labels", "a", "-k", "b", "-o", "c"]
    assert suite.main(words) == 1
    line = "s3prl-emotion: error: out of memory; lower --chunk or --batch_size\n"
    assert capfd.readouterr().err == line
    monkeypatch.setattr(command, "run", lambda args: 1 / 0 if args is None else failing_otherwise())
    with pytest.raises(RuntimeError, match="a bug"):
        suite.main(words)


def failing_otherwise() -> int:
    """An error that is not for lack of memory."""
    raise RuntimeError("a bug")


# --- training, evaluation, extraction ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_corpus(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The corpus of tones, in which one utterance of fold2 is 32 s long."""
    folder = tmp_path_factory.mktemp("long_corpus")
    (folder / "audio").mkdir()
    for path in tiny_corpus.root.iterdir():
        (folder / "audio" / path.name).symlink_to(path)
    file = folder / "audio/s2_sad_0.wav"
    file.unlink()
    soundfile.write(file, tone(200, 32, 1), RATE)
    return TinyCorpus(folder / "audio", tiny_corpus.labels)


TRAIN = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", "exp")


def test_training_is_refused_before_it_computes(
    cli: Cli, little: None, long_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
):
    from s3prl_emotion.training.loop import Training

    monkeypatch.setattr(Training, "run", lambda self: pytest.fail("training began"))
    error = cli(*TRAIN, "-o", long_corpus.overrides(), code=1).error
    assert f"{long_corpus.root}/s2_sad_0.wav (32 s): upstream fbank_no_cmvn needs about 0." in error
    assert "set downstream_expert.datarc.max_duration (s), with cut_eval: true where it is evaluated" in error
    assert not Path("exp").exists()


def test_cut_audio_is_trained_on(cli: Cli, little: None, long_corpus: TinyCorpus):
    data = "downstream_expert.datarc"
    more: dict[str, object] = {f"{data}.max_duration": 1.0, f"{data}.cut_eval": True, "runner.total_steps": 3}
    cli(*TRAIN, "-o", long_corpus.overrides(**more))
    error = cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "train", "--allow_seen", "-o",
                f"config.{data}.cut_eval=False", code=1).error  # fmt: skip
    assert "s2_sad_0.wav (32 s)" in error


def test_no_memory_in_a_step_names_the_batch(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(EmotionExpert, "forward", failing)
    error = cli(*TRAIN, "-o", tiny_corpus.overrides(), code=1).error
    assert "out of memory on cpu at step 1; lower datarc.train_batch_size and raise" in error
    assert "or set datarc.max_duration" in error


def test_no_memory_elsewhere_in_a_run_is_one_line(
    cli: Cli, ckpt: Path, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(EmotionExpert, "log_records", failing)
    words = ("-m", "evaluate", "-e", ckpt, "-t", "test", "-p", "here")
    assert "out of memory; lower datarc.train_batch_size and datarc.eval_batch_size" in cli(*words, code=1).error


def test_extraction_is_refused_before_it_computes(
    cli: Cli, little: None, long_corpus: TinyCorpus, capfd: pytest.CaptureFixture[str]
):
    words = ["extract", "-u", "fbank_no_cmvn", "--labels", str(long_corpus.labels), "--root", str(long_corpus.root)]
    words += ["--feature_store", "S", "--max_duration", "1"]
    assert suite.main(words) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert f"{long_corpus.root}/s2_sad_0.wav (32 s): upstream fbank_no_cmvn needs about" in error
    assert error.endswith("give --max_duration S --cut_eval, or leave it out of the labels")
    assert suite.main([*words, "--cut_eval"]) == 0
    assert "48 utterances: 48 computed" in capfd.readouterr().out
    assert suite.main([*words[:-2], "--cut_eval"]) == 1
    assert "--cut_eval needs --max_duration" in capfd.readouterr().err


LIMITED = """
import resource, sys
import s3prl_emotion, torch
from s3prl_emotion import cli
predictor = s3prl_emotion.load(sys.argv[1], device="cpu")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1200 << 20), resource.RLIM_INFINITY))
sys.exit(cli.main(["predict", "--ckpt", sys.argv[1], sys.argv[2], "--format", "jsonl", "--device", "cpu"]))
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_process_with_little_memory_goes_on(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    from tiny_models import save_tiny_wavlm

    model_folder = save_tiny_wavlm(tmp_path / "model", num_attention_heads=8, num_hidden_layers=1)
    words = ("-u", "hf_speech_custom", "-k", model_folder, "-d", "emotion_corr_attn", "-p", "exp")
    cli("-m", "train", *words, "-o", tiny_corpus.overrides(**{"runner.total_steps": 3}))
    soundfile.write(tmp_path / "long.wav", tone(200, 90, 1), RATE)  # 4500 frames: 8 heads take 650 MB for each copy
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "exp/dev-best.ckpt", str(tmp_path / "long.wav")],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert result["note"] == NOTE.replace("32 s", "90 s")
    assert len(result["windows"]) == 5


MEASURE = """
import resource, sys
import s3prl_emotion
from s3prl_emotion.predict.files import Options, predict_files
from s3prl_emotion.predict.inputs import AudioFile
from s3prl_emotion.predict.windows import Windows
ckpt, short, long = sys.argv[1:]
predictor, options = s3prl_emotion.load(ckpt, device="cpu"), Options(Windows(30.0, 30.0))
peaks = []
for path in (short, long):
    (result,) = predict_files(predictor, [AudioFile(path, path)], options)
    assert result.error is None, result.error
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.stdout.write(f"{len(result.prediction.windows)} {(peaks[1] - peaks[0]) * 1024}\\n")
"""


@pytest.mark.full
def test_an_hour_of_stereo_takes_less_than_1_gb_beyond_the_model(ckpt: Path, shelf: Path, tmp_path: Path, run: Run):
    seconds, rate, path = 3600, 48_000, tmp_path / "hour.wav"
    soundfile.write(path, tone(300, 1.0, 1, rate)[:, None].repeat(2, axis=1), rate)
    content = path.read_bytes()
    size = seconds * rate * 4
    header = content[:4] + (size + 36).to_bytes(4, "little") + content[8:40] + size.to_bytes(4, "little")
    path.write_bytes(header + content[44:])
    os.truncate(path, 44 + size)  # the rest is silence, which takes no room on the disk
    done = run(sys.executable, "-c", MEASURE, ckpt, shelf / "short.wav", path)
    windows, more = map(int, done.stdout.split())
    assert windows == seconds // 30
    assert more < 1e9
