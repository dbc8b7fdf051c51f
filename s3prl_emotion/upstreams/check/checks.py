"""Check that an upstream keeps s3prl's interface, is deterministic, and is independent of padding.

All checks use synthetic signals, without gradients, in eval mode, on one device; random generators keep their state.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import Any

import torch
from s3prl.upstream.interfaces import TOLERABLE_SEQLEN_DIFF
from torch import Tensor, nn

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.rng import own_seed, rng_state, seed_everything
from s3prl_emotion.upstreams.check.probe import SECONDS, CheckError, Probe, difference, foreign, speech_like

BATCHES = (SECONDS, (3.7, 1.0, 2.3), (2.2, 2.3))  # s; the last for upstreams that batch only similar lengths
EDGES = (0.02, 1.0, 60.0)  # s; lengths that every upstream must accept
ODD = (4000, 16_123)  # samples; lengths that are no multiple of the hop
TIMED, REPEATS = 4.0, 3  # s of audio, runs
FRAMES_OFF = 5  # largest difference from the number of frames that follows from the rate
TOLERANCE = 1e-4  # of the features' norm, alone against batched
ROUNDING = 1e-6  # of the features' norm, between two calls with the same input: libraries may order sums differently
HOSTS_FEATURIZER = "s3prl's own featurizer (stock tasks, SUPERB's mode)"
WHERE_PADDING_MATTERS = (
    "this matters with -f, in SUPERB's mode and in batched extraction; else the suite computes utterances one by one"
)


@dataclass(frozen=True)
class Check:
    """A line of the report; ``ok`` is ``None`` if it only informs."""

    name: str
    ok: bool | None
    detail: str


def check_upstream(
    model: nn.Module,
    selection: str = "hidden_states",
    device: str | torch.device = "cpu",
    report: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Check an upstream.

    Args:
        model: the upstream, on ``device``; it is set to eval mode
        selection: key of the features (``-s``)
        device: where it runs
        report: called with each check when it is done

    Returns:
        the checks in order; if the interface fails, only that one
    """
    if isinstance(model, nn.Module):
        model.eval()
    probe = Probe(model, selection, torch.device(device))
    checks: list[Check] = []
    with own_seed(0), torch.no_grad():
        for name, function in _CHECKS:
            checks.append(_checked(name, function, probe))
            if report is not None:
                report(checks[-1])
            if name == "interface" and not checks[-1].ok:
                break
    return checks


def _checked(name: str, function: Callable[[Probe], str | Check], probe: Probe) -> Check:
    try:
        result = function(probe)
    except CheckError as failed:
        return Check(name, False, str(failed))
    return result if isinstance(result, Check) else Check(name, True, result)


def _interface(probe: Probe) -> str:
    if not isinstance(probe.model, nn.Module):
        raise CheckError(f"it must be a torch.nn.Module, not {type(probe.model).__name__}")
    function = getattr(probe.model, "get_downsample_rates", None)
    if not callable(function):
        raise CheckError("has no get_downsample_rates(key)")
    rate = foreign(function, probe.selection)
    if isinstance(rate, bool) or not isinstance(rate, Rational) or rate < 1:
        raise CheckError(
            f"get_downsample_rates({probe.selection!r}) must return a whole number above 0, not {rate!r}; where there "
            "is none, a fractions.Fraction"
        )
    probe.rate = Fraction(rate)
    probe([speech_like(seconds) for seconds in SECONDS])
    return f"{probe.selection}: float [B, T, D], finite, for {len(SECONDS)} utterances of mixed lengths"


def _dimension(probe: Probe) -> str:
    return str(probe.dim)


def _layers(probe: Probe) -> str:
    return str(probe.layers)


def _rate(probe: Probe) -> str:
    for seconds in SECONDS:
        probe.alone(seconds)
    if probe.one_frame:
        return f"one frame per utterance, which {HOSTS_FEATURIZER} does not accept at every length"
    (short, few), (long, many) = min(probe.frames.items()), max(probe.frames.items())
    measured = f"{(long - short) / (many - few):.1f}" if many > few else "none"
    detail = (
        f"{float(probe.rate):.6g} samples per frame ({float(SAMPLE_RATE / probe.rate):.5g} Hz); measured {measured}"
    )
    for samples, frames in sorted(probe.frames.items()):
        _hold_to_rate(probe, samples, frames)
    failing = [
        f"{samples} samples ({frames} frames)"
        for samples, frames in probe.frames.items()
        if abs(frames - round(samples / probe.rate)) >= TOLERABLE_SEQLEN_DIFF
    ]
    return detail + (f"; {HOSTS_FEATURIZER} fails on {', '.join(failing)}" if failing else "")


def _hold_to_rate(probe: Probe, samples: int, frames: int) -> None:
    expected = float(samples / probe.rate)
    if abs(frames - expected) > FRAMES_OFF:
        raise CheckError(
            f"{samples} samples give {frames} frames; at {float(probe.rate):.6g} samples per frame "
            f"(get_downsample_rates) there should be {expected:.1f}, {FRAMES_OFF} more or fewer at most"
        )


