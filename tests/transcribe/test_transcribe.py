"""``s3prl-emotion transcribe``: transcripts against plain ``transformers``, windows, interruptions, errors."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
import transformers
from conftest import SOURCE, Cli, Outcome, TinyCorpus, TinyGradedCorpus
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import save_tiny_hubert, with_bin
from tiny_text_models import (
    babble,
    save_tiny_bert,
    save_tiny_ctc,
    save_tiny_speller,
    save_tiny_w2v_bert_ctc,
)

import s3prl_emotion.cli
from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.transcribe import asr, record, scoring
from s3prl_emotion.transcribe import command as transcribe_command
from s3prl_emotion.transcribe.asr import Recogniser, RecogniserOptions, load_recogniser
from s3prl_emotion.transcribe.record import open_record
from s3prl_emotion.transcribe.windows import windows
from s3prl_emotion.upstreams.lexical import read_transcripts

RATE = 16_000
UTTERANCES = 48  # of the tiny corpus
SAVERS: dict[str, Callable[[Path], Path]] = {
    **{
        f"{kind} {'large' if large else 'base'}": lambda folder, kind=kind, large=large: save_tiny_ctc(  # type: ignore[misc]
            folder, kind, large
        )
        for kind in ("Hubert", "Wav2Vec2", "WavLM", "UniSpeechSat")
        for large in (True, False)
    },
    "data2vec": lambda folder: save_tiny_ctc(
        folder, "Data2VecAudio", num_conv_pos_embeddings=3, conv_pos_kernel_size=7
    ),
    "w2v-bert": save_tiny_w2v_bert_ctc,
    "whisper": save_tiny_speller,
    "whisper.en": lambda folder: save_tiny_speller(folder, multilingual=False),
}
CTC = [kind for kind in SAVERS if "whisper" not in kind]
BATCHED = [kind for kind in SAVERS if kind.endswith("large") or "whisper" in kind]
Folders = Callable[[str], Path]
Suite = Callable[..., Outcome]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Directory of a tiny recogniser by kind, shared: tests must not write into it."""
    root = tmp_path_factory.mktemp("recognisers")
    return cache(lambda kind: SAVERS[kind](root / kind.replace(" ", "_")))


@pytest.fixture
def own(folders: Folders, tmp_path: Path) -> Path:
    """A directory of the test's own, to damage."""
    return Path(shutil.copytree(folders("Hubert large"), tmp_path / "own"))


@pytest.fixture
def suite(cli: Cli, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Suite:
    """``suite("transcribe", …)`` inside this process, in an empty working directory."""

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = s3prl_emotion.cli.main([str(word) for word in words])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        assert "Traceback" not in outcome.err
        return outcome

    return call


def error_of(outcome: Outcome) -> str:
    """The one line that says what is wrong."""
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if "error:" in line]
    assert len(lines) == 1, outcome.err
    return lines[0]


def spoken(*seconds: float) -> list[NDArray[np.float32]]:
    return [babble(length, seed) for seed, length in enumerate(seconds)]


