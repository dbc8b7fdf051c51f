"""What makes a run repeatable: order of the batches, decoded audio, random generators, checkpoints."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TinyCorpus
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.errors import AudioError, CheckpointError
from s3prl_emotion.files import checkpoint
from s3prl_emotion.files.checkpoint import load_checkpoint, save_checkpoint
from s3prl_emotion.loading.class_balance import sampling_weights
from s3prl_emotion.loading.dataset import STAND_IN, EpochBatches, UtteranceDataset, collate
from s3prl_emotion.rng import own_seed, restore_rng, rng_state, seed_everything

# --- order of the batches -------------------------------------------------------------------------------------------


def flat(batches: EpochBatches) -> list[int]:
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("size", [1, 7, 8, 20])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_every_index_once(size: int, batch_size: int) -> None:
    batches = EpochBatches(size, batch_size, seed=1, epoch=0)
    assert sorted(flat(batches)) == list(range(size))
    sizes = [len(batch) for batch in batches]
    assert all(length == batch_size for length in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size
    assert len(batches) == len(sizes) == -(-size // batch_size)


def test_order_is_fixed_by_seed_and_epoch() -> None:
    first = list(EpochBatches(50, 4, seed=3, epoch=2))
    torch.manual_seed(99)  # the global generator has no part in it
    random.seed(99)
    assert list(EpochBatches(50, 4, seed=3, epoch=2)) == first


def test_building_batches_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    list(EpochBatches(50, 4, 3, 2))
    list(EpochBatches(50, 4, 3, 2, weights=torch.ones(50)))
    assert torch.equal(torch.get_rng_state(), before)


def test_order_differs_between_epochs_and_seeds() -> None:
    orders = {tuple(flat(EpochBatches(50, 4, seed, epoch))) for seed in range(4) for epoch in range(5)}
    assert len(orders) == 20
    assert tuple(range(50)) not in orders


@pytest.mark.parametrize("done", range(6))
def test_skip_leaves_the_tail(done: int) -> None:
    whole = list(EpochBatches(18, 4, seed=1, epoch=1))
    resumed = EpochBatches(18, 4, seed=1, epoch=1)
    resumed.skip(done)
    assert list(resumed) == whole[done:]
    assert len(resumed) == len(whole) - done


def test_batches_can_be_gone_through_twice() -> None:
    batches = EpochBatches(10, 3, 0, 0)
    assert list(batches) == list(batches)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("size", "world"), [(12, 3), (10, 4), (7, 2), (2, 5), (1, 3)])
def test_ranks_share_the_batches_of_one_process(size: int, world: int, weighted: bool) -> None:
    weights = torch.ones(size) if weighted else None
    whole = list(EpochBatches(size, 2 * world, 5, 1, weights))
    ranks = [list(EpochBatches(size, 2, 5, 1, weights, rank, world)) for rank in range(world)]
    assert [len(rank) for rank in ranks] == [len(whole)] * world
    for number, batch in enumerate(whole):
        real = [[index for index in rank[number] if index >= 0] for rank in ranks]
        assert sorted(index for share in real for index in share) == sorted(batch)
        assert max(map(len, real)) - min(map(len, real)) <= 1
        assert all(rank[number] == [~batch[0]] for rank, share in zip(ranks, real, strict=True) if not share)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**31 - 1), st.integers(0, 1000))
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
def test_property_ranks_cover_all_once(size: int, batch_size: int, world: int, seed: int, epoch: int) -> None:
    ranks = [EpochBatches(size, batch_size, seed, epoch, rank=rank, world=world) for rank in range(world)]
    assert sorted(index for rank in ranks for index in flat(rank) if index >= 0) == list(range(size))
    assert len({len(rank) for rank in ranks}) == 1
    assert all(batch for rank in ranks for batch in rank)


def test_stand_in_has_the_waveform_and_no_label(tiny_corpus: TinyCorpus) -> None:
    utterance = Utterance("s0_ang_0.wav", tiny_corpus.root / "s0_ang_0.wav", 2)
    dataset = UtteranceDataset([utterance], pre_load=False, max_duration=None)
    waveform, label, name = dataset[~0]
    assert (label, name) == (STAND_IN, utterance.name)
    assert np.array_equal(waveform, dataset[0][0])


def test_weighted_draw_balances_classes() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    order = flat(EpochBatches(1000, 32, seed=0, epoch=0, weights=sampling_weights(labels)))
    shares = Counter(labels[index] for index in order)
    assert len(order) == 1000
    assert all(abs(shares[label] / 1000 - 1 / 3) < 0.06 for label in range(3))  # 4 standard deviations
    assert max(Counter(order).values()) > 1  # with replacement


def test_weighted_draw_is_fixed_by_seed_and_epoch() -> None:
    weights = sampling_weights([0, 0, 0, 0, 1, 1] * 10)
    first = flat(EpochBatches(60, 8, 1, 0, weights))
    assert flat(EpochBatches(60, 8, 1, 0, weights)) == first
    assert flat(EpochBatches(60, 8, 1, 1, weights)) != first
    assert flat(EpochBatches(60, 8, 2, 0, weights)) != first


def test_utterance_of_weight_0_is_never_drawn() -> None:
    weights = torch.tensor([0.5, 0.0, 0.5])
    assert 1 not in {index for epoch in range(30) for index in flat(EpochBatches(3, 2, 0, epoch, weights))}


# --- audio ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    found = []
    for number, samples in enumerate([1600, 4800, 1, 3333]):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, samples).astype(np.float32)
        path = tmp_path / f"u{number}.wav"
        soundfile.write(path, noise, SAMPLE_RATE, subtype="FLOAT")
        found.append(Utterance(path.name, path, label=number % 3))
    return found


@pytest.mark.parametrize("max_duration", [None, 0.1])
def test_preloaded_is_as_read_each_time(utterances: list[Utterance], max_duration: float | None) -> None:
    lazy = UtteranceDataset(utterances, pre_load=False, max_duration=max_duration)
    loaded = UtteranceDataset(utterances, pre_load=True, max_duration=max_duration)
    assert len(lazy) == len(loaded) == 4
    for index, utterance in enumerate(utterances):
        (one, *rest), (other, *others) = lazy[index], loaded[index]
        assert one.dtype == other.dtype == np.float32
        assert np.array_equal(one, other)
        assert rest == others == [utterance.label, utterance.name]


def test_preloaded_audio_needs_no_files(utterances: list[Utterance]) -> None:
    loaded = UtteranceDataset(utterances, pre_load=True, max_duration=None)
    lazy = UtteranceDataset(utterances, pre_load=False, max_duration=None)
    utterances[1].path.unlink()
    assert len(loaded[1][0]) == 4800
    with pytest.raises(AudioError, match=r"u1\.wav: no such audio file"):
        lazy[1]


def test_preloading_names_the_file_at_fault(utterances: list[Utterance]) -> None:
    utterances[2].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"u2\.wav: unreadable audio"):
        UtteranceDataset(utterances, pre_load=True, max_duration=None)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, [1600, 4800, 1, 3333]), (0.1, [1600, 1600, 1, 1600]), (60.0, [1600, 4800, 1, 3333]), (1e-6, [1, 1, 1, 1])],
)
def test_audio_is_cut_after_max_duration(
    utterances: list[Utterance], seconds: float | None, expected: list[int]
) -> None:
    whole = UtteranceDataset(utterances, pre_load=False, max_duration=None)
    cut = UtteranceDataset(utterances, pre_load=False, max_duration=seconds)
    assert [len(cut[index][0]) for index in range(4)] == expected
    assert all(np.array_equal(cut[index][0], whole[index][0][: expected[index]]) for index in range(4))


def test_collate_keeps_order_and_lengths() -> None:
    items = [(np.full(length, length, np.float32), length % 2, f"u{length}") for length in (3, 1, 2)]
    waveforms, labels, names = collate(items)
    assert [waveform.tolist() for waveform in waveforms] == [[3.0] * 3, [1.0], [2.0] * 2]
    assert (labels, names) == ([1, 1, 0], ["u3", "u1", "u2"])
    assert all(type(part) is list for part in (waveforms, labels, names))


# --- random generators ----------------------------------------------------------------------------------------------

Draws = tuple[Any, ...]


def draws() -> Draws:
    """From all generators, normal ones too, of which Python's and NumPy's keep every second for later."""
    return (
        random.random(),
        random.gauss(0, 1),
        random.sample(range(1000), 5),
        np.random.rand(3).tolist(),
        np.random.randn(),
        torch.rand(3).tolist(),
        torch.randn(()).item(),
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    seed_everything(0)


def saved_and_loaded(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    torch.save(state, folder / "rng.pt")
    return torch.load(folder / "rng.pt", weights_only=True)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("normals", [0, 1, 2])
def test_restored_generators_repeat_their_draws(normals: int, stored: bool, tmp_path: Path) -> None:
    for _ in range(normals):  # with an odd number the next one is already drawn, and part of the state
        random.gauss(0, 1)
        np.random.randn()
    state = rng_state()
    if stored:
        state = saved_and_loaded(state, tmp_path)
    expected = draws()
    assert draws() != expected
    restore_rng(state)
    assert draws() == expected


def test_a_restored_state_can_be_used_again() -> None:
    state = rng_state()
    first = draws()
    for _ in range(2):
        restore_rng(state)
        assert draws() == first


def test_seed_everything_fixes_all_draws() -> None:
    seed_everything(7)
    first = draws()
    seed_everything(7)
    assert draws() == first
    seed_everything(8)
    other = draws()
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))


def test_own_seed_is_fixed_inside_and_unnoticed_outside() -> None:
    expected_outside = draws()
    seed_everything(0)
    with own_seed(5):
        first = draws()
    assert draws() == expected_outside
    with own_seed(5):
        assert draws() == first


def test_own_seed_puts_generators_back_after_an_error() -> None:
    expected = draws()
    seed_everything(0)
    with pytest.raises(ZeroDivisionError, match="division"), own_seed(5):
        random.random() + np.random.rand() + torch.rand(()).item() / 0
    assert draws() == expected


# --- checkpoints ----------------------------------------------------------------------------------------------------


def state_of_a_run() -> dict[str, Any]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "Downstream": model.state_dict(),
        "Optimizer": optimizer.state_dict(),
        "Step": 12,
        "Epoch": 3,
        "Args": argparse.Namespace(mode="train", upstream="fbank", downstream="emotion", expdir="result/a", seed=1337),
        "Config": {"runner": {"total_steps": 6, "lr": 1e-4}, "classes": ["ang", "hap"], "flag": True},
        "RNG": rng_state(),
    }


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state, path = state_of_a_run(), tmp_path / "states-12.ckpt"
    save_checkpoint(state, path)
    loaded = load_checkpoint(path)
    assert list(loaded) == list(state)
    for key in ("Step", "Epoch", "Args", "Config"):
        assert loaded[key] == state[key]
    for key, value in state["Downstream"].items():
        assert torch.equal(loaded["Downstream"][key], value)
    optimizer = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    optimizer.load_state_dict(loaded["Optimizer"])
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], state["Optimizer"]["state"][0]["exp_avg"])
    restore_rng(state["RNG"])
    expected = draws()
    restore_rng(loaded["RNG"])
    assert draws() == expected
    assert [file.name for file in tmp_path.iterdir()] == ["states-12.ckpt"]


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_of_the_host_is_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "states-1.ckpt"
    torch.save(state_of_a_run(), path, _use_new_zipfile_serialization=zipped)
    assert load_checkpoint(str(path))["Step"] == 12


class Malicious:
    """Runs a command while it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.system, os.mkdir, eval], ids=["system", "mkdir", "eval"])
