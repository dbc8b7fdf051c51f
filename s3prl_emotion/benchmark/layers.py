"""Whether the layers that a matrix asks for are there, told before anything runs."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark import placeholders
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.errors import ConfigError, EmotionError, UsageError

logger = logging.getLogger(__name__)
ONE = ("last_hidden_state",)  # features that are one layer in every adapter of the suite


def check_layers(plan: Plan) -> None:
    """Refuse a layer that an upstream does not have.

    Adapters may say how many layers there are without their weights: ``count_layers(name, ckpt, model_config)`` in a
    ``depth.py`` beside ``hubconf.py``. Others are built and asked, once. Upstreams that are not there yet (a prepared
    step makes their checkpoint), or cannot be reached, are left to their runs.

    Raises:
        ConfigError: names the system and upstream, and how many layers there are
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
    """The layer that a run asks for by number: ``-l``, or the recipe."""
    section = run.config["downstream_expert"]
    layer = section.get("layer")
    if isinstance(layer, int):
        return layer
    flags = run.upstream_flags
    return int(flags[flags.index("-l") + 1]) if "-l" in flags else None


def _without_layer(flags: tuple[str, ...]) -> tuple[str, ...]:
    if "-l" not in flags:
        return flags
    place = flags.index("-l")
    return flags[:place] + flags[place + 2 :]


def _is_prepared(plan: Plan, run: Run) -> bool:
    """Whether a step makes the upstream."""
    upstream = plan.matrix.upstreams[run.cell.upstream]
    return bool(placeholders.prepared_in([upstream.ckpt, upstream.model_config_]))


def _count(plan: Plan, run: Run) -> int | None:
    upstream, name = plan.matrix.upstreams[run.cell.upstream], run.cell.upstream
    flags = run.upstream_flags
    ckpt = flags[flags.index("-k") + 1] if "-k" in flags else None
    options: Any = flags[flags.index("-g") + 1] if "-g" in flags else None
    if isinstance(upstream.model_config_, dict):  # its file is not written yet
        options = next(values for path, values in plan.model_options.items() if path == Path(options))
    told = _counter(upstream.name or name)
    try:
        if told is not None:
            return 1 if upstream.feature in ONE else told(upstream.name or name, ckpt, options)
        return _built(upstream.name or name, ckpt, options, upstream.feature)
    except EmotionError as error:
        logger.info("upstreams.%s: how many layers it has cannot be told before it runs (%s)", name, error)
        return None


def _counter(name: str) -> Callable[..., int | None] | None:
    """An adapter's own ``count_layers``."""
    from s3prl_emotion import host

    package = str(getattr(host.find_upstream(name), "__module__", "")).rpartition(".")[0]
    place = f"{package}.depth"
    if not package or importlib.util.find_spec(place) is None:
        return None
    return getattr(importlib.import_module(place), "count_layers", None)


def _built(name: str, ckpt: str | None, options: Any, feature: str) -> int:
    """Layers of an upstream that is built for the purpose."""
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
    except Exception as error:  # foreign code: s3prl's upstreams fail in many ways, without a network for one
        raise UsageError(" ".join(str(error).split())[:200] or type(error).__name__) from error
