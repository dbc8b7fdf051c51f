"""Same curves as stock s3prl: our loop against the host's own runner, our head against the host's emotion task."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import SOURCE, TinyCorpus

import s3prl_emotion
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import recipes_folder

pytestmark = pytest.mark.full

STEPS = 20
# The host's own main and runner; only what would not import on this stack is patched.
STOCK = """
import sys
import s3prl_emotion
s3prl_emotion.register()
from s3prl import run_downstream
sys.argv[0] = "run_downstream.py"
run_downstream.main()
"""


def overrides(corpus: TinyCorpus, labels_key: str, steps: int = STEPS) -> str:
    values = {
        "downstream_expert.datarc.root": str(corpus.root),
        f"downstream_expert.datarc.{labels_key}": str(corpus.labels),
        "runner.total_steps": steps,
        "runner.gradient_accumulate_steps": 2,
        "runner.log_step": 5,
        "runner.eval_step": 10,
        "runner.save_step": steps,
        "optimizer.lr": 0.01,
    }
    return ",,".join(f"config.{key}={value!r}" for key, value in values.items())


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars that a run wrote for tensorboard."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  # makes a missing dependency fail here

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        position = 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 8], "little")
            event = Event.FromString(data[position + 12 : position + 12 + length])
            position += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.fixture(scope="module")
def stock_run(superb_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps of the stock task under the host's own runner."""
    import subprocess

    folder = tmp_path_factory.mktemp("stock")
    words = ["-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion", "-p", str(folder / "exp"), "--device", "cpu"]
    words += ["-c", str(recipes_folder() / "stock/emotion.yaml"), "-o", overrides(superb_corpus, "meta_data")]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", STOCK, *words], cwd=folder, env=environment, check=True, capture_output=True)
    return folder / "exp"


@pytest.fixture(scope="module", params=["emotion", "emotion_corr_attn"])
def our_run(
    request: pytest.FixtureRequest, superb_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Train the same under the suite's runner: ``(head, experiment directory)``."""
    from s3prl_emotion.run_downstream import main

    head, expdir = request.param, tmp_path_factory.mktemp("ours") / "exp"
    recipe = {"emotion": "stock/emotion.yaml", "emotion_corr_attn": "superb/emotion_corr_attn.yaml"}[head]
    options = overrides(superb_corpus, "meta_data" if head == "emotion" else "labels")
    words = ["-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", str(expdir), "--device", "cpu"]
    assert main([*words, "-c", str(recipes_folder() / recipe), "-o", options]) == 0
    return head, expdir


def test_curves_are_those_of_the_stock_task(stock_run: Path, our_run: tuple[str, Path]) -> None:
    expdir = our_run[1]
    assert (expdir / "log.log").read_text() == (stock_run / "log.log").read_text()
    for split in ("dev", "test"):
        for kind in ("predict", "truth"):
            name = f"{split}_fold1_{kind}.txt"
            assert (expdir / name).read_text() == (stock_run / name).read_text()
    ours, theirs = curves(expdir), curves(stock_run)
    assert set(ours) == set(theirs)
    assert len(theirs) == 6  # acc and loss of train, dev and test
    for tag, points in theirs.items():
        assert [step for step, _ in ours[tag]] == [step for step, _ in points]
        assert [value for _, value in ours[tag]] == pytest.approx([value for _, value in points], rel=1e-5, abs=1e-6)


def test_final_weights_are_those_of_the_stock_task(stock_run: Path, our_run: tuple[str, Path]) -> None:
    head, expdir = our_run
    ours = load_checkpoint(expdir / f"states-{STEPS}.ckpt")["Downstream"]
    theirs = load_checkpoint(stock_run / f"states-{STEPS}.ckpt")["Downstream"]
    pairs = {"projector": "model.projector", "model.post_net.linear": "model.classifier"}
    for stock_name, our_name in pairs.items():
        for kind in ("weight", "bias"):
            name = f"{stock_name if head == 'emotion' else our_name}.{kind}"
            torch.testing.assert_close(ours[name], theirs[f"{stock_name}.{kind}"], rtol=1e-4, atol=1e-6)


def test_superb_seeding_ignores_the_seed_as_the_stock_task_does(superb_corpus: TinyCorpus, tmp_path: Path) -> None:
    s3prl_emotion.register()
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert

    from s3prl_emotion.recipe import read_recipe

    states = []
    for seed in (1, 2):
        recipe = read_recipe(recipes_folder() / "superb/emotion_corr_attn.yaml")
        recipe["downstream_expert"]["datarc"] |= {"root": str(superb_corpus.root), "labels": str(superb_corpus.labels)}
        torch.manual_seed(seed)
        states.append(DownstreamExpert(24, 160, expdir=str(tmp_path), seed=seed, **recipe).model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
