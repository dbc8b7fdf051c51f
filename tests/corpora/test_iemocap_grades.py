"""``emotion_multitask`` on the real grades of IEMOCAP, with stand-in audio: tones whose pitch follows activation."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, SHARED_DATA, Cli, tone

import s3prl_emotion
from s3prl_emotion.files.folders import recipes_folder

GRADES = SHARED_DATA / "iemocap_labels" / "labels_consensus_1.csv.gz"
RECIPE = recipes_folder() / "mitra2025" / "iemocap.yaml"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not GRADES.is_file(), reason="needs data that is not part of the project"),
]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``labels.csv``, as published, and 0.2 s of sound for each of its utterances."""
    folder = tmp_path_factory.mktemp("iemocap")
    with gzip.open(GRADES) as packed, (folder / "labels.csv").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    table = pd.read_csv(folder / "labels.csv")
    for number, (name, activation) in enumerate(zip(table["FileName"], table["EmoAct"], strict=True)):
        soundfile.write(folder / name, tone(110 * 2 ** (activation - 1), 0.2, number), RATE)
    return folder


def test_recipe_trains_on_the_real_grades(cli: Cli, stand_in: Path, tmp_path: Path):
    small = {
        "runner.total_steps": 60, "runner.eval_step": 30, "runner.save_step": 30, "runner.log_step": 30,
        "runner.eval_dataloaders": ["dev", "test"], "optimizer.lr": 0.003,
        "downstream_expert.datarc.root": str(stand_in),
        "downstream_expert.datarc.labels": str(stand_in / "labels.csv"), "downstream_expert.datarc.num_workers": 0,
        "downstream_expert.datarc.eval_batch_size": 256, "downstream_expert.datarc.min_utterances": 50,
        **{f"downstream_expert.modelrc.{key}": 16 for key in ("conv_channels", "gru_dim", "embedding_dim")},
    }  # fmt: skip
    overrides = ",,".join(f"config.{key}={value!r}" for key, value in small.items())
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_multitask", "-c", RECIPE, "-p", "exp", "-o", overrides)
    table = pd.read_csv(stand_in / "labels.csv")
    for split, named in (("dev", "Development"), ("test", "Test")):
        (path,) = (tmp_path / "exp").glob(f"{split}_*_metrics.json")
        metrics = json.loads(path.read_text())
        rows = table[table["Split_Set"].str.startswith(named)]
        predictions = pd.read_csv(path.with_name(path.name.replace("_metrics.json", "_predictions.csv")))
        assert sorted(predictions["FileName"]) == sorted(rows["FileName"])
        assert len(metrics["classes"]) == 9
        assert metrics["versions"]["s3prl-emotion"] == s3prl_emotion.__version__
        assert metrics["CCC"]["EmoAct"] > 0.4, metrics["CCC"]  # the pitch says it
        labels = rows.drop(columns=["SpkrID"]).set_index("FileName").loc[predictions["FileName"]]
        np.testing.assert_allclose(
            predictions[[f"share_{name}" for name in metrics["classes"]]], labels[metrics["classes"]], atol=1e-6
        )
        true = predictions[["EmoAct", "EmoVal", "EmoDom"]].to_numpy()
        np.testing.assert_allclose(true, labels[["EmoAct", "EmoVal", "EmoDom"]], atol=1e-6)
        assert set(metrics["per_gender"]) == {"Female", "Male"}
