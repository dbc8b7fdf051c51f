"""Lexical embeddings: normalised texts, comparison with plain ``transformers``, store, transcripts, errors."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import random
import re
import shutil
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from conftest import TinyGradedCorpus
from hypothesis import given, settings
from hypothesis import strategies as st
from store_tools import flip, segment_of
from tiny_models import save_tiny_hubert
from tiny_text_models import save_tiny_bert, save_tiny_roberta

import s3prl_emotion.cli
from s3prl_emotion.corpora import Needs, Utterance, load_corpus
from s3prl_emotion.errors import ConfigError, EmotionError, LabelError, UsageError
from s3prl_emotion.extract.filling import all_utterances
from s3prl_emotion.files.trust import can_load_safely
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.rng import rng_state
from s3prl_emotion.store import upkeep
from s3prl_emotion.upstreams.lexical import (
    LexicalEmbedder,
    LexicalSection,
    embedding,
    lexical_features,
    normalise,
    read_transcripts,
    texts_of,
)
from s3prl_emotion.upstreams.pretrained import find_pretrained

TEXTS = ["the train to the city", "don't stop", "hello", "she put the blue cup beside a window after lunch", "xyz qq"]
SAVERS: dict[str, Callable[[Path], Path]] = {
    "bert": save_tiny_bert,
    "electra": lambda folder: save_tiny_bert(folder, "Electra"),
    "distilbert": lambda folder: save_tiny_bert(folder, "DistilBert"),
    "ernie": lambda folder: save_tiny_bert(folder, "Ernie"),  # a family that is never cut
    "roberta": save_tiny_roberta,
}
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a directory of a tiny text encoder by kind; it is shared, so tests must not write into it."""
    root = tmp_path_factory.mktemp("text_models")
    return cache(lambda kind: SAVERS[kind](root / kind))


@pytest.fixture
def own(folders: Folders, tmp_path: Path) -> Path:
    """Return a copy of an encoder's directory, to damage."""
    return Path(shutil.copytree(folders("bert"), tmp_path / "own"))


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget embeddings between tests, as in a new process."""
    monkeypatch.setattr(embedding, "_known", {})


def forget() -> None:
    embedding._known.clear()


@cache
def plain(folder: Path) -> tuple[Any, Any]:
    """Load model (float64) and tokenizer with ``transformers``."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def reference(folder: Path, text: str, layer: int, pooling: str = "mean", limit: int = 24) -> torch.Tensor:
    """Compute the embedding of a normalised text from the definition."""
    model, tokenizer = plain(folder)
    ids = tokenizer(text)["input_ids"]
    ids = [ids[0], *ids[1:-1][: limit - 2], ids[-1]]
    output = model(torch.tensor([ids]), torch.ones(1, len(ids)), output_hidden_states=True)
    states = output.hidden_states[layer][0]
    if pooling == "cls":
        return states[0]
    return states.mean(dim=0) if len(ids) == 2 else states[1:-1].mean(dim=0)


def check(got: torch.Tensor, expected: torch.Tensor, within: float = 1e-5) -> None:
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected.double(), rtol=0, atol=within)


def calls_of(embedder: LexicalEmbedder) -> list[int]:
    """Record the texts of each pass through the model."""
    calls: list[int] = []
    embedder.network.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return calls


# --- normalisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  tabs\tand\nbreaks  ", "tabs and breaks"),
        ("DON'T you’re O‘NEILL rock ʼn ʼroll o＇clock", "don't you're o'neill rock n roll o'clock"),
        ("'Tis the dogs' 'quoted' word", "tis the dogs quoted word"),
        ("''a''b''", "a b"),
        ("well-known and/or semi—detached", "well known and or semi detached"),
        ("3.5 % of $20 (U.S.)", "3 5 of 20 u s"),
        ("snake_case a+b e@mail.org", "snake case a b e mail org"),
        ("¿Qué pasa, ÉLAN? « Ça va »", "qué pasa élan ça va"),
        ("e\u0301lan", "\u00e9lan"),
        ("日本語。はい！", "日本語 はい"),
        ("Привет, МИР…", "привет мир"),
        ("co\u00adoperate zero\u200bwidth \ufeffmark", "cooperate zerowidth mark"),
        ("good 😀 day", "good day"),
        ("a\ud800b", "a b"),
        ("[LAUGHTER] [CLS]", "laughter cls"),
        ("", ""),
        (" \n ", ""),
        ("?!... -- ''", ""),
    ],
)
def test_normalised_texts(text: str, expected: str):
    assert normalise(text) == expected


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.text(st.characters(exclude_categories=()))
    | st.text(st.sampled_from("aBé'’ʼ- \u0301\u00ad.ΣİK_1\u200d\u0345\ud800"))
)
def test_what_normalising_promises(text: str):
    once = normalise(text)
    assert normalise(once) == once == " ".join(once.split())
    once.encode()
    assert unicodedata.normalize("NFC", once) == once
    assert once == once.lower()
    for position, character in enumerate(once):
        category = unicodedata.category(character)
        assert category not in ("Cc", "Cf", "Co", "Cs")
        if category[0] in "PS":
            assert character == "'"
            assert once[position - 1].isalnum()
            assert once[position + 1].isalnum()


