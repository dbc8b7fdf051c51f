"""``extract``, ``store``, ``export``, and training with ``--feature_store``."""

from __future__ import annotations

import csv
import errno
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from conftest import Cli, Outcome, TinyCorpus, tone
from store_tools import FAKES, features_of, flip, source_of
from test_resume import different
from tiny_models import TINY

import s3prl_emotion.cli
from s3prl_emotion.audio import load_audio
from s3prl_emotion.extract.filling import shown_sizes
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.store import store as store_module
from s3prl_emotion.store import upkeep, utterance_key
from s3prl_emotion.store.store import FeatureStore

DATA = "downstream_expert.datarc"
UTTERANCES = 48  # of the tiny corpus
Suite = Callable[..., Outcome]


@pytest.fixture
def suite(cli: Cli, capfd: pytest.CaptureFixture[str]) -> Suite:
    """``suite("store", "ls", folder)``: run the suite's command in this process, as ``cli`` does for training."""

    def call(*words: object, code: int = 0) -> Outcome:
        capfd.readouterr()
        got = s3prl_emotion.cli.main([str(word) for word in words])
        outcome = Outcome(got, *capfd.readouterr())
        assert got == code, f"exit code {got}, expected {code}\n{outcome.out}\n{outcome.err}"
        assert "Traceback" not in outcome.err
        return outcome

    return call


def error_of(outcome: Outcome) -> str:
    """Return the line of the error."""
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if "error:" in line]
    assert len(lines) == 1, outcome.err
    return lines[0]


class Upstream(NamedTuple):
    """A fake upstream with its own options, and a file that lists its calls."""

    words: tuple[object, ...]
    calls: Path

    def called_for(self, corpus: TinyCorpus) -> int:
        """Return the number of calls for whole utterances of a corpus, and reset the list."""
        keys = set(keys_of(corpus).values())
        lines = self.calls.read_text().split()[1::2] if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return sum(bytes.fromhex(line) in keys for line in lines)


def upstream_with(folder: Path, *words: object, name: str = "fake_layers", **options: Any) -> Upstream:
    calls, config = folder / "calls", folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    config.write_text(yaml.safe_dump({"calls": str(calls), **options}))
    return Upstream(("-u", name, "--upstream_path", FAKES, "-g", config, "--device", "cpu", *words), calls)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return upstream_with(tmp_path)


def of_corpus(corpus: TinyCorpus) -> tuple[object, ...]:
    return "--labels", corpus.labels, "--root", corpus.root


def keys_of(corpus: TinyCorpus) -> dict[str, bytes]:
    return {path.name: utterance_key(load_audio(path)) for path in sorted(corpus.root.iterdir())}


def collections(folder: Path | str) -> dict[str, int]:
    """Return the collections of a store and their distinct utterances."""
    return {item.folder.name: item.utterances for item in upkeep.collections(Path(folder))}


def opened(folder: Path | str, **identity: Any) -> FeatureStore:
    """Open the collection with these values in its identity."""
    for item in upkeep.collections(Path(folder)):
        values = item.about["identity"]
        if all(values[name] == value for name, value in identity.items()):
            return FeatureStore(folder, store_module.Identity(values))
    raise LookupError(identity)


# --- training ------------------------------------------------------------------------------------------------------


def train(
    cli: Cli, corpus: TinyCorpus, upstream: Upstream, folder: str, *words: object, code: int = 0, **overrides: object
) -> Outcome:
    options = corpus.overrides(**overrides)
    head = ("-m", "train", "-d", "emotion_corr_attn", "-p", folder)
    return cli(*head, *upstream.words, "-o", options, *words, code=code)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run is kept from one test to the next."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def plain(cli: Cli, tiny_corpus: TinyCorpus, shelf: Path) -> str:
    """Folder of a run without a store, which several tests share: they must not write into it."""
    if not (shelf / "plain").exists():
        train(cli, tiny_corpus, upstream_with(shelf), str(shelf / "plain"))
    return str(shelf / "plain")


