"""Check that a device exists before it is used."""

from __future__ import annotations

import torch

from s3prl_emotion.errors import UsageError


def check_device(device: str) -> None:
    """Check that torch knows and sees a device.

    Raises:
        UsageError: it does not
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a device; give cpu, cuda or cuda:0") from error
    if kind == "cuda":
        _check_cuda(device)
    elif kind != "cpu":
        try:
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, NotImplementedError, AssertionError, ImportError) as error:
            raise UsageError(f"--device {device}: torch cannot compute on it here; use --device cpu") from error


def _check_cuda(device: str) -> None:
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch sees no CUDA device here; use --device cpu")
    count, index = torch.cuda.device_count(), torch.device(device).index
    if index is not None and index >= count:
        raise UsageError(f"--device {device}: torch sees {count} CUDA devices, the last is cuda:{count - 1}")