# --- embeddings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(SAVERS))
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_embeddings_are_those_of_plain_transformers(kind: str, pooling: str, folders: Folders):
    folder = folders(kind)
    limit = 22 if kind == "roberta" else 24  # the first two of its 24 positions are for padding
    for layer in range(4):
        got = LexicalEmbedder(folder, layer=layer, pooling=pooling).embed(TEXTS)
        assert got.shape == (len(TEXTS), 16)
        for row, text in zip(got, TEXTS, strict=True):
            check(row, reference(folder, text, layer, pooling, limit))
    assert LexicalEmbedder(folder, layer=1).embed(TEXTS).std(dim=0).min() > 1e-3  # texts differ


def test_texts_are_normalised_first(folders: Folders):
    embedder = LexicalEmbedder(folders("bert"), layer=3)
    raw = embedder.embed(["The TRAIN, to the city!", "Don’t   stop..."])
    assert torch.equal(raw, embedder.embed(["the train to the city", "don't stop"]))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_without_words_gets_the_embedding_of_the_empty_text(kind: str, pooling: str, folders: Folders):
    embedder = LexicalEmbedder(folders(kind), layer=2, pooling=pooling)
    got = embedder.embed(["", "...", "hello", " \n"])
    check(got[0], reference(folders(kind), "", 2, pooling))
    assert torch.equal(got[0], got[1])
    assert torch.equal(got[0], got[3])
    assert not torch.allclose(got[0], got[2])
    assert embedder.embed([]).shape == (0, 16)


@pytest.fixture(scope="module")
def both(folders: Folders) -> tuple[LexicalEmbedder, LexicalEmbedder]:
    """Return an embedder that computes each text alone, and one that batches."""
    return LexicalEmbedder(folders("bert"), layer=3), LexicalEmbedder(folders("bert"), layer=3, batch_size=4)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.sampled_from([*" ".join(TEXTS).split(), "zz", "..."]), max_size=12).map(" ".join), max_size=9)
)
def test_a_text_does_not_depend_on_the_others(both: tuple[LexicalEmbedder, LexicalEmbedder], texts: list[str]):
    alone, together = both
    for embedder in both:
        embedder._embeddings.clear()
    got = alone.embed(texts)
    check(together.embed(texts), got)
    for text, row in zip(texts, got, strict=True):
        alone._embeddings.clear()
        assert torch.equal(alone.embed([text])[0], row)  # to the bit, since a CPU computes each alone


def test_a_batch_holds_texts_of_equally_many_tokens(folders: Folders):
    embedder = LexicalEmbedder(folders("bert"), layer=3, batch_size=2)
    calls = calls_of(embedder)
    embedder.embed(["hello", "the", "train", "the train", "hello", "to city"])
    assert sorted(calls) == [1, 2, 2]


def test_long_texts_are_cut_and_counted(folders: Folders, caplog: pytest.LogCaptureFixture):
    long, exact = "the train to city " * 9, "the " * 22
    embedder = LexicalEmbedder(folders("bert"), layer=3)
    with caplog.at_level(logging.WARNING):
        got = embedder.embed([long, exact, "hello", long + "more", long])
    check(got[0], reference(folders("bert"), long, 3, limit=24))
    check(got[1], reference(folders("bert"), exact, 3, limit=99))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 texts are longer than 24 tokens" in line  # distinct ones


