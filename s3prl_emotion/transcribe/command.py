"""``s3prl-emotion transcribe``: transcribe every utterance of a corpus with a speech recogniser."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import Utterance, list_utterances
from s3prl_emotion.devices import check_device
from s3prl_emotion.extract.corpus_arguments import add_corpus_arguments, read_corpus_arguments
from s3prl_emotion.extract.filling import durations, longest_first
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.terminal import say
from s3prl_emotion.files.versions import versions
from s3prl_emotion.files.words import check_not_read
from s3prl_emotion.transcribe.asr import CHUNK, Recogniser, RecogniserOptions, load_recogniser
from s3prl_emotion.transcribe.record import Record, check_record, open_record
from s3prl_emotion.transcribe.scoring import Normaliser, normaliser_of, word_error_rate

logger = logging.getLogger(__name__)
MOST_NAMED = 5  # utterances with cut transcripts


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("-k", "--model", required=True, help="directory or hub id of a CTC model (HuBERT, wav2vec 2.0, …) or Whisper")
    add_corpus_arguments(parser)
    add("-o", "--output", type=Path, required=True, metavar="CSV", help="the file to write: FileName and Text")
    add("--device", help="default: cuda if there is one, else cpu")
    add(
        "--batch_size", type=int, default=1, help="utterances per batch, if the model's transcripts do not depend on it"
    )
    add("--revision", help="branch, tag or commit of a model on the hub")
    add("--language", help="language of the speech: en or English; default: multilingual Whisper models detect it")
    add("--chunk", type=float, default=CHUNK, metavar="S", help="longest piece (s); longer audio is cut at pauses")
    add("--allow_pickle", action="store_true", help="has no effect any more: .bin files are read without it")
    add("--overwrite", action="store_true", help="replace transcripts of another model or with other options")


def run(args: Namespace) -> int:
    """Transcribe the utterances that have no transcript yet, write the file, and print a summary.

    Raises:
        UsageError: an unsuitable model or option, or the file was made by another model
        LabelError: missing or malformed labels
        AudioError: an audio file is missing or unreadable
    """
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    check_record(args.output)
    config = read_corpus_arguments(args)
    check_not_read(args.output, [args.labels, args.model], "-o")
    utterances = list_utterances(config)
    options = RecogniserOptions(args.language, args.chunk, args.batch_size, device)
    recogniser = load_recogniser(args.model, options, args.revision, args.allow_pickle)
    root = str(Path(config.root).expanduser().resolve()) if config.root is not None else None
    with open_record(args.output, recogniser.identity() | {"root": root}, args.overwrite) as record:
        missing = [item for item in utterances if item.name not in record.texts]
        _transcribe(recogniser, missing, record)
        normaliser = normaliser_of(recogniser.spoken, recogniser.source.values("normalizer.json"))
        wer = _word_error_rate(utterances, record.texts, normaliser)
        if not record.is_finished:
            score = {"wer": wer, "wer_normaliser": None if wer is None else normaliser.name}
            record.finish(_about(recogniser, args) | score)
    say(f"{args.output}: {len(utterances)} utterances, {len(missing)} recognised now", about=args.output)
    if wer is not None:
        say(f"word error rate against the table's Text: {100 * wer:.2f} % ({normaliser.name})", about=args.output)
    return 0


def _transcribe(recogniser: Recogniser, utterances: Sequence[Utterance], record: Record) -> None:
    """Transcribe utterances, the longest first, so that too little memory shows at once."""
    seconds = durations(utterances)
    size = recogniser.batch_size
    by_length = sorted(range(len(utterances)), key=lambda index: (-seconds[index], index))
    order = longest_first(utterances, seconds) if size == 1 else by_length
    with progress(name="transcribe", unit="s of audio", total=round(sum(seconds)), hidden=not order) as bar:
        done, cut = 0.0, 0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            texts = recogniser.transcribe(
                [load_audio(item.path, item.channel, item.part) for item in map(utterances.__getitem__, batch)]
            )
            for index in recogniser.cut[: max(0, MOST_NAMED - cut)]:
                logger.warning(
                    "%s: its transcript ends at the model's limit of %d tokens; words may be missing behind it",
                    utterances[batch[index]].name, recogniser.limit,
                )  # fmt: skip
            cut += len(recogniser.cut)
            for index, text in zip(batch, texts, strict=True):
                record.add(utterances[index].name, text)
                done += seconds[index]
            bar.update(round(done) - bar.n)
    if cut > MOST_NAMED:
        logger.warning("%d transcripts end at the model's limit of %d tokens", cut, recogniser.limit)


def _word_error_rate(utterances: Sequence[Utterance], texts: dict[str, str], normaliser: Normaliser) -> float | None:
    """Return the word error rate against the label table's texts, if it has any."""
    known = [item for item in utterances if item.text is not None]
    return word_error_rate([item.text or "" for item in known], [texts[item.name] for item in known], normaliser)


def _about(recogniser: Recogniser, args: Namespace) -> dict[str, Any]:
    """Return what the record beside the transcripts holds besides their identity."""
    return {
        "model": args.model,
        "revision": args.revision,
        "commit": recogniser.commit,
        "labels": args.labels,
        "device": recogniser.options.device,
        "batch_size": recogniser.batch_size,
        "versions": versions(),
    }
