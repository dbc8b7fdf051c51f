"""Bad input: one clear line on stderr, exit code 1, and no experiment directory where nothing was trained."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import RATE, Cli, Run, TinyCorpus, write_tiny_corpus

from s3prl_emotion.files.checkpoint import load_checkpoint

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
DATA = "downstream_expert.datarc"
MODEL = "downstream_expert.modelrc"


def refused(cli: Cli, *words: object, leaves: Path | None = Path("exp")) -> str:
    """Run what must fail, and return its error line; ``leaves`` is what must not be there afterwards."""
    error = cli(*words, code=1).error
    assert leaves is None or not leaves.exists(), list(leaves.iterdir())
    return error


def train(cli: Cli, corpus: TinyCorpus, leaves: Path | None = Path("exp"), **overrides: object) -> str:
    """Train with overrides that must not work."""
    return refused(cli, "-m", "train", *HEAD, "-p", "exp", "-o", corpus.overrides(**overrides), leaves=leaves)


# --- corpus --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({f"{DATA}.root": "nowhere"}, ["nowhere: no such folder", "datarc.root"]),
        ({f"{DATA}.root": None}, ["datarc.root"]),
        ({f"{DATA}.labels": "nowhere.csv"}, ["nowhere.csv: no such label table", "datarc.labels"]),
        ({f"{DATA}.classes": ["ang", "hapy"]}, ["no utterance has class 'hapy'", "nearest: hap", "labels.csv"]),
        ({f"{DATA}.classes": ["ang"]}, ["datarc.classes", "at least two classes"]),
        ({f"{DATA}.test_fold": "fold9"}, ["no fold 'fold9'", "fold1", "labels.csv"]),
        ({"runner.eval_dataloaders": ["dev", "tset"]}, ["no split 'tset'", "dev, test"]),
        ({"runner.train_dataloader": "trian"}, ["no split 'trian'"]),
    ],
)
def test_corpus_that_is_not_there(cli: Cli, tiny_corpus: TinyCorpus, overrides: dict[str, object], said: list[str]):
    error = train(cli, tiny_corpus, **overrides)
    assert all(part in error for part in said), error


def test_fold_of_the_command_line_that_is_not_there(cli: Cli, tiny_corpus: TinyCorpus):
    error = refused(cli, "-m", "train", *HEAD, "-v", "fold7", "-p", "exp", "-o", tiny_corpus.overrides())
    assert "no fold 'fold7'" in error


def test_missing_audio_file(cli: Cli, own_tiny_corpus: TinyCorpus):
    (own_tiny_corpus.root / "s0_ang_0.wav").unlink()
    error = train(cli, own_tiny_corpus)
    assert str(own_tiny_corpus.root / "s0_ang_0.wav") in error
    assert "datarc.root" in error


def test_file_listed_twice(cli: Cli, own_tiny_corpus: TinyCorpus):
    lines = own_tiny_corpus.labels.read_text().splitlines()
    own_tiny_corpus.labels.write_text("\n".join([*lines, lines[3]]) + "\n")
    error = train(cli, own_tiny_corpus)
    assert f"{own_tiny_corpus.labels} line {len(lines) + 1}: " in error
    assert "listed twice" in error


def unreadable(path: Path) -> None:
    path.write_bytes(b"this is no audio")


def empty(path: Path) -> None:
    soundfile.write(path, np.zeros(0, dtype=np.float32), RATE)


def not_a_number(path: Path) -> None:
    samples = np.zeros(8000, dtype=np.float32)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("pre_load", "workers"), [(True, 0), (False, 0), pytest.param(False, 2, marks=pytest.mark.full)]
)  # loaders take seconds to end
@pytest.mark.parametrize(
    ("damage", "said"), [(unreadable, "unreadable audio"), (empty, "0 samples"), (not_a_number, "NaN or infinite")]
)
def test_damaged_audio(
    cli: Cli, own_tiny_corpus: TinyCorpus, damage: Callable[[Path], None], said: str, pre_load: bool, workers: int
):
    for path in own_tiny_corpus.root.glob("s[2-5]_ang_0.wav"):
        damage(path)
    options = {f"{DATA}.pre_load": pre_load, f"{DATA}.num_workers": workers, "runner.total_steps": 12}
    error = train(cli, own_tiny_corpus, leaves=None, **options)
    assert said in error
    assert f"{own_tiny_corpus.root}/s" in error
    assert "leave it out of the labels" in error


def test_utterance_too_short_for_the_upstream(cli: Cli, own_tiny_corpus: TinyCorpus):
    for path in own_tiny_corpus.root.glob("s[2-5]_ang_0.wav"):
        soundfile.write(path, np.full(100, 0.1, dtype=np.float32), RATE)
    error = train(cli, own_tiny_corpus, leaves=None, **{"runner.total_steps": 12})
    assert "_ang_0.wav" in error
    assert "0.006 s" in error
    assert "fbank_no_cmvn" in error


# --- recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"runner.total_step": 3}, ["runner.total_step: unknown key", "nearest: total_steps"]),
        ({f"{DATA}.train_batch_sise": 3}, [f"{DATA}.train_batch_sise: unknown key", "nearest: train_batch_size"]),
        ({f"{MODEL}.poolin": "mean"}, [f"{MODEL}.poolin: unknown key", "nearest: pooling"]),
        ({"downstream_expert.best_metrik": "WA"}, ["best_metrik: unknown key", "nearest: best_metric"]),
        ({"optimiser.name": "Adam"}, ["optimiser: unknown section", "nearest: optimizer"]),
        ({f"{MODEL}.pooling": "corr_atn"}, [f"{MODEL}.pooling", "'corr_attn'", "corr_atn"]),
        ({f"{MODEL}.channel_dropout": 1.0}, [f"{MODEL}.channel_dropout", "less than 1", "1.0"]),
        ({f"{MODEL}.channel_dropout": -0.1}, [f"{MODEL}.channel_dropout", "-0.1"]),
        ({f"{MODEL}.num_heads": 0}, [f"{MODEL}.num_heads", "0"]),
        ({f"{MODEL}.projector_dim": "8"}, [f"{MODEL}.projector_dim", "integer", "'8'"]),
        ({"runner.total_steps": 0}, ["runner.total_steps", "0"]),
        ({"runner.total_steps": 3.5}, ["runner.total_steps", "integer"]),
        ({"runner.log_step": 0}, ["runner.log_step"]),
        ({f"{DATA}.train_batch_size": 0}, [f"{DATA}.train_batch_size"]),
        ({f"{DATA}.class_weights": "effectiv"}, [f"{DATA}.class_weights", "'effective'"]),
        ({f"{DATA}.valid_ratio": 1.0}, [f"{DATA}.valid_ratio"]),
        ({"optimizer.name": "AdamX"}, ["optimizer", "AdamX"]),
        ({"optimizer.name": "AdamW_with_schedule"}, ["optimizer.name", "plain data alone", "use TorchOptim"]),
        ({"optimizer.torch_optim_name": "Adm"}, ["optimizer", "Adm"]),
        ({"optimizer.lr": -1.0}, ["optimizer", "-1.0"]),
        ({"optimizer.lr": "1e-3"}, ["optimizer", "1e-3"]),
        ({"optimizer.momentun": 1}, ["optimizer", "momentun"]),
        ({"scheduler.name": "linear"}, ["scheduler", "linear"]),
        ({"specaug.apply_time_wrap": True}, ["specaug", "apply_time_wrap"]),
        ({"scheduler.nam": "linear"}, ["scheduler.name", "required"]),
        ({"downstream_expert.attention_dir": "att", f"{MODEL}.pooling": "mean"}, ["attention_dir", "'mean'"]),
        ({f"{MODEL}.projector_dim": 1}, ["2 channels"]),
    ],
)
def test_recipe(cli: Cli, tiny_corpus: TinyCorpus, overrides: dict[str, object], said: list[str]):
    error = train(cli, tiny_corpus, **overrides)
    assert all(part in error for part in said), error


@pytest.mark.parametrize("section", ["optimizer", "scheduler"])
def test_no_code_in_the_name_of_an_optimizer(cli: Cli, tiny_corpus: TinyCorpus, section: str):
    """The host evaluates this name, and a checkpoint brings its own recipe."""
    known = {"optimizer": "Adam", "scheduler": "linear_schedule_with_warmup"}[section]
    code = f"{known} if open('ran', 'w') else get_{known}"
    error = train(cli, tiny_corpus, **{f"{section}.name": code})
    assert f"{section}.name" in error
    assert not Path("ran").exists()


@pytest.mark.parametrize("section", ["runner", "optimizer", "downstream_expert"])
def test_recipe_without_a_section(cli: Cli, tiny_corpus: TinyCorpus, section: str):
    from s3prl_emotion.files.folders import heads_folder

    recipe = yaml.safe_load((heads_folder() / "emotion_corr_attn/config.yaml").read_text())
    recipe[section] = None
    Path("none.yaml").write_text(yaml.safe_dump(recipe))
    error = refused(cli, "-m", "train", *HEAD, "-p", "exp", "-c", "none.yaml")
    assert section in error
    del recipe[section]
    Path("gone.yaml").write_text(yaml.safe_dump(recipe))
    assert section in refused(cli, "-m", "train", *HEAD, "-p", "exp", "-c", "gone.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runner: {total_steps: 3\n", "not readable as YAML"),
        ("- a\n- b\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("a: !!python/object/apply:os.system [touch ran]\n", "not readable as YAML"),
    ],
)
def test_broken_yaml(cli: Cli, text: str, said: str):
    Path("broken.yaml").write_text(text)
    error = refused(cli, "-m", "train", *HEAD, "-p", "exp", "-c", "broken.yaml")
    assert "broken.yaml" in error
    assert said in error
    assert not Path("ran").exists()


# --- command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "train", "-u", "fbank", "-p", "exp"], ["-d/--downstream is required"]),
        (["-m", "train", "-d", "emotion_corr_attn", "-p", "exp"], ["-u/--upstream is required"]),
        (["-u", "fbank", "-d", "emotion_corr_attn", "-p", "exp"], ["-m/--mode"]),
        (["-m", "trian", *HEAD, "-p", "exp"], ["trian", "train"]),
        (["-m", "train", "-u", "fbank", "-d", "emotion_cor_attn"], ["emotion_cor_attn", "nearest: emotion_corr_attn"]),
        (["-m", "train", "-u", "fbnak", "-d", "emotion_corr_attn"], ["-u fbnak", "nearest: ", "fbank"]),
        (["-m", "train", *HEAD, "--confg", "x.yaml"], ["unknown argument '--confg'", "nearest: --config"]),
        (["-m", "train", *HEAD, "--upstream_trainble"], ["'--upstream_trainble'", "nearest: --upstream_trainable"]),
        (["-m", "train", *HEAD, "stray"], ["unknown argument 'stray'"]),
        (["-m", "train", *HEAD, "--seed", "one"], ["--seed", "one"]),
        (["-m", "train", *HEAD, "-l", "one"], ["-l", "one"]),
        (["-m", "train", *HEAD, "-c", "nowhere.yaml"], ["nowhere.yaml: no such recipe"]),
        (["-m", "train", *HEAD, "-o", "runner.total_steps=3"], ["-o", "config.SECTION.KEY=VALUE"]),
        (["-m", "train", *HEAD, "-o", "config.runner.total_steps"], ["-o", "config.SECTION.KEY=VALUE"]),
        (["-m", "train", *HEAD, "-o", "config.runner.log_step.x=3"], ["config.runner.log_step.x", "not a section"]),
        (["-m", "train", *HEAD, "--device", "nonsense"], ["--device nonsense", "cpu"]),
        (["-m", "train", *HEAD, "--upstream_path", "nowhere"], ["--upstream_path nowhere", "no such folder"]),
        (["-m", "train", *HEAD, "-e", "nowhere.ckpt"], ["-e nowhere.ckpt", "no such checkpoint"]),
        (["-m", "train", *HEAD, "-e", "."], ["-e .", "contains no states-*.ckpt", "dev-best.ckpt"]),
        (["-m", "evaluate", *HEAD, "-i", "nowhere.ckpt"], ["nowhere.ckpt", "no such checkpoint"]),
        (["-m", "inference", *HEAD, "-t", "nowhere.wav"], ["-t nowhere.wav", "no such audio file"]),
    ],
)
def test_command_line(cli: Cli, words: list[str], said: list[str]):
    error = refused(cli, *words, leaves=Path("result"))
    assert all(part in error for part in said), error
    assert not Path("exp").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_gpu(cli: Cli, tiny_corpus: TinyCorpus, device: str):
    words = ("-m", "train", *HEAD, "-p", "exp", "-o", tiny_corpus.overrides())
    error = refused(cli, *words, "--device", device)
    assert f"--device {device}: torch sees no CUDA device" in error
    assert "--device cpu" in error


def test_experiment_directory_that_cannot_be_written(cli: Cli, tiny_corpus: TinyCorpus):
    """Tests may run as root, whom permissions do not stop; a regular file in the way stops everyone."""
    Path("file").write_text("in the way")
    for place in ("file", "file/exp"):
        error = refused(cli, "-m", "train", *HEAD, "-p", place, "-o", tiny_corpus.overrides(), leaves=None)
        assert f"{place}: the experiment directory cannot be written" in error
        assert "-p" in error
    assert Path("file").read_text() == "in the way"


def test_unknown_features_and_layers(cli: Cli, tiny_corpus: TinyCorpus):
    words = ("-m", "train", *HEAD, "-p", "exp", "-o", tiny_corpus.overrides())
    error = refused(cli, *words, "-s", "hiden_states")
    assert "-s hiden_states" in error
    assert "nearest: hidden_states" in error
    assert "-l 1:" in refused(cli, *words, "-l", "1")
    words = ("-m", "train", "-u", "customized_upstream", "-d", "emotion_corr_attn", "-p", "exp")
    assert "-l 2:" in refused(cli, *words, "-l", "2", "-o", tiny_corpus.overrides())


def test_unknown_split_to_evaluate(cli: Cli, tiny_corpus: TinyCorpus):
    error = refused(cli, "-m", "evaluate", *HEAD, "-t", "tets", "-p", "exp", "-o", tiny_corpus.overrides())
    assert f"{tiny_corpus.labels}: no split 'tets'" in error
    assert "train, dev, test" in error


def test_inference_without_a_checkpoint(cli: Cli, tiny_corpus: TinyCorpus):
    file = tiny_corpus.root / "s0_ang_0.wav"
    error = refused(cli, "-m", "inference", *HEAD, "-t", file, "-p", "exp", "-o", tiny_corpus.overrides())
    assert "needs a trained checkpoint" in error
    assert "-e" in error
    classes = tiny_corpus.overrides(**{f"{DATA}.classes": ["ang", "hap", "neu", "sad"]})
    error = refused(cli, "-m", "inference", *HEAD, "-t", file, "-p", "exp", "-o", classes)
    assert "needs a trained checkpoint" in error


# --- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(cli: Cli, tiny_corpus: TinyCorpus) -> Path:
    """Checkpoint of a short run."""
    steps = {"runner.total_steps": 1, "runner.save_step": 1, "runner.eval_step": 9}
    cli("-m", "train", *HEAD, "-p", "trained", "-o", tiny_corpus.overrides(**steps))
    return Path("trained/states-1.ckpt")


def test_checkpoint_of_another_head(cli: Cli, tiny_corpus: TinyCorpus, trained: Path):
    state = load_checkpoint(trained)
    state["Args"].downstream = "emotion"
    torch.save(state, "other.ckpt")
    words = ("-m", "evaluate", *HEAD, "-p", "exp", "-o", tiny_corpus.overrides())
    assert "other.ckpt: is a checkpoint of -d emotion, not of -d emotion_corr_attn" in refused(
        cli, *words, "-i", "other.ckpt"
    )
    error = refused(cli, "-m", "evaluate", "-d", "emotion", "-e", trained)
    assert f"{trained}: is a checkpoint of -d emotion_corr_attn, not of -d emotion" in error


@pytest.mark.parametrize(
    "overrides",
    [
        {f"{DATA}.classes": ["ang", "neu", "hap", "sad"]},
        {f"{DATA}.merge": {"hap": "joy"}},
        {f"{DATA}.classes": ["ang", "sad"]},
    ],
)
def test_checkpoint_of_other_classes(cli: Cli, tiny_corpus: TinyCorpus, trained: Path, overrides: dict[str, object]):
    words = ("-m", "evaluate", *HEAD, "-i", trained, "-p", "exp", "-o", tiny_corpus.overrides(**overrides))
    error = refused(cli, *words)
    assert str(trained) in error
    assert "classes" in error
    assert "['ang', 'hap', 'neu', 'sad']" in error


def test_checkpoint_of_another_shape(cli: Cli, tiny_corpus: TinyCorpus, trained: Path):
    overrides = tiny_corpus.overrides(**{f"{MODEL}.projector_dim": 9})
    error = refused(cli, "-m", "evaluate", *HEAD, "-i", trained, "-p", "exp", "-o", overrides)
    assert f"{trained}: its Downstream does not fit" in error


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("flag", ["-e", "-i"])
def test_truncated_checkpoint(cli: Cli, tiny_corpus: TinyCorpus, trained: Path, share: float, flag: str):
    content = trained.read_bytes()
    Path("cut.ckpt").write_bytes(content[: int(share * len(content))])
    error = refused(cli, "-m", "evaluate", *HEAD, flag, "cut.ckpt", "-p", "exp", "-o", tiny_corpus.overrides())
    assert "cut.ckpt: " in error
    assert "damaged or not a checkpoint" in error


def test_no_checkpoint_of_an_experiment(cli: Cli, trained: Path):
    torch.save(load_checkpoint(trained)["Downstream"], "weights.ckpt")
    error = refused(cli, "-m", "evaluate", *HEAD, "-e", "weights.ckpt")
    assert "weights.ckpt: not a checkpoint of a downstream experiment" in error


# --- training ------------------------------------------------------------------------------------------------------


def test_learning_rate_that_overflows(cli: Cli, tiny_corpus: TinyCorpus):
    error = train(cli, tiny_corpus, leaves=None, **{"optimizer.lr": 1e38})
    assert "step 1" in error
    assert "optimizer.lr" in error


@pytest.mark.parametrize("eval_step", [1, 100])
def test_learning_rate_that_ends_in_nan(cli: Cli, tiny_corpus: TinyCorpus, eval_step: int):
    options = {"optimizer.lr": 1e30, "runner.eval_step": eval_step, "runner.save_step": 1}
    error = train(cli, tiny_corpus, leaves=None, **options)
    assert ("the head's output is not finite" if eval_step == 1 else "gradient norm is") in error
    assert f"step {1 if eval_step == 1 else 2}" in error
    assert "optimizer.lr" in error
    assert Path("exp/states-1.ckpt").exists() == (eval_step != 1)


def test_verbose_adds_the_traceback(cli: Cli, own_tiny_corpus: TinyCorpus):
    shutil.rmtree(own_tiny_corpus.root)
    words = ("-m", "train", *HEAD, "-p", "exp", "-o", own_tiny_corpus.overrides())
    outcome = cli(*words, "--verbose", code=1)
    assert outcome.err.count("Traceback (most recent call last)") == 1
    assert outcome.err.splitlines()[-1].startswith("run_downstream.py: error:")
    assert "Traceback" not in cli(*words, code=1).err


@pytest.mark.full
def test_real_command_line(run: Run, tmp_path: Path):
    """The same in a process of its own: worker processes, streams and exit code are then the real ones."""
    corpus = write_tiny_corpus(tmp_path / "own")
    for path in corpus.root.glob("*_ang_*.wav"):
        path.write_bytes(b"this is no audio")
    overrides = corpus.overrides(**{f"{DATA}.pre_load": False, f"{DATA}.num_workers": 2})
    done = run("run_downstream.py", "-m", "train", *HEAD, "-p", "exp", "-o", overrides, code=1)
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert lines[0].startswith("run_downstream.py: error: ")
    assert "unreadable audio" in lines[0]
    assert "Traceback" not in done.stderr


def test_label_table_is_read_again_after_it_changed(cli: Cli, own_tiny_corpus: TinyCorpus):
    rows = list(csv.reader(own_tiny_corpus.labels.open()))
    rows[1][0] = "gone.wav"
    own_tiny_corpus.labels.write_text("".join(",".join(row) + "\n" for row in rows))
    assert "gone.wav: no such audio file" in train(cli, own_tiny_corpus)
    rows[1][0] = "s0_ang_0.wav"
    own_tiny_corpus.labels.write_text("".join(",".join(row) + "\n" for row in rows))
    steps = {"runner.total_steps": 1}
    cli("-m", "train", *HEAD, "-p", "exp", "-o", own_tiny_corpus.overrides(**steps))
