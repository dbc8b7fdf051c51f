"""Frozen upstreams: from a model to features."""
