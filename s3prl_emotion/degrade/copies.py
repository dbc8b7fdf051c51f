"""Write degraded copies of an evaluation set: audio, a label table for each level, and a record of the settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import pandas as pd
import torch
from torch.utils.data import Dataset

from s3prl_emotion.audio import (
    MEAN,
    SAMPLE_RATE,
    Part,
    copy_name,
    find_audio,
    load_audio,
    resampled_length,
    segment_name,
)
from s3prl_emotion.corpora.audio_names import check_apart, check_below
from s3prl_emotion.corpora.degradation_levels import NO_REVERB, SIMULATED, DegradationSpec, level_names
from s3prl_emotion.corpora.label_text import Labels
from s3prl_emotion.degrade.output import ABOUT, EXACT, Output, Record, decode, encode, write_bytes
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.files.outputs import removing_unused
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.versions import versions
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.loading.degradation.degrader import (
    HIGHEST_PEAK,
    SILENT,
    SNR_TOLERANCE,
    Degrader,
    Parts,
    measured_snr,
)
from s3prl_emotion.loading.degradation.noises import BABBLE, LOWEST_FREQUENCY, TALKERS, RecordedNoise, build_noise
from s3prl_emotion.loading.degradation.recordings import cancels, fingerprint, first_audible, opened
from s3prl_emotion.loading.degradation.rooms import DISTANCE, RT60, SIDES, RecordedRooms, build_reverb
from s3prl_emotion.processes.loaders import Loader, start_early

logger = logging.getLogger(__name__)
FORMAT = 1
ADDED = ("SourceFile", "SNR", "Gain", "Noise", "Reverb")
_SHOWN = 5  # utterances named in a warning


@dataclass(frozen=True)
class Written:
    """A finished split: its name, its table, and the record of each copy."""

    split: str
    table: Path
    records: tuple[Record, ...]


class _Copies(Dataset[list[Record]]):
    """Item i writes the missing copies of utterance i and returns their records."""

    def __init__(
        self,
        labels: Labels,
        degraders: Mapping[str, Degrader],
        missing: Sequence[tuple[str, dict[str, str]]],
        out: Path,
        subtype: str,
        channel: str | int,
    ) -> None:
        self.labels = labels
        self.degraders = degraders
        self.missing = missing
        self.out = out
        self.subtype = subtype
        self.channel = channel

    def __len__(self) -> int:
        return len(self.missing)

    def __getitem__(self, index: int) -> list[Record]:
        name, files = self.missing[index]
        first = next(iter(self.degraders.values()))
        path, part = find_audio(self.labels.root, name)
        parts = first.parts(load_audio(path, self.channel, part), name)  # the same for all levels
        return [self._make(split, parts, name, file) for split, file in files.items()]

    def name_of(self, index: int) -> str:
        """Return the path of an utterance."""
        return str(self.labels.root / self.missing[index][0])

    def _make(self, split: str, parts: Parts, name: str, file: str) -> Record:
        result = self.degraders[split].mix(parts, name)
        content = encode(result.waveform, self.subtype)
        snr = result.snr
        if self.subtype != EXACT:
            snr = measured_snr(decode(content), parts.speech, result.gain)
        write_bytes(self.out / file, content)
        return {
            "file": file,
            "bytes": len(content),
            "samples": len(result.waveform),
            "snr": snr,
            "drawn": result.drawn,
            "gain": result.gain,
            "noise": result.noise,
            "reverb": result.reverb,
        }


def write_copies(
    labels: Labels,
    split: str | None,
    specs: Sequence[DegradationSpec],
    out: Path,
    subtype: str = EXACT,
    workers: int = 0,
    arguments: Record | None = None,
    channel: str | int = MEAN,
) -> list[Written]:
    """Write degraded copies of a split's utterances, and their label tables once all audio is written.

    Args:
        labels: the corpus's labels
        split: partition, or ``None`` for the first Test
        specs: levels, which differ only in SNR
        out: folder; copies that an earlier run with the same settings finished are kept
        subtype: sample format of the WAV files
        workers: number of processes
        arguments: arguments of the command line, for the record
        channel: of utterances, and of those that babble is made of, with several channels

    Raises:
        UsageError: ``out`` lies in the audio folder, holds other files or is full, or unknown noise or reverberation
        LabelError: two utterances with the same path, a path outside the audio folder, or too few speakers for babble
        AudioError: audio is missing, unreadable or silent
    """
    if workers:
        start_early(__name__)
    base, rows = labels.choose(split)
    clashing = [column for column in ADDED if column in rows]
    if clashing:
        raise LabelError(
            f"{labels.path}: has a column {clashing[0]} already; degrade the clean table, or rename the column"
        )
    files = _targets(rows["FileName"], labels.path)
    names = labels.names if specs[0].noise == BABBLE else list(files)
    labels.check_audio(names)
    degraders = _degraders(base, specs, labels, channel)
    _check_apart(out, labels.root, next(iter(degraders.values())))
    about = {**_about(base, degraders, subtype), "labels": labels.digest}
    about["channel"] = channel
    about["audio"] = fingerprint((name, find_audio(labels.root, name)[0]) for name in sorted(names))
    with removing_unused(out, notes=(ABOUT,)):
        output = Output(out, about, {"arguments": arguments or {}, "versions": _versions()}, degraders)
        missing = _missing(output, degraders, files)
        samples = {name: _samples(*find_audio(labels.root, name), channel) for name, _ in missing}
        output.check_room({file: samples[name] for name, lacking in missing for file in lacking.values()}, subtype)
        if len(missing) < len(files):
            logger.info("%s: %d of %d utterances are finished already", out, len(files) - len(missing), len(files))
        _make_all(_Copies(labels, degraders, missing, out, subtype, channel), output, workers)
    output.tidy()
    return [_write_table(output, split, rows, files) for split in degraders]


def _check_apart(out: Path, audio: Path, degrader: Degrader) -> None:
    """Refuse to write into a folder that this command reads, or that it would read the next time."""
    check_apart(out, audio, "--root")
    if isinstance(degrader.noise, RecordedNoise):
        check_apart(out, degrader.noise.folder, "--noise", above=False)
    if isinstance(degrader.reverb, RecordedRooms):
        check_apart(out, degrader.reverb.folder, "--reverb", above=False)


def _targets(names: Sequence[str], path: Path) -> dict[str, str]:
    """Return the path of each utterance's copy, below the folder of its split."""
    check_below(names, path, fix="")
    files: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in names:
        file = copy_name(name, ".wav")
        if file in owners:
            raise LabelError(f"{path}: {owners[file]} and {name} would both be written to {file}; rename one")
        files[name], owners[file] = file, name
    return files


