"""CCS, MIS, PCA and layer saliency: the papers' equations in loops, planted signals, and sums in one pass."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_regression
from sklearn.linear_model import LinearRegression
from torch import Tensor

from s3prl_emotion.errors import ConfigError, EmotionError, LabelError
from s3prl_emotion.saliency import (
    StreamedMoments,
    cross_correlation_saliency,
    layer_saliency,
    mutual_information,
    mutual_information_saliency,
    pairwise_mutual_information,
    pca_projection,
    salient_dimensions,
    salient_layer,
)

Array = NDArray[np.float64]


# --- references, written from the papers -----------------------------------------------------------------------------


def correlation(a: Array, b: Array) -> float:
    """|Cov(a, b) / (σa σb)|, 0 where one does not vary."""
    if (a == a[0]).all() or (b == b[0]).all():
        return 0.0
    covariance = float(np.mean((a - a.mean()) * (b - b.mean())))
    return abs(covariance) / (a.std() * b.std())


def information(a: Array, b: Array, bins: int) -> float:
    """Plug-in mutual information of bins of equal mass in nats, with Miller's correction; not below 0."""
    count = len(a)
    places = [np.floor((rankdata(values) - 0.5) * bins / count + 1e-12).astype(int) for values in (a, b)]
    joint = np.zeros((bins, bins))
    for row, column in zip(*places, strict=True):
        joint[row, column] += 1

    def entropy(counts: Array) -> float:
        shares = counts[counts > 0] / count
        return float(-(shares * np.log(shares)).sum() + (len(shares) - 1) / (2 * count))

    return max(0.0, entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0)) - entropy(joint.ravel()))


def saliency(embeddings: Array, targets: Array, measure: object = correlation) -> Array:
    """Mitra et al. 2024, eqs. 1-2 for each target; ``[D, N]``."""
    assert callable(measure)
    dims = embeddings.shape[1]
    scores = np.zeros((targets.shape[1], dims))
    for d, label in enumerate(targets.T):
        w = [measure(column, label) for column in embeddings.T]
        for k in range(dims):
            others = [j for j in range(dims) if j != k]
            gamma = sum(w[j] * measure(embeddings[:, k], embeddings[:, j]) for j in others)
            scores[d, k] = w[k] + (gamma / (dims - 1) if others else 0.0)
    return scores


def random_set(utterances: int = 60, dims: int = 7, targets: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated dimensions and targets, float64."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(utterances, 4))
    embeddings = hidden @ generator.normal(size=(4, dims)) + generator.normal(size=(utterances, dims))
    labels = hidden @ generator.normal(size=(4, targets)) + generator.normal(size=(utterances, targets))
    return torch.from_numpy(embeddings), torch.from_numpy(labels)


# --- equations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("utterances", "dims", "targets"), [(60, 7, 3), (3, 5, 1), (40, 1, 2), (2, 2, 1), (1100, 4, 2)]
)
def test_ccs_is_eqs_1_to_3(utterances: int, dims: int, targets: int) -> None:
    embeddings, labels = random_set(utterances, dims, targets)
    expected = saliency(embeddings.numpy(), labels.numpy())
    each = cross_correlation_saliency(embeddings, labels, per_target=True)
    np.testing.assert_allclose(each.numpy(), expected, atol=1e-12)
    scores = cross_correlation_saliency(embeddings, labels)
    assert scores.shape == (dims,)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores.numpy(), expected.mean(axis=0), atol=1e-12)


def test_ccs_of_streams_sums_within_each() -> None:
    """Eq. 2 of one representation: the dimensions of another stream side by side do not count."""
    embeddings, labels = random_set(60, 9, 3)
    moments = StreamedMoments(1, 9, 3)
    moments.update(embeddings.unsqueeze(1), labels)
    scores = moments.cross_correlation_saliency(per_target=True, sizes=[4, 1, 4])[0].numpy()
    parts = [saliency(part, labels.numpy()) for part in np.split(embeddings.numpy(), [4, 5], axis=1)]
    np.testing.assert_allclose(scores, np.concatenate(parts, axis=1), atol=1e-12)
    across = moments.cross_correlation_saliency(per_target=True)[0].numpy()
    np.testing.assert_allclose(across, saliency(embeddings.numpy(), labels.numpy()), atol=1e-12)


