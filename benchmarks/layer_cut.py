"""Measure what it saves to compute only the layers up to the selected one, in a 24-layer WavLM with random weights.

Mitra et al. 2025, Table 7 saves 16 % of the computation of WavLM, 8 % of HuBERT. It is compared with s3prl's own
`-l LAYER`, which computes all layers and selects one.

    python benchmarks/layer_cut.py --layer 20
"""

from __future__ import annotations

from typing import Any

from common import LARGE, RATE, parser_of, print_table, ratio, set_up, take_turns


def main() -> None:
    """Print seconds and parameters, and how much is saved."""
    parser = parser_of(__doc__, repeats=7)
    parser.add_argument("--layer", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio")
    args = parser.parse_args()
    set_up(args.threads)
    import torch

    from s3prl_emotion import host
    from s3prl_emotion.upstreams.layer_choice import cut_upstream

    options = {"family": "wavlm", "config": LARGE}

    def build(layer: int | None) -> tuple[Any, Any]:
        model = host.find_upstream("hf_speech_random")(model_config=options).eval()
        return model, cut_upstream(model, "hf_speech_random", None, None, "hidden_states", layer)

    (whole, _), (cut, sizes) = build(None), build(args.layer)
    wav = [torch.randn(round(args.seconds * RATE), generator=torch.Generator().manual_seed(0))]
    runs = {"all layers": lambda: whole(wav), f"up to {args.layer}": lambda: cut(wav)}
    with torch.no_grad():
        torch.testing.assert_close(
            cut(wav)["hidden_states"][args.layer], whole(wav)["hidden_states"][args.layer], rtol=0, atol=0
        )
        times = take_turns(runs, args.repeats)
    print(f"WavLM of 24 layers x 1024, {args.seconds:g} s of audio, {args.threads} threads; seconds")
    print_table(times)
    every, kept = times.values()
    print(f"time saved: {100 * (1 - ratio(kept, every)):.1f} % (median of pairs)")
    saved = 1 - sizes.computed / sizes.parameters
    print(f"parameters: {sizes.computed} of {sizes.parameters}, {100 * saved:.1f} % saved")


if __name__ == "__main__":
    main()