@pytest.mark.parametrize("way", ["zip", "legacy", "pickle"])
def test_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path, way: str, call: Callable[..., Any]) -> None:
    path, trace = tmp_path / "dev-best.ckpt", tmp_path / "pwned"
    words = {os.system: f"mkdir '{trace}'", os.mkdir: str(trace)}.get(call, f"__import__('os').mkdir({str(trace)!r})")
    state = {**state_of_a_run(), "Extra": Malicious(call, words)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(state["Extra"]))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=way == "zip")

    with pytest.raises(CheckpointError, match=r"dev-best\.ckpt: (refused, since it holds objects|damaged or not a)"):
        load_checkpoint(path)

    assert not trace.exists()
    if way == "pickle":  # it would have run
        pickle.loads(path.read_bytes())
        assert trace.exists()


def test_refusal_says_that_nothing_was_run(tmp_path: Path) -> None:
    path = tmp_path / "states-1.ckpt"
    torch.save({**state_of_a_run(), "Extra": Path("/")}, path)
    with pytest.raises(CheckpointError, match="objects other than tensors and plain data; no code in it was run"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoint_is_damaged(tmp_path: Path, share: float, zipped: bool) -> None:
    path = tmp_path / "states-1.ckpt"
    torch.save(state_of_a_run(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"states-1\.ckpt: damaged or not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(20))
def test_arbitrary_bytes_are_no_checkpoint(tmp_path: Path, seed: int) -> None:
    """The unpickler takes them for instructions, and fails in a different way each time."""
    path = tmp_path / "states-1.ckpt"
    path.write_bytes(random.Random(seed).randbytes(5 * seed))
    with pytest.raises(CheckpointError, match=r"states-1\.ckpt: damaged or not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"RIFF\x00\x00\x00\x00WAVEfmt ", b"runner:\n  total_steps: 1\n", b"\x80", b"."])
def test_another_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "states-1.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"states-1\.ckpt: damaged or not a checkpoint"):
        load_checkpoint(path)


def test_another_zip_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "states-1.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(CheckpointError, match=r"states-1\.ckpt: damaged or not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("there", [False, True])
def test_missing_checkpoint_is_named(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "states-9.ckpt"
    if there:
        path.mkdir()  # a folder is none either
    with pytest.raises(CheckpointError, match=r"states-9\.ckpt: no such checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"Args": 1}, {"Config": {}}, [1, 2], 3, torch.zeros(2)])
def test_other_contents_are_no_experiment(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "states-1.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of a downstream experiment \(it lacks Args or Config"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (OSError(28, "No space left on device"), CheckpointError, "could not be written .*No space left on device"),
        (
            RuntimeError("PytorchStreamWriter failed\nstack"),
            CheckpointError,
            r"written \(PytorchStreamWriter failed\);",
        ),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (TypeError("a defect of ours"), TypeError, "a defect of ours"),
    ],
    ids=["disk full", "torch", "interrupt", "defect"],
)
@pytest.mark.parametrize("older", [True, False])
def test_failed_write_leaves_the_older_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    older: bool,
    failure: BaseException,
    expected: type[BaseException],
    message: str,
) -> None:
    path = tmp_path / "states-1.ckpt"
    if older:
        save_checkpoint(state_of_a_run(), path)
    content = path.read_bytes() if older else None

    def fail(state: Any, file: Any) -> None:
        file.write(b"some bytes")
        file.flush()
        raise failure

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(expected, match=message):
        save_checkpoint({"Step": 13}, path)

    assert (path.read_bytes() if path.exists() else None) == content
    assert list(tmp_path.iterdir()) == ([path] if older else [])


def test_new_checkpoint_replaces_the_older_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "states-1.ckpt"
    save_checkpoint(state_of_a_run(), path)
    before, write, seen = path.read_bytes(), torch.save, []

    def watch(state: Any, file: Any) -> None:
        write(state, file)
        seen.append(path.read_bytes() == before)  # nobody sees half of the new one under the name

    monkeypatch.setattr(checkpoint.torch, "save", watch)
    save_checkpoint({**state_of_a_run(), "Step": 13}, path)
    assert seen == [True]
    assert load_checkpoint(path)["Step"] == 13
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_no_folder_to_write_into(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match=r"states-1\.ckpt: could not be written"):
        save_checkpoint(state_of_a_run(), tmp_path / folder / "states-1.ckpt")
