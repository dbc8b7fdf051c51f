"""The base of a report's sections, and what all of them are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import ClassVar

from s3prl_emotion.benchmark.expansion import slug
from s3prl_emotion.report.computing.details import Details, SplitDetails, TrainingDetails, collect_details
from s3prl_emotion.report.computing.ensembles import Ensembles, find_ensembles
from s3prl_emotion.report.computing.leaderboard import Leaderboard, leaderboard
from s3prl_emotion.report.computing.scores import Analysis, Part
from s3prl_emotion.report.drawing.figure import Figure
from s3prl_emotion.report.reading.provenance import Provenance, read_provenance
from s3prl_emotion.report.reading.study import Study
from s3prl_emotion.report.table import Table


class Results:
    """Everything that sections are computed from, read once.

    Args:
        analysis: the scores of a study
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    @property
    def study(self) -> Study:
        """The study that the report is about."""
        return self.analysis.study

    @cached_property
    def parts(self) -> dict[Place, Part]:
        """The scores on each upstream and split."""
        return {Place(part.upstream, part.split): part for part in self.analysis.parts}

    @cached_property
    def details(self) -> Details:
        """What runs record besides their scores."""
        return collect_details(self.analysis)

    @cached_property
    def ensembles(self) -> Ensembles:
        """The ensembles of seeds, or of folds and seeds."""
        return find_ensembles(self.analysis)

    @cached_property
    def provenance(self) -> dict[tuple[str, str], Provenance]:
        """What was run, by upstream and system."""
        return read_provenance(self.study)

    @cached_property
    def board(self) -> Leaderboard:
        """The ranks of the systems."""
        return leaderboard(self.analysis, self.provenance)


class Scope(Enum):
    """What a section is about: it appears once for the study, for each upstream, or for each split of an upstream."""

    STUDY = "study"
    UPSTREAM = "upstream"
    SPLIT = "test split of an upstream"


@dataclass(frozen=True)
class Place:
    """What a section is about: the whole study, an upstream, or a test split of an upstream."""

    upstream: str = ""
    split: str = ""

    @property
    def words(self) -> list[str]:
        """Upstream and split, as far as the place has them."""
        return list(filter(None, [self.upstream, self.split]))

    def figure_name(self, kind: str) -> str:
        """Return the name of a figure's file: ``{upstream}-{split}-{kind}``."""
        return "-".join([*map(slug, self.words), kind])


class Section:
    """A section of a report; a subclass sets its title and scope, and overrides the methods for what it shows.

    Attributes:
        title: heading of the section
        scope: what the section is about
        chapter: heading that it shares with the sections beside it; sections of splits share the split's
        note: sentences below the tables
        template: template of its part of the HTML page
        anchor: id on the page
        link: text of the link at the top of the page, which leads to ``anchor``
        style: CSS class on the page
        appendix: whether Markdown puts it after the list of figures, and LaTeX leaves it out
        always: whether it appears on the page even without tables and figures
        main: whether its figures are drawn before those of other sections if there are too many

    Args:
        results: what the sections of the report show
    """

    title: ClassVar[str]
    scope: ClassVar[Scope] = Scope.STUDY
    chapter: ClassVar[str] = ""
    note: ClassVar[str] = ""
    template: ClassVar[str] = "section.html.jinja"
    anchor: ClassVar[str] = ""
    link: ClassVar[str] = ""
    style: ClassVar[str] = ""
    appendix: ClassVar[bool] = False
    always: ClassVar[bool] = False
    main: ClassVar[bool] = False

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def study(self) -> Study:
        """The study that the report is about."""
        return self.results.study

    @property
    def shares_chapter(self) -> bool:
        """Whether other sections share its heading."""
        return self.scope is Scope.SPLIT or bool(self.chapter)

    def lead(self, place: Place) -> str:
        """Return the sentence above the tables."""
        return ""

    def tables(self, place: Place) -> Iterable[Table | None]:
        """Return the tables of a place; ``None`` for those with nothing to show."""
        return ()

    def figures(self, place: Place) -> Iterable[Figure]:
        """Return the figures of a place."""
        return ()

    def files(self) -> Mapping[str, str]:
        """Return further files of the report, by name: their text."""
        return {}

    def warnings(self) -> Iterable[str]:
        """Return warnings for the top of the report."""
        return ()


class SplitSection(Section):
    """A section about a test split of an upstream, which opens below the scores of the split."""

    scope = Scope.SPLIT
    template = "details.html.jinja"

    def details(self, place: Place) -> dict[str, SplitDetails]:
        """Return the details of each system on the split, systems in the study's order."""
        return self.results.details.splits[place.upstream, place.split]


class TrainingSection(Section):
    """A section about the training on an upstream."""

    scope = Scope.UPSTREAM
    chapter = "training and layers"
    template = "details.html.jinja"

    def details(self, place: Place) -> dict[str, TrainingDetails]:
        """Return the details of each system's training, systems in the study's order."""
        return self.results.details.training[place.upstream]