def _degraders(base: str, specs: Sequence[DegradationSpec], labels: Labels, channel: str | int) -> dict[str, Degrader]:
    """Return a degrader for each split to be made; all share their sources of noise and rooms."""
    if base != PurePosixPath(base).name:
        raise LabelError(f"{labels.path}: the partition {base!r} cannot name a folder; rename it")
    level_names(spec.snr for spec in specs)  # raises if two have the same name
    first = specs[0]
    speakers = labels.speakers if first.noise == BABBLE else None
    noise = build_noise(first.noise, first.seed, labels.root, speakers, channel)
    reverb = build_reverb(first.reverb, first.seed)
    return {f"{base}_{spec.level}": Degrader(spec, noise, reverb) for spec in specs}


def _about(base: str, degraders: Mapping[str, Degrader], subtype: str) -> Record:
    """Return the settings that the copies depend on: which recordings there are, but not where they are stored."""
    first = next(iter(degraders.values()))
    noise: Record = {"kind": first.spec.noise, "lowest_frequency": LOWEST_FREQUENCY}
    if first.spec.noise == BABBLE:
        noise = {"kind": BABBLE, "talkers": list(TALKERS)}
    if isinstance(first.noise, RecordedNoise):
        noise = _recordings(first.noise.folder, first.noise.files)
    reverb: Record = {"kind": first.spec.reverb or NO_REVERB}
    if first.spec.reverb == SIMULATED:
        reverb |= {"rt60": list(RT60), "sides": [list(bound) for bound in SIDES], "distance": list(DISTANCE)}
    if isinstance(first.reverb, RecordedRooms):
        reverb = _recordings(first.reverb.folder, first.reverb.files)
    return {
        "format": FORMAT,
        "split": base,
        "noise": noise,
        "reverb": reverb,
        "snr": {split: list(degrader.spec.snr) for split, degrader in degraders.items()},
        "seed": first.spec.seed,
        "subtype": subtype,
        "sample_rate": SAMPLE_RATE,
        "highest_peak": HIGHEST_PEAK,
    }


def _recordings(folder: Path, files: Sequence[str]) -> Record:
    digest = fingerprint((file, folder / file) for file in files)
    return {"kind": "recorded", "files": len(files), "names_and_sizes": digest}


def _versions() -> dict[str, str]:
    known = versions()
    for name in ("scipy", "soundfile", "soxr", "pyroomacoustics"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            known[name] = "not installed as a package"
    return known


def _missing(output: Output, splits: Iterable[str], files: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return the utterances with missing copies, and the paths of these copies by split."""
    missing = {
        name: {split: f"{split}/{file}" for split in splits if output.finished(f"{split}/{file}") is None}
        for name, file in files.items()
    }
    return [(name, copies) for name, copies in missing.items() if copies]


def _samples(path: Path, part: Part | None = None, channel: str | int = MEAN) -> int:
    """Return the length at 16 kHz, from the header; raise for a silent utterance now, not after hours of work."""
    with opened(path, part) as file:
        if first_audible(file, path, channel) is None:
            name = segment_name(str(path), part)
            if channel == MEAN and cancels(file, path):
                raise AudioError(
                    f"{name}: its channels cancel when they are averaged; --channel left reads one of them"
                )
            raise AudioError(SILENT.format(name))
        return resampled_length(file.length(), file.rate)


def _make_all(copies: _Copies, output: Output, workers: int) -> None:
    """Write the missing copies and record them, in order, whatever the number of processes."""
    loader = Loader(copies, workers, batch_size=None, generator=torch.Generator())  # leaves the global generator alone
    for records in progress(loader, "degrade", "utterances", hidden=not len(copies)):
        output.add(records)


def _write_table(output: Output, split: str, rows: pd.DataFrame, files: Mapping[str, str]) -> Written:
    records = tuple(output.records[f"{split}/{files[name]}"] for name in rows["FileName"])
    table = rows.assign(
        FileName=[record["file"] for record in records],
        SourceFile=rows["FileName"],
        SNR=[f"{record['snr']:.4f}" for record in records],
        Gain=[repr(record["gain"]) for record in records],
        Noise=[record["noise"] for record in records],
        Reverb=[record["reverb"] for record in records],
    )
    path = output.folder / f"{split}.csv"
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    off = [record["file"] for record in records if not abs(record["snr"] - record["drawn"]) <= SNR_TOLERANCE]
    if off:
        some = ", ".join(off[:_SHOWN]) + (", …" if len(off) > _SHOWN else "")
        logger.warning(
            "%s: rounding moved the SNR of %d utterances by more than %g dB (%s); --subtype %s is exact",
            *(path, len(off), SNR_TOLERANCE, some, EXACT),
        )
    return Written(split, path, records)
