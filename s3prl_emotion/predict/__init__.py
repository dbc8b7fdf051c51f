"""Predict emotions of audio files and waveforms with a trained head; its checkpoint is all that is needed.

import s3prl_emotion

predictor = s3prl_emotion.load("result/downstream/demo/dev-best.ckpt")
prediction = predictor.predict(waveform, rate)  # [N] or [N, C]
prediction.label, prediction.probabilities, prediction.dimensions
"""

from s3prl_emotion.predict.prediction import Prediction, SpanPrediction, Window
from s3prl_emotion.predict.predictor import Predictor

__all__ = ["Prediction", "Predictor", "SpanPrediction", "Window"]
