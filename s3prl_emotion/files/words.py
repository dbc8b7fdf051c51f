"""Check the words of both command lines: values that no path, name or generator can have."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import shown

LARGEST_SEED = 2**32 - 1  # of numpy's generator
MAY_BE_EMPTY = ("-o", "--override")  # scripts pass "$OVERRIDES"


def check_words(words: Sequence[str]) -> None:
    """Check the words of a command line before they are parsed.

    Raises:
        UsageError: a word is empty, as of an unset variable, or holds the character NUL
    """
    before = ""
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if not value and before not in MAY_BE_EMPTY and (not word or equals) and flag not in MAY_BE_EMPTY:
            after = f"{flag}: " if flag.startswith("-") else ""
            raise UsageError(f"{after}an argument is empty; give a value, or omit it (is a variable not set?)")
        check_text(word, flag if equals else before)
        before = word


def check_text(text: str, where: str) -> None:
    """Refuse the character NUL, which no path can have.

    Raises:
        UsageError: ``text`` holds it
    """
    if "\0" in text:
        raise UsageError(f"{where} {shown(text)}: holds the character NUL (\\0); remove it".lstrip())


def check_seed(seed: int, where: str) -> None:
    """Check that every generator takes a seed.

    Raises:
        UsageError: it does not
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"{where} {shown(seed)}: must be from 0 to {LARGEST_SEED} (2^32 - 1)")


def check_layer(layer: int | None, where: str = "-l") -> None:
    """Refuse negative numbers of layers, before an upstream is loaded.

    Raises:
        UsageError: ``layer`` is negative
    """
    if layer is not None and layer < 0:
        raise UsageError(
            f"{where} {shown(layer)}: layers are numbered from 0, the input of the first transformer layer; give 0 or "
            "more"
        )


def check_not_read(out: Path | None, inputs: Iterable[str | Path | None], flag: str) -> None:
    """Refuse an output over a file that the same command reads; links are followed.

    Raises:
        UsageError: names the file
    """
    if out is None or not out.expanduser().is_file():  # what does not exist yet is read by nobody
        return
    target = out.expanduser().stat()
    for path in inputs:
        with suppress(OSError):  # no such file: reported where it is read
            if path is not None and os.path.samestat(target, os.stat(os.path.expanduser(path))):
                raise UsageError(f"{flag} {out}: is a file that this command reads; name another")
