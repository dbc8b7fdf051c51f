"""Test utterance embeddings: written by an evaluation, read, and plotted by ``s3prl-emotion tsne``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import Cli, TinyCorpus
from matplotlib.image import imread
from sklearn.metrics import silhouette_score

from s3prl_emotion.cli import main
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.figures.embedding_plots import _draw_points, read_labels
from s3prl_emotion.figures.embeddings import load, save, stored_rows
from s3prl_emotion.figures.tsne import tsne
from s3prl_emotion.files.checkpoint import load_checkpoint

TRAIN = ("-m", "train", "-u", "fbank_no_cmvn", "-p", "exp")
KEEP = {"downstream_expert.embeddings": True}


def clusters(count: int = 30, width: int = 100) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    group = np.arange(count) % 3
    return generator.normal(size=(3, width))[group] + 0.1 * generator.normal(size=(count, width)), group


def test_kept_embeddings_give_the_predictions_through_the_last_layer(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*TRAIN, "-d", "emotion_corr_attn", "-o", tiny_corpus.overrides(**KEEP))
    found = load(Path("exp/test_fold1_embeddings.npz"))
    table = pd.read_csv("exp/test_fold1_predictions.csv").set_index("FileName").loc[found.names]
    state = load_checkpoint(Path("exp/dev-best.ckpt"))
    weights = state["Downstream"]
    logits = torch.from_numpy(found.rows) @ weights["model.classifier.weight"].T + weights["model.classifier.bias"]
    classes = state["Config"]["downstream_expert"]["datarc"]["classes"]
    probability = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(table[[f"p_{name}" for name in classes]], probability, atol=1e-5)
    assert sorted(read_labels(found, Path("exp/test_fold1_embeddings.npz"))) == [
        "class",
        "gender",
        "prediction",
        "speaker",
    ]


def test_kept_embeddings_of_dimensions(cli: Cli, graded_corpus: TinyCorpus):
    cli(*TRAIN, "-d", "emotion_tcgru", "-o", graded_corpus.overrides(**KEEP))
    path = Path("exp/test_fold1_embeddings.npz")
    found, weights = load(path), load_checkpoint(Path("exp/dev-best.ckpt"))["Downstream"]
    table = pd.read_csv("exp/test_fold1_predictions.csv").set_index("FileName").loc[found.names]
    output = torch.from_numpy(found.rows) @ weights["model.output.weight"].T + weights["model.output.bias"]
    means = (output * weights["label_spread"] + weights["label_mean"]).numpy()
    np.testing.assert_allclose(table[["EmoAct_pred", "EmoVal_pred", "EmoDom_pred"]], means[:, :3], atol=1e-4)
    known = read_labels(found, path)
    np.testing.assert_allclose(known["valence"], table["EmoVal"], atol=1e-6)
    assert main(["tsne", str(path), "--by", "activation", "gender", "--out", "plane.png"]) == 0
    height, width = np.asarray(imread("plane.png")).shape[:2]
    assert width > 1.5 * height  # two panels


def test_without_the_key_nothing_is_kept(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*TRAIN, "-d", "emotion_corr_attn", "-o", tiny_corpus.overrides())
    assert not list(Path("exp").glob("*.npz"))


def test_groups_stay_apart_in_the_plane():
    rows, group = clusters()
    points = tsne(rows)
    assert points.shape == (30, 2)
    assert silhouette_score(points, group) > 0.6
    np.testing.assert_array_equal(points, tsne(rows))


@pytest.mark.parametrize("width", [1, 2, 500])
def test_narrow_and_wide_embeddings(width: int):
    assert np.isfinite(tsne(np.random.default_rng(0).normal(size=(8, width)))).all()


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        (np.zeros((3, 4)), {}, "3 utterances are too few"),
        (np.ones((9, 4)), {}, "all embeddings are the same"),
        (np.full((9, 4), np.nan), {}, "not finite"),
        (np.eye(9), {"perplexity": 9.0}, "perplexity 9: must be at least 1 and below the number of utterances, 9"),
    ],
)
def test_what_cannot_be_laid_out(rows: np.ndarray, options: dict[str, float], match: str):
    with pytest.raises(LabelError, match=match):
        tsne(rows, **options)


def test_files_of_export_and_label_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows, group = clusters()
    names = [f"u{number}.wav" for number in range(30)]
    words = np.array(["a", "b", "c"])[group]
    np.savez(tmp_path / "pooled.npz", names=names, features=rows.astype(np.float32), classes=words, speakers=words)
    assert main(["tsne", str(tmp_path / "pooled.npz")]) == 0
    assert (tmp_path / "pooled_tsne.png").is_file()
    assert main(["tsne", str(tmp_path / "pooled.npz"), "--by", "valence"]) == 1
    assert "--by valence: unknown for these utterances (known: class, speaker)" in capsys.readouterr().err
    labels = tmp_path / "labels.csv"
    labels.write_text("FileName,EmoVal\n" + "".join(f"{name},{number}\n" for number, name in enumerate(names)))
    assert main(["tsne", str(tmp_path / "pooled.npz"), "--by", "valence", "--labels", str(labels)]) == 0
    labels.write_text("FileName,EmoVal\nu0.wav,1\n")
    assert main(["tsne", str(tmp_path / "pooled.npz"), "--by", "valence", "--labels", str(labels)]) == 1
    assert "lacks 29 of the utterances, such as u1.wav" in capsys.readouterr().err
    names = "".join(f"u{number}.wav,{number}\n" for number in range(30))
    for rows, message in (
        (names.replace(",7", ",high"), "EmoVal has a value that is not a number"),
        (names * 2, "twice"),
    ):
        labels.write_text("FileName,EmoVal\n" + rows)
        assert main(["tsne", str(tmp_path / "pooled.npz"), "--labels", str(labels)]) == 1
        assert message in capsys.readouterr().err


def test_a_class_can_be_left_out_of_its_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Neumann & Vu 2019, Figs. 3a and 4a: the layout is of all, the panel of classes lacks neutral."""
    rows, group = clusters()
    words = np.array(["happy", "neutral", "sad"])[group]
    axes = Axes()
    _draw_points(axes, points := np.arange(60.0).reshape(30, 2), words, ["neutral"])
    drawn = np.concatenate([np.stack(part, axis=1) for part in axes.drawn])
    np.testing.assert_array_equal(drawn, np.concatenate([points[group == 0], points[group == 2]]))
    assert axes.labels == ["happy", "sad"]
    file = tmp_path / "pooled.npz"
    np.savez(file, names=[f"u{number}.wav" for number in range(30)], features=rows.astype(np.float32), classes=words)
    assert main(["tsne", str(file), "--leave_out", "neutral"]) == 0
    assert main(["tsne", str(file), "--leave_out", "neutrl"]) == 1
    assert "no utterance has this class; there are happy, neutral, sad" in capsys.readouterr().err
    np.savez(file, names=[f"u{number}.wav" for number in range(30)], features=rows.astype(np.float32))
    assert main(["tsne", str(file), "--leave_out", "neutral"]) == 1
    assert "--leave_out neutral: there is no panel of classes" in capsys.readouterr().err


