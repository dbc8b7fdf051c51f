"""``s3prl-emotion superb``: from SUPERB's lists and audio to scores, submission and report, in one command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SOURCE, TinyCorpus, write_superb_corpus
from pretended import entries, folder_of, pretend
from test_store_reliability import Nursery

import s3prl_emotion.cli
from s3prl_emotion import host
from s3prl_emotion.benchmark import read_results
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.report import Score
from s3prl_emotion.report.superb_track import superb_track
from s3prl_emotion.superb.leaderboard import NAMES, compare, published, published_upstream

FOLDS = tuple(f"fold{number}" for number in range(1, 6))
RATES = ("1e-2", "1e-1")


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Five sessions of tones, with lists as SUPERB's, shared: tests must not write into them."""
    return write_superb_corpus(tmp_path_factory.mktemp("sessions"), sessions=5, per_class=2)


def words(corpus: TinyCorpus, out: Path | str, *more: object) -> list[str]:
    """The command, with few steps and two learning rates."""
    given = ["superb", "-u", "fbank_no_cmvn", "--meta_data", corpus.labels, "--root", corpus.root, "--out", out,
             "--steps", 6, "--device", "cpu", "--learning_rates", *RATES, *more]  # fmt: skip
    return [str(word) for word in given]


Said = tuple[str, str]
Command = Callable[..., Said]


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """``suite("superb", …, code=1)``: the command inside this process; returns both streams."""
    monkeypatch.chdir(tmp_path)

    def call(*given: str, code: int = 0) -> Said:
        capfd.readouterr()
        got = s3prl_emotion.cli.main(list(given))
        out, err = capfd.readouterr()
        assert got == code, f"exit code {got}\n{out}\n{err}"
        return out, err

    return call


# --- runs that only pretend -------------------------------------------------------------------------------------------


