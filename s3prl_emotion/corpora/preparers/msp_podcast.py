"""MSP-Podcast: natural English speech from podcasts, graded by crowd workers; releases 1.3 to 1.12.

Licence: of the University of Texas at Dallas, on request; the podcasts themselves are under Creative Commons
    licences.
Source: https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html
Official split: Train, Development (Validation in older releases), Test1, Test2, and from 1.11 on Test3, whose labels
    are not published.
Expected: release 1.11, as the corpus's page has it: Train 84,030, Development 19,815, Test1 30,647, Test2 14,815
    segments (and Test3 2,347 without labels). Counts of other releases are not checked: they were not verified.
Known faults: older releases spell the table ``labels_concensus.csv``; speakers that are not yet identified are called
    Unknown, only in Train; test partitions share some speakers with each other; MSP-PODCAST_1023_0235.wav is stereo at
    44.1 kHz in release 1.8.
Citation: R. Lotfian and C. Busso, Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional
    Speech From Existing Podcast Recordings, IEEE Transactions on Affective Computing 10(4), 2019.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from s3prl_emotion.corpora.class_names import MSP_LETTERS, NO_AGREEMENT, OTHER
from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.corpora.prepare.preparer import (
    Clip,
    Expected,
    Levels,
    NoOptions,
    Prepared,
    Preparer,
    Rating,
    Vote,
    wrong_layout,
)
from s3prl_emotion.corpora.prepare.source_files import (
    audio_files,
    by_stem,
    first_file,
    gender,
    number,
    read_csv,
    read_text,
)
from s3prl_emotion.corpora.prepare.votes import mean_and_spread, shares_of, without_shares
from s3prl_emotion.errors import LabelError

TITLE = "MSP-Podcast"
LAYOUT = "Labels/labels_consensus.csv and Audios/*.wav"
CLASSES = tuple(name for name in MSP_LETTERS.values() if name != NO_AGREEMENT)
SPLITS = {"train": "Train", "development": "Development", "dev": "Development", "validation": "Development"}
EXPECTED = {
    "1.11": Expected(splits={"Train": 84030, "Development": 19815, "Test1": 30647, "Test2": 14815}),
}
GRADERS = ("WorkerID", "Worker", "Annotator", "AnnotatorID", "Grader")  # names of the column with the grader
_RELEASE = re.compile(r"(?:release|publish|version)[\s_-]*v?(\d+\.\d+)", re.IGNORECASE)
_PARTITION = re.compile(r"(MSP-\w+?_\d+_\d+\w*)(?:\.wav)?", re.IGNORECASE)
_SPLIT_NAME = re.compile(r"\b(train|development|validation|test\d?)\b", re.IGNORECASE)
Grade = tuple[str, str, str, Levels]  # file, grader, class, levels


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of MSP-Podcast.

    Raises:
        LabelError: ROOT does not look like MSP-Podcast, or a table is malformed
    """
    table = first_file(root, "Labels/labels_consensus.csv", "Labels/labels_concensus.csv")
    if table is None:
        raise wrong_layout(root, TITLE, LAYOUT)
    rows = read_csv(table, ("FileName", "EmoClass"))
    audio = by_stem(audio_files(first_folder(root, "Audios", "Audio")))
    texts = by_stem([*first_folder(root, "Transcripts", "Transcript").rglob("*.txt")])
    partitions = _partitions(root)
    grades, unknown = _grades(root)
    clips, votes, ratings = [], [], []
    hidden = 0
    for line, row in enumerate(rows, start=2):
        stem = Path(row["FileName"]).stem
        letter = row["EmoClass"].strip()
        if not letter:
            hidden += 1
            continue
        if letter not in MSP_LETTERS:
            raise LabelError(
                f"{table} line {line}: EmoClass {letter!r} is none of MSP's letters {''.join(MSP_LETTERS)}"
            )
        path = audio.get(stem, root / "Audios" / f"{stem}.wav")
        votes += [Vote(path, grader, emotion) for _, grader, emotion, _ in grades[stem]]
        ratings += [Rating(path, grader, levels) for _, grader, _, levels in grades[stem]]
        text = read_text(texts[stem]).strip() if stem in texts else None
        split = _split(row.get("Split_Set", "") or partitions.get(stem, ""))
        clips.append(_clip(row, letter, path, split, text, grades[stem]))
    release = _release(root)
    notes = [*unknown, *_notes(release, hidden)]
    clips = _complete_shares(clips, notes)
    unsplit = sum(clip.split is None for clip in clips)
    if 0 < unsplit < len(clips):
        notes.append(f"{unsplit} utterances have no official split; training refuses a table with such gaps")
    return Prepared(root, clips, votes, ratings, EXPECTED.get(release or "", Expected()), notes)


