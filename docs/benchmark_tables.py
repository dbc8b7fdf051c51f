"""Write the entries of ``results.json`` that benchmarks of this repository's matrices make, from what they left.

``docs/results/NAME`` holds of a benchmark its finished runs (``results.jsonl``, ``search.jsonl``) and the scores of its
report (``report.csv``). After a benchmark and ``s3prl-emotion report``::

    python docs/benchmark_tables.py result/emodb_16k     # copies these files to docs/results/emodb_16k
    python docs/make_tables.py

The benchmark may be unfinished: a row says how many of its runs there are, and a system without any says so. Without
an argument, all entries are written anew from ``docs/results``; ``--check`` changes nothing and exits with 1 where one
differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
KEPT = REPOSITORY / "docs" / "results"
ENTRIES = REPOSITORY / "docs" / "results.json"
FILES = ("results.jsonl", "search.jsonl", "report.csv")
NOT_RUN = "not run"
Row = dict[str, Any]
COLUMNS = {
    "system": "system", "upstream": "upstream", "parameters": "parameters", "ua": "UA, %", "pooled": "95 %",
    "difference": "against mean pooling", "p": "p", "rate": "learning rate", "step": "best step", "seconds": "s a run",
    "runs": "runs",
}  # fmt: skip
COLUMNS_OF_DEV = {
    "system": "system", "parameters": "parameters", "ua": "dev UA, %", "difference": "against the base", "p": "p",
    "step": "best step", "seconds": "s a run", "runs": "runs",
}  # fmt: skip
COLUMNS_OF_TUNING = {
    "system": "system", "trained": "trained parameters", "ua": "UA, %", "pooled": "95 %", "step": "best step",
    "runs": "runs",
}  # fmt: skip
COLUMNS_OF_DEV_AND_TEST = {
    "system": "mean pooling", "dev": "dev UA, %", "ua": "test UA, %", "step": "best step", "runs": "runs",
}  # fmt: skip
COLUMNS_OF_NO_DEV = {
    "system": "training", "ua": "UA, %", "pooled": "95 %", "difference": "against six speakers", "p": "p",
    "step": "step", "runs": "runs",
}  # fmt: skip
COLUMNS_OF_LAYERS = {
    "upstream": "layers of Whisper base", "dev": "dev UA, %", "ua": "test UA, %", "pooled": "95 %",
    "rate": "learning rate", "step": "best step", "runs": "runs",
}  # fmt: skip
COLUMNS_OF_STANDARDIZED = {
    "system": "system", "ua": "UA, %", "pooled": "95 %", "difference": "against mean pooling", "p": "p",
    "rate": "learning rate", "step": "best step", "runs": "runs",
}  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """A benchmark whose scores the documentation shows.

    Attributes:
        name: its folder below ``docs/results`` and ``result``
        matrix: path of the matrix in the repository
        split: the split whose scores are shown
        what: what was measured
        columns: titles of the table's columns, by key
        shows_rates: whether the scores of its search for learning rates have a table too
    """

    name: str
    matrix: str
    split: str
    what: str
    columns: Mapping[str, str] = field(default_factory=lambda: COLUMNS)
    shows_rates: bool = False

    @property
    def commands(self) -> list[str]:
        """The command lines that make the figures."""
        return [f"s3prl-emotion benchmark {self.matrix} --out result/{self.name}",
                f"s3prl-emotion report result/{self.name}"]  # fmt: skip


BENCHMARKS = (
    Benchmark(
        "emodb_16k", "recipes/emodb_16k/leaderboard.yaml", "test",
        "EMO-DB at full length, 339 utterances of 4 classes: test UA in %, five speaker-disjoint folds",
        shows_rates=True,
    ),
    Benchmark(
        "savee", "recipes/savee/leaderboard.yaml", "test",
        "SAVEE, 480 utterances of 7 classes: test UA in %, four speaker-disjoint folds",
        shows_rates=True,
    ),
    Benchmark(
        "attentive_correlation", "recipes/emodb_16k/attentive_correlation.yaml", "dev",
        "Attentive correlation pooling on EMO-DB: dev UA in %, three speaker-disjoint folds, one seed", COLUMNS_OF_DEV,
    ),
    Benchmark(
        "savee_mean_pooling", "recipes/savee/mean_pooling.yaml", "test",
        "Mean pooling on SAVEE by learning rate and patience: UA in %, four speaker-disjoint folds, one seed",
        COLUMNS_OF_DEV_AND_TEST,
    ),
    Benchmark(
        "emodb_without_dev", "recipes/emodb_16k/without_dev.yaml", "test",
        "Mean pooling on EMO-DB with and without dev: test UA in %, five speaker-disjoint folds, three seeds",
        COLUMNS_OF_NO_DEV,
    ),
    Benchmark(
        "emodb_layers", "recipes/emodb_16k/layers.yaml", "test",
        "Mean pooling on EMO-DB by layer of Whisper base: UA in %, five speaker-disjoint folds, one seed",
        COLUMNS_OF_LAYERS,
    ),
    Benchmark(
        "emodb_standardized", "recipes/emodb_16k/standardized.yaml", "test",
        "Standardised channels on EMO-DB: test UA in %, five speaker-disjoint folds", COLUMNS_OF_STANDARDIZED,
    ),
    Benchmark(
        "savee_standardized", "recipes/savee/standardized.yaml", "test",
        "Standardised channels on SAVEE: test UA in %, four speaker-disjoint folds", COLUMNS_OF_STANDARDIZED,
    ),
    Benchmark(
        "emodb_fine_tuning", "recipes/emodb_16k/fine_tuning.yaml", "test",
        "Fine-tuning Whisper tiny.en on EMO-DB: test UA in %, three speaker-disjoint folds, one seed, 10 epochs",
        COLUMNS_OF_TUNING,
    ),
    Benchmark(
        "savee_fine_tuning", "recipes/savee/fine_tuning.yaml", "test",
        "Fine-tuning Whisper tiny.en on SAVEE: test UA in %, one fold (a speaker), one seed, 10 epochs",
        COLUMNS_OF_TUNING,
    ),
)  # fmt: skip


def entry_of(benchmark: Benchmark, folder: Path, day: str) -> dict[str, Any]:
    """Return a benchmark's entry of ``results.json``.

    Args:
        benchmark: which
        folder: holds its ``FILES``
        day: the date that the entry names

    Raises:
        ValueError: its runs were made at several commits, or with changed files
    """
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    commits = sorted({line["git"] for line in lines})
    if len(commits) != 1 or commits[0].endswith("+"):
        raise ValueError(f"{folder}: runs of one commit without changes are needed, got {commits}")
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        scores = {
            (row["upstream"], row["system"]): row
            for row in csv.DictReader(file)
            if (row["split"], row["metric"]) == (benchmark.split, "UAR")
        }
    planned = planned_runs(benchmark)
    rows = []
    for key in sorted(planned, key=lambda key: -float(scores[key]["mean"]) if key in scores else 0):
        runs = [line for line in lines if (line["upstream"], line["system"]) == key]
        row = row_of(key, scores.get(key), runs, planned[key], benchmark.split)
        rows.append({name: row[name] for name in benchmark.columns})
    return {
        "id": benchmark.name.replace("_", "-"), "what": benchmark.what, "command": benchmark.commands,
        "commit": commits[0][:7], "date": day, "columns": dict(benchmark.columns), "rows": rows,
    }  # fmt: skip


def rates_entry_of(benchmark: Benchmark, folder: Path, day: str) -> dict[str, Any] | None:
    """Return the entry with the dev scores of a benchmark's search for learning rates; ``None`` without a search."""
    path = folder / "search.jsonl"
    if not path.is_file():
        return None
    trials = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[tuple[str, str], dict[float, Row]] = {}
    for trial in trials:
        metrics = trial["splits"]["dev"]["metrics"]
        if metrics["step"] > 1:  # else nothing is learnt by gradients
            cell = {"value": round(100 * metrics["UAR"], 1), "note": f"step {metrics['step']}"}
            found.setdefault((trial["upstream"], trial["system"]), {})[rate_of(trial)] = cell
    rates = sorted({rate for cells in found.values() for rate in cells})
    commits = sorted({trial["git"] for trial in trials})
    if len(commits) != 1 or commits[0].endswith("+"):
        raise ValueError(f"{folder}: trials of one commit without changes are needed, got {commits}")
    return {
        "id": benchmark.name.replace("_", "-") + "-rates",
        "what": "Dev UA in % and step of the best checkpoint by learning rate, on the first fold with the first seed",
        "command": benchmark.commands[:1], "commit": commits[0][:7], "date": day,
        "columns": {"system": "system", "upstream": "upstream", **{f"{rate:g}": f"{rate:g}" for rate in rates}},
        "rows": [
            {"system": system, "upstream": upstream, **{f"{rate:g}": cells.get(rate) for rate in rates}}
            for (upstream, system), cells in found.items()
        ],
    }  # fmt: skip


