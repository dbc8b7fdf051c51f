"""Which heads there are: those of the suite, and others that extend its base class."""

from __future__ import annotations

from s3prl_emotion import host
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.files.folders import heads as suite_heads


def emotion_heads() -> list[str]:
    """Return the names of the suite's heads and of those that are plugged in, sorted."""
    return sorted({*suite_heads(), *(name for name in host.plugged_in_heads() if is_emotion_head(name))})


def is_emotion_head(name: object) -> bool:
    """Return whether ``name`` is a head on the suite's base class, rather than a task as s3prl's own are."""
    if name in suite_heads():
        return True
    return name in host.plugged_in_heads() and issubclass(host.expert_class(str(name)), EmotionExpert)