class Fake:
    """Stands in for a run's processes, see ``pretended.py``."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails = ""

    def run(self, command: list[str], log: Path) -> None:
        self.commands.append(command)
        if self.fails and self.fails in str(folder_of(command)):
            raise s3prl_emotion.errors.TrainingError("as asked")
        pretend(command)

    def kinds(self) -> list[str]:
        """What was run since this was last called: the last folder and the split or mode of each command."""
        found = [
            f"{folder_of(command).parent.name} {'train' if 'train' in command else 'test'}" for command in self.commands
        ]
        self.commands.clear()
        return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(Processes, "run", lambda self, command, log: fake.run(list(command), log))
    monkeypatch.setattr("s3prl_emotion.benchmark.checks.check_plan", lambda plan: None)
    monkeypatch.setattr("s3prl_emotion.superb.outcome.write_report", lambda analysis, folder: [])  # figures take long
    return fake


def test_from_the_lists_to_the_submission(suite: Command, lists: TinyCorpus, fake: Fake):
    """All that the command makes; a second one repeats nothing, not even the reading of audio."""
    out, _ = suite(*words(lists, "B"))
    assert fake.kinds() == [
        "fold1-seed1337-lr0.01 train", "fold1-seed1337-lr0.1 train",
        *(f"{fold}-seed1337 {what}" for fold in FOLDS for what in ("train", "test")),
    ]  # fmt: skip
    assert "learning rate: 0.01, the best of 2 on dev of fold1 (0.01: 71.43 %, 0.1: 14.29 %)" in out
    assert [line for line in out.splitlines() if line.startswith("fold")] == [
        f"{fold}: 8 utterances, accuracy 75.00 %" for fold in FOLDS
    ]
    assert "fbank_no_cmvn: accuracy 75.00 %, mean of the five folds; standard deviation over folds 0.00 %" in out
    assert re.search(r"95 % interval \[\d+\.\d\d, \d+\.\d\d\] % \(all folds together, 10 speakers resampled\)", out)
    assert "so not comparable with the score of these lists" in out
    assert "  > fbank_no_cmvn: 75.00 %\n    WavLM Large: 70.62 %" in out
    assert "WavLM Large: 70.62 %; ours is 4.38 higher; it is " in out
    assert "SUPERB track: less constrained: the upstream is frozen, but the training is not SUPERB's;" in out
    assert "total_steps 6 (SUPERB: 30000)" in out
    assert "note: the lists are not SUPERB's own" in out
    notes = yaml.safe_load(Path("B/matrix.yaml").read_text())["notes"]
    assert notes.endswith(" The lists are not SUPERB's own, which test 5531 utterances: these test 40.")
    scores = json.loads(Path("B/superb.json").read_text())
    assert scores["mean"] == 0.75
    assert scores["search"] == {"0.01": pytest.approx(5 / 7), "0.1": pytest.approx(1 / 7)}
    assert scores["folds"]["fold5"] == {"utterances": 8, "accuracy": 0.75}
    with zipfile.ZipFile("B/predict.zip") as archive:
        assert archive.namelist() == [f"predict/er_{fold}_public/predict.txt" for fold in FOLDS]
        predicted = archive.read("predict/er_fold3_public/predict.txt").decode().splitlines()
    assert [line.split()[0] for line in predicted] == [
        Path(e["path"]).stem for e in entries(lists.labels, "fold3", "test")
    ]
    assert any(Path("B/store").glob("*/*"))
    again, log = suite(*words(lists, "B"))
    assert again == out
    assert fake.kinds() == []
    assert "extract" not in log


def test_a_failed_run_is_named_and_repeated(suite: Command, lists: TinyCorpus, fake: Fake):
    fake.fails = "fold4"
    out, _ = suite(*words(lists, "B", "--retries", "0"), code=1)
    assert "failed: fbank_no_cmvn | mean pooling | fold4 | seed 1337: as asked" in out
    assert "4 of 5 folds finished; the same command resumes interrupted runs; --retry_failed tries failed" in out
    assert not Path("B/predict.zip").exists()
    fake.fails = ""
    fake.kinds()
    suite(*words(lists, "B", "--retry_failed"))
    assert fake.kinds() == ["fold4-seed1337 train", "fold4-seed1337 test"]
    assert Path("B/predict.zip").exists()


def test_a_rate_that_cannot_be_trained_is_out(suite: Command, lists: TinyCorpus, fake: Fake):
    """The highest rates of SUPERB's search may diverge; the best of the others is taken."""
    fake.fails = "lr0.01"
    out, _ = suite(*words(lists, "B", "--retries", "0"))
    assert "failed: fbank_no_cmvn | mean pooling | fold1 | seed 1337 | lr 0.01: as asked" in out
    assert "learning rate: 0.1, the best of 2 on dev of fold1 (0.01: failed, 0.1: 14.29 %)" in out
    again, _ = suite(*words(lists, "B", "--retries", "0"))
    assert "failed before: fbank_no_cmvn | mean pooling | fold1 | seed 1337 | lr 0.01: as asked" in again
    assert json.loads(Path("B/superb.json").read_text())["search"]["0.01"] is None


# --- runs in forks of one process -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    folders = os.pathsep.join([SOURCE, str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    nursery = Nursery("forked_runs", "s3prl_emotion.superb.outcome", PYTHONPATH=folders)
    yield nursery
    nursery.end()


