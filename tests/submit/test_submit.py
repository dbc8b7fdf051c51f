"""Test ``s3prl-emotion submit``: SUPERB's zip, EMO-SUPERB's CSVs, and everything that it refuses to submit."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED_DATA, Cli, Run, write_superb_corpus

from s3prl_emotion import host
from s3prl_emotion.benchmark.records import ResultsFile
from s3prl_emotion.cli import main
from s3prl_emotion.corpora.corpus import Utterance
from s3prl_emotion.corpora.superb import read_corpus
from s3prl_emotion.experts.evaluation import write_categorical
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.metrics.results import provenance
from s3prl_emotion.recipe import DataSection, read_recipe
from s3prl_emotion.report.superb_track import superb_track

REAL = SHARED_DATA / "iemocap_superb"
GRADES = SHARED_DATA / "iemocap_labels" / "labels_consensus_1.csv.gz"
FOLDS = [f"fold{number}" for number in range(1, 6)]
CLASSES = ("neu", "hap", "ang", "sad")
UPSTREAM = {"upstream": "wavlm_large", "upstream_feature_selection": "hidden_states", "upstream_trainable": False}
HEAD = "emotion_corr_attn"


def superb_recipe(**values: Any) -> dict[str, Any]:
    """Return SUPERB's recipe with dotted keys changed."""
    recipe = read_recipe(recipes_folder() / "superb" / "emotion_corr_attn.yaml")
    for dotted, value in values.items():
        *path, last = dotted.split(".")
        target = recipe
        for name in path:
            target = target[name]
        target[last] = value
    return recipe


def probabilities(utterances: int, seed: int, classes: int = 4) -> list[list[float]]:
    return np.random.default_rng(seed).dirichlet([0.5] * classes, utterances).tolist()


def write_experiment(
    folder: Path,
    lists: Path,
    fold: str,
    recipe: dict[str, Any] | None = None,
    checkpoint: str | None = "dev-best.ckpt",
    seed: int = 1337,
    head: str = HEAD,
    **options: Any,
) -> Path:
    """Write an experiment directory with the suite's own writers, with drawn predictions."""
    folder.mkdir(parents=True)
    recipe = superb_recipe() if recipe is None else recipe
    recipe["downstream_expert"]["datarc"] |= {"labels": str(lists), "test_fold": fold}
    data = DataSection.read(recipe["downstream_expert"]["datarc"], "datarc")
    corpus = read_corpus(lists, Path("IEMOCAP"), data)
    arguments = {**recipe, "seed": seed, **UPSTREAM, **options}
    for split in ("dev", "test"):
        made_by = {"split": split, "fold": fold, "step": 40, "checkpoint": checkpoint, "classes": list(corpus.classes)}
        made_by |= provenance(head, recipe["downstream_expert"], arguments)
        utterances = corpus.split(split)
        write_categorical(folder, utterances, probabilities(len(utterances), int(fold[-1])), made_by)
    return folder


def write_lists(folder: Path) -> Path:
    """Write lists in SUPERB's format: five sessions of twelve utterances in a drawn order."""
    order = np.random.default_rng(5)
    sessions = {}
    for number in range(1, 6):
        entries = []
        for take in range(12):
            dialogue = f"Ses{number:02d}F_impro{take // 6:02d}"
            path = f"Session{number}/sentences/wav/{dialogue}/{dialogue}_{'FM'[take % 2]}{take:03d}.wav"
            entries.append({"path": path, "label": CLASSES[take % 4], "speaker": f"Ses{number:02d}F"})
        sessions[number] = [entries[place] for place in order.permutation(len(entries))]
    for number, tested in sessions.items():
        trained = [entry for other, entries in sessions.items() if other != number for entry in entries]
        target = folder / f"Session{number}"
        target.mkdir(parents=True)
        for split, entries in (("train", trained), ("test", tested)):
            labels = {name: place for place, name in enumerate(CLASSES)}
            (target / f"{split}_meta_data.json").write_text(json.dumps({"labels": labels, "meta_data": entries}))
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SUPERB's lists in miniature; tests must not write into them."""
    return write_lists(tmp_path_factory.mktemp("superb") / "meta_data")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory, lists: Path) -> Path:
    """Five valid experiment directories, to be copied."""
    folder = tmp_path_factory.mktemp("five")
    for fold in FOLDS:
        write_experiment(folder / fold, lists, fold)
    return folder


