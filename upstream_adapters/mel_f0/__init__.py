"""The ``mel_f0`` upstream: Mel filterbank and pitch."""
