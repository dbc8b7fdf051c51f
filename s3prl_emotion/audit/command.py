"""``s3prl-emotion audit``: check whether a corpus and its splits are clean."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.audio import channel
from s3prl_emotion.audit.listing import FORMATS
from s3prl_emotion.audit.read_formats import read_listing
from s3prl_emotion.audit.report import as_json, print_report
from s3prl_emotion.audit.run import audit
from s3prl_emotion.corpora.demo import demo_corpus
from s3prl_emotion.corpora.formats.recognise import own_root
from s3prl_emotion.corpora.formats.renaming import add_columns_argument
from s3prl_emotion.corpora.locate import DEMO, located
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.files.outputs import check_file
from s3prl_emotion.files.words import check_not_read
from s3prl_emotion.files.writing import write_json
from s3prl_emotion.processes.processors import check_workers, processors

THREADS_EACH = 32  # for each processor: threads mostly wait for the disk


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("labels", metavar="LABELS", help="a label table, or labels in another known format; or demo")
    add("--root", type=Path, metavar="DIR", help="folder with the audio")
    add("--allow_outside", action="store_true", help="read also files that lie outside of --root")
    add("--channel", type=channel, default="mean", metavar="C", help="channel to check: mean, left, right or a number")
    add("--no_audio", action="store_true", help="check only labels and splits")
    add("--format", default="auto", metavar="FORMAT", help=f"auto (default) or {', '.join(FORMATS)}")
    add_columns_argument(parser)
    add(
        "--speaker_pattern",
        metavar="REGEX",
        help="regular expression for file paths, with the speaker in brackets: '/(\\d\\d)[ab]'",
    )
    add("--jobs", type=int, default=processors(), metavar="N", help="threads that read audio (default: cores)")
    add("--json", type=Path, metavar="FILE", help="write findings, counts and facts to this file, as JSON")
    add("--strict", action="store_true", help="count warnings as errors")


def run(args: Namespace) -> int:
    """Check a corpus and print the report.

    Returns:
        0 if the corpus is clean; 1 if there are errors, or warnings with ``--strict``

    Raises:
        UsageError: options that do not fit together
        LabelError: labels that are missing or in none of the formats
        AudioError: no such audio folder
    """
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: must be 1 or more")
    out = args.json.expanduser() if args.json is not None else None
    if out is not None:
        check_file(out, "--json ")
    check_workers(args.jobs, "--jobs", each=THREADS_EACH)
    source, root = _locate(args)
    check_not_read(args.json, [source], "--json")
    listing = read_listing(source, args.format, args.speaker_pattern, args.columns)
    result = audit(listing, root, args.jobs, args.allow_outside, args.channel)
    if out is not None:
        write_json(out, as_json(result, args.strict), UsageError, ensure_ascii=False)
    print_report(result, args.strict)
    sys.stdout.flush()
    return 0 if result.is_clean(args.strict) else 1


def _locate(args: Namespace) -> tuple[Path, Path | None]:
    """Return the labels and the audio folder; ``None`` if audio is not to be read."""
    if args.no_audio and args.root is not None:
        raise UsageError("--root and --no_audio: choose one")
    if args.labels == DEMO:
        audio, table = demo_corpus()
        return table, None if args.no_audio else audio
    source = located(args.labels)
    if args.no_audio:
        return source, None
    root = own_root(source) if args.root is None else args.root.expanduser()
    if root is None:
        raise UsageError("--root: name the folder with the audio, or say --no_audio")
    if not root.is_dir():
        raise AudioError(f"{root}: no such folder; --root must be the folder with the audio")
    return source, root