@pytest.fixture
def runs(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A test's own copies of the experiment directories, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(five, tmp_path / "runs")
    return [Path("runs") / fold for fold in FOLDS]


Submit = Callable[..., str]


@pytest.fixture
def submit(capsys: pytest.CaptureFixture[str]) -> Submit:
    """``submit(*words)`` returns what the command prints; ``refused`` is a pattern of its one-line error."""

    def call(*words: object, refused: str | None = None) -> str:
        before = written(Path())
        capsys.readouterr()
        code = main(["submit", *map(str, words)])
        out, err = capsys.readouterr()
        if refused is None:
            assert code == 0, err
            return out
        lines = [line for line in err.splitlines() if line.startswith("s3prl-emotion: error: ")]
        assert (code, len(lines)) == (1, 1), err
        assert "Traceback" not in err
        assert re.search(refused, lines[0]), lines[0]
        assert written(Path()) == before, "files were left behind"
        return lines[0]

    return call


def written(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def edit_metrics(run: Path, fold: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = run / f"test_{fold}_metrics.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_rows(run: Path, fold: str, change: Callable[[list[list[str]]], Any]) -> None:
    """Change the rows of a predictions file, of which the first is the header."""
    path = run / f"test_{fold}_predictions.csv"
    rows = list(csv.reader(io.StringIO(path.read_text())))
    change(rows)
    path.write_text("".join(",".join(row) + "\n" for row in rows))


# --- the zip ----------------------------------------------------------------------------------------------------------


def test_zip_holds_what_the_host_writes_for_each_fold(runs: list[Path], submit: Submit):
    submit(*runs)
    with zipfile.ZipFile("predict.zip") as archive:
        assert archive.namelist() == [f"predict/er_{fold}_public/predict.txt" for fold in FOLDS]
        assert archive.testzip() is None
        for run, fold in zip(runs, FOLDS, strict=True):
            content = archive.read(f"predict/er_{fold}_public/predict.txt").decode()
            assert content == (run / f"test_{fold}_predict.txt").read_text()
            assert re.fullmatch(r"(Ses0\d[FM]_impro0\d_[FM]\d\d\d (neu|hap|ang|sad)\n){12}", content)


def test_what_is_printed(runs: list[Path], lists: Path, submit: Submit):
    said = submit(*runs).splitlines()
    rates = []
    for run, fold, line in zip(runs, FOLDS, said, strict=False):
        listed = json.loads((lists / f"Session{fold[-1]}" / "test_meta_data.json").read_text())["meta_data"]
        predicted = dict(line.split() for line in (run / f"test_{fold}_predict.txt").read_text().splitlines())
        rates.append(np.mean([predicted[Path(entry["path"]).stem] == entry["label"] for entry in listed]))
        assert line == f"{fold}: 12 utterances, accuracy {100 * rates[-1]:.2f} %"
    assert said[5] == f"mean of the folds: 60 utterances, accuracy {100 * np.mean(rates):.2f} %"
    assert said[6].startswith("SUPERB track: constrained (mean pooling")
    assert said[7] == "note: the lists are not SUPERB's own, which test 5531 utterances: these test 60"
    assert said[8:] == ["predict.zip"]


def test_equal_predictions_give_equal_bytes(runs: list[Path], submit: Submit):
    submit(*runs, "--out", "a.zip")
    submit(*reversed(runs), "--out", "b.zip")
    submit(*(word for run in runs for word in ("--fold", f"{run.name}={run}")), "--out", "new/folder")
    first = Path("a.zip").read_bytes()
    assert Path("b.zip").read_bytes() == Path("new/folder/predict.zip").read_bytes() == first


def test_lines_are_in_the_order_of_the_list(runs: list[Path], submit: Submit):
    submit(*runs, "--out", "a.zip")
    edit_rows(runs[1], "fold2", lambda rows: rows.__setitem__(slice(1, None), rows[:0:-1]))
    submit(*runs, "--out", "b.zip")
    assert Path("b.zip").read_bytes() == Path("a.zip").read_bytes()


def test_one_folder_may_hold_all_folds(runs: list[Path], submit: Submit):
    for run in runs:
        shutil.copytree(run, "all", dirs_exist_ok=True)
    submit("all", "--out", "one.zip")
    submit(*runs, "--out", "five.zip")
    submit(*(word for fold in FOLDS for word in ("--fold", f"{fold}=all")), "--out", "named.zip")
    assert Path("one.zip").read_bytes() == Path("five.zip").read_bytes() == Path("named.zip").read_bytes()


def test_an_older_zip_is_replaced(runs: list[Path], submit: Submit):
    Path("predict.zip").write_text("old")
    submit(*runs)
    assert zipfile.is_zipfile("predict.zip")


def test_lists_are_found_with_meta_data_where_the_recipe_names_none(runs: list[Path], lists: Path, submit: Submit):
    for run, fold in zip(runs, FOLDS, strict=True):
        edit_metrics(run, fold, lambda m: m["config"]["downstream_expert"]["datarc"].update(labels="iemocap.csv"))
    submit(*runs, refused=r"runs/fold1: iemocap\.csv holds no Session1: give SUPERB's lists with --meta_data DIR")
    submit(*runs, "--meta_data", lists)


@pytest.mark.skipif(not REAL.is_dir(), reason="SUPERB's lists of IEMOCAP are not here")
def test_real_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: Submit):
    monkeypatch.chdir(tmp_path)
    for packed in REAL.glob("Session*/*.json.gz"):
        path = tmp_path / "meta_data" / packed.parent.name / packed.stem
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    runs = [write_experiment(tmp_path / fold, tmp_path / "meta_data", fold) for fold in FOLDS]
    said = submit(*runs)
    counts = {"fold1": 1085, "fold2": 1023, "fold3": 1151, "fold4": 1031, "fold5": 1241}
    for fold, count in counts.items():
        assert f"{fold}: {count} utterances, accuracy " in said
    assert "mean of the folds: 5531 utterances" in said
    assert "SUPERB track: constrained" in said
    assert "note" not in said
    with zipfile.ZipFile("predict.zip") as archive:
        texts = [archive.read(name).decode().splitlines() for name in archive.namelist()]
    assert [len(lines) for lines in texts] == list(counts.values())
    assert len({line.split()[0] for lines in texts for line in lines}) == 5531


@pytest.mark.full
def test_command_of_its_own(five: Path, lists: Path, tmp_path: Path, run: Run):
    said = run("s3prl-emotion", "submit", *(five / fold for fold in FOLDS), "--meta_data", lists, "--out", "er.zip")
    assert said.stdout.splitlines()[-1] == "er.zip"
    assert len(zipfile.ZipFile(tmp_path / "er.zip").namelist()) == 5


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [[4], [0, 2]])
def test_missing_fold(runs: list[Path], submit: Submit, missing: list[int]):
    names = ", ".join(FOLDS[place] for place in missing)
    submit(*(run for place, run in enumerate(runs) if place not in missing), refused=f"no predictions of {names};")


def test_fold_that_is_there_twice(runs: list[Path], submit: Submit):
    shutil.copytree(runs[1], "again")
    submit(*runs, "again", refused=r"fold2 occurs twice: .*runs/fold2 and again")
    submit(*runs, runs[0], refused="is named twice")


def test_swapped_folds(runs: list[Path], submit: Submit):
    pairs = [f"--fold={fold}={run}" for fold, run in zip([FOLDS[1], FOLDS[0], *FOLDS[2:]], runs, strict=True)]
    submit(*pairs, refused=r"--fold fold2=runs/fold1: holds fold1")
    for kind in ("predictions.csv", "metrics.json"):  # a folder whose files were renamed
        Path(f"runs/fold1/test_fold1_{kind}").rename("kept")
        shutil.copy(f"runs/fold2/test_fold2_{kind}", f"runs/fold1/test_fold1_{kind}")
    edit_metrics(runs[0], "fold1", lambda metrics: metrics.update(fold="fold1"))
    submit(*runs, refused=r"fold1_predictions\.csv: 12 of 12 utterances are not in SUPERB's test list of fold1: "
           r"Ses02._impro.* \(fold2 tests it; are the folds swapped\?\)")  # fmt: skip


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [(None, r"the current weights during training \(step 40\)"), ("states-40.ckpt", r"states-40\.ckpt \(step 40\)")],
)
def test_predictions_that_are_not_of_the_best_checkpoint(
    runs: list[Path], submit: Submit, checkpoint: str | None, said: str
):
    edit_metrics(runs[2], "fold3", lambda metrics: metrics.update(checkpoint=checkpoint))
    submit(*runs, refused=rf"made by {said}, and runs/fold3 has no dev-best\.ckpt; train until dev is evaluated")
    (runs[2] / "dev-best.ckpt").touch()
    line = submit(*runs, refused=rf"test_fold3_predictions\.csv: made by {said}, not by dev-best\.ckpt; run_downstream")
    words = shlex.split(line[line.index("run_downstream.py") :])
    assert words[1:] == ["-m", "evaluate", "-e", "runs/fold3/dev-best.ckpt", "-t", "test"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (
            lambda m: m["config"]["optimizer"].update(lr=0.5),
            r"config\.optimizer\.lr is 0\.5 in fold4, 0\.0001 in fold1",
        ),
        (lambda m: m["config"]["optimizer"].update(eps=1), r"config\.optimizer\.eps is 1 in fold4, None in fold1"),
        (lambda m: m["config"]["downstream_expert"]["modelrc"].pop("pooling"), r"modelrc\.pooling is None in fold4"),
        (lambda m: m["config"]["runner"].update(total_steps=9), r"config\.runner\.total_steps is 9 in fold4, 30000"),
        (lambda m: m.update(seed=2), r"seed is 2 in fold4, 1337 in fold1"),
        (lambda m: m.update(head="emotion_acnn"), r"head is 'emotion_acnn' in fold4"),
        (lambda m: m.update(stored_features="float16"), r"stored_features is 'float16' in fold4, None in fold1"),
        (lambda m: m["upstream"].update(upstream="hubert"), r"upstream\.upstream is 'hubert' in fold4, 'wavlm_large'"),
        (lambda m: m["upstream"].update(upstream_ckpt="fold4.pt"), r"upstream\.upstream_ckpt is 'fold4\.pt' in fold4"),
    ],
)
def test_folds_that_were_made_differently(
    runs: list[Path], submit: Submit, change: Callable[[dict[str, Any]], Any], key: str
):
    edit_metrics(runs[3], "fold4", change)
    submit(*runs, refused=rf"runs/fold4: .*{key}.*same recipe, upstream and seed")


