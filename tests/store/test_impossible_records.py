"""Impossible values behind a valid checksum are damage: counted, dropped, computed again, never a traceback."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import xxhash
from store_tools import ENTRY, MAGIC, filled, identity, record, segment_of

from s3prl_emotion.cli import main
from s3prl_emotion.store import FeatureStore, upkeep

FIELDS = ("key", "checksum", "offset", "size", "layers", "frames", "dim", "dtype", "samples")
U32, U64 = 2**32 - 1, 2**64 - 1  # -1, as unsigned numbers
IMPOSSIBLE: list[dict[str, int]] = [
    {"size": U64},
    {"offset": U64},
    {"offset": 2**63},
    {"offset": U64 - 200, "size": 240},
    {"dtype": 3},
    {"dtype": U32},
    {"layers": U32, "frames": U32, "dim": U32},
    {"layers": U32, "frames": 0, "dim": U32, "size": 0},
    {"layers": 0},
    {"dim": 0, "size": 0},
    {"frames": U32},
    {"frames": 3},
    {"size": 239},
    {"dim": 6},
    {"dtype": 1},
]


def forge(index: Path, number: int, **fields: int) -> None:
    """Change fields of an entry, and write the checksum that fits them."""
    data = bytearray(index.read_bytes())
    start = MAGIC + number * ENTRY.size
    values = dict(zip(FIELDS, ENTRY.unpack(data[start : start + ENTRY.size]), strict=False))
    entry = ENTRY.pack(*(values | fields).values(), 0)[:-8]
    data[start : start + ENTRY.size] = entry + struct.pack("<Q", xxhash.xxh3_64_intdigest(entry))
    index.write_bytes(data)


@pytest.mark.parametrize("fields", IMPOSSIBLE, ids=str)
def test_impossible_fields_are_damage(tmp_path: Path, fields: dict[str, int], capsys: pytest.CaptureFixture[str]):
    filled(tmp_path, 3)
    forge(segment_of(tmp_path)[1], 0, **fields)
    store = FeatureStore(tmp_path, identity())
    store.prefetch([record(0)[0], record(1)[0]])
    assert [store.get(*record(number, 4 + 3 * number)[::2]) is not None for number in range(3)] == [False, True, True]
    assert store.stats.corrupt == 1
    assert [item.utterances for item in upkeep.collections(tmp_path)] == [2]
    assert len(list(upkeep.entries_of(tmp_path))) == 2
    assert main(["store", "verify", str(tmp_path)]) == 1
    assert "2 good, 1 damaged" in capsys.readouterr().out
    assert main(["store", "gc", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 damaged or duplicate records removed")
    assert main(["store", "verify", str(tmp_path)]) == 0
    assert "2 good, 0 damaged" in capsys.readouterr().out


DESCRIPTIONS: dict[str, Any] = {
    "non-number": '{"format": "x", "identity": {}, "made": "", "by": {}}',
    "NaN": '{"format": NaN, "identity": {}, "made": "", "by": {}}',
    "infinite": '{"format": 1e999, "identity": {}, "made": "", "by": {}}',
    "boolean": '{"format": true, "identity": {}, "made": "", "by": {}}',
    "deep": "[" * 100_000,
    "no text": "\udcff",
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_damaged_description_is_one_line(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]):
    filled(tmp_path, 2)
    (about,) = tmp_path.glob("*/upstream.json")
    about.write_text(DESCRIPTIONS[kind], errors="surrogateescape")
    assert main(["store", "verify", str(tmp_path)]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith(": 2 good, 1 damaged")
    assert len([line for line in lines if "upstream.json: damaged or missing" in line]) == 1
    for action in ("ls", "size", "gc"):
        assert main(["store", action, str(tmp_path)]) == 0
        assert "Traceback" not in capfd.readouterr().err
    assert FeatureStore(tmp_path, identity()).get(*record(0, 4)[::2]) is not None  # it only describes
    assert main(["store", "verify", str(tmp_path)]) == 0


def test_a_list_shows_what_looks_like_markup(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    store = FeatureStore(tmp_path, identity(), ckpt="/data/[old]/x[/red]")
    store.put(*record(0))
    store.close()
    assert main(["store", "ls", str(tmp_path)]) == 0
    assert "/data/[old]/x[/red]" in capfd.readouterr().out


@pytest.mark.parametrize("suffix", [".index", ".features"])
def test_a_folder_in_the_place_of_a_segment_is_left_alone(tmp_path: Path, suffix: str):
    folder = filled(tmp_path, 2).folder
    stem = folder / "00000000000000000001-1-aaaaaaaa"
    stem.with_suffix(suffix).mkdir()
    stem.with_suffix(".index" if suffix == ".features" else ".features").write_bytes(b"S3EMOIX1")
    assert upkeep.clean(tmp_path)[0] == 0
    assert [(item.good, item.bad) for item in upkeep.verify(tmp_path)] == [(2, 0)]
