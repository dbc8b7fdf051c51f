"""Compare a training step of ``emotion_corr_attn`` with a filled feature store with a step of stock s3prl.

The batch is SUPERB's (4 utterances x 8 accumulation steps), from 64 training utterances of 2-6 s; the HuBERT has random
weights. Stock is s3prl's own runner and emotion task on its own ``hf_hubert_custom``, patched only so that it imports.
Two
lower bounds are measured too: the head's own arithmetic on features in memory, and copying a step's bytes.

    python benchmarks/training_step.py --size base
    python benchmarks/training_step.py --size large --dtype float32
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from common import ROOT, SIZES, parser_of, print_table, save_corpus, save_model, set_up, timed_run

STEP_UTTERANCES = 32
FIRST = 4  # steps of the first two epochs: filling and checking the store


def main() -> None:
    """Print the seconds of a step, and ratios."""
    parser = parser_of(__doc__, folder=True)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--dtype", default="float32", help="of the store")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of stock s3prl")
    parser.add_argument("--skip-stock", action="store_true")
    args = parser.parse_args()
    model, corpus = save_model(args.folder, args.size), save_corpus(args.folder)
    store = args.folder / f"store-{args.size}-{args.dtype}"
    common = ["-m", "train", "--device", "cpu", "-k", str(model)]
    rows = {}
    ours, _ = timed_run(
        ["ours", *common, *suite_words(args.folder, corpus, store, args.dtype, FIRST + 21)], args.threads
    )
    rows["with a filled store"] = ours[FIRST:]
    rows["head alone"], rows["copying the bytes"] = bounds(args.folder, corpus, model, store, args.dtype, args.threads)
    if not args.skip_stock:
        words = stock_words(args.folder, corpus, args.steps + 2)
        rows["stock s3prl"] = timed_run(["stock", *common, *words], args.threads)[0][1:]
    print(
        f"HuBERT {args.size}, store {args.dtype}, {args.threads} threads; seconds a step ({STEP_UTTERANCES} utterances)"
    )
    print_table(rows, width=24)
    if "stock s3prl" in rows:
        ratio = statistics.median(rows["stock s3prl"]) / statistics.median(rows["with a filled store"])
        print(f"stock / with a filled store: {ratio:.0f}")


def suite_words(folder: Path, corpus: Path, store: Path | None, dtype: str, steps: int) -> list[str]:
    """Return the suite's command line, without ``-m`` and ``-k``."""
    words = ["-u", "hf_speech_custom", "-d", "emotion_corr_attn", "-p", str(folder / "ours"), "-v", "fold1"]
    if store is not None:
        words += ["--feature_store", str(store), "--store_dtype", dtype]
    recipe = ROOT / "recipes" / "kakouros2023" / "corr_attn.yaml"
    return [*words, "-c", str(recipe), "-o", overrides(corpus, steps, superb=False)]


def stock_words(folder: Path, corpus: Path, steps: int) -> list[str]:
    """Return stock s3prl's command line, without ``-m`` and ``-k``."""
    words = ["-u", "hf_hubert_custom", "-d", "emotion", "-p", str(folder / "stock"), "-v", "fold1"]
    return [*words, "-c", str(ROOT / "recipes" / "stock" / "emotion.yaml"), "-o", overrides(corpus, steps, superb=True)]


def overrides(corpus: Path, steps: int, superb: bool) -> str:
    """Return ``-o`` for the corpus, and for a run that only makes steps."""
    data = {"root": str(corpus / "audio"), ("meta_data" if superb else "labels"): str(corpus / "meta_data")}
    values = {f"downstream_expert.datarc.{key}": value for key, value in data.items()}
    values |= {"downstream_expert.datarc.train_batch_size": 4, "runner.gradient_accumulate_steps": 8}
    values |= {
        "runner.total_steps": steps,
        "runner.log_step": 10**6,
        "runner.eval_step": 10**6,
        "runner.save_step": 10**6,
    }
    return ",,".join(f"config.{key}={value!r}" for key, value in values.items())


def bounds(
    folder: Path, corpus: Path, model: Path, store: Path, dtype: str, threads: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of the head's forward and backward pass on stored features, and of copying their bytes."""
    set_up(threads)
    import torch
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert
    from torch.nn.utils.rnn import pad_sequence

    from s3prl_emotion.recipe import read_recipe
    from s3prl_emotion.store.upkeep import entries_of

    stacks = [stack for _, stack in zip(range(STEP_UTTERANCES), entries_of(store), strict=False)]
    section = read_recipe(ROOT / "recipes" / "kakouros2023" / "corr_attn.yaml")["downstream_expert"]
    section["datarc"] |= {"root": str(corpus / "audio"), "labels": str(corpus / "meta_data"), "test_fold": "fold1"}
    expert = DownstreamExpert(stacks[0].shape[-1], 320, section, str(folder))
    features = [stack[0].float().requires_grad_() for stack in stacks]
    head, copy = [], []
    buffers = [torch.empty_like(stack) for stack in stacks]
    for _ in range(12):
        begun = time.perf_counter()
        for first in range(0, STEP_UTTERANCES, 4):
            batch = features[first : first + 4]
            lengths = torch.tensor([len(item) for item in batch])
            logits = expert.model(pad_sequence(batch, batch_first=True), lengths)
            expert.objective(logits, torch.zeros(4, dtype=torch.long)).backward()
        head.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for buffer, stack in zip(buffers, stacks, strict=True):
            buffer.copy_(stack)
        copy.append(time.perf_counter() - begun)
    return head[2:], copy[2:]


if __name__ == "__main__":
    main()
