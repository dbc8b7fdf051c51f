"""Emotions of audio files and waveforms, from a trained head's checkpoint alone.

import s3prl_emotion

predictor = s3prl_emotion.load("result/downstream/demo/dev-best.ckpt")
prediction = predictor.predict(waveform, rate)  # [N] or [N, C]
prediction.label, prediction.probabilities, prediction.dimensions
"""

from s3prl_emotion.predict.answers import Judgement, Prediction, Window
from s3prl_emotion.predict.predictor import Predictor, load

__all__ = ["Judgement", "Prediction", "Predictor", "Window", "load"]
