"""``s3prl-emotion``: parse the command line and run one of the suite's commands."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from s3prl_emotion.errors import PROGRAM, EmotionError, UsageError, is_out_of_memory, nearest, one_line, visible
from s3prl_emotion.files.locks import keep_from_children
from s3prl_emotion.files.progress import hide_hub_bars
from s3prl_emotion.files.terminal import make_log_visible
from s3prl_emotion.files.words import check_words
from s3prl_emotion.limits import shown
from s3prl_emotion.processes.ending import code_of, reason_of, tidy
from s3prl_emotion.processes.parent import end_with_torchrun

UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE)


class Command(NamedTuple):
    """A command: the module with its ``add_arguments`` and ``run``, below ``s3prl_emotion``, and its help."""

    module: str
    help: str


COMMANDS = {
    "doctor": Command("host.doctor", "print versions, patches of s3prl, devices, and the folders of heads and recipes"),
    "link": Command("host.link", "link the heads into an s3prl checkout or installation, for its run_downstream.py"),
    "unlink": Command("host.link", "remove the links that link made"),
    "check-upstream": Command(
        "upstreams.check.command", "check an upstream's interface, determinism and independence of padding"
    ),
    "prepare": Command("corpora.prepare.command", "write the label table of a published corpus: IEMOCAP, …"),
    "audit": Command("audit.command", "check a corpus: shared speakers, duplicates, unusable audio, misleading labels"),
    "pretrain-rae": Command("rae.command", "train the rae upstream, a recurrent autoencoder, on unlabelled audio"),
    "extract": Command("extract.command", "fill a feature store with a frozen upstream's features of a corpus"),
    "store": Command("store.command", "list, verify and clean a feature store"),
    "export": Command("export.command", "write features of a corpus as npz, by frame or pooled, for use elsewhere"),
    "predict": Command("predict.command", "predict emotions of audio files with a trained head, as CSV or JSON"),
    "pack": Command("pack.command", "write a trained head as a folder that others can load, or upload it to the hub"),
    "serve": Command("serve.command", "serve a web page that predicts emotions of uploaded or recorded audio"),
    "saliency": Command(
        "saliency.command", "rank an upstream's dimensions and layers by how much they say about emotion"
    ),
    "degrade": Command("degrade.command", "write noisy and reverberant copies of a corpus's test utterances"),
    "transcribe": Command("transcribe.command", "transcribe a corpus with a speech recogniser"),
    "tsne": Command("figures.command", "plot utterance embeddings of a head or an upstream in two dimensions"),
    "benchmark": Command("benchmark.command", "run a matrix of systems, upstreams, folds and seeds"),
    "report": Command("report.command", "make tables, figures and a page from a benchmark's results or experiments"),
    "superb": Command(
        "superb.command", "score an upstream on SUPERB's emotion task: features, learning rate, five folds, submission"
    ),
    "submit": Command("submit.command", "write checked submission files: SUPERB, EMO-SUPERB, MSP-Podcast's challenges"),
}

NEEDS_LESS = {  # what to do where memory does not suffice
    "predict": "split long audio with --window, or lower --batch_size or --jobs",
    "serve": "split long audio with --window, or lower --max_seconds",
    "extract": "lower --batch_seconds or --num_workers, or give --max_duration with --cut_eval",
    "superb": "select one layer with -l, or use a machine with more; the same command goes on",
    "export": "select one layer with -l, or pool with --pooling mean",
    "saliency": "set datarc.max_duration (-o), or select one layer with -l",
    "transcribe": "lower --chunk or --batch_size",
    "pretrain-rae": "lower --batch_size, --max_seconds or --num_workers",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all the suite's errors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line without the program's name, by default of ``sys.argv``

    Returns:
        exit code: 0, 1 after an error of the input or the environment, 130 after Ctrl-C, 143 after SIGTERM, 129 after
        SIGHUP
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_log_visible()
    hide_hub_bars()
    keep_from_children()
    end_with_torchrun()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run_tidily(arguments)
    except KeyboardInterrupt as error:  # a signal that came just ahead of the tidy block, or after it
        return _end(error)


def _run_tidily(arguments: list[str]) -> int:
    """Run the command and report what ended it; return the exit code."""
    with tidy() as ending:
        try:
            check_words(arguments)
            return _run(arguments)
        except KeyboardInterrupt as error:
            return _end(error)
        except Exception as error:
            if ending.is_asked:  # an error of its end, such as that of a child that got the signal too
                return _end(error)
            lacking = is_out_of_memory(error)
            if not isinstance(error, (EmotionError, OSError)) and not lacking:
                raise
            if "--verbose" in arguments:
                logging.exception("the error came from here:")
            message = one_line(error) if isinstance(error, EmotionError) else _of_system(error)
            if lacking:
                name = next((word for word in arguments if word in NEEDS_LESS), "")
                message = f"out of memory; {NEEDS_LESS.get(name, 'end other programs, or use a machine with more')}"
            sys.stderr.write(f"{PROGRAM}: error: {visible(' '.join(message.split()))}\n")
            return 1


def _is_printed() -> bool:
    """Write what was printed so far; where that fails, drop it: the interpreter would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _end(error: BaseException) -> int:
    """Report what ended the command, and return the exit code."""
    advice = getattr(error, "advice", None) or "finished work is kept; the same command goes on"
    sys.stderr.write(f"{PROGRAM}: error: {reason_of(error)}; {advice}\n")
    return code_of(error)


def _of_system(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if error.filename is None and error.errno in UNWRITTEN:  # files that the suite writes have names
        where = "standard output or a temporary file" if _is_printed() else "standard output"
        return f"{where}: could not be written ({error.strerror or error}); free disk space, or read to its end"
    if error.filename is None:
        return str(error)
    return f"{shown(error.filename)}: {error.strerror}; check the path, its permissions and the free space on the disk"


def command() -> NoReturn:
    """Entry point of the installed ``s3prl-emotion``."""
    code = main()
    if "torch.distributed" in sys.modules:
        from s3prl_emotion.distributed import leave

        leave(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    parser = _Parser(prog=PROGRAM, description="Run a command of s3prl-emotion; training is run_downstream.py's.")
    parser.add_argument("--verbose", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        raise UsageError(f"no command {name!r}{nearest(name, COMMANDS)}")
    for known, entry in COMMANDS.items():
        sub = commands.add_parser(known, help=entry.help, description=entry.help)
        if known == name:  # importing the others' modules would take seconds
            module = importlib.import_module(f"s3prl_emotion.{entry.module}")
            module.add_arguments(sub)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 1
    code = module.run(args)
    sys.stdout.flush()  # a full disk is an error of the command
    return code
