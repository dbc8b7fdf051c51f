"""Upstreams are found by name without importing the others, and ``--help`` imports neither torch nor s3prl."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

import pytest
from conftest import Run

from s3prl_emotion import host
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import adapters_folder
from s3prl_emotion.host.adapters import add_suite_adapters
from s3prl_emotion.host.deferred import LazyHub
from s3prl_emotion.host.index import Index, index_of

HUBCONF = """
from functools import partial
from .expert import UpstreamExpert as _UpstreamExpert
SIZE = 3
def first(*args, **kwargs): return _UpstreamExpert()
def _hidden(): pass
second = partial(first, size=2)
third = first
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> LazyHub:
    """Return a hub that nobody has asked for anything."""
    host.register()
    import s3prl.hub

    monkeypatch.setattr(s3prl, "hub", s3prl.hub)
    monkeypatch.delitem(sys.modules, "s3prl.hub")
    add_suite_adapters()
    fresh = sys.modules["s3prl.hub"]
    assert isinstance(fresh, LazyHub)
    return fresh


@pytest.mark.parametrize(
    ("text", "names", "complete"),
    [
        (HUBCONF, {"first", "second", "third"}, True),
        (HUBCONF + "__all__ = ['listed', *MADE]\nMADE = {'a': 1}\nglobals().update(MADE)\n",
         {"first", "second", "third", "listed", "a"}, True),
        (HUBCONF + "for name in 'ab':\n    globals()[name] = first\n", {"first", "second", "third"}, False),
        ("from .more import *\n", set(), False),
        ("__all__ = [word for word in 'ab']\nimport os\nos.getcwd()\n", set(), False),
        ("def broken(:\n", set(), False),
    ],
)  # fmt: skip
def test_names_are_read_from_the_source(text: str, names: set[str], complete: bool, tmp_path: Path) -> None:
    tmp_path.joinpath("hubconf.py").write_text(text)
    index = Index()
    index.add("mine", tmp_path / "hubconf.py")
    assert (index.modules, index.complete) == (dict.fromkeys(names, "mine"), complete)


def test_a_missing_hubconf_makes_an_index_incomplete(tmp_path: Path) -> None:
    hub = tmp_path / "s3prl" / "hub.py"
    hub.parent.mkdir()
    hub.write_text("from s3prl.upstream.gone.hubconf import *\nfrom s3prl.task.hubconf import one as two\n")
    assert index_of(hub, []) == Index({"two": "s3prl.task.hubconf"}, complete=False)


def test_only_the_upstream_that_is_asked_for_is_imported(hub: LazyHub) -> None:
    assert host.find_upstream("fbank_no_cmvn").__module__ == "s3prl.upstream.baseline.hubconf"
    assert host.find_upstream("logmel26").__module__ == "s3prl.upstream.logmel26.hubconf"
    assert {"wavlm_base", "hf_wavlm_large", "fbank"} < set(host.upstream_names())
    assert not hasattr(hub, "__no_such_attribute__")
    assert not hub._is_full


def test_an_upstream_that_cannot_be_imported_stays_known(hub: LazyHub) -> None:
    hub._index.modules["broken"] = "s3prl.upstream.no_such_upstream.hubconf"
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_upstream"):
            hub.broken  # noqa: B018
    assert "broken" in dir(hub)
    assert not hub._is_full


def test_clashes_are_found_by_the_index(hub: LazyHub, tmp_path: Path) -> None:
    place = tmp_path / "quick_clash"
    place.mkdir()
    place.joinpath("hubconf.py").write_text("def quick_before(): pass\ndef mfcc(): pass\n")
    with pytest.raises(UsageError, match=r"upstream 'mfcc' exists already, from .*baseline/hubconf\.py"):
        host.ADAPTERS.register_folder(tmp_path)
    assert not hub._is_full
    assert "quick_before" not in dir(hub)


