"""Keep the paths of a label table below the audio folder, and outputs out of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.limits import shown

ALLOW = "datarc.allow_outside: true (--allow_outside of the commands) reads such files"


def is_below(name: str) -> bool:
    """Return whether a name stays below the audio folder: relative, and without ``..``.

    Only the name counts. Symbolic links below the audio folder may lead anywhere, since the user made them.
    """
    if name[:1] not in ("", "/", ".") and ".." not in name:  # almost all names, of which there may be a million
        return True
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts


def check_below(names: Iterable[str], source: Path, fix: str = ALLOW) -> None:
    """Check that the names of a table or list stay below the audio folder.

    Args:
        names: of its column FileName
        source: the table or list
        fix: what else to do than correct the name, for the message

    Raises:
        LabelError: names the first that does not
    """
    for name in names:
        if not is_below(name):
            raise LabelError(
                f"{source}: FileName {shown(name)} must be a path below the audio folder, without '..'; correct it"
                + (f", or {fix}" if fix else "")
            )


def check_apart(out: Path, audio: Path, where: str, above: bool = True) -> None:
    """Refuse a folder of outputs inside a folder with audio, whose next reader would take them for its own.

    Args:
        out: folder to write into; links are followed
        audio: folder that is read
        where: the flag that names ``audio``
        above: also refuse ``out`` above ``audio``

    Raises:
        UsageError: one folder holds the other, or they are the same
    """
    target, real = out.resolve(), audio.resolve()
    if target == real:
        how = "is"
    elif target.is_relative_to(real):
        how = "lies in"
    elif above and real.is_relative_to(target):
        how = "holds"
    else:
        return
    raise UsageError(f"--out {out}: {how} the folder with the audio that is read ({where} {audio}); name one apart")
