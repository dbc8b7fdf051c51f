"""Load the corpus that a recipe's ``datarc`` names: its classes, and its utterances in splits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from s3prl_emotion.corpora import superb
from s3prl_emotion.corpora.audio_files import with_audio
from s3prl_emotion.corpora.corpus import CLASSES_ONLY, Corpus, Needs, Utterance, known_speaker
from s3prl_emotion.corpora.formats.recognise import SUPERB, form_of
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.segments import warn_of_overlaps
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection

# Modules that read label tables are imported where they are needed: pandas takes half a second.

logger = logging.getLogger(__name__)


def load_corpus(config: DataSection, needs: Needs = CLASSES_ONLY) -> Corpus:
    """Read and check the corpus that ``datarc`` names; a process reads the same ``datarc`` only once.

    Args:
        config: ``datarc``
        needs: the labels that the head trains on

    Raises:
        LabelError: missing or malformed labels, unknown fold or class, an empty split, a speaker in train and test
        AudioError: missing audio root or files
    """
    return _load(config.model_dump_json(), needs)


@lru_cache(maxsize=4)
def _load(config_json: str, needs: Needs) -> Corpus:
    config = DataSection.model_validate_json(config_json)
    corpus = _read(config, needs)
    if config.extra_tests or config.degraded is not None or config.degrade is not None:
        from s3prl_emotion.corpora.extra_splits import with_extra_splits

        corpus = with_extra_splits(corpus, config, needs)
    if not (config.valid_ratio or corpus.splits["dev"]):
        corpus = replace(corpus, protocol=replace(corpus.protocol, has_dev=False))
    if config.channel != "mean":
        corpus = replace(corpus, splits={name: with_channel(part, config) for name, part in corpus.splits.items()})
    return _checked(corpus)


def with_channel(utterances: Iterable[Utterance], config: DataSection) -> tuple[Utterance, ...]:
    """Set which channel to read, but of degraded copies, which have one."""
    copies = None if config.degraded is None else Path(config.degraded).expanduser()
    return tuple(
        item
        if item.source is not None or (copies is not None and copies in item.path.parents)
        else replace(item, channel=config.channel)
        for item in utterances
    )


def _read(config: DataSection, needs: Needs) -> Corpus:
    if config.corpora is not None:
        from s3prl_emotion.corpora.several import read_corpora

        return read_corpora(config, needs)
    source, root = locate(config.labels, config.root)
    if form_of(source) == SUPERB:
        if needs.dimensions:
            raise LabelError(f"{source}: SUPERB's split lists have classes only; dimensions need a label table")
        return superb.read_corpus(source, root, config)
    from s3prl_emotion.corpora.utterances import read_corpus

    return read_corpus(source, root, config, needs)


def _checked(corpus: Corpus) -> Corpus:
    """Check what must hold for every corpus, however it was read."""
    for name in corpus.existing(("train", "dev", "test")):
        if not corpus.splits.get(name):
            raise LabelError(
                f"{corpus.source}: split {name!r} of {corpus.fold} has no utterances; check the fold and classes"
            )
    held_out = {utterance.name for utterance in corpus.splits["test"]}
    shared = [item.name for name in ("train", "dev") for item in corpus.splits[name] if item.name in held_out]
    if shared:
        raise LabelError(f"{corpus.source}: {shared[0]} is both in test and in train or dev of {corpus.fold}")
    every = [item for utterances in corpus.splits.values() for item in utterances]
    found = {name: tuple(with_audio(items, corpus.source, every)) for name, items in corpus.splits.items()}
    if any(found[name] is not items for name, items in corpus.splits.items()):
        corpus = replace(corpus, splits=found)
    _warn_of_unknown_speakers(corpus)
    warn_of_overlaps(corpus)
    sizes = ", ".join(f"{name} {len(corpus.splits[name])}" for name in corpus.existing(corpus.splits))
    classes = f"; classes {', '.join(corpus.classes)}" if corpus.classes else ""
    logger.info("%s, %s: %s utterances%s", corpus.source, corpus.fold, sizes, classes)
    if corpus.partition is not None:
        logger.warning("%s: %s", corpus.source, corpus.partition)
    if corpus.protocol.note is not None:
        logger.warning("%s: %s", corpus.source, corpus.protocol.note)
    return corpus


def _warn_of_unknown_speakers(corpus: Corpus) -> None:
    """Warn of evaluated utterances whose speaker is nobody, such as MSP-Podcast's ``Unknown``."""
    for name, utterances in corpus.splits.items():
        unknown = sum(known_speaker(item.speaker) is None for item in utterances)
        if name != "train" and unknown and any(item.speaker for item in utterances):
            logger.warning(
                "%s: %d of the %d utterances of %s have no known speaker: they count in no score of speakers (paUAR), "
                "and each counts as a speaker of its own in intervals",
                *(corpus.source, unknown, len(utterances), name),
            )
