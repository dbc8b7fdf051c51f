"""Metrics of a split and of its groups, statistics over speakers, and the result files that hold them."""
