"""The suite's own argument parsers, for the page of all commands and for the test of the command lines in the texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from s3prl_emotion import cli, run_downstream

COMMANDS = tuple(cli.COMMANDS)


class _CapturedError(Exception):
    """Carries a parser out of the program that built it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def run_downstream_parser() -> argparse.ArgumentParser:
    """Return the parser of ``run_downstream.py``: s3prl's flags and the suite's."""
    return _captured(run_downstream.main)


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of ``s3prl-emotion NAME``."""
    return _captured(cli.main, name)


def help_text(parser: argparse.ArgumentParser, width: int = 100) -> str:
    """Return the text that ``--help`` prints, ``width`` characters wide on every terminal."""
    with mock.patch.dict("os.environ", {"COLUMNS": str(width)}):
        return parser.format_help()


def _captured(main: Callable[[list[str]], Any], *words: str) -> argparse.ArgumentParser:
    def print_help(parser: argparse.ArgumentParser, file: Any = None) -> None:
        raise _CapturedError(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", print_help), mock.patch.object(sys, "argv", [""]):
        try:
            main([*words, "--help"])
        except _CapturedError as captured:
            return captured.parser
    raise RuntimeError(f"{' '.join(words)} --help printed no help")