def test_paths_may_name_the_fold_and_float32_stores_are_exact(runs: list[Path], submit: Submit):
    for run, fold in zip(runs, FOLDS, strict=True):
        change = {"layer_file": f"prepared/saliency/wavlm-{fold}/saliency.npz"}
        edit_metrics(run, fold, lambda metrics, change=change: metrics["config"]["downstream_expert"].update(change))
    edit_metrics(runs[0], "fold1", lambda metrics: metrics.update(stored_features="float32"))
    submit(*runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.append(rows[3]), r"Ses03\w+ is predicted twice"),
        (lambda rows: rows.pop(), r"1 of 12 in SUPERB's test list of fold3 are missing: Ses03\w+"),
        (lambda rows: rows.append(["x/new.wav", *rows[1][1:]]), r"1 of 13 utterances are not in SUPERB's .*: new$"),
        (
            lambda rows: rows[1].__setitem__(4, "exc"),
            r"Ses03\w+ is predicted as 'exc'; SUPERB's classes: neu, hap, ang",
        ),
        (lambda rows: rows[1].__setitem__(4, ""), r"Ses03\w+ is predicted as ''"),
        (lambda rows: rows[1].__setitem__(0, ""), r"line 2: FileName is empty"),
        (lambda rows: rows[5].pop(), r"line 6: 8 fields, the header names 9; evaluate again"),
        (lambda rows: rows[5].append("1"), r"line 6: 10 fields, the header names 9"),
        (lambda rows: rows[2].__setitem__(5, "nan"), r"line 3: Ses03\w+: probabilities must lie in 0\.\.1"),
        (lambda rows: rows[2].__setitem__(5, "-0.5"), r"line 3: Ses03\w+: probabilities must lie in 0\.\.1"),
        (lambda rows: rows[2].__setitem__(5, "x"), r"line 3: Ses03\w+: a probability is not a number"),
        (
            lambda rows: rows[2].__setitem__(slice(5, 9), ["0.2"] * 4),
            r"line 3: Ses03\w+: the probabilities sum to 0\.8",
        ),
        (lambda rows: rows[0].__setitem__(4, "predicted"), r"no column prediction; nearest: predicted"),
        (lambda rows: rows.__delitem__(slice(1, None)), r"holds no predictions"),
    ],
)
def test_corrupted_predictions(
    runs: list[Path], submit: Submit, change: Callable[[list[list[str]]], Any], said: str, monkeypatch
):
    monkeypatch.setattr("s3prl_emotion.submit.predictions._check_metrics", lambda *others: None)
    edit_rows(runs[2], "fold3", change)
    submit(*runs, refused=rf"test_fold3_predictions\.csv:? ?{said}")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-9], r"ends in the middle of line 13; evaluate again|line 13: . fields"),
        (lambda data: data.replace(b"Ses", b"\xff\xfe", 1), r"not readable as CSV \('utf-8' codec"),
        (lambda data: b"", "holds no predictions"),
        (lambda data: data.replace(b",", b',"', 12), "not readable as CSV|fields, the header"),
    ],
)
def test_damaged_file(runs: list[Path], submit: Submit, damage: Callable[[bytes], bytes], said: str):
    path = runs[4] / "test_fold5_predictions.csv"
    path.write_bytes(damage(path.read_bytes()))
    submit(*runs, refused=rf"test_fold5_predictions\.csv:? ?({said})")


