"""``spec_augment`` and ``mixup``: masks and mixtures of features, against references in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, TinyCorpus
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.loading.augmentation.features import FeatureAugmenter, Mixing, draw_masks
from s3prl_emotion.recipe import AugmentSection, SpecAugmentSection

DATA = "downstream_expert.datarc"
HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
LENGTHS = [5, 2, 9, 3]


def augmenter(seed: int = 1, samples_per_frame: int = 320, **values: Any) -> FeatureAugmenter:
    return FeatureAugmenter(AugmentSection.read(values, "augment"), seed, samples_per_frame)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- masks ----------------------------------------------------------------------------------------------------------


def test_widths_of_masks_are_those_of_the_paper() -> None:
    """Park et al. 2019: t uniform in 0..min(T, p τ), t0 uniform in [0, τ - t); f uniform in 0..F, likewise."""
    options = SpecAugmentSection(time_masks=1, channel_masks=1, time_seconds=0.5, time_share=0.3, channel_share=0.25)
    rng, shape, count = np.random.default_rng(0), (60, 40), 6000
    masks = [draw_masks(rng, shape, options, 50.0) for _ in range(count)]
    for axis, widest in enumerate((min(25, 18), 10)):
        size = shape[axis]
        widths = np.array([pair[axis].sum() for pair in masks])
        shares = np.bincount(widths, minlength=widest + 1) / count
        assert len(shares) == widest + 1
        np.testing.assert_allclose(shares, 1 / (widest + 1), atol=0.02)
        hit = np.mean([pair[axis] for pair in masks], axis=0)
        starts = [np.mean([size - width]) for width in range(widest + 1)]
        reference = np.zeros(size)
        for width, places in enumerate(starts):
            for start in range(int(places)):
                reference[start : start + width] += 1 / (places * (widest + 1))
        np.testing.assert_allclose(hit, reference, atol=0.03)


def test_masked_frames_and_channels_are_zero_and_others_stay() -> None:
    features = [drawn(frames, 40, seed=frames) for frames in (100, 30, 1)]
    masked = augmenter(spec_augment={}).masked(features, ["a", "b", "c"], 0)
    for before, after in zip(features, masked, strict=True):
        zero = after == 0
        rows, columns = zero.all(dim=1), zero.all(dim=0)
        assert torch.equal(zero, rows[:, None] | columns[None])
        assert torch.equal(after[~zero], before[~zero])
    assert any((after == 0).any() for after in masked)
    off = augmenter(spec_augment={"p": 0.0}).masked(features, ["a", "b", "c"], 0)
    assert all(one is other for one, other in zip(off, features, strict=True))


def test_masks_depend_on_seed_epoch_and_name_alone() -> None:
    feature = drawn(50, 40)

    def zeros(seed: int = 1, epoch: int = 0, name: str = "a") -> bytes:
        torch.manual_seed(epoch)
        (masked,) = augmenter(seed, spec_augment={}).masked([feature], [name], epoch)
        return (masked == 0).numpy().tobytes()

    assert zeros() == zeros()
    assert len({zeros(), zeros(2), zeros(epoch=1), zeros(name="b")}) == 4


# --- mixtures -------------------------------------------------------------------------------------------------------


def padded(seed: int) -> tuple[Tensor, Tensor]:
    features = drawn(len(LENGTHS), max(LENGTHS), 3, seed=seed)
    for row, length in zip(features, LENGTHS, strict=True):
        row[length:] = 0
    return features, torch.tensor(LENGTHS)


@pytest.mark.parametrize("sizes", [None, [2, 2]])
def test_mixtures_of_inputs(sizes: list[int] | None) -> None:
    """x̃ = λ x + (1 - λ) x', frame by frame, where x' is repeated or cut to the frames of x."""
    features, lengths = padded(3)
    rows = drawn(4, 6, seed=4)
    partners, weights = ([1, 0, 3, 2], [0.3, 0.9]) if sizes else ([2, 3, 1, 0], [0.3])
    mixing = Mixing(torch.tensor(weights, dtype=torch.float64), torch.tensor(partners), sizes)
    mixed, kept, mixed_rows = mixing.inputs(features, lengths, rows)
    assert torch.equal(kept, lengths)
    for item, partner in enumerate(partners):
        weight = weights[item // 2] if sizes else weights[0]
        for frame in range(max(LENGTHS)):
            other = features[partner, frame % LENGTHS[partner]]
            expected = weight * features[item, frame] + (1 - weight) * other if frame < LENGTHS[item] else 0 * other
            torch.testing.assert_close(mixed[item, frame], expected, rtol=0, atol=1e-15)
        torch.testing.assert_close(
            mixed_rows[item], weight * rows[item] + (1 - weight) * rows[partner], rtol=0, atol=1e-15
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_loss_of_mixed_classes_is_the_cross_entropy_of_mixed_targets(smoothing: float) -> None:
    """-Σ_k ỹ_k log p_k with ỹ = λ y + (1 - λ) y', each smoothed: ``y (1 - s) + s / K``."""
    logits, classes, partners, weight = drawn(4, 3), torch.tensor([0, 2, 1, 2]), torch.tensor([1, 3, 0, 2]), 0.3
    mixing = Mixing(torch.tensor([weight], dtype=torch.float64), partners)
    own, others = mixing.targets(classes)
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    found = mixing.losses(loss(logits, own), loss(logits, others))
    reference = 0.0
    for row, label, partner in zip(logits.tolist(), classes.tolist(), partners.tolist(), strict=True):
        log_sum = math.log(sum(map(math.exp, row)))
        target = [0.0] * 3
        target[label] += weight
        target[classes[partner]] += 1 - weight
        target = [value * (1 - smoothing) + smoothing / 3 for value in target]
        reference -= sum(share * (value - log_sum) for share, value in zip(target, row, strict=True)) / 4
    assert found.item() == pytest.approx(reference, abs=1e-12)


