"""Log-Mel filterbanks."""
