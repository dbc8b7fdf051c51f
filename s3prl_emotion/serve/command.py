"""``s3prl-emotion serve``: a web page on this machine that judges audio by a trained head."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, Namespace

from s3prl_emotion.errors import INTERRUPTED, UsageError
from s3prl_emotion.predict.flags import add_trained_model

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what follows the command's name."""
    add_trained_model(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    add("--port", type=int, default=7860, help="default: 7860; 0 for any that is free")
    add("--open", action="store_true", help="open the page in the web browser")
    add("--max_mb", type=float, default=50.0, metavar="MB", help="of one upload, all its files together (default: 50)")
    add("--max_seconds", type=float, default=600.0, metavar="S", help="of each file's audio (default: 600)")
    add("--max_files", type=int, default=16, metavar="N", help="in one upload (default: 16)")
    add("--max_waiting", type=int, default=8, metavar="N", help="uploads at once; more are turned away (default: 8)")


def run(args: Namespace) -> int:
    """Load, listen, and serve until Ctrl-C.

    Raises:
        UsageError: an option is not right, the port is taken, the extra is not installed, or the upstream cannot be
            built
        CheckpointError: the checkpoint is not right
    """
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"serve: {error.name} is not installed; pip install 's3prl-emotion[serve]', or judge files with predict"
        ) from error
    try:
        return _serve(args)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return INTERRUPTED


def _serve(args: Namespace) -> int:
    from s3prl_emotion.predict.windows import Windows
    from s3prl_emotion.serve.limits import Limits
    from s3prl_emotion.serve.listening import bound

    limits = Limits(args.max_mb, args.max_seconds, args.max_files, args.max_waiting)
    windows = Windows.read(args.window, args.hop)
    with bound(args.host, args.port) as listener:
        from s3prl_emotion.predict.jobs import Here, Loading
        from s3prl_emotion.serve.access import is_local
        from s3prl_emotion.serve.application import application
        from s3prl_emotion.serve.judging import Judge
        from s3prl_emotion.serve.listening import Server, address_of, listen

        loading = Loading(args.ckpt, args.device, args.upstream_ckpt, args.upstream_model_config, args.upstream_path)
        judge = Judge(Here(loading).predictor, limits, windows)
        local = is_local(listener.getsockname()[0])
        if not local:
            logger.warning("--host %s: whoever reaches this machine can upload audio and see the page", args.host)
        listen(listener)
        server = Server(application(judge, local), lambda: _tell(address_of(listener), args.open))
        try:
            server.run(sockets=[listener])
        finally:
            judge.close()
            if judge.is_busy:  # nobody waits for the answer, and a thread cannot be ended
                sys.stderr.write("stopped\n")
                sys.stderr.flush()
                os._exit(INTERRUPTED)
    return 0


def _tell(address: str, with_browser: bool) -> None:
    sys.stdout.write(f"{address}  (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if with_browser:
        import webbrowser

        webbrowser.open(address)
