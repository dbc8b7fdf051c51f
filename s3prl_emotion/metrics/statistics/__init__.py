"""Statistics over speakers: intervals, tests between two systems, and correction for many comparisons.

Utterances of a speaker are alike: 1,000 utterances of 10 speakers say little more about new speakers than 10 utterances
do. So the bootstrap draws whole speakers, and the permutation test swaps them.
"""

from __future__ import annotations

from s3prl_emotion.metrics.statistics.bootstrap import Intervals, cluster_bootstrap
from s3prl_emotion.metrics.statistics.clusters import Clusters
from s3prl_emotion.metrics.statistics.holm import holm
from s3prl_emotion.metrics.statistics.permutation import PairedTest, paired_permutation_test

__all__ = ["Clusters", "Intervals", "PairedTest", "cluster_bootstrap", "holm", "paired_permutation_test"]
