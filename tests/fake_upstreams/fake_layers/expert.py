"""Layers of frames of 160 samples, none of which depends on another: ``tanh(frame @ weights[layer] * 10)``."""

import os
import time

import torch
import xxhash
import yaml
from torch.nn.utils.rnn import pad_sequence

FRAME = 160  # samples
DEFAULTS = {
    "layers": 4,
    "dim": 6,
    "seed": 0,
    "scale": 1.0,
    "delay": 0.0,  # s an utterance
    "calls": None,  # file that gets one line an utterance: hash of its samples
    "noise": 0.0,  # added, drawn from torch's generator
    "uneven": 0,  # utterances of so many samples or fewer have one layer less
    "one_frame": False,
    "batch": 0.0,  # what neighbours in a batch add to an utterance: an upstream that minds them
}


class UpstreamExpert(torch.nn.Module):
    def __init__(self, model_config=None, **kwargs):
        super().__init__()
        if isinstance(model_config, str):
            with open(model_config) as file:
                model_config = yaml.safe_load(file)
        self.options = {**DEFAULTS, **(model_config or {})}
        generator = torch.Generator().manual_seed(self.options["seed"])
        shape = (self.options["layers"], FRAME, self.options["dim"])
        self.weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
        self.register_buffer("offset", torch.linspace(-1, 1, self.options["dim"]))
        self.frames = self._frames

    def _frames(self, samples):
        return 1 if self.options["one_frame"] else max(1, samples // FRAME)

    def forward(self, wavs):
        torch.rand(1)  # models of transformers draw for layerdrop even in eval mode
        for wav in wavs:
            if self.options["calls"]:
                with open(self.options["calls"], "ab", buffering=0) as file:
                    file.write(f"{os.getpid()} {xxhash.xxh3_128_hexdigest(wav.numpy())}\n".encode())
            time.sleep(self.options["delay"])
        count = self.options["layers"] - (max(map(len, wavs)) <= self.options["uneven"])
        framed = [self._framed(wav) for wav in wavs]
        padded = pad_sequence(framed, batch_first=True)
        hidden = [torch.tanh(padded @ self.weight[layer] * 10) + self.offset for layer in range(count)]
        hidden = [(layer + self.options["batch"] * (len(wavs) - 1)) * self.options["scale"] for layer in hidden]
        hidden = [layer + self.options["noise"] * torch.randn_like(layer) for layer in hidden]
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    def _framed(self, wav):
        count = self._frames(len(wav))
        whole = torch.nn.functional.pad(wav, (0, max(0, count * FRAME - len(wav))))
        return whole[: count * FRAME].view(count, FRAME)

    def get_downsample_rates(self, key):
        return FRAME
