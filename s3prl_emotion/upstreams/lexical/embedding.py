"""Embed texts with one layer of BERT or another text encoder (Mitra et al. 2024, section 3.2)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from s3prl_emotion.corpora.normalise import NORMALISATION_VERSION, normalise
from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.rng import own_seed
from s3prl_emotion.store import FeatureStore, Identity
from s3prl_emotion.store.identity import weights_hash
from s3prl_emotion.store.store import REFRESH_SECONDS
from s3prl_emotion.upstreams.pretrained import config_values, find_pretrained, tokenizer_hash

logger = logging.getLogger(__name__)

LEXICAL_VERSION = 1  # increment when embeddings change
POOLINGS = ("mean", "cls")
CUTTABLE = {"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}
"""Families whose layers can be cut: no norm after the last layer, no parameters shared between layers."""
GPU_BATCH = 32  # texts with the same number of tokens that a GPU computes together

_known: dict[tuple[str, str], dict[str, Tensor]] = {}  # (identity, device) -> text -> embedding, of this process


@dataclass(frozen=True)
class _Tokens:
    """A text as input of the model."""

    inputs: dict[str, list[int]]
    own: tuple[bool, ...]
    """Marks the tokens to pool: the text's own, or all if it has none."""

    def __len__(self) -> int:
        return len(self.own)


