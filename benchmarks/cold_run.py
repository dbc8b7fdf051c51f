"""A first run with an empty feature store beside one without a store: one pass over the data, the worst case for it.

Whole processes, start-up included, in pairs that take turns.

    python benchmarks/cold_run.py --upstream hubert        # HuBERT base with random weights
    python benchmarks/cold_run.py --upstream fbank         # hardly any computation: writing weighs most
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from common import ROOT, save_corpus, save_model, spread, timed_run
from training_step import overrides


def main() -> None:
    """Print seconds of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", choices=["hubert", "fbank"], default="hubert")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "s3prl-emotion-benchmark")
    args = parser.parse_args()
    training = 64 if args.upstream == "hubert" else 640
    corpus = save_corpus(args.folder / args.upstream, training)
    words = [
        "-m",
        "train",
        "--device",
        "cpu",
        "-d",
        "emotion_corr_attn",
        "-v",
        "fold1",
        "-p",
        str(args.folder / "cold"),
    ]
    words += ["-c", str(ROOT / "recipes" / "kakouros2023" / "corr_attn.yaml")]
    words += ["-o", overrides(corpus, training // 32, superb=False)]
    if args.upstream == "hubert":
        words += ["-u", "hf_speech_custom", "-k", str(save_model(args.folder, "base"))]
    else:
        words += ["-u", "fbank_no_cmvn"]
    store = args.folder / "cold-store"
    times: dict[str, list[float]] = {"without": [], "empty store": []}
    for _ in range(args.pairs):
        times["without"].append(timed_run(["ours", *words], args.threads)[1])
        shutil.rmtree(store, ignore_errors=True)
        times["empty store"].append(timed_run(["ours", *words, "--feature_store", str(store)], args.threads)[1])
    print(f"{args.upstream}: one pass over {training} utterances; seconds of the whole run")
    print(f"{'':16}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in times.items():
        print(f"{name:16}{spread(values)}")
    pairs = [cold / plain for plain, cold in zip(times["without"], times["empty store"], strict=True)]
    print(f"empty store / without: {statistics.median(pairs):.3f}")


if __name__ == "__main__":
    main()
