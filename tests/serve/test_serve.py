"""``s3prl-emotion serve`` over HTTP: answers are ``predict``'s, and what is hostile, broken or too much is refused."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, TinyCorpus, tone, write_graded_corpus

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.audio import sound as audio_files
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.predict import Prediction, Predictor, SpanPrediction, Window
from s3prl_emotion.predict.windows import Windows

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn")

from s3prl_emotion.serve import decoding, responses, uploads
from s3prl_emotion.serve.access import is_local
from s3prl_emotion.serve.application import application
from s3prl_emotion.serve.decoding import read_audio
from s3prl_emotion.serve.limits import Limits
from s3prl_emotion.serve.listening import Server, address_of, bound, listen
from s3prl_emotion.serve.uploads import shown
from s3prl_emotion.serve.worker import Worker

LIMITS = Limits(megabytes=1, seconds=30, files=3, waiting=4)
EDGE = b"----edge"
DATA = "downstream_expert.datarc"


@dataclass
class Shelf:
    """Checkpoints by kind, a predictor and a server that runs until all tests are done."""

    folder: Path
    stack: ExitStack
    checkpoints: dict[str, Path] = field(default_factory=dict)
    predictor: Predictor | None = None
    site: Site | None = None


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """What is kept from one test to the next."""
    with ExitStack() as stack:
        yield Shelf(tmp_path_factory.mktemp("serve"), stack)


Trained = Callable[[str], Path]


@pytest.fixture
def trained(cli: Any, tiny_corpus: TinyCorpus, shelf: Shelf) -> Trained:
    """A checkpoint that attends, or one with classes and dimensions."""

    def train(kind: str) -> Path:
        if kind not in shelf.checkpoints:
            folder = shelf.folder / kind
            if kind == "attends":
                head, corpus, more = "emotion_corr_attn", tiny_corpus, {}
            else:
                head, corpus = "emotion_multitask", write_graded_corpus(shelf.folder / "graded")
                more = {f"{DATA}.classes": ["ang", "sad"], f"{DATA}.distribution": {"source": "consensus"}}
            cli("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", folder, "-o", corpus.overrides(**more))
            shelf.checkpoints[kind] = folder / "dev-best.ckpt"
        return shelf.checkpoints[kind]

    return train


@pytest.fixture
def predictor(trained: Trained, shelf: Shelf) -> Predictor:
    shelf.predictor = shelf.predictor or s3prl_emotion.load(trained("attends"), device="cpu")
    return shelf.predictor


class Site:
    """A server in a thread."""

    def __init__(self, worker: Worker, port: int) -> None:
        self.worker, self.port = worker, port

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {}, **more)
            response = connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, *files: tuple[str, bytes], headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        kind = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
        status, _, text = self.ask("POST", "/predict", form(*files), kind | (headers or {}))
        return status, json.loads(text)

    def one(self, name: str, data: bytes) -> dict[str, Any]:
        """What is said of one file; the status fits it."""
        status, answer = self.post((name, data))
        (result,) = answer["results"]
        assert status == (422 if result["error"] else 200)
        return result


@contextmanager
def running(
    predictor: Any, limits: Limits = LIMITS, windows: Windows | None = None, local: bool = True
) -> Iterator[Site]:
    listener = bound("127.0.0.1", 0)
    listen(listener)
    worker = Worker(predictor, limits, windows)
    ready = threading.Event()
    server = Server(application(worker, local), ready.set)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    assert ready.wait(30)
    try:
        yield Site(worker, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        worker.close()
        listener.close()


@pytest.fixture
def site(predictor: Predictor, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server whose temporary folder must be empty in the end, and all whose places free."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    shelf.site = shelf.site or shelf.stack.enter_context(running(predictor))
    yield shelf.site
    until(lambda: shelf.site is not None and shelf.site.worker._uploads == 0)
    assert os.listdir(tmp_path / "temporary") == []


def form(*files: tuple[str, bytes]) -> bytes:
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name=file; filename="%s"\r\n\r\n%s\r\n' % (EDGE, name.encode(), data)
        for name, data in files
    ]
    return b"".join(parts) + b"--%s--\r\n" % EDGE


def audio(samples: Any, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


SPEECH = tone(220, 0.8, 1)

# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "window"), [("attends", None), ("attends", 0.5), ("multitask", None), ("multitask", 0.5)]
)
def test_answers_are_those_of_predict(
    kind: str, window: float | None, trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    stereo = np.stack([tone(150, 1.3, 5, 44_100), tone(300, 1.3, 6, 44_100)], 1)
    soundfile.write(tmp_path / "a.wav", SPEECH, RATE)
    soundfile.write(tmp_path / "b.flac", stereo, 44_100)
    soundfile.write(tmp_path / "c.ogg", SPEECH, RATE)
    names, ckpt = ["a.wav", "b.flac", "c.ogg"], trained(kind)
    words = ["--window", str(window)] if window else []
    keep = ["--attention", str(tmp_path / "weights")] if kind == "attends" else []
    command = ["predict", "--ckpt", str(ckpt), "--device", "cpu", "--format", "jsonl", *words, *keep]
    expected = []
    for name in names:  # one by one, as the server does: another batch may change the last digit
        capfd.readouterr()
        assert suite.main([*command, str(tmp_path / name)]) == 0
        expected.append(json.loads(capfd.readouterr().out))
    with running(s3prl_emotion.load(ckpt, device="cpu"), windows=Windows.read(window, None)) as site:
        status, answer = site.post(*((name, (tmp_path / name).read_bytes()) for name in names))
    assert status == 200
    for name, found, truth in zip(names, answer["results"], expected, strict=True):
        truth.pop("attention", None)
        drawn, weights = found.pop("waveform"), found.pop("attention", None)
        assert found == {**truth, "file": name}
        wave = decoding.read_audio(io.BytesIO((tmp_path / name).read_bytes()), LIMITS).waveform
        assert (min(drawn["low"]), max(drawn["high"])) == pytest.approx((wave.min(), wave.max()), abs=1e-4)
        if kind == "attends" and window is None:
            kept = np.load(tmp_path / f"weights/{name}.npz")["weights"]
            assert weights == pytest.approx(kept * len(kept), rel=1e-5)
        assert (weights is not None) == (kind == "attends")


def test_several_at_once_get_their_own(predictor: Predictor, monkeypatch: pytest.MonkeyPatch):
    waves = [tone(100 + 40 * n, 0.4 + 0.05 * n, n) for n in range(12)]
    truth = [predictor.predict(wave) for wave in waves]
    with running(predictor, Limits(1, 30, 3, 12)) as site, ThreadPoolExecutor(12) as pool:
        data = [audio(wave, subtype="FLOAT") for wave in waves]
        found = list(pool.map(lambda n: site.post((f"{n}.wav", data[n]), (f"{n}again.wav", data[n])), range(12)))
    for n, (status, answer) in enumerate(found):
        assert status == 200
        assert [item["file"] for item in answer["results"]] == [f"{n}.wav", f"{n}again.wav"]
        for item in answer["results"]:
            assert item["probabilities"] == pytest.approx(truth[n].probabilities, abs=1e-6)
            assert item["duration"] == pytest.approx(truth[n].duration)


def test_page_and_about(site: Site, trained: Trained):
    status, headers, page = site.ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert b"emotion_corr_attn" in page
    assert b"attends/dev-best.ckpt" in page
    assert str(trained("attends").parent.parent).encode() not in page
    about = json.loads(site.ask("GET", "/about")[2])
    assert about["classes"] == ["ang", "hap", "neu", "sad"]
    assert about["limits"] == {"megabytes": 1, "seconds": 30, "files": 3, "waiting": 4}
    for name in ("page.css", "page.js", "cards.js", "drawing.js", "microphone.js", "recorder.js"):
        status, headers, text = site.ask("GET", f"/{name}")
        assert (status, headers["x-content-type-options"]) == (200, "nosniff")
        assert headers["content-type"].startswith("text/css" if name.endswith("css") else "text/javascript")
        assert b"{%" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/../setup.cfg",
        "/templates/page.js",
        "/..%2f..%2fsetup.cfg",
        "/page.html.jinja",
        "//etc/passwd",
        "/page.js/..",
        "/%00",
    ],
)
def test_no_other_file_is_served(site: Site, path: str):
    status, _, text = site.ask("GET", path)
    assert (status, json.loads(text)) == (404, {"error": "there are GET /, GET /about and POST /predict"})


# --- broken and strange audio ----------------------------------------------------------------------------------------


def flac_of(frames: int, said: int) -> bytes:
    """FLAC whose header says ``said`` frames (36 bits from bit 108 of STREAMINFO)."""
    data = bytearray(audio(np.zeros(frames), kind="FLAC"))
    data[21] = (data[21] & 0xF0) | said >> 32
    data[22:26] = struct.pack(">I", said & 0xFFFFFFFF)
    return bytes(data)


BROKEN = {
    "noise": (np.random.default_rng(0).bytes(5000), "unreadable audio (Format not recognised.); send WAV"),
    "text": (b"<script>alert(1)</script>", "unreadable audio"),
    "nothing": (b"", "the file is empty (0 bytes)"),
    "header": (audio(SPEECH)[:40], "unreadable audio"),
    "flac": (audio(SPEECH, kind="FLAC")[:120], "flac decoder lost sync"),
    "zero": (audio(np.zeros(0)), "audio has 0 samples"),
    "sample": (audio(np.zeros(1)), "the audio (0.000 s): upstream fbank_no_cmvn failed on it"),
    "nan": (audio(np.array([0.1, np.nan] * 4000), subtype="FLOAT"), "audio holds NaN or infinite samples"),
    "two hours": (audio(np.zeros(7200 * 8000, np.float32), 8000, "FLAC"), "audio is longer than 30 s (7200 s); cut it"),
    "says two hours": (flac_of(RATE, 7200 * RATE), "audio is longer than 30 s (7200 s); cut it"),
    "says nothing": (flac_of(60 * RATE, 0), "audio is longer than 30 s"),
    "low rate": (audio(SPEECH[:500], 999), "a sampling rate of 999 Hz is not supported (1000 to 768000 Hz are)"),
    "high rate": (audio(SPEECH, 768_001), "a sampling rate of 768001 Hz is not supported"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_fails_gets_a_one_line_error(site: Site, name: str):
    data, line = BROKEN[name]
    result = site.one("x.wav", data)
    assert set(result) == {"file", "error"}
    assert line in result["error"]
    assert "\n" not in result["error"]
    assert "labels" not in result["error"]
    assert site.one("good.wav", audio(SPEECH))["error"] is None


def test_flac_that_does_not_know_its_length_is_read(site: Site):
    assert site.one("x.flac", flac_of(2 * RATE, 0))["duration"] == 2


def test_other_files_of_an_upload_go_on(site: Site):
    status, answer = site.post(("a.wav", b"no"), ("b.wav", audio(SPEECH)), ("c.wav", b""))
    assert status == 200
    assert [item["error"] is None for item in answer["results"]] == [False, True, False]


@pytest.mark.parametrize(
    "data",
    [
        audio(np.zeros(RATE)),
        audio(np.stack([tone(200, 1, 1, 44_100)] * 2, 1), 44_100),
        audio(tone(90, 2, 2, 8000), 8000),
    ],
    ids=["silence", "stereo", "8 kHz"],
)
def test_strange_but_sound_audio(site: Site, data: bytes):
    result = site.one("x.wav", data)
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_reading_stops_at_the_limit_whatever_the_header_says(monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    original = soundfile.SoundFile.read

    def counted(self: Any, frames: int = -1, **more: Any) -> Any:
        block = original(self, frames, **more)
        read.append(block.size)
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    monkeypatch.setattr(audio_files, "BLOCK", 8000)
    with pytest.raises(AudioError, match="longer than 2 s"):
        read_audio(io.BytesIO(flac_of(60 * RATE, 0)), Limits(seconds=2))
    assert sum(read) <= 2 * RATE + 8000
    stereo = np.random.default_rng(1).uniform(-0.5, 0.5, (30_000, 3)).astype(np.float32)
    whole = read_audio(io.BytesIO(audio(stereo, subtype="FLOAT")), Limits()).waveform
    assert whole == pytest.approx(stereo.mean(axis=1), abs=1e-7)


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = {
    "../../etc/passwd": "passwd",
    "..\\..\\x.wav": "x.wav",
    "/etc/cron.d/x.wav": "x.wav",
    "a\0b.wav": "a\N{REPLACEMENT CHARACTER}b.wav",
    "<img src=x onerror=alert(1)>.wav": "<img src=x onerror=alert(1)>.wav",
    "\u202egpj.wav": "\N{REPLACEMENT CHARACTER}gpj.wav",
    "x" * 3000 + ".wav": "x" * 119 + "…",
    "..": "..",
    "größe 怒.wav": "größe 怒.wav",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_only_shown(site: Site, name: str, tmp_path: Path):
    before = {path for path in tmp_path.parent.rglob("*") if "temporary" not in path.parts}
    large = audio(np.zeros((RATE * 29, 1)), subtype="PCM_16")[: 2 << 18]  # a temporary file is needed beyond 1 MB
    assert site.one(name, audio(SPEECH))["file"] == NAMES[name]
    assert site.one(name, large)["file"] == NAMES[name]
    assert {path for path in tmp_path.parent.rglob("*") if "temporary" not in path.parts} == before


def test_a_name_of_10_kb(site: Site):
    status, answer = site.post(("x" * 10_000 + ".wav", audio(SPEECH)))
    if status == 200:
        assert len(answer["results"][0]["file"]) == 120
    else:  # the multipart reader has a limit of its own for header lines
        assert (status, list(answer)) == (400, ["error"])
    assert shown("x" * 10_000) == "x" * 119 + "…"


# --- limits ----------------------------------------------------------------------------------------------------------


def test_too_large(site: Site, monkeypatch: pytest.MonkeyPatch):
    status, answer = site.post(("x.wav", bytes(1_200_000)))
    assert (status, answer) == (413, {"error": "the upload is larger than 1 MB; send fewer or shorter files"})
    status, answer = site.post(*[("x.wav", bytes(400_000))] * 3)
    assert status == 413


def test_too_large_in_chunks_without_a_length(site: Site, monkeypatch: pytest.MonkeyPatch):
    kept: list[int] = []
    original = tempfile.SpooledTemporaryFile.write
    monkeypatch.setattr(
        tempfile.SpooledTemporaryFile, "write", lambda self, data: (kept.append(len(data)), original(self, data))[1]
    )
    head, body = form(("x.wav", b"BODY")).split(b"BODY")
    chunks = [head, *[bytes(100_000)] * 40, body]
    kind = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}", "Transfer-Encoding": "chunked"}
    status, _, text = site.ask("POST", "/predict", iter(chunks), kind, encode_chunked=True)
    assert (status, "larger than 1 MB" in json.loads(text)["error"]) == (413, True)
    assert sum(kept) <= 1_100_000
    assert site.one("x.wav", audio(SPEECH))["error"] is None


def test_a_length_that_lies(site: Site):
    with socket.create_connection(("127.0.0.1", site.port)) as client:
        body = form(("x.wav", audio(SPEECH)))
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
            b"Content-Length: %d\r\n\r\n" % (EDGE, len(body) + 1000) + body
        )  # and goes away
    assert site.one("x.wav", audio(SPEECH))["error"] is None


def test_a_client_that_stops_sending(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads, "SILENCE", 0.2)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
            b"Content-Length: 5000\r\n\r\n--%s" % (EDGE, EDGE)
        )
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, list(json.loads(answer.read()))) == (408, ["error"])


def test_more_files_than_the_limit(site: Site):
    status, answer = site.post(*[("x.wav", audio(SPEECH))] * 4)
    assert (status, answer) == (
        400,
        {"error": "the upload cannot be read: Too many files. Maximum number of files is 3."},
    )


@pytest.mark.parametrize(
    ("kind", "body", "status", "line"),
    [
        ("application/json", b"{}", 415, "takes multipart/form-data with audio files, not application/json"),
        ("", b"", 415, "not a body of no type"),
        ("audio/wav", audio(SPEECH), 415, "not audio/wav"),
        ("multipart/form-data", b"", 400, "the upload cannot be read"),
        ("multipart/form-data; boundary=----edge", b"", 400, "no file in the upload; send at least one"),
        ("multipart/form-data; boundary=----edge", form(), 400, "no file in the upload"),
        ("multipart/form-data; boundary=----edge", form(("", b"")), 400, "no file in the upload"),
        ("multipart/form-data; boundary=----edge", b"garbage" * 100, 400, "the upload cannot be read"),
        ("multipart/form-data; boundary=----edge; charset=undefined", form(("x.wav", b"x")), 400, "UTF-8"),
        (
            "multipart/form-data; boundary=----edge",
            b"".join(b"--%s\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" % EDGE for _ in range(50)),
            400,
            "Too many fields",
        ),
    ],
)
def test_what_is_no_upload(site: Site, kind: str, body: bytes, status: int, line: str):
    found, _, text = site.ask("POST", "/predict", body, {"Content-Type": kind} if kind else {})
    answer = json.loads(text)
    assert (found, list(answer)) == (status, ["error"])
    assert line in answer["error"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/predict"), ("PUT", "/predict"), ("POST", "/"), ("DELETE", "/about")]
)
def test_other_methods(site: Site, method: str, path: str):
    assert site.ask(method, path)[0] == 405


# --- several, waiting and gone ---------------------------------------------------------------------------------------


class Slow:
    """A predictor that waits for permission."""

    label_moments: dict[str, tuple[float, float]] = {}  # noqa: RUF012
    channel = "mean"

    def __init__(self, predictor: Predictor) -> None:
        self.about, self.predictor = predictor.about, predictor
        self.begun, self.may, self.predicted = threading.Event(), threading.Event(), 0

    def stream(self, *given: Any) -> Iterator[Any]:
        self.begun.set()
        assert self.may.wait(30)
        self.predicted += 1
        return self.predictor.stream(*given)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_bounded_number_waits_and_the_page_answers_meanwhile(predictor: Predictor):
    slow = Slow(predictor)
    with running(slow, Limits(1, 30, 3, 2)) as site, ThreadPoolExecutor(2) as pool:
        two = [pool.submit(site.one, f"{n}.wav", audio(SPEECH)) for n in range(2)]
        until(lambda: site.worker._uploads == 2)
        assert slow.begun.wait(20)
        assert site.ask("GET", "/")[0] == 200  # while the model is at work
        kind = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
        status, headers, text = site.ask("POST", "/predict", form(("c.wav", audio(SPEECH))), kind)
        assert (status, headers["retry-after"]) == (503, "2")
        assert json.loads(text) == {"error": "2 uploads are waiting already; try again in a few seconds"}
        slow.may.set()
        assert [future.result()["file"] for future in two] == ["0.wav", "1.wav"]
        assert site.one("d.wav", audio(SPEECH))["error"] is None


def test_a_client_that_goes_away_is_not_waited_for(predictor: Predictor):
    slow = Slow(predictor)
    with running(slow) as site, ThreadPoolExecutor(1) as pool:
        first = pool.submit(site.one, "a.wav", audio(SPEECH))
        assert slow.begun.wait(20)
        body = form(("gone.wav", audio(SPEECH)))
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            client.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
                b"Content-Length: %d\r\n\r\n" % (EDGE, len(body)) + body
            )
            until(lambda: site.worker._uploads == 2)
            time.sleep(0.1)  # the whole body has come
        slow.may.set()
        assert first.result()["error"] is None
        until(lambda: site.worker._uploads == 0)
        assert slow.predicted == 1
        assert site.one("b.wav", audio(SPEECH))["error"] is None


def test_a_model_that_fails_goes_on(predictor: Predictor, caplog: pytest.LogCaptureFixture):
    class Failing(Slow):
        def stream(self, *given: Any) -> Iterator[Any]:
            self.predicted += 1
            if self.predicted == 1:
                raise RuntimeError("secret /path")
            return self.predictor.stream(*given)

    with running(Failing(predictor)) as site:
        assert site.one("a.wav", audio(SPEECH))["error"] == "the model failed on this audio; the server's log says why"
        assert "secret /path" in caplog.text
        assert site.one("b.wav", audio(SPEECH))["error"] is None


# --- other sites -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({}, True),
        ({"Host": "localhost:1"}, True),
        ({"Host": "[::1]:80"}, True),
        ({"Host": "127.0.0.1:PORT", "Origin": "http://127.0.0.1:PORT"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "localhost@evil.example"}, False),
        ({"Host": "[bad"}, False),
        ({"Host": ""}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[bad"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
    ids=str,
)
def test_other_sites_are_refused(site: Site, headers: dict[str, str], fits: bool):
    given = {key: value.replace("PORT", str(site.port)) for key, value in headers.items()}
    status, answer = site.post(("x.wav", audio(SPEECH)), headers=given)
    assert status == (200 if fits else 403)
    assert fits or list(answer) == ["error"]
    if "Host" in given:
        assert site.ask("GET", "/about", headers=given)[0] == (200 if fits else 403)


def test_host_names_are_free_where_others_may_reach_it(predictor: Predictor):
    with running(predictor, local=False) as site:
        assert site.ask("GET", "/about", headers={"Host": "lab.example"})[0] == 200
        own = {"Host": "lab.example", "Origin": "http://lab.example"}
        assert site.post(("x.wav", audio(SPEECH)), headers=own)[0] == 200
        assert site.post(("x.wav", audio(SPEECH)), headers=own | {"Origin": "http://evil.example"})[0] == 403


def test_local_names():
    assert all(map(is_local, ["localhost", "127.0.0.1", "127.8.9.1", "::1", "LOCALHOST."]))
    assert not any(map(is_local, ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "2130706433"]))


# --- drawings --------------------------------------------------------------------------------------------------------


def test_attention_over_windows_is_the_mean_of_those_that_overlap():
    def window(start: float, end: float, weights: list[float]) -> Window:
        return Window(start, end, SpanPrediction({"a": 1.0}, {}, np.array(weights, np.float32)))

    found = Prediction({"a": 1.0}, {}, None, 3.0, (window(0, 2, [0.5, 0.5]), window(1, 3, [0.25, 0.75])))
    assert responses._relative_weights(found) == pytest.approx([1.0, (1.0 + 0.5) / 2, 1.5])
    uneven = Prediction({"a": 1.0}, {}, np.full(1000, 1e-3, np.float32), 10.0)
    relative = responses._relative_weights(uneven)
    assert relative is not None
    assert (len(relative), relative) == (600, pytest.approx([1.0] * 600, rel=1e-4))
    assert responses._resized(np.array([3.0, 0.0, 0.0]), 2) == pytest.approx([2.0, 0.0])
    assert responses._resized(np.array([1.0, 2.0]), 4) == pytest.approx([1, 1, 2, 2])


# --- the command -----------------------------------------------------------------------------------------------------


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert suite.main(["serve", *map(str, words)]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("s3prl-emotion: error: ")]
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port", "70000"], "--port 70000: must be from 0"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: no such host"),
        (["--host", "203.0.113.7"], "--host 203.0.113.7 --port 7860: cannot listen there"),
        (["--max_mb", "0"], "--max_mb 0: must be above 0"),
        (["--max_seconds", "nan"], "--max_seconds nan: must be above 0"),
        (["--max_files", "0"], "--max_files 0: must be 1 or more"),
        (["--max_waiting", "-1"], "--max_waiting -1: must be 1 or more"),
        (["--hop", "1"], "--hop 1: needs --window"),
        (["--port", "0"], "no such checkpoint"),
    ],
)
def test_wrong_options(words: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert line in error_of(capsys, "--ckpt", tmp_path / "none.ckpt", *words)


def test_a_port_in_use(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with bound("127.0.0.1", 0) as other:
        listen(other)
        port = other.getsockname()[1]
        line = error_of(capsys, "--ckpt", tmp_path / "none.ckpt", "--port", port)
        assert f"--port {port}: cannot listen there (Address already in use); use another --port" in line
        assert address_of(other) == f"http://127.0.0.1:{port}/"
        with pytest.raises(UsageError, match="cannot listen"):
            bound("127.0.0.1", port)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, missing, None)
    line = error_of(capsys, "--ckpt", "any.ckpt")
    assert f"serve: {missing} is not installed; pip install 's3prl-emotion[serve]'" in line


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from s3prl_emotion.cli import main
sys.exit(main())
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on open files")
def test_more_half_open_connections_than_files(trained: Trained, tmp_path: Path):
    """The command, allowed 100 files, answers a good request among 300 half-sent ones, and its log stays small."""
    words = ["serve", "--ckpt", str(trained("attends")), "--port", "0", "--device", "cpu"]
    log = tmp_path / "log.txt"
    with ExitStack() as stack:
        server = subprocess.Popen(
            [sys.executable, "-c", LIMITED, *words], stdout=subprocess.PIPE, stderr=log.open("wb"), text=True
        )
        stack.callback(server.wait, 60)
        stack.callback(server.terminate)
        assert server.stdout is not None
        address = server.stdout.readline()
        port = int(address.partition("127.0.0.1:")[2].partition("/")[0])
        half = []
        for number in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            half.append(client)
            if number % 100 == 99:
                assert Site(None, port).ask("GET", "/about")[0] == 200  # type: ignore[arg-type]
        for client in half:  # each is closed, the last ones after the time for headers
            while True:
                try:
                    if not client.recv(1000):
                        break
                except ConnectionResetError:
                    break
        (result,) = Site(None, port).post(("a.wav", audio(SPEECH)))[1]["results"]  # type: ignore[arg-type]
        assert result["error"] is None
    assert log.stat().st_size < 10_000, log.read_text()[:2000]
