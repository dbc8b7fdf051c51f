"""A corpus as a head sees it: classes, and utterances in splits, from whatever ``datarc.labels`` names."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection, DegradeSection

logger = logging.getLogger(__name__)

DEMO = "demo"  # datarc.labels of the built-in corpus
DIMENSIONS = ("EmoAct", "EmoVal", "EmoDom")  # activation, valence, dominance, in the label table's words


@dataclass(frozen=True)
class Needs:
    """What a head learns, and so what every row of a label table must have.

    Attributes:
        classes: a class; rows of other classes are left out
        dimensions: mean activation, valence and dominance; without ``classes`` rows of all classes are kept
        spreads: the graders' standard deviation of each
        shares: the share of the graders that heard each class, in place of one class
    """

    classes: bool = True
    dimensions: bool = False
    spreads: bool = False
    shares: bool = False


NO_CONSENSUS = -2  # label of an utterance whose graders agree on none of the classes; -1 is a stand-in's


@dataclass(frozen=True)
class Utterance:
    """One recording: ``name`` is its path below the audio root and identifies it; ``label`` indexes the classes.

    ``dimensions`` and ``spreads`` follow :data:`DIMENSIONS`, on the corpus's own scale; ``shares`` is a distribution
    over the classes; each is ``None`` where it is not known.
    """

    name: str
    path: Path
    label: int
    speaker: str | None = None
    gender: str | None = None
    dimensions: tuple[float, ...] | None = None
    spreads: tuple[float, ...] | None = None
    text: str | None = None
    shares: tuple[float, ...] | None = None
    taught: tuple[float, ...] | None = None
    """Of several corpora: what a head that learns shares learns of this one, NaN where it has none."""


def consensus_shares(label: int, width: int, smoothing: float) -> tuple[float, ...]:
    """The consensus as a distribution ``[K]``, of which ``smoothing`` is spread evenly; NaN without one.

    Args:
        label: class index, negative where there is no consensus
        width: K
        smoothing: share in [0, 1)
    """
    if label < 0:
        return (math.nan,) * width
    even = smoothing / width
    return tuple(even + (1 - smoothing) if place == label else even for place in range(width))


@dataclass(frozen=True)
class Corpus:
    """Utterances of one fold; ``splits`` holds at least train, dev and test.

    ``noisy`` names the splits that are degraded as they are read (``datarc.degrade``), each with its range of SNR (dB).
    """

    source: Path
    fold: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Utterance, ...]]
    noisy: dict[str, tuple[float, float]] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Utterances of a split.

        Raises:
            LabelError: no such split
        """
        if name not in self.splits:
            raise LabelError(f"{self.source}: no split {name!r}; there are: {', '.join(self.splits)}")
        return self.splits[name]


LEARNS_CLASSES = Needs()


def load_corpus(config: DataSection, needs: Needs = LEARNS_CLASSES) -> Corpus:
    """Read and check the corpus that ``datarc`` names; the same ``datarc`` is read once in a process.

    Args:
        config: ``datarc``
        needs: what the head learns

    Raises:
        LabelError: missing or malformed labels, unknown fold or class, an empty split, a speaker in train and test
        AudioError: missing audio root or files
    """
    return _load(config.model_dump_json(), needs)


def list_utterances(config: DataSection) -> list[Utterance]:
    """Every utterance that ``datarc.labels`` lists, whatever its class and split, sorted by name.

    Raises:
        LabelError: missing or malformed labels
        AudioError: missing audio root or files
    """
    source, root = places(config)
    if source.is_dir():
        found = [item for part in _read(config, LEARNS_CLASSES).splits.values() for item in part]
    else:
        from s3prl_emotion.corpora import table

        found = list(table.utterances(table.read_table(source, classes=False), root, {}))
    found = sorted({item.name: item for item in found}.values(), key=lambda item: item.name)
    _check_files(found, source)
    return found