class Axes:
    """Records what is scattered."""

    def __init__(self) -> None:
        self.drawn: list[tuple[np.ndarray, ...]] = []
        self.labels: list[str] = []

    def scatter(self, *points: np.ndarray, label: str, **style: object) -> None:
        self.drawn.append(points)
        self.labels.append(label)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words, **options: None


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "none.npz")
    (tmp_path / "torn.npz").write_bytes(save(tmp_path, "a", ["x"], [np.ones(3, np.float32)]).read_bytes()[:100])
    with pytest.raises(UsageError, match="damaged"):
        load(tmp_path / "torn.npz")
    np.savez(tmp_path / "words.npz", names=["a"], embeddings=np.array([["b"]]))
    with pytest.raises(UsageError, match="holds no utterance embeddings"):
        load(tmp_path / "words.npz")
    np.savez(tmp_path / "frames.npz", names=["a"], **{"features/a": np.ones((3, 4))})
    with pytest.raises(UsageError, match="holds no utterance embeddings"):
        load(tmp_path / "frames.npz")
    np.savez(tmp_path / "objects.npz", names=["a"], embeddings=np.array([[{}]], dtype=object))
    with pytest.raises(UsageError, match="damaged"):
        load(tmp_path / "objects.npz")
    assert main(["tsne", str(tmp_path / "none.npz"), "--by", "clas"]) == 1
    assert "--by clas: not one of class" in capsys.readouterr().err
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 16_000)
    with pytest.raises(UsageError, match="damaged, or no npz"):
        load(tmp_path / "x.wav")


def test_stored_embeddings_are_joined(tmp_path: Path):
    def file(name: str, **rows: list[float]) -> str:
        np.savez(tmp_path / name, names=list(rows), embeddings=np.array(list(rows.values()), np.float32))
        return str(tmp_path / name)

    a, b, c = file("a.npz", x=[1, 2]), file("b.npz", y=[3, 4], x=[9, 9]), file("c.npz", x=[5], y=[6])
    found = stored_rows([[a, b], c], ["x", "y"])
    assert {name: row.tolist() for name, row in found.items()} == {"x": [1, 2, 5], "y": [3, 4, 6]}
    with pytest.raises(UsageError, match=r"a\.npz: holds no embedding of y"):
        stored_rows([a], ["x", "y"])
    with pytest.raises(UsageError, match="hold embeddings of different sizes"):
        stored_rows([[a, c]], ["x"])
    with pytest.raises(LabelError, match="the embedding of x is not finite"):
        stored_rows([file("d.npz", x=[np.inf])], ["x"])
