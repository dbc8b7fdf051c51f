"""Adapters from other folders and installed packages: clashes of names, and adapters that fail to import."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import Cli, TinyCorpus

from s3prl_emotion import cli, host
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.folders import adapters_folder
from s3prl_emotion.host import registration

EXPERT = """
import torch
from ..interfaces import UpstreamBase


class UpstreamExpert(UpstreamBase):
    def get_downsample_rates(self, key):
        return 160

    def forward(self, wavs):
        frames = [wav[: len(wav) // 160 * 160].view(-1, 160)[:, :4] + {offset} for wav in wavs]
        return {{"hidden_states": [torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)]}}
"""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Return the names of the hub, and remove what a test adds to the process."""
    host.register()
    import s3prl.hub
    import s3prl.upstream

    kept = [(vars(module), dict(vars(module))) for module in (s3prl.hub, s3prl.upstream)]
    modules, path = dict(sys.modules), list(sys.path)
    host.ADAPTERS.failed.clear()
    monkeypatch.delenv("S3PRL_UPSTREAM_PATH", raising=False)
    yield vars(s3prl.hub)
    for names, before in kept:
        names.clear()
        names.update(before)
    for name in sys.modules.keys() - modules.keys():
        if name.startswith(("s3prl.upstream.", "plugin")):
            del sys.modules[name]
    sys.path[:] = path
    importlib.invalidate_caches()


def write_adapter(folder: Path, name: str, *upstreams: str, offset: int = 0, init: bool = True) -> Path:
    """Write an adapter ``folder/name`` whose features are samples plus ``offset``, and return its path."""
    place = folder / name
    place.mkdir(parents=True)
    if init:
        place.joinpath("__init__.py").write_text("")
    place.joinpath("expert.py").write_text(EXPERT.format(offset=offset))
    lines = ["from .expert import UpstreamExpert as _UpstreamExpert", "from .expert import UpstreamExpert"]
    lines += [f"def {upstream}(*args, **kwargs):\n    return _UpstreamExpert()" for upstream in upstreams or (name,)]
    place.joinpath("hubconf.py").write_text("\n".join(lines) + "\n")
    return place


def offset_of(upstream: str) -> float:
    """Return the offset that an adapter of this file adds to samples."""
    features = host.find_upstream(upstream)()([torch.zeros(1600)])["hidden_states"][0]
    assert features.shape == (1, 10, 4)
    return float(features[0, 0, 0])


# --- folders -------------------------------------------------------------------------------------------------------


def test_flag_and_environment_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        write_adapter(tmp_path / f"path{number}", f"plug{number}", offset=number)
    monkeypatch.setenv("S3PRL_UPSTREAM_PATH", f"{tmp_path}/path0{os.pathsep}{tmp_path}/path1{os.pathsep}")
    added = host.register_search_path(f"{tmp_path}/path2{os.pathsep}{tmp_path}/path3")
    assert added == ["plug0", "plug1", "plug2", "plug3"]
    assert [offset_of(name) for name in added] == [0, 1, 2, 3]
    assert set(added) < set(host.upstream_names())
    assert "options" not in host.upstream_names()  # it lists the hub, and builds nothing


def test_environment_holds_for_whoever_registers_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path, "plug_env")
    monkeypatch.setenv("S3PRL_UPSTREAM_PATH", str(tmp_path))
    monkeypatch.setitem(registration._state, "registered", False)
    host.register()
    assert "plug_env" in host.upstream_names()


def test_environment_and_flag_of_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "a", "plug_a")
    write_adapter(tmp_path / "b", "plug_b")
    monkeypatch.setenv("S3PRL_UPSTREAM_PATH", str(tmp_path / "a"))
    for name in ("plug_a", "plug_b"):
        cli.main(["check-upstream", name, "--upstream_path", str(tmp_path / "b")])
        assert "ok    dimension    4\n" in capsys.readouterr().out


def test_environment_and_flag_of_the_launcher(
    cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "a", "plug_a")
    write_adapter(tmp_path / "b", "plug_b")
    monkeypatch.setenv("S3PRL_UPSTREAM_PATH", "a")
    for name in ("plug_a", "plug_b"):
        words = ("-m", "train", "-u", name, "-d", "emotion_corr_attn", "-p", f"exp_{name}", "--upstream_path", "b")
        cli(*words, "-o", tiny_corpus.overrides(**{"runner.total_steps": 1, "runner.eval_step": 9}))


def test_adapter_itself_as_the_folder_and_without_init(tmp_path: Path) -> None:
    place = write_adapter(tmp_path, "plug_direct", offset=7, init=False)
    assert host.register_search_path(str(place)) == ["plug_direct"]
    assert offset_of("plug_direct") == 7
    assert type(host.find_upstream("plug_direct")()).__module__ == "s3prl.upstream.plug_direct.expert"


