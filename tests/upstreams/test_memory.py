"""The estimate of an upstream's memory against what it really takes, and what is done where it does not suffice."""

from __future__ import annotations

import gc
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ENCODERS, TINY

import s3prl_emotion
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import AudioError, is_out_of_memory
from s3prl_emotion.upstreams import free_memory, memory
from s3prl_emotion.upstreams.memory import MARGIN, UNCHECKED, Allocations, MemoryGuard, measure

CPU = torch.device("cpu")
# one layer of many heads: attention takes most of the memory and little time
HEADS = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 8, "intermediate_size": 64}
FRONT = {"num_hidden_layers": 1, "conv_dim": [512] * 7, "num_conv_pos_embedding_groups": 2}


def upstream_of(folder: Path, family: str, attention: str = "sdpa", **sizes: Any) -> Any:
    """A model of random weights, as an upstream."""
    s3prl_emotion.register()
    import s3prl.hub as hub

    if not folder.exists():
        (TINY | ENCODERS)[family](folder, **sizes)
    return hub.hf_speech_custom(ckpt=str(folder), model_config={"attention": attention})


def features_of(upstream: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The computation of all layers ``[L, T, D]`` of a waveform."""

    def compute(wav: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([layer[0] for layer in upstream([wav])["hidden_states"]])

    return compute


def allocations_of(upstream: Any) -> Allocations:
    """What the upstream allocates."""
    found = measure(features_of(upstream), upstream.get_downsample_rates(), CPU, upstream)
    assert found is not None
    return found


def recorded_peak(upstream: Any, samples: int) -> float:
    """The peak of a real computation, by the same count of tensors, with the margin."""
    run, wav = memory._Recorder(), torch.randn(samples)
    with run:
        features_of(upstream)(wav)
    own = [(size, size, size) for size in run.sizes]
    return Allocations(1, tuple(own), tuple(run.events)).peak(memory.SHORTEST + 2)


QUICK = ("hubert", "wavlm_large")
FULL = sorted({*TINY, "moonshine", "parakeet"} - {"whisper", *QUICK})


@pytest.mark.parametrize(
    "family",
    [*QUICK, *(pytest.param(family, marks=pytest.mark.full) for family in FULL)],
)
def test_estimate_equals_the_tensors_of_long_audio(tmp_path: Path, family: str):
    upstream = upstream_of(tmp_path / family, family, "eager" if family == "hubert" else "sdpa")
    samples = 5 * SAMPLE_RATE + 123
    assert allocations_of(upstream).peak(samples) == pytest.approx(recorded_peak(upstream, samples), rel=0.03)


@pytest.mark.parametrize("windows", [1, pytest.param(3, marks=pytest.mark.full)])
def test_whisper_splits_audio_by_itself(tmp_path: Path, windows: int):
    upstream = upstream_of(tmp_path / "whisper", "whisper")
    found = allocations_of(upstream)
    assert found.window == 30 * SAMPLE_RATE
    peak = recorded_peak(upstream, 30 * SAMPLE_RATE * windows)
    assert 0.99 * peak <= found.peak(30 * SAMPLE_RATE * windows) <= 1.8 * peak


@pytest.mark.parametrize("name", ["fbank_no_cmvn", "logmel26"])
def test_upstreams_of_filters_need_little(name: str):
    s3prl_emotion.register()
    import s3prl.hub as hub

    upstream = getattr(hub, name)()
    found = measure(features_of(upstream), 160, CPU, upstream)
    assert found is None or found.peak(600 * SAMPLE_RATE) < 1.5e9


def test_upstreams_that_compute_otherwise_by_length_have_no_estimate():
    def piecewise(wav: torch.Tensor) -> list[torch.Tensor]:
        return [piece * 2 for piece in wav.split(1600)]

    assert measure(piecewise, 320, CPU, None) is None

    def failing(wav: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("too short")

    assert measure(failing, 320, CPU, None) is None


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("family", "attention", "sizes", "seconds"),
    [
        ("wavlm", "sdpa", HEADS, 25),
        ("hubert", "eager", HEADS, 30),
        ("hubert_large", "sdpa", FRONT, 12),
    ],
)
def test_estimate_against_the_process(tmp_path: Path, family: str, attention: str, sizes: dict[str, Any], seconds: int):
    """In a process of its own, where the C library gives each tensor pages of its own: peaks are those of tensors."""
    arguments = repr((str(tmp_path / "model"), family, attention, sizes, seconds))
    folders = repr([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    code = f"import sys; sys.path[:0] = {folders}; import test_memory; test_memory.print_peaks(*{arguments})"
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    estimated, measured = map(int, done.stdout.split()[-2:])
    assert measured <= estimated <= 1.5 * measured


def print_peaks(model: str, family: str, attention: str, sizes: dict[str, Any], seconds: int) -> None:
    """Print the estimate for an utterance, and by how much this process grows when it is computed (bytes)."""
    upstream = upstream_of(Path(model), family, attention, **sizes)
    estimated = allocations_of(upstream).peak(seconds * SAMPLE_RATE)
    wav = torch.randn(seconds * SAMPLE_RATE)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident now
    before = status("VmRSS")
    features_of(upstream)(wav)
    sys.stdout.write(f"{estimated} {status('VmHWM') - before}\n")


def status(name: str) -> int:
    """A size of this process (bytes)."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


# --- what is free ---------------------------------------------------------------------------------------------------


def write_tree(root: Path, files: dict[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


STAT = "active_file 30\ninactive_file 20\nanon 5\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 4096 * 1024),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5"}, 4096 * 1024),
        ("0::/\n", {"memory.max": "1000\n", "memory.current": "600\n", "memory.stat": STAT}, 450),
        ("0::/a/b\n", {"a/memory.max": "900", "a/memory.current": "100", "a/b/memory.max": "max"}, 800),
        ("0::/gone/on/the/host\n", {"memory.max": "900", "memory.current": "100"}, 800),
        (
            "5:cpu:/\n4:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "700",
                "memory/job/memory.usage_in_bytes": "650",
                "memory/job/memory.stat": "total_active_file 40\ntotal_inactive_file 10\ncache 400\n",
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
                "memory/memory.usage_in_bytes": "5",
            },
            100,
        ),
        ("0::/\n", {"memory.max": "100", "memory.current": "600"}, 0),
    ],
)
def test_free_memory_is_what_all_limits_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], expected: int
):
    write_tree(tmp_path / "proc", {"meminfo": "MemTotal: 9999 kB\nMemAvailable:    4096 kB\n", "self/cgroup": groups})
    write_tree(tmp_path / "cgroup", files)
    monkeypatch.setattr(free_memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert free_memory.free_memory(CPU) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_memory.free_memory(CPU) == expected // 2


def test_a_limit_of_addresses_counts(monkeypatch: pytest.MonkeyPatch):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used + 10_000_000, used + 10_000_000))
    assert 0 < (free_memory.free_memory(CPU) or 0) <= 10_000_000


