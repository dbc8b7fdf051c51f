"""Check a whole matrix before anything runs: every recipe, head, upstream, layer, fold and split."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.benchmark.expansion import steps_named_in
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.errors import ConfigError, EmotionError, LabelError, UsageError, nearest, one_line

logger = logging.getLogger(__name__)
ONE_LAYER = ("last_hidden_state",)  # features that are a single layer in every adapter of the suite


def check_plan(plan: Plan) -> None:
    """Refuse a matrix with a run that cannot work, as far as this can be known without computing.

    Files that a prepared step will make do not exist yet: of runs that need them, only the recipe's form is checked.

    Raises:
        ConfigError: names the system, upstream or fold, and says what is wrong
    """
    host.register()
    host.register_search_path(plan.matrix.section.upstream_path)
    for name, upstream in plan.matrix.upstreams.items():
        with _named(f"{plan.matrix.path}: upstreams.{name}"):
            host.find_upstream(upstream.name or name)
    checked: set[str] = set()
    for run in [*plan.runs, *plan.trials]:
        what = f"{run.head} {run.config} {bool(run.steps)}"
        if what not in checked:
            with _named(
                f"{plan.matrix.path}: systems.{run.cell.system}{f', {run.cell.fold}' if run.cell.fold else ''}"
            ):
                _check_run(run)
            checked.add(what)
    _check_metric(plan)
    check_layers(plan)


def _check_metric(plan: Plan) -> None:
    """Check that the metric of a search is one that the heads of its runs have."""
    search = plan.matrix.section.search
    for head in sorted({trial.head for trial in plan.trials}):
        known = host.expert_class(head).selection_metrics
        if search is not None and search.metric not in (None, *known):
            raise ConfigError(
                f"{plan.matrix.path}: search.metric: {head} has {', '.join(known)}, got {search.metric!r}"
            )


def _check_run(run: Run) -> None:
    from s3prl_emotion.experts.heads import emotion_heads, is_emotion_head
    from s3prl_emotion.recipe import check_recipe
    from s3prl_emotion.training import preflight
    from s3prl_emotion.upstreams.finetuning.check import check_finetuning

    if not is_emotion_head(run.head):
        raise UsageError(
            f"head {run.head!r} is not one of this suite's, which a report needs"
            f"{nearest(run.head, emotion_heads())}{host.HEADS.hint()}"
        )
    check_recipe(run.config)
    check_finetuning(Namespace(upstream_trainable="-f" in run.upstream_flags), run.config)
    host.expert_class(run.head).read_section(run.config["downstream_expert"], run.cell.fold, run.config["runner"])
    if run.store_flags:
        preflight.check_views(run.config)
    _check_optimizer(run.config)
    if run.steps:
        return
    for mode, split in (("train", None), *(("evaluate", test) for test in run.tests)):
        args = Namespace(downstream=run.head, downstream_variant=run.cell.fold, mode=mode, evaluate_split=split)
        preflight.check_head(args, run.config)
    _check_unseen(run)


def _check_unseen(run: Run) -> None:
    """Refuse tests that hold what the run trains on, by their names; its audio is compared when it is read.

    Raises:
        LabelError: names the split, and how much of it is trained on
    """
    from s3prl_emotion.corpora import load_corpus
    from s3prl_emotion.corpora.seen import SEEN_SPLITS, TrainingData, overlap_of

    if run.allow_seen:
        return
    expert = host.expert_class(run.head)
    section, runner = run.config["downstream_expert"], run.config["runner"]
    _, data, modelrc = expert.read_section(section, run.cell.fold, runner)
    corpus = load_corpus(data, expert.required_labels(modelrc))
    train_split = runner.get("train_dataloader", "train")
    seen = TrainingData(corpus, train_split).seen({})
    for split in run.tests:
        overlap = overlap_of(seen, corpus, split)
        if overlap.is_seen and split not in (train_split, *SEEN_SPLITS):
            raise LabelError(
                f"split {split!r}: the run is trained on {overlap.counts} ({overlap.examples}); test other data, or "
                "give --allow_seen, which every output then says"
            )


def _check_optimizer(config: dict[str, Any]) -> None:
    """Build optimizer and scheduler for a tiny model, since their options are checked nowhere else."""
    import torch
    from s3prl.optimizers import get_optimizer
    from s3prl.schedulers import get_scheduler

    from s3prl_emotion.training import preflight

    preflight.check_builders(config)
    steps, section = config["runner"]["total_steps"], "optimizer"
    try:
        optimizer = get_optimizer([torch.nn.Linear(1, 1)], steps, dict(config["optimizer"]))
        if config.get("scheduler"):
            section = "scheduler"
            get_scheduler(optimizer, steps, dict(config["scheduler"]))
    except (NameError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise ConfigError(f"{section}: s3prl cannot build it from {config[section]} ({error})") from error


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except EmotionError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error


# --- layers -----------------------------------------------------------------------------------------------------------


def check_layers(plan: Plan) -> None:
    """Refuse a layer that an upstream does not have.

    An adapter may count its layers without its weights, by ``count_layers(name, ckpt, model_config)`` in a ``depth.py``
    beside ``hubconf.py``. Other upstreams are built once to count their layers. Upstreams that cannot be built yet,
    because a prepared step makes their checkpoint or there is no network, are left to their runs.

    Raises:
        ConfigError: names the system and upstream, and how many layers the upstream has
    """
    counts: dict[tuple[str, ...], int | None] = {}
    for run in plan.runs:
        layer = _layer_of(run)
        flags = _without_layer(run.upstream_flags)
        if layer is None or _is_prepared(plan, run):
            continue
        if flags not in counts:
            counts[flags] = _count(plan, run)
        count = counts[flags]
        if count is not None and not -count <= layer < count:
            raise ConfigError(
                f"{plan.matrix.path}: systems.{run.cell.system}, upstreams.{run.cell.upstream}: layer {layer}: there "
                f"are {count}, from 0 to {count - 1}"
            )


def _layer_of(run: Run) -> int | None:
    """Return the layer that a run asks for by number, with ``-l`` or in its recipe."""
    section = run.config["downstream_expert"]
    layer = section.get("layer")
    if isinstance(layer, int):
        return layer
    flag = run.upstream_flag("-l")
    return None if flag is None else int(flag)


def _without_layer(flags: tuple[str, ...]) -> tuple[str, ...]:
    if "-l" not in flags:
        return flags
    at = flags.index("-l")
    return flags[:at] + flags[at + 2 :]


def _is_prepared(plan: Plan, run: Run) -> bool:
    """Return whether a prepared step makes the upstream's files."""
    upstream = plan.matrix.upstreams[run.cell.upstream]
    return bool(steps_named_in([upstream.ckpt, upstream.model_config_]))


