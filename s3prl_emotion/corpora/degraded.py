"""Copies that ``s3prl-emotion degrade`` made, as further splits of the corpus that they were made from."""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.corpora import labelled
from s3prl_emotion.corpora.corpus import Corpus, Needs, Utterance
from s3prl_emotion.corpora.table import SOURCE
from s3prl_emotion.errors import LabelError
from s3prl_emotion.recipe import DataSection


def with_degraded(corpus: Corpus, config: DataSection, needs: Needs) -> Corpus:
    """Add a split for each label table in ``datarc.degraded``: test_25dB, …

    A table holds copies of every fold's test utterances; those of utterances that are now in train or dev are left out.

    Raises:
        LabelError: no such folder, no tables in it, or copies of another corpus
    """
    folder = Path(config.degraded or "").expanduser()
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise LabelError(f"{folder}: no label table in it; datarc.degraded is the --out of s3prl-emotion degrade")
    splits = dict(corpus.splits)
    for path in tables:
        if path.stem in corpus.splits:
            raise LabelError(f"{path}: {corpus.source} has a split {path.stem!r} of its own; rename the table")
        splits[path.stem] = _copies(path, corpus, config, needs)
    return Corpus(corpus.source, corpus.fold, corpus.classes, splits)


def _copies(path: Path, corpus: Corpus, config: DataSection, needs: Needs) -> tuple[Utterance, ...]:
    if corpus.classes:
        config = config.model_copy(update={"classes": list(corpus.classes)})
    rows, _ = labelled.labelled(path, config, needs, partial=True)
    if SOURCE not in rows:
        raise LabelError(f"{path}: no column {SOURCE}; s3prl-emotion degrade writes it")
    seen = {item.name for name in ("train", "dev") for item in corpus.splits[name]}
    known = {item.name for items in corpus.splits.values() for item in items}
    stranger = ~rows[SOURCE].isin(known)
    if stranger.all():
        raise LabelError(f"{path}: copies of other files than {corpus.source} lists; check datarc.degraded")
    rows = rows[~rows[SOURCE].isin(seen) & ~stranger]
    if rows.empty:
        raise LabelError(f"{path}: holds no copy of an utterance that {corpus.fold} tests on")
    return labelled.utterances(rows, path.parent, {name: number for number, name in enumerate(corpus.classes)})
