"""Load the training split that a recipe names, and write what is computed from it to a saliency file."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from s3prl_emotion import host
from s3prl_emotion.corpora import Corpus, Needs
from s3prl_emotion.corpora.whole import load_to_train
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.recipe import DataSection, HeadSection, check_recipe, overridden, read_recipe
from s3prl_emotion.saliency.targets import Words, labels_for, targets_of
from s3prl_emotion.upstreams.saliency_file import SaliencyFile
from s3prl_emotion.upstreams.source import UpstreamSource

logger = logging.getLogger(__name__)
SPLIT = "train"
Method = Literal["ccs", "mis", "pca"]


def read_recipe_of(args: Namespace) -> tuple[Namespace, dict[str, Any]]:
    """Read the recipe of ``-c`` or ``-d``, and apply ``-o``.

    Returns:
        the arguments with the recipe's path, and the recipe

    Raises:
        UsageError: neither ``-c`` nor ``-d``, or no such head
        ConfigError: the recipe is malformed
    """
    from s3prl_emotion.experts.heads import emotion_heads, is_emotion_head

    if args.downstream is not None and not is_emotion_head(args.downstream):
        hint = f"{nearest(args.downstream, emotion_heads())}{host.HEADS.hint()}"
        raise UsageError(f"-d {args.downstream}: the suite has no such head{hint}")
    if args.config is None:
        from s3prl_emotion.training.preflight import find_recipe

        if args.downstream is None:
            raise UsageError("-c RECIPE is required, or -d HEAD for a head's own recipe")
        args.config = str(find_recipe(args.downstream))
    args, recipe = overridden(args.override, args, read_recipe(args.config))
    check_recipe(recipe)
    return args, recipe


def load_training_corpus(
    recipe: dict[str, Any], head: str | None, fold: str | None, words: Words = None
) -> tuple[DataSection, Corpus, tuple[str, ...]]:
    """Load the corpus of a recipe, with the utterances that training would use.

    Args:
        recipe: the recipe
        head: the head, whose labels utterances must have besides the targets; ``None`` for the targets only
        fold: the fold, where the recipe names none
        words: of ``--targets``; ``None`` for the three dimensions

    Returns:
        the section ``datarc`` with the fold, the corpus, and the names of the targets

    Raises:
        UsageError: the recipe trains on another split, or there is no such target
        ConfigError: the recipe is malformed
    """
    section = HeadSection.read(recipe["downstream_expert"], "downstream_expert")
    data = DataSection.read(section.datarc, "downstream_expert.datarc")
    trained_on = recipe["runner"].get("train_dataloader", SPLIT)
    if trained_on != SPLIT:
        raise UsageError(f"runner.train_dataloader {trained_on}: saliency is computed from the split {SPLIT!r} only")
    if fold is not None and data.test_fold not in (None, fold):
        logger.warning("-v %s is ignored, as in training: the recipe's datarc.test_fold is %s", fold, data.test_fold)
    if data.test_fold is None and fold:
        data = data.model_copy(update={"test_fold": fold})
    needs = labels_for(words, _learnt_labels(recipe, head, fold))
    corpus = load_to_train(data, needs)
    return data, corpus, targets_of(words, corpus.classes, needs.dimensions)


def _learnt_labels(recipe: dict[str, Any], head: str | None, fold: str | None) -> Needs | None:
    """Return the labels that the head learns, since training leaves out utterances without them; ``None``: no head."""
    if head is None:
        return None
    expert = host.expert_class(head)
    *_, modelrc = expert.read_section(recipe["downstream_expert"], fold, recipe["runner"])
    needs: Needs = expert.required_labels(modelrc)
    return needs


def saliency_file(
    path: Path,
    source: UpstreamSource,
    corpus: Corpus,
    data: DataSection,
    method: Method,
    recipe: dict[str, Any],
    command: str,
    targets: Sequence[str],
    ranking: Literal["within", "across"] = "within",
    store: str | None = None,
) -> SaliencyFile:
    """Compute the saliency of an upstream's layers and dimensions on the training split of a corpus.

    Args:
        path: where the file will be written
        source: the upstream
        corpus: the corpus
        data: its section ``datarc``
        method: ccs, mis or pca
        recipe: the recipe, whose hash the file records
        command: the command line that the file records
        targets: names of dimensions and classes; pca ignores them
        ranking: whether each stream of the input gets a saliency of its own, or all together one
        store: folder of the feature store for lexical embeddings, or ``None``

    Returns:
        the file, which is not written yet

    Raises:
        UsageError: so many layers and dimensions that memory or the file would not hold them
        AudioError: unreadable audio, or the upstream fails on it, gives no frame or values that are not finite
        LabelError: an utterance lacks a target or, where the recipe joins lexical embeddings early, a text
    """
    from s3prl_emotion.corpora.fingerprint import fingerprint, target_values
    from s3prl_emotion.files.versions import versions  # s3prl is patched by now
    from s3prl_emotion.metrics.results import config_hash  # s3prl is patched by now
    from s3prl_emotion.saliency import compute
    from s3prl_emotion.saliency.streams import joined_embeddings
    from s3prl_emotion.upstreams.saliency_format import Header

    utterances, classes = corpus.split(SPLIT), corpus.classes
    lexical, streams = joined_embeddings(source, utterances, recipe, store)
    dims = sum(item.dims for item in streams) or int(source.featurizer.output_dim)
    sizes = [item.dims for item in streams] if streams and ranking == "within" else [dims]
    _warn_of_little_data(method, target_values(utterances, targets, classes), targets, dims)
    identity = compute.identity_of(source)
    how = (method, data.max_duration, data.num_workers, classes)
    tensors = compute.compute_saliency(source, utterances, targets, *how, lexical, sizes)
    header = Header(
        method=method,
        targets=tuple(targets),
        layers=compute.layers_of(source),
        available=compute.available_layers(source),
        dims=dims,
        upstream=identity.values,
        training=fingerprint(utterances, targets, data.max_duration, classes),
        fold=corpus.fold,
        recipe=config_hash(recipe),
        command=command,
        device=source.device.type,
        versions=versions(),
        streams=streams,
        ranking=ranking,
    )
    return SaliencyFile(path, header, tensors)


def _warn_of_little_data(method: str, labels: Any, targets: Sequence[str], dims: int) -> None:
    """Warn where there is too little data; ``labels`` are ``[U, D]``."""
    if method == "pca":
        if len(labels) <= dims:
            logger.warning(
                "%d training utterances vary along %d components at most; the other directions of %d are arbitrary",
                len(labels),
                len(labels) - 1,
                dims,
            )
    elif len(labels) == 1:
        logger.warning("one training utterance: nothing varies, and every saliency is 0")
    else:
        for name, same in zip(targets, (labels == labels[0]).all(dim=0).tolist(), strict=True):
            if same:
                logger.warning("%s is the same in all training utterances: its saliency is 0", name)
