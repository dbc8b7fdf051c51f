"""The ``logmel26`` upstream: log-Mel filterbanks."""
