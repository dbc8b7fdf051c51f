"""Flags that commands share which judge audio by a trained head."""

from __future__ import annotations

from argparse import ArgumentParser


def add_trained_model(parser: ArgumentParser) -> None:
    """Declare which checkpoint, on what device, in which windows, and where its upstream is now."""
    add = parser.add_argument
    add("--ckpt", required=True, help="checkpoint of a head, or an experiment directory for its dev-best.ckpt")
    add("--window", type=float, metavar="S", help="long audio in windows of so many s, each judged; the mean is given")
    add("--hop", type=float, metavar="S", help="from one window to the next (s; default: half a window)")
    add("--device", help="cuda where there is one, else cpu")
    add("-k", "--upstream_ckpt", help="the upstream's checkpoint, where it is no longer where training had it")
    add("-g", "--upstream_model_config", metavar="YAML", help="the upstream's options, likewise")
    add("--upstream_path", metavar="DIR", help="more folders with upstream adapters")