def rate_of(trial: Row) -> float:
    """Return the learning rate that a trial of a search tried, which ends its name."""
    return float(trial["run"].rpartition(" | lr ")[2])


def planned_runs(benchmark: Benchmark) -> Counter[tuple[str, str]]:
    """Return the number of runs that the matrix plans, by upstream and system."""
    from s3prl_emotion.benchmark import Plan, read_matrix

    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(read_matrix(REPOSITORY / benchmark.matrix), Path(folder))
        return Counter((cell.upstream, cell.system) for cell in plan.cells)


def row_of(key: tuple[str, str], score: Mapping[str, str] | None, runs: Sequence[Row], planned: int, split: str) -> Row:
    """Return the row of a system on an upstream; scores in percent."""
    row: Row = dict.fromkeys({**COLUMNS, **COLUMNS_OF_DEV, **COLUMNS_OF_DEV_AND_TEST, **COLUMNS_OF_TUNING})
    count = f"{len(runs)} of {planned}" if len(runs) < planned else planned
    row |= {"upstream": key[0], "system": key[1], "runs": count}
    if score is None or not runs:
        return row | {"ua": NOT_RUN}
    parameters = runs[0]["num_parameters"]
    row["parameters"] = thousands(parameters) if parameters else None
    trained = runs[0]["splits"][split]["metrics"].get("parameters_trained", parameters)  # with -f, of the upstream too
    row["trained"] = thousands(trained) if trained else None
    row["ua"] = percent(score, "mean", std="std")
    on_dev = [100 * line["splits"]["dev"]["metrics"]["UAR"] for line in runs if "dev" in line["splits"]]
    if len(on_dev) > 1:
        row["dev"] = {"value": round(statistics.mean(on_dev), 1), "std": round(statistics.stdev(on_dev), 1)}
    row["pooled"] = percent(score, "pooled", interval=("low", "high"))
    if score["difference"]:
        ends = [score[name] for name in ("difference_low", "difference_high")]  # empty with fewer than five speakers
        row["difference"] = {"value": signed(score["difference"])}
        if all(ends):
            row["difference"]["interval"] = [signed(end) for end in ends]
        row["p"] = p_value(float(score["p_holm"])) if score["p_holm"] else None
    steps = [line["splits"][split]["metrics"]["step"] for line in runs]
    if max(steps) > 1:  # else nothing is learnt by gradients
        rates = Counter(f"{line['search']['rate']:g}" for line in runs if line.get("search"))
        row["rate"] = ", ".join(rates) or None
        row["step"] = {"value": round(statistics.median(steps)), "interval": [min(steps), max(steps)]}
    row["seconds"] = round(statistics.median(sum(line["seconds"].values()) for line in runs))
    return row


