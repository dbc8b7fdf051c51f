"""Hold what users rely on while the code is moved: nothing that ``contracts.json`` lists may be missing or changed.

The file lists commands with their flags, keys of YAML files with their defaults, the files of an experiment with what
they contain, and public names with their signatures. Additions are fine. The tests import public names only, so that
moving a module never breaks them: they read ``--help``, run both command lines, and open checkpoints. Keys of YAML
files are read from the pydantic models that check them.

After an intended change, record again and review the diff::

    python tests/test_contracts.py --record
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import importlib
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY, Cli, Run, TinyCorpus, tone
from pydantic import BaseModel

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.metrics.registry import LOSS, best_metrics

FILE = Path(__file__).with_name("contracts.json")
RECORDER = "contracts-recorder"
HEADS = ("emotion_acnn", "emotion_corr_attn", "emotion_latent", "emotion_multitask", "emotion_tcgru")
SLOW = ("emotion_latent", "emotion_multitask")  # heads whose experiment is a full test
COMMANDS = (
    "audit", "benchmark", "check-upstream", "degrade", "doctor", "export", "extract", "link", "pack", "predict",
    "prepare", "pretrain-rae", "report", "saliency", "serve", "store", "submit", "superb", "transcribe", "tsne",
    "unlink",
)  # fmt: skip
TARGETS = ("demo", "test", "test-full", "test-oldest", "test-all", "lint", "benchmark", "clean")
NOWHERE = "no/such/labels.csv"
DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
SLIP = "x"  # appended to a key, it makes another that does not exist
Tree = dict[str, Any]


# --- recorded and seen ------------------------------------------------------------------------------------------------


def missing(recorded: Any, seen: Any, where: str) -> Iterator[str]:
    """List what ``seen`` lacks or has differently; lists are sets of names, to which names may be added."""
    if isinstance(recorded, dict) and isinstance(seen, dict) and not where.endswith(".default"):
        for key, value in recorded.items():
            if key in seen:
                yield from missing(value, seen[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is missing"
    elif isinstance(recorded, list) and isinstance(seen, list) and not where.endswith((".default", ".required")):
        yield from (f"{where} lacks {item!r}" for item in recorded if item not in seen)
    elif recorded != seen:
        yield f"{where} was {recorded!r}, is {seen!r}"


Hold = Callable[[str, Any], None]


@pytest.fixture(scope="session")
def recorded() -> Tree:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Hold:
    """``hold(name, seen)`` fails if ``seen`` lacks anything that is recorded under the name."""
    recorder = request.config.pluginmanager.get_plugin(RECORDER)
    if recorder is not None:
        return recorder.seen.__setitem__
    truth = request.getfixturevalue("recorded")

    def compare(name: str, seen: Any) -> None:
        assert name in truth, f"{name} is not recorded: {__doc__}"
        lacking = list(missing(truth[name], json.loads(json.dumps(seen)), name))
        assert not lacking, "\n".join(lacking)

    return compare


class Recorder:
    """Pytest plugin that collects what the tests see instead of comparing it."""

    def __init__(self) -> None:
        self.seen: Tree = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(types.SimpleNamespace(seen=self.seen), RECORDER)


def record() -> int:
    """Write ``contracts.json`` from a run of this file; return pytest's exit code."""
    recorder = Recorder()
    code = pytest.main([__file__, "-n", "0", "-k", "not accepted_and_slips"], plugins=[recorder])
    if code == 0:
        FILE.write_text(_lines(dict(sorted(recorder.seen.items()))) + "\n", encoding="utf-8")
    return int(code)


def _lines(value: Any, depth: int = 0) -> str:
    """Write JSON with one line for each flag, key and signature."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(line) + depth < 160 or not any(isinstance(p, dict) for p in value.values()):
        return line
    inside = (f"{' ' * (depth + 1)}{json.dumps(key)}: {_lines(part, depth + 1)}" for key, part in value.items())
    return "{\n" + ",\n".join(inside) + f"\n{' ' * depth}}}"


# --- the command lines ------------------------------------------------------------------------------------------------


class Helped(BaseException):
    """Raised instead of printing a parser's help."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(main: Callable[[list[str]], Any], *words: str) -> argparse.ArgumentParser:
    """Return the parser whose help ``--help`` prints."""

    def print_help(parser: argparse.ArgumentParser, file: Any = None) -> None:
        raise Helped(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "print_help", print_help)
        with pytest.raises(Helped) as raised:
            main([*words, "--help"])
    return raised.value.parser


