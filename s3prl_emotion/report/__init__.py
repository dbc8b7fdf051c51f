"""Report on a benchmark or on experiments: tables, figures and one HTML page."""

from __future__ import annotations

from s3prl_emotion.report.computing.analysis import analyse
from s3prl_emotion.report.computing.scores import Analysis, Score
from s3prl_emotion.report.reading.study import RunResult, Study, load_study
from s3prl_emotion.report.writing.report import write_report

__all__ = ["Analysis", "RunResult", "Score", "Study", "analyse", "load_study", "write_report"]
