"""``s3prl-emotion benchmark``: retries, executors, search for learning rates, live table, dry run, checks of layers."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TinyCorpus
from rich.console import Console
from test_matrix import DATA, MODEL, Fake, fake, plan_of, recipe_for, results_of, write_matrix

from s3prl_emotion import host
from s3prl_emotion.benchmark import Plan, command, matrix, read_matrix, read_results, run_matrix
from s3prl_emotion.benchmark.checks import check_layers, check_plan
from s3prl_emotion.benchmark.dry_run.measure import Measured, Work, kind_of, work_of
from s3prl_emotion.benchmark.dry_run.preview import preview
from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.executors import local
from s3prl_emotion.benchmark.executors.ray_cluster import RayExecutor
from s3prl_emotion.benchmark.live import Board, clock, progress_of
from s3prl_emotion.benchmark.matrix import ResourcesSection
from s3prl_emotion.benchmark.prepare import Preparation
from s3prl_emotion.benchmark.processes import FullDiskError, InterruptedRunError, Processes, is_full_disk
from s3prl_emotion.errors import ConfigError, EmotionError, TrainingError, UsageError
from s3prl_emotion.files.checkpoint import save_checkpoint
from s3prl_emotion.files.folders import recipes_folder

__all__ = ["fake", "plan_of"]  # fixtures
MEAN, CORR = "fbank | mean | fold1 | seed 1", "fbank | corr | fold1 | seed 1"
Plans = Callable[..., Plan]


# --- retries ----------------------------------------------------------------------------------------------------------


class Flaky:
    """Makes commands that hold a word fail, or be ended from outside, so many times."""

    def __init__(self, fake: Fake, word: str, times: int, stops: bool = False) -> None:
        self.fake, self.word, self.left = fake, word, times
        self.group = fake.stops if stops else fake.fails
        self.run, fake.run = fake.run, self  # type: ignore[method-assign]

    def __call__(self, processes: Processes, words: Any, log: Path) -> None:
        self.group.discard(self.word)
        if self.word in " ".join(words) and self.left:
            self.left -= 1
            self.group.add(self.word)
        self.run(processes, words, log)


@pytest.mark.parametrize(
    ("failures", "retries", "finished"), [(1, 1, True), (2, 1, False), (3, 3, True), (1, 0, False)]
)
def test_a_failed_run_is_tried_again_after_the_others(
    plan_of: Plans, fake: Fake, failures: int, retries: int, finished: bool
):
    Flaky(fake, "/mean/", failures)
    plan = plan_of()
    summary = run_matrix(plan, retries=retries)
    tries = min(failures, retries) + 1
    assert fake.kinds() == ["mean train", "corr train", *["mean train"] * (tries - 1)]
    assert summary.finished == ([CORR, MEAN] if finished else [CORR])
    assert list(summary.failed) == ([] if finished else [MEAN])
    state = State.of(plan.runs[0])
    assert state is not None
    assert state.failures == min(failures, tries)
    assert (state.doing, state.error is None) == (None, finished)


def test_tries_are_counted_across_benchmarks(plan_of: Plans, fake: Fake):
    fake.fails = {"/mean/"}
    plan = plan_of()
    assert list(run_matrix(plan, retries=0).failed) == [MEAN]
    assert list(run_matrix(plan, retries=2).failed) == [MEAN]  # two more
    assert fake.kinds() == ["mean train", "corr train", "mean train", "mean train"]
    summary = run_matrix(plan, retries=2)
    assert (summary.failed, summary.skipped) == ({}, [CORR])
    assert re.match(r"as asked \(log: .*log.txt\)", summary.given_up[MEAN])
    assert fake.kinds() == []
    assert list(run_matrix(plan, retries=1, retry_failed=True).failed) == [MEAN]
    assert fake.kinds() == ["mean train"] * 2
    changed = plan_of(systems={"mean": {"overrides": {f"{MODEL}.projector_dim": 4}}})
    fake.fails = set()
    assert run_matrix(changed).finished == [MEAN]  # another run by the same name


def test_an_interrupted_run_goes_on_at_once_and_is_not_counted(plan_of: Plans, fake: Fake):
    plan = plan_of(systems={"mean": {}})
    states = plan.runs[0].expdir / "states-3.ckpt"
    Flaky(fake, "/mean/", 1, stops=True)
    original = fake.evaluate
    fake.evaluate = lambda expdir, splits: (original(expdir, splits), states.touch())  # type: ignore[assignment]
    assert run_matrix(plan, retries=1).finished == [MEAN]
    state = State.of(plan.runs[0])
    assert state is not None
    assert state.failures == 0


@pytest.mark.parametrize("damage", ["flipped", "empty", "none", "removed"])
def test_a_finished_run_with_a_damaged_best_checkpoint_is_repeated(plan_of: Plans, fake: Fake, damage: str):
    plan, args = plan_of(), argparse.Namespace(upstream="fbank", downstream="emotion_corr_attn")
    assert len(run_matrix(plan).finished) == 2
    best = plan.runs[0].expdir / "dev-best.ckpt"
    save_checkpoint({"Args": args, "Config": {}, "Downstream": {"weight": torch.zeros(99)}}, best)
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= damage == "flipped"
    best.write_bytes(content[: len(content) * (damage != "empty")])
    if damage == "removed":
        best.unlink()
    fake.kinds()
    assert len(run_matrix(plan).skipped) == 2
    assert run_matrix(plan, retry_failed=True).finished == ([MEAN] if damage in ("flipped", "empty") else [])
    assert fake.kinds() == (["mean train"] if damage in ("flipped", "empty") else [])
    assert best.exists() == (damage == "none")
    assert list(results_of(plan)) == [CORR, MEAN] if damage in ("flipped", "empty") else [MEAN, CORR]


def test_a_trained_run_whose_evaluation_meets_damage_is_trained_again(plan_of: Plans, fake: Fake):
    plan = plan_of(systems={"mean": {}})
    best, original = plan.runs[0].expdir / "dev-best.ckpt", fake.evaluate
    fake.evaluate = lambda expdir, splits: (original(expdir, ["dev"]), best.write_bytes(b"x"))  # type: ignore[assignment]
    fake.fails = {"evaluate"}
    assert list(run_matrix(plan, retries=0).failed) == [MEAN]
    assert fake.kinds() == ["mean train", "evaluate test"]
    assert list(run_matrix(plan, retries=0).given_up) == [MEAN]
    fake.evaluate = original  # type: ignore[method-assign]
    assert run_matrix(plan, retries=0, retry_failed=True).finished == [MEAN]
    assert fake.kinds() == ["mean train"]


def test_a_full_disk_stops_everything_and_counts_as_no_failure(plan_of: Plans, fake: Fake):
    run, full = fake.run, {"now": True}

    def commands(processes: Processes, words: Any, log: Path) -> None:
        if full["now"]:
            raise FullDiskError("exp: could not be written (No space left on device)")
        run(processes, words, log)

    fake.run = commands  # type: ignore[method-assign]
    plan = plan_of(seeds=[1, 2, 3])
    with pytest.raises(TrainingError, match=r"mean.*No space left on device.*free room, then start the same"):
        run_matrix(plan)
    full["now"] = False
    assert len(run_matrix(plan, retries=0).finished) == 6
    assert is_full_disk(OSError(28, "x"))
    assert is_full_disk("a.ckpt: could not be written (Disk quota exceeded)")
    assert not is_full_disk(OSError(2, "No such file"))
    assert not is_full_disk(TrainingError("a loss that is not finite"))


def test_a_command_that_fails_for_want_of_room_says_so(tmp_path: Path):
    script = "import sys; sys.exit('prog.py: error: x could not be written (No space left on device); free room')"
    with pytest.raises(FullDiskError, match="No space left on device"):
        Processes().run([sys.executable, "-c", script], tmp_path / "log")


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_as_long_as_a_process_that_inherited_it_lives(tmp_path: Path):
    path, processes, stopped = tmp_path / "deep" / "lock", Processes(), Processes()
    stopped.stop()
    with processes.locking(path) as locked:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=locked.kept)
    with pytest.raises(InterruptedRunError, match="another process still works here"), processes.locking(path, 0.3):
        pass
    with pytest.raises(InterruptedRunError, match="is ending"), stopped.locking(path):
        pass
    child.kill()
    child.wait()
    with processes.locking(path, 5):
        pass


def test_commands_inherit_locks_and_variables(tmp_path: Path):
    script = "import os, sys; os.fstat(int(sys.argv[1])); print(os.environ['X'], os.environ.get('Y'), os.getcwd())"
    processes = Processes(folder=str(tmp_path))
    with (tmp_path / "lock").open("w") as lock:
        variant = processes.variant(kept=[lock.fileno()], environment={"X": "1"})
        variant.run([sys.executable, "-c", script, str(lock.fileno())], tmp_path / "log")
    assert f"1 None {tmp_path.resolve()}\n" in (tmp_path / "log").read_text()
    assert "X" not in processes.environment
    processes.stop()
    with pytest.raises(InterruptedRunError, match="not started"):
        variant.run(["true"], tmp_path / "log")


def test_a_step_is_made_once_whoever_needs_it(plan_of: Plans, fake: Fake):
    """As two workers of Ray would: each with a preparation of its own."""
    plan = plan_of(prepare={"a": {"run": "make {out}"}}, overrides={f"{DATA}.degraded": "{prepared.a}"})
    (step,) = plan.runs[0].steps

    def ensure(number: int) -> None:
        Preparation(Processes(), "session").ensure(step, lambda doing: None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ensure, range(8)))
    assert fake.kinds() == ["make"]


# --- resources and GPUs -----------------------------------------------------------------------------------------------


def test_resources_go_key_by_key_and_define_nothing(plan_of: Plans):
    plain = [run.definition for run in plan_of().runs]
    systems = {"mean": {"resources": {"gpus": 0}}, "corr": {"overrides": {f"{MODEL}.pooling": "corr"}}}
    plan = plan_of(resources={"cpus": 2, "gpus": 0.5}, systems=systems)
    assert [run.resources for run in plan.runs] == [
        ResourcesSection(cpus=2.0, gpus=0.0), ResourcesSection(cpus=2.0, gpus=0.5)
    ]  # fmt: skip
    assert [run.definition for run in plan.runs] == plain


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resources": {"gpu": 1}}, "resources.gpu: unknown key"),
        ({"resources": {"cpus": 0}}, "resources.cpus: Input should be greater than 0"),
        ({"systems": {"a": {"resources": {"gpus": -1}}}}, "systems.a.resources.gpus: Input should be greater"),
        ({"systems": {"a": {"upstreams": ["fbnk"]}}}, "systems.a.upstreams: no upstream 'fbnk'; nearest: fbank"),
        ({"systems": {"a": {"upstreams": []}}}, "systems.a.upstreams: List should have at least 1 item"),
        ({"upstreams": {"fbank": {}, "x": {}}, "systems": {"a": {"upstreams": ["x"]}}}, "upstreams.fbank: no system"),
        ({"search": {"learning_rates": []}}, "search.learning_rates: List should have at least 1 item"),
        ({"search": {"learning_rates": [0.1, -1.0]}}, "search.learning_rates.1: Input should be greater than 0"),
        ({"search": {"learning_rates": ["1e-4"]}}, "search.learning_rates.0: Input should be a valid number"),
        ({"search": {"learning_rates": [0.1, 0.1]}}, "search.learning_rates: a rate is listed twice"),
        ({"search": {"learning_rates": [0.1], "per": ["system"]}}, "search.per: must be"),
        ({"search": {"learning_rates": [0.1], "folds": ["fold2"]}}, "search.folds: 'fold2' is none of the matrix's"),
        ({"search": {"learning_rates": [0.1], "seeds": [3]}}, "search.seeds: 3 is none of the matrix's"),
        ({"search": {"learning_rates": [0.1], "system": "men"}}, "search.system: no system 'men'; nearest: mean"),
        ({"search": {"learning_rates": [0.1], "metric": "acc"}}, "search.metric: no metric 'acc'; known: joint, WA"),
        ({"search": {"learning_rates": [0.1], "system": "mean", "per": ["upstream", "system"]}}, "search.system: ev"),
        ({"search": {"learning_rates": [0.1]}, "overrides": {"optimizer.lr": 1}}, "overrides: optimizer.lr is what"),
        ({"search": {"learning_rates": [0.1]}, "upstreams": {"fbank": {}, "x": {}},
          "systems": {"a": {"upstreams": ["x"]}, "b": {}}}, "search: a does not run on fbank"),
    ],
)  # fmt: skip
def test_bad_resources_and_searches(plan_of: Plans, values: dict[str, Any], message: str):
    with pytest.raises(EmotionError, match=message) as caught:
        assert plan_of(**values).runs
    assert "\n" not in str(caught.value)


def test_systems_on_some_upstreams(plan_of: Plans):
    plan = plan_of(upstreams={"fbank": {}, "mel": {}}, systems={"a": {}, "b": {"upstreams": ["mel"]}})
    assert [(cell.upstream, cell.system) for cell in plan.cells] == [("fbank", "a"), ("mel", "a"), ("mel", "b")]


@pytest.mark.parametrize(
    ("device", "visible", "there", "gpus"),
    [
        (None, None, 3, ["0", "1", "2"]),
        ("cuda", "4, 7", 2, ["4", "7"]),
        ("cuda", "GPU-a,GPU-b", 2, ["GPU-a", "GPU-b"]),
        (None, None, 1, []),
        (None, "", 0, []),
        ("cpu", None, 3, []),
        ("cuda:1", None, 3, []),
    ],
)
def test_gpus_that_runs_share(
    monkeypatch: pytest.MonkeyPatch, device: str | None, visible: str | None, there: int, gpus: list[str]
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv(local.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(local.VISIBLE, visible)
    assert local.visible_gpus(device) == gpus


def test_runs_take_turns_on_gpus(plan_of: Plans, fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(local.VISIBLE, "0,1")
    seen: list[str] = []
    run = fake.run

    def commands(processes: Processes, words: Any, log: Path) -> None:
        seen.append(processes.environment[local.VISIBLE])
        time.sleep(0.3)
        run(processes, words, log)

    fake.run = commands  # type: ignore[method-assign]
    assert len(run_matrix(plan_of(seeds=[1, 2]), jobs=2).finished) == 4
    assert sorted(seen) == ["0", "0", "1", "1"]


def test_ray_is_an_extra(plan_of: Plans, fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray is not installed; pip install 's3prl-emotion\[ray\]'"):
        run_matrix(plan_of(), executor="ray")
    for options, message in (({"ray_address": "x:1"}, "--ray-address"), ({"retries": -1}, "--retries -1")):
        with pytest.raises(UsageError, match=message):
            run_matrix(plan_of(), **options)


class FakeRay:
    """Nodes with resources, and nothing else."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.all = [{"Alive": True, "Resources": node} for node in nodes]

    def nodes(self) -> list[dict[str, Any]]:
        return self.all


