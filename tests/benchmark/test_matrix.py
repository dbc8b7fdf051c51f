"""``s3prl-emotion benchmark``: reading and expanding a matrix, running it, and going on where it stopped."""

from __future__ import annotations

import csv
import errno
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SOURCE, TinyCorpus

import s3prl_emotion.cli
from s3prl_emotion.benchmark import Plan, ResultsFile, matrix, read_matrix, read_results, run_matrix
from s3prl_emotion.benchmark import execution as execution_module
from s3prl_emotion.benchmark.checks import check_plan
from s3prl_emotion.benchmark.expansion import apply, fill, slug, split_command
from s3prl_emotion.benchmark.lines import damage_of_about
from s3prl_emotion.benchmark.processes import InterruptedRunError, Processes, last_error
from s3prl_emotion.errors import ConfigError, EmotionError, TrainingError, UsageError
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.files.locks import locked
from s3prl_emotion.recipe import read_recipe

MODEL = "downstream_expert.modelrc"
DATA = "downstream_expert.datarc"


def recipe_for(corpus: TinyCorpus, **overrides: Any) -> dict[str, Any]:
    """A recipe of ``emotion_corr_attn`` on the tones, of 6 steps."""
    recipe = read_recipe(recipes_folder() / "demo" / "emotion_corr_attn.yaml")
    values = {
        "runner.total_steps": 6, "runner.log_step": 2, "runner.eval_step": 3, "runner.save_step": 3,
        f"{DATA}.labels": str(corpus.labels), f"{DATA}.root": str(corpus.root), f"{DATA}.classes": None,
        f"{DATA}.train_batch_size": 4, f"{MODEL}.projector_dim": 8, f"{MODEL}.pooling": "mean",
    }  # fmt: skip
    apply(recipe, values | overrides, "test")
    return recipe


def write_matrix(folder: Path, content_of_recipe: dict[str, Any] | None = None, /, **values: Any) -> Path:
    """A matrix of two systems in ``folder``, with the given keys set (``None`` removes one)."""
    if content_of_recipe is not None:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content_of_recipe))
    content = {
        "kind": "matrix", "title": "A test", "head": "emotion_corr_attn", "recipe": "recipe.yaml",
        "upstreams": {"fbank": {"name": "fbank_no_cmvn"}}, "folds": ["fold1"], "seeds": [1],
        "systems": {"mean": {}, "corr": {"overrides": {f"{MODEL}.pooling": "corr"}}},
    } | values  # fmt: skip
    path = folder / "matrix.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False)
    )
    return path


@pytest.fixture
def plan_of(tmp_path: Path, tiny_corpus: TinyCorpus) -> Callable[..., Plan]:
    """``plan_of(folds=[...])``: the plan of a matrix with these keys, for the directory ``out``."""

    def make(out: str = "out", **values: Any) -> Plan:
        return Plan(read_matrix(write_matrix(tmp_path, recipe_for(tiny_corpus), **values)), tmp_path / out)

    return make


# --- reading and expanding --------------------------------------------------------------------------------------------


def example(tmp_path: Path) -> Path:
    """The matrix that the documentation shows."""
    text = inspect.getdoc(matrix) or ""
    block = text.split("shortened::")[1].split("Besides:")[0]
    path = tmp_path / "example.yaml"
    path.write_text(textwrap.dedent(block.strip("\n")))
    shutil.copy(recipes_folder() / "mitra2024" / "emotion_tcgru.yaml", tmp_path)
    return path


def test_the_documented_matrix_is_one(tmp_path: Path):
    plan = Plan(read_matrix(example(tmp_path)), tmp_path / "out")
    assert len(plan.runs) == 2 * 1 * 3
    whole, less = plan.runs[:2]
    out = (tmp_path / "out").resolve()
    assert whole.upstream_flags == ("-u", "hf_hubert_large_ll60k", "-l", "24")
    assert whole.store_flags == ("--feature_store", f"{out}/store")
    assert whole.config["downstream_expert"]["datarc"]["degraded"] == f"{out}/prepared/noisy/all"
    assert whole.config["downstream_expert"]["datarc"]["test_fold"] == "fold1"
    assert whole.config["downstream_expert"]["modelrc"]["saliency"] is None
    ccs = f"{out}/prepared/ccs/HuBERT-L-fold1"
    assert less.config["downstream_expert"]["modelrc"]["saliency"] == {"file": f"{ccs}/ccs.safetensors", "keep": 0.8}
    assert [step.name for step in whole.steps] == ["noisy"]
    assert [step.name for step in less.steps] == ["noisy", "ccs"]
    command = ["s3prl-emotion", "saliency", *less.upstream_flags, *less.store_flags, "-c", f"{ccs}.yaml"]
    assert list(less.steps[1].commands[0]) == [*command, "--method", "ccs", "--out", f"{ccs}/ccs.safetensors"]
    data = less.steps[1].recipe["downstream_expert"]["datarc"]
    assert data["test_fold"] == "fold1"
    assert "degraded" not in data  # saliency does not need the noisy copies
    places = {step.folder for run in plan.runs for step in run.steps}
    assert places == {out / "prepared/noisy/all", out / "prepared/ccs/HuBERT-L-fold1"}  # once for all seeds
    numbers = {(item.system, item.metric): item.value for item in plan.matrix.published}
    assert numbers["80 %", "CCC.EmoVal"] == 0.66
    assert len(numbers) == 6


def test_a_published_number_may_have_a_spread_a_range_and_a_note(plan_of: Callable[..., Plan]):
    values = {"mean": [{"value": 0.6, "std": 0.02, "min": 0.5, "max": 0.7}], "corr": [0.7]}
    plan = plan_of(published=[{**PUBLISHED, "note": "of ten seeds", "values": {"test": values}}])
    mean, corr = plan.matrix.published
    assert (mean.value, mean.std, mean.min, mean.max, mean.note) == (0.6, 0.02, 0.5, 0.7, "of ten seeds")
    assert (corr.value, corr.std, corr.min, corr.max, corr.note) == (0.7, None, None, None, "of ten seeds")
    assert damage_of_about({"published": [vars(number) for number in plan.matrix.published]}) is None
    older = {"upstream": "a", "split": "test", "system": "mean", "metric": "WA", "value": 0.6, "source": "Table 1"}
    assert damage_of_about({"published": [older]}) is None


