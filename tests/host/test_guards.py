"""What s3prl's upstreams read from files: literals instead of code, tensors instead of pickles."""

from __future__ import annotations

import argparse
import ast
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus

import s3prl_emotion
from s3prl_emotion import host
from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files import trust
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.trust import trusting
from s3prl_emotion.host.guards import EVALUATING
from s3prl_emotion.host.literals import kaldi_function, read_literal, read_name

s3prl_emotion.register()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[(512,10,5)] + [(512,3,2)] * 2 + [(512,2,2)]", [(512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 2, 2)]),
        ("2 * [(1, 2)]", [(1, 2), (1, 2)]),
        ("{'a': -1.5}", {"a": -1.5}),
        (" (2.0, 0.5) ", (2.0, 0.5)),
    ],
)
def test_literals_are_read_as_s3prl_would(text: str, value: Any):
    assert read_literal(text) == value == eval(text)  # noqa: S307


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()", "open('x', 'w')", "self.model", "[x for x in (1,)]", "[1] * 10**9", "'a' * 999999",
        "[1, " * 500 + "]" * 500, "(lambda: 1)()", "f'{1}'", "[1] * True", 3, None, "[(1)] + ((2,),)", "x" * 5000, "",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: Any):
    with pytest.raises(CheckpointError, match=r"^refused: .* is not a Python literal; no code in it was run$") as error:
        read_literal(text)
    assert len(str(error.value)) < 200


def test_only_names_of_filterbanks_are_functions():
    assert kaldi_function("torchaudio.compliance.kaldi.fbank").__name__ == "fbank"
    for name in ("fbank or open('x', 'w')", "torch", "fbank.__globals__"):
        with pytest.raises(CheckpointError, match="is not the name of a feature"):
            kaldi_function(f"torchaudio.compliance.kaldi.{name}")


class Task:
    """Looks names up as s3prl's tasks do."""

    def get_dev_dataloader(self) -> str:
        return "dev"

    def look_up(self, text: Any) -> Any:
        return read_name(text)


def test_recipes_of_tasks_name_classes_and_methods():
    task = Task()
    assert task.look_up("Task") is Task
    assert task.look_up("self.get_dev_dataloader")() == "dev"
    assert task.look_up("-math.inf") == float("-inf")
    for text in (
        "torch.hub.load", "exec", "__import__", "task", "self.__class__", "self.look_up.__globals__", "os", "self.x",
        "Task or open('x', 'w')", "self.get_dev_dataloader() or self.get_dev_dataloader", None,
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="in the task's recipe is not the name of a class or function"):
            task.look_up(text)


def test_no_code_runs_from_the_recipe_of_a_task(cli: Cli, superb_corpus: TinyCorpus, tmp_path: Path):
    code = f"__import__('pathlib').Path({str(tmp_path / 'marker')!r}).touch() or UtteranceLevel"
    data = {"root": str(superb_corpus.root), "meta_data": str(superb_corpus.labels), "test_fold": "fold1"}
    values = [f"config.downstream_expert.datarc.{key}={value}" for key, value in data.items()]
    words = ("-m", "train", "-d", "emotion", "-u", "fbank_no_cmvn", "-p", tmp_path / "run")
    more = f"config.downstream_expert.modelrc.select={code!r}"
    line = cli(*words, "-o", ",,".join([*values, more, "config.runner.total_steps=1"]), code=1).error
    assert "in the task's recipe is not the name of a class or function that it knows; no code in it was run" in line
    assert not (tmp_path / "marker").exists()


def test_every_string_that_s3prl_evaluates_is_its_own_or_guarded():
    import s3prl.upstream

    folder, own = Path(s3prl.upstream.__path__[0]), {"module_name", "hook.module_path"}
    found = {"s3prl.downstream.timit_phone.upstream_expert"}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if called in ("eval", "exec", "compile") and ast.unparse(node.args[0]) not in own:  # type: ignore[attr-defined]
                found.add(".".join(["s3prl.upstream", *path.relative_to(folder).with_suffix("").parts]))
    assert found == set(EVALUATING)


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return open, (self.marker, "w")


@pytest.mark.parametrize("name", ["mockingjay_local", "tera_local", "distiller_local", "apc_local", "wavlm_local"])
def test_pickles_are_refused_though_the_user_names_them(tmp_path: Path, name: str):
    marker, file = tmp_path / "marker", tmp_path / "evil.ckpt"
    torch.save({"Config": Hostile(marker)}, file)
    with pytest.raises(CheckpointError, match=rf"^{file}: refused.* objects other than tensors") as error:
        host.find_upstream(name)(ckpt=str(file), model_config=None, refresh=False)
    in_full = name in ("mockingjay_local", "tera_local", "distiller_local")
    assert ("--trust_upstream" in str(error.value)) == in_full
    assert not marker.exists()
    with trusting(upstream=True), pytest.raises(Exception):  # noqa: B017, PT011 - it holds no model
        host.find_upstream(name)(ckpt=str(file), model_config=None, refresh=False)
    assert marker.exists() == in_full


def test_only_s3prl_is_guarded(tmp_path: Path):
    torch.save({"x": argparse.ArgumentParser}, tmp_path / "own.pt")
    assert torch.load(tmp_path / "own.pt", weights_only=False)["x"] is argparse.ArgumentParser


def test_below_torch_2_6_only_own_files_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from s3prl.upstream.apc import expert

    args = argparse.Namespace(downstream="emotion_corr_attn", upstream="fbank")
    torch.save({"Args": args, "Config": {}}, tmp_path / "a.ckpt")
    me = os.getuid()
    monkeypatch.setattr(trust, "_torch_version", lambda: (2, 6))
    load_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    load_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(trust, "_torch_version", lambda: (2, 5))
    with pytest.raises(CheckpointError, match=r"another user wrote it, and torch .* or pass --trust_checkpoint"):
        load_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"another user wrote it, and torch .* or pass --trust_upstream"):
        expert.UpstreamExpert(str(tmp_path / "a.ckpt"))
    with trusting(checkpoint=True):
        load_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(os, "getuid", lambda: me)
    load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.full
def test_models_of_s3prl_load_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from s3prl.util import download
    from stand_ins import _save_s3prl

    _save_s3prl(tmp_path)
    monkeypatch.setattr(download, "_download_dir", tmp_path / ".cache" / "s3prl" / "download")
    for name in ("wavlm_large", "hubert_large_ll60k", "wav2vec2_large_ll60k"):
        model = host.find_upstream(name)(ckpt=None, model_config=None, refresh=False).eval()
        with torch.no_grad():
            assert model([torch.zeros(4000)])["hidden_states"][0].shape[1] == 12