@pytest.mark.parametrize(
    ("wanted", "device", "fits"),
    [
        ({}, None, True), ({"gpus": 0.5}, None, True), ({"gpus": 3}, None, False), ({"cpus": 4}, "cpu", True),
        ({"cpus": 4}, None, False),  # a GPU as well, and the node with GPUs has 2 CPUs
        ({"cpus": 8, "gpus": 0}, None, False),
    ],
)  # fmt: skip
def test_what_no_node_has_is_refused(plan_of: Plans, wanted: dict[str, float], device: str | None, fits: bool):
    executor = RayExecutor.__new__(RayExecutor)
    executor.ray, executor.plan, executor.device = FakeRay({"CPU": 4.0}, {"CPU": 2.0, "GPU": 2.0}), None, device  # type: ignore[assignment]
    executor.has_gpus, executor.plan = True, plan_of(resources=wanted)
    if fits:
        executor._check_resources()
    else:
        with pytest.raises(
            ConfigError, match=r"systems.mean: no node of the Ray cluster has .* \(there are: 2 and 2, 4"
        ):
            executor._check_resources()


# --- search for the learning rate -------------------------------------------------------------------------------------

RATES = [1.0e-4, 1.0e-3, 1.0e-2]


def searching(plan_of: Plans, out: str = "out", **options: Any) -> Plan:
    return plan_of(out=out, search={"learning_rates": RATES, **options}, seeds=[1, 2], folds=["fold1", "fold2"])