def plain(value: Any) -> Any:
    """Convert a default to what JSON can hold."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value if isinstance(value, (str, int, float, list, dict, type(None))) else str(value)


def flags_of(parser: argparse.ArgumentParser) -> Tree:
    """Describe every flag and positional argument of a parser and of its subcommands."""
    flags: Tree = {}
    position = 0
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            flags |= {f"command {name}": flags_of(sub) for name, sub in action.choices.items()}
            continue
        kind = action.type
        about = {
            "dest": action.dest,
            "default": plain(action.default),
            "choices": None if action.choices is None else [str(choice) for choice in action.choices],
            "required": action.required,
            "nargs": action.nargs,
            "const": plain(action.const),
            "type": None if kind is None else kind.__name__ if kind in (int, float, str, Path) else "parsed",
        }
        if not action.option_strings:
            flags[f"<{action.dest}>"] = about | {"position": position}
            position += 1
        flags |= dict.fromkeys(action.option_strings, about)
    return flags


def test_commands(hold: Hold):
    parser = parser_of(suite.main)
    flags = flags_of(parser)
    names = [name.removeprefix("command ") for name in flags if name.startswith("command ")]
    assert set(COMMANDS) <= set(names)
    assert set(COMMANDS) <= set(suite.COMMANDS)
    hold("s3prl-emotion", {name: about for name, about in flags.items() if name.startswith("-")})


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_of_a_command(command: str, hold: Hold):
    hold(f"s3prl-emotion {command}", flags_of(parser_of(suite.main, command)))


def test_flags_of_run_downstream(cli: Cli, hold: Hold):
    hold("run_downstream.py", flags_of(parser_of(lambda words: cli(*words))))


Suite = Callable[..., str]


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Suite:
    """``fails("degrade", …)`` runs ``s3prl-emotion``, which must fail, and returns its one error line."""

    def call(*words: object) -> str:
        capfd.readouterr()
        assert suite.main([str(word) for word in words]) == 1
        lines = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
        assert len(lines) == 1
        return lines[0]

    return call


def test_slips_on_the_command_line(cli: Cli, fails: Suite):
    assert re.match(r"s3prl-emotion: error: .*reprot.*\breport\b", fails("reprot"))
    assert re.match(r"s3prl-emotion: error: .*--snrr", fails("degrade", "--labels", "a", "--out", "b", "--snrr", "1"))
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
    for slip, known in (("--featurestore", "--feature_store"), ("--upstreampath", "--upstream_path")):
        assert re.match(rf"run_downstream.py: error: .*{slip}.*{known}\b", cli(*words, slip, "x", code=1).error)
    slips = (("-u", "fbank_no_cmv", "fbank_no_cmvn"), ("-d", "emotion_corratn", "emotion_corr_attn"))
    for flag, slip, known in slips:
        error = cli(*words, flag, slip, code=1).error
        assert re.match(rf"run_downstream.py: error: .*{slip}\b.*{known}\b", error)


# --- keys of YAML files -----------------------------------------------------------------------------------------------

Validated = list[tuple[Any, type[BaseModel]]]


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Validated:
    """Sections of YAML that were read during the test: their values, and the model that checked them."""
    seen: Validated = []
    check = BaseModel.model_validate.__func__  # type: ignore[attr-defined]

    def spy(cls: type[BaseModel], values: Any, *more: Any, **options: Any) -> Any:
        seen.append((copy.deepcopy(values), cls))
        return check(cls, values, *more, **options)

    monkeypatch.setattr(BaseModel, "model_validate", classmethod(spy))
    return seen


def section_of(seen: Validated, values: Any) -> Tree:
    """Describe the keys of the section that was read with these values."""
    models = [model for content, model in seen if content == values]
    assert models, f"no section was read that holds {values}"
    return keys_of(models[0])


def keys_of(model: type[BaseModel]) -> Tree:
    """Describe each key of a section: its default, the words it accepts, and the keys nested in it."""
    keys: Tree = {}
    for name, field in model.model_fields.items():
        about: Tree = {"required": True} if field.is_required() else {"default": plain(_default(field))}
        words, nested = _parts(field.annotation)
        if (model.__name__, name) in (("HeadSection", "best_metric"), ("SearchSection", "metric")):
            words = [
                *best_metrics(classes=True, dimensions=True),
                LOSS,
            ]  # checked against the registry, not by a Literal
        if words:
            about["words"] = words
        if nested is not None:
            about |= {"form": nested[0], "keys": keys_of(nested[1])}
        keys[field.alias or name] = about
    return keys


def _default(field: Any) -> Any:
    return field.get_default(call_default_factory=True)


def _parts(kind: Any, form: str = "section") -> tuple[list[str], tuple[str, type[BaseModel]] | None]:
    """Return a type's ``Literal`` words and the section nested in it, alone or in a list or mapping."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [], (form, kind)
    if typing.get_origin(kind) is typing.Literal:
        return [str(word) for word in typing.get_args(kind)], None
    form = {list: "list", dict: "mapping"}.get(typing.get_origin(kind), form)  # type: ignore[arg-type]
    words: list[str] = []
    nested = None
    for part in typing.get_args(kind):
        more, inner = _parts(part, form)
        words, nested = words + more, nested or inner
    return words, nested


