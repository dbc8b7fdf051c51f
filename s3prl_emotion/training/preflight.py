"""Check the command line of ``run_downstream.py`` before anything is loaded, drawn or written."""

from __future__ import annotations

import importlib
import logging
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from s3prl_emotion import distributed, host
from s3prl_emotion.corpora.protocol import check_same
from s3prl_emotion.devices import check_device
from s3prl_emotion.errors import AudioError, CheckpointError, ConfigError, LabelError, UsageError, nearest
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.files import structure
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.fit import naming_checkpoint
from s3prl_emotion.files.folders import heads_folder, recipes_folder
from s3prl_emotion.files.locate import packed_head
from s3prl_emotion.files.packed import is_packed
from s3prl_emotion.files.trust import TRUST
from s3prl_emotion.limits import shown
from s3prl_emotion.recipe import ALWAYS, EVALUATED_SPLITS, augmentation, check_recipe, overridden, read_recipe
from s3prl_emotion.store.segments import DTYPE_NAMES
from s3prl_emotion.training import output_folder, run_folder
from s3prl_emotion.training.argument_values import check_recipe_values
from s3prl_emotion.training.no_dev import check_without_dev
from s3prl_emotion.training.own_arguments import NEVER_RESTORED, RESTORED_UNLESS_GIVEN, mark_own, without_own
from s3prl_emotion.training.resume import resumed_checkpoint
from s3prl_emotion.training.run_name import made_folder
from s3prl_emotion.training.statistics import check_statistics
from s3prl_emotion.upstreams.finetuning.check import check_finetuning
from s3prl_emotion.upstreams.kept_identity import hub_commits
from s3prl_emotion.upstreams.layer_choice import chosen_layer
from s3prl_emotion.upstreams.restored import check_restored

logger = logging.getLogger(__name__)

# Arguments that the command line still sets when -e restores a checkpoint's arguments.
KEPT_WITH_PAST_EXP = {
    "mode", "evaluate_split", "override", "backend", "local_rank", "past_exp", "auto_resume", "device",
    "verbose", "downstream",
} | NEVER_RESTORED | RESTORED_UNLESS_GIVEN  # fmt: skip
NO_BUILDERS = {"optimizer", "scheduler", "grouped_parameters"}  # s3prl's other get_… functions
OWN_SCHEDULE = "_with_schedule"  # end of the names of optimizers that hold a schedule


