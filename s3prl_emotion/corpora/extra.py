"""Other corpora to test on (``datarc.extra_tests``): their classes in the words of the corpus that is trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from s3prl_emotion.corpora import labelled
from s3prl_emotion.corpora.corpus import Corpus, Needs, Utterance
from s3prl_emotion.errors import AudioError, LabelError
from s3prl_emotion.recipe import DataSection, ExtraTestSection

logger = logging.getLogger(__name__)


def with_extra_tests(corpus: Corpus, config: DataSection, needs: Needs) -> Corpus:
    """Add a split for each of ``datarc.extra_tests``, under its name.

    Raises:
        LabelError: a name that is a split already, or labels that do not fit
        AudioError: a missing audio folder
    """
    splits = dict(corpus.splits)
    for name, section in config.extra_tests.items():
        if name in splits:
            raise LabelError(f"datarc.extra_tests.{name}: {corpus.source} has a split of that name; choose another")
        splits[name] = _utterances(name, section, corpus, config, needs)
    return replace(corpus, splits=splits)


def _utterances(
    name: str, section: ExtraTestSection, corpus: Corpus, config: DataSection, needs: Needs
) -> tuple[Utterance, ...]:
    path, root = Path(section.labels).expanduser(), Path(section.root).expanduser()
    if not path.is_file():
        raise LabelError(f"{path}: no such label table; check datarc.extra_tests.{name}.labels")
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; check datarc.extra_tests.{name}.root")
    options = {"merge": section.merge, "distribution": section.distribution, "classes": list(corpus.classes) or None}
    # What the head judges besides classes is evaluated where the other corpus has it.
    needs = replace(needs, spreads=False, dimensions=needs.dimensions and not needs.shares)
    rows, _ = labelled.labelled(path, config.model_copy(update=options), needs, partial=True)
    if section.split is not None:
        columns = [column for column in ("Split_Set", "Fold") if column in rows]
        inside = rows[columns].eq(section.split).any(axis=1)
        if not inside.any():
            where = f"datarc.extra_tests.{name}.split"
            raise LabelError(f"{path}: no row has Split_Set or Fold {section.split!r}; check {where}")
        rows = rows[inside]
    if rows.empty:
        raise LabelError(f"{path}: no row has a class of {', '.join(corpus.classes)}; map its classes with merge")
    return labelled.utterances(rows, root, {label: number for number, label in enumerate(corpus.classes)})
