"""Time a step and a fold of SUPERB's emotion task from stored means, beside stock s3prl and a bare torch loop.

The step is SUPERB's: 4 utterances x 8 accumulation steps, mean pooling, Adam, all layers. The suite trains in a process
of its own, with logging, evaluations and checkpoints as SUPERB's recipe sets them. Its store holds random means of as
many utterances as a fold of IEMOCAP, whose audio is 0.05 s of noise: from means, a step depends on neither. Stock is
s3prl's own runner and emotion task on utterances of 2-6 s and its own ``hf_hubert_custom``, patched only so that it
imports. The bare loop is the step's arithmetic in torch alone, on a tensor in memory, timed in the same run.

    python benchmarks/superb.py                  # HuBERT large: 25 layers x 1024
    python benchmarks/superb.py --size base      # 13 x 768
    python benchmarks/superb.py --steps 30000    # a fold of SUPERB's length, measured whole
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import soundfile
from common import RATE, ROOT, SIZES, parser_of, print_table, save_corpus, save_model, set_up, timed_run
from training_step import stock_words

BATCH, ACCUMULATED = 4, 8
TRAINING, TESTED = 4290, 1241  # utterances of SUPERB's fold 1, dev included in the first
SAMPLES = 800  # of each
WARM_UP = 100  # steps: memory and caches
CLASSES = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def main() -> None:
    """Print the milliseconds of a step, the seconds of the fold, and ratios."""
    parser = parser_of(__doc__, folder=True)
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--steps", type=int, default=3000, help="of the suite; SUPERB's are 30000")
    parser.add_argument("--stock_steps", type=int, default=3, help="timed steps of stock s3prl")
    parser.add_argument("--skip-stock", action="store_true")
    args = parser.parse_args()
    set_up(args.threads)
    model, corpus = save_model(args.folder, args.size), save_short_corpus(args.folder)
    store = args.folder / f"means-{args.size}"
    shape = fill(store, model, corpus)
    bare = bare_steps(shape, args.threads)
    ours, fold = timed_run(["ours", *suite_words(args.folder, model, corpus, store, args.steps)], args.threads)
    bare += bare_steps(shape, args.threads)  # before and after, since the load of the machine may change meanwhile
    rows = {"from means": ours[min(WARM_UP, len(ours) // 2) :], "bare torch loop": bare}
    if not args.skip_stock:
        words = ["-m", "train", "--device", "cpu", "-k", str(model)]
        words += stock_words(args.folder, save_corpus(args.folder), args.stock_steps + 2)
        rows["stock s3prl"] = timed_run(["stock", *words], args.threads)[0][1:]
    print(f"{shape[0]} x {shape[1]}, {BATCH} x {ACCUMULATED} utterances, {args.threads} threads; ms a step")
    print_table({name: [1e3 * value for value in values] for name, values in rows.items()}, width=20)
    medians = {name: statistics.median(values) for name, values in rows.items()}
    print(f"from means / bare torch loop: {medians['from means'] / medians['bare torch loop']:.2f}")
    if "stock s3prl" in medians:
        print(f"stock s3prl / from means: {medians['stock s3prl'] / medians['from means']:.0f}")
    print(f"the run of {args.steps} steps, start to exit, with audio, evaluations and checkpoints: {fold:.0f} s")


def suite_words(folder: Path, model: Path, corpus: Path, store: Path, steps: int) -> list[str]:
    """Return the suite's command line: SUPERB's recipe, with the suite's own seeding."""
    words = ["-m", "train", "--device", "cpu", "-u", "hf_speech_custom", "-k", str(model), "-d", "emotion_corr_attn"]
    shutil.rmtree(folder / "superb-ours", ignore_errors=True)
    words += ["-p", str(folder / "superb-ours"), "-v", "fold1", "--feature_store", str(store)]
    words += ["-c", str(ROOT / "recipes" / "superb" / "emotion_corr_attn.yaml")]
    values: dict[str, object] = {"runner.seeding": "seed", "runner.total_steps": steps}
    values["downstream_expert.datarc.root"] = str(corpus / "audio")
    values["downstream_expert.datarc.labels"] = str(corpus / "meta_data")
    return [*words, "-o", ",,".join(f"config.{key}={value!r}" for key, value in values.items())]


def save_short_corpus(folder: Path) -> Path:
    """Save as many utterances as a fold of SUPERB has, of noise, and their lists; return the folder of both."""
    root, generator = folder / "superb-short", np.random.default_rng(0)
    if (root / "meta_data" / "Session1" / "train_meta_data.json").is_file():
        return root
    for split, count in (("test", TESTED), ("train", TRAINING)):
        entries = []
        for number in range(count):
            path = f"Session{1 if split == 'test' else 2}/{split}{number:04d}.wav"
            (root / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "audio" / path, generator.normal(scale=0.1, size=SAMPLES), RATE)
            entries.append({"path": path, "label": list(CLASSES)[number % 4], "speaker": f"{split}{number % 3}"})
        lists = root / "meta_data" / "Session1"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}_meta_data.json").write_text(json.dumps({"labels": CLASSES, "meta_data": entries}))
    return root


def fill(store: Path, model: Path, corpus: Path) -> tuple[int, int]:
    """Store random means of every utterance for the model, once; return layers and channels."""
    import torch

    from s3prl_emotion.audio import load_audio
    from s3prl_emotion.store import utterance_key
    from s3prl_emotion.upstreams.build import build_source

    source = build_source(
        Namespace(
            upstream="hf_speech_custom", upstream_ckpt=str(model), upstream_model_config=None,
            upstream_feature_selection="hidden_states", upstream_layer_selection=None, upstream_path=None, device="cpu",
            feature_store=str(store), store_dtype="float32",
        )
    )  # fmt: skip
    shape = source.layer_count, int(source.featurizer.output_dim)
    files = sorted((corpus / "audio").rglob("*.wav"))
    if len(source.mean_store) < len(files):
        generator = torch.Generator().manual_seed(0)
        for path in files:
            waveform = load_audio(path)
            source.mean_store.put(utterance_key(waveform), torch.randn(shape, generator=generator), len(waveform))
    source.close()
    return shape


def bare_steps(shape: tuple[int, int], threads: int, steps: int = 400) -> list[float]:
    """Return the seconds of steps of the task's arithmetic in torch alone, on means in memory."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    layers, channels = shape
    table, labels = torch.randn(TRAINING, layers, channels), torch.randint(len(CLASSES), (TRAINING,))
    weights = nn.Parameter(torch.zeros(layers))
    head = nn.Sequential(nn.Linear(channels, 256), nn.Linear(256, len(CLASSES)))
    parameters = [weights, *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    seconds = []
    for _ in range(steps):
        chosen = torch.randint(TRAINING, (BATCH * ACCUMULATED,))
        begun = time.perf_counter()
        rows = table.index_select(0, chosen)
        features = torch.bmm(weights.softmax(dim=0).expand(len(rows), 1, -1), rows).squeeze(1)
        functional.cross_entropy(head(features), labels[chosen]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    return seconds[steps // 4 :]


if __name__ == "__main__":
    main()
