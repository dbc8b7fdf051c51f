"""A checkpoint brings back no upstream whose files can run code, and none but the one that it was trained with."""

from __future__ import annotations

import hashlib
import json
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from conftest import RATE, Cli, TinyCorpus, tone
from hub_settings import set_hub
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_hubert

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.errors import CheckpointError, EmotionError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.upstreams.kept_identity import KEY, compare

CODE = "__import__('pathlib').Path({marker!r}).touch() or [(8, 10, 5)]"
HUBERT = ("-u", "hf_speech_custom", "-k")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two experiments and the audio are kept from one test to the next."""
    folder = tmp_path_factory.mktemp("shelf")
    soundfile.write(folder / "a.wav", tone(200.0, 0.5, 1), RATE)
    return folder


@pytest.fixture
def fbank(cli: Cli, shelf: Path, tiny_corpus: TinyCorpus) -> Path:
    """Best checkpoint of a head on filterbanks."""
    folder = shelf / "fbank"
    if not folder.exists():
        words = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", folder, "-o", tiny_corpus.overrides())
        cli("-m", "train", *words)
    return folder / "dev-best.ckpt"


@pytest.fixture
def hubert(cli: Cli, shelf: Path, tiny_corpus: TinyCorpus) -> Iterator[Path]:
    """Best checkpoint of a head on a small HuBERT, whose folder ``model`` is restored after the test."""
    folder, kept = shelf / "hubert", shelf / "kept"
    if not folder.exists():
        save_tiny_hubert(kept)
        shutil.copytree(kept, shelf / "model")
        words = (*HUBERT, shelf / "model", "-d", "emotion_corr_attn", "-p", folder, "-o", tiny_corpus.overrides())
        cli("-m", "train", *words)
    yield folder / "dev-best.ckpt"
    shutil.rmtree(shelf / "model")
    shutil.copytree(kept, shelf / "model")


Predict = Callable[..., tuple[str, str]]


@pytest.fixture
def predict(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Predict:
    """``s3prl-emotion predict`` inside this process; returns its output, and what it logs with its error."""
    caplog.set_level("INFO")

    def call(*words: object, code: int = 0) -> tuple[str, str]:
        capfd.readouterr()
        caplog.clear()
        got, (out, err) = suite.main(["predict", *map(str, words)]), capfd.readouterr()
        assert got == code, err
        return out, "\n".join([*caplog.messages, *err.splitlines()])

    return call


# --- files that run code ----------------------------------------------------------------------------------------------


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return open, (self.marker, "w")


def hostile_arguments(name: str, folder: Path, marker: Path) -> dict[str, Any]:
    """Write a file that runs code where an upstream reads it, and return the arguments that name it."""
    code, file = CODE.format(marker=str(marker)), folder / "evil.ckpt"
    if name == "baseline_local":
        config = {"kaldi": {"feat_type": f"fbank and {code}", "fbank": {}}, "delta": {}, "cmvn": {"use_cmvn": False}}
        (folder / "evil.yaml").write_text(yaml.safe_dump(config))
        return {"upstream_model_config": str(folder / "evil.yaml")}
    plain = {"cfg": {"conv_feature_layers": code, "extractor_mode": "default"}, "model": {}}
    torch.save(plain if name == "wavlm_local" else {"Config": Hostile(marker)}, file)
    return {"upstream_ckpt": file.as_uri() if name.endswith("_url") else str(file)}


HOSTILE = ["mockingjay_url", "mockingjay_local", "distiller_url", "baseline_local", "wavlm_local"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_code_runs_from_a_checkpoint(
    cli: Cli, predict: Predict, fbank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Path, name: str
):
    from s3prl.util import download

    monkeypatch.setattr(download, "_download_dir", tmp_path / "downloads")
    marker, ckpt, audio = tmp_path / "marker", tmp_path / "evil" / "dev-best.ckpt", shelf / "a.wav"
    ckpt.parent.mkdir()
    state = load_checkpoint(fbank)
    state.pop(KEY, None)
    changes = hostile_arguments(name, tmp_path, marker)
    state["Args"] = Namespace(**vars(state["Args"]) | {"upstream": name, "trust_upstream": True} | changes)
    torch.save(state, ckpt)
    outcomes = {
        "evaluate": cli("-m", "evaluate", "-e", ckpt, "-t", "test", code=1).error,
        "inference": cli("-m", "inference", "-e", ckpt, "-t", audio, code=1).error,
        "predict": predict("--ckpt", ckpt, audio, code=1)[1].splitlines()[-1],
    }
    with pytest.raises(CheckpointError) as error:  # what serve calls
        s3prl_emotion.load(ckpt)
    outcomes["load"] = str(error.value)
    assert not marker.exists()
    flag, value = next(iter(changes.items()))
    flag = {"upstream_ckpt": "-k", "upstream_model_config": "-g"}[flag]
    for line in outcomes.values():
        assert f"its upstream {name} reads files that the checkpoint names ({flag} {value})" in line, outcomes
    words = ("-u", name, flag, value)  # named by the user: read, as literals and tensors alone
    named = [predict("--ckpt", ckpt, audio, *words, code=1)[1], cli("-m", "evaluate", "-e", ckpt, *words, code=1).err]
    assert all("no code in it was run" in text for text in named), named
    assert all(("--trust_upstream" in text) == name.startswith(("mock", "dist")) for text in named)
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {
            "upstream": "concat",
            "upstream_model_config": {"upstreams": [{"name": "mockingjay_local", "ckpt": "evil"}] * 2},
        },
        {"upstream": "hf_speech_custom", "upstream_ckpt": "some/model"},  # whatever the hub has today
        {"upstream": "fbank_no_cmvn", "upstream_ckpt": "evil.ckpt"},
        {"hub": "huggingface"},
    ],
)
def test_what_a_checkpoint_cannot_choose(cli: Cli, fbank: Path, tmp_path: Path, changes: dict[str, Any]):
    state = load_checkpoint(fbank)
    state["Args"] = Namespace(**vars(state["Args"]) | changes)
    torch.save(state, tmp_path / "evil.ckpt")
    line = cli("-m", "evaluate", "-e", tmp_path / "evil.ckpt", code=1).error
    assert "yourself" in line


# --- another upstream -------------------------------------------------------------------------------------------------


def disturb(model: Path) -> None:
    """Export other weights to the same folder."""
    file = model / "model.safetensors"
    weights = load_file(file)
    save_file({name: value + 0.01 for name, value in weights.items()}, file, metadata={"format": "pt"})


@pytest.mark.full
def test_other_weights_under_the_same_name(cli: Cli, predict: Predict, hubert: Path, shelf: Path, tmp_path: Path):
    run, audio = tmp_path / "run", shelf / "a.wav"
    ckpt = shutil.copytree(hubert.parent, run) / "dev-best.ckpt"
    before = predict("--ckpt", ckpt, audio, "--format", "jsonl")[0]
    assert "note" not in json.loads(before)
    disturb(shelf / "model")
    given = (*HUBERT, shelf / "model", "-d", "emotion_corr_attn", "-p", run, "-o", "config.runner.total_steps=9")
    lines = [
        predict("--ckpt", ckpt, audio, code=1)[1].splitlines()[-1],
        cli("-m", "evaluate", "-e", ckpt, code=1).error,
        cli("-m", "inference", "-e", ckpt, "-t", audio, code=1).error,
        cli("-m", "train", "-a", *given, code=1).error,
    ]
    with pytest.raises(CheckpointError) as error:
        s3prl_emotion.load(ckpt)
    for line in [*lines, str(error.value)]:
        assert ".ckpt: was trained with another upstream: weights " in line
        assert "or --allow_other_upstream to use this one all the same" in line
    out, err = predict("--ckpt", ckpt, audio, "--format", "jsonl", "--allow_other_upstream")
    note = json.loads(out)["note"]
    assert note.startswith("upstream: another than in training: weights ")
    assert "was trained with another upstream: weights" in err
    assert predict("--ckpt", ckpt, audio, "--allow_other_upstream")[0].splitlines()[0].endswith(",error,warning,note")
    assert s3prl_emotion.load(ckpt, allow_other_upstream=True).about.notes == (note,)
    cli("-m", "evaluate", "-e", ckpt, "--allow_other_upstream")
    metrics = json.loads(next(run.glob("test_*_metrics.json")).read_text())
    assert metrics["upstream_check"] == note.removeprefix("upstream: ")
    cli("-m", "train", "-a", *given, "--allow_other_upstream")
    assert json.loads(predict("--ckpt", run / "states-9.ckpt", audio, "--format", "jsonl")[0])["note"] == note


def test_initial_weights_are_checked_too(cli: Cli, fbank: Path, tiny_corpus: TinyCorpus, tmp_path: Path):
    words = ("-m", "evaluate", "-i", fbank, "-d", "emotion_corr_attn", "-p", tmp_path / "x")
    more = ("-o", tiny_corpus.overrides())
    cli(*words, "-u", "fbank_no_cmvn", *more)
    line = cli(*words, "-u", "fbank", *more, code=1).error
    assert f"{fbank}: was trained with another upstream: upstream fbank_no_cmvn (here fbank); give the same" in line


def test_the_same_weights_elsewhere(predict: Predict, hubert: Path, shelf: Path, tmp_path: Path):
    shutil.copytree(shelf / "model", tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a copy")
    audio, half = shelf / "a.wav", tmp_path / "half.yaml"
    moved = predict("--ckpt", hubert, audio, *HUBERT, tmp_path / "copy")[0]
    assert moved == predict("--ckpt", hubert, audio)[0]
    half.write_text("precision: bfloat16")
    err = predict("--ckpt", hubert, audio, *HUBERT, tmp_path / "copy", "-g", half, code=1)[1]
    assert "options precision float32 (here bfloat16)" in err


def test_older_checkpoints_and_damaged_records(predict: Predict, fbank: Path, shelf: Path, tmp_path: Path):
    state, audio = load_checkpoint(fbank), shelf / "a.wav"
    before = predict("--ckpt", fbank, audio)[0]
    for record in ("[" * 5000, "[]", "{", 3, ["x"], json.dumps({"upstream": 1}), "x" * (1 << 21)):
        torch.save({**state, KEY: record}, tmp_path / "damaged.ckpt")
        assert (
            "its record of the upstream (UpstreamIdentity) is damaged"
            in predict("--ckpt", tmp_path / "damaged.ckpt", audio, code=1)[1]
        )
    del state[KEY]
    torch.save(state, tmp_path / "old.ckpt")
    out, err = predict("--ckpt", tmp_path / "old.ckpt", audio)
    assert out == before
    assert "old.ckpt: the upstream that it was trained with is not known: not checked" in err


def test_versions_and_code_of_the_suite_are_warnings(predict: Predict, fbank: Path, shelf: Path, tmp_path: Path):
    state = load_checkpoint(fbank)
    record = json.loads(state[KEY])
    older = {
        **record,
        "versions": record["versions"] | {"torch": "1.0"},
        "code": {"suite": "0" * 32, "s3prl": "1" * 32},
    }
    older["versions"]["s3prl"] = "0.4.17"
    torch.save({**state, KEY: json.dumps(older)}, tmp_path / "older.ckpt")
    out, err = predict("--ckpt", tmp_path / "older.ckpt", shelf / "a.wav")
    assert out == predict("--ckpt", fbank, shelf / "a.wav")[0]
    assert "older.ckpt: was trained with other versions: s3prl 0.4.17 (here " in err
    plugged = {**record, "origin": "plugged in"}
    for name, theirs, here in (
        ("code (plugged in) aaaa (here bbbb)", {"code": {"plugged in": "aaaa"}}, {"code": {"plugged in": "bbbb"}}),
        ("content of -k aaaa (here bbbb)", {"checkpoint": "aaaa"}, {"checkpoint": "bbbb"}),
        ("options (-g) aaaa (here None)", {"config": "aaaa"}, {"config": None}),
        ("options window 1 (here 2)", {"options": {"window": 1}}, {"options": {"window": 2}}),
        ("layer 3 (here None)", {"layer": 3}, {}),
    ):
        assert compare({**plugged, **theirs}, {**plugged, **here}).refused == [name]
    library = compare({**record, "options": {"opensmile": "2.5"}}, {**record, "options": {"opensmile": "2.6"}})
    assert (library.refused, library.warned) == ([], ["options opensmile 2.5 (here 2.6)"])
    assert compare({**record, "code": {"s3prl": "other"}}, record).refused, "s3prl changed under the same version"


# --- models of the hub ------------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_comes_back_at_its_commit(
    cli: Cli, predict: Predict, shelf: Path, tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    set_hub(monkeypatch, HF_HUB_CACHE=str(tmp_path / "hub"))
    first, second = (hashlib.sha1(word, usedforsecurity=False).hexdigest() for word in (b"first", b"second"))
    folder = tmp_path / "hub" / "models--org--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(first)
    save_tiny_hubert(folder / "snapshots" / first)
    words = (*HUBERT, "org/tiny", "-d", "emotion_corr_attn", "-p", tmp_path / "run", "-o", tiny_corpus.overrides())
    cli("-m", "train", *words)
    ckpt, audio = tmp_path / "run" / "dev-best.ckpt", shelf / "a.wav"
    before, err = predict("--ckpt", ckpt, audio)
    assert "its upstream is -u hf_speech_custom -k org/tiny, as the checkpoint says" in err
    assert f"org/tiny is read at revision {first}, and fetched if it is not in the cache" in err
    shutil.copytree(folder / "snapshots" / first, folder / "snapshots" / second)
    disturb(folder / "snapshots" / second)
    (folder / "refs" / "main").write_text(second)
    assert predict("--ckpt", ckpt, audio)[0] == before
    options = tmp_path / "main.yaml"
    options.write_text("revision: main")
    other = (
        rf"another upstream: weights .*, revision of org/tiny {first} \(here {second}; give 'revision: {first}' in -g"
    )
    with pytest.raises(EmotionError, match=other):
        s3prl_emotion.load(ckpt, upstream_model_config=str(options))
