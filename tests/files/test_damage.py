"""What a damaged, hostile or malformed file does: it is refused in one line, or it changes nothing."""

from __future__ import annotations

import argparse
import random
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from s3prl_emotion.errors import CheckpointError, ConfigError, DamagedCheckpointError, EmotionError
from s3prl_emotion.files.checkpoint import DIGEST, load_checkpoint, save_checkpoint
from s3prl_emotion.files.digest import digest_of
from s3prl_emotion.limits import DEEPEST, LARGEST, excess, shown, wrong_size
from s3prl_emotion.recipe import check_recipe, override, read_recipe
from s3prl_emotion.rng import rng_state
from s3prl_emotion.yaml_files import LARGEST_FILE, read_yaml

State = dict[str, Any]
POSITIONS = 60


def state_of_a_run() -> State:
    model = torch.nn.Linear(20, 10)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    return {
        "Downstream": model.state_dict(),
        "Featurizer": {"weights": torch.zeros(3)},
        "Optimizer": optimizer.state_dict(),
        "Step": 12,
        "Epoch": 3,
        "Args": argparse.Namespace(upstream="fbank", downstream="emotion_corr_attn", seed=1337, expdir="exp"),
        "Config": {"runner": {"total_steps": 6}, "optimizer": {"name": "Adam", "lr": 1e-4}},
        "Rng": [rng_state()],
        "Records": {"loss": [0.5, float("nan")]},
        "BatchIds": [0, 1],
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "states-12.ckpt"
    save_checkpoint(state_of_a_run(), path)
    return path


def bomb(levels: int = 40) -> list[Any]:
    """Lists of ten references to a list of ten references …: 10^40 values in 400 references."""
    value: list[Any] = [1]
    for _ in range(levels):
        value = [value] * 10
    return value


def nest(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def loop() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


# --- damage ------------------------------------------------------------------------------------------------------


def damages(content: bytes) -> Iterator[bytes]:
    """Flip a bit, or zero up to 256 bytes, at places over the whole file."""
    generator = random.Random(0)
    for number in range(POSITIONS):
        damaged, at = bytearray(content), len(content) * number // POSITIONS + generator.randrange(50)
        if number % 2:
            damaged[at : at + 256] = bytes(len(damaged[at : at + 256]))
        else:
            damaged[at % len(content)] ^= 1 << generator.randrange(8)
        yield bytes(damaged)


@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("ours", [True, False], ids=["digest", "checksums alone"])
def test_damage_is_refused_or_harmless(written: Path, tmp_path: Path, mmap: bool, ours: bool) -> None:
    whole, path = load_checkpoint(written), tmp_path / "states-12.ckpt"
    torch.save(whole, path)  # as s3prl's own runner writes it
    content, refused = (written if ours else path).read_bytes(), 0
    for damaged in damages(content):
        path.write_bytes(damaged)
        try:
            assert digest_of(load_checkpoint(path, mmap=mmap)) == digest_of(whole)
        except DamagedCheckpointError as error:
            said, refused = str(error), refused + 1
    assert said.startswith(f"{path}: damaged or not a checkpoint")
    assert "\n" not in said
    assert refused > POSITIONS / 2


def test_change_behind_valid_checksums_is_refused(written: Path, tmp_path: Path) -> None:
    """An edited copy that keeps the digest: each part of the content counts."""
    changes: tuple[Callable[[State], Any], ...] = (
        lambda state: state["Downstream"]["bias"].view(torch.uint8)[0].bitwise_xor_(1),
        lambda state: state["Optimizer"]["state"][0]["exp_avg"].view(-1)[7].neg_(),
        lambda state: state["Config"]["runner"].update(total_steps=7),
        lambda state: setattr(state["Args"], "seed", 1338),
        lambda state: state["Rng"][0]["torch"][5].add_(1),
        lambda state: state.update(Step=13),
        lambda state: state.update(Step=12.0),
        lambda state: state["Downstream"].update(weight=state["Downstream"]["weight"].reshape(20, 10)),
        lambda state: state.pop("Records"),
        lambda state: state.update(Extra=1),
    )
    for change in changes:
        edited = torch.load(written, weights_only=True)
        change(edited)
        torch.save(edited, tmp_path / "edited.ckpt")
        with pytest.raises(DamagedCheckpointError, match="its content is not what was written"):
            load_checkpoint(tmp_path / "edited.ckpt")


def test_digest_stays_out_of_the_content(written: Path, tmp_path: Path) -> None:
    """So a copy with changes that someone wants is a checkpoint without digest."""
    assert DIGEST in torch.load(written, weights_only=True)
    state = load_checkpoint(written)
    assert DIGEST not in state
    torch.save({**state, "Step": 13}, tmp_path / "edited.ckpt")
    assert load_checkpoint(tmp_path / "edited.ckpt")["Step"] == 13
    save_checkpoint({**state, DIGEST: "of another file"}, tmp_path / "again.ckpt")
    assert digest_of(load_checkpoint(tmp_path / "again.ckpt")) == digest_of(state)


@pytest.mark.parametrize("zipped", [True, False])
def test_mapped_files_of_older_versions_load(tmp_path: Path, zipped: bool) -> None:
    torch.save(state_of_a_run(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=zipped)
    assert load_checkpoint(tmp_path / "old.ckpt", mmap=True)["Step"] == 12


def test_archive_that_is_larger_than_its_file_is_not_unpacked(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(CheckpointError, match="its parts are compressed"):
        load_checkpoint(path)


# --- wrong structures ----------------------------------------------------------------------------------------------


def put(*keys: Any) -> Callable[[State], None]:
    """A change that puts the last of ``keys`` where the others lead."""
    *way, last, value = keys

    def change(state: State) -> None:
        target: Any = state
        for key in way:
            target = vars(target)[key] if isinstance(target, argparse.Namespace) else target[key]
        if isinstance(target, argparse.Namespace):
            setattr(target, last, value)
        else:
            target[last] = value

    return change


STRUCTURES: dict[str, tuple[Callable[[State], Any], str]] = {
    "Args a list": (put("Args", [1]), "its Args must be a namespace of arguments"),
    "Args a mapping": (put("Args", {"downstream": "emotion"}), "its Args must be a namespace"),
    "Args without downstream": (lambda state: delattr(state["Args"], "downstream"), "its Args lack downstream"),
    "seed a text": (put("Args", "seed", "1"), r"its Args\.seed must be a number"),
    "seed below 0": (put("Args", "seed", -1), r"its Args\.seed must be a number from 0"),
    "a tensor in Args": (put("Args", "cache_dir", torch.zeros(2)), "its Args or Config hold a tensor"),
    "a tensor in Config": (put("Config", "runner", "total_steps", torch.zeros(2)), "its Args or Config hold a tensor"),
    "Args without names": (lambda state: vars(state["Args"]).update({1: 2}), "its Args must have names"),
    "upstream a list": (put("Args", "upstream", ["fbank"]), r"its Args\.upstream must be text"),
    "layer a text": (
        put("Args", "upstream_layer_selection", "3"),
        r"upstream_layer_selection must be a whole number",
    ),
    "Config missing": (lambda state: state.pop("Config"), r"it lacks Args or Config"),
    "Config a list": (put("Config", []), "its Config must be a mapping"),
    "Config nothing": (put("Config", None), "its Config must be a mapping"),
    "weights a list": (put("Downstream", "bias", [0.0] * 10), "its Downstream: bias must be a tensor"),
    "weights a text": (put("Downstream", "weights"), "its Downstream must be tensors by name"),
    "weights without names": (put("Featurizer", 3, torch.zeros(3)), "its Featurizer must be tensors by name"),
    "sparse weights": (put("Downstream", "bias", torch.zeros(10).to_sparse()), "holds a tensor that is sparse"),
    "Step a text": (put("Step", "12"), "its Step must be a number from 0, got '12'"),
    "Step below 0": (put("Step", -1), "its Step must be a number from 0, got -1"),
    "Step a flag": (put("Step", True), "its Step must be a number from 0"),
    "Step a tensor": (put("Step", torch.ones(1)), "its Step must be a number from 0"),
    "Step of 600 digits": (put("Step", 10**600), "its content holds an integer of 1994 bits"),
    "Optimizer a list": (put("Optimizer", []), "its Optimizer must be state and param_groups"),
    "Scheduler a list": (put("Scheduler", [1]), "its Scheduler must be a mapping"),
    "Records a list": (put("Records", [1]), "its Records must be lists by name"),
    "BatchIds a text": (put("BatchIds", "01"), "its BatchIds must be a list of numbers"),
    "Rng nothing": (put("Rng", []), "its Rng must be states of generators"),
    "Rng of another kind": (put("Rng", [{"python": 1}]), "its Rng must be states of generators"),
    "bomb in the recipe": (put("Config", "optimizer", "name", bomb()), "its Config holds more than 1,048,576"),
    "bomb in a section": (
        put("Config", "runner", "total_steps", bomb()),
        "its Config holds more than 1,048,576",
    ),
    "bomb in Args": (put("Args", "seed", bomb()), "its Args holds more than 1,048,576 values"),
    "bomb as Step": (put("Step", bomb()), "its content holds more than 67,108,864 values"),
    "bomb in weights": (put("Downstream", "bias", bomb()), "its content holds more than 67,108,864 values"),
    "bomb of texts": (put("Config", "runner", ["x" * 2**19] * 3), "its Config holds more than 1,048,576"),
    "deep recipe": (put("Config", "runner", nest(200)), f"its Config is nested more than {DEEPEST} levels deep"),
    "recipe in itself": (put("Config", "runner", loop()), "its Config refers to itself"),
    "huge view": (put("Downstream", "bias", torch.zeros(1).expand(10**12)), "1,000,000,000,000 elements in 4 bytes"),
}


@pytest.mark.parametrize("digest", [True, False], ids=["with digest", "without"])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_wrong_structure_is_refused_at_once(tmp_path: Path, kind: str, digest: bool) -> None:
    change, message = STRUCTURES[kind]
    state, path = state_of_a_run(), tmp_path / "states-12.ckpt"
    change(state)
    torch.save({**state, **({DIGEST: "sha256-1:0"} if digest and "bomb" in kind else {})}, path)
    begun = time.perf_counter()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path, mmap=True)
    assert time.perf_counter() - begun < 5
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 400
    assert "\n" not in str(caught.value)


# --- YAML ----------------------------------------------------------------------------------------------------------


def references(levels: int, value: str) -> str:
    """A mapping whose key ``bomb`` is ``value``, with a name for 10^levels values in it."""
    lines = ["a0: &a0 [1, 2]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join([*lines, value.format(f"*a{levels - 1}")]) + "\n"


def merges(levels: int) -> str:
    """Mappings merged from ten mappings each: PyYAML copies the keys of all of them."""
    lines = ["m0: &m0 {x: 1}"]
    for level in range(1, levels):
        lines.append(f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 10)}]}}")
    return "\n".join(lines) + "\n"


