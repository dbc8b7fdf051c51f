"""Published results of the study's heads and of SUPERB, for orientation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from s3prl_emotion.metrics.registry import DIMENSION_NAMES, label
from s3prl_emotion.report.reading.literature import Result, for_orientation
from s3prl_emotion.report.reading.provenance import Provenance
from s3prl_emotion.report.reading.study import expert_section
from s3prl_emotion.report.sections.base import Place, Section
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE

DESCRIBED_BY = ("system", "upstream", "corpus", "split", "protocol")
LABELS = {
    "size_reduction": "size reduction", "size_mb": "size, MB",
    "distance_R2": "adjusted R²", "label_R2": "adjusted R²",
    "computation_saved": "computation saved", "relative_improvement": "relative improvement",
    "parameters_million": "parameters, M",
}  # fmt: skip
CORPORA = {
    "iemocap": "IEMOCAP", "meta_data": "IEMOCAP", "podcast": "MSP-Podcast", "improv": "MSP-IMPROV", "emodb": "EMO-DB",
    "emo-db": "EMO-DB",
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Results of one table or section of a paper.

    Attributes:
        title: paper and place
        paper: citation and title of the paper
        same: what holds for all results
        table: the results
        other: whether none of them is of the study's data
        note: what a reader must know to compare with them
    """

    title: str
    paper: str
    same: str
    table: Table
    other: bool
    note: str


class PublishedResults(Section):
    """Results of the papers whose heads the study uses."""

    title = "Published results for orientation"
    template = "published.html.jinja"
    anchor = "published"
    link = "Published results"
    appendix = True

    @cached_property
    def corpora(self) -> list[str]:
        """The corpora that the study's recipes name."""
        return corpora_of(self.results.provenance)

    @cached_property
    def published(self) -> list[Result]:
        """The published results to show."""
        return for_orientation({head for item in self.results.provenance.values() for head in item.heads})

    @property
    def with_superb(self) -> bool:
        """Whether some of the results are SUPERB's."""
        return any(result.paper.head is None for result in self.published)

    @cached_property
    def groups(self) -> list[Group]:
        """The results by paper and place."""
        return groups(self.published, self.corpora)

    def lead(self, place: Place) -> str:
        """Return which of the numbers may be compared."""
        if not self.groups:
            return ""
        if not self.corpora:
            return "This study's recipes do not say which corpus it uses: compare only numbers of the same data."
        return (
            f"This study's data: {', '.join(self.corpora)}. Numbers of other data cannot be compared with the scores "
            "above."
        )

    def tables(self, place: Place) -> Iterable[Table | None]:
        """Return a table for each paper and place."""
        return [group.table for group in self.groups]


def corpora_of(provenance: Mapping[tuple[str, str], Provenance]) -> list[str]:
    """Return the corpora of the recipes, recognised by their folders and label tables."""
    corpora: dict[str, None] = {}
    for item in provenance.values():
        data = expert_section(item.recipe).get("datarc") or {}
        for entry in [data, *(data.get("corpora") or {}).values()]:
            words = f"{entry.get('root')} {entry.get('labels')}".lower()
            if entry.get("labels") == "demo":
                corpora["the built-in demo corpus"] = None
            corpora |= dict.fromkeys(name for word, name in CORPORA.items() if word in words)
    return list(corpora)


def groups(results: Iterable[Result], corpora: Collection[str]) -> list[Group]:
    """Return results by paper and place, in the order of the file.

    Args:
        results: the results to show
        corpora: corpora of the study, as far as they are known
    """
    sources: dict[str, list[Result]] = {}
    for result in results:
        sources.setdefault(result.source, []).append(result)
    return [_group(source, own, corpora) for source, own in sources.items()]


def _group(source: str, results: Sequence[Result], corpora: Collection[str]) -> Group:
    """Return results as a table: metrics in columns, and of the rest what differs between results."""
    columns = dict.fromkeys(_column(result) for result in results)
    values = {name: list(dict.fromkeys(getattr(result, name) for result in results)) for name in DESCRIBED_BY}
    differing = [name for name in DESCRIBED_BY if len(values[name]) > 1] or ["system"]
    same = "; ".join(own[0] for name, own in values.items() if name not in differing and own[0])
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for result in results:
        key = tuple(getattr(result, name) or NONE for name in differing)
        rows.setdefault(key, {})[_column(result)] = result.printed.replace("±", " ± ")
    words = [[*key, *(cells.get(name, NONE) for name in columns)] for key, cells in rows.items()]
    other = not any(result.corpus in corpora for result in results)
    about = "; ".join(filter(None, [same, "other data" if other else ""]))
    notes = dict.fromkeys(result.note for result in results if result.note)
    table = Table(source, [*differing, *columns], words, " ".join([f"{about}."] * bool(about) + [*notes]))
    paper = results[0].paper
    return Group(source, f"{paper.citation}: {paper.title}", same, table, other, " ".join(notes))


def _column(result: Result) -> str:
    kind, _, dimension = result.metric.partition(".")
    name = LABELS.get(kind) or label(kind, unit=False)
    if dimension:
        name += f" {DIMENSION_NAMES.get(dimension, dimension)}"
    return f"{name}{f' ({result.statistic})' if result.statistic else ''}{', %' if result.percent else ''}"
