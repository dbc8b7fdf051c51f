"""Sphinx directives for the reference (help texts of all commands, tables of recipe keys), and links to READMEs."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from docutils import nodes
from docutils.parsers.rst import directives
from parsers import COMMANDS, command_parser, help_text, run_downstream_parser
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import OptionSpec

README_LINK = re.compile(r"\]\((?:\.\./)+(downstream|recipes)/(\w+)/README\.md(#[\w-]+)?\)")
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


class SuiteCommands(SphinxDirective):
    """``suite-commands``: a section with the help text of each program and command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        parsers = {"run_downstream.py": run_downstream_parser()}
        parsers |= {f"s3prl-emotion {name}": command_parser(name) for name in COMMANDS}
        return [self._section(name, help_text(parser)) for name, parser in parsers.items()]

    def _section(self, name: str, text: str) -> nodes.Node:
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        block = nodes.literal_block(text, text, language="text")
        section += [nodes.title("", "", nodes.literal("", name)), block]
        self.state.document.note_explicit_target(section)
        return section


class RecipeKeys(SphinxDirective):
    """``recipe-keys CLASS``: the docstring of a section's class, and a table of its keys; ``:nested:`` adds theirs."""

    required_arguments: ClassVar[int] = 1
    option_spec: ClassVar[OptionSpec] = {"nested": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the docstring and the table."""
        module, _, name = self.arguments[0].rpartition(".")
        section = getattr(importlib.import_module(module), name)
        lines = section_lines(section)
        if "nested" in self.options:
            for key, nested in nested_sections(section):
                lines += [f".. rubric:: {key}", "", *section_lines(nested)]
        return self.parse_text_to_nodes("\n".join(["````{eval-rst}", *lines, "````"]))  # docstrings are in rst


def section_lines(section: type[BaseModel]) -> list[str]:
    """Return the docstring of a section and a table of its keys, in reStructuredText."""
    lines = [*inspect.cleandoc(section.__doc__ or "").splitlines(), ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 22 20 16 42", ""]
    rows = [("key", "type", "default", "meaning")]
    rows += [
        (f"``{field.alias or key}``", f"``{type_text(field.annotation)}``", default_text(field), meaning(section, key))
        for key, field in section.model_fields.items()
    ]
    for row in rows:
        for number, cell in enumerate(row):
            mark = "   * - " if number == 0 else "     - "
            lines += (mark + textwrap.indent(cell, " " * 7).strip()).splitlines()
    return [*lines, ""]


def nested_sections(section: type[BaseModel], where: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections that are values of a section's keys, with the keys that lead to them."""
    for key, field in section.model_fields.items():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield f"{where}{key}", kind
                yield from nested_sections(kind, f"{where}{key}.")


def kinds(kind: Any) -> Iterator[Any]:
    """Yield the types that a type is made of: itself, or the parts of a union, list or mapping."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is Literal or not parts:
        yield kind
    for part in parts:
        yield from kinds(part)


def type_text(kind: Any) -> str:
    """Return a type as a reader of YAML wants to see it: ``none | balanced | effective``, ``list of str``."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return type_text(parts[0])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in parts if part is not type(None))
    if origin is list:
        return f"list of {type_text(parts[0])}"
    if origin is dict:
        return "section" if parts[1] is Any else f"{type_text(parts[0])}: {type_text(parts[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    return "any" if kind is Any else getattr(kind, "__name__", str(kind))


def default_text(field: FieldInfo) -> str:
    """Return the default of a key as it would stand in YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "``null``"
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return f"``{str(value).lower() if isinstance(value, bool) else value}``"


def meaning(section: type, key: str) -> str:
    """Return the docstring of a key, with its limits."""
    for base in section.__mro__:
        if key in vars(base).get("__annotations__", {}):
            documented = ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
            text = "\n".join(documented.get((base.__name__, key), [])).strip().replace("``None``", "``null``")
            break
    limits = [
        f"{sign} {getattr(item, name)}"
        for item in section.model_fields[key].metadata
        for name, sign in SIGNS.items()
        if hasattr(item, name)
    ]
    return f"{text}\n\n{', '.join(limits)}".strip() if limits else text


def link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links to the READMEs of heads and recipes into links to the pages that include them."""

    def link(match: re.Match[str]) -> str:
        folder, name, heading = match.groups()
        return f"](/heads.md#{name})" if folder == "downstream" else f"](/recipes.md{heading or ''})"

    source[0] = README_LINK.sub(link, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the links."""
    app.connect("source-read", link_to_pages)
    app.add_directive("suite-commands", SuiteCommands)
    app.add_directive("recipe-keys", RecipeKeys)
    return {"parallel_read_safe": True}
