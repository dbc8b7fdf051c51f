"""Tables, figures and one page from a benchmark's directory, or from experiment directories."""

from __future__ import annotations

from s3prl_emotion.report.analysis import analyse
from s3prl_emotion.report.page import write_report
from s3prl_emotion.report.scores import Analysis, Score
from s3prl_emotion.report.study import RunResult, Study, load_study

__all__ = ["Analysis", "RunResult", "Score", "Study", "analyse", "load_study", "write_report"]
