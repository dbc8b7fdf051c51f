"""Tiny text encoders and speech recognisers with random weights, saved as their real counterparts are.

Each saver returns its folder: config, weights (safetensors), tokenizer files, and where audio goes in a preprocessor.
``tiny_models.py`` has the speech models without a head.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import CONVOLUTIONS, LARGE, save_model

WORDS = [
    *("the", "train", "to", "city", "leaves", "at", "nine", "there", "is", "a", "letter", "for", "you", "on", "table"),
    *("she", "put", "blue", "cup", "beside", "window", "they", "walked", "along", "river", "after", "lunch", "shop"),
    *("corner", "opens", "monday", "he", "said", "that", "meeting", "in", "room", "four", "don", "t", "stop", "hello"),
]
PIECES = ["'", "##s", "##ing", *(f"{start}{letter}" for start in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz")]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXT_SIZES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 24,
}  # fmt: skip
SPEECH_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
LETTERS = "|ETAONIHSRDLU'"


def save_tiny_bert(folder: Path, kind: str = "Bert", seed: int = 0, **options: Any) -> Path:
    """BERT, or a kin with its WordPiece tokenizer (Electra, DistilBert): lower case, at most 24 tokens."""
    import transformers

    vocabulary = [*BERT_SPECIALS, *dict.fromkeys([*PIECES, *WORDS])]
    tokenizer = "DistilBertTokenizer" if kind == "DistilBert" else "BertTokenizer"
    _tokenizer(folder, _wordpiece(vocabulary), tokenizer, BERT_SPECIALS)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
    sizes = TEXT_SIZES | {"vocab_size": len(vocabulary)}
    if kind == "DistilBert":
        sizes = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 24} | {
            "vocab_size": len(vocabulary)
        }
    config = getattr(transformers, f"{kind}Config")(**sizes | options)
    return save_model(folder, getattr(transformers, f"{kind}Model"), config, seed)


def save_tiny_roberta(folder: Path, **options: Any) -> Path:
    """RoBERTa: byte-level BPE, positions that begin behind the padding's, weights of its language model."""
    import transformers
    from tokenizers import processors

    letters = ["Ġ", *"abcdefghijklmnopqrstuvwxyz'"]
    tokens = {token: number for number, token in enumerate([*ROBERTA_SPECIALS, *letters, "th", "the"])}
    tokenizer = _bpe(tokens, [("t", "h"), ("th", "e")], ROBERTA_SPECIALS)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    _tokenizer(folder, tokenizer, "RobertaTokenizer", ROBERTA_SPECIALS)
    _bpe_files(folder, tokens, ["t h", "th e"])
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.RobertaConfig(**TEXT_SIZES | {"vocab_size": len(tokens)} | special | options)
    return save_model(folder, transformers.RobertaForMaskedLM, config)  # so that there is no pooler


def save_tiny_ctc(folder: Path, kind: str = "Hubert", large: bool = True, **options: Any) -> Path:
    """A CTC model that writes capitals: ``large`` with layer norm as the large models, else group norm as the base."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=large, return_attention_mask=large)
    tokenizer.save_pretrained(folder)
    extractor.save_pretrained(folder)
    more = (LARGE if large else {}) | {"vocab_size": len(tokens), "pad_token_id": 0, "initializer_range": 0.5}
    config = getattr(transformers, f"{kind}Config")(**SPEECH_SIZES | CONVOLUTIONS | more | options)
    return _spelling_ctc(folder, getattr(transformers, f"{kind}ForCTC"), config)


def save_tiny_w2v_bert_ctc(folder: Path) -> Path:
    """w2v-BERT 2.0 for CTC, which takes filterbanks."""
    import transformers

    save_tiny_ctc(folder)
    (folder / "preprocessor_config.json").unlink()
    transformers.SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    options = {"vocab_size": 4 + len(LETTERS), "pad_token_id": 0, "conv_depthwise_kernel_size": 7}
    config = transformers.Wav2Vec2BertConfig(**SPEECH_SIZES | options, initializer_range=0.5)
    return _spelling_ctc(folder, transformers.Wav2Vec2BertForCTC, config)


def save_tiny_speller(folder: Path, multilingual: bool = True, seed: int = 0, **options: Any) -> Path:
    """Whisper that writes up to a dozen letters; ``multilingual`` knows English and German."""
    import transformers

    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
                "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
    letters = {token: number for number, token in enumerate(["Ġ", *"abcdefghijklmnopqrstuvwxyz'", "he", "Ġa"])}
    tokenizer = _bpe(letters, [("h", "e"), ("Ġ", "a")], specials)
    tokenizer.add_tokens([f"<|{number * 0.02:.2f}|>" for number in range(1501)])
    _tokenizer(folder, tokenizer, "WhisperTokenizer", [specials[0]] * 4, specials[1:])
    _bpe_files(folder, letters, ["h e", "Ġ a"])
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    number = {token: tokenizer.token_to_id(token) for token in specials}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), number["<|endoftext|>"])
    ends["decoder_start_token_id"] = number["<|startoftranscript|>"]
    sizes = {
        "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_target_positions": 24,
        "vocab_size": tokenizer.get_vocab_size(), "suppress_tokens": None, "begin_suppress_tokens": None,
        "tie_word_embeddings": False, "init_std": 0.4,
    }  # fmt: skip
    config = transformers.WhisperConfig(**sizes | ends | options)
    save_model(folder, transformers.WhisperForConditionalGeneration, config, seed)
    _make_whisper_spell(folder)
    languages = {
        "is_multilingual": multilingual,
        "lang_to_id": {token: number[token] for token in ("<|en|>", "<|de|>")},
        "task_to_id": {task: number[f"<|{task}|>"] for task in ("transcribe", "translate")},
    }
    generation = transformers.GenerationConfig(
        **ends, **(languages if multilingual else {"is_multilingual": False}), max_length=16, return_timestamps=False,
        no_timestamps_token_id=number["<|notimestamps|>"], prev_sot_token_id=number["<|startofprev|>"],
        suppress_tokens=list(range(number["<|startoftranscript|>"], tokenizer.get_vocab_size())),
    )  # fmt: skip
    generation.save_pretrained(folder)
    return folder


class _Heard:
    """Hidden states ``[M, D]`` of a model's last layer on some babble, by which its head is made to answer."""

    def __init__(self, states: torch.Tensor) -> None:
        flat = states.reshape(-1, states.shape[-1])
        self.mean, self.spread = flat.mean(dim=0), (flat - flat.mean(dim=0)).std()

    def rows(self, count: int, seed: int) -> torch.Tensor:
        """Weights ``[count, D]`` that see what varies and not the rest: answers change with the audio."""
        rows = torch.randn((count, len(self.mean)), generator=torch.Generator().manual_seed(seed))
        along = self.mean / self.mean.norm()
        return (rows - (rows @ along)[:, None] * along) / self.spread


