"""Add test splits to a corpus: other corpora, degraded copies, and noise on the fly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.corpus import Corpus, Needs, Utterance
from s3prl_emotion.corpora.degradation_levels import level_names
from s3prl_emotion.corpora.formats.recognise import SUPERB, form_of
from s3prl_emotion.corpora.label_table import SOURCE_FILE
from s3prl_emotion.corpora.locate import locate
from s3prl_emotion.corpora.protocol import SPEAKER_DISJOINT
from s3prl_emotion.corpora.utterances import read_labelled_rows, to_utterances
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection, DegradeSection, ExtraTestSection

WHOLE = {"protocol": SPEAKER_DISJOINT}  # of tables that are not split


def with_extra_splits(corpus: Corpus, config: DataSection, needs: Needs) -> Corpus:
    """Add the splits of ``datarc.extra_tests``, ``datarc.degraded`` and ``datarc.degrade``.

    - ``extra_tests``: a split for each other corpus, named after its key.
    - ``degraded``: a split for each label table that ``s3prl-emotion degrade`` wrote: test_25dB, … A table holds copies
      of every fold's test utterances; copies of utterances that are now in train or dev are dropped.
    - ``degrade``: test_25dB, … with the utterances of the clean test splits, to which noise is added on the fly.

    Raises:
        LabelError: a split of that name exists already, or labels that do not fit the corpus
        AudioError: a missing audio folder
    """
    corpus = _with_other_corpora(corpus, config, needs)
    if config.degraded is not None:
        corpus = _with_copies(corpus, Path(config.degraded).expanduser(), config, needs)
    if config.degrade is not None:
        corpus = _with_noise(corpus, config.degrade, clean=set(corpus.splits) - set(config.extra_tests))
    return corpus


def _with_other_corpora(corpus: Corpus, config: DataSection, needs: Needs) -> Corpus:
    splits = dict(corpus.splits)
    for name, section in config.extra_tests.items():
        if name in splits:
            raise LabelError(f"datarc.extra_tests.{name}: {corpus.source} has a split of that name; choose another")
        splits[name] = _other_corpus(name, section, corpus, config, needs)
    return replace(corpus, splits=splits)


def _other_corpus(
    name: str, section: ExtraTestSection, corpus: Corpus, config: DataSection, needs: Needs
) -> tuple[Utterance, ...]:
    where = f"datarc.extra_tests.{name}"
    path, root = Path(section.labels).expanduser(), Path(section.root).expanduser()
    if section.root == section.labels:  # the labels imply the audio
        path, root = locate(section.labels, None, f"{where}.")
    if not path.exists():
        raise LabelError(f"{path}: no such label table; check {where}.labels")
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; check {where}.root")
    if form_of(path) == SUPERB:
        raise LabelError(f"{where}.labels: {path} holds SUPERB's split lists; name a label table")
    options: dict[str, Any] = {"merge": section.merge, "distribution": section.distribution} | WHOLE
    options |= {"columns": section.columns, "speaker_pattern": section.speaker_pattern}
    options["classes"] = list(corpus.classes) or None
    # Targets besides classes are evaluated only where the other corpus has them.
    needs = replace(needs, spreads=False, dimensions=needs.dimensions and not needs.shares)
    rows, _ = read_labelled_rows(path, config.model_copy(update=options), needs, partial=True)
    if section.split is not None:
        columns = [column for column in ("Split_Set", "Fold") if column in rows]
        inside = rows[columns].eq(section.split).any(axis=1)
        if not inside.any():
            raise LabelError(f"{path}: no row has Split_Set or Fold {section.split!r}; check {where}.split")
        rows = rows[inside]
    if rows.empty:
        raise LabelError(f"{path}: no row has a class of {', '.join(corpus.classes)}; map its classes with merge")
    utterances = to_utterances(rows, root, {label: number for number, label in enumerate(corpus.classes)})
    sources = rows[SOURCE_FILE] if SOURCE_FILE in rows else [None] * len(rows)
    return tuple(replace(item, corpus=name, source=source) for item, source in zip(utterances, sources, strict=True))


def _with_copies(corpus: Corpus, folder: Path, config: DataSection, needs: Needs) -> Corpus:
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise LabelError(f"{folder}: no label table in it; datarc.degraded is the --out of s3prl-emotion degrade")
    splits = dict(corpus.splits)
    for path in tables:
        if path.stem in corpus.splits:
            raise LabelError(f"{path}: {corpus.source} has a split {path.stem!r} of its own; rename the table")
        splits[path.stem] = _copies(path, corpus, config, needs)
    return replace(corpus, splits=splits, shared_speakers=_shared(corpus, splits))


def _copies(path: Path, corpus: Corpus, config: DataSection, needs: Needs) -> tuple[Utterance, ...]:
    config = config.model_copy(update={"classes": list(corpus.classes) or config.classes} | WHOLE)
    rows, _ = read_labelled_rows(path, config, needs, partial=True)
    if SOURCE_FILE not in rows:
        raise LabelError(f"{path}: no column {SOURCE_FILE}; s3prl-emotion degrade writes it")
    seen = {item.name for name in ("train", "dev") for item in corpus.splits[name]}
    known = {item.name for items in corpus.splits.values() for item in items}
    stranger = ~rows[SOURCE_FILE].isin(known)
    if stranger.all():
        raise LabelError(f"{path}: copies of other files than {corpus.source} lists; check datarc.degraded")
    rows = rows[~rows[SOURCE_FILE].isin(seen) & ~stranger]
    if rows.empty:
        raise LabelError(f"{path}: holds no copy of an utterance that {corpus.fold} tests on")
    copies = to_utterances(rows, path.parent, {name: number for number, name in enumerate(corpus.classes)})
    return tuple(replace(item, source=source) for item, source in zip(copies, rows[SOURCE_FILE], strict=True))


def _with_noise(corpus: Corpus, options: DegradeSection, clean: set[str]) -> Corpus:
    levels = level_names([(low, high) for low, high in options.snr])
    tests = [name for name in corpus.splits if name in clean and name not in ("train", "dev")]
    noisy = {f"{base}_{level}": (base, snr) for base in tests for level, snr in levels.items()}
    existing = sorted(set(noisy) & set(corpus.splits))
    if existing:
        raise LabelError(f"datarc.degrade: {corpus.source} has a split {existing[0]!r} already; leave degrade out")
    splits = corpus.splits | {name: corpus.splits[base] for name, (base, _) in noisy.items()}
    shared = _shared(corpus, noisy)
    return replace(corpus, splits=splits, shared_speakers=shared, noisy={name: snr for name, (_, snr) in noisy.items()})


def _shared(corpus: Corpus, splits: Iterable[str]) -> frozenset[str]:
    """Return the splits that share speakers with train on purpose, degraded ones of the corpus among them."""
    known = set(corpus.splits)
    return corpus.shared_speakers | corpus.protocol.shared_by(name for name in splits if name not in known)
