"""Make the first evaluation of a run the best so far, whatever its score, in the host's own tasks as well."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor


@contextmanager
def first_is_best(expert: Any, folder: Path) -> Iterator[None]:
    """Forget the best dev score that the block loads, unless the folder holds the checkpoint that it belongs to.

    Else a first score of 0, or one below that of the weights that training starts from, would leave no best checkpoint.

    Args:
        expert: a head of the suite or of the host, as it was built. The host's begin with a best score of 0 or less
            where higher scores are better, and of 100 or more where lower ones are, such as error rates.
        folder: experiment directory
    """
    best = getattr(expert, "best_score", None)
    worst = -math.inf if isinstance(best, Tensor) and best.item() <= 0 else math.inf
    yield
    if any(folder.glob("*best*.ckpt")):
        return
    if isinstance(best, Tensor):
        expert.best_score.fill_(worst)
    scores = getattr(expert, "best", None)
    if isinstance(scores, defaultdict):  # by split, higher is better
        scores.default_factory = lambda: -math.inf