class Scores:
    """Makes the fake training score on dev as its learning rate is told to."""

    def __init__(self, fake: Fake, scores: dict[float, float]) -> None:
        self.rates: list[tuple[float, tuple[str, ...]]] = []
        original = fake.run

        def run(processes: Processes, words: Any, log: Path) -> None:
            original(processes, words, log)
            if "train" in words:
                recipe = yaml.safe_load(Path(words[words.index("-c") + 1]).read_text())
                rate, splits = recipe["optimizer"]["lr"], tuple(recipe["runner"]["eval_dataloaders"])
                self.rates.append((rate, splits))
                for path in Path(words[words.index("-p") + 1]).glob("*_metrics.json"):
                    metrics = json.loads(path.read_text())
                    metrics["UAR"] = scores[rate] if metrics["split"] == "dev" else 1 - scores[rate]
                    path.write_text(json.dumps(metrics))

        fake.run = run  # type: ignore[method-assign]


def test_the_rate_that_is_best_on_dev_is_taken(plan_of: Plans, fake: Fake):
    told = Scores(fake, {1e-4: 0.3, 1e-3: 0.6, 1e-2: 0.5})
    plan = searching(plan_of, metric="UAR")
    summary = run_matrix(plan)
    assert len(summary.finished) == 8
    assert told.rates[:3] == [(rate, ("dev",)) for rate in RATES]  # test is not looked at
    assert told.rates[3:] == [(1e-3, ("dev", "test"))] * 8
    choice = summary.choices["fbank"]
    assert (choice.rate, choice.metric, choice.tried) == (1e-3, "UAR", {1e-4: 0.3, 1e-3: 0.6, 1e-2: 0.5})
    lines = results_of(plan)
    assert not any("lr" in name for name in lines)  # they are no results
    expected = {"rate": 0.001, "metric": "UAR", "tried": {"0.0001": 0.3, "0.001": 0.6, "0.01": 0.5}}
    assert {json.dumps(line["search"]) for line in lines.values()} == {json.dumps(expected)}
    assert json.loads((plan.out / "matrix.json").read_text())["search"] == {"fbank": expected}
    told.rates.clear()
    summary = run_matrix(searching(plan_of, metric="UAR"))
    assert (len(summary.skipped), told.rates, summary.choices["fbank"].rate) == (8, [], 1e-3)


