"""``s3prl-emotion link`` and ``unlink``: link the heads into s3prl, for its own unchanged ``run_downstream.py``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import metadata
from pathlib import Path

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import heads, heads_folder
from s3prl_emotion.files.terminal import say


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of both commands."""
    parser.add_argument("folder", type=Path, metavar="S3PRL_DIR", help="an s3prl checkout, or its package's folder")


def run(args: Namespace) -> int:
    """Link or unlink, as the command's name says, and print what was done."""
    done = unlink(args.folder) if args.command == "unlink" else link(args.folder)
    say(*done)
    return 0


def link(folder: Path) -> list[str]:
    """Link every head into ``folder``'s ``downstream/``; keep links that exist.

    Args:
        folder: an s3prl checkout, or the package's folder of a checkout or an installation

    Returns:
        what was done, line by line

    Raises:
        UsageError: not an s3prl, or something else has the name of a link
    """
    target = _downstream(folder)
    sources = {target / name: heads_folder() / name for name in heads()}
    existing = {path for path, source in sources.items() if path.is_symlink() and path.resolve() == source.resolve()}
    for path in sources:  # before the first link, so that all are made or none
        if path not in existing and (path.exists() or path.is_symlink()):
            raise UsageError(f"{path}: something else has this name already; move it away, then link again")
    lines = [f"{path} is linked already" for path in sources if path in existing]
    for path, source in sources.items():
        if path in existing:
            continue
        try:
            path.symlink_to(source, target_is_directory=True)
        except OSError as error:
            raise UsageError(f"{path}: could not be linked ({error.strerror}); check the folder's rights") from error
        lines.append(f"{path} -> {source}")
    lines.append(
        f"now: cd {target.parent} && python run_downstream.py -m train -d {heads()[0]} -u fbank_no_cmvn -n demo"
    )
    if not _is_installed():
        lines.append("the heads import s3prl_emotion: install it where that script runs (pip install -e .)")
    return lines


def unlink(folder: Path) -> list[str]:
    """Remove the links of :func:`link` and nothing else.

    Raises:
        UsageError: not an s3prl
    """
    target = _downstream(folder)
    links = [target / name for name in heads() if (target / name).is_symlink()]
    for path in links:
        path.unlink()
    return [f"removed {path}" for path in links] or [f"no links in {target}"]


def _downstream(folder: Path) -> Path:
    for candidate in (folder / "s3prl" / "downstream", folder / "downstream"):
        if (candidate / "runner.py").is_file():
            return candidate
    raise UsageError(f"{folder}: not an s3prl checkout or package: it has no downstream/runner.py")


def _is_installed() -> bool:
    try:
        metadata.distribution("s3prl-emotion")
    except metadata.PackageNotFoundError:
        return False
    return True
