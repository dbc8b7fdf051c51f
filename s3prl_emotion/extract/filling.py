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

import torch

from s3prl_emotion.audio import SAMPLE_RATE, seconds_of
from s3prl_emotion.corpora import Corpus, Utterance
from s3prl_emotion.errors import StoreError
from s3prl_emotion.files.progress import progress
from s3prl_emotion.loading.dataset import UtteranceDataset, collate
from s3prl_emotion.loading.reading import modules_for
from s3prl_emotion.processes.loaders import Loader, start_early
from s3prl_emotion.store import utterance_key
from s3prl_emotion.store.means import BOTH, FRAMES, MEANS
from s3prl_emotion.upstreams.source import UpstreamSource

logger = logging.getLogger(__name__)
REMEDY = (
    "where training and evaluation cut audio (datarc.max_duration and cut_eval), give --max_duration S --cut_eval, or "
    "leave it out of the labels"
)
RECORD_BYTES = 200  # of a record's entry and alignment, at most
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
    """Return the length (s) of each utterance: of a file from its header, or by decoding where that does not know it.

    Raises:
        AudioError: not readable as audio
    """
    return [seconds_of(utterance.path, utterance.part) for utterance in utterances]


def longest_first(utterances: Sequence[Utterance], seconds: Sequence[float]) -> list[int]:
    """Return the indices of utterances, the longest first, so that too little memory shows at once.

    Segments follow the longest of all in the order of their files, so that each file is decoded once.
    """
    order = sorted(range(len(seconds)), key=lambda index: (-seconds[index], index))
    if all(item.part is None for item in utterances):
        return order
    return [
        *order[:1],
        *sorted(order[1:], key=lambda index: (str(utterances[index].path), utterances[index].part or ())),
    ]


def predicted_sizes(
    source: UpstreamSource, seconds: float, utterances: int, dtype: torch.dtype | None = None
) -> dict[str, int]:
    """Return the sizes (bytes) of the frames and of the means of ``seconds`` of audio in a store.

    Args:
        source: the upstream, which computes a second of silence
        seconds: of audio
        utterances: their number
        dtype: of the stored frames; ``None``: the store's

    Returns:
        sizes under ``frames`` and ``means``
    """
    probe = source.compute(torch.zeros(SAMPLE_RATE))
    per_second = probe.numel() if probe.shape[1] > 1 else 0  # one frame per utterance: length does not matter
    per_utterance = 0 if per_second else probe.numel()
    values = per_second * seconds + per_utterance * utterances
    frames = round(values * (dtype or source.required_store().dtype).itemsize) + RECORD_BYTES * utterances
    means = (probe.shape[0] * probe.shape[2] * torch.float32.itemsize + RECORD_BYTES) * utterances
    return {FRAMES: frames, MEANS: means}


def predicted_bytes(source: UpstreamSource, seconds: float, utterances: int, dtype: torch.dtype | None = None) -> int:
    """Return the size (bytes) of the frames of ``seconds`` of audio in the store, or in one of another ``dtype``."""
    return predicted_sizes(source, seconds, utterances, dtype)[FRAMES]


