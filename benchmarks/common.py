"""What the benchmarks share: models with random weights, a corpus of noise, and steps timed inside of a real run."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
SIZES: dict[str, dict[str, object]] = {"base": {}, "large": LARGE}


def save_model(folder: Path, size: str) -> Path:
    """A HuBERT of the base (12 x 768) or large (24 x 1024) size with random weights; made once."""
    place = folder / f"hubert-{size}"
    if not (place / "model.safetensors").is_file():
        import torch
        from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

        torch.manual_seed(0)
        HubertModel(HubertConfig(**SIZES[size])).save_pretrained(place)
        Wav2Vec2FeatureExtractor(do_normalize=size == "large", return_attention_mask=size == "large").save_pretrained(
            place
        )
    return place


def save_corpus(folder: Path, training: int = 64) -> Path:
    """Noise of 2-6 s in SUPERB's own format, so that stock s3prl reads it too: ``training`` utterances after its split.

    Returns:
        folder with ``audio`` and ``meta_data``
    """
    generator = np.random.default_rng(0)
    root, classes = folder / "corpus", {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    for split, count in (("train", training * 5 // 4), ("test", 4)):
        entries = []
        for number in range(count):
            samples = int(generator.uniform(2, 6) * RATE)
            path = f"Session{1 if split == 'test' else 2}/{split}{number:03d}.wav"
            (root / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "audio" / path, generator.normal(scale=0.1, size=samples), RATE)
            entries.append({"path": path, "label": list(classes)[number % 4], "speaker": f"{split}{number % 3}"})
        lists = root / "meta_data" / "Session1"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}_meta_data.json").write_text(json.dumps({"labels": classes, "meta_data": entries}))
    return root


def timed_run(command: list[str], threads: int) -> tuple[list[float], float]:
    """Run ``common.py`` on a training; seconds of its optimizer steps, and of the whole process."""
    begun = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__, *command], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    seconds = time.perf_counter() - begun
    stamps = json.loads(done.stdout.strip().splitlines()[-1])
    return [later - earlier for earlier, later in itertools.pairwise(stamps)], seconds


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):>10.3f}{min(values):>10.3f}{max(values):>10.3f}"


def _train(kind: str, words: list[str]) -> None:
    """Train under stock s3prl (patched, else as it is) or under the suite; print when each optimizer step ended."""
    import torch

    stamps: list[float] = []
    update = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: object, **kwargs: object) -> object:
        result = update(self, *args, **kwargs)
        stamps.append(time.perf_counter())
        return result

    torch.optim.Adam.step = step
    sys.argv = ["run_downstream.py", *words]
    if kind == "stock":
        from s3prl_emotion import host

        host.patch()
        import s3prl.downstream.runner
        import s3prl.run_downstream

        s3prl.run_downstream.main()
    else:
        from s3prl_emotion.run_downstream import main

        code = main()
        if code:
            sys.exit(code)
    print(json.dumps(stamps))


if __name__ == "__main__":
    _train(sys.argv[1], sys.argv[2:])
