"""Weights as people publish them: ``.bin``, parts, fine-tuned models, the hub's cache, damaged and hostile files."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
import transformers
from conftest import tone
from hub_settings import close_sessions, set_hub
from tiny_models import ENCODERS, TINY, save_tiny_whisper, with_bin

import s3prl_emotion
from s3prl_emotion.errors import UsageError
from s3prl_emotion.files import trust
from s3prl_emotion.upstreams.hub import fetch
from s3prl_emotion.upstreams.weights import find_weights

s3prl_emotion.register()
import s3prl.hub  # noqa: E402
from s3prl.upstream.hf_speech import hubconf  # noqa: E402
from s3prl.upstream.hf_speech.expert import UpstreamExpert  # noqa: E402
from s3prl.upstream.hf_speech.families import FAMILIES  # noqa: E402

Folders = Callable[[str], Path]
COMMIT = hashlib.sha1(b"tiny", usedforsecurity=False).hexdigest()
# families of the shortcuts' models, by what follows hf_ in their names; one tiny model stands for each
SHORTCUTS = {
    "hubert_large": "hubert_large", "hubert": "hubert", "wavlm_large": "wavlm_large", "wavlm": "wavlm",
    "wav2vec2_conformer": "conformer", "wav2vec2_base": "wav2vec2", "wav2vec2": "wav2vec2_large",
    "mms": "wav2vec2_large", "audeering": "wav2vec2_large", "data2vec": "data2vec",
    "unispeech_sat": "unispeech_sat", "w2v_bert": "w2v_bert", "whisper": "whisper", "distil_whisper": "whisper",
    "moonshine": "moonshine", "parakeet": "parakeet", "qwen2_audio": "qwen2_audio", "voxtral": "voxtral",
}  # fmt: skip
HEADS = {  # class of a fine-tuned or pretraining model -> tiny model of its family
    "Wav2Vec2ForSequenceClassification": "wav2vec2",
    "Wav2Vec2ForPreTraining": "wav2vec2_large",
    "WavLMForCTC": "wavlm_large",
    "HubertForCTC": "hubert_large",
    "Data2VecAudioForSequenceClassification": "data2vec",
    "UniSpeechSatForCTC": "unispeech_sat",
    "Wav2Vec2ConformerForSequenceClassification": "conformer",
    "Wav2Vec2BertForSequenceClassification": "w2v_bert",
    "WhisperForAudioClassification": "whisper",
    "WhisperForConditionalGeneration": "whisper",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return the directory of a tiny model by kind, shared: tests must not write into it."""
    root = tmp_path_factory.mktemp("tiny_models")
    return cache(lambda kind: (TINY | ENCODERS)[kind](root / kind))


