"""Cut utterances out of longer recordings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from s3prl_emotion.audio import opened
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.writing import write_bytes


def cut_segment(source: Path, target: Path, start: float, end: float) -> bool:
    """Write a part of a recording as FLAC (16 bits).

    Args:
        source: the recording
        target: the file to write; its folder is made
        start: s
        end: s; cut off at the recording's end

    Returns:
        whether the part has any sample; if not, nothing is written

    Raises:
        AudioError: the recording cannot be read
        UsageError: the file cannot be written
    """
    with opened(source) as recording:
        rate = recording.rate
        samples = recording.read(round(start * rate), round(end * rate))
    if not len(samples):
        return False
    data, steps = io.BytesIO(), np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(data, steps, rate, subtype="PCM_16", format="FLAC")
    write_bytes(target, data.getvalue(), UsageError, parents=True)
    return True