def test_cells_are_the_product_with_systems_innermost(plan_of: Callable[..., Plan]):
    plan = plan_of(upstreams={"fbank": {}, "mel": {"name": "fbank_no_cmvn"}}, folds=["fold1", "fold2"], seeds=[1, 2])
    cells = plan.cells
    assert len(cells) == len({cell.id for cell in cells}) == 2 * 2 * 2 * 2
    assert [cell.system for cell in cells[:4]] == ["mean", "corr", "mean", "corr"]
    assert cells[0].id == "fbank | mean | fold1 | seed 1"
    assert len({run.folder for run in plan.runs}) == len({run.definition for run in plan.runs}) == 16


def test_defaults(plan_of: Callable[..., Plan]):
    (run, _) = plan_of(folds=None, seeds=None, upstreams={"fbank_no_cmvn": None}).runs
    assert run.cell.id == "fbank_no_cmvn | mean | seed 1337"
    assert run.upstream_flags == ("-u", "fbank_no_cmvn")
    assert run.tests == ("test",)
    assert "test_fold" not in run.config["downstream_expert"]["datarc"]


def test_flags_of_an_upstream(plan_of: Callable[..., Plan], tmp_path: Path):
    (tmp_path / "options.yaml").write_text("num_layers: 2\n")
    upstreams = {
        "a": {"name": "x", "ckpt": "{matrix}/weights", "model_config": "options.yaml", "feature": "last_hidden_state",
              "layer": 0, "normalize": True},
        "b": {"name": "concat", "model_config": {"upstreams": [{"name": "fbank"}, {"name": "{upstream}"}]}},
        "c": {"name": "y", "trainable": True},
    }  # fmt: skip
    plan = plan_of(upstreams=upstreams, upstream_path="{matrix}/mine", store_dtype="float16")
    here = str(tmp_path.resolve())
    flags = {run.cell.upstream: run.upstream_flags for run in plan.runs}
    assert flags["a"] == (
        "-u", "x", "-k", f"{here}/weights", "-g", f"{here}/options.yaml", "-s", "last_hidden_state", "-l", "0",
        "--upstream_feature_normalize", "--upstream_path", f"{here}/mine",
    )  # fmt: skip
    assert flags["b"][:4] == ("-u", "concat", "-g", f"{here}/out/upstreams/b.yaml")
    assert plan.model_options == {
        tmp_path.resolve() / "out/upstreams/b.yaml": {"upstreams": [{"name": "fbank"}, {"name": "b"}]}
    }
    stores = {run.cell.upstream: run.store_flags for run in plan.runs}
    assert stores["a"] == ("--feature_store", f"{here}/out/store", "--store_dtype", "float16")
    assert stores["c"] == ()  # a trained upstream changes with every step


def test_a_store_of_ones_own_and_none(plan_of: Callable[..., Plan], tiny_corpus: TinyCorpus, tmp_path: Path):
    assert plan_of(store="{matrix}/S").runs[0].store_flags[1] == f"{tmp_path.resolve()}/S"
    assert plan_of(store="").runs[0].store_flags[1] == ""
    path = write_matrix(tmp_path)
    path.write_text(path.read_text() + "store: null\n")
    assert Plan(read_matrix(path), tmp_path).runs[0].store_flags == ()
    assert plan_of(overrides={"runner.seeding": "superb"}).runs[0].store_flags == ()


def test_systems_may_have_their_own_recipe_and_head(plan_of: Callable[..., Plan], tmp_path: Path):
    shutil.copy(recipes_folder() / "mitra2024" / "emotion_tcgru.yaml", tmp_path)
    systems = {"a": {}, "b": {"head": "emotion_tcgru", "recipe": "emotion_tcgru.yaml"}}
    runs = plan_of(systems=systems).runs
    assert [run.head for run in runs] == ["emotion_corr_attn", "emotion_tcgru"]
    assert "gru_dim" in runs[1].config["downstream_expert"]["modelrc"]


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("{fold}/x", "fold1/x"),
        ("{{fold}}", "{fold}"),
        (["{fold}", {"a": "{dir}", "{fold}": 1}], ["fold1", {"a": "/b", "{fold}": 1}]),
        (0.5, 0.5),
        (None, None),
        ("", ""),
    ],
)
def test_placeholders(value: Any, filled: Any):
    assert fill(value, {"fold": "fold1", "dir": "/b"}, "here") == filled


