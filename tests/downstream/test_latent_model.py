"""The network of ``emotion_latent``, what is fitted rather than learnt, and measures of the latent space."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from sklearn.svm import SVC, LinearSVC

from s3prl_emotion import host
from s3prl_emotion.corpora import Corpus, Utterance
from s3prl_emotion.errors import LabelError
from s3prl_emotion.experts.outputs import map_tensors


def part(name: str) -> ModuleType:
    host.register()
    return importlib.import_module(f"s3prl.downstream.emotion_latent.{name}")


model, losses, fitting, analysis, unlabelled = map(part, ("model", "losses", "fitting", "analysis", "unlabelled"))


CLASSES = ["neu", "sad", "hap", "ang"]


# --- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "hidden", "latent", "encoder", "decoder"),
    [
        ("dae", [], 4, 88 * 4 + 4, 4 * 88 + 88),
        ("dae_metric", [], 4, 356, 440),
        ("vae", [], 2, 88 * 4 + 4, 2 * 88 + 88),  # two numbers for each dimension of the latent
        ("vae_cluster", [], 4, 88 * 8 + 8, 440),
        ("dae", [16], 3, 88 * 16 + 16 + 16 * 3 + 3, 3 * 16 + 16 + 16 * 88 + 88),
        ("vae", [16, 8], 2, 88 * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4, 2 * 8 + 8 + 8 * 16 + 16 + 16 * 88 + 88),
        ("none", [], 4, 0, 0),
    ],
)
def test_parameters(method: str, hidden: list[int], latent: int, encoder: int, decoder: int):
    network = model.LatentModel(88, 4, method, hidden, latent)
    assert network.sizes() == {"encoder_parameters": encoder, "decoder_parameters": decoder}
    assert sum(item.numel() for item in network.parameters()) == encoder + decoder


def test_small_setting_is_under_400():
    assert model.LatentModel(88, 4).sizes()["encoder_parameters"] == 356 < 400


@pytest.mark.parametrize("method", losses.METHODS)
def test_padding_changes_nothing(method: str):
    torch.manual_seed(0)
    network = model.LatentModel(5, 3, method, latent_dim=2).eval()
    features = torch.randn(2, 7, 5)
    whole = network(features, torch.tensor([7, 3]))
    features[1, 3:] = torch.nan
    torch.testing.assert_close(network(features, torch.tensor([7, 3])), whole)
    single = network(features[1:, :3], torch.tensor([3]))
    torch.testing.assert_close(single, map_tensors(lambda rows: rows[1:], whole))
    torch.testing.assert_close(single.inputs[0], features[1, :3].mean(dim=0), check_layout=False)


def test_training_alone_is_random():
    torch.manual_seed(0)
    features, lengths = torch.randn(3, 1, 5), torch.ones(3, dtype=torch.int64)
    for method in ("dae", "vae"):
        network = model.LatentModel(5, 3, method, latent_dim=2)
        one, other = (network(features, lengths) for _ in range(2))
        assert not torch.equal(one.reconstruction, other.reconstruction)
        assert torch.equal(one.inputs, other.inputs)  # what is to be reconstructed has no noise
        network.eval()
        outputs, again = (network(features, lengths) for _ in range(2))
        torch.testing.assert_close(outputs, again, rtol=0, atol=0)
        assert torch.equal(outputs.latent, outputs.mean)


def test_features_far_out_are_cut_and_take_no_gradient():
    network = model.LatentModel(2, 3, "none").eval()
    network.location.copy_(torch.tensor([1.0, 2.0]))
    network.scale.copy_(torch.tensor([2.0, 1.0]))
    features = torch.tensor([[[5.0, 1e6]], [[-1e9, 2.0]]], requires_grad=True)
    outputs = network(features, torch.ones(2))
    assert outputs.inputs.tolist() == [[2, 10], [-10, 0]]
    assert not outputs.inputs.requires_grad


def test_log_variance_that_would_overflow_does_not():
    network = model.LatentModel(2, 3, "vae", latent_dim=1)
    network.encoder[-1].weight.data.fill_(1e6)
    outputs = network(torch.ones(2, 1, 2), torch.ones(2))
    assert all(torch.isfinite(rows).all() for rows in outputs)


# --- standardisation --------------------------------------------------------------------------------------------------


def test_outliers_leave_before_mean_and_deviation_are_taken():
    rows = np.random.default_rng(0).normal(3, 2, size=(300, 4))
    rows[7, 2] = 1e4
    found = fitting.standardisation(rows)
    assert np.flatnonzero(~found.kept).tolist() == [7]
    others = np.delete(rows, 7, axis=0)
    np.testing.assert_allclose(found.location, others.mean(axis=0))
    np.testing.assert_allclose(found.scale, others.std(axis=0))


def test_outliers_stay_without_a_limit():
    rows = np.random.default_rng(0).normal(size=(300, 2))
    rows[7, 1] = 1e4
    found = fitting.standardisation(rows, math.inf)
    assert found.kept.all()
    network = model.LatentModel(2, 4, "none", limit=math.inf)
    network.location.copy_(torch.from_numpy(found.location))
    network.scale.copy_(torch.from_numpy(found.scale))
    expected = (rows[7] - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(network.standardise(torch.from_numpy(rows[7:8]).float()).numpy()[0], expected, rtol=1e-5)
    assert expected[1] > 10


@pytest.mark.parametrize(
    ("method", "multi_class", "outliers", "limit"),
    [("none", "ovr", "auto", 10), ("none", "ovo", "auto", math.inf), ("dae", "ovo", "auto", 10),
     ("none", "ovo", 5.0, 5), ("dae", "ovr", None, math.inf)],
)  # fmt: skip
def test_limits_of_outliers(method: str, multi_class: str, outliers: float | str | None, limit: float):
    section = part("expert").ModelSection(method=method, multi_class=multi_class, outliers=outliers)
    assert section.limit == limit


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_features_that_do_not_vary_become_0(value: float):
    rows = np.column_stack([np.full(50, value), np.arange(50.0)])
    found = fitting.standardisation(rows)
    assert found.kept.all()
    assert np.abs((rows - found.location) / found.scale)[:, 0].max() < 1e-6


# --- SVC --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [[0, 1, 2], [1, 3], [0, 2, 3]])
@pytest.mark.parametrize("balance", ["none", "balanced"])
def test_svc_is_scikit_learns(names: list[int], balance: str):
    generator = np.random.default_rng(0)
    classes = generator.choice(
        names, size=200, p=np.array([0.7, 0.2, 0.1][: len(names)]) / sum([0.7, 0.2, 0.1][: len(names)])
    )
    latents = generator.normal(size=(200, 3)) + classes[:, None] * [1, -1, 0]
    slopes, offsets = fitting.fit_svc(latents, classes.tolist(), 4, balance)
    scores = latents @ slopes.T + offsets
    if balance == "none":
        theirs = LinearSVC(dual=False, random_state=0).fit(latents, classes)
        assert scores.argmax(axis=1).tolist() == theirs.predict(latents).tolist()
    else:  # the weights are inverse to the counts, mean 1
        counts = Counter(classes.tolist())
        weights = {name: 1 / counts[name] for name in names}
        mean = np.mean(list(weights.values()))
        weights = {name: weight / mean for name, weight in weights.items()}
        theirs = LinearSVC(dual=False, random_state=0, class_weight=weights).fit(latents, classes)
        assert (scores.argmax(axis=1) == theirs.predict(latents)).mean() > 0.99
    probability = torch.softmax(torch.tensor(scores), dim=1).numpy()
    assert (probability[:, [k for k in range(4) if k not in names]] == 0).all()


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [1, 3], [0, 2, 3]])
@pytest.mark.parametrize("balance", ["none", "balanced"])
def test_votes_of_pairs_are_scikit_learns_of_the_names(labels: list[int], balance: str):
    generator = np.random.default_rng(0)
    shares = np.array([0.2, 0.3, 0.3, 0.2])[labels]
    classes = generator.choice(labels, size=150, p=shares / shares.sum())
    latents = (generator.normal(size=(150, 3)) + classes[:, None] * [0.3, -0.18, 0]).astype(np.float32).astype(float)
    votes = model.PairVotes(3, CLASSES)
    fitted = fitting.fit_pairs(latents, classes.tolist(), CLASSES, balance, 0.1)
    for name, values in zip(("coefficients", "intercepts", "present"), fitted, strict=True):
        getattr(votes, name).copy_(torch.from_numpy(values))
    scores = votes(torch.from_numpy(latents).float())
    names = np.array(CLASSES)[classes]
    counts = Counter(names.tolist())
    mean = sum(1 / count for count in counts.values()) / len(counts)
    weights = {name: float(np.float32(1 / count / mean)) for name, count in counts.items()}
    theirs = SVC(kernel="linear", C=0.1, class_weight=weights if balance == "balanced" else None).fit(latents, names)
    found = np.array(CLASSES)[scores.argmax(dim=1)]
    assert found.tolist() == theirs.predict(latents).tolist()  # ties included
    if len(labels) == 4 and balance == "none":
        votes_alone = (scores + votes.places).sort(dim=1).values
        assert (votes_alone[:, -1] == votes_alone[:, -2]).any()  # there are ties
    assert (torch.softmax(scores, dim=1)[:, [k for k in range(4) if k not in labels]] == 0).all()


def test_svc_draws_nothing_and_needs_two_classes():
    latents = np.random.default_rng(0).normal(size=(20, 2))
    before = np.random.get_state()[1].copy()
    one, other = (fitting.fit_svc(latents, [0, 1] * 10, 2) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    with pytest.raises(LabelError, match="two classes or more"):
        fitting.fit_svc(latents, [1] * 20, 2)


# --- measures of the latent space -------------------------------------------------------------------------------------


def test_distance_agreement_is_scipys():
    generator = np.random.default_rng(0)
    labels = generator.uniform(1, 5, 30)
    latents = np.column_stack([labels, generator.normal(size=30)])
    pairs = [(i, j) for i in range(30) for j in range(i + 1, 30)]
    between = [math.dist(latents[i], latents[j]) for i, j in pairs]
    apart = [abs(labels[i] - labels[j]) for i, j in pairs]
    line = stats.linregress(apart, between)
    expected = 1 - (1 - line.rvalue**2) * (len(pairs) - 1) / (len(pairs) - 2)
    squared, rank = analysis.distance_agreement(latents, labels)
    assert squared == pytest.approx(expected)
    assert rank == pytest.approx(stats.spearmanr(apart, between).statistic)
    assert analysis.distance_agreement(labels[:, None], labels) == pytest.approx((1, 1))


def test_explained_is_that_of_the_normal_equations():
    generator = np.random.default_rng(1)
    latents, labels = generator.normal(size=(40, 3)), generator.normal(size=40)
    design = np.hstack([np.ones((40, 1)), latents])
    weights = np.linalg.solve(design.T @ design, design.T @ labels)
    error, total = np.sum((labels - design @ weights) ** 2), np.sum((labels - labels.mean()) ** 2)
    assert analysis.explained(latents, labels) == pytest.approx(1 - (error / 36) / (total / 39))
    assert analysis.explained(latents, latents @ [1, 2, 3] + 4) == pytest.approx(1)


def test_gaussian_distance_is_the_one_with_scipys_roots():
    generator = np.random.default_rng(2)
    one, other = generator.normal(size=(50, 3)), 2 * generator.normal(size=(60, 3)) + 1
    moments = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (one, other)]
    (m1, c1), (m2, c2) = moments
    squared = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert analysis.gaussian_distance(m1, c1, m2, c2) == pytest.approx(math.sqrt(squared))
    assert analysis.gaussian_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-6)
    assert analysis.gaussian_distance(np.zeros(1), np.eye(1), np.array([3.0]), 9 * np.eye(1)) == pytest.approx(
        math.sqrt(9 + 4)
    )


@pytest.mark.parametrize(
    ("latents", "labels"),
    [
        (np.zeros((1, 2)), [1.0]),
        (np.zeros((5, 2)), [1.0, 2, 3, 4, 5]),
        (np.arange(8.0).reshape(4, 2), [2.0] * 4),
        (np.arange(8.0).reshape(4, 2), [math.nan] * 4),
        (np.arange(4.0).reshape(2, 2), [1.0, 2.0]),
    ],
)
def test_what_is_not_defined_is_none(latents: np.ndarray, labels: list[float]):
    width = latents.shape[1]
    found = analysis.latent_metrics(latents, {"EmoAct": np.array(labels)}, np.zeros(width), np.zeros((width, width)))
    assert found["relative_shift"] is None
    assert math.isfinite(found["shift"])
    told = found.get("EmoAct", {})
    assert all(value is None or math.isfinite(value) for value in told.values())
    assert told.get("distance_R2") is None


def test_pictures(tmp_path: Path):
    generator = np.random.default_rng(0)
    for width in (1, 2, 5):
        rows = generator.normal(size=(9, width))
        path = analysis.plot_latents(tmp_path / f"{width}.png", rows, ["a$b", "c", "c"] * 3, rows[:1], ["d"], "test")
        assert path.read_bytes().startswith(b"\x89PNG")


# --- unlabelled utterances --------------------------------------------------------------------------------------------


def corpus(sizes: dict[str, int]) -> Corpus:
    splits = {
        name: tuple(Utterance(f"{number}.wav", Path(f"/{name}/{number}.wav"), number % 2, dimensions=(1.0, 2.0, 3.0))
                    for number in range(size))
        for name, size in sizes.items()
    }  # fmt: skip
    return Corpus(Path("labels.csv"), "fold1", ("a", "b"), splits)


def test_a_share_moves_into_training_without_labels():
    section = unlabelled.UnlabelledSection(splits=["other"], share=0.2)
    before = corpus({"train": 4, "dev": 2, "test": 2, "other": 20})
    after = unlabelled.with_unlabelled(before, section, "train")
    added = after.split("train")[4:]
    assert after.split("train")[:4] == before.split("train")
    assert len(added) == 4
    assert {(item.label, item.dimensions) for item in added} == {(-2, None)}
    assert all(item.name == f"other/{item.path.name}" for item in added)
    assert {item.path for item in added} | {item.path for item in after.split("other")} == {
        item.path for item in before.split("other")
    }
    assert len(after.split("other")) == 16
    shuffled = replace(before, splits=before.splits | {"other": before.split("other")[::-1]})
    again = unlabelled.with_unlabelled(shuffled, section, "train")
    assert {item.path for item in again.split("other")} == {item.path for item in after.split("other")}
    left_out = unlabelled.with_unlabelled(before, section.model_copy(update={"learn": False}), "train")
    assert left_out.split("other") == after.split("other")
    assert left_out.split("train") == before.split("train")


@pytest.mark.parametrize(("size", "share"), [(2, 0.2), (2, 0.9)])
def test_splits_too_small_to_be_shared_out(size: int, share: float):
    section = unlabelled.UnlabelledSection(splits=["other"], share=share)
    with pytest.raises(LabelError, match=r"of split 'other' leaves one part empty"):
        unlabelled.with_unlabelled(corpus({"train": 2, "other": size}), section, "train")
