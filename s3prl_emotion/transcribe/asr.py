"""Recognise speech with any CTC model of ``transformers`` or with Whisper: greedy and deterministic."""

from __future__ import annotations

import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.rng import own_seed
from s3prl_emotion.store.identity import weights_hash
from s3prl_emotion.transcribe.windows import windows
from s3prl_emotion.upstreams.pretrained import Pretrained, find_pretrained, quiet, vocabulary_hash

logger = logging.getLogger(__name__)

ASR_VERSION = 1  # raise it whenever transcripts change
CHUNK = 30.0  # s
MULTILINGUAL = 51_865  # tokens: OpenAI's Whisper models with fewer know English alone
SHORTEST = 800  # samples; shorter audio is padded with zeros to 0.05 s, which gives every model at least one frame
PADS_SAFELY = {"hubert", "unispeech-sat", "wav2vec2", "wavlm"}
"""Families whose transcripts do not depend on padding if their convolutions use layer norm: padding is masked wherever
frames are combined. Group norm averages over time, padding included; other families have convolutions over
frames, which see the padding."""
Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class RecogniserOptions:
    """Options of speech recognition: language, longest window (s), windows per batch, device."""

    language: str | None = None
    chunk: float = CHUNK
    batch_size: int = 1
    device: str = "cpu"


class Recogniser(ABC):
    """A speech recogniser; :func:`load_recogniser` builds one.

    Args:
        source: the pretrained model
        config: the model's configuration
        options: options of the recognition

    Raises:
        UsageError: the model cannot be loaded, or does not support an option
    """

    language: str | None = None
    limit: int | None = None
    """Largest number of tokens of a window's transcript; ``None``: any."""

    def __init__(self, source: Pretrained, config: Any, options: RecogniserOptions) -> None:
        self.source, self.options = source, options
        self.cut: list[int] = []
        self.where = source.where
        self.commit: str | None = getattr(config, "_commit_hash", None)
        self.extractor = source.extractor()
        self.tokenizer = source.tokenizer()
        if self.extractor.sampling_rate != SAMPLE_RATE:
            raise UsageError(
                f"{self.where}: the model takes audio of {self.extractor.sampling_rate} Hz (preprocessor_config.json);"
                f" use a model of {SAMPLE_RATE} Hz"
            )
        if getattr(self.extractor, "dither", 0.0):
            self.extractor.dither = 0.0  # random noise for training, which would change transcripts from call to call
        self.model: Any = self._load(config).to(options.device).requires_grad_(False)
        self.batch_size = self._largest_batch()

    def transcribe(self, waveforms: Sequence[Waveform]) -> list[str]:
        """Transcribe each waveform ``[N_b]`` (16 kHz, N_b >= 1), without line breaks; ``""`` if nothing is recognised.

        Audio longer than ``chunk`` is cut at pauses (:func:`~s3prl_emotion.transcribe.windows.windows`), and the texts
        of its windows are joined. Afterwards ``cut`` has the numbers of the waveforms whose transcript, or that of a
        window, ends at ``limit`` and not where the model ended it.
        """
        most = round(self.options.chunk * SAMPLE_RATE)
        pieces = [windows(waveform, most) for waveform in waveforms]
        flat = [np.pad(piece, (0, max(0, SHORTEST - len(piece)))) for each in pieces for piece in each]
        texts: list[str] = []
        cut: list[bool] = []
        # the seed: some models draw random numbers for layer drop even in eval mode
        with own_seed(0), torch.inference_mode(), torch.autocast(self.model.device.type, enabled=False):
            for start in range(0, len(flat), self.batch_size):
                batch, is_cut = self._recognise(flat[start : start + self.batch_size])
                texts += batch
                cut += is_cut
        owners = [number for number, each in enumerate(pieces) for _ in each]
        self.cut = sorted({owner for owner, is_cut in zip(owners, cut, strict=True) if is_cut})
        remaining = iter(texts)
        return [" ".join(" ".join(next(remaining) for _ in each).split()) for each in pieces]

    def identity(self) -> dict[str, Any]:
        """Return what transcripts depend on, as plain values: the model's content (not its location) and options."""
        return {
            "asr_version": ASR_VERSION,
            "model_type": self.model.config.model_type,
            "weights": weights_hash(self.model),
            "vocabulary": vocabulary_hash(self.tokenizer),
            "do_normalize": getattr(self.extractor, "do_normalize", None),
            "language": self.language,
            "chunk": self.options.chunk,
        }

    @property
    def spoken(self) -> str | None:
        """Code of the language of all transcripts; ``None``: not known."""
        return None

    @abstractmethod
    def _load(self, config: Any) -> Any:
        """Return the model, with its weights."""

    def _largest_batch(self) -> int:
        """Return the number of windows per batch that gives the same transcripts as single windows."""
        return self.options.batch_size

    @abstractmethod
    def _recognise(self, pieces: Sequence[Waveform]) -> tuple[list[str], list[bool]]:
        """Return the texts of at most ``batch_size`` waveforms of at most ``chunk`` seconds, and which are cut."""

    def _inputs(self, pieces: Sequence[Waveform], **more: Any) -> dict[str, Any]:
        made = self.extractor(list(pieces), sampling_rate=SAMPLE_RATE, return_tensors="pt", **more)
        return {name: values.to(self.model.device) for name, values in made.items()}


