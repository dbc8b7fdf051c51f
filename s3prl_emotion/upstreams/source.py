"""Provide features to heads: from a frozen upstream that computes each utterance alone, or from the store."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import AudioError, StoreError, UsageError, is_out_of_memory, nearest
from s3prl_emotion.rng import seed_everything
from s3prl_emotion.store.identity import Identity, identify, utterance_key
from s3prl_emotion.store.means import BOTH, FRAMES, MEANS, MeanStore, mean_of, means_folders
from s3prl_emotion.store.segments import DTYPE_NAMES
from s3prl_emotion.store.store import ABOUT, REFRESH_SECONDS, FeatureStore, read_about
from s3prl_emotion.upstreams.featurizer import Featurizer
from s3prl_emotion.upstreams.memory import MemoryGuard

logger = logging.getLogger(__name__)
VARIANTS = {"layer", "dtype", "batched"}  # in which collections of one upstream may differ


@dataclass(frozen=True)
class UpstreamSpec:
    """The flags that name an upstream: ``-u``, ``-k`` and ``-g``."""

    name: str
    ckpt: str | None = None
    model_config: str | None = None


class UpstreamSource:
    """Compute or read the layers of utterances of a frozen upstream.

    Args:
        upstream: the model, in eval mode
        featurizer: selects features and layers
        spec: flags of the upstream
        device: where it computes
        folder: of the feature store, or ``None`` to compute each time
        dtype: of stored features: float32, float16 or bfloat16
        batched: use features that were extracted in batches
        trainable: whether the upstream is fine-tuned (``-f``)
        identity: of the upstream before unused layers were cut off; ``None``: determined from the model

    Raises:
        StoreError: the store cannot be used, or the upstream is not frozen
    """

    def __init__(
        self,
        upstream: Any,
        featurizer: Featurizer,
        spec: UpstreamSpec,
        device: str | torch.device,
        folder: str | Path | None = None,
        dtype: str = "float32",
        batched: bool = False,
        trainable: bool = False,
        identity: Identity | None = None,
    ) -> None:
        self.uncut = identity
        self.upstream, self.featurizer, self.spec = upstream, featurizer, spec
        self.device = torch.device(device)
        self.layers = featurizer.available
        self.store: FeatureStore | None = None
        self.whole: FeatureStore | None = None  # all layers, if a single one is selected and all are stored
        self.keeps = BOTH  # what is stored of utterances that are computed
        self.is_deterministic = False
        rate = max(1, int(featurizer.downsample_rate))
        self.memory = MemoryGuard(upstream, spec.name, lambda wav: self._layers(wav, "noise"), rate, self.device)
        if folder is not None:
            if trainable:
                raise StoreError(
                    "--feature_store: features of a trained upstream (-f) change; omit one of the two flags"
                )
            self._open(Path(folder).expanduser(), dtype, batched)

    def stacks(self, waveforms: Sequence[Tensor], names: Sequence[str] | None = None) -> Iterator[Tensor]:
        """Yield the layers ``[L, T, D]`` of each waveform ``[N_b]`` (16 kHz, float32), on the device.

        Raises:
            AudioError: the upstream fails on an utterance
            StoreError: no space on the disk, or the upstream is not deterministic
        """
        names = names or ["audio"] * len(waveforms)
        if self.store is None:
            for waveform, name in zip(waveforms, names, strict=True):
                yield self.compute(waveform, name)
            return
        keys = [utterance_key(waveform.cpu().numpy()) for waveform in waveforms]
        self.store.prefetch(keys)
        for key, waveform, name in zip(keys, waveforms, names, strict=True):
            stack = self._stored(key, len(waveform))
            if stack is None:
                stack = self.save(key, next(self.computed([waveform], [name])), len(waveform), name)
            yield stack.to(self.device, non_blocking=True)

    def means(self, waveforms: Sequence[Tensor], names: Sequence[str] | None = None) -> Iterator[Tensor]:
        """Yield the means ``[L, D]`` over the frames of each waveform ``[N_b]`` (16 kHz): float32, on the CPU.

        They are read, else computed from stored frames, else from the upstream's; what was not stored is stored then.

        Raises:
            AudioError: the upstream fails on an utterance, or gives it no frame
            StoreError: no space on the disk, or the upstream is not deterministic
        """
        names = names or ["audio"] * len(waveforms)
        together = self._computed_together(waveforms, names)
        for number, (waveform, name) in enumerate(zip(waveforms, names, strict=True)):
            if self.store is None:
                stack = together[number] if number in together else self.compute(waveform, name)
                yield self._mean(stack, name)
                continue
            key, samples = utterance_key(waveform.cpu().numpy()), len(waveform)
            mean = self.stored_mean(key, samples, name)
            if mean is None:
                stack = together[number] if number in together else next(self.computed([waveform], [name]))
                mean = self._mean(stack, name)
                self.save(key, stack, samples, name, mean)
            yield mean

    def stored_mean(self, key: bytes, samples: int, name: str = "audio") -> Tensor | None:
        """Return the means ``[L, D]`` of a waveform from the store, or of its stored frames; ``None``: it has neither.

        Raises:
            AudioError: the stored utterance has no frame
            StoreError: no space on the disk
        """
        if (mean := self.mean_store.get(key, samples)) is not None:
            return mean
        stack = self._stored(key, samples)
        if stack is None:
            self.mean_store.refresh(REFRESH_SECONDS)
            return self.mean_store.get(key, samples)
        mean = self._mean(stack, name)
        if self.keeps != FRAMES:
            self.mean_store.put(key, mean, samples, of_stored=True)
        return mean

    def keep_means(self) -> None:
        """Store means alone from now on, unless the store holds frames: the caller reads nothing else."""
        if self.store is not None:
            self.keeps = BOTH if len(self.store) or self.whole else MEANS

    def save(self, key: bytes, stack: Tensor, samples: int, name: str = "audio", mean: Tensor | None = None) -> Tensor:
        """Store what is kept of an utterance: its layers ``[L, T, D]``, their means over frames, or both.

        Args:
            key: of the waveform
            stack: as the upstream returned it
            samples: of the waveform
            name: of the utterance, for messages
            mean: the means ``[L, D]``, where they are known

        Returns:
            the stack in the store's type, as it is read later

        Raises:
            StoreError: no space on the disk, or a value beyond the range of the store's type
        """
        if self.keeps != FRAMES and stack.shape[1] and key not in self.mean_store:
            self.mean_store.put(key, self._mean(stack, name) if mean is None else mean, samples)
        return stack if self.keeps == MEANS else self.required_store().put(key, stack, samples)

    @cached_property
    def mean_store(self) -> MeanStore:
        """The stored means of the upstream.

        Raises:
            StoreError: there is no store
        """
        frames = self.required_store()
        store = MeanStore(frames, self.normalizes)
        if not len(store) and not len(frames) and not self.whole:
            for folder in means_folders(frames.folder):
                logger.warning("%s: is not what this run reads (%s); means are computed", folder, store.own.folder.name)
        return store

    @property
    def layer_count(self) -> int:
        """Number of layers, L, of the stacks and means that it gives."""
        return self.layers if self.featurizer.layer is None else 1

    @property
    def normalizes(self) -> bool:
        """Whether frames are normalised before the layers are summed, which the host does where there are several."""
        return bool(self.featurizer.normalize) and self.featurizer.layer is None and self.layers > 1

    @property
    def is_one_frame(self) -> bool:
        """Whether every utterance has one frame, so that its means are its features."""
        return bool(getattr(self.upstream, "one_frame", False))

    def compute(self, waveform: Tensor, name: str = "audio") -> Tensor:
        """Compute the layers ``[L, T, D]`` of one waveform alone.

        Random generators keep their state: many models draw for layerdrop even in eval mode, and training must be the
        same with and without a store.

        Raises:
            AudioError: the upstream fails on it, or its memory does not suffice
            UsageError: the upstream returns another number of layers than before
        """
        with torch.no_grad():
            self.memory.check(len(waveform), name)
            stack = self._layers(waveform, name)
        self._check_layers(name)
        return stack

    def computed(self, waveforms: Sequence[Tensor], names: Sequence[str], batched: bool = False) -> Iterator[Tensor]:
        """Compute the layers ``[L, T, D]`` of waveforms for the store: in full precision, by a deterministic upstream.

        Raises:
            AudioError: the upstream fails on an utterance
            StoreError: the upstream is not deterministic, or lacks ``frames()`` (``batched``)
        """
        # no autocast: stored features must not depend on a head's training
        with torch.autocast(self.device.type, enabled=False):
            self._check_determinism(waveforms[0], names[0])
            batch = iter(self._compute_batch(waveforms) if batched else ())
        for waveform, name in zip(waveforms, names, strict=True):
            with torch.autocast(self.device.type, enabled=False):
                stack = next(batch) if batched else self.compute(waveform, name)
            yield stack

    def holds(self, key: bytes) -> bool:
        """Return whether the frames of a waveform are stored."""
        return any(key in store for store in (self.store, self.whole) if store is not None)

    def lacks(self, key: bytes) -> bool:
        """Return whether the upstream must compute a waveform so that all that is kept of it is stored."""
        return not self.holds(key) and (self.keeps != MEANS or key not in self.mean_store)

    def identity(self, dtype: str = "float32", batched: bool = False) -> Identity:
        """Return what the features depend on.

        Raises:
            StoreError: the adapter's ``identity()`` is not plain data
        """
        if self.uncut is not None:
            return self.uncut.variant(dtype=dtype, batched=batched)
        return identify(
            self.upstream,
            self.spec.name,
            self.spec.ckpt,
            self.spec.model_config,
            self.featurizer.feature_selection,
            self.featurizer.layer,
            getattr(torch, dtype),
            batched,
        )

    def required_store(self) -> FeatureStore:
        """Return the store.

        Raises:
            StoreError: there is none
        """
        if self.store is None:
            raise StoreError("no feature store is given; name a folder with --feature_store")
        return self.store

    def close(self) -> None:
        """Close the store's files; what was read from them stays valid."""
        if self.store is not None:
            self.store.close()
        if "mean_store" in vars(self):
            self.mean_store.close()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _mean(self, stack: Tensor, name: str) -> Tensor:
        """Return the means ``[L, D]`` over the frames of a stack ``[L, T, D]``, which training may normalise first."""
        if stack.shape[1] == 0:
            raise AudioError(
                f"{name}: too short for this upstream, which gives it no frame; leave it out of the labels"
            )
        return mean_of(stack, self.normalizes).cpu()

    def _open(self, folder: Path, dtype: str, batched: bool) -> None:
        check_store_dtype(dtype)
        layer, identity = self.featurizer.layer, self.identity(dtype, batched)
        whole = identity.variant(layer=None)
        if layer is not None and (folder / whole.id / ABOUT).is_file():
            self.whole = FeatureStore(folder, whole, self.device.type, self.spec.ckpt)
        self.store = FeatureStore(folder, identity, self.device.type, self.spec.ckpt)
        if not len(self.store) and not self.whole:
            _hint(folder, identity)

    def _stored(self, key: bytes, samples: int) -> Tensor | None:
        if self.store is None:
            return None
        if self.whole is not None and (stack := self.whole.get(key, samples)) is not None:
            layer = self.featurizer.layer or 0
            return stack[layer : layer + 1]
        if (stack := self.store.get(key, samples)) is None:
            self.store.refresh(REFRESH_SECONDS)  # another process may have computed it meanwhile
            stack = self.store.get(key, samples)
        return stack

    def _layers(self, waveform: Tensor, name: str) -> Tensor:
        with torch.no_grad(), _kept_generators(self.device), failing_on(self.spec.name, [waveform], name):
            return self.featurizer.stack(self.upstream([waveform.to(self.device)]))

    def _compute_batch(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Compute the layers ``[L, T_b, D]`` of waveforms in one padded batch, each cut to its own frames."""
        if self.featurizer.frames is None:
            raise StoreError(
                f"--batch_seconds: upstream {self.spec.name} does not say how many frames an utterance has (it lacks "
                "frames()); omit the flag to compute each utterance alone"
            )
        with torch.no_grad(), _kept_generators(self.device), failing_on(self.spec.name, waveforms):
            hidden = self.upstream([waveform.to(self.device) for waveform in waveforms])
        stacks = self.featurizer.stacks(hidden, [self.featurizer.frames(len(waveform)) for waveform in waveforms])
        self._check_layers("a batch")
        return [stack.cpu() for stack in stacks]

    def _computed_together(self, waveforms: Sequence[Tensor], names: Sequence[str]) -> dict[int, Tensor]:
        """Return the layers ``[L, T, D]`` that threads compute at once, by the number of the waveform.

        They are those that must be computed, of an upstream whose threads share no state; the features are the same.
        """
        if not getattr(self.upstream, "concurrent", False) or len(waveforms) < 2:
            return {}
        needed = [number for number, wav in enumerate(waveforms) if self.store is None or self.lacks(_key_of(wav))]
        if len(needed) < 2:
            return {}
        try:
            for number in needed:
                self.memory.check(len(waveforms[number]), names[number])
            with torch.autocast(self.device.type, enabled=False):
                if self.store is not None:
                    self._check_determinism(waveforms[needed[0]], names[needed[0]])
                stacks = self._compute_batch([waveforms[number] for number in needed])
        except AudioError:  # computed alone, each says which it is
            return {}
        return dict(zip(needed, stacks, strict=True))

    def _check_determinism(self, waveform: Tensor, name: str) -> None:
        if self.is_deterministic:
            return
        first = self.compute(waveform, name)
        with _kept_generators(self.device):
            seed_everything(first.numel())  # compute() restores the generators to their state before it
            second = self.compute(waveform, name)
        if first.shape != second.shape or not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
            raise StoreError(
                f"-u {self.spec.name}: gives different features for the same utterance each time ({name}); they "
                "cannot be stored: omit --feature_store"
            )
        self.is_deterministic = True

    def _check_layers(self, name: str) -> None:
        if self.featurizer.available != self.layers:
            raise UsageError(
                f"-u {self.spec.name}: gives {self.featurizer.available} layers for {name}, {self.layers} for others; "
                "a weighted sum and -l need a fixed number: choose other features with -s"
            )


def _key_of(waveform: Tensor) -> bytes:
    return utterance_key(waveform.cpu().numpy())


def check_store_dtype(dtype: str) -> None:
    """Check the name of a type of stored features.

    Raises:
        StoreError: another one
    """
    if dtype not in DTYPE_NAMES:
        raise StoreError(f"--store_dtype {dtype}: no such type{nearest(dtype, DTYPE_NAMES)}")


@contextmanager
def _kept_generators(device: torch.device) -> Iterator[None]:
    """Restore the generators that an upstream may draw from."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def failing_on(upstream: str, waveforms: Sequence[Tensor], name: str = "the shortest utterance") -> Iterator[None]:
    """Turn an upstream's failure into an error that names the audio.

    Raises:
        AudioError: the upstream failed
    """
    try:
        yield
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        seconds, detail = min(map(len, waveforms)) / SAMPLE_RATE, " ".join(str(error).split())[:200]
        raise AudioError(
            f"{name} ({seconds:.3f} s): upstream {upstream} failed on it ({detail}); leave it out of the labels if it "
            "is too short"
        ) from error


def _hint(folder: Path, identity: Identity) -> None:
    """Warn how stored features of the same upstream differ, if the store has none that match."""
    for path in sorted(folder.glob(f"{identity.values['upstream']}-*/{ABOUT}")):
        if path.parent.name == identity.id:
            continue
        try:
            theirs = read_about(path)["identity"]
        except StoreError:
            continue
        other = sorted(name for name in identity.values if identity.values[name] != theirs.get(name))
        what = ", ".join(
            f"{name} {theirs.get(name)} (here {identity.values[name]})" if name in VARIANTS else name for name in other
        )
        logger.warning("the store's %s differs in: %s; features are computed again", path.parent.name, what)