def left_by(folder: str) -> dict[str, Any]:
    """Return the results of a run."""
    last = load_checkpoint(f"{folder}/states-6.ckpt")
    left: dict[str, Any] = {name: last[name] for name in ("Downstream", "Featurizer", "Optimizer", "Rng", "Records")}
    left["best"] = load_checkpoint(f"{folder}/dev-best.ckpt")["Downstream"]
    for name in ("log.log", "dev_fold1_predictions.csv", "test_fold1_predictions.csv"):
        left[name] = Path(folder, name).read_text()
    return left


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        pytest.param((), {}, id="weighted sum"),
        pytest.param(("-l", "1"), {f"{DATA}.pre_load": False}, id="one layer, not preloaded"),
        pytest.param((), {f"{DATA}.pre_load": False, f"{DATA}.num_workers": 2}, id="workers", marks=pytest.mark.full),
        pytest.param(("--upstream_feature_normalize",), {f"{DATA}.max_duration": 0.4}, id="normalised, cut"),
    ],
)
def test_training_with_a_store_equals_training_without_to_the_bit(
    cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, words: tuple[str, ...], overrides: dict[str, Any]
):
    for folder, store in (("plain", ()), ("cold", ("--feature_store", "S")), ("warm", ("--feature_store", "S"))):
        train(cli, tiny_corpus, upstream, folder, *words, *store, **overrides)
        called = upstream.called_for(tiny_corpus)
        assert (called == 0) == (folder == "warm")
    plain, cold, warm = map(left_by, ("plain", "cold", "warm"))
    assert different(plain, cold) == []
    assert different(plain, warm) == []
    if "-l" not in words:
        assert plain["Featurizer"]["weights"].any()  # the sum was learned
    assert "test at step 6" in plain["log.log"]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["hubert", "wavlm_large"])
def test_training_on_a_speech_model_with_a_store(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path, kind: str):
    TINY[kind](tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "model", tmp_path / "changed")
    (weights,) = (tmp_path / "changed").glob("*.safetensors")
    flip(weights, weights.stat().st_size // 2, 0)  # one bit of one value
    store = ("--feature_store", "S")
    for folder, model, more in (
        ("plain", "model", ()),
        ("cold", "model", store),
        ("warm", "elsewhere", store),
        ("other", "changed", store),
    ):
        upstream = Upstream(("-u", "hf_speech_custom", "-k", model, "--device", "cpu"), tmp_path)
        train(cli, tiny_corpus, upstream, folder, *more)
        assert len(collections("S") if more else {}) == {"plain": 0, "other": 2}.get(folder, 1)
    assert different(left_by("plain"), left_by("cold")) == []
    assert different(left_by("plain"), left_by("warm")) == []


def test_one_layer_from_a_store_of_all_layers(cli: Cli, suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream):
    train(cli, tiny_corpus, upstream, "plain", "-l", "1")
    suite("extract", *upstream.words, *of_corpus(tiny_corpus), "--feature_store", "S")
    upstream.called_for(tiny_corpus)
    train(cli, tiny_corpus, upstream, "stored", "-l", "1", "--feature_store", "S")
    assert upstream.called_for(tiny_corpus) == 0
    assert different(left_by("plain"), left_by("stored")) == []
    outcome = suite("extract", *upstream.words, *of_corpus(tiny_corpus), "--feature_store", "S", "-l", "1")
    assert "48 utterances: 0 computed" in outcome.out
    assert list(collections("S").values()) == [UTTERANCES]  # one without records leaves no folder


def test_evaluation_and_inference_with_a_store(cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream):
    train(cli, tiny_corpus, upstream, "exp")
    upstream.called_for(tiny_corpus)
    again = ("-e", "exp/dev-best.ckpt", *upstream.words)
    audio = tiny_corpus.root / "s1_hap_0.wav"
    seen = []
    for store in ((), ("--feature_store", "S"), ("--feature_store", "S")):
        cli("-m", "evaluate", "-t", "test", *again, *store)
        predictions = Path("exp/test_fold1_predictions.csv").read_text()
        metrics = json.loads(Path("exp/test_fold1_metrics.json").read_text())
        assert metrics["stored_features"] == ("float32" if store else None)
        answer = cli("-m", "inference", "-t", audio, *again, *store).out
        seen.append((predictions, answer[answer.index("s1_hap_0") :]))
        assert (upstream.called_for(tiny_corpus) == 0) == (len(seen) == 3)
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][0].splitlines()) == 17


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stores_are_near_and_said_so(
    cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, plain: str, dtype: str
):
    train(cli, tiny_corpus, upstream, "half", "--feature_store", "S", "--store_dtype", dtype)
    metrics = json.loads(Path("half/test_fold1_metrics.json").read_text())
    assert metrics["stored_features"] == dtype
    shares = []
    for folder in (plain, "half"):
        with open(f"{folder}/test_fold1_predictions.csv") as file:
            shares.append([[float(row[key]) for key in row if key.startswith("p_")] for row in csv.DictReader(file)])
    assert 0 < np.abs(np.subtract(*shares)).max() < 0.02


