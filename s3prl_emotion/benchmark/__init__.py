"""Run a matrix of systems x upstreams x folds x seeds with the real command line; see :mod:`.matrix` for its format."""

from __future__ import annotations

from s3prl_emotion.benchmark.matrix import Matrix
from s3prl_emotion.benchmark.plan import Cell, Plan, Run, Step
from s3prl_emotion.benchmark.reading import read_matrix
from s3prl_emotion.benchmark.records import ResultsFile, read_results
from s3prl_emotion.benchmark.scheduler import Summary, run_matrix

__all__ = [
    "Cell", "Matrix", "Plan", "ResultsFile", "Run", "Step", "Summary", "read_matrix", "read_results", "run_matrix",
]  # fmt: skip
