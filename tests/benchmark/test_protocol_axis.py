"""``protocols:`` of a matrix: every system under each, the speaker-dependent ones with names that say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TinyCorpus
from test_matrix import recipe_for, write_matrix

from s3prl_emotion.benchmark import Plan, read_matrix
from s3prl_emotion.benchmark.checks import check_plan
from s3prl_emotion.errors import ConfigError

PROTOCOL = "downstream_expert.datarc.protocol"


def write(folder: Path, **values: Any) -> Path:
    (folder / "recipe.yaml").write_text("runner: {}\noptimizer: {}\ndownstream_expert: {datarc: {}}\n")
    return write_matrix(folder, None, **values)


def test_each_system_runs_under_each_protocol(tmp_path: Path, tiny_corpus: TinyCorpus):
    both = ["speaker_disjoint", "random"]
    path = write_matrix(tmp_path, recipe_for(tiny_corpus), protocols=both, folds=["fold1", "fold2"])
    plan = Plan(read_matrix(path), tmp_path / "out")
    names = ["mean", "mean, speaker-dependent", "corr", "corr, speaker-dependent"]
    assert list(plan.matrix.systems) == names
    assert [run.cell.system for run in plan.runs] == names * 2
    protocols = {run.cell.system: run.config["downstream_expert"]["datarc"]["protocol"] for run in plan.runs}
    assert protocols == dict(zip(names, both * 2, strict=True))
    assert plan.matrix.baseline == "mean"
    check_plan(plan)
    published = [{"source": "a paper", "metrics": ["UAR"], "values": {"test": {"corr, speaker-dependent": [0.5]}}}]
    path = write_matrix(tmp_path, None, protocols=both, published=published)
    assert read_matrix(path).published[0].system == "corr, speaker-dependent"


def test_a_single_protocol_is_that_of_all_systems_and_steps(tmp_path: Path):
    steps = {"made": {"run": "s3prl-emotion doctor {recipe} {out}"}}
    path = write(tmp_path, protocols=["random"], prepare=steps, systems={"mean": {"needs": ["made"]}})
    plan = Plan(read_matrix(path), tmp_path / "out")
    (run,) = plan.runs
    assert run.cell.system == "mean"
    assert all(
        recipe["downstream_expert"]["datarc"]["protocol"] == "random" for recipe in (run.config, run.steps[0].recipe)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"protocols": ["random", "random"]}, "lists one twice"),
        ({"protocols": ["speaker_disjoint", "superb"]}, "speaker_disjoint and superb are of different labels"),
        ({"protocols": ["disjoint"]}, r"protocols\.0: .*'speaker_disjoint'"),
        ({"protocols": ["random"], "overrides": {PROTOCOL: "random"}}, "protocols chooses it; remove one of the two"),
        ({"protocols": ["random"], "systems": {"a": {"overrides": {PROTOCOL: "random"}}}}, "protocols chooses it"),
        (
            {"protocols": ["speaker_disjoint", "random"], "systems": {"mean": {}, "mean, speaker-dependent": {}}},
            "makes a system of this name; rename it",
        ),
        (
            {"protocols": ["speaker_disjoint", "random"], "prepare": {"made": {"run": "s3prl-emotion x {recipe}"}}},
            r"prepare\.made: its \{recipe\} is of one protocol",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        read_matrix(write(tmp_path, **values))
    assert yaml.safe_load((tmp_path / "matrix.yaml").read_text())["kind"] == "matrix"
