"""Every recipe that is shipped, run: matrices as ``--dry-run``, then each system a few steps on stand-in corpora.

Recipes, matrices and the heads' own ``config.yaml`` are found, not listed. A new one is run like the others, or the
test says which corpus or upstream it lacks a stand-in for (``stand_ins.py``). Upstreams are tiny models in the caches
where the recipes' own names are looked up, so that a recipe is changed in nothing but what ``short`` and ``smaller``
change: fewer steps, one fold and one seed, all test splits in the one process, which reads the audio itself.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import stand_ins
import yaml
from conftest import Run
from test_recipe import head_of
from test_store_reliability import Nursery

from s3prl_emotion import cli as suite
from s3prl_emotion.benchmark.processes import Processes, last_error
from s3prl_emotion.corpora import load as corpora
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.folders import heads, heads_folder, recipes_folder
from s3prl_emotion.recipe import read_recipe
from s3prl_emotion.training.preflight import is_superb

STEPS = 2
SHORT = {"runner.total_steps": STEPS, "runner.log_step": 1, "runner.eval_step": STEPS, "runner.save_step": STEPS}
EXAMPLE = {"runner.evaluate_ratio": 0.01}  # of s3prl's example task, whose random waveforms are long
LONG = re.compile(r"--(epochs|steps) \d+")  # trainings among prepared steps
DATA = "downstream_expert.datarc"
MOST_SYSTEMS = 20  # that run of a matrix
DEPENDENT = ", speaker-dependent"  # ends the names of systems that run under a second protocol
SALIENCY = "downstream_expert.modelrc.saliency"
CLASSES = {"WA", "UAR", "macro_f1", "recall", "confusion", "n_best", "ECE", "per_speaker"}
GRADES = {"CCC", "mean_CCC", "Pearson", "MSE", "mean_MSE"}
METRICS = {  # of each head; each also has what ABOUT names
    "emotion_acnn": CLASSES,
    "emotion_corr_attn": CLASSES,
    "emotion_latent": CLASSES | {"encoder_parameters", "latent"},
    "emotion_multitask": CLASSES | {"paUAR"},
    "emotion_tcgru": GRADES,
}
ABOUT = {"split", "fold", "loss", "head", "seed", "upstream", "versions", "config_hash", "config", "num_parameters"}
MODULES = (  # what most runs import
    "undrawn", "transformers.models.hubert.modeling_hubert", "transformers.models.wavlm.modeling_wavlm",
    "transformers.models.whisper.modeling_whisper", "transformers.models.bert.modeling_bert", "sklearn.svm",
    "transformers.models.auto.tokenization_auto", "sklearn.metrics", "s3prl.run_downstream",
    "s3prl_emotion.training.preflight", "s3prl_emotion.training.summary", "s3prl_emotion.corpora.extra_splits",
    *(f"s3prl_emotion.{name}.command" for name in ("benchmark", "degrade", "rae", "saliency", "transcribe")),
)  # fmt: skip
Recipe = dict[str, Any]


# --- what there is ----------------------------------------------------------------------------------------------------


def found() -> dict[Path, Recipe]:
    """Every YAML file of recipes, and the heads' own."""
    files = [*recipes_folder().rglob("*.y*ml"), *heads_folder().glob("*/config.yaml")]
    return {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(files)}


EVERYTHING = found()
MATRICES = [path for path, content in EVERYTHING.items() if "kind" in content]
RECIPES = [path for path, content in EVERYTHING.items() if "runner" in content]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def of_numbers(system: Recipe | None) -> bool:
    """Whether a system is what it is by numbers alone."""
    values = ((system or {}).get("overrides") or {}).values()
    return (
        bool(values)
        and set(system or {}) - {"needs"} == {"overrides"}
        and all(type(value) in (int, float) for value in values)
    )