def test_a_system_that_does_not_say_has_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "PROC", tmp_path)
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path)
    assert free_memory.free_memory(CPU) is None
    assert free_memory.free_memory(torch.device("meta")) is None


# --- the guard ------------------------------------------------------------------------------------------------------


def squared(wav: torch.Tensor) -> torch.Tensor:
    """Frames of 320 samples, and their products: quadratic memory."""
    frames = wav[: len(wav) // 320 * 320].view(-1, 320)
    return (frames @ frames.T).sum(dim=0)


def guard_with(monkeypatch: pytest.MonkeyPatch, free: float | None) -> MemoryGuard:
    """A guard of :func:`squared` on a machine with so many bytes."""
    monkeypatch.setattr(memory, "free_memory", lambda device: None if free is None else int(free))
    return MemoryGuard(None, "squared", squared, 320, CPU)


def test_too_long_audio_is_one_line_with_its_need(monkeypatch: pytest.MonkeyPatch):
    guard = guard_with(monkeypatch, 1e9)
    assert guard.need(600 * SAMPLE_RATE) == pytest.approx(MARGIN * 4 * 30_000**2, rel=0.02)
    guard.check(200 * SAMPLE_RATE, "a.wav")
    with pytest.raises(
        AudioError,
        match=r"^a.wav \(600 s\): upstream squared needs about 4.5 GB of memory for it, 1.0 GB are free, about 28\d s "
        "fit; set downstream_expert.datarc.max_duration",
    ):
        guard.check(600 * SAMPLE_RATE, "a.wav")
    guard.shared_by = 100
    with pytest.raises(AudioError, match=r"0\.0 GB are free, about 30 s fit"):
        guard.check(200 * SAMPLE_RATE, "a.wav")


def test_what_fits_does_not_depend_on_the_question(monkeypatch: pytest.MonkeyPatch):
    assert guard_with(monkeypatch, 1e9).longest() / SAMPLE_RATE == pytest.approx(282, abs=5)
    assert guard_with(monkeypatch, 1e6).longest() == UNCHECKED
    assert guard_with(monkeypatch, 1e15).longest() == float("inf")
    assert guard_with(monkeypatch, None).longest() == float("inf")


def test_short_audio_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    guard = guard_with(monkeypatch, 0)
    monkeypatch.setattr(guard, "compute", lambda wav: pytest.fail("was measured"))
    guard.check(UNCHECKED, "a.wav")


def test_measuring_leaves_the_generators_alone(monkeypatch: pytest.MonkeyPatch):
    guard = guard_with(monkeypatch, 1e9)
    guard.compute = lambda wav: squared(wav + torch.rand(1))
    torch.manual_seed(3)
    guard.check(100 * SAMPLE_RATE, "a.wav")
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Kernel size can't be greater than actual input size"), False),
        (ValueError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_errors_of_memory_are_known(error: Exception, expected: bool):
    assert is_out_of_memory(error) is expected