class CtcRecogniser(Recogniser):
    """A model with a CTC head: the most likely symbol of each frame, collapsed by the model's own tokenizer."""

    def _load(self, config: Any) -> Any:
        import transformers

        if self.options.language is not None:
            raise UsageError(f"--language: only Whisper models have languages, {self.where} is none; leave it out")
        model = self.source.model(transformers.AutoModelForCTC, config, may_miss=r"(.*\.)?masked_spec_embed")
        if config.model_type == "wavlm":  # its attention passes torch two types of masks
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
        return model

    def _largest_batch(self) -> int:
        config, size = self.model.config, self.options.batch_size
        by_layer = getattr(config, "feat_extract_norm", None) == "layer" and not getattr(config, "add_adapter", False)
        if size > 1 and not (config.model_type in PADS_SAFELY and by_layer):
            logger.info("%s: padding would change its transcripts, so it runs with --batch_size 1", self.where)
            return 1
        return size

    def _recognise(self, pieces: Sequence[Waveform]) -> tuple[list[str], list[bool]]:
        cut = [False] * len(pieces)
        single = len(pieces) == 1
        inputs = self._inputs(pieces, **({} if single else {"padding": True, "return_attention_mask": True}))
        symbols = self.model(**inputs).logits.argmax(dim=-1).cpu()  # [B, T]
        if single:
            return self.tokenizer.batch_decode(symbols), cut
        frames = self.model._get_feat_extract_output_lengths(torch.tensor([len(piece) for piece in pieces])).tolist()
        rows = [row[:count].tolist() for row, count in zip(symbols, frames, strict=True)]
        return self.tokenizer.batch_decode(rows), cut


