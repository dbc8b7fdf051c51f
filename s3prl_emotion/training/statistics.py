"""Decide whether a run reads frames or the means over them, ``--statistics``."""

from __future__ import annotations

import logging
import shlex
from argparse import Namespace
from typing import Any

from s3prl_emotion.errors import StoreError, UsageError
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.recipe import ALWAYS, AUTO, NEVER, augmentation
from s3prl_emotion.store.means import FRAMES, MEANS, means_folders

logger = logging.getLogger(__name__)
KEY = "Statistics"  # of a checkpoint: what its training read


def check_statistics(args: Namespace, effective: Namespace, config: dict[str, Any]) -> None:
    """Refuse ``--statistics always`` where the command line or the recipe rules means out.

    Args:
        args: command line
        effective: command line with what ``-o`` and ``-e`` set
        config: recipe

    Raises:
        UsageError: names what needs frames
    """
    if args.statistics != ALWAYS:
        return
    if not is_emotion_head(effective.downstream):
        raise UsageError(f"--statistics always: -d {effective.downstream} is a stock task, which reads frames")
    obstacle = _obstacle(effective.upstream_trainable, config)
    if obstacle:
        raise UsageError(f"--statistics always: {obstacle}")


def reads_means(runner: Any, expert: Any) -> bool:
    """Return whether a run reads means, and set what its store keeps.

    Args:
        runner: the :class:`~s3prl_emotion.training.runner.SuiteRunner`, with upstream and featurizer
        expert: its head

    Raises:
        UsageError: ``--statistics always`` with a head that reads frames
        StoreError: ``--statistics always`` with a read-only store of frames alone
    """
    args, wish = runner.args, getattr(runner.args, "statistics", AUTO)
    obstacle = _obstacle(runner.upstream.trainable, runner.config)
    if not obstacle and expert.features_read != MEANS and not runner.source.is_one_frame:
        obstacle = (
            f"-d {expert.head} as its recipe sets it reads frames; leave the flag out, or use emotion_corr_attn with "
            "modelrc.pooling: mean"
        )
    if obstacle and wish == ALWAYS:
        raise UsageError(f"--statistics always: {obstacle}")
    if obstacle or wish == NEVER or not (wish == ALWAYS or _wants_means(runner)):
        _warn_of_means_alone(runner, expert)
        return False
    return args.feature_store is None or _prepare_store(runner, expert, wish)


def _wants_means(runner: Any) -> bool:
    """Return whether ``--statistics auto`` reads means where it can; a resumed training reads what it read before."""
    before = runner.init_ckpt.get(KEY)
    if before == MEANS or (before == FRAMES and runner.args.mode == "train"):
        return before == MEANS
    return runner.args.feature_store is not None and not runner.host_order


def _obstacle(is_trained: bool, config: dict[str, Any]) -> str:
    """Return why means cannot be read, whatever the head; empty where they can."""
    if is_trained:
        return "a trained upstream (-f) changes with every step; leave one of them out"
    if config.get("specaug"):
        return "the recipe's specaug masks frames; leave one of them out"
    augment = augmentation(config)
    if augment is not None and augment.spec_augment is not None:
        return "datarc.augment.spec_augment masks frames; leave one of them out"
    if augment is not None and augment.draws_anew:
        return "datarc.augment draws anew in every epoch; set datarc.augment.views, or leave one of them out"
    return ""


def _prepare_store(runner: Any, expert: Any, wish: str) -> bool:
    """Choose what the store keeps; return whether means can be read from it or written to it."""
    source = runner.source
    store, means = source.required_store(), source.mean_store
    source.keep_means()
    if means.writable or len(means):
        return True
    if wish == ALWAYS:
        raise StoreError(
            f"--statistics always: {store.root} is read-only and holds no {means.own.folder.name} of -u "
            f"{runner.args.upstream}; where it can be written, run: {_command(runner.args, expert)}"
        )
    return False


def _warn_of_means_alone(runner: Any, expert: Any) -> None:
    if runner.args.feature_store is None or not runner.is_suite or runner.host_order or runner.upstream.trainable:
        return
    frames = runner.source.required_store()
    if not len(frames) and not runner.source.whole and means_folders(frames.folder):
        logger.warning(
            "%s holds means alone; %s reads frames, which are computed%s",
            frames.folder, expert.head, " and stored" if frames.writable else " each time",
        )  # fmt: skip


def _command(args: Namespace, expert: Any) -> str:
    """Return the command that fills a store with the means that a run reads."""
    words = ["s3prl-emotion", "extract"]
    for flag, value in (
        ("-u", args.upstream),
        ("-k", args.upstream_ckpt),
        ("-g", args.upstream_model_config),
        ("-s", None if args.upstream_feature_selection == "hidden_states" else args.upstream_feature_selection),
        ("-l", args.upstream_layer_selection),
        ("--upstream_path", getattr(args, "upstream_path", None)),
        ("--feature_store", args.feature_store),
        ("--store_dtype", None if args.store_dtype == "float32" else args.store_dtype),
        ("--labels", expert.data.labels),
        ("--root", expert.data.root),
        ("--keep", MEANS),
    ):
        words += [] if value is None else [flag, str(value)]
    words += ["--upstream_feature_normalize"] if args.upstream_feature_normalize else []
    return shlex.join(words)
