"""Ways to install the suite: as a wheel, beside an s3prl checkout, linked into s3prl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, SOURCE, TinyCorpus

from s3prl_emotion import host

TRAIN = ["-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-n", "tiny", "--device", "cpu"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the checkout, which stays clean."""
    if not (REPOSITORY / "setup.cfg").is_file():
        pytest.skip("the wheel is built from a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".git", ".venv*", "result", "build", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY, folder / "copy", ignore=ignore)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(folder / "copy"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.full
def test_wheel_holds_what_the_checkout_holds_and_one_top_level_package(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in inside} == {"s3prl_emotion"}
    expected = set()
    for folder in ("s3prl_emotion", "downstream", "upstream_adapters", "recipes"):
        prefix = "" if folder == "s3prl_emotion" else "s3prl_emotion/"
        for path in (REPOSITORY / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".md", ".jinja", ".css", ".js") and "__pycache__" not in path.parts:
                expected.add(prefix + path.relative_to(REPOSITORY).as_posix())
    assert inside == expected


@pytest.mark.full
def test_wheel_trains_from_an_empty_directory(wheel: Path, tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site), "PATH": f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    where = [sys.executable, "-c", "import s3prl_emotion; print(s3prl_emotion.__file__)"]
    assert subprocess.run(where, cwd=work, env=env, check=True, capture_output=True, text=True).stdout.startswith(
        str(site)
    )
    command = [sys.executable, str(site / "bin" / "run_downstream.py"), *TRAIN, "-o", tiny_corpus.overrides()]
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((work / "result/downstream/tiny/test_fold1_metrics.json").read_text())["checkpoint"]
        == "dev-best.ckpt"
    )
    suite = [sys.executable, str(site / "bin" / "s3prl-emotion")]

    def run(*words: object) -> str:
        command = [*suite, *map(str, words)]
        return subprocess.run(command, cwd=work, env=env, check=True, capture_output=True, text=True).stdout

    assert str(site) in run("doctor")
    trained = run("pretrain-rae", "--audio", tiny_corpus.root, "--out", "rae", "--steps", 1, "--batch_size", 4)
    assert trained.startswith("rae/rae.ckpt: 1 steps")
    assert "all checks passed" in run("check-upstream", "rae", "-k", "rae/rae.ckpt")


@pytest.fixture
def s3prl_checkout(tmp_path: Path) -> Path:
    """Return an s3prl checkout, whose folder an editable install adds to the path."""
    import s3prl

    checkout = tmp_path / "s3prl-checkout"
    shutil.copytree(Path(s3prl.__file__).parent, checkout / "s3prl", ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


@pytest.mark.full
def test_runs_beside_an_editable_checkout_of_s3prl(
    s3prl_checkout: Path, tiny_corpus: TinyCorpus, tmp_path: Path, run
) -> None:
    path = f"{s3prl_checkout}{os.pathsep}{SOURCE}"
    assert f"s3prl: {s3prl_checkout}" in run("s3prl-emotion", "doctor", PYTHONPATH=path).stdout
    run("run_downstream.py", *TRAIN, "-o", tiny_corpus.overrides(), PYTHONPATH=path)
    assert (tmp_path / "result/downstream/tiny/dev-best.ckpt").is_file()


@pytest.mark.full
def test_linked_heads_run_under_s3prls_own_script(s3prl_checkout: Path, tiny_corpus: TinyCorpus, run) -> None:
    run("s3prl-emotion", "link", s3prl_checkout)
    package = s3prl_checkout / "s3prl"
    script = [sys.executable, "run_downstream.py"]
    host.patch()
    if host.PATCHED:  # the script does not import on this stack: patch the libraries, leave everything of s3prl its own
        patched = "from s3prl_emotion import host; host.patch(); from s3prl import run_downstream as r; r.main()"
        script = [sys.executable, "-c", patched]
    path = f"{s3prl_checkout}{os.pathsep}{SOURCE}"
    words = [*TRAIN, "-o", tiny_corpus.overrides()]
    run(*script, *words, cwd=package, PYTHONPATH=path)
    expdir = package / "result/downstream/tiny"
    assert (expdir / "states-6.ckpt").is_file()
    again = ["-m", "evaluate", "-e", str(expdir / "states-6.ckpt"), "--device", "cpu"]
    if not host.PATCHED:
        run(*script, *again, cwd=package, PYTHONPATH=path)
    metrics = json.loads((expdir / "test_fold1_metrics.json").read_text())
    assert metrics["utterances"] == 16
    run("s3prl-emotion", "unlink", s3prl_checkout)
    assert not (package / "downstream" / "emotion_corr_attn").exists()