def test_the_tokenizers_own_limit_counts(own: Path):
    config = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 6}))
    got = LexicalEmbedder(own, layer=3).embed(["the train to city leaves at nine"])
    check(got[0], reference(own, "the train to city", 3))


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert", "roberta"])
def test_layers_above_are_not_computed(kind: str, folders: Folders):
    embedder = LexicalEmbedder(folders(kind), layer=1)
    seen = []
    for module in embedder.network.modules():
        if isinstance(module, torch.nn.ModuleList):
            seen.append(len(module))
    assert seen == [1]


def test_generators_and_gradients_are_left_alone(own: Path, folders: Folders):
    tensors = safetensors.torch.load_file(own / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}
    safetensors.torch.save_file(kept, own / "model.safetensors", metadata={"format": "pt"})  # drawn at random
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = rng_state()
    embedder = LexicalEmbedder(own, layer=3)
    got = embedder.embed(TEXTS)
    after = rng_state()
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])
    assert torch.equal(before["python"][1], after["python"][1])
    assert not got.requires_grad
    assert not embedder.network.training
    assert not any(parameter.requires_grad for parameter in embedder.network.parameters())
    torch.manual_seed(4)
    for folder in (own, folders("bert")):  # the pooler does not matter, random or not
        assert LexicalEmbedder(folder, layer=3).identity.id == embedder.identity.id


def test_precision_does_not_follow_the_heads_autocast(folders: Folders):
    plain_one = LexicalEmbedder(folders("bert"), layer=3).embed(TEXTS)
    forget()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LexicalEmbedder(folders("bert"), layer=3).embed(TEXTS), plain_one)


def test_a_distinct_text_is_computed_once_in_a_process(folders: Folders):
    first = LexicalEmbedder(folders("bert"), layer=3)
    calls = calls_of(first)
    got = first.embed(["hello", "Hello!", "the train", "hello"])
    assert sum(calls) == 2
    first.embed(["the train", "hello"])
    assert sum(calls) == 2
    second = LexicalEmbedder(folders("bert"), layer=3)
    others = calls_of(second)
    assert torch.equal(second.embed(["hello", "the train"]), got[[0, 2]])
    assert others == []
    LexicalEmbedder(folders("bert"), layer=2).embed(["hello"])
    assert not torch.equal(LexicalEmbedder(folders("bert"), layer=2).embed(["hello"]), got[:1])


def test_what_is_given_out_can_be_changed(folders: Folders):
    embedder = LexicalEmbedder(folders("bert"), layer=3)
    got = embedder.embed(["hello"])
    kept = got.clone()
    got.zero_()
    assert torch.equal(embedder.embed(["hello"]), kept)


# --- the store -----------------------------------------------------------------------------------------------------


def test_embeddings_are_kept_in_the_store(folders: Folders, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    without = LexicalEmbedder(folders("bert"), layer=2).embed([*TEXTS, ""])
    forget()
    first = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path / "S")
    assert torch.equal(first.embed([*TEXTS, ""]), without)
    first.close()
    forget()
    second = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path / "S")
    calls = calls_of(second)
    assert torch.equal(second.embed([*TEXTS, ""]), without)
    assert calls == []
    (item,) = upkeep.collections(tmp_path / "S")
    assert (item.utterances, item.shape) == (len(TEXTS) + 1, "1 x 16")
    assert item.folder.name.startswith("lexical-")
    second.close()
    capfd.readouterr()
    for action, expected in (
        ("ls", r"text_.*1 x 16.*float32.*mean layer 2 .*6"),
        ("size", item.folder.name),
        ("verify", "6 good, 0 damaged"),
        ("gc", "0 damaged or duplicate records removed"),
    ):
        assert s3prl_emotion.cli.main(["store", action, str(tmp_path / "S")]) == 0
        assert re.search(expected, capfd.readouterr().out)


def test_a_damaged_record_is_computed_again(folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path)
    whole = first.embed(["hello", "the train"])
    first.close()
    flip(segment_of(tmp_path)[0], 5, 3)
    forget()
    second = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path)
    calls = calls_of(second)
    assert torch.equal(second.embed(["hello", "the train"]), whole)
    assert calls == [1]
    assert "damaged record" in caplog.text