@lru_cache(maxsize=4)
def _load(config_json: str, needs: Needs) -> Corpus:
    config = DataSection.model_validate_json(config_json)
    corpus = _read(config, needs)
    if config.extra_tests:
        from s3prl_emotion.corpora.extra import with_extra_tests

        corpus = with_extra_tests(corpus, config, needs)
    if config.degraded is not None:
        from s3prl_emotion.corpora.degraded import with_degraded

        corpus = with_degraded(corpus, config, needs)
    if config.degrade is not None:
        corpus = _with_noisy(corpus, config.degrade, others=config.extra_tests)
    return _checked(corpus)


def _with_noisy(corpus: Corpus, options: DegradeSection, others: Iterable[str]) -> Corpus:
    """Add the splits that ``datarc.degrade`` asks for: test_25dB, … with the utterances of the clean ones."""
    from s3prl_emotion.corpora.degradation_levels import level_names

    levels = level_names([(low, high) for low, high in options.snr])
    clean = [name for name in corpus.splits if name not in ("train", "dev", *others)]
    noisy = {f"{base}_{level}": (base, snr) for base in clean for level, snr in levels.items()}
    taken = sorted(set(noisy) & set(corpus.splits))
    if taken:
        raise LabelError(f"datarc.degrade: {corpus.source} has a split {taken[0]!r} already; leave degrade out")
    splits = corpus.splits | {name: corpus.splits[base] for name, (base, _) in noisy.items()}
    return replace(corpus, splits=splits, noisy={name: snr for name, (_, snr) in noisy.items()})


def _read(config: DataSection, needs: Needs) -> Corpus:
    if config.corpora is not None:
        from s3prl_emotion.corpora import several

        return several.read_corpora(config, needs)
    source, root = places(config)
    if source.is_dir():
        from s3prl_emotion.corpora import superb

        if needs.dimensions:
            raise LabelError(f"{source}: SUPERB's split lists hold classes alone; dimensions need a label table")
        return superb.read_corpus(source, root, config)
    from s3prl_emotion.corpora import table  # deferred: pandas takes half a second to import, not needed elsewhere

    return table.read_corpus(source, root, config, needs)


def places(config: DataSection) -> tuple[Path, Path]:
    """Where labels and audio are."""
    if config.labels == DEMO:
        from s3prl_emotion.corpora.demo import demo_corpus

        root, source = demo_corpus()
        return source, root
    if config.labels is None:
        raise LabelError("datarc.labels: name a label table, a meta_data folder or demo")
    source = Path(config.labels).expanduser()
    if config.root is None:
        raise LabelError("datarc.root: name the folder with the audio")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; datarc.root must be the folder with the audio")
    if not source.exists():
        raise LabelError(f"{source}: no such label table or meta_data folder; check datarc.labels")
    return source, root


def _checked(corpus: Corpus) -> Corpus:
    """What must hold for every corpus, however it was made."""
    for name in ("train", "dev", "test"):
        if not corpus.splits.get(name):
            raise LabelError(
                f"{corpus.source}: split {name!r} of {corpus.fold} has no utterances; check the fold and classes"
            )
    held_out = {utterance.name for utterance in corpus.splits["test"]}
    twice = [item.name for name in ("train", "dev") for item in corpus.splits[name] if item.name in held_out]
    if twice:
        raise LabelError(f"{corpus.source}: {twice[0]} is both in test and in train or dev of {corpus.fold}")
    for utterances in corpus.splits.values():
        _check_files(utterances, corpus.source)
    sizes = ", ".join(f"{name} {len(utterances)}" for name, utterances in corpus.splits.items())
    classes = f"; classes {', '.join(corpus.classes)}" if corpus.classes else ""
    logger.info("%s, %s: %s utterances%s", corpus.source, corpus.fold, sizes, classes)
    return corpus


def _check_files(utterances: Iterable[Utterance], source: Path) -> None:
    for utterance in utterances:
        if not utterance.path.is_file():
            raise AudioError(f"{utterance.path}: no such audio file, though {source} lists it; check datarc.root")
