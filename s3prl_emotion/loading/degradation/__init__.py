"""Noise and reverberation on speech, for copies of an evaluation set and on the fly (Mitra et al. 2024, section 2).

Both ways go through one :class:`Degrader`, whose result for an utterance depends on the specification, the utterance's
name and the corpus alone, so that they agree to the bit.
"""

from s3prl_emotion.corpora.degradation_levels import DEFAULT_LEVELS, DegradationSpec, level_name, parse_split
from s3prl_emotion.loading.degradation.degrader import Degraded, Degrader, build_degrader

__all__ = [
    "DEFAULT_LEVELS",
    "DegradationSpec",
    "Degraded",
    "Degrader",
    "build_degrader",
    "level_name",
    "parse_split",
]
