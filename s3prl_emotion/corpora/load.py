"""A corpus as a head sees it: classes, and utterances in splits, from whatever ``datarc.labels`` names."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from s3prl_emotion.corpora.corpus import LEARNS_CLASSES, Corpus, Needs, Utterance
from s3prl_emotion.corpora.location import places
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection, DegradeSection

logger = logging.getLogger(__name__)


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
        from s3prl_emotion.corpora import labelled, table

        found = list(labelled.utterances(table.read_table(source, classes=False), root, {}))
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
    from s3prl_emotion.corpora import (  # deferred: pandas takes half a second to import, not needed elsewhere
        labelled,
    )

    return labelled.read_corpus(source, root, config, needs)


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
