"""Compare fine-tuning by LoRA with all weights in memory, and with plain peft and ``transformers`` in time.

HuBERT has random weights; batches are of utterances of equal length (noise), so that both compute the same. The plain
loop has what a training needs and no more: hidden states, their weighted sum, a projection, mean pooling, a linear
layer, cross entropy, clipping and Adam. Each variant trains in a process of its own, in turn with the others.

    python benchmarks/finetune.py --size base
    python benchmarks/finetune.py --size base --bf16
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from common import RATE, SIZES, parser_of, print_table, ratio, resident, run_script, save_model, set_up

LORA = {"trainable": "lora", "rank": 8, "alpha": 16}
SECTIONS: dict[str, dict[str, object]] = {
    "plain peft": LORA,
    "lora": LORA,
    "lora, gradient checkpointing": LORA | {"gradient_checkpointing": True},
    "lora, last 4 layers": LORA | {"layers": 4},
    "top 4 layers": {"trainable": "top_layers", "layers": 4},
    "all": {"trainable": "all"},
    "all, gradient checkpointing": {"trainable": "all", "gradient_checkpointing": True},
}
PLAIN, UNTIMED = "plain peft", 2  # first steps, in which libraries set themselves up


def main() -> None:
    """Print the seconds of a step and the greatest resident memory of each variant."""
    parser = parser_of(__doc__, repeats=3, folder=True)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=4, help="utterances of a step")
    parser.add_argument("--duration", type=float, default=3.0, help="of an utterance (s)")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--variants", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args)
        return
    save_model(args.folder, args.size)
    _save_corpus(args.folder, args.batch, args.duration)
    words = [word for word in sys.argv[1:] if word not in ("--variants", *SECTIONS)]
    seconds: dict[str, list[float]] = {name: [] for name in args.variants}
    memory: dict[str, list[float]] = {name: [] for name in args.variants}
    for _ in range(args.repeats):
        for name in args.variants:
            steps, peak = run_script(__file__, [*words, "--child", name], args.threads)
            seconds[name].append(float(np.median(steps)))
            memory[name].append(peak)
    print(f"HuBERT {args.size}, {args.batch} x {args.duration:g} s, {args.device}, {args.threads} threads")
    print_table(seconds, "seconds a step", 30)
    print_table(memory, "MB at most", 30)
    for name in args.variants:
        if PLAIN in args.variants and name != PLAIN:
            print(f"{name} / {PLAIN}: {ratio(seconds[name], seconds[PLAIN]):.3f} of the time")


def _save_corpus(folder: Path, batch: int, duration: float) -> None:
    """Save noise of equal length: three speakers, a fold each, ``batch`` utterances and more of each."""
    root, generator = folder / "finetune", np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["FileName", "EmoClass", "SpkrID", "Fold"])
        for number in range(3 * 4 * batch):
            wave = generator.normal(scale=0.1, size=int(duration * RATE))
            soundfile.write(root / f"{number}.wav", wave, RATE)
            writer.writerow([f"{number}.wav", "ab"[number // 3 % 2], f"s{number % 3}", f"fold{number % 3 + 1}"])


def _child(args: argparse.Namespace) -> None:
    import torch

    stamps: list[float] = []
    update = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *more: object, **options: object) -> object:
        result = update(self, *more, **options)
        if args.device != "cpu":
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())
        return result

    torch.optim.Adam.step = step  # type: ignore[method-assign, assignment]
    set_up(args.threads)
    (_plain if args.child == PLAIN else _ours)(args)
    peak = resident("VmHWM") if args.device == "cpu" else torch.cuda.max_memory_allocated() / 1e6
    print(json.dumps([np.diff(stamps)[UNTIMED:].tolist(), peak]))


def _ours(args: argparse.Namespace) -> None:
    """Train with the suite's command line."""
    from s3prl_emotion.run_downstream import main as run

    values: dict[str, object] = {
        "upstream": SECTIONS[args.child],
        "downstream_expert.datarc.root": str(args.folder / "finetune"),
        "downstream_expert.datarc.labels": str(args.folder / "finetune" / "labels.csv"),
        "downstream_expert.datarc.train_batch_size": args.batch,
        "downstream_expert.modelrc.pooling": "mean",
        "runner.gradient_accumulate_steps": 1,
        "runner.total_steps": args.steps + UNTIMED + 1,
        "runner.bf16": args.bf16,
        **dict.fromkeys(("runner.log_step", "runner.eval_step", "runner.save_step"), 10**6),
    }
    words = ["-m", "train", "-f", "-d", "emotion_corr_attn", "-u", "hf_speech_custom", "--device", args.device]
    words += ["-k", str(args.folder / f"hubert-{args.size}"), "-p", str(args.folder / "finetune-run"), "--overwrite"]
    code = run([*words, "-o", ",,".join(f"config.{key}={value!r}" for key, value in values.items())])
    if code:
        sys.exit(code)


def _plain(args: argparse.Namespace) -> None:
    """Train in a loop of peft and ``transformers``."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn import functional
    from transformers import HubertModel

    targets = ["q_proj", "k_proj", "v_proj", "out_proj"]
    model = HubertModel.from_pretrained(args.folder / f"hubert-{args.size}", layerdrop=0.0, apply_spec_augment=False)
    model.feature_extractor._freeze_parameters()  # else transformers keeps what a gradient of the waveform needs
    layers, width = model.config.num_hidden_layers + 1, model.config.hidden_size
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets)).train().to(args.device)
    head = torch.nn.ModuleList([torch.nn.Linear(width, 256), torch.nn.Linear(256, 2)]).to(args.device)
    weights = torch.nn.Parameter(torch.zeros(layers, device=args.device))
    trained = [weights, *head.parameters(), *(item for item in model.parameters() if item.requires_grad)]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    files = sorted((args.folder / "finetune").glob("*.wav"))
    waves = torch.stack([torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files])
    for number in range(args.steps + UNTIMED + 1):
        rows = torch.arange(number * args.batch, (number + 1) * args.batch) % len(waves)
        with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.bf16):
            hidden = model(waves[rows].to(args.device), output_hidden_states=True).hidden_states
            summed = (torch.stack(hidden) * weights.softmax(0)[:, None, None, None]).sum(0)
            logits = head[1](head[0](summed).mean(1))
            loss = functional.cross_entropy(logits, (rows % 2).to(args.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
