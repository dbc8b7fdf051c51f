"""``s3prl-emotion pack``, and packed heads in every entry: folders, ids on the hub, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import RATE, Cli, Outcome, TinyCorpus, tone, write_graded_corpus, write_tiny_corpus
from hub_settings import close_sessions, set_hub
from hub_stand_in import TOKEN, Hub, running_hub
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_whisper

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.errors import AudioError, CheckpointError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.pack.card import write_card
from s3prl_emotion.predict import Prediction

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
GRU = {"conv_channels": 8, "gru_dim": 8, "embedding_dim": 8}
FBANK = ("-u", "fbank_no_cmvn")
QUICK = {"runner.total_steps": 2, "runner.log_step": 2, "runner.eval_step": 2, "runner.save_step": 2}
# name -> upstream's words, head, corpus, modelrc, more of the recipe
SYSTEMS: dict[str, tuple[tuple[str, ...], str, Any, dict[str, object], dict[str, object]]] = {
    "corr_attn": (FBANK, "emotion_corr_attn", write_tiny_corpus, {"projector_dim": 8}, {}),
    "whisper": (
        ("-u", "hf_speech_custom", "-k", "MODEL", "-g", "OPTIONS"),
        "emotion_corr_attn", write_tiny_corpus, {"pooling": "mean"}, {},
    ),
    "finetuned": (
        ("-u", "hf_speech_custom", "-k", "MODEL", "-g", "OPTIONS", "-f"),
        "emotion_corr_attn", write_tiny_corpus, {"pooling": "mean"}, {},
    ),
    "tcgru": (FBANK, "emotion_tcgru", write_graded_corpus, GRU, {}),
    "multitask": (
        FBANK, "emotion_multitask", write_graded_corpus, GRU,
        {f"{DATA}.distribution": {"source": "consensus"}, f"{DATA}.classes": ["ang", "sad"]},
    ),
    "acnn": (
        ("-u", "logmel26"), "emotion_acnn", write_tiny_corpus,
        {"filters": 8, "pool": 4, "alpha": 0, "beta": 0, "max_length": None},
        {f"{DATA}.classes": ["ang", "hap", "neu", "sad"]},
    ),
    "latent": (
        FBANK, "emotion_latent", write_graded_corpus, {},
        {f"{DATA}.classes": ["ang", "sad"], f"{DATA}.train_batch_size": 12},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where heads and corpora are kept from one test to the next, and audio that no head was trained on."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "audio").mkdir()
    for number, seconds in enumerate([0.5, 0.9]):
        soundfile.write(folder / f"audio/{number}.wav", tone(150.0 * (number + 1), seconds, number), RATE)
    (folder / "options.yaml").write_text("window: audio\n")
    return folder


Trained = Callable[[str], Path]
Command = Callable[..., Outcome]


@pytest.fixture
def trained(cli: Cli, shelf: Path) -> Trained:
    """The best checkpoint of a system of ``SYSTEMS``."""

    def train(name: str) -> Path:
        folder = shelf / name
        if not (folder / "dev-best.ckpt").exists():
            upstream, head, write, modelrc, more = SYSTEMS[name]
            if "-k" in upstream and not (shelf / "model").exists():
                save_tiny_whisper(shelf / "model")
            places = {"MODEL": str(shelf / "model"), "OPTIONS": str(shelf / "options.yaml")}
            corpus: TinyCorpus = corpus_of(shelf, write)
            values = QUICK | {f"{MODEL}.{key}": value for key, value in modelrc.items()} | more
            old = {f"{MODEL}.{key}" for key in type(corpus).modelrc} - set(values)
            parts = corpus.overrides(**values).split(",,")
            text = ",,".join(part for part in parts if part.partition("=")[0].removeprefix("config.") not in old)
            cli("-m", "train", *(places.get(word, word) for word in upstream), "-d", head, "-p", folder, "-o", text)
        return folder / "dev-best.ckpt"

    return train


def corpus_of(shelf: Path, write: Any) -> TinyCorpus:
    """A corpus on the shelf, which is written once."""
    folder = shelf / write.__name__
    if folder.exists():
        return TinyCorpus(folder / "audio", folder / "labels.csv")
    return write(folder)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """``s3prl-emotion`` inside this process."""

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = suite.main([str(word) for word in words])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    return call


@pytest.fixture
def packed(trained: Trained, command: Command, shelf: Path, tmp_path: Path) -> Trained:
    """A copy of the packed head of a system, which the test may change."""

    def pack(name: str) -> Path:
        kept = shelf / f"{name}_packed"
        if not kept.exists():
            command("pack", trained(name), kept, "--license", "cc-by-4.0")
        shutil.copytree(kept, tmp_path / name)
        return tmp_path / name

    return pack


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine, an empty cache for it, and no token."""
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        cache, token = str(tmp_path / "cache"), str(tmp_path / "token")
        set_hub(monkeypatch, HF_HUB_OFFLINE=False, HF_HUB_CACHE=cache, HF_TOKEN_PATH=token)
        yield running
        close_sessions()


