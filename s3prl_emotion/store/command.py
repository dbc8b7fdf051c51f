"""``s3prl-emotion store``: list, verify and clean a feature store."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from s3prl_emotion.errors import UsageError, visible
from s3prl_emotion.files.terminal import say
from s3prl_emotion.store import upkeep
from s3prl_emotion.store.means import MEANS


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("ls", "list its collections"),
        ("size", "print the bytes on disk"),
        ("verify", "read and check every record; exit code 1 if one is damaged"),
        ("gc", "remove damaged, duplicate and abandoned records, or a whole collection"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("folder", type=Path, metavar="DIR", help="the feature store")
        if name == "gc":
            action.add_argument("--drop", metavar="COLLECTION", help="remove this collection (a name from ls)")


def run(args: Namespace) -> int:
    """Run one of the actions."""
    actions = {"ls": _list, "size": _size, "verify": _verify, "gc": _clean}
    if args.action not in actions:
        raise UsageError(f"store {args.action}: one of {', '.join(actions)}")
    return actions[args.action](args)


def _list(args: Namespace) -> int:
    columns = ("collection", "checkpoint", "layers x dim", "type", "of", "utterances", "GB", "begun", "means")
    table = Table(*columns, box=None)
    for item in upkeep.collections(args.folder):
        identity = item.about["identity"]
        layer = identity.get("layer")
        what = f"{identity.get('selection')}{'' if layer is None else f' layer {layer}'}"
        what += ", batched" if identity.get("batched") else ""
        size, dtype = f"{_total(item) / 1e9:.3f}", str(identity.get("dtype"))
        ckpt = str(item.about["by"].get("ckpt") or "")
        means = ", ".join(f"{number}{name.removeprefix(MEANS)}" for name, number in item.means.items())
        words = (item.folder.name, ckpt, item.shape, dtype, what, str(item.utterances), size, item.about["made"], means)
        table.add_row(*(escape(visible(word)) for word in words))
    Console(width=10_000, soft_wrap=True).print(table)  # columns as wide as their texts: a long path cuts none
    return 0


def _size(args: Namespace) -> int:
    collections = upkeep.collections(args.folder)
    for item in collections:
        say(f"{item.bytes:>15}  {item.folder.name}")
        for name, size in item.means_bytes.items():
            say(f"{size:>15}  {item.folder.name}/{name}")
    say(f"{sum(map(_total, collections)):>15}  {args.folder}")
    return 0


def _total(item: upkeep.Collection) -> int:
    """Return the bytes of a collection, means included."""
    return item.bytes + sum(item.means_bytes.values())


def _verify(args: Namespace) -> int:
    bad = 0
    for verdict in upkeep.verify(args.folder):
        means = f"; {verdict.means} means good" if verdict.means else ""
        say(f"{verdict.folder.name}: {verdict.good} good, {verdict.bad} damaged{means}")
        if verdict.about:
            say(f"  damaged: {verdict.about}")
        for stem in verdict.segments:
            say(f"  damaged: {stem}")
        bad += verdict.bad
    if bad:
        say("damaged records are never used: they are computed again; store gc removes them")
    return 1 if bad else 0


def _clean(args: Namespace) -> int:
    if args.drop:
        say(f"{args.drop}: removed, {upkeep.drop(args.folder, args.drop) / 1e9:.3f} GB freed")
        return 0
    gone, freed = upkeep.clean(args.folder)
    say(f"{gone} damaged or duplicate records removed, {freed / 1e9:.3f} GB freed")
    return 0