def recipe_of(head: str) -> Tree:
    """Return the head's own recipe with a missing label table, which is reported only if all keys are accepted."""
    folder = Path(str(importlib.import_module(f"s3prl.downstream.{head}").__file__)).parent
    recipe = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    recipe["downstream_expert"]["datarc"] |= {"labels": NOWHERE, "root": "."}
    return recipe


def refused(cli: Cli, head: str, recipe: Tree) -> str:
    """Return the error that a recipe gives."""
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return cli("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-c", "recipe.yaml", code=1).error


@pytest.mark.parametrize("head", HEADS)
def test_recipe_keys(head: str, cli: Cli, validated: Validated, hold: Hold):
    recipe = recipe_of(head)
    assert NOWHERE in refused(cli, head, recipe)
    section, recipe["upstream"] = recipe["downstream_expert"], {"trainable": "all", "warm_up": 7}
    assert "upstream.trainable: all needs -f" in refused(cli, head, recipe)
    hold("upstream", section_of(validated, recipe["upstream"]))
    hold("runner", section_of(validated, recipe["runner"]))
    hold("downstream_expert", section_of(validated, section))
    hold("datarc", section_of(validated, section["datarc"]))
    hold(f"modelrc of {head}", section_of(validated, section["modelrc"]))


SAMPLES = {  # of keys that are required; those of recipes are in the heads' own
    "labels": NOWHERE, "root": ".", "model": "no/such", "splits": ["other"], "file": "no/such",
    "source": "white",
}  # fmt: skip


def filled(keys: Tree) -> Tree:
    """Build a section with every recorded key at its default, and so for nested sections."""
    section = {}
    for name, about in keys.items():
        if "keys" in about:
            inside = filled(about["keys"])
            section[name] = {"section": inside, "list": [inside], "mapping": {"other": inside}}[about["form"]]
        elif "default" in about:
            section[name] = about["default"]
        elif name in SAMPLES:
            section[name] = SAMPLES[name]
    return section


def sections_in(value: Any, keys: Tree) -> Iterator[tuple[Tree, str]]:
    """Yield a section and all that are nested in it, each with one of its keys."""
    yield value, list(keys)[-1]
    for name, about in keys.items():
        if "keys" in about and name in value:
            inside = value[name]
            part = {"section": lambda v: v, "list": lambda v: v[0], "mapping": lambda v: v["other"]}[about["form"]]
            yield from sections_in(part(inside), about["keys"])


