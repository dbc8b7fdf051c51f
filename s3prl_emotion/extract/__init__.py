"""``s3prl-emotion extract``: fill a feature store ahead of training."""
