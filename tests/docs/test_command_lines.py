"""Every command line of the texts parses by the programs' own parsers, with its flags and recipe keys; nothing runs."""

from __future__ import annotations

import argparse
import configparser
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Cli
from markdown_texts import DOCS, code_blocks, code_spans, markdown_files, name_of

from s3prl_emotion import host
from s3prl_emotion.errors import EmotionError
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.recipe import check_recipe, overridden, read_recipe
from s3prl_emotion.training.preflight import check_builders, find_recipe

if not DOCS.is_dir():
    pytest.skip("the documentation is in the checkout", allow_module_level=True)
sys.path.insert(0, str(DOCS / "extensions"))
import parsers

STARTS = r"(run_downstream\.py|s3prl-emotion|torchrun|make|pip|python[\d.]*)$"
MODULES = {"s3prl_emotion.run_downstream": "run_downstream.py", "s3prl_emotion": "s3prl-emotion"}
TEXTS = [
    *markdown_files(),
    *sorted((REPOSITORY / "recipes").rglob("*.yaml")),
    *sorted(REPOSITORY.glob("downstream/*/*.yaml")),
]
Words = list[str]


# --- reading the texts ------------------------------------------------------------------------------------------------


def shell_text(path: Path) -> str:
    """Return the shell lines of a text: code blocks of Markdown, or comments of YAML."""
    if path.suffix == ".md":
        return "\n".join(code.text for code in code_blocks(path) if code.language == "shell")
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def commands(path: Path) -> Iterator[Words]:
    """Yield the words of every command of a text; shell variables become ``0``."""
    starts = re.compile(r"run_downstream\.py$|s3prl-emotion$" if path.suffix != ".md" else STARTS)
    for line in re.sub(r"\\\n", " ", shell_text(path)).splitlines():
        line = re.sub(r"^\$ |\bdone\b", "", line.strip())
        for part in re.split(r"&&|;\s|\bdo\s|\s\|\s", line):
            words = part.split()
            if words and starts.match(words[0]):
                yield shlex.split(re.sub(r"\$\{?\w+\}?", "0", part), comments=True)


def program(words: Words) -> Words:
    """Return a command without what starts it: torchrun with its options, python, ``-m``."""
    if words[0] == "torchrun":
        start = next(n for n, word in enumerate(words) if word == "-m" or word.endswith(".py"))
        words = ["python", *words[start:]]
    if words[0].startswith("python"):
        words = words[1:]
        if words[:1] == ["-m"]:
            words = [MODULES.get(words[1], words[1]), *words[2:]]
    return words


COMMANDS = {path: found for path in TEXTS if (found := list(commands(path)))}


# --- checking them ----------------------------------------------------------------------------------------------------


@cache
def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of ``run_downstream.py`` or of a command of ``s3prl-emotion``."""
    return parsers.run_downstream_parser() if name == "run_downstream.py" else parsers.command_parser(name)


@cache
def extras() -> set[str]:
    """Return the extras of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    return set(setup["options.extras_require"])


@cache
def experiments() -> dict[str, argparse.Namespace]:
    """Return the arguments of the trainings that the texts show, by the folder of their checkpoints or packed heads."""
    found = {}
    for words in (program(words) for every in COMMANDS.values() for words in every):
        if words[:1] == ["run_downstream.py"] and "train" in words:
            args, _ = parser_of("run_downstream.py").parse_known_args(words[1:])
            if args.downstream:
                found[args.expdir or f"result/downstream/{args.expname}"] = args
    for words in (program(words) for every in COMMANDS.values() for words in every):
        if words[:2] == ["s3prl-emotion", "pack"]:
            args = parser_of("pack").parse_args(words[2:])
            if args.ckpt in found:
                found[str(args.out)] = found[args.ckpt]
    return found


def check(words: Words) -> None:
    """Check one command.

    Raises:
        AssertionError, EmotionError: it would be refused, or names a file that the repository does not have
    """
    words = program(words)
    if not words:
        return
    lacking = [
        word
        for word in words
        if re.match(r"(recipes|benchmarks|tests)/[\w./-]+$", word) and not (REPOSITORY / word).exists()
    ]
    assert not lacking, f"no such file: {lacking}"
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(words[1:2]) <= set(targets), f"no target {words[1]}"
    elif words[0] == "pip":
        named = {name for word in words for extra in re.findall(r"\.\[([\w,]+)\]$", word) for name in extra.split(",")}
        assert named <= extras(), f"no extra {named - extras()}"
    elif words[0] == "s3prl-emotion":
        assert words[1] in parsers.COMMANDS or words[1].startswith("-"), f"no command {words[1]}"
        if not words[1].startswith("-"):
            args = parser_of(words[1]).parse_args(words[2:])
            assert getattr(args, "upstream", None) in (None, *host.upstream_names()) or args.upstream_path
    elif words[0] == "run_downstream.py":
        check_experiment(words[1:])