def test_an_index_with_gaps_is_not_relied_on(hub: LazyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[bool] = []

    def import_all(self: LazyHub) -> None:
        filled.append(True)
        self._index.complete, self._index.modules["made"] = True, "s3prl.upstream.baseline.hubconf"

    monkeypatch.setattr(LazyHub, "_import_all", import_all)
    hub._index.complete = False
    assert "made" in dir(hub)
    assert filled == [True]


@pytest.mark.full
def test_the_index_names_what_the_whole_hub_has(hub: LazyHub) -> None:
    folders = host.ADAPTERS.folders(adapters_folder())
    index = index_of(Path(str(hub.__file__)), folders)
    assert index.complete
    whole = {
        name
        for name, entry in vars(hub).items()
        if callable(entry) and not name.startswith("_") and _module_of(entry).endswith((".hubconf", "s3prl.hub"))
    }
    assert hub._is_full
    ours = {f"s3prl.upstream.{folder.name}.hubconf" for folder in folders}
    assert set(map(_module_of, vars(hub).values())) > ours
    assert index.modules.keys() == whole
    for name, module in index.modules.items():
        assert getattr(importlib.import_module(module), name) is getattr(hub, name)


def _module_of(entry: object) -> str:
    function = entry.func if isinstance(entry, functools.partial) else entry
    return getattr(function, "__module__", None) or ""


STARTS = """
import sys
import s3prl_emotion
s3prl_emotion.register()
from s3prl_emotion import host
from s3prl import hub
import s3prl.downstream.runner
assert callable(getattr(s3prl.downstream.runner.hub, "fbank_no_cmvn"))
upstreams = {name.split(".")[2] for name in sys.modules if name.startswith("s3prl.upstream.")}
assert upstreams == {"baseline", "interfaces"}, upstreams
assert "transformers" not in sys.modules
try:
    host.find_upstream("fbank_no_cvmn")
except host.adapters.UsageError as error:
    print(error)
assert {"fbank", "wavlm_base", "logmel26", "hf_wavlm_large", "options"} < vars(hub).keys()
assert callable(hub.hf_hubert_custom) and "fbank" in hub.options()
assert sys.modules["s3prl.upstream.wavlm.WavLM"].eval.__module__ == "s3prl_emotion.host.literals"
"""


@pytest.mark.full
def test_a_process_imports_one_upstream_and_all_for_an_unknown_name(run: Run) -> None:
    done = run(sys.executable, "-c", STARTS)
    assert "-u fbank_no_cvmn: no such upstream; nearest: fbank_no_cmvn" in done.stdout


HELP = """
import sys
from s3prl_emotion.run_downstream import main
try:
    main(["-m", "train", "--help"])
except SystemExit as end:
    assert not end.code
    assert not {"torch", "s3prl", "numpy"} & sys.modules.keys()
    print("quick")
"""


@pytest.mark.full
def test_help_imports_neither_torch_nor_s3prl(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(sys.executable, "-c", HELP).stdout
    assert shown.endswith("quick\n")
    for word in ("--upstream_feature_normalize", "--feature_store", "'fbank_no_cmvn'", "'hf_wavlm_large'"):
        assert word in shown
    place = tmp_path / "quick_plugin"
    place.mkdir()
    place.joinpath("hubconf.py").write_text("def quick_plugin(): pass\n")
    monkeypatch.setenv("S3PRL_UPSTREAM_PATH", str(tmp_path))  # plug-ins are known only by importing them
    whole = run(sys.executable, "-m", "s3prl_emotion.run_downstream", "--help").stdout
    assert "'quick_plugin'" in whole
    flags = {line.split()[0] for line in shown.splitlines() if line.startswith("  -")}
    assert flags == {line.split()[0] for line in whole.splitlines() if line.startswith("  -")}


def test_the_hubs_client_waits_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    host.register()
    import huggingface_hub

    for name in ("huggingface_hub.hf_api", "s3prl.run_downstream", "s3prl.downstream.runner"):
        package, _, part = name.rpartition(".")
        there = vars(importlib.import_module(package))
        monkeypatch.setitem(
            there, part, importlib.import_module(name)
        )  # both are put back, as the suite's runner needs
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(huggingface_hub), "HfApi", raising=False)
    script, runner = host.import_script()
    assert "huggingface_hub.hf_api" not in sys.modules
    assert "HfApi" not in vars(huggingface_hub)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: token, raising=False)
    assert script.HfApi(token="mine") == runner.HfApi(token="mine") == "mine"
