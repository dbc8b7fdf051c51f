"""``s3prl-emotion pretrain-rae``: train the ``rae`` upstream on unlabelled audio."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from s3prl_emotion.audio import MEAN, channel
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.words import check_seed
from s3prl_emotion.processes.processors import check_workers
from s3prl_emotion.rae import LAYOUTS

FLAGS = ("steps", "epochs", "batch_size", "lr", "max_seconds", "valid", "seed", "precision", "save_step")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    audio = parser.add_mutually_exclusive_group(required=True)
    audio.add_argument("--audio", type=Path, nargs="+", metavar="DIR", help="folders with unlabelled audio")
    audio.add_argument("--labels", metavar="TABLE", help="a label table instead: the files that it lists, each once")
    add("--root", metavar="DIR", help="audio folder of --labels")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for rae.ckpt and log.jsonl; resumes a run in it")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="number of training steps")
    length.add_argument("--epochs", type=int, metavar="N", help="number of epochs, unless --steps (64)")
    add("--layout", choices=LAYOUTS, default="auto", help="layout of the folders")
    add("--channel", type=channel, default=MEAN, metavar="C", help="mean, left, right or a number from 1 (mean)")
    add("--config", type=Path, metavar="YAML", help="sections spectrogram, model, training; flags override them")
    add("--batch_size", type=int, metavar="N", help="segments of audio per step, in each process (64)")
    add("--lr", type=float, help="learning rate of Adam (0.001)")
    add("--clip_db", type=float, metavar="DB", help="clip values so far below the loudest, e.g. -60 (no clipping)")
    add("--max_seconds", type=float, metavar="S", help="cut longer audio into parts of at most S s (30)")
    add("--valid", type=float, metavar="SHARE", help="share to hold out for the dev loss (0.02)")
    add("--seed", type=int, help="seed of weights, order and dropout (0)")
    add("--precision", choices=("fp32", "fp16"), help="fp16: mixed precision on a GPU (fp32)")
    add("--save_step", type=int, metavar="N", help="steps between checkpoints (500)")
    add("--device", help="cuda where there is one, else cpu")
    add("--num_workers", type=int, default=0, help="number of processes that read audio")


def run(args: Namespace) -> int:
    """Train, and report the outcome."""
    check_workers(args.num_workers, "--num_workers")
    if args.labels is None and args.root is not None:
        raise UsageError(f"--root {args.root}: is the audio folder of --labels; name folders with --audio")
    if args.labels is not None and args.layout != "auto":
        raise UsageError(f"--layout {args.layout}: a label table has no layout; leave it out")
    if args.seed is not None:
        check_seed(args.seed, "--seed")
    import torch

    from s3prl_emotion.distributed import leaders, rank
    from s3prl_emotion.files.locks import locked
    from s3prl_emotion.files.outputs import check_folder, new_folder
    from s3prl_emotion.rae.adapter import Configuration
    from s3prl_emotion.rae.training import Pretraining

    device = torch.device(_join(args.device or ("cuda" if torch.cuda.is_available() else "cpu")))
    config = Configuration.read(_values(args), str(args.config or "pretrain-rae"))
    out = args.out.expanduser()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder")
    check_folder(out)
    index = leaders(_index(args, config) if rank() == 0 else None)
    with ExitStack() as held:
        if rank() == 0:
            held.enter_context(new_folder(out, "--out "))
            held.enter_context(locked(out / ".lock", f"--out {out}: is in use by another pretraining"))
        done = Pretraining(config, index, out, device, args.num_workers).run()
    if rank() == 0:
        say(*_summary(done, out).splitlines())
    return 0


def _join(device: str) -> str:
    """Join the other processes if torchrun started several, and return the device of this one."""
    from s3prl_emotion import distributed
    from s3prl_emotion.devices import check_device

    check_device(device)
    launched = Namespace(local_rank=None, mode="train", device=device, backend="nccl")
    distributed.join(launched, given=())
    if launched.local_rank is not None:
        distributed.set_device(launched.local_rank)
        distributed.start(launched.backend)
    return device


def _values(args: Namespace) -> dict[str, Any]:
    """Return the configuration's sections: those of ``--config``, overridden by flags."""
    values = _sections(args.config) if args.config else {}
    for section, names in (("training", FLAGS), ("spectrogram", ("clip_db",))):
        given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        if given:
            if not isinstance(values.get(section) or {}, dict):
                raise ConfigError(f"{args.config}: {section}: must be a mapping of keys to values")
            values[section] = {**(values.get(section) or {}), **given}
    if args.epochs is not None:
        values["training"]["steps"] = None
    return values


def _sections(path: Path) -> dict[str, Any]:
    from s3prl_emotion.yaml_files import read_yaml

    values = read_yaml(path, "no such file", f"--config {path}")
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"--config {path}: must be a mapping with the sections spectrogram, model, training")
    return values or {}


def _index(args: Namespace, config: Any) -> Any:
    """Index the audio, and log how much there is."""
    import logging

    from s3prl_emotion.files.progress import progress
    from s3prl_emotion.rae.adapter import MelSpectrogramDb
    from s3prl_emotion.rae.audio_index import index_audio, index_table

    spectrogram = MelSpectrogramDb(config.spectrogram)
    sizes = (spectrogram.window, spectrogram.hop, config.training.max_seconds)
    with progress(name="headers", unit="files", leave=False) as bar:
        if args.audio is not None:
            index = index_audio(args.audio, args.layout, *sizes, progress=bar.update)
        else:
            index = index_table(args.labels, args.root, *sizes, progress=bar.update)
    index.channel = args.channel
    logging.getLogger(__name__).info("%d segments of audio, %.2f h", len(index), index.hours)
    for reason, count in index.skipped.items():
        logging.getLogger(__name__).warning("skipped, %s: %d; the first: %s", reason, count, index.first[reason])
    return index


def _summary(done: Any, out: Path) -> str:
    from s3prl_emotion.rae.adapter import CHECKPOINT

    text = f"{out / CHECKPOINT}: {done.steps} steps"
    if done.loss is not None:
        text += f", loss {done.loss:.4f}"
    if done.dev_loss is not None:
        text += f", dev loss {done.dev_loss:.4f} ({done.dev_mean_loss:.4f} from each band's mean)"
    speed = done.hours / max(done.seconds, 1e-9) * 3600
    text += f"; {done.hours:.2f} h of audio in this run, {speed:.0f} h an hour\n"
    if done.skipped:
        text += f"skipped: {', '.join(f'{count} {reason}' for reason, count in sorted(done.skipped.items()))}\n"
    return text