def check_experiment(words: Words) -> None:
    """Check a command line of ``run_downstream.py``: flags, names, and the recipe with what ``-o`` changes in it."""
    args, unknown = parser_of("run_downstream.py").parse_known_args(words)
    assert not unknown, f"unknown arguments {unknown}"
    if args.past_exp:
        trained = experiments().get(args.past_exp) or experiments().get(str(Path(args.past_exp).parent))
        assert trained is not None, f"no text trains {args.past_exp}"
        args.downstream, args.config, args.upstream = trained.downstream, trained.config, trained.upstream
        args.upstream_path = trained.upstream_path
    own = bool(getattr(args, "downstream_path", None))
    assert args.downstream in host.downstream_names() or own, f"no head {args.downstream}"
    assert args.upstream in host.upstream_names() or args.upstream_path, f"no upstream {args.upstream}"
    if own and args.config is None:
        return
    recipe = read_recipe(REPOSITORY / args.config if args.config else find_recipe(args.downstream))
    args, recipe = overridden(args.override, args, recipe)
    check_builders(recipe)
    if is_emotion_head(args.downstream):
        check_recipe(recipe)
        expert = importlib.import_module(f"s3prl.downstream.{args.downstream}.expert").DownstreamExpert
        expert.read_section(recipe["downstream_expert"], args.downstream_variant, recipe["runner"])


@pytest.fixture(autouse=True)
def checkout(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are called from the checkout; ``cli`` puts back what building their parsers changes."""
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_command_lines_parse(path: Path):
    for words in COMMANDS[path]:
        try:
            check(words)
        except (AssertionError, EmotionError, SystemExit) as error:
            pytest.fail(f"{name_of(path)}: {shlex.join(words)}: {error}")


def test_commands_of_the_results_parse():
    entries = json.loads((DOCS / "results.json").read_text(encoding="utf-8"))
    rows = [row["command"] for entry in entries for row in entry["rows"] if "command" in row]
    assert len(rows) >= 20
    for command in [*rows, *(command for entry in entries for command in entry["command"])]:
        check(shlex.split(command))


def test_texts_hold_commands():
    assert sum(map(len, COMMANDS.values())) >= 100
    assert {words[1] for every in COMMANDS.values() for words in every if words[0] == "s3prl-emotion"} >= {
        "audit", "benchmark", "check-upstream", "degrade", "export", "extract", "link", "predict", "prepare",
        "pretrain-rae", "report", "saliency", "serve", "store", "submit", "transcribe", "tsne",
    }  # fmt: skip


@pytest.mark.parametrize("path", markdown_files(), ids=name_of)
def test_commands_named_in_the_text_exist(path: Path):
    for code in code_spans(path):
        match = re.match(r"s3prl-emotion ([a-z][\w-]*)", code)
        assert match is None or match[1] in parsers.COMMANDS, f"{name_of(path)}: {code}"


@pytest.mark.parametrize("path", markdown_files(), ids=name_of)
def test_python_snippets_compile(path: Path):
    for code in code_blocks(path):
        if code.language == "python":
            compile(code.text, f"{name_of(path)}:{code.line}", "exec")


TRAIN = "run_downstream.py -m train -u fbank_no_cmvn -d emotion_corr_attn -n x"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{TRAIN} --no_such_flag", "no_such_flag"),
        (f"{TRAIN} -o config.downstream_expert.modelrc.poolin=mean", "poolin: unknown key; nearest: pooling"),
        (f"{TRAIN} -o config.downstream_expert.modelrc.pooling=max", "pooling"),
        (f"{TRAIN} -c recipes/kakouros2023/none.yaml", "none.yaml"),
        (TRAIN.replace("fbank_no_cmvn", "no_such_upstream"), "no_such_upstream"),
        ("run_downstream.py -m evaluate -e result/downstream/never/dev-best.ckpt", "never"),
        ("s3prl-emotion no-such-command", "no-such-command"),
        ("s3prl-emotion predict --no_such_flag", "no_such_flag|required"),
        ("s3prl-emotion benchmark recipes/demo/none.yaml --out x", "none.yaml"),
        ("torchrun --nproc_per_node 2 -m s3prl_emotion pretrain-rae --no_such_flag", "no_such_flag|required"),
        ("make no-such-target", "no-such-target"),
        ('pip install -e ".[no_such_extra]"', "no_such_extra"),
    ],
)
def test_a_wrong_command_line_is_seen(line: str, message: str):
    with pytest.raises((AssertionError, EmotionError), match=message):
        check(shlex.split(line))


def test_overridden_values_reach_the_recipe():
    words: Any = shlex.split(f'{TRAIN} -o "config.downstream_expert.modelrc.saliency=1"')
    with pytest.raises(EmotionError, match="saliency: unknown key"):
        check(words)