@torch.no_grad()
def plainly(folder: Path, waveform: NDArray[np.float32], **options: Any) -> str:
    """What ``transformers`` alone makes of a waveform."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    if "whisper" in folder.name:
        model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
        features = processor.feature_extractor(waveform, sampling_rate=RATE, return_tensors="pt").input_features
        tokens = model.generate(features, do_sample=False, num_beams=1, **options)
        text = processor.batch_decode(tokens, skip_special_tokens=True)[0]
    else:
        model = transformers.AutoModelForCTC.from_pretrained(folder).eval()
        inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(
            waveform, sampling_rate=RATE, return_tensors="pt"
        )
        text = processor.batch_decode(model(**inputs).logits.argmax(dim=-1))[0]
    return " ".join(text.split())


# --- windows -------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 200_000), st.integers(16_000, 50_000), st.integers(0, 9))
def test_windows_are_the_waveform_in_pieces(samples: int, most: int, seed: int):
    waveform = np.random.default_rng(seed).normal(size=samples).astype(np.float32)
    pieces = windows(waveform, most)
    assert np.array_equal(np.concatenate(pieces), waveform)
    assert all(1 <= len(piece) <= most for piece in pieces)
    assert all(len(piece) >= most // 2 for piece in pieces[:-1])
    assert len(pieces) == 1 or samples > most


def test_windows_are_cut_in_pauses():
    waveform = np.random.default_rng(0).normal(size=10 * RATE).astype(np.float32)
    for pause in (1.0, 2.7, 5.1, 7.3):  # s; the first lies in the first half of a window
        waveform[int(pause * RATE) : int((pause + 0.3) * RATE)] = 0.0
    *pieces, last = windows(waveform, 4 * RATE)
    cuts = np.cumsum([len(piece) for piece in pieces]) / RATE
    assert len(cuts) == 3
    for cut, pause in zip(cuts, (2.7, 5.1, 7.3), strict=True):
        assert pause <= cut - 0.05
        assert cut + 0.05 <= pause + 0.3
    assert len(last) == 10 * RATE - cuts[-1] * RATE


def test_silence_is_cut_as_late_as_can_be():
    pieces = windows(np.zeros(10 * RATE, dtype=np.float32), 4 * RATE)
    assert len(pieces) == 3
    assert len(pieces[0]) > 3.9 * RATE


# --- transcripts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CTC)
def test_ctc_transcripts_are_those_of_plain_transformers(kind: str, folders: Folders):
    recogniser = load_recogniser(folders(kind))
    waveforms = spoken(0.5, 1.2, 0.31, 2.0)
    got = recogniser.transcribe(waveforms)
    assert got == [plainly(folders(kind), waveform) for waveform in waveforms]
    assert len(set(got)) > 2  # they follow the audio
    assert recogniser.transcribe([]) == []


@pytest.mark.parametrize(
    ("kind", "language", "options"),
    [
        ("whisper", None, {"task": "transcribe"}),
        ("whisper", "en", {"task": "transcribe", "language": "en"}),
        pytest.param("whisper", "German", {"task": "transcribe", "language": "de"}, marks=pytest.mark.full),
        ("whisper.en", None, {}),
    ],
)
def test_whispers_transcripts_are_those_of_plain_transformers(
    kind: str, language: str | None, options: dict[str, Any], folders: Folders
):
    recogniser = load_recogniser(folders(kind), RecogniserOptions(language=language))
    waveforms = spoken(0.5, 1.2, 2.0)
    got = recogniser.transcribe(waveforms)
    assert got == [plainly(folders(kind), waveform, **options) for waveform in waveforms]
    assert len(set(got)) > 1
    assert recogniser.identity()["language"] == options.get("language")


def test_the_language_counts(folders: Folders):
    english, german = (
        load_recogniser(folders("whisper"), RecogniserOptions(language=language)).transcribe(spoken(1.0, 2.0))
        for language in ("en", "de")
    )
    assert english != german


@pytest.mark.full
@pytest.mark.parametrize("kind", BATCHED)
def test_a_transcript_does_not_depend_on_its_batch(kind: str, folders: Folders):
    alone = load_recogniser(folders(kind))
    together = load_recogniser(folders(kind), RecogniserOptions(batch_size=5))
    waveforms = spoken(0.5, 2.3, 0.04, 1.2, 0.7, 1.9, 1.0)
    assert together.batch_size == 5
    expected = [alone.transcribe([waveform])[0] for waveform in waveforms]
    assert together.transcribe(waveforms) == expected
    assert together.transcribe(waveforms[::-1]) == expected[::-1]


@pytest.mark.parametrize("kind", [kind for kind in SAVERS if kind not in BATCHED])
def test_where_padding_would_change_a_transcript_there_is_none(
    kind: str, folders: Folders, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        together = load_recogniser(folders(kind), RecogniserOptions(batch_size=4))
    assert together.batch_size == 1
    assert "it runs with --batch_size 1" in caplog.text
    waveforms = spoken(0.5, 1.3)
    assert together.transcribe(waveforms) == [plainly(folders(kind), waveform) for waveform in waveforms]


def test_an_adapter_behind_the_encoder_is_not_batched(tmp_path: Path):
    folder = save_tiny_ctc(tmp_path / "adapter", "Wav2Vec2", add_adapter=True, num_adapter_layers=1)
    assert load_recogniser(folder, RecogniserOptions(batch_size=4)).batch_size == 1


@pytest.mark.full
@pytest.mark.parametrize("kind", ["Hubert large", "whisper"])
def test_long_audio_is_recognised_in_windows(kind: str, folders: Folders):
    [waveform] = spoken(7.3)
    pieces = windows(waveform, 2 * RATE)
    options = {"task": "transcribe", "language": "en"} if kind == "whisper" else {}
    expected = " ".join(plainly(folders(kind), piece, **options) for piece in pieces)
    for size in (1, 3):
        recogniser = load_recogniser(folders(kind), RecogniserOptions(options.get("language"), 2.0, size))
        assert recogniser.transcribe([waveform, waveform[:RATE]])[0] == " ".join(expected.split())
    assert len(pieces) > 3


@pytest.mark.parametrize("kind", ["Hubert large", "Hubert base", "w2v-bert", "whisper"])
@pytest.mark.parametrize("samples", [1, 399, 560])
def test_the_shortest_and_silent_audio(kind: str, samples: int, folders: Folders):
    recogniser = load_recogniser(folders(kind), RecogniserOptions(batch_size=4))
    silent, short = np.zeros(RATE, dtype=np.float32), babble(1, 0)[:samples]
    got = recogniser.transcribe([short, silent, short])
    assert got[0] == got[2]
    assert got[:2] == [recogniser.transcribe([one])[0] for one in (short, silent)]


def test_generators_are_left_alone(folders: Folders):
    models = [folders(kind) for kind in ("Hubert large", "w2v-bert", "whisper")]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for model in models:
        recogniser = load_recogniser(model)
        first = recogniser.transcribe(spoken(1.0))
        assert recogniser.transcribe(spoken(1.0)) == first
    assert torch.equal(before, torch.get_rng_state())


def test_a_whisper_model_as_it_is_published(tmp_path: Path):
    """Its output layer shares its weights with the embeddings, so the file does not hold them."""
    folder = save_tiny_speller(tmp_path / "whisper_tied", tie_word_embeddings=True)
    assert "proj_out.weight" not in safetensors.torch.load_file(folder / "model.safetensors")
    waveforms = spoken(1.0)
    options = {"task": "transcribe", "language": "en"}
    got = load_recogniser(folder, RecogniserOptions("en")).transcribe(waveforms)
    assert got == [plainly(folder, waveforms[0], **options)]


def test_what_the_identity_follows(folders: Folders, own: Path, tmp_path: Path):
    as_it_is = load_recogniser(folders("Hubert large")).identity()
    assert load_recogniser(own, RecogniserOptions(batch_size=7)).identity() == as_it_is
    assert load_recogniser(own, RecogniserOptions(chunk=20.0)).identity() != as_it_is
    config = json.loads((own / "preprocessor_config.json").read_text())
    (own / "preprocessor_config.json").write_text(json.dumps(config | {"do_normalize": False}))
    assert load_recogniser(own).identity() != as_it_is
    (own / "preprocessor_config.json").write_text(json.dumps(config))
    vocabulary = json.loads((own / "vocab.json").read_text())
    vocabulary["E"], vocabulary["T"] = vocabulary["T"], vocabulary["E"]
    (own / "vocab.json").write_text(json.dumps(vocabulary))
    assert load_recogniser(own).identity() != as_it_is
    assert load_recogniser(folders("Hubert base")).identity() != as_it_is
    assert json.loads(json.dumps(as_it_is)) == as_it_is


# --- models that are refused ---------------------------------------------------------------------------------------


def refused(model: Path | str, kind: type[EmotionError] = UsageError, **options: Any) -> str:
    """The message, which must be one short line."""
    with pytest.raises(kind) as caught:
        load_recogniser(model, RecogniserOptions(**options))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_models_that_do_not_recognise_speech(tmp_path: Path, own: Path):
    save_tiny_bert(tmp_path / "bert")
    assert "model_type 'bert' does not recognise speech" in refused(tmp_path / "bert")
    save_tiny_hubert(own, num_hidden_layers=2)  # no head; its tokenizer is there
    message = refused(own)
    assert "2 weights of HubertForCTC are missing, for example lm_head.bias" in message
    save_tiny_hubert(tmp_path / "hubert")
    assert "tokenizer" in refused(tmp_path / "hubert")
    assert "no such directory" in refused(tmp_path / "no where")


def test_what_a_directory_may_lack(own: Path):
    config = json.loads((own / "preprocessor_config.json").read_text())
    (own / "preprocessor_config.json").write_text(json.dumps(config | {"sampling_rate": 8000}))
    assert "takes audio of 8000 Hz" in refused(own)
    (own / "preprocessor_config.json").write_text(json.dumps(config))
    (own / "vocab.json").unlink()
    assert "tokenizer" in refused(own)


@with_bin
def test_bin_weights_are_those_of_safetensors(own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = safetensors.torch.load_file(own / "model.safetensors")
    (own / "model.safetensors").rename(tmp_path / "model.safetensors")
    torch.save(whole, own / "pytorch_model.bin")
    pickled = load_recogniser(own)
    assert "--allow_pickle" not in caplog.text
    load_recogniser(own, allow_pickle=True)
    assert "--allow_pickle has no effect any more" in caplog.text
    waveforms = spoken(1.0)
    shutil.move(tmp_path / "model.safetensors", own / "model.safetensors")
    assert pickled.transcribe(waveforms) == load_recogniser(own).transcribe(waveforms)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("Hubert large", {"language": "en"}, "only Whisper models have languages"),
        ("whisper.en", {"language": "en"}, "supports only one language; leave it out"),
        ("whisper", {"language": "fr"}, "does not support it; known: de, en, english, german"),
        ("whisper", {"language": "Germn"}, "nearest: german"),
        ("whisper", {"chunk": 31.0}, "--chunk 31: .* takes at most 30 s at once"),
        ("Hubert large", {"chunk": 0.5}, "--chunk 0.5: must be at least 1"),
        ("Hubert large", {"chunk": float("nan")}, "--chunk nan"),
        ("Hubert large", {"chunk": float("inf")}, "--chunk inf"),
        ("Hubert large", {"batch_size": 0}, "--batch_size 0: must be at least 1"),
    ],
)
def test_options_that_do_not_fit(kind: str, options: dict[str, Any], message: str, folders: Folders):
    assert re.search(message, refused(folders(kind), **options))


# --- word error rate -----------------------------------------------------------------------------------------------


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein's distance, from its definition."""

    @cache
    def distance(first: int, second: int) -> int:
        if not first or not second:
            return first + second
        return min(
            distance(first - 1, second) + 1,
            distance(first, second - 1) + 1,
            distance(first - 1, second - 1) + (said[first - 1] != heard[second - 1]),
        )

    return distance(len(said), len(heard))


