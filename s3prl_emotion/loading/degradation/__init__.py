"""Add noise and reverberation to speech, for copies in files and on the fly (Mitra et al. 2024, section 2).

Both use the same :class:`Degrader`, whose result depends only on the specification, the utterance's name and the
corpus, so that they agree to the bit.
"""

from s3prl_emotion.corpora.degradation_levels import DEFAULT_LEVELS, DegradationSpec, level_name
from s3prl_emotion.loading.degradation.degrader import Degraded, Degrader, build_degrader

__all__ = [
    "DEFAULT_LEVELS",
    "DegradationSpec",
    "Degraded",
    "Degrader",
    "build_degrader",
    "level_name",
]
