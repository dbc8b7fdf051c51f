"""Compare a linear SVC on eGeMAPS functionals, and on Whisper's means, with nkululeko's on the same folds and labels.

nkululeko is another toolkit for speech emotions (PyPI). It runs in an environment of its own, with its own pandas::

    uv venv ../peer && uv pip install --python ../peer/bin/python nkululeko
    python benchmarks/peer.py --peer ../peer/bin/python --labels LABELS --root AUDIO --whisper MODEL_FOLDER

Fold k tests the k-th of the sorted speakers and every fifth after it; there is no dev split. Features are standardised
on the training part; the SVC is scikit-learn's with a linear kernel (one class against one). Compared are the UA of
each fold, the predictions, the features, and the time of whole processes: of the first fold, which computes the
features, and the median of the others, which find them, nkululeko in its own store, the suite in a feature store.
nkululeko knows Whisper by the hub's name, so that its weights are put into a hub cache by hand, in float32, and the
network is off. Its means are over all positions of Whisper's window of 30 s, the suite's over those of the audio.
"""

from __future__ import annotations

import csv
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import environment_of, parser_of

FOLDS = 5
HUB_ID, SNAPSHOT = "openai/whisper-base", "0" * 40
READ_STORE = (  # run by nkululeko's own interpreter: its pandas wrote the file
    "import sys, pandas; rows = pandas.read_pickle(sys.argv[1]); rows.index = rows.index.get_level_values(0); "
    "rows.to_csv(sys.argv[2])"
)
Row = dict[str, str]


@dataclass(frozen=True)
class Kind:
    """Features that both know: nkululeko's name, and flags of the suite, for each way in which it computes them."""

    name: str
    peer: str
    ways: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Outcome:
    """A fold: seconds of the process, and the class that is predicted for each file."""

    seconds: float
    predicted: dict[str, str]


def main() -> None:
    """Print UA, times, equal predictions and the distance of features, for each kind of features."""
    parser = parser_of(__doc__, folder=True)
    parser.add_argument("--peer", type=Path, help="Python of the environment with nkululeko")
    parser.add_argument("--labels", default="demo", help="label table with SpkrID and EmoClass")
    parser.add_argument("--root", help="audio folder of the labels")
    parser.add_argument("--whisper", type=Path, help="folder with Whisper base; without it, only eGeMAPS is compared")
    parser.add_argument("--whole_window", action="store_true", help="run the suite with Whisper's window of 30 s too")
    parser.add_argument("--only", choices=["egemaps", "whisper"], help="compare on these features alone")
    parser.add_argument("--cost", type=float, default=0.1, help="C of the SVC")
    args = parser.parse_args()
    args.peer = None if args.peer is None else args.peer.absolute()  # not resolved: a link names the environment
    version = _version(args.peer)
    if version is None:
        print(f"skipped: no nkululeko for --peer {args.peer}; make its environment as {Path(__file__).name} says")
        return
    from s3prl_emotion.corpora.locate import locate

    table, audio = locate(args.labels, args.root)
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row | {"Fold": f"fold{number}"} for row, number in _with_folds(list(csv.DictReader(file)))]
    top = args.folder.resolve() / "peer"
    kinds = [Kind("egemaps", "os", {"ours": ("-u", "egemaps")})]
    if args.whisper is not None:
        top.mkdir(parents=True, exist_ok=True)
        (top / "window.yaml").write_text("window: audio\n")
        flags = ("-u", "hf_speech_custom", "-k", str(args.whisper.resolve()), "-s", "last_hidden_state")
        ways = {"ours, window: audio": (*flags, "-g", str(top / "window.yaml"))}
        ways |= {"ours": flags} if args.whole_window else {}
        kinds.append(Kind("whisper", "whisper-base", ways))
    print(f"nkululeko {version}, {len(rows)} utterances, C = {args.cost}, {args.threads} threads")
    for kind in kinds:
        if args.only not in (None, kind.name):
            continue
        folder = top / kind.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        sides: dict[str, Ours | Peer] = {"nkululeko": Peer(kind, folder, audio.resolve(), rows, args)}
        sides |= {way: Ours(way, flags, folder, audio.resolve(), rows, args) for way, flags in kind.ways.items()}
        found: dict[str, list[Outcome]] = {name: [] for name in sides}
        for number in range(1, FOLDS + 1):
            for name, side in sides.items():  # in turn, so that other load disturbs all of them
                found[name].append(side.run(number))
        _print_scores(kind, rows, found)
        features = {name: side.features() for name, side in sides.items()}
        for way in kind.ways:
            _print_distance(way, features[way], features["nkululeko"])


