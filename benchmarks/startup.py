"""Compare how soon ``run_downstream.py`` prints its help and makes its first training step.

Compared are stock s3prl, patched only so that it imports, and the suite with all upstreams imported ahead, as it was
before; ``--help`` is compared with ``import torch`` too. Each is a process of its own, in turn; the last column is the
time on the processor, which other load disturbs less.

    python benchmarks/startup.py --checkout ../of_before
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, environment_of, parser_of, print_table, ratio, save_corpus
from training_step import overrides

WAYS = ("ours", "all upstreams", "stock s3prl")


def main() -> None:
    """Print the seconds of each start, and ratios."""
    parser = parser_of(__doc__, repeats=5, folder=True)
    parser.add_argument("--checkout", type=Path, help="another version of the suite, whose first step is timed as well")
    args = parser.parse_args()
    corpus, exp = save_corpus(args.folder / "startup", 8), args.folder / "startup" / "exp"
    common = ["-m", "train", "--device", "cpu", "-u", "fbank_no_cmvn", "-v", "fold1", "-p", str(exp)]
    recipes = {"corr_attn": "kakouros2023/corr_attn.yaml", "emotion": "stock/emotion.yaml"}
    files = {name: ["-c", str(ROOT / "recipes" / file)] for name, file in recipes.items()}
    head = ["-d", "emotion_corr_attn", *files["corr_attn"], "-o", overrides(corpus, 1, superb=False)]
    task = ["-d", "emotion", *files["emotion"], "-o", overrides(corpus, 1, superb=True)]
    demo = ["-m", "train", "--device", "cpu", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", str(exp)]
    commands = {("import torch", "import torch"): ["import torch"]}
    for way in WAYS:
        commands["--help", way] = [way, "--help"]
    others = [] if args.checkout is None else [str(args.checkout.resolve())]
    for way in (*WAYS[:2], *others):
        commands["first step, demo", way] = [way, *demo]
    commands["first step, SUPERB's lists", "ours"] = ["ours", *common, *head]
    commands["first step, SUPERB's lists", "stock s3prl"] = ["stock s3prl", *common, *task]
    walls: dict[tuple[str, str], list[float]] = {key: [] for key in commands}
    busy: dict[tuple[str, str], list[float]] = {key: [] for key in commands}
    for number in range(args.repeats + 1):  # the first round fills the disk's cache and makes the demo corpus
        for key, words in commands.items():
            shutil.rmtree(exp, ignore_errors=True)
            wall, processor = timed_start(words, args.threads)
            if number:
                walls[key].append(wall)
                busy[key].append(processor)
    for title, times in (("seconds", walls), ("seconds of processor", busy)):
        print_table({": ".join(key): values for key, values in times.items()}, title, width=44)
        for (what, way), values in times.items():
            if way not in ("ours", "import torch"):
                print(f"{what}: {way} / ours {ratio(values, times[what, 'ours']):.2f}")
        help_of_torch = ratio(times["--help", "ours"], times["import torch", "import torch"])
        print(f"--help / import torch {help_of_torch:.2f}")


def timed_start(words: list[str], threads: int) -> tuple[float, float]:
    """Run a start in a process of its own; return its seconds on the clock and on the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "start", *words], env=environment_of(threads), capture_output=True, text=True
    )
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _start(way: str, words: list[str]) -> None:
    """Start and end at the first step, or after the help."""
    if way == "import torch":
        __import__("torch")
        return
    sys.argv = ["run_downstream.py", *words]
    if words != ["--help"]:
        _end_at_first_step()
    if way == "stock s3prl":
        from s3prl_emotion import host

        host.patch()
        import s3prl.run_downstream

        s3prl.run_downstream.main()
        return
    if way == "all upstreams":
        import s3prl_emotion

        s3prl_emotion.register()
        vars(sys.modules["s3prl.hub"])
    if os.path.isdir(way):
        sys.path.insert(0, way)
    from s3prl_emotion.run_downstream import command

    command()


def _end_at_first_step() -> None:
    import torch

    update = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: object, **kwargs: object) -> None:
        update(self, *args, **kwargs)
        os._exit(0)

    torch.optim.Adam.step = step


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        _start(sys.argv[2], sys.argv[3:])
    else:
        main()