class WhisperRecogniser(Recogniser):
    """Whisper: greedy decoding without timestamps, in independent windows of at most 30 s.

    Without ``language``, a multilingual model detects the language of each window.
    """

    def _load(self, config: Any) -> Any:
        import transformers

        longest = self.extractor.n_samples / SAMPLE_RATE
        if self.options.chunk > longest:
            raise UsageError(f"--chunk {self.options.chunk:g}: {self.where} takes at most {longest:g} s at once")
        model = self.source.model(transformers.AutoModelForSpeechSeq2Seq, config, also=("generation_config.json",))
        self.language = self._check_language(model.generation_config)
        self.limit = self._set_limit(model)
        return model

    def identity(self) -> dict[str, Any]:
        """Return what transcripts depend on, see the base class; and the decoder's limit, where it is used."""
        return super().identity() | ({} if self.names_limit else {"max_length": self.limit})

    @property
    def spoken(self) -> str | None:
        """Code of the language of all transcripts; ``None``: not known."""
        if not self.multilingual and self.model.config.vocab_size < MULTILINGUAL:
            return "en"
        return self.language

    def _set_limit(self, model: Any) -> int:
        """Limit transcripts to the model's own number of tokens, or the decoder's; ``transformers`` takes 20 tokens."""
        generation = model.generation_config
        most = int(model.config.max_target_positions)
        named = self.source.values("generation_config.json")
        older = self.source.values("config.json").get("max_length")  # models before 2023 have it there
        self.names_limit = bool(named.get("max_new_tokens") or named.get("max_length") or older)
        if named.get("max_new_tokens"):
            return int(generation.max_new_tokens)
        if not named.get("max_length"):
            generation.max_length = min(int(older or most), most)
        return int(generation.max_length)

    def _check_language(self, generation: Any) -> str | None:
        """Return the code of the requested language."""
        from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

        known = {token.strip("<|>") for token in getattr(generation, "lang_to_id", None) or {}}
        self.multilingual = bool(getattr(generation, "is_multilingual", False)) and bool(known)
        language = self.options.language
        if language is None:
            if self.multilingual:
                logger.info("%s: the language is detected in each window; --language sets it", self.where)
            return None
        if not self.multilingual:
            raise UsageError(f"--language {language}: {self.where} supports only one language; leave it out")
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if code not in known:
            names = {name: LANGUAGES.get(name, name) for name in known}
            raise UsageError(
                f"--language {language}: {self.where} does not support it"
                f"{nearest(language.lower(), sorted({*names, *names.values()}))}"
            )
        return code

    def _recognise(self, pieces: Sequence[Waveform]) -> tuple[list[str], list[bool]]:
        from transformers import StoppingCriteriaList

        options = {"task": "transcribe", "language": self.language} if self.multilingual else {}
        ends = _Ends(self.model.generation_config.eos_token_id)
        with quiet():
            tokens = self.model.generate(
                **self._inputs(pieces, return_attention_mask=True),
                do_sample=False,
                num_beams=1,
                return_timestamps=False,
                stopping_criteria=StoppingCriteriaList([ends]),
                **options,
            )
        return self.tokenizer.batch_decode(tokens.cpu(), skip_special_tokens=True), ends.missing


class _Ends:
    """Watch a generation for transcripts that the model itself ends; never stop it.

    The tokens that ``generate`` returns do not tell: some versions of ``transformers`` drop the last end token.
    """

    def __init__(self, end: int | list[int]) -> None:
        self.ends = torch.tensor([end] if isinstance(end, int) else list(end))
        self.seen: torch.Tensor | None = None

    def __call__(self, tokens: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        """Note the rows ``[B]`` whose newest token ends them."""
        now = torch.isin(tokens[:, -1], self.ends.to(tokens.device))
        self.seen = now if self.seen is None else self.seen | now
        return torch.zeros_like(now)

    @property
    def missing(self) -> list[bool]:
        """For each row, whether it has no end."""
        return [] if self.seen is None else (~self.seen).tolist()


def load_recogniser(
    model: str | Path,
    options: RecogniserOptions = RecogniserOptions(),
    revision: str | None = None,
    allow_pickle: bool = False,
) -> Recogniser:
    """Load a speech recogniser from a directory or from the hub.

    Args:
        model: directory or hub id of a CTC model (HuBERT, WavLM, wav2vec 2.0, …, fine-tuned to recognise speech) or of
            Whisper
        options: options of the recognition
        revision: branch, tag or commit on the hub
        allow_pickle: without effect, with a warning: ``.bin`` files are always read, and run no code

    Raises:
        UsageError: it cannot be loaded, is no speech recogniser, or does not support an option
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

    for name, value, least in (("chunk", options.chunk, 1.0), ("batch_size", options.batch_size, 1)):
        if not least <= value < math.inf:
            raise UsageError(f"--{name} {value}: must be at least {least:g}")
    if allow_pickle:
        logger.warning("--allow_pickle has no effect any more: .bin files are read without it, and run no code")
    source = find_pretrained(model, "-k", revision)
    config = source.config()
    if config.model_type == "whisper":
        return WhisperRecogniser(source, config, options)
    if config.model_type not in MODEL_FOR_CTC_MAPPING_NAMES:
        raise UsageError(
            f"{source.where}: model_type {config.model_type!r} does not recognise speech; use a model for CTC (HuBERT,"
            " WavLM, wav2vec 2.0, …) or Whisper"
        )
    return CtcRecogniser(source, config, options)