def _version(python: Path | None) -> str | None:
    if python is None or not python.is_file():
        return None
    script = "from importlib import metadata; print(metadata.version('nkululeko'))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _with_folds(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    speakers = sorted({row["SpkrID"] for row in rows})
    for row in rows:
        yield row, speakers.index(row["SpkrID"]) % FOLDS + 1


# --- the two sides ----------------------------------------------------------------------------------------------------


class Ours:
    """The suite: ``emotion_latent`` without an autoencoder, from a feature store."""

    def __init__(
        self, way: str, flags: Sequence[str], folder: Path, audio: Path, rows: Sequence[Row], args: Any
    ) -> None:
        self.flags, self.folder, self.audio, self.args = flags, folder / re.sub(r"\W+", "-", way), audio, args
        self.folder.mkdir()
        self.labels = self.folder / "labels.csv"
        with self.labels.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        self.classes = sorted({row["EmoClass"] for row in rows})

    def run(self, number: int) -> Outcome:
        """Train on all other folds, and evaluate this one."""
        exp = self.folder / f"fold{number}"
        words = ["-m", "s3prl_emotion.run_downstream", "-m", "train", *self.flags, "-d", "emotion_latent"]
        words += ["-v", f"fold{number}", "-p", str(exp), "--feature_store", str(self.folder / "store")]
        words += ["--device", "cpu", "-o", self.overrides()]
        seconds = _timed([sys.executable, *words], environment_of(self.args.threads), self.folder)
        with (exp / f"test_fold{number}_predictions.csv").open(newline="", encoding="utf-8") as file:
            return Outcome(seconds, {row["FileName"]: row["prediction"] for row in csv.DictReader(file)})

    def overrides(self) -> str:
        """Return ``-o``: no dev split, no autoencoder and so nothing to train, scikit-learn's SVC."""
        data, model = "downstream_expert.datarc", "downstream_expert.modelrc"
        values = {
            f"{data}.labels": str(self.labels), f"{data}.root": str(self.audio), f"{data}.classes": self.classes,
            f"{data}.valid_ratio": 0, f"{data}.class_weights": "none", f"{model}.method": "none",
            f"{model}.multi_class": "ovo", f"{model}.cost": self.args.cost,
            "runner.total_steps": 1, "runner.eval_step": 2, "runner.save_step": 2,
        }  # fmt: skip
        return ",,".join(f"config.{key}={value!r}" for key, value in values.items())

    def features(self) -> dict[str, np.ndarray]:
        """Return the features ``[D]`` of each file, from the store."""
        path = self.folder / "ours.npz"
        words = [
            "-m",
            "s3prl_emotion",
            "export",
            *self.flags,
            "--labels",
            str(self.labels),
            "--root",
            str(self.audio),
        ]
        words += ["--feature_store", str(self.folder / "store"), "--device", "cpu", "-o", str(path)]
        _timed([sys.executable, *words], environment_of(self.args.threads), self.folder)
        with np.load(path) as file:
            rows = file["features"].reshape(len(file["names"]), -1)
            return dict(zip(file["names"].tolist(), rows, strict=True))


class Peer:
    """nkululeko, with one experiment for all folds, so that it finds the features that the first fold stored."""

    def __init__(self, kind: Kind, folder: Path, audio: Path, rows: Sequence[Row], args: Any) -> None:
        self.kind, self.folder, self.audio, self.rows, self.args = (
            kind,
            folder / "nkululeko",
            audio.resolve(),
            rows,
            args,
        )
        self.folder.mkdir()
        with (self.folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "speaker", "gender", "emotion"])
            for row in rows:  # with a letter, or pandas would take 03 for the number 3
                name, gender = str(self.audio / row["FileName"]), row.get("Gender", "").lower()
                writer.writerow([name, f"s{row['SpkrID']}", gender, row["EmoClass"]])
        self.environment = {name: value for name, value in environment_of(args.threads).items() if name != "PYTHONPATH"}
        self.environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "hf"), "MPLBACKEND": "Agg"}
        if kind.peer.startswith("whisper"):
            _save_hub_cache(args.whisper, self.folder / "hf" / "hub")

    def run(self, number: int) -> Outcome:
        """Train on all other folds, and evaluate this one."""
        tested = [row for row in self.rows if row["Fold"] == f"fold{number}"]
        speakers = sorted({f"s{row['SpkrID']}" for row in tested})
        classes = sorted({row["EmoClass"] for row in self.rows})
        path, results = self.folder / f"fold{number}.ini", self.folder / "exp" / "results"
        shutil.rmtree(results, ignore_errors=True)
        sections: Mapping[str, Mapping[str, object]] = {
            "EXP": {"root": self.folder, "name": "exp"},
            "DATA": {
                "databases": ["speech"], "speech": self.folder / "labels.csv", "speech.type": "csv",
                "speech.absolute_path": True, "speech.split_strategy": "speakers_stated", "speech.test": speakers,
                "target": "emotion", "labels": classes, "no_reuse": True,
            },
            "FEATS": {"type": [self.kind.peer], "scale": "standard"},
            "MODEL": {"type": "svm", "kernel": "linear", "C_val": self.args.cost},
        }  # fmt: skip
        lines = [f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
                 for name, section in sections.items()]  # fmt: skip
        path.write_text("\n".join(lines), encoding="utf-8")
        words = [str(self.args.peer), "-m", "nkululeko.nkululeko", "--config", str(path)]
        seconds = _timed(words, self.environment, self.folder)
        (predictions,) = results.rglob("pred_*.csv")
        with predictions.open(newline="", encoding="utf-8") as file:
            predicted = {self._name(row["file"]): row["predicted"] for row in csv.DictReader(file)}
        return Outcome(seconds, predicted)

    def features(self) -> dict[str, np.ndarray]:
        """Return the features ``[D]`` of each file, from the experiment's store."""
        (stored,) = (self.folder / "exp" / "store").glob(f"speech_{self.kind.peer}_all.pkl")
        path = self.folder / "features.csv"
        subprocess.run([self.args.peer, "-c", READ_STORE, stored, path], check=True, env=self.environment)
        with path.open(newline="", encoding="utf-8") as file:
            _, *rows = csv.reader(file)
        return {self._name(name): np.array(values, dtype=np.float32) for name, *values in rows}

    def _name(self, path: str) -> str:
        return str(Path(path).relative_to(self.audio))


