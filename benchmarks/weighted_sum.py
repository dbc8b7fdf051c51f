"""Compare the featurizer's weighted sum over 25 layers of [4, 225, 1024], forward and backward, with the host's.

The host's takes the upstream's list of layers; the suite's takes the stack that the feature store returns or, in a run
without a store, the list.

    python benchmarks/weighted_sum.py
"""

from __future__ import annotations

from collections.abc import Callable

from common import parser_of, print_table, ratio, set_up, take_turns

LAYERS, SHAPE = 25, (4, 225, 1024)


def main() -> None:
    """Print milliseconds and ratios."""
    parser = parser_of(__doc__, repeats=11)
    args = parser.parse_args()
    set_up(args.threads)
    import torch
    from s3prl.upstream.interfaces import Featurizer as HostFeaturizer

    from s3prl_emotion.upstreams.featurizer import Featurizer

    torch.manual_seed(0)
    layers = [torch.randn(SHAPE) for _ in range(LAYERS)]
    stack, slope = torch.stack(layers), torch.randn(SHAPE)

    def upstream(waveforms: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        return {"hidden_states": [layer[:1, :50] for layer in layers]}

    class Model:
        def __call__(self, waveforms: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
            return upstream(waveforms)

        def eval(self) -> None:
            pass

        def get_downsample_rates(self, key: str) -> int:
            return 320

    host, ours = (
        kind(upstream=Model(), feature_selection="hidden_states", upstream_device="cpu")
        for kind in (HostFeaturizer, Featurizer)
    )

    def step(featurizer: torch.nn.Module, given: object) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            featurizer.weights.grad = None
            output = featurizer._weighted_sum(given)
            output.backward(slope)
            return output.detach()

        return run

    runs = {"host, list": step(host, layers), "suite, stack": step(ours, stack), "suite, list": step(ours, layers)}
    for run in runs.values():
        torch.testing.assert_close(run(), runs["host, list"](), rtol=1e-4, atol=1e-5)
    times = take_turns(runs, args.repeats)
    print(f"{LAYERS} x {list(SHAPE)}, forward and backward, {args.threads} threads; milliseconds")
    print_table({name: [1e3 * value for value in values] for name, values in times.items()})
    for name in ("suite, stack", "suite, list"):
        print(f"host / {name}: {ratio(times['host, list'], times[name]):.1f}")


if __name__ == "__main__":
    main()
