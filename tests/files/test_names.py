"""Names from elsewhere that hold control characters: escaped on the terminal and in tables for people."""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from s3prl_emotion import cli, run_downstream
from s3prl_emotion.audit import audit, read_listing
from s3prl_emotion.audit.report import print_report
from s3prl_emotion.benchmark.live import Board
from s3prl_emotion.errors import AudioError, LabelError, one_line, visible
from s3prl_emotion.files.terminal import VisibleFormatter, make_log_visible, say
from s3prl_emotion.predict.files import FileResult
from s3prl_emotion.predict.output import CsvWriter, Layout
from s3prl_emotion.report.environment import environment
from s3prl_emotion.report.reading.searches import Search
from s3prl_emotion.report.sections.learning_rates import search_csv
from s3prl_emotion.training import summary

HOSTILE = "a\x1b[2J\x07\r\u202egpj\x9b31m\u2066\u2028b\n/x [/red]\udc80.wav"
ESCAPED = r"a\x1b[2J\x07\r\u202egpj\x9b31m\u2066\u2028b\n/x [/red]\udc80.wav"


def is_plain(text: str) -> bool:
    """Whether a text holds nothing that a terminal runs, but for line breaks and tabs."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return not any(
        (unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") and letter not in "\n\t")
        or unicodedata.bidirectional(letter) in bidi
        for letter in text
    )


def test_text_is_escaped_once_and_names_of_people_stay():
    assert visible(HOSTILE) == ESCAPED == visible(ESCAPED)
    for text in ("Jürgen_\u200dä.wav", "\u0623\u062d\u0645\u062f", "ابجد 😀", r"C:\x1b"):
        assert visible(text) == text


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]):
    assert one_line(LabelError(f"{HOSTILE}: no such file")) == f"{ESCAPED}: no such file".replace(r"\n", " ")
    wrapped = AudioError(f"Caught AudioError\nTraceback (most recent call last):\n  x\nAudioError: {HOSTILE[:6]}: bad")
    assert one_line(wrapped) == r"a\x1b[2J\x07: bad"
    for main, words in (
        (cli.main, ["report", HOSTILE]),
        (cli.main, [HOSTILE]),
        (run_downstream.main, ["-m", "evaluate", "-e", HOSTILE]),
    ):
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert is_plain(line), line


def test_log_lines():
    text = io.StringIO()
    handler, log = logging.StreamHandler(text), logging.Logger("hostile")
    handler.setFormatter(VisibleFormatter())
    log.addHandler(handler)
    log.warning("%s: skipped\nfor a reason (%s), %d of %r", Path("x\n\x1b[1m"), LabelError("y\x1b"), 1, "z\x1b")
    assert text.getvalue() == "x\\n\\x1b[1m: skipped\nfor a reason (y\\x1b), 1 of 'z\\\\x1b'\n"
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed:")
    assert is_plain(text.getvalue())
    assert "Traceback" in text.getvalue()


def test_the_log_of_commands_is_escaped(monkeypatch: pytest.MonkeyPatch):
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    make_log_visible(), make_log_visible()
    logging.getLogger("any").warning("%s", HOSTILE)
    assert handler.stream.getvalue() == f"{ESCAPED}\n"


def test_lines_of_commands(capsys: pytest.CaptureFixture[str]):
    say(HOSTILE, "second")
    assert capsys.readouterr().out == f"{ESCAPED}\nsecond\n"


def test_audit_of_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        [f"{fold}\x1b[2J{number}.wav", f"s\u202e{fold if number else 1}", f"ang\x07{number % 2}", f"fold{fold}"]
        for fold in (1, 2, 3)
        for number in range(4)
    ]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["FileName", "SpkrID", "EmoClass", "Fold"], *rows])
    print_report(audit(read_listing(tmp_path / "labels.csv")), strict=False)
    out = capsys.readouterr().out
    assert r"ang\x071" in out
    assert is_plain(out), out


def test_summary_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    metrics: dict[str, Any] = {"classes": [HOSTILE, "[/b]"], "confusion": [[1, 0], [0, 1]], "utterances": 2}
    metrics |= {"checkpoint": "c", "step": 1}
    monkeypatch.setattr(summary, "of_kind", lambda kind: ())
    monkeypatch.setattr(summary, "plot_confusion", lambda path, *others: path)
    (tmp_path / "test\x1b_f_metrics.json").write_text(json.dumps(metrics))
    expert: Any = SimpleNamespace(expdir=tmp_path, fold="f", head="h")
    summary.print_summary(expert, ["test\x1b"])
    out = capsys.readouterr().out
    assert "[/b]" in out
    assert is_plain(out), out


def test_board_of_a_benchmark():
    board = Board("s", [])
    board.begun[f"{HOSTILE} | fold1"] = 0.0
    console = Console(file=io.StringIO(), width=300)
    console.print(board)
    text = console.file.getvalue()
    assert ESCAPED in text
    assert is_plain(text), text


def test_predictions_as_csv():
    file, about = io.StringIO(), SimpleNamespace(classes=[], dimensions=[], notes=[], head="h")
    layout = Layout(about)  # type: ignore[arg-type]
    CsvWriter(file, layout).write(FileResult(HOSTILE, None, "unreadable \x1b"))
    assert list(csv.reader(io.StringIO(file.getvalue())))[1] == [
        ESCAPED.replace("\\udc80", "\\x80"), "", "", r"unreadable \x1b", "",
    ]  # fmt: skip


def test_reports_and_their_tables():
    for markup in (True, False):
        shown = environment(markup).from_string("{{ name }}").render(name=HOSTILE)
        assert shown == ESCAPED.replace(r"\n", "\n")  # recipes have lines
    text = search_csv([Search(HOSTILE, "=1+1", (HOSTILE,), "UAR", {0.1: 0.5}, 0.1)])
    assert is_plain(text)
    assert text.splitlines()[1].startswith(f"{ESCAPED},=1+1,{ESCAPED},UAR,0.1")
