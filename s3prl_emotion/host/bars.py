"""Let the progress bars of s3prl's own tasks and downloads suit their reader, as the suite's do."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import tqdm

from s3prl_emotion.files.progress import Progress, is_terminal

HOMES = ("s3prl.downstream.", "s3prl.upstream.", "s3prl.util.")


class Lines(Progress):
    """Logs lines where a task calls tqdm.

    Args:
        iterable: to iterate over
        desc: of the work
        total: number of items; by default that of ``iterable``
        leave: whether the last line stays
        unit: what is counted
        disable: log nothing
        options: of tqdm that are for bars alone
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str = "progress",
        total: int | None = None,
        leave: bool = True,
        unit: str = "items",
        disable: bool = False,
        **options: Any,
    ) -> None:
        total = total or operator.length_hint(iterable)
        seconds_apart = float("inf") if disable else None
        super().__init__(iterable, desc, unit, total, leave=leave and not disable, seconds_apart=seconds_apart)


def replace_bars() -> None:
    """Replace tqdm in the imported modules of s3prl, unless standard error is a terminal."""
    if is_terminal():
        return
    module_of_lines = ModuleType("tqdm")
    vars(module_of_lines).update(vars(tqdm) | {"tqdm": Lines})
    stand_ins = {id(tqdm): module_of_lines, id(tqdm.tqdm): Lines}
    for name, module in list(sys.modules.items()):
        if name.startswith(HOMES) and isinstance(module, ModuleType):
            names = vars(module)
            names.update({key: stand_ins[id(value)] for key, value in names.items() if id(value) in stand_ins})
