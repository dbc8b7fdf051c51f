#!/usr/bin/env python3
"""Launcher of a checkout: s3prl's command line with this suite's heads; see README.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from s3prl_emotion.run_downstream import command

if __name__ == "__main__":
    command()
