"""A web page and an HTTP interface for judging audio by a trained head: ``s3prl-emotion serve``."""