def test_predictions_of_another_evaluation_than_the_metrics(runs: list[Path], submit: Submit):
    def flip(rows: list[list[str]]) -> None:
        row = next(row for row in rows[1:] if row[3] == row[4])
        row[4] = "neu" if row[4] != "neu" else "sad"

    edit_rows(runs[0], "fold1", flip)
    submit(*runs, refused=r"\d+ of 12 are right, but the metrics file beside it has WA 0\.\d+; evaluate again")


def test_labels_that_are_not_the_lists(five: Path, runs: list[Path], tmp_path: Path, submit: Submit):
    own = write_lists(tmp_path / "lists")
    path = own / "Session2" / "test_meta_data.json"
    content = json.loads(path.read_text())
    name, label = Path(content["meta_data"][0]["path"]).stem, content["meta_data"][0]["label"]
    content["meta_data"][0]["label"] = "sad" if label != "sad" else "neu"
    path.write_text(json.dumps(content))
    submit(*runs, "--meta_data", own, refused=rf"{name} has class '{label}', SUPERB's list says '(sad|neu)'")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda content: content["labels"].update(exc=4),
            r"has classes neu, hap, ang, sad, exc, but SUPERB's are neu, hap",
        ),
        (lambda content: content["meta_data"].append(content["meta_data"][0]), r"Ses02\w+ is listed twice"),
        (lambda content: content.pop("meta_data"), r"not one of SUPERB's split lists"),
    ],
)
def test_lists_that_are_not_superbs(
    runs: list[Path], tmp_path: Path, submit: Submit, change: Callable[[dict[str, Any]], Any], said: str
):
    own = write_lists(tmp_path / "lists")
    path = own / "Session2" / "test_meta_data.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    submit(*runs, "--meta_data", own, refused=rf"Session2/test_meta_data\.json: {said}")


