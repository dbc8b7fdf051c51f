"""``datarc.augment``: what is done to training utterances, against references in float64, and to them alone."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import Cli, TinyCorpus, tone

from s3prl_emotion.audio import SAMPLE_RATE, load_audio
from s3prl_emotion.corpora import Utterance, load_corpus
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.loading.augmentation.augmenter import SIMULATED_ROOMS, Augmenter
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.recipe import AugmentSection, DataSection

DATA = "downstream_expert.datarc"
HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
ALL = {
    "speed": {"factors": [0.8, 1.25]},
    "babble": {"snr": [0, 10]},
    "noise": {"source": "pink"},
    "gain": {"db": [-3, 3]},
}
Augment = Callable[..., Augmenter]


@pytest.fixture
def utterances(tiny_corpus: TinyCorpus) -> list[Utterance]:
    files = sorted(tiny_corpus.root.glob("*.wav"))
    return [Utterance(path.name, path, 0, speaker=path.name.partition("_")[0]) for path in files]


@pytest.fixture
def augment(utterances: list[Utterance]) -> Augment:
    def build(run_seed: int = 3, **values: Any) -> Augmenter:
        return Augmenter(AugmentSection.read(values, "augment"), utterances, run_seed)

    return build


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "hum.wav", tone(50, 1.5, 7), SAMPLE_RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def speech() -> np.ndarray:
    return tone(220, 0.5, 1)


def decibels(ratio: float) -> float:
    return float(10 * np.log10(ratio))


# --- what each does -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["noise", "babble"])
def test_snr_is_that_of_the_powers(augment: Augment, recordings: Path, speech: np.ndarray, kind: str) -> None:
    """SNR = 10 log10(Σ s² / Σ n²), in float64, of what was added to the speech."""
    options = {"source": str(recordings)} if kind == "noise" else {}
    for snr in (-3.0, 12.5):
        louder = augment(**{kind: {"snr": snr, "p": 1.0, **options}})(0.2 * speech, "s0_ang_0.wav", 0)
        clean = 0.2 * speech.astype(np.float64)
        assert decibels((clean**2).sum() / ((louder - clean) ** 2).sum()) == pytest.approx(snr, abs=1e-3)


def test_babble_and_noise_each_have_their_own_snr(augment: Augment, speech: np.ndarray) -> None:
    options = {"babble": {"snr": 10, "p": 1.0}, "noise": {"source": "white", "snr": 15, "p": 1.0}}
    apart = [augment(**{kind: values})(speech, "s1_sad_0.wav", 4) - speech for kind, values in options.items()]
    both = augment(**options)(speech, "s1_sad_0.wav", 4)
    np.testing.assert_allclose(both, speech + apart[0] + apart[1], atol=1e-6)


def test_babble_is_of_other_training_speakers(augment: Augment, utterances: list[Utterance]) -> None:
    babble = augment(babble={}).noises["babble"]
    for turn in range(8):
        _, said = babble.draw("s2_neu_1.wav", 4000, turn)
        assert {item[:2] for item in said.split("+")} <= {"s0", "s1", "s3", "s4", "s5"}


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_scales_length_and_pitch(augment: Augment, speech: np.ndarray, factor: float) -> None:
    faster = augment(speed={"factors": [factor], "p": 1.0})(speech, "a", 0)
    assert len(faster) == -(-len(speech) // factor)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert spectrum.argmax() * SAMPLE_RATE / len(faster) == pytest.approx(220 * factor, abs=SAMPLE_RATE / len(faster))


def test_gain_is_in_decibels_and_stays_within_full_scale(augment: Augment, speech: np.ndarray) -> None:
    quiet = augment(gain={"db": [-6, -6], "p": 1.0})(speech, "a", 0)
    np.testing.assert_allclose(quiet, speech.astype(np.float64) * 10 ** (-6 / 20), rtol=1e-6)
    gains = [augment(gain={"db": [-2, 4], "p": 1.0})(speech, str(name), 0)[0] / speech[0] for name in range(200)]
    levels = 20 * np.log10(gains)
    assert -2 <= levels.min() < -1.8
    assert 3.8 < levels.max() <= 4
    loud = augment(gain={"db": [40, 40], "p": 1.0})(speech, "a", 0)
    np.testing.assert_allclose(loud, speech * (0.99 / np.abs(speech).max()), rtol=1e-6)


def test_reverberation_is_the_convolution_from_the_direct_sound_on(
    augment: Augment, recordings: Path, speech: np.ndarray
) -> None:
    response = np.zeros(3000, np.float32)
    response[[100, 400, 2900]] = 0.8, -0.5, 0.2
    (recordings / "hum.wav").unlink()
    soundfile.write(recordings / "room.wav", response, SAMPLE_RATE, subtype="FLOAT")
    wet = augment(reverb={"source": str(recordings), "p": 1.0})(speech, "a", 0)
    expected = np.convolve(speech.astype(np.float64), response.astype(np.float64))[100 : 100 + len(speech)]
    expected *= np.sqrt((speech.astype(np.float64) ** 2).sum() / (expected**2).sum())
    np.testing.assert_allclose(wet, expected, atol=1e-6)


def test_simulated_rooms_are_simulated_once(augment: Augment, speech: np.ndarray) -> None:
    pytest.importorskip("pyroomacoustics")
    augmenter = augment(reverb={"p": 1.0})
    reverb: Any = augmenter.reverb
    wet = augmenter(speech, "a", 5)
    assert len(wet) == len(speech)
    assert not np.array_equal(wet, speech)
    (number,) = reverb.simulated
    assert 0 <= number < SIMULATED_ROOMS
    reverb.rooms = None  # which would simulate another
    np.testing.assert_array_equal(augmenter(speech, "a", 5), wet)


def test_what_is_not_drawn_stays_as_it_is(augment: Augment, speech: np.ndarray) -> None:
    off = {kind: {**values, "p": 0.0} for kind, values in ALL.items()}
    assert augment(**off)(speech, "s0_ang_0.wav", 0) is speech
    assert augment(speed={"factors": [1.0], "p": 1.0})(speech, "a", 0) is speech
    silence = np.zeros(100, np.float32)
    assert augment(noise={"source": "white", "p": 1.0})(silence, "a", 0) is silence


def test_probability_of_each_augmentation(augment: Augment, speech: np.ndarray) -> None:
    augmenter = augment(gain={"p": 0.3})
    changed = np.mean([augmenter(speech, str(name), 0) is not speech for name in range(1000)])
    assert changed == pytest.approx(0.3, abs=0.06)  # 4 standard deviations


# --- draws ----------------------------------------------------------------------------------------------------------


def test_draws_depend_on_seed_turn_and_name_alone(augment: Augment, speech: np.ndarray) -> None:
    def heard(seed: int = 3, turn: int = 0, name: str = "s0_ang_0.wav", own: int | None = None) -> bytes:
        more = {} if own is None else {"seed": own}
        always = {kind: {**values, "p": 1.0} for kind, values in ALL.items()}
        before = speech.copy()
        augmenter = pickle.loads(pickle.dumps(augment(run_seed=seed, **always, **more)))
        augmenter(speech, "s3_hap_1.wav", 9)  # what came before has no part in it
        found: bytes = augmenter(speech, name, turn).tobytes()
        assert np.array_equal(speech, before)
        return found

    np.random.seed(0)  # the global generator has no part in it
    state = np.random.get_state()[1].tobytes()
    assert len({heard(), heard(4), heard(turn=1), heard(name="s1_ang_0.wav")}) == 4
    assert heard() == heard()
    assert heard(7, own=3) == heard()
    assert np.random.get_state()[1].tobytes() == state


def loaders_of(corpus: TinyCorpus, seed: int = 5, **more: Any) -> Loaders:
    values = {"root": str(corpus.root), "labels": str(corpus.labels), "train_batch_size": 4, "eval_batch_size": 4}
    data = DataSection.read({**values, "test_fold": "fold1", "augment": ALL} | more, "datarc")
    return Loaders(load_corpus(data), data, seed)


def batches_of(loader: Any) -> dict[str, np.ndarray]:
    return {name: wave for waves, _, names in loader for wave, name in zip(waves, names, strict=True)}


@pytest.mark.parametrize("more", [{}, {"pre_load": False}, {"max_duration": 0.35}], ids=["loaded", "read", "cut"])
def test_only_training_batches_are_augmented(tiny_corpus: TinyCorpus, more: dict[str, Any]) -> None:
    loaders = loaders_of(tiny_corpus, **more)
    for split in ("train", "dev", "test"):
        for name, wave in batches_of(loaders.evaluation(split)).items():
            assert np.array_equal(wave, load_audio(tiny_corpus.root / name))
    found = batches_of(loaders.training("train", 2))
    limit = round(more.get("max_duration", 9) * SAMPLE_RATE)
    augmenter = Augmenter(AugmentSection.read(ALL, "augment"), loaders.corpus.split("train"), 5)
    for name, wave in found.items():
        clean = load_audio(tiny_corpus.root / name)
        assert np.array_equal(wave, augmenter(clean, name, 2)[:limit])
    assert set(found) == {item.name for item in loaders.corpus.split("train")}
    assert any(not np.array_equal(wave, load_audio(tiny_corpus.root / name)[:limit]) for name, wave in found.items())
    assert all(loaders.waveform_hashes("train"))  # of the audio as it was read


def test_loader_processes_give_the_same(tiny_corpus: TinyCorpus) -> None:
    loaders = loaders_of(tiny_corpus, pre_load=False)
    loader = loaders.training("train", 3)
    dataset: Any = loader.dataset
    reader = pickle.loads(pickle.dumps(dataset.for_processes()))
    for indices in loader.batch_sampler:
        for index in indices:
            assert index // len(dataset) == 3
            for found, expected in zip(reader[index], dataset[index], strict=True):
                assert np.array_equal(found, expected)
            assert reader[~index][1] == dataset[~index][1] == -1
    assert {note[0] for note in reader.take_notes()} == set(range(len(dataset)))


def test_views_come_round(tiny_corpus: TinyCorpus) -> None:
    loaders = loaders_of(tiny_corpus, augment=ALL | {"views": 2})
    epochs = [batches_of(loaders.training("train", epoch)) for epoch in range(3)]
    assert all(np.array_equal(epochs[0][name], epochs[2][name]) for name in epochs[0])
    assert any(not np.array_equal(epochs[0][name], epochs[1][name]) for name in epochs[0])


# --- runs -----------------------------------------------------------------------------------------------------------


def trained(cli: Cli, corpus: TinyCorpus, folder: str, *flags: str, **overrides: object) -> dict[str, Any]:
    """The last checkpoint and the test metrics of a run of nearly two epochs."""
    values = {
        f"{DATA}.test_fold": "fold1",
        f"{DATA}.train_batch_size": 8,
        f"{DATA}.augment": ALL,
        "runner.total_steps": 6,
    }
    cli("-m", "train", *HEAD, "-p", folder, *flags, "-o", corpus.overrides(**values | overrides))
    metrics = json.loads(Path(folder, "test_fold1_metrics.json").read_text())
    return {"state": load_checkpoint(Path(folder) / "states-6.ckpt"), "metrics": metrics}


def weights(run: dict[str, Any]) -> list[Any]:
    return [value for value in run["state"]["Downstream"].values() if isinstance(value, torch.Tensor)]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(*pair) for pair in zip(weights(one), weights(other), strict=True))


def test_store_holds_the_views_and_changes_nothing(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    options: dict[str, object] = {f"{DATA}.augment": ALL | {"views": 2}, "downstream_expert.modelrc.pooling": "corr"}
    without = trained(cli, tiny_corpus, "without", **options)
    stored = trained(cli, tiny_corpus, "stored", "--feature_store", "store", **options)
    assert same(without, stored)
    about = stored["metrics"]["augmentation"]
    assert about["babble"] == {"snr": [0, 10], "p": 0.5}
    assert (about["views"], about["seed"]) == (2, 1337)


@pytest.mark.full
def test_means_of_the_views_are_stored(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    options: dict[str, object] = {f"{DATA}.augment": ALL | {"views": 2}, "downstream_expert.modelrc.pooling": "mean"}
    stored = trained(cli, tiny_corpus, "stored", "--feature_store", "store", **options)
    again = trained(cli, tiny_corpus, "again", "--feature_store", "store", **options | {f"{DATA}.pre_load": False})
    plain = trained(cli, tiny_corpus, "plain", "--feature_store", "store", **options | {f"{DATA}.augment": None})
    assert stored["metrics"]["statistics"] == "means"
    assert same(stored, again)
    assert not same(stored, plain)
    assert "augmentation" not in plain["metrics"]


def test_store_without_views_is_refused(cli: Cli, tiny_corpus: TinyCorpus) -> None:
    options = tiny_corpus.overrides(**{f"{DATA}.augment": ALL})
    refused = cli("-m", "train", *HEAD, "-p", "x", "--feature_store", "store", "-o", options, code=1)
    assert "--feature_store: datarc.augment draws anew in every epoch" in refused.error
    refused = cli("-m", "train", *HEAD, "-p", "x", "--statistics", "always", "-o", options, code=1)
    assert "--statistics always: datarc.augment draws anew in every epoch; set datarc.augment.views" in refused.error


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"noise": {"source": "white", "snr": [20, 10]}},
            r"noise\.snr: must have the lower limit first, got \[20, 10\]",
        ),
        ({"babble": {"snr": [0, 400]}}, r"babble\.snr\.1: .*less than or equal to 100"),
        ({"speed": {"factors": [0.9, 0]}}, r"speed\.factors\.1: .*greater than or equal to 0\.25, got 0"),
        ({"speed": {"factors": []}}, r"speed\.factors: .*at least 1 item"),
        ({"gain": {"p": 1.5}}, r"gain\.p: .*less than or equal to 1, got 1\.5"),
        ({"noise": {"source": "babble"}}, r"noise\.source: babble has a key of its own, augment\.babble"),
        ({"noise": {}}, r"noise\.source: this key is required"),
        ({"sped": {}}, r"augment\.sped: unknown key.*speed"),
        ({"gain": {}, "views": 0}, r"views: .*greater than or equal to 1"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentSection.read(values, "datarc.augment")


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({}, "datarc.augment: names no augmentation; add speed, reverb, babble, noise, gain, spec_augment, mixup"),
        ({"noise": {"source": "gone"}}, "datarc.augment.noise.source: gone: neither a folder nor one of"),
        ({"noise": {"source": "."}}, "datarc.augment.noise.source: .: holds no audio"),
        ({"reverb": {"source": "."}}, "datarc.augment.reverb.source: .: holds no audio"),
    ],
)
def test_runs_that_are_refused(cli: Cli, tiny_corpus: TinyCorpus, augment: dict[str, Any], message: str) -> None:
    refused = cli("-m", "train", *HEAD, "-p", "x", "-o", tiny_corpus.overrides(**{f"{DATA}.augment": augment}), code=1)
    assert message in refused.error
    assert not Path("x").exists()


def test_two_training_speakers_give_no_babble(utterances: list[Utterance]) -> None:
    few = [item for item in utterances if item.speaker in ("s0", "s1")]
    with pytest.raises(LabelError, match=r"training split: babble needs at least 3 known speakers.*leave datarc\.aug"):
        Augmenter(AugmentSection.read({"babble": {}}, "augment"), few, 0)
