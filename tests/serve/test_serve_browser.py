"""``s3prl-emotion serve`` as people have it: the command, and its page in headless Chromium."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from chromium import chromium
from conftest import RATE, SOURCE, tone

pytestmark = pytest.mark.full
pytest.importorskip("starlette", reason="the extra serve is not installed")

MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
SCREENS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
HOSTILE = "<img src=x onerror=document.title='broken'>.wav"
LOST = (
    "Failed to load resource: the server responded with a status of 422"  # what the browser logs for a file that fails
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of two heads, trained for a few steps on the demo corpus, and audio."""
    folder = tmp_path_factory.mktemp("serve_browser")
    steps = {"total_steps": 4, "log_step": 2, "eval_step": 2, "save_step": 2}
    for head in ("emotion_corr_attn", "emotion_multitask"):
        recipe = Path(SOURCE) / "recipes/demo" / f"{head}.yaml"
        if not recipe.is_file():  # of an installed wheel
            recipe = Path(SOURCE) / "s3prl_emotion/recipes/demo" / f"{head}.yaml"
        values = {f"runner.{key}": value for key, value in steps.items()} | {"runner.eval_dataloaders": ["dev"]}
        words = ["-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-c", str(recipe), "-p", str(folder / head)]
        text = ",,".join(f"config.{key}={value!r}" for key, value in values.items())
        command = [sys.executable, "-m", "s3prl_emotion.run_downstream", *words, "--device", "cpu", "-o", text]
        subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, timeout=300)
    for number, seconds in enumerate([1.2, 2.5]):
        soundfile.write(folder / f"{number}.wav", tone(200.0 * (number + 1), seconds, number), RATE)
    shutil.copy(folder / "0.wav", folder / HOSTILE)
    (folder / "broken.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    return folder


SLOW = """
import os, sys, time
from pathlib import Path

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "s3prl_emotion.serve.application":
            from s3prl_emotion.serve import worker
            worker.read_audio = lambda *given: (Path(os.environ["SLOW"]).touch(), time.sleep(60))

sys.meta_path.insert(0, Finder())
"""


def connected(address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2])))


def upload(data: bytes, beyond: int = 0) -> bytes:
    """Return a request that uploads ``data`` and claims to be ``beyond`` bytes longer."""
    body = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="a.wav"\r\n\r\n' + data + b"\r\n--edge--\r\n"
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    return f"{head}Content-Length: {len(body) + beyond}\r\n\r\n".encode() + body


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", **more}


