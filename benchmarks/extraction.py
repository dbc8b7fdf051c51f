"""Compare extracting through ``hf_speech`` into a store, batched or one by one, with a plain loop of ``transformers``.

The plain loop only runs the model over batches of utterances sorted by length (ideal buckets), and writes nothing. All
ways process the same audio. Models have random weights.

    python benchmarks/extraction.py --utterances 48
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RATE, SIZES, parser_of, print_table, ratio, save_model, set_up, take_turns


def main() -> None:
    """Print the seconds of audio per second, and ratios."""
    parser = parser_of(__doc__, repeats=5, folder=True)
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--batch_seconds", type=float, default=24.0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    set_up(args.threads)
    import torch

    folder = save_model(args.folder, args.size)
    waveforms, seconds = audio(args.utterances)
    runs = ways(folder, waveforms, args)
    wait = None if args.device == "cpu" else torch.cuda.synchronize
    times = take_turns(runs, args.repeats, warm_up=1, wait=wait)
    speeds = {name: [seconds / value for value in values] for name, values in times.items()}
    print(f"HuBERT {args.size}, {args.utterances} utterances, {seconds:.0f} s of audio, {args.device}")
    print_table(speeds, "audio seconds a second", width=24)
    for name in list(runs)[1:]:
        print(f"{name} / plain loop: {ratio(speeds[name], speeds['plain loop']):.2f}")


def audio(count: int) -> tuple[list[np.ndarray], float]:
    """Return noise with durations like IEMOCAP's (log-normal, 4.5 s on average, 1 to 20 s), and its total duration."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(np.log(3.7), 0.6, count), 1, 20)
    waveforms = [generator.normal(scale=0.1, size=int(length * RATE)).astype(np.float32) for length in lengths]
    return sorted(waveforms, key=len, reverse=True), sum(map(len, waveforms)) / RATE


def ways(folder: Path, waveforms: list[np.ndarray], args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Return functions that extract by the three ways, in the same batches."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    from s3prl_emotion.extract.filling import Extracted
    from s3prl_emotion.extract.filling import _batches as batches_of
    from s3prl_emotion.extract.filling import _extract_batch as extract_batch
    from s3prl_emotion.store import FeatureStore
    from s3prl_emotion.upstreams.build import build_source

    batches = batches_of([len(waveform) / RATE for waveform in waveforms], args.batch_seconds)
    store = args.folder / "extraction"
    model = AutoModel.from_pretrained(folder).eval().to(args.device)
    extractor = AutoFeatureExtractor.from_pretrained(folder)

    def plain() -> None:
        with torch.no_grad():
            for batch in batches:
                inputs = extractor([waveforms[b] for b in batch], sampling_rate=RATE, padding=True, return_tensors="pt")
                model(**inputs.to(args.device), output_hidden_states=True)

    def through_store(batched: bool) -> Callable[[], None]:
        source = build_source(words(folder, store, args.device), batched=batched)
        runs = batches if batched else [[index] for index in range(len(waveforms))]

        def run() -> None:
            source.required_store().close()
            shutil.rmtree(store)
            source.store = FeatureStore(store, source.required_store().identity)
            for batch in runs:
                extract_batch(source, [waveforms[b] for b in batch], [str(b) for b in batch], batched, Extracted())

        return run

    return {"plain loop": plain, "store, batched": through_store(True), "store, one by one": through_store(False)}


def words(folder: Path, store: Path, device: str) -> argparse.Namespace:
    """Return the flags of ``s3prl-emotion extract``."""
    return argparse.Namespace(
        upstream="hf_speech_custom",
        upstream_ckpt=str(folder),
        upstream_model_config=None,
        upstream_feature_selection="hidden_states",
        upstream_layer_selection=None,
        upstream_path=None,
        device=device,
        feature_store=str(store),
        store_dtype="float32",
    )


if __name__ == "__main__":
    main()
