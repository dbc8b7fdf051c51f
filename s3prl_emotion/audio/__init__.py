"""Open and decode audio of any format and rate: every command reads audio through this package."""

from s3prl_emotion.audio.faults import Fault, FaultCounts, warn_of
from s3prl_emotion.audio.formats import (
    MEDIA_EXTRA,
    MEDIA_SUFFIXES,
    SAMPLE_RATE,
    SUFFIXES,
    readable_suffixes,
    say_passed_over,
)
from s3prl_emotion.audio.opening import Header, header, opened
from s3prl_emotion.audio.parts import check_inside, opened_part, seconds_of
from s3prl_emotion.audio.resampling import HIGHEST_RATE, LOWEST_RATE, Resampler, check_rate, resample, resampled_length
from s3prl_emotion.audio.segments import Part, copy_name, find_audio, list_name, segment_name, split_segment
from s3prl_emotion.audio.sound import REMEDY, Sound
from s3prl_emotion.audio.waveform import (
    MEAN,
    Audio,
    channel,
    load_audio,
    mean_of_channels,
    read_audio,
    to_16k_mono,
    waveform_hash,
    waveform_of,
)

__all__ = [
    "HIGHEST_RATE", "LOWEST_RATE", "MEAN", "MEDIA_EXTRA", "MEDIA_SUFFIXES", "REMEDY", "SAMPLE_RATE", "SUFFIXES",
    "Audio", "Fault", "FaultCounts", "Header", "Part", "Resampler", "Sound", "channel", "check_inside", "check_rate",
    "copy_name", "find_audio", "header", "list_name", "load_audio", "mean_of_channels", "opened", "opened_part",
    "read_audio", "readable_suffixes", "resample", "resampled_length", "say_passed_over", "seconds_of", "segment_name",
    "split_segment", "to_16k_mono", "warn_of", "waveform_hash", "waveform_of",
]  # fmt: skip
