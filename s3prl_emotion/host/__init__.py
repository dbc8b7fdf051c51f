"""s3prl as the host: patch it for today's libraries, add heads and adapters to it."""

from s3prl_emotion.host.adapters import find_upstream, register_adapters, register_search_path, upstream_names
from s3prl_emotion.host.patches import PATCHED, patch, soundfile_info, soundfile_load
from s3prl_emotion.host.registration import LAUNCHER_HINT, downstream_names, launched, mark_launched, register

__all__ = [
    "LAUNCHER_HINT", "PATCHED", "downstream_names", "find_upstream", "launched", "mark_launched", "patch", "register",
    "register_adapters", "register_search_path", "soundfile_info", "soundfile_load", "upstream_names",
]  # fmt: skip