def test_a_rate_for_each_system_and_more_folds(plan_of: Plans, fake: Fake):
    told = Scores(fake, dict.fromkeys(RATES, 0.5))
    plan = searching(plan_of, per=["upstream", "system"], folds=["fold1", "fold2"], metric="UAR")
    assert len(plan.trials) == 2 * 3 * 2
    assert all(run.trials[0].cell.system == run.cell.system for run in plan.runs)
    summary = run_matrix(plan, jobs=3)
    assert {name: choice.rate for name, choice in summary.choices.items()} == {
        "fbank | mean": 1e-4, "fbank | corr": 1e-4  # the lowest of equal ones
    }  # fmt: skip
    assert len(told.rates) == 12 + 8


def test_a_rate_that_fails_is_out_and_all_that_fail_are_an_error(plan_of: Plans, fake: Fake):
    told = Scores(fake, {1e-4: 0.3, 1e-3: 0.6, 1e-2: 0.5})
    fake.fails = {"lr0.001/"}
    summary = run_matrix(searching(plan_of, metric="UAR"))
    assert summary.choices["fbank"].tried == {1e-4: 0.3, 1e-3: None, 1e-2: 0.5}
    assert summary.choices["fbank"].rate == 1e-2
    assert list(summary.failed) == ["fbank | mean | fold1 | seed 1 | lr 0.001"]
    fake.fails = set()
    told.rates.clear()
    summary = run_matrix(searching(plan_of, metric="UAR"), retry_failed=True)
    assert summary.choices["fbank"].rate == 1e-3
    assert len(told.rates) == 1 + 8  # the runs had another rate
    fake.fails = {"/search/"}
    summary = run_matrix(searching(plan_of, out="none", metric="UAR"))
    assert len(summary.failed) == 3 + 8
    assert "none of 0.0001, 0.001, 0.01 could be trained" in summary.failed[MEAN]


