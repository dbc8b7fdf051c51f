"""CMU-MOSEI: opinions of English speakers in online videos; crowd workers rated sentiment and six emotions.

Licence: not verified; the videos belong to YouTube users.
Source: https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK (the raw archive: folder Raw)
Official split: lists of videos in the SDK's ``cmu_mosei_std_folds.py``: put that file into ROOT; else the folders
    train, dev (valid) and test of segmented audio; without either there is no column Split_Set.
Expected: not checked: releases and papers differ; one published list has 23,259 segments.
Known faults: some utterances begin before 0 s or have no length (dropped); transcripts contain long underscores,
    which are also the separator; video ids in single workers' files may begin with a folder's name; speakers are not
    published, so that SpkrID is the video; a rating is an intensity from 0 to 3 for each emotion, so that a worker's
    vote goes to the strongest emotion, to several if they tie, and to neutral if all are 0.
Citation: A. Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic
    Fusion Graph, ACL 2018.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Prepared, Preparer, Vote, flag, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import (
    audio_files,
    by_stem,
    first_file,
    number,
    read_csv,
    read_text,
    tables,
)
from s3prl_emotion.corpora.prepare.votes import plurality, shares_of
from s3prl_emotion.errors import AudioError, LabelError

TITLE = "CMU-MOSEI"
LAYOUT = (
    "Raw (or ROOT itself) with Labels/*.csv of single workers, and audio: segments as VIDEO_CLIP.wav, or "
    "Audio/Full/WAV_16000/VIDEO.wav with Transcript/Segmented/Combined/VIDEO.txt and --cut DIR"
)
EMOTIONS = {
    "happiness": "happy", "sadness": "sad", "anger": "angry", "surprise": "surprise", "disgust": "disgust",
    "fear": "fear",
}  # fmt: skip
CLASSES = (*EMOTIONS.values(), "neutral")
FOLDS = {"standard_train_fold": "Train", "standard_valid_fold": "Development", "standard_test_fold": "Test"}
FOLDERS = {"train": "Train", "dev": "Development", "valid": "Development", "val": "Development", "test": "Test"}
_SEGMENT = re.compile(r"(.+?)___(\d+)___(-?[\d.]+)___(-?[\d.]+)___(.*)")
Segments = dict[tuple[str, str], tuple[float, float, str]]  # by video and clip: start and end (s), text
Ratings = dict[tuple[str, str], list[tuple[str, dict[str, float]]]]  # by video and clip: worker, intensities


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare cmu-mosei``."""

    cut: Path | None = field(
        default=None,
        metadata=flag(
            type=Path,
            convert=Path.expanduser,
            metavar="DIR",
            help="cut the utterances out of whole videos' audio, into DIR",
        ),
    )


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of CMU-MOSEI, and cut them out of the videos' audio if ``options.cut`` names a folder.

    Raises:
        LabelError: ROOT does not look like CMU-MOSEI, or a file is malformed
    """
    raw = root / "Raw" if (root / "Raw").is_dir() else root
    ratings, incomplete = _ratings(raw)
    segments, notes = _segments(raw)
    notes += incomplete
    if options.cut is not None:
        audio_root = options.cut
        paths = _cut(raw, audio_root, segments, ratings, notes)
    else:
        audio_root = root
        named = by_stem(audio_files(root))
        paths = {key: path for key in ratings if (path := named.get("_".join(key))) is not None}
    if not paths:
        raise wrong_layout(root, TITLE, LAYOUT)
    splits = _splits(root)
    clips, votes = [], []
    for (video, clip), path in sorted(paths.items(), key=lambda item: item[1]):
        given = [(worker, vote) for worker, levels in ratings[video, clip] for vote in votes_of(levels)]
        shares = shares_of((vote for _, vote in given), CLASSES)
        votes += [Vote(path, worker, vote) for worker, vote in given]
        split = splits.get(video) or FOLDERS.get(path.parent.name.lower())
        text = segments[video, clip][2] if (video, clip) in segments else None
        more = _means(ratings[video, clip])
        clips.append(Clip(path, plurality(shares), video, split=split, text=text, shares=shares, more=more))
    notes += _gaps(len(ratings), len(paths))
    if any(clip.split is None for clip in clips):
        if any(clip.split for clip in clips):
            notes.append("some videos are in no official fold: their utterances are left out")
        else:
            notes.append("no cmu_mosei_std_folds.py: no official split")
            return Prepared(audio_root, clips, votes, notes=notes)
    return Prepared(audio_root, [clip for clip in clips if clip.split], votes, notes=notes)


def votes_of(levels: dict[str, float]) -> list[str]:
    """Return a worker's votes: the strongest emotion, several if they tie, neutral if all intensities are 0."""
    top = max(levels[emotion] for emotion in EMOTIONS)
    return [name for emotion, name in EMOTIONS.items() if levels[emotion] == top] if top > 0 else ["neutral"]


