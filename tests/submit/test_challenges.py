"""``submit --format odyssey2024 | is2025``: the files of the MSP-Podcast challenges, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s3prl_emotion.cli import main

CLASSES = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
LETTER = dict(zip(CLASSES, "ACDFHNSU", strict=True))
NAMES = [f"MSP-PODCAST_test3_{number:04d}.wav" for number in range(24)]
Submit = Callable[..., str]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Submit:
    """``submit(*words)`` returns what the command prints; with ``code=1``, its error."""
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("\n".join(NAMES))

    def call(*words: object, form: str = "odyssey2024", listed: str = "list.txt", code: int = 0) -> str:
        assert main(["submit", "--format", form, "--test_list", listed, *map(str, words)]) == code
        return capsys.readouterr()[code]

    return call


def write(path: str, names: list[str] = NAMES, classes: tuple[str, ...] = CLASSES, **columns: list[float]) -> Path:
    """Write predictions as ``s3prl-emotion predict`` does, in another order than the list."""
    shares = np.random.default_rng(1).dirichlet([1.0] * len(classes), len(names)) if classes else None
    rows = []
    for number, name in reversed(list(enumerate(names))):
        row = {"FileName": f"Audios/{name}", "start": "0", "end": "3.5"}
        if shares is not None:
            row |= {"prediction": classes[int(shares[number].argmax())]}
            row |= {f"p_{item}": f"{value:.7g}" for item, value in zip(classes, shares[number], strict=True)}
        row |= {f"{column}_pred": str(values[number]) for column, values in columns.items()}
        rows.append(row | {"error": ""})
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def read(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).open()))


def grades(seed: int = 2, low: float = 0.5, high: float = 7.5) -> dict[str, list[float]]:
    drawn = np.random.default_rng(seed).uniform(low, high, (3, len(NAMES)))
    return {name: row.tolist() for name, row in zip(("EmoAct", "EmoVal", "EmoDom"), drawn, strict=True)}


@pytest.mark.parametrize("form", ["odyssey2024", "is2025"])
def test_both_files_are_in_the_challenges_columns_and_the_lists_order(submit: Submit, form: str) -> None:
    values = grades()
    said = submit(write("predictions.csv", **values), form=form)
    assert "categorical: 24 utterances" in said
    found = read(f"{form}/categorical.csv")
    assert [row["FileName"] for row in found] == NAMES
    likeliest = {Path(row["FileName"]).name: LETTER[row["prediction"]] for row in read("predictions.csv")}
    assert [row["EmoClass"] for row in found] == [likeliest[name] for name in NAMES]
    assert Path(f"{form}/attributes.csv").read_text().splitlines()[0] == "FileName,EmoAct,EmoVal,EmoDom"
    got = np.array([[float(row[name]) for name in values] for row in read(f"{form}/attributes.csv")])
    np.testing.assert_allclose(got, np.clip(np.array(list(values.values())).T, 1, 7), rtol=1e-6)
    beyond = sum(not 1 <= value <= 7 for row in values.values() for value in row)
    assert f"note: attributes: {beyond} of 72 values lay outside of 1 to 7" in said


def test_scores_where_the_list_has_labels(submit: Submit) -> None:
    """Against the definitions, written out: F1 of each class, and CCC with moments divided by n."""
    values, truth = grades(low=1, high=7), grades(seed=3, low=1, high=7)
    letters = [LETTER[CLASSES[number % 8]] for number in range(24)]
    with Path("labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "Split_Set"])
        writer.writerow(["MSP-PODCAST_0001_0001.wav", "X", 1, 1, 1, "Train"])
        for number, name in enumerate(NAMES):
            writer.writerow([name, letters[number], *(row[number] for row in truth.values()), "Test3"])
    said = submit(write("predictions.csv", **values), listed="labels.csv")
    guessed = [row["EmoClass"] for row in read("odyssey2024/categorical.csv")]
    f1 = []
    for letter in sorted(set(letters)):
        hits = sum(a == b == letter for a, b in zip(letters, guessed, strict=True))
        f1.append(2 * hits / (letters.count(letter) + guessed.count(letter)))
    assert f"macro_f1 {sum(f1) / 8:.4f}" in said
    for name in values:
        x, y = np.array(truth[name]), np.array(values[name])
        ccc = 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert f"CCC.{name} {ccc:.4f}" in said


def test_two_heads_and_a_folder_of_audio(submit: Submit) -> None:
    folder = Path("Audios/part")
    folder.mkdir(parents=True)
    for name in [*NAMES, "MSP-PODCAST_0001_0001.wav", "MSP-PODCAST_test1_0001.wav"]:
        (folder / name).touch()
    one = write("classes.csv", classes=("other", *CLASSES))
    two = write("grades.csv", classes=(), **grades())
    said = submit(one, two, "--out", "sent", listed="Audios")
    assert [row["FileName"] for row in read("sent/attributes.csv")] == NAMES
    other = sum(row["prediction"] == "other" for row in read("classes.csv"))
    assert f"{other} utterances were predicted to be of other classes" in said
    assert submit(one, one, listed="Audios", code=1).count("holds categorical predictions too") == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[1:], "1 of 24 in list.txt are missing: MSP-PODCAST_test3_0000.wav"),
        ([*NAMES, "b.wav"], "1 of 25 utterances are not in list.txt: b.wav"),
        ([*NAMES, NAMES[3]], "MSP-PODCAST_test3_0003.wav is predicted twice"),
    ],
)
def test_utterances_that_are_not_those_of_the_list(submit: Submit, names: list[str], message: str) -> None:
    assert message in submit(write("predictions.csv", names), code=1)
    assert not Path("odyssey2024").exists()


def test_what_is_refused(submit: Submit) -> None:
    four = write("four.csv", classes=("angry", "happy", "neutral", "sad"))
    assert "no probability of surprise, fear, disgust, contempt; the challenge has the classes" in submit(four, code=1)
    half = write("half.csv", classes=(), EmoAct=[3.0] * 24, EmoVal=[3.0] * 24)
    assert "half.csv: no column EmoDom_pred" in submit(half, code=1)
    nan = write("nan.csv", classes=(), **(grades() | {"EmoVal": [float("nan")] * 24}))
    assert "EmoVal_pred is 'nan', not a finite number" in submit(nan, code=1)
    fine = write("fine.csv")
    Path("failed.csv").write_text(fine.read_text().replace(",\n", ",unreadable audio\n", 1))
    assert "was not predicted (unreadable audio)" in submit("failed.csv", code=1)
    assert "give a CSV of s3prl-emotion predict" in submit(write("none.csv", classes=()), code=1)
    assert "--test_list gone: cannot be read (No such file or directory)" in submit(fine, listed="gone", code=1)
    Path("twice.txt").write_text("\n".join([*NAMES, NAMES[0]]))
    assert "twice.txt: MSP-PODCAST_test3_0000.wav is listed twice" in submit(fine, listed="twice.txt", code=1)
    Path("other.csv").write_text("FileName,Split_Set\na.wav,Train\nb.wav,Test1\n")
    assert "no row has Split_Set Test3, only Test1, Train" in submit(fine, listed="other.csv", code=1)
    Path("empty").mkdir()
    assert "no .wav file in it has test3 in its name" in submit(fine, listed="empty", code=1)
    Path("run").mkdir()
    write("run/test_fold1_predictions.csv")
    assert "name files of predictions, such as run/test_fold1_predictions.csv" in submit("run", code=1)
    assert "--seed: does not go with --format odyssey2024" in submit(fine, "--seed", 1, code=1)


def test_flags_that_belong_together(submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    write("fine.csv")
    assert "name CSV files of predictions" in submit(code=1)
    assert main(["submit", "fine.csv", "--format", "is2025"]) == 1
    assert "--test_list is required for --format is2025" in capsys.readouterr().err
    assert "--test_list: is for --format odyssey2024 or is2025" in submit("fine.csv", form="superb", code=1)