def test_an_interrupted_search_is_gone_on_with(plan_of: Plans, fake: Fake):
    told = Scores(fake, {1e-4: 0.3, 1e-3: 0.6, 1e-2: 0.5})
    fake.stops = {"lr0.001/"}
    summary = run_matrix(searching(plan_of, metric="UAR"))
    assert "is not finished: fbank | mean | fold1 | seed 1 | lr 0.001" in summary.failed[MEAN]
    fake.stops = set()
    told.rates.clear()
    assert len(run_matrix(searching(plan_of, metric="UAR")).finished) == 8
    assert told.rates[0] == (1e-3, ("dev",))
    assert len(told.rates) == 9


def test_other_rates_are_another_definition(plan_of: Plans):
    plain, one = plan_of().runs[0].definition, searching(plan_of).runs[0].definition
    assert len({plain, one, searching(plan_of, metric="WA").runs[0].definition,
                searching(plan_of, folds=["fold2"]).runs[0].definition,
                searching(plan_of, system="corr").runs[0].definition}) == 5  # fmt: skip
    assert searching(plan_of, out="elsewhere").runs[0].definition == one


@pytest.mark.full
def test_a_metric_that_the_head_lacks_is_refused(plan_of: Plans):
    with pytest.raises(ConfigError, match=r"search.metric: emotion_corr_attn has WA, UAR, macro_f1, got 'mean_CCC'"):
        check_plan(searching(plan_of, metric="mean_CCC"))


