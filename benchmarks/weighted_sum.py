"""The featurizer's weighted sum over 25 layers of [4, 225, 1024], forward and backward, beside the host's.

The host's takes the upstream's list of layers; the suite's takes the stack as the feature store gives it, and, for a
run without a store, the list too.

    python benchmarks/weighted_sum.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from common import ROOT, spread

LAYERS, SHAPE = 25, (4, 225, 1024)


def main() -> None:
    """Print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(args.threads)
    import s3prl_emotion

    s3prl_emotion.register()
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
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begun))
    print(f"{LAYERS} x {list(SHAPE)}, forward and backward, {args.threads} threads; milliseconds")
    print(f"{'':16}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in times.items():
        print(f"{name:16}{spread(values)}")
    for name in ("suite, stack", "suite, list"):
        pairs = [theirs / own for theirs, own in zip(times["host, list"], times[name], strict=True)]
        print(f"host / {name}: {statistics.median(pairs):.1f}")


if __name__ == "__main__":
    main()