def babble(seconds: float, seed: int) -> NDArray[np.float32]:
    """Tones that change ten times a second in pitch and loudness, ``[N]`` at 16 kHz, the same for the same seed."""
    draw, samples = np.random.default_rng(seed), round(seconds * 16_000)
    pitch, loudness = (
        np.repeat(draw.uniform(low, high, size=samples // 1600 + 1), 1600)[:samples]
        for low, high in ((80, 3000), (0.0, 0.5))
    )
    noise = draw.normal(scale=0.01, size=samples)
    return (loudness * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) + noise).astype(np.float32)


def _spelling_ctc(folder: Path, kind: Any, config: Any) -> Path:
    """Save a CTC model whose letters follow the audio, and which never writes <s>, </s> or <unk>."""
    from transformers import AutoFeatureExtractor

    model = kind.from_pretrained(save_model(folder, kind, config)).eval()
    inputs = AutoFeatureExtractor.from_pretrained(folder)(babble(10, 99), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        heard = _Heard(getattr(model, model.base_model_prefix)(**inputs).last_hidden_state)
        model.lm_head.weight.copy_(heard.rows(len(model.lm_head.weight), 0))
        model.lm_head.bias.zero_()[1:4] = -1000.0
    model.save_pretrained(folder)
    return folder


def _make_whisper_spell(folder: Path) -> None:
    """Make the letters, and the end, follow the audio and what was written."""
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor, draw = WhisperFeatureExtractor.from_pretrained(folder), torch.Generator().manual_seed(5)
    inputs = extractor([babble(3, seed) for seed in range(8)], sampling_rate=16_000, return_tensors="pt")
    letters = torch.randint(1, 30, (8, 20), generator=draw)
    with torch.no_grad():
        states = model.model(inputs["input_features"], decoder_input_ids=letters).last_hidden_state
        model.proj_out.weight.copy_(_Heard(states).rows(len(model.proj_out.weight), 0))
    model.save_pretrained(folder)


def _wordpiece(vocabulary: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(vocab=numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    tokenizer.add_special_tokens(BERT_SPECIALS)
    return tokenizer


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]], specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def _bpe_files(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def _tokenizer(folder: Path, tokenizer: Any, kind: str, specials: list[str], more: list[str] | None = None) -> None:
    """The files of a fast tokenizer; ``specials`` in the order that its kind has."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        "BertTokenizer": ("pad", "unk", "cls", "sep", "mask"),
        "DistilBertTokenizer": ("pad", "unk", "cls", "sep", "mask"),
        "RobertaTokenizer": ("cls", "pad", "sep", "unk", "mask"),
        "WhisperTokenizer": ("pad", "unk", "bos", "eos"),
    }[kind]
    config: dict[str, Any] = {f"{name}_token": token for name, token in zip(names, specials, strict=True)}
    if kind == "RobertaTokenizer":
        config |= {"bos_token": "<s>", "eos_token": "</s>"}
    if more:
        config["additional_special_tokens"] = more
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **config}))
