"""Sources of reverberation: simulated rooms, or a folder of impulse responses."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora.degradation_levels import SIMULATED, generator
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.loading.degradation.recordings import Samples, audio_files, impulse_response, power

SIDES = ((4.0, 3.0, 2.5), (10.0, 8.0, 4.0))  # m: length, width and height of the smallest and the largest room
RT60 = (0.2, 0.8)  # s, by Sabine's formula
WALL = 0.5  # m; least distance of speaker and microphone from the walls
HEIGHT = (1.0, 1.8)  # m; of speaker and microphone
DISTANCE = (0.5, 2.0)  # m; between them. Beyond, coinciding reflections may be louder than the direct sound
MOST_REFLECTIONS = 80  # per image source; limits time and memory, and thereby the RT60 of small rooms
MOST_ABSORPTION = 0.8  # of the walls; limits how short the RT60 of large rooms can be
_THREADS_LOCK = threading.Lock()  # pyroomacoustics' number of threads is a setting of the whole process
_POSITION_PAIRS = 64  # drawn for a room; the first pair at a suitable distance is used


class Reverb(Protocol):
    """A source of impulse responses."""

    def draw(self, name: str, *turn: int) -> tuple[Samples, int, str]:
        """Return a response ``[K]`` for the utterance ``name``, the sample of its direct sound, and its description.

        ``turn`` is the number of the draw where an utterance gets several: in training, one in each epoch.
        """


class RecordedRooms:
    """Random impulse responses from a folder."""

    def __init__(self, folder: Path, seed: int, flag: str = "--reverb") -> None:
        self.folder = folder
        self.seed = seed
        self.files = audio_files(folder, flag)

    def draw(self, name: str, *turn: int) -> tuple[Samples, int, str]:
        """Return a response ``[K]``, the sample of its direct sound, and its path below the folder."""
        file = self.files[generator(self.seed, name, "reverb", *turn).integers(len(self.files))]
        return *impulse_response(self.folder / file), file


class SimulatedRooms:
    """Shoebox rooms by the image source method; room, RT60 and positions are drawn for each utterance.

    The RT60 is drawn from the part of :data:`RT60` that the room allows: not too long in small rooms, not too short in
    large ones.

    Raises:
        UsageError: pyroomacoustics is not installed
    """

    def __init__(self, seed: int, flag: str = "--reverb") -> None:
        self.seed = seed
        _pyroomacoustics(flag)

    def draw(self, name: str, *turn: int) -> tuple[Samples, int, str]:
        """Return a response ``[K]``, the sample of its direct sound, and RT60 (s), sides and distance (m)."""
        acoustics = _pyroomacoustics()
        rng = generator(self.seed, name, "reverb", SIMULATED, *turn)
        sides = rng.uniform(*SIDES)
        rt60 = rng.uniform(*_possible(sides, acoustics.constants.get("c")))
        source, microphone = _positions(sides, rng)
        distance = float(np.linalg.norm(source - microphone))
        absorption, order = acoustics.inverse_sabine(rt60, sides)
        room = acoustics.ShoeBox(sides, fs=SAMPLE_RATE, materials=acoustics.Material(absorption), max_order=order)
        room.add_source(source)
        room.add_microphone(microphone)
        with _one_thread(acoustics):
            room.compute_rir()
        lead = acoustics.constants.get("frac_delay_length") // 2  # samples that the simulation prepends
        arrival = round(distance / acoustics.constants.get("c") * SAMPLE_RATE) + lead
        size = "x".join(f"{side:.1f}" for side in sides)
        return (
            np.asarray(room.rir[0][0], np.float64),
            arrival,
            f"rt60={rt60:.3f}s room={size}m distance={distance:.2f}m",
        )


def build_reverb(kind: str | None, seed: int, flag: str = "--reverb") -> Reverb | None:
    """Build the source of reverberation that a specification, or the recipe's key ``flag``, names; ``None`` for none.

    Raises:
        UsageError: neither ``simulated`` nor a folder with audio, or pyroomacoustics is missing
        AudioError: an impulse response cannot be read
    """
    if kind is None:
        return None
    if kind == SIMULATED:
        return SimulatedRooms(seed, flag)
    if not Path(kind).expanduser().is_dir():
        known = ["none", SIMULATED]
        raise UsageError(f"{flag} {kind}: neither a folder nor one of {', '.join(known)}{nearest(kind, known)}")
    return RecordedRooms(Path(kind).expanduser(), seed, flag)


def reverberate(speech: Samples, response: Samples, arrival: int) -> Samples:
    """Return speech ``[N]`` in a room, with the same length, timing and energy as the dry speech.

    Args:
        speech: ``[N]``
        response: impulse response of the room, ``[K]``
        arrival: sample of the response at which the direct sound arrives
    """
    from scipy.signal import fftconvolve  # deferred: takes half a second to import

    wet = fftconvolve(speech, response)[arrival : arrival + len(speech)]
    return wet * math.sqrt(power(speech) / max(power(wet), np.finfo(np.float64).tiny))


def _possible(sides: NDArray[np.float64], speed: float) -> tuple[float, float]:
    """Return the shortest and longest RT60 (s) of a room within the limits on absorption and reflections."""
    pairs = list(itertools.combinations(sides, 2))
    surface = 2 * sum(one * other for one, other in pairs)
    shortest = 24 * math.log(10) * math.prod(sides) / (speed * surface * MOST_ABSORPTION)  # Sabine
    reach = min(
        one * other / math.hypot(one, other) for one, other in pairs
    )  # m that one order of image sources covers
    return max(RT60[0], shortest), min(RT60[1], (MOST_REFLECTIONS + 1) * reach / speed)


def _positions(sides: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the positions of speaker and microphone ``[2, 3]`` (m)."""
    lowest = np.array([WALL, WALL, HEIGHT[0]])
    highest = np.minimum(sides - WALL, [np.inf, np.inf, HEIGHT[1]])
    pairs = rng.uniform(lowest, highest, size=(_POSITION_PAIRS, 2, 3))
    distances = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
    return pairs[np.argmin(np.abs(distances - np.clip(distances, *DISTANCE)))]


@contextmanager
def _one_thread(acoustics: Any) -> Iterator[None]:
    """Limit pyroomacoustics to one thread: several sum the echoes in an order that depends on the machine."""
    with _THREADS_LOCK:
        before = acoustics.constants.get("num_threads")
        acoustics.constants.set("num_threads", 1)
        try:
            yield
        finally:
            acoustics.constants.set("num_threads", before)


def _pyroomacoustics(flag: str = "--reverb") -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise UsageError(f'{flag} {SIMULATED} needs pyroomacoustics ({error}): pip install -e ".[degrade]"') from error
    return pyroomacoustics