def test_an_init_is_run(tmp_path: Path) -> None:
    place = write_adapter(tmp_path, "plug_init")
    place.joinpath("__init__.py").write_text("from .expert import UpstreamExpert as Exported\nANSWER = 42\n")
    host.ADAPTERS.register_folder(tmp_path)
    package = importlib.import_module("s3prl.upstream.plug_init")
    expert = importlib.import_module("s3prl.upstream.plug_init.expert")
    assert (package.ANSWER, package.Exported) == (42, expert.UpstreamExpert)


def test_registering_again_changes_nothing(tmp_path: Path, hub: dict[str, object]) -> None:
    write_adapter(tmp_path / "real", "plug_again")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    host.register_search_path(f"{tmp_path}/real")
    entry = hub["plug_again"]
    assert host.register_search_path(f"{tmp_path}/real{os.pathsep}{tmp_path}/link") == ["plug_again"] * 2
    assert host.register_search_path(f"{tmp_path}/link/plug_again") == ["plug_again"]
    assert hub["plug_again"] is entry
    host.ADAPTERS.register_folder(adapters_folder())


def test_which_names_of_a_hubconf_count(tmp_path: Path) -> None:
    place = write_adapter(tmp_path, "plug_names", "plug_function")
    with place.joinpath("hubconf.py").open("a") as file:
        file.write(
            "from functools import partial\nfrom pathlib import Path\nimport os\nNUMBER = 3\n"
            "def _hidden(): pass\nplug_partial = partial(plug_function, size=2)\n"
        )
    assert host.ADAPTERS.register_folder(tmp_path) == ["plug_function", "plug_partial"]


def test_names_listed_in_all_count(tmp_path: Path) -> None:
    place = write_adapter(tmp_path, "plug_all", "_plug_made")
    with place.joinpath("hubconf.py").open("a") as file:
        file.write("from .expert import UpstreamExpert as plug_listed\n__all__ = ['plug_listed']\n")
    assert host.ADAPTERS.register_folder(tmp_path) == ["plug_listed"]


@pytest.mark.parametrize("source", ["--upstream_path", "S3PRL_UPSTREAM_PATH"])
def test_folders_that_hold_nothing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path / "checkpoints", ".ipynb_checkpoints")
    for folder, said in (("nowhere", "no such folder"), ("checkpoints", "there must be a <name>/hubconf.py in it")):
        place = str(tmp_path / folder)
        if source == "S3PRL_UPSTREAM_PATH":
            monkeypatch.setenv(source, place)
        with pytest.raises(UsageError, match=f"^{source} {re.escape(place)}: .*{re.escape(said)}"):
            host.register_search_path(None if source == "S3PRL_UPSTREAM_PATH" else place)


# --- clashes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["fbank_no_cmvn", "plug_first", "logmel26", "options"])
def test_upstreams_of_one_name_are_refused_with_both_places(taken: str, tmp_path: Path, hub: dict[str, object]) -> None:
    write_adapter(tmp_path / "a", "family_a", "plug_first")
    host.register_search_path(str(tmp_path / "a"))
    first = hub[taken]
    place = write_adapter(tmp_path / "b", "family_b", "plug_before", taken)
    theirs = {
        "fbank_no_cmvn": "s3prl/upstream/baseline/hubconf.py", "options": "s3prl/hub.py",
        "plug_first": "a/family_a/hubconf.py", "logmel26": "upstream_adapters/logmel26/hubconf.py",
    }[taken]  # fmt: skip
    with pytest.raises(UsageError) as caught:
        host.register_search_path(str(tmp_path / "b"))
    message = str(caught.value)
    assert message.startswith(f"{place.resolve()}/hubconf.py: upstream {taken!r} exists already, from ")
    assert theirs in message
    assert hub[taken] is first
    assert "plug_before" not in hub  # all upstreams of an adapter or none


