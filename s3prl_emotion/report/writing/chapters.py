"""Compute the sections of a report and arrange them in chapters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from s3prl_emotion.report.drawing.figure import Figure
from s3prl_emotion.report.sections.base import Place, Results, Scope, Section
from s3prl_emotion.report.table import Table


@dataclass(frozen=True)
class Content:
    """What a section shows of a place."""

    section: Section
    place: Place
    lead: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]

    @property
    def note(self) -> str:
        """The section's note, which explains its tables."""
        return self.section.note if self.tables else ""


@dataclass(frozen=True)
class Chapter:
    """Sections under one heading.

    Attributes:
        order: position of its first section in the list of sections
        title: heading
        anchor: id on the page, or empty
        link: text of the link that leads to it from the top of the page, or empty
        contents: its sections
    """

    order: int
    title: str
    anchor: str
    link: str
    contents: tuple[Content, ...]

    @property
    def place(self) -> Place:
        """What the chapter is about."""
        return self.contents[0].place

    @property
    def lead(self) -> str:
        """The sentence below the heading."""
        return self.contents[0].lead

    @property
    def style(self) -> str:
        """CSS class on the page."""
        return self.contents[0].section.style

    @property
    def appendix(self) -> bool:
        """Whether Markdown puts it after the list of figures, and LaTeX leaves it out."""
        return self.contents[0].section.appendix

    @property
    def note(self) -> str:
        """The note below the tables in Markdown, unless the chapter is one of several sections."""
        return "" if self.contents[0].section.shares_chapter else self.contents[0].note

    @property
    def tables(self) -> list[Table]:
        """The tables of all its sections."""
        return [table for content in self.contents for table in content.tables]


def arrange(results: Results, sections: Sequence[Section]) -> list[Chapter]:
    """Return the chapters of a report, in the order of the page.

    Neighbouring sections of upstreams and splits are repeated for each upstream. Sections with nothing to show are
    left out.

    Args:
        results: what the sections show
        sections: the sections in their order
    """
    numbered = list(enumerate(sections))
    chapters: list[Chapter] = []
    for of_study, group in groupby(numbered, key=lambda item: item[1].scope is Scope.STUDY):
        own = list(group)
        for upstream in [""] if of_study else results.study.upstreams:
            chapters += _chapters(results, own, upstream)
    return chapters


def _chapters(results: Results, sections: Sequence[tuple[int, Section]], upstream: str) -> Iterator[Chapter]:
    """Yield the chapters of some sections about an upstream or about the study."""
    places = {place: f"part{index}" for index, place in enumerate(results.parts) if place.upstream == upstream}
    several = len(results.parts) > 1
    for _, group in groupby(sections, key=lambda item: _heading(item[1])):
        own = list(group)
        order, first = own[0]
        if first.scope is Scope.SPLIT:
            for place, anchor in places.items():
                title = ": ".join(place.words)
                yield from _chapter(order, title, anchor, title if several else "", own, place)
        else:
            title = ": ".join(filter(None, [upstream, first.chapter or first.title]))
            yield from _chapter(order, title, first.anchor, first.link, own, Place(upstream))


def _heading(section: Section) -> object:
    """Return what sections of the same chapter share."""
    return section.scope if section.scope is Scope.SPLIT else section.chapter or section


def _chapter(
    order: int, title: str, anchor: str, link: str, sections: Sequence[tuple[int, Section]], place: Place
) -> Iterator[Chapter]:
    contents = []
    for _, section in sections:
        tables = tuple(table for table in section.tables(place) if table is not None)
        contents.append(Content(section, place, section.lead(place), tables, tuple(section.figures(place))))
    if shown := _shown(contents):
        yield Chapter(order, title, anchor, link, shown)


def _shown(contents: Iterable[Content]) -> tuple[Content, ...]:
    return tuple(item for item in contents if item.tables or item.figures or item.section.always)


def with_figures(chapters: Sequence[Chapter], names: set[str]) -> list[Chapter]:
    """Return the chapters with only the figures of these names, without sections that have nothing left to show."""
    kept = []
    for chapter in chapters:
        contents = [
            replace(content, figures=tuple(figure for figure in content.figures if figure.name in names))
            for content in chapter.contents
        ]
        if shown := _shown(contents):
            kept.append(replace(chapter, contents=shown))
    return kept
