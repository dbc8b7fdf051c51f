"""Rebuild upstream, featurizer and head from a checkpoint, without its corpus.

Import after :func:`s3prl_emotion.register`, since this module imports s3prl's runner.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora.protocol import note_of_model
from s3prl_emotion.corpora.seen import read_seen
from s3prl_emotion.devices import check_device
from s3prl_emotion.errors import AudioError, CheckpointError, EmotionError, UsageError, is_out_of_memory, one_line
from s3prl_emotion.experts.heads import emotion_heads, is_emotion_head
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.fit import naming_checkpoint
from s3prl_emotion.files.locate import find_head
from s3prl_emotion.files.packed import is_packed
from s3prl_emotion.files.structure import check_arguments
from s3prl_emotion.files.trust import trusting
from s3prl_emotion.masking import pad_features
from s3prl_emotion.predict.arguments import ModelArguments
from s3prl_emotion.recipe import check_recipe
from s3prl_emotion.rng import own_seed
from s3prl_emotion.training.preflight import is_superb
from s3prl_emotion.training.runner import SuiteRunner
from s3prl_emotion.upstreams.finetuning.check import check_finetuning
from s3prl_emotion.upstreams.kept_identity import UNKNOWN, hub_commits
from s3prl_emotion.upstreams.restored import FLAGS, check_restored
from s3prl_emotion.upstreams.source import failing_on

REMEDY = "use --window, or a shorter one"


class TrainedModel(SuiteRunner):
    """The suite's runner without training: builds and computes the same as ``-m inference``.

    Args:
        args: command line of the experiment, completed by :func:`restore`
        config: its recipe
        state: the checkpoint
    """

    def __init__(self, args: Namespace, config: dict[str, Any], state: dict[str, Any]) -> None:
        self.args, self.config, self.init_ckpt = args, config, state  # s3prl's __init__ would read the file again
        self.is_suite, self.host_order = True, is_superb(config)
        self.device = torch.device(args.device)
        self.upstream = self._get_upstream()
        self.featurizer = self._get_featurizer()
        self.downstream = self._get_downstream()
        self.all_entries = [self.upstream, self.featurizer, self.downstream]
        self.init_ckpt, self.step = {}, state.get("Step")
        self.notes = tuple(f"upstream: {note}" for note in [self.upstream_note] if note not in (None, UNKNOWN))
        note = note_of_model(config)
        self.notes += () if note is None else (note,)
        self.seen_data = read_seen(state, args.init_ckpt)
        for entry in self.all_entries:
            entry.model.eval()
        self.memory.remedy = REMEDY

    def use_upstream(self, upstream: Any) -> None:
        """Replace the upstream by an equal one, which other models use too."""
        self.upstream.model = upstream
        for name in ("source", "memory"):  # which hold the former one
            self.__dict__.pop(name, None)
        self.memory.remedy = REMEDY

    def _get_upstream(self) -> Any:
        name, ckpt = self.args.upstream, self.args.upstream_ckpt
        try:
            return super()._get_upstream()
        except CheckpointError:
            raise
        except Exception as error:  # upstreams are foreign code and fail in any way
            what = f"{name} (-k {ckpt})" if ckpt else name
            detail = one_line(error) if isinstance(error, EmotionError) else " ".join(str(error).split())[:300]
            raise UsageError(
                f"{self.args.init_ckpt}: its upstream {what} cannot be built: {detail}; if its files were moved, "
                "name its checkpoint with -k and its options with -g"
            ) from error

    def frames(self, waveform: Tensor, name: str) -> Tensor:
        """Return the features ``[T, D]``, T >= 1, of a waveform ``[N]``, which is a batch of its own.

        Raises:
            AudioError: the upstream fails or gives no frame, or memory does not suffice
        """
        naming = failing_on(self.args.upstream, [waveform], name) if self.host_order else nullcontext()
        try:
            with torch.no_grad():
                self.memory.check(len(waveform), name)
                with naming:
                    feature = self.features([waveform], [[name]])[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            seconds = len(waveform) / SAMPLE_RATE
            raise AudioError(
                f"{name}: the memory of {self.device} does not suffice for {seconds:.0f} s; use --window, or a shorter "
                "one"
            ) from error
        pad_features([feature], [name])
        return feature


def restore(wanted: ModelArguments) -> TrainedModel:
    """Rebuild the model of a checkpoint; random generators keep their state.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of another kind, or its head needs more than audio
        UsageError: the device does not exist, or the upstream cannot be found or built
    """
    with trusting(wanted.trust_upstream, wanted.trust_checkpoint):
        return _restored(wanted)


def _restored(wanted: ModelArguments) -> TrainedModel:
    host.register_search_path(wanted.upstream_path, wanted.downstream_path)
    device = wanted.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    file = find_head(wanted.ckpt)
    state = load_checkpoint(file, mmap=True)  # the optimizer's state is never read
    path = Path(wanted.ckpt) if is_packed(file) else file  # for messages and outputs
    args, config = copy.copy(state["Args"]), copy.deepcopy(state["Config"])
    own = [name for name in FLAGS if getattr(wanted, name) is not None]
    vars(args).update({name: getattr(wanted, name) for name in own})
    args.allow_other_upstream = wanted.allow_other_upstream
    _check(path, args, config)
    check_restored(args, own, file, hub_commits(state, path))
    config["downstream_expert"] |= {"attention_dir": None, "embeddings": False}
    args.mode, args.init_ckpt, args.device, args.upstream_refresh = "inference", str(path), device, False
    args.feature_store, args.store_dtype, args.store_batched, args.statistics = None, "float32", False, "auto"
    try:
        with naming_checkpoint(path), own_seed(int(args.seed)):
            return TrainedModel(args, config, state)
    except EmotionError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {one_line(error)}") from error


def _check(path: Path, args: Namespace, config: dict[str, Any]) -> None:
    """Refuse a checkpoint unless its head is one of the suite's and needs only audio.

    Raises:
        CheckpointError: says what the checkpoint is of
    """
    check_arguments(path, args)
    head, upstream = args.downstream, args.upstream
    if not is_emotion_head(head):
        folder = getattr(args, "downstream_path", None)
        hint = f"; name the folder of the head with --downstream_path, {folder} in training" if folder else ""
        known = ", ".join(emotion_heads())
        raise CheckpointError(f"{path}: is a checkpoint of -d {head}, not of one of the heads {known}{hint}")
    if getattr(args, "from_hf_hub", False):
        raise CheckpointError(
            f"{path}: its upstream is code from the Hugging Face hub (--hub huggingface), which is not run here; "
            "train on an upstream of s3prl or hf_speech_custom"
        )
    try:
        check_recipe(config)
        host.find_upstream(str(upstream))
    except UsageError as error:
        trained_with = getattr(args, "upstream_path", None)
        where = f", {trained_with} in training" if trained_with else ""
        raise CheckpointError(f"{path}: {error}; name the folder of its adapter with --upstream_path{where}") from error
    except EmotionError as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from error
    try:
        check_finetuning(args, config)
    except EmotionError as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from error
    modelrc = config["downstream_expert"].get("modelrc")
    for key, what in host.expert_class(str(head)).beyond_audio.items():
        if isinstance(modelrc, dict) and modelrc.get(key):
            raise CheckpointError(
                f"{path}: {head} with modelrc.{key} takes {what} besides audio, so audio is not enough; use "
                "run_downstream.py -m evaluate, or a head that was trained without it"
            )
