"""s3prl-emotion: speech emotion recognition as s3prl downstreams, comparable with SUPERB and with the papers."""

from __future__ import annotations

__version__ = "0.1.0"


def register() -> None:
    """Make every head importable as ``s3prl.downstream.<head>`` and every adapter an attribute of ``s3prl.hub``.

    Mends s3prl first where today's stack broke it (:mod:`s3prl_emotion.host`). Calling it twice changes nothing.
    """
    from s3prl_emotion.host import register as register_in_host

    register_in_host()
