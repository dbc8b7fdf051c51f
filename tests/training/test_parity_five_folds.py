"""SUPERB's protocol as a whole: five folds of its own IEMOCAP lists, the stock task against mean pooling of the suite.

The lists are SUPERB's, the audio is not IEMOCAP, which may not be shipped: a short tone in noise for each of the 5,531
utterances. Predictions, truth and ``log.log`` (accuracies of train, dev and test) must be the same text; losses and
weights agree up to rounding, for the two heads sum in another order.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import PITCH, RATE, SHARED_DATA, SOURCE, TinyCorpus, tone
from test_parity import curves

from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import recipes_folder

REAL = SHARED_DATA / "iemocap_superb"
FOLDS = tuple(f"fold{number}" for number in range(1, 6))
TESTED = {"fold1": 1085, "fold2": 1023, "fold3": 1151, "fold4": 1031, "fold5": 1241}
UTTERANCES = 5531
STEPS = 10
SECONDS = (0.10, 0.18)  # of an utterance: short, and of different lengths, so that batches are padded
CLASSES = ("neu", "hap", "ang", "sad")

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not REAL.is_dir(), reason="SUPERB's lists of IEMOCAP are not here"),
]

# The host's own main and runner, once for each fold; only what would not import on this stack is patched.
STOCK = """
import sys
import s3prl_emotion
s3prl_emotion.register()
from s3prl import run_downstream
import torch
torch.set_num_threads(1)
for words in sys.argv[1:]:
    sys.argv = ["run_downstream.py", *words.split("\\n")]
    run_downstream.main()
"""
SUITE = """
import sys
import torch
from s3prl_emotion import run_downstream
torch.set_num_threads(1)
for words in sys.argv[1:]:
    sys.argv = ["run_downstream.py"]
    if run_downstream.main(words.split("\\n")):
        sys.exit(1)
"""


def stand_in(folder: Path) -> TinyCorpus:
    """SUPERB's lists, and stand-in audio for every utterance that they name."""
    root, lists = folder / "IEMOCAP", folder / "meta_data"
    entries: dict[str, str] = {}
    for packed in sorted(REAL.glob("Session*/*.json.gz")):
        path = lists / packed.parent.name / packed.stem
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        entries |= {entry["path"]: entry["label"] for entry in json.loads(path.read_text())["meta_data"]}
    assert len(entries) == UTTERANCES
    for number, (name, label) in enumerate(sorted(entries.items())):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        length = SECONDS[0] + (SECONDS[1] - SECONDS[0]) * (number % 9) / 8
        soundfile.write(root / name, tone(PITCH[label] * (1 + 0.02 * (number % 5)), length, number), RATE, "PCM_16")
    return TinyCorpus(root, lists)


def words(head: str, fold: str, folder: Path, corpus: TinyCorpus, **more: object) -> list[str]:
    """The command line of one fold."""
    recipe, key = {
        "emotion": ("stock/emotion.yaml", "meta_data"),
        "emotion_corr_attn": ("superb/emotion_corr_attn.yaml", "labels"),
    }[head]
    values = {
        "downstream_expert.datarc.root": str(corpus.root),
        f"downstream_expert.datarc.{key}": str(corpus.labels),
        "downstream_expert.datarc.test_fold": fold,
        "runner.total_steps": STEPS,
        "runner.gradient_accumulate_steps": 2,
        "runner.log_step": 5,
        "runner.eval_step": STEPS,
        "runner.save_step": STEPS,
        "optimizer.lr": 0.003,
        **more,
    }
    options = ",,".join(f"config.{name}={value!r}" for name, value in values.items())
    return ["-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", str(folder / fold), "--device", "cpu",
            "-c", str(recipes_folder() / recipe), "-o", options]  # fmt: skip


def run_folds(script: str, commands: list[list[str]], folder: Path) -> None:
    """Commands in one process, for its start takes longer than a fold."""
    folder.mkdir()
    lines = ["\n".join(command) for command in commands]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *lines], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def lines_of(path: Path) -> list[tuple[str, str]]:
    return [(name, label) for name, label in (line.split() for line in path.read_text().splitlines())]


