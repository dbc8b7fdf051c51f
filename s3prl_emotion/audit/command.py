"""``s3prl-emotion audit``: whether a corpus and its splits are clean."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.errors import AudioError, UsageError

DEMO = "demo"  # the built-in corpus, as in datarc.labels


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    add = parser.add_argument
    add("labels", metavar="LABELS", help="a label table, SUPERB's meta_data, EmoBox's or EMO-SUPERB's lists; or demo")
    add("--root", type=Path, metavar="DIR", help="folder with the audio")
    add("--no_audio", action="store_true", help="check labels and splits alone")
    add("--format", default="auto", metavar="FORMAT", help="auto (default), table, superb, emobox or emo-superb")
    add("--speaker_pattern", metavar="REGEX", help="the speaker's part of a file's path, in brackets: '/(\\d\\d)[ab]'")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="threads that read audio (default: cores)")
    add("--json", type=Path, metavar="FILE", help="write findings, counts and facts there, for machines")
    add("--strict", action="store_true", help="warnings too make it unclean")


def run(args: Namespace) -> int:
    """Check, print the report, and say by the exit code whether all is clean.

    Returns:
        0, or 1 where there are errors, or warnings with ``--strict``

    Raises:
        UsageError: options that do not fit together
        LabelError: labels that are missing or in none of the formats
        AudioError: no such audio folder
    """
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: must be 1 or more")
    source, root = _places(args)
    from s3prl_emotion.audit import audit, read_listing
    from s3prl_emotion.audit.report import as_json, print_report

    found = audit(read_listing(source, args.format, args.speaker_pattern), root, args.jobs)
    if args.json is not None:
        from s3prl_emotion.files.writing import write_json

        write_json(args.json.expanduser(), as_json(found, args.strict), UsageError, ensure_ascii=False)
    print_report(found, args.strict)
    sys.stdout.flush()
    return 0 if found.is_clean(args.strict) else 1


def _places(args: Namespace) -> tuple[Path, Path | None]:
    """Labels and audio folder, ``None`` where audio is not to be read."""
    if args.no_audio and args.root is not None:
        raise UsageError("--root and --no_audio: choose one")
    if args.labels == DEMO:
        from s3prl_emotion.corpora.demo import demo_corpus

        root, source = demo_corpus()
        return source, None if args.no_audio else root
    source = Path(args.labels).expanduser()
    if args.no_audio:
        return source, None
    if args.root is None:
        raise UsageError("--root: name the folder with the audio, or say --no_audio")
    root = args.root.expanduser()
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; --root must be the folder with the audio")
    return source, root
