"""Write SUPERB's emotion task for one upstream as a matrix: five folds, mean pooling, a learning-rate search."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.expansion import slug
from s3prl_emotion.benchmark.matrix import KIND, STORE, Matrix
from s3prl_emotion.benchmark.reading import matrix_of
from s3prl_emotion.benchmark.records import MATRIX_COPY
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.superb import read_corpus
from s3prl_emotion.errors import AudioError, LabelError, UsageError
from s3prl_emotion.extract.filling import all_utterances
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.files.words import LARGEST_SEED
from s3prl_emotion.recipe import ALWAYS, DataSection, read_recipe
from s3prl_emotion.submit.superb import FOLDS, check_lists, lists_note
from s3prl_emotion.superb.leaderboard import METRIC, published, published_upstream

HEAD, SYSTEM = "emotion_corr_attn", "mean pooling"
RECIPE = f"superb/{HEAD}.yaml"
LEARNING_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # Yang et al. 2021, section 4: "1e-1 to 1e-7 in log scale"
DATA = "downstream_expert.datarc"
EVAL_BATCH = 32  # utterances; no score depends on it
NOTES = (
    "SUPERB's emotion recognition: mean pooling over the weighted sum of a frozen upstream's layers. The learning rate "
    "is the best of the search on dev of fold1; every fold is tested with its best checkpoint on dev."
)


def superb_matrix(args: Namespace) -> Matrix:
    """Return the matrix of the command's arguments; nothing is written.

    Raises:
        UsageError: a learning rate, the number of steps or the seed is out of range, or a file of ``-g`` is missing
        LabelError: the lists are missing or not SUPERB's
        AudioError: an audio file is missing
    """
    rates = checked_rates(args.learning_rates)
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps {args.steps}: must be 1 or more")
    if not 0 <= args.seed <= LARGEST_SEED:
        raise UsageError(f"--seed {args.seed}: must be from 0 to {LARGEST_SEED}")
    counts = check_folders(args.meta_data, args.root)
    values = matrix_values(args, rates, lists_note(counts))
    text = f"# Written by s3prl-emotion superb.\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"
    return matrix_of(args.out / MATRIX_COPY, values, text)


def checked_rates(rates: Sequence[float]) -> list[float]:
    """Return the learning rates of the search, the lowest first.

    Raises:
        UsageError: one is not positive, or given twice
    """
    for rate in rates:
        if not 0 < rate < math.inf:
            raise UsageError(f"--learning_rates {rate}: must be above 0")
    twice = [rate for index, rate in enumerate(rates) if rate in rates[:index]]
    if twice:
        raise UsageError(f"--learning_rates {twice[0]}: is given twice")
    return sorted(rates)


def check_folders(meta_data: Path, root: Path) -> dict[str, int]:
    """Check SUPERB's lists and the audio folder; return the number of test utterances of each fold.

    Raises:
        UsageError: there is no such folder
        LabelError: the lists are missing, malformed, or of another corpus
        AudioError: an audio file is missing
    """
    if not meta_data.is_dir():
        raise UsageError(f"--meta_data {meta_data}: no such folder; it must hold SUPERB's Session1 to Session5")
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder; it must hold the audio that SUPERB's lists name")
    missing = [fold for fold in FOLDS if not (meta_data / fold.replace("fold", "Session")).is_dir()]
    if missing:
        name = missing[0].replace("fold", "Session")
        raise LabelError(
            f"--meta_data {meta_data}: holds no {name}; SUPERB's lists are Session1 to Session5, each with "
            "train_meta_data.json and test_meta_data.json"
        )
    counts = check_lists(meta_data)
    for item in utterances_of(meta_data, root):
        if not item.path.is_file():
            raise AudioError(f"--root {root}: holds no {item.name}, which the lists of {meta_data} name")
    return counts


def matrix_values(args: Namespace, rates: Sequence[float], notes: Sequence[str]) -> dict[str, Any]:
    """Return what the matrix file holds.

    Args:
        args: the command's arguments
        rates: learning rates of the search
        notes: on the lists, for the report
    """
    name = display_name(args.upstream, args.upstream_ckpt)
    return {
        "kind": KIND,
        "title": f"SUPERB emotion recognition: {name}",
        "notes": " ".join([NOTES, *(f"{note[0].upper()}{note[1:]}." for note in notes)]),
        "head": HEAD,
        "recipe": str(recipes_folder() / RECIPE),
        "upstreams": {name: _upstream(args)},
        **({"upstream_path": _literal(args.upstream_path)} if args.upstream_path else {}),
        "folds": list(FOLDS),
        "seeds": [args.seed],
        "tests": ["test"],
        "store": STORE if args.feature_store is None else _literal(args.feature_store.absolute()),
        "store_dtype": args.store_dtype,
        "statistics": ALWAYS,
        "overrides": _overrides(args),
        "systems": {SYSTEM: {}},
        "search": {"learning_rates": list(rates)},
        "published": _published(args, name),
    }


def display_name(upstream: str, ckpt: str | None) -> str:
    """Return what tables call the upstream: ``-u``, with the name of the checkpoint where ``-k`` gives one."""
    return upstream if ckpt is None else f"{upstream} ({slug(Path(ckpt).name)})"


def utterances_of(meta_data: Path, root: Path) -> list[Utterance]:
    """Return every utterance of the five folds' lists, each once, sorted by name.

    Raises:
        LabelError: a list is malformed, or a speaker is in train and test
    """
    found: dict[str, Utterance] = {}
    for fold in FOLDS:
        data = DataSection(labels=str(meta_data), root=str(root), test_fold=fold, train_batch_size=1, eval_batch_size=1)
        found |= {item.name: item for item in all_utterances(read_corpus(meta_data, root, data))}
    return [found[name] for name in sorted(found)]


def _upstream(args: Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {"name": args.upstream}
    if args.upstream_ckpt is not None:
        path = Path(args.upstream_ckpt)  # or the id of a model on the hub
        values["ckpt"] = _literal(path.absolute() if path.exists() else args.upstream_ckpt)
    if args.upstream_model_config is not None:
        path = Path(args.upstream_model_config)
        if not path.is_file():
            raise UsageError(f"-g {path}: no such file; name a YAML file with the upstream's options")
        values["model_config"] = _literal(path.absolute())
    if args.upstream_feature_selection != "hidden_states":
        values["feature"] = args.upstream_feature_selection
    if args.upstream_layer_selection is not None:
        values["layer"] = args.upstream_layer_selection
    return values


def _overrides(args: Namespace) -> dict[str, Any]:
    """Return what differs from SUPERB's recipe: paths, fewer steps, and what no score depends on."""
    runner = read_recipe(recipes_folder() / RECIPE)["runner"]
    steps = runner["total_steps"] if args.steps is None else args.steps
    shorter = {key: min(steps, runner[key]) for key in ("log_step", "eval_step", "save_step")}
    return {
        f"{DATA}.labels": _literal(args.meta_data.absolute()),
        f"{DATA}.root": _literal(args.root.absolute()),
        f"{DATA}.eval_batch_size": EVAL_BATCH,
        "runner.seeding": "seed",  # --seed rules the initialisation; the split stays SUPERB's, and a store may be used
        "runner.eval_dataloaders": ["dev"],  # test is evaluated once, with the best checkpoint on dev
        "runner.total_steps": steps,
        **{f"runner.{key}": value for key, value in shorter.items()},
    }


def _published(args: Namespace, name: str) -> list[dict[str, Any]]:
    """Return the leaderboard's accuracy of the upstream, where it has one."""
    row = published_upstream(args.upstream, args.upstream_ckpt)
    return [
        {
            "source": item.source,
            "note": item.note or None,
            "upstream": name,
            "metrics": [METRIC],
            "values": {"test": {SYSTEM: [item.value]}},
        }
        for item in published()
        if item.upstream == row
    ]


def _literal(path: object) -> str:
    """Return a path as a matrix writes it, where braces are placeholders."""
    return str(path).replace("{", "{{").replace("}", "}}")
