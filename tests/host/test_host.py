"""The host with the installed libraries: patches, registered heads and adapters, and their names."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import Run
from tiny_models import save_tiny_hubert

import s3prl_emotion
from s3prl_emotion import cli, host
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import PACKAGE, adapters_folder, heads, heads_folder, recipes_folder
from s3prl_emotion.host import link as linking

ADAPTER_HUBCONF = """
from .expert import UpstreamExpert as _UpstreamExpert


def {name}(*args, **kwargs):
    return _UpstreamExpert()
"""
ADAPTER_EXPERT = """
import torch


class UpstreamExpert(torch.nn.Module):
    def get_downsample_rates(self, key):
        return 160

    def forward(self, wavs):
        frames = [wav[: len(wav) // 160 * 160].view(-1, 160)[:, :4] for wav in wavs]
        return {"hidden_states": [torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)]}
"""


def write_adapter(folder: Path, name: str) -> Path:
    family = folder / f"{name}_family"
    family.mkdir(parents=True)
    (family / "__init__.py").write_text("")
    (family / "hubconf.py").write_text(ADAPTER_HUBCONF.format(name=name))
    (family / "expert.py").write_text(ADAPTER_EXPERT)
    return folder


@pytest.fixture(autouse=True)
def registered() -> None:
    s3prl_emotion.register()


def test_hub_imports_and_heads_are_downstreams_of_the_host() -> None:
    import s3prl.hub
    from s3prl.downstream.emotion_corr_attn.expert import DownstreamExpert

    assert callable(s3prl.hub.fbank)
    assert DownstreamExpert.__module__ == "s3prl.downstream.emotion_corr_attn.expert"
    assert "emotion_corr_attn" in host.downstream_names()
    assert "emotion" in host.downstream_names()


def test_models_of_transformers_are_imported_when_they_are_built(tmp_path: Path) -> None:
    save_tiny_hubert(tmp_path)
    s3prl_emotion.register()
    built = sys.modules["s3prl.hub"].hf_hubert_custom(ckpt=str(tmp_path))
    from s3prl.upstream.hf_hubert.expert import UpstreamExpert

    assert isinstance(built, UpstreamExpert)


@pytest.mark.full
def test_registering_imports_no_model_of_transformers(run: Run) -> None:
    code = "import sys, s3prl_emotion; s3prl_emotion.register(); print([n for n in sys.modules if '.modeling_' in n])"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "[]"


def test_registering_twice_changes_nothing() -> None:
    import s3prl.downstream

    before = (list(s3prl.downstream.__path__), list(host.PATCHED))
    s3prl_emotion.register()
    host.patch()
    assert (list(s3prl.downstream.__path__), host.PATCHED) == before


def test_only_what_is_missing_is_patched() -> None:
    patched = {line.split(":")[0] for line in host.PATCHED}
    modern = "torchaudio.set_audio_backend" in patched
    assert modern == (tuple(int(part) for part in torchaudio.__version__.split(".")[:2]) >= (2, 9))
    assert hasattr(torchaudio, "set_audio_backend")
    if not modern:
        assert torchaudio.load.__module__ != host.soundfile_load.__module__


def test_what_cannot_be_patched_says_so_when_used() -> None:
    if "huggingface_hub.HfFolder" not in {line.split(":")[0] for line in host.PATCHED}:
        pytest.skip("this stack needs no such patch")
    from huggingface_hub import Repository
    from torchaudio.sox_effects import apply_effects_file

    for gone in (Repository, apply_effects_file):
        with pytest.raises(UsageError, match="is gone from this version of its library"):
            gone("anything")


@pytest.mark.parametrize("channels", [1, 2])
def test_soundfile_stands_in_for_torchaudio_load(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (400, channels)).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    waveform, rate = host.soundfile_load(str(path))
    assert rate == 8000
    torch.testing.assert_close(waveform, torch.from_numpy(samples.T.copy()), rtol=0, atol=0)
    part, _ = host.soundfile_load(str(path), frame_offset=100, num_frames=50, channels_first=False)
    torch.testing.assert_close(part, torch.from_numpy(samples[100:150]), rtol=0, atol=0)
    header = host.soundfile_info(str(path))
    assert (header.sample_rate, header.num_frames, header.num_channels) == (8000, 400, channels)


def test_adapters_of_another_folder_become_upstreams(tmp_path: Path) -> None:
    import s3prl.hub

    assert host.ADAPTERS.register_folder(write_adapter(tmp_path, "tiny_adapter")) == ["tiny_adapter"]
    features = s3prl.hub.tiny_adapter()([torch.zeros(1600)])
    assert features["hidden_states"][0].shape == (1, 10, 4)
    assert "tiny_adapter" in host.upstream_names()


def test_an_adapter_does_not_replace_an_upstream(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="upstream 'fbank' exists already"):
        host.ADAPTERS.register_folder(write_adapter(tmp_path, "fbank"))


def test_no_file_is_loaded_under_two_names() -> None:
    import s3prl.downstream.emotion_corr_attn.expert  # noqa: F401

    sources = (PACKAGE, heads_folder(), adapters_folder())
    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        path = Path(file or "/").resolve()
        if name != "__main__" and any(path.is_relative_to(folder) for folder in sources):
            names[path].add(name)
    assert names
    assert {path: found for path, found in names.items() if len(found) > 1} == {}


def test_every_head_is_complete() -> None:
    for name in heads():
        assert {"model.py", "expert.py", "config.yaml", "README.md"} <= {
            path.name for path in (heads_folder() / name).iterdir()
        }


def test_doctor_prints_versions_patches_devices_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in (
        torch.__version__.split("+")[0],
        "patched in the host:",
        "devices:",
        "-d emotion_corr_attn",
        str(recipes_folder()),
    ):
        assert part in out


def fake_s3prl(folder: Path) -> Path:
    (folder / "s3prl" / "downstream").mkdir(parents=True)
    (folder / "s3prl" / "downstream" / "runner.py").write_text("")
    return folder


def test_link_and_unlink_undo_each_other(tmp_path: Path) -> None:
    checkout = fake_s3prl(tmp_path)
    place = checkout / "s3prl" / "downstream" / "emotion_corr_attn"
    linking.link(checkout)
    assert (place / "expert.py").samefile(heads_folder() / "emotion_corr_attn" / "expert.py")
    assert any("linked already" in line for line in linking.link(checkout / "s3prl"))
    linking.unlink(checkout)
    assert not place.is_symlink()
    assert linking.unlink(checkout) == [f"no links in {place.parent}"]


def test_link_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    checkout = fake_s3prl(tmp_path)
    place = checkout / "s3prl" / "downstream" / "emotion_corr_attn"
    place.mkdir()
    with pytest.raises(UsageError, match="something else has this name already"):
        linking.link(checkout)
    assert linking.unlink(checkout) == [f"no links in {place.parent}"]
    assert place.is_dir()
    with pytest.raises(UsageError, match="not an s3prl checkout"):
        linking.link(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["docter"], "no command 'docter'; nearest: doctor"), (["link", "/nowhere"], "not an s3prl checkout")],
)
def test_a_wrong_command_gives_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_head_without_network_or_loss_cannot_be_built() -> None:
    from s3prl_emotion.experts.base import EmotionExpert

    class Unfinished(EmotionExpert):
        pass

    with pytest.raises(TypeError, match="abstract method"):
        Unfinished(24, 160, {}, "exp")