@pytest.mark.parametrize("head", HEADS)
def test_recipe_keys_are_accepted_and_slips_refused(head: str, cli: Cli, recorded: Tree):
    names = {"runner": "runner", "downstream_expert": "downstream_expert", "datarc": "datarc"}
    keys = {part: recorded[name] for part, name in names.items()} | {"modelrc": recorded[f"modelrc of {head}"]}
    recipe = recipe_of(head)
    section = recipe["downstream_expert"]
    full = {part: filled(inside) for part, inside in keys.items()}
    corpora = full["datarc"].pop("corpora")  # replaces labels and root
    corpora["other"]["root"] = "."
    full["datarc"] |= {"classes": ["neutral", "sad"]}
    if head == "emotion_latent":
        del full["datarc"]["augment"]["mixup"]  # whose targets it cannot learn
    recipe["runner"] |= full["runner"]
    recipe["downstream_expert"] = full["downstream_expert"] | {
        "datarc": section["datarc"] | full["datarc"] | {"labels": NOWHERE, "root": "."},
        "modelrc": section["modelrc"] | full["modelrc"],
    }
    section = recipe["downstream_expert"]
    assert NOWHERE in refused(cli, head, recipe)
    several = copy.deepcopy(recipe)
    own = several["downstream_expert"]["datarc"]
    own |= {"corpora": corpora, "labels": None, "root": None, "degrade": None, "extra_tests": {}, "distribution": None}
    several["downstream_expert"]["modelrc"].pop("unlabelled", None)  # of extra_tests
    assert NOWHERE in refused(cli, head, several)
    values = {"runner": recipe["runner"], "downstream_expert": section, "datarc": section["datarc"]}
    values["modelrc"] = section["modelrc"]
    for part, inside in keys.items():
        for section, key in sections_in(values[part], inside):
            section[key + SLIP] = None
            error = refused(cli, head, recipe)
            assert re.search(rf"\b{key}{SLIP}\b", error), error
            if section is values[part]:
                assert re.search(rf"\b{key}{SLIP}\b.*\b{key}\b", error), error
            del section[key + SLIP]


OPTIONS: dict[str, tuple[str | None, Tree]] = {  # upstream: -k and -g
    "concat": (None, {"upstreams": [{"name": "logmel26"}, {"name": "mel_f0"}]}),
    "hf_clap_custom": ("no/such/model", {}),
    "hf_codec_custom": ("no/such/model", {}),
    "hf_speech_custom": ("no/such/model", {}),
    "hf_speech_random": (None, {}),
    "logmel26": (None, {}),
    "mel_f0": (None, {}),
    "rae": ("no/such/rae.ckpt", {}),
}


@pytest.mark.parametrize("upstream", OPTIONS)
def test_upstream_options(upstream: str, validated: Validated, hold: Hold, monkeypatch: pytest.MonkeyPatch, tmp_path):
    """The options of ``-g`` are read before the checkpoint, so none is needed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    s3prl_emotion.register()
    build = getattr(importlib.import_module("s3prl.hub"), upstream)
    ckpt, options = OPTIONS[upstream]
    slip = {**options, "no_such_key": 1}
    with pytest.raises(ValueError, match="no_such_key"):
        build(ckpt=ckpt, model_config=slip)
    models = [model for values, model in validated if values == slip]
    assert models
    keys = {"options": keys_of(models[0])}
    if upstream == "concat":
        assert len(build(model_config=options)([torch.zeros(1600)])["hidden_states"]) == 1
        keys["upstreams"] = section_of(validated, options["upstreams"][0])
    hold(f"-g of {upstream}", keys)


def test_autoencoder_keys(fails: Suite, validated: Validated, hold: Hold, tmp_path: Path):
    sections = {"spectrogram": {"num_mels": 8}, "model": {"num_layers": 1}, "training": {"lr": 0.5}}
    config = tmp_path / "rae.yaml"
    config.write_text(yaml.safe_dump(sections), encoding="utf-8")
    words = ("pretrain-rae", "--audio", tmp_path / "no_such", "--out", tmp_path / "out", "--config", config)
    assert "no_such" in fails(*words)
    hold("pretrain-rae --config", {name: section_of(validated, part) for name, part in sections.items()})
    sections["model"]["no_such_key"] = 1
    config.write_text(yaml.safe_dump(sections), encoding="utf-8")
    assert "model.no_such_key" in fails(*words)


def test_matrix_keys(
    fails: Suite, validated: Validated, hold: Hold, tiny_corpus: TinyCorpus, tmp_path: Path, capfd, monkeypatch
):
    """``benchmark --dry-run`` accepts a matrix with every documented key."""
    monkeypatch.chdir(tmp_path)
    s3prl_emotion.register()
    recipe = recipe_of("emotion_corr_attn")
    recipe["downstream_expert"]["datarc"] |= {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    upstream = {
        "name": "logmel26", "ckpt": None, "model_config": {"num_mels": 8}, "feature": "hidden_states", "layer": 0,
        "normalize": False, "trainable": False,
    }  # fmt: skip
    step = {"run": "s3prl-emotion doctor", "each": ["upstream", "fold"], "needs": []}
    system = {
        "overrides": {f"{MODEL}.pooling": "mean"}, "needs": ["step"], "head": "emotion_corr_attn",
        "recipe": "recipe.yaml", "upstreams": ["mel"], "seeds": [1, 2], "resources": {"cpus": 1.0},
    }  # fmt: skip
    search = {
        "learning_rates": [1e-3, 1e-2], "per": ["upstream"], "system": "one", "folds": ["fold1"], "seeds": [1],
        "metric": "WA",
    }  # fmt: skip
    published = {
        "source": "a paper",
        "note": "none",
        "upstream": "mel",
        "metrics": ["WA"],
        "values": {"test": {"one": [0.5]}},
    }
    matrix = {
        "kind": "matrix", "title": "all keys", "notes": "none", "head": "emotion_corr_attn", "recipe": "recipe.yaml",
        "upstreams": {"mel": upstream}, "folds": ["fold1", "fold2"], "seeds": [1, 2], "tests": ["test"],
        "baseline": "one", "systems": {"one": system}, "overrides": {"runner.total_steps": 2},
        "prepare": {"step": step}, "published": [published], "store": "{dir}/store", "store_dtype": "float32",
        "upstream_path": None, "resources": {"cpus": 1.0, "gpus": 0.0}, "search": search,
    }  # fmt: skip
    words = ["benchmark", "matrix.yaml", "--out", "out", "--dry-run", "--no_measure"]
    Path("matrix.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    assert suite.main(words) == 0
    listed = capfd.readouterr().out
    for cell in ("mel | one | fold1 | seed 1", "mel | one | fold2 | seed 2"):
        assert cell in listed
    parts = {"matrix": matrix, "upstreams": upstream, "systems": system, "prepare": step, "published": published}
    hold("kind: matrix", {name: section_of(validated, part) for name, part in parts.items()})
    for part in parts.values():
        part["no_such_key"] = None
        Path("matrix.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
        assert "no_such_key" in fails(*words)
        del part["no_such_key"]


# --- an experiment ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voted_corpus(graded_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The graded tones with grader shares over two classes."""
    with graded_corpus.labels.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = tmp_path_factory.mktemp("voted") / "labels.csv"
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], "ang", "sad"])
        writer.writeheader()
        for row in rows:
            share = 0.8 if row["EmoClass"] == "ang" else 0.3
            writer.writerow(row | {"ang": share, "sad": round(1 - share, 1)})
    return TinyCorpus(graded_corpus.root, labels)