def predictions(command: Command, ckpt: object, shelf: Path, *more: object) -> Any:
    """What ``predict`` says of the audio on the shelf, to the last digit."""
    out = shelf / "predictions.json"
    command("predict", "--ckpt", ckpt, shelf / "audio", "--out", out, *more)
    return json.loads(out.read_text())["predictions"]


def edit(folder: Path, **changes: Any) -> None:
    """Change entries of a packed head's ``config.yaml``."""
    values = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(values | changes, sort_keys=False))


# --- the same head ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["corr_attn", *(pytest.param(name, marks=pytest.mark.full) for name in ("tcgru", "multitask", "acnn", "latent"))],
)
def test_every_head_predicts_the_same_packed_to_the_last_digit(
    name: str, trained: Trained, packed: Trained, shelf: Path
):
    files = sorted((shelf / "audio").iterdir())
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in files]
    one, other = (s3prl_emotion.load(head) for head in (trained(name), packed(name)))
    assert one.predict_batch(waveforms) == other.predict_batch(waveforms)
    assert (one.classes, one.dimensions, one.label_moments) == (other.classes, other.dimensions, other.label_moments)


def test_a_folder_has_no_pickle_no_path_and_no_name_of_the_corpus(packed: Trained, shelf: Path):
    folder = packed("corr_attn")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {
        "README.md", "config.yaml", "head.safetensors", "featurizer.safetensors", "seen.safetensors",
    }  # fmt: skip
    for name, content in files.items():
        for word in (str(shelf), "s0_ang", ".wav"):
            assert word.encode() not in content.replace(b"speech.wav", b""), (name, word)
    config = yaml.safe_load(files["config.yaml"])
    assert config["head"] == "emotion_corr_attn"
    assert config["classes"] == ["ang", "hap", "neu", "sad"]
    assert config["data"] | {"name": "", "fold_seed": 0} == {
        "name": "", "fold": "fold1", "num_folds": 5, "fold_seed": 0, "protocol": "speaker_disjoint",
        "utterances": {"train": 24, "dev": 8}, "speakers_in_train_and_dev": 4,
    }  # fmt: skip
    assert config["recipe"]["downstream_expert"]["datarc"]["root"] == "audio"
    test = next(part for part in config["metrics"] if part["split"] == "test")
    metrics = json.loads((shelf / "corr_attn/test_fold1_metrics.json").read_text())
    assert test["scores"]["UAR"]["value"] == metrics["UAR"]
    assert any("too few for an interval" in note for note in test["notes"])


