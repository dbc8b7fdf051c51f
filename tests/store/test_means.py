"""Means over an utterance's frames in the store, beside its frames or instead of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from conftest import TinyCorpus
from store_tools import FAKES, features_of, flip, source_of, speech

import s3prl_emotion.cli
from s3prl_emotion.errors import AudioError
from s3prl_emotion.store import upkeep, utterance_key
from s3prl_emotion.store.means import BOTH, FRAMES, MEANS, mean_of
from s3prl_emotion.upstreams.source import UpstreamSource
from s3prl_emotion.upstreams.utterance import UtteranceUpstream


def keys(waveforms: list[torch.Tensor]) -> list[bytes]:
    return [utterance_key(waveform.numpy()) for waveform in waveforms]


def fill(folder: Path, keep: str, **options: object) -> UpstreamSource:
    """Store what is kept of some utterances, and return a source that reads them."""
    source = source_of(folder, **options)  # type: ignore[arg-type]
    source.keeps = keep
    for waveform, key in zip(speech(), keys(speech()), strict=True):
        source.save(key, source.compute(waveform), len(waveform))
    source.close()
    return source_of(folder, **options)  # type: ignore[arg-type]


def forbidden(*_: object) -> None:
    raise AssertionError("the upstream was called")


def stored_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> UpstreamSource:
    """Return a source whose upstream must not compute."""
    source = source_of(folder, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(source, "compute", forbidden)
    return source


def test_a_mean_is_that_of_float64_over_the_own_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path, MEANS)
    assert not list(tmp_path.glob("*/*.features"))  # frames are never written
    source = stored_alone(tmp_path, monkeypatch)
    for waveform, mean in zip(speech(), source.means(speech()), strict=True):
        expected = features_of(waveform.numpy()).mean(dim=1)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean.double(), expected, rtol=1e-6, atol=1e-6)


def test_means_of_long_utterances_do_not_lose_digits():
    stack = 1000 + torch.rand(2, 200_000, 1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(mean_of(stack), stack.double().mean(dim=1).float())


def test_an_older_store_of_frames_gives_means_without_the_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A store that holds frames alone stays valid, and its means are filled from them."""
    fill(tmp_path, FRAMES)
    assert not upkeep.collections(tmp_path)[0].means
    of_frames = list(stored_alone(tmp_path, monkeypatch).means(speech()))
    assert upkeep.collections(tmp_path)[0].means == {"means": len(speech())}
    for path in tmp_path.glob("*/*.features"):
        path.unlink()
    again = list(stored_alone(tmp_path, monkeypatch).means(speech()))
    assert all(torch.equal(*pair) for pair in zip(of_frames, again, strict=True))
    assert all(map(torch.equal, of_frames, source_of(None).means(speech())))


def test_frames_are_computed_where_means_alone_are_stored(tmp_path: Path):
    fill(tmp_path, MEANS)
    source = source_of(tmp_path)
    for waveform, stack in zip(speech(), source.stacks(speech()), strict=True):
        torch.testing.assert_close(stack.double(), features_of(waveform.numpy()), rtol=1e-5, atol=1e-5)
    assert source.required_store().stats.computed == len(speech())


def test_means_of_one_layer_come_from_those_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = fill(tmp_path, MEANS)
    rows = stored_alone(tmp_path, monkeypatch, layer=2).means(speech())
    for row, stack in zip(rows, whole.means(speech()), strict=True):
        assert torch.equal(row, stack[2:3])


def test_means_of_stored_half_precision_frames_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The upstream's own output gives the same means whatever the type of the store, whose frames are rounded."""
    exact = fill(tmp_path / "both", BOTH, dtype="float16")
    fill(tmp_path / "frames", FRAMES, dtype="float16")
    rounded = list(stored_alone(tmp_path / "frames", monkeypatch, dtype="float16").means(speech()))
    for mean, reference, coarse in zip(exact.means(speech()), source_of(None).means(speech()), rounded, strict=True):
        assert torch.equal(mean, reference)
        assert 0 < (coarse - reference).abs().max() < 1e-3
    assert [*upkeep.collections(tmp_path / "frames")[0].means] == ["means-of-stored"]
    assert list(source_of(tmp_path / "both").means(speech()))  # exact means serve a store of another type
    assert not (tmp_path / "both" / source_of(None).identity().id).exists()


def test_means_of_normalised_frames_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fill(tmp_path, MEANS)
    source = source_of(tmp_path)
    source.featurizer.normalize = True
    (mean,) = source.means(speech()[:1])
    frames = features_of(speech()[0].numpy())
    expected = torch.nn.functional.layer_norm(frames, frames.shape[-1:]).mean(dim=1)
    torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=1e-4)
    assert "means: is not what this run reads (means-normalised)" in caplog.text
    assert upkeep.collections(tmp_path)[0].means == {"means": len(speech()), "means-normalised": 1}


def test_a_damaged_mean_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    fill(tmp_path, MEANS)
    (payload,) = tmp_path.glob("*/means/*.features")
    flip(payload, 3, 1)
    assert next(iter(upkeep.verify(tmp_path))).bad == 1
    source = source_of(tmp_path)
    for mean, expected in zip(source.means(speech()), source_of(None).means(speech()), strict=True):
        assert torch.equal(mean, expected)
    source.close()
    assert "a damaged record" in caplog.text
    assert upkeep.clean(tmp_path)[0] == 1
    verdict = next(iter(upkeep.verify(tmp_path)))
    assert (verdict.good, verdict.means, verdict.bad) == (1, len(speech()), 0)


