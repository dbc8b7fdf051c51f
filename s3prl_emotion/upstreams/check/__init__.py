"""``s3prl-emotion check-upstream``: check that an upstream keeps the interface and is reliable."""
