"""Metrics of a split, per group and over speakers, and the files that hold them."""