def test_a_run_that_resumes_may_have_a_store_or_not(cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, plain: str):
    train(cli, tiny_corpus, upstream, "parts", "--feature_store", "S", **{"runner.total_steps": 3})
    more = "config.runner.total_steps=6"
    cli("-m", "train", "-e", "parts", *upstream.words, "-o", more)
    assert different(left_by(plain), left_by("parts")) == []
    assert json.loads(Path("parts/test_fold1_metrics.json").read_text())["stored_features"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-f", "--feature_store", "S"), r"a trained upstream \(-f\) changes with every step; leave one of them out"),
        (("--feature_store", "S", "--store_dtype", "float61"), "--store_dtype float61: no such type; nearest: float16"),
        (("--store_dtype", "float16"), "--store_dtype and --store_batched need --feature_store DIR"),
        (("--store_batched",), "--store_dtype and --store_batched need --feature_store DIR"),
        (("--feature_store", "file"), "--feature_store file: is a file; name a folder"),
        (("--feature_store", "S", "-g", "noise.yaml"), "gives different features for the same utterance"),
        (
            ("--feature_store", "S", "-g", "uneven.yaml"),
            r"gives 3 layers for s\d_.*\.wav, 4 for others",
        ),
        (("-g", "uneven.yaml"), r"gives 3 layers for s\d_.*\.wav, 4 for others"),
        (("--feature_store", "S", "--store_dtype", "float16", "-g", "large.yaml"), "float16: holds values up to 65504"),
        (("--feature_store", "S", "-l", "4"), "-l 4: the upstream has no such layer in 'hidden_states'; it has 4"),
        (("--feature_store", "S", "-s", "hidden"), "-s hidden: the upstream gives no such features; nearest: hidden_"),
    ],
)
def test_what_a_store_cannot_do_is_one_line(
    cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, words: tuple[str, ...], message: str
):
    Path("file").write_text("")
    for name, options in (("noise", {"noise": 0.1}), ("uneven", {"uneven": 6000}), ("large", {"scale": 1e5})):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(options))
    outcome = train(cli, tiny_corpus, upstream, "exp", *words, code=1)
    assert re.search(message, outcome.error), outcome.error
    assert not list(Path("exp").glob("*.ckpt"))


@pytest.mark.parametrize(("head", "more"), [("emotion", ""), ("emotion_corr_attn", ",,config.runner.seeding=superb")])
def test_the_hosts_own_path_has_no_store(cli: Cli, superb_corpus: TinyCorpus, upstream: Upstream, head: str, more: str):
    words = ("-m", "train", *upstream.words, "-d", head, "-p", "exp", "--feature_store", "S")
    outcome = cli(*words, "-o", f"config.runner.total_steps=1{more}", code=1)
    assert "--feature_store: " in outcome.error
    assert not Path("S").exists()
    assert not Path("exp").exists()


# --- extract -------------------------------------------------------------------------------------------------------


def extract(suite: Suite, corpus: TinyCorpus, upstream: Upstream, *words: object, code: int = 0) -> Outcome:
    return suite("extract", *upstream.words, *of_corpus(corpus), "--feature_store", "S", *words, code=code)


