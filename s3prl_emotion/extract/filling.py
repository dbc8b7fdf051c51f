"""Compute and store the features of a corpus, utterance by utterance or in batches of similar lengths."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora import Corpus, Utterance
from s3prl_emotion.errors import AudioError, StoreError
from s3prl_emotion.files.progress import progress
from s3prl_emotion.loading.dataset import UtteranceDataset, collate
from s3prl_emotion.loading.reading import modules_for
from s3prl_emotion.processes.loaders import Loader, start_early
from s3prl_emotion.store import utterance_key
from s3prl_emotion.upstreams.source import UpstreamSource

logger = logging.getLogger(__name__)
REMEDY = (
    "where training and evaluation cut audio (datarc.max_duration and cut_eval), give --max_duration S --cut_eval, or "
    "leave it out of the labels"
)
_Part = tuple[float | None, list[int]]  # limit (s) and indices of the utterances to cut to it


@dataclass
class Extracted:
    """Counts of an extraction."""

    utterances: int = 0
    computed: int = 0
    seconds: float = 0.0  # of audio
    audio_seconds: float = 0.0  # of computed utterances
    wall_seconds: float = 0.0


def all_utterances(corpus: Corpus) -> list[Utterance]:
    """Return the utterances of all splits of a corpus, each once, sorted by name."""
    return sorted({item.name: item for part in corpus.splits.values() for item in part}.values(), key=lambda u: u.name)


def durations(utterances: Sequence[Utterance]) -> list[float]:
    """Return the length (s) of each audio file, from its header.

    Raises:
        AudioError: not readable as audio
    """
    seconds = []
    for utterance in utterances:
        try:
            header = soundfile.info(str(utterance.path))
        except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
            raise AudioError(
                f"{utterance.path}: unreadable audio ({error}); replace the file or leave it out of the labels"
            ) from error
        seconds.append(header.frames / header.samplerate)
    return seconds


def predicted_bytes(source: UpstreamSource, seconds: float, utterances: int, dtype: torch.dtype | None = None) -> int:
    """Return the size (bytes) of the features of ``seconds`` of audio in the store, or in one of another ``dtype``."""
    probe = source.compute(torch.zeros(SAMPLE_RATE))
    per_second = probe.numel() if probe.shape[1] > 1 else 0  # one frame per utterance: length does not matter
    per_utterance = 0 if per_second else probe.numel()
    values = per_second * seconds + per_utterance * utterances
    return round(values * (dtype or source.required_store().dtype).itemsize) + 200 * utterances


def check_room(folder: Path, needed: int) -> None:
    """Check that there is enough disk space.

    Raises:
        StoreError: there is not; the message says how to use less
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StoreError(
            f"{folder}: needs about {needed / 1e9:.1f} GB more, but {free / 1e9:.1f} GB are free there; free disk "
            "space, or use less: --store_dtype float16 halves it, -l stores one layer"
        )


def extract(
    source: UpstreamSource,
    utterances: Sequence[Utterance],
    max_duration: float | None = None,
    batch_seconds: float | None = None,
    workers: int = 0,
    cut_eval: bool = False,
) -> Extracted:
    """Compute and store the features that the store lacks; with torchrun each process computes a share.

    Args:
        source: upstream and store
        utterances: of the corpus
        max_duration: ``datarc.max_duration`` (s), where training cuts audio: longer audio is stored whole and cut
        batch_seconds: padded audio per batch (s), or ``None`` to compute each utterance alone
        workers: number of processes that decode audio
        cut_eval: whether evaluation cuts audio to ``max_duration`` too, so that it is never stored whole

    Raises:
        StoreError: no disk space, the store is read-only, or the upstream cannot be batched or is not deterministic
        AudioError: unreadable audio, or the upstream fails on it, or its memory does not suffice
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    rank = int(os.environ.get("RANK", 0)) if world > 1 else 0
    store = source.required_store()
    if not store.writable:
        raise StoreError(f"{store.root}: is read-only; fix its permissions or name another folder")
    if workers:
        start_early(*modules_for(utterances))
    seconds = durations(utterances)
    order = sorted(range(len(utterances)), key=lambda index: (-seconds[index], index))
    work: list[_Part] = [(None, order)]
    if max_duration is not None and cut_eval:
        work = [(max_duration, order)]
    elif max_duration is not None:
        work.append((max_duration, [index for index in order if seconds[index] > max_duration]))
    lengths = [min(seconds[index], limit or seconds[index]) for limit, indices in work for index in indices]
    source.memory.remedy = REMEDY
    for limit, indices in work[:1]:  # the first holds the longest
        for index in indices[:1]:
            longest = min(seconds[index], limit or seconds[index])
            source.memory.check(round(longest * SAMPLE_RATE), str(utterances[index].path))
    total = predicted_bytes(source, sum(lengths), len(lengths))
    already = min(1.0, len(store) / max(1, len(lengths)))
    logger.info(
        "%d utterances, %.1f h: about %.2f GB in %s", len(utterances), sum(lengths) / 3600, total / 1e9, store.folder
    )
    check_room(store.root, round(total * (1 - already)))
    done = Extracted(utterances=len(order[rank::world]))
    begun = time.monotonic()
    seconds_here = round(sum(lengths) / world)
    with progress(name="extract", unit="s of audio", total=seconds_here, hidden=rank > 0) as bar:
        for limit, indices in work:
            mine = indices[rank::world]
            dataset = UtteranceDataset([utterances[index] for index in mine], pre_load=False, max_duration=limit)
            batches = _batches([min(seconds[index], limit or seconds[index]) for index in mine], batch_seconds)
            loader = Loader(dataset, workers, batch_sampler=batches, collate_fn=collate)
            for waveforms, _, names in loader:
                _extract_batch(source, waveforms, names, batch_seconds is not None, done)
                done.seconds += sum(map(len, waveforms)) / SAMPLE_RATE
                bar.update(round(done.seconds) - bar.n)  # in whole seconds, though utterances may be shorter
    done.wall_seconds = time.monotonic() - begun
    return done


def _batches(lengths: Sequence[float], batch_seconds: float | None) -> list[list[int]]:
    """Group utterances into batches of indices; ``lengths`` (s) descend, so each batch is as long as its first."""
    if batch_seconds is None:
        return [[index] for index in range(len(lengths))]
    batches: list[list[int]] = []
    for index in range(len(lengths)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _extract_batch(
    source: UpstreamSource, waveforms: Any, names: Sequence[str], batched: bool, done: Extracted
) -> None:
    store = source.required_store()
    store.refresh(older_than=5.0)
    missing = {utterance_key(waveform): (waveform, name) for waveform, name in zip(waveforms, names, strict=True)}
    missing = {key: item for key, item in missing.items() if not source.holds(key)}
    if not missing:
        return
    wavs, named = (
        [torch.from_numpy(waveform) for waveform, _ in missing.values()],
        [name for _, name in missing.values()],
    )
    stacks: Iterator[torch.Tensor] = source.computed(wavs, named, batched)
    for key, wav, stack in zip(missing, wavs, stacks, strict=True):
        store.put(key, stack, len(wav))
        done.computed += 1
        done.audio_seconds += len(wav) / SAMPLE_RATE
