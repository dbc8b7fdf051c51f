"""Helpers of the tests of ``s3prl-emotion prepare``: short audio at a corpus's own paths, and tables read back."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from s3prl_emotion import cli


@lru_cache(maxsize=8)
def sound(suffix: str = ".wav", seconds: float = 0.05, rate: int = 16_000) -> bytes:
    """A short tone, encoded."""
    samples = 0.1 * np.sin(np.arange(round(seconds * rate)) / 8)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format={".flac": "FLAC", ".aiff": "AIFF"}.get(suffix, "WAV"))
    return file.getvalue()


def lay_out(root: Path, audio: Iterable[str], texts: Mapping[str, str] | None = None, encoding: str = "utf-8") -> Path:
    """Write a corpus: audio files and text files, by their path below ``root``."""
    for name in audio:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(path.suffix))
    for name, text in (texts or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(encoding))
    return root


def prepare(*words: object, code: int = 0) -> None:
    """``s3prl-emotion prepare`` inside this process."""
    got = cli.main(["prepare", *(str(word) for word in words)])
    assert got == code, f"exit code {got}, expected {code}"


def table(path: Path) -> pd.DataFrame:
    """A table as text, by file name."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("FileName", drop=False)
