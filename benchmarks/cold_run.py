"""Compare a first run with an empty feature store with one without a store.

One pass over the data is the worst case for a store. Whole processes are timed, start-up included, in turn.

    python benchmarks/cold_run.py --upstream hubert        # HuBERT base with random weights
    python benchmarks/cold_run.py --upstream fbank         # hardly any computation: writing weighs most
"""

from __future__ import annotations

import shutil

from common import ROOT, parser_of, print_table, ratio, save_corpus, save_model, timed_run
from training_step import overrides


def main() -> None:
    """Print the seconds of both, and their ratio."""
    parser = parser_of(__doc__, folder=True)
    parser.add_argument("--upstream", choices=["hubert", "fbank"], default="hubert")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    training = 64 if args.upstream == "hubert" else 640
    corpus = save_corpus(args.folder / args.upstream, training)
    words = ["-m", "train", "--device", "cpu", "-d", "emotion_corr_attn", "-v", "fold1"]
    words += ["-p", str(args.folder / "cold")]
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
    print_table(times)
    print(f"empty store / without: {ratio(times['empty store'], times['without']):.3f}")


if __name__ == "__main__":
    main()
