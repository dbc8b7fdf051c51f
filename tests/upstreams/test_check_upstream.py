"""check-upstream: its report of a correct upstream, and every way in which an upstream can fail."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3prl_emotion import cli, rng
from s3prl_emotion.upstreams.check.checks import Check, check_upstream

HOP = 160


class Sound(nn.Module):
    """A correct upstream: two layers of 4 dimensions, one frame per 160 samples, at least one frame."""

    rate: Any = HOP

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 2.0))

    def framed(self, wav: Tensor) -> Tensor:
        """Return ``[T, 4]`` of a waveform ``[N]``."""
        missing = max(0, HOP - len(wav))
        return nn.functional.pad(wav, (0, missing)).unfold(0, HOP, HOP)[:, :4]

    def forward(self, wavs: list[Tensor]) -> Any:
        first = pad_sequence([self.framed(wav) for wav in wavs], batch_first=True)
        return {"hidden_states": [first, first * self.scale[0]], "last_hidden_state": first}

    def get_downsample_rates(self, key: str) -> Any:
        return self.rate

    def frames(self, samples: int) -> Any:
        return max(1, samples // HOP)

    def identity(self) -> Any:
        return {"window": 160, "names": ["a"]}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def checked(model: nn.Module, selection: str = "hidden_states") -> dict[str, Check]:
    return {check.name: check for check in check_upstream(model, selection)}


def failures(model: nn.Module, selection: str = "hidden_states") -> dict[str, str]:
    return {name: check.detail for name, check in checked(model, selection).items() if check.ok is False}


# --- what is right -------------------------------------------------------------------------------------------------


def test_a_sound_upstream_passes_and_is_measured() -> None:
    checks = checked(Sound())
    assert [check for check in checks.values() if check.ok is False] == []
    assert checks["dimension"].detail == "4"
    assert checks["layers"].detail == "2"
    assert checks["rate"].detail == "160 samples per frame (100 Hz); measured 160.0"
    assert checks["padding"].detail.endswith("to the bit")
    assert [checks[name].detail.split(",")[0] for name in ("0.02 s", "1 s", "60 s")] == [
        "2 frames", "100 frames", "6000 frames"
    ]  # fmt: skip
    assert checks["parameters"].detail == "3 (0.0 MB)"
    assert {"interface", "determinism", "generators", "silence", "frames()", "identity()", "speed", "memory"} < {
        *checks
    }


def test_generators_and_mode_are_left_as_they_are_for_others() -> None:
    seed, model = rng.rng_state()["torch"], Sound()
    model.train()
    check_upstream(model)
    assert torch.equal(rng.rng_state()["torch"], seed)
    assert not model.training


def test_optional_methods_may_be_absent() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sound()

        def forward(self, wavs: list[Tensor]) -> Any:
            return self.inner(wavs)

        def get_downsample_rates(self, key: str) -> int:
            return HOP

    checks = checked(Bare())
    assert [checks[name].ok for name in ("frames()", "identity()")] == [None, None]
    assert "batched extraction needs it" in checks["frames()"].detail
    assert all(check.ok is not False for check in checks.values())


def test_one_tensor_and_a_dict_of_layers_are_features_too() -> None:
    class Named(Sound):
        def forward(self, wavs: list[Tensor]) -> Any:
            layers = super().forward(wavs)["hidden_states"]
            return {"hidden_states": {"low": layers[0], "high": layers[1]}, "last_hidden_state": layers[1]}

    assert checked(Named())["layers"].detail == "2"
    assert checked(Named(), "last_hidden_state")["layers"].detail == "1"


def test_one_frame_an_utterance_is_fine() -> None:
    class Functionals(Sound):
        rate = 16_000

        def forward(self, wavs: list[Tensor]) -> Any:
            return {"hidden_states": torch.stack([wav.std().repeat(1, 4) for wav in wavs])}

        def frames(self, samples: int) -> int:
            return 1

    assert failures(Functionals()) == {}
    assert "one frame per utterance" in checked(Functionals())["rate"].detail


def test_frames_that_only_s3prls_featurizer_refuses_are_told() -> None:
    class Late(Sound):
        """Have five frames too few, where s3prl tolerates four."""

        def framed(self, wav: Tensor) -> Tensor:
            frames = super().framed(wav)
            return frames[: max(1, len(frames) - 5)]

        def frames(self, samples: int) -> int:
            return max(1, samples // HOP - 5)

    checks = checked(Late())
    assert all(check.ok is not False for check in checks.values())
    assert "s3prl's own featurizer (stock tasks, SUPERB's mode) fails on 16000 samples (95 frames)" in (
        checks["rate"].detail
    )


def test_drawing_without_effect_is_a_note_for_each_generator() -> None:
    class Drawing(Sound):
        def __init__(self, draw: Any) -> None:
            super().__init__()
            self.draw = draw

        def forward(self, wavs: list[Tensor]) -> Any:
            self.draw()
            return super().forward(wavs)

    for draw in (random.random, np.random.rand, lambda: torch.rand(1)):
        checks = checked(Drawing(draw))
        assert checks["generators"].ok is None
        assert "draws from the global generators" in checks["generators"].detail
        assert all(check.ok is not False for check in checks.values())


# --- what is wrong -------------------------------------------------------------------------------------------------


class Nondeterministic(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return super().framed(wav) + 1e-4 * torch.randn(())


class Counting(Sound):
    """Each call returns other features, whatever the seed."""

    calls = 0

    def framed(self, wav: Tensor) -> Tensor:
        self.calls += 1
        return super().framed(wav) + 1e-3 * self.calls


class Seeded(Sound):
    """Add noise that depends on the global seed: the same in every call of a process, another in the next."""

    def framed(self, wav: Tensor) -> Tensor:
        frames = super().framed(wav)
        draw = torch.Generator().manual_seed(torch.initial_seed())
        return frames + 1e-3 * torch.randn(1, 4, generator=draw)


class PaddingLeaks(Sound):
    """Subtract the mean over the padded batch."""

    def forward(self, wavs: list[Tensor]) -> Any:
        padded = pad_sequence(wavs, batch_first=True)
        return {"hidden_states": pad_sequence([self.framed(wav) for wav in padded - 0.5 * padded.abs().mean()], True)}


class LastFrameLeaks(Sound):
    """Let the last frame of an utterance depend a little on the padding."""

    def forward(self, wavs: list[Tensor]) -> Any:
        padded = pad_sequence(wavs, batch_first=True)
        features = super().forward(wavs)["hidden_states"][0]
        for row, wav in enumerate(wavs):
            features[row, len(wav) // HOP - 1, 0] += 1e-4 * (len(padded[row]) > len(wav))
        return {"hidden_states": features}


class RowLeaks(Sound):
    """Let the second utterance of a batch depend on the first."""

    def forward(self, wavs: list[Tensor]) -> Any:
        features = super().forward(wavs)["hidden_states"][0].clone()
        features[1:] += 0.01 * features[:1]
        return {"hidden_states": features}


class PlaceLeaks(Sound):
    """Be wrong if the longest utterance of a batch comes first."""

    def forward(self, wavs: list[Tensor]) -> Any:
        features = super().forward(wavs)["hidden_states"][0].clone()
        if len(wavs[0]) > len(wavs[-1]):
            features[0] += 0.01
        return {"hidden_states": features}


class NotANumber(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return super().framed(wav) / 0 * 0


class SilenceIsNotANumber(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return super().framed(wav) / wav.abs().max()


class LongIsInfinite(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return super().framed(wav) + (torch.inf if len(wav) > 100_000 else 0)


class WrongRate(Sound):
    rate = 320


class TooFewFrames(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return super().framed(wav)[:50]


class RefusesLong(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        if len(wav) > 30 * 16_000:
            raise RuntimeError("at most 30 s\nof audio")
        return super().framed(wav)


class RefusesShort(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        if len(wav) < 400:
            raise AssertionError
        return super().framed(wav)


class NoShortFrame(Sound):
    def framed(self, wav: Tensor) -> Tensor:
        return wav.unfold(0, 400, HOP)[:, :4] if len(wav) >= 400 else wav.new_zeros(0, 4)


class WrongFrames(Sound):
    def frames(self, samples: int) -> int:
        return round(samples / HOP)  # right, except for lengths that are no multiple of the hop


class IdentityIsNotPlain(Sound):
    def identity(self) -> Any:
        return {"window": torch.ones(1)}


class IdentityChanges(Sound):
    def identity(self) -> Any:
        return {"now": random.random()}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Nondeterministic, {"determinism": "does it draw in eval mode?", "padding": "differs from the same"}),
        (Counting, {"determinism": "differ by", "padding": "differs from the same"}),
        (PaddingLeaks, {"padding": "1.0 s in a batch of "}),
        (LastFrameLeaks, {"padding": "this matters with -f"}),
        (Seeded, {"determinism": "differ by", "padding": "differs from the same"}),
        (PlaceLeaks, {"padding": "3.7 s in a batch of 3.7, 1.0, 2.3 s"}),
        (RowLeaks, {"padding": "differs from the same"}),
        (SilenceIsNotANumber, {"silence": "values are NaN or infinite"}),
        (LongIsInfinite, {"60 s": "48000 of 48000 values are NaN or infinite"}),
        (WrongRate, {"rate": "16000 samples give 100 frames", "1 s": "100 frames", "60 s": "6000 frames"}),
        (
            TooFewFrames,
            {
                "rate": "16000 samples give 50 frames; at 160 samples per frame (get_downsample_rates)",
                "1 s": "50 frames", "60 s": "50 frames", "frames()": "frames(16000) is 100, but the",
            },
        ),
        (RefusesLong, {"60 s": "RuntimeError: at most 30 s of audio"}),
        (RefusesShort, {"0.02 s": "test_check_upstream.py line"}),
        (NoShortFrame, {"0.02 s": "no frame for 0.02 s", "frames()": "frames(4000) is 25"}),
        (WrongFrames, {"frames()": "frames(16123) is 101, but the utterance alone has 100"}),
        (IdentityIsNotPlain, {"identity()": "must return plain numbers"}),
        (IdentityChanges, {"identity()": "a different value at each call"}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_and_nothing_else(kind: type[Sound], expected: dict[str, str]) -> None:
    found = failures(kind())
    assert found.keys() == expected.keys(), found
    assert all(part in found[name] for name, part in expected.items()), found


class NoRate(nn.Module):
    def forward(self, wavs: list[Tensor]) -> Any:
        return Sound()(wavs)


class RateInHertz(Sound):
    rate = 100.0


class RateOfNothing(Sound):
    rate = 0


class NoHiddenStates(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        return {"hidden_state": super().forward(wavs)["hidden_states"]}


class JustATensor(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        return super().forward(wavs)["hidden_states"][0]


class Whole(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        return {"hidden_states": [layer.int() for layer in super().forward(wavs)["hidden_states"]]}


class TimeFirst(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        return {"hidden_states": [layer.transpose(0, 1) for layer in super().forward(wavs)["hidden_states"]]}


class UnlikeLayers(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        first, second = super().forward(wavs)["hidden_states"]
        return {"hidden_states": [first, second[:, ::2]]}


class Empty(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        return {"hidden_states": []}


class Raises(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        raise KeyError("weights")


class ChangesItsInput(Sound):
    def forward(self, wavs: list[Tensor]) -> Any:
        for wav in wavs:
            wav -= wav.mean()
        return super().forward(wavs)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoRate, "has no get_downsample_rates"),
        (RateInHertz, "must return a whole number above 0, not 100.0"),
        (RateOfNothing, "must return a whole number above 0, not 0"),
        (NoHiddenStates, "gives no 'hidden_states'; nearest: hidden_state"),
        (JustATensor, "must return a dict, not Tensor"),
        (Whole, "must be float tensors [B, T, D]"),
        (TimeFirst, "must be [B, T, D] with B = 3, not [370, 3, 4]"),
        (UnlikeLayers, "layers differ in shape ((3, 185, 4), (3, 370, 4))"),
        (Empty, "must be float tensors [B, T, D]"),
        (NotANumber, "values are NaN or infinite"),
        (Raises, "KeyError: 'weights'"),
        (ChangesItsInput, "changes its input waveforms"),
    ],
)
def test_where_the_interface_fails_nothing_else_is_tried(kind: type[nn.Module], said: str) -> None:
    (check,) = check_upstream(kind())
    assert (check.name, check.ok) == ("interface", False)
    assert said in check.detail


# --- the command ---------------------------------------------------------------------------------------------------

HUBCONF = """
from .expert import Half as _Half, Whole as _Whole


