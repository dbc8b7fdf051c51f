"""``s3prl-emotion prepare``: write a label table from a corpus as it is published."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.prepare.preparer import Prepared, Preparer
from s3prl_emotion.corpora.prepare.write import check_out, write
from s3prl_emotion.corpora.preparers import all_preparers, corpus_names, preparer
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.outputs import removing_unused
from s3prl_emotion.files.terminal import say


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments, and the flags of all corpora."""
    add = parser.add_argument
    add("corpus", nargs="?", metavar="CORPUS", help=", ".join(corpus_names()))
    add("root", nargs="?", type=Path, metavar="ROOT", help="folder with the corpus as it is published")
    add("out", nargs="?", type=Path, metavar="OUT", help="folder to write labels.csv to")
    add("--list", action="store_true", help="list the corpora and exit")
    for name, owners in _flags().items():
        argument = dict(owners[0][1])
        corpora = ", ".join(corpus for corpus, _ in owners)
        add(f"--{name}", default=None, **argument | {"help": f"{corpora}: {argument['help']}"})
    add("--smoothing", type=float, default=0.0, metavar="S", help="smooth the shares; EMO-SUPERB: 0.05 (default: 0)")
    add("--circumplex", action="store_true", help="corpora with classes only: points on Russell's circle as VAD (1-7)")
    add("--skip_missing", action="store_true", help="drop utterances without readable audio")
    add("--overwrite", action="store_true", help="replace an earlier table in OUT")


def _flags() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the flags of all corpora: for each, the names of the corpora that have it, and its declarations."""
    flags: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for item in all_preparers():
        for option in fields(item.options):
            flags.setdefault(option.name, []).append((item.name, option.metadata["argument"]))
    return flags


def run(args: Namespace) -> int:
    """Prepare a corpus, and print a summary of what was written.

    Raises:
        UsageError: an invalid option or folder
        LabelError: ROOT does not look like the corpus, or its labels are malformed
        AudioError: audio is missing or unreadable
    """
    if args.list:
        for item in all_preparers():
            sys.stdout.write(f"{item.name:<15} {item.title}: {item.about}. Licence: {item.licence}.\n")
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
    check_out(out, args.overwrite)
    with removing_unused(out):
        return _prepare(args, chosen, options, root, out)


def _prepare(args: Namespace, chosen: Preparer, options: Any, root: Path, out: Path) -> int:
    prepared = chosen.read(root, options)
    _check_fit(args, chosen, prepared)
    about = {"corpus": chosen.name, "licence": chosen.licence, "root": prepared.root, "options": asdict(options)}
    about |= {"smoothing": args.smoothing, "circumplex": args.circumplex}
    written = write(prepared, out, about, args.smoothing, args.circumplex, args.skip_missing)
    classes = ", ".join(f"{name} {count}" for name, count in Counter(c.emotion for c in written.clips).most_common())
    speakers = len({clip.speaker for clip in written.clips} - {None})
    say(
        f"{written.labels}: {len(written.clips)} utterances, {speakers or 'unknown'} speakers; {classes}",
        f"{_verdict(prepared, written.differences)}; audio root: {prepared.root}; licence: {chosen.licence}",
    )
    return 0


def _verdict(prepared: Prepared, differences: Sequence[str]) -> str:
    expected = prepared.expected
    if differences:
        return "counts differ from the published corpus (see above)"
    known = expected.utterances or expected.classes or expected.speakers or expected.folds or expected.splits
    return "counts are those of the published corpus" if known else "counts are not checked"


def _options(args: Namespace, chosen: Preparer) -> Any:
    """Return the corpus's options as given on the command line; raise if it does not have one of them."""
    own = {option.name: option for option in fields(chosen.options)}
    given = {name: getattr(args, name) for name in _flags() if getattr(args, name) is not None}
    for name, value in given.items():
        if name not in own:
            raise UsageError(f"--{name}: {chosen.title} does not take it; see s3prl-emotion prepare --help")
        convert = own[name].metadata["convert"]
        if convert is not None:
            try:
                given[name] = convert(value)
            except ValueError as error:
                raise UsageError(f"--{name} {value!r}: {error}") from error
    return chosen.options(**given)


def _check_fit(args: Namespace, chosen: Preparer, prepared: Prepared) -> None:
    if args.smoothing and not any(clip.shares for clip in prepared.clips):
        raise UsageError(f"--smoothing: there are no shares of graders in this table of {chosen.title}; leave it out")
    if args.circumplex and any(clip.means for clip in prepared.clips):
        raise UsageError(f"--circumplex: {chosen.title} has levels of its own; leave it out")