SIZES = {f"{MODEL}.{key}": 8 for key in ("conv_channels", "gru_dim", "embedding_dim")}
SMALL: dict[str, dict[str, object]] = {
    "emotion_acnn": {f"{MODEL}.filters": 8, f"{MODEL}.pool": 4, f"{DATA}.classes": ["ang", "sad"]},
    "emotion_corr_attn": {f"{MODEL}.projector_dim": 8},
    "emotion_latent": {f"{DATA}.classes": ["ang", "sad"], f"{DATA}.train_batch_size": 12},
    "emotion_multitask": {**SIZES, f"{DATA}.classes": ["ang", "sad"], f"{DATA}.train_batch_size": 12},
    "emotion_tcgru": {**SIZES, f"{DATA}.train_batch_size": 12},
}
UPSTREAM = {"emotion_acnn": "logmel26"}  # else fbank_no_cmvn


def train(cli: Cli, head: str, corpus: TinyCorpus) -> Path:
    """Train for six steps and return the experiment directory."""
    own = TinyCorpus(corpus.root, corpus.labels)
    text = own.overrides(**SMALL[head])
    if f"{MODEL}.projector_dim" not in SMALL[head]:
        text = ",,".join(part for part in text.split(",,") if "projector_dim" not in part)
    upstream = UPSTREAM.get(head, "fbank_no_cmvn")
    cli("-m", "train", "-u", upstream, "-d", head, "-p", "exp", "--device", "cpu", "-o", text)
    return Path("exp")


def form_of(value: Any) -> Any:
    """Return the keys of nested mappings with the kind of each value."""
    if isinstance(value, dict):
        return {key: form_of(_example(key, part)) for key, part in value.items()}
    if isinstance(value, (bool, str, list)):
        return {bool: "boolean", str: "text", list: "list"}[type(value)]
    return "number"  # or null, where it is not defined