@pytest.fixture
def own(folders: Folders, tmp_path: Path) -> Path:
    """Return a copy of a HuBERT's directory, to change."""
    return Path(shutil.copytree(folders("hubert_large"), tmp_path / "own"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub; the network is off, as ``HF_HUB_OFFLINE=1`` says."""
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    set_hub(monkeypatch, HF_HUB_CACHE=str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(hub: Path, model: str, source: Path, commit: str = COMMIT) -> Path:
    """Put a model into a cache of the hub by hand: contents in ``blobs``, names in ``snapshots``."""
    folder = hub / f"models--{model.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for path in (folder / "refs", folder / "blobs", snapshot):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    for file in source.iterdir():
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def pickled(folder: Path) -> dict[str, torch.Tensor]:
    """Replace a model's safetensors by the same weights in a ``.bin`` file, and return them."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return weights


@torch.no_grad()
def output(upstream: UpstreamExpert) -> torch.Tensor:
    return upstream([torch.from_numpy(tone(100.0, 1, 0)[:8_000].copy())])["hidden_states"][-1]


def equal(one: Any, other: Any) -> bool:
    """Return whether two models have the same weights."""
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def refused(ckpt: Path | str, **options: Any) -> str:
    """Return the line of the error that loading raises."""
    with pytest.raises(UsageError) as caught:
        UpstreamExpert(ckpt, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files of weights --------------------------------------------------------------------------------------------


@with_bin
@pytest.mark.parametrize("legacy", [False, True])
def test_bin_alone_loads_without_a_flag(legacy: bool, own: Path, folders: Folders):
    torch.save(pickled(own), own / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    upstream = UpstreamExpert(own)
    assert equal(upstream.model, UpstreamExpert(folders("hubert_large")).model)
    assert upstream.identity() == UpstreamExpert(folders("hubert_large")).identity()


def test_safetensors_come_first(own: Path, folders: Folders):
    (own / "pytorch_model.bin").write_bytes(b"not read")
    assert equal(UpstreamExpert(own).model, UpstreamExpert(folders("hubert_large")).model)


def split(folder: Path, name: str, save: Callable[[Any, Path], Any]) -> list[Path]:
    """Split a model's weights into two files and their index."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, ending = name.split(".")
    parts, index = [folder / f"{stem}-0000{part}-of-00002.{ending}" for part in (1, 2)], {}
    for part, path in enumerate(parts):
        mine = {key: weights[key] for number, key in enumerate(sorted(weights)) if number % 2 == part}
        save(mine, path)
        index |= dict.fromkeys(mine, path.name)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
    return parts


@with_bin
def test_weights_in_parts(own: Path, folders: Folders, tmp_path: Path):
    safe = Path(shutil.copytree(own, tmp_path / "safe"))
    split(safe, "model.safetensors", lambda weights, path: safetensors.torch.save_file(weights, path, {"format": "pt"}))
    parts = split(own, "pytorch_model.bin", torch.save)
    whole = UpstreamExpert(folders("hubert_large")).model
    assert equal(UpstreamExpert(own).model, whole)
    assert equal(UpstreamExpert(safe).model, whole)
    parts[1].unlink()
    assert f"{parts[1].name} is missing, which pytorch_model.bin.index.json lists" in refused(own)
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../a.bin"}}', '{"weight_map": {"a": 3}}'):
        (own / "pytorch_model.bin.index.json").write_text(text)
        assert "pytorch_model.bin.index.json is damaged" in refused(own)


@with_bin
def test_old_names_of_a_normed_weight_in_bin(own: Path, folders: Folders):
    weights = pickled(own)
    parts = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in parts.items():
        weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    assert {"encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.weight_v"} < set(weights)
    torch.save(weights, own / "pytorch_model.bin")
    assert equal(UpstreamExpert(own).model, UpstreamExpert(folders("hubert_large")).model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("safe", [pytest.param(False, marks=with_bin), True])
def test_files_of_half_precision_compute_in_full(dtype: torch.dtype, safe: bool, own: Path):
    weights = {name: tensor.to(dtype) for name, tensor in pickled(own).items()}
    torch.save(weights, own / "pytorch_model.bin")
    if safe:
        (own / "pytorch_model.bin").unlink()
        safetensors.torch.save_file(weights, own / "model.safetensors", {"format": "pt"})
    settings = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(settings | {"dtype": "float16", "torch_dtype": "float16"}))
    upstream = UpstreamExpert(own)
    own_weights = dict(upstream.model.named_parameters())
    assert all(parameter.dtype == torch.float32 for parameter in own_weights.values())
    name = "encoder.layers.0.attention.q_proj.weight"
    assert torch.equal(own_weights[name], weights[name].float())
    assert output(upstream).dtype == torch.float32


@with_bin
@pytest.mark.parametrize("kind", HEADS)
def test_checkpoints_of_fine_tuned_models_give_their_encoder(
    kind: str, folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = Path(shutil.copytree(folders(HEADS[kind]), tmp_path / kind))
    config = transformers.AutoConfig.from_pretrained(folder)
    sizes = {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8, "vocab_size": 20}
    for name, value in sizes.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, kind)(config)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with caplog.at_level(logging.INFO):
        upstream = UpstreamExpert(folder)
    base = getattr(model, "encoder" if kind == "WhisperForAudioClassification" else model.base_model_prefix)
    base = base.encoder if kind == "WhisperForConditionalGeneration" else base
    mine, expected = (  # the adapter holds the convolutions of group-norm models in another module
        {
            name.replace(".convolutions.", "."): parameter
            for name, parameter in module.named_parameters()
            if "masked_spec_embed" not in name
        }
        for module in (upstream.model, base)
    )
    assert mine.keys() == expected.keys()
    assert all(torch.equal(mine[name], expected[name]) for name in mine)
    heads = {"CTC": "lm_head.", "Classification": "classifier.", "PreTraining": "project_hid."}
    for ending, name in heads.items():
        assert (f"weights of its head are not used: {name}" in caplog.text) == kind.endswith(ending)
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


@with_bin
def test_missing_and_unexpected_weights_are_named(own: Path, caplog: pytest.LogCaptureFixture):
    whole = pickled(own)
    layer = {name: tensor for name, tensor in whole.items() if "layers.1." not in name}
    torch.save(layer, own / "pytorch_model.bin")
    message = refused(own)
    assert "20 weights of HubertModel are missing, for example encoder.layers.1.attention.k_proj.bias, " in message
    assert "and 17 more" in message
    torch.save({f"model.{name}": tensor for name, tensor in whole.items()}, own / "pytorch_model.bin")
    assert "unknown" in refused(own)
    torch.save(whole | {"encoder.extra.weight": torch.zeros(3)}, own / "pytorch_model.bin")
    UpstreamExpert(own)
    assert "1 weights of the file are not used, for example encoder.extra.weight" in caplog.text
    caplog.clear()
    UpstreamExpert(own, {"num_layers": 1})
    settings = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 2}))
    torch.save(whole, own / "pytorch_model.bin")
    assert "layers.2" not in caplog.text  # they were cut off on purpose
    UpstreamExpert(own)
    assert "16 weights of the file are not used, for example encoder.layers.2." in caplog.text


def test_no_file_loads_below_torch_2_6_but_safetensors(own: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust, "_torch_version", lambda: (2, 5))
    UpstreamExpert(own)
    pickled(own)
    assert "install torch 2.6 or later, or convert them to safetensors" in refused(own)


def test_allow_pickle_is_accepted_and_says_that_it_does_nothing(own: Path, caplog: pytest.LogCaptureFixture):
    UpstreamExpert(own, {"allow_pickle": True})
    assert "allow_pickle has no effect any more" in caplog.text


# --- files that are not what they seem ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_git_lfs_pointer_says_what_it_is(name: str, own: Path):
    if name.endswith(".bin"):
        (own / "model.safetensors").unlink()
    digest = hashlib.sha256(b"").hexdigest()
    (own / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 1270000000\n")
    message = refused(own)
    assert f"{name} is a git-LFS pointer, not the file itself; run 'git lfs pull'" in message


class Trap:
    """Write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@with_bin
def test_a_malicious_bin_is_refused_and_runs_nothing(own: Path, tmp_path: Path):
    weights, file, sprung = pickled(own), own / "pytorch_model.bin", tmp_path / "sprung"
    for content in ({**weights, "trap": Trap(sprung)}, Trap(sprung)):
        torch.save(content, file)
        assert "pytorch_model.bin is refused: it holds more than tensors" in refused(own)
        file.write_bytes(pickle.dumps(content))
        assert "no code in it was run" in refused(own)
    assert not sprung.exists()


@with_bin
def test_damaged_bin_files(own: Path, tmp_path: Path):
    weights, file = pickled(own), own / "pytorch_model.bin"
    whole = file.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], b"\xff" * 64):
        file.write_bytes(content)
        assert "pytorch_model.bin is" in refused(own)
    for other in ([1.0], {}, {"model": weights}, {3: torch.zeros(1)}):
        torch.save(other, file)
        assert "does not hold tensors by name" in refused(own)
    file.write_bytes(whole)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "small", "w", zipfile.ZIP_DEFLATED) as small:
        for member in archive.namelist():
            small.writestr(member, archive.read(member))
    shutil.copy(tmp_path / "small", file)
    assert "its parts are compressed" in refused(own)


# --- the hub -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [pytest.param("bin", marks=with_bin), "safetensors", pytest.param("parts", marks=with_bin)]
)
def test_a_filled_cache_serves_without_the_network(kind: str, own: Path, hub: Path, folders: Folders):
    if kind == "bin":
        pickled(own)
    if kind == "parts":
        split(own, "pytorch_model.bin", torch.save)
    snapshot = fill(hub, "org/tiny", own)
    upstream = UpstreamExpert("org/tiny")
    assert equal(upstream.model, UpstreamExpert(folders("hubert_large")).model)
    assert upstream.hub_commit == ("org/tiny", COMMIT)
    assert UpstreamExpert("org/tiny", {"revision": COMMIT, "local_files_only": True}).hub_commit[1] == COMMIT
    next(path for path in snapshot.iterdir() if path.suffix in (".bin", ".safetensors")).unlink()
    gone = "is missing, which pytorch_model.bin.index.json lists" if kind == "parts" else "not in the hub's cache"
    assert gone in refused("org/tiny")
    assert "config.json of revision v2 is not in the hub's cache, and the network is off" in refused(
        "org/tiny", revision="v2"
    )


