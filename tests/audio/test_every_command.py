"""Every command gives the same answer to a file, whatever is the matter with it."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_cases import CASES, FAR, NEAR, READS, REFUSES, Case, make_cases, speech, write_m4a
from conftest import RATE, TinyCorpus

from s3prl_emotion.audio import (
    Sound,
    faults,
    formats,
    header,
    load_audio,
    opened,
    opening,
    read_audio,
    resampled_length,
    waveform_of,
)
from s3prl_emotion.audio.riff import promised_frames
from s3prl_emotion.audit.waveform import measure
from s3prl_emotion.corpora import list_utterances, load_corpus
from s3prl_emotion.corpora.corpus import Utterance
from s3prl_emotion.corpora.prepare.write import _length
from s3prl_emotion.degrade.copies import _samples
from s3prl_emotion.errors import AudioError, ConfigError, EmotionError
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.extract.filling import durations
from s3prl_emotion.files.folders import PACKAGE
from s3prl_emotion.host import soundfile_info, soundfile_load
from s3prl_emotion.loading.dataset import UtteranceDataset
from s3prl_emotion.predict.files import _read
from s3prl_emotion.predict.inputs import AudioFile, collect
from s3prl_emotion.predict.pipeline import _utterance
from s3prl_emotion.rae.adapter import SpectrogramSection
from s3prl_emotion.rae.audio_index import index_audio
from s3prl_emotion.rae.audio_stream import Segment, Spectrograms
from s3prl_emotion.recipe import DataSection
from s3prl_emotion.serve import decoding
from s3prl_emotion.serve.limits import Limits
from s3prl_emotion.training.longest import _longest

DATA: dict[str, object] = {"labels": "a.csv", "train_batch_size": 1, "eval_batch_size": 1}
MEDIA = find_spec("av") is not None
SHARED = Path(__file__).resolve().parents[2].parent / "shared/cases/audio"
Answer = tuple[str, tuple[str, ...] | None, float | None]  # reads or refuses; kinds of faults; length (s), if said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files; tests must not write into it."""
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Case]:
    """The right answer to each file of the folder."""
    return make_cases(folder, MEDIA)


@pytest.fixture(autouse=True)
def nothing_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings come again in each test."""
    monkeypatch.setattr(faults, "_warned", {})


@pytest.fixture
def without_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """The media extra is not installed."""
    for module in (formats, opening):
        monkeypatch.setattr(module, "has_media", lambda: False)


# --- the table ---------------------------------------------------------------------------------------------------


def kinds(found: Any) -> tuple[str, ...]:
    return tuple(fault.kind for fault in found)


class Commands:
    """How each command reads a file: through its own code, without its model."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def warned(self) -> tuple[str, ...]:
        """Return the kinds of faults of which the log warned since the last call."""
        texts = {
            "truncated": ("what is left is used", "or have damaged parts"),
            "scale": ("full scale",),
            "cancels": ("cancel",),
        }
        lines = [record.getMessage() for record in self.caplog.records]
        self.caplog.clear()
        return tuple(kind for kind, words in texts.items() if any(word in line for line in lines for word in words))

    def training(self, path: Path) -> Answer:
        item = Utterance(path.name, path, 0)
        dataset = UtteranceDataset([item], pre_load=True, max_duration=None, where="train")
        return READS, self.warned(), len(dataset[0][0]) / RATE

    def preflight(self, path: Path) -> Answer:
        found = list(_longest([Utterance(path.name, path, 0)]))
        return READS if found and found[0][1] else REFUSES, None, None

    def inference(self, path: Path) -> Answer:
        expert = SimpleNamespace(data=SimpleNamespace(channel="mean"))
        waveform = EmotionExpert.load_audio(expert, path)  # type: ignore[arg-type]
        return READS, self.warned(), len(waveform) / RATE

    def predict(self, path: Path) -> Answer:
        found: list[Any] = []
        ((_, waveform),) = _read([AudioFile(str(path), path.name)], "mean", found)
        if isinstance(waveform, AudioError):
            raise waveform
        return READS, kinds(found[0]), len(waveform) / RATE

    def python(self, path: Path) -> Answer:
        _, waveform = _utterance(path, "input 0")
        return READS, self.warned(), len(waveform) / RATE

    def serve(self, path: Path) -> Answer:
        content = path.read_bytes() if path.is_file() else b""
        found = decoding.read_audio(io.BytesIO(content), Limits())
        return READS, kinds(found.faults), len(found.waveform) / RATE

    def audit(self, path: Path) -> Answer:
        found = measure(path)
        return REFUSES if found.problem else READS, kinds(found.faults), found.seconds if not found.problem else None

    def prepare(self, path: Path) -> Answer:
        return READS if isinstance(_length(path), float) else REFUSES, None, None

    def extract(self, path: Path) -> Answer:
        durations([Utterance(path.name, path, 0)])
        item = Utterance(path.name, path, 0)
        waveform = UtteranceDataset([item], pre_load=False, max_duration=None)[0][0]
        return READS, self.warned(), len(waveform) / RATE

    def degrade(self, path: Path) -> Answer:
        try:
            _samples(path)
        except AudioError as error:
            assert "antiphase" in path.name or path.name in ("text.wav", "empty.wav", "gone.wav"), error  # noqa: PT017
            if "silent" not in str(error) and "channels cancel" not in str(error):
                raise
        return READS, None, len(load_audio(path)) / RATE

    def transcribe(self, path: Path) -> Answer:
        waveform = load_audio(path, Utterance(path.name, path, 0).channel)
        return READS, self.warned(), len(waveform) / RATE

    def pretrain_rae(self, path: Path) -> Answer:
        index = index_audio([path.parent], "folder", 400, 160, 60.0)
        numbers = [number for number in range(len(index)) if index.path(number) == path.resolve()]
        if path.name == "n0399.wav" and not numbers:
            return READS, None, None  # shorter than a window, which the index counts
        if not numbers:
            return REFUSES, None, None
        options = SpectrogramSection(num_mels=20, window_ms=25.0, hop_ms=10.0)
        found = Spectrograms(index, options)[numbers[0]]
        return (READS, found.faults, None) if isinstance(found, Segment) else (REFUSES, (), None)

    def host(self, path: Path) -> Answer:
        samples, rate = soundfile_load(path)
        assert soundfile_info(path).sample_rate == rate
        if not samples.numel():
            raise AudioError("no samples")
        return READS, None, samples.shape[1] / rate


