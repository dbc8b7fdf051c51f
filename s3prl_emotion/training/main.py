"""The command line of ``run_downstream.py``: s3prl's ``main`` with the suite's parser, checks and runner.

The host's ``main`` runs unchanged, but some names in its module are replaced: the argument parser (checks, clear
errors, defaults), ``override`` (evaluates no code), ``torch.load`` (safe loading) and ``Runner`` (the suite's).
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

from s3prl_emotion import host
from s3prl_emotion.errors import EmotionError, UsageError, is_out_of_memory, nearest, one_line, visible
from s3prl_emotion.files.locks import keep_from_children
from s3prl_emotion.files.progress import hide_hub_bars
from s3prl_emotion.files.terminal import make_log_visible
from s3prl_emotion.files.words import check_words
from s3prl_emotion.processes.collection import collection
from s3prl_emotion.processes.ending import code_of, reason_of, tidy
from s3prl_emotion.processes.parent import end_children_too, end_with_torchrun
from s3prl_emotion.training.own_arguments import add_statistics_argument, add_trust_arguments
from s3prl_emotion.training.quick_help import show_help

logger = logging.getLogger(__name__)
PROGRAM = "run_downstream.py"
MEMORY = (
    "out of memory; lower datarc.train_batch_size and datarc.eval_batch_size, set datarc.max_duration, with cut_eval: "
    "true where long audio is evaluated, or set pre_load: false"
)
DEAD_LOADER = "DataLoader worker (pid"  # torch's error where a loader process of a stock task dies


def main(argv: list[str] | None = None) -> int:
    """Run one experiment.

    Args:
        argv: the command line without the program's name; ``sys.argv``'s by default

    Returns:
        exit code: 0; 1 after an error in the input or the environment; 130 after Ctrl-C, 143 after SIGTERM, 129 after
        SIGHUP
    """
    arguments = sys.argv[1:] if argv is None else argv
    end_with_torchrun()
    verbose = "--verbose" in arguments
    keep_from_children()
    hide_hub_bars()
    end_children_too()
    try:
        return _run_tidily(arguments, verbose)
    except KeyboardInterrupt as error:  # a signal that came just ahead of the tidy block, or after it
        return _end(error, verbose)


def _run_tidily(arguments: list[str], verbose: bool) -> int:
    """Run the experiment and report what ended it; return the exit code."""
    with tidy() as ending:
        try:
            check_words(arguments)
            _run(arguments)
        except KeyboardInterrupt as error:
            return _end(error, verbose)
        except Exception as error:
            if ending.is_asked:  # an error of its end, such as that of a loader process that got the signal too
                return _end(error, verbose)
            if isinstance(error, EmotionError):
                return _fail(one_line(error), verbose)
            if is_out_of_memory(error):
                return _fail(MEMORY, verbose)
            if str(error).startswith(DEAD_LOADER):
                return _fail(f"{str(error).strip()}; free memory, or lower num_workers in the recipe", verbose)
            if not isinstance(error, OSError):
                raise
            where = error.filename or "a file"
            return _fail(
                f"{where}: {error.strerror or error}; check the path, its permissions and the free space on the disk",
                verbose,
            )
    return 0


def _end(error: BaseException, verbose: bool) -> int:
    """Report what ended the run, and return the exit code."""
    trains = "train" in sys.argv or "--mode=train" in sys.argv
    resuming = "the same command with -a resumes from the last checkpoint" if trains else "start the same command again"
    advice = getattr(error, "advice", None) or resuming
    return _fail(f"{reason_of(error)}; {advice}", verbose, code_of(error))


def _run(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        sys.argv = [sys.argv[0], *arguments]
        show_help(partial(SuiteParser, ExitStack()))
    with collection(False):  # the runner switches it on again
        _start(arguments)


def _start(arguments: list[str]) -> None:
    import torch  # slow imports; a broken installation must fail inside main

    host.mark_launched()
    host.register()
    script, host_runner = host.import_script()
    from s3prl_emotion.recipe import override
    from s3prl_emotion.training.runner import SuiteRunner

    safe_torch, held = _SafeTorch(torch), ExitStack()
    for module, name, value in (
        (script, "Runner", SuiteRunner),
        (script, "override", override),
        (script, "torch", safe_torch),
        (script, "open", _whole),
        (host_runner, "torch", safe_torch),
        (script, "argparse", SimpleNamespace(ArgumentParser=partial(SuiteParser, held))),
        (script, "hack_isinstance", lambda: None),  # it wraps the builtin isinstance, for a torch of 2020
    ):
        setattr(module, name, value)
    sys.argv = [sys.argv[0], *arguments]
    logging.basicConfig(level=logging.INFO)  # as the host's script does next
    make_log_visible()
    with held:
        script.main()


class SuiteParser(argparse.ArgumentParser):
    """The host's parser with the suite's flags and checks; the host adds its own flags.

    Args:
        held: keeps the lock on the folder of a training until the run ends
        args: of ``argparse.ArgumentParser``
        kwargs: of ``argparse.ArgumentParser``
    """

    def __init__(self, held: ExitStack, *args: Any, **kwargs: Any) -> None:
        self.held = held
        super().__init__(*args, **{"prog": PROGRAM, **kwargs})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the command line and check all that can be checked before anything is loaded or written."""
        self.add_argument(
            "--upstream_path",
            metavar="DIR",
            help="More folders with upstream adapters, separated as in PATH; added to those of S3PRL_UPSTREAM_PATH",
        )
        self.add_argument(
            "--downstream_path",
            metavar="DIR",
            help="More folders with heads, separated as in PATH; added to those of S3PRL_DOWNSTREAM_PATH",
        )
        self.add_argument(
            "--feature_store",
            metavar="DIR",
            help="Store the frozen upstream's features of each utterance in this folder and compute them once",
        )
        self.add_argument(
            "--store_dtype", default="float32", help="Type of stored features: float32 (exact), float16 or bfloat16"
        )
        self.add_argument(
            "--store_batched",
            action="store_true",
            help="Use features that s3prl-emotion extract --batch_seconds computed in batches (equal within 1e-4)",
        )
        add_statistics_argument(self)
        add_trust_arguments(self)
        self.add_argument(
            "--overwrite",
            action="store_true",
            help="Train in a folder that holds another run; that run is kept, as NAME.1, NAME.2, …",
        )
        self.add_argument(
            "--allow_seen",
            action="store_true",
            help="Evaluate also what the checkpoint was trained on; every output then says so",
        )
        self.set_defaults(device=None)
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise UsageError(f"unknown argument {unknown[0]!r}{nearest(unknown[0].split('=')[0], flags)}")
        from s3prl_emotion.training.argument_values import check_values  # slow imports, which --help does not need
        from s3prl_emotion.training.preflight import check_arguments

        check_values(parsed, self._actions)
        return check_arguments(parsed, given=self._given(parsed), held=self.held)

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` instead of exiting, so that all errors look alike."""
        raise UsageError(f"{message}; see run_downstream.py --help")

    def _given(self, parsed: argparse.Namespace) -> list[str]:
        """Return the destinations of the flags that the user gave; of abbreviated ones, those with another value."""
        words = {word.split("=")[0] for word in sys.argv[1:] if word.startswith("-")}
        return [
            action.dest
            for action in self._actions
            if words & set(action.option_strings)
            or (action.dest in parsed and getattr(parsed, action.dest) != self.get_default(action.dest))
        ]


class _Overlay:
    """A module with some functions replaced."""

    def __init__(self, module: ModuleType, **functions: Any) -> None:
        self.module = module
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["module"], name)


class _SafeTorch(ModuleType):
    """``torch`` for the host's script: ``load`` never unpickles classes, and torchrun works without GPUs."""

    def __init__(self, torch: ModuleType) -> None:
        from s3prl_emotion import distributed

        super().__init__(torch.__name__)
        self.__dict__["_torch"] = torch
        self.distributed = _Overlay(torch.distributed, init_process_group=distributed.start)
        self.cuda = _Overlay(torch.cuda, set_device=distributed.set_device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_torch"], name)

    @staticmethod
    def load(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
        """Load a checkpoint without running anything it holds; arguments that the user gave are left out of it."""
        from s3prl_emotion.files.checkpoint import load_checkpoint
        from s3prl_emotion.training.own_arguments import without_own

        state = load_checkpoint(path, map_location)
        return {**state, "Args": without_own(state["Args"])}


def _whole(path: Any, mode: str = "r") -> Any:
    """Open a file as the host's script does, its notes in the folder of the run so that they are written whole."""
    from s3prl_emotion.files.writing import writing_text

    return writing_text(Path(path)) if mode == "w" else open(path, mode)


def _fail(message: str, verbose: bool, code: int = 1) -> int:
    if verbose:
        traceback.print_exc()
    sys.stderr.write(f"{PROGRAM}: error: {visible(' '.join(message.split()))}\n")
    return code
