"""Declare an upstream's flags and build it frozen, for the commands that compute features outside of training."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Any

import torch

from s3prl_emotion import host
from s3prl_emotion.files.trust import TRUST, trusting
from s3prl_emotion.files.words import check_layer


def add_upstream_arguments(parser: ArgumentParser) -> None:
    """Declare the upstream's flags as ``run_downstream.py`` has them."""
    add = parser.add_argument
    add("-u", "--upstream", required=True, help="the speech model, as in run_downstream.py")
    add("-k", "--upstream_ckpt", help="its checkpoint, folder or hub id, where it needs one")
    add("-g", "--upstream_model_config", metavar="YAML", help="its options")
    add("-s", "--upstream_feature_selection", default="hidden_states", metavar="NAME", help="key of its features")
    add("-l", "--upstream_layer_selection", type=int, metavar="LAYER", help="one layer instead of all")
    add("--upstream_path", metavar="DIR", help="more folders with upstream adapters")
    add("--trust_upstream", action="store_true", help="load its files even if they are pickles, which can run code")
    add("--device", help="cuda if available, else cpu")


def add_store_arguments(parser: ArgumentParser, required: bool) -> None:
    """Declare the feature store's flags as ``run_downstream.py`` has them."""
    parser.add_argument("--feature_store", required=required, metavar="DIR", help="folder of the feature store")
    parser.add_argument("--store_dtype", default="float32", help="float32 (exact), float16 or bfloat16")


def build_source(args: Namespace, batched: bool = False) -> Any:
    """Build the frozen upstream that the flags name, and the source of its features.

    Returns:
        an :class:`~s3prl_emotion.upstreams.source.UpstreamSource`

    Raises:
        UsageError: an unknown upstream, feature, layer or device
        StoreError: the store cannot be used
    """
    host.register()
    from s3prl_emotion.devices import check_device
    from s3prl_emotion.upstreams.featurizer import Featurizer
    from s3prl_emotion.upstreams.layer_choice import cut_upstream
    from s3prl_emotion.upstreams.source import UpstreamSource, UpstreamSpec

    host.register_search_path(args.upstream_path)
    check_layer(args.upstream_layer_selection)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # under torchrun each process has its own GPU
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    with trusting(upstream=getattr(args, "trust_upstream", TRUST.upstream)):
        model = build_upstream(args.upstream, args.upstream_ckpt, args.upstream_model_config, device)
    options = (args.upstream_ckpt, args.upstream_model_config, args.upstream_feature_selection)
    cut = cut_upstream(model, args.upstream, *options, args.upstream_layer_selection)
    featurizer = Featurizer(
        upstream=model,
        feature_selection=args.upstream_feature_selection,
        layer_selection=args.upstream_layer_selection,
        upstream_device=device,
    ).to(device)
    return UpstreamSource(
        model,
        featurizer,
        UpstreamSpec(args.upstream, args.upstream_ckpt, args.upstream_model_config),
        device,
        folder=args.feature_store,
        dtype=args.store_dtype,
        batched=batched,
        identity=cut.identity,
    )


def build_upstream(name: str, ckpt: str | None, model_config: str | None, device: str) -> Any:
    """Build an upstream as the host's runner does, in eval mode.

    Raises:
        UsageError: no such upstream
    """
    entry = host.find_upstream(name)
    host.replace_bars()  # of downloads
    model = entry(ckpt=ckpt, model_config=model_config, refresh=False).to(device)
    model.eval()
    return model
