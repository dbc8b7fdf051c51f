"""Import what trainings and evaluations need, for processes that are forked afterwards."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress

import torch

from s3prl_emotion import host

MODULES = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sklearn.metrics",
    "s3prl_emotion.corpora.utterances",
    "s3prl_emotion.experts.categorical",
    "s3prl_emotion.experts.evaluation",
    "s3prl_emotion.metrics.categorical",
    "s3prl_emotion.training.argument_values",
    "s3prl_emotion.training.main",
    "s3prl_emotion.training.preflight",
    "s3prl_emotion.training.runner",
)


def import_all(upstreams: Sequence[str]) -> None:
    """Import all that every run needs, with s3prl, the suite's own heads and adapters, and the code of upstreams.

    No thread is started, and no plug-in is imported: each process registers those that its own environment names.

    Args:
        upstreams: names of those that runs will use; others are left out
    """
    host.register_own()
    host.import_script()
    for name in MODULES:
        importlib.import_module(name)
    for name in sorted({*upstreams} & {*host.upstream_names()}):
        with suppress(Exception):  # a run that needs it says what is missing
            entry = host.find_upstream(name)
            hubconf = getattr(entry, "func", entry).__module__  # it may be a functools.partial
            importlib.import_module(hubconf.removesuffix("hubconf") + "expert")
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # the first optimizer imports more of torch
    if "transformers" in sys.modules:
        importlib.import_module("transformers.modeling_utils")  # which its models import