@contextmanager
def serving(ckpt: Path, *words: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command on a free port; yield its address and process."""
    command = [
        sys.executable,
        "-m",
        "s3prl_emotion",
        "serve",
        "--ckpt",
        str(ckpt),
        "--device",
        "cpu",
        "--port",
        "0",
        *words,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(**variables), text=True, **pipes) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def attending(shelf: Path) -> Iterator[str]:
    with serving(shelf / "emotion_corr_attn", "--max_seconds", "20", "--max_mb", "2", "--max_files", "4") as (
        address,
        _,
    ):
        yield address


@pytest.fixture(scope="module")
def dimensional(shelf: Path) -> Iterator[str]:
    with serving(shelf / "emotion_multitask", "--window", "1") as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser with a microphone that beeps."""
    with chromium(*MICROPHONE) as running:
        yield running


class Opened:
    """An open page, with its requests and its errors."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, permissions=["microphone"]
        )
        self.page = self.context.new_page()
        self.address = address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_load_state("networkidle")

    def upload(self, *files: Path) -> None:
        self.page.set_input_files("#files", [str(file) for file in files])
        self.cards.nth(len(files) - 1).wait_for()

    @property
    def cards(self) -> Any:
        """Cards that are done."""
        return self.page.locator(".card[data-state=done], .card[data-state=failed]")

    def card(self, name: str) -> Any:
        return self.cards.filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def overflows(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def close(self) -> None:
        """Close; nothing may have gone elsewhere and nothing been complained of."""
        self.context.close()
        assert all(url.startswith((self.address, f"blob:{self.address}", "data:,")) for url in self.requests), (
            self.requests
        )
        assert [text for text in self.complaints if LOST not in text] == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_uploads_become_cards(browser: Any, attending: str, shelf: Path, width: int, scheme: str):
    opened = Opened(browser, attending, width, scheme)
    assert not opened.overflows()
    opened.upload(shelf / "0.wav", shelf / HOSTILE, shelf / "broken.wav")
    assert opened.page.locator("#state").inner_text() == "2 done, 1 failed"
    names = opened.page.locator(".card h2").all_inner_texts()
    assert names == ["0.wav", HOSTILE, "broken.wav"]
    assert opened.page.locator(".card img").count() == 0
    assert opened.page.title() == "Speech emotion recognition: emotion_corr_attn"
    good, bad = opened.card("0.wav"), opened.card("broken.wav")
    assert bad.locator(".error").inner_text().startswith("unreadable audio (Format not recognised.)")
    shares = [float(text.rstrip(" %")) for text in good.locator(".bars dd:nth-child(3n)").all_inner_texts()]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares == sorted(shares, reverse=True)
    assert sorted(good.locator(".bars dt").all_inner_texts()) == ["angry", "happy", "neutral", "sad"]
    assert good.locator(".verdict").inner_text().startswith(good.locator(".bars dt").first.inner_text())
    assert good.get_by_role("img", name="Waveform with attention weights").count() == 1
    assert good.locator("polyline.weight").get_attribute("points").count(",") > 100
    assert good.locator("audio").count() == 1
    assert good.locator(".circle, .timeline").count() == 0  # no dimensions, no windows
    assert not opened.overflows()
    assert bool(opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")) == (scheme == "dark")
    colours = opened.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map("
        "colour => colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"
    )
    assert (colours[0] < colours[1]) == (scheme == "dark")
    opened.close()


def test_the_player_is_followed(browser: Any, attending: str, shelf: Path):
    opened = Opened(browser, attending)
    opened.upload(shelf / "1.wav")
    assert opened.page.locator(".now").get_attribute("visibility") == "hidden"
    opened.page.locator("audio").evaluate("audio => { audio.muted = true; audio.currentTime = 1.25; }")
    opened.page.locator(".now[visibility=visible]").wait_for(state="attached")
    width = float(opened.page.locator(".over-time").get_attribute("viewBox").split()[2])
    assert float(opened.page.locator(".now").get_attribute("x1")) == pytest.approx(width / 2, rel=0.02)
    opened.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_dimensions_and_the_time_line(browser: Any, dimensional: str, shelf: Path, width: int):
    opened = Opened(browser, dimensional, width)
    opened.upload(shelf / "1.wav")
    card = opened.card("1.wav")
    said = card.locator(".circle").get_attribute("aria-label")
    words, values = (card.locator(f".numbers {kind}").all_inner_texts() for kind in ("dt", "dd:not(.beside)"))
    numbers = dict(zip(words, values, strict=True))
    assert set(numbers) == {"activation", "valence", "dominance"}
    assert said == f"Circumplex: valence {numbers['valence']}, activation {numbers['activation']}"
    moments = json.loads(opened.page.request.get(f"{dimensional}about").text())["training_labels"]
    point = card.locator(".point")
    assert point.get_attribute("class") == "point"
    for axis, name, way, text in (("cx", "EmoVal", 1, "valence"), ("cy", "EmoAct", -1, "activation")):
        expected = 110 + way * 40 * (float(numbers[text]) - moments[name]["mean"]) / moments[name]["std"]
        assert float(point.get_attribute(axis)) == pytest.approx(expected, abs=1)
    line = card.get_by_role("img", name="Time line of 4 windows")
    assert line.locator(".cell").count() == 16
    cells = line.locator(".cell").evaluate_all("cells => cells.map(cell => Number(cell.getAttribute('fill-opacity')))")
    assert [sum(cells[window::4]) for window in range(4)] == pytest.approx([1] * 4, abs=0.01)
    assert not opened.overflows()
    opened.close()


def test_the_microphone(browser: Any, attending: str, tmp_path: Path):
    opened = Opened(browser, attending)
    record = opened.page.locator("#record")
    record.click()
    opened.page.locator("#recording").wait_for()
    assert record.get_attribute("aria-pressed") == "true"
    opened.page.wait_for_timeout(1500)
    record.click()
    opened.cards.first.wait_for()
    card = opened.card("recording 1.wav")
    assert card.get_attribute("data-state") == "done"
    assert 0.8 < float(card.locator(".top .facts").inner_text().rstrip(" s")) < 3
    card.locator("audio").evaluate("audio => audio.play()")  # the WAV is one that the browser plays too
    assert record.inner_text() == "Record"
    assert not opened.page.locator("#recording").is_visible()
    opened.close()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))",
            "Access to the microphone was denied; allow it for this page in the browser, or choose a file.",
        ),
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))",
            "No microphone was found; connect one, or choose a file.",
        ),
        ("delete Navigator.prototype.mediaDevices", "only on pages of this machine (localhost) or over https"),
    ],
)
def test_without_a_microphone(browser: Any, attending: str, change: str, line: str):
    opened = Opened(browser, attending)
    opened.page.evaluate(f"() => {{ {change} }}")
    opened.page.locator("#record").click()
    opened.page.locator("#complaint").wait_for()
    assert line in opened.page.locator("#complaint").inner_text()
    assert opened.page.locator("#record").is_enabled()
    opened.close()


def test_dropping_saving_and_clearing(browser: Any, attending: str, shelf: Path, tmp_path: Path):
    opened = Opened(browser, attending)
    data = list((shelf / "0.wav").read_bytes())
    transfer = opened.page.evaluate_handle(
        "bytes => { const files = new DataTransfer();"
        " for (const name of ['=1+1.wav', 'b.wav']) files.items.add(new File([new Uint8Array(bytes)], name));"
        " return files; }",
        data,
    )
    opened.page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    assert opened.page.locator("#drop.over").count() == 1
    opened.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    opened.cards.nth(1).wait_for()
    with opened.page.expect_download() as got:
        opened.page.get_by_role("button", name="Save as CSV").click()
    got.value.save_as(tmp_path / "emotions.csv")
    with (tmp_path / "emotions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["FileName"] for row in rows) == ["'=1+1.wav", "b.wav"]  # no spreadsheet computes it
    for row in rows:
        classes = {key[2:]: float(value) for key, value in row.items() if key.startswith("p_")}
        assert row["prediction"] == max(classes, key=lambda name: classes[name])
        assert sum(classes.values()) == pytest.approx(1, abs=1e-5)
    with opened.page.expect_download() as got:
        opened.page.get_by_role("button", name="Save as JSON").click()
    got.value.save_as(tmp_path / "emotions.json")
    kept = json.loads((tmp_path / "emotions.json").read_text())
    assert kept["model"]["head"] == "emotion_corr_attn"
    assert {item["file"] for item in kept["predictions"]} == {"=1+1.wav", "b.wav"}
    opened.page.get_by_role("button", name="Clear").click()
    assert opened.page.locator(".card").count() == 0
    assert opened.page.locator("#state").inner_text() == ""
    opened.close()


def test_too_much_is_told_before_it_is_sent(browser: Any, attending: str, tmp_path: Path):
    (tmp_path / "large.wav").write_bytes(bytes(2_100_000))
    soundfile.write(tmp_path / "long.flac", np.zeros(7200 * 8000, np.float32), 8000)
    opened = Opened(browser, attending)
    opened.upload(tmp_path / "large.wav", tmp_path / "long.flac")
    assert opened.card("large.wav").locator(".error").inner_text() == "the file has 2.1 MB; at most 2 MB are allowed"
    assert opened.card("long.flac").locator(".error").inner_text() == "audio is longer than 20 s (7200 s); cut it"
    assert opened.requests.count(f"{attending}predict") == 1
    opened.page.get_by_role("button", name="Clear").click()
    many = [tmp_path / f"{number}.wav" for number in range(6)]
    for path in many:
        path.write_bytes(b"no")
    opened.page.set_input_files("#files", [str(path) for path in many])
    opened.cards.nth(3).wait_for()
    assert (
        "6 files at a time are too many; only the first 4 were added." in opened.page.locator("#complaint").inner_text()
    )
    assert opened.page.locator(".card").count() == 4
    opened.close()


def test_the_keyboard_reaches_everything(browser: Any, attending: str):
    opened = Opened(browser, attending)
    reached = []
    for _ in range(2):
        opened.page.keyboard.press("Tab")
        reached.append(opened.page.evaluate("() => document.activeElement.id"))
    assert reached == ["files", "record"]
    assert opened.page.get_by_label("Choose audio files").count() == 1
    assert opened.page.locator("#state").get_attribute("aria-live") == "polite"
    opened.close()


def test_a_server_that_is_gone_is_told(browser: Any, shelf: Path):
    with serving(shelf / "emotion_corr_attn") as (address, process):
        opened = Opened(browser, address)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        opened.upload(shelf / "0.wav")
        assert "the server cannot be reached" in opened.card("0.wav").locator(".error").inner_text()
        opened.context.close()


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_ended_while_it_receives(shelf: Path, tmp_path: Path, ended: signal.Signals, code: int):
    with serving(shelf / "emotion_corr_attn", TMPDIR=str(tmp_path)) as (address, process):
        before = list(tmp_path.iterdir())  # torch keeps something there
        with connected(address) as client:
            client.sendall(upload(bytes(4_000_000), beyond=1_000_000))
            time.sleep(1)
            assert list(tmp_path.iterdir()) == before  # what is large is in a file without a name
            process.send_signal(ended)
            assert process.wait(60) == code
        assert process.stderr is not None
        told = process.stderr.read()
        assert "Traceback" not in told
        assert told.endswith("stopped\n") == (ended != signal.SIGKILL)
        assert (f"ended by {ended.name}: stopped\n" in told) == (ended in (signal.SIGTERM, signal.SIGHUP))
    assert list(tmp_path.iterdir()) == before


def test_interrupted_while_a_file_is_processed(shelf: Path, tmp_path: Path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join([str(slow), SOURCE])
    with serving(shelf / "emotion_corr_attn", PYTHONPATH=path, SLOW=str(slow / "begun")) as (address, process):
        with connected(address) as client:
            client.sendall(upload((shelf / "0.wav").read_bytes()))
            while not (slow / "begun").exists():
                time.sleep(0.05)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert time.monotonic() - begun < 10  # decoding takes 60 s
        assert process.stderr is not None
        told = process.stderr.read()
        assert told.endswith("stopped\n")
        assert "Traceback" not in told


def test_a_warning_where_others_may_reach_it(shelf: Path):
    with serving(shelf / "emotion_corr_attn", "--host", "0.0.0.0") as (address, process):
        assert address.startswith("http://0.0.0.0:")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "--host 0.0.0.0: everyone who can reach this machine can use the page" in process.stderr.read()
