"""Compute the hidden states of all layers of a speech model of ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_emotion.errors import AudioError
from s3prl_emotion.upstreams.pretrained import config_values

from .batching import buckets
from .families import find_family, has_final_norm
from .frontends import FilterbankFrontend, Frontend, MoonshineFrontend, ParakeetFrontend, WaveformFrontend
from .loading import Loaded, load, owner_of_layers
from .options import read_options
from .whisper import WhisperFrontend

ADAPTER_VERSION = 1  # increment when features change
FRONTENDS: dict[str, Callable[[Loaded], Frontend]] = {
    "whisper": WhisperFrontend,
    "qwen2_audio_encoder": WhisperFrontend,
    "voxtral_encoder": WhisperFrontend,
    "wav2vec2-bert": FilterbankFrontend,
    "moonshine": MoonshineFrontend,
    "parakeet_encoder": ParakeetFrontend,
}


class UpstreamExpert(torch.nn.Module):
    """A speech model as an upstream of s3prl.

    Args:
        ckpt: local directory, or id of a model on the hub
        model_config: YAML file or mapping of options, see :class:`.options.Options`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: the model cannot be loaded; the message says why and how to fix it
        ConfigError: an option is unknown or out of range
    """

    model: Any

    def __init__(
        self,
        ckpt: str | Path,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.options = read_options(model_config)
        loaded = load(ckpt, self.options, refresh=refresh)
        self._depth, self._cut, self._commit = loaded.depth, loaded.cut, loaded.commit
        self.hub_commit = loaded.hub_commit
        self.frontend: Frontend = FRONTENDS.get(loaded.model.config.model_type, WaveformFrontend)(loaded)
        self.model = loaded.model
        self.window_samples = int(getattr(self.frontend, "window", 0)) if not self.frontend.pads else 0
        self.windows_at_once = int(getattr(self.frontend, "windows_at_once", 1))
        self.window_step = int(getattr(self.frontend, "window_step", 0))
        self.only_windows = self.window_step > 0  # these four tell what memory it needs
        self.eval()  # the host calls train() if it trains the upstream too

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Compute features, which do not depend on the other utterances of the batch.

        Args:
            wavs: ``[N_b]`` float32, 16 kHz

        Returns:
            ``hidden_states``: ``[B, T, D]`` float32 for each of the L + 1 layers; layer 0 is the input of the first
            transformer layer; frames after ``frames(N_b)`` are 0. ``last_hidden_state [B, T, D]``: the model's output

        Raises:
            AudioError: no utterance, or an empty one, or one that is not a vector
        """
        if not wavs:
            raise AudioError("a batch without utterances; pass at least one waveform")
        for number, wav in enumerate(wavs):
            if wav.dim() != 1 or not len(wav):
                raise AudioError(f"utterance {number} of the batch: must be [N] with N >= 1, got {tuple(wav.shape)}")
        waveforms = [wav.detach().float() for wav in wavs]
        groups = buckets([len(wav) for wav in wavs]) if self.frontend.pads else [list(range(len(wavs)))]
        done: dict[int, tuple[Tensor, ...]] = {}
        for group in groups:
            done |= dict(zip(group, self.frontend.compute(self.model, [waveforms[b] for b in group]), strict=True))
        rows = zip(*(done[b] for b in range(len(wavs))), strict=True)
        *layers, output = (pad_sequence(list(layer), batch_first=True).float() for layer in rows)
        if self.options.final_norm:
            layers[-1] = output
        return {"hidden_states": tuple(layers), "last_hidden_state": output}

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame: 320 (20 ms), but Moonshine's 384 (24 ms) and Parakeet's 1280 (80 ms)."""
        return self.frontend.rate

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples, at least 1."""
        return self.frontend.frames(samples)

    def cut_after(self, layer: int) -> None:
        """Drop the transformer layers above ``layer``; the hidden states up to it stay the same.

        :meth:`identity` and stored features stay valid, since the remaining features do not change.
        """
        owner = owner_of_layers(self.model)
        if layer >= len(owner.layers):
            return
        owner.layers = owner.layers[: max(1, layer)]
        if has_final_norm(find_family(self.model.config.model_type, "the model"), self.model.config):
            owner.layer_norm = torch.nn.Identity()  # the new last layer had no norm before

    def transformer_layers(self) -> torch.nn.ModuleList:
        """Return the transformer layers that are computed, from the first, for fine-tuning."""
        return owner_of_layers(self.model).layers

    def adapter_targets(self, kind: str) -> tuple[str, ...]:
        """Return the names of the linear layers in a transformer layer's ``attention`` or ``feed_forward`` blocks."""
        family = find_family(self.model.config.model_type, "the model")
        return family.attention if kind == "attention" else family.feed_forward

    @property
    def attention_reads_weights(self) -> bool:
        """Whether the attention hands the weights of its linear layers to torch, so that their input has no dropout."""
        return find_family(self.model.config.model_type, "the model").reads_weights

    def checkpoint_activations(self) -> None:
        """Compute the inside of each transformer layer in training mode again in the backward pass."""
        enable = getattr(self.model, "activation_checkpointing_enable", None)  # its name from transformers 5.20 on
        enable = self.model.gradient_checkpointing_enable if enable is None else enable
        enable({"use_reentrant": False})  # the other way gives no gradient where the input needs none

    def identity(self) -> dict[str, Any]:
        """Return what can change the features besides the weights, as plain JSON values."""
        identity = {
            "adapter": "hf_speech",
            "adapter_version": ADAPTER_VERSION,
            "model_type": self.model.config.model_type,
            "config": config_values(self.model.config),
            "preprocessor": self.frontend.settings(),
            "num_layers": self._depth,
            "cut": self._cut,
            "precision": self.options.precision,
            "attention": self.model.config._attn_implementation,
            "last_layer": "output" if self.options.final_norm else f"transformers {transformers.__version__[0]}",
            "commit": self._commit,
        }
        return json.loads(json.dumps(identity, sort_keys=True, default=str))
