"""Read SUPERB's split lists of IEMOCAP, ``meta_data/SessionN/{train,test}_meta_data.json``, and draw its dev set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.audio_names import check_below
from s3prl_emotion.corpora.corpus import Corpus, Utterance
from s3prl_emotion.corpora.protocol import RANDOM, SPEAKERS, SUPERB, Protocol, draw, fold_numbers, made_with, split_of
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection

SPLIT_SEED = 0  # s3prl's own task seeds torch with this before it draws the validation set
# Ses01F_impro04_M016: session 1, the dialogue recorded from F's side, spoken by M.
IEMOCAP_NAME = re.compile(r"^(Ses\d\d)[FM]_.*_([FM])\w?\d+\w?$")


def read_corpus(folder: Path, root: Path, config: DataSection) -> Corpus:
    """Read one fold of SUPERB's split lists, with SUPERB's own random validation set.

    Args:
        folder: holds ``SessionN/train_meta_data.json`` and ``SessionN/test_meta_data.json``
        root: audio folder; the listed paths are below it
        config: ``test_fold`` names the fold (``fold1`` is Session1), ``valid_ratio`` the share drawn for validation

    Raises:
        LabelError: unknown fold, malformed list, or options that SUPERB's protocol fixes
    """
    if config.merge:
        raise LabelError(f"{folder}: SUPERB's split lists fix the classes; leave datarc.merge out")
    if config.partition is not None:
        raise LabelError(f"{folder}: SUPERB's split lists have no columns; leave datarc.partition out")
    if config.valid_from == SPEAKERS:
        raise LabelError(f"{folder}: SUPERB draws dev from train's utterances; leave datarc.valid_from out")
    if config.protocol == RANDOM:
        return _read_at_random(folder, root, config)
    fold = config.test_fold or "fold1"
    session = folder / fold.replace("fold", "Session")
    if not session.is_dir():
        known = sorted(path.name.replace("Session", "fold") for path in folder.glob("Session*"))
        raise LabelError(f"{folder}: no fold {fold!r} (datarc.test_fold){nearest(fold, known, most=5)}")
    classes, listed = _read_list(session / "train_meta_data.json", root, config.allow_outside)
    test_classes, test = _read_list(session / "test_meta_data.json", root, config.allow_outside)
    if classes != test_classes:
        raise LabelError(f"{session}: the train list has classes {classes}, the test list {test_classes}")
    if config.classes is not None and tuple(config.classes) != classes:
        raise LabelError(f"{session}: datarc.classes must be {list(classes)}, in this order, or left out")
    shared = sorted({item.speaker or "" for item in listed} & {item.speaker or "" for item in test})
    if shared:
        raise LabelError(f"{session}: speaker {shared[0]} is in both the train list and the test list")
    if not config.valid_ratio:
        raise LabelError(
            f"{folder}: SUPERB's protocol has a dev split, which datarc.valid_ratio: 0 leaves out; use its 0.2"
        )
    train, dev = drawn_validation(len(listed), config.valid_ratio)
    splits = {
        "train": tuple(listed[index] for index in train),
        "dev": tuple(listed[index] for index in dev),
        "test": tuple(test),
    }
    with_train = frozenset({"dev"})
    return Corpus(folder, fold, classes, splits, shared_speakers=with_train, protocol=Protocol(SUPERB))


def _read_at_random(folder: Path, root: Path, config: DataSection) -> Corpus:
    """Read all lists together and split the utterances under ``datarc.protocol: random``, not as SUPERB does."""
    paths = sorted(folder.glob("Session*/t*_meta_data.json"))
    if not paths:
        raise LabelError(f"{folder}: no SessionN/train_meta_data.json in it; it should be SUPERB's meta_data")
    lists = {path: _read_list(path, root, config.allow_outside) for path in paths}
    classes = lists[paths[0]][0]
    for path, (own, _) in lists.items():
        if own != classes:
            raise LabelError(f"{path}: has classes {own}, {paths[0]} has {classes}")
    if config.classes is not None and tuple(config.classes) != classes:
        raise LabelError(f"{folder}: datarc.classes must be {list(classes)}, in this order, or left out")
    every = {item.name: item for _, items in lists.values() for item in items}
    utterances = [every[name] for name in sorted(every)]
    numbers = fold_numbers(config)
    fold = config.test_fold or next(iter(numbers))
    if fold not in numbers:
        raise LabelError(f"{folder}: no fold {fold!r} (datarc.test_fold){nearest(fold, numbers, most=5)}")
    places = draw([item.name for item in utterances], [classes[item.label] for item in utterances], config)
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for item, place in zip(utterances, places, strict=True):
        splits[split_of(place, numbers[fold])].append(item)
    protocol, parts = made_with(config), {name: tuple(items) for name, items in splits.items()}
    return Corpus(folder, fold, classes, parts, shared_speakers=protocol.shared_by(parts), protocol=protocol)


def drawn_validation(listed: int, valid_ratio: float) -> tuple[list[int], list[int]]:
    """Split a train list as s3prl's own task does: indices to train on, and indices held out for validation.

    Args:
        listed: entries of the train list
        valid_ratio: share held out
    """
    import torch  # deferred: preparers need this module's file names, but no torch

    order = torch.randperm(listed, generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    cut = int((1 - valid_ratio) * listed)
    return order[:cut], order[cut:]


def read_entries(path: Path) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
    """Read a split list: class indices by name, and path, class and dialogue prefix of each utterance, unchecked.

    Raises:
        LabelError: the file is missing or is no such list
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels: dict[str, int] = content["labels"]
        numbers = sorted(labels.values())
        entries = [(str(entry["path"]), str(entry["label"]), str(entry["speaker"])) for entry in content["meta_data"]]
    except OSError as error:
        raise LabelError(
            f"{path}: cannot be read ({error.strerror}); it should be one of SUPERB's split lists"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelError(
            f"{path}: not one of SUPERB's split lists (labels, meta_data with path, label, speaker)"
        ) from error
    if numbers != list(range(len(labels))):
        raise LabelError(f"{path}: 'labels' must number the classes from 0, got {labels}")
    return labels, entries


def _read_list(path: Path, root: Path, allow_outside: bool = False) -> tuple[tuple[str, ...], list[Utterance]]:
    labels, entries = read_entries(path)
    if not allow_outside:
        check_below((name for name, _, _ in entries), path)
    seen: set[str] = set()
    utterances = []
    for name, label, dialogue in entries:
        if label not in labels:
            raise LabelError(
                f"{path}: {name} has class {label!r}, which 'labels' does not list{nearest(label, labels)}"
            )
        if name in seen:
            raise LabelError(f"{path}: {name} is listed twice")
        seen.add(name)
        speaker, gender = speaker_of(name, dialogue)
        utterances.append(Utterance(name, root / name, labels[label], speaker, gender))
    return tuple(sorted(labels, key=lambda name: labels[name])), utterances


def speaker_of(name: str, dialogue: str) -> tuple[str, str | None]:
    """Return the speaker and the gender of an utterance.

    IEMOCAP's file names have the true speaker; the ``speaker`` of SUPERB's lists is only the dialogue's prefix.

    Args:
        name: of the audio file
        dialogue: returned as the speaker if the file is not named as in IEMOCAP; the gender is then unknown
    """
    match = IEMOCAP_NAME.match(Path(name).stem)
    if match is None:
        return dialogue, None
    session, letter = match.groups()
    return f"{session}{letter}", "Female" if letter == "F" else "Male"
