"""End a command tidily on SIGTERM, SIGHUP and Ctrl-C: an exception in the main thread, so that ``finally`` blocks run.

The first signal raises :class:`Ended`, or sets a flag inside :func:`deferred`, where a training ends at the boundary of
a step. The second one ends a deferral at once; during a tidy end it is ignored. The third kills the process.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
BASE = 128  # exit code of a process that a signal ends, plus the signal's number
TOGETHER = 1.0  # s; signals that come together count once: a terminal, timeout and torchrun send a group several
SECONDS_IN_C = 5.0  # longest wait for C code that does not return, such as a collective; docker stop gives 10 s
SECONDS_TO_RAISE_AGAIN = 0.05
DROPPED, REMOVED = b"\0", b"\xff"  # no signals have these numbers


class Ended(KeyboardInterrupt):
    """The process was asked to end, by a signal.

    Args:
        number: of the signal
        advice: how to go on, where the raising code knows better than the command
    """

    def __init__(self, number: int, advice: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.advice = number, advice


class Ending:
    """What signals have asked of this process during a :func:`tidy` block.

    Attributes:
        number: the first signal; ``None`` before one came
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._times = 0
        self._deferring = self._raised = self._again = self._caught = False
        self._counted = self._ran = -TOGETHER
        self._main = threading.get_ident()
        self._before: dict[int, Any] = {}
        self._read = self._write = -1
        self._watch: threading.Thread | None = None

    @property
    def is_asked(self) -> bool:
        """Return whether a signal has asked the process to end."""
        return self.number is not None

    # --- handlers ----------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Handle the signals, except those that are ignored (``nohup``) or that a caller handles."""
        with _blocked():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._handle)
            self._read, self._write = os.pipe()
            for end in (self._read, self._write):
                os.set_blocking(end, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
            self._watch = threading.Thread(target=self._watch_signals, name="signals", daemon=True)
            self._watch.start()

    def rearm(self) -> None:
        """Handle the signals again, which a library has taken over since."""
        for number in self._before:
            signal.signal(number, self._handle)

    def remove(self) -> None:
        """Restore the handlers of before."""
        if self._watch is None:  # a signal came ahead of it all
            return
        self._caught = True
        with _blocked():
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            sys.unraisablehook = self._hook
            os.write(self._write, REMOVED)
            self._watch.join()
            for end in (self._read, self._write):
                os.close(end)

    def forget_in_child(self) -> None:
        """Leave a forked child with the handlers of before: the signals of a loader process are its own."""
        self._caught = True
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for end in (self._read, self._write):
            with suppress(OSError):
                os.close(end)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = self._ran = time.monotonic()
        if self._again:  # the exception was dropped
            self._again = False
            self._raise(self.number or number)
        if self._times and now - self._counted < TOGETHER:
            return
        self._times, self._counted = self._times + 1, now
        if self._times == 1:
            self.number = number
            if not self._deferring:
                self._raise(number)
        elif self._times == 2 and not self._raised:
            self._raise(number)
        elif self._times == 2:
            _say(f"still ending after {_name(self.number or number)}; a third signal ends at once")
        else:
            _die(number)

    def _raise(self, number: int) -> None:
        self._raised = True
        ended = Ended(number)
        weakref.finalize(ended, self._on_dropped).atexit = False
        try:
            raise ended
        finally:
            del ended  # else the frame in its traceback keeps it alive

    # --- what else may become of the exception, or of the handler --------------------------------------------------

    def _on_dropped(self) -> None:
        """Have the exception raised again where foreign code swallowed it, as a bare ``except:`` does."""
        if not self._caught:
            with suppress(OSError):
                os.write(self._write, DROPPED)

    def _on_unraisable(self, unraisable: Any) -> None:
        """Say nothing of the exception where it cannot be raised, as in ``__del__``; it is raised again."""
        if not isinstance(unraisable.exc_value, Ended):
            self._hook(unraisable)

    def _watch_signals(self) -> None:
        """Raise a dropped exception again, and end a process whose main thread does not come back from C code."""
        deadline, number = None, 0
        while True:
            ready, _, _ = select.select([self._read], [], [], None if deadline is None else deadline - time.monotonic())
            if ready:
                came = os.read(self._read, 512)
                if REMOVED in came:
                    return
                if DROPPED in came and not self._caught:
                    time.sleep(SECONDS_TO_RAISE_AGAIN)
                    self._again = True
                    signal.pthread_kill(self._main, self.number or signal.SIGTERM)
                asked = [one for one in came if one in self._before]
                if asked and deadline is None and self._ran < time.monotonic() - TOGETHER:
                    deadline, number = time.monotonic() + SECONDS_IN_C, asked[0]
            if deadline is not None and self._ran >= deadline - SECONDS_IN_C - TOGETHER:
                deadline = None
            if deadline is not None and time.monotonic() >= deadline:
                deadline = None
                if signal.getsignal(number) == self._handle:  # else a library, such as a server's, handles it
                    _die(number)


@contextmanager
def _blocked() -> Iterator[None]:
    """Hold signals back until the block ends, so that what it sets up is whole before a handler runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_CURRENT: list[Ending] = []


@contextmanager
def tidy() -> Iterator[Ending]:
    """End the block by :class:`Ended` when the process gets SIGTERM, SIGHUP or SIGINT.

    A signal may also come just before the block begins or after it has ended, so callers catch :class:`Ended` around
    the whole ``with``. Inside another such block, or in another thread than the main one, nothing changes.

    Yields:
        what signals have asked so far
    """
    if _CURRENT or threading.current_thread() is not threading.main_thread():
        yield _CURRENT[-1] if _CURRENT else Ending()
        return
    ending = Ending()
    _CURRENT.append(ending)
    try:
        ending.install()
        yield ending
    finally:
        _CURRENT.remove(ending)
        ending.remove()


@contextmanager
def deferred() -> Iterator[None]:
    """Let the first signal in the block set :func:`is_asked`'s flag; the block ends by itself and calls :func:`end`.

    Raises:
        Ended: the block ended otherwise although a signal came
    """
    ending = _CURRENT[-1] if _CURRENT and threading.current_thread() is threading.main_thread() else None
    if ending is None or ending._deferring:
        yield
        return
    ending._deferring = True
    try:
        yield
    finally:
        ending._deferring = False
    if ending.is_asked and not ending._raised:
        end()


def is_asked() -> bool:
    """Return whether a signal has asked the process to end, which matters inside :func:`deferred`."""
    return bool(_CURRENT) and _CURRENT[-1].is_asked


def end(advice: str | None = None) -> NoReturn:
    """Raise :class:`Ended` for the signal that came; SIGTERM where another process of a training got it.

    Args:
        advice: how to go on

    Raises:
        Ended: always
    """
    ending = _CURRENT[-1] if _CURRENT else Ending()
    ending.number = ending.number or signal.SIGTERM
    ending._raised = True
    raise Ended(ending.number, advice)


def rearm() -> None:
    """Handle the signals again after a library, such as Ray, has taken them over."""
    if _CURRENT and threading.current_thread() is threading.main_thread():
        _CURRENT[-1].rearm()


def reason_of(error: BaseException) -> str:
    """Return what ended the command, for its one line, and take the exception for handled."""
    _caught()
    number = _number_of(error)
    return "interrupted" if number == signal.SIGINT else f"ended by {_name(number)}"


def code_of(error: BaseException) -> int:
    """Return the exit code: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    _caught()
    return BASE + _number_of(error)


def _number_of(error: BaseException) -> int:
    """Return the signal behind an error: its own, or the one that came before it, or SIGINT."""
    asked = _CURRENT[-1].number if _CURRENT else None
    return error.number if isinstance(error, Ended) else asked or signal.SIGINT


def _caught() -> None:
    for ending in _CURRENT:
        ending._caught = True


def _name(number: int) -> str:
    return signal.Signals(number).name


def _say(message: str) -> None:
    """Write a line past Python's buffers, which the interrupted code may be writing to."""
    with suppress(OSError):
        os.write(2, f"\n{message}\n".encode())


def _die(number: int) -> None:
    """End this process at once; children that it started end with it."""
    _say(f"error: ended by {_name(number)} at once; what was being written is left incomplete")
    os._exit(BASE + number)


def _forget_in_child() -> None:
    for ending in _CURRENT:
        ending.forget_in_child()
    _CURRENT.clear()


os.register_at_fork(after_in_child=_forget_in_child)
