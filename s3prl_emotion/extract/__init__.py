"""Fill a feature store before training: ``s3prl-emotion extract``."""
