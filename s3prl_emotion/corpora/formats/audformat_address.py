"""Name databases of audb, and fetch them into its own cache."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.errors import LabelError, UsageError

EXTRA = 'pip install "s3prl-emotion[audb]"'
PREFIX = "audb://"
ADDRESS = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:@(?P<version>[\w.+-]+))?", re.ASCII)


def is_audb(labels: str) -> bool:
    """Return whether labels are an address of audb, ``audb://NAME[@VERSION]``."""
    return labels.startswith(PREFIX)


def audb_folder(labels: str) -> Path:
    """Fetch a database with audb into its own cache, unless it is there, and return its folder.

    Raises:
        UsageError: ``audb`` is not installed
        LabelError: no such database or version, or its repository cannot be reached
    """
    match = ADDRESS.fullmatch(labels.removeprefix(PREFIX))
    if match is None:
        raise LabelError(f"{labels}: is no address of audb; write audb://NAME, or audb://NAME@VERSION")
    try:
        import audb
    except ImportError as error:
        raise UsageError(f"{labels}: needs the package audb; {EXTRA}") from error
    try:
        database = audb.load(
            match["name"], version=match["version"], full_path=False, pickle_tables=False, verbose=False
        )
    except Exception as error:  # its repositories raise errors of several libraries
        reason = " ".join(str(error).split())[:300]
        raise LabelError(f"{labels}: cannot be loaded with audb ({reason}); check name, version and network") from error
    return Path(database.meta["audb"]["root"])