def test_ccs_of_more_dimensions_than_are_multiplied_at_once() -> None:
    embeddings, labels = random_set(50, 300, 2)
    between = np.abs(np.corrcoef(embeddings.numpy(), rowvar=False))
    np.fill_diagonal(between, 0)
    whole = np.corrcoef(np.hstack([embeddings, labels]), rowvar=False)
    w = np.abs(whole[300:, :300])
    expected = (w + w @ between / 299).mean(axis=0)
    np.testing.assert_allclose(cross_correlation_saliency(embeddings, labels).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_precision_is_that_of_the_input_alone(kind: torch.dtype) -> None:
    embeddings, labels = random_set()
    given = embeddings.to(kind)
    expected = cross_correlation_saliency(given.double(), labels)
    assert torch.equal(cross_correlation_saliency(given, labels), expected)
    expected = mutual_information_saliency(given.double(), labels)
    assert torch.equal(mutual_information_saliency(given, labels), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), exponent=st.integers(-60, 60), shift=st.floats(-100, 100))
def test_ccs_is_blind_to_scale_sign_order_and_offset(seed: int, exponent: int, shift: float) -> None:
    embeddings, labels = random_set(seed=seed)
    scores = cross_correlation_saliency(embeddings, labels)
    assert ((scores >= 0) & (scores <= 2)).all()
    signs = torch.where(torch.arange(7) % 2 == 0, -1.0, 1.0)
    changed = cross_correlation_saliency((embeddings + shift) * signs * 10.0**exponent, -3 * labels + shift)
    torch.testing.assert_close(changed, scores, atol=1e-10, rtol=0)
    same = cross_correlation_saliency(labels[:, :1] * torch.tensor([1.0, 3.3, -7.1]), labels[:, :1])
    assert (same <= 2).all()  # whatever the rounding
    order, rows = torch.tensor([3, 1, 6, 0, 5, 2, 4]), torch.randperm(len(labels))
    changed = cross_correlation_saliency(embeddings[rows][:, order], labels[rows])
    torch.testing.assert_close(changed, scores[order], atol=1e-10, rtol=0)


def test_mis_is_eqs_1_to_3_with_mutual_information() -> None:
    embeddings, labels = random_set(90, 5, 2)
    labels = embeddings[:, :2] + 0.3 * labels
    expected = saliency(embeddings.numpy(), labels.numpy(), lambda a, b: information(a, b, bins=4))  # isqrt(90 / 5)
    each = mutual_information_saliency(embeddings, labels, per_target=True)
    np.testing.assert_allclose(each.numpy(), expected, atol=1e-12)
    scores = mutual_information_saliency(embeddings, labels)
    np.testing.assert_allclose(scores.numpy(), expected.mean(axis=0), atol=1e-12)
    assert expected.max() > 0.2


