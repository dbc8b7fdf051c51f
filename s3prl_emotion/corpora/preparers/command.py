"""``s3prl-emotion prepare``: a label table from a corpus as it is published."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import fields
from pathlib import Path

from s3prl_emotion.corpora.preparers import NAMES, preparer
from s3prl_emotion.corpora.preparers.base import Options, Prepared, Preparer
from s3prl_emotion.errors import UsageError

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    add = parser.add_argument
    add("corpus", nargs="?", metavar="CORPUS", help=", ".join(NAMES))
    add("root", nargs="?", type=Path, metavar="ROOT", help="folder with the corpus as it is published")
    add("out", nargs="?", type=Path, metavar="OUT", help="folder to write labels.csv to")
    add("--list", action="store_true", help="show the corpora, and end")
    add("--classes", choices=("all", "superb", "emo-superb"), help="IEMOCAP: all, or SUPERB's 4, or EMO-SUPERB's 9")
    add("--label", choices=("votes", "acted"), help="CREMA-D: class by the graders' votes (default), or as acted")
    add("--modality", choices=("voice", "face", "both"), help="CREMA-D: votes on what (default: the voice alone)")
    add("--songs", action="store_true", default=None, help="RAVDESS: the sung utterances too")
    add("--flip_activation", action="store_true", default=None, help="MSP-IMPROV: turn activation, so that 5 is active")
    add("--cut", type=Path, metavar="DIR", help="CMU-MOSEI: cut the utterances out of whole videos' audio, into DIR")
    add("--pattern", metavar="REGEX", help="generic: of file stems, with groups emotion, speaker, gender, fold, …")
    add("--csv", type=Path, metavar="FILE", help="generic: a table of files and classes")
    add("--columns", metavar="OURS=THEIRS,…", help="generic: columns of --csv, as FileName=path")
    add("--names", metavar="THEIRS=OURS,…", help="generic: names of classes, as A=angry,S=sad")
    add("--smoothing", type=float, default=0.0, metavar="S", help="of the shares; 0.05 is EMO-SUPERB's (default: 0)")
    add("--circumplex", action="store_true", help="corpora with classes alone: places on Russell's circle as VAD (1-7)")
    add("--skip_missing", action="store_true", help="leave utterances without readable audio out")
    add("--overwrite", action="store_true", help="replace an earlier table in OUT")


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or not all(item.strip() for item in pair) for pair in pairs):
        raise UsageError(f"--{option} {text!r}: must be pairs as A=angry,S=sad")
    return {left.strip(): right.strip() for left, right in pairs}


def run(args: Namespace) -> int:
    """Prepare a corpus, and say what was written.

    Raises:
        UsageError: an option or folder is not right
        LabelError: ROOT does not look like the corpus, or its labels are malformed
        AudioError: audio is missing or unreadable
    """
    if args.list:
        _show()
        return 0
    if args.corpus is None or args.root is None or args.out is None:
        raise UsageError("name CORPUS, ROOT and OUT; s3prl-emotion prepare --list shows the corpora")
    chosen = preparer(args.corpus)
    options = _options(args, chosen)
    root, out = args.root.expanduser(), args.out.expanduser()
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; ROOT is the folder with {chosen.title}")
    if not 0 <= args.smoothing < 1:
        raise UsageError(f"--smoothing {args.smoothing}: must lie in 0..1")
    if args.circumplex and chosen.dimensional:
        raise UsageError(f"--circumplex: {chosen.title} has grades of activation, valence and dominance; leave it out")
    from s3prl_emotion.corpora.preparers.writing import check_out, write

    check_out(out, args.overwrite)
    prepared = chosen.read(root, options)
    _check_fit(args, chosen, prepared)
    about = {"corpus": chosen.name, "licence": chosen.licence, "root": prepared.root, "options": vars(options)}
    about |= {"smoothing": args.smoothing, "circumplex": args.circumplex}
    written = write(prepared, out, about, args.smoothing, args.circumplex, args.skip_missing)
    classes = ", ".join(f"{name} {count}" for name, count in Counter(c.emotion for c in written.clips).most_common())
    speakers = len({clip.speaker for clip in written.clips} - {None})
    sys.stdout.write(
        f"{written.labels}: {len(written.clips)} utterances, {speakers or 'unknown'} speakers; {classes}\n"
        f"{_verdict(prepared, written.differences)}; audio root: {prepared.root}; licence: {chosen.licence}\n"
    )
    return 0


def _verdict(prepared: Prepared, differences: object) -> str:
    expected = prepared.expected
    if differences:
        return "counts are not those of the published corpus (above)"
    known = expected.utterances or expected.classes or expected.speakers or expected.folds or expected.splits
    return "counts are those of the published corpus" if known else "counts are not checked"


def _options(args: Namespace, chosen: Preparer) -> Options:
    """The options that were given; one that the corpus does not take is refused."""
    given = {item.name: getattr(args, item.name) for item in fields(Options) if getattr(args, item.name) is not None}
    for name in given:
        if name not in chosen.takes:
            raise UsageError(f"--{name}: {chosen.title} does not take it; see s3prl-emotion prepare --help")
    given |= {name: given[name].expanduser() for name in ("cut", "csv") if name in given}
    given |= {name: _pairs(name, given[name]) for name in ("columns", "names") if name in given}
    return Options(**given)


def _check_fit(args: Namespace, chosen: Preparer, prepared: Prepared) -> None:
    if args.smoothing and not any(clip.shares for clip in prepared.clips):
        raise UsageError(f"--smoothing: there are no shares of graders in this table of {chosen.title}; leave it out")
    if args.circumplex and any(clip.means for clip in prepared.clips):
        raise UsageError(f"--circumplex: {chosen.title} has levels of its own; leave it out")


def _show() -> None:
    for name in NAMES:
        item = preparer(name)
        sys.stdout.write(f"{name:<12} {item.title}: {item.about}. Licence: {item.licence}.\n")
