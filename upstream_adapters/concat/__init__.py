"""The ``concat`` upstream: concatenated features of several upstreams."""
