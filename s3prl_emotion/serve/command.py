"""``s3prl-emotion serve``: a local web page that predicts emotions of audio with a trained head."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, Namespace

from s3prl_emotion.errors import UsageError
from s3prl_emotion.predict.arguments import add_model_arguments, arguments_of
from s3prl_emotion.processes.ending import code_of, reason_of

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_arguments(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, default=7860, help="port to listen on; 0 for any free one (default: 7860)")
    add("--open", action="store_true", help="open the page in the web browser")
    add("--max_mb", type=float, default=50.0, metavar="MB", help="largest upload, all its files together (default: 50)")
    add("--max_seconds", type=float, default=600.0, metavar="S", help="longest audio of a file (default: 600)")
    add("--max_files", type=int, default=16, metavar="N", help="most files in an upload (default: 16)")
    add("--max_waiting", type=int, default=8, metavar="N", help="most uploads at a time; more are refused (default: 8)")


def run(args: Namespace) -> int:
    """Load the model and serve until Ctrl-C.

    Raises:
        UsageError: an option is out of range, the port is in use, the extra is not installed, or the upstream cannot be
            built
        CheckpointError: the checkpoint is missing, damaged or of another kind
    """
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"serve: {error.name} is not installed; pip install 's3prl-emotion[serve]', or use predict"
        ) from error
    try:
        return _serve(args)
    except KeyboardInterrupt as error:
        sys.stderr.write(_stopped(error))
        return code_of(error)


def _serve(args: Namespace) -> int:
    from s3prl_emotion.predict.windows import Windows
    from s3prl_emotion.serve.limits import Limits
    from s3prl_emotion.serve.listening import bound

    limits = Limits(args.max_mb, args.max_seconds, args.max_files, args.max_waiting)
    windows = Windows.read(args.window, args.hop)
    with bound(args.host, args.port) as listener:
        from s3prl_emotion.predict.predictor import load_predictor
        from s3prl_emotion.serve.access import is_local
        from s3prl_emotion.serve.application import application
        from s3prl_emotion.serve.listening import Server, address_of, listen
        from s3prl_emotion.serve.log import counting
        from s3prl_emotion.serve.worker import Worker

        worker = Worker(load_predictor(arguments_of(args), quiet=True), limits, windows)
        local = is_local(listener.getsockname()[0])
        if not local:
            logger.warning("--host %s: everyone who can reach this machine can use the page", args.host)
        listen(listener)
        server = Server(application(worker, local), lambda: _announce(address_of(listener), args.open))
        try:
            with counting():
                server.run(sockets=[listener])
        finally:
            worker.close()
            if worker.is_busy:  # nobody waits for the result, and a thread cannot be ended
                error = KeyboardInterrupt()
                sys.stderr.write(_stopped(error))
                sys.stderr.flush()
                os._exit(code_of(error))
    return 0


def _stopped(error: BaseException) -> str:
    reason = reason_of(error)
    return "stopped\n" if reason == "interrupted" else f"{reason}: stopped\n"


def _announce(address: str, with_browser: bool) -> None:
    sys.stdout.write(f"{address}  (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if with_browser:
        import webbrowser

        webbrowser.open(address)
