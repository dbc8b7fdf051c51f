"""Run the systems of a matrix under several protocols (``protocols:``), each as a system of its own."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.benchmark.expansion import placeholders_in
from s3prl_emotion.benchmark.matrix import MatrixSection
from s3prl_emotion.corpora.protocol import RANDOM, SPEAKER_DEPENDENT
from s3prl_emotion.errors import ConfigError

KEY = "downstream_expert.datarc.protocol"


def with_protocols(section: MatrixSection, where: str) -> MatrixSection:
    """Return the matrix with a system for each system and protocol.

    Systems keep their names, except under ``random``: there "NAME, speaker-dependent".

    Args:
        section: as read
        where: the file, for messages

    Raises:
        ConfigError: a protocol that is set elsewhere too, two that share no speakers, or a step that has one alone
    """
    if not section.protocols:
        return section
    if len(set(section.protocols)) < len(section.protocols):
        raise ConfigError(f"{where}: protocols: {section.protocols} lists one twice")
    disjoint = [name for name in section.protocols if name != RANDOM]
    if len(disjoint) > 1:
        raise ConfigError(
            f"{where}: protocols: {' and '.join(disjoint)} are of different labels; make a matrix for each"
        )
    systems: dict[str, Any] = {}
    for name, part in section.systems.items():
        entry = dict(part) if isinstance(part, dict) else {}
        overrides = entry.get("overrides") or {}
        if (isinstance(overrides, dict) and KEY in overrides) or KEY in section.overrides:
            raise ConfigError(f"{where}: {KEY}: protocols chooses it; remove one of the two")
        for protocol in section.protocols:
            own = f"{name}, {SPEAKER_DEPENDENT}" if protocol == RANDOM else name
            if own != name and own in section.systems:
                raise ConfigError(f"{where}: systems.{own}: protocols makes a system of this name; rename it")
            systems[own] = entry | {"overrides": overrides | {KEY: protocol}} if isinstance(overrides, dict) else entry
    if len(section.protocols) == 1:  # prepared steps get it too
        return section.model_copy(update={"overrides": section.overrides | {KEY: section.protocols[0]}})
    for name, step in section.prepare.items():
        if isinstance(step, dict) and "recipe" in placeholders_in(step.get("run")):
            raise ConfigError(
                f"{where}: prepare.{name}: its {{recipe}} is of one protocol, and protocols names several; make a "
                "matrix for each"
            )
    return section.model_copy(update={"systems": systems})
