"""``s3prl-emotion prepare``: write a label table from a corpus as it is published."""