def test_an_utterance_without_a_frame_has_no_mean(monkeypatch: pytest.MonkeyPatch):
    source = source_of(None)
    monkeypatch.setattr(source, "compute", lambda *_: torch.zeros(4, 0, 6))
    with pytest.raises(AudioError, match=r"a\.wav: too short for this upstream, which gives it no frame; leave it out"):
        list(source.means(speech()[:1], ["a.wav"]))


def test_a_read_only_store_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path, FRAMES)
    monkeypatch.setattr("s3prl_emotion.store.store.os.access", lambda *_: False)
    assert len(list(stored_alone(tmp_path, monkeypatch).means(speech()))) == len(speech())
    assert not list(tmp_path.glob("*/means"))


# --- extract and store ------------------------------------------------------------------------------------------------


@pytest.fixture
def extract(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """``extract("--keep", "means")``: run the command in this process, and return what it printed."""
    monkeypatch.chdir(tmp_path)
    words = ["-u", "fake_layers", "--upstream_path", FAKES, "--device", "cpu", "--feature_store", "S"]
    words += ["--labels", tiny_corpus.labels, "--root", tiny_corpus.root]

    def call(*more: object, command: tuple[object, ...] = ("extract", *words)) -> str:
        assert s3prl_emotion.cli.main([str(word) for word in (*command, *more)]) == 0
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(
    ("keep", "frames", "means"),
    [
        ("means", 0, 48),
        pytest.param("frames", 48, 0, marks=pytest.mark.full),
        pytest.param("both", 48, 48, marks=pytest.mark.full),
    ],
)
def test_extract_stores_what_is_to_be_kept(extract, keep: str, frames: int, means: int):
    assert "48 utterances: 48 computed" in extract("--keep", keep)
    (collection,) = upkeep.collections(Path("S"))
    assert (collection.utterances, sum(collection.means.values())) == (frames, means)
    assert "48 utterances: 0 computed" in extract("--keep", keep)
    assert f"48 utterances: {48 if keep == 'means' else 0} computed" in extract()  # means are filled from frames
    listed = extract(command=("store", "ls", "S"))
    assert listed.splitlines()[1].split()[-1] == "48"
    assert f"{collection.folder.name}: 48 good, 0 damaged; 48 means good" in extract(command=("store", "verify", "S"))


def test_a_dry_run_predicts_both_and_stores_nothing(extract):
    printed = extract("--dry-run", "--keep", "means").splitlines()
    assert not Path("S").exists()
    predicted = {line.split()[0]: float(line.split()[1]) * 1e9 for line in printed[:2]}
    assert "not with --keep means" in printed[0]
    assert printed[2].startswith("48 utterances, --keep means: ")
    extract()
    (item,) = upkeep.collections(Path("S"))
    assert abs(predicted["frames"] - item.bytes) < 1e6
    assert abs(predicted["means"] - item.means_bytes["means"]) < 1e6


def test_dropping_a_collection_drops_its_means(extract):
    extract()
    (collection,) = upkeep.collections(Path("S"))
    freed = collection.bytes + collection.means_bytes["means"]
    assert upkeep.drop(Path("S"), collection.folder.name) == freed
    assert not collection.folder.exists()


class Concurrent(UtteranceUpstream):
    """An upstream whose utterances wait for each other: one alone would wait in vain."""

    concurrent = True

    def __init__(self) -> None:
        super().__init__()
        self.meeting: threading.Barrier | None = None

    def layers(self, wav: torch.Tensor) -> list[torch.Tensor]:
        if self.meeting is not None:
            self.meeting.wait(timeout=60)
        return [wav[: len(wav) // 160 * 160].reshape(-1, 160).double().cumsum(dim=1).float()]

    def get_downsample_rates(self, key: str | None = None) -> int:
        return 160

    def frames(self, samples: int) -> int:
        return samples // 160

    def identity(self) -> dict[str, int]:
        return {"version": 1}


def test_threads_compute_what_the_store_lacks_at_once(tmp_path: Path):
    waveforms, before = speech(5), torch.get_num_threads()
    names = [str(number) for number in range(5)]
    alone = [next(source_of(None, Concurrent()).means([wav], ["a"])) for wav in waveforms]
    upstream = Concurrent()
    source = source_of(tmp_path, upstream)
    source.keep_means()
    next(source.means(waveforms[:1], names))  # checks that the upstream is deterministic
    upstream.meeting = threading.Barrier(2)
    torch.set_num_threads(2)
    try:
        found = list(source.means(waveforms, names))
    finally:
        torch.set_num_threads(before)
    upstream.meeting = threading.Barrier(2)
    again = list(source.means(waveforms, names))  # of the store
    for rows in (found, again):
        assert all(torch.equal(one, other) for one, other in zip(rows, alone, strict=True))
    with pytest.raises(AudioError, match=r"^short"):
        list(source.means([waveforms[0], torch.zeros(0)], ["whole", "short"]))