def _save_hub_cache(model: Path, hub: Path) -> None:
    """Put a Whisper model where ``from_pretrained`` looks for one of the hub without asking it."""
    from transformers import AutoFeatureExtractor, WhisperModel

    folder = hub / f"models--{HUB_ID.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(SNAPSHOT)
    WhisperModel.from_pretrained(model).float().save_pretrained(folder / "snapshots" / SNAPSHOT)
    AutoFeatureExtractor.from_pretrained(model).save_pretrained(folder / "snapshots" / SNAPSHOT)


def _timed(words: list[str], environment: Mapping[str, str], folder: Path) -> float:
    """Run a command in a process of its own; return its seconds."""
    begun = time.perf_counter()
    done = subprocess.run(words, env=dict(environment), cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return seconds


# --- what is printed --------------------------------------------------------------------------------------------------


def _print_scores(kind: Kind, rows: Sequence[Row], found: Mapping[str, Sequence[Outcome]]) -> None:
    """Print UA and seconds of each side, and how many predictions equal nkululeko's."""
    folds = "".join(f"{f'fold {number}':>9}" for number in range(1, FOLDS + 1))
    print(f"\n{f'UA, {kind.name}':24}{folds}{'mean':>9}{'equal':>7}")
    truth = {row["FileName"]: row["EmoClass"] for row in rows}
    theirs = {name: label for outcome in found["nkululeko"] for name, label in outcome.predicted.items()}
    for side, outcomes in found.items():
        scores = [_mean_recall(truth, outcome.predicted) for outcome in outcomes]
        equal = sum(theirs[name] == label for outcome in outcomes for name, label in outcome.predicted.items())
        print(f"{side:24}" + "".join(f"{score:>9.4f}" for score in [*scores, statistics.mean(scores)]) + f"{equal:>7}")
    print(f"{'seconds':24}{'fold 1':>9}{'others':>9}{'all':>9}")
    for side, outcomes in found.items():
        first, *others = (outcome.seconds for outcome in outcomes)
        print(f"{side:24}{first:>9.1f}{statistics.median(others):>9.1f}{first + sum(others):>9.1f}")


def _mean_recall(truth: Mapping[str, str], predicted: Mapping[str, str]) -> float:
    recalls = []
    for label in sorted({truth[name] for name in predicted}):
        named = [name for name in predicted if truth[name] == label]
        recalls.append(sum(predicted[name] == label for name in named) / len(named))
    return statistics.mean(recalls)


def _print_distance(way: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Print the difference of features, over their standard deviation, and the cosine of standardised utterances."""
    names = sorted(ours)
    one, other = (np.stack([side[name] for name in names]).astype(np.float64) for side in (ours, theirs))
    spread = np.where(other.std(axis=0) > 0, other.std(axis=0), 1.0)
    apart = np.abs(one - other) / spread
    one, other = ((side - other.mean(axis=0)) / spread for side in (one, other))
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    print(
        f"{way}: {one.shape[1]} features differ from nkululeko's by {np.median(apart):.1e} standard deviations "
        f"(median; at most {apart.max():.1e}); cosine of utterances {np.median(cosines):.4f} (median; at least "
        f"{cosines.min():.4f})"
    )


if __name__ == "__main__":
    main()
