"""Measure the speed of Whisper's encoder in windows of 30 s, 15 s and the audio's length, and how features differ.

Without ``--model``, the encoder has the base size (6 x 512) and random weights, and its features mean nothing; without
``--audio``, it computes noise of 1.5-5 s. With real ones:

    python benchmarks/whisper_window.py --model MODEL_FOLDER --audio AUDIO_FOLDER
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

from common import FOLDER, RATE, parser_of, print_table, ratio, set_up, take_turns

WINDOWS: tuple[float | str | None, ...] = (None, 15, "audio")
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}


def main() -> None:
    """Print seconds for all utterances, and the mean cosine of the frames of each layer with those of 30 s."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--model", type=Path, help="folder with a Whisper model; random weights without it")
    parser.add_argument("--audio", type=Path, help="folder with speech; noise without it")
    parser.add_argument("--utterances", type=int, default=16, help="evenly spaced over the folder's files")
    args = parser.parse_args()
    set_up(args.threads)
    import torch

    from s3prl_emotion import host

    waveforms = _speech(args.audio, args.utterances) if args.audio else _noise(args.utterances)
    folder = str(args.model or _random_model())
    build = host.find_upstream("hf_speech_custom")
    names = [f"window: {window or 30}" for window in WINDOWS]
    models = [
        build(ckpt=folder, model_config={} if window is None else {"window": window}).eval() for window in WINDOWS
    ]

    def compute(model: torch.nn.Module) -> list[list[torch.Tensor]]:
        """Return the layers ``[T, D]`` of each utterance, computed alone as in training from a store."""
        with torch.inference_mode():
            return [[layer[0] for layer in model([waveform])["hidden_states"]] for waveform in waveforms]

    features = [compute(model) for model in models]
    seconds = sorted(len(waveform) / RATE for waveform in waveforms)
    print(
        f"{len(waveforms)} utterances of {seconds[0]:.1f}-{seconds[-1]:.1f} s, mean {statistics.mean(seconds):.2f} s, "
        f"{args.threads} threads; seconds for an utterance"
    )
    times = take_turns(
        {name: (lambda model=model: compute(model)) for name, model in zip(names, models, strict=True)}, args.repeats
    )
    print_table({name: [value / len(waveforms) for value in values] for name, values in times.items()})
    for name in names[1:]:
        print(f"{name}: {ratio(times[names[0]], times[name]):.1f} times as fast as 30 s (median of rounds)")
    print("\nmean cosine of frames with those of 30 s, by layer")
    for name, theirs in zip(names[1:], features[1:], strict=True):
        print(f"{name:16}" + "".join(f"{value:>8.4f}" for value in _cosines(features[0], theirs)))


def _cosines(one: list, other: list) -> list[float]:
    """Return the mean over all frames for each layer."""
    import torch

    layers = zip(zip(*one, strict=True), zip(*other, strict=True), strict=True)
    return [float(torch.cosine_similarity(torch.cat(mine), torch.cat(theirs)).mean()) for mine, theirs in layers]


def _speech(folder: Path, count: int) -> list:
    import torch

    from s3prl_emotion.audio import load_audio

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"{folder}: no audio in it; name a folder with {', '.join(sorted(SUFFIXES))} files")
    chosen = [files[number * len(files) // min(count, len(files))] for number in range(min(count, len(files)))]
    return [torch.as_tensor(load_audio(path)) for path in chosen]


def _noise(count: int) -> list:
    import torch

    generator = torch.Generator().manual_seed(0)
    lengths = itertools.islice(itertools.cycle([1.5, 2.2, 2.8, 3.4, 5.0]), count)
    return [0.1 * torch.randn(round(seconds * RATE), generator=generator) for seconds in lengths]


def _random_model() -> Path:
    """Save an encoder of the base size with random weights, once; return its folder."""
    target = FOLDER / "whisper-base"
    if not (target / "model.safetensors").is_file():
        import torch
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

        torch.manual_seed(0)
        sizes = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
        tail = {"decoder_layers": 1, "decoder_attention_heads": 8, "decoder_ffn_dim": 64, "vocab_size": 64}
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        WhisperModel(WhisperConfig(**sizes, **tail, **special)).save_pretrained(target)
        WhisperFeatureExtractor().save_pretrained(target)
    return target


if __name__ == "__main__":
    main()
