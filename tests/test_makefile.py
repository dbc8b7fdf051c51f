"""The Makefile makes one environment for a Python and a set of constraints, and refuses to use one of another."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MAKEFILE = REPOSITORY / "Makefile"
if not MAKEFILE.is_file():
    pytest.skip("the Makefile is in the checkout", allow_module_level=True)

# A Python of any version: `-c` prints the version; `-m venv` makes an environment of programs that write down how they
# are called.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) echo {version} ;;
  "-m venv")
    echo "venv $3" >>calls
    mkdir -p $3/bin && touch $3/pyvenv.cfg && cp $0 $3/bin/python
    for name in pip uv ruff mypy; do
      printf '#!/bin/sh\\necho '$name' "$@" >>calls\\n' >$3/bin/$name && chmod +x $3/bin/$name
    done ;;
esac
"""
Make = Callable[..., subprocess.CompletedProcess[str]]


def fake_python(folder: Path, version: str) -> Path:
    path = folder / f"python{version}"
    path.write_text(PYTHON.format(version=version), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout that holds what the Makefile reads, and Pythons of four versions."""
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("setup.cfg", "constraints.txt", "constraints-oldest.txt"):
        tmp_path.joinpath(name).touch()
    for version in ("3.9", "3.11", "3.13", "3.14"):
        fake_python(tmp_path, version)
    return tmp_path


@pytest.fixture
def make(tree: Path) -> Make:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "VENV", "CONSTRAINTS")
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        tree.joinpath("calls").write_text("", encoding="utf-8")
        return subprocess.run(["make", *words], cwd=tree, env=clean, capture_output=True, text=True, timeout=300)

    return call


def calls(tree: Path) -> list[str]:
    return tree.joinpath("calls").read_text(encoding="utf-8").splitlines()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a refused call wrote, without make's own."""
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("make", "/bin/sh", "sh:"))]
    return line


@pytest.mark.full
def test_every_python_gets_an_environment_of_its_own(tree: Path, make: Make):
    assert make("lint", "PYTHON=./python3.11").returncode == 0
    made = calls(tree)
    assert made[0] == "venv .venv"
    assert any("-c constraints.txt -e .[test]" in call for call in made)
    assert make("lint", "PYTHON=./python3.11").returncode == 0
    assert calls(tree) == ["ruff check .", "ruff format --check .", "mypy"]

    refused = ".venv: is of Python 3.11, but PYTHON=./python3.13 is 3.13; choose another folder with VENV=…, "
    assert refusal(make("lint", "PYTHON=./python3.13")).startswith(refused)
    assert calls(tree) == []

    assert make("lint", "PYTHON=./python3.13", "VENV=.venv313").returncode == 0
    assert calls(tree)[0] == "venv .venv313"


@pytest.mark.full
def test_other_constraints_need_another_environment(tree: Path, make: Make):
    assert make("lint", "PYTHON=./python3.11").returncode == 0
    done = make("lint", "PYTHON=./python3.11", "CONSTRAINTS=constraints-oldest.txt")
    assert refusal(done).startswith(".venv: was made with constraints.txt, not CONSTRAINTS=constraints-oldest.txt; ")
    assert calls(tree) == []


@pytest.mark.full
@pytest.mark.parametrize("target", ["demo", "test", "test-full", "soak", "lint", "docs", "benchmark"])
def test_every_target_refuses_the_environment_of_another_python(target: str, tree: Path, make: Make):
    assert make(".venv/.installed-test", "PYTHON=./python3.11").returncode == 0
    assert "rm -r .venv" in refusal(make(target, "PYTHON=./python3.13"))
    assert calls(tree) == []


@pytest.mark.full
@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_a_python_that_is_not_supported_gets_no_environment(version: str, tree: Path, make: Make):
    line = refusal(make("lint", f"PYTHON=./python{version}"))
    assert line == f"PYTHON=./python{version}: is Python {version}; name one of 3.10 to 3.13"
    assert not tree.joinpath(".venv").exists()


@pytest.mark.full
def test_pythons_that_do_not_start(tree: Path, make: Make):
    assert refusal(make("lint", "PYTHON=./nix")).startswith("PYTHON=./nix: does not start; ")
    assert make("lint", "PYTHON=./python3.11").returncode == 0
    tree.joinpath(".venv/bin/python").unlink()
    assert refusal(make("lint", "PYTHON=./python3.11")).startswith(".venv: its Python does not start; ")


def pin_lines(name: str) -> list[str]:
    lines = REPOSITORY.joinpath(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_versions_stand_in_one_range_everywhere():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    classified = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert classified == ["3.10", "3.11", "3.12", "3.13"]
    assert setup["options"]["python_requires"] == ">=3.10,<3.14"
    for name in ("Makefile", "README.md", "docs/howto/install.md"):
        text = REPOSITORY.joinpath(name).read_text(encoding="utf-8")
        assert re.search(r"\b3\.10(-| to )3\.13\b", text), name


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-torch2.11.txt", "constraints-oldest.txt"])
def test_constraints_lie_in_the_ranges_of_setup(name: str):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    wanted = setup["options"]["install_requires"].split("\n")
    wanted += [line for extra in setup["options.extras_require"].values() for line in extra.split("\n")]
    pins = [Requirement(line) for line in pin_lines(name)]
    for requirement in (Requirement(line) for line in wanted if line):
        found = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
        assert found, requirement
        for pin in found:
            (version,) = pin.specifier
            assert requirement.specifier.contains(version.version), f"{pin} is outside {requirement}"


def test_versions_of_the_documentation_are_those_of_the_constraints():
    text = REPOSITORY.joinpath("docs/howto/install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`constraints.*?) \| (3\.\d+) \| (.*?) \|", text, flags=re.MULTILINE)
    assert len(rows) == 5
    for files, python, versions in rows:
        for name in re.findall(r"`(.*?)`", files):
            pins = [Requirement(line) for line in pin_lines(name)]
            found = {
                str(pin).split(";")[0]
                for pin in pins
                if not pin.marker or pin.marker.evaluate({"python_version": python})
            }
            assert {version.replace(" ", "==") for version in versions.split(", ")} <= found, (name, python)
