"""Figures of splits, attention and embeddings; what the report, saliency and heads plot with."""