def _determinism(probe: Probe) -> str:
    first, worst = probe.alone(SECONDS[0]), 0.0
    for seed in (0, 1):
        seed_everything(seed)
        worst = max(worst, difference(probe([speech_like(SECONDS[0])])[:, 0], first))
    if worst > ROUNDING:
        raise CheckError(
            f"the same input gives features that differ by {worst:.1e} of their norm; does it draw in eval mode?"
        )
    return "the same input gives the same features, whatever the seed" + (f" (within {worst:.0e})" if worst else "")


def _generators(probe: Probe) -> str | Check:
    before = _plain(rng_state())
    probe([speech_like(SECONDS[0])])
    if _plain(rng_state()) == before:
        return "draws nothing"
    return Check("generators", None, "draws from the global generators in eval mode")


def _padding(probe: Probe) -> str:
    worst, where = 0.0, ""
    for lengths in BATCHES:
        batch = probe([speech_like(seconds) for seconds in lengths])
        for row, seconds in enumerate(lengths):
            alone = probe.alone(seconds)
            frames = alone.shape[1]
            if batch.shape[2] < frames:
                raise CheckError(f"{seconds} s give {frames} frames alone, {batch.shape[2]} in a batch")
            distance = difference(batch[:, row, :frames], alone)
            if distance > worst:
                worst, where = distance, f"{seconds} s in a batch of {', '.join(map(str, lengths))} s"
    if worst > TOLERANCE:
        raise CheckError(
            f"{where} differs from the same utterance alone by {worst:.1e} of its norm; {WHERE_PADDING_MATTERS}"
        )
    return "alone and in batches of mixed lengths: " + (f"within {worst:.0e} of the norm" if worst else "to the bit")


def _length(seconds: float) -> Callable[[Probe], str]:
    def check(probe: Probe) -> str:
        began = time.perf_counter()
        frames = probe.alone(seconds).shape[1]
        samples = round(seconds * SAMPLE_RATE)
        if not probe.one_frame:
            _hold_to_rate(probe, samples, frames)
        plural = "frame" if frames == 1 else "frames"
        return f"{frames} {plural}" + (f", in {time.perf_counter() - began:.1f} s" if seconds > max(SECONDS) else "")

    return check


def _silence(probe: Probe) -> str:
    probe([torch.zeros(SAMPLE_RATE)])
    return "finite"


def _frames(probe: Probe) -> str | Check:
    function = getattr(probe.model, "frames", None)
    if not callable(function):
        return Check("frames()", None, "missing; batched extraction needs it")
    for samples in ODD:
        probe.alone(samples / SAMPLE_RATE)
    for samples, frames in sorted(probe.frames.items()):
        answer = foreign(function, samples)
        if answer != frames:
            raise CheckError(f"frames({samples}) is {answer!r}, but the utterance alone has {frames}")
    return f"right for {len(probe.frames)} lengths"


def _identity(probe: Probe) -> str | Check:
    function = getattr(probe.model, "identity", None)
    if not callable(function):
        return Check("identity()", None, "missing; a feature store then uses weights, code, -k and -g")
    identity = foreign(function)
    if not isinstance(identity, dict):
        raise CheckError(f"must return a dict, not {type(identity).__name__}")
    try:
        text = json.dumps(identity, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CheckError(f"must return plain numbers, strings, lists … ({error})") from error
    if foreign(function) != identity:
        raise CheckError("returns a different value at each call")
    return text if len(text) < 80 else f"{text[:77]}…"


def _speed(probe: Probe) -> Check:
    waveform, times = speech_like(TIMED), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        probe([waveform])  # copies the features to the CPU, so that a GPU has finished
        times.append(time.perf_counter() - began)
    speed = TIMED / statistics.median(times)
    return Check("speed", None, f"{speed:,.{0 if speed > 10 else 2}f} s of audio per second, {TIMED:g} s at a time")


def _parameters(probe: Probe) -> Check:
    counted = list(probe.model.parameters())
    size = sum(item.numel() * item.element_size() for item in counted)
    return Check("parameters", None, f"{sum(item.numel() for item in counted):,} ({size / 1e6:.1f} MB)")


def _plain(value: Any) -> Any:
    """Convert a state of the generators to values that ``==`` compares."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _memory(probe: Probe) -> Check:
    if probe.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(probe.device)
        return Check("memory", None, f"at most {peak / 1e6:,.0f} MB on {probe.device}, parameters included")
    peak = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - probe.held)
    return Check("memory", None, f"at most {peak / 1e6:,.0f} MB more than before (60 s alone)")


_CHECKS: tuple[tuple[str, Callable[[Probe], str | Check]], ...] = (
    ("interface", _interface),
    ("dimension", _dimension),
    ("layers", _layers),
    ("rate", _rate),
    ("determinism", _determinism),
    ("generators", _generators),
    ("padding", _padding),
    *((f"{seconds:g} s", _length(seconds)) for seconds in EDGES),
    ("silence", _silence),
    ("frames()", _frames),
    ("identity()", _identity),
    ("speed", _speed),
    ("parameters", _parameters),
    ("memory", _memory),
)
