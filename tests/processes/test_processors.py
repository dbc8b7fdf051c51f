"""Numbers of worker processes are compared with the processors that this process may use."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.processes import processors as module
from s3prl_emotion.processes.processors import check_workers, processors


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "\xff 0"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_affinity_and_the_containers_quota_both_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert processors(tmp_path) == expected


def test_more_workers_than_processors_are_warned_of_and_many_more_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    for known, fine, warned, refused in ((1, 1, 8, 9), (2, 2, 8, 9), (16, 16, 64, 65)):
        monkeypatch.setattr(module, "processors", lambda known=known: known)
        check_workers(fine, "--num_workers")
        assert not caplog.records
        check_workers(warned, "--num_workers")
        assert f"--num_workers {warned}: this process may use {known} processor" in caplog.text
        caplog.clear()
        with pytest.raises(
            UsageError, match=rf"--num_workers {refused}: this process may use {known} processors?; give"
        ):
            check_workers(refused, "--num_workers")
    with pytest.raises(ConfigError, match=r"datarc\.num_workers -1: must be 0 or more"):
        check_workers(-1, "datarc.num_workers", failure=ConfigError)
