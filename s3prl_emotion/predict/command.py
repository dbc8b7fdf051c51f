"""``s3prl-emotion predict``: predict emotions of audio files with a trained head."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from s3prl_emotion.audio import MEDIA_SUFFIXES, SUFFIXES, channel
from s3prl_emotion.errors import PROGRAM, AudioError, UsageError, visible
from s3prl_emotion.files.outputs import check_file, check_folder
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.words import check_not_read
from s3prl_emotion.predict.arguments import ModelArguments, add_model_arguments, arguments_of
from s3prl_emotion.processes.ending import code_of, reason_of, tidy
from s3prl_emotion.processes.processors import check_workers

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_arguments(parser)
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="FILES",
        help="audio files, folders with audio, label tables (.csv, .tsv), EmoBox's lists, or - for names on stdin",
    )
    add("--root", type=Path, metavar="DIR", help="audio folder of the label tables (default: each table's own)")
    add("--out", type=Path, metavar="FILE", help=".csv, .json or .jsonl (default: CSV on standard output)")
    add("--format", metavar="FORMAT", help="csv, json or jsonl (default: by the suffix of --out)")
    add("--nbest", type=int, metavar="N", help="also write the N most probable classes, by rank")
    add("--attention", type=Path, metavar="DIR", help="write the attention weights of each file to a .npz in DIR")
    add("--channel", type=channel, metavar="C", help="mean, left, right or a number from 1 (default: as in training)")
    add("--batch_size", type=int, metavar="N", help="utterances or windows per batch of the head (default: 8)")
    add("--jobs", type=int, default=1, metavar="N", help="number of processes, each with its own copy of the model")


def run(args: Namespace) -> int:
    """Predict, write the results, and report the files that failed.

    Raises:
        UsageError: an option is out of range, there is no audio, or the upstream cannot be built
        CheckpointError: the checkpoint is missing, damaged or of another kind
        AudioError: some files failed; the results of the others are written
    """
    with tidy() as ending:
        try:
            return _predict(args)
        except (KeyboardInterrupt, UsageError) as error:
            if isinstance(error, UsageError) and not ending.is_asked:  # else a process of --jobs got the signal too
                raise
            unwritten = f"; {args.out} is not written" if args.out is not None else ""
            sys.stderr.write(f"{PROGRAM}: error: {reason_of(error)}{visible(unwritten)}\n")
            return code_of(error)


def _predict(args: Namespace) -> int:
    from s3prl_emotion.predict.inputs import collect

    models = arguments_of(args)
    files = collect(args.paths, sys.stdin, args.root)
    _check(args, models, [file.path for file in files])
    from s3prl_emotion.predict.files import Options, check_attention, longest_samples
    from s3prl_emotion.predict.jobs import workers
    from s3prl_emotion.predict.output import Layout, read_format, shown, written
    from s3prl_emotion.predict.predictor import BATCH_SIZE
    from s3prl_emotion.predict.windows import Windows
    from s3prl_emotion.upstreams.memory import UNCHECKED

    kind, windows = read_format(args.format, args.out), Windows.read(args.window, args.hop)
    if args.attention is not None:
        check_attention(args.attention, files)
    options = Options(windows, args.attention, args.batch_size or BATCH_SIZE, channel=args.channel)
    most = longest_samples(files) if windows is None else 0
    failed, trained_on = 0, dict[str, list[str]]()
    with workers(models, args.jobs) as worker:
        splits = most > UNCHECKED and most > (longest := worker.longest())
        if splits:
            options = replace(options, longest=longest)
        layout = Layout(
            worker.about,
            args.nbest,
            windows is not None or splits,
            args.attention is not None,
            notes=splits,
            segments=any(file.part is not None for file in files),
        )
        counts = progress(name="predict", unit="files", total=len(files), leave=False)
        with written(args.out, kind, layout) as writer, counts as bar:
            for result in worker.predict(files, options):
                writer.write(result)
                bar.update()
                for ckpt in result.prediction.trained_on_by if result.prediction is not None else ():
                    trained_on.setdefault(ckpt, []).append(shown(result.name))
                if result.error is not None:
                    failed += 1
                    bar.write(f"{shown(result.name)}: {result.error}", file=sys.stderr)
            if args.out is not None and failed == len(files):  # inside, so that the file does not appear
                raise AudioError(f"all {failed} files failed, as reported above; nothing is written to {args.out}")
    _warn_of_training(trained_on, len(files), len(models) > 1)
    if failed:
        raise AudioError(f"{failed} of {len(files)} files failed, as reported above; the others are written")
    return 0


def _warn_of_training(trained_on: Mapping[str, Sequence[str]], files: int, is_ensemble: bool) -> None:
    """Warn of files that were trained on; members of an ensemble that were trained on the same ones share a line.

    Args:
        trained_on: names of the files by checkpoint
        files: number of all files
        is_ensemble: whether the line names the checkpoints
    """
    from s3prl_emotion.corpora.seen import examples_of

    lines: dict[tuple[str, ...], list[str]] = {}
    for ckpt, names in trained_on.items():
        lines.setdefault(tuple(names), []).append(ckpt)
    for names, checkpoints in lines.items():
        logger.warning(
            "%d of %d files are audio that %s trained on (%s); their predictions say nothing about other speech",
            len(names), files, _were(checkpoints) if is_ensemble else "the checkpoint was", examples_of(names),
        )  # fmt: skip


def _were(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'}"


def _check(args: Namespace, models: Sequence[ModelArguments], files: Sequence[str]) -> None:
    if args.jobs > 1:  # the others are refused where the processes are started
        check_workers(args.jobs, "--jobs")
    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch_size {args.batch_size}: must be 1 or more")
    if args.out is not None:
        check_file(args.out)
    if args.attention is not None:
        check_folder(args.attention, "--attention ")
    if args.out is not None and args.out.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES:
        raise UsageError(
            f"--out {args.out}: is named as audio, which a later predict would read; name it .csv or .json"
        )
    read = [name for model in models for name in (model.ckpt, model.upstream_ckpt, model.upstream_model_config)]
    check_not_read(args.out, [*files, *args.paths, *read], "--out")