def test_what_another_process_stored_meanwhile_is_used(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedding, "REFRESH_SECONDS", 0.0)
    early = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path)
    calls = calls_of(early)
    forget()
    other = LexicalEmbedder(folders("bert"), layer=2, feature_store=tmp_path)
    expected = other.embed(["hello"])
    other.close()
    assert torch.equal(early.embed(["hello"]), expected)
    assert calls == []


def test_whatever_changes_embeddings_changes_the_collection(folders: Folders, own: Path, tmp_path: Path):
    bert = folders("bert")
    ids = {
        "as it is": LexicalEmbedder(bert, layer=2),
        "layer": LexicalEmbedder(bert, layer=3),
        "pooling": LexicalEmbedder(bert, layer=2, pooling="cls"),
        "batches": LexicalEmbedder(bert, layer=2, batch_size=2),
        "weights": LexicalEmbedder(save_tiny_bert(tmp_path / "seed", seed=1), layer=2),
        "config": LexicalEmbedder(save_tiny_bert(tmp_path / "relu", hidden_act="relu"), layer=2),
    }
    same = LexicalEmbedder(own, layer=2)  # in another folder, and used before
    same.embed(["hello " * 30])
    assert LexicalEmbedder(own, layer=2).identity.id == ids["as it is"].identity.id
    for name in ("tokenizer.json", "vocab.txt"):
        text = (own / name).read_text()
        (own / name).write_text(text.replace("hello", "HELLO").replace("stop", "hello").replace("HELLO", "stop"))
    ids["tokenizer"] = LexicalEmbedder(own, layer=2)
    assert len({item.identity.id for item in ids.values()}) == len(ids)


# --- what is refused -----------------------------------------------------------------------------------------------


