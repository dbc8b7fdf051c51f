"""Mel filterbank and pitch."""
