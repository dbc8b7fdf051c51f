"""Stand-ins for the corpora and the pretrained models that the recipes name, each at the place where it is looked for.

``write_stand_ins(folder)`` makes ``work``, a working directory with every corpus as published (or, where a recipe's
README asks for the user's own label table, with that table); ``hub`` and ``home``, caches of the model hub and of
s3prl that hold tiny models of the real ones' families and depths; ``environment_of(folder)`` makes processes use them.
The audio is tones of 0.3 to 0.5 s. Label tables that ``s3prl-emotion prepare`` makes are made by it.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import soundfile
import torch
from conftest import RATE, tone, write_superb_corpus
from corpus_minis import prepare
from tiny_models import save_tiny_hubert_large, save_tiny_wavlm_large
from tiny_text_models import save_tiny_bert, save_tiny_ctc, save_tiny_speller

from s3prl_emotion import host
from s3prl_emotion.corpora.class_names import MSP_LETTERS
from s3prl_emotion.corpora.demo import demo_corpus
from s3prl_emotion.corpora.preparers.iemocap import EMO_SUPERB
from s3prl_emotion.files.folders import CACHE_VARIABLE

LAYERS = 24  # of all the large models, which recipes name by number
SESSIONS = 5
FOUR = ("neutral", "sad", "happy", "angry")
ACTED = {  # corpora whose label table is the user's own: classes in it
    "EMO-DB": FOUR, "SAVEE": FOUR, "CaFE": FOUR, "URDU": FOUR, "AESDD": FOUR[1:],
}  # fmt: skip
SEVEN = (*FOUR, "disgust", "fear", "surprise")
WHISPERS = {"whisper-base-encoder": 6, "whisper-tiny.en": 4}  # folders of models beside the corpora, with their layers
BERLIN = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
MOSEI = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
SPLITS = ("Train", "Development", "Test1")
Row = dict[str, object]


def write_stand_ins(folder: Path) -> Path:
    """Make all of them; returns the working directory."""
    work = folder / "work"
    for write in (_iemocap, _podcast, _improv, _acted, _mosei, _unlabelled, _whispers):
        write(work)
    _demo(folder / "cache")
    _save_hub(folder / "hub")
    _save_s3prl(folder / "home")
    return work


def environment_of(folder: Path) -> dict[str, str]:
    """Variables of processes that are to find these models and corpora."""
    return {
        "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "HOME": str(folder / "home"),
        CACHE_VARIABLE: str(folder / "cache"),
    }  # fmt: skip


# --- corpora ----------------------------------------------------------------------------------------------------------


def _speak(path: Path, number: int, kind: int = 0, form: str | None = None) -> None:
    """Write an utterance: its class tells the pitch, its corpus and number everything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = crc32(f"{path.parent.parent.name} {number}".encode())  # no two corpora share a sound
    wave = tone(100 * 1.3**kind * (1 + 0.01 * (number % 5)), 0.3 + 0.02 * (number % 9), seed)
    soundfile.write(path, wave, RATE, format=form)


