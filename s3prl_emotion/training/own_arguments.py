"""Tell the arguments that ``-e`` and ``-a`` restore from a checkpoint from those that stay the user's own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable

from s3prl_emotion.recipe import ALWAYS, AUTO, NEVER

TRUST_FLAGS = ("allow_other_upstream", "trust_upstream", "trust_checkpoint")  # never kept in a checkpoint
NEVER_RESTORED = {
    *TRUST_FLAGS, "allow_seen", "auto_resume", "cache_dir", "downstream_path", "expdir", "expname", "feature_store",
    "from_hf_hub", "hf_hub_org", "overwrite", "push_to_hf_hub", "statistics", "store_batched", "store_dtype",
    "upstream_path", "upstream_refresh",
}  # fmt: skip
RESTORED_UNLESS_GIVEN = {
    "hub", "upstream", "upstream_ckpt", "upstream_model_config", "upstream_model_name", "upstream_revision",
}  # fmt: skip
_own: set[str] = set()


def add_trust_arguments(parser: ArgumentParser, checkpoint: bool = True) -> None:
    """Declare the flags by which the user trusts files.

    Args:
        parser: to add them to
        checkpoint: whether the command loads checkpoints of heads
    """
    parser.add_argument(
        "--trust_upstream",
        action="store_true",
        help="Load files of upstreams that are pickles in full (Mockingjay, TERA, …), which can run code",
    )
    if checkpoint:
        parser.add_argument(
            "--trust_checkpoint",
            action="store_true",
            help="Below torch 2.6: load a checkpoint that another user wrote, which can run code there",
        )
        parser.add_argument(
            "--allow_other_upstream",
            action="store_true",
            help="Use a checkpoint with another upstream than it was trained with; outputs say so",
        )


def mark_own(given: Iterable[str], override: str | None) -> set[str]:
    """Note which arguments the user gave, by flags or by ``-o``, and return their names.

    Args:
        given: destinations of the flags
        override: value of ``-o``
    """
    parts = [part.partition("=")[0].strip() for part in (override or "").split(",,")]
    own = {*given, *(part.removeprefix("args.") for part in parts if part.startswith("args."))}
    _own.clear()
    _own.update(own)
    return own


def without_own(restored: Namespace) -> Namespace:
    """Return a checkpoint's arguments without those that are the user's own."""
    kept = vars(restored).items()
    return Namespace(
        **{name: value for name, value in kept if name not in NEVER_RESTORED | (_own & RESTORED_UNLESS_GIVEN)}
    )


def add_statistics_argument(parser: ArgumentParser) -> None:
    """Declare ``--statistics``."""
    parser.add_argument(
        "--statistics",
        choices=(AUTO, ALWAYS, NEVER),
        default=AUTO,
        help="Read utterances' means over frames instead of frames, where the head needs nothing else: auto (default) "
        "with --feature_store, always, or never",
    )
