"""The examples of CONTRIBUTING's pages work: each is read from its page, written to a file or run, and used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, Cli, TinyCorpus, tone
from markdown_texts import DOCS, tokens

from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.host import heads

if not DOCS.is_dir():
    pytest.skip("the documentation is in the checkout", allow_module_level=True)
LONGEST = 40  # lines


def examples(page: str) -> dict[str, str]:
    """Return the files that a page shows: the code after each paragraph that ends with the file's name."""
    found, name = {}, ""
    for token in tokens(DOCS / "contributing" / f"{page}.md"):
        if token.type == "code_inline" and re.fullmatch(r"[\w./]+/\w+\.(py|yaml)", token.content):
            name = token.content
        elif token.type == "fence" and token.info in ("python", "yaml"):
            assert name not in found, f"{page}: two blocks for {name}"
            found[name] = token.content
    return found


def write_examples(page: str, folder: Path) -> None:
    for name, text in examples(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs an example as a module of the suite."""

    def run(page: str) -> ModuleType:
        ((name, text),) = examples(page).items()
        made = ModuleType(name.removesuffix(".py").replace("/", "."))
        monkeypatch.setitem(sys.modules, made.__name__, made)
        exec(compile(text, name, "exec"), vars(made))  # noqa: S102
        return made

    return run


@pytest.fixture
def plugins() -> Iterator[None]:
    """Heads and upstreams that a test plugs in are gone after it."""
    host.register()
    import s3prl.downstream
    import s3prl.hub
    import s3prl.upstream

    kept = [(vars(place), dict(vars(place))) for place in (s3prl.downstream, s3prl.hub, s3prl.upstream)]
    plugged_in, modules = dict(heads._plugged_in), set(sys.modules)
    yield
    for names, before in kept:
        names.clear()
        names.update(before)
    heads._plugged_in.clear()
    heads._plugged_in.update(plugged_in)
    for name in set(sys.modules) - modules:
        if name.startswith(("s3prl.upstream.", "s3prl.downstream.")):
            del sys.modules[name]


@pytest.mark.parametrize("page", ["head", "upstream", "corpus", "metric", "report-section"])
def test_examples_are_short(page: str):
    text = "\n".join(examples(page).values())
    assert 15 <= len(text.splitlines()) <= 2 * LONGEST
    assert all(len(code.splitlines()) <= LONGEST for code in examples(page).values())


def test_head(cli: Cli, plugins: None, tiny_corpus: TinyCorpus, tmp_path: Path):
    write_examples("head", tmp_path)
    words = ("-u", "fbank_no_cmvn", "-d", "max_pooling", "--downstream_path", "my_heads", "-n", "max_pooling")
    short = tiny_corpus.overrides().replace("config.downstream_expert.modelrc.projector_dim=8,,", "")
    cli("-m", "train", *words, "-o", short)
    assert (tmp_path / "result/downstream/max_pooling/test_fold1_metrics.json").is_file()
    bad = short + ",,config.downstream_expert.modelrc.dropuot=0.2"
    error = cli("-m", "train", *words, "--overwrite", "-o", bad, code=1).error
    assert "modelrc.dropuot: unknown key; nearest: dropout" in error


def test_upstream(cli: Cli, plugins: None, tiny_corpus: TinyCorpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_examples("upstream", tmp_path)
    assert suite.main(["check-upstream", "log_energy", "--upstream_path", "my_upstreams"]) == 0
    assert "log_energy: all checks passed" in capfd.readouterr().out
    words = ("-u", "log_energy", "--upstream_path", "my_upstreams", "-d", "emotion_corr_attn", "-n", "log_energy")
    cli("-m", "train", *words, "-o", tiny_corpus.overrides(**{"downstream_expert.modelrc.pooling": "mean_std"}))
    assert (tmp_path / "result/downstream/log_energy/dev-best.ckpt").is_file()


def test_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from s3prl_emotion.corpora import preparers

    ((name, text),) = examples("corpus").items()
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / Path(name).name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(preparers, "__path__", [*preparers.__path__, str(tmp_path / "modules")])
    root = tmp_path / "ToyDB"
    root.mkdir()
    for speaker in ("anna", "eva", "jim", "tom"):
        for emotion in ("angry", "happy", "neutral"):
            for sentence in ("01", "02"):
                soundfile.write(root / f"{speaker}_{emotion}_{sentence}.wav", tone(220, 0.3, 1), RATE)
    assert suite.main(["prepare", "toydb", str(root), str(tmp_path / "tables")]) == 0
    table = pd.read_csv(tmp_path / "tables" / "labels.csv")
    assert len(table) == 24
    assert set(table.EmoClass) == {"angry", "happy", "neutral"}
    assert set(table[table.SpkrID == "eva"].Gender) == {"Female"}
    sys.modules.pop("s3prl_emotion.corpora.preparers.toydb", None)


def test_metric(monkeypatch: pytest.MonkeyPatch):
    from s3prl_emotion.metrics import class_scores, registry
    from s3prl_emotion.metrics.categorical import categorical_metrics

    names = dict(vars(class_scores))
    ((file, text),) = examples("metric").items()
    exec(compile(text, file, "exec"), names)  # noqa: S102
    added = names["METRICS"][-1]
    monkeypatch.setitem(registry.METRICS, added.name, added)
    truth, guess = [0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 0, 2, 2]
    metrics = categorical_metrics(truth, np.eye(3)[guess], ["ang", "hap", "sad"])
    assert metrics["g_mean"] == pytest.approx((0.75 * 0.5 * 1) ** (1 / 3))
    assert registry.best_metrics(classes=True)[-1] == "g_mean"
    assert registry.label("g_mean") == "G-mean, %"


def test_report_section(module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from test_report import write_benchmark

    from s3prl_emotion.report.writing import report

    section = module("report-section").FoldSpread
    monkeypatch.setattr(report, "SECTIONS", (*report.SECTIONS, section))
    folder = write_benchmark(tmp_path, kind="categorical", systems=("one", "two"))
    assert suite.main(["report", str(folder), "--out", str(tmp_path / "out")]) == 0
    for name in ("report.html", "report.md", "report.tex"):
        assert "lowest" in (tmp_path / "out" / name).read_text(encoding="utf-8"), name
