"""Check the audio: duplicates, unusable files, silence, clipping, formats, and lengths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from s3prl_emotion.audio.faults import CANCELS, SCALE, TRUNCATED
from s3prl_emotion.audit.association import association
from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding, finding
from s3prl_emotion.audit.listing import SEEN, Listing
from s3prl_emotion.audit.waveform import BEYOND, EMPTY, MISSING, NOT_FINITE, OUTSIDE, UNREADABLE, Waveform, measure
from s3prl_emotion.corpora.audio_files import contents, in_other_form
from s3prl_emotion.corpora.audio_names import is_below
from s3prl_emotion.corpora.class_names import NO_CLASS
from s3prl_emotion.files.progress import progress

SILENT = 10 ** (-60 / 20)  # amplitude of -60 dBFS
CLIPPED_MUCH = 1e-3  # share of an utterance's samples
OFFSET = 0.01  # mean sample, relative to full scale
SHORT, LONG = 0.1, 30.0  # s; 0.1 s is five frames of an upstream with 20 ms frames
UPSTREAM_RATE = 16_000  # Hz; input of every upstream
LENGTH_TOLERANCE = 0.05  # s that a column Duration may differ from the file
CONFOUNDED = 0.3  # Cramer's V from which on a format predicts the class
SIGNIFICANT = 0.01

Case = tuple[str, Waveform]


def read_audio(
    listing: Listing, root: Path, jobs: int, allow_outside: bool = False, channel: str | int = "mean"
) -> list[Waveform]:
    """Read the audio of every row, several files at a time; rows with the same audio share the result.

    Args:
        listing: names the files
        root: audio folder
        jobs: number of threads
        allow_outside: read also files that lie outside of ``root``
        channel: ``datarc.channel``
    """
    rows = listing.rows
    keys = [
        (name, None if start != start else start, None if end != end else end)
        for name, start, end in zip(rows["file"], rows["start"], rows["end"], strict=True)
    ]
    wanted = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(jobs) as pool:  # decoding and hashing let other threads run
        measured = pool.map(lambda key: _measure(root, key, allow_outside, channel), wanted)
        shown = progress(measured, "audio", "files", total=len(wanted), leave=False)
        known = dict(zip(wanted, shown, strict=True))
    return [known[key] for key in keys]


def _measure(
    root: Path, key: tuple[str, float | None, float | None], allow_outside: bool, channel: str | int
) -> Waveform:
    name, start, end = key
    if not (allow_outside or is_below(name)):
        return Waveform(OUTSIDE, "outside of the audio folder")
    return measure(in_other_form(root, root / name) or root / name, start, end, channel)


def check_audio(listing: Listing, waves: Sequence[Waveform], root: Path) -> list[Finding]:
    """Run all checks of audio; ``waves`` is the result of :func:`read_audio` on the folder ``root``."""
    cases = list(dict(zip(listing.files, waves, strict=True)).items())
    usable = [(name, wave) for name, wave in cases if not wave.problem]
    return [
        *_unusable(cases, root),
        *_levels(usable),
        *_formats(listing, waves, usable),
        *_lengths(listing, waves, usable),
        *_duplicates(listing, waves),
    ]


def _unusable(cases: Sequence[Case], root: Path) -> list[Finding]:
    all_missing = len(cases) > 1 and all(wave.problem == MISSING for _, wave in cases)
    folder = f"check --root (it holds {contents(root)})" if all_missing else "check --root"
    texts = {
        MISSING: ("audio-missing", "files that are listed are not there", f"{folder}, or remove the rows"),
        OUTSIDE: (
            "audio-outside",
            "paths that lead out of the audio folder, which no command reads",
            "correct them, or set datarc.allow_outside: true (--allow_outside)",
        ),
        UNREADABLE: ("audio-unreadable", "files that cannot be decoded", "replace them or remove the rows"),
        BEYOND: (
            "segment-beyond",
            "segments that lie beyond the end of their file",
            "correct the times, or check that labels and audio are of the same release",
        ),
        EMPTY: ("audio-empty", "files without a sample", "replace them or remove the rows"),
        NOT_FINITE: ("audio-not-finite", "files with samples that are NaN or infinite", "replace them"),
    }
    findings = []
    for problem, (code, what, fix) in texts.items():
        bad = [
            name if problem in (MISSING, OUTSIDE) else f"{name}: {wave.reason}"
            for name, wave in cases
            if wave.problem == problem
        ]
        findings += _some(ERROR, code, what, fix, bad)
    return findings


def _some(severity: str, code: str, what: str, fix: str, cases: Sequence[str]) -> list[Finding]:
    return [finding(severity, code, what, fix, cases)] if cases else []


def _worst(usable: Iterable[Case], value: Callable[[Waveform], float], text: str) -> list[str]:
    """Return names with their values, the greatest first."""
    return [f"{name}: {text.format(value(wave))}" for name, wave in sorted(usable, key=lambda case: -value(case[1]))]


def _levels(usable: Sequence[Case]) -> list[Finding]:
    silent = [f"{name}: {_dbfs(wave.swing)}" for name, wave in usable if wave.swing < SILENT]
    scaled = [case for case in usable if all(fault.kind != SCALE for fault in case[1].faults)]
    clipped = [case for case in scaled if case[1].clipped >= CLIPPED_MUCH]
    touched = [case for case in scaled if 0 < case[1].clipped < CLIPPED_MUCH]
    offset = [case for case in scaled if abs(case[1].offset) > OFFSET and case[1].swing >= SILENT]

    def percent(wave: Waveform) -> float:
        return 100 * wave.clipped

    def faulty(kind: str) -> list[str]:
        return [f"{name}: {fault.text}" for name, wave in usable for fault in wave.faults if fault.kind == kind]

    return [
        *_some(
            WARNING, "audio-truncated", "files that end before their header says, or have damaged parts",
            "fetch or export them again, or remove the rows: what is left of them is used", faulty(TRUNCATED),
        ),
        *_some(
            ERROR, "audio-scale", "files with samples far beyond full scale",
            "divide integers that are stored as floats by 32768 (16 bits)", faulty(SCALE),
        ),
        *_some(
            ERROR, "audio-cancels", "files whose channels cancel when they are averaged",
            "set datarc.channel: left (--channel left), which reads one of them", faulty(CANCELS),
        ),
        *_some(ERROR, "audio-silent", "utterances without sound (below -60 dBFS)", "remove the rows", silent),
        *_some(
            WARNING, "audio-clipped", f"utterances with {CLIPPED_MUCH:.1%} or more of their samples clipped",
            "record or export them again at a lower level, or report scores with and without them",
            _worst(clipped, percent, "{:.2f} % of samples"),
        ),
        *_some(
            NOTE, "audio-clipped-little", "utterances with a few clipped samples", "nothing, as a rule",
            _worst(touched, percent, "{:.3f} % of samples"),
        ),
        *_some(
            WARNING, "audio-offset", f"utterances whose mean sample is beyond {OFFSET:g} of full scale (DC offset)",
            "remove the offset with a high-pass filter", _worst(offset, lambda wave: abs(wave.offset), "{:.3f}"),
        ),
    ]  # fmt: skip


def _dbfs(swing: float) -> str:
    return f"{20 * np.log10(swing):.0f} dBFS" if swing > 0 else "constant"


def _formats(listing: Listing, waves: Sequence[Waveform], usable: Sequence[Case]) -> list[Finding]:
    rates = Counter(wave.rate for _, wave in usable)
    channels = Counter(wave.channels for _, wave in usable)
    findings = []
    if len(rates) > 1:
        what = f"several sample rates ({_tally(rates, 'Hz')}){_tells_class(listing, waves, 'rate')}"
        rare = [f"{name}: {wave.rate} Hz" for name, wave in usable if wave.rate != rates.most_common(1)[0][0]]
        fix = "resample all to the lowest, so that bandwidth tells nothing"
        findings.append(finding(WARNING, "audio-rates", what, fix, rare))
    if rates and min(rates) < UPSTREAM_RATE:
        low = [name for name, wave in usable if wave.rate < UPSTREAM_RATE]
        what = f"utterances below {UPSTREAM_RATE} Hz, which upstreams get with an empty upper band"
        findings.append(finding(NOTE, "audio-narrow", what, "keep it in mind in comparisons", low))
    if len(channels) > 1:
        what = (
            f"several numbers of channels ({_tally(channels, 'channel(s)')}){_tells_class(listing, waves, 'channels')}"
        )
        rare = [f"{name}: {wave.channels}" for name, wave in usable if wave.channels != channels.most_common(1)[0][0]]
        findings.append(finding(WARNING, "audio-channels", what, "mix all down the same way", rare))
    elif channels and max(channels) > 1:
        what = f"audio has {max(channels)} channels, which are averaged"
        findings.append(finding(NOTE, "audio-stereo", what, "check that all channels hold the speaker"))
    return findings


def _tally(counts: Counter[int], unit: str) -> str:
    return ", ".join(f"{value} {unit} {count}" for value, count in counts.most_common())


def _tells_class(listing: Listing, waves: Sequence[Waveform], name: str) -> str:
    """Return a remark for the finding if a format predicts the class."""
    pairs = [
        (str(getattr(wave, name)), emotion)
        for wave, emotion in zip(waves, listing.column("emotion"), strict=True)
        if not wave.problem and emotion not in NO_CLASS
    ]
    tie = association([value for value, _ in pairs], [emotion for _, emotion in pairs])
    if tie is None or tie.cramers_v < CONFOUNDED or tie.p_value > SIGNIFICANT:
        return ""
    return f", which tell the class (Cramer's V {tie.cramers_v:.2f})"


def _lengths(listing: Listing, waves: Sequence[Waveform], usable: Sequence[Case]) -> list[Finding]:
    short = [f"{name}: {wave.seconds:.3f} s" for name, wave in usable if wave.seconds < SHORT]
    long = [case for case in usable if case[1].seconds > LONG]
    differing = {
        name: f"{name}: {seconds:.2f} s listed, {wave.seconds:.2f} s in the file"
        for name, seconds, wave in zip(listing.files, listing.rows["duration"], waves, strict=True)
        if not wave.problem and abs(seconds - wave.seconds) > LENGTH_TOLERANCE
    }
    return [
        *_some(WARNING, "audio-short", f"utterances shorter than {SHORT:g} s", "remove the rows", short),
        *_some(
            NOTE, "audio-long", f"utterances longer than {LONG:g} s", "cut them, or set datarc.max_duration",
            _worst(long, lambda wave: wave.seconds, "{:.1f} s"),
        ),
        *_some(
            WARNING, "audio-length", "utterances of another length than listed: another file, or a cut one",
            "check that labels and audio are of the same release", list(differing.values()),
        ),
    ]  # fmt: skip


def _duplicates(listing: Listing, waves: Sequence[Waveform]) -> list[Finding]:
    """Check for the same audio under several names; rows with the same name are a finding of their own."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, wave in enumerate(waves):
        cancels = any(fault.kind == CANCELS for fault in wave.faults)  # such files are alike in their mean: silence
        if not wave.problem and wave.swing >= SILENT and not cancels:
            groups[wave.core].append(row)
    files = listing.files
    kinds: dict[str, list[str]] = {"leak": [], "labels": [], "plain": []}
    for group in groups.values():
        names = list(dict.fromkeys(files[row] for row in group))
        if len(names) > 1:
            identical = len({waves[row].digest for row in group}) == 1
            text = " = ".join(names) + ("" if identical else " (but for zeros at the ends)")
            kinds[_kind(listing, group)].append(text)
    return [
        *_some(
            ERROR, "duplicate-leak", "the same audio under two names stands in train or dev and in test",
            "remove one of each, or put all into one split", kinds["leak"],
        ),
        *_some(
            ERROR, "duplicate-labels", "the same audio under two names has two classes or two speakers",
            "find out which is right, remove the other", kinds["labels"],
        ),
        *_some(WARNING, "duplicate", "the same audio under two names", "remove one of each", kinds["plain"]),
    ]  # fmt: skip


def _kind(listing: Listing, group: Sequence[int]) -> str:
    for splits in listing.folds.values():
        inside = {name for name, chosen in splits.items() if np.isin(group, chosen).any()}
        if inside & set(SEEN) and inside - set(SEEN):
            return "leak"
    for column in ("emotion", "speaker"):
        if len({value for value in listing.column(column)[list(group)] if value}) > 1:
            return "labels"
    return "plain"