def test_extraction_fills_a_store_once(
    suite: Suite, cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    outcome = extract(suite, tiny_corpus, upstream)
    (name,) = collections("S")
    seconds = sum(len(load_audio(path)) for path in tiny_corpus.root.iterdir()) / 16_000
    summary = rf"48 utterances: 48 computed \({seconds:.0f} s of audio, [\d.]+ s per second\), .*; S/{name}"
    assert re.search(summary, outcome.out), outcome.out
    assert f"extract: {round(seconds)} of {round(seconds)} s of audio in 0:0" in caplog.text
    assert upstream.called_for(tiny_corpus) == UTTERANCES + 2
    store = opened("S")
    for file, key in keys_of(tiny_corpus).items():
        waveform = load_audio(tiny_corpus.root / file)
        torch.testing.assert_close(store.get(key, len(waveform)).double(), features_of(waveform), rtol=1e-4, atol=1e-4)
    outcome = extract(suite, tiny_corpus, upstream)
    assert "48 utterances: 0 computed (0 s of audio" in outcome.out
    assert upstream.called_for(tiny_corpus) == 0
    train(cli, tiny_corpus, upstream, "exp", "--feature_store", "S")
    assert upstream.called_for(tiny_corpus) == 0
    assert collections("S") == {name: UTTERANCES}


def test_extraction_goes_on_where_it_was(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    put = FeatureStore.put

    def mortal(self: FeatureStore, *record: Any) -> Any:
        if self.stats.computed == 10:
            raise OSError(errno.EIO, "Input/output error")
        return put(self, *record)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "put", mortal)
        assert "Input/output error" in error_of(extract(suite, tiny_corpus, upstream, code=1))
    assert "48 utterances: 38 computed" in extract(suite, tiny_corpus, upstream).out


@pytest.mark.parametrize("words", [(), ("--batch_seconds", "1.5")])
def test_processes_share_the_work(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        outcome = extract(suite, tiny_corpus, upstream, "--max_duration", "0.5", *words)
        computed = int(re.search(r"16 utterances: (\d+) computed", outcome.out).group(1))
        assert 16 < computed < 24  # whole utterances and some that are cut
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert "48 utterances: 0 computed" in extract(suite, tiny_corpus, upstream, "--max_duration", "0.5", *words).out
    (verdict,) = upkeep.verify(Path("S"))
    assert verdict.good == next(iter(collections("S").values()))  # none is computed twice


def test_cut_utterances_are_kept_as_well(suite: Suite, cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream):
    extract(suite, tiny_corpus, upstream, "--max_duration", "0.4", "--num_workers", "1")
    waveforms = [load_audio(path) for path in tiny_corpus.root.iterdir()]
    longer = [waveform for waveform in waveforms if len(waveform) > 6400]
    assert 0 < len(longer) < UTTERANCES
    assert list(collections("S").values()) == [UTTERANCES + len(longer)]
    store = opened("S")
    for waveform in longer:
        stack = store.get(utterance_key(waveform[:6400]), 6400)
        torch.testing.assert_close(stack.double(), features_of(waveform[:6400]), rtol=1e-4, atol=1e-4)
    upstream.called_for(tiny_corpus)
    train(cli, tiny_corpus, upstream, "exp", "--feature_store", "S", **{f"{DATA}.max_duration": 0.4})
    assert not upstream.calls.exists() or len(upstream.calls.read_text().splitlines()) == 1  # the featurizer's probe


def test_batches_have_a_collection_of_their_own(suite: Suite, cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream):
    extract(suite, tiny_corpus, upstream)
    assert "48 utterances: 48 computed" in extract(suite, tiny_corpus, upstream, "--batch_seconds", "2").out
    assert list(collections("S").values()) == [UTTERANCES, UTTERANCES]
    alone, together = opened("S", batched=False), opened("S", batched=True)
    for file, key in keys_of(tiny_corpus).items():
        samples = len(load_audio(tiny_corpus.root / file))
        torch.testing.assert_close(together.get(key, samples), alone.get(key, samples), rtol=1e-4, atol=1e-4)
    upstream.called_for(tiny_corpus)
    train(cli, tiny_corpus, upstream, "exp", "--feature_store", "S", "--store_batched")
    assert upstream.called_for(tiny_corpus) == 0
    assert together.stats.corrupt == 0


def test_batches_hold_as_much_audio_as_was_asked_for(suite: Suite, tiny_corpus: TinyCorpus, tmp_path: Path):
    minding = upstream_with(tmp_path, batch=1.0)  # adds the number of other utterances in the batch to each value
    extract(suite, tiny_corpus, minding, "--batch_seconds", "2")
    store = opened("S")
    neighbours = {}
    for file, key in keys_of(tiny_corpus).items():
        waveform = load_audio(tiny_corpus.root / file)
        extra = store.get(key, len(waveform)).double() - features_of(waveform)
        assert extra.max() - extra.min() < 1e-4
        neighbours[file] = (len(waveform) / 16_000, round(extra.mean().item()))
    assert max(count for _, count in neighbours.values()) > 3
    assert all(seconds * (count + 1) <= 2 + 1e-6 for seconds, count in neighbours.values())


def test_means_of_a_small_corpus_are_not_shown_as_nothing():
    assert shown_sizes({"frames": 656_000_000, "means": 4_859_904}) == "0.656 GB of frames, 0.005 GB of means"


def test_size_is_predicted(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    big = upstream_with(tmp_path, dim=256)
    free = shutil.disk_usage("/")

    def room(number: int) -> Callable[[object], Any]:
        return lambda place: free._replace(free=number)

    extract(suite, tiny_corpus, big)
    size = sum(path.stat().st_size for path in Path("S").rglob("*") if path.is_file())
    shutil.rmtree("S")
    big.called_for(tiny_corpus)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", room(round(size * 0.95)))
        error = error_of(extract(suite, tiny_corpus, big, code=1))
    assert re.search(r"S: needs about 0\.0 GB more, but 0\.0 GB are free there; free disk space, or use less", error)
    assert not Path("S").exists()
    assert big.called_for(tiny_corpus) == 0
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", room(round(size * 1.05)))
        extract(suite, tiny_corpus, big)
        patch.setattr(shutil, "disk_usage", room(0))  # all is stored: no more space is needed
        extract(suite, tiny_corpus, big)
    assert list(collections("S").values()) == [UTTERANCES]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch_seconds", "0"), "--batch_seconds 0.0: must be above 0 s"),
        (("--batch_seconds", "nan"), "--batch_seconds nan: must be above 0 s"),
        (("--max_duration", "inf"), "--max_duration inf: must be above 0 s"),
        (("--num_workers", "-1"), "--num_workers -1: must be 0 or more"),
        (("--store_dtype", "floaf32"), "--store_dtype floaf32: no such type; nearest: float32"),
        (("-l", "5"), "-l 5: the upstream has no such layer in 'hidden_states'; it has 4, from 0 to 3"),
        (("-l", "-1"), "-l -1: layers are numbered from 0"),
        (("-u", "fake_layer"), "-u fake_layer: no such upstream; nearest: fake_layers"),
        (("-u", "fake_without_frames", "--batch_seconds", "9"), r"does not say how many frames .* \(it lacks frames"),
        (("--feature_store", "file"), "--feature_store file: is a file"),
        (("--labels", "none.csv"), "none.csv: no such label table"),
    ],
)
def test_extraction_refuses(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, words: tuple[str, ...], message: str
):
    Path("file").write_text("")
    assert re.search(message, error_of(extract(suite, tiny_corpus, upstream, *words, code=1)))


def test_extraction_into_a_read_only_store_is_an_error(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    Path("S").mkdir()
    monkeypatch.setattr(store_module.os, "access", lambda *args: False)
    assert "S: is read-only; fix its permissions" in error_of(extract(suite, tiny_corpus, upstream, code=1))


def test_extraction_names_audio_that_it_cannot_use(suite: Suite, own_tiny_corpus: TinyCorpus, upstream: Upstream):
    (own_tiny_corpus.root / "s0_ang_0.wav").write_bytes(b"none")
    outcome = extract(suite, own_tiny_corpus, upstream, code=1)
    assert re.search("s0_ang_0.wav: unreadable audio .*; replace the file or leave it out", error_of(outcome))


# --- store ---------------------------------------------------------------------------------------------------------


def test_a_store_is_listed_verified_and_cleaned(suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream):
    extract(suite, tiny_corpus, upstream)
    extract(suite, tiny_corpus, upstream, "--store_dtype", "float16", "--batch_seconds", "3")
    whole, half = (opened("S", dtype=dtype).folder.name for dtype in ("float32", "float16"))
    listed = suite("store", "ls", "S").out
    assert re.search(rf"^ *{whole} +4 x 6 +float32 +hidden_states +48 +0\.000", listed, re.M), listed
    assert re.search(rf"^ *{half} +4 x 6 +float16 +hidden_states, batched +48 +0\.000", listed, re.M), listed
    folders = [whole, f"{whole}/means", half, f"{half}/means"]
    sizes = {name: sum(file.stat().st_size for file in Path("S", name).iterdir() if file.is_file()) for name in folders}
    lines = [line.split() for line in suite("store", "size", "S").out.splitlines()]
    assert {name: int(size) for size, name in lines} == {**sizes, "S": sum(sizes.values())}
    verified = suite("store", "verify", "S").out
    assert sorted(verified.splitlines()) == sorted(
        f"{name}: 48 good, 0 damaged; 48 means good" for name in (whole, half)
    )
    (payload,) = Path("S", whole).glob("*.features")
    flip(payload, 10, 0)
    damaged = suite("store", "verify", "S", code=1).out
    assert f"{whole}: 47 good, 1 damaged" in damaged
    assert f"  damaged: {payload.with_suffix('')}" in damaged
    assert suite("store", "gc", "S").out.startswith("1 damaged or duplicate records removed, 0.000 GB freed")
    assert f"{whole}: 47 good, 0 damaged" in suite("store", "verify", "S").out
    assert "48 utterances: 1 computed" in extract(suite, tiny_corpus, upstream).out
    assert "no collection" in error_of(suite("store", "gc", "S", "--drop", "none", code=1))
    suite("store", "gc", "S", "--drop", half)
    assert collections("S") == {whole: UTTERANCES}


def test_a_damaged_record_is_trained_on_as_if_it_were_whole(
    cli: Cli, suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, plain: str
):
    extract(suite, tiny_corpus, upstream)
    (payload,) = Path("S").glob("*/*.features")
    for offset in range(0, payload.stat().st_size, 20_000):
        flip(payload, offset, 4)
    train(cli, tiny_corpus, upstream, "stored", "--feature_store", "S")
    assert different(left_by(plain), left_by("stored")) == []


@pytest.mark.parametrize("action", ["ls", "size", "verify", "gc"])
def test_what_is_no_store_is_one_line(suite: Suite, action: str):
    Path("empty").mkdir()
    assert "none: no such folder" in error_of(suite("store", action, "none", code=1))
    assert "empty: holds no stored features" in error_of(suite("store", action, "empty", code=1))


# --- export --------------------------------------------------------------------------------------------------------


def export(suite: Suite, corpus: TinyCorpus, upstream: Upstream, *words: object, code: int = 0) -> Outcome:
    return suite("export", *upstream.words, *of_corpus(corpus), "-o", "out.npz", *words, code=code)


def exact(corpus: TinyCorpus, name: str) -> np.ndarray:
    return features_of(load_audio(corpus.root / name)).numpy()


def mean_std(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features.mean(-2), features.std(-2)], axis=-1)


POOLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda features: features.mean(-2),
    "mean_std": mean_std,
    "frames": lambda features: features,
}


