"""Datasets, loaders and samplers, and the evaluation of a split."""