def check_arguments(args: Namespace, given: Sequence[str], held: ExitStack) -> Namespace:
    """Check parsed arguments, fill in device, recipe and folder, which the host leaves open, and lock that folder.

    Args:
        args: from the host's parser
        given: destinations of the flags that the user gave
        held: keeps the lock on the folder of a training

    Returns:
        the arguments, with ``device``, ``config`` and ``expdir`` set

    Raises:
        UsageError: unknown head, upstream, device or file
        ConfigError: the recipe is malformed
        CheckpointError: a checkpoint cannot be used
    """
    own = mark_own(given, args.override)
    TRUST.upstream, TRUST.checkpoint = args.trust_upstream, args.trust_checkpoint
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(args.device)
    distributed.join(args, given)
    host.register_search_path(args.upstream_path, args.downstream_path)
    output_folder.check_flags(args)
    if args.init_ckpt and (packed := packed_head(args.init_ckpt)) is not None:
        args.init_ckpt = str(packed)
    past = _past_checkpoint(args)
    args.expdir = output_folder.chosen_folder(args, past, own)
    if past is not None:
        state = load_checkpoint(past)
        output_folder.warn_of_places(state["Args"], args, past)
        _check_past(args, state, past, given)
        if args.mode == "train":
            distributed.check_world(state, past, args.local_rank)
        restored = vars(without_own(state["Args"])) | {"mode": args.mode, "evaluate_split": args.evaluate_split}
        effective, config = overridden(args.override, Namespace(**{**vars(args), **restored}), state["Config"])
        check_same(past, state["Config"], config)
        _check_past_folders(effective, state["Args"], past)
        if args.expdir is None:  # of a packed head, whose folder stays as it is
            args.expdir = made_folder(Namespace(**vars(args) | {"downstream": effective.downstream}), held)
            effective.expdir = args.expdir
    else:
        _check_names(args)
        args.expdir = args.expdir or made_folder(args, held)
        args.config = str(find_recipe(args.downstream) if args.config is None else args.config)
        effective, config = overridden(args.override, args, read_recipe(args.config))
    with naming_checkpoint(past):
        _check_names(effective)
    if past is not None:
        check_restored(effective, own, past, hub_commits(state, past))
    if past is None and is_emotion_head(effective.downstream):  # -e restores the chosen layer
        args.upstream_layer_selection = effective.upstream_layer_selection = chosen_layer(effective, config)
    check_builders(config)
    check_recipe_values(config)
    check_finetuning(effective, config)
    check_statistics(args, effective, config)
    _check_store(args, effective, config)
    takes_batches = is_emotion_head(effective.downstream) and is_superb(config) and args.statistics != ALWAYS
    if args.local_rank is not None and takes_batches:
        raise UsageError(
            "torchrun: runner.seeding superb uses s3prl's batched features, which are those of one process; use "
            "seeding: seed, or --statistics always, which reads each utterance's means"
        )
    folder, is_first = Path(effective.expdir), distributed.is_first(args)
    trains = is_first and args.mode == "train"
    if is_first:  # alone: it may rename the folder while the others start
        _check_writable(folder)
        run_folder.remove_if_failed(folder, held)
    if trains:
        run_folder.check_free(args, folder, past)
    if args.init_ckpt and past is None:
        initial = load_checkpoint(args.init_ckpt)
        _check_initial(args, initial)
        check_same(args.init_ckpt, initial["Config"], config, may_become_random=args.mode == "train")
    if args.mode == "inference" and not Path(args.evaluate_split).is_file():
        raise UsageError(f"-t {args.evaluate_split}: no such audio file")
    if is_emotion_head(effective.downstream):
        if args.mode == "inference" and past is None and not args.init_ckpt:
            raise UsageError("-m inference needs a trained checkpoint: give one with -e, such as dev-best.ckpt")
        check_head(effective, config, past)
    if trains:
        step = 0 if past is None else state.get("Step", 0)
        run_folder.claim(args, folder, past, step, held)
    return args


def find_recipe(downstream: str) -> Path:
    """Return the default recipe of a head or task: below the working directory as in s3prl, or in the head's folder.

    Raises:
        UsageError: there is none
    """
    package = importlib.import_module("s3prl.downstream")
    folders = [Path("downstream"), heads_folder(), *map(Path, package.__path__)]
    recipes = [folder / downstream / "config.yaml" for folder in folders]
    if downstream in host.plugged_in_heads():
        recipes.insert(1, host.plugged_in_heads()[downstream] / "config.yaml")
    recipes.append(recipes_folder() / "stock" / f"{downstream}.yaml")
    for recipe in recipes:
        if recipe.is_file():
            return recipe
    raise UsageError(f"-d {downstream}: there is no config.yaml for it; give a recipe with -c")


def _check_names(args: Namespace) -> None:
    if args.downstream is None:
        raise UsageError("-d/--downstream is required: the head to train, such as emotion_corr_attn")
    host.check_downstream(args.downstream)
    if args.upstream is None:
        raise UsageError("-u/--upstream is required: the speech model, such as fbank_no_cmvn")
    if getattr(args, "hub", "torch") == "torch":
        host.find_upstream(args.upstream)


