"""What a checkpoint keeps of its training data, and how utterances and speakers are found in it again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, tone

from s3prl_emotion import host
from s3prl_emotion.audio import waveform_hash
from s3prl_emotion.corpora.corpus import Corpus, Utterance
from s3prl_emotion.corpora.seen import KEY, Overlap, Seen, TrainingData, overlap_of, read_seen
from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.recipe import DataSection

host.register()
from s3prl.downstream.emotion_latent.unlabelled import UnlabelledSection, with_unlabelled  # noqa: E402

SPLITS = {"train": range(0, 6), "dev": range(6, 8), "test": range(8, 10)}


def utterance(folder: Path, number: int, **values: Any) -> Utterance:
    """Utterance of speaker ``number``, whose file is not there."""
    name = f"{number}.wav"
    return Utterance(name, folder / name, 0, **{"speaker": f"{number:02d}", **values})


def corpus_in(folder: Path, **values: Any) -> Corpus:
    splits = {name: tuple(utterance(folder, n, **values) for n in numbers) for name, numbers in SPLITS.items()}
    return Corpus(folder / "labels.csv", "fold1", ("a", "b"), splits)


def with_test(corpus: Corpus, *items: Utterance) -> Corpus:
    return Corpus(corpus.source, corpus.fold, corpus.classes, corpus.splits | {"test": items})


def sounds(corpus: Corpus, first: int = 1) -> dict[str, np.ndarray]:
    """Other waveforms in every split."""
    return {
        name: first + 100 * turn + np.arange(len(items)) for turn, (name, items) in enumerate(corpus.splits.items())
    }


def seen_of(corpus: Corpus, waveforms: dict[str, np.ndarray], earlier: Seen | None = None) -> Seen:
    return TrainingData(corpus, "train").seen(waveforms, earlier)


def found(seen: Seen, corpus: Corpus, waveforms: np.ndarray | None = None, split: str = "test") -> tuple[int, int, int]:
    overlap = overlap_of(seen, corpus, split, waveforms)
    return overlap.utterances, overlap.speakers, overlap.duplicates


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return corpus_in(tmp_path / "one")


@pytest.fixture
def seen(corpus: Corpus) -> Seen:
    return seen_of(corpus, sounds(corpus))


def test_what_was_held_out_is_not_found(corpus: Corpus, seen: Seen):
    assert found(seen, corpus, sounds(corpus)["test"]) == (0, 0, 0)


@pytest.mark.parametrize("number", [0, 7])
def test_train_and_dev_are_found_by_name_and_speaker(corpus: Corpus, seen: Seen, number: int):
    folder = corpus.source.parent
    assert found(seen, with_test(corpus, utterance(folder, number), utterance(folder, 9))) == (1, 1, 0)
    assert found(seen, with_test(corpus, utterance(folder, number, speaker=None))) == (1, 0, 0)
    assert found(seen, with_test(corpus, utterance(folder, 99, speaker=f"{number:02d}"))) == (0, 1, 0)


def test_table_below_the_audio_folder_is_of_the_same_corpus(corpus: Corpus, seen: Seen):
    part = utterance(corpus.source.parent / "part", 99, speaker="03")
    assert found(seen, with_test(corpus, part)) == (0, 1, 0)


def test_another_corpus_has_speakers_and_names_of_its_own(corpus: Corpus, seen: Seen, tmp_path: Path):
    others = tuple(utterance(tmp_path / "other", n, corpus="other") for n in range(10))
    with_other = Corpus(corpus.source, "fold1", corpus.classes, corpus.splits | {"other": others})
    assert found(seen, with_other, 1000 + np.arange(10), "other") == (0, 0, 0)


def test_waveform_of_another_corpus_is_found(corpus: Corpus, seen: Seen, tmp_path: Path):
    item = utterance(tmp_path / "other", 77, speaker="x", corpus="other")
    with_other = Corpus(corpus.source, "fold1", corpus.classes, corpus.splits | {"other": (item,)})
    assert found(seen, with_other, np.array([3]), "other") == (1, 0, 0)


def test_duplicates_in_the_training_s_own_split_are_no_leak(corpus: Corpus, seen: Seen):
    assert found(seen, corpus, np.array([3, 999])) == (0, 0, 1)
    stranger = with_test(corpus, utterance(corpus.source.parent, 50))  # not held out when it was trained
    assert found(seen, stranger, np.array([3])) == (1, 0, 0)


def test_moved_corpus_is_known_by_a_file_that_sounds_the_same(tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    corpus, moved = corpus_in(here), corpus_in(there)
    hashes = {}
    for folder in (here, there):
        folder.mkdir()
        for number in range(10):
            soundfile.write(folder / f"{number}.wav", tone(200, 0.1, number), RATE, subtype="FLOAT")
    for split, items in corpus.splits.items():
        hashes[split] = np.array([waveform_hash(soundfile.read(item.path, dtype="float32")[0]) for item in items])
    seen = seen_of(corpus, hashes)
    assert found(seen, with_test(moved, utterance(there, 99, speaker="03"))) == (0, 1, 0)
    for number in range(10):  # files of these names with other sounds are another corpus
        soundfile.write(there / f"{number}.wav", tone(300, 0.1, 50 + number), RATE, subtype="FLOAT")
    assert found(seen, with_test(moved, utterance(there, 3))) == (0, 0, 0)


@pytest.mark.parametrize("name", ["Unknown", "unk", "", "nan"])
def test_unknown_speakers_are_nobody(tmp_path: Path, name: str):
    corpus = corpus_in(tmp_path, speaker=name)
    assert found(seen_of(corpus, {}), corpus) == (0, 0, 0)


def test_speakers_that_are_shared_on_purpose_do_not_count(corpus: Corpus, seen: Seen):
    shared = Corpus(
        corpus.source, "fold1", corpus.classes, corpus.splits | {"test": (utterance(corpus.source.parent, 0),)},
        shared_speakers=frozenset({"test"}),
    )  # fmt: skip
    assert found(seen, shared) == (1, 0, 0)


def test_degraded_copies_are_known_by_their_source(corpus: Corpus, seen: Seen, tmp_path: Path):
    for key in (None, "noisy"):
        copies = [utterance(tmp_path / "noisy", n, source=f"{n}.wav", corpus=key) for n in (0, 8)]
        with_copies = Corpus(corpus.source, "fold1", corpus.classes, corpus.splits | {"test_5dB": tuple(copies)})
        assert found(seen, with_copies, split="test_5dB") == (1, 1, 0)


def test_several_corpora_keep_their_speakers_apart(tmp_path: Path):
    parts = [corpus_in(tmp_path / name, corpus=name) for name in ("one", "two")]
    named = [
        {
            split: tuple(
                Utterance(f"{key}/{item.name}", item.path, 0, f"{key}/{item.speaker}", corpus=key) for item in items
            )
            for split, items in part.splits.items()
        }
        for key, part in zip(("one", "two"), parts, strict=True)
    ]
    joined = Corpus(Path("datarc.corpora"), "fold1", ("a", "b"), {
        "train": named[0]["train"], "dev": named[0]["dev"] + named[1]["dev"], "test": named[1]["train"],
    })  # fmt: skip
    seen = seen_of(joined, {})
    assert found(seen, joined) == (0, 0, 0)
    alone = with_test(parts[0], *parts[0].splits["train"])
    assert found(seen, alone) == (6, 6, 0)


def test_unlabelled_utterances_count_and_the_rest_of_their_corpus_is_tested(corpus: Corpus, tmp_path: Path):
    others = tuple(utterance(tmp_path / "other", n, speaker="x", corpus="other") for n in range(10))
    both = Corpus(corpus.source, "fold1", corpus.classes, corpus.splits | {"other": others})
    used = with_unlabelled(both, UnlabelledSection(splits=["other"], share=0.2), "train")
    seen = seen_of(used, {})
    assert found(seen, used, split="other") == (0, 0, 0)
    assert found(seen, both, split="other") == (2, 1, 0)


def test_weights_that_went_on_from_others_saw_both(corpus: Corpus, seen: Seen, tmp_path: Path):
    other = corpus_in(tmp_path / "two")
    both = seen_of(other, {}).joined(seen)
    assert found(both, with_test(corpus, *corpus.splits["train"])) == (6, 6, 0)
    assert found(both, with_test(other, *other.splits["train"])) == (6, 6, 0)
    assert (both.train_names() == seen_of(other, {}).train_names()).all()
    assert not both.joined(Seen(is_complete=False)).is_complete


def test_resumed_training_keeps_the_waveforms_that_were_read_before(corpus: Corpus, seen: Seen):
    again = seen_of(corpus, {"dev": sounds(corpus)["dev"]}, seen)
    assert (again.traces[0].train == seen.traces[0].train).all()


def test_checkpoint_grows_by_few_bytes_and_loads_without_code(tmp_path: Path):
    sizes = []
    for count in (200, 1200):
        items = {"train": count, "dev": count // 5, "test": count // 5}
        splits = {
            name: tuple(utterance(tmp_path, n, speaker=f"{n % 50}") for n in range(size))
            for name, size in items.items()
        }
        corpus = Corpus(tmp_path / "labels.csv", "fold1", ("a", "b"), splits)
        file = io.BytesIO()
        torch.save({KEY: seen_of(corpus, sounds(corpus)).to_state()}, file)
        sizes.append(file.tell())
        file.seek(0)
        state = torch.load(file, weights_only=True)
        assert len(read_seen(state, "x.ckpt").traces[0].train) == count
    assert (sizes[1] - sizes[0]) / 1000 < 32


def test_checkpoint_without_a_record_is_not_known():
    assert not read_seen({}, "old.ckpt").is_complete
    assert Overlap("test", is_complete=False).note == "its training set is not known: not checked"


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: [],
        lambda state: state | {"corpora": 3},
        lambda state: state | {"corpora": [{}]},
        lambda state: {name: value for name, value in state.items() if name != "format"},
        lambda state: state | {"corpora": [state["corpora"][0] | {"train": torch.zeros(3)}]},
        lambda state: state | {"corpora": [state["corpora"][0] | {"dev": torch.zeros(3, dtype=torch.int64)}]},
        lambda state: state | {"corpora": [state["corpora"][0] | {"speakers": "s"}]},
    ],
)
def test_damaged_record_is_one_line(seen: Seen, damage: Any):
    with pytest.raises(CheckpointError, match=r"^x\.ckpt: its record of what it was trained on is damaged; [^\n]*$"):
        read_seen({KEY: damage(seen.to_state())}, "x.ckpt")


def test_record_of_a_newer_format_is_refused(seen: Seen):
    with pytest.raises(CheckpointError, match=r"^x\.ckpt: .* has format 2; upgrade s3prl-emotion$"):
        read_seen({KEY: seen.to_state() | {"format": 2}}, "x.ckpt")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.full)])
def test_loaders_know_the_waveforms_that_were_read(tmp_path: Path, workers: int):
    corpus = corpus_in(tmp_path)
    for number in range(10):
        soundfile.write(tmp_path / f"{number}.wav", tone(200, 0.2, number), RATE, subtype="FLOAT")
    options = {"labels": "x", "train_batch_size": 2, "eval_batch_size": 2, "pre_load": False, "max_duration": 0.1}
    loaders = Loaders(corpus, DataSection(**options, num_workers=workers), seed=0)
    assert not loaders.waveform_hashes("train").any()
    batches = iter(loaders.training("train", 0))
    waveforms, *_ = next(batches)
    if not workers:  # others may be read ahead
        assert np.count_nonzero(loaders.waveform_hashes("train")) == 2
    assert len(waveforms[0]) == 0.1 * RATE
    list(batches)
    whole = [waveform_hash(soundfile.read(item.path, dtype="float32")[0]) for item in corpus.splits["train"]]
    assert loaders.waveform_hashes("train").tolist() == whole  # of the whole audio, though training cuts it
