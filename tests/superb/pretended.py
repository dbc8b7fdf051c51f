"""Stand in for a run of ``s3prl-emotion superb``: leave the predictions of a split that a head would leave."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.corpora.superb import drawn_validation

CLASSES = ("neu", "hap", "ang", "sad")
BEST = 0.01  # the learning rate with which a run predicts well


def entries(lists: Path, fold: str, split: str) -> list[dict[str, str]]:
    """Return what a list of a fold holds."""
    path = lists / fold.replace("fold", "Session") / f"{split}_meta_data.json"
    return json.loads(path.read_text())["meta_data"]


def folder_of(command: Sequence[str]) -> Path:
    """Return the experiment directory of a training or an evaluation."""
    trains = "train" in command
    return Path(command[command.index("-p") + 1]) if trains else Path(command[command.index("-e") + 1]).parent


def pretend(command: Sequence[str]) -> None:
    """Predict dev instead of training, or the split of an evaluation: three of four right, one with a bad rate."""
    trains, folder = "train" in command, folder_of(command)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load((folder.parent / "recipe.yaml").read_text())
    split = "dev" if trains else command[command.index("-t") + 1]
    predict(folder, recipe, split, 1 if not trains or recipe["optimizer"]["lr"] == BEST else 3)


def predict(folder: Path, recipe: dict[str, Any], split: str, wrong: int) -> None:
    """Write predictions and metrics of a split, ``wrong`` of four utterances wrong."""
    data = recipe["downstream_expert"]["datarc"]
    fold = data["test_fold"]
    rows = entries(Path(data["labels"]), fold, "test" if split == "test" else "train")
    if split == "dev":
        rows = [rows[place] for place in drawn_validation(len(rows), 0.2)[1]]
    hits, header = 0, ["FileName", "SpkrID", "Gender", "truth", "prediction", *(f"p_{name}" for name in CLASSES)]
    with (folder / f"{split}_{fold}_predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, entry in enumerate(rows):
            label = entry["label"] if number % 4 >= wrong else CLASSES[CLASSES.index(entry["label"]) - 1]
            hits += label == entry["label"]
            speaker = entry["path"].rsplit("_", 1)[1][0]
            shares = [0.7 if name == label else 0.1 for name in CLASSES]
            writer.writerow([entry["path"], f"S{fold}{speaker}", "Female", entry["label"], label, *shares])
    text = "".join(f"{Path(entry['path']).stem} {entry['label']}\n" for entry in rows)
    (folder / f"{split}_{fold}_predict.txt").write_text(text)
    about = {
        "split": split, "fold": fold, "step": 6, "checkpoint": "dev-best.ckpt", "classes": list(CLASSES),
        "utterances": len(rows), "WA": hits / len(rows), "UAR": hits / len(rows), "seed": 1337,
        "head": "emotion_corr_attn", "config": recipe, "upstream": {"upstream": "fbank_no_cmvn"},
        "num_parameters": 7, "versions": {},
    }  # fmt: skip
    (folder / f"{split}_{fold}_metrics.json").write_text(json.dumps(about))
