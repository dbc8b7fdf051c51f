"""``python -m s3prl_emotion.benchmark.dry_run.stopwatch OUT.json WORDS…``: time ``run_downstream.py WORDS…``.

The command line, the training and the evaluation are the real ones, with clocks around their methods. The time of
computing features is kept apart, since a feature store saves it from the second epoch on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.benchmark.records import write_json


class Stopwatch:
    """Clocks around the methods of a training; all read ``time.monotonic``, which all processes share."""

    def __init__(self) -> None:
        self.steps: list[float] = []  # s, without features
        self.features = self.audio = 0.0  # s of computing, s of audio
        self.evaluations = 0.0  # s, without features
        self.evaluated = 0  # utterances
        self.begun: float | None = None  # when the first step began
        self.done = time.monotonic()  # when the last evaluation ended
        self._depth = 0
        self._last = self._features_then = 0.0

    def install(self) -> None:
        """Put the clocks around the methods."""
        from s3prl_emotion.store import FeatureStore
        from s3prl_emotion.training import loop as training
        from s3prl_emotion.training import runner
        from s3prl_emotion.upstreams.source import UpstreamSource

        self._around(UpstreamSource, "compute", self._computing)
        self._around(FeatureStore, "put", self._keeping)
        self._around(training.Training, "_backward", self._stepping)
        self._around(training.Training, "_after_update", self._stepped)
        self._around(runner.SuiteRunner, "_evaluate_split", self._evaluating)
        self._around(runner.SuiteRunner, "features", self._counting)

    def _around(self, kind: type, name: str, clock: Callable[..., Any]) -> None:
        method = getattr(kind, name)
        setattr(kind, name, lambda *args, **named: clock(lambda: method(*args, **named), args))

    def _computing(self, call: Callable[[], Any], args: Any) -> Any:
        self.audio += len(args[1]) / SAMPLE_RATE
        return self._keeping(call, args)

    def _keeping(self, call: Callable[[], Any], args: Any) -> Any:
        begun = time.monotonic()
        result = call()
        self.features += time.monotonic() - begun
        return result

    def _stepping(self, call: Callable[[], Any], args: Any) -> Any:
        if self.begun is None:
            self.begun = self._last = time.monotonic()
        return call()

    def _stepped(self, call: Callable[[], Any], args: Any) -> Any:
        now = time.monotonic()
        self.steps.append(now - self._last - (self.features - self._features_then))
        result = call()  # logs, evaluates and saves
        self._last, self._features_then = time.monotonic(), self.features
        return result

    def _evaluating(self, call: Callable[[], Any], args: Any) -> Any:
        begun, features, self._depth = time.monotonic(), self.features, 1
        result = call()
        self._depth, self.done = 0, time.monotonic()
        self.evaluations += time.monotonic() - begun - (self.features - features)
        return result

    def _counting(self, call: Callable[[], Any], args: Any) -> Any:
        self.evaluated += len(args[1]) * self._depth
        return call()


def main(words: list[str]) -> int:
    """Run ``run_downstream.py`` under the stopwatch, and write the times.

    Args:
        words: the file to write, then the command line

    Returns:
        exit code
    """
    from s3prl_emotion import host
    from s3prl_emotion.training.main import main

    host.mark_launched()
    host.register()
    watch = Stopwatch()
    watch.install()
    code = main(words[1:])
    times = {name: value for name, value in vars(watch).items() if not name.startswith("_")}
    write_json(Path(words[0]), {**times, "ended": time.monotonic()})
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