def test_the_card_is_one_that_the_hub_reads(trained: Trained, packed: Trained):
    from huggingface_hub import ModelCard

    card = ModelCard.load(packed("corr_attn") / "README.md", ignore_metadata_errors=False)
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "s3prl-emotion")
    assert card.data.pipeline_tag == "audio-classification"
    found = {(item.dataset_split, item.metric_name, item.metric_type) for item in card.data.eval_results}
    assert {("test", "UA (UAR)", "recall"), ("test", "WA", "accuracy")} <= found
    assert all(split == "test" for split, _, _ in found)  # the checkpoint was chosen on dev
    assert "Intended use and limits" in card.text


def test_the_cards_commands_name_a_local_upstream(packed: Trained):
    values = yaml.safe_load((packed("corr_attn") / "config.yaml").read_text())
    card = write_card(values, "me/head", "mit")
    assert "predict --ckpt me/head speech.wav" in card
    assert 'load("me/head")' in card
    values["upstream"] |= {"checkpoint": "my models/whisper", "revision": None}
    card = write_card(values, "me/head", "mit")
    assert "predict --ckpt me/head -k 'my models/whisper' speech.wav" in card
    assert 'load("me/head", upstream_ckpt="my models/whisper")' in card
    values["upstream"] |= {"checkpoint": "openai/whisper-base", "revision": "0123456789" * 4}
    assert "predict --ckpt me/head speech.wav" in write_card(values, "me/head", "mit")


def test_intervals_over_speakers_stand_in_config_and_card(
    trained: Trained, command: Command, tmp_path: Path, shelf: Path
):
    from huggingface_hub import ModelCard

    copy = tmp_path / "copy"
    shutil.copytree(trained("corr_attn").parent, copy)
    for path in copy.glob("test_fold1_*"):  # of six speakers
        path.unlink()
    rows = [f"{n}.wav,s{n % 6},Female,{'ang' if n % 2 else 'sad'},{'ang' if n % 3 else 'sad'}" for n in range(36)]
    header = "FileName,SpkrID,Gender,truth,prediction"
    (copy / "test_other_fold1_predictions.csv").write_text("\n".join([header, *rows]) + "\n")
    metrics = json.loads((shelf / "corr_attn/test_fold1_metrics.json").read_text())
    (copy / "test_other_fold1_metrics.json").write_text(json.dumps(metrics | {"split": "test_other"}))
    command("pack", copy, tmp_path / "out", "--license", "mit", "--dataset", "Six speakers")
    part = next(
        part for part in yaml.safe_load((tmp_path / "out/config.yaml").read_text())["metrics"]
        if part["split"] == "test_other"
    )  # fmt: skip
    assert 0 <= part["scores"]["UAR"]["low"] < part["scores"]["UAR"]["high"] <= 1
    results = ModelCard.load(tmp_path / "out/README.md").data.eval_results
    arguments = next(item.metric_args for item in results if item.metric_name == "UA (UAR)")
    assert arguments["interval"] == [round(part["scores"]["UAR"][end], 6) for end in ("low", "high")]


