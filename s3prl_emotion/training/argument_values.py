"""Check the values of ``run_downstream.py``'s flags, also of those that ``-o args.NAME=VALUE`` sets."""

from __future__ import annotations

from argparse import Action, Namespace, _HelpAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_emotion.devices import check_device
from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.files.words import check_layer, check_seed, check_text
from s3prl_emotion.limits import excess, parts_of, shown
from s3prl_emotion.processes.processors import check_workers
from s3prl_emotion.recipe import overridden

TOO_LATE = ("auto_resume", "config", "expname", "past_exp")  # used before the host applies ``-o``


def check_values(args: Namespace, actions: Sequence[Action]) -> None:
    """Check the values that the user gave, before anything is read or written.

    Args:
        args: parsed flags; ``override`` is the value of ``-o``
        actions: of the parser, which know the type of each flag

    Raises:
        UsageError: names the flag, its value, and what it must be
    """
    effective, config = overridden(args.override, args, {})
    check_overrides(args, actions)
    for name in TOO_LATE:
        if getattr(effective, name) != getattr(args, name):
            raise UsageError(f"-o args.{name}: has no effect, since -o is applied later; use --{name}")
    if effective.device != args.device:
        check_device(effective.device)
    for name, value in vars(effective).items():
        if isinstance(value, str):
            check_text(value, f"--{name}")
    _check_config(config, "-o ")
    seed, layer = ("--seed", "-l") if effective.seed == args.seed else ("-o args.seed=", "-l")
    check_seed(effective.seed, seed)
    check_layer(effective.upstream_layer_selection, layer)
    if effective.expname is not None:
        _check_name(effective.expname)
    options = effective.upstream_model_config
    if options is not None and "://" not in options and not Path(options).expanduser().is_file():
        raise UsageError(f"-g {options}: no such file; it holds the upstream's options")  # some upstreams ignore it


def check_overrides(args: Namespace, actions: Sequence[Action], flag: str = "-o") -> None:
    """Check names and types of the arguments that ``-o args.NAME=VALUE`` sets.

    Args:
        args: parsed flags; ``override`` is the value of ``-o``
        actions: of the parser, which know the type of each flag
        flag: name of ``-o``, for messages

    Raises:
        UsageError: no such argument, or a value of another type
    """
    effective, _ = overridden(args.override, args, {}, flag)
    known = {action.dest: action for action in actions if not isinstance(action, _HelpAction)}
    for name in _overridden(args.override):
        if name not in known:
            raise UsageError(f"{flag} args.{name}: there is no such argument{nearest(name, known)}")
        _check_type(name, known[name], getattr(effective, name), flag)


def check_recipe_values(config: dict[str, Any]) -> None:
    """Check what no head's section checks: texts of the recipe, and its number of loader processes.

    Args:
        config: recipe with ``-o`` applied, of any head or stock task

    Raises:
        ConfigError: a text holds NUL, an integer is huge, or far more loader processes than processors
    """
    reason = excess(config)  # -o may hold what no checkpoint could be loaded with
    if reason is not None:
        raise ConfigError(f"the recipe {reason}")
    _check_config(config, "the recipe: ")
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    workers = data.get("num_workers") if isinstance(data, dict) else None
    if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
        fix = " (-o config.downstream_expert.datarc.num_workers=N)"
        check_workers(workers, "datarc.num_workers", failure=ConfigError, fix=fix)


def _overridden(override: str | None) -> list[str]:
    """Return the names of the arguments that ``-o`` sets."""
    keys = [part.partition("=")[0].strip() for part in (override or "").split(",,")]
    return [key.removeprefix("args.") for key in keys if key.startswith("args.")]


def _check_type(name: str, action: Action, value: Any, flag: str) -> None:
    if value is None and action.default is None:
        return
    if action.choices is not None:
        fits, wanted = value in list(action.choices), f"one of {', '.join(map(str, action.choices))}"
    elif action.nargs == 0:  # a flag without a value
        fits, wanted = isinstance(value, bool), "True or False"
    elif action.type is int:
        fits, wanted = isinstance(value, int) and not isinstance(value, bool), "an integer"
    elif action.type is float:
        fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    elif action.type is Path:
        fits, wanted = False, f"given as {action.option_strings[0]}"
    else:
        fits = isinstance(value, str) or (isinstance(value, bool) and isinstance(action.default, bool))
        wanted = "a text; quote it" if isinstance(value, (int, float)) else "a text"
    if not fits:
        raise UsageError(f"{flag} args.{name}={shown(value)}: must be {wanted}")


def _check_name(name: str) -> None:
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise UsageError(f"-n {shown(name)}: must be a name below result/downstream, without '..'; give a path with -p")


def _check_config(values: Any, where: str) -> None:
    """Raise if a text in a recipe, which :mod:`s3prl_emotion.yaml_files` has limited in depth, holds NUL."""
    for part in parts_of(values):
        if isinstance(part, str) and "\0" in part:
            raise ConfigError(f"{where}{shown(part)}: holds the character NUL (\\0); remove it")
        _check_config(part, where)