def test_numbers_are_mixed_and_unknown_ones_stay_unknown() -> None:
    targets = torch.tensor([[1.0, 2.0], [3.0, math.nan], [5.0, 6.0]], dtype=torch.float64)
    mixed, none = Mixing(torch.tensor([0.25], dtype=torch.float64), torch.tensor([2, 0, 1])).targets(targets)
    assert none is None
    expected = torch.tensor([[4.0, 5.0], [1.5, math.nan], [3.5, math.nan]], dtype=torch.float64)
    torch.testing.assert_close(mixed, expected, equal_nan=True)


def test_weights_are_beta_and_partners_of_the_same_batch() -> None:
    mixup = augmenter(mixup={"alpha": 0.4})
    mixings = [mixup.mixing([f"u{number}", *"bcd"], [2, 2], 0) for number in range(1500)]
    weights = np.array([mixing.weights[0] for mixing in mixings if mixing])
    variance = 1 / (4 * (2 * 0.4 + 1))  # of Beta(α, α): 1 / (4 (2 α + 1)), mean 1/2
    assert weights.mean() == pytest.approx(0.5, abs=0.04)
    assert weights.var() == pytest.approx(variance, abs=0.02)
    assert all(sorted(mixing.partners.tolist()[:2]) == [0, 1] for mixing in mixings if mixing)
    assert augmenter(mixup={"p": 0.0}).mixing(list("abcd"), None, 0) is None
    assert mixup.mixing(list("abcd"), None, 1) is not None


def test_batches_computed_together_are_mixed_as_each_alone() -> None:
    mixup, names = augmenter(mixup={}), list("abcdef")
    together = mixup.mixing(names, [4, 2], 3)
    apart = [mixup.mixing(names[:4], None, 3), mixup.mixing(names[4:], None, 3)]
    assert together is not None
    assert together.weights.tolist() == [mixing.weights.item() for mixing in apart if mixing]
    assert together.partners.tolist() == [
        first + index
        for first, mixing in zip((0, 4), apart, strict=True)
        if mixing
        for index in mixing.partners.tolist()
    ]


# --- runs -----------------------------------------------------------------------------------------------------------


def test_heads_that_cannot_mix_refuse(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    from s3prl_emotion import host

    host.register()
    expert: Any = host.expert_class("emotion_latent")
    section = {"datarc": {"labels": "x", "train_batch_size": 2, "eval_batch_size": 2, "augment": {"mixup": {}}}}
    with pytest.raises(ConfigError, match="mixup: emotion_latent cannot learn the targets of mixtures; leave mixup"):
        expert.read_section(section, None)


@pytest.mark.full
@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("emotion_acnn", {"filters": 8, "max_length": 1.0}),
        ("emotion_tcgru", {}),
        ("emotion_multitask", {}),
    ],
)
def test_other_heads_learn_mixtures(
    cli: Cli, graded_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, head: str, options: dict[str, Any]
) -> None:
    if head == "emotion_acnn":
        monkeypatch.setattr(type(graded_corpus), "modelrc", {})
    more: dict[str, object] = {f"downstream_expert.modelrc.{key}": value for key, value in options.items()}
    if head != "emotion_tcgru":
        more |= {f"{DATA}.classes": ["ang", "sad"], f"{DATA}.distribution": {"source": "consensus"}}
    more |= {f"{DATA}.augment": {"spec_augment": {}, "mixup": {"alpha": 1.0}}, f"{DATA}.test_fold": "fold1"}
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", "x", "-o", graded_corpus.overrides(**more))
    about = json.loads(Path("x/test_fold1_metrics.json").read_text())["augmentation"]
    assert about["mixup"] == {"alpha": 1.0, "p": 1.0}


@pytest.mark.full
def test_training_on_batches_computed_together_is_the_same(
    cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3prl_emotion import host

    options = {f"{DATA}.augment": {"mixup": {"alpha": 1.0}}, "runner.gradient_accumulate_steps": 2}
    options |= {"downstream_expert.modelrc.pooling": "mean"}
    found = []
    for together in (True, False):
        monkeypatch.setattr(host.expert_class("emotion_corr_attn"), "joins_batches", together)
        words = ("-p", str(together), "--statistics", "always", "-o", tiny_corpus.overrides(**options))
        cli("-m", "train", *HEAD, *words)
        found.append(load_checkpoint(Path(str(together)) / "states-6.ckpt"))
    weights = [[value for value in each["Downstream"].values() if isinstance(value, Tensor)] for each in found]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "flags", "message"),
    [
        (
            {f"{DATA}.augment": {"spec_augment": {}}, "specaug": {"apply_time_warp": True}},
            (),
            "augment.spec_augment: does not go with the section specaug",
        ),
        (
            {f"{DATA}.augment": {"spec_augment": {}}},
            ("--statistics", "always"),
            "--statistics always: datarc.augment.spec_augment masks frames",
        ),
        ({f"{DATA}.augment": {"mixup": {}, "views": 2}}, (), "augment.views: has no effect without one of speed"),
        ({f"{DATA}.augment": {"mixup": {}}, "runner.seeding": "superb"}, (), "SUPERB trains on the audio as it is"),
    ],
)
def test_runs_that_are_refused(
    cli: Cli, tiny_corpus: TinyCorpus, overrides: dict[str, object], flags: tuple[str, ...], message: str
) -> None:
    refused = cli("-m", "train", *HEAD, "-p", "x", *flags, "-o", tiny_corpus.overrides(**overrides), code=1)
    assert message in refused.error