def _example(key: str, value: Any) -> Any:
    """Keep one speaker or gender of several, and only the section names of a recipe."""
    if key in ("per_speaker", "per_gender") and value:
        return {"<name>": next(iter(value.values()))}
    return dict.fromkeys(value, "…") if key == "config" else value


def files_of(folder: Path) -> list[str]:
    """List the names in a folder, with time stamps and process numbers masked."""
    names = {re.sub(r"tfevents.*", "tfevents", path.name) for path in folder.iterdir()}
    return sorted(re.sub(r"\d{2,}([-_]\d+)*", "N", name) for name in names)


def experiment_of(folder: Path) -> Tree:
    """Describe the files of an experiment directory."""
    best = torch.load(folder / "dev-best.ckpt", map_location="cpu", weights_only=False)
    last = torch.load(folder / "states-6.ckpt", map_location="cpu", weights_only=False)
    log = (folder / "log.log").read_text(encoding="utf-8").splitlines()
    about: Tree = {
        "files": files_of(folder),
        "log.log": sorted({re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", line) for line in log}),
        "dev-best.ckpt": sorted(best),
        "states-6.ckpt": sorted(last),
        "Args": sorted(vars(best["Args"])),
        "Downstream": {
            name: str(list(part.shape)) for name, part in best["Downstream"].items() if hasattr(part, "shape")
        },
    }
    splits = {split: split_of(folder, split) for split in ("dev", "test")}
    assert not list(missing(splits["test"], splits["dev"], "dev"))
    return about | splits["test"]


def split_of(folder: Path, split: str) -> Tree:
    """Describe the files of an evaluated split."""
    about: Tree = {}
    about["metrics.json"] = form_of(json.loads((folder / f"{split}_fold1_metrics.json").read_text(encoding="utf-8")))
    with (folder / f"{split}_fold1_predictions.csv").open(newline="", encoding="utf-8") as handle:
        about["predictions.csv"] = next(csv.reader(handle))
    for kind in ("predict", "truth"):
        path = folder / f"{split}_fold1_{kind}.txt"
        if path.is_file():
            about[f"words of a line of {kind}.txt"] = len(path.read_text(encoding="utf-8").splitlines()[0].split())
    return about


@pytest.fixture
def drawing_cli(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """As ``cli``, but with figures, which ``cli`` leaves out."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_downstream.py"])
    return cli


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=[pytest.mark.full] if head in SLOW else []) for head in HEADS]
)
def test_experiment(
    head: str,
    drawing_cli: Cli,
    hold: Hold,
    tiny_corpus: TinyCorpus,
    graded_corpus: TinyCorpus,
    voted_corpus: TinyCorpus,
):
    corpus = {"emotion_corr_attn": tiny_corpus, "emotion_multitask": voted_corpus}.get(head, graded_corpus)
    folder = train(drawing_cli, head, corpus)
    hold(f"experiment of {head}", experiment_of(folder))
    predictor = s3prl_emotion.load(folder)
    prediction = predictor.predict(tone(220, 0.5, 0), 16_000)
    both = {"load(…)": public(predictor), "predict(…)": public(prediction)}
    hold("predictor", both | {"fields": [field.name for field in dataclasses.fields(prediction)]})
    forms = {name: form_of(getattr(prediction, name)) for name in ("label", "probabilities", "dimensions")}
    hold(f"prediction of {head}", forms)


# --- public names -----------------------------------------------------------------------------------------------------


def signature(function: Callable[..., Any]) -> Tree:
    """Describe a signature: required parameters, and the position (or keyword) and default of each."""
    parameters, required = {}, []
    for position, (name, part) in enumerate(inspect.signature(function).parameters.items()):
        if part.kind in (part.VAR_POSITIONAL, part.VAR_KEYWORD):
            parameters[name] = "any more"
            continue
        parameters[name] = "by name" if part.kind is part.KEYWORD_ONLY else f"{position}"
        if part.default is part.empty:
            required.append(name)
        else:
            parameters[name] += f" = {plain(part.default)!r}"
    return {"required": required, "parameters": parameters}


def public(thing: Any) -> Tree:
    """List an object's public attributes, and the signatures of its methods."""
    names = [name for name in dir(thing) if not name.startswith("_")]
    return {name: signature(part) if callable(part := getattr(thing, name)) else "attribute" for name in names}


def described(thing: Any) -> Tree:
    """Describe a function, or a class with its public methods."""
    if not inspect.isclass(thing):
        return signature(thing)
    methods = {
        name: signature(part) if callable(part) else "attribute"
        for name, part in inspect.getmembers(thing)
        if not name.startswith("_")
    }
    return {"constructor": signature(thing), "names": methods}


def test_package(hold: Hold):
    assert s3prl_emotion.__version__ == metadata.version("s3prl-emotion")
    hold("s3prl_emotion", {name: signature(getattr(s3prl_emotion, name)) for name in ("register", "load")})


def test_losses_and_saliency(hold: Hold):
    losses, saliency = (importlib.import_module(f"s3prl_emotion.{name}") for name in ("losses", "saliency"))
    hold("s3prl_emotion.losses", {"concordance_loss": signature(losses.concordance_loss)})
    hold("s3prl_emotion.saliency", {name: described(getattr(saliency, name)) for name in saliency.__all__})
    values = torch.arange(12.0).view(6, 2)
    assert losses.concordance_loss(values, values).item() == pytest.approx(-1)


POOLINGS = ("MeanPooling", "MeanStdPooling", "CorrelationPooling", "AttentiveCorrelationPooling")


def test_pooling(hold: Hold):
    s3prl_emotion.register()
    model = importlib.import_module("s3prl.downstream.emotion_corr_attn.model")
    poolings = {}
    for name in POOLINGS:
        kind = getattr(model, name)
        pooling = kind(6)
        shapes = {part: str(list(value.shape)) for part, value in pooling.state_dict().items()}
        poolings[name] = {"constructor": signature(kind), "forward": signature(pooling.forward), "state_dict": shapes}
        poolings[name]["output_dim"] = pooling.output_dim
        assert pooling(torch.randn(2, 5, 6), torch.tensor([5, 3])).shape == (2, pooling.output_dim)
    pooled, weights = pooling(torch.randn(2, 5, 6), torch.tensor([5, 3]), return_weights=True)
    assert (pooled.shape, weights.shape) == ((2, pooling.output_dim), (2, 5))
    hold("s3prl.downstream.emotion_corr_attn.model", poolings)


def test_heads_and_upstreams(hold: Hold):
    """Heads have the interface that s3prl's own script calls, and every adapter is in its hub."""
    s3prl_emotion.register()
    experts = {}
    for head in HEADS:
        expert = importlib.import_module(f"s3prl.downstream.{head}.expert").DownstreamExpert
        for name in ("get_downstream_name", "get_dataloader", "forward", "log_records", "inference", "load_audio"):
            assert callable(getattr(expert, name))
        experts[head] = signature(expert)
    hold("s3prl.downstream", experts)
    hub = importlib.import_module("s3prl.hub")
    ours = {
        name: signature(part)
        for name, part in sorted(vars(hub).items())
        if inspect.isfunction(part) and "upstream_adapters" in str(inspect.getmodule(part)) and not name.startswith("_")
    }
    hold("s3prl.hub", ours)


FRESH = """
import importlib
import s3prl_emotion
s3prl_emotion.register()
s3prl_emotion.register()
import s3prl.hub
importlib.import_module("s3prl.downstream.emotion_corr_attn.expert")
print(hasattr(s3prl.hub, "contracts_upstream"))
"""


@pytest.mark.full
def test_entry_points(tmp_path: Path, run: Run):
    """Both commands are installed, and a pip-installed package can add upstreams."""
    scripts = {point.name: point for point in metadata.entry_points(group="console_scripts")}
    for name in ("run_downstream.py", "s3prl-emotion"):
        assert callable(scripts[name].load())
    adapter = tmp_path / "contracts_plugin"
    adapter.mkdir()
    adapter.joinpath("__init__.py").write_text("")
    adapter.joinpath("hubconf.py").write_text("def contracts_upstream(*args, **kwargs):\n    return None\n")
    adapter.joinpath("expert.py").write_text("class UpstreamExpert:\n    pass\n")
    about = tmp_path / "contracts_plugin-1.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: contracts-plugin\nVersion: 1\n")
    about.joinpath("entry_points.txt").write_text("[s3prl_emotion.upstreams]\nany = contracts_plugin\n")
    assert run(sys.executable, "-c", FRESH).stdout.split()[-1] == "True"


def test_makefile():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert set(TARGETS) <= set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        raise SystemExit("python tests/test_contracts.py --record")
    raise SystemExit(record())
