"""A run of ``run_downstream.py``: its command line, checks, runner, training loop and summary."""