def test_other_refusals(runs: list[Path], lists: Path, submit: Submit):
    submit(refused="name a benchmark's directory, or experiment directories, or --fold")
    submit(*runs, "--fold", "fold1=x", refused="name a benchmark's directory, or experiment directories, or --fold")
    submit("--fold", "fold1", refused="--fold fold1: not of the form FOLD=DIR")
    submit("--fold=fold1=a", "--fold=fold1=b", refused="fold1 is given twice")
    submit(*runs, "--system", "mean", refused="--system: chooses from a benchmark's directory")
    submit(*runs, "--meta_data", "nowhere", refused="--meta_data nowhere: no such folder")
    submit("nowhere", refused="nowhere: no such folder")
    submit(*runs, "--format", "zip", refused="invalid choice: 'zip'")
    Path("runs/fold2/test_fold2_predictions.csv").unlink()
    submit(*runs, refused=r"test_fold2_predictions\.csv: not readable as CSV")
    for path in Path("runs/fold2").glob("test_*"):
        path.unlink()
    submit(*runs, refused=r"runs/fold2: no test_fold2_metrics\.json; run_downstream\.py -m evaluate writes it")


def test_fold_that_superb_does_not_have(runs: list[Path], submit: Submit):
    edit_metrics(runs[0], "fold1", lambda metrics: metrics.update(fold="fold6"))
    (runs[0] / "dev_fold1_metrics.json").unlink()
    submit(*runs, refused=r"SUPERB has no fold 'fold6'; nearest: ")


def test_place_that_cannot_be_written(runs: list[Path], submit: Submit):
    Path("file").write_text("")
    submit(*runs, "--out", "file/predict.zip", refused=r"--out file: is a file; name a folder")
    Path("folder.zip").mkdir()
    Path("folder.zip/predict.zip").mkdir()
    submit(*runs, "--out", "folder.zip", refused=r"folder\.zip/predict\.zip: is a folder; name a file")


# --- from a benchmark -------------------------------------------------------------------------------------------------


def write_benchmark(folder: Path, lists: Path, left_out: str | None = None) -> Path:
    """A benchmark's directory with two systems and two seeds."""
    file, wanted = ResultsFile(folder), []
    for system, pooling in (("mean", "mean"), ("attentive", "corr_attn")):
        for seed in (1, 2):
            for fold in FOLDS:
                name = f"wavlm | {system} | {fold} | seed {seed}"
                place = Path("runs") / "wavlm" / system / f"{fold}-seed{seed}"
                wanted.append({"run": name, "definition": "d", "folder": str(place)})
                if name == left_out:
                    continue
                recipe = superb_recipe(**{"downstream_expert.modelrc.pooling": pooling})
                expdir = write_experiment(folder / place / "exp", lists, fold, recipe, seed=seed)
                metrics = json.loads((expdir / f"test_{fold}_metrics.json").read_text())
                predictions = str(place / "exp" / f"test_{fold}_predictions.csv")
                splits = {"test": {"predictions": predictions, "metrics": {"fold": fold, "WA": metrics["WA"]}}}
                line = {"run": name, "definition": "d", "upstream": "wavlm", "system": system, "fold": fold}
                file.append({**line, "seed": seed, "head": HEAD, "splits": splits})
    (folder / "matrix.json").write_text(json.dumps({"runs": wanted, "upstreams": ["wavlm"], "tests": ["test"]}))
    return folder