@pytest.mark.parametrize(("rows", "group"), [(8192, 1024), (17, 16), (64, 33)])
def test_mutual_information_of_all_pairs(rows: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is multiplied at once; continuous, integer, constant and mixed columns."""
    monkeypatch.setattr(mutual_information, "ROWS", rows)
    monkeypatch.setattr(mutual_information, "GROUP", group)
    generator = np.random.default_rng(0)
    a = generator.normal(size=(150, 5))
    a[:, 1] = np.round(a[:, 0])
    a[:, 2] = 0.1
    a[:, 3] = np.maximum(a[:, 3], 0)
    b = np.stack([a[:, 0] ** 2, generator.integers(1, 8, 150), np.full(150, 7.0)], axis=1).astype(float)
    ours = pairwise_mutual_information(torch.from_numpy(a), torch.from_numpy(b), bins=8).numpy()
    expected = [[information(x, y, 8) for y in b.T] for x in a.T]
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert (ours[:, 2] == 0).all()
    assert (ours[2] == 0).all()
    own = pairwise_mutual_information(torch.from_numpy(a), bins=8).numpy()
    expected = [[information(x, y, 8) for y in a.T] for x in a.T]
    np.testing.assert_allclose(own, expected, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_mutual_information_is_blind_to_monotone_maps(seed: int) -> None:
    embeddings, labels = random_set(seed=seed)
    scores = mutual_information_saliency(embeddings, labels)
    assert (scores >= 0).all()
    assert torch.equal(mutual_information_saliency(embeddings.exp(), labels.pow(3)), scores)


def test_mutual_information_of_independent_columns_is_corrected_to_nearly_0() -> None:
    """Without the correction it would be about 15² / (2 · 2000) = 0.056."""
    values = torch.randn(2000, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = pairwise_mutual_information(values, bins=16)
    pairs = own[torch.triu_indices(24, 24, offset=1).unbind()]
    assert pairs.mean() < 0.01


def dependent_pairs() -> tuple[Array, Array]:
    """Two columns a pair: linear of all strengths, quadratic, periodic, heteroscedastic, and with graders' labels."""
    generator = np.random.default_rng(7)
    first, second = [], []
    for number in range(60):
        x, noise = generator.normal(size=(2, 1500))
        strength = (number // 5) / 12
        y = [
            strength * x + math.sqrt(1 - strength**2) * noise,
            strength * x**2 + (1 - strength) * noise,
            np.sin(2 * x) * strength + 0.5 * noise,
            noise * (1 + 3 * strength * np.abs(x)),
            np.clip(np.round(4 + strength * 2 * x + noise), 1, 7),
        ][number % 5]
        first.append(x * 10.0 ** generator.integers(-3, 3))
        second.append(y)
    return np.stack(first, axis=1), np.stack(second, axis=1)


def test_mutual_information_ranks_as_scikit_learn_does() -> None:
    first, second = dependent_pairs()
    theirs = [mutual_info_regression(x[:, None], y, random_state=0)[0] for x, y in zip(first.T, second.T, strict=True)]
    ours = pairwise_mutual_information(torch.from_numpy(first), torch.from_numpy(second)).diagonal().numpy()
    assert spearmanr(ours, theirs).statistic >= 0.9
    linear = slice(20, 60, 5)  # I = -½ log(1 - ρ²) from ρ = 1/3 on
    exact = [-0.5 * math.log(1 - (number // 5 / 12) ** 2) for number in range(20, 60, 5)]
    np.testing.assert_allclose(ours[linear], exact, rtol=0.2, atol=0.03)


# --- layers ----------------------------------------------------------------------------------------------------------


def test_layer_saliency_is_the_mean_over_dimensions_and_targets() -> None:
    embeddings = torch.stack([random_set(seed=seed)[0] for seed in range(4)], dim=1)
    labels = random_set()[1]
    expected = np.stack([saliency(embeddings[:, layer].numpy(), labels.numpy()).mean(axis=1) for layer in range(4)])
    each = layer_saliency(embeddings, labels, per_target=True)
    np.testing.assert_allclose(each.numpy(), expected.T, atol=1e-12)
    scores = layer_saliency(embeddings, labels)
    assert scores.shape == (4,)
    np.testing.assert_allclose(scores.numpy(), expected.mean(axis=1), atol=1e-12)
    assert salient_layer(scores) == 0  # the labels are made from the first set's hidden factors


def test_of_equally_salient_layers_the_lowest_is_picked() -> None:
    assert salient_layer(torch.tensor([0.1, 0.7, 0.2, 0.7])) == 1
    embeddings, labels = random_set()
    embeddings = torch.stack([torch.zeros_like(embeddings), embeddings, torch.ones_like(embeddings)], dim=1)
    scores = layer_saliency(embeddings, labels)
    assert scores[0] == scores[2] == 0
    assert salient_layer(scores) == 1


# --- selecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "dims", "number"), [(0.8, 1024, 819), (0.6, 1024, 614), (0.4, 1024, 410), (1, 7, 7)])
def test_share_of_dimensions_that_is_kept(keep: float, dims: int, number: int) -> None:
    scores = torch.rand(dims, generator=torch.Generator().manual_seed(0))
    kept = salient_dimensions(scores, keep)
    assert len(kept) == number
    assert (kept.diff() > 0).all()
    assert set(kept.tolist()) == set(np.argsort(-scores.numpy())[:number].tolist())


def test_ties_and_tiny_shares() -> None:
    scores = torch.tensor([0.5, 0.9, 0.5, 0.5, 0.1])
    assert salient_dimensions(scores, 0.6).tolist() == [0, 1, 2]
    assert salient_dimensions(scores, 0.5).tolist() == [0, 1, 2]  # 2.5 dimensions: halves up
    assert salient_dimensions(scores, 1e-9).tolist() == [1]
    assert salient_dimensions(torch.ones(1000), 0.3).tolist() == list(range(300))  # short lists are sorted otherwise


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.01, math.nan])
def test_share_out_of_range(keep: float) -> None:
    with pytest.raises(ConfigError, match="keep"):
        salient_dimensions(torch.ones(4), keep)


def test_scores_that_are_not_finite_cannot_be_ranked() -> None:
    for scores in (torch.tensor([1.0, math.nan]), torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(EmotionError, match="finite"):
            salient_dimensions(scores, 0.5)
        with pytest.raises(EmotionError, match="finite"):
            salient_layer(scores)


# --- planted signals -------------------------------------------------------------------------------------------------

INFORMATIVE, NUISANCE, DIMS = range(5, 11), range(20, 28), 36


def planted(seed: int, curved: bool = False) -> tuple[Tensor, Tensor]:
    """Six faint dimensions tell of the targets; eight, of a hundred times the spread, of something else."""
    generator = np.random.default_rng(seed)
    labels = generator.normal(size=(1200, 3))
    embeddings = generator.normal(size=(1200, DIMS))
    for number, k in enumerate(INFORMATIVE):
        signal = labels[:, number % 3] ** 2 - 1 if curved else labels[:, number % 3]
        embeddings[:, k] = 0.05 * (signal + 0.7 * embeddings[:, k])
    shared = generator.normal(size=1200)
    for k in NUISANCE:
        embeddings[:, k] = 5 * (shared + 0.5 * embeddings[:, k])
    return torch.from_numpy(embeddings), torch.from_numpy(labels)


def explained(features: Tensor, labels: Tensor) -> float:
    """R² on the second half of a linear model of the first."""
    model = LinearRegression().fit(features[:600], labels[:600])
    return float(model.score(features[600:], labels[600:]))


@pytest.mark.parametrize("seed", range(3))
def test_saliency_finds_planted_dimensions_and_pca_does_not(seed: int) -> None:
    embeddings, labels = planted(seed)
    share = len(INFORMATIVE) / DIMS
    for scores in (cross_correlation_saliency(embeddings, labels), mutual_information_saliency(embeddings, labels)):
        kept = salient_dimensions(scores, share)
        assert kept.tolist() == list(INFORMATIVE)
        assert explained(embeddings[:, kept], labels) > 0.6
    projection = pca_projection(embeddings, len(INFORMATIVE))
    assert explained(projection.transform(embeddings), labels) < 0.05
    loads = projection.components.abs().amax(dim=0)
    assert set(loads.topk(len(NUISANCE)).indices.tolist()) == set(NUISANCE)


def test_only_mutual_information_finds_what_is_not_monotone() -> None:
    embeddings, labels = planted(0, curved=True)
    share = len(INFORMATIVE) / DIMS
    assert salient_dimensions(mutual_information_saliency(embeddings, labels), share).tolist() == list(INFORMATIVE)
    assert salient_dimensions(cross_correlation_saliency(embeddings, labels), share).tolist() != list(INFORMATIVE)


def test_saliency_of_one_target() -> None:
    """Each target finds its own two dimensions."""
    embeddings, labels = planted(0)
    for method in (cross_correlation_saliency, mutual_information_saliency):
        each = method(embeddings, labels, per_target=True)
        for target in range(3):
            own = set(INFORMATIVE[target::3])
            assert set(each[target].topk(2).indices.tolist()) == own


# --- principal components --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("utterances", "dims", "components"), [(60, 7, 3), (60, 7, 7), (5, 9, 4)])
def test_projection_agrees_with_scikit_learn(utterances: int, dims: int, components: int) -> None:
    embeddings, _ = random_set(utterances, dims)
    model = PCA(components, svd_solver="full").fit(embeddings.numpy())
    ours = pca_projection(embeddings, components)
    signs = np.sign((model.components_ * ours.components.numpy()).sum(axis=1))
    np.testing.assert_allclose(ours.components.numpy(), model.components_ * signs[:, None], atol=1e-9)
    expected = model.transform(embeddings.numpy()) * signs
    np.testing.assert_allclose(ours.transform(embeddings).numpy(), expected, atol=1e-9)
    population = model.explained_variance_ * (utterances - 1) / utterances
    np.testing.assert_allclose(ours.variance.numpy(), population, atol=1e-10)
    shares = ours.variance / ours.total_variance
    np.testing.assert_allclose(shares.numpy(), model.explained_variance_ratio_, atol=1e-10)
    assert (ours.components.gather(1, ours.components.abs().argmax(1, keepdim=True)) > 0).all()


def test_projection_of_frames_keeps_shape_and_precision() -> None:
    embeddings, _ = random_set()
    projection = pca_projection(embeddings, 3)
    frames = torch.randn(2, 5, 7)
    projected = projection.transform(frames)
    assert projected.shape == (2, 5, 3)
    assert projected.dtype == torch.float32
    one = (frames[1, 4].double() - embeddings.mean(0)) @ projection.components.T
    torch.testing.assert_close(projected[1, 4], one.float())


def test_projection_of_degenerate_sets() -> None:
    """One utterance, constant and duplicate dimensions: orthonormal components, variance 0 beyond the rank."""
    embeddings, _ = random_set(60, 4)
    embeddings = torch.cat([embeddings, embeddings[:, :2], torch.full((60, 1), 0.1, dtype=torch.float64)], dim=1)
    for values, rank in ((embeddings, 4), (embeddings[:1], 0)):
        projection = pca_projection(values, 7)
        torch.testing.assert_close(projection.components @ projection.components.T, torch.eye(7).double())
        assert (projection.variance[:rank] > 1e-3).all()
        assert (projection.variance[rank:] < 1e-12).all()


@pytest.mark.parametrize("components", [0, 8])
def test_number_of_components_out_of_range(components: int) -> None:
    with pytest.raises(ConfigError, match=f"{components} principal components of 7"):
        pca_projection(random_set()[0], components)


# --- one pass --------------------------------------------------------------------------------------------------------


def whole_set(utterances: int = 83, layers: int = 3, offset: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """``[U, L, N]`` and ``[U, D]``, and the CCS of each layer ``[L, D, N]``.

    Values are multiples of 2⁻¹², so that offsets change none of their digits, and drift, as in a corpus sorted by
    speaker.
    """
    sets = [random_set(utterances, seed=seed) for seed in range(layers)]
    labels = sets[0][1]
    embeddings = torch.stack([values for values, _ in sets], dim=1)
    embeddings = torch.round(4096 * (embeddings + torch.linspace(0, 3, utterances).view(-1, 1, 1))) / 4096
    expected = np.stack([saliency(embeddings[:, layer].numpy(), labels.numpy()) for layer in range(layers)])
    return embeddings + offset, labels, torch.from_numpy(expected)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e9])
@pytest.mark.parametrize("block", [1, 7, 512])
def test_one_pass_equals_the_whole_set(offset: float, block: int) -> None:
    embeddings, labels, expected = whole_set(offset=offset)
    moments = StreamedMoments(3, 7, 3, block=block)
    for number in range(10):
        moments.update(embeddings[number], labels[number])
    moments.update(embeddings[10:60], labels[10:60])
    torch.testing.assert_close(  # reading midway changes nothing
        moments.cross_correlation_saliency()[0],
        cross_correlation_saliency(embeddings[:60, 0], labels[:60]),
        atol=1e-6,
        rtol=0,
    )
    moments.update(embeddings[60:], labels[60:])
    assert moments.count == 83
    torch.testing.assert_close(moments.cross_correlation_saliency(per_target=True), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.cross_correlation_saliency(), expected.mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.layer_saliency(per_target=True), expected.mean(2).T, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.layer_saliency(), expected.mean((1, 2)), atol=1e-6, rtol=0)


def test_float32_with_an_offset_far_beyond_its_spread() -> None:
    """Squares around 0 would have no digit left: 1e4² in float32 is spaced by 8."""
    embeddings, labels, _ = whole_set(offset=1e4)
    single = embeddings.float()
    expected = np.stack([saliency(single[:, layer].double().numpy(), labels.numpy()) for layer in range(3)])
    moments = StreamedMoments(3, 7, 3, block=10)
    moments.update(single, labels.float())
    torch.testing.assert_close(
        moments.cross_correlation_saliency(), torch.from_numpy(expected.mean(1)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_processes_are_merged(offset: float) -> None:
    embeddings, labels, expected = whole_set(offset=offset)
    parts = []
    for start, end in ((0, 1), (1, 50), (50, 50), (50, 83)):
        part = StreamedMoments(3, 7, 3, block=16)
        part.update(embeddings[start:end], labels[start:end]) if end > start else None
        parts.append(StreamedMoments.from_state(part.state()))
    total = StreamedMoments(3, 7, 3)
    for part in parts[::-1]:
        before = {name: value.clone() for name, value in part.state().items()}
        total.merge(part)
        assert all(torch.equal(value, before[name]) for name, value in part.state().items())
    assert total.count == 83
    torch.testing.assert_close(total.cross_correlation_saliency(per_target=True), expected, atol=1e-6, rtol=0)


def test_state_goes_on_where_it_was() -> None:
    embeddings, labels, expected = whole_set()
    moments = StreamedMoments(3, 7, 3, block=8)
    moments.update(embeddings[:40], labels[:40])
    state = moments.state()
    moments.update(embeddings[:20], labels[:20])  # must not reach what was kept
    again = StreamedMoments.from_state(state)
    again.update(embeddings[40:], labels[40:])
    torch.testing.assert_close(again.cross_correlation_saliency(per_target=True), expected, atol=1e-6, rtol=0)


@pytest.mark.full
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 83), max_size=5),
    block=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_any_cutting_gives_the_same(cuts: list[int], block: int, offset: float) -> None:
    embeddings, labels, expected = whole_set(layers=1, offset=offset)
    moments, other = (StreamedMoments(1, 7, 3, block=block) for _ in range(2))
    edges = [0, *sorted(cuts), 83]
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        if end > start:
            (moments, other)[number % 2].update(embeddings[start:end], labels[start:end])
    moments.merge(other)
    torch.testing.assert_close(moments.cross_correlation_saliency(per_target=True), expected, atol=1e-6, rtol=0)


def test_memory_does_not_grow_with_the_corpus() -> None:
    embeddings, labels, _ = whole_set()

    def size(moments: StreamedMoments) -> int:
        return sum(value.untyped_storage().nbytes() for value in vars(moments).values() if isinstance(value, Tensor))

    moments = StreamedMoments(3, 7, 3, block=8)
    before, fields = size(moments), set(vars(moments))
    for _ in range(5):
        moments.update(embeddings, labels)
    assert size(moments) == before
    assert set(vars(moments)) == fields
    assert all(isinstance(value, Tensor | int) for value in vars(moments).values())


def test_covariance_and_projection_from_moments() -> None:
    embeddings, labels, _ = whole_set(offset=1e4)
    moments = StreamedMoments(3, 7, 3, block=9)
    moments.update(embeddings, labels)
    expected = np.cov(embeddings[:, 2].numpy() - 1e4, rowvar=False, ddof=0)
    np.testing.assert_allclose(moments.covariance(2).numpy(), expected, atol=1e-9)
    ours, direct = moments.pca(2, 3), pca_projection(embeddings[:, 2], 3)
    torch.testing.assert_close(ours.components, direct.components, atol=1e-8, rtol=0)
    torch.testing.assert_close(ours.transform(embeddings[:, 2]), direct.transform(embeddings[:, 2]), atol=1e-6, rtol=0)


# --- what is degenerate or wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [cross_correlation_saliency, mutual_information_saliency])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.7e8])
def test_what_does_not_vary_has_no_saliency(method: object, value: float) -> None:
    """Also where its mean rounds; the other dimensions are as if the constant one had correlation 0."""
    assert callable(method)
    embeddings, labels = random_set(700, 6, 2)
    embeddings[:, 2], labels[:, 1] = value, 0.1
    each = method(embeddings, labels, per_target=True)
    assert torch.isfinite(each).all()
    assert (each[1] == 0).all()
    assert each[0, 2] == 0
    assert (each[0, [0, 1, 3, 4, 5]] > 0).all()
    torch.testing.assert_close(method(embeddings, labels), each[0] / 2)


def test_a_constant_dimension_stays_constant_over_blocks_and_merges() -> None:
    embeddings, labels, _ = whole_set()
    embeddings[:, :, 3] = 0.1
    moments, other = StreamedMoments(3, 7, 3, block=7), StreamedMoments(3, 7, 3, block=5)
    moments.update(embeddings[:50], labels[:50])
    other.update(embeddings[50:], labels[50:])
    moments.merge(other)
    assert (moments.cross_correlation_saliency()[:, 3] == 0).all()


@pytest.mark.parametrize("method", [cross_correlation_saliency, mutual_information_saliency])
def test_duplicate_dimensions_are_equally_salient(method: object) -> None:
    assert callable(method)
    embeddings, labels = random_set(200, 5, 2)
    embeddings = torch.cat([embeddings, embeddings[:, 1:2], -embeddings[:, 1:2]], dim=1)
    scores = method(embeddings, labels)
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[5], scores[1], atol=1e-12, rtol=0)
    if method is cross_correlation_saliency:
        torch.testing.assert_close(scores[6], scores[1], atol=1e-12, rtol=0)
        expected = torch.from_numpy(saliency(embeddings.numpy(), labels.numpy()).mean(axis=0))
        torch.testing.assert_close(scores, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", [cross_correlation_saliency, mutual_information_saliency])
@pytest.mark.parametrize("utterances", [1, 2, 3])
def test_few_utterances(method: object, utterances: int) -> None:
    assert callable(method)
    embeddings, labels = random_set(utterances)
    scores = method(embeddings, labels)
    assert scores.shape == (7,)
    assert torch.isfinite(scores).all()
    if utterances == 1:
        assert (scores == 0).all()


@pytest.mark.parametrize("method", [cross_correlation_saliency, mutual_information_saliency, layer_saliency])
@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda x, y: (x, y[:-1]), LabelError, "60 utterances but targets of 59"),
        (lambda x, y: (x, y[:, 0]), LabelError, r"targets \[60\] must be \[U, D\]"),
        (lambda x, y: (x, y[:, :0]), LabelError, r"targets \[60, 0\]"),
        (
            lambda x, y: (x, y.index_put((torch.tensor(4),), torch.tensor(math.nan).double())),
            LabelError,
            "targets of utterance 4",
        ),
        (lambda x, y: (x[0], y), EmotionError, "embeddings .* must be"),
        (lambda x, y: (x[:0], y[:0]), EmotionError, "no dimension 0"),
        (lambda x, y: (x / 0, y), EmotionError, "embedding of utterance 0 is not finite"),
        (lambda x, y: (x * 1e200, y), EmotionError, "not finite"),
    ],
)
def test_bad_input(method: object, damage: object, kind: type[Exception], message: str) -> None:
    assert callable(method)
    assert callable(damage)
    embeddings, labels = random_set()
    if method is layer_saliency:
        embeddings = torch.stack([embeddings, embeddings], dim=1)
    with pytest.raises(kind, match=message) as error:
        method(*damage(embeddings, labels))
    assert "\n" not in str(error.value)