HOSTILE: dict[str, tuple[str, str]] = {
    "references": (references(12, "optimizer: {{name: {}}}"), "holds more than 1,048,576 values"),
    "references as keys": (references(12, "? {}\n: 1"), "holds more than 1,048,576 values"),
    "merges": (merges(12), "holds more than 1,048,576 values"),
    "deep": ("runner: " + "[" * 200_000, "nested"),
    "deep and closed": ("runner: " + "[" * 90 + "]" * 90, "nested more than"),
    "deep mappings": ("runner: " + "{a: " * 5_000, "nested"),
    "deep blocks": ("".join(" " * level + "a:\n" for level in range(400)), "nested"),
    "itself": ("runner: &a [*a]", "refers to itself"),
    "long number": ("total_steps: 1" + ":59" * 80_000, "a number of too many digits"),
    "long fraction": ("total_steps: 1" + ":59" * 80_000 + ".5", "a number of too many digits"),
    "long hexadecimal": ("total_steps: 0x" + "f" * 100_000, "a number of too many digits"),
    "large": ("# " + "x" * LARGEST_FILE, "has 262,146 bytes; a file of options has at most 262,144"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    text, message = HOSTILE[kind]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    begun = time.perf_counter()
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(path)
    assert time.perf_counter() - begun < 5
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_ordinary_references_and_merges_still_work(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("base: &b {x: 1, y: 2}\nruns: [*b, *b]\nmore: {<<: *b, y: 3}\nempty:\n")
    assert read_yaml(path, "missing") == {
        "base": {"x": 1, "y": 2},
        "runs": [{"x": 1, "y": 2}] * 2,
        "more": {"x": 1, "y": 3},
        "empty": None,
    }
    path.write_text("")
    assert read_yaml(path, "missing") is None


# --- values in messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [["x"] * 10**5, "x" * 10**5 + " ", {"x": [[[[[["x" * 999] * 99] * 99] * 9] * 9] * 9]}, 10**9000, nest(40)],
    ids=["list", "long text", "mapping", "number", "deep"],
)
def test_long_values_are_shown_shortened(value: Any) -> None:
    assert len(shown(value)) < 230
    with pytest.raises(ConfigError, match=r"^optimizer.name: this key is required") as caught:
        check_recipe({"runner": RUNNER, "optimizer": {"name": value}, "downstream_expert": {}})
    assert len(str(caught.value)) < 400


RUNNER = {
    "total_steps": 1, "gradient_clipping": 1.0, "gradient_accumulate_steps": 1, "log_step": 1, "eval_step": 1,
    "save_step": 1,
}  # fmt: skip


def test_short_values_are_shown_as_they_are() -> None:
    for value in (1, 1.5, "text", None, True, [1, 2], {"a": 1}, -3, "it's"):
        assert shown(value) == repr(value)


def test_long_messages_are_shortened_in_each_line() -> None:
    error = EmotionError("Traceback\n" + "x" * 10**6 + "; do this instead")
    assert len(str(error)) < 2100
    assert str(error).startswith("Traceback\nxxx")
    assert str(error).endswith("; do this instead")


def test_overrides_of_absurd_depth() -> None:
    with pytest.raises(EmotionError, match=f"more than {DEEPEST} levels"):
        override(f"config.{'a.' * 5000}b=1", argparse.Namespace(), {})


def test_what_counts_as_excess() -> None:
    assert excess({"a": [1, 2.0, "x", None, True, b"x", (1,), {3}]}) is None
    assert excess([[1] * 1000] * 1000) is None
    assert excess("x" * LARGEST) is not None
    assert excess(nest(DEEPEST - 2)) is None
    assert excess(nest(DEEPEST)) is not None


# --- sizes of models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10**9, -2, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "key", ["encoder_layers", "num_hidden_layers", "hidden_size", "encoder_embed_dim", "conv_dim", "vocab_size"]
)
def test_impossible_sizes_of_models(key: str, size: float) -> None:
    for values in ({key: size}, {"model": {key: [512, size]}}, {"args": argparse.Namespace(**{key: size})}):
        assert "must be between" in str(wrong_size(values))
    assert wrong_size({key: 24, "encoder_layerdrop": -1.0, "pad_token_id": -1, "bos_token_id": 10**9}) is None
    assert "must be between 0 and 1000, got -1" in str(wrong_size({"encoder_layers": -1}))
    assert "nested more than" in str(wrong_size({"cfg": nest(99)}))