def check(corpus: TinyCorpus, pooling: str, layers: Callable[[np.ndarray], np.ndarray]):
    """Compare ``out.npz`` with the definition; ``layers`` selects or sums them."""
    with np.load("out.npz", allow_pickle=False) as file:
        names = file["names"].tolist()
        assert names == sorted(path.name for path in corpus.root.iterdir())
        assert file["classes"].tolist() == [name.split("_")[1] for name in names]
        assert file["speakers"].tolist() == [name.split("_")[0] for name in names]
        for number, name in enumerate(names):
            got = file[f"features/{name}"] if pooling == "frames" else file["features"][number]
            assert got.dtype == np.float32
            expected = POOLED[pooling](layers(exact(corpus, name)))
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        assert len(file.files) == 3 + (len(names) if pooling == "frames" else 1)


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "frames"])
@pytest.mark.parametrize("layer", [None, 2])
def test_features_are_exported(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, pooling: str, layer: int | None
):
    words = ("--pooling", pooling, *(() if layer is None else ("-l", layer)))
    outcome = export(suite, tiny_corpus, upstream, *words)
    assert outcome.out == f"out.npz: {pooling} of 48 utterances\n"
    check(tiny_corpus, pooling, lambda stack: stack if layer is None else stack[layer])
    alone = Path("out.npz").read_bytes()
    upstream.called_for(tiny_corpus)
    for called in (UTTERANCES + 2, 0):
        export(suite, tiny_corpus, upstream, *words, "--feature_store", "S")
        assert upstream.called_for(tiny_corpus) == called
        with np.load("out.npz") as file:
            stored = [file[name] for name in file.files]
        Path("out.npz").write_bytes(alone)
        with np.load("out.npz") as file:
            assert all(map(np.array_equal, stored, [file[name] for name in file.files]))