def test_an_update_that_is_refused_leaves_nothing_behind() -> None:
    embeddings, labels, expected = whole_set()
    moments = StreamedMoments(3, 7, 3, block=7)
    moments.update(embeddings, labels)
    bad = labels[:5].clone()
    bad[3, 1] = math.nan
    refused = [
        (embeddings[:5], bad),
        (embeddings[:5], labels[:5, :1]),
        (embeddings[:5] / 0, labels[:5]),
        (embeddings[:5, :2], labels[:5]),
    ]
    for means, target in refused:
        with pytest.raises(EmotionError, match="saliency"):
            moments.update(means, target)
    with pytest.raises(EmotionError, match="cannot be added"):
        moments.merge(StreamedMoments(3, 8, 3))
    with pytest.raises(EmotionError, match="saliency"):
        moments.update(embeddings[0], labels[:1])
    assert moments.count == 83
    torch.testing.assert_close(moments.cross_correlation_saliency(per_target=True), expected, atol=1e-6, rtol=0)


def test_no_utterance() -> None:
    moments = StreamedMoments(2, 3, 1)
    for read in (moments.cross_correlation_saliency, moments.layer_saliency, lambda: moments.covariance(0)):
        with pytest.raises(EmotionError, match="no utterance"):
            read()
    with pytest.raises(EmotionError, match="must be 1 or more"):
        StreamedMoments(0, 3, 1)


@pytest.mark.parametrize("bins", [1, 0, 257])
def test_number_of_bins_out_of_range(bins: int) -> None:
    with pytest.raises(ConfigError, match="bins"):
        mutual_information_saliency(*random_set(), bins=bins)
    with pytest.raises(EmotionError, match="rows"):
        pairwise_mutual_information(torch.zeros(3, 1), torch.zeros(4, 1))


def test_inputs_are_left_as_they_were() -> None:
    embeddings, labels = random_set()
    copies = embeddings.clone(), labels.clone()
    embeddings.requires_grad_()
    for method in (cross_correlation_saliency, mutual_information_saliency):
        assert not method(embeddings, labels).requires_grad
    pca_projection(embeddings, 2)
    assert torch.equal(embeddings, copies[0])
    assert torch.equal(labels, copies[1])