def _table(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _grades(number: int, low: int, high: int) -> list[int]:
    """Activation, valence and dominance of a grader."""
    return np.random.default_rng(number).integers(low, high + 1, size=3).tolist()


def _iemocap(work: Path) -> None:
    """IEMOCAP with SUPERB's lists and EmoEvaluation; its tables; and EMO-SUPERB's, whose audio lies in one folder."""
    corpus = write_superb_corpus(work, sessions=SESSIONS, per_class=2)
    rows = []
    for number, path in enumerate(sorted(corpus.root.rglob("*.wav"))):
        code = ("neu", "hap", "ang", "sad")[int(path.stem[-1])]
        word = {"neu": "Neutral", "hap": "Happiness", "ang": "Anger", "sad": "Sadness"}[code]
        act, val, dom = _grades(number, 1, 5)
        lines = [
            f"[{number}.0 - {number}.5]\t{path.stem}\t{code}\t[{val}.0000, {act}.0000, {dom}.0000]",
            f"C-E1:\t{word};\t()", f"C-E2:\t{word}; Frustration;\t()", f"A-E1:\tval {val}; act {act}; dom  {dom};\t()",
        ]  # fmt: skip
        dialogue = corpus.root / path.parts[-5] / "dialog" / "EmoEvaluation" / f"{path.parent.name}.txt"
        dialogue.parent.mkdir(parents=True, exist_ok=True)
        with dialogue.open("a") as handle:
            handle.write("\n".join([*lines, "", ""]))
        rows.append(_emo_superb_row(number, path.stem))
    shutil.copytree(corpus.root, work / "IEMOCAP_full_release")
    prepare("iemocap", corpus.root, corpus.root)
    prepare("iemocap", work / "IEMOCAP_full_release", work / "tables" / "superb", "--classes", "superb")
    for path in sorted(corpus.root.rglob("*.wav")):
        shutil.copy(path, corpus.root / path.name)
    _table(work / "labels_consensus_1.csv", rows)


def _emo_superb_row(number: int, name: str) -> Row:
    """A row as EMO-SUPERB's: shares smoothed by 0.05, two digits of the session for the speaker."""
    heard = EMO_SUPERB[number % len(EMO_SUPERB)]
    shares = {emotion: 0.95 if emotion == heard else 0.00625 for emotion in EMO_SUPERB}
    session, levels = int(name[3:5]), dict(zip(("EmoAct", "EmoVal", "EmoDom"), _grades(number, 1, 5), strict=True))
    split = "Train" if session <= 3 else "Development" if session == 4 else "Test"
    who = {"SpkrID": f"{session:02d}", "Gender": "Female" if name[-4] == "F" else "Male"}
    return {"FileName": f"{name}.wav", **shares, **levels, **who, "Split_Set": split}


def _podcast(work: Path) -> None:
    """MSP-Podcast as published, in the releases that recipes train and test on, and what ``prepare`` makes of each."""
    for release in ("", "-1.6", "-1.3"):
        _podcast_release(work / f"MSP-Podcast{release}")
        prepare("msp-podcast", work / f"MSP-Podcast{release}", work / "tables" / f"podcast{release}")


def _podcast_release(root: Path) -> None:
    letters = [letter for letter, name in MSP_LETTERS.items() if name != MSP_LETTERS["X"]]
    rows: list[Row] = []
    votes: list[Row] = []
    for part, split in enumerate(SPLITS):
        for number, letter in enumerate(letters):
            place = 100 * part + number
            name = f"MSP-PODCAST_{part:04d}_{number:04d}.wav"
            _speak(root / "Audios" / name, place, letters.index(letter))
            graded = [_grades(1000 * grader + place, 1, 7) for grader in range(3)]
            means = [round(float(value), 6) for value in np.mean(graded, axis=0)]
            dimensions = dict(zip(("EmoAct", "EmoVal", "EmoDom"), means, strict=True))
            who = {"SpkrID": 10 * part + number % 3, "Gender": ("Male", "Female")[number % 2]}
            rows.append({"FileName": name, "EmoClass": letter, **dimensions, **who, "Split_Set": split})
            heard = [MSP_LETTERS[letter], MSP_LETTERS[letter], MSP_LETTERS[letters[number % 4]]]
            for grader, (emotion, levels) in enumerate(zip(heard, graded, strict=True)):
                written = "Other-tired" if emotion == "other" else emotion.capitalize()
                vote = dict(zip(("EmoAct", "EmoVal", "EmoDom"), levels, strict=True))
                votes.append({"FileName": name, "WorkerID": f"W{grader}", "EmoClass_Major": written, **vote})
    _table(root / "Labels" / "labels_consensus.csv", rows)
    _table(root / "Labels" / "labels_detailed.csv", votes)


def _improv(work: Path) -> None:
    """MSP-IMPROV as published."""
    root, lines = work / "MSP-IMPROV", []
    for number, (letter, word) in enumerate(zip("NHAS" * 4, ("Neutral", "Happy", "Angry", "Sad") * 4, strict=True)):
        session, sex = 1 + number // 8, "FM"[number // 4 % 2]
        name = f"S{number:02d}A-{sex}{session:02d}-P-FM{number:02d}"
        levels = "; ".join(f"{key}:{value}.000000" for key, value in zip("AVD", _grades(number, 1, 5), strict=True))
        lines += [f"UTD-IMPROV-{name}.avi; {letter}; {levels} ; N:3.000000;", f"W1; {word}; {levels}; N:3.0;", ""]
        _speak(root / f"session{session}" / name[:4] / "P" / f"MSP-IMPROV-{name}.wav", number, "NHAS".index(letter))
    (root / "Evalution.txt").write_text("\n".join(lines))
    prepare("msp-improv", root, work / "tables" / "improv", "--flip_activation")


def _acted(work: Path) -> None:
    """Acted corpora: audio, and a table of the user's own with classes and dimensions, without folds."""
    for name, classes in ACTED.items():
        speakers = 4 if name == "SAVEE" else 5  # as many as its folds
        _acted_corpus(work / name / "labels.csv", work / name / "audio", classes, speakers)
    _acted_corpus(work / "emodb" / "labels.csv", work / "emodb" / "wav", BERLIN, speakers=10, dimensions=False)
    _acted_corpus(work / "emodb_16k" / "labels.csv", work / "emodb_16k" / "wav", FOUR, speakers=5, dimensions=False)
    _acted_corpus(work / "savee" / "labels.csv", work / "savee" / "audio", SEVEN, speakers=4, dimensions=False)


def _acted_corpus(labels: Path, root: Path, classes: Sequence[str], speakers: int, dimensions: bool = True) -> None:
    rows: list[Row] = []
    for speaker in range(speakers):
        for kind, emotion in enumerate(classes):
            number = 10 * speaker + kind
            _speak(root / f"{number:03d}.wav", number, kind)
            row: Row = {"FileName": f"{number:03d}.wav", "EmoClass": emotion, "SpkrID": f"s{speaker}"}
            if dimensions:
                row |= dict(zip(("EmoAct", "EmoVal", "EmoDom"), _grades(number, 1, 5), strict=True))
            rows.append({**row, "Gender": ("Male", "Female")[speaker % 2]})
    _table(labels, rows)


def _mosei(work: Path) -> None:
    """CMU-MOSEI as published, cut into segments; a worker a segment, and one who hears nothing, which is neutral."""
    root, folds = work / "CMU-MOSEI-segments", []
    rows: list[Row] = []
    for part, split in enumerate(("train", "valid", "test")):
        videos = [f"v{part}{take}" for take in range(2)]
        for kind, emotion in enumerate((*MOSEI, None)):
            video, clip = videos[kind % 2], kind // 2
            _speak(root / f"{video}_{clip}.wav", 20 * part + kind, kind)
            heard = {f"Answer.{name}": int(name == emotion) for name in MOSEI}
            rows.append({"Input.VIDEO_ID": video, "Input.CLIP": clip, "WorkerId": "W", "Answer.sentiment": 0, **heard})
        folds.append(f"standard_{split}_fold = {videos}")
    _table(root / "Labels" / "batch.csv", rows)
    (root / "cmu_mosei_std_folds.py").write_text("\n".join(folds))
    prepare("cmu-mosei", root, work / "tables" / "mosei")


def _unlabelled(work: Path) -> None:
    """Noises, talks with their segments, and read speech."""
    for number in range(3):
        _speak(work / "MUSAN" / "noise" / f"noise{number}.wav", number, 8)
        _speak(work / "LibriSpeech" / "train-clean-100" / "19" / "198" / f"19-198-{number:04d}.flac", number)
        _speak(work / "LibriSpeech" / "train-clean-100" / "26" / "495" / f"26-495-{number:04d}.flac", number)
    for release in ("TEDLIUM_release2", "TEDLIUM_release2_400"):
        for number in range(3):
            train = work / release / "train"
            _speak(train / "sph" / f"talk{number}.sph", number, form="NIST")
            (train / "stm").mkdir(exist_ok=True)
            line = f"talk{number} 1 talk{number} 0.00 0.25 <o,f0,male> hello there\n"
            (train / "stm" / f"talk{number}.stm").write_text(line)


def _demo(cache: Path) -> None:
    """The built-in corpus, of whose utterances 0.4 s are left and a third is listed."""
    root, labels = demo_corpus()
    place = cache / root.name
    place.mkdir(parents=True)
    for path in root.glob("*.wav"):
        wave, rate = soundfile.read(path)
        soundfile.write(place / path.name, wave[int(0.2 * rate) :][: int(0.4 * rate)], rate)
    rows = pd.read_csv(labels, dtype=str).assign(Duration="0.4")
    rows[rows["FileName"].str.contains("_s[15]")].to_csv(place / labels.name, index=False)


# --- models -----------------------------------------------------------------------------------------------------------


HUB: dict[str, Callable[[Path], Any]] = {
    "facebook/hubert-large-ll60k": partial(save_tiny_hubert_large, num_hidden_layers=LAYERS),
    "facebook/hubert-large-ls960-ft": partial(save_tiny_ctc, num_hidden_layers=LAYERS),
    "microsoft/wavlm-large": partial(save_tiny_wavlm_large, num_hidden_layers=LAYERS),
    "openai/whisper-medium": partial(save_tiny_speller, encoder_layers=LAYERS, encoder_attention_heads=1),
    "google-bert/bert-base-uncased": partial(save_tiny_bert, num_hidden_layers=12),
}


def _whispers(work: Path) -> None:
    """Whisper models in folders of the user's own."""
    for seed, (name, layers) in enumerate(WHISPERS.items()):
        save_tiny_speller(work / name, seed=seed, encoder_layers=layers, encoder_attention_heads=1)


def _save_hub(hub: Path) -> None:
    """The models as ``huggingface_hub`` keeps what it has downloaded."""
    for name, save in HUB.items():
        commit = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        folder = hub / f"models--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        save(folder / "snapshots" / commit)


def _save_s3prl(home: Path) -> None:
    """s3prl's converted checkpoints, as its own download leaves them."""
    host.register()
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    sizes: dict[str, Any] = {
        "encoder_layers": LAYERS, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 24, "encoder_attention_heads": 2,
        "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2", "conv_pos": 16, "conv_pos_groups": 2,
        "extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True,
    }  # fmt: skip
    more = {"normalize": True, "relative_position_embedding": True, "gru_rel_pos": True}
    task, words = {"normalize": True, "sample_rate": RATE, "label_rate": 50.0}, [["a", "b"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hubert = HubertModel(HubertConfig(label_rate=50.0, **sizes), HubertPretrainingConfig(**task), words)
        wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**sizes))
        wavlm = WavLM(WavLMConfig(sizes | more))
    checkpoints = {
        "hubert_large_ll60k.pt": {
            "task_cfg": task, "model_cfg": sizes | {"label_rate": 50.0}, "model_weight": hubert.state_dict(),
            "dictionaries_symbols": words,
        },
        "wav2vec_vox_new.pt": {
            "task_cfg": {"normalize": True}, "model_cfg": sizes, "model_weight": wav2vec2.state_dict(),
        },
        "wavlm_large.pt": {"cfg": sizes | more, "model": wavlm.state_dict()},
    }  # fmt: skip
    folder = home / ".cache" / "s3prl" / "download"
    folder.mkdir(parents=True)
    for name, content in checkpoints.items():
        url = f"https://huggingface.co/s3prl/converted_ckpts/resolve/main/{name}"
        torch.save(content, folder / f"{hashlib.sha256(url.encode()).hexdigest()}.{name}")


# --- what a recipe needs ----------------------------------------------------------------------------------------------


def missing(work: Path, names: Iterable[str]) -> list[str]:
    """Places that a recipe names and for which there is no stand-in."""
    return sorted({name for name in names if not (work / name).exists()})
