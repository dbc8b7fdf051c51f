"""The command-line flags that choose a trained model, which ``predict`` and ``serve`` share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike, fspath
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import shown
from s3prl_emotion.training.own_arguments import add_trust_arguments

HEADS = (
    "checkpoint of a head, an experiment directory for its dev-best.ckpt or last.ckpt, a packed head, or "
    "OWNER/NAME[@REVISION]; repeated: an ensemble, the mean of their predictions"
)
FLAGS = {"ckpt": "--ckpt", "upstream": "-u", "upstream_ckpt": "-k", "upstream_model_config": "-g"}
OF_EACH = tuple(FLAGS)[1:]  # the arguments that each member of an ensemble may have for itself
AS_TRAINED = "-"  # stands for no argument of its own


def add_model_arguments(parser: ArgumentParser) -> None:
    """Declare the flags for checkpoint, device, windows and the upstream's files."""
    add = parser.add_argument
    add("--ckpt", required=True, action="append", help=HEADS)
    add("--window", type=float, metavar="S", help="split long audio into windows of S s; also give their mean")
    add("--hop", type=float, metavar="S", help="time from one window to the next (s; default: half a window)")
    add("--device", help="cuda where there is one, else cpu")
    each = "; for each --ckpt of an ensemble, in their order (- for none), or once for all"
    add("-u", "--upstream", action="append", help=f"the upstream, where the checkpoint alone must not choose it{each}")
    add("-k", "--upstream_ckpt", action="append", help=f"its checkpoint, if moved since training, or likewise{each}")
    add(
        "-g",
        "--upstream_model_config",
        action="append",
        metavar="YAML",
        help=f"its options; never taken from the checkpoint{each}",
    )
    add("--upstream_path", metavar="DIR", help="more folders with upstream adapters")
    add("--downstream_path", metavar="DIR", help="more folders with heads")
    add_trust_arguments(parser)


@dataclass(frozen=True)
class ModelArguments:
    """The arguments of :func:`s3prl_emotion.load` for one model, in one object.

    Attributes:
        ckpt: checkpoint of one of the suite's heads, an experiment directory with a ``dev-best.ckpt``, a folder of
            ``s3prl-emotion pack``, or an id on the hub, ``OWNER/NAME[@REVISION]``
        device: by default cuda where there is one, else cpu
        upstream_ckpt: the upstream's checkpoint, if it was moved since training
        upstream_model_config: the upstream's options; never taken from the checkpoint, since they name files
        upstream_path: folders with upstream adapters; never taken from the checkpoint, since their code is run
        downstream_path: folders with heads; likewise never taken from the checkpoint
        upstream: the upstream, where the checkpoint alone must not choose it
        trust_upstream: whether the upstream's files may be pickles, which can run code
        trust_checkpoint: whether, below torch 2.6, the checkpoint may be a file that another user wrote
        allow_other_upstream: whether the upstream may be another than in training
    """

    ckpt: str
    device: str | None = None
    upstream_ckpt: str | None = None
    upstream_model_config: str | None = None
    upstream_path: str | None = None
    downstream_path: str | None = None
    upstream: str | None = None
    trust_upstream: bool = False
    trust_checkpoint: bool = False
    allow_other_upstream: bool = False

    def __post_init__(self) -> None:
        """Take paths and devices as text.

        Raises:
            UsageError: an argument of another type; the message says what to pass
        """
        for field in fields(self):
            value, is_switch = getattr(self, field.name), isinstance(field.default, bool)
            if is_switch and not isinstance(value, bool):
                raise UsageError(f"{field.name}: takes True or False, got {shown(value)}")
            if is_switch or (value is None and field.name != "ckpt"):
                continue
            if field.name == "device" and hasattr(value, "type"):  # torch.device
                value = str(value)
            if not isinstance(value, (str, PathLike)):
                what = "a name such as cpu or cuda:0" if field.name == "device" else "a path or a name"
                raise UsageError(f"{field.name}: takes {what}, got {shown(value)}")
            object.__setattr__(self, field.name, fspath(value))


def arguments_of(args: Namespace) -> tuple[ModelArguments, ...]:
    """Take the arguments of each model from a command line.

    Raises:
        UsageError: ``-u``, ``-k`` or ``-g`` is given neither once nor for each ``--ckpt``
    """
    values = {field.name: getattr(args, field.name) for field in fields(ModelArguments)}
    for name in OF_EACH:
        given = values[name]
        values[name] = given and [None if value == AS_TRAINED else value for value in given]
    return each_of(**values)


def each_of(ckpt: Any, **options: Any) -> tuple[ModelArguments, ...]:
    """Return the arguments of each model.

    Args:
        ckpt: a checkpoint, or a list of them
        options: the other arguments; those of ``OF_EACH`` may be lists with an entry for each checkpoint, or with one
            for all

    Raises:
        UsageError: no checkpoint, a list of another length, or an argument of another type
    """
    if not _is_list(ckpt):
        ckpt = [ckpt]
    if not ckpt:
        raise UsageError("ckpt: the list is empty; name a checkpoint, or those of an ensemble")
    lists: dict[str, list[Any]] = {}
    for name in OF_EACH:
        given: Any = options.get(name)
        entries = list(given) if _is_list(given) else [given]
        if len(entries) not in (1, len(ckpt)):
            raise UsageError(
                f"{FLAGS[name]}: given {len(entries)} times for {len(ckpt)} {FLAGS['ckpt']}; give it once for all, or "
                f"once for each in their order ({AS_TRAINED} for none)"
            )
        lists[name] = entries * len(ckpt) if len(entries) == 1 else entries
    return tuple(
        ModelArguments(item, **{**options, **{name: entries[number] for name, entries in lists.items()}})
        for number, item in enumerate(ckpt)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