@pytest.mark.parametrize("folder", ["plug_same", "wavlm", "interfaces", "logmel26"])
def test_folders_of_one_name_are_refused_with_both_places(folder: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", "plug_same", "plug_one", offset=1)
    host.register_search_path(str(tmp_path / "a"))
    place = write_adapter(tmp_path / "b", folder, "plug_two", offset=2)
    theirs = {
        "plug_same": str(tmp_path.resolve() / "a/plug_same"), "wavlm": "s3prl/upstream/wavlm",
        "interfaces": "s3prl/upstream/interfaces.py", "logmel26": str(adapters_folder() / "logmel26"),
    }[folder]  # fmt: skip
    with pytest.raises(UsageError, match="an adapter of this folder name exists already") as caught:
        host.register_search_path(str(tmp_path / "b"))
    assert str(place.resolve()) in str(caught.value)
    assert theirs in str(caught.value)
    assert offset_of("plug_one") == 1
    assert "plug_two" not in host.upstream_names()


def test_clash_on_the_command_line_is_one_line(cli: Cli, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", "family_a", "plug_twice")
    write_adapter(tmp_path / "b", "family_b", "plug_twice")
    words = ("-m", "train", "-u", "plug_twice", "-d", "emotion_corr_attn", "-p", "exp", "--upstream_path")
    error = cli(*words, f"a{os.pathsep}b", code=1).error
    assert f"{tmp_path.resolve()}/b/family_b/hubconf.py" in error
    assert f"{tmp_path.resolve()}/a/family_a/hubconf.py" in error
    assert not Path("exp").exists()


# --- adapters that do not import -----------------------------------------------------------------------------------

BROKEN = {
    "syntax": ("hubconf.py", "def broken(:\n", "SyntaxError: ", "line 1"),
    "library": ("expert.py", "\nimport no_such_library\n", "No module named 'no_such_library'", "expert.py line 2"),
    "raises": ("__init__.py", "raise RuntimeError('no\\nlicence')\n", "RuntimeError: no licence", ""),
    "relative": ("hubconf.py", "from .missing import x\n", "s3prl.upstream.plug_broken.missing", "hubconf.py line 1"),
    "empty": ("hubconf.py", "NUMBER = 3\n", "defines no upstream", "public function"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_adapter_that_does_not_import_is_named_and_others_work(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text, *said = BROKEN[kind]
    broken = write_adapter(tmp_path, "plug_broken", "plug_gone")
    broken.joinpath(file).write_text(text)
    write_adapter(tmp_path, "a_plug_sound")
    write_adapter(tmp_path, "z_plug_sound")
    with caplog.at_level(logging.WARNING):
        assert host.register_search_path(str(tmp_path)) == ["a_plug_sound", "z_plug_sound"]
    (warning,) = caplog.messages
    assert "\n" not in warning
    assert all(part in warning for part in (str(broken.resolve()), *said)), warning
    with pytest.raises(UsageError) as caught:
        host.find_upstream("plug_gone")
    assert str(caught.value).startswith("-u plug_gone: no such upstream")
    assert all(part in str(caught.value) for part in (str(broken.resolve()), *said)), caught.value
    assert cli.main(["check-upstream", "plug_gone", "--upstream_path", str(tmp_path)]) == 1
    assert str(broken.resolve()) in capsys.readouterr().err.splitlines()[-1]


def test_an_adapter_can_be_fixed_in_a_running_process(tmp_path: Path) -> None:
    place = write_adapter(tmp_path, "plug_fixed", offset=3)
    sound = place.joinpath("expert.py").read_text()
    place.joinpath("expert.py").write_text("raise OSError('disk')\n" + "#" * 400)
    assert host.ADAPTERS.register_folder(tmp_path) == []
    assert not [name for name in sys.modules if name.startswith("s3prl.upstream.plug_fixed")]
    place.joinpath("expert.py").write_text(sound)
    assert host.ADAPTERS.register_folder(tmp_path) == ["plug_fixed"]
    assert offset_of("plug_fixed") == 3
    with pytest.raises(UsageError) as caught:
        host.find_upstream("plug_gone")
    assert "failed to import" not in str(caught.value)


def test_a_folder_name_that_cannot_be_imported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_adapter(tmp_path, "plug.v1", "plug_dotted")
    assert host.ADAPTERS.register_folder(tmp_path) == []
    assert "rename the folder" in caplog.text


def test_unknown_upstream_on_the_command_line_names_what_failed(cli: Cli, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", "plug_broken").joinpath("expert.py").write_text("import no_such_library\n")
    words = ("-m", "train", "-u", "plug_broken", "-d", "emotion_corr_attn", "-p", "exp", "--upstream_path", "a")
    error = cli(*words, code=1).error
    assert "-u plug_broken: no such upstream" in error
    assert f"adapters that failed to import: {tmp_path.resolve()}/a/plug_broken (ModuleNotFoundError" in error


# --- packages ------------------------------------------------------------------------------------------------------


def write_plugin(folder: Path, package: str, *entry_points: str) -> None:
    """Write an installed package with two adapters: its folder, and its entry points."""
    for offset, name in enumerate(("one", "two"), start=1):
        place = write_adapter(folder / package / "upstreams", name, f"{package}_{name}", offset=offset)
        expert = place.joinpath("expert.py")
        expert.write_text(expert.read_text().replace("from ..interfaces", "from s3prl.upstream.interfaces"))
    for place in (folder / package, folder / package / "upstreams"):
        place.joinpath("__init__.py").write_text("")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text("\n".join(["[s3prl_emotion.upstreams]", *entry_points]) + "\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("plugin.upstreams.one.hubconf", ["plugin_one"]),
        ("plugin.upstreams.two", ["plugin_two"]),
        ("plugin.upstreams", ["plugin_one", "plugin_two"]),
    ],
)
def test_entry_points(value: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path, "plugin", f"mine = {value}")
    monkeypatch.setitem(registration._state, "registered", False)
    host.register()
    assert [name for name in host.upstream_names() if name.startswith("plugin")] == names
    for name in names:
        assert offset_of(name) == {"plugin_one": 1, "plugin_two": 2}[name]
        assert type(host.find_upstream(name)()).__module__ == f"plugin.upstreams.{name[7:]}.expert"  # not s3prl's


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plugin.upstream", "No module named 'plugin.upstream'"),
        ("plugin", "is a package without hubconf.py"),
        ("plugin.upstreams.one.hubconf:plugin_one", "names an object; give a module"),
        ("plugin.upstreams.one.expert", "defines no upstream"),
    ],
)
def test_entry_points_that_lead_nowhere_are_named(
    value: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "plugin", f"wrong = {value}", "right = plugin.upstreams.two.hubconf")
    if value.endswith("expert"):
        (tmp_path / "plugin/upstreams/one/expert.py").write_text("NUMBER = 1\n")
    assert host.ADAPTERS.register_entry_points() == ["plugin_two"]
    (warning,) = caplog.messages
    assert f"entry point wrong = {value}" in warning
    assert said in warning


def test_entry_points_that_clash(tmp_path: Path, hub: dict[str, object]) -> None:
    write_plugin(tmp_path, "plugin", "mine = plugin.upstreams")
    write_adapter(tmp_path / "own", "family", "plugin_two")
    host.ADAPTERS.register_folder(tmp_path / "own")
    with pytest.raises(UsageError) as caught:
        host.ADAPTERS.register_entry_points()
    assert str(tmp_path / "plugin/upstreams/two/hubconf.py") in str(caught.value)
    assert str(tmp_path.resolve() / "own/family/hubconf.py") in str(caught.value)


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_does_not_choose_code(
    cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path, hub: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(tmp_path / "a", "plug_trained")
    steps = {"runner.total_steps": 1, "runner.save_step": 1, "runner.eval_step": 9}
    words = ("-u", "plug_trained", "-d", "emotion_corr_attn", "-p", "exp", "--upstream_path", "a")
    cli("-m", "train", *words, "-o", tiny_corpus.overrides(**steps))
    del hub["plug_trained"]  # as in a new process
    again = ("-m", "evaluate", "-e", "exp/states-1.ckpt", "-t", "test")
    error = cli(*again, code=1).error
    assert "exp/states-1.ckpt: upstream 'plug_trained' came from --upstream_path a; give it again" in error
    cli(*again, "--upstream_path", "./a")  # another spelling than in the checkpoint
    assert "ignored" not in caplog.text


# --- README --------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Write the folder of the example in upstream_adapters/README.md."""
    hubconf, expert = re.findall(r"```python\n(.*?)```", (adapters_folder() / "README.md").read_text(), re.DOTALL)
    assert len((hubconf + expert).splitlines()) <= 30
    place = tmp_path / "my_upstreams" / "my_mel"
    place.mkdir(parents=True)
    place.joinpath("hubconf.py").write_text(hubconf)
    place.joinpath("expert.py").write_text(expert)
    return place.parent


def test_example_of_the_readme_is_checked(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-upstream", "my_mel", "--upstream_path", str(example)]) == 0
    shown = re.search(r"```text\n(.*?)```", (adapters_folder() / "README.md").read_text(), re.DOTALL)
    assert shown

    def lasting(text: str) -> list[str]:
        lines = [re.sub(r", in [\d.]+ s$", "", line) for line in text.splitlines()]
        return [line for line in lines if line.split()[1] not in ("speed", "memory")]

    assert lasting(capsys.readouterr().out) == lasting(shown[1])


def test_example_of_the_readme_trains(cli: Cli, tiny_corpus: TinyCorpus, example: Path) -> None:
    words = ("-u", "my_mel", "--upstream_path", "my_upstreams", "-d", "emotion_corr_attn", "-n", "my_mel")
    cli("-m", "train", *words, "-o", tiny_corpus.overrides())
    assert Path("result/downstream/my_mel/dev-best.ckpt").is_file()


def test_readme_lists_every_folder_and_its_names() -> None:
    text = (adapters_folder() / "README.md").read_text()
    table = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)}
    folders = {place.name for place in host.ADAPTERS.folders(adapters_folder())}
    assert folders <= table.keys()
    names = set(host.upstream_names())
    for folder in folders:
        assert {name.split()[0] for name in re.findall(r"`([\w ]+?)[ `]", table[folder])} & names