TEXT = st.lists(st.sampled_from(["a", "b", "C,", "d!", "'"]), max_size=6).map(" ".join)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_word_error_rate(pairs: list[tuple[str, str]]):
    pytest.importorskip("jiwer")

    def words(text: str) -> list[str]:
        return [word.lower().strip(",!'") for word in text.split() if word.strip(",!'")]

    total = sum(len(words(said)) for said, _ in pairs)
    got = scoring.word_error_rate([said for said, _ in pairs], [heard for _, heard in pairs])
    if not total:
        assert got is None
    else:
        assert got == pytest.approx(sum(edits(words(said), words(heard)) for said, heard in pairs) / total)


def test_without_jiwer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with caplog.at_level(logging.INFO):
        assert scoring.word_error_rate(["a"], ["a"]) is None
    assert "s3prl-emotion[asr]" in caplog.text


# --- the command ---------------------------------------------------------------------------------------------------


FEW = 12


@pytest.fixture(scope="module")
def few(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """A quarter of the tiny corpus, shared."""
    labels = tmp_path_factory.mktemp("few") / "labels.csv"
    head, *rows = tiny_corpus.labels.read_text().splitlines(keepends=True)
    labels.write_text("".join([head, *(row for row in rows if "_sad_" in row)]))
    return TinyCorpus(tiny_corpus.root, labels)


def without(corpus: TinyCorpus, last: int) -> Path:
    """The label table without its last rows."""
    less = corpus.labels.with_name(f"less_{last}.csv")
    less.write_text("".join(corpus.labels.read_text().splitlines(keepends=True)[:-last]))
    return less


def of_corpus(corpus: TinyCorpus) -> tuple[object, ...]:
    return "--labels", corpus.labels, "--root", corpus.root, "--device", "cpu"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Utterances of each call of a recogniser."""
    calls: list[int] = []
    plain = Recogniser.transcribe

    def transcribe(self: Recogniser, waveforms: Sequence[NDArray[np.float32]]) -> list[str]:
        calls.append(len(waveforms))
        return plain(self, waveforms)

    monkeypatch.setattr(Recogniser, "transcribe", transcribe)
    return calls


@pytest.fixture
def dies_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """``dies_after(n)``: Ctrl-C when n utterances are recorded; ``None``: never."""
    plain, left = record.Record.add, [0]

    def add(self: record.Record, name: str, text: str) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        plain(self, name, text)

    monkeypatch.setattr(record.Record, "add", add)
    return lambda count: left.__setitem__(0, -1 if count is None else count)


# --- limits of a transcript, and its score ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a Whisper that never ends a transcript and whose files name no ``max_length``."""
    folder = save_tiny_speller(tmp_path_factory.mktemp("endless") / "whisper", False, max_target_positions=40)
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["max_length"]
    settings["suppress_tokens"] = [*settings["suppress_tokens"], settings["eos_token_id"]]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def test_without_a_limit_of_its_own_a_model_gets_its_decoders(endless: Path, tmp_path: Path):
    recogniser = load_recogniser(endless)
    [text] = recogniser.transcribe(spoken(1.0))
    assert recogniser.limit == recogniser.model.generation_config.max_length == 40
    assert len(recogniser.tokenizer(text, add_special_tokens=False)["input_ids"]) > 20  # the limit of transformers
    assert recogniser.cut == [0]
    assert recogniser.identity()["max_length"] == 40
    for file, most in (("config.json", {"max_length": 30}), ("generation_config.json", {"max_length": 25})):
        own = Path(shutil.copytree(endless, tmp_path / file))
        (own / file).write_text(json.dumps(json.loads((own / file).read_text()) | most))
        named = load_recogniser(own)
        assert named.limit == most["max_length"]
        assert len(named.transcribe(spoken(1.0))[0]) < len(text)
        assert named.cut == [0]
        assert "max_length" not in named.identity()


def test_a_transcript_that_the_model_ends_is_not_cut(folders: Folders):
    watch = asr._Ends([2, 3])
    for newest in ([5, 2, 4], [3, 2, 4], [2, 2, 4]):  # after its end a row is padded
        assert not watch(torch.tensor([[1, token] for token in newest]), None).any()
    assert watch.missing == [False, False, True]
    ctc = load_recogniser(folders("Hubert base"))
    ctc.transcribe(spoken(0.5))
    assert (ctc.cut, ctc.limit) == ([], None)


def test_cut_transcripts_are_warned_about(
    suite: Suite,
    few: TinyCorpus,
    endless: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(transcribe_command, "MOST_NAMED", 2)
    suite("transcribe", "-k", endless, *of_corpus(few), "--batch_size", 4, "-o", "t.csv")
    assert caplog.text.count("transcript ends at the model's limit of 40 tokens; words may be missing behind it") == 2
    assert f"{FEW} transcripts end at the model's limit of 40 tokens" in caplog.text


def test_english_is_scored_with_whispers_normaliser(folders: Folders):
    pytest.importorskip("jiwer")
    english, table = scoring.normaliser_of("en"), scoring.normaliser_of("en", {"colour": "color"})
    said, heard = ["Mister Dashwood, it is twenty-five colour"], ["Mr. Dashwood, um, it's 25 color."]
    assert scoring.word_error_rate(said, heard, english) == pytest.approx(1 / 6)
    assert scoring.word_error_rate(said, heard, table) == 0
    assert english.name == "Whisper's English normaliser, without its table of spellings"
    assert table.name == "Whisper's English normaliser"
    for language in (None, "de"):
        assert scoring.normaliser_of(language) is scoring.PLAIN
    assert load_recogniser(folders("whisper.en")).spoken == "en"
    assert load_recogniser(folders("whisper")).spoken is None
    assert load_recogniser(folders("whisper"), RecogniserOptions("German")).spoken == "de"
    assert load_recogniser(folders("Hubert base")).spoken is None


@pytest.mark.full
@pytest.mark.parametrize("kind", ["Hubert large", "whisper"])
def test_transcribing_a_corpus(kind: str, suite: Suite, graded_corpus: TinyGradedCorpus, folders: Folders):
    pytest.importorskip("jiwer")
    options = ("--language", "en", "--batch_size", 4) if kind == "whisper" else ()
    done = suite("transcribe", "-k", folders(kind), *of_corpus(graded_corpus), "-o", "Ünï.csv", *options)
    got = read_transcripts("Ünï.csv")
    with graded_corpus.labels.open(newline="") as file:
        table = {row["FileName"]: row["Text"] for row in csv.DictReader(file)}
    assert list(got) == sorted(table)
    generate = {"task": "transcribe", "language": "en"} if kind == "whisper" else {}
    for name in list(got)[:: 20 if kind == "whisper" else 7]:
        samples, _ = soundfile.read(graded_corpus.root / name, dtype="float32")
        assert got[name] == plainly(folders(kind), samples, **generate)
    assert len(set(got.values())) > 5
    assert "Ünï.csv: 60 utterances, 60 recognised now" in done.out
    normaliser = scoring.normaliser_of("en" if options else None)
    wer = scoring.word_error_rate([table[name] for name in got], list(got.values()), normaliser)
    assert f"word error rate against the table's Text: {100 * (wer or 0):.2f} % ({normaliser.name})" in done.out
    about = json.loads(Path("Ünï.csv.json").read_text())
    expected = load_recogniser(folders(kind), RecogniserOptions("en" if options else None)).identity()
    assert about["identity"] == expected | {"root": str(graded_corpus.root.resolve())}
    assert (about["model"], about["wer"], about["device"]) == (str(folders(kind)), wer, "cpu")
    assert about["wer_normaliser"] == normaliser.name
    assert about["versions"]["transformers"] == transformers.__version__
    assert sorted(path.name for path in Path().iterdir()) == ["Ünï.csv", "Ünï.csv.json"]


def test_a_table_without_texts_and_superbs_lists(
    suite: Suite, few: TinyCorpus, superb_corpus: TinyCorpus, folders: Folders
):
    for corpus, count in ((few, FEW), (superb_corpus, UTTERANCES)):
        done = suite("transcribe", "-k", folders("Hubert base"), *of_corpus(corpus), "-o", f"{corpus.labels.name}.csv")
        assert f"{count} utterances" in done.out
        assert "error rate" not in done.out
        assert len(read_transcripts(f"{corpus.labels.name}.csv")) == count
    assert "Session1/sentences/wav" in next(iter(read_transcripts("meta_data.csv")))


def test_rows_without_a_class_are_transcribed_too(suite: Suite, own_tiny_corpus: TinyCorpus, folders: Folders):
    rows = own_tiny_corpus.labels.read_text().replace("_ang_0.wav,ang", "_ang_0.wav,")
    own_tiny_corpus.labels.write_text(rows)
    suite("transcribe", "-k", folders("Hubert large"), *of_corpus(own_tiny_corpus), "-o", "t.csv")
    assert len(read_transcripts("t.csv")) == UTTERANCES


def test_finished_transcripts_are_not_recognised_again(
    suite: Suite, few: TinyCorpus, folders: Folders, counted: list[int]
):
    words = ("transcribe", "-k", folders("Hubert large"), *of_corpus(few), "-o", "t.csv")
    suite(*words, "--labels", without(few, 3))
    assert sum(counted) == FEW - 3
    before = {name: Path(name).stat().st_mtime_ns for name in ("t.csv", "t.csv.json")}
    for more in ((), ("--overwrite",), ("--batch_size", 3)):
        done = suite(*words, "--labels", without(few, 3), *more)
        assert f"{FEW - 3} utterances, 0 recognised now" in done.out
    assert {name: Path(name).stat().st_mtime_ns for name in before} == before
    assert f"{FEW} utterances, 3 recognised now" in suite(*words).out  # the table grew
    assert sum(counted) == FEW
    assert len(read_transcripts("t.csv")) == FEW
    assert not Path("t.csv.partial").exists()
    written = set(Path().iterdir())
    assert suite(*words[:-1], "/dev/stdout").out == Path("t.csv").read_text()
    assert set(Path().iterdir()) == written


def test_transcripts_with_other_settings_are_refused(
    suite: Suite, few: TinyCorpus, folders: Folders, dies_after: Callable[[int | None], None]
):
    dies_after(None)
    corpus = of_corpus(few)
    words = ("transcribe", "-k", folders("Hubert large"), *corpus, "-o", "t.csv")
    suite(*words)
    text = Path("t.csv").read_text()
    elsewhere = Path(shutil.copytree(few.root, "elsewhere"))
    for model, more, message in (
        ("Wav2Vec2 large", (), "was made with another model; name another file, or use --overwrite"),
        ("Hubert large", ("--chunk", 20), r"was made with another chunk \(30.0, here 20.0\)"),
        ("Hubert large", ("--root", elsewhere), r"was made with another root \(.*audio, here .*elsewhere\)"),
    ):
        refusal = suite("transcribe", "-k", folders(model), *corpus, "-o", "t.csv", *more, code=1)
        assert re.search(message, error_of(refusal))
    assert Path("t.csv").read_text() == text
    assert not Path("t.csv.partial").exists()
    other = ("transcribe", "-k", folders("Wav2Vec2 large"), *corpus, "-o", "t.csv")
    dies_after(5)
    suite(*other, "--overwrite", code=130)
    assert Path("t.csv").read_text() == text  # the older file stays whole until the newer is
    dies_after(None)
    assert "was made with another model" in error_of(suite(*other, code=1))
    assert f"{FEW} utterances, {FEW - 5} recognised now" in suite(*other, "--overwrite").out
    assert Path("t.csv").read_text() != text


def test_a_partial_file_of_another_model(
    suite: Suite, few: TinyCorpus, folders: Folders, dies_after: Callable[[int | None], None]
):
    first = ("transcribe", "-k", folders("Hubert large"), *of_corpus(few), "-o", "t.csv")
    other = ("transcribe", "-k", folders("Wav2Vec2 large"), *of_corpus(few), "-o", "t.csv")
    dies_after(5)
    assert "interrupted; finished work is kept" in error_of(suite(*first, code=130))
    dies_after(None)
    begun = Path("t.csv.partial").read_bytes()
    assert "was begun with another model; finish it with that" in error_of(suite(*other, code=1))
    assert Path("t.csv.partial").read_bytes() == begun
    assert f"{FEW} recognised now" in suite(*other, "--overwrite").out
    Path("t.csv.partial").write_bytes(begun)
    Path("t.csv").unlink()
    assert f"{FEW - 5} recognised now" in suite(*first).out


def test_a_file_of_unknown_origin_is_refused(suite: Suite, few: TinyCorpus, folders: Folders):
    words = ("transcribe", "-k", folders("Hubert base"), *of_corpus(few), "-o", "t.csv")
    suite(*words)
    text, about = Path("t.csv").read_text(), Path("t.csv.json").read_text()
    for damaged in (None, "{", "[]", "{}", '{"identity": 3, "csv": ""}'):
        Path("t.csv.json").unlink(missing_ok=True)
        if damaged is not None:
            Path("t.csv.json").write_text(damaged)
        assert "no t.csv.json says what made it" in error_of(suite(*words, code=1))
    Path("t.csv.json").write_text(about)
    Path("t.csv").write_text(text.replace('"s0_sad_0.wav",', '"s0_sad_0.wav","mended by hand" #', 1))
    assert "was changed after it was made" in error_of(suite(*words, code=1))
    assert "mended by hand" in Path("t.csv").read_text()
    assert f"{FEW} recognised now" in suite(*words, "--overwrite").out
    assert Path("t.csv").read_text() == text


@pytest.mark.parametrize("died_at", ["t.csv.json", "t.csv"])
@pytest.mark.parametrize("grown", [False, True])
def test_death_while_the_file_is_finished(
    suite: Suite,
    few: TinyCorpus,
    folders: Folders,
    counted: list[int],
    monkeypatch: pytest.MonkeyPatch,
    died_at: str,
    grown: bool,
):
    words = ("transcribe", "-k", folders("Hubert base"), *of_corpus(few), "-o", "t.csv")
    if grown:
        suite(*words, "--labels", without(few, 4))

    def dies(path: Path, *others: Any, write: Callable[..., None]) -> None:
        if path.name == died_at:
            raise KeyboardInterrupt
        write(path, *others)

    with monkeypatch.context() as patch:
        for name in ("write_text", "write_json"):
            patch.setattr(record, name, partial(dies, write=getattr(record, name)))
        suite(*words, code=130)
    assert Path("t.csv").exists() == grown
    assert "0 recognised now" in suite(*words).out
    assert sum(counted) == len(read_transcripts("t.csv")) == FEW
    assert sorted(path.name for path in Path().glob("t.csv*")) == ["t.csv", "t.csv.json"]


def test_errors_of_the_command(suite: Suite, own_tiny_corpus: TinyCorpus, folders: Folders, tmp_path: Path):
    model, corpus = ("-k", folders("Hubert large")), of_corpus(own_tiny_corpus)
    assert "is a folder; name a file" in error_of(suite("transcribe", *model, *corpus, "-o", tmp_path, code=1))
    assert "its folder does not exist" in error_of(suite("transcribe", *model, *corpus, "-o", "no/t.csv", code=1))
    assert "no such directory" in error_of(suite("transcribe", "-k", "./none", *corpus, "-o", "t.csv", code=1))
    assert "--device gpu: not a device" in error_of(
        suite("transcribe", *model, *corpus, "--device", "gpu", "-o", "t.csv", code=1)
    )
    assert "a revision is for models on the hub" in error_of(
        suite("transcribe", *model, *corpus, "--revision", "main", "-o", "t.csv", code=1)
    )
    assert "the following arguments are required" in error_of(suite("transcribe", *corpus, "-o", "t.csv", code=1))
    assert list(Path().glob("t.csv*")) == []
    (own_tiny_corpus.root / "s3_neu_1.wav").write_bytes(b"RIFF")
    assert "s3_neu_1.wav: unreadable audio" in error_of(suite("transcribe", *model, *corpus, "-o", "t.csv", code=1))
    assert len(Path("t.csv.partial").read_text().splitlines()) == 1


# --- the record ----------------------------------------------------------------------------------------------------

MADE = {"weights": "w", "chunk": 30.0}
NAMES = ["ü/1.wav", 'quo"te,\n2.wav', "3.wav", "x\r4.wav"]  # spaces around a name are not part of it
TEXTS = ["HELLO", "", 'A "quoted", text', "日本"]


def test_a_record_cut_at_any_byte(tmp_path: Path):
    path = tmp_path / "t.csv"
    with open_record(path, MADE) as made:
        for name, text in zip(NAMES, TEXTS, strict=True):
            made.add(name, text)
    whole = (tmp_path / "t.csv.partial").read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        (tmp_path / "t.csv.partial").write_bytes(whole[:size])
        with open_record(path, MADE) as again:
            rows = max(0, sum(end <= size for end in ends) - 1)
            assert again.texts == dict(zip(NAMES[:rows], TEXTS[:rows], strict=True))
            assert (tmp_path / "t.csv.partial").stat().st_size == ends[rows]  # what was torn is gone
            for name, text in zip(NAMES[rows:], TEXTS[rows:], strict=True):
                again.add(name, text)
        assert (tmp_path / "t.csv.partial").read_bytes() == whole
    with open_record(path, MADE) as again:
        assert not again.is_finished
        again.finish({})
    assert read_transcripts(path) == dict(zip(NAMES, TEXTS, strict=True))
    assert not (tmp_path / "t.csv.partial").exists()


def test_a_damaged_line_is_recognised_again(tmp_path: Path):
    path = tmp_path / "t.csv"
    with open_record(path, MADE) as made:
        made.add("a", "A")
        made.add("b", "B")
    lines = (tmp_path / "t.csv.partial").read_bytes().split(b"\n")
    for bad in (b"\xff\x00", b"{}", b"[3]", b'{"FileName": "a", "Text": null}'):
        (tmp_path / "t.csv.partial").write_bytes(b"\n".join([lines[0], bad, *lines[2:]]))
        with open_record(path, MADE) as again:
            assert again.texts == {"b": "B"}
    (tmp_path / "t.csv.partial").write_bytes(b"\n".join([b'{"identity": 3}', *lines[1:]]))
    with open_record(path, MADE) as again:
        assert again.texts == {}


def test_two_at_once(tmp_path: Path):
    with open_record(tmp_path / "t.csv", MADE) as first:
        with (
            pytest.raises(UsageError, match="another process is writing it"),
            open_record(tmp_path / "t.csv", MADE),
        ):
            pass
        first.add("a", "A")
    with open_record(tmp_path / "t.csv", MADE) as again:
        assert again.texts == {"a": "A"}


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "t.csv"
    plain = FileIO.write

    class Full(FileIO):
        """Takes ten bytes of each write; full when ``full``."""

        full = False

        def write(self, data: Any) -> int:
            if self.full and len(data) < 30:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return plain(self, bytes(data[:10]))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *args, **options: Full(str(self), "r+"))
        with open_record(path, MADE) as made:
            made.add("a", "A")
            Full.full = True
            with pytest.raises(UsageError, match=r"No space left on device.*finished transcripts are kept"):
                made.add("b", "B" * 30)
            Full.full = False
            made.add("c", "C")
    assert (tmp_path / "t.csv.partial").read_bytes().endswith(b"}\n")
    with open_record(path, MADE) as again:
        assert again.texts == {"a": "A", "c": "C"}


# --- processes that die --------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
from s3prl_emotion import cli
from s3prl_emotion.transcribe import record

plain = record.Record.add
def add(self, name, text):
    plain(self, name, text)
    time.sleep(0.05)
record.Record.add = add
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.full
def test_killed_processes_lose_at_most_one_utterance(
    tmp_path: Path, tiny_corpus: TinyCorpus, folders: Folders, suite: Suite, counted: list[int]
):
    words = ["transcribe", "-k", folders("Hubert large"), *of_corpus(tiny_corpus), "-o", tmp_path / "t.csv"]
    env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    partial, kept = tmp_path / "t.csv.partial", 0
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, words)],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and (not partial.exists() or len(partial.read_bytes().split(b"\n")) < kept + 8):
            time.sleep(0.003 * (kill + 1))
        before = len(partial.read_bytes().split(b"\n")) - 2  # the head, and what is behind the last line
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        with open_record(tmp_path / "t.csv", json.loads(partial.read_text().split("\n")[0])["identity"]) as left:
            assert len(left.texts) >= before > kept
            kept = len(left.texts)
        assert not (tmp_path / "t.csv").exists()
    suite(*words)
    assert sum(counted) == UTTERANCES - kept
    suite(*words[:-1], tmp_path / "whole.csv")
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()