def free_space(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or would be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def check_room(folder: Path, needed: int) -> None:
    """Check that there is enough disk space.

    Raises:
        StoreError: there is not; the message says how to use less
    """
    free = free_space(folder)
    if needed > free:
        raise StoreError(
            f"{folder}: needs about {needed / 1e9:.1f} GB more, but {free / 1e9:.1f} GB are free there; free disk "
            "space, or use less: --keep means stores no frames, --store_dtype float16 halves them, -l stores one layer"
        )


def extract(
    source: UpstreamSource,
    utterances: Sequence[Utterance],
    max_duration: float | None = None,
    batch_seconds: float | None = None,
    workers: int = 0,
    cut_eval: bool = False,
    keep: str = BOTH,
) -> Extracted:
    """Compute and store the features that the store lacks; with torchrun each process computes a share.

    Args:
        source: upstream and store
        utterances: of the corpus
        max_duration: ``datarc.max_duration`` (s), where training cuts audio: longer audio is stored whole and cut
        batch_seconds: padded audio per batch (s), or ``None`` to compute each utterance alone
        workers: number of processes that decode audio
        cut_eval: whether evaluation cuts audio to ``max_duration`` too, so that it is never stored whole
        keep: what to store of an utterance: ``frames``, ``means`` over its frames, or ``both``

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
    source.keeps = keep
    seconds = durations(utterances)
    work = _work(seconds, max_duration, cut_eval)
    if batch_seconds is None:  # batches need utterances of similar lengths
        place = {index: place for place, index in enumerate(longest_first(utterances, seconds))}
        work = [(limit, sorted(indices, key=place.__getitem__)) for limit, indices in work]
    order = work[0][1]
    lengths = _lengths(work, seconds)
    source.memory.remedy = REMEDY
    for limit, indices in work[:1]:  # the first holds the longest
        for index in indices[:1]:
            longest = min(seconds[index], limit or seconds[index])
            source.memory.check(round(longest * SAMPLE_RATE), utterances[index].place)
    sizes = {
        kind: size for kind, size in predicted_sizes(source, sum(lengths), len(lengths)).items() if keep in (BOTH, kind)
    }
    logger.info(
        "%d utterances, %.1f h: about %s in %s", len(utterances), sum(lengths) / 3600, shown_sizes(sizes), store.root
    )
    check_room(store.root, round(sum(size * (1 - share) for size, share in _with_shares(source, sizes, len(lengths)))))
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


def predict_extraction(
    source: UpstreamSource,
    utterances: Sequence[Utterance],
    max_duration: float | None = None,
    cut_eval: bool = False,
    dtype: torch.dtype | None = None,
) -> dict[str, int]:
    """Return the sizes (bytes) of the frames and of the means that :func:`extract` would store, and store nothing.

    Raises:
        AudioError: an audio file cannot be read
    """
    seconds = durations(utterances)
    lengths = _lengths(_work(seconds, max_duration, cut_eval), seconds)
    return predicted_sizes(source, sum(lengths), len(lengths), dtype)


def shown_sizes(sizes: dict[str, int]) -> str:
    """Return sizes (bytes) by what is kept, for people: ``23.104 GB of frames, 0.102 GB of means``."""
    return ", ".join(f"{size / 1e9:.3f} GB of {kind}" for kind, size in sizes.items())


def _work(seconds: Sequence[float], max_duration: float | None, cut_eval: bool) -> list[_Part]:
    """Return the utterances to store, longest first: whole, and those that training cuts also cut."""
    order = sorted(range(len(seconds)), key=lambda index: (-seconds[index], index))
    if max_duration is not None and cut_eval:
        return [(max_duration, order)]
    if max_duration is not None:
        return [(None, order), (max_duration, [index for index in order if seconds[index] > max_duration])]
    return [(None, order)]


def _lengths(work: list[_Part], seconds: Sequence[float]) -> list[float]:
    return [min(seconds[index], limit or seconds[index]) for limit, indices in work for index in indices]


def _with_shares(source: UpstreamSource, sizes: dict[str, int], utterances: int) -> Iterator[tuple[int, float]]:
    """Yield each size with the share of the utterances that are stored already."""
    for kind, size in sizes.items():
        stored = len(source.required_store()) if kind == FRAMES else len(source.mean_store)
        yield size, min(1.0, stored / max(1, utterances))


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
    source.required_store().refresh(older_than=5.0)
    if source.keeps != FRAMES:
        source.mean_store.refresh(older_than=5.0)
    wanted = {utterance_key(waveform): (waveform, name) for waveform, name in zip(waveforms, names, strict=True)}
    missing = {key: item for key, item in wanted.items() if source.lacks(key)}
    for key, (waveform, name) in wanted.items():
        if source.keeps != FRAMES and key not in missing and source.stored_mean(key, len(waveform), name) is None:
            missing[key] = waveform, name  # its record turned out to be damaged
    if not missing:
        return
    wavs, named = (
        [torch.from_numpy(waveform) for waveform, _ in missing.values()],
        [name for _, name in missing.values()],
    )
    stacks: Iterator[torch.Tensor] = source.computed(wavs, named, batched)
    for key, wav, name, stack in zip(missing, wavs, named, stacks, strict=True):
        source.save(key, stack, len(wav), name)
        done.computed += 1
        done.audio_seconds += len(wav) / SAMPLE_RATE
