"""``s3prl-emotion check-upstream NAME``: check an upstream's interface, determinism and handling of padding."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.files.trust import trusting

MARKS = {True: "ok", False: "FAIL", None: "-"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments; names and meanings are those of ``run_downstream.py``."""
    parser.add_argument("name", metavar="NAME", help="the upstream, as -u of run_downstream.py")
    parser.add_argument("-k", "--upstream_ckpt", metavar="CKPT", help="checkpoint, as -k of run_downstream.py")
    parser.add_argument("-g", "--upstream_model_config", metavar="CONFIG", help="options, as -g of run_downstream.py")
    parser.add_argument("-s", "--upstream_feature_selection", metavar="KEY", default="hidden_states", help="features")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:0, …")
    parser.add_argument("--upstream_path", metavar="DIR", help="more folders with adapters, separated as in PATH")
    parser.add_argument("--trust_upstream", action="store_true", help="load its files even if they are pickles")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: Namespace) -> int:
    """Build the upstream as the runner does, check it, and print one line per check.

    Returns:
        0, or 1 if a check failed

    Raises:
        UsageError: no such upstream or device
    """
    host.register()
    host.register_search_path(args.upstream_path)
    entry = host.find_upstream(args.name, flag="check-upstream")
    from s3prl_emotion.devices import check_device
    from s3prl_emotion.upstreams.check.checks import Check, check_upstream
    from s3prl_emotion.upstreams.check.probe import CheckError, foreign

    check_device(args.device)
    out = sys.stdout

    def line(check: Check) -> None:
        if not args.json:
            out.write(f"{MARKS[check.ok]:5} {check.name:12} {check.detail}\n")
            out.flush()

    checks: list[Check] = []
    with contextlib.redirect_stdout(sys.stderr):  # s3prl's upstreams print
        try:
            with trusting(upstream=args.trust_upstream):
                model = foreign(_build, entry, args)
        except CheckError as error:
            checks.append(Check("build", False, str(error)))
            line(checks[-1])
        else:
            checks += check_upstream(model, args.upstream_feature_selection, args.device, report=line)
    failed = [check.name for check in checks if check.ok is False]
    if args.json:
        report = {"upstream": args.name, "ok": not failed, "checks": [asdict(check) for check in checks]}
        out.write(json.dumps(report, indent=2) + "\n")
    else:
        out.write(f"{args.name}: {'failed: ' + ', '.join(failed) if failed else 'all checks passed'}\n")
    return 1 if failed else 0


def _build(entry: Callable[..., Any], args: Namespace) -> Any:
    model = entry(ckpt=args.upstream_ckpt, model_config=args.upstream_model_config, refresh=False)
    return model.to(args.device)
