"""Load corpora for commands that need no folds: every utterance, or those to train on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from s3prl_emotion.corpora import superb
from s3prl_emotion.corpora.audio_files import with_audio
from s3prl_emotion.corpora.audio_names import check_below
from s3prl_emotion.corpora.corpus import CLASSES_ONLY, Corpus, Needs, Utterance
from s3prl_emotion.corpora.formats.recognise import SUPERB, form_of
from s3prl_emotion.corpora.load import load_corpus, with_channel
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.protocol import SPEAKER_DISJOINT
from s3prl_emotion.errors import LabelError, NoFoldsError
from s3prl_emotion.recipe import CorpusSection, DataSection, ExtraTestSection

# Modules that read label tables are imported where they are needed: pandas takes half a second.

logger = logging.getLogger(__name__)
ALL = "all"  # the only split, and the name of the only fold
UNSPLIT = {"protocol": SPEAKER_DISJOINT, "test_fold": None, "valid_from": "auto", "partition": None}


def list_utterances(config: DataSection) -> list[Utterance]:
    """Return every utterance that ``datarc`` lists, of any class and split, sorted by name.

    Those of ``corpora``, ``extra_tests`` and ``degraded`` are among them, with the names of their corpora ahead of
    their own.

    Raises:
        LabelError: missing or malformed labels
        AudioError: missing audio root or files
    """
    listed: list[Utterance] = []
    for prefix, labels, root in _sources(config):
        source, folder = locate(labels, root)
        own = _listed(config, prefix, source, folder)
        own = list(with_audio(sorted({item.name: item for item in own}.values(), key=lambda item: item.name), source))
        listed += [replace(item, name=f"{prefix}/{item.name}") for item in own] if prefix else own
    return sorted({item.name: item for item in with_channel(listed, config)}.values(), key=lambda item: item.name)


def load_whole(config: DataSection, needs: Needs = CLASSES_ONLY) -> Corpus:
    """Load every utterance of ``labels`` or ``corpora`` that has a label, as one split, ``all``.

    Raises:
        LabelError: missing or malformed labels, or an unknown class
        AudioError: missing audio root or files
    """
    config = config.model_copy(update=UNSPLIT)
    if config.corpora is not None:
        from s3prl_emotion.corpora.several import SOURCE, list_corpora

        source: Path = SOURCE
        utterances, classes = list_corpora(config, needs)
    else:
        source, root = locate(config.labels, config.root)
        if form_of(source) == SUPERB:
            utterances, classes = _of_superb(config, source, root)
        else:
            from s3prl_emotion.corpora.utterances import read_labelled_rows, to_utterances

            rows, classes = read_labelled_rows(source, config, needs)
            utterances = list(to_utterances(rows, root, {name: number for number, name in enumerate(classes)}))
    return Corpus(source, ALL, classes, {ALL: with_channel(with_audio(utterances, source), config)})


def load_to_train(config: DataSection, needs: Needs = CLASSES_ONLY) -> Corpus:
    """Load a corpus of which only the split ``train`` is used: as training does, or all of it if it has no folds.

    Raises:
        LabelError: as for training, except that a table may have no folds
        AudioError: missing audio root or files
    """
    try:
        return load_corpus(config, needs)
    except NoFoldsError as error:
        logger.warning("%s; all its utterances are used as the training split", error)
    corpus = load_whole(config, needs)
    return replace(corpus, splits={"train": corpus.splits[ALL]})


def _sources(config: DataSection) -> Iterable[tuple[str, str | None, str | None]]:
    """Yield prefix, label table and audio folder of every corpus that ``datarc`` names."""
    if config.corpora is None:
        yield "", config.labels, config.root
    others: dict[str, CorpusSection | ExtraTestSection] = {**(config.corpora or {}), **config.extra_tests}
    for name, section in others.items():
        yield name, section.labels, section.root
    if config.degraded is not None:
        folder = Path(config.degraded).expanduser()
        tables = sorted(folder.glob("*.csv"))
        if not tables:
            raise LabelError(f"{folder}: no label table in it; datarc.degraded is the --out of s3prl-emotion degrade")
        for path in tables:
            yield path.stem, str(path), str(folder)


def _listed(config: DataSection, prefix: str, source: Path, root: Path) -> list[Utterance]:
    """Return all utterances of one corpus; ``prefix`` is its name in ``corpora`` or ``extra_tests``."""
    if form_of(source) == SUPERB:
        return _of_superb(config, source, root)[0]
    section = (config.corpora or {}).get(prefix) or config.extra_tests.get(prefix)
    if section is not None:
        config = config.model_copy(update={"columns": section.columns, "speaker_pattern": section.speaker_pattern})
    return _of_table(config, source, root)


def _of_table(config: DataSection, source: Path, root: Path) -> list[Utterance]:
    from s3prl_emotion.corpora.label_table import read_table
    from s3prl_emotion.corpora.utterances import to_utterances

    table = read_table(source, classes=False, config=config)
    if not config.allow_outside:
        check_below(table["FileName"].tolist(), source)
    return list(to_utterances(table, root, {}))


def _of_superb(config: DataSection, folder: Path, root: Path) -> tuple[list[Utterance], tuple[str, ...]]:
    """Return the utterances of all lists of SUPERB; each fold lists every one."""
    corpus = superb.read_corpus(folder, root, config.model_copy(update=UNSPLIT))
    return [item for part in corpus.splits.values() for item in part], corpus.classes
