"""What a benchmark leaves of its matrix: for the report, for people, and upstreams' options for the runs."""

from __future__ import annotations

import yaml

from s3prl_emotion.benchmark.plan import Choice, Plan
from s3prl_emotion.benchmark.prepare import write_json
from s3prl_emotion.files.writing import write_text

ABOUT = "matrix.json"  # what a report needs to know of the matrix
DEFINITIONS = "matrix.yaml"  # a copy of what was run


def write_about(plan: Plan, choices: dict[str, Choice] | None = None) -> None:
    """Leave the matrix for the report, and the upstreams' options for the runs."""
    matrix = plan.matrix
    write_text(plan.out / DEFINITIONS, matrix.path.read_text(encoding="utf-8"))
    for path, options in plan.model_options.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    about = {
        "title": matrix.section.title,
        "notes": matrix.section.notes,
        "head": matrix.section.head,
        "baseline": matrix.baseline,
        "upstreams": list(matrix.upstreams),
        "systems": {name: system.overrides for name, system in matrix.systems.items()},
        "tests": matrix.section.tests,
        "published": [vars(number) for number in matrix.published],
        "search": {name: vars(choice) for name, choice in (choices or {}).items()},
        "runs": [
            {"run": run.cell.id, "definition": run.definition, "folder": str(run.folder.relative_to(plan.out))}
            for run in plan.runs
        ],
    }
    write_json(plan.out / ABOUT, about)