@pytest.mark.parametrize("normalize", [False, True])
def test_layers_are_summed_as_a_checkpoint_learned(
    suite: Suite, cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, plain: str, normalize: bool
):
    if normalize:
        train(cli, tiny_corpus, upstream, "exp", "--upstream_feature_normalize")
    folder = "exp" if normalize else plain
    weights = load_checkpoint(f"{folder}/states-6.ckpt")["Featurizer"]["weights"].double().numpy()
    weights = weights + np.array([0.5, -1.0, 0.2, 0.0])  # a larger difference than six steps can cause
    state = load_checkpoint(f"{folder}/states-6.ckpt")
    state["Featurizer"]["weights"] = torch.from_numpy(weights).float()
    torch.save(state, "edited.ckpt")
    shares = np.exp(weights) / np.exp(weights).sum()

    def summed(stack: np.ndarray) -> np.ndarray:
        if normalize:
            stack = (stack - stack.mean(-1, keepdims=True)) / np.sqrt(stack.var(-1, keepdims=True) + 1e-5)
        return np.einsum("l,ltd->td", shares, stack)

    for pooling in ("frames", "mean"):
        export(suite, tiny_corpus, upstream, "--pooling", pooling, "--ckpt", "edited.ckpt")
        check(tiny_corpus, pooling, summed)


