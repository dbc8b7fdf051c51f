"""The examples of ``docs/howto/other-formats.md`` read small corpora that lie where they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Cli
from test_audformat_databases import write_database
from test_formats import write_audio, write_emobox
from test_hf_datasets import make, rows_of

from s3prl_emotion import cli as suite

PAGE = REPOSITORY / "docs/howto/other-formats.md"


def examples() -> dict[str, list[str]]:
    """The suite's command lines of each section, in one line each."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        lines = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    ")).replace("\\\n", "")
        found[section.splitlines()[0]] = [
            line for line in lines.splitlines() if line.startswith(("s3prl-emotion", "run_downstream"))
        ]
    return found


def write_folders(root: Path) -> None:
    write_audio(root / "acted", [f"{emotion}/{who}{take}.wav" for emotion in "xy" for who in "abcdef" for take in "12"])


@pytest.mark.full
@pytest.mark.parametrize("title", ["A folder for each class", "EmoBox", "Hugging Face datasets", "audformat"])
def test_examples_run(title: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("S3PRL_EMOTION_CACHE", str(tmp_path / "cache"))
    if title == "A folder for each class":
        write_folders(tmp_path)
    elif title == "EmoBox":
        write_emobox(tmp_path / "EmoBox")
    elif title == "audformat":
        import audformat

        write_database(audformat, tmp_path / "emodb-1.4.1")
    else:
        write_hub(tmp_path, monkeypatch)
    audit, train = examples()[title]
    suite.main(words_of(audit)[1:])
    small = ",,".join(f"config.runner.{key}=2" for key in ("total_steps", "log_step", "eval_step", "save_step"))
    words = [f"{word},,{small}" if word.startswith("config.") else word for word in words_of(train)[1:]]
    cli(*words)
    assert [*tmp_path.glob("result/downstream/*/test_fold1_metrics.json")]


def words_of(line: str) -> list[str]:
    import shlex

    return shlex.split(re.sub(r"\s+#.*", "", line))


def write_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data = tmp_path / "snapshot/data"
    data.mkdir(parents=True)
    made = make(datasets, rows_of(0, "abcdef")).rename_column("label", "major_emotion")
    made.to_parquet(data / "train-00000-of-00001.parquet")

    def snapshot(repository: str, **options: Any) -> str:
        assert (repository, options["repo_type"]) == ("OWNER/NAME", "dataset")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
