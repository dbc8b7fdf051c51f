"""Sphinx's configuration of the documentation; ``make docs`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))

import s3prl_emotion  # noqa: E402

s3prl_emotion.register()  # so that heads can be imported as s3prl.downstream.<head>

project = "s3prl-emotion"
version = release = s3prl_emotion.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "suite_reference"]
exclude_patterns = ["extensions"]
root_doc = "index"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_use_ivar = True
highlight_language = "bash"  # of indented code

html_theme = "furo"
html_title = f"s3prl-emotion {version}"
html_copy_source = False
