"""Read the Markdown files of the repository: their links, headings and code blocks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conftest import REPOSITORY
from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCS = REPOSITORY / "docs"
INCLUDE = re.compile(r"\{include\} (\S+)")
LANGUAGES = {"": "shell", "bash": "shell", "console": "shell", "sh": "shell"}  # others keep their names


@dataclass(frozen=True)
class Code:
    """A code block: its language (``shell`` where none is given), its text, and the line it starts at."""

    language: str
    text: str
    line: int


def markdown_files() -> list[Path]:
    """Return every Markdown file that people read: README, documentation, heads, upstreams, recipes."""
    files = [*REPOSITORY.glob("*.md")]
    for folder in ("docs", "downstream", "recipes", "upstream_adapters"):
        files += (REPOSITORY / folder).rglob("*.md")
    return sorted(files)


def name_of(path: Path) -> str:
    """Return the path below the repository, for test ids and messages."""
    return path.relative_to(REPOSITORY).as_posix()


@cache
def tokens(path: Path) -> list[Token]:
    """Return a file's tokens, those of paragraphs and headings included."""
    flat = []
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        flat += [token, *(token.children or [])]
    return flat


def links(path: Path) -> Iterator[str]:
    """Yield the targets of links and images."""
    for token in tokens(path):
        target = token.attrGet("href") if token.type == "link_open" else token.attrGet("src")
        if target:
            yield str(target)


def code_blocks(path: Path) -> Iterator[Code]:
    """Yield the fenced and indented code blocks; directives of Sphinx are left out."""
    for token in tokens(path):
        if token.type in ("fence", "code_block"):
            language = token.info.strip().split(" ")[0]
            if not language.startswith("{"):
                yield Code(LANGUAGES.get(language, language), token.content, (token.map or [0])[0] + 1)


def code_spans(path: Path) -> Iterator[str]:
    """Yield the code spans of the text."""
    return (token.content for token in tokens(path) if token.type == "code_inline")


def included(path: Path) -> list[Path]:
    """Return the files that a page of the documentation includes."""
    infos = [token.info for token in tokens(path) if token.type == "fence"]
    return [(path.parent / match[1]).resolve() for info in infos if (match := INCLUDE.match(info))]


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the names by which a file's headings can be linked to, as GitHub and MyST form them."""
    found = set()
    for opening, inline in itertools.pairwise(tokens(path)):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or [])
            found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return frozenset(found.union(*(anchors(other) for other in included(path))))
