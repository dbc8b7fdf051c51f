"""``s3prl-emotion export``: write the features of a corpus to an npz file."""
