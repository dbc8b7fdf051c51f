"""Options of upstreams that are models of ``transformers`` and have no others."""

from __future__ import annotations

from s3prl_emotion.recipe import StrictSection


class HubOptions(StrictSection):
    """Options in ``-g``."""

    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    local_files_only: bool = False
    """Do not contact the hub: the model must be in its cache."""
