"""A size that no model has is one line, before memory is asked for: in configs of models, recipes and options."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic.fields import FieldInfo
from tiny_models import save_tiny_hubert

import s3prl_emotion
from s3prl_emotion import host
from s3prl_emotion.errors import EmotionError
from s3prl_emotion.files.folders import heads
from s3prl_emotion.recipe import DataSection, FinetuningSection, StrictSection

s3prl_emotion.register()
DATA = {"labels": "demo", "train_batch_size": 1, "eval_batch_size": 1}
ANY_NUMBER = {
    "seed", "layer", "components", "train_batch_size", "eval_batch_size", "min_utterances", "num_folds", "fold_seed",
    "channel", "warm_up",
}  # fmt: skip


@pytest.mark.parametrize(("key", "size"), [("num_hidden_layers", 10**9), ("num_hidden_layers", -1),
                                           ("hidden_size", 10**9), ("intermediate_size", 10**12)])  # fmt: skip
def test_config_of_a_model(tmp_path: Path, key: str, size: int) -> None:
    folder = save_tiny_hubert(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: size}))
    with pytest.raises(EmotionError, match=rf"-k .*model: config.json: {key}: must be between .*, got {size}"):
        host.find_upstream("hf_speech_custom")(ckpt=str(folder))
    with pytest.raises(EmotionError, match=rf"config: {key}: must be between .*, got {size}"):
        host.find_upstream("hf_speech_random")(model_config={"family": "hubert", "config": {key: size}})


def test_config_of_absurd_depth(tmp_path: Path) -> None:
    folder = save_tiny_hubert(tmp_path / "model")
    (folder / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(EmotionError, match=r"config\.json is not readable as JSON"):
        host.find_upstream("hf_speech_custom")(ckpt=str(folder))


@pytest.mark.parametrize("layers", [10**9, -1])
def test_checkpoint_of_an_upstream_of_s3prl(tmp_path: Path, layers: int) -> None:
    path = tmp_path / "wavlm.pt"
    torch.save({"cfg": {"encoder_layers": layers}, "model": {}}, path)
    with pytest.raises(EmotionError, match=rf"wavlm.pt: refused, .* cfg.encoder_layers: must be .*, got {layers}"):
        host.find_upstream("wavlm_local")(ckpt=str(path))


def sections() -> Iterator[tuple[str, type[StrictSection]]]:
    for head in heads():
        yield head, vars(importlib.import_module(f"s3prl.downstream.{head}.expert"))["ModelSection"]
    for module, name in (
        ("s3prl.upstream.rae.model", "AutoencoderSection"),
        ("s3prl.upstream.rae.spectrogram", "SpectrogramSection"),
        ("s3prl.upstream.mel_f0.expert", "MelF0Section"),
        ("s3prl_emotion.upstreams.filterbank", "FilterbankSection"),
    ):
        yield name, vars(importlib.import_module(module))[name]
    yield "datarc", DataSection
    yield "upstream", FinetuningSection


def is_size(name: str, field: FieldInfo) -> bool:
    return re.search(r"\bint\b", str(field.annotation)) is not None and name not in ANY_NUMBER


SECTIONS = dict(sections())


@pytest.mark.parametrize("name", SECTIONS)
def test_every_size_has_a_limit(name: str) -> None:
    """A new key for a size needs one as well, or a place in ANY_NUMBER."""
    section, required = SECTIONS[name], {"datarc": DATA, "upstream": {"trainable": "lora"}}.get(name, {})
    for key, field in section.model_fields.items():
        if is_size(key, field) and "list" not in str(field.annotation):
            for size in (10**9, -1):
                with pytest.raises(EmotionError, match=rf"^x\.{key}: Input should be (less|greater) than or equal"):
                    section.read({**required, key: size}, "x")