def _gaps(rated: int, audible: int) -> list[str]:
    return [f"{rated - audible} rated utterances have no audio and are left out"] if rated > audible else []


def _means(rows: list[tuple[str, dict[str, float]]]) -> dict[str, str]:
    names = {"Sentiment": "sentiment", **{f"{name}_intensity": emotion for emotion, name in EMOTIONS.items()}}
    return {name: f"{sum(levels[key] for _, levels in rows) / len(rows):.6g}" for name, key in names.items()}


def _ratings(raw: Path) -> tuple[Ratings, list[str]]:
    """Read every worker's intensities; also return a note on incomplete answers."""
    lists = tables(raw / "Labels")
    if not lists:
        raise wrong_layout(raw, TITLE, LAYOUT)
    needed = ("Input.VIDEO_ID", "Input.CLIP", "WorkerId", *(f"Answer.{name}" for name in ("sentiment", *EMOTIONS)))
    ratings: defaultdict[tuple[str, str], list[tuple[str, dict[str, float]]]] = defaultdict(list)
    incomplete = 0
    for path in lists:
        for row in read_csv(path, needed):
            answers = {name: number(row[f"Answer.{name}"]) for name in ("sentiment", *EMOTIONS)}
            levels = {name: level for name, level in answers.items() if level is not None}
            if len(levels) < len(answers):
                incomplete += 1
                continue
            video = row["Input.VIDEO_ID"].strip().rpartition("/")[2]
            ratings[video, row["Input.CLIP"].strip()].append((row["WorkerId"].strip(), levels))
    return dict(ratings), [f"{incomplete} workers' answers are not complete and are left out"] if incomplete else []


def _segments(raw: Path) -> tuple[Segments, list[str]]:
    segments: Segments = {}
    early = empty = 0
    for path in sorted((raw / "Transcript" / "Segmented" / "Combined").glob("[!.]*.txt")):
        for line in read_text(path).splitlines():
            match = _SEGMENT.fullmatch(line.strip())
            if match is None:
                continue
            video, clip, text = match.group(1), match.group(2), match.group(5)
            start, end = float(match.group(3)), float(match.group(4))
            early += start < 0
            if end <= max(start, 0.0):
                empty += 1
                continue
            segments[video, clip] = (max(start, 0.0), end, text.strip("_ "))
    notes = [f"{early} utterances begin before 0 s and are taken from 0 s"] if early else []
    if empty:
        notes.append(f"{empty} utterances have no length and are left out")
    return segments, notes


def _splits(root: Path) -> dict[str, str]:
    """Return the split of each video from the SDK's list of standard folds, a Python file that is parsed, not run."""
    path = first_file(root, "cmu_mosei_std_folds.py", "Raw/cmu_mosei_std_folds.py")
    if path is None:
        return {}
    splits: dict[str, str] = {}
    try:
        for node in ast.parse(read_text(path)).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                split = FOLDS.get(node.targets[0].id)
                if split:
                    splits.update({str(video): split for video in ast.literal_eval(node.value)})
    except (SyntaxError, ValueError, TypeError) as error:
        raise LabelError(f"{path}: not the SDK's standard folds (lists of videos): {error}") from error
    return splits


def _cut(
    raw: Path, folder: Path, segments: Segments, ratings: Ratings, notes: list[str]
) -> dict[tuple[str, str], Path]:
    """Write each rated utterance as 16-bit FLAC at its video's rate; existing files are kept."""
    from s3prl_emotion.corpora.prepare.cutting import cut_segment

    videos = by_stem(audio_files(raw / "Audio" / "Full"))
    paths, beyond = {}, 0
    for (video, clip), (start, end, _) in sorted(segments.items()):
        if video not in videos or (video, clip) not in ratings:
            continue
        path = folder / f"{video}_{clip}.flac"
        try:
            if not path.is_file() and not cut_segment(videos[video], path, start, end):
                beyond += 1
                continue
        except AudioError as error:
            raise LabelError(f"{videos[video]}: cannot be cut to {path} ({error}); check the file and --cut") from error
        paths[video, clip] = path
    if beyond:
        notes.append(f"{beyond} utterances begin after their audio ends and are left out")
    return paths


PREPARER = Preparer(
    "cmu-mosei",
    TITLE,
    "English, online videos; votes, intensities of emotions and sentiment, transcripts, official split",
    "not verified",
    LAYOUT,
    read,
    Options,
)
