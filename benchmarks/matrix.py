"""Compare a matrix of four poolings x five folds on one upstream, with a shared store, with 20 runs of stock s3prl.

The size is SUPERB's: 30,000 steps of 32 utterances per run, over 5,531 distinct utterances. Measured are steps (each
pooling with a filled store, and stock's own emotion task) and computing an utterance's features once; the hours are
extrapolated. Evaluation is left out on both sides, where stock would need a pass through the upstream for every
utterance, and the suite only the store.

    python benchmarks/matrix.py --size base

With ``--demo``, time the 16 runs of ``recipes/demo/matrix.yaml`` instead, each way in a process of its own: warm, with
``--isolate``, and by the benchmark of another checkout, if one is named. Their results must be equal to the bit.

    python benchmarks/matrix.py --demo --checkout ../of_before
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROOT, SIZES, environment_of, parser_of, save_corpus, save_model, timed_run
from training_step import FIRST, STEP_UTTERANCES, stock_words, suite_words

POOLINGS = ("mean", "mean_std", "corr", "corr_attn")
FOLDS, STEPS, UTTERANCES = 5, 30_000, 5_531


def main() -> None:
    """Print what was measured, the extrapolated hours, and how they grow."""
    parser = parser_of(__doc__, folder=True)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of stock s3prl")
    parser.add_argument("--demo", action="store_true", help="time the demo matrix, with and without --isolate")
    parser.add_argument("--checkout", type=Path, help="with --demo: another version of the suite, to time as well")
    args = parser.parse_args()
    if args.demo:
        demo(args.folder / "demo-matrix", args.checkout, args.threads)
        return
    model, corpus = save_model(args.folder, args.size), save_corpus(args.folder)
    common = ["-m", "train", "--device", "cpu", "-k", str(model)]
    utterance, store = extraction(args.folder, corpus, model, args.threads)
    step = {}
    for pooling in POOLINGS:
        words = suite_words(args.folder, corpus, store, "float32", FIRST + 21)
        words[-1] += f",,config.downstream_expert.modelrc.pooling={pooling!r}"
        step[pooling] = statistics.median(timed_run(["ours", *common, *words], args.threads)[0][FIRST:])
    words = stock_words(args.folder, corpus, args.steps + 2)
    stock = statistics.median(timed_run(["stock", *common, *words], args.threads)[0][1:])

    print(f"HuBERT {args.size}, {args.threads} threads; measured seconds")
    print(f"features of an utterance, once  {utterance:9.3f}")
    for pooling, seconds in step.items():
        print(f"step, {pooling:10}, filled store {seconds:9.3f}")
    print(f"step, stock s3prl               {stock:9.3f}")
    once, fold = UTTERANCES * utterance / 3600, sum(step.values()) * STEPS / 3600
    ours, theirs = once + FOLDS * fold, len(POOLINGS) * FOLDS * STEPS * stock / 3600
    print(f"extrapolated to {len(POOLINGS)} poolings x {FOLDS} folds of {STEPS} steps of {STEP_UTTERANCES} utterances:")
    print(f"features, once {once:.1f} h, {len(POOLINGS) * FOLDS} runs {FOLDS * fold:.1f} h, together {ours:.1f} h")
    print(f"stock s3prl {theirs:.0f} h; stock / with a store: {theirs / ours:.0f}")
    growth = {
        "a further fold, all poolings": (1, len(POOLINGS)),
        "a further seed, all poolings, all folds": (FOLDS, len(POOLINGS)),
        "a further head, all folds": (FOLDS, 1),
    }
    for name, (folds, heads) in growth.items():
        runs = folds * heads * STEPS / 3600
        print(f"{name}: {runs * statistics.mean(step.values()):.1f} h, stock {runs * stock:.0f} h")


def demo(folder: Path, checkout: Path | None, threads: int) -> None:
    """Print the seconds of the demo matrix in each way, and compare the results."""
    from s3prl_emotion.corpora.demo import demo_corpus

    demo_corpus()  # made once for all ways
    matrix = ["recipes/demo/matrix.yaml", "--device", "cpu"]
    ways = {"warm": (ROOT, matrix), "--isolate": (ROOT, [*matrix, "--isolate"])}
    if checkout is not None:
        ways[str(checkout)] = (checkout.resolve(), matrix)
    seconds = {}
    for number, (way, (root, words)) in enumerate(ways.items()):
        out = folder / str(number)
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "s3prl_emotion", "benchmark", *words, "--out", str(out)]
        begun = time.perf_counter()
        done = subprocess.run(
            command, cwd=root, env={**environment_of(threads), "PYTHONPATH": str(root)}, capture_output=True, text=True
        )
        seconds[way] = time.perf_counter() - begun
        if done.returncode:
            sys.exit(f"{way}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        print(f"{way:24}{seconds[way]:8.1f} s, {seconds[way] / seconds['warm']:.2f} of warm")
    differing = [place for place in _results(folder / "0") if not _equal(folder / "0" / place, folder / "1" / place)]
    print(f"results of warm runs and of --isolate: {differing or 'equal to the bit'}")


def _results(folder: Path) -> list[Path]:
    """Return the predictions and the best weights of all runs."""
    paths = [*folder.rglob("*_predictions.csv"), *folder.rglob("dev-best.ckpt")]
    return sorted(path.relative_to(folder) for path in paths)


def _equal(one: Path, other: Path) -> bool:
    if one.suffix != ".ckpt":
        return one.read_bytes() == other.read_bytes()
    import torch

    from s3prl_emotion.files.checkpoint import load_checkpoint

    heads = [dict(_tensors(load_checkpoint(path)["Downstream"])) for path in (one, other)]
    return heads[0].keys() == heads[1].keys() and all(
        torch.equal(value, heads[1][key]) for key, value in heads[0].items()
    )


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors of nested mappings, by their places."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}")


def extraction(folder: Path, corpus: Path, model: Path, threads: int) -> tuple[float, Path]:
    """Return the seconds to extract an utterance's features into a store, and the filled store.

    Start-up is subtracted: the time of the same command on the filled store.
    """
    store = folder / "store-matrix"
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "s3prl_emotion", "extract", "-u", "hf_speech_custom", "-k", str(model)]
    command += ["--feature_store", str(store), "--labels", str(corpus / "meta_data"), "--root", str(corpus / "audio")]
    command += ["--device", "cpu"]
    count = len(list((corpus / "audio").rglob("*.wav")))
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment_of(threads))
        seconds.append(time.perf_counter() - begun)
    return (seconds[0] - seconds[1]) / count, store


if __name__ == "__main__":
    main()
