"""Compare the weighted sum over layers, forward and backward, with s3prl's and with that of before.

First one product over 25 layers of [4, 225, 1024]: s3prl's featurizer takes the upstream's list of layers, the suite's
the stack that the feature store returns or, in a run without a store, the list. Then a training step's stacks of mixed
lengths (2-6 s) to the padded batch: in one function, or as before: each utterance summed, then all padded. Peak memory
is above that of stacks and output gradient, each measured in a process of its own.

    python benchmarks/weighted_sum.py
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

from common import parser_of, print_table, ratio, run_script, set_up, take_turns

LAYERS, SHAPE = 25, (4, 225, 1024)
SIZES = ((7, 512), (13, 768), (25, 1024))
BATCHES = (4, 16, 32)
TYPES = ("float32", "float16")
KINDS = ("before", "fused")
SECONDS, FRAMES_PER_SECOND = (2.0, 6.0), 50


def main() -> None:
    """Print milliseconds, peak memory and ratios."""
    parser = parser_of(__doc__, repeats=11)
    parser.add_argument("--memory-of", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_up(args.threads)
    if args.memory_of:
        from steps import peak_memory

        kind, dtype, *numbers = args.memory_of
        print(json.dumps(peak_memory(steps(dtype, *map(int, numbers))[kind], "cpu")))
        return
    compare_featurizers(args.repeats, args.threads)
    print(f"\nstacks to a padded batch, forward and backward, {args.threads} threads")
    print(f"{'':34}{'before ms':>10}{'fused ms':>10}{'ratio':>8}{'before MB':>11}{'fused MB':>10}{'ratio':>8}")
    for layers, dim in SIZES:
        for dtype in TYPES:
            for batch in BATCHES:
                compare_padding(dtype, layers, dim, batch, args)


# --- one product ------------------------------------------------------------------------------------------------------


def compare_featurizers(repeats: int, threads: int) -> None:
    """Print milliseconds of s3prl's and the suite's sum of 25 layers, and their ratios."""
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
    times = take_turns(runs, repeats)
    print(f"{LAYERS} x {list(SHAPE)}, forward and backward, {threads} threads; milliseconds")
    print_table({name: [1e3 * value for value in values] for name, values in times.items()})
    for name in ("suite, stack", "suite, list"):
        print(f"host / {name}: {ratio(times['host, list'], times[name]):.1f}")


# --- stacks to a padded batch -----------------------------------------------------------------------------------------


def compare_padding(dtype: str, layers: int, dim: int, batch: int, args: argparse.Namespace) -> None:
    """Print a line with times, peak memory and ratios of one size."""
    runs = steps(dtype, layers, dim, batch)
    check_equal(runs)
    times = take_turns(runs, args.repeats, warm_up=1)
    del runs
    medians = [1e3 * statistics.median(times[kind]) for kind in KINDS]
    about = f"{batch} stacks of {layers} x {dim}, {dtype}"
    speed = ratio(times["before"], times["fused"])
    print(f"{about:34}{medians[0]:>10.1f}{medians[1]:>10.1f}{speed:>8.1f}", end="", flush=True)
    if batch == max(BATCHES):
        words = [dtype, str(layers), str(dim), str(batch), "--threads", str(args.threads)]
        before, fused = (float(run_script(__file__, ["--memory-of", kind, *words], args.threads)) for kind in KINDS)
        print(f"{before:>11.0f}{fused:>10.0f}{fused / before:>8.2f}", end="")
    print(flush=True)


def steps(dtype: str, layers: int, dim: int, batch: int) -> dict[str, Callable[[], object]]:
    """Return both kinds of a forward and backward pass; each returns the padded batch and the weights' gradient."""
    import torch
    from torch.nn.functional import softmax
    from torch.nn.utils.rnn import pad_sequence

    from s3prl_emotion.upstreams.fused_sum import sum_layers

    torch.manual_seed(0)
    low, high = (int(seconds * FRAMES_PER_SECOND) for seconds in SECONDS)
    frames = torch.randint(low, high + 1, (batch,)).tolist()
    stacks = [torch.randn(layers, length, dim, dtype=getattr(torch, dtype)) for length in frames]
    slope, weights = torch.randn(batch, max(frames), dim), torch.zeros(layers, requires_grad=True)

    def before() -> torch.Tensor:
        rows = []
        for stack in stacks:
            shares, stack = softmax(weights, dim=-1), stack.float()
            rows.append((shares @ stack.reshape(layers, -1)).view(stack.shape[1:]))
        return pad_sequence(rows, batch_first=True)

    def fused() -> torch.Tensor:
        return sum_layers(stacks, softmax(weights, dim=-1))

    def step(forward: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def run() -> tuple[torch.Tensor, torch.Tensor]:
            weights.grad = None
            padded = forward()
            padded.backward(slope)
            return padded.detach(), weights.grad

        return run

    return {"before": step(before), "fused": step(fused)}


def check_equal(runs: dict[str, Callable[[], object]]) -> None:
    """Check that both kinds compute the same."""
    import torch

    (padded, gradient), (other, of_other) = runs["before"](), runs["fused"]()
    torch.testing.assert_close(padded, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, of_other, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


if __name__ == "__main__":
    main()