def ends(matrix: Recipe) -> list[str]:
    """Systems to run: all, but of five or more, or of all, that differ in numbers alone the first and the last."""
    alike: dict[str, list[str]] = {}
    for name, system in matrix["systems"].items():
        keys = [*system["overrides"], system.get("needs")] if of_numbers(system) else name
        alike.setdefault(json.dumps(keys), []).append(name)
    chosen = [
        name
        for names in alike.values()
        for name in (names if len(names) < 5 and len(alike) > 1 else dict.fromkeys([names[0], names[-1]]))
    ]
    return chosen if len(chosen) <= MOST_SYSTEMS else chosen[::5]  # corpora times losses


def is_borrowed(path: Path) -> bool:
    """Whether a matrix runs the systems of another folder's matrix, by that folder's recipes, on another corpus."""
    folder = (path.parent / EVERYTHING[path]["recipe"]).resolve().parent
    others = [other for other in MATRICES if other.parent == folder != path.parent]
    return any(compared(other) == compared(path) for other in others)


def compared(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Names and overrides of the systems of a matrix, without what names the corpus."""
    systems = {name: (system or {}).get("overrides", {}) for name, system in EVERYTHING[path]["systems"].items()}
    corpus = tuple(f"{DATA}.{key}" for key in ("root", "labels", "num_folds"))
    return [(name, {key: own[key] for key in own if key not in corpus}) for name, own in systems.items()]


def distinct_matrices() -> list[Path]:
    """Matrices, and of those that differ in a base recipe alone, which runs by itself, the first; none is borrowed."""
    free = ("title", "notes", "recipe", "published")
    texts = {path: json.dumps({k: v for k, v in EVERYTHING[path].items() if k not in free}) for path in MATRICES}
    first = {text: path for path, text in reversed(texts.items()) if all(map(of_numbers, systems_of(path)))}
    return [path for path in MATRICES if first.get(texts[path], path) == path and not is_borrowed(path)]


def systems_of(path: Path) -> list[Recipe]:
    return list(EVERYTHING[path]["systems"].values())


every_matrix = pytest.mark.parametrize("path", MATRICES, ids=name_of)
every_distinct_matrix = pytest.mark.parametrize("path", distinct_matrices(), ids=name_of)
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=name_of)


def cells_of(matrix: Recipe) -> list[str]:
    """Names of all runs of a matrix, as they are listed."""
    suffixes = ["", DEPENDENT] if len(matrix.get("protocols", [])) > 1 else [""]
    return [
        " | ".join([upstream, f"{system}{suffix}", *([fold] if fold else []), f"seed {seed}"])
        for upstream, seed, fold, system, suffix in itertools.product(
            matrix["upstreams"], matrix.get("seeds", [1337]), matrix.get("folds", [None]), matrix["systems"], suffixes
        )
        if upstream in ((matrix["systems"][system] or {}).get("upstreams") or matrix["upstreams"])
        and seed in ((matrix["systems"][system] or {}).get("seeds") or [seed])
    ]


def trials_of(matrix: Recipe) -> list[str]:
    """Names of the runs that choose the learning rates of a matrix's systems, each on its upstreams."""
    rates = matrix.get("search", {}).get("learning_rates", [])
    first = {tuple(cell.split(" | ")[:2]): cell for cell in reversed(cells_of(matrix))}
    return [f"{cell} | lr {rate}" for cell in cells_of(matrix) if cell in first.values() for rate in rates]


def system_of(matrix: Recipe, name: str) -> Recipe:
    """A system as it is written; ``protocols`` runs it under another name too."""
    systems: dict[str, Recipe | None] = matrix["systems"]
    return systems[name if name in systems else name.removesuffix(DEPENDENT)] or {}


def recipe_of(path: Path, matrix: Recipe, system: str) -> tuple[str, Path]:
    """Head and base recipe of a system."""
    own = system_of(matrix, system)
    return own.get("head", matrix["head"]), (path.parent / own.get("recipe", matrix["recipe"])).resolve()


def upstream_for(path: Path) -> dict[str, Any]:
    """Of a recipe: the first upstream of a matrix that uses it, stands beside it or has its head; else filterbanks."""
    ranked: list[tuple[int, dict[str, Any]]] = []
    for matrix_path in MATRICES:
        matrix = EVERYTHING[matrix_path]
        for cell in cells_of(matrix):
            upstream, system, *_ = cell.split(" | ")
            head, base = recipe_of(matrix_path, matrix, system)
            if head != head_of(path):
                continue
            rank = 0 if base == path.resolve() else 1 if matrix_path.parent == path.parent else 2
            ranked.append((rank, {"name": upstream, "folder": matrix_path.parent, **matrix["upstreams"][upstream]}))
    return min(ranked, key=lambda item: item[0])[1] if ranked else {"name": "fbank_no_cmvn"}


def places_in(content: Any) -> Iterator[str]:
    """Files and folders of the user's that a recipe or a matrix names."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key.rpartition(".")[2] in ("root", "labels", "votes", "meta_data") and isinstance(value, str):
                yield value
            yield from places_in(value)
    elif isinstance(content, list):
        for item in content:
            yield from places_in(item)
    elif isinstance(content, str) and content.startswith("s3prl-emotion "):
        words = shlex.split(content)
        flags = ("--labels", "--root", "--audio", "--noise")
        yield from (value for flag, value in itertools.pairwise(words) if flag in flags)


def check_stand_ins(work: Path, content: Recipe, where: Path) -> None:
    lacking = stand_ins.missing(work, (name for name in places_in(content) if name != "demo" and "{" not in name))
    assert not lacking, f"{where} names {', '.join(lacking)}: write a stand-in for it in tests/stand_ins.py"


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Where everything that recipes name is there: a working directory, and processes in it."""

    folder: Path
    nursery: Nursery

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def store(self) -> Path:
        """Features of everything, so that each is computed once."""
        return self.folder / "store"

    def run(self, *words: object, log: Path) -> str:
        """Run a command of the suite to its end; what it said."""
        code = self.nursery.wait(self.nursery.start(*words, to=log))
        said = log.read_text(errors="replace")
        assert code == 0, f"{' '.join(map(str, words))}\nexit code {code}\n{said[-3000:]}"
        return said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("stand_ins")
    work = stand_ins.write_stand_ins(folder)
    nursery = Nursery(*MODULES, folder=work, **stand_ins.environment_of(folder))
    yield World(folder, nursery)
    nursery.end()


def put(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """A copy with dotted keys set."""
    recipe = copy.deepcopy(recipe)
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        section = recipe
        for name in path:
            section = section.setdefault(name, {}) or {}
        section[last] = copy.deepcopy(value)
    return recipe


def flag_of(overrides: dict[str, Any]) -> str:
    """``-o``."""
    return ",,".join(f"config.{key}={value!r}" for key, value in overrides.items())


def resolved(recipe: Recipe, metrics: dict[str, Any]) -> Recipe:
    """A recipe with what a head adds to it: the table's classes, its number of folds, the dimensions that are kept."""
    if value_of(recipe, f"{DATA}.num_folds") == "auto":
        recipe = put(recipe, {f"{DATA}.num_folds": 5})  # no corpus here has fewer speakers
    if not value_of(recipe, f"{DATA}.classes") and metrics["classes"]:
        recipe = put(recipe, {f"{DATA}.classes": metrics["classes"]})
    if value_of(recipe, SALIENCY):
        found = value_of(metrics["config"], SALIENCY)
        added = {f"{SALIENCY}.{name}": found[name] for name in ("dimensions", "components")}
        assert added[f"{SALIENCY}.dimensions"] or added[f"{SALIENCY}.components"]
        recipe = put(recipe, added)
    return recipe


def value_of(recipe: Recipe, dotted: str) -> Any:
    for name in dotted.split("."):
        recipe = (recipe or {}).get(name)
    return recipe


def short(recipe: Recipe) -> dict[str, Any]:
    """What is changed in a recipe: how long it trains."""
    steps = min(STEPS, recipe["runner"]["total_steps"])
    return {key: min(steps, value) for key, value in SHORT.items()}


def smaller(path: Path, matrix: Recipe, store: Path) -> Recipe:
    """What is changed in a matrix: one fold, one seed, no search, every system and upstream as rarely as can be."""
    matrix = copy.deepcopy(matrix)
    matrix.pop("search", None)
    matrix |= {key: matrix[key][:1] for key in ("folds", "seeds") if key in matrix}
    matrix["systems"] = {name: matrix["systems"][name] for name in ends(matrix)}
    if matrix.get("baseline") not in matrix["systems"]:
        matrix["baseline"] = next(iter(matrix["systems"]))
    for entry in matrix.get("published", ()):
        left = {split: {name: rows[name] for name in rows if name in matrix["systems"]}
                for split, rows in entry["values"].items()}  # fmt: skip
        entry["values"] = left
    turns, used = itertools.cycle(matrix["upstreams"]), set()
    for name in matrix["systems"]:
        system = matrix["systems"][name] = matrix["systems"][name] or {}
        allowed = system.get("upstreams") or list(matrix["upstreams"])
        system["upstreams"] = [next(turn for turn in turns if turn in allowed)]
        used.update(system["upstreams"])
        base = read_recipe(recipe_of(path, matrix, name)[1])
        whole = put(put(base, matrix.get("overrides", {})), system.get("overrides", {}))
        splits = list(dict.fromkeys(["dev", *matrix.get("tests", ["test"])]))
        system["overrides"] = {
            **system.get("overrides", {}), **short(whole), "runner.eval_dataloaders": splits, f"{DATA}.num_workers": 0,
        }  # fmt: skip
    matrix["store"] = str(store)
    list(matrix["systems"].values())[-1]["upstreams"] += [one for one in matrix["upstreams"] if one not in used]
    for step in matrix.get("prepare", {}).values():
        commands = [step["run"]] if isinstance(step["run"], str) else step["run"]
        step["run"] = [LONG.sub(lambda found: f"--{found.group(1)} 1", command) for command in commands]
    return matrix


def prepared_at(matrix: Recipe, out: Path, upstream: str) -> dict[str, str]:
    """Folder of each prepared step, by its placeholder."""

    def slug(text: str) -> str:
        return re.sub(r"[^\w.+-]+", "_", text).strip("_.")

    scopes = {"upstream": upstream, "fold": (matrix.get("folds") or [""])[0]}
    places = {}
    for name, step in matrix.get("prepare", {}).items():
        parts = [slug(scopes[part]) for part in scopes if part in step.get("each", [])]
        places[f"{{prepared.{name}}}"] = str(out / "prepared" / name / ("-".join(parts) or "all"))
    return places


# --- what a run must leave --------------------------------------------------------------------------------------------


def refuse_nan(word: str) -> float:
    raise AssertionError(f"{word} in a metrics file")


def metrics_of(expdir: Path, split: str) -> dict[str, Any]:
    found = [json.loads(path.read_text(), parse_constant=refuse_nan) for path in expdir.glob("*_metrics.json")]
    (metrics,) = [values for values in found if values["split"] == split]
    return metrics


def check_log(expdir: Path, has_dev: bool = True) -> None:
    """The curves are finite numbers, and there are some; a corpus without dimensions has no CCC to tell."""
    values = re.findall(r"^(\w+) at step \d+: (\S+)$", (expdir / "log.log").read_text(), flags=re.MULTILINE)
    assert {split for split, _ in values} >= ({"train", "dev"} if has_dev else {"train"})
    for split, value in values:
        told = split in ("train", "dev", "test") or "CCC" in metrics_of(expdir, split)
        assert math.isfinite(float(value)) or not told, values


def check_split(expdir: Path, split: str, head: str, recipe: Recipe) -> None:
    """Metrics and predictions of a split are there, finite, of this head, and made with this very recipe."""
    assert head in METRICS, f"{head}: say in METRICS which metrics it has"
    metrics = metrics_of(expdir, split)
    lacking = (METRICS[head] | ABOUT) - set(metrics)
    assert not lacking, f"{split}: no {', '.join(sorted(lacking))}"
    assert math.isfinite(metrics["loss"])
    assert metrics["head"] == head
    expected = resolved({key: value for key, value in recipe.items() if value}, metrics)
    assert metrics["config"] == expected
    text = json.dumps(expected, sort_keys=True, default=str)
    assert metrics["config_hash"] == hashlib.sha256(text.encode()).hexdigest()
    predictions = pd.read_csv(expdir / f"{split}_{metrics['fold']}_predictions.csv")
    assert len(predictions) >= metrics["utterances"] > 0
    numbers = predictions.select_dtypes("number").drop(columns=["SpkrID", "Gender"], errors="ignore")
    assert len(numbers.columns)
    assert numbers.filter(regex="^(?!true|Emo|share_)").map(math.isfinite).all(axis=None)


def run_recipe(world: World, path: Path, recipe: Recipe, folder: Path) -> None:
    """Train and test a recipe in the processes of ``world``, and check what it leaves."""
    check_stand_ins(world.work, recipe, path)
    folder.mkdir(parents=True, exist_ok=True)
    stock = path.parent.name == "stock"
    head = path.stem if stock else head_of(path)
    overrides = short(recipe) | (EXAMPLE if head == "example" else {})
    upstream = {"name": "fbank"} if stock else upstream_for(path)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    words: list[object] = ["run_downstream.py", "-m", "train", "-d", head, "-c", folder / "recipe.yaml"]
    words += ["-p", folder / "exp", "-u", upstream["name"]]
    named: list[object] = ["-k", upstream["ckpt"]] if "ckpt" in upstream else []  # what a checkpoint cannot choose
    if "model_config" in upstream:
        options = upstream["model_config"]  # of a file beside the matrix, or the options themselves
        content = options if isinstance(options, dict) else yaml.safe_load((upstream["folder"] / options).read_text())
        (folder / "upstream.yaml").write_text(yaml.safe_dump(content))
        named = ["-g", folder / "upstream.yaml"]
    words += named
    words += [] if stock or is_superb(recipe) else ["--feature_store", world.store]
    world.run(*words, "-o", flag_of(overrides), log=folder / "log")
    if head != "example":  # which writes no curves
        check_log(folder / "exp")
    if stock:
        assert (folder / "exp" / f"states-{STEPS}.ckpt").is_file()
        return
    if "test" not in recipe["runner"]["eval_dataloaders"]:
        best = folder / "exp" / "dev-best.ckpt"
        world.run("run_downstream.py", "-m", "evaluate", "-e", best, *named, "-t", "test", log=folder / "log-test")
    for split in dict.fromkeys([*recipe["runner"]["eval_dataloaders"], "test"]):
        check_split(folder / "exp", split, head, put(recipe, overrides))


# --- dry runs ---------------------------------------------------------------------------------------------------------


def dry_run(world: World, path: Path, folder: Path) -> str:
    words = ("s3prl-emotion", "benchmark", path, "--out", folder / "out", "--dry-run", "--no_measure")
    return world.run(*words, log=folder / "log")


def test_there_are_recipes_and_each_is_of_a_kind():
    assert len(MATRICES) >= 17
    assert len(RECIPES) >= 30
    others = [path for path in EVERYTHING if path not in {*MATRICES, *RECIPES}]
    assert all(set(EVERYTHING[path]) == {"upstreams"} for path in others), others  # options of an upstream
    assert {head_of(path) for path in RECIPES} >= set(heads())


@pytest.mark.full
@every_matrix
def test_matrix_lists_every_run(path: Path, world: World, tmp_path: Path):
    matrix = EVERYTHING[path]
    check_stand_ins(world.work, matrix, path)
    said, cells, trials = dry_run(world, path, tmp_path), cells_of(matrix), trials_of(matrix)
    more = f", {len(trials)} more of the search for learning rates" if trials else ""
    assert f"{path}: {len(cells)} runs{more}\n" in said
    assert re.findall(r"^  to do +(.*)$", said, flags=re.MULTILINE) == [*trials, *cells]
    steps = {name.split("/")[1] for name in re.findall(r"to be made +prepared: (\S+)$", said, flags=re.MULTILINE)}
    assert steps == set(matrix.get("prepare", {}))
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_a_dry_run_predicts_the_store(world: World, tmp_path: Path, run: Run):
    path = recipes_folder() / "emodb" / "autoencoder.yaml"
    words = ("s3prl-emotion", "benchmark", path, "--out", tmp_path / "out", "--dry-run")
    said = run(*words, cwd=world.work, **stand_ins.environment_of(world.folder)).stdout
    assert "26 log-Mel | with the embedding: unknown before rae is prepared" in said
    told = re.search(r"store, 26 log-Mel: (\d+) utterances, ([\d.]+) h: ([\d.]+) GB, 0 % of it exist", said)
    assert told, said
    seconds = [soundfile.info(file).duration for file in (world.work / "emodb" / "wav").iterdir()]
    assert int(told[1]) == len(seconds)
    assert float(told[2]) == pytest.approx(sum(seconds) / 3600, abs=0.006)
    assert re.search(r"26 log-Mel \| without: .* = \d+ s; 15 runs: ", said), said


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.full
@every_recipe
def test_recipe_runs(path: Path, world: World, tmp_path: Path):
    run_recipe(world, path, read_recipe(path), tmp_path)


@pytest.fixture
def commands(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A benchmark of this process works where the stand-ins are, and its commands are processes of the nursery."""

    def run(self: Processes, words: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        code = world.nursery.wait(world.nursery.start(*words, to=log))
        if code:
            raise TrainingError(f"{' '.join(words)}: {last_error(log) or code}")

    monkeypatch.setattr(Processes, "run", run)
    # The dry run, in a process that has the hub's cache, has looked for the layers.
    monkeypatch.setattr("s3prl_emotion.benchmark.checks.check_layers", lambda plan: None)
    for name, value in stand_ins.environment_of(world.folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.work)
    corpora._load.cache_clear()  # corpora are remembered by their places, which are other ones here
    yield
    corpora._load.cache_clear()


@pytest.mark.full
@every_distinct_matrix
def test_systems_run(path: Path, world: World, tmp_path: Path, commands: None, capfd: pytest.CaptureFixture[str]):
    matrix = smaller(path, EVERYTHING[path], world.store)
    copied, out = tmp_path / "recipes" / path.parent.name / path.name, tmp_path / "out"
    shutil.copytree(recipes_folder(), tmp_path / "recipes")
    copied.write_text(yaml.safe_dump(matrix, sort_keys=False))
    code = suite.main(["benchmark", str(copied), "--out", str(out), "--retries", "0", "--device", "cpu"])
    assert code == 0, "".join(capfd.readouterr())[-3000:]
    lines = {line["run"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert set(lines) == set(cells_of(matrix))
    for line in lines.values():
        head, base = recipe_of(path, matrix, line["system"])
        overrides = matrix.get("overrides", {}) | system_of(matrix, line["system"])["overrides"]
        overrides |= {f"{DATA}.test_fold": line["fold"]} if line["fold"] else {}
        if "protocols" in matrix:
            is_random = line["system"].endswith(DEPENDENT) or matrix["protocols"] == ["random"]
            overrides |= {f"{DATA}.protocol": "random" if is_random else matrix["protocols"][0]}
        text = json.dumps(overrides)
        for placeholder, place in prepared_at(matrix, out, line["upstream"]).items():
            text = text.replace(placeholder, place)
        recipe = put(read_recipe(base), json.loads(text))
        assert line["head"] == head
        tests = set(matrix.get("tests", ["test"]))
        assert tests <= set(line["splits"]) <= tests | {"dev"}  # dev: of the best checkpoint alone
        for split, content in line["splits"].items():
            check_split((out / content["predictions"]).parent, split, head, recipe)
            has_dev = recipe["downstream_expert"]["datarc"].get("valid_ratio") != 0
            check_log((out / content["predictions"]).parent, has_dev)


@pytest.mark.full
def test_a_recipe_runs_as_a_user_runs_it(world: World, tmp_path: Path, run: Run):
    """In a process of its own and with its figures: the README's command."""
    path = recipes_folder() / "kakouros2023" / "corr_attn.yaml"
    recipe = read_recipe(path)
    places = {f"{DATA}.root": "IEMOCAP", f"{DATA}.labels": "meta_data"} | short(recipe)
    words = ["-u", "hubert_large_ll60k", "-d", "emotion_corr_attn", "-c", path, "-v", "fold1", "-p", tmp_path / "exp"]
    environment = stand_ins.environment_of(world.folder)
    run("run_downstream.py", "-m", "train", *words, "-o", flag_of(places), cwd=world.work, **environment)
    check_split(tmp_path / "exp", "test", "emotion_corr_attn", put(recipe, places))
    assert (tmp_path / "exp" / "test_fold1_confusion.png").stat().st_size > 1000


# --- what a run that is wrong does to these tests ---------------------------------------------------------------------


BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "misspelt key": ("emodb/emotion_corr_attn.yaml", {"downstream_expert.modelrc.poolin": "mean"}, "poolin: unknown"),
    "no saliency file": (
        "mitra2024/emotion_tcgru.yaml",
        {"downstream_expert.modelrc.saliency": {"file": "no.safetensors", "keep": 0.5}},
        "no.safetensors: no such",
    ),
    "layer out of range": ("mitra2025/emotion_multitask.yaml", {"downstream_expert.layer": 25}, "25"),
    "no stand-in": ("das2022/svc.yaml", {f"{DATA}.labels": "TESS/labels.csv"}, "names TESS/labels.csv: write"),
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_recipe_fails(kind: str, world: World, tmp_path: Path):
    name, overrides, message = BROKEN[kind]
    path = recipes_folder() / name
    with pytest.raises(AssertionError, match=message):
        run_recipe(world, path, put(read_recipe(path), overrides), tmp_path)


@pytest.mark.full
def test_a_layer_that_no_upstream_has_fails_the_dry_run(world: World, tmp_path: Path):
    shutil.copytree(recipes_folder() / "mitra2025", tmp_path / "recipes")
    path = tmp_path / "recipes" / "foundation_models.yaml"
    path.write_text(path.read_text().replace("layer: 24", f"layer: {stand_ins.LAYERS + 1}"))
    with pytest.raises(AssertionError, match=r"last layer, upstreams\.HuBERT: layer 25: there are 25, from 0 to 24"):
        dry_run(world, path, tmp_path)


@pytest.mark.full
def test_results_that_are_wrong_are_seen(world: World, tmp_path: Path):
    path = recipes_folder() / "demo" / "emotion_tcgru.yaml"
    recipe = read_recipe(path)
    run_recipe(world, path, recipe, tmp_path)
    expected, file = put(recipe, short(recipe)), tmp_path / "exp" / "test_fold1_metrics.json"
    content = file.read_text()
    for spoilt in (
        content.replace('"gru_dim": 48', '"gru_dim": 49'),
        re.sub(r'"mean_CCC": \S+,', '"mean_CCC": NaN,', content, count=1),
        content.replace('"CCC":', '"CC":'),
    ):
        assert spoilt != content
        file.write_text(spoilt)
        with pytest.raises(AssertionError):
            check_split(tmp_path / "exp", "test", "emotion_tcgru", expected)
