"""Tables of what runs know beside their main scores: hypotheses, speakers, genders, agreement with graders, cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from s3prl_emotion.metrics.groups import N_BEST, PA_UAR_THRESHOLDS
from s3prl_emotion.report.evidence import GROUP_METRICS, RANKS, SPEAKER_METRICS, SystemEvidence, TrainingEvidence
from s3prl_emotion.report.scores import Score
from s3prl_emotion.report.tables import NONE, Table, count, number, spread

Systems = Mapping[str, SystemEvidence]
PASSED = tuple(f"paUAR-{limit}" for limit in sorted(PA_UAR_THRESHOLDS))
KINDS = {"macro_f1": "macro-F1, %", "mean_CCC": "mean CCC"}
AGREEMENT = {
    "JS": "JS (bits)", "KL": "KL (bits)", "entropy_correlation.Pearson": "entropies: Pearson",
    "entropy_correlation.Spearman": "entropies: Spearman", "entropy.graders": "graders' entropy (bits)",
    "entropy.model": "model's entropy (bits)", "threshold_F1": "macro-F1 above 1/K, %",
}  # fmt: skip


def group_tables(systems: Systems) -> list[Table]:
    """Tables of an upstream and split that have something to show."""
    tables = (
        hypotheses_table(systems), speakers_table(systems), shares_table(systems), genders_table(systems),
        passed_by_gender_table(systems), agreement_table(systems),
    )  # fmt: skip
    return [table for table in tables if table is not None]


def hypotheses_table(systems: Systems) -> Table | None:
    """Scores of the n best hypotheses; Mitra et al. 2025, Tables 3 and 4."""
    names = ("WA", "UAR", "macro_f1", *PASSED)
    rows = []
    for system, found in systems.items():
        for n in N_BEST:
            values = [f"{name}.{n}-best" for name in names]
            if any(name in found.scores for name in values[:2]):
                rows.append([system, str(n), *_cells(found, values)])
    return _table("n-best hypotheses", ["system", "n", *map(_head, names)], rows)


def speakers_table(systems: Systems) -> Table | None:
    """How many speakers are served well, and how the worst, median and best of a run are."""
    rows, heads = [], []
    for metric in SPEAKER_METRICS:
        heads += [f"{metric}.{rank} speaker" for rank in RANKS if _anywhere(systems, f"{metric}.{rank} speaker")]
    passed = [f"{name}.1-best" for name in PASSED if _anywhere(systems, f"{name}.1-best")]
    for system, found in systems.items():
        points = list(found.speakers.values())
        if points:
            counted = [point for point in points if point.scores]
            single = sum(sum(number > 0 for number in point.counts.values()) == 1 for point in counted)
            known = any(point.counts for point in counted)
            numbers = [str(len(counted)), str(len(points) - len(counted)), str(single) if known else NONE]
            rows.append([system, *numbers, str(found.min_utterances), *_cells(found, [*passed, *heads])])
    header = ["system", "speakers", "left out", "of one class", "least utterances"]
    return _table("speakers", [*header, *(_head(name) for name in [*passed, *heads])], rows)


def shares_table(systems: Systems) -> Table | None:
    """Whether speakers with more of a class have a higher UAR: Spearman's ρ; Mitra et al. 2025, Fig. 4."""
    classes = dict.fromkeys(name for found in systems.values() for name in found.classes)
    names = {name: f"rho_share.{name}" for name in classes if _anywhere(systems, f"rho_share.{name}")}
    rows = [[system, *_cells(found, list(names.values()))] for system, found in systems.items() if found.speakers]
    return _table("UAR against the share of a class", ["system", *names], rows if names else [])


def genders_table(systems: Systems) -> Table | None:
    """Scores by gender, a row for each system."""
    genders = dict.fromkeys(gender for found in systems.values() for gender in found.genders)
    names = {gender: [f"{metric}.{gender}" for metric in GROUP_METRICS] for gender in genders}
    names = {gender: [name for name in of if _anywhere(systems, name)] for gender, of in names.items()}
    rows = []
    for system, found in systems.items():
        if found.genders:
            row = [system]
            for gender, of in names.items():
                row += [str(found.genders.get(gender, NONE)), *_cells(found, of)]
            rows.append(row)
    header = ["system"]
    for gender, of in names.items():
        header += [f"{gender}: utterances", *(f"{gender}: {_head(name)}" for name in of)]
    return _table("genders", header, rows)


