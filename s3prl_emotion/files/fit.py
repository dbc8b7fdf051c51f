"""Say in one line why a checkpoint does not fit the head, recipe or upstream that is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion.errors import CheckpointError, ConfigError, UsageError
from s3prl_emotion.files.values import check_moments, check_values

MOST = 3  # differences to name
SHOWN = 60  # characters of a name in a checkpoint
VERSION = "install the head or adapter in the version that it was trained with"


@contextmanager
def naming_checkpoint(path: Path | None) -> Iterator[None]:
    """Name the checkpoint whose head, upstream or recipe is unknown here; nothing changes without a checkpoint.

    Raises:
        CheckpointError: in place of a UsageError or ConfigError
    """
    try:
        yield
    except (UsageError, ConfigError) as error:
        if path is None or str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}; {VERSION}") from error


def load_weights(model: Any, weights: Any, path: str, name: str) -> None:
    """Load weights of a checkpoint.

    Args:
        model: upstream, featurizer or head; or optimizer or scheduler
        weights: of the checkpoint
        path: of the checkpoint, for messages
        name: of the model in the checkpoint, such as Downstream

    Raises:
        CheckpointError: they do not fit, of which the first differences are named; or are not finite
    """
    if weights is None:
        raise CheckpointError(f"{path}: holds no {name}; use a states-N.ckpt or dev-best.ckpt")
    where = f"its {name}"
    try:
        check_values(model, weights, where)
        model.load_state_dict(weights)
        check_moments(model, where)
    except CheckpointError as error:  # of these checks, or of a head, see its set_extra_state()
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = "; ".join(_differences(model, weights)) or " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path}: its {name} does not fit this experiment ({what}); use the recipe and the upstream that it was "
            f"trained with, or {VERSION}"
        ) from error


def _differences(model: Any, weights: Mapping[str, Any]) -> list[str]:
    """Return the first differences between a model's tensors and those of a checkpoint, and the number of others."""
    ours = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    found = []
    for name, value in ours.items():
        theirs = weights.get(name)
        if theirs is None:
            found.append(f"it lacks {name} {list(value.shape)}")
        elif theirs.shape != value.shape:
            found.append(f"its {name} is {list(theirs.shape)}, here {list(value.shape)}")
    strangers = [name for name, value in weights.items() if isinstance(value, Tensor) and name not in ours]
    found += [f"it has {str(name)[:SHOWN]}, which is unknown here" for name in strangers]
    return found[:MOST] + ([f"and {len(found) - MOST} more"] if len(found) > MOST else [])