COMMANDS = [name for name in vars(Commands) if not name.startswith("_") and name != "warned"]


def answered(command: Callable[[Path], Answer], path: Path) -> Answer:
    try:
        return command(path)
    except EmotionError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert message.count(str(path)) <= 1, message
        return REFUSES, None, None


def test_all_commands_answer_all_cases_alike(
    folder: Path, cases: dict[str, Case], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    table, wrong = [], []
    for name, case in cases.items():
        row = []
        for command in COMMANDS:
            with caplog.at_level(logging.WARNING):
                faults._warned.clear()
                caplog.clear()
                answer, found, seconds = answered(getattr(Commands(caplog), command), folder / name)
            row.append(" + ".join([answer, *(found or ())]))
            if answer != case.answer or (found is not None and answer == READS and found != case.faults):
                wrong.append(f"{command}, {name}: {answer} {found}, right: {case}")
            if seconds is not None and abs(seconds - expected_seconds(name, case, folder)) > NEAR:
                wrong.append(f"{command}, {name}: {seconds} s, right: {case.seconds} s")
        table.append((name, row))
    with capsys.disabled():
        lines = [f"{name:<22}" + " | ".join(row) for name, row in [("", COMMANDS), *table]]
        sys.stdout.write("\n".join(["", *lines, ""]))
    assert not wrong, "\n".join(wrong)


def expected_seconds(name: str, case: Case, folder: Path) -> float:
    return len(read_audio(folder / name).waveform) / RATE if name in FAR else case.seconds


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files that users sent")
@pytest.mark.parametrize("name", sorted(path.name for path in SHARED.glob("*.*")) if SHARED.is_dir() else [])
def test_files_that_users_sent(name: str):
    case = CASES[name]
    if name.endswith(".m4a") and not MEDIA:
        with pytest.raises(AudioError, match=r"ff_m4a\.m4a: soundfile cannot read this format; pip install .*media"):
            read_audio(SHARED / name)
        return
    found = read_audio(SHARED / name)
    assert kinds(found.faults) == case.faults
    if name not in FAR:
        assert len(found.waveform) / RATE == pytest.approx(case.seconds if "rate" not in name else 0.68, abs=NEAR)
    if case.faults != ("truncated",) and not name.endswith(".m4a"):
        assert header(SHARED / name).samples == len(found.waveform)


def test_nothing_else_decodes():
    """A second way to open audio would answer otherwise, sooner or later."""
    decoding = re.compile(r"soundfile\.(read|info|blocks|SoundFile\b)|torchaudio\.(load|info)\(|\bav\.open")
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "audio"
        for line in path.read_text(encoding="utf-8").splitlines()
        if decoding.search(line) and "read it first" not in line
    ]
    assert found == []


