"""Whatever an upstream's features depend on is in the store's key: code, files beside it, files in ``-k DIR``."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from store_tools import fake

from s3prl_emotion.errors import StoreError
from s3prl_emotion.store import identify
from s3prl_emotion.store.contents import ENDS, LARGE, file_hash
from s3prl_emotion.store.source_code import code_hash

EXPERT = """
import torch
{imports}

class UpstreamExpert(torch.nn.Module):
    def __init__(self, ckpt=None, model_config=None, **kwargs):
        super().__init__()

    def forward(self, wavs):
        {inside}
        return {{"hidden_states": [torch.stack(wavs).unsqueeze(-1)]}}
"""


class Adapter:
    """An adapter in a folder of its own, and a folder of helpers beside it that Python can import from."""

    def __init__(self, root: Path) -> None:
        self.folder, self.helpers = root / "my_mel", root / "helpers"
        self.name = f"helper_{uuid.uuid4().hex[:8]}"  # sys.modules remembers names over tests
        self.folder.mkdir()
        self.helpers.mkdir()
        (self.folder / "hubconf.py").write_text("from .expert import UpstreamExpert as my_mel\n")
        self.write()

    def write(self, imports: str = "", inside: str = "pass") -> None:
        values = {"imports": imports, "inside": inside}
        text = EXPERT.format(**values).replace("HELPER", self.name)
        (self.folder / "expert.py").write_text(text)

    def code(self) -> str:
        """Import the adapter and return the hash of its code."""
        package = f"adapter_{uuid.uuid4().hex}"
        for name, file in ((package, "__init__.py"), (f"{package}.expert", "expert.py")):
            path = self.folder / file
            path.touch()
            spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=None)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            module.__path__ = [str(self.folder)]
            spec.loader.exec_module(module)
        return code_hash(sys.modules[f"{package}.expert"].UpstreamExpert())


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adapter]:
    made = Adapter(tmp_path)
    monkeypatch.syspath_prepend(made.helpers)
    yield made
    for name in [name for name in sys.modules if name.startswith(("adapter_", "helper_"))]:
        del sys.modules[name]


WAYS = {
    "a module": ("import HELPER", "pass"),
    "a constant of it": ("from HELPER import SCALE", "pass"),
    "when it is used": ("", "import HELPER"),
    "by its name": ("import importlib", "importlib.import_module('HELPER')"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_helper_module_outside_the_folder_counts(adapter: Adapter, way: str):
    helper = adapter.helpers / f"{adapter.name}.py"
    helper.write_text("SCALE = 1.0\n")
    adapter.write(*WAYS[way])
    before = adapter.code()
    __import__(adapter.name)  # whether it was imported already makes no difference
    assert adapter.code() == before
    (adapter.helpers / "unrelated.py").write_text("a = 1\n")
    assert adapter.code() == before
    helper.write_text("SCALE = 2.0\n")
    assert adapter.code() != before


@pytest.mark.parametrize("imported", [False, True])
def test_what_a_helper_imports_counts(adapter: Adapter, imported: bool):
    package = adapter.helpers / adapter.name
    (package / "deep").mkdir(parents=True)
    for file, text in (
        ("__init__.py", ""),
        ("mel.py", "from .deep import scales\n"),
        ("deep/__init__.py", ""),
        ("deep/scales.py", "from .. import __name__ as name\nSCALE = 1.0\n"),
        ("train.py", "steps = 1\n"),
    ):
        (package / file).write_text(text)
    adapter.write(*("import HELPER.mel", "pass") if imported else ("", "import HELPER.mel"))
    before = adapter.code()
    (package / "train.py").write_text("steps = 2\n")
    assert adapter.code() == before
    for file in ("__init__.py", "mel.py", "deep/__init__.py", "deep/scales.py"):
        (package / file).write_text((package / file).read_text() + "\nmore = 1\n")
        after = adapter.code()
        assert after != before, file
        before = after


def test_installed_packages_do_not_count(adapter: Adapter, monkeypatch: pytest.MonkeyPatch):
    installed = adapter.helpers / "site-packages"
    installed.mkdir()
    monkeypatch.syspath_prepend(installed)
    (installed / f"{adapter.name}.py").write_text("SCALE = 1.0\n")
    adapter.write("import json\nimport numpy\nimport HELPER")
    before = adapter.code()
    assert [part.partition(":")[0] for part in before.split()] == ["my_mel"]
    (installed / f"{adapter.name}.py").write_text("SCALE = 2.0\n")
    assert adapter.code() == before


def test_all_files_of_the_folder_count_but_caches(adapter: Adapter):
    before = adapter.code()
    for file in (".git/index", "__pycache__/x.pyc", "deep/__pycache__/y.pyc", ".cache/huggingface/z", "README.md"):
        (adapter.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (adapter.folder / file).write_text("x")
    assert adapter.code() == before
    for file in ("filters.npy", "deep/filters.npy", "vocabulary.txt", "codebook.pt", "no_suffix"):
        (adapter.folder / file).parent.mkdir(exist_ok=True)
        np.save(adapter.folder / file, np.zeros(3))
        added = adapter.code()
        np.save(adapter.folder / file, np.ones(3))
        changed = adapter.code()
        assert len({before, added, changed}) == 3, file
        before = changed


def test_a_link_in_a_circle_ends(adapter: Adapter):
    (adapter.folder / "loop").symlink_to(adapter.folder)
    before = adapter.code()
    (adapter.folder / "linked.npy").symlink_to(adapter.helpers / "elsewhere.npy")
    assert adapter.code() == before  # it leads nowhere
    (adapter.helpers / "elsewhere.npy").write_bytes(b"1")
    assert adapter.code() != before


def test_code_that_builds_an_upstream_of_another_package_counts(adapter: Adapter, monkeypatch: pytest.MonkeyPatch):
    upstream = fake()
    import s3prl.hub

    hubconf = adapter.folder / "hubconf.py"
    hubconf.write_text("def my_wrapped(**kwargs): return None\n")
    spec = importlib.util.spec_from_file_location("wrapped_hubconf", hubconf)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "wrapped_hubconf", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(s3prl.hub, "my_wrapped", module.my_wrapped, raising=False)
    before = code_hash(upstream, "my_wrapped")
    assert before != code_hash(upstream)
    (adapter.folder / "filters.npy").write_bytes(b"1")
    assert code_hash(upstream, "my_wrapped") != before


# --- -k DIR --------------------------------------------------------------------------------------------------------


def key(ckpt: Path) -> str:
    return identify(fake(), "fake_layers", str(ckpt), None, "hidden_states", None, torch.float32).id


@pytest.mark.parametrize("name", ["stats.npy", "stats.pt", "deep/codebook.bin", "mean.ckpt", "graph.onnx", "mvn"])
def test_a_file_of_the_checkpoint_that_is_no_parameter_counts(tmp_path: Path, name: str):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"1")
    before = key(tmp_path)
    path.write_bytes(b"2")
    assert key(tmp_path) != before
    path.rename(path.with_name("other"))
    assert key(tmp_path) != before


def test_caches_and_model_cards_of_a_checkpoint_do_not_count(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    before = key(tmp_path)
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "config.json.metadata").write_text("1719")
    (tmp_path / "README.md").write_text("# A model")
    assert key(tmp_path) == before


def test_large_weights_are_sampled(tmp_path: Path):
    """A sparse file of 3 GB: whole, it would be read for seconds."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)
    seen = {file_hash(path)}
    for offset in (0, ENDS - 1, 3_000_000_000 - ENDS, 2_999_999_999):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"x")
        assert file_hash(path) not in seen
        seen.add(file_hash(path))
    with path.open("r+b") as file:
        file.truncate(3_000_000_001)
    assert file_hash(path) not in seen
    assert LARGE < 3_000_000_000


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(self: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "secret.npy").write_bytes(b"1")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StoreError, match=r"cannot be read \(Permission denied\), but the features of -u fake_layers"):
        key(tmp_path)
