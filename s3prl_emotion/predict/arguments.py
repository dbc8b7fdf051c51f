"""The command-line flags that choose a trained model, which ``predict`` and ``serve`` share."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3prl_emotion.predict.predictor import Predictor


def add_model_arguments(parser: ArgumentParser) -> None:
    """Declare the flags for checkpoint, device, windows and the upstream's files."""
    add = parser.add_argument
    add("--ckpt", required=True, help="checkpoint of a head, or an experiment directory for its dev-best.ckpt")
    add("--window", type=float, metavar="S", help="split long audio into windows of S s; also give their mean")
    add("--hop", type=float, metavar="S", help="time from one window to the next (s; default: half a window)")
    add("--device", help="cuda where there is one, else cpu")
    add("-k", "--upstream_ckpt", help="the upstream's checkpoint, if moved since training")
    add(
        "-g",
        "--upstream_model_config",
        metavar="YAML",
        help="the upstream's options, if moved since training",
    )
    add("--upstream_path", metavar="DIR", help="more folders with upstream adapters")
    add("--downstream_path", metavar="DIR", help="more folders with heads")


@dataclass(frozen=True)
class ModelArguments:
    """Arguments of :func:`s3prl_emotion.load`, in a form that can be sent to another process."""

    ckpt: str
    device: str | None = None
    upstream_ckpt: str | None = None
    upstream_model_config: str | None = None
    upstream_path: str | None = None
    downstream_path: str | None = None

    @classmethod
    def of(cls, args: Namespace) -> ModelArguments:
        """Take them from a command line."""
        return cls(*(getattr(args, field.name) for field in fields(cls)))

    def load(self) -> Predictor:
        """Load the model. What an upstream prints goes to standard error, since standard output holds the results."""
        from s3prl_emotion.predict.predictor import load

        with redirect_stdout(sys.stderr):
            return load(**vars(self))