# --- formats -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not MEDIA, reason="needs PyAV")
def test_media_are_decoded_with_their_length_and_level(tmp_path: Path):
    wave = speech(rate=44_100)
    write_m4a(tmp_path / "a.m4a", wave, 44_100)
    found, known = read_audio(tmp_path / "a.m4a"), header(tmp_path / "a.m4a")
    assert found.faults == ()
    assert known.rate == 44_100
    assert known.seconds == pytest.approx(1.88, abs=0.05)
    assert np.abs(found.waveform).max() == pytest.approx(0.3, abs=0.1)
    with opened(tmp_path / "a.m4a") as sound:
        whole = sound.read()
        np.testing.assert_array_equal(sound.read(5000, 9000), whole[5000:9000])
    (tmp_path / "b.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:3000])
    with pytest.raises(AudioError, match=r"b\.m4a: unreadable audio"):
        load_audio(tmp_path / "b.m4a")


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("a.m4a", b"\0\0\0\x20ftypM4A "),
        ("a.webm", b"\x1a\x45\xdf\xa3"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        ("a.amr", b"#!AMR\n"),
    ],
)
def test_the_media_extra_is_named_where_it_is_missing(tmp_path: Path, without_media: None, name: str, beginning: bytes):
    (tmp_path / name).write_bytes(beginning + bytes(100))
    with pytest.raises(AudioError) as caught:
        load_audio(tmp_path / name)
    assert str(caught.value) == (
        f'{tmp_path / name}: soundfile cannot read this format; pip install "s3prl-emotion[media]" can, or convert it'
    )


def test_a_playlist_is_not_followed(tmp_path: Path):
    (tmp_path / "a.m4a").write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/secret\n")
    with pytest.raises(AudioError, match=r"a\.m4a: unreadable audio"):
        load_audio(tmp_path / "a.m4a")


@pytest.mark.parametrize("codec", ["GSM610", "PCM_16"])
def test_parts_are_those_of_the_whole(tmp_path: Path, codec: str):
    soundfile.write(tmp_path / "a.wav", speech(), RATE, subtype=codec)
    with opened(tmp_path / "a.wav") as sound:
        whole = sound.read()
        for start, stop in ((20_000, 25_000), (100, 200), (0, 10), (30_000, 99_999), (99_999, None)):
            np.testing.assert_array_equal(sound.read(start, stop), whole[start:stop])
        part = waveform_of(sound, start=100, stop=200)
    np.testing.assert_array_equal(part.waveform, whole[100:200, 0])


