"""s3prl-emotion: speech emotion recognition as s3prl downstreams, comparable with SUPERB and with the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from s3prl_emotion.predict import Predictor

__version__ = "0.1.0"


def register() -> None:
    """Make every head importable as ``s3prl.downstream.<head>`` and every adapter an attribute of ``s3prl.hub``.

    Patch s3prl first where today's libraries broke it (:mod:`s3prl_emotion.host`). A second call changes nothing.
    """
    from s3prl_emotion.host import register as register_in_host

    register_in_host()


def load(
    ckpt: str | Path | Sequence[str | Path],
    device: str | None = None,
    upstream_ckpt: str | Sequence[str | None] | None = None,
    upstream_model_config: str | Sequence[str | None] | None = None,
    upstream_path: str | None = None,
    downstream_path: str | None = None,
    upstream: str | Sequence[str | None] | None = None,
    trust_upstream: bool = False,
    trust_checkpoint: bool = False,
    allow_other_upstream: bool = False,
) -> Predictor:
    """Load a trained head and its upstream, to predict waveforms: ``load(ckpt).predict(waveform, rate)``.

    A list of checkpoints is an ensemble, which predicts the mean of their probabilities and dimensions. Each of
    ``upstream``, ``upstream_ckpt`` and ``upstream_model_config`` is then for all of them, or a list with an entry for
    each (``None`` for what the checkpoint says).

    Args:
        ckpt: checkpoint of one of the suite's heads, an experiment directory with a ``dev-best.ckpt``, a folder of
            ``s3prl-emotion pack``, or an id on the hub, ``OWNER/NAME[@REVISION]``; or a list of these
        device: cuda if available, else cpu, by default
        upstream_ckpt: the upstream's checkpoint (``-k``), if it was moved since training
        upstream_model_config: the upstream's options (``-g``); never taken from the checkpoint, since they name files
        upstream_path: folders with upstream adapters, as ``--upstream_path``
        downstream_path: folders with heads, as ``--downstream_path``
        upstream: the upstream (``-u``), where the checkpoint alone must not choose it
        trust_upstream: load files of upstreams that are pickles in full, which can run code
        trust_checkpoint: below torch 2.6, load a checkpoint that another user wrote
        allow_other_upstream: use another upstream than in training

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of another kind, or its head needs more than audio
        UsageError: the device does not exist, the upstream cannot be found or built, or the members of an ensemble do
            not predict the same classes and dimensions
    """
    from s3prl_emotion.predict.arguments import each_of  # torch and s3prl take seconds to import
    from s3prl_emotion.predict.predictor import load_predictor

    return load_predictor(
        each_of(
            ckpt,
            device=device,
            upstream_ckpt=upstream_ckpt,
            upstream_model_config=upstream_model_config,
            upstream_path=upstream_path,
            downstream_path=downstream_path,
            upstream=upstream,
            trust_upstream=trust_upstream,
            trust_checkpoint=trust_checkpoint,
            allow_other_upstream=allow_other_upstream,
        )
    )