def refused(model: Path | str, kind: type[EmotionError] = UsageError, **options: Any) -> str:
    """Return the message, which must be one short line."""
    with pytest.raises(kind) as caught:
        LexicalEmbedder(model, **{"layer": 2} | options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize("layer", [-1, 4, 12])
def test_a_layer_out_of_range(folders: Folders, layer: int):
    assert f"has 3 layers, got {layer}; give 0 to 3" in refused(folders("bert"), ConfigError, layer=layer)


def test_options_that_do_not_fit(folders: Folders):
    assert "one of mean, cls" in refused(folders("bert"), ConfigError, pooling="max")
    assert "a revision is for models on the hub" in refused(folders("bert"), revision="main")


def test_what_a_directory_may_lack(own: Path, tmp_path: Path):
    assert "no such directory" in refused(tmp_path / "no where")
    assert "is a file" in refused(own / "config.json")
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in refused(tmp_path / "empty")
    (own / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (own / "vocab.txt").unlink()
    message = refused(own)
    assert "tokenizer" in message
    (tmp_path / "tokenizer.json").rename(own / "tokenizer.json")
    whole = (own / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "weights cannot be loaded" in refused(own)
    (own / "model.safetensors").unlink()
    assert "holds no weights" in refused(own)
    torch.save({}, own / "pytorch_model.bin")
    reason = "pytorch_model.bin does not hold tensors by name" if can_load_safely() else "its weights are .bin files"
    assert reason in refused(own)
    for text in ("{", "[]", "\xff"):
        (own / "config.json").write_text(text, encoding="latin-1")
        assert "config.json" in refused(own)


def test_weights_that_do_not_fit(own: Path):
    tensors = safetensors.torch.load_file(own / "model.safetensors")
    name = next(name for name in tensors if "layer.0.attention" in name)
    less = {key: tensor for key, tensor in tensors.items() if key != name}
    safetensors.torch.save_file(less, own / "model.safetensors", metadata={"format": "pt"})
    assert f"1 weights of BertModel are missing, for example {name}" in refused(own)
    broken = tensors | {name: torch.full_like(tensors[name], float("nan"))}
    safetensors.torch.save_file(broken, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="layer 2 returns values that are not finite"):
        LexicalEmbedder(own, layer=2).embed(["hello"])


def test_models_that_are_no_text_encoders(own: Path, tmp_path: Path):
    save_tiny_hubert(tmp_path / "hubert")
    assert "tokenizer" in refused(tmp_path / "hubert")
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=30)
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    assert "not a text encoder like BERT" in refused(tmp_path / "t5")
    small = save_tiny_bert(tmp_path / "small", vocab_size=20)
    assert "the two do not belong together" in refused(small)
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    (own / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    (own / "vocab.txt").unlink()
    kind = json.loads((own / "tokenizer_config.json").read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (own / "tokenizer_config.json").write_text(json.dumps(kind))
    assert "adds no special tokens" in refused(own)
    ends = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    template = tokenizer["post_processor"] | {"single": list(ends)}
    (own / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": template}))
    assert "puts no special token first; use mean" in refused(own, ConfigError, pooling="cls")
    assert LexicalEmbedder(own, layer=2).embed(["hello", ""]).shape == (2, 16)


def test_hub_out_of_reach():
    assert "not of the form org/name" in refused("not an id")
    source = find_pretrained("suite-test/no-such-model", "lexical model", revision="v1")
    assert source.hub["revision"] == "v1"
    offline = dataclasses.replace(source, hub=source.hub | {"local_files_only": True})
    with pytest.raises(UsageError, match="is not in the hub's cache, and the network is off"):
        offline.config()


# --- transcripts ---------------------------------------------------------------------------------------------------


def utterance(name: str, text: str | None = None) -> Utterance:
    return Utterance(name, Path("audio") / name, 0, text=text)


def test_transcripts_are_read(tmp_path: Path):
    path = tmp_path / "Ünï cödé.csv"
    path.write_text(
        '\ufeffTime,FileName,Text\r\n1,a.wav,"Yes, ""no""."\r\n2,ü/b 日.wav,\r\n\r\n3,"c\nd.wav"," two\nlines "\r\n',
        encoding="utf-8",
        newline="",
    )
    expected = {"a.wav": 'Yes, "no".', "ü/b 日.wav": "", "c\nd.wav": " two\nlines "}
    assert read_transcripts(path) == expected
    assert list(read_transcripts(path)) == list(expected)
    (tmp_path / "none.csv").write_text("FileName,Text\n")
    assert read_transcripts(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not readable as CSV: the file is empty"),
        (b"FileName,Txt\na.wav,x\n", "no column Text; nearest: Txt"),
        (b"Name,Text\na.wav,x\n", "no column FileName; nearest: Name"),
        (b"FileName,Text,Text\na.wav,x,y\n", "the column 'Text' is there twice"),
        (b"FileName,Text\na.wav,x\na.wav,y\n", "line 3: a.wav is listed twice"),
        (b"FileName,Text\na.wav\n", "line 2: 1 fields, its header names 2"),
        (b"FileName,Text\na.wav,yes, no\n", "line 2: 3 fields"),
        (b"FileName,Text\n,x\n", "line 2: FileName is empty"),
        (b'FileName,Text\na.wav,"x\n', "not readable as CSV"),
        (b"FileName,Text\na.wav,caf\x81\xe9\n", "neither UTF-8 nor cp1252"),
        (b"\xff\xfeF\x00", "no column FileName"),
        (b"FileName,Text\na.wav," + b"x" * 200_000 + b"\n", "not readable as CSV"),
    ],
)
def test_bad_files_of_transcripts(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=re.escape(message)) as caught:
        read_transcripts(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_file_of_transcripts(tmp_path: Path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(LabelError, match=r"cannot be read as a file of transcripts.*s3prl-emotion transcribe"):
            read_transcripts(path)


def test_texts_from_the_table_or_from_a_file(tmp_path: Path):
    said = [utterance("b.wav", "Be!"), utterance("a.wav", "Hey.")]
    assert texts_of(said) == ["Be!", "Hey."]
    path = tmp_path / "t.csv"
    path.write_text("FileName,Text\na.wav,heard\nb.wav,\nc.wav,other\n")
    assert texts_of([utterance("b.wav"), said[1]], path) == ["", "heard"]  # "" was recognised: it is not missing
    with pytest.raises(LabelError, match=r"^d.wav: has no row in .*t.csv; run s3prl-emotion transcribe .* or add the"):
        texts_of([said[0], utterance("d.wav", "in the table")], str(path))
    with pytest.raises(LabelError, match=r"^c.wav: has no text in the label table \(2 of 3 have none\); fill in"):
        texts_of([said[0], utterance("c.wav"), utterance("d.wav")])
    assert texts_of([]) == []


def test_texts_of_a_corpus(graded_corpus: TinyGradedCorpus):
    data = DataSection(
        labels=str(graded_corpus.labels), root=str(graded_corpus.root), train_batch_size=1, eval_batch_size=1
    )
    utterances = all_utterances(load_corpus(data, Needs(classes=False)))
    with graded_corpus.labels.open(newline="") as file:
        table = {row["FileName"]: row["Text"] for row in csv.DictReader(file)}
    assert texts_of(utterances) == [table[item.name] for item in utterances]


# --- features of a head --------------------------------------------------------------------------------------------


@pytest.fixture
def branches(folders: Folders, tmp_path: Path) -> list[LexicalSection]:
    path = tmp_path / "asr.csv"
    path.write_text("FileName,Text\na.wav,THE TRAIN\nb.wav,\n")
    return [
        LexicalSection(model=str(folders("bert")), layer=3),
        LexicalSection(model=str(folders("roberta")), layer=1, pooling="cls", transcripts=str(path)),
        LexicalSection(model=str(folders("bert")), layer=3, transcripts=str(path)),
    ]


SAID = [utterance("b.wav", "Hello!"), utterance("a.wav", "the city")]


def test_branches_stand_side_by_side(folders: Folders, branches: list[LexicalSection], tmp_path: Path):
    got = lexical_features(SAID, branches)
    assert set(got) == {"a.wav", "b.wav"}
    bert, roberta = folders("bert"), folders("roberta")
    for name, said, heard in (("a.wav", "the city", "the train"), ("b.wav", "hello", "")):
        check(got[name][:16], reference(bert, said, 3))
        check(got[name][16:32], reference(roberta, heard, 1, "cls", limit=22))
        check(got[name][32:], reference(bert, heard, 3))
    forget()
    stored = lexical_features(SAID, branches, feature_store=tmp_path / "S")
    assert all(torch.equal(stored[name], got[name]) for name in got)
    assert sorted(item.utterances for item in upkeep.collections(tmp_path / "S")) == [2, 4]
    single = lexical_features(SAID, branches[0])
    assert all(torch.equal(single[name], got[name][:16]) for name in got)
    assert lexical_features([], branches) == {}
    assert [len(row) for row in lexical_features(SAID, []).values()] == [0, 0]


def test_a_missing_text_is_reported_before_a_model_is_loaded(branches: list[LexicalSection], tmp_path: Path):
    nowhere = LexicalSection(model=str(tmp_path / "no model"))
    with pytest.raises(LabelError, match=r"^c.wav: has no row in"):
        lexical_features([*SAID, utterance("c.wav", "x")], [nowhere, branches[1]])


def test_two_utterances_of_one_name(branches: list[LexicalSection]):
    twice = [utterance("a.wav", "Hello"), utterance("a.wav", "hello!")]
    assert len(lexical_features(twice, branches[0])) == 1
    with pytest.raises(LabelError, match=r"^a.wav: utterances of this name"):
        lexical_features([utterance("a.wav", "hello"), utterance("a.wav", "stop")], branches[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "lexical.model: this key is required"),
        ({"model": "m", "layr": 3}, "lexical.layr: unknown key; nearest: layer"),
        ({"model": "m", "layer": -1}, "lexical.layer"),
        ({"model": "m", "layer": "12"}, "lexical.layer"),
        ({"model": "m", "pooling": "max"}, "lexical.pooling"),
        ({"model": 3}, "lexical.model"),
    ],
)
def test_sections_are_checked(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        LexicalSection.read(values, "lexical")


def test_the_sections_defaults():
    section = LexicalSection.read({"model": "google-bert/bert-base-uncased"}, "lexical")
    assert section.model_dump() == {
        "model": "google-bert/bert-base-uncased", "layer": 12, "pooling": "mean", "transcripts": None, "revision": None,
    }  # fmt: skip


def test_transcripts_in_several_files(tmp_path: Path) -> None:
    clean, noisy = tmp_path / "clean.csv", tmp_path / "noisy.csv"
    clean.write_text("FileName,Text\na.wav,one\n")
    noisy.write_text("FileName,Text\ntest_5dB/a.wav,two\n")
    utterances = [Utterance(name, Path(name), 0) for name in ("test_5dB/a.wav", "a.wav")]
    assert texts_of(utterances, [str(clean), str(noisy)]) == ["two", "one"]
    noisy.write_text("FileName,Text\na.wav,two\n")
    with pytest.raises(LabelError, match=r"noisy\.csv: a\.wav is in another file of transcripts too"):
        texts_of(utterances, [str(clean), str(noisy)])
