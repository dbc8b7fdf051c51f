"""The command-line flags that choose a trained model, which ``predict`` and ``serve`` share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, fields


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
    """The arguments of :func:`s3prl_emotion.load`, in one object.

    Attributes:
        ckpt: checkpoint of one of the suite's heads, or an experiment directory with a ``dev-best.ckpt``
        device: by default cuda where there is one, else cpu
        upstream_ckpt: the upstream's checkpoint, if it was moved since training
        upstream_model_config: the upstream's options, if they were moved since training
        upstream_path: folders with upstream adapters; never taken from the checkpoint, since their code is run
        downstream_path: folders with heads; likewise never taken from the checkpoint
    """

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
