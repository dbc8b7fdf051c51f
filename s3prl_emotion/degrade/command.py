"""``s3prl-emotion degrade``: write noisy and reverberant copies of an evaluation set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.audio import MEAN, channel
from s3prl_emotion.corpora.degradation_levels import DEFAULT_LEVELS, DegradationSpec, parse_range
from s3prl_emotion.corpora.formats.renaming import add_columns_argument
from s3prl_emotion.corpora.label_text import read_labels
from s3prl_emotion.degrade.copies import write_copies
from s3prl_emotion.degrade.output import EXACT, SUBTYPES
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.words import check_seed
from s3prl_emotion.processes.processors import check_workers


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    levels = " ".join(f"{low:g}:{high:g}" for low, high in DEFAULT_LEVELS)
    parser.add_argument("--labels", required=True, help="label table, labels in another known format, or demo")
    add_columns_argument(parser)
    parser.add_argument("--root", help="audio folder")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the audio and the label tables"
    )
    parser.add_argument("--split", metavar="NAME", help="partition (Split_Set) to degrade (default: the first Test)")
    parser.add_argument(
        "--noise", default="babble", metavar="KIND", help="babble, pink, brown, white, or a folder of recordings"
    )
    parser.add_argument(
        "--reverb", default="none", metavar="KIND", help="none, simulated, or a folder of impulse responses"
    )
    parser.add_argument(
        "--snr",
        nargs="+",
        action="extend",
        metavar="LOW:HIGH",
        help=f"SNR ranges (dB), or one SNR for every utterance, such as 15; one per level (default: {levels})",
    )
    parser.add_argument(
        "--channel",
        type=channel,
        default=MEAN,
        metavar="C",
        help="mean, left, right or a number from 1 (mean)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of noise, rooms and SNRs (default: 0)")
    parser.add_argument(
        "--subtype", default=EXACT, help=f"sample format of the WAV files: {', '.join(SUBTYPES)}; {EXACT} is exact"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="number of processes")


def run(args: Namespace) -> int:
    """Write the copies, and print a summary for each level."""
    check_workers(args.num_workers, "--num_workers")
    check_seed(args.seed, "--seed")
    if args.subtype not in SUBTYPES:
        raise UsageError(f"--subtype {args.subtype}: not one of {', '.join(SUBTYPES)}{nearest(args.subtype, SUBTYPES)}")
    levels = tuple(parse_range(text) for text in args.snr) if args.snr else DEFAULT_LEVELS
    names = ("labels", "root", "split", "noise", "reverb", "snr", "seed", "subtype", "channel")
    arguments = {name: getattr(args, name) for name in names}
    specs = [DegradationSpec(args.noise, snr, args.reverb, args.seed) for snr in levels]
    arguments |= {"columns": args.columns} if args.columns else {}
    labels = read_labels(args.labels, args.root, args.columns)
    out = args.out.expanduser()
    options = (args.subtype, args.num_workers, arguments, args.channel)
    for written in write_copies(labels, args.split, specs, out, *options):
        ratios = [record["snr"] for record in written.records]
        scaled = sum(record["gain"] < 1 for record in written.records)
        say(
            f"{written.table}: {len(ratios)} utterances, SNR {min(ratios):.1f} to {max(ratios):.1f} dB (mean "
            f"{sum(ratios) / len(ratios):.1f} dB), {scaled} scaled down to stay within full scale"
        )
    return 0
