"""Upstreams for the tests of the feature store; options come as a mapping or, with ``-g``, as a YAML file."""

from .expert import UpstreamExpert as _UpstreamExpert


def fake_layers(**kwargs):
    return _UpstreamExpert(**kwargs)


def fake_without_frames(**kwargs):
    """As an upstream of s3prl, which does not say how many frames an utterance has."""
    expert = _UpstreamExpert(**kwargs)
    del expert.frames
    return expert
