"""The documentation's tables of benchmarks are made from what the benchmarks left, and from nothing else."""

from __future__ import annotations

import csv
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown_texts import DOCS

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout")
COMMIT = "0123456789" * 4
KEPT = sorted((DOCS / "results").glob("*/results.jsonl"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """``docs/benchmark_tables.py``."""
    spec = importlib.util.spec_from_file_location("benchmark_tables", DOCS / "benchmark_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_tables"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_entries_are_made_from_what_is_kept(tables: ModuleType):
    text = tables.ENTRIES.read_text(encoding="utf-8")
    assert tables.with_all_entries(text) == text, "run python docs/benchmark_tables.py"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_scores_of_the_report_are_those_of_the_runs(path: Path):
    """Means of ``report.csv`` are means over the lines of ``results.jsonl``."""
    lines, compared = lines_of(path), 0
    with path.with_name("report.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] in ("UAR", "WA") and not row.get("ensemble"):
                runs = [
                    line for line in lines if (line["upstream"], line["system"]) == (row["upstream"], row["system"])
                ]
                values = [line["splits"][row["split"]]["metrics"][row["metric"]] for line in runs]
                assert int(row["runs"]) == len(values)
                assert statistics.fmean(values) == pytest.approx(float(row["mean"]), abs=1e-12)
                compared += 1
    assert compared


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_what_is_kept_names_no_place_of_a_machine(path: Path):
    for file in path.parent.iterdir():
        assert '"/' not in file.read_text(encoding="utf-8"), file


# --- rows -------------------------------------------------------------------------------------------------------------


def line(seed: int, uar: float, step: int, commit: str = COMMIT) -> dict[str, Any]:
    """A finished run of mean pooling."""
    return {
        "upstream": "Whisper base", "system": "mean", "seed": seed, "git": commit, "num_parameters": 131079.0,
        "splits": {"test": {"metrics": {"UAR": uar, "step": step}}}, "seconds": {"train": 4.0, "test": 2.5},
        "search": {"rate": 0.001, "metric": "UAR", "tried": {}},
    }  # fmt: skip


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    score = {
        "upstream": "Whisper base", "split": "test", "system": "mean", "metric": "UAR", "mean": 0.9, "std": 0.0141,
        "pooled": 0.8951, "low": 0.85, "high": 0.9349, "difference": -0.0312, "difference_low": -0.06,
        "difference_high": 0.001, "p_holm": 0.0499,
    }  # fmt: skip
    with (folder / "report.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(score))
        writer.writeheader()
        changes = [{}, {"metric": "WA", "mean": 0.1}, {"split": "dev", "mean": 0.2}]
        changes += [{"system": "mean (ensemble of 2 seeds)", "mean": 0.95, "difference": ""}]
        writer.writerows([score | change for change in changes])
    return folder


def test_a_row_holds_what_the_benchmark_measured(tables: ModuleType, tmp_path: Path):
    folder = write(tmp_path / "emodb_16k", [line(1, 0.89, 300), line(2, 0.91, 500)])
    entry = tables.entry_of(tables.BENCHMARKS[0], folder, "2026-11-30")
    assert entry["commit"] == COMMIT[:7]
    first, *others = entry["rows"]
    assert first == {
        "system": "mean", "upstream": "Whisper base", "parameters": {"value": 131, "unit": "k"},
        "ua": {"value": 90.0, "std": 1.4}, "pooled": {"value": 89.5, "interval": [85.0, 93.5]},
        "difference": {"value": "−3.1", "interval": ["−6.0", "+0.1"]}, "p": "0.050", "rate": "0.001",
        "step": {"value": 400, "interval": [300, 500]}, "seconds": 6, "runs": "2 of 15",
    }  # fmt: skip
    assert len(others) == len(tables.planned_runs(tables.BENCHMARKS[0])) - 1
    assert {row["ua"] for row in others} == {tables.NOT_RUN}  # ensembles are no systems


def test_rates_are_those_that_the_search_tried(tables: ModuleType, tmp_path: Path):
    folder = write(tmp_path / "emodb_16k", [])
    assert tables.rates_entry_of(tables.BENCHMARKS[0], folder, "2026-11-30") is None
    scores = {("mean", "0.001"): (0.9512, 300), ("mean", "0.01"): (0.9, 50), ("corr", "0.01"): (0.8, 25)}
    trials = [
        line(1, 0, 0) | {"run": f"Whisper base | {system} | fold1 | seed 1 | lr {rate}", "system": system}
        | {"splits": {"dev": {"metrics": {"UAR": uar, "step": step}}}}
        for (system, rate), (uar, step) in {**scores, ("SVC", "0.001"): (0.5, 1)}.items()
    ]  # fmt: skip
    (folder / "search.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    entry = tables.rates_entry_of(tables.BENCHMARKS[0], folder, "2026-11-30")
    assert list(entry["columns"]) == ["system", "upstream", "0.001", "0.01"]
    assert entry["rows"] == [
        {
            "system": "mean", "upstream": "Whisper base", "0.001": {"value": 95.1, "note": "step 300"},
            "0.01": {"value": 90.0, "note": "step 50"},
        },
        {"system": "corr", "upstream": "Whisper base", "0.001": None, "0.01": {"value": 80.0, "note": "step 25"}},
    ]  # fmt: skip


@pytest.mark.parametrize("commit", ["f" * 40, COMMIT + "+"])
def test_runs_of_other_code_are_refused(tables: ModuleType, tmp_path: Path, commit: str):
    folder = write(tmp_path / "emodb_16k", [line(1, 0.9, 300), line(2, 0.9, 300, commit)])
    with pytest.raises(ValueError, match="runs of one commit without changes are needed"):
        tables.entry_of(tables.BENCHMARKS[0], folder, "2026-11-30")


def test_an_entry_replaces_its_own_and_nothing_else(tables: ModuleType):
    entries = [{"id": name, "columns": {"a": "A"}, "rows": [{"a": 1}]} for name in ("one", "two", "three")]
    text = "[\n" + ",\n".join(map(tables.entry_text, entries)) + "\n]\n"
    assert json.loads(text) == entries
    changed = entries[1] | {"rows": [{"a": 2}, {"a": {"value": 1.0, "unit": "k"}}]}
    assert json.loads(tables.with_entry(text, changed)) == [entries[0], changed, entries[2]]
    new = entries[0] | {"id": "four"}
    assert json.loads(tables.with_entry(text, new)) == [*entries, new]
    assert tables.with_entry(tables.with_entry(text, changed), entries[1]) == text
