"""``s3prl-emotion transcribe``: transcribe a corpus with a speech recogniser."""
