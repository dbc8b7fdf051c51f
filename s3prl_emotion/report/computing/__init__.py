"""Compute scores, intervals, differences and ranks from the runs of a study."""
