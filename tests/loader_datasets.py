"""Datasets for tests of loader processes, without torch, which processes would otherwise import."""

from __future__ import annotations

import logging
import os
import signal

import numpy as np

from s3prl_emotion.errors import AudioError

LARGE = 1 << 20  # values of 4 bytes: many times what a socket holds


class Numbers:
    """Item i is an array of i's; some items do what loader processes may do."""

    def __init__(self, count: int, length: int = 3) -> None:
        self.count, self.length = count, length
        self.read: list[int] = []
        self.noted: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        return np.full(self.length, index, np.float32)

    def take_notes(self) -> list[int]:
        notes, self.read = self.read, []
        return notes

    def add_notes(self, notes: list[int]) -> None:
        self.noted += notes

    def name_of(self, index: int) -> str:
        return f"item {index}"


class Faulty(Numbers):
    """Item 5 fails in the way that ``fault`` says."""

    fault = ""

    def __getitem__(self, index: int) -> np.ndarray:
        if index == 5:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "exit":
                os._exit(3)
            if self.fault == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.fault == "audio":
                raise AudioError("five.wav: unreadable")
            if self.fault == "unlike":
                raise UnlikePickledError("two", "words")
            logging.getLogger("of.the.dataset").warning("item %d is five", index)
        return super().__getitem__(index)


class UnlikePickledError(Exception):
    """An error that cannot be pickled: its constructor takes something else than its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def lists(items: list[np.ndarray]) -> list[list[float]]:
    """Collate to the first value of each item."""
    return [[float(item[0]), len(item)] for item in items]


def whole(items: list[np.ndarray]) -> list[np.ndarray]:
    return items