def test_the_documented_search_is_one(tmp_path: Path, tiny_corpus: TinyCorpus):
    block = (matrix.__doc__ or "").split("Two more keys::")[1].split("The default ``resources``")[0]
    values = yaml.safe_load(block)
    values["search"] |= {"system": None, "folds": ["fold1"]}
    path = write_matrix(tmp_path, recipe_for(tiny_corpus), **values)
    plan = Plan(read_matrix(path), tmp_path)
    assert len(plan.trials) == 2 * 3
    assert plan.runs[0].resources == ResourcesSection(cpus=2.0, gpus=0.5)


# --- layers -----------------------------------------------------------------------------------------------------------

RANDOM = {"name": "hf_speech_random", "model_config": {"family": "hubert", "config": {"num_hidden_layers": 3}}}


@pytest.mark.parametrize(
    ("upstream", "layer", "count"),
    [
        (RANDOM, 3, None),
        (RANDOM, 4, 4),
        ({"name": "hf_speech_random", "model_config": {"family": "whisper", "config": {"encoder_layers": 2}}}, 3, 3),
        ({"name": "hf_speech_random"}, 13, 13),
        ({"name": "hf_speech_random", "feature": "last_hidden_state"}, 1, 1),
        ({"name": "fbank_no_cmvn"}, 1, 1),
        ({"name": "fbank_no_cmvn"}, 0, None),
        ({"name": "hf_speech_custom", "ckpt": "{matrix}/model"}, 3, 3),
        ({"name": "hf_speech_custom", "ckpt": "{matrix}/model", "model_config": {"num_layers": 1}}, 2, 2),
        ({"name": "hf_speech_custom", "ckpt": "{matrix}/none"}, 99, None),  # it cannot be told; its run will say why
        ({"name": "hf_speech_custom", "ckpt": "{prepared.model}"}, 99, None),
    ],
)
@pytest.mark.parametrize("by", ["-l", "recipe"])
def test_a_layer_that_is_not_there_is_refused(
    plan_of: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: dict[str, Any], layer: int,
    count: int | None, by: str,
):  # fmt: skip
    host.register()
    monkeypatch.setenv("S3PRL_EMOTION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps({"model_type": "wavlm", "num_hidden_layers": 2}))
    (tmp_path / "model/model.safetensors").touch()  # which must not be read
    prepare = {"model": {"run": "x"}} if "prepared" in str(upstream) else {}
    upstream = {**upstream, **({"layer": layer} if by == "-l" else {})}
    overrides = {} if by == "-l" else {"downstream_expert.layer": layer}
    plan = plan_of(upstreams={"up": upstream}, overrides=overrides, prepare=prepare)
    if count is None:
        check_layers(plan)
    else:
        with pytest.raises(
            ConfigError, match=rf"upstreams.up: layer {layer}: there are {count}, from 0 to {count - 1}$"
        ):
            check_layers(plan)
    assert not (tmp_path / "cache").exists()  # nothing was made
    assert not plan.out.exists()


def test_a_matrix_with_an_impossible_layer_is_refused_before_anything_runs(plan_of: Plans):
    plan = plan_of(systems={"mean": {}, "corr": {"overrides": {"downstream_expert.layer": 5}}})
    with pytest.raises(ConfigError, match=r"systems.corr, upstreams.fbank: layer 5: there are 1"):
        run_matrix(plan)
    assert not plan.out.exists()


# --- the live table ---------------------------------------------------------------------------------------------------


def test_how_far_a_run_is(plan_of: Plans):
    run = plan_of().runs[0]
    assert vars(progress_of(run, "train")) == {"doing": "train", "step": None, "steps": None, "best": None}
    run.expdir.mkdir(parents=True)
    lines = ["INFO:progress:overall: 0 of 60 steps, 0 a second", "INFO:progress:dev: 3 of 4 batches, 0.3 a second",
             "INFO:progress:overall: 27 of 60 steps, 2.61 a second, about 0:00:13 left"]  # fmt: skip
    (run.folder / "log.txt").write_text("x" * 9000 + "\n".join(lines))
    (run.expdir / "log.log").write_text(
        "dev at step 10: 0.3\nNew best on dev at step 10: 0.3\nNew best on dev at step 20: 0.4375\ntest at step 20: 1\n"
    )
    assert vars(progress_of(run, "train")) == {"doing": "train", "step": 27, "steps": 60, "best": 0.4375}
    assert progress_of(run, "evaluate test").step is None


def test_the_table(plan_of: Plans, caplog: pytest.LogCaptureFixture):
    runs = plan_of(seeds=[1, 2, 3]).runs
    board = Board("session", runs[2:], finished=3, failed=1)
    assert board.seconds_left() is None
    for run in runs[:2]:
        board.submit(run)
    runs[0].folder.mkdir(parents=True)
    State(runs[0].definition, doing="train", session="another").save(runs[0])
    caplog.set_level(logging.INFO)
    board.poll()
    assert board.begun == {}  # what an earlier benchmark left
    State(runs[0].definition, doing="train", session="session").save(runs[0])
    (runs[0].folder / "log.txt").write_text("overall: 3 of 6 steps, 2.61 a second, about 0:00:01 left\n")
    for _ in range(2):
        board.polled = 0.0
        board.poll()
    assert caplog.messages == [f"running: {MEAN}"]
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(board)
    text = console.export_text()
    assert text.splitlines()[0].strip() == "3 finished, 1 running, 1 failed, 5 waiting"
    assert re.search(rf"{re.escape(MEAN)} +│ train │ 3 of 6 │ +│ 0:00:00", text)
    caplog.clear()
    board.logs, board.polled, board.logged = True, 0.0, 0.0
    board.poll()
    board.polled = 0.0
    board.poll()  # a line is out already
    assert caplog.messages == [f"3 finished, 1 running, 1 failed, 5 waiting; {MEAN}: 3 of 6 steps"]
    board.end(runs[0], seconds=10.0)
    assert board.seconds_left() == pytest.approx(10.0 * 5)
    other = runs[-1].cell
    board.took[other.system,] = [900.0]  # on another upstream
    assert board.seconds_left() == pytest.approx(10.0 * 2 + 900.0 * 3)
    board.took[other.system, other.upstream] = [1200.0, 20.0]  # the first filled the store
    assert board.seconds_left() == pytest.approx(10.0 * 2 + 20.0 * 3)
    assert clock(65.4) == "0:01:05"


# --- the dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_lists(plan_of: Plans, fake: Fake, capfd: pytest.CaptureFixture[str]):
    values: dict[str, Any] = {
        "prepare": {"a": {"run": "make {out}"}}, "seeds": [1, 2],
        "systems": {"mean": {}, "corr": {"needs": ["a"]}, "new": {}},
    }  # fmt: skip
    preview(plan_of(**values), 1, None, 1, measured=False)
    out = capfd.readouterr().out
    assert out.count("to do ") == 6
    assert "  to be made   prepared: prepared/a/all\n" in out
    assert not plan_of().out.exists()
    fake.fails = {"/corr/fold1-seed2"}
    fake.stops = {"/new/"}
    run_matrix(plan_of(**values), retries=0)
    before = {path: path.stat().st_mtime_ns for path in plan_of().out.rglob("*")}
    preview(plan_of(**values), 1, None, 0, measured=False)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines[1:7]] == [
        "finished", "finished", "begun", "finished", "gave", "begun"
    ]  # fmt: skip
    assert re.search(r"gave up +fbank \| corr \| fold1 \| seed 2: as asked", "\n".join(lines))
    assert lines[7] == "  made         prepared: prepared/a/all"
    preview(plan_of(**values), 1, None, 3, measured=False)
    assert "\n  failed       fbank | corr | fold1 | seed 2: as asked" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in plan_of().out.rglob("*")} == before


