"""Cut utterances out of longer recordings."""

from __future__ import annotations

import io
from pathlib import Path

import soundfile

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
        soundfile.SoundFileError: the recording cannot be read
        UsageError: the file cannot be written
    """
    with soundfile.SoundFile(source) as recording:
        first, last = round(start * recording.samplerate), min(round(end * recording.samplerate), recording.frames)
        if first >= last:
            return False
        recording.seek(first)
        samples = recording.read(last - first, dtype="int16")
        rate = recording.samplerate
    data = io.BytesIO()
    soundfile.write(data, samples, rate, subtype="PCM_16", format="FLAC")
    write_bytes(target, data.getvalue(), UsageError, parents=True)
    return True
