"""``runner.epochs`` ends training after passes over the utterances that the head keeps, evaluated and saved."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from conftest import Cli, TinyCorpus

from s3prl_emotion.corpora import load_corpus
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.recipe import DataSection, RunnerSection, read_recipe

DATA = "downstream_expert.datarc"
NEVER = {"runner.log_step": 1000, "runner.eval_step": 1000, "runner.save_step": 1000}


@pytest.mark.parametrize("classes", [None, ["ang", "sad"]])
def test_steps_are_counted_from_the_classes_that_are_kept(
    cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path, classes: list[str] | None
):
    values = {"runner.total_steps": 100, "runner.epochs": 2, f"{DATA}.classes": classes, **NEVER}
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", tmp_path / "exp",
        "-o", tiny_corpus.overrides(**values))  # fmt: skip
    data = DataSection(labels=str(tiny_corpus.labels), root=str(tiny_corpus.root), classes=classes,
                       train_batch_size=4, eval_batch_size=4)  # fmt: skip
    steps = 2 * math.ceil(len(load_corpus(data).split("train")) / 4)
    assert (tmp_path / f"exp/states-{steps}.ckpt").is_file()
    assert json.loads((tmp_path / "exp/test_fold1_metrics.json").read_text())["step"] == steps


def test_recipe_of_the_paper_trains_for_its_fifty_epochs():
    runner = RunnerSection.read(read_recipe(recipes_folder() / "das2022/emotion_latent.yaml")["runner"], "runner")
    assert runner.epochs == 50
    assert runner.total_steps > 50 * 10_039 / 64  # even with all of IEMOCAP, epochs end the training