def test_what_a_run_has_to_do(plan_of: Plans):
    """6 steps of 4, evaluations at 3 and 6; the tiny corpus has 8 utterances in dev and 16 in test."""
    (run, other) = plan_of().runs
    assert vars(work_of(run, 0.5)) == {
        "steps": 6, "evaluations": 2, "evaluated": 24, "final": 24, "commands": 0, "computed": 0.0
    }  # fmt: skip
    (alone, _) = plan_of(store="", overrides={"runner.eval_dataloaders": ["dev"]}, tests=["test"]).runs
    alone = type(alone)(**{**vars(alone), "store_flags": ()})
    work = work_of(alone, 0.5)
    assert (work.evaluated, work.final, work.commands) == (8, 24, 1)
    assert work.computed == 0.5 * (6 * 4 + 2 * 8 + 24)
    assert work.seconds(Measured(startup=10.0, step=2.0, utterance=0.1, features=0.25)) == pytest.approx(
        2 * 10.0 + 6 * 2.0 + (2 * 8 + 24) * 0.1 + 32 * 0.25
    )
    assert Work(1, 0, 0, 0, 0, 0.0).seconds(Measured(1, 2, 3, 4)) == 3
    assert kind_of(run) != kind_of(other)
    first, second = plan_of(folds=["fold1", "fold2"], systems={"mean": {}}, seeds=[1]).runs
    assert kind_of(first) == kind_of(second)


