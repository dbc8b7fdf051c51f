"""A training's curves: written where they are made, so that a full disk ends the run instead of stopping it."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_emotion.errors import TrainingError
from s3prl_emotion.training import curves


def test_curves_are_in_the_file(tmp_path: Path) -> None:
    with curves.curves(tmp_path) as writer:
        for step in range(30):
            writer.add_scalar("a/loss", step / 7, global_step=step)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert path.read_bytes().count(b"a/loss") == 30


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(steps: int) -> None:
        with curves.curves(tmp_path) as writer:
            curves._events_of(writer)._ev_writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
            for step in range(steps):  # tensorboardX's queue holds ten, then it waits for ever
                writer.add_scalar("a/loss", 1.0, global_step=step)
        pytest.fail("the disk is full")

    message = rf"^{tmp_path}/events\.out\.tfevents\..*: could not be written \(No space left on device\); free disk"
    with pytest.raises(TrainingError, match=message):
        fill(2000)
    monkeypatch.setattr(curves, "FLUSH_SECONDS", float("inf"))
    with pytest.raises(TrainingError, match=message):
        fill(1)  # seen at the end at the latest
