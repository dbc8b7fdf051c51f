"""The documentation builds without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from markdown_texts import DOCS


@pytest.mark.full
@pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout")
def test_site_builds_without_warnings(tmp_path: Path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", tmp_path / "cache", DOCS]
    done = subprocess.run([*command, tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--feature_store" in commands
    assert "s3prl-emotion pretrain-rae" in commands
    keys = (tmp_path / "site" / "reference" / "recipe.html").read_text(encoding="utf-8")
    assert "channel_dropout" in keys
    assert "AttentiveCorrelationPooling" in (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")
