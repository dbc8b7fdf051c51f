"""``s3prl-emotion degrade``: write noisy and reverberant copies of an evaluation set."""