def test_checkpoints_that_do_not_fit_are_refused(
    suite: Suite, cli: Cli, tiny_corpus: TinyCorpus, upstream: Upstream, tmp_path: Path, plain: str
):
    train(cli, tiny_corpus, upstream, "one", "-l", "1", **{"runner.total_steps": 1, "runner.save_step": 1})
    more = upstream_with(tmp_path, layers=5)
    (tmp_path / "broken.ckpt").write_bytes(b"PK")
    for words, ckpt, message in (
        (upstream, "one/states-1.ckpt", "holds no layer weights for -u fake_layers -s hidden_states"),
        (more, f"{plain}/states-6.ckpt", "its layer weights do not fit -u fake_layers -s hidden_states"),
        (upstream_with(tmp_path, "-l", "1"), f"{plain}/states-6.ckpt", "its layer weights do not fit"),
        (
            upstream_with(tmp_path, "-s", "last_hidden_state"),
            f"{plain}/states-6.ckpt",
            "(it is of -u fake_layers -s hid",
        ),
        (upstream_with(tmp_path, name="fake_without_frames"), f"{plain}/states-6.ckpt", "(it is of -u fake_layers -s"),
        (upstream, "none.ckpt", "none.ckpt: no such checkpoint"),
        (upstream, "broken.ckpt", "broken.ckpt: damaged or not a checkpoint"),
    ):
        assert message in error_of(export(suite, tiny_corpus, words, "--ckpt", ckpt, code=1))
    assert not Path("out.npz").exists()


def test_export_leaves_nothing_where_it_cannot_write(
    suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    Path("file").write_text("")
    Path("folder").mkdir()
    for output in ("none/out.npz", "file/out.npz", "folder", "."):
        error = error_of(export(suite, tiny_corpus, upstream, "-o", output, code=1))
        assert re.search(rf"error: -o {re.escape(output)}: (its folder does not exist|is a folder)", error)
    Path("out.npz").write_text("older")
    write = np.lib.format.write_array
    written: list[int] = []

    def full(file: Any, array: np.ndarray, **options: Any) -> None:
        written.append(1)
        if len(written) == 7:
            file.write(b"x")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, array, **options)

    monkeypatch.setattr(np.lib.format, "write_array", full)
    error = error_of(export(suite, tiny_corpus, upstream, "--pooling", "frames", code=1))
    assert "out.npz: could not be written (No space left on device)" in error
    assert Path("out.npz").read_text() == "older"
    assert sorted(path.name for path in Path().iterdir() if path.suffix not in (".yaml", "")) == ["out.npz"]
    assert list(Path("folder").iterdir()) == []


def test_export_refuses_a_type_without_a_store(suite: Suite, tiny_corpus: TinyCorpus, upstream: Upstream):
    outcome = export(suite, tiny_corpus, upstream, "--store_dtype", "float16", code=1)
    assert "--store_dtype needs --feature_store DIR" in error_of(outcome)


def test_helpers_agree_with_the_upstream():
    waveform = tone(200, 0.2, 1)
    (stack,) = source_of(None).stacks([torch.from_numpy(waveform)])
    torch.testing.assert_close(stack.double(), features_of(waveform), rtol=1e-4, atol=1e-4)
