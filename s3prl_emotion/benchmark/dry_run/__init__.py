"""``benchmark --dry-run``: list the runs, and predict from a few measured steps how long and how large they will be."""
