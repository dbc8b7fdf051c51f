"""Give classes an activation and a valence: points on Russell's circle, which nobody graded.

Russell (1980), A Circumplex Model of Affect, puts eight concepts on a circle: pleasure 0°, excitement 45°, arousal
90°, distress 135°, displeasure 180°, depression 225°, sleepiness 270°, relaxation 315°. Which of the eight stands for
a class is our choice (:data:`ANGLES`); neutral is the centre. The scale is MSP-Podcast's, 1 to 7. The circle has no
dominance: EmoDom is the centre for every class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from s3prl_emotion.corpora.class_names import NO_AGREEMENT
from s3prl_emotion.corpora.prepare.preparer import Clip, Levels
from s3prl_emotion.errors import LabelError

CENTRE, RADIUS = 4.0, 3.0  # on a scale from 1 to 7
ANGLES = {
    "happy": 0, "happiness": 0, "excited": 45, "surprise": 90, "angry": 135, "anger": 135, "fear": 135,
    "frustrated": 135, "disgust": 180, "contempt": 180, "sad": 225, "sadness": 225, "boredom": 270, "calm": 315,
}  # fmt: skip


def point_on_circle(emotion: str) -> Levels:
    """Return a class's activation, valence and dominance, from 1 to 7; ``None`` for no agreement.

    Raises:
        LabelError: the class has no point on the circle
    """
    if emotion == NO_AGREEMENT:
        return None, None, None
    if emotion == "neutral":
        return CENTRE, CENTRE, CENTRE
    if emotion not in ANGLES:
        known = ", ".join(["neutral", *ANGLES])
        raise LabelError(f"--circumplex: class {emotion!r} has no place on the circle; known: {known}")
    angle = math.radians(ANGLES[emotion])
    return round(CENTRE + RADIUS * math.sin(angle), 4), round(CENTRE + RADIUS * math.cos(angle), 4), CENTRE


def with_points(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with the points of their classes as means.

    Raises:
        LabelError: a class has no point on the circle
    """
    return [replace(clip, means=point_on_circle(clip.emotion)) for clip in clips]