def test_words_of_a_command():
    values, several = {"out": "/a b/c", "fold": "fold1"}, {"flags": ["-u", "x y"], "none": []}
    command = "prog {flags} --out '{out}/it' {none} {out} 'two words' --v={fold}"
    assert split_command(command, values, several, "here") == [
        "prog", "-u", "x y", "--out", "/a b/c/it", "/a b/c", "two words", "--v=fold1"
    ]  # fmt: skip
    for bad, message in (
        ("a {oot}", "no placeholder {oot} here; nearest: out"),
        ("a 'b", "cannot be split into words"),
        (" ", "an empty command"),
        ("a x{flags}", "no placeholder {flags} here"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            split_command(bad, values, several, "here")


def test_the_definition_is_what_a_result_depends_on(plan_of: Callable[..., Plan], tmp_path: Path):
    steps = {"s": {"run": "make {out} {dir}"}}
    base: dict[str, Any] = {"prepare": steps, "systems": {"a": {"overrides": {f"{DATA}.root": "{prepared.s}/{fold}"}}}}

    def definition(**values: Any) -> str:
        return plan_of(**{**base, **values}).runs[0].definition

    one = definition()
    assert one == definition(out="elsewhere")
    assert one == definition(title="another", notes="words", tests=["test", "dev"], seeds=[1, 2], baseline="a")
    changed = {
        "seed": definition(seeds=[2]),
        "fold": definition(folds=["fold2"]),
        "override": definition(systems={"a": {"overrides": {f"{DATA}.root": "{prepared.s}"}}}),
        "common override": definition(overrides={"runner.total_steps": 7}),
        "step": definition(prepare={"s": {"run": "make {out} {dir} --more"}}),
        "upstream": definition(upstreams={"fbank": {"name": "fbank"}}),
        "store": definition(store_dtype="float16"),
    }
    (tmp_path / "options.yaml").write_text("a: 1\n")
    changed["options"] = definition(upstreams={"fbank": {"model_config": "options.yaml"}})
    (tmp_path / "options.yaml").write_text("a: 2\n")
    changed["other options"] = definition(upstreams={"fbank": {"model_config": "options.yaml"}})
    assert len({one, *changed.values()}) == len(changed) + 1


def test_the_definition_holds_the_labels(plan_of: Callable[..., Plan], own_tiny_corpus: TinyCorpus):
    overrides = {f"{DATA}.labels": str(own_tiny_corpus.labels)}
    before = plan_of(overrides=overrides).runs[0].definition
    own_tiny_corpus.labels.write_text(
        own_tiny_corpus.labels.read_text().replace("s0_ang_0.wav,ang", "s0_ang_0.wav,sad")
    )
    assert plan_of(overrides=overrides).runs[0].definition != before


@pytest.mark.parametrize("key", ["extra_tests", "corpora"])
def test_the_definition_holds_the_labels_of_other_corpora(
    plan_of: Callable[..., Plan], own_tiny_corpus: TinyCorpus, key: str
):
    entry = {"labels": str(own_tiny_corpus.labels), "root": str(own_tiny_corpus.root)}
    overrides: dict[str, Any] = {f"{DATA}.{key}": {"other": entry}}
    before = plan_of(overrides=overrides).runs[0].definition
    assert plan_of(overrides=overrides).runs[0].definition == before
    own_tiny_corpus.labels.write_text(own_tiny_corpus.labels.read_text().replace("Female", "Male"))
    assert plan_of(overrides=overrides).runs[0].definition != before


def test_the_definition_holds_votes_and_noisy_copies(
    plan_of: Callable[..., Plan], own_tiny_corpus: TinyCorpus, tmp_path: Path
):
    votes, noisy = tmp_path / "votes.csv", tmp_path / "noisy"
    noisy.mkdir()
    for path in (votes, noisy / "test_5dB.csv"):
        path.write_text("FileName\n")
    distribution = {"source": "votes", "votes": str(votes)}
    entry = {"labels": str(own_tiny_corpus.labels), "distribution": distribution}
    for values in (
        {f"{DATA}.distribution": distribution},
        {f"{DATA}.extra_tests": {"other": entry}},
        {f"{DATA}.degraded": str(noisy)},
    ):
        before = plan_of(overrides=values).runs[0].definition
        assert plan_of(overrides=values).runs[0].definition == before
        for path in (votes, noisy / "test_5dB.csv"):
            path.write_text(path.read_text() + "a.wav\n")
        assert plan_of(overrides=values).runs[0].definition != before


def test_prepared_labels_do_not_change_the_definition_once_they_are_there(
    plan_of: Callable[..., Plan], fake: Fake, tiny_corpus: TinyCorpus
):
    values: dict[str, Any] = {
        "prepare": {"a": {"run": "make {out}"}}, "overrides": {f"{DATA}.labels": "{prepared.a}/made"}
    }  # fmt: skip
    assert len(run_matrix(plan_of(**values)).finished) == 2
    assert (plan_of().out / "prepared/a/all/made").is_file()
    assert len(run_matrix(plan_of(**values)).skipped) == 2


def test_steps_in_their_order_with_what_they_need(plan_of: Callable[..., Plan], tmp_path: Path):
    prepare = {
        "last": {"run": ["use {prepared.middle}", "and {fold}"], "each": ["fold", "seed"]},
        "middle": {"run": "mid -c {recipe}", "each": ["fold"], "needs": ["first"]},
        "first": {"run": "begin"},
        "unused": {"run": "never"},
    }
    plan = plan_of(
        prepare=prepare, folds=["fold1", "fold2"], seeds=[1, 2], systems={"a": {"needs": ["last"]}, "b": {}},
        overrides={f"{DATA}.max_duration": 1.0, f"{DATA}.degraded": "{prepared.first}"},
    )  # fmt: skip
    runs = {run.cell.id: run for run in plan.runs}
    run = runs["fbank | a | fold2 | seed 1"]
    assert [step.name for step in run.steps] == ["first", "middle", "last"]
    places = [step.folder.relative_to(tmp_path.resolve() / "out/prepared").as_posix() for step in run.steps]
    assert places == ["first/all", "middle/fold2", "last/fold2-1"]
    assert run.steps[2].commands[1] == ("and", "fold2")
    data = run.steps[1].recipe["downstream_expert"]["datarc"]
    assert (data["test_fold"], data["max_duration"]) == ("fold2", 1.0)
    assert data["degraded"] == str(tmp_path.resolve() / "out/prepared/first/all")  # it needs that step itself
    assert [step.name for step in runs["fbank | b | fold1 | seed 1"].steps] == ["first"]  # by the common override


# --- bad matrices -----------------------------------------------------------------------------------------------------

PUBLISHED = {"source": "Table 1", "metrics": ["WA"], "values": {"test": {"mean": [0.69]}}}


def published(**value: Any) -> dict[str, Any]:
    return {"published": [{**PUBLISHED, "values": {"test": {"mean": [value]}}}]}


STEPS = {"a": {"run": "x {prepared.b}"}, "b": {"run": "x {prepared.a}"}}
BAD = [
    ({"kind": "matrx"}, "kind: must be matrix, got 'matrx'"),
    ({"kind": None}, "kind: must be matrix, got None"),
    ({"sytems": {}}, r"sytems: unknown key; nearest: systems"),
    ({"title": None}, "title: this key is required"),
    ({"head": 3}, "head: Input should be a valid string"),
    ({"systems": {}}, "systems: Dictionary should have at least 1 item"),
    ({"upstreams": {}}, "upstreams: Dictionary should have at least 1 item"),
    ({"systems": {"a": {"overides": {}}}}, r"systems.a.overides: unknown key; nearest: overrides"),
    ({"systems": {"a": 3}}, "systems.a: must be a mapping"),
    ({"upstreams": {"a": {"layers": 3}}}, "upstreams.a.layers: unknown key; nearest: layer"),
    ({"upstreams": {"a": {"layer": -1}}}, "upstreams.a.layer: Input should be greater than or equal to 0"),
    ({"upstreams": {"a": {"model_config": "none.yaml"}}}, "model_config: .*none.yaml: no such file"),
    ({"systems": {"a b": {}, "a_b": {}}}, "'a b' and 'a_b' would both be the folder 'a_b'; rename one"),
    ({"systems": {1: {}}}, "systems: the name 1 must be in quotation marks"),
    ({"folds": ["fold1", "fold1"]}, "folds: 'fold1' is listed twice"),
    ({"seeds": [1, 1]}, "seeds: 1 is listed twice"),
    ({"seeds": []}, "seeds: List should have at least 1 item"),
    ({"tests": ["test", "test"]}, "tests: 'test' is listed twice"),
    ({"tests": [""]}, "tests: an empty name"),
    ({"baseline": "meen"}, "baseline: no system 'meen'; nearest: mean"),
    ({"recipe": "none.yaml"}, "none.yaml: no such recipe"),
    ({"overrides": {"runner.": 3}}, "overrides: 'runner.' is no dotted key"),
    ({"overrides": {"runner.total_steps.x": 3}}, "'total_steps' holds a value in the recipe, not a section"),
    ({"overrides": {"runner.x": "{fild}"}}, r"overrides: no placeholder \{fild\} here; nearest: fold"),
    ({"overrides": {"runner.x": "{prepared.css}"}}, "overrides: no prepared step 'css'"),
    ({"store": "{out}"}, r"store: no placeholder \{out\} here"),
    ({"store_dtype": "float8"}, "store_dtype: Input should be 'float32'"),
    ({"systems": {"a": {"needs": ["x"]}}, "prepare": {"xx": {"run": "y"}}}, "no prepared step 'x'; nearest: xx"),
    ({"prepare": {"a-b": {"run": "x"}}}, "prepare.a-b: a step's name may hold letters, digits and _ only"),
    ({"prepare": {"a": {"command": "x"}}}, "prepare.a.command: unknown key"),
    ({"prepare": {"a": {}}}, "prepare.a.run: this key is required"),
    ({"prepare": {"a": {"run": "x", "each": ["flod"]}}}, "prepare.a.each.0: Input should be 'upstream'"),
    ({"prepare": {"a": {"run": "x", "each": ["fold"]}}, "folds": None}, "prepare.a.each: the matrix names no folds"),
    ({"prepare": STEPS}, "prepare: a needs b needs a, a circle"),
    ({"prepare": {"a": {"run": "x", "needs": ["b"]}, "b": {"run": "y", "each": ["fold"]}}},
     "prepare.a.each: needs b, which is made for each fold; add fold"),
    ({"prepare": {"a": {"run": "x {fold}"}}, "overrides": {"runner.x": "{prepared.a}"}},
     r"prepare.a: no placeholder \{fold\} here"),
    ({"prepare": {"a": {"run": "x {upstream_flags}"}}, "overrides": {"runner.x": "{prepared.a}"}},
     r"prepare.a: no placeholder \{upstream_flags\} here"),
    ({"published": [{**PUBLISHED, "metrics": ["CCC"]}]}, "published, Table 1: no metric 'CCC' in this matrix; "),
    ({"published": [{**PUBLISHED, "values": {"tset": {"mean": [0.7]}}}]}, "no split 'tset' in this matrix"),
    ({"published": [{**PUBLISHED, "values": {"test": {"men": [0.7]}}}]}, "no system 'men' in this matrix; nearest"),
    ({"published": [{**PUBLISHED, "upstream": "x"}]}, "no upstream 'x' in this matrix"),
    ({"published": [PUBLISHED, PUBLISHED]}, "test, mean: a second number for WA"),
    ({"published": [{**PUBLISHED, "values": {"test": {"mean": [69]}}}]}, "WA 69 is out of range; shares are"),
    ({"published": [{**PUBLISHED, "values": {"test": {"mean": [0.6, 0.7]}}}]}, "2 numbers for 1 metrics; write null"),
    (published(std=0.1), "test, mean: WA.value: this key is required"),
    (published(value=0.6, sdt=0.1), "test, mean: WA.sdt: unknown key; nearest: std"),
    (published(value=60.0, std=0.1), "test, mean: WA 60 is out of range; shares are written as 0.69, not 69"),
    (published(value=0.6, std=2.7), "test, mean: WA std 2.7 is out of range; shares are written as 0.02, not 2"),
    (published(value=0.6, std=-0.1), "test, mean: WA std -0.1 is out of range"),
    (published(value=0.6, std=float("nan")), "test, mean: WA std nan is out of range"),
    (published(value=0.6, min=0.5, max=60.1), "test, mean: WA max 60.1 is out of range"),
    (published(value=0.6, min=0.61), "test, mean: WA 0.6 must lie between its min 0.61 and its max 0.6"),
    (published(value=0.6, min=0.5, max=0.55), "test, mean: WA 0.6 must lie between its min 0.5 and its max 0.55"),
    (published(value="60 %"), "test, mean: WA.value: Input should be a valid number"),
    ({"published": [{**PUBLISHED, "values": {"test": {"mean": ["0.6"]}}}]}, "WA: must be a number, null, or value"),
    ({"published": [{**PUBLISHED, "values": {"test": {"mean": [True]}}}]}, "WA: must be a number, null, or value"),
    ({"published": [{**PUBLISHED, "note": 1}]}, "published.note: Input should be a valid string"),
    ({"published": [{"metrics": ["WA"], "values": {}}]}, "published.source: this key is required"),
    ({"published": ["WA"]}, "published: must be a mapping"),
    ({"systems": {"mean": {"seeds": [2]}}}, r"systems\.mean\.seeds: 2 is not among the matrix's seeds, \[1\]; add it"),
    ({"systems": {"mean": {"seeds": [1, 1]}}}, r"systems\.mean\.seeds: 1 is listed twice"),
    ({"systems": {"mean": {"seeds": []}}}, r"systems\.mean\.seeds: List should have at least 1 item"),
    ({"published": [PUBLISHED], "upstreams": {"a": {}, "b": {}}}, "name the upstream that its numbers are for: a, b"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_matrices(plan_of: Callable[..., Plan], values: dict[str, Any], message: str):
    with pytest.raises(EmotionError, match=message) as caught:
        assert plan_of(**values).runs
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: matrix\nsystems: {a: {}, a: {}}\n", "duplicate key 'a'"),
        ("kind: matrix\nkind: matrix\n", "duplicate key 'kind'"),
        ("kind: [", "not readable as YAML"),
        ("- kind", "a matrix is a mapping"),
        ("", "a matrix is a mapping"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, message: str):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_matrix(tmp_path / "m.yaml")
    with pytest.raises(UsageError, match="no such matrix"):
        read_matrix(tmp_path / "other.yaml")


def test_merged_keys_may_be_overridden(tmp_path: Path, tiny_corpus: TinyCorpus):
    path = write_matrix(tmp_path, recipe_for(tiny_corpus), systems=None)
    path.write_text(
        path.read_text()
        + "systems:\n  a: {overrides: &a {runner.total_steps: 6, runner.log_step: 1}}\n"
        + "  b: {overrides: {<<: *a, runner.total_steps: 9}}\n"
    )
    runs = Plan(read_matrix(path), tmp_path / "out").runs
    assert [run.config["runner"]["total_steps"] for run in runs] == [6, 9]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": "emotion_cor_attn"}, "head 'emotion_cor_attn' is not one of .*nearest: emotion_corr_attn"),
        ({"head": "emotion"}, "head 'emotion' is not one of this suite's, which a report needs"),
        ({"upstreams": {"fbnk": {}}}, "upstreams.fbnk: .*fbank"),
        ({"folds": ["fold9"]}, "systems.mean, fold9: .*fold9"),
        ({"tests": ["tset"]}, "systems.mean, fold1: .*no split 'tset'"),
        (
            {"systems": {"a": {"overrides": {f"{MODEL}.poling": "corr"}}}},
            "systems.a, fold1: .*poling: unknown key; nearest",
        ),
        ({"systems": {"a": {"overrides": {"runer.total_steps": 3}}}}, "systems.a, fold1: runer: unknown section"),
        ({"systems": {"a": {"overrides": {"runner.total_stps": 3}}}}, "total_stps: unknown key; nearest: total_steps"),
        ({"systems": {"a": {"overrides": {"optimizer.lrr": 3}}}}, "systems.a, fold1: optimizer: s3prl cannot build it"),
        ({"systems": {"a": {"overrides": {"optimizer.name": "__import__"}}}}, "s3prl has no optimizer '__import__'"),
        (
            {"systems": {"a": {"overrides": {"scheduler.name": "linear_schedule_with_warmup"}}}},
            "scheduler: s3prl cannot",
        ),
        ({"overrides": {f"{DATA}.labels": "none.csv"}}, "none.csv: no such label table"),
    ],
)
def test_a_matrix_with_an_impossible_run_is_refused(plan_of: Callable[..., Plan], values: dict[str, Any], message: str):
    plan = plan_of(**values)
    with pytest.raises(ConfigError, match=message):
        run_matrix(plan)
    assert not plan.out.exists()


def test_what_a_step_will_make_is_not_looked_for_yet(plan_of: Callable[..., Plan]):
    prepare = {"labels": {"run": "x"}}
    check_plan(plan_of(prepare=prepare, overrides={f"{DATA}.labels": "{prepared.labels}/none.csv"}))
    with pytest.raises(ConfigError, match="labelz: unknown key"):
        check_plan(plan_of(prepare=prepare, overrides={f"{DATA}.labelz": "{prepared.labels}/none.csv"}))


def test_a_system_may_run_with_some_seeds_alone(plan_of: Callable[..., Plan]):
    systems = {"mean": {}, "corr": {"seeds": [3, 2]}}
    search = {"learning_rates": [0.1], "per": ["upstream", "system"]}
    plan = plan_of(seeds=[1, 2, 3], systems=systems, search=search)
    runs = [(run.cell.seed, run.cell.system) for run in plan.runs]
    assert runs == [(1, "mean"), (2, "mean"), (2, "corr"), (3, "mean"), (3, "corr")]
    assert {(trial.cell.system, trial.cell.seed) for trial in plan.trials} == {("mean", 1), ("corr", 2)}


def shipped() -> list[Path]:
    paths = sorted(recipes_folder().rglob("*.yaml"))
    return [path for path in paths if yaml.safe_load(path.read_text(encoding="utf-8")).get("kind") == "matrix"]


@pytest.mark.parametrize("path", shipped(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_matrices(path: Path, tmp_path: Path):
    plan = Plan(read_matrix(path), tmp_path)
    assert plan.runs
    data = [run.config["downstream_expert"]["datarc"] for run in plan.runs if not run.steps]
    if all(entry["labels"] == "demo" and not entry.get("extra_tests") for entry in data):
        check_plan(plan)  # others need a corpus that is not here


# --- results.jsonl ----------------------------------------------------------------------------------------------------


def line_of(name: str, **more: Any) -> dict[str, Any]:
    """The line of a finished run of system ``name``."""
    splits = {"test": {"predictions": "x_predictions.csv", "metrics": {}}}
    line = {"run": f"up | {name} | seed 1", "definition": "d", "upstream": "up", "system": name, "seed": 1}
    return line | {"splits": splits} | more


def systems_of(path: Path) -> list[str]:
    return [line["system"] for line in read_results(path).values()]


def test_a_torn_last_line_is_ignored_and_replaced_at_every_byte(tmp_path: Path):
    file = ResultsFile(tmp_path)
    file.append(line_of("a", value=1))
    whole = file.path.read_bytes()
    file.append(line_of("b", text="ü {} \\n"))
    both = file.path.read_bytes()
    for end in range(len(whole), len(both)):
        file.path.write_bytes(both[:end])
        assert systems_of(file.path) == ["a"]
        file.append(line_of("c"))
        assert systems_of(file.path) == ["a", "c"]
        assert file.path.read_bytes().startswith(whole)
    file.path.write_bytes(both)
    assert read_results(file.path)["up | b | seed 1"]["text"] == "ü {} \\n"


def test_damaged_lines_and_several_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = ResultsFile(tmp_path)
    for number, name in enumerate("abab"):
        file.append(line_of(name, number=number))
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(lines[0] + b"\xff{]\n" + b'["run"]\n' + lines[2] + b'{"format": 1}\n' + lines[3])
    found = read_results(file.path)
    assert {line["system"]: line["number"] for line in found.values()} == {"a": 2, "b": 3}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"line {number} is damaged ({wrong}); its run counts as not done"
        for number, wrong in ((2, "is not UTF-8"), (3, "must be an object, got ['run']"), (5, "run is missing"))
    ]
    file.path.write_bytes(b'{"format": 2, "run": "a"}\n')
    with pytest.raises(UsageError, match="line 1 is of format 2, not known here; upgrade"):
        read_results(file.path)
    assert read_results(tmp_path / "none.jsonl") == {}


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = ResultsFile(tmp_path)
    file.append(line_of("a"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"could not be written \(No space left on device\); free room"):
        file.append(line_of("b"))
    assert systems_of(file.path)[0] == "a"


def test_a_second_benchmark_says_so(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of()
    plan.out.mkdir()
    busy = f"{plan.out}: another benchmark is running there .process {os.getpid()}.; wait for it or end it"
    with locked(plan.out / ".lock", "x"), pytest.raises(UsageError, match=busy):
        run_matrix(plan)
    assert fake.commands == []
    assert len(run_matrix(plan).finished) == 2


# --- running, with commands that only pretend -------------------------------------------------------------------------


class Fake:
    """Stands in for subprocesses: leaves what the real commands would leave.

    ``fails`` are words; a command that holds one of them fails. ``stops`` likewise ends it from outside.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails: set[str] = set()
        self.stops: set[str] = set()
        self.lock = threading.Lock()

    def run(self, processes: Processes, command: Any, log: Path) -> None:
        with self.lock:
            self.commands.append(list(command))
        text = " ".join(command)
        if any(word in text for word in self.stops):
            raise InterruptedRunError("ended from outside")
        if any(word in text for word in self.fails):
            raise TrainingError(f"as asked (log: {log})")
        if "train" in command:
            self.evaluate(Path(command[command.index("-p") + 1]), ["dev", "test"])
        elif "evaluate" in command:
            self.evaluate(Path(command[command.index("-e") + 1]).parent, [command[command.index("-t") + 1]])
        elif command[0] == "make":
            Path(command[1], "made").write_text(text)

    def evaluate(self, expdir: Path, splits: list[str]) -> None:
        expdir.mkdir(parents=True, exist_ok=True)
        for split in splits:
            about = {"split": split, "fold": "fold1", "checkpoint": "dev-best.ckpt", "WA": 0.5, "UAR": 0.5,
                     "per_speaker": {"s0": {"WA": 1}}, "num_parameters": 7, "versions": {"torch": "2"}}  # fmt: skip
            (expdir / f"{split}_fold1_metrics.json").write_text(json.dumps(about))

    def kinds(self) -> list[str]:
        """What was asked for since this was last called, in short."""
        found = [
            f"{Path(words[words.index('-p') + 1]).parents[1].name} {'again' if '-a' in words else 'train'}"
            if "train" in words
            else f"evaluate {words[words.index('-t') + 1]}" if "evaluate" in words else " ".join(words[:1])
            for words in self.commands
        ]  # fmt: skip
        self.commands.clear()
        return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(Processes, "run", lambda self, command, log: fake.run(self, command, log))
    monkeypatch.setattr("s3prl_emotion.benchmark.checks.check_plan", lambda plan: None)
    return fake


def results_of(plan: Plan) -> dict[str, dict[str, Any]]:
    return read_results(plan.out / "results.jsonl")


def test_finished_runs_are_skipped_while_their_definition_holds(plan_of: Callable[..., Plan], fake: Fake):
    summary = run_matrix(plan_of())
    assert summary.finished == ["fbank | mean | fold1 | seed 1", "fbank | corr | fold1 | seed 1"]
    assert fake.kinds() == ["mean train", "corr train"]
    summary = run_matrix(plan_of(title="another title"))
    assert (len(summary.skipped), summary.finished, fake.kinds()) == (2, [], [])
    changed = {
        "mean": {"overrides": {f"{MODEL}.projector_dim": 4}},
        "corr": {"overrides": {f"{MODEL}.pooling": "corr"}},
    }
    stale = plan_of().runs[0].expdir / "states-3.ckpt"
    stale.touch()
    assert run_matrix(plan_of(systems=changed)).finished == ["fbank | mean | fold1 | seed 1"]
    assert fake.kinds() == ["mean train"]  # not resumed from a checkpoint of the earlier definition
    assert not stale.exists()
    lines = (plan_of().out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert len(results_of(plan_of())) == 2


def test_a_run_whose_line_is_damaged_is_repeated(plan_of: Callable[..., Plan], fake: Fake):
    path = plan_of().out / "results.jsonl"
    for wrong in ("[0.5]", '"0.5"', "true", "7", "NaN"):
        run_matrix(plan_of())
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b'"UAR": 0.5', b'"UAR": ' + wrong.encode(), 1))
        assert len(run_matrix(plan_of()).finished) == 1
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert len(path.with_name("results.jsonl.set_aside").read_text().splitlines()) == 5
    assert fake.kinds() == ["mean train", "corr train"]  # the line is made of what the run left


def test_what_a_line_holds(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of()
    run_matrix(plan)
    line = results_of(plan)["fbank | corr | fold1 | seed 1"]
    assert line["definition"] == plan.runs[1].definition
    assert {line[name] for name in ("upstream", "system", "fold", "head")} == {
        "fbank", "corr", "fold1", "emotion_corr_attn"
    }  # fmt: skip
    assert (line["seed"], line["num_parameters"], line["versions"]) == (1, 7, {"torch": "2"})
    assert set(line["splits"]) == {"dev", "test"}
    test = line["splits"]["test"]
    assert test["metrics"] == {"split": "test", "fold": "fold1", "checkpoint": "dev-best.ckpt", "WA": 0.5, "UAR": 0.5}
    assert test["predictions"] == "runs/fbank/corr/fold1-seed1/exp/test_fold1_predictions.csv"
    assert set(line) >= {"git", "host", "seconds", "config_hash", "upstream_options"}


def test_a_new_split_is_evaluated_without_training_again(plan_of: Callable[..., Plan], fake: Fake):
    run_matrix(plan_of())
    fake.kinds()
    plan = plan_of(tests=["test", "test_5dB"])
    assert len(run_matrix(plan).finished) == 2
    assert fake.kinds() == ["evaluate test_5dB"] * 2
    assert set(results_of(plan)["fbank | mean | fold1 | seed 1"]["splits"]) == {"dev", "test", "test_5dB"}


def test_a_line_lost_in_a_crash_is_written_again_without_work(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of()
    run_matrix(plan)
    fake.kinds()
    path = plan.out / "results.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert run_matrix(plan).finished == ["fbank | corr | fold1 | seed 1"]
    assert fake.kinds() == []
    assert path.read_bytes() == content


def test_a_failing_run_is_reported_and_the_others_go_on(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of()
    fake.fails = {"/mean/"}
    summary = run_matrix(plan)
    assert summary.finished == ["fbank | corr | fold1 | seed 1"]
    log = plan.runs[0].folder / "log.txt"
    assert summary.failed == {"fbank | mean | fold1 | seed 1": f"as asked (log: {log})"}
    assert list(results_of(plan)) == summary.finished
    fake.fails = set()
    (plan.runs[0].expdir).mkdir()
    (plan.runs[0].expdir / "states-3.ckpt").touch()
    assert fake.kinds() == ["mean train", "corr train", "mean train"]
    assert list(run_matrix(plan).given_up) == ["fbank | mean | fold1 | seed 1"]
    assert fake.kinds() == []
    assert run_matrix(plan, retry_failed=True).finished == ["fbank | mean | fold1 | seed 1"]
    assert fake.kinds() == ["mean train"]  # from the beginning: its checkpoint may be what is wrong


def test_an_interrupted_run_goes_on_from_its_checkpoint(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of()
    fake.stops = {"/mean/"}
    assert list(run_matrix(plan).failed) == ["fbank | mean | fold1 | seed 1"]
    expdir = plan.runs[0].expdir
    expdir.mkdir()
    (expdir / "states-3.ckpt").touch()
    fake.stops = set()
    fake.kinds()
    run_matrix(plan)
    assert fake.kinds() == ["mean again"]


def test_an_interrupted_run_without_a_checkpoint_starts_in_an_unused_folder(plan_of: Callable[..., Plan], fake: Fake):
    """``run_downstream.py`` refuses a used one."""
    plan = plan_of()
    fake.stops = {"/mean/"}
    run_matrix(plan)
    plan.runs[0].expdir.mkdir()
    (plan.runs[0].expdir / "log.log").touch()
    fake.stops = set()
    fake.kinds()
    run_matrix(plan)
    assert fake.kinds() == ["mean train"]
    assert not (plan.runs[0].expdir / "log.log").exists()


def test_superbs_order_is_never_resumed(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of(overrides={"runner.seeding": "superb"})
    fake.stops = {"/mean/"}
    run_matrix(plan)
    plan.runs[0].expdir.mkdir()
    (plan.runs[0].expdir / "states-3.ckpt").touch()
    fake.stops = set()
    fake.kinds()
    run_matrix(plan)
    assert fake.kinds() == ["mean train"]


def test_test_scores_come_from_the_best_checkpoint(plan_of: Callable[..., Plan], fake: Fake, monkeypatch: Any):
    """SUPERB's order leaves those of the last step: they are evaluated anew."""

    def last_step(expdir: Path, splits: list[str]) -> None:
        Fake.evaluate(fake, expdir, splits)
        if len(splits) > 1:
            for path in expdir.glob("*_metrics.json"):
                path.write_text(path.read_text().replace('"dev-best.ckpt"', "null"))

    monkeypatch.setattr(fake, "evaluate", last_step)
    assert len(run_matrix(plan_of()).finished) == 2
    assert fake.kinds() == ["mean train", "evaluate test", "corr train", "evaluate test"]
    monkeypatch.setattr(fake, "evaluate", lambda expdir, splits: None)
    (error, _) = run_matrix(plan_of(out="other")).failed.values()
    assert "no metrics of test from dev-best.ckpt; was dev evaluated at all (runner.eval_step)?" in error


def test_a_step_is_done_once_for_its_scope(plan_of: Callable[..., Plan], fake: Fake):
    values: dict[str, Any] = {
        "prepare": {"a": {"run": "make {out}"}, "b": {"run": "make {out} {prepared.a}", "each": ["fold"]}},
        "overrides": {f"{DATA}.degraded": "{prepared.b}"}, "folds": ["fold1", "fold2"], "seeds": [1, 2],
    }  # fmt: skip
    plan = plan_of(**values)
    assert len(run_matrix(plan).finished) == 8
    assert fake.kinds().count("make") == 3
    made = plan.out / "prepared/b/fold2/made"
    assert made.read_text() == f"make {made.parent} {plan.out}/prepared/a/all"
    assert run_matrix(plan).finished == []
    values["prepare"]["b"]["run"] += " --more"
    assert len(run_matrix(plan_of(**values)).finished) == 8
    assert fake.kinds().count("make") == 2  # a did not change
    assert made.read_text().endswith("--more")


def test_a_failing_step_fails_what_needs_it_once(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of(
        prepare={"a": {"run": ["make {out}", "break {out}"]}}, seeds=[1, 2],
        systems={"x": {"needs": ["a"]}, "y": {}},
    )  # fmt: skip
    fake.fails = {"break"}
    summary = run_matrix(plan)
    assert summary.finished == ["fbank | y | fold1 | seed 1", "fbank | y | fold1 | seed 2"]
    assert len(summary.failed) == 2
    assert all(error.startswith("prepare a: as asked") for error in summary.failed.values())
    assert fake.kinds() == ["make", "break", "y train", "y train"]
    fake.fails = set()
    (plan.out / "prepared/a/all/left").touch()
    assert len(run_matrix(plan).finished) == 2
    assert fake.kinds() == ["make", "break", "x train", "x train"]
    assert not (plan.out / "prepared/a/all/left").exists()  # begun in an empty folder


def test_several_jobs_come_to_the_same(plan_of: Callable[..., Plan], fake: Fake):
    values: dict[str, Any] = {
        "prepare": {"a": {"run": "make {out}", "each": ["seed"]}}, "seeds": [1, 2, 3],
        "overrides": {f"{DATA}.degraded": "{prepared.a}"},
    }  # fmt: skip
    run_matrix(plan_of(**values))
    one = fake.kinds()
    plan = plan_of(out="other", **values)
    run_matrix(plan, jobs=4)
    assert sorted(fake.kinds()) == sorted(one)
    lines = [results_of(item) for item in (plan_of(**values), plan)]
    for found in lines:
        for line in found.values():
            line.pop("seconds")
    assert {name: lines[0][name] for name in sorted(lines[0])} == {name: lines[1][name] for name in sorted(lines[1])}


def test_options_that_the_matrix_holds_are_written(plan_of: Callable[..., Plan], fake: Fake):
    plan = plan_of(upstreams={"both": {"name": "concat", "model_config": {"upstreams": [{"name": "fbank"}]}}})
    run_matrix(plan)
    path = plan.out / "upstreams/both.yaml"
    assert yaml.safe_load(path.read_text()) == {"upstreams": [{"name": "fbank"}]}
    assert fake.commands[0][fake.commands[0].index("-g") + 1] == str(path)


def test_a_full_disk_ends_the_benchmark(plan_of: Callable[..., Plan], fake: Fake, monkeypatch: pytest.MonkeyPatch):
    def full(self: ResultsFile, entry: dict[str, Any]) -> None:
        raise TrainingError("results.jsonl: could not be written (No space left on device)")

    monkeypatch.setattr(ResultsFile, "append", full)
    with pytest.raises(TrainingError, match="No space left"):
        run_matrix(plan_of(seeds=list(range(20))))
    assert len(fake.commands) < 40


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs_out_of_range(plan_of: Callable[..., Plan], jobs: int):
    with pytest.raises(UsageError, match="--jobs"):
        run_matrix(plan_of(), jobs=jobs)


# --- subprocesses -----------------------------------------------------------------------------------------------------


def test_a_command_leaves_its_log_and_its_error(tmp_path: Path):
    processes, log = Processes(), tmp_path / "deep" / "log.txt"
    processes.run([sys.executable, "-c", "print('fine')"], log)
    script = "import sys; print('50%|##  |\\r100%|####|'); sys.exit('prog.py: error: no room; free some')"
    with pytest.raises(TrainingError, match=r"^no room; free some \(log: .*log.txt\)$"):
        processes.run([sys.executable, "-c", script], log)
    with pytest.raises(TrainingError, match="exit code 3 "):
        processes.run([sys.executable, "-c", "import sys; sys.exit(3)"], log)
    with pytest.raises(InterruptedRunError, match="signal 9"):
        processes.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], log)
    with pytest.raises(TrainingError, match=r"^no-such-program: cannot be started \(No such file or directory\)"):
        processes.run(["no-such-program"], log)
    assert "fine\n" in log.read_text()


def test_stopping_ends_what_runs_and_lets_nothing_start(tmp_path: Path):
    processes, errors = Processes(), []

    def work() -> None:
        try:
            processes.run(
                [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], tmp_path / "log"
            )
        except InterruptedRunError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "log").exists() or b"up\n" not in (tmp_path / "log").read_bytes():
        time.sleep(0.02)
    processes.stop()
    thread.join(20)
    assert errors
    with pytest.raises(InterruptedRunError, match="not started"):
        processes.run([sys.executable, "-c", "pass"], tmp_path / "log")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a\nrun_downstream.py: error: what, where\nmore\n", "what, where"),
        ("Traceback\n  File x\nKeyError: 3\n\n", "KeyError: 3"),
        ("10%|#\r20%|##\rs3prl-emotion: error: x\r\n", "x"),
        ("", ""),
    ],
)
def test_the_error_of_a_log(tmp_path: Path, text: str, error: str):
    (tmp_path / "log").write_text("x" * 30_000 + "\n" + text if text else "")
    assert last_error(tmp_path / "log") == error


def test_threads_are_shared_among_jobs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in Processes().environment
    assert Processes(2).environment["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert Processes(2).environment["OMP_NUM_THREADS"] == "5"


def test_git_revision_is_the_checkouts():
    execution_module.git_revision.cache_clear()
    found = execution_module.git_revision()
    if (Path(SOURCE) / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}\+?", str(found))


def test_names_as_parts_of_paths():
    assert [slug(name) for name in ("80 % (CCS)", "a/../b", "..", "größe", "x+y-1.5")] == [
        "80_CCS", "a_.._b", "_", "größe", "x+y-1.5"
    ]  # fmt: skip


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``suite("benchmark", …)``: the suite's command inside this process; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*words: object, code: int = 0) -> str:
        capfd.readouterr()
        got = s3prl_emotion.cli.main([str(word) for word in words])
        out, err = capfd.readouterr()
        assert got == code, f"exit code {got}\n{out}\n{err}"
        return out

    return call


@pytest.mark.full
def test_a_matrix_through_the_real_command_line(suite: Callable[..., str], tmp_path: Path, tiny_corpus: TinyCorpus):
    """Two equal systems; the second's labels are not there at first, and its training evaluates dev alone."""
    labels, splits = f"{DATA}.labels", "runner.eval_dataloaders"
    write_matrix(
        tmp_path, recipe_for(tiny_corpus),
        prepare={"labels": {"run": "cp {matrix}/later.csv {out}/labels.csv"}},
        systems={"now": {}, "later": {"overrides": {labels: "{prepared.labels}/labels.csv", splits: ["dev"]}}},
    )  # fmt: skip
    out = suite("benchmark", "matrix.yaml", "--out", "B", code=1)
    assert "1 runs finished, 0 were finished before, 1 failed" in out
    assert re.search(r"failed: fbank \| later \| fold1 \| seed 1: prepare labels: cp: .*later.csv", out)
    assert list(read_results(Path("B/results.jsonl"))) == ["fbank | now | fold1 | seed 1"]
    shutil.copy(tiny_corpus.labels, "later.csv")
    before = Path("B/results.jsonl").read_bytes()
    out = suite("benchmark", "matrix.yaml", "--out", "B")
    assert "1 runs finished, 1 were finished before, 0 failed; s3prl-emotion report B" in out
    assert Path("B/results.jsonl").read_bytes().startswith(before)
    now, later = read_results(Path("B/results.jsonl")).values()
    assert (set(now["seconds"]), set(later["seconds"])) == ({"train"}, {"train", "test"})
    assert now["splits"]["test"]["metrics"] == later["splits"]["test"]["metrics"]
    assert now["upstream_options"]["upstream"] == "fbank_no_cmvn"
    assert any(Path("B/store").iterdir())
    for line in (now, later):
        metrics = line["splits"]["test"]["metrics"]
        assert metrics["checkpoint"] == "dev-best.ckpt"
        rows = list(csv.DictReader(Path("B", line["splits"]["test"]["predictions"]).read_text().splitlines()))
        assert len(rows) == metrics["utterances"] == 16
        assert sum(row["truth"] == row["prediction"] for row in rows) / 16 == metrics["WA"]
    suite("report", "B")
    assert "| later | 1 |" in Path("B/report.md").read_text()


def test_errors_are_one_line(suite: Callable[..., str], tmp_path: Path, tiny_corpus: TinyCorpus, capfd: Any):
    write_matrix(tmp_path, recipe_for(tiny_corpus), folds=["fold8"])
    for words_, message in (
        (("matrix.yaml", "--out", "B"), "systems.mean, fold8"),
        (("none.yaml", "--out", "B"), "none.yaml: no such matrix"),
        (("recipe.yaml", "--out", "B"), "recipe.yaml: kind: must be matrix"),
        (("matrix.yaml", "--out", "matrix.yaml/B"), "systems.mean, fold8"),
    ):
        assert s3prl_emotion.cli.main(["benchmark", *words_]) == 1
        err = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
        assert len(err) == 1
        assert message in err[0]
    write_matrix(tmp_path)
    assert s3prl_emotion.cli.main(["benchmark", "matrix.yaml", "--out", "matrix.yaml/B"]) == 1
    assert "matrix.yaml is a file; name a folder" in capfd.readouterr().err


@pytest.mark.full
def test_kill_9_and_restart(tmp_path: Path, tiny_corpus: TinyCorpus):
    """The runs of a killed benchmark end with it; restarted, it comes to what an undisturbed one comes to."""
    recipe = recipe_for(tiny_corpus, **{"runner.total_steps": 60, "runner.save_step": 10, "runner.eval_step": 30})
    write_matrix(tmp_path, recipe, seeds=[1, 2])
    env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    code = (
        "import sys; from s3prl_emotion import cli; "
        "sys.exit(cli.main(['benchmark', 'matrix.yaml', '--out', *sys.argv[1:]]))"
    )

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=tmp_path, env=env)

    def alive(folder: Path) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += [path.parent.name] if str(folder / "runs").encode() in path.read_bytes() else []
            except OSError:
                continue
        return found

    assert start("whole").wait() == 0
    folder = (tmp_path / "killed").resolve()
    for seen in ("fbank/mean/fold1-seed1/exp/states-*.ckpt", "fbank/corr/fold1-seed1/exp/states-*.ckpt"):
        process = start("killed", "--jobs", "2")
        while not list((folder / "runs").glob(seen)) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while alive(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(folder) == []
    assert start("killed").wait() == 0
    lines = [read_results(tmp_path / name / "results.jsonl") for name in ("whole", "killed")]
    assert len((folder / "results.jsonl").read_text().splitlines()) == 4
    for name, line in lines[0].items():
        assert lines[1][name]["definition"] == line["definition"]
        assert lines[1][name]["splits"] == line["splits"]
