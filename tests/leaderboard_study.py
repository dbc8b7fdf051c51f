"""A benchmark's directory with several heads, upstreams and splits, for the tests of the report's leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_report import write_benchmark

from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.recipe import read_recipe

SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean pooling": ("emotion_corr_attn", {"pooling": "mean", "channel_dropout": 0, "label_smoothing": 0}),
    "attentive correlation": ("emotion_corr_attn", {"pooling": "corr_attn"}),
    "graders' distribution <9>": ("emotion_multitask", {"cat_loss": "ccc"}),
}
UPSTREAMS = ("HuBERT Large", "WavLM Large")


def write_study(folder: Path, labels: str = "demo", **options: Any) -> Path:
    """As ``s3prl-emotion benchmark`` leaves it: ``labels`` goes to recipes, ``options`` to ``write_benchmark``."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"kind": "categorical", "splits": ("test", "test_5dB"), "seeds": (1,), **options}
    write_benchmark(folder, systems=tuple(SYSTEMS), upstreams=UPSTREAMS, **options)
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        head, model = SYSTEMS[line["system"]]
        options = {"upstream": line["upstream"].lower().replace(" ", "_"), "upstream_trainable": False}
        config = read_recipe(recipes_folder() / "superb" / "emotion_corr_attn.yaml")
        config["downstream_expert"]["datarc"] |= {"labels": labels, "root": "audio"}
        config["downstream_expert"]["modelrc"] = model
        line |= {
            "head": head, "upstream_options": options, "config_hash": f"{len(line['system']):064x}", "host": "node7",
            "seconds": {"train": 60.0 + line["seed"], "test": 5.0},
        }  # fmt: skip
        worse = 0.03 * UPSTREAMS.index(line["upstream"])  # or both upstreams would be equal
        for split in line["splits"].values():
            split["metrics"] |= {name: split["metrics"][name] - worse for name in ("UAR", "WA", "macro_f1")}
            path = folder / split["predictions"].replace("_predictions.csv", "_metrics.json")
            about = {"config": config, "head": head, "stored_features": "float32", "upstream": options}
            path.write_text(json.dumps(json.loads(path.read_text()) | about))
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