def test_a_header_of_unknown_size_is_no_fault(tmp_path: Path):
    """Programs that write into a pipe put the largest size into the header."""
    soundfile.write(tmp_path / "a.wav", speech(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        content[40:44] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(content)
        assert read_audio(tmp_path / "a.wav").faults == ()
    content[40:44] = (70_000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert promised_frames(tmp_path / "a.wav", 30_080) == 35_000
    assert kinds(read_audio(tmp_path / "a.wav").faults) == ("truncated",)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(), RATE)

    def read_while_it_grows() -> None:
        with opened(path) as sound:
            sound.read()
            soundfile.write(path, speech(3.0), RATE)

    with pytest.raises(AudioError, match=r"a\.wav: changed while it was read; run the command again"):
        read_while_it_grows()


# --- channels ----------------------------------------------------------------------------------------------------


def test_a_channel_is_chosen(tmp_path: Path):
    waves = np.stack([speech(), -speech(), 0.5 * speech()], axis=1)
    soundfile.write(tmp_path / "a.wav", waves, RATE, subtype="FLOAT")
    for channel, number in (("left", 0), ("right", 1), (1, 0), (3, 2)):
        np.testing.assert_array_equal(load_audio(tmp_path / "a.wav", channel), waves[:, number])
    soundfile.write(tmp_path / "mono.wav", waves[:, 0], RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(tmp_path / "mono.wav", "left"), waves[:, 0])
    for name, channel, match in (
        ("mono.wav", "right", r"mono\.wav: has 1 channel, so there is no channel right"),
        ("a.wav", 4, r"a\.wav: has 3 channels, so there is no channel 4"),
    ):
        with pytest.raises(AudioError, match=match):
            load_audio(tmp_path / name, channel)


def test_one_channel_of_two_that_cancel_is_heard(folder: Path, cases: dict[str, Case]):
    assert not np.any(np.abs(load_audio(folder / "antiphase.wav")) > 1e-4)
    found = read_audio(folder / "antiphase.wav", "left")
    assert found.faults == ()
    np.testing.assert_allclose(found.waveform, speech(), atol=1e-4)


# --- folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of classes with audio, media and other files."""
    for name in ("ang/a.wav", "ang/b.sph", "sad/c.m4a", "sad/d.webm", "notes.txt", "sad/e.csv", "sad/f.csv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    return tmp_path / "in"


MISSED = '2 audio or video files are passed over (sad/c.m4a, sad/d.webm): pip install "s3prl-emotion[media]" reads them'
OTHERS = "3 files are no audio and are passed over: 2 .csv, 1 .txt"


def test_predict_names_what_it_passes_over(mixed: Path, without_media: None, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert [file.relative for file in collect([str(mixed)], io.StringIO())] == ["ang/a.wav", "ang/b.sph"]
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("WARNING", f"{mixed}: {MISSED}"), ("INFO", f"{mixed}: {OTHERS}")]


def test_prepare_generic_names_what_it_passes_over(mixed: Path, without_media: None, caplog: pytest.LogCaptureFixture):
    from s3prl_emotion.corpora.preparers.generic import Options, read

    caplog.set_level(logging.INFO)
    clips = read(mixed, Options()).clips
    assert [clip.path.name for clip in clips] == ["a.wav", "b.sph"]
    assert {f"{mixed}: {MISSED}", f"{mixed}: {OTHERS}"} <= {record.getMessage() for record in caplog.records}


def test_media_are_found_where_the_extra_is_installed(mixed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "has_media", lambda: True)
    found = [file.relative for file in collect([str(mixed)], io.StringIO())]
    assert found == ["ang/a.wav", "ang/b.sph", "sad/c.m4a", "sad/d.webm"]


# --- what is said ------------------------------------------------------------------------------------------------


def test_training_counts_faulty_files_once(folder: Path, cases: dict[str, Case], caplog: pytest.LogCaptureFixture):
    names = ["truncated.wav", "trunc.mp3", "NIST.sph", "int16scale_float.wav", "antiphase.wav"]
    items = [Utterance(name, folder / name, 0) for name in names]
    truth = [
        "train: 2 of 5 audio files (trunc.mp3, truncated.wav) end before their header says",
        "train: 1 of 5 audio files (int16scale_float.wav) have samples far beyond full scale",
        "train: 1 of 5 audio files (antiphase.wav) have channels that cancel",
    ]
    for pre_load in (True, False):
        caplog.clear()
        dataset = UtteranceDataset(items, pre_load=pre_load, max_duration=None, where="train")
        for _ in range(2):
            for index in range(5):
                dataset[index]
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 3, lines
        assert all(line.startswith(start) for line, start in zip(sorted(lines, key=str), sorted(truth), strict=True))
    caplog.clear()
    part = UtteranceDataset(items, pre_load=False, max_duration=None, where="train")
    part.add_notes([(0, 7, ("truncated",))])  # from a loader process, in a training that ends early
    part.say_faults()
    part.say_faults()
    assert len(caplog.records) == 1


def test_a_channel_travels_with_the_utterance(folder: Path, cases: dict[str, Case]):
    item = Utterance("antiphase.wav", folder / "antiphase.wav", 0, channel="left")
    wave = UtteranceDataset([item], pre_load=False, max_duration=None)[0][0]
    np.testing.assert_allclose(wave, speech(), atol=1e-4)


@pytest.mark.parametrize("channel", [0, -1, True, "middle", 1.5, None, ["left"]])
def test_a_channel_that_cannot_be_is_refused_in_the_recipe(channel: object):
    with pytest.raises(ConfigError, match=r"datarc\.channel: .*must be mean, left, right, or the number of a channel"):
        DataSection.read(DATA | {"channel": channel}, "datarc")


def test_the_recipes_channel_is_that_of_every_utterance_but_copies(tiny_corpus: TinyCorpus):
    values = DATA | {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)}
    for channel in ("mean", "left", 2):
        data = DataSection.read(values | {"channel": channel}, "datarc")
        corpus = load_corpus(data)
        assert {item.channel for items in corpus.splits.values() for item in items} == {channel}
        assert {item.channel for item in list_utterances(data)} == {channel}


# --- memory ------------------------------------------------------------------------------------------------------


def test_an_hour_of_stereo_is_decoded_block_by_block():
    """The waveform is all that is kept: at no time more than it and a block."""
    import tracemalloc

    seconds, rate = 120, 48_000

    class Endless(Sound):
        name, rate, channels, frames = "a.wav", 48_000, 2, seconds * 48_000

        def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
            for _ in range(seconds):
                yield np.zeros((rate, 2), np.float32)

        def close(self) -> None:
            pass

        def faults(self) -> list[Any]:
            return []

    tracemalloc.start()
    try:
        found = waveform_of(Endless()).waveform
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == seconds * RATE == resampled_length(seconds * rate, rate)
    assert peak < 2.5 * found.nbytes  # its blocks, and what they are joined to; whole at 48 kHz it were 6 times that