def {name}_whole(ckpt=None, model_config=None, refresh=False):
    return _Whole(ckpt, model_config, refresh)


def {name}_half(*args, **kwargs):
    return _Half(*args, **kwargs)


def {name}_broken(*args, **kwargs):
    raise FileNotFoundError("no weights\\nhere")
"""
EXPERT = """
import torch


class Whole(torch.nn.Module):
    def __init__(self, ckpt, model_config, refresh):
        super().__init__()
        print("built with", ckpt, model_config, refresh)

    def get_downsample_rates(self, key):
        return 160

    def forward(self, wavs):
        frames = [wav[: len(wav) // 160 * 160].view(-1, 160)[:, :4] for wav in wavs]
        return {"hidden_states": [torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)]}


class Half(Whole):
    def __init__(self, *args, **kwargs):
        super().__init__("half", None, False)

    def get_downsample_rates(self, key):
        return 80
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of adapters with names that no other test uses."""
    place = tmp_path_factory.mktemp("checked") / "checked_family"
    place.mkdir()
    (place / "hubconf.py").write_text(HUBCONF.format(name="checked"))
    (place / "expert.py").write_text(EXPERT)
    return place.parent


Capture = pytest.CaptureFixture[str]


def test_command_prints_a_line_a_check(folder: Path, capsys: Capture) -> None:
    words = ["check-upstream", "checked_whole", "-k", "a.ckpt", "-g", "b.yaml", "--upstream_path", str(folder)]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "built with a.ckpt b.yaml False" in err  # as by the runner; prints are not part of the report
    lines = out.splitlines()
    assert lines[0].startswith("ok    interface    hidden_states: float [B, T, D]")
    assert "-     frames()     missing; batched extraction needs it" in lines
    assert lines[-1] == "checked_whole: all checks passed"


def test_command_fails_with_the_reason(folder: Path, capsys: Capture) -> None:
    assert cli.main(["check-upstream", "checked_half", "--upstream_path", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("FAIL  rate         16000 samples give 100 frames; at 80 samples per frame") for line in lines
    )
    assert lines[-1] == "checked_half: failed: rate, 1 s, 60 s"


def test_command_as_json(folder: Path, capsys: Capture) -> None:
    assert cli.main(["check-upstream", "checked_half", "--upstream_path", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["upstream"], report["ok"]) == ("checked_half", False)
    found = {check["name"]: check["ok"] for check in report["checks"]}
    assert (found["rate"], found["determinism"], found["speed"]) == (False, True, None)


def test_command_for_features_of_another_name(folder: Path, capsys: Capture) -> None:
    assert cli.main(["check-upstream", "checked_whole", "-s", "hidden", "--upstream_path", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  interface    gives no 'hidden'; nearest: hidden_states",
        "checked_whole: failed: interface",
    ]


def test_command_for_an_upstream_that_cannot_be_built(folder: Path, capsys: Capture) -> None:
    assert cli.main(["check-upstream", "checked_broken", "--upstream_path", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  build        FileNotFoundError: no weights here",
        "checked_broken: failed: build",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["checked_wole"], "check-upstream checked_wole: no such upstream; nearest: checked_whole"),
        (["fbank", "--device", "gpu"], "--device gpu: not a device"),
        ([], "NAME"),
    ],
)
def test_command_with_bad_input_gives_one_line(folder: Path, capsys: Capture, words: list[str], said: str) -> None:
    assert cli.main(["check-upstream", *words, "--upstream_path", str(folder)]) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s3prl-emotion: error: ")]
    assert len(err) == 1
    assert said in err[0]


def test_what_the_readme_says_of_s3prls_own_filterbanks(capsys: Capture) -> None:
    assert cli.main(["check-upstream", "fbank_no_cmvn"]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "fbank_no_cmvn: failed: 0.02 s"
    assert "FAIL  0.02 s       AssertionError: choose a window size 400" in out
    assert cli.main(["check-upstream", "mel"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "mel: failed: padding"