def passed_by_gender_table(systems: Systems) -> Table | None:
    """Share of speakers above a UAR, by gender and for the n best hypotheses; Mitra et al. 2025, Table 6."""
    genders = dict.fromkeys(gender for found in systems.values() for gender in found.genders)
    columns = [(gender, name) for gender in genders for name in PASSED]
    rows = []
    for system, found in systems.items():
        for n in N_BEST:
            names = [f"{name}.{gender}.{n}-best" for gender, name in columns]
            if any(name in found.scores for name in names):
                rows.append([system, str(n), *_cells(found, names)])
    return _table(
        "speakers above a UAR, by gender",
        ["system", "n", *(f"{gender}: {_head(name)}" for gender, name in columns)],
        rows,
    )


def agreement_table(systems: Systems) -> Table | None:
    """Agreement with the graders' distribution, and calibration; Mitra et al. 2025, section 4; Guo et al. 2017."""
    names = [name for name in ("ECE", *AGREEMENT) if _anywhere(systems, name)]
    rows = [
        [system, *_cells(found, names)]
        for system, found in systems.items()
        if any(name in found.scores for name in names)
    ]
    only = names == ["ECE"]
    return _table("calibration" if only else "agreement with graders", ["system", *map(_head, names)], rows)


def cost_table(systems: Mapping[str, TrainingEvidence]) -> Table | None:
    """Which layers are taken, and how much of the upstream is computed for it; Mitra et al. 2025, Table 7."""
    rows = []
    for system, found in systems.items():
        if found.parameters or found.seconds or any(layer is not None for layer in found.layers):
            whole, computed = found.parameters or (None, None)
            saved = None if whole is None or computed is None else 1 - computed / whole
            time = f"{found.seconds.mean:.1f}{_deviation(found.seconds)}" if found.seconds else NONE
            sizes = [count(computed), count(whole), number(saved, "relative_size"), count(found.head_parameters)]
            rows.append([system, _layers(found.layers), *sizes, time])
    header = ["system", "layer", "upstream, computed", "upstream, whole", "saved, %", "head", "training, s"]
    return _table("layers and cost", header, rows)


def detail_scores(systems: Systems) -> Iterator[tuple[str, Score]]:
    """System and score of all that the tables show, for the long table."""
    for system, found in systems.items():
        yield from ((system, score) for score in found.scores.values())


def cell(found: SystemEvidence, name: str) -> str:
    """``mean ± std``, and over how many runs where some lack the value."""
    score = found.scores.get(name)
    if score is None:
        return NONE
    return spread(score) + (f" ({score.runs} of {found.runs} runs)" if score.runs < found.runs else "")


def _table(title: str, header: list[str], rows: list[list[str]]) -> Table | None:
    return Table(title, header, rows) if rows else None


def _anywhere(systems: Systems, name: str) -> bool:
    return any(name in found.scores for found in systems.values())


def _cells(found: SystemEvidence, names: Sequence[str]) -> list[str]:
    return [cell(found, name) for name in names]


def _head(name: str) -> str:
    """A column's title: ``UAR, %``, ``paUAR-50, %``, ``worst speaker's mean CCC``."""
    kind, _, rest = name.partition(".")
    if name in AGREEMENT:
        return AGREEMENT[name]
    if rest.endswith(" speaker"):
        return f"{rest}'s {_head(kind)}"
    return KINDS.get(kind, f"{kind}, %")


def _layers(layers: Sequence[int | None]) -> str:
    """``6``, or ``2, 3`` where folds chose apart; ``all`` where they are summed."""
    found = sorted(set(layers), key=lambda layer: (layer is None, layer or 0))
    return ", ".join("all" if layer is None else str(layer) for layer in found) or NONE


def _deviation(score: Score) -> str:
    return f" ± {score.std:.1f}" if math.isfinite(score.std) else ""
