"""A web page and an HTTP interface that predict emotions of audio with a trained head."""