def check_builders(config: dict[str, Any]) -> None:
    """Allow only the names of the host's optimizers and schedulers: it evaluates them, and checkpoints bring recipes.

    Raises:
        ConfigError: another name, or an optimizer whose state no checkpoint can hold
    """
    for section in ("optimizer", "scheduler"):
        options = config.get(section)
        if isinstance(options, dict) and "name" in options:
            functions = vars(importlib.import_module(f"s3prl.{section}s"))
            known = sorted({name[4:] for name in functions if name.startswith("get_")} - NO_BUILDERS)
            if options["name"] not in known:
                name = options["name"]
                raise ConfigError(f"{section}.name: s3prl has no {section} {shown(name)}{nearest(name, known)}")
            if section == "optimizer" and options["name"].endswith(OWN_SCHEDULE):
                raise ConfigError(
                    f"optimizer.name: {options['name']} keeps its schedule as an object, and checkpoints hold tensors "
                    "and plain data alone, so none could be read again; use TorchOptim, with a scheduler beside it"
                )


def is_superb(config: dict[str, Any]) -> bool:
    """Return whether a recipe asks for SUPERB's own seeding and order."""
    runner = config.get("runner")
    return isinstance(runner, dict) and runner.get("seeding") == "superb"


def _check_store(args: Namespace, effective: Namespace, config: dict[str, Any]) -> None:
    """Refuse ``--feature_store`` where features are not the suite's own of a frozen upstream, as in SUPERB's mode."""
    if args.feature_store is None:
        if args.store_dtype != "float32" or args.store_batched:
            raise UsageError("--store_dtype and --store_batched need --feature_store DIR")
        return
    if args.store_dtype not in DTYPE_NAMES:
        raise UsageError(f"--store_dtype {args.store_dtype}: no such type{nearest(args.store_dtype, DTYPE_NAMES)}")
    if effective.upstream_trainable:
        raise UsageError("--feature_store: a trained upstream (-f) changes with every step; leave one of them out")
    if not is_emotion_head(effective.downstream):
        raise UsageError(f"--feature_store: -d {effective.downstream} is a stock task, which s3prl runs in its own way")
    if args.mode == "train":
        check_views(config)
    if is_superb(config) and args.statistics != ALWAYS:
        raise UsageError(
            "--feature_store: runner.seeding superb uses s3prl's batched features; use seeding: seed, or --statistics "
            "always, which reads each utterance's means"
        )


def check_views(config: dict[str, Any]) -> None:
    """Refuse a feature store for a training that draws its augmentations anew in every epoch.

    Raises:
        UsageError: says what to set
    """
    augment = augmentation(config)
    if augment is not None and augment.draws_anew:
        raise UsageError(
            "--feature_store: datarc.augment draws anew in every epoch, which would fill the store without end; set "
            "datarc.augment.views, the augmented versions of each utterance"
        )


def _past_checkpoint(args: Namespace) -> Path | None:
    """Return the checkpoint that ``-e`` or ``-a`` means, chosen as the host chooses it."""
    folder = Path(args.expdir or f"result/downstream/{args.expname}")
    if args.auto_resume:
        args.past_exp = resumed_checkpoint(args, folder) or args.past_exp
    if args.past_exp is None:
        return None
    packed = packed_head(args.past_exp)
    if packed is not None:
        if args.mode == "train":
            raise CheckpointError(
                f"-e {args.past_exp}: a packed head has no state of a training to resume; start from its weights "
                "with -i"
            )
        args.past_exp = str(packed)
        return packed
    path = Path(args.past_exp)
    if not path.exists():
        raise CheckpointError(f"-e {path}: no such checkpoint or folder")
    if path.is_file():
        return path
    states = run_folder.states_of(path)
    if not states:
        raise CheckpointError(f"-e {path}: contains no states-*.ckpt; name a checkpoint file, such as dev-best.ckpt")
    if args.mode != "train" and (path / "dev-best.ckpt").is_file():
        logger.warning(
            "-e %s evaluates its last checkpoint, %s, as in s3prl; the best is %s",
            path,
            states[-1].name,
            path / "dev-best.ckpt",
        )
    return states[-1]


