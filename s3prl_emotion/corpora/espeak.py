"""Synthesise speech offline and repeatably with the espeak-ng library of the PyPI wheel ``espeakng-loader``.

espeak-ng keeps state in static variables (phase of the pitch flutter, echo, random numbers seeded by the clock) that
neither ``espeak_Terminate`` nor a new ``espeak_Initialize`` resets. So each :class:`Espeak` loads a private copy of the
library and seeds its random numbers: the same calls in the same order then give the same samples, whatever the process
did with espeak-ng before.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import AudioError, UsageError

logger = logging.getLogger(__name__)

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2  # espeak_Synth passes all samples to the callback before it returns
_DONT_EXIT = 0x8000  # report a missing phontab instead of exiting
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _PITCH_RANGE = 1, 2, 3, 4

_LONGEST_DATA_PATH = 120  # bytes; espeak-ng truncates paths of its data files at 160 bytes
_INSTALL = "install it with: python -m pip install espeakng-loader"

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A speech synthesizer with its own copy of espeak-ng; use it as a context manager or call :meth:`close`.

    Args:
        seed: seed of espeak-ng's random numbers (breath and noise)

    Raises:
        UsageError: espeakng-loader is not installed, or its library or data cannot be loaded
    """

    def __init__(self, seed: int = 0) -> None:
        """Load and initialise the library."""
        library, self._data = _wheel_paths()
        self._parts: list[NDArray[np.int16]] = []
        self._callback = _Callback(self._collect)  # a reference: otherwise C would call freed memory
        self._home = tempfile.TemporaryDirectory(prefix="s3prl_emotion_espeak_", ignore_cleanup_errors=True)
        self._open = False
        try:
            self._lib = _load_private(library, Path(self._home.name))
            self._declare()
            self.sample_rate = self._initialise()
        except BaseException:
            self._home.cleanup()
            raise
        self._open = True
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_ng_SetRandSeed(seed)

    def say(
        self, text: str, voice: str, rate_wpm: int, pitch: int, pitch_range: int, volume: int
    ) -> tuple[NDArray[np.int16], int]:
        """Speak a text.

        Args:
            text: the text
            voice: a language and a variant, as in ``en-us+f3``
            rate_wpm: words per minute, 80 to 450
            pitch: base pitch, 0 to 100; 50 is the voice's own
            pitch_range: liveliness of the intonation, 0 (monotone) to 100, 50 is the voice's own
            volume: 0 to 200, 100 is the voice's own

        Returns:
            the samples and their rate in Hz

        Raises:
            AudioError: unknown voice, or espeak-ng made no speech
        """
        if not self._open:
            raise AudioError(f"cannot say {text!r}: this espeak-ng was closed; open a new one")
        self._choose_voice(voice)
        # Set after the voice, which has parameters of its own.
        for parameter, value in (
            (_RATE, rate_wpm),
            (_VOLUME, volume),
            (_PITCH, pitch),
            (_PITCH_RANGE, pitch_range),
        ):
            self._lib.espeak_SetParameter(parameter, int(value), 0)
        self._parts.clear()
        data = text.encode("utf-8")
        status = self._lib.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        if status != 0 or not self._parts:
            raise AudioError(f"espeak-ng made no speech of {text!r} with voice {voice!r} (status {status})")
        return np.concatenate(self._parts), self.sample_rate

    def close(self) -> None:
        """Free the library's memory; a second call does nothing."""
        if self._open:
            self._open = False
            self._lib.espeak_Terminate()
            self._home.cleanup()

    def __enter__(self) -> Espeak:
        """Return the synthesizer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the synthesizer."""
        self.close()

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if samples and count > 0:
            # Copied, since espeak-ng writes its next samples into the same buffer.
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int16, copy=True))
        return 0  # continue

    def _choose_voice(self, voice: str) -> None:
        # espeak-ng silently ignores an unknown variant, so look for its file.
        variant = voice.partition("+")[2]
        known = not variant or (self._data / "voices" / "!v" / variant).is_file()
        if not known or self._lib.espeak_SetVoiceByName(voice.encode("utf-8")) != 0:
            raise AudioError(f"espeak-ng has no voice {voice!r} in {self._data}; see its folders lang and voices/!v")

    def _declare(self) -> None:
        # Without these declarations, ctypes passes size_t and long as 32-bit int.
        c_int, c_uint, text = ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
        self._lib.espeak_Initialize.argtypes = [c_int, c_int, text, c_int]
        self._lib.espeak_SetSynthCallback.argtypes = [_Callback]
        self._lib.espeak_SetSynthCallback.restype = None
        self._lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._lib.espeak_SetVoiceByName.argtypes = [text]
        self._lib.espeak_SetParameter.argtypes = [c_int, c_int, c_int]
        self._lib.espeak_Synth.argtypes = [
            *(text, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint),
            *(ctypes.POINTER(c_uint), ctypes.c_void_p),
        ]
        self._lib.espeak_Terminate.argtypes = []

    def _initialise(self) -> int:
        # Releases differ in whether they expect the data folder itself or its parent.
        for path in (*_short_link(self._data, Path(self._home.name)), self._data, self._data.parent):
            rate = int(self._lib.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, os.fsencode(path), _DONT_EXIT))
            if rate > 0:
                return rate
        raise UsageError(f"espeak-ng finds no voices in {self._data}; re{_INSTALL}")


def _wheel_paths() -> tuple[Path, Path]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise UsageError(
            f"speech synthesis needs the package espeakng-loader, which {sys.executable} does not have; {_INSTALL}"
        ) from error
    try:
        library, data = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except RuntimeError as error:  # raised by the wheel if its data folder is missing
        raise UsageError(f"espeakng-loader is incomplete: {error}; re{_INSTALL}") from error
    if not (data / "phontab").is_file():
        raise UsageError(f"espeakng-loader is incomplete: no file phontab in {data}; re{_INSTALL}")
    return library, data


def _load_private(library: Path, home: Path) -> ctypes.CDLL:
    try:
        copy = home / library.name
        shutil.copy(library, copy)
        loaded = ctypes.CDLL(str(copy))
        with contextlib.suppress(OSError):  # Windows cannot delete loaded files; elsewhere a killed process leaves none
            copy.unlink()
        return loaded
    except OSError as error:
        # For example a temporary folder mounted noexec: the wheel's own library works, but may have state.
        logger.warning("cannot load a private copy of espeak-ng from %s (%s); using the shared one", home, error)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise UsageError(f"cannot load the espeak-ng library {library}: {error}; re{_INSTALL}") from error


def _short_link(data: Path, home: Path) -> list[Path]:
    """Return a short link to data whose path is too long for espeak-ng's fixed buffers; empty if not needed."""
    if len(os.fsencode(data)) <= _LONGEST_DATA_PATH:
        return []
    link = home / "espeak-ng-data"
    try:
        link.symlink_to(data, target_is_directory=True)
    except OSError:  # no permission to make links, on Windows; the long path may still work
        return []
    return [link]
