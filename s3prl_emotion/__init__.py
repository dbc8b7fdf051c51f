"""s3prl-emotion: speech emotion recognition as s3prl downstreams, comparable with SUPERB and with the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    ckpt: str | Path,
    device: str | None = None,
    upstream_ckpt: str | None = None,
    upstream_model_config: str | None = None,
    upstream_path: str | None = None,
    downstream_path: str | None = None,
) -> Predictor:
    """Load a trained head and its upstream, to judge waveforms: ``load(ckpt).predict(waveform, rate)``.

    Args:
        ckpt: checkpoint of one of the suite's heads, or an experiment directory, whose ``dev-best.ckpt`` it then is
        device: by default cuda where there is one, else cpu
        upstream_ckpt: ``-k`` of the upstream, where it is no longer where training had it
        upstream_model_config: ``-g`` likewise
        upstream_path: folders with upstream adapters, as ``--upstream_path``
        downstream_path: folders with heads, as ``--downstream_path``

    Raises:
        CheckpointError: missing, damaged, of another kind, or of a head that needs more than audio
        UsageError: the device is not there, or the upstream cannot be found or built
    """
    from s3prl_emotion.predict import load as load_predictor  # torch and s3prl take seconds to import

    return load_predictor(ckpt, device, upstream_ckpt, upstream_model_config, upstream_path, downstream_path)