def test_system_and_seed_of_a_benchmark(lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: Submit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench").mkdir()
    write_benchmark(Path("bench"), lists, left_out="wavlm | mean | fold4 | seed 2")
    submit("bench", refused="bench: holds several; choose one with --system: mean, attentive")
    submit("bench", "--system", "mean", refused="choose one with --seed: 1, 2")
    submit("bench", "--system", "mea", "--seed", 1, refused="no finished run with --system mea; nearest: mean")
    submit("bench", "--system", "mean", "--seed", 3, refused="no finished run with --seed 3; known: 1, 2")
    submit("bench", "--system", "mean", "--seed", 2,
           refused=r"no predictions of fold4; .*; wavlm \| mean \| fold4 \| seed 2: not run yet")  # fmt: skip
    submit("--fold", "fold1=bench", refused="is a benchmark's directory; name an experiment directory")
    assert "SUPERB track: constrained" in submit("bench", "--system", "mean", "--seed", 1, "--upstream", "wavlm")
    said = submit("bench", "--system", "attentive", "--seed", 2)
    assert "SUPERB track: less constrained (pooling corr_attn; SUPERB's downstream is mean pooling)" in said


# --- the track --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "recipe", "upstream", "name", "reason"),
    [
        (HEAD, {}, {}, "constrained", "of which only the learning rate is free"),
        (HEAD, {"optimizer.lr": 0.01, "runner.log_step": 1, "runner.seeding": "seed"}, {}, "constrained", ""),
        (HEAD, {"downstream_expert.datarc.train_batch_size": 32, "runner.gradient_accumulate_steps": 1}, {},
         "constrained", ""),
        (HEAD, {"runner.total_steps": 100}, {}, "less constrained", r"total_steps 100 \(SUPERB: 30000\)"),
        (HEAD, {"optimizer.torch_optim_name": "SGD"}, {}, "less constrained", r"torch_optim_name SGD \(SUPERB: Adam\)"),
        (HEAD, {"scheduler": {"name": "linear"}}, {}, "less constrained", r"scheduler .* \(SUPERB: none\)"),
        (HEAD, {"downstream_expert.datarc.class_weights": "balanced"}, {}, "less constrained", "class_weights bal"),
        (HEAD, {"downstream_expert.modelrc": {"pooling": "mean"}}, {}, "less constrained", "label_smoothing 0.25"),
        (HEAD, {"downstream_expert.modelrc.standardize": True}, {}, "less constrained", r"standardize True \(SUPERB"),
        (HEAD, {"downstream_expert.modelrc": {}}, {}, "less constrained", "pooling corr_attn; SUPERB's downstream is"),
        (HEAD, {"optimizer": {"name": "TorchOptim", "lr": 1}}, {}, "less constrained", "no optimizer.torch_optim_name"),
        (HEAD, {}, {"upstream_layer_selection": 9}, "less constrained", r"upstream_layer_selection 9 \(SUPERB: none\)"),
        (HEAD, {}, {"upstream_trainable": True}, "unconstrained", "the upstream was trained too"),
        (
            HEAD,
            {"upstream": {"trainable": "lora"}},
            {"upstream_trainable": True},
            "unconstrained",
            r"the upstream was trained too \(LoRA adapters\)",
        ),
        ("emotion_acnn", {}, {}, "less constrained", "emotion_acnn is not SUPERB's downstream"),
        ("emotion_tcgru", {}, {}, "", ""),
        (None, {}, {}, "", ""),
        ("emotion", {}, {}, "unknown", "no record of its recipe"),
        (HEAD, {"runner": {"total": 1}}, {}, "unknown", r"its recipe cannot be read: runner\.total: unknown key"),
        (HEAD, {"downstream_expert": {}}, {}, "unknown", "datarc is missing"),
    ],
)  # fmt: skip
def test_track(head: str | None, recipe: dict[str, Any], upstream: dict[str, Any], name: str, reason: str):
    track = superb_track(head, superb_recipe(**recipe), upstream)
    assert track.name == name
    assert re.search(reason, track.reason)


def test_track_without_a_recipe_is_unknown():
    assert superb_track(HEAD, {}).name == "unknown"


def test_superbs_recipe_fixes_every_key_of_the_head():
    host.register()
    keys = host.expert_class(HEAD).model_section.model_fields.keys()
    fixed = superb_recipe()["downstream_expert"]["modelrc"].keys()
    assert keys - fixed == {"num_heads"}  # has no effect on mean pooling


