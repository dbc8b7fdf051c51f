"""Trainings of every head, killed at two moments, come to the same weights as uninterrupted; see ``soak/kills.py``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import HEADS, Nursery, born, kill_once, train_whole

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with born() as found:
        yield found


@pytest.mark.parametrize("head", HEADS)
def test_killed_and_resumed(nursery: Nursery, head: str, tmp_path: Path):
    workers = list(HEADS).index(head) % 2 * 2  # loader processes are a second each: in every other head
    whole = train_whole(nursery, head, workers, tmp_path)
    for number, share in ((signal.SIGKILL, 0.4), (signal.SIGTERM, 0.6)):
        assert not kill_once(nursery, whole, number, share, tmp_path / number.name)
