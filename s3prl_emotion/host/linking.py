"""Link the heads into s3prl, so that its own unchanged ``run_downstream.py`` finds them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import heads, heads_folder


def link(folder: Path) -> list[str]:
    """Link every head into ``folder``'s ``downstream/``; links that are there already stay.

    Args:
        folder: an s3prl checkout, or the package's folder of a checkout or an installation

    Returns:
        what was done, line by line

    Raises:
        UsageError: not an s3prl, or something else stands where a link should be
    """
    target = _downstream(folder)
    places = {target / name: heads_folder() / name for name in heads()}
    linked = {place for place, source in places.items() if place.is_symlink() and place.resolve() == source.resolve()}
    for place in places:  # ahead of the first link: all or none
        if place not in linked and (place.exists() or place.is_symlink()):
            raise UsageError(f"{place}: something else stands there already; move it away, then link again")
    lines = [f"{place} is linked already" for place in places if place in linked]
    for place, source in places.items():
        if place in linked:
            continue
        try:
            place.symlink_to(source, target_is_directory=True)
        except OSError as error:
            raise UsageError(f"{place}: could not be linked ({error.strerror}); check the folder's rights") from error
        lines.append(f"{place} -> {source}")
    lines.append(
        f"now: cd {target.parent} && python run_downstream.py -m train -d {heads()[0]} -u fbank_no_cmvn -n demo"
    )
    if not _is_installed():
        lines.append("the heads import s3prl_emotion: install it where that script runs (pip install -e .)")
    return lines


def unlink(folder: Path) -> list[str]:
    """Remove the links of :func:`link`; anything else stays.

    Raises:
        UsageError: not an s3prl
    """
    target = _downstream(folder)
    places = [target / name for name in heads() if (target / name).is_symlink()]
    for place in places:
        place.unlink()
    return [f"removed {place}" for place in places] or [f"no links in {target}"]


def _downstream(folder: Path) -> Path:
    for place in (folder / "s3prl" / "downstream", folder / "downstream"):
        if (place / "runner.py").is_file():
            return place
    raise UsageError(f"{folder}: not an s3prl checkout or package: it has no downstream/runner.py")


def _is_installed() -> bool:
    try:
        metadata.distribution("s3prl-emotion")
    except metadata.PackageNotFoundError:
        return False
    return True
