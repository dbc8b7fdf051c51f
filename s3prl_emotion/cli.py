"""``s3prl-emotion``: the suite's own commands beside ``run_downstream.py``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from s3prl_emotion.errors import INTERRUPTED, PROGRAM, EmotionError, UsageError, nearest, one_line

COMMANDS = {
    "doctor": "versions, what was mended in s3prl, devices, where heads and recipes are",
    "link": "link the heads into an s3prl checkout or installation, for s3prl's own run_downstream.py",
    "unlink": "undo link",
    "check-upstream": "whether an upstream keeps s3prl's interface, repeats itself and does not mind padding",
    "prepare": "a label table from a corpus as it is published: IEMOCAP, MSP-Podcast, …",
    "audit": "whether a corpus is clean: shared speakers, doubles, unusable audio, labels that mislead",
    "pretrain-rae": "train the rae upstream, a recurrent autoencoder, on unlabelled audio",
    "extract": "fill a feature store: what a frozen upstream gives for every utterance of a corpus",
    "store": "look into a feature store, check it, clean it",
    "export": "features of a corpus as npz, by frame or pooled, for use elsewhere",
    "predict": "emotions of audio files by a trained head, as CSV or JSON",
    "serve": "a web page that judges audio by a trained head: upload or microphone",
    "saliency": "which dimensions and layers of an upstream tell of emotion, for recipes to name",
    "degrade": "noisy and reverberant copies of a corpus's test utterances",
    "transcribe": "transcripts of a corpus by a speech recogniser",
    "tsne": "utterance embeddings of a head or an upstream in a plane",
    "benchmark": "run a matrix of systems, upstreams, folds and seeds",
    "report": "tables, figures and a page from a benchmark's results or from experiments",
    "submit": "predictions as SUPERB's or EMO-SUPERB's leaderboard wants them, checked against their lists",
}

MODULES = {  # the commands that are not s3prl_emotion/<command>/command.py
    "doctor": "host.doctor",
    "link": "host.link",
    "unlink": "host.unlink",
    "check-upstream": "upstreams.check.command",
    "prepare": "corpora.preparers.command",
    "pretrain-rae": "rae.command",
    "tsne": "figures.command",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others and name the nearest command."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line without the program's name; ``sys.argv``'s by default

    Returns:
        exit code: 0, 1 after an error of the input or the environment, 130 after Ctrl-C
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: error: interrupted; what is finished is kept\n")
        return INTERRUPTED
    except (EmotionError, OSError) as error:
        if "--verbose" in arguments:
            logging.exception("the error came from here:")
        message = one_line(error) if isinstance(error, EmotionError) else str(error)
        sys.stderr.write(f"{PROGRAM}: error: {' '.join(message.split())}\n")
        return 1


def command() -> NoReturn:
    """Entry point of the installed ``s3prl-emotion``."""
    code = main()
    if "torch.distributed" in sys.modules:
        from s3prl_emotion.distributed import leave

        leave(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    parser = _Parser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        raise UsageError(f"no command {name!r}{nearest(name, COMMANDS)}")
    for known, text in COMMANDS.items():
        sub = commands.add_parser(known, help=text, description=text)
        if known == name:  # the others' imports take time
            module = importlib.import_module(f"s3prl_emotion.{MODULES.get(known, f'{known}.command')}")
            module.add_arguments(sub)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 1
    return module.run(args)
