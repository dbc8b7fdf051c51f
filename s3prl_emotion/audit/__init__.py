"""Audit a corpus: leaks between train and test, duplicates, unusable audio, misleading labels."""

from s3prl_emotion.audit.findings import ERROR, NOTE, WARNING, Finding
from s3prl_emotion.audit.listing import FORMATS, Listing
from s3prl_emotion.audit.read_formats import read_listing
from s3prl_emotion.audit.run import Audit, audit

__all__ = ["ERROR", "FORMATS", "NOTE", "WARNING", "Audit", "Finding", "Listing", "audit", "read_listing"]