def first_folder(root: Path, *names: str) -> Path:
    """Return the first of several folders that exists, or else the first name."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def _clip(
    row: dict[str, str], letter: str, path: Path, split: str | None, text: str | None, given: list[Grade]
) -> Clip:
    means = (number(row.get("EmoAct", "")), number(row.get("EmoVal", "")), number(row.get("EmoDom", "")))
    _, spreads = mean_and_spread([levels for *_, levels in given])
    shares = shares_of((emotion for _, _, emotion, _ in given), CLASSES)
    speaker = row.get("SpkrID", "").strip() or "Unknown"
    return Clip(
        path, MSP_LETTERS[letter], speaker, gender(row.get("Gender", "")), None, split, text, means, spreads, shares
    )


def _complete_shares(clips: list[Clip], notes: list[str]) -> list[Clip]:
    """Remove all shares if a row has none: a label table cannot have gaps there."""
    without = [clip for clip in clips if not clip.shares]
    if not without or len(without) == len(clips):
        if without:
            notes.append("no labels_detailed.csv or .json: no spreads, shares, votes.csv nor ratings.csv")
        return clips
    notes.append(f"{len(without)} utterances have no votes, as {without[0].path.name}: no share columns; use votes.csv")
    return without_shares(clips)


def _notes(release: str | None, hidden: int) -> list[str]:
    notes = [f"release {release}" if release else "release not known (no readme.txt): counts are not checked"]
    if release and release not in EXPECTED:
        notes[0] += ": counts of this release are not known and not checked"
    if hidden:
        notes.append(f"{hidden} utterances have no published label and are left out")
    return notes


def _release(root: Path) -> str | None:
    readme = first_file(root, "readme.txt")
    for text in (read_text(readme) if readme else "", root.resolve().name):
        match = _RELEASE.search(text)
        if match:
            return match.group(1)
    return None


def _split(name: str) -> str | None:
    name = name.strip()
    return SPLITS.get(name.lower(), name) or None


def _partitions(root: Path) -> dict[str, str]:
    """Read the split of each utterance from Partitions.txt, for releases whose table does not have it."""
    path = first_file(root, "Partitions.txt", "Partition.txt", "Labels/Partitions.txt", "partitions.txt")
    partitions = {}
    for line in read_text(path).splitlines() if path else ():
        name, split = _PARTITION.search(line), _SPLIT_NAME.search(line)
        if name and split:
            partitions[name.group(1)] = split.group(1).title()
    return partitions


def _grades(root: Path) -> tuple[dict[str, list[Grade]], list[str]]:
    """Read every grade by stem; also return a note on classes that are not in the list."""
    grades: defaultdict[str, list[Grade]] = defaultdict(list)
    unknown: Counter[str] = Counter()
    for name, grader, emotion, row in _detailed(root):
        known = emotion.strip().lower()
        if known not in CLASSES:
            if not known.startswith(OTHER):
                unknown[emotion] += 1
            known = OTHER
        stem = Path(name).stem
        levels = tuple(number(str(row.get(key, ""))) for key in DIMENSIONS)
        grades[stem].append((stem, grader, known, (levels[0], levels[1], levels[2])))
    if not unknown:
        return grades, []
    words = ", ".join(f"{word!r}" for word, _ in unknown.most_common(3))
    return grades, [f"{sum(unknown.values())} votes are for classes that are not of the list, as {words}: other"]


def _detailed(root: Path) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Yield file, grader, class and the table's row of each grade."""
    path = first_file(root, "Labels/labels_detailed.csv")
    if path is not None:
        for row in read_csv(path, ("FileName", "EmoClass_Major")):
            grader = next((row[name] for name in GRADERS if name in row), "")
            yield row["FileName"], grader, row["EmoClass_Major"], row
        return
    path = first_file(root, "Labels/labels_detailed.json")
    if path is None:
        return
    try:
        content = json.loads(read_text(path))
        for name, graders in content.items():
            for grader, row in graders.items():
                yield name, grader, str(row["EmoClass_Major"]), row
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise LabelError(f"{path}: not the detailed labels of MSP-Podcast (file, worker, EmoClass_Major)") from error


PREPARER = Preparer(
    "msp-podcast",
    TITLE,
    "English, natural; votes, activation, valence and dominance (1-7), transcripts, official split",
    "UT Dallas's own, on request",
    LAYOUT,
    read,
    dimensional=True,
)
