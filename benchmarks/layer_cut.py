"""What it saves to compute only the layers up to the one that is used: a 24-layer WavLM with random weights.

Mitra et al. 2025, Table 7 (WavLM 16 %, HuBERT 8 % of the computation). Beside it, `-l LAYER` as it is in s3prl, which
computes all layers and takes one.

    python benchmarks/layer_cut.py --layer 20
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

from common import LARGE, RATE, ROOT, spread


def main() -> None:
    """Print seconds, parameters and what is saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(args.threads)
    import s3prl_emotion
    from s3prl_emotion import host
    from s3prl_emotion.upstreams.layer_choice import cut_upstream

    s3prl_emotion.register()
    options = {"family": "wavlm", "config": LARGE}

    def build(layer: int | None) -> tuple[Any, Any]:
        model = host.find_upstream("hf_speech_random")(model_config=options).eval()
        return model, cut_upstream(model, "hf_speech_random", None, None, "hidden_states", layer)

    (whole, _), (cut, sizes) = build(None), build(args.layer)
    wav = [torch.randn(round(args.seconds * RATE), generator=torch.Generator().manual_seed(0))]
    times: dict[str, list[float]] = {"all layers": [], f"up to {args.layer}": []}
    with torch.no_grad():
        torch.testing.assert_close(
            cut(wav)["hidden_states"][args.layer], whole(wav)["hidden_states"][args.layer], rtol=0, atol=0
        )
        for _ in range(args.repeats):
            for name, model in zip(times, (whole, cut), strict=True):
                begun = time.perf_counter()
                model(wav)
                times[name].append(time.perf_counter() - begun)
    print(f"WavLM of 24 layers x 1024, {args.seconds:g} s of audio, {args.threads} threads; seconds")
    print(f"{'':16}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in times.items():
        print(f"{name:16}{spread(values)}")
    pairs = [1 - kept / every for every, kept in zip(*times.values(), strict=True)]
    print(f"time saved: {100 * statistics.median(pairs):.1f} % (median of pairs)")
    saved = 1 - sizes.computed / sizes.parameters
    print(f"parameters: {sizes.computed} of {sizes.parameters}, {100 * saved:.1f} % saved")


if __name__ == "__main__":
    main()
