"""Load a corpus's splits as batches ``(waveforms, labels, names)``, in each process its own share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3prl_emotion import host
from s3prl_emotion.corpora import Corpus
from s3prl_emotion.corpora.seen import NOT_READ
from s3prl_emotion.corpora.superb import SPLIT_SEED
from s3prl_emotion.distributed import rank, world
from s3prl_emotion.loading.class_balance import sampling_weights
from s3prl_emotion.loading.dataset import EpochBatches, ShuffledBatches, UtteranceDataset
from s3prl_emotion.loading.means import MeansDataset
from s3prl_emotion.loading.reading import DegradedWaveform, Waveform, collate, modules_for
from s3prl_emotion.processes.loaders import Loader, start_early
from s3prl_emotion.recipe import DataSection

if TYPE_CHECKING:
    from s3prl_emotion.loading.augmentation.augmenter import Augmenter
    from s3prl_emotion.upstreams.source import UpstreamSource

WORKERS = "datarc.num_workers"


class Loaders:
    """Builds the data loaders of a corpus; preloaded audio is decoded once.

    Where :meth:`read_means` was called, batches hold means over frames in place of waveforms.

    Args:
        corpus: with its splits
        data: ``datarc``: batch sizes, preloading, cutting
        seed: fixes the order of training
        superb_seeding: shuffle and evaluate as the host does

    Attributes:
        augmentation: how training utterances are augmented, for the metrics file; once they are, with what was read
    """

    def __init__(self, corpus: Corpus, data: DataSection, seed: int, superb_seeding: bool = False) -> None:
        self.corpus, self.data, self.seed, self.superb_seeding = corpus, data, seed, superb_seeding
        self.datasets: dict[tuple[str, float | None, bool], UtteranceDataset | MeansDataset] = {}
        self.source: UpstreamSource | None = None
        self.augment = data.augment if data.augment is not None and data.augment.of_waveforms else None
        self.augmentation = {} if data.augment is None else data.augment.seeded(seed).model_dump(exclude_none=True)
        if data.num_workers and not data.pre_load:
            start_early(*modules_for(corpus.split("train"), bool(corpus.noisy), self.augment is not None))

    def evaluation(self, split: str) -> Loader:
        """Return the batches of a split, in the split's order."""
        dataset = self._dataset(split, self.data.max_duration if self.data.cut_eval else None)
        batches = torch.arange(len(dataset)).split(self.data.eval_batch_size)
        mine = batches[rank() :: world()] if host.launched() else batches  # s3prl's own script evaluates in one process
        loader = self._loader(dataset, batch_sampler=[batch.tolist() for batch in mine])
        loader.all_batches = len(batches)
        return loader

    def training(self, split: str, epoch: int) -> Loader:
        """Return the training batches of an epoch, in an order that depends only on seed and epoch."""
        dataset = self._dataset(split, self.data.max_duration, augmented=self.augment is not None)
        if self.superb_seeding and world() == 1:  # shuffled by the global generator, as the stock task does
            return self._loader(dataset, batch_size=self.data.train_batch_size, shuffle=True)
        size, batch_size = len(self.corpus.split(split)), self.data.train_batch_size
        if self.superb_seeding:
            shuffled = ShuffledBatches(size, batch_size, rank(), world(), stand_ins=host.launched())
            return self._loader(dataset, batch_sampler=shuffled)
        labels = [utterance.label for utterance in self.corpus.split(split)]
        weights = sampling_weights(labels) if self.data.balanced_sampling else None
        order = (size, batch_size, self.seed, epoch, weights)
        turn = 0 if self.augment is None else self.augment.turn(epoch)
        batches = EpochBatches(*order, rank(), world(), stand_ins=host.launched(), turn=turn)
        generator = torch.Generator().manual_seed(self.seed)  # the loader's own draws must not touch the global one
        return self._loader(dataset, batch_sampler=batches, generator=generator)

    def read_means(self, source: UpstreamSource) -> None:
        """Load the utterances' means over frames from now on.

        Args:
            source: gives the means
        """
        self.source = source

    def waveform_hashes(self, split: str) -> NDArray[np.int64]:
        """Return the hash of each waveform ``[U]`` of a split; 0 where this process has not read it."""
        hashes = np.full(len(self.corpus.split(split)), NOT_READ, dtype=np.int64)
        for (name, *_), dataset in self.datasets.items():
            if name == split:
                hashes = np.where(hashes == NOT_READ, dataset.hashes.numpy(), hashes)
        return hashes

    def say_faults(self) -> None:
        """Warn of faulty audio of splits of which this process has not read every file."""
        for dataset in self.datasets.values():
            (dataset.dataset if isinstance(dataset, MeansDataset) else dataset).say_faults()

    def _dataset(self, split: str, limit: float | None, augmented: bool = False) -> UtteranceDataset | MeansDataset:
        key = (split, limit, augmented)
        if key not in self.datasets:
            utterances, degrader, pre_load = self.corpus.split(split), self._degrader(split), self.data.pre_load
            augmenter = self._augmenter(split) if augmented else None
            if self.source is None:
                self.datasets[key] = UtteranceDataset(utterances, pre_load, limit, degrader, split, augmenter)
            else:
                read = UtteranceDataset(utterances, False, limit, degrader, split, augmenter)
                views = 1 if augmenter is None else augmenter.section.views or 1
                self.datasets[key] = MeansDataset(read, self.source, split, pre_load, views)
        return self.datasets[key]

    def _augmenter(self, split: str) -> Augmenter | None:
        """Return what augments the waveforms of a training split (``datarc.augment``), or ``None``.

        Raises:
            UsageError: a folder is missing or without audio, or pyroomacoustics is not installed
            LabelError: too few speakers for babble
            AudioError: a recording cannot be read
        """
        if self.augment is None:
            return None
        from s3prl_emotion.loading.augmentation.augmenter import Augmenter

        augmenter = Augmenter(self.augment, self.corpus.split(split), self.seed)
        self.augmentation = augmenter.describe()
        return augmenter

    def _degrader(self, split: str) -> Callable[[Waveform, str], Waveform] | None:
        """Return the function that makes a split noisy as it is read (``datarc.degrade``), or ``None``."""
        if split not in self.corpus.noisy or self.data.degrade is None or self.data.labels is None:
            return None
        from s3prl_emotion.loading.degradation import DegradationSpec, build_degrader

        options = self.data.degrade
        spec = DegradationSpec(options.noise, self.corpus.noisy[split], options.reverb, options.seed)
        data = self.data
        source = (data.labels, data.root, data.columns, data.speaker_pattern, data.channel)
        return DegradedWaveform(build_degrader(spec, *source))

    def _loader(self, dataset: UtteranceDataset | MeansDataset, **options: Any) -> Loader:
        if isinstance(dataset, MeansDataset):
            return Loader(dataset, 0, WORKERS, collate_fn=dataset.collate, **options)
        workers = 0 if self.data.pre_load else self.data.num_workers  # what is in memory needs no process to read it
        return Loader(dataset, workers, WORKERS, collate_fn=collate, **options)


def draw_as_superb(corpus: Corpus | None) -> None:
    """Leave torch's generator as the stock task does when it builds its layers: seeded, one permutation drawn."""
    torch.manual_seed(SPLIT_SEED)
    if corpus is not None:
        torch.randperm(len(corpus.splits["train"]) + len(corpus.splits["dev"]))
