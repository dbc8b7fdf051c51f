"""Extraction through ``hf_speech`` into a store, batched and alone, beside a plain loop of ``transformers``.

The plain loop runs the model over batches of utterances sorted by length (ideal buckets), writes nothing and does
nothing else; each way sees the same audio. Models have random weights.

    python benchmarks/extraction.py --utterances 48
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RATE, ROOT, SIZES, save_model, spread


def main() -> None:
    """Print seconds of audio per second, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--batch_seconds", type=float, default=24.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "s3prl-emotion-benchmark")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(args.threads)
    folder = save_model(args.folder, args.size)
    waveforms, seconds = audio(args.utterances)
    runs = ways(folder, waveforms, args)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(args.repeats + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if args.device != "cpu":
                torch.cuda.synchronize()
            if repeat:  # the first warms up
                times[name].append(seconds / (time.perf_counter() - begun))
    print(f"HuBERT {args.size}, {args.utterances} utterances, {seconds:.0f} s of audio, {args.device}")
    print(f"{'audio seconds a second':24}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in times.items():
        print(f"{name:24}{spread(values)}")
    for name in list(runs)[1:]:
        pairs = [own / plain for own, plain in zip(times[name], times["plain loop"], strict=True)]
        print(f"{name} / plain loop: {statistics.median(pairs):.2f}")


def audio(count: int) -> tuple[list[np.ndarray], float]:
    """Noise with lengths as IEMOCAP's: log-normal, 4.5 s on average, 1 to 20 s."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(np.log(3.7), 0.6, count), 1, 20)
    waveforms = [generator.normal(scale=0.1, size=int(length * RATE)).astype(np.float32) for length in lengths]
    return sorted(waveforms, key=len, reverse=True), sum(map(len, waveforms)) / RATE


def ways(folder: Path, waveforms: list[np.ndarray], args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """The three ways, over the same batches."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    import s3prl_emotion
    from s3prl_emotion.extract.filling import Extracted
    from s3prl_emotion.extract.filling import _batches as batches_of
    from s3prl_emotion.extract.filling import _extract_batch as extract_batch
    from s3prl_emotion.store import FeatureStore
    from s3prl_emotion.upstreams.build import build_source

    s3prl_emotion.register()
    batches = batches_of([len(waveform) / RATE for waveform in waveforms], args.batch_seconds)
    place = args.folder / "extraction"
    model = AutoModel.from_pretrained(folder).eval().to(args.device)
    extractor = AutoFeatureExtractor.from_pretrained(folder)

    def plain() -> None:
        with torch.no_grad():
            for batch in batches:
                inputs = extractor([waveforms[b] for b in batch], sampling_rate=RATE, padding=True, return_tensors="pt")
                model(**inputs.to(args.device), output_hidden_states=True)

    def through_store(batched: bool) -> Callable[[], None]:
        source = build_source(words(folder, place, args.device), batched=batched)
        runs = batches if batched else [[index] for index in range(len(waveforms))]

        def run() -> None:
            source.required_store().close()
            shutil.rmtree(place)
            source.store = FeatureStore(place, source.required_store().identity)
            for batch in runs:
                extract_batch(source, [waveforms[b] for b in batch], [str(b) for b in batch], batched, Extracted())

        return run

    return {"plain loop": plain, "store, batched": through_store(True), "store, alone": through_store(False)}


def words(folder: Path, place: Path, device: str) -> argparse.Namespace:
    """Flags of ``s3prl-emotion extract``."""
    return argparse.Namespace(
        upstream="hf_speech_custom",
        upstream_ckpt=str(folder),
        upstream_model_config=None,
        upstream_feature_selection="hidden_states",
        upstream_layer_selection=None,
        upstream_path=None,
        device=device,
        feature_store=str(place),
        store_dtype="float32",
    )


if __name__ == "__main__":
    main()