def test_results_of_another_checkpoint_are_not_its_scores(
    trained: Trained, command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    copy = tmp_path / "copy"
    shutil.copytree(trained("corr_attn").parent, copy)
    for path in copy.glob("*_metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 1}))
    command("pack", copy, tmp_path / "out", "--license", "mit")
    assert "no results of its evaluation lie beside it" in caplog.text
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["metrics"] == []


@pytest.mark.full
def test_training_data_is_left_out_of_latent_heads_which_are_evaluated_all_the_same(
    cli: Cli, trained: Trained, packed: Trained, shelf: Path
):
    folder, checkpoint = packed("latent"), trained("latent")
    weights = load_file(folder / "head.safetensors")
    assert not weights["model.sample"].any()
    assert (weights["model.sample_classes"] < 0).all()
    cli("-m", "evaluate", "-e", checkpoint, "-p", "one", "-t", "test")
    corpus = corpus_of(shelf, write_graded_corpus)
    places = ",,".join(f"config.{DATA}.{key}='{getattr(corpus, key)}'" for key in ("root", "labels"))
    cli("-m", "evaluate", "-e", folder, "-p", "two", "-t", "test", "-o", places)
    assert Path("one/test_fold1_latent.png").is_file()
    assert not Path("two/test_fold1_latent.png").exists()  # training latents are what it would show the others beside
    one, two = (json.loads(Path(name, "test_fold1_metrics.json").read_text()) for name in ("one", "two"))
    assert [one[name] for name in ("UAR", "WA", "latent")] == [two[name] for name in ("UAR", "WA", "latent")]


def test_evaluate_takes_a_packed_head_and_asks_for_the_corpus(cli: Cli, trained: Trained, packed: Trained, shelf: Path):
    folder = packed("corr_attn")
    before = sorted(path.name for path in folder.iterdir())
    error = cli("-m", "evaluate", "-e", folder, "-t", "test", code=1).error
    assert "does not know where your corpus is: -o config.downstream_expert.datarc.labels=FILE" in error
    assert not Path("result").exists()
    corpus = corpus_of(shelf, write_tiny_corpus)
    places = ",,".join(f"config.{DATA}.{key}='{getattr(corpus, key)}'" for key in ("root", "labels"))
    cli("-m", "evaluate", "-e", folder, "-t", "test", "-o", places)
    result = next(Path("result/downstream").glob("emotion_corr_attn_*"))  # never into the packed folder
    for name in ("test_fold1_predictions.csv", "test_fold1_predict.txt"):
        assert (result / name).read_bytes() == (shelf / "corr_attn" / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == before
    error = cli("-m", "train", "-e", folder, "-o", places, code=1).error
    assert "a packed head has no state of a training to resume; start from its weights with -i" in error


def test_a_training_starts_from_the_weights_of_a_packed_head(cli: Cli, packed: Trained, shelf: Path):
    folder, corpus = packed("corr_attn"), corpus_of(shelf, write_tiny_corpus)
    places = ",,".join(f"config.{DATA}.{key}='{getattr(corpus, key)}'" for key in ("root", "labels"))
    words = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", "started", "-i", folder)
    quick = ",,".join(f"config.{key}={value}" for key, value in QUICK.items())
    small = f"config.{MODEL}.projector_dim=8,,config.{DATA}.train_batch_size=4"
    cli(
        "-m", "train", *words, "-o", f"{places},,{quick},,{small},,config.optimizer.lr=0.0,,config.runner.total_steps=4"
    )
    weights = load_checkpoint("started/dev-best.ckpt")["Downstream"]
    assert torch.equal(
        weights["model.classifier.weight"], load_file(folder / "head.safetensors")["model.classifier.weight"]
    )


@pytest.mark.full
def test_a_local_upstream_is_named_by_the_user_and_its_options_come_with_the_head(
    trained: Trained, packed: Trained, command: Command, shelf: Path, tmp_path: Path
):
    folder, model = packed("whisper"), ("-k", shelf / "model")
    assert (folder / "upstream.yaml").read_text() == "window: audio\n"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["upstream"]["checkpoint"] == "model"
    here = predictions(command, trained("whisper"), shelf, "-g", shelf / "options.yaml")
    assert predictions(command, folder, shelf, *model) == here
    outcome = command("predict", "--ckpt", folder, shelf / "audio", code=1)
    assert "was a local file or folder in training, model; name your copy of it with -k" in outcome.err
    save_tiny_whisper(tmp_path / "other", encoder_ffn_dim=32)
    outcome = command("predict", "--ckpt", folder, "-k", tmp_path / "other", shelf / "audio", code=1)
    assert f"{folder}: was trained with another upstream: weights" in outcome.err


@pytest.mark.full
def test_a_finetuned_upstream_is_packed_too(trained: Trained, packed: Trained, command: Command, shelf: Path):
    folder, model = packed("finetuned"), ("-k", shelf / "model")
    assert (folder / "upstream.safetensors").is_file()
    here = predictions(command, trained("finetuned"), shelf, "-g", shelf / "options.yaml")
    assert predictions(command, folder, shelf, *model) == here


@pytest.mark.full
def test_options_that_may_name_files_are_never_taken_from_a_packed_head(packed: Trained, command: Command, shelf: Path):
    folder = packed("whisper")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit(folder, arguments=config["arguments"] | {"upstream": "concat", "upstream_ckpt": None})
    outcome = command("predict", "--ckpt", folder, shelf / "audio", code=1)
    assert "reads files that the checkpoint names (-g" in outcome.err


def test_an_upstream_in_the_hubs_cache_is_an_id_at_a_commit():
    from s3prl_emotion.pack.description import _upstream, portable

    commit = "0123456789" * 4
    place = f"/home/me/.cache/huggingface/hub/models--openai--whisper-base/snapshots/{commit}"
    assert _upstream(place, {}, None) == ("openai/whisper-base", commit)
    assert _upstream("openai/whisper-base", {"openai/whisper-base": commit}, None) == ("openai/whisper-base", commit)
    assert _upstream("/data/models/mine", {}, None) == ("mine", None)
    assert _upstream("models/mine", {}, None) == ("models/mine", None)
    assert _upstream("/data/models/mine", {}, f"me/mine@{commit}") == ("me/mine", commit)
    assert portable({"a": ["/home/me/x.csv", "emodb/x.csv", "~/y", 3]}) == {"a": ["x.csv", "emodb/x.csv", "y", 3]}


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_changed_weight_is_refused(packed: Trained, command: Command, shelf: Path):
    folder = packed("corr_attn")
    weights = load_file(folder / "head.safetensors")
    weights["model.classifier.bias"] += 1
    save_file(weights, folder / "head.safetensors")
    outcome = command("predict", "--ckpt", folder, shelf / "audio", code=1)
    assert "head.safetensors: missing, damaged or changed (its SHA-256 is not that in config.yaml)" in outcome.err
    (folder / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head\.safetensors: missing, damaged or changed"):
        s3prl_emotion.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, this version reads up to 1; upgrade s3prl-emotion"),
        ({"kind": "recipe"}, "holds no dev-best.ckpt; name a checkpoint file, or a folder that pack wrote"),
        ({"files": {}}, "names no head.safetensors among its files"),
        ({"files": {"../head.safetensors": "0"}}, "missing, damaged or changed"),
        ({"recipe": 3}, "recipe: must be a mapping, got 3"),
        ({"step": -1}, "step: must be a whole number from 0, got -1"),
    ],
)
def test_a_config_of_another_kind_is_one_line(
    packed: Trained, command: Command, shelf: Path, changes: dict[str, Any], message: str
):
    folder = packed("corr_attn")
    edit(folder, **changes)
    assert message in command("predict", "--ckpt", folder, shelf / "audio", code=1).err


def test_a_head_that_is_not_installed_is_named(packed: Trained, cli: Cli, command: Command, shelf: Path):
    folder = packed("corr_attn")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit(folder, arguments=config["arguments"] | {"downstream": "emotion_of_others"})
    outcome = command("predict", "--ckpt", folder, shelf / "audio", code=1)
    assert "is a checkpoint of -d emotion_of_others, not of one of the heads" in outcome.err
    assert "emotion_of_others" in cli("-m", "evaluate", "-e", folder, "-t", "test", code=1).error


def test_what_cannot_be_packed_is_one_line(trained: Trained, packed: Trained, command: Command, tmp_path: Path):
    checkpoint, out = trained("corr_attn"), tmp_path / "out"
    for words, message in (
        ((checkpoint, out), "--license is required: whoever loads the weights has to know it"),
        ((checkpoint, out, "--license", "cc-by-4"), "the hub knows no such identifier; nearest: cc-by-4.0"),
        ((checkpoint, checkpoint.parent, "--license", "mit"), "exists; name another folder"),
        ((tmp_path / "none.ckpt", out, "--license", "mit"), "none.ckpt: no such checkpoint"),
        ((packed("corr_attn"), out, "--license", "mit"), "is packed already"),
        ((checkpoint, out, "--license", "mit", "--private"), "--private is for --push"),
        ((checkpoint, out, "--license", "mit", "--base_model", "a/b@main"), "write OWNER/NAME, or OWNER/NAME@COMMIT"),
    ):  # fmt: skip
        assert message in command("pack", *words, code=1).err
        assert not out.exists()


# --- the hub ---------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_head_is_pushed_and_loaded_by_its_id(
    trained: Trained, command: Command, shelf: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, cli: Cli
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = (trained("corr_attn"), tmp_path / "out", "--license", "mit", "--push", "me/head")
    command("pack", *words, "--private")
    commit, files = hub.files("me/head") or ("", {})
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "me/head" in hub.private
    here = predictions(command, trained("corr_attn"), shelf)
    assert predictions(command, "me/head", shelf) == here
    assert predictions(command, f"me/head@{commit}", shelf) == here
    pipe = s3prl_emotion.load("me/head")
    assert pipe.about.checkpoint == "me/head"
    corpus = corpus_of(shelf, write_tiny_corpus)
    places = ",,".join(f"config.{DATA}.{key}='{getattr(corpus, key)}'" for key in ("root", "labels"))
    cli("-m", "evaluate", "-e", "me/head", "-t", "test", "-p", "evaluated", "-o", places)
    assert Path("evaluated/test_fold1_predict.txt").read_bytes() == (
        shelf / "corr_attn/test_fold1_predict.txt"
    ).read_bytes()  # fmt: skip
    hub.add("me/head", {"head.safetensors": b"other"})
    assert predictions(command, f"me/head@{commit}", shelf) == here  # the commit stays what it was
    assert "changed (its SHA-256" in command("predict", "--ckpt", "me/head", shelf / "audio", code=1).err


def test_the_cache_serves_without_the_network(
    packed: Trained, command: Command, shelf: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    hub.add("me/head", {path.name: path.read_bytes() for path in packed("corr_attn").iterdir()})
    here = predictions(command, "me/head", shelf)
    set_hub(monkeypatch, HF_HUB_OFFLINE=True)
    asked = len(hub.asked)
    assert predictions(command, "me/head", shelf) == here
    assert len(hub.asked) == asked
    outcome = command("predict", "--ckpt", "me/other", shelf / "audio", code=1)
    assert "me/other: no such file or folder, and HF_HUB_OFFLINE is set while the hub's cache" in outcome.err


def test_ids_that_cannot_be_fetched_are_one_line(
    command: Command, shelf: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, cli: Cli
):
    hub.gated.add("me/gated")
    hub.add("me/empty", {"README.md": b"nothing"})
    for name, message in (
        ("me/none", "me/none: no such file or folder, and no such id on the hub, or a private one"),
        ("me/gated", "me/gated: is gated on the hub; ask for access on its page"),
        ("me/empty", "me/empty: holds no config.yaml, so it is no packed head"),
        ("me/empty@v9", "me/empty@v9: has no revision v9 on the hub"),
    ):
        assert message in command("predict", "--ckpt", name, shelf / "audio", code=1).err
        assert message in cli("-m", "evaluate", "-e", name, "-t", "test", code=1).error
        with pytest.raises(CheckpointError, match=message[:30]):
            s3prl_emotion.load(name)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's attempts
    outcome = command("predict", "--ckpt", "me/none", shelf / "audio", code=1)
    assert "me/none: no such file or folder, and the hub cannot be reached while the hub's cache" in outcome.err


def test_paths_that_do_not_exist_are_no_ids(command: Command, shelf: Path, hub: Hub, cli: Cli):
    Path("result").mkdir()
    for name in ("result/demo", "none/dev-best.ckpt", "a/b/c", "demo"):
        assert f"{name}: no such checkpoint" in command("predict", "--ckpt", name, shelf / "audio", code=1).err
    assert "-e result/demo: no such checkpoint or folder" in cli("-m", "evaluate", "-e", "result/demo", code=1).error
    assert not hub.asked


def test_pushes_that_fail_are_one_line_and_keep_the_folder(
    trained: Trained, command: Command, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    words = (trained("corr_attn"), out, "--license", "mit", "--push")
    assert (
        "--push me/head: there is no token of the hub; set HF_TOKEN" in command("pack", *words, "me/head", code=1).err
    )
    assert "--push head: is no id on the hub; write OWNER/NAME" in command("pack", *words, "head", code=1).err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with monkeypatch.context() as patch:
        set_hub(patch, HF_HUB_OFFLINE=True)
        assert "HF_HUB_OFFLINE is set, so nothing is uploaded" in command("pack", *words, "me/head", code=1).err
    assert not out.exists()
    close_sessions()
    hub.refuses = 403
    outcome = command("pack", *words, "me/head", code=1)
    assert "--push me/head: the token may not write there" in outcome.err
    assert f"{out} is kept, hf upload me/head {out} uploads it" in outcome.err
    assert (out / "head.safetensors").is_file()
    shutil.rmtree(out)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.refuses = 0
    assert "the token is not accepted" in command("pack", *words, "me/head", code=1).err


# --- as a pipeline of transformers -----------------------------------------------------------------------------------


def _as_scores(prediction: Prediction) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in prediction.nbest(len(prediction.probabilities))]


def test_it_is_called_as_a_pipeline_of_transformers(packed: Trained, shelf: Path):
    pipe, files = s3prl_emotion.load(packed("corr_attn")), sorted((shelf / "audio").iterdir())
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in files]
    together = [_as_scores(prediction) for prediction in pipe.predict_batch(waveforms)]
    alone = _as_scores(pipe.predict(waveforms[0]))
    assert pipe(str(files[0])) == pipe(files[0]) == alone
    assert pipe(waveforms[0]) == pipe(torch.from_numpy(waveforms[0])) == pipe(waveforms[0].tolist()) == alone
    assert pipe({"array": waveforms[0], "sampling_rate": RATE}) == pipe({"raw": waveforms[0], "sampling_rate": RATE})
    assert pipe(files) == pipe(waveforms) == together
    assert pipe(files, batch_size=1)[0] == alone
    assert list(pipe(iter(files), top_k=2)) == [rows[:2] for rows in together]
    assert pipe([]) == []
    doubled = np.repeat(waveforms[0], 2)
    assert pipe({"array": doubled, "sampling_rate": 2 * RATE})[0]["label"] in pipe.classes
    for inputs, options, message in (
        (files[0], {"top_k": 0}, "top_k: 0 is no number of classes"),
        (files[0], {"batch_size": 0}, "--batch_size 0: must be 1 or more"),
        ({"array": waveforms[0]}, {}, "a mapping must hold"),
        (5, {}, "inputs: takes paths and waveforms, got 5"),
        ([None], {}, "input 0: takes floats"),
    ):
        with pytest.raises(UsageError, match=message):
            pipe(inputs, **options)
    with pytest.raises(AudioError, match=r"none\.wav"):
        pipe("none.wav")


@pytest.mark.full
def test_a_head_without_classes_gives_its_dimensions_as_scores(packed: Trained, shelf: Path):
    pipe = s3prl_emotion.load(packed("tcgru"))
    file = shelf / "audio/0.wav"
    dimensions = pipe.predict(soundfile.read(file)[0]).dimensions
    assert pipe(file) == [{"label": name, "score": value} for name, value in dimensions.items()]