def test_another_validation_set_is_less_constrained(runs: list[Path], submit: Submit):
    path = runs[1] / "dev_fold2_predict.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "less constrained (mean pooling, but dev of fold2 is not what SUPERB draws for validation)" in submit(*runs)
    path.unlink()
    assert "less constrained (mean pooling, but without runs/fold2/dev_fold2_predict.txt nothing shows" in submit(*runs)


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_runs_with_superbs_seeding_need_the_evaluation_that_is_named(
    cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    corpus = write_superb_corpus(tmp_path / "corpus", sessions=5, per_class=3)
    values = {"downstream_expert.datarc.root": str(corpus.root), "downstream_expert.datarc.labels": str(corpus.labels)}
    values |= {
        "runner.total_steps": 4,
        "runner.eval_step": 2,
        "runner.save_step": 4,
        "runner.log_step": 2,
        "optimizer.lr": 0.01,
    }
    options = ",,".join(f"config.{key}={value!r}" for key, value in values.items())
    for fold in FOLDS:
        cli("-m", "train", "-u", "fbank_no_cmvn", "-d", HEAD, "-p", f"er_{fold}", "-v", fold, "--device", "cpu",
            "-c", recipes_folder() / "superb" / "emotion_corr_attn.yaml", "-o", options)  # fmt: skip
    folders = [f"er_{fold}" for fold in FOLDS]
    for fold in FOLDS:
        assert main(["submit", *folders]) == 1
        line = capfd.readouterr().err.splitlines()[-1]
        assert f"er_{fold}/test_{fold}_predictions.csv: made by the current weights" in line
        cli(*shlex.split(line[line.index("run_downstream.py") :])[1:], "--device", "cpu")
    assert main(["submit", *folders]) == 0
    said = capfd.readouterr().out
    assert "mean of the folds: 60 utterances" in said
    assert "SUPERB track: less constrained (mean pooling, but total_steps 4 (SUPERB: 30000), eval_step 2" in said
    with zipfile.ZipFile("predict.zip") as archive:
        for fold in FOLDS:
            text = archive.read(f"predict/er_{fold}_public/predict.txt").decode()
            assert text == Path(f"er_{fold}/test_{fold}_predict.txt").read_text()


# --- EMO-SUPERB -------------------------------------------------------------------------------------------------------

EMOTIONS = ("frustrated", "angry", "sad", "neutral", "happy")


def write_tables(folder: Path, folds: int = 3) -> Path:
    """Label tables as EMO-SUPERB publishes them: one for each fold, official partitions."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(9)
    names = [f"MSP_{number:03d}.wav" for number in range(8 * folds)]
    shares = dict(zip(names, draw.dirichlet([0.4] * len(EMOTIONS), len(names)).round(6), strict=True))
    for fold in range(1, folds + 1):
        rows = []
        for place, name in enumerate(names):
            part = (
                "Test" if place % folds == fold - 1 else ("Development" if place % folds == fold % folds else "Train")
            )
            rows.append([name, *shares[name], 3.5, place % folds, "Female", part])
        rows = [rows[place] for place in draw.permutation(len(rows))]
        with (folder / f"labels_consensus_{fold}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["FileName", *EMOTIONS, "EmoAct", "SpkrID", "Gender", "Split_Set"])
            writer.writerows(rows)
    return folder


def read_table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


def write_graded_run(folder: Path, table: Path, classes: tuple[str, ...] = EMOTIONS, seed: int = 0) -> Path:
    """Write an experiment on one of EMO-SUPERB's tables, whose only partition the suite calls fold1."""
    folder.mkdir(parents=True)
    rows = [row for row in read_table(table) if row["Split_Set"] == "Test"]
    labels = [int(np.argmax([float(row[name]) for name in classes])) for row in rows]
    utterances = [
        Utterance(row["FileName"], Path(row["FileName"]), label) for row, label in zip(rows, labels, strict=True)
    ]
    recipe = superb_recipe(**{"downstream_expert.datarc.labels": str(table)})
    made_by = {"split": "test", "fold": "fold1", "step": 40, "checkpoint": "dev-best.ckpt", "classes": list(classes)}
    made_by |= provenance("emotion_multitask", recipe["downstream_expert"], {**recipe, "seed": 1, **UPSTREAM})
    write_categorical(folder, utterances, probabilities(len(rows), seed, len(classes)), made_by)
    return folder


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three experiments on three tables."""
    monkeypatch.chdir(tmp_path)
    tables = write_tables(tmp_path / "data")
    return [
        write_graded_run(Path("runs") / str(fold), tables / f"labels_consensus_{fold}.csv", seed=fold)
        for fold in (1, 2, 3)
    ]


def test_csv_of_each_fold_has_the_tables_names_order_and_classes(graded: list[Path], submit: Submit):
    from sklearn.metrics import f1_score

    said = submit(*graded, "--format", "emo-superb", "--out", "csv").splitlines()
    scores = []
    for fold, run in enumerate(graded, start=1):
        table = [row for row in read_table(Path(f"data/labels_consensus_{fold}.csv")) if row["Split_Set"] == "Test"]
        rows = read_table(Path(f"csv/test_fold{fold}.csv"))
        assert list(rows[0]) == ["FileName", *EMOTIONS]
        assert [row["FileName"] for row in rows] == [row["FileName"] for row in table]
        ours = {row["FileName"]: row for row in read_table(run / "test_fold1_predictions.csv")}
        for row in rows:
            assert [row[name] for name in EMOTIONS] == [ours[row["FileName"]][f"p_{name}"] for name in EMOTIONS]
        binary = [np.array([[float(row[name]) > 1 / 5 for name in EMOTIONS] for row in part]) for part in (table, rows)]
        scores.append(f1_score(*binary, average="macro", zero_division=0))
        assert said[fold - 1].startswith(
            f"fold{fold}: 8 utterances, macro-F1 of classes above 1/K {scores[-1]:.4f}: csv"
        )
    assert said[3] == f"mean of the folds: {np.mean(scores):.4f}"
    assert "documents no format of predictions" in said[4]


def test_named_folds_and_tables_elsewhere(graded: list[Path], submit: Submit):
    submit(*graded, "--format", "emo-superb", "--out", "a")
    shutil.move("data", "moved")
    submit(
        *graded, "--format", "emo-superb", refused=r"label table .*data/labels_consensus_1\.csv does not exist; give"
    )
    pairs = [f"--fold=fold{fold}={run}" for fold, run in enumerate(graded, start=1)]
    submit(*pairs, "--format", "emo-superb", "--meta_data", "moved", "--out", "b")
    for path in written(Path("a")):
        assert path.read_bytes() == (Path("b") / path.name).read_bytes()


def test_emo_superb_refusals(graded: list[Path], submit: Submit, tmp_path: Path):
    form = ("--format", "emo-superb")
    submit(*graded[:2], *form, refused="no predictions of fold3, but there are tables of fold1, fold2, fold3")
    swapped = [f"--fold=fold{fold}={run}" for fold, run in zip((2, 1, 3), graded, strict=True)]
    submit(*swapped, *form, refused=r"--fold fold2=runs/1: was trained on labels_consensus_1\.csv")
    extra = write_graded_run(Path("runs/extra"), tmp_path / "data" / "labels_consensus_3.csv")
    submit(*graded, extra, *form, refused="fold3 occurs twice: .*; name them with --fold")
    shutil.copy("data/labels_consensus_3.csv", "data/other.csv")
    other = write_graded_run(Path("runs/other"), Path("data/other.csv"))
    named = [f"--fold=fold{fold}={run}" for fold, run in enumerate([*graded, other], start=1)]
    submit(*named, *form, "--meta_data", "data", refused="runs/other: .*labels is 'data/other.csv' in fold4")
    submit(*graded[:2], other, *form, refused="fold1 occurs twice")
    submit("--fold", f"fold4={other}", *form, "--meta_data", "data", refused="no predictions of fold1, fold2, fold3")
    assert "fold7: 8 utterances" in submit("--fold", f"fold7={other}", *form, "--out", "csv")
    shutil.copytree("data", "short")
    Path("short/labels_consensus_1.csv").write_text(
        Path("data/labels_consensus_1.csv").read_text().replace(",Test", ",Train", 1)
    )
    submit(*graded, *form, "--meta_data", "short",
           refused=r"1 of 8 utterances are not in the test rows of short/labels_consensus_1\.csv: MSP_")  # fmt: skip
    few = write_graded_run(Path("runs/few"), tmp_path / "data" / "labels_consensus_3.csv", EMOTIONS[:4])
    submit(*graded[:2], few, *form, refused=r"classes is \[.*\] in fold3")
    Path("empty").mkdir()
    submit(*graded, *form, "--meta_data", "empty", refused="empty: holds no labels_consensus_N.csv")
    edit_metrics(graded[1], "fold1", lambda metrics: metrics.update(checkpoint="states-40.ckpt"))
    submit(*graded, *form, refused=r"made by states-40\.ckpt \(step 40\), and runs/2 has no dev-best\.ckpt")
    edit_metrics(graded[1], "fold1", lambda metrics: metrics.update(checkpoint="dev-best.ckpt"))
    edit_metrics(graded[1], "fold1", lambda metrics: metrics["config"]["optimizer"].update(lr=1))
    submit(*graded, *form, refused=r"config\.optimizer\.lr is 1 in fold2")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("Split_Set", "Split"), "no column Split_Set; is it one of EMO-SUPERB's label t"),
        (lambda text: text.replace("FileName", "File"), "no column FileName"),
        (lambda text: text.replace("happy", "disgust", 1), "has shares of .*disgust, but the head predicts .*happy"),
        (lambda text: text.replace(",Test", ",Train"), "no test rows in fold1"),
        (lambda text: text + text.splitlines()[-1] + "\n" if text.splitlines()[-1].endswith("Test") else
         text + next(line for line in text.splitlines() if line.endswith("Test")) + "\n", r"MSP_\d+ is listed twice"),
    ],
)  # fmt: skip
def test_tables_that_are_not_emo_superbs(graded: list[Path], submit: Submit, change: Callable[[str], str], said: str):
    path = Path("data/labels_consensus_1.csv")
    path.write_text(change(path.read_text()))
    submit(*graded, "--format", "emo-superb", refused=rf"labels_consensus_1\.csv: {said}")


@pytest.mark.skipif(not GRADES.is_file(), reason="EMO-SUPERB's table of IEMOCAP is not here")
def test_real_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: Submit):
    monkeypatch.chdir(tmp_path)
    classes = ("angry", "disgust", "excited", "fear", "frustrated", "happy", "neutral", "sad", "surprise")
    run = write_graded_run(tmp_path / "exp", GRADES, classes)
    said = submit(run, "--format", "emo-superb")
    tested = [row["FileName"] for row in read_table(GRADES) if row["Split_Set"] == "Test"]
    rows = read_table(Path("emo_superb/test_fold1.csv"))
    assert [row["FileName"] for row in rows] == tested
    header = ["frustrated", "angry", "sad", "disgust", "excited", "fear", "neutral", "surprise", "happy"]
    assert list(rows[0]) == ["FileName", *header]  # the order of EMO-SUPERB's config.json
    assert said.startswith(f"fold1: {len(tested)} utterances")