class LexicalEmbedder:
    """Embeddings of texts from a frozen text encoder.

    Texts are normalised first (:func:`~s3prl_emotion.corpora.normalise.normalise`). A text without words gets the
    embedding of the empty text, which consists of the special tokens ([CLS] and [SEP]). Each distinct text is computed
    once per process, or once for all with a feature store. A CPU computes each text alone; a GPU computes texts with
    the same number of tokens together, without padding: within 1e-5 of the CPU, in its own collection of a store.

    Args:
        model: directory or hub id of any encoder that ``AutoModel`` knows (BERT, RoBERTa, …), with its tokenizer
        layer: index of ``hidden_states`` in ``transformers``, where 0 is the embeddings; the paper uses 12
        pooling: ``mean`` over the text's own tokens (the paper does not specify it), or ``cls``, the first token
        revision: branch, tag or commit on the hub
        device: where the model computes
        feature_store: folder of the suite's feature store, or ``None``
        batch_size: number of texts to compute together; by default 1 on a CPU, else 32

    Raises:
        UsageError: the model cannot be loaded, or is not a text encoder
        ConfigError: the model lacks the layer, or an unknown pooling
        StoreError: the store cannot be used
    """

    def __init__(
        self,
        model: str | Path,
        layer: int = 12,
        pooling: str = "mean",
        revision: str | None = None,
        device: str | torch.device = "cpu",
        feature_store: str | Path | None = None,
        batch_size: int | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise ConfigError(f"lexical pooling {pooling!r}: must be one of {', '.join(POOLINGS)}")
        self.layer, self.pooling, self.device = layer, pooling, torch.device(device)
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)
        self._load(model, revision)
        self.identity = self._identify()
        self.store: FeatureStore | None = None
        if feature_store is not None:
            self.store = FeatureStore(feature_store, self.identity, self.device.type, str(model))
        self._embeddings = _known.setdefault((self.identity.id, self.device.type), {})

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings ``[U, D]`` of texts, float32, on the CPU; D is 768 for BERT base.

        Texts longer than the model's limit (BERT: 512 tokens with [CLS] and [SEP]) are cut, and a warning counts them.

        Raises:
            UsageError: the model returns values that are not finite
            StoreError: no space on the disk
        """
        wanted = [normalise(text) for text in texts]
        tokens = {text: self._tokens(text) for text in self._missing(wanted)}
        cut = sum(len(item) == self._limit and self._is_longer(text) for text, item in tokens.items())
        if cut:
            logger.warning("%s: %d texts are longer than %d tokens and are cut", self.where, cut, self._limit)
        with own_seed(0):  # some encoders draw even in eval mode
            for batch in self._batches(tokens):
                for text, row in zip(batch, self._compute([tokens[text] for text in batch]), strict=True):
                    self._keep(text, row)
        if not wanted:
            return torch.empty(0, self.dim)
        return torch.stack([self._embeddings[text] for text in wanted])

    def close(self) -> None:
        """Close the store's files."""
        if self.store is not None:
            self.store.close()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _load(self, model: str | Path, revision: str | None) -> None:
        """Load config, tokenizer and weights, up to the layer that is used."""
        import transformers

        source = find_pretrained(model, "lexical model", revision)
        self.where = source.where
        config = source.config()
        depth = getattr(config, "num_hidden_layers", None)
        if depth is None or getattr(config, "is_encoder_decoder", False):
            raise UsageError(f"{self.where}: model_type {config.model_type!r} is not a text encoder like BERT")
        if not 0 <= self.layer <= depth:
            raise ConfigError(f"lexical layer: {self.where} has {depth} layers, got {self.layer}; give 0 to {depth}")
        if config.model_type in CUTTABLE:
            config.num_hidden_layers = max(1, self.layer)
        self.tokenizer = source.tokenizer()
        unused = r"(.*\.)?layers?\.\d+\..*" if getattr(config, "num_hidden_layers", depth) < depth else ""
        network = source.model(transformers.AutoModel, config, may_miss=r"pooler\..*", unused=unused)
        if getattr(network, "pooler", None) is not None:
            network.pooler = nn.Identity()  # not used, and random if the file lacks it
        self.network: Any = network.to(self.device).requires_grad_(False)
        self._parameters = inspect.signature(network.forward).parameters
        self.dim = int(config.hidden_size)
        self._limit = self._longest()
        self._check_tokenizer()

    def _check_tokenizer(self) -> None:
        vocabulary = self.tokenizer.get_vocab()
        rows = self.network.get_input_embeddings().num_embeddings
        if max(vocabulary.values()) >= rows:
            raise UsageError(
                f"{self.where}: the tokenizer numbers tokens up to {max(vocabulary.values())}, the model has {rows};"
                " the two do not belong together"
            )
        empty = self.tokenizer("", return_special_tokens_mask=True)["special_tokens_mask"]
        if not any(empty):
            raise UsageError(f"{self.where}: its tokenizer adds no special tokens; give an encoder like BERT")
        word = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        if self.pooling == "cls" and not word[0]:
            raise ConfigError(f"lexical pooling: {self.where} puts no special token first; use mean")

    def _longest(self) -> int:
        """Return the largest number of tokens of the model's input, special ones included."""
        longest = int(self.tokenizer.model_max_length)
        positions = getattr(self.network.config, "max_position_embeddings", None)
        if positions is not None:
            # RoBERTa and its relatives number positions from the padding index + 1
            first = getattr(getattr(self.network, "embeddings", None), "padding_idx", None)
            longest = min(longest, positions - (0 if first is None else first + 1))
        return longest

    def _identify(self) -> Identity:
        return Identity(
            {
                "upstream": "lexical",
                "weights": weights_hash(self.network),
                "code": f"lexical {LEXICAL_VERSION}, normalisation {NORMALISATION_VERSION}",
                "checkpoint": None,  # its weights are in the weights' hash
                "config": config_values(self.network.config),
                "options": {"tokenizer": tokenizer_hash(self.tokenizer), "longest": self._limit},
                "selection": self.pooling,
                "layer": self.layer,
                "dtype": "float32",
                "batched": self.batch_size > 1,
            }
        )

    def _tokens(self, text: str) -> _Tokens:
        cut = {"truncation": True, "max_length": self._limit, "verbose": False}
        inputs = dict(self.tokenizer(text, return_special_tokens_mask=True, **cut))
        own = tuple(not special for special in inputs.pop("special_tokens_mask"))
        inputs = {
            name: values for name, values in inputs.items() if name in self._parameters
        }  # some use no token types
        return _Tokens(inputs, own if any(own) else (True,) * len(own))

    def _is_longer(self, text: str) -> bool:
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > self._limit

    def _batches(self, tokens: dict[str, _Tokens]) -> list[list[str]]:
        """Group texts with the same number of tokens into batches, so that nothing is padded."""
        alike: dict[int, list[str]] = {}
        for text, item in tokens.items():
            alike.setdefault(len(item), []).append(text)
        batches = []
        for length in sorted(alike, reverse=True):
            rest = iter(alike[length])
            while batch := list(islice(rest, self.batch_size)):
                batches.append(batch)
        return batches

    @torch.no_grad()
    def _compute(self, batch: Sequence[_Tokens]) -> Tensor:
        """Compute the embeddings ``[B, D]`` of texts with the same number of tokens, on the CPU."""
        inputs = {name: torch.tensor([item.inputs[name] for item in batch]) for name in batch[0].inputs}
        with torch.autocast(self.device.type, enabled=False):  # whatever the precision of the head's training
            output = self.network(
                **{name: values.to(self.device) for name, values in inputs.items()}, output_hidden_states=True
            )
        hidden = output.hidden_states[self.layer].float()  # [B, T, D]
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            own = torch.tensor([item.own for item in batch], device=hidden.device)[..., None]
            pooled = (hidden * own).sum(dim=1) / own.sum(dim=1)
        if not bool(pooled.isfinite().all()):
            raise UsageError(
                f"{self.where}: layer {self.layer} returns values that are not finite; its weights are damaged"
            )
        return pooled.cpu()

    def _missing(self, texts: Sequence[str]) -> list[str]:
        """Return the distinct texts without an embedding; read those that are stored."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._embeddings]
        if self.store is None or not missing:
            return missing
        self.store.refresh(REFRESH_SECONDS)
        for text in missing:
            data = text.encode()
            stack = self.store.get(xxhash.xxh3_128_digest(data), len(data))
            if stack is not None:
                self._embeddings[text] = stack.reshape(self.dim).clone()
        return [text for text in missing if text not in self._embeddings]

    def _keep(self, text: str, embedding: Tensor) -> None:
        if self.store is not None:
            data = text.encode()
            self.store.put(xxhash.xxh3_128_digest(data), embedding.reshape(1, 1, self.dim), len(data))
        self._embeddings[text] = embedding