def until(happened: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.mark.full
def test_killed_and_resumed(lists: TinyCorpus, nursery: Nursery, tmp_path: Path):
    """Killed while it computes features, searches a rate and trains folds, it comes to what an undisturbed one does.

    The search trains, the folds pretend; ``test_benchmark_reliability.py`` kills a benchmark's trainings.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert nursery.wait(nursery.start("s3prl-emotion", *words(lists, whole), to=tmp_path / "whole.log")) == 0, left(
        tmp_path, "whole"
    )
    moments = ("store/*/means/*.features", "search/*/*/fold1-seed1337-lr0.1/exp/log.log", "results.jsonl")
    for moment in moments:
        process = nursery.start("s3prl-emotion", *words(lists, killed), to=tmp_path / "killed.log")
        until(lambda: any(killed.glob(moment)))  # noqa: B023
        os.kill(process, signal.SIGKILL)
        assert nursery.wait(process) == -signal.SIGKILL, left(tmp_path, "killed")
    assert nursery.wait(nursery.start("s3prl-emotion", *words(lists, killed), to=tmp_path / "killed.log")) == 0, left(
        tmp_path, "killed"
    )
    for name in ("results.jsonl", "search.jsonl"):
        lines = [read_results(folder / name) for folder in (whole, killed)]
        assert len(lines[0]) == len((killed / name).read_text().splitlines()) == (5 if name == "results.jsonl" else 2)
        for run, line in lines[0].items():
            assert {key: lines[1][run][key] for key in ("definition", "splits")} == {
                key: line[key] for key in ("definition", "splits")
            }
    for name in ("predict.zip", "superb.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert "fbank_no_cmvn" in (killed / "report.html").read_text()
    assert left(tmp_path, "killed").replace(str(killed), "") == left(tmp_path, "whole").replace(str(whole), "")


def left(folder: Path, name: str) -> str:
    """What the last command printed that worked in a folder, without its log."""
    text = (folder / f"{name}.log").read_text()
    return text[text.find("learning rate: ") :]


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(suite: Command, given: list[str]) -> str:
    """The one line with which a command is refused."""
    _, err = suite(*given, code=1)
    lines = [line for line in err.splitlines() if line.startswith("s3prl-emotion: error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0].removeprefix("s3prl-emotion: error: ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning_rates", "1e-3", "0"], "--learning_rates 0.0: must be above 0"),
        (["--learning_rates", "nan"], "--learning_rates nan: must be above 0"),
        (["--learning_rates", "-0.001"], "--learning_rates -0.001: must be above 0"),
        (["--learning_rates", "1e-3", "0.001"], "--learning_rates 0.001: is given twice"),
        (["--learning_rates", "fast"], "argument --learning_rates: invalid float value: 'fast'"),
        (["--steps", "0"], "--steps 0: must be 1 or more"),
        (["--seed", "-1"], "--seed -1: must be from 0 to 4294967295"),
        (["--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["--store_dtype", "int8"], "argument --store_dtype: invalid choice: 'int8'"),
        (["-u", "fbank_no_cmvm"], "-u fbank_no_cmvm: no such upstream; nearest: fbank_no_cmvn"),
        (["-g", "none.yaml"], "-g none.yaml: no such file"),
        (["--meta_data", "nowhere"], "--meta_data nowhere: no such folder; it must hold SUPERB's Session1 to Session5"),
        (["--meta_data", "."], "--meta_data .: holds no Session1; SUPERB's lists are Session1 to Session5"),
        (["--root", "nowhere"], "--root nowhere: no such folder; it must hold the audio that SUPERB's lists name"),
        (["--root", "."], "--root .: holds no Session1/sentences/wav/"),
        (["--device", "abacus"], "--device abacus: not a device"),
    ],
)
def test_bad_input_is_one_line(suite: Command, lists: TinyCorpus, more: list[str], message: str):
    assert message in refused(suite, [*words(lists, "B"), *more])
    assert not Path("B").exists()


def test_other_lists_are_refused(suite: Command, lists: TinyCorpus):
    """A session too few, a list that is missing, another corpus's classes."""
    shutil.copytree(lists.labels, "lists")
    given = words(TinyCorpus(lists.root, Path("lists")), "B")
    path = Path("lists/Session5/test_meta_data.json")
    content = json.loads(path.read_text())
    renamed = {"labels": {"joy": 0, "fear": 1}, "meta_data": [{"path": "a.wav", "label": "joy", "speaker": "s"}]}
    path.write_text(json.dumps(renamed))
    assert "Session5/test_meta_data.json: has classes joy, fear, but SUPERB's are neu, hap" in refused(suite, given)
    path.write_text(json.dumps(content)[:-20])
    assert "Session5/test_meta_data.json: not one of SUPERB's split lists" in refused(suite, given)
    path.unlink()
    assert "Session5/test_meta_data.json: cannot be read (No such file or directory)" in refused(suite, given)
    shutil.rmtree("lists/Session5")
    assert "--meta_data lists: holds no Session5" in refused(suite, given)


def test_a_folder_belongs_to_one_run(suite: Command, lists: TinyCorpus, fake: Fake, tmp_path: Path):
    """Other settings, lists that have changed, and folders of something else are refused, and nothing changes."""
    own = Path(shutil.copytree(lists.labels, "lists"))
    corpus = TinyCorpus(lists.root, own)
    suite(*words(corpus, "B"))
    before = {path: path.read_bytes() for path in Path("B").rglob("*") if path.is_file()}
    for more, message in (
        (["--seed", "7"], "holds another run (seeds: [1337] there, [7] here)"),
        (["-u", "fbank"], "holds another run (upstreams.fbank.name: None there, 'fbank' here)"),
        (["--learning_rates", "1e-3"], "holds another run (search.learning_rates: [0.01, 0.1] there, [0.001] here)"),
        (["--steps", "7"], "holds another run (overrides.runner.total_steps: 6 there, 7 here)"),
    ):
        assert message in refused(suite, [*words(corpus, "B"), *more])
    path = own / "Session2" / "train_meta_data.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"meta_data": content["meta_data"][1:]}))
    assert "fold1 | seed 1337 was run with other lists, options or recipe; name another --out" in refused(
        suite, words(corpus, "B")
    )
    path.write_text(json.dumps(content))
    Path("B/matrix.yaml").write_text("{")
    assert "B/matrix.yaml" in refused(suite, words(corpus, "B"))
    Path("B/matrix.yaml").unlink()  # as the message says
    fake.kinds()
    suite(*words(corpus, "B"))
    assert fake.kinds() == []
    assert {path: path.read_bytes() for path in Path("B").rglob("*") if path.is_file()} == before
    Path("other").mkdir()
    Path("other/thesis.tex").write_text("")
    assert "--out other: holds thesis.tex, but no run of this command; name another --out" in refused(
        suite, words(corpus, "other")
    )


# --- SUPERB's protocol ------------------------------------------------------------------------------------------------


def test_the_dry_run_lists_the_runs_of_superb(suite: Command, lists: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    """By default: seven rates, 30,000 steps, five folds, in the constrained track; braces in paths stay."""
    shutil.copytree(lists.labels, "{lists}")
    seen: list[Any] = []
    monkeypatch.setattr("s3prl_emotion.benchmark.dry_run.preview.preview", lambda plan, *others: seen.append(plan))
    suite("superb", "-u", "hubert_base", "--meta_data", "{lists}", "--root", str(lists.root), "--out", "B", "--dry-run")
    assert not Path("B").exists()
    (plan,) = seen
    assert [trial.rate for trial in plan.trials] == [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert {trial.cell.fold for trial in plan.trials} == {"fold1"}
    assert [run.cell.fold for run in plan.runs] == list(FOLDS)
    config = plan.runs[0].config
    assert config["runner"]["total_steps"] == 30000
    assert config["downstream_expert"]["datarc"]["labels"] == str(Path("{lists}").absolute())
    assert superb_track("emotion_corr_attn", config, {}).name == "constrained"
    assert [(number.system, number.value) for number in plan.matrix.published] == [("mean pooling", 0.6492)]


def test_published_accuracies_beside_ours():
    """Each row of the leaderboard, and on which side of our interval it lies."""
    ours = Score("WA", 5, 0.66, 0.01, 0.65, 0.67, low=0.65, high=0.68)
    found = {item.upstream: (round(item.difference, 4), item.place) for item in compare(ours)}
    assert found["WavLM Large"] == (-0.0462, "above our interval")
    assert found["HuBERT Large"] == (-0.0162, "within our interval")
    assert found["HuBERT Base"] == (0.0108, "below our interval")
    assert {item.place for item in compare(Score("WA", 5, 0.66, 0.01, 0.65, 0.67))} == {""}
    (noted,) = [item for item in compare(ours) if item.note]
    assert noted.upstream == "FBANK"
    assert "35.39 in the first release of the table (April 2021)" in noted.note


def test_names_of_published_upstreams():
    """What is compared with a row is the same upstream: every name is one of ``-u``."""
    host.register()
    assert set(NAMES) == {result.upstream for result in published()}
    assert not {name for names in NAMES.values() for name in names} - set(host.upstream_names())
    assert published_upstream("hf_wavlm_large", None) == "WavLM Large"
    assert published_upstream("hf_wavlm_large", "my/weights") is None
