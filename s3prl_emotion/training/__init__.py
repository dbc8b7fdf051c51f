"""A training run: checks of its command line, runner, loop and summary."""
