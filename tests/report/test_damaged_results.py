"""Damaged results, metrics and predictions: set aside and named; neither benchmark nor report stops or shows them."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import write_benchmark, write_split

from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.records import RESULTS, ResultsFile, finished_runs, read_lines, read_results
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.files.plain_json import parse
from s3prl_emotion.metrics.split import split_metrics
from s3prl_emotion.metrics.stored import damage_of, read_metrics
from s3prl_emotion.report import analyse, load_study
from s3prl_emotion.report.reading.predictions import read_predictions

Place = tuple[Any, ...]
MISSING = object()
WRONG = (None, [], {}, "", "x", True, -7, 0.3, 1e300, math.nan, -math.inf, 10**400, [[1]], {"a": {"b": 1}}, "\udc80")
NAMES = ("run", "upstream", "system", "fold", "split", "predictions")  # another word is wrong too
CLASSES = ("ang", "sad", "hap")


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """The place of every value inside a value."""
    if above:
        yield above
    for key in value if isinstance(value, dict) else range(min(1, len(value))) if isinstance(value, list) else ():
        yield from places(value[key], (*above, key))


def changed(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value at a place."""
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if new is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return value


def is_like(old: Any, new: Any, place: Place) -> bool:
    """Whether a value could stand in place of another: nothing else tells a score of 0.3 from one of 0.4."""
    is_name = place[-1] in NAMES and place[-2:] != ("metrics", "fold")
    if new is None or new is MISSING:
        return True
    if isinstance(old, (dict, list)):
        return isinstance(new, dict) if isinstance(old, dict) else new == []
    if isinstance(old, str):
        return isinstance(new, str) and new != "\udc80" and not is_name
    return type(new) in (int, float) and not isinstance(old, bool) and math.isfinite(float(min(new, 1e301)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of four runs; tests must not write into it."""
    return write_benchmark(tmp_path_factory.mktemp("made"), "categorical", folds=["fold1"], systems=("one", "two"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def damaged_lines(line: dict[str, Any]) -> Iterator[bytes]:
    """Versions of a line that must not count."""
    speakers = line["splits"]["test"]["metrics"]["per_speaker"]
    line = changed(line, ("splits", "test", "metrics", "per_speaker"), dict(list(speakers.items())[:1]))
    line |= {"seconds": {"train": 1.0}, "search": {"rate": 0.1, "metric": "UAR", "tried": {"0.1": 0.5}}}
    for place in places(line):
        old = line
        for key in place:
            old = old[key]
        for new in WRONG:
            if not is_like(old, new, place):
                yield json.dumps(changed(line, place, new)).encode()
    for name in ("run", "definition", "format", "upstream", "system", "splits", "fold", "seed"):
        yield json.dumps(changed(line, (name,), MISSING)).encode()
        yield json.dumps(changed(line, (name,), None)).encode()
    whole = json.dumps(line).encode()
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        yield whole[:end]
    yield whole.replace(b"one", b"o\xffe")
    yield whole[:-1] + b', "seed": 1}'
    yield b"[" + whole + b"]"
    yield b"[" * 100_000 + b"]" * 100_000
    yield whole[:-1] + b', "x": ' + b"[" * 60 + b"]" * 60 + b"}"
    yield whole.replace(b'"up"', b'"' + b"u" * 10_000_000 + b'"')
    yield b"\xfe\xff" + whole
    yield json.dumps(changed(line, ("splits", "test", "predictions"), "/dev/zero")).encode()
    yield json.dumps(changed(line, ("splits", "test", "predictions"), "../x_predictions.csv")).encode()


@pytest.mark.usefixtures("undrawn")
def test_no_damaged_line_counts(folder: Path, caplog: pytest.LogCaptureFixture):
    """Each stands behind the valid lines, where it would replace one if it counted."""
    path = folder / RESULTS
    good = read_results(path)
    whole = path.read_bytes()
    damaged = list(damaged_lines(next(iter(good.values()))))
    assert len(damaged) > 500
    path.write_bytes(whole + b"".join(line + b"\n" for line in damaged))
    lines = read_lines(path)
    assert [line.data[:500] for line in lines[4:] if line.damage is None] == []
    assert finished_runs(lines) == good

    ResultsFile(folder).set_damaged_aside()
    assert path.read_bytes() == whole
    aside = folder / "results.jsonl.set_aside"
    assert aside.read_bytes() == b"".join(line + b"\n" for line in damaged)
    assert f"{path}: line 5 is damaged (" in caplog.text
    assert "; its run counts as not done, and the line is kept in results.jsonl.set_aside" in caplog.text
    assert all(len(message) < 1000 for message in caplog.messages)
    path.write_bytes(whole + b"x\n")
    ResultsFile(folder).set_damaged_aside()
    assert aside.read_bytes().endswith(damaged[-1] + b"\nx\n")  # earlier ones stay


def test_the_report_names_damaged_lines_and_shows_the_others(folder: Path):
    lines = (folder / RESULTS).read_bytes().splitlines(keepends=True)
    changes: list[tuple[Place, Any]] = [(("splits", "test", "metrics", "UAR"), "0.9"), (("format",), "1")]
    wrong = [json.dumps(changed(json.loads(lines[0]), *change)).encode() + b"\n" for change in changes]
    (folder / RESULTS).write_bytes(b"".join([*lines[1:], *wrong]))
    study = load_study([folder])
    assert study.missing == {"up | one | fold1 | seed 1": "not run yet"}
    damage = "splits.test.metrics.UAR: must be a number from 0 to 1, got '0.9'"
    assert study.warnings[0].endswith(f"line 4 is damaged ({damage}); its run counts as not done")
    assert [row.runs for row in analyse(study, resamples=1000).parts[0].rows] == [1, 2]


def test_a_damaged_description_of_the_matrix_is_one_line(folder: Path):
    path = folder / "matrix.json"
    about = json.loads(path.read_text())
    for place in places(about):
        if place[-1] in ("a.b", "value"):  # any value; no published numbers here
            continue
        path.write_text(json.dumps(changed(about, place, 7)))
        with pytest.raises(UsageError, match=r"matrix.json: is damaged \(.*must be .*start the benchmark again"):
            load_study([folder])
    path.write_text("{")
    with pytest.raises(UsageError, match=r"matrix.json: is damaged \(is not JSON"):
        load_study([folder])


def test_metrics_of_wrong_types_are_not_read(tmp_path: Path):
    draw = np.random.default_rng(0)
    chances = draw.dirichlet([1, 1, 1], 40)
    metrics = parse(json.dumps(split_metrics(
        draw.integers(0, 3, 40), chances, CLASSES, graders=chances, speakers=[f"s{n % 2}" for n in range(40)],
        genders=["Female", "Male"] * 20,
    )).encode())  # fmt: skip
    metrics |= {
        "split": "test",
        "fold": "fold1",
        "layer_weights": [0.5, 0.5],
        "seen": {"note": "n"},
        "versions": {"a": "1"},
    }
    metrics |= {"latent": {"EmoAct": {"distance_R2": 0.5}, "shift": 1.0}, "config": {"runner": {}}}
    assert damage_of(metrics) is None
    read = ("one_class", "threshold_F1")  # below these nothing is read by name
    seen = set()
    for place in places(metrics):
        for new in ("x", True, math.nan, [["x"]]):
            wrong = damage_of(changed(metrics, place, new))
            if wrong is None:
                seen.add(".".join(map(str, place)))
            else:
                assert str(place[0]) in wrong
    fine = {name for name in seen if not name.startswith(("threshold_F1.", "agreement.", "versions", "seen", "config"))}
    assert fine <= {"split", "fold", "classes.0", "evaluated_classes.0", *read}
    path = tmp_path / "test_fold1_metrics.json"
    path.write_text(json.dumps(metrics | {"UAR": "high"}))
    with pytest.raises(LabelError, match=r"metrics.json: UAR: must be a number from 0 to 1, got 'high'; evaluate"):
        read_metrics(path)


def test_an_experiment_names_the_metrics_that_it_leaves_out(tmp_path: Path):
    for split in ("test", "test_5dB"):
        write_split(tmp_path, f"{split}_fold1", split, "fold1", 0.5, [1], "categorical")
    path = tmp_path / "test_fold1_metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"WA": [1]}))
    study = load_study([tmp_path])
    assert study.splits == ("test_5dB",)
    assert "test_fold1_metrics.json: WA: must be a number from 0 to 1, got [1]" in study.warnings[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.wav,s,F,1.0,high\n", "EmoAct_pred must be a number, got 'high'"),
        ("a.wav,s,F,x,1.0\n", "EmoAct must be a number, got 'x'"),
        ("a.wav,s,F,inf,1.0\n", "EmoAct must be a number, got 'inf'"),
        ("a.wav,s\n", "line 3 has 2 cells, the header 5"),
        ("a.wav,s,F,1,2,3,4\n", "line 3 has 7 cells"),
        ("\xff,s,F,1,2\n", "cannot be read"),
    ],
)
def test_predictions_of_wrong_types_are_one_line(tmp_path: Path, text: str, line: str):
    path = tmp_path / "test_fold1_predictions.csv"
    path.write_bytes(("FileName,SpkrID,Gender,EmoAct,EmoAct_pred\nb.wav,s,F,1,2\n" + text).encode("latin-1"))
    with pytest.raises(LabelError, match=line) as raised:
        read_predictions(path)
    assert "\n" not in str(raised.value)


def test_a_damaged_state_starts_the_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Run:
        folder, definition, rate = tmp_path, "d", None

    for name, value in (("failures", "2"), ("seconds", {"train": "x"}), ("trained", 1), ("error", ["x"])):
        (tmp_path / "state.json").write_text(json.dumps({"definition": "d", "rate": None, name: value}))
        assert State.of(Run()) is None  # type: ignore[arg-type]
        assert f"state.json: is damaged ({name}" in caplog.messages[-1]