def _check_past(args: Namespace, state: dict[str, Any], path: Path, given: Sequence[str]) -> None:
    structure.check_arguments(path, state["Args"])
    theirs = state["Args"].downstream
    if args.downstream is not None and args.downstream != theirs:
        raise CheckpointError(f"{path}: is a checkpoint of -d {theirs}, not of -d {args.downstream}")
    for name in given:
        if name not in KEPT_WITH_PAST_EXP and getattr(args, name, None) != getattr(state["Args"], name, None):
            logger.warning(
                "--%s is ignored: -e restores the checkpoint's (%s); -o overrides it",
                name,
                getattr(state["Args"], name, None),
            )


def _check_past_folders(args: Namespace, theirs: Namespace, path: Path) -> None:
    """Ask for ``--upstream_path`` and ``--downstream_path`` again: a checkpoint must not choose which code is run."""
    for what, flag, name, known in (
        ("upstream", "upstream_path", args.upstream, host.upstream_names()),
        ("head", "downstream_path", args.downstream, host.downstream_names()),
    ):
        folder = getattr(theirs, flag, None)
        if folder and name not in known:
            raise CheckpointError(f"{path}: {what} {name!r} came from --{flag} {folder}; give it again")


def _check_initial(args: Namespace, state: dict[str, Any]) -> None:
    theirs = state["Args"].downstream
    if theirs != args.downstream:
        raise CheckpointError(f"{args.init_ckpt}: is a checkpoint of -d {theirs}, not of -d {args.downstream}")


def _check_writable(folder: Path) -> None:
    """Refuse an experiment directory that cannot be written, before hours of training are lost."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder}: the experiment directory cannot be written ({error.strerror}); choose another with -p"
        ) from error


def check_head(args: Namespace, config: dict[str, Any], checkpoint: Path | None = None) -> None:
    """Check recipe and corpus of a head.

    Args:
        args: command line
        config: recipe
        checkpoint: where the recipe comes from, if from there

    Raises:
        CheckpointError: the recipe of a checkpoint does not fit the head that is installed
        ConfigError: the recipe is malformed
        LabelError: the labels are malformed, or a split that the run needs does not exist
        AudioError: audio files are missing
    """
    expert = host.expert_class(args.downstream)
    with naming_checkpoint(checkpoint):
        check_recipe(config)
        _, data, modelrc = expert.read_section(config["downstream_expert"], args.downstream_variant, config["runner"])
    if args.mode != "inference":
        from s3prl_emotion.corpora import load_corpus

        with _asking_for_corpus(checkpoint):
            corpus = load_corpus(data, expert.required_labels(modelrc))
        runner = config["runner"]
        check_without_dev(corpus, runner)
        evaluated = corpus.existing(runner.get("eval_dataloaders", EVALUATED_SPLITS))
        splits = [runner.get("train_dataloader", "train"), *evaluated]
        for split in splits if args.mode == "train" else [args.evaluate_split]:
            corpus.split(split)
        if args.mode == "train" and data.augment is not None:
            from s3prl_emotion.loading.augmentation.augmenter import Augmenter  # deferred: few runs need it

            Augmenter(data.augment, corpus.split(splits[0]), seed=0)  # a folder may be missing, whatever the seed


@contextmanager
def _asking_for_corpus(checkpoint: Path | None) -> Iterator[None]:
    """Say how to name a corpus where one that a packed head was trained on is not here: it holds no paths.

    Raises:
        LabelError: in place of any error in labels and audio
    """
    try:
        yield
    except (UsageError, LabelError, AudioError) as error:
        if checkpoint is None or not is_packed(checkpoint):
            raise
        section = "config.downstream_expert.datarc"
        raise LabelError(
            f"{error} ({checkpoint.parent} does not know where your corpus is: -o {section}.labels=FILE,,"
            f"{section}.root=DIR)"
        ) from error