@pytest.mark.full
def test_a_measured_dry_run(
    tmp_path: Path, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Through the real training; 48 utterances of 80 mel bands, 100 frames a second, in float32."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    systems = {"mean": {}, "later": {"overrides": {f"{DATA}.degraded": "{prepared.a}"}}}
    write_matrix(tmp_path, recipe_for(tiny_corpus), systems=systems, seeds=[1, 2], prepare={"a": {"run": "x"}})
    from s3prl_emotion import cli

    assert cli.main(["benchmark", "matrix.yaml", "--out", "B", "--dry-run", "--jobs", "2", "--device", "cpu"]) == 0
    out = capfd.readouterr().out
    assert "fbank | later: unknown before a is prepared" in out
    found = re.search(
        r"fbank \| mean: 1 x ([\d.]+) s to start and end \+ 6 steps x ([\d.]+) ms \+ 72 evaluated utterances x "
        r"([\d.]+) ms = (\d+) s; 2 runs: ",
        out,
    )
    assert found, out
    start, step, utterance, whole = map(float, found.groups())
    assert whole == pytest.approx(start + (6 * step + 72 * utterance) / 1e3, abs=0.6)
    store = re.search(r"store, fbank: 48 utterances, 0.01 h: ([\d.]+) GB, 0 % of it exist", out)
    assert store, out
    assert "with 2 runs at a time" in out
    assert "and 2 runs of unknown length" in out
    assert not Path("B").exists()
    assert not list(tmp_path.glob("s3prl-emotion-dry-run-*"))


@pytest.mark.full
def test_heads_of_several_kinds_in_one_matrix(
    tmp_path: Path, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """A corpus of classes alone: the consensus stands for the graders' distribution."""
    from s3prl_emotion import cli

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    data = {f"{DATA}.labels": str(tiny_corpus.labels), f"{DATA}.root": str(tiny_corpus.root), f"{DATA}.classes": None,
            "runner.total_steps": 6, "runner.log_step": 2, "runner.eval_step": 3, "runner.save_step": 3}  # fmt: skip
    multitask = recipes_folder() / "emodb" / "emotion_multitask.yaml"
    systems = {"mean": {}, "multitask": {"head": "emotion_multitask", "recipe": str(multitask), "overrides": data}}
    write_matrix(tmp_path, recipe_for(tiny_corpus), systems=systems)
    assert cli.main(["benchmark", "matrix.yaml", "--out", "B", "--jobs", "2"]) == 0
    lines = read_results(Path("B/results.jsonl"))
    assert {line["head"] for line in lines.values()} == {"emotion_corr_attn", "emotion_multitask"}
    for line in lines.values():
        assert 0 <= line["splits"]["test"]["metrics"]["UAR"] <= 1
        assert re.fullmatch(r"fbank_no_cmvn-[0-9a-f]{16}", line["store_key"])
        assert (Path("B/store") / line["store_key"]).is_dir()
        for name in ("versions", "config_hash", "git", "upstream_options", "seed", "seconds", "host"):
            assert name in line
    assert cli.main(["report", "B", "--resamples", "1000"]) == 0
    page = Path("B/report.md").read_text()
    assert "| mean | 1 |" in page
    assert "| multitask | 1 |" in page


def test_the_commands_flags():
    from argparse import ArgumentParser

    parser = ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["m.yaml", "--out", "B", "--executor", "ray", "--ray-address", "auto", "--retries", "3"])
    assert (args.executor, args.ray_address, args.retries, args.jobs, args.dry_run) == ("ray", "auto", 3, None, False)
    with pytest.raises(UsageError, match="--no_measure needs --dry-run"):
        command.run(parser.parse_args([str(recipes_folder() / "demo/matrix.yaml"), "--out", "B", "--no_measure"]))