def percent(score: Mapping[str, str], name: str, std: str | None = None, interval: Sequence[str] = ()) -> Row:
    """Return a share of ``report.csv`` as a cell in percent."""
    cell: Row = {"value": round(100 * float(score[name]), 1)}
    if std and score[std]:
        cell["std"] = round(100 * float(score[std]), 1)
    if interval and all(score[end] for end in interval):
        cell["interval"] = [round(100 * float(score[end]), 1) for end in interval]
    return cell


def signed(share: str) -> str:
    """Return a difference of shares in percent, with its sign."""
    return f"{100 * float(share):+.1f}".replace("-", "−")


def p_value(value: float) -> str:
    """Return a p-value as it is printed."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def thousands(count: float) -> Row:
    """Return a number of parameters as a cell."""
    return {"value": round(count / 1e6, 2), "unit": "M"} if count >= 1e6 else {"value": round(count / 1e3), "unit": "k"}


# --- results.json -----------------------------------------------------------------------------------------------------


def entry_text(entry: Mapping[str, Any]) -> str:
    """Return an entry as it stands in ``results.json``: a line for each row."""

    def plain(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = [f'    "{key}": {plain(value)}' for key, value in entry.items() if key not in ("columns", "rows")]
    columns = ",\n".join(f"      {plain(key)}: {plain(title)}" for key, title in entry["columns"].items())
    rows = ",\n".join(f"      {plain(row)}" for row in entry["rows"])
    parts += [f'    "columns": {{\n{columns}\n    }}', f'    "rows": [\n{rows}\n    ]']
    return "  {\n" + ",\n".join(parts) + "\n  }"


def with_entry(text: str, entry: Mapping[str, Any]) -> str:
    """Return the text of ``results.json`` with an entry replaced, or appended."""
    found = re.search(rf'^  \{{\n    "id": "{entry["id"]}",\n.*?\n  \}}(?=,?$)', text, re.DOTALL | re.MULTILINE)
    if found:
        return text[: found.start()] + entry_text(entry) + text[found.end() :]
    return text.rstrip().removesuffix("]").rstrip() + ",\n" + entry_text(entry) + "\n]\n"


def with_all_entries(text: str, day: str | None = None) -> str:
    """Return the text of ``results.json`` with the entries of all benchmarks in ``docs/results``.

    Args:
        text: as it is
        day: date of the entries; ``None`` keeps that of each
    """
    dates = {entry["id"]: entry["date"] for entry in json.loads(text)}
    for benchmark in BENCHMARKS:
        if (KEPT / benchmark.name).is_dir():
            own = dates.get(benchmark.name.replace("_", "-"), date.today().isoformat())
            text = with_entry(text, entry_of(benchmark, KEPT / benchmark.name, day or own))
            rates = rates_entry_of(benchmark, KEPT / benchmark.name, day or own) if benchmark.shows_rates else None
            text = text if rates is None else with_entry(text, rates)
    return text


def keep(folder: Path) -> None:
    """Copy what the documentation keeps of a benchmark; paths in its folder are kept as below ``result``.

    Raises:
        FileNotFoundError: no report, or no finished run
    """
    target = KEPT / folder.name
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name != "search.jsonl" or (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8")
            text = text.replace(str(folder.resolve()), f"result/{folder.name}")
            (target / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Write the entries, or with ``--check`` say whether they differ."""
    parser = argparse.ArgumentParser(description="Write the entries of docs/results.json from benchmarks.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help=f"result/NAME, of {', '.join(names)}")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where an entry differs")
    args = parser.parse_args()
    for folder in args.folders:
        if folder.name not in names:
            parser.error(f"{folder}: must be named after one of {', '.join(names)}")
        keep(folder)
    text = ENTRIES.read_text(encoding="utf-8")
    new = with_all_entries(text)
    if args.check:
        return int(new != text)
    ENTRIES.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
