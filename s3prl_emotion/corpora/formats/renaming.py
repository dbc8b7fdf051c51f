"""Give columns the names that the label table has for them (``datarc.columns``)."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from s3prl_emotion.corpora.class_names import SHARE_NAMES
from s3prl_emotion.errors import ConfigError, LabelError, nearest

NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


USUAL = {
    "EmoClass": ("emotion", "emotion_label", "label", "emo", "class", "category", "major_emotion"),
    "SpkrID": ("speaker", "speaker_id", "spk", "spk_id", "actor", "actor_id"),
    "Gender": ("gender", "sex", "speaker_gender"),
    "Text": ("text", "transcription", "transcript", "sentence"),
    "EmoAct": ("arousal", "activation"),
    "EmoVal": ("valence",),
    "EmoDom": ("dominance",),
}  # names that datasets give to columns of label tables, in lower case, the usual ones first


def usual_columns(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that have a usual name, by their names in label tables.

    Args:
        names: of all columns
        columns: those that the user names, which are left alone
    """
    free = {name.lower(): name for name in reversed([*names]) if name not in columns.values()}
    taken = {*names, *columns}
    found = {}
    for ours, candidates in USUAL.items():
        name = next((free[other] for other in (ours.lower(), *candidates) if other in free), None)
        if name is not None and ours not in taken:
            found[ours] = name
    return found


def columns_of(text: str) -> dict[str, str]:
    """Read the flag ``--columns``, ``EmoClass=emotion,SpkrID=speaker``.

    Raises:
        ArgumentTypeError: not of that form
    """
    columns = {}
    for pair in text.split(","):
        name, equals, source = pair.partition("=")
        if not (equals and name.strip() and source.strip()):
            raise ArgumentTypeError(f"write NAME=COLUMN,… as in EmoClass=emotion,SpkrID=speaker, got {text!r}")
        columns[name.strip()] = source.strip()
    return columns


def add_columns_argument(parser: ArgumentParser) -> None:
    """Declare the flag ``--columns``."""
    parser.add_argument(
        "--columns",
        type=columns_of,
        default={},
        metavar="NAME=COLUMN,…",
        help="columns of the labels by other names: EmoClass=emotion,SpkrID=speaker",
    )


def renamed_columns(names: Iterable[str], columns: Mapping[str, str], known: Sequence[str], path: Path) -> list[str]:
    """Return the names of columns with those that ``columns`` names changed.

    A column that has one of the new names already makes way: its own name becomes ``EmoClass of the source``.

    Args:
        names: of all columns, in their order
        columns: names that they have, by the names that they are to have
        known: columns of label tables
        path: the table's path, for messages

    Raises:
        ConfigError: a name that the label table does not know
        LabelError: no such column, or one column for two names
    """
    new = list(names)
    given: dict[str, str] = {}
    for name, source in columns.items():
        if name not in known and name.lower() not in SHARE_NAMES:
            raise ConfigError(f"datarc.columns: {name}: no column of a label table{nearest(name, known)}")
        if source not in new:
            raise LabelError(
                f"{path}: no column {source!r}, which datarc.columns names for {name}{nearest(source, new, most=10)}"
            )
        if source in given:
            raise ConfigError(f"datarc.columns: {source}: is named for both {given[source]} and {name}")
        given[source] = name
    taken = set(columns) - set(given)
    return [given.get(name, f"{name} of the source" if name in taken else name) for name in new]
