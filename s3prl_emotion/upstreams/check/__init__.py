"""Check upstreams: ``s3prl-emotion check-upstream``."""
