"""``benchmarks/peer.py``: its folds and scores, and what it says where nkululeko is not installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("peer")


def test_it_is_skipped_without_nkululeko(
    peer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["peer.py", "--peer", str(tmp_path / "python"), "--folder", str(tmp_path)])
    peer.main()
    assert capsys.readouterr().out.startswith("skipped: no nkululeko for --peer")
    assert not list(tmp_path.iterdir())


def test_folds_and_recall(peer: ModuleType):
    rows = [{"SpkrID": f"{number:02d}"} for number in (16, 3, 8, 9, 10, 11, 12, 13, 14, 15, 3)]
    numbers = [number for _, number in peer._with_folds(rows)]
    assert numbers == [5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 1]  # the k-th and (k + 5)-th of the sorted speakers
    truth = {"a": "sad", "b": "sad", "c": "sad", "d": "happy"}
    assert peer._mean_recall(truth, {"a": "sad", "b": "sad", "c": "happy", "d": "happy"}) == pytest.approx(5 / 6)
