"""``s3prl-emotion predict``: emotions of audio files, by a trained head."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_emotion.errors import INTERRUPTED, PROGRAM, AudioError, UsageError
from s3prl_emotion.predict.flags import add_trained_model


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    add_trained_model(parser)
    add = parser.add_argument
    add("paths", nargs="+", metavar="FILES", help="audio files, folders with all audio in them, - for a list on stdin")
    add("--out", type=Path, metavar="FILE", help=".csv, .json or .jsonl; by default CSV on the standard output")
    add("--format", metavar="FORMAT", help="csv, json or jsonl, where the suffix of --out does not say")
    add("--nbest", type=int, metavar="N", help="also the N most probable classes, by rank")
    add("--attention", type=Path, metavar="DIR", help="keep the weights of the frames there, a .npz for each file")
    add("--batch_size", type=int, metavar="N", help="utterances or windows that the head sees at once (default: 8)")
    add("--jobs", type=int, default=1, metavar="N", help="processes, each with a model of its own")


def run(args: Namespace) -> int:
    """Judge, write, and report what could not be judged.

    Raises:
        UsageError: an option is not right, no audio is named, or the upstream cannot be built
        CheckpointError: the checkpoint is not right
        AudioError: files could not be judged; the others are written
    """
    try:
        return _predict(args)
    except KeyboardInterrupt:
        lost = f"; {args.out} is not written" if args.out is not None else ""
        sys.stderr.write(f"{PROGRAM}: error: interrupted{lost}\n")
        return INTERRUPTED


def _predict(args: Namespace) -> int:
    from s3prl_emotion.predict.inputs import collect

    files = collect(args.paths, sys.stdin)
    _check(args)
    from s3prl_emotion.predict.files import Options, check_attention
    from s3prl_emotion.predict.jobs import Loading, judging
    from s3prl_emotion.predict.output import Layout, read_format, shown, written
    from s3prl_emotion.predict.predictor import BATCH_SIZE
    from s3prl_emotion.predict.windows import Windows

    kind, windows = read_format(args.format, args.out), Windows.read(args.window, args.hop)
    if args.attention is not None:
        check_attention(args.attention, files)
    options = Options(windows, args.attention, args.batch_size or BATCH_SIZE)
    loading = Loading(args.ckpt, args.device, args.upstream_ckpt, args.upstream_model_config, args.upstream_path)
    from tqdm import tqdm

    failed = 0
    with judging(loading, args.jobs) as judge:
        layout = Layout(judge.about, args.nbest, windows is not None, args.attention is not None)
        progress = tqdm(total=len(files), unit="file", desc="predict", dynamic_ncols=True, disable=None)
        with written(args.out, kind, layout) as writer, progress as bar:
            for result in judge.judge(files, options):
                writer.write(result)
                bar.update()
                if result.error is not None:
                    failed += 1
                    tqdm.write(f"{shown(result.name)}: {result.error}", file=sys.stderr)
    if failed:
        raise AudioError(f"{failed} of {len(files)} files could not be judged, as told above; the others are written")
    return 0


def _check(args: Namespace) -> None:
    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch_size {args.batch_size}: must be 1 or more")
    if args.out is not None and (args.out.is_dir() or not args.out.resolve().parent.is_dir()):
        raise UsageError(f"--out {args.out}: {'is a folder' if args.out.is_dir() else 'its folder is not there'}")