def listed(corpus: TinyCorpus, fold: str, split: str) -> list[tuple[str, str]]:
    path = corpus.labels / fold.replace("fold", "Session") / f"{split}_meta_data.json"
    return [(Path(entry["path"]).stem, entry["label"]) for entry in json.loads(path.read_text())["meta_data"]]


def check_predictions(fold: str, ours: Path, stock: Path) -> None:
    for name in (
        "log.log",
        *(f"{part}_{fold}_{kind}.txt" for part in ("dev", "test") for kind in ("predict", "truth")),
    ):
        assert (ours / fold / name).read_text() == (stock / fold / name).read_text(), f"{fold}: {name}"
    predicted = lines_of(ours / fold / f"test_{fold}_predict.txt")
    assert len(predicted) == TESTED[fold], fold
    assert len({label for _, label in predicted}) > 1, fold  # a head that says one class alone would compare nothing


def check_curves(fold: str, ours: Path, stock: Path) -> None:
    found, expected = curves(ours / fold), curves(stock / fold)
    assert set(found) == set(expected), fold
    assert len(expected) == 6, fold  # accuracy and loss of train, dev and test
    for tag, points in expected.items():
        assert found[tag] == [(step, pytest.approx(value, rel=1e-5, abs=1e-6)) for step, value in points], (fold, tag)


def check_weights(fold: str, ours: Path, stock: Path) -> None:
    found, expected = (load_checkpoint(path / fold / f"states-{STEPS}.ckpt") for path in (ours, stock))
    names = {"projector": "model.projector", "model.post_net.linear": "model.classifier"}
    for stock_name, our_name in names.items():
        for kind in ("weight", "bias"):
            value = found["Downstream"][f"{our_name}.{kind}"]
            torch.testing.assert_close(value, expected["Downstream"][f"{stock_name}.{kind}"], rtol=1e-4, atol=1e-6)
    for name, value in expected["Featurizer"].items():
        torch.testing.assert_close(found["Featurizer"][name], value, rtol=1e-4, atol=1e-6)


def check_sets(fold: str, ours: Path, iemocap: TinyCorpus) -> None:
    """Ids, labels and order of dev and test are what SUPERB's lists and its seed 0 say, read and drawn anew here."""
    tested, others = listed(iemocap, fold, "test"), listed(iemocap, fold, "train")
    assert len(tested) + len(others) == UTTERANCES, fold
    assert lines_of(ours / fold / f"test_{fold}_truth.txt") == tested, fold
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()[int(0.8 * len(others)) :]
    assert lines_of(ours / fold / f"dev_{fold}_truth.txt") == [others[place] for place in drawn], fold
    metrics = json.loads((ours / fold / f"test_{fold}_metrics.json").read_text())
    assert metrics["classes"] == list(CLASSES), fold
    with (ours / fold / f"test_{fold}_predictions.csv").open() as file:
        speakers = {row["SpkrID"] for row in csv.DictReader(file)}
    assert speakers == {f"Ses0{fold[-1]}F", f"Ses0{fold[-1]}M"}, fold


def test_five_folds_are_those_of_the_stock_task(tmp_path: Path) -> None:
    """One test, so that all of it is run once, however many processes share the tests."""
    iemocap = stand_in(tmp_path / "iemocap")
    stock, ours = tmp_path / "stock", tmp_path / "ours"
    run_folds(STOCK, [words("emotion", fold, stock, iemocap) for fold in FOLDS], stock)
    # the comparison must be able to tell: the same head with the suite's own order of draws gives other numbers
    other = words("emotion_corr_attn", "fold1", ours / "other", iemocap, **{"runner.seeding": "seed"})
    run_folds(SUITE, [*(words("emotion_corr_attn", fold, ours, iemocap) for fold in FOLDS), other], ours)
    for fold in FOLDS:
        check_predictions(fold, ours, stock)
        check_curves(fold, ours, stock)
        check_weights(fold, ours, stock)
        check_sets(fold, ours, iemocap)
    tested = [name for fold in FOLDS for name, _ in lines_of(ours / fold / f"test_{fold}_predict.txt")]
    assert len(tested) == len(set(tested)) == UTTERANCES
    assert (ours / "other" / "fold1" / "log.log").read_text() != (stock / "fold1" / "log.log").read_text()