@pytest.mark.parametrize("name", sorted(hubconf._SHORTCUTS))
def test_every_shortcut_loads_a_model_of_its_family(name: str, hub: Path, folders: Folders):
    model = hubconf._SHORTCUTS[name]
    assert model.count("/") == 1
    kind = next(SHORTCUTS[start] for start in SHORTCUTS if name.startswith(f"hf_{start}"))
    fill(hub, model, folders(kind))
    upstream = getattr(s3prl.hub, name)(model_config={"num_layers": 1})
    assert upstream.hub_commit == (model, COMMIT)
    assert upstream.model.config.model_type in FAMILIES


class Hub(BaseHTTPRequestHandler):
    """The hub's answers about single files of ``org/tiny``, a gated and a missing model."""

    folder: Path
    asked: list[str]

    def log_message(self, *words: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with the file's header."""
        self._answer(False)

    def do_GET(self) -> None:
        """Answer with the file."""
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        model, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        self.asked.append(f"{model} {revision} {name}")
        file = self.folder / name
        if model != "org/tiny":
            return self._error(403, "GatedRepo") if model == "org/gated" else self._error(401, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if not file.is_file():
            return self._error(404, "EntryNotFound")
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if whole:
            self.wfile.write(content)
        return None

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(hub: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the model as ``org/tiny``, and return what is asked for."""
    handler = type("Served", (Hub,), {"folder": own, "asked": []})
    service = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{service.server_address[1]}"
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    set_hub(monkeypatch, HF_HUB_OFFLINE=False, ENDPOINT=address, HUGGINGFACE_CO_URL_TEMPLATE=files)
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    yield handler.asked
    service.shutdown()
    thread.join()
    service.server_close()
    close_sessions()


@with_bin
def test_a_model_that_holds_bin_alone_comes_from_the_hub(server: list[str], own: Path, folders: Folders):
    pickled(own)
    upstream = UpstreamExpert("org/tiny")
    assert equal(upstream.model, UpstreamExpert(folders("hubert_large")).model)
    assert upstream.hub_commit == ("org/tiny", COMMIT)
    assert f"org/tiny {COMMIT} pytorch_model.bin" in server
    assert {line.split()[1] for line in server} == {"main", COMMIT}
    assert not [line for line in server if "refs" in line or "discussions" in line]  # no converted copy is asked for
    count = len(server)
    assert UpstreamExpert("org/tiny", {"revision": COMMIT}).hub_commit == ("org/tiny", COMMIT)
    assert not [line for line in server[count:] if "pytorch_model" in line]


def test_the_log_says_that_weights_are_fetched_and_only_then(server: list[str], caplog: pytest.LogCaptureFixture):
    def fetched(name: str, **options: Any) -> list[str]:
        caplog.clear()
        assert fetch("org/tiny", name, {"revision": "main", **options}, "the model") is not None
        return [record.getMessage() for record in caplog.records if record.name == fetch.__module__]

    caplog.set_level(logging.INFO, "s3prl_emotion")
    assert fetched("config.json") == []  # small
    assert fetched("model.safetensors") == ["the model: fetching model.safetensors from the hub"]
    assert fetched("model.safetensors") == fetched("model.safetensors", local_files_only=True) == []  # the cache's


def test_ids_that_are_missing_or_gated(server: list[str]):
    message = refused("org/none")
    assert "the hub has no model of this id that you may read; check its spelling, log in with" in message
    assert "-u hf_speech_custom -k DIR" in message
    message = refused("org/gated")
    assert "accept them on its page, http" in message
    assert "/org/gated, and log in with 'hf auth login' or set HF_TOKEN" in message
    assert "the hub has no revision 'v9' of this model" in refused("org/tiny", revision="v9")


def test_a_model_without_weights_on_the_hub(server: list[str], own: Path):
    (own / "model.safetensors").unlink()
    assert "the hub has no weights of it (model.safetensors or pytorch_model.bin)" in refused("org/tiny")


def test_no_network(hub: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*words: Any, **options: Any) -> str:
        try:
            raise ConnectionError("Name or service not known")
        except ConnectionError as error:
            raise huggingface_hub.errors.LocalEntryNotFoundError("check your connection") from error

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    message = refused("org/tiny")
    assert "the hub cannot be reached (Name or service not known); connect to the network, or give a local" in message


def test_weights_are_found_in_their_order(tmp_path: Path):
    assert find_weights(lambda name: None, "here") is None
    folder = save_tiny_whisper(tmp_path / "whisper")
    found = find_weights(lambda name: folder / name if (folder / name).is_file() else None, "here")
    assert found is not None
    assert found.safe
    assert [path.name for path in found.files] == ["model.safetensors"]
