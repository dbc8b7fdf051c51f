"""Every link of the texts to a file or heading of the repository leads somewhere; README.md stays short."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import REPOSITORY
from markdown_texts import DOCS, anchors, code_spans, included, links, markdown_files, name_of

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout")
FILES = markdown_files()
PATH = re.compile(r"(tests|docs|recipes|downstream|upstream_adapters|benchmarks|s3prl_emotion)/[\w./-]+")
EXAMPLES = re.compile(r"my_|toydb|fold_spread")  # files that the pages of CONTRIBUTING add


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_links_lead_to_files_and_headings(path: Path):
    for link in links(path):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{name_of(path)}: {link}: no such file"
        assert REPOSITORY in target.parents, f"{name_of(path)}: {link}: leads out of the repository"
        if anchor:
            assert anchor in anchors(target), (
                f"{name_of(path)}: {link}: no such heading; known: {sorted(anchors(target))}"
            )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_named_in_the_text_exist(path: Path):
    for code in code_spans(path):
        if PATH.fullmatch(code) and not EXAMPLES.search(code):
            assert (REPOSITORY / code).exists(), f"{name_of(path)}: {code}: no such file"


def test_included_files_exist():
    files = [file for path in FILES for file in included(path)]
    assert len(files) >= 12
    assert [file for file in files if not file.is_file()] == []


def test_every_page_is_in_a_table_of_contents():
    entries = {line.strip() for line in (DOCS / "index.md").read_text().splitlines()}
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    assert pages <= entries, pages - entries


def test_every_readme_of_heads_and_recipes_is_a_page_of_the_documentation():
    texts = {
        path
        for folder in ("downstream", "recipes", "upstream_adapters")
        for path in (REPOSITORY / folder).rglob("README.md")
    }
    assert texts == {file for path in FILES for file in included(path) if file.name == "README.md"}


def test_readme_is_short():
    assert (REPOSITORY / "README.md").stat().st_size <= 10_240
