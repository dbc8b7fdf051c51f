"""The order of the folders, read from the imports themselves: design.md, section 1."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3prl_emotion

ROOT = Path(s3prl_emotion.__file__).resolve().parents[1]
ORDER = (  # a folder imports from those that stand behind it, never from one ahead of it
    "(command lines)",
    "superb", "serve", "submit", "pack", "report", "benchmark",
    "transcribe", "export", "degrade", "audit", "saliency", "rae", "predict", "extract",
    "training", "downstream", "experts", "loading", "upstream_adapters", "upstreams", "figures", "metrics",
    "store", "corpora", "host", "files", "processes", "audio", "recipe",
    "(leaves)",
)  # fmt: skip
COMMAND_LINES = {"__init__", "__main__", "cli", "run_downstream"}  # __init__ offers load() and register()
HOSTED = {"downstream": "s3prl.downstream", "upstream_adapters": "s3prl.upstream"}
MOST_MODULES = 14

pytestmark = pytest.mark.skipif(not (ROOT / "downstream").is_dir(), reason="a checkout's layout")


def module_name(path: Path) -> str:
    """Import name of a file of the checkout."""
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = [HOSTED.get(first, first), *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(path: Path) -> str:
    """Folder that a file belongs to, as :data:`ORDER` names it."""
    first, second, *_ = path.relative_to(ROOT).with_suffix("").parts
    if first in HOSTED:
        return first
    if second in ORDER:
        return second
    return "(command lines)" if second in COMMAND_LINES else "(leaves)"


def imported(path: Path, modules: dict[str, Path]) -> Iterator[Path]:
    """Files that a file imports anywhere, deferred imports included."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (modules[item.name] for item in node.names if item.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for item in node.names:
                found = modules.get(f"{base}.{item.name}") or modules.get(base)
                if found is not None:
                    yield found


@pytest.fixture(scope="module")
def arrows() -> dict[Path, list[Path]]:
    """Every file of the suite with the files that it imports, the suite's own ``__init__.py`` left out."""
    files = [file for folder in ("s3prl_emotion", *HOSTED) for file in sorted((ROOT / folder).rglob("*.py"))]
    modules = {module_name(file): file for file in files}
    return {
        file: [target for target in imported(file, modules) if target not in (file, modules["s3prl_emotion"])]
        for file in files
    }


def test_no_folder_imports_from_one_above(arrows: dict[Path, list[Path]]) -> None:
    """A folder imports from those below it alone."""
    upward = [
        f"{file.relative_to(ROOT)} ({folder_of(file)}) imports {target.relative_to(ROOT)} ({folder_of(target)})"
        for file, targets in arrows.items()
        for target in targets
        if ORDER.index(folder_of(target)) < ORDER.index(folder_of(file))
    ]
    assert not upward, "\n".join(upward)


def test_no_circle_of_imports(arrows: dict[Path, list[Path]]) -> None:
    """No file imports itself through others; what a package's ``__init__.py`` passes on is left out."""
    finished: set[Path] = set()

    def walk(file: Path, path: list[Path]) -> None:
        if file in path:
            circle = [item.relative_to(ROOT).as_posix() for item in path[path.index(file) :]]
            pytest.fail(" -> ".join([*circle, circle[0]]))
        if file not in finished:
            for target in (item for item in arrows[file] if item.name != "__init__.py"):
                walk(target, [*path, file])
            finished.add(file)

    for file in arrows:
        walk(file, [])


def test_every_folder_stands_in_the_order() -> None:
    """A new folder needs a place in the order."""
    folders = {path.parent.name for path in (ROOT / "s3prl_emotion").glob("*/__init__.py")}
    assert folders <= set(ORDER), folders - set(ORDER)


def test_few_modules_lie_loose() -> None:
    """What lies directly in the package is what everything uses."""
    loose = sorted(path.name for path in (ROOT / "s3prl_emotion").glob("*.py"))
    assert len(loose) <= MOST_MODULES, loose


def test_packages_are_those_of_the_tree() -> None:
    """``setup.cfg`` lists packages by hand, since mapped folders cannot be found automatically."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    places = [ROOT / "s3prl_emotion", *((ROOT / name) for name in (*HOSTED, "recipes"))]
    found = {path.parent for place in places for kind in ("*.py", "*.yaml") for path in place.rglob(kind)}
    packages = {
        ".".join(("s3prl_emotion", *(part for part in folder.relative_to(ROOT).parts if part != "s3prl_emotion")))
        for folder in found
    }
    listed = config["options"]["packages"].split()
    assert sorted(packages | {f"s3prl_emotion.{name}" for name in (*HOSTED, "recipes")}) == sorted(listed)
