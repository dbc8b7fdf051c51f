"""Time the feature store: opening one of 150,000 utterances, and reading compared with a plain memory-map copy.

python benchmarks/store.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import parser_of, print_table, ratio, resident, set_up, spread, take_turns

SHAPE = (13, 199, 768)  # HuBERT base, 4 s


def main() -> None:
    """Print seconds, MB and GB/s."""
    parser = parser_of(__doc__, repeats=7)
    parser.add_argument("--utterances", type=int, default=150_000, help="in the store that is opened")
    parser.add_argument("--read", type=int, default=128, help="utterances that are read")
    args = parser.parse_args()
    set_up(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        opening(Path(folder) / "many", args.utterances, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        reading(Path(folder) / "big", args.read, args.repeats)


def identity() -> object:
    """Return an identity of no particular upstream."""
    from s3prl_emotion.store import Identity

    return Identity({"upstream": "benchmark", "dtype": "float32", "layer": None, "batched": False})


def opening(folder: Path, utterances: int, repeats: int) -> None:
    """Print the seconds and the memory of opening a store with many tiny utterances."""
    import torch

    from s3prl_emotion.store import FeatureStore
    from s3prl_emotion.store.segments import SegmentWriter

    store, stack = FeatureStore(folder, identity()), torch.zeros(1, 1, 1)
    writer = SegmentWriter(store.folder)
    for number in range(utterances):
        writer.append(number.to_bytes(16, "little"), stack, 16_000)
    writer.close()
    store.close()
    before, times = resident(), []
    for _ in range(repeats):
        begun = time.perf_counter()
        store = FeatureStore(folder, identity())
        times.append(time.perf_counter() - begun)
        if len(times) == 1:
            memory = resident() - before
        if len(store) != utterances:
            sys.exit(f"{len(store)} utterances, {utterances} were written")
        store.close()
    print(f"opening {utterances} utterances: seconds {spread(times)}; {memory:.0f} MB")


def reading(folder: Path, utterances: int, repeats: int) -> None:
    """Print the rates of reading stacks and summing their layers, and of copying the same bytes from a memory map."""
    import torch

    from s3prl_emotion.store import FeatureStore

    store, keys = FeatureStore(folder, identity()), [number.to_bytes(16, "little") for number in range(utterances)]
    for number, key in enumerate(keys):
        store.put(key, torch.randn(SHAPE, generator=torch.Generator().manual_seed(number)), 64_000)
    weights = torch.softmax(torch.randn(SHAPE[0]), dim=0)
    size = utterances * int(np.prod(SHAPE)) * 4
    buffer = np.empty(SHAPE, dtype=np.float32)
    payload = next(store.folder.glob("*.features"))
    step = -(-buffer.nbytes // 64) * 64

    def first() -> None:
        fresh = FeatureStore(folder, identity())
        for key in keys:
            fresh.get(key, 64_000)

    def read_and_sum() -> None:
        for key in keys:
            torch.mv(store.get(key, 64_000).view(SHAPE[0], -1).t(), weights)

    def read_and_copy() -> None:
        for key in keys:
            np.copyto(buffer, store.get(key, 64_000).numpy())

    def plain() -> None:
        mapped = np.memmap(payload, dtype=np.float32, mode="r")
        for number in range(utterances):
            start = number * step // 4
            np.copyto(buffer, mapped[start : start + buffer.size].reshape(SHAPE))

    runs = {
        "memory-map copy": plain,
        "first reading, checked": first,
        "read and copy": read_and_copy,
        "read and sum layers": read_and_sum,
    }
    times = take_turns(runs, repeats, warm_up=1)
    rates = {name: [size / 1e9 / seconds for seconds in values] for name, values in times.items()}
    print(f"\n{size / 1e9:.2f} GB in the page cache")
    print_table(rates, "GB/s", width=24)
    for name in list(runs)[1:]:
        print(f"{name} / memory-map copy: {ratio(rates[name], rates['memory-map copy']):.2f}")


if __name__ == "__main__":
    main()
