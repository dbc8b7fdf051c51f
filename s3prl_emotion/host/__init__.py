"""s3prl as the host: patch it for today's libraries, add heads and adapters to it."""

from s3prl_emotion.host.adapters import ADAPTERS, find_upstream, origin_of_upstream, upstream_names
from s3prl_emotion.host.bars import replace_bars
from s3prl_emotion.host.deferred import import_script
from s3prl_emotion.host.guards import GUARDED, guard_task
from s3prl_emotion.host.heads import HEADS, check_downstream, downstream_names, expert_class, plugged_in_heads
from s3prl_emotion.host.patches import PATCHED, patch, soundfile_info, soundfile_load
from s3prl_emotion.host.registration import (
    LAUNCHER_HINT,
    launched,
    mark_launched,
    register,
    register_own,
    register_search_path,
)

__all__ = [
    "ADAPTERS", "GUARDED", "HEADS", "LAUNCHER_HINT", "PATCHED", "check_downstream", "downstream_names", "expert_class",
    "find_upstream", "guard_task", "import_script", "launched", "mark_launched", "origin_of_upstream", "patch",
    "plugged_in_heads", "register", "register_own", "register_search_path", "replace_bars", "soundfile_info",
    "soundfile_load", "upstream_names",
]  # fmt: skip