def _count(plan: Plan, run: Run) -> int | None:
    upstream, name = plan.matrix.upstreams[run.cell.upstream], run.cell.upstream
    ckpt = run.upstream_flag("-k")
    options: Any = run.upstream_flag("-g")
    if isinstance(upstream.model_config_, dict):  # its file is not written yet
        options = next(values for path, values in plan.model_options.items() if path == Path(options))
    count_layers = _counter(upstream.name or name)
    try:
        if count_layers is not None:
            return 1 if upstream.feature in ONE_LAYER else count_layers(upstream.name or name, ckpt, options)
        return _count_by_building(upstream.name or name, ckpt, options, upstream.feature)
    except EmotionError as error:
        logger.info("upstreams.%s: its layers cannot be counted before it runs (%s)", name, error)
        return None


def _counter(name: str) -> Callable[..., int | None] | None:
    """Return an adapter's own ``count_layers``, if it has one."""
    from s3prl_emotion import host

    package = str(getattr(host.find_upstream(name), "__module__", "")).rpartition(".")[0]
    module = f"{package}.depth"
    if not package or importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), "count_layers", None)


def _count_by_building(name: str, ckpt: str | None, options: Any, feature: str) -> int:
    """Build an upstream and return how many layers it has."""
    from s3prl_emotion.upstreams.build import build_source

    args = {
        "upstream": name, "upstream_ckpt": ckpt, "upstream_model_config": options, "upstream_layer_selection": None,
        "upstream_feature_selection": feature, "upstream_path": None, "device": "cpu", "feature_store": None,
        "store_dtype": "float32",
    }  # fmt: skip
    try:
        return build_source(Namespace(**args)).layers
    except EmotionError:
        raise
    except Exception as error:  # s3prl's upstreams fail in many ways, for one without a network
        raise UsageError(" ".join(str(error).split())[:200] or type(error).__name__) from error
