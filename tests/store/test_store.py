"""The feature store in one process: featurizer, records, identity, damage, upkeep."""

from __future__ import annotations

import errno
import gc
import importlib.util
import json
import logging
import math
import os
import random
import resource
import shutil
import struct
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from s3prl.upstream.interfaces import Featurizer as HostFeaturizer
from store_tools import (
    ENTRY,
    MAGIC,
    fake,
    features_of,
    filled,
    flip,
    identity,
    places,
    record,
    segment_of,
    source_of,
    speech,
)

from s3prl_emotion.errors import StoreError, UsageError
from s3prl_emotion.rng import rng_state
from s3prl_emotion.store import FeatureStore, Identity, identify, segments, upkeep, utterance_key
from s3prl_emotion.store import store as store_module
from s3prl_emotion.upstreams.featurizer import Featurizer
from s3prl_emotion.upstreams.utterance import UtteranceUpstream

pytestmark = pytest.mark.usefixtures("one_thread")


# --- featurizer ----------------------------------------------------------------------------------------------------


def featurizer_of(upstream: torch.nn.Module, kind: type = Featurizer, **options: Any) -> Any:
    options = {"feature_selection": "hidden_states", "upstream_device": "cpu", **options}
    return kind(upstream=upstream, **options)


def with_weights(featurizer: Any) -> Any:
    featurizer.weights.data = torch.tensor([0.7, -1.2, 0.1, 2.0])
    return featurizer


def sum_and_gradients(featurizer: Any, layers: torch.Tensor, as_list: bool) -> tuple[torch.Tensor, ...]:
    layers = layers.clone().requires_grad_()
    featurizer.weights.grad = None
    summed = featurizer._weighted_sum(list(layers) if as_list else layers)
    (summed * torch.arange(summed.numel()).view_as(summed).cos()).sum().backward()
    return summed.detach(), featurizer.weights.grad, layers.grad


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("normalize", [False, True])
def test_weighted_sum_is_the_hosts(normalize: bool, as_list: bool):
    upstream = fake()
    layers = torch.randn(4, 3, 11, 6, generator=torch.Generator().manual_seed(1)) * 3 + 1
    ours = with_weights(featurizer_of(upstream, normalize=normalize))
    host = with_weights(featurizer_of(upstream, HostFeaturizer, normalize=normalize))
    got = sum_and_gradients(ours, layers, as_list)
    for one, other in zip(got, sum_and_gradients(host, layers, True), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)
    # from the definition, in float64
    exact = layers.double().requires_grad_()
    weights = ours.weights.detach().double().requires_grad_()
    values = exact
    if normalize:
        mean = exact.mean(-1, keepdim=True)
        values = (exact - mean) / ((exact - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()
    shares = weights.exp() / weights.exp().sum()
    expected = sum(share * layer for share, layer in zip(shares, values, strict=True))
    (expected * torch.arange(expected.numel()).view_as(expected).cos()).sum().backward()
    for one, other in zip(got, (expected.detach(), weights.grad, exact.grad), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-5)


def test_the_hosts_order_is_the_hosts_to_the_bit(monkeypatch: pytest.MonkeyPatch):
    upstream, waveforms = fake(layers=13, dim=64), speech(4)
    ours, host = featurizer_of(upstream, as_host=True), featurizer_of(upstream, HostFeaturizer)
    other = featurizer_of(upstream)
    for featurizer in (ours, host, other):
        featurizer.weights.data = torch.linspace(-2, 1, 13)
    hidden = upstream(waveforms)
    features = ours(waveforms, hidden)
    assert all(map(torch.equal, features, host(waveforms, hidden)))
    assert [len(part) for part in features] != [len(part) for part in other(waveforms, hidden)]
    monkeypatch.setattr(HostFeaturizer, "_weighted_sum", lambda self, layers: layers[0] * 0)  # rounding may be the same
    assert not ours(waveforms, hidden)[0].any()
    assert other(waveforms, hidden)[0].any()


def test_one_layer_needs_no_weights():
    upstream, (waveform, *_) = fake(layers=1), speech(1)
    featurizer = featurizer_of(upstream)
    assert list(featurizer.parameters()) == []
    stack = featurizer.stack(upstream([waveform]))
    expected = features_of(waveform.numpy(), layers=1)[0]
    assert stack.shape[0] == 1
    torch.testing.assert_close(featurizer.weigh(stack).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(featurizer([waveform], upstream([waveform]))[0], stack[0])


@pytest.mark.parametrize("layer", [-4, -3, -1, 0, 2, 3])
def test_layer_selection_counts_from_both_ends(layer: int):
    upstream, (waveform, *_) = fake(), speech(1)
    featurizer = featurizer_of(upstream, layer_selection=layer)
    expected = list(features_of(waveform.numpy()))[layer]
    assert featurizer.layer == list(range(4))[layer]
    got = featurizer.weigh(featurizer.stack(upstream([waveform])))
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layers", "layer"), [(4, 4), (4, -5), (1, 1), (1, -2)])
def test_layer_out_of_range_says_the_range(layers: int, layer: int):
    with pytest.raises(UsageError, match=rf"-l {layer}: .* it has {layers}, from 0 to {layers - 1}$"):
        featurizer_of(fake(layers=layers), layer_selection=layer)


@pytest.mark.parametrize(("wrong", "answer"), [("hidden_state", "nearest: hidden_states"), ("xyz", "known: hidden")])
def test_unknown_features_are_refused_with_the_known_ones(wrong: str, answer: str):
    with pytest.raises(UsageError, match=f"-s {wrong}: the upstream gives no such features; {answer}") as caught:
        featurizer_of(fake(), feature_selection=wrong)
    assert "last_hidden_state" in str(caught.value)


def test_an_utterance_keeps_its_own_frames_and_no_others():
    waveforms = speech(4)
    own = [len(waveform) // 160 for waveform in waveforms]
    upstream = fake()
    featurizer = featurizer_of(upstream)
    assert [len(part) for part in featurizer(waveforms, upstream(waveforms))] == own
    alone = fake("fake_without_frames")
    assert [len(featurizer_of(alone)([wav], alone([wav]))[0]) for wav in waveforms] == own
    rounded = [min(round(len(wav) / 160), max(own)) for wav in waveforms]  # the host's, with padded frames
    assert [len(part) for part in featurizer_of(alone)(waveforms, alone(waveforms))] == rounded
    assert rounded != own


def test_one_frame_an_utterance_stays_one():
    upstream, waveforms = fake(one_frame=True), speech(3)
    featurizer = featurizer_of(upstream)
    assert [len(part) for part in featurizer(waveforms, upstream(waveforms))] == [1, 1, 1]
    short = torch.zeros(10)  # the host would cut it to round(10 / 160) = 0 frames
    assert featurizer([short], upstream([short]))[0].shape == (1, 6)


def test_half_precision_stacks_are_summed_in_full_precision():
    featurizer = with_weights(featurizer_of(fake()))
    stack = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(3)).half()
    shares = featurizer.weights.detach().double().softmax(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        summed = featurizer.weigh(stack)
    assert summed.dtype == torch.float32
    torch.testing.assert_close(summed.double(), torch.einsum("l,ltd->td", shares, stack.double()), rtol=1e-6, atol=1e-6)
    assert featurizer.weigh(stack[:1]).dtype == torch.float32


# --- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 1, 2, 300])
def test_what_is_put_is_got_to_the_bit(tmp_path: Path, frames: int):
    key, stack, samples = record(1, frames)
    store = FeatureStore(tmp_path, identity())
    assert store.get(key, samples) is None
    twisted = stack.transpose(1, 2).contiguous().transpose(1, 2)  # the same values in another memory layout
    assert torch.equal(store.put(key, twisted, samples), stack)
    assert torch.equal(store.get(key, samples), stack)
    store.close()
    again = FeatureStore(tmp_path, identity())
    got = again.get(key, samples)
    assert torch.equal(got, stack)
    assert got.is_contiguous()
    assert (again.stats.hits, again.stats.computed, again.stats.corrupt) == (1, 0, 0)
    assert len(again) == 1


def test_odd_values_survive(tmp_path: Path):
    odd = torch.tensor([[[0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38]]])
    store = FeatureStore(tmp_path, identity())
    store.put(b"k" * 16, odd, 9)
    got = store.get(b"k" * 16, 9)
    assert got.numpy().tobytes() == odd.numpy().tobytes()


def test_stacks_lie_where_torch_would_lay_them(tmp_path: Path):
    filled(tmp_path)
    store = FeatureStore(tmp_path, identity())
    for number in range(6):
        key, stack, samples = record(number, 4 + 3 * number)
        got = store.get(key, samples)
        assert torch.equal(got, stack)
        assert got.data_ptr() % 64 == 0


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_errs_as_much_as_it_should(tmp_path: Path, dtype: str, bits: int):
    store = FeatureStore(tmp_path, identity(dtype=dtype))
    stack = torch.randn(3, 200, 5, generator=torch.Generator().manual_seed(0)) + 3
    returned = store.put(b"k" * 16, stack, 9)
    got = store.get(b"k" * 16, 9)
    assert got.dtype == returned.dtype == getattr(torch, dtype)
    assert torch.equal(got, returned)
    error = ((got.double() - stack.double()) / stack.double()).abs().max().item()
    assert 2.0 ** -(bits + 1) < error <= 2.0**-bits
    payload, _ = segment_of(tmp_path)
    assert payload.stat().st_size == stack.numel() * 2


def test_values_beyond_float16_are_refused_and_bfloat16_holds_them(tmp_path: Path):
    stack = torch.full((1, 2, 2), 7e4)
    with pytest.raises(StoreError, match=r"float16: holds values up to 65504, the features reach 7e\+04; use bfloat"):
        FeatureStore(tmp_path, identity(dtype="float16")).put(b"k" * 16, stack, 9)
    assert not list(tmp_path.glob("*/*.index"))
    FeatureStore(tmp_path, identity(dtype="float16")).put(b"k" * 16, stack * float("inf"), 9)  # as it was computed
    FeatureStore(tmp_path, identity(dtype="bfloat16")).put(b"k" * 16, stack, 9)


def test_a_store_sees_what_another_one_writes(tmp_path: Path):
    reader, writer = FeatureStore(tmp_path, identity()), FeatureStore(tmp_path, identity())
    for number in range(3):
        key, stack, samples = record(number)
        writer.put(key, stack, samples)
        assert reader.get(key, samples) is None
        reader.refresh(older_than=3600)
        assert key not in reader
        reader.refresh()
        assert torch.equal(reader.get(key, samples), stack)
    assert len(reader) == 3


@pytest.mark.parametrize("first", [3, MAGIC, MAGIC + 1, MAGIC + 79])
def test_an_entry_that_is_being_written_is_seen_when_it_is_whole(tmp_path: Path, first: int):
    filled(tmp_path, 1)
    _, index = segment_of(tmp_path)
    content = index.read_bytes()
    index.write_bytes(content[:first])
    reader = FeatureStore(tmp_path, identity())
    assert len(reader) == 0
    index.write_bytes(content)
    reader.refresh()
    assert torch.equal(reader.get(*record(0, 4)[::2]), record(0, 4)[1])
    assert reader.stats.corrupt == 0


def test_another_length_is_another_utterance(tmp_path: Path):
    filled(tmp_path, 1)
    store = FeatureStore(tmp_path, identity())
    key, _, samples = record(0)
    assert store.get(key, samples + 1) is None
    assert store.stats.corrupt == 1


def test_large_stores_are_kept_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1500)
    filled(tmp_path)
    sizes = [path.stat().st_size for path in tmp_path.glob("*/*.features")]
    assert len(sizes) > 2
    assert max(sizes) <= 1500
    assert all_served(tmp_path) == [True] * 6


def test_more_segments_than_a_process_may_have_files(tmp_path: Path):
    for number in range(60):
        store = FeatureStore(tmp_path, identity())
        store.put(*record(number))
        store.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
    try:
        store = FeatureStore(tmp_path, identity())
        for number in range(60):
            key, stack, samples = record(number)
            assert torch.equal(store.get(key, samples), stack)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stacks_stay_valid_when_the_store_is_closed_or_grows(tmp_path: Path):
    store = FeatureStore(tmp_path, identity())
    key, stack, samples = record(0)
    store.put(key, stack, samples)
    held = store.get(key, samples)
    store.put(*record(1, frames=5000))
    store.get(*record(1, frames=5000)[::2])
    store.close()
    gc.collect()
    assert torch.equal(held, stack)


def test_150_000_records_are_opened(tmp_path: Path):
    folder = filled(tmp_path, 1).folder
    _, index = segment_of(tmp_path)
    (first,) = ENTRY.iter_unpack(index.read_bytes()[MAGIC:])
    entries = []
    for number in range(150_000):
        entry = ENTRY.pack(number.to_bytes(16, "big"), *first[1:-1], 0)[:-8]
        entries.append(entry + struct.pack("<Q", xxhash.xxh3_64_intdigest(entry)))
    stem = folder / "00000000000000000001-1-aaaaaaaa"
    stem.with_suffix(".index").write_bytes(b"S3EMOIX1" + b"".join(entries))
    shutil.copy(segment_of_first(folder), stem.with_suffix(".features"))
    store = FeatureStore(tmp_path, identity())
    assert len(store) == 150_000  # record(0)'s key, 16 zero bytes, is the first of them
    assert torch.equal(store.get((149_999).to_bytes(16, "big"), first[8]), record(0, 4)[1])
    assert gc.isenabled()


def segment_of_first(folder: Path) -> Path:
    return min(folder.glob("*.features"))


# --- identity ------------------------------------------------------------------------------------------------------


def identified(model: torch.nn.Module | None = None, **changes: Any) -> str:
    values: dict[str, Any] = {
        "upstream": "fake_layers", "ckpt": None, "model_config": None, "selection": "hidden_states", "layer": None,
        "dtype": torch.float32, "batched": False,
    }  # fmt: skip
    return identify(fake() if model is None else model, **(values | changes)).id


def describing(values: Any) -> torch.nn.Module:
    upstream = fake()
    upstream.identity = lambda: values
    return upstream


def test_the_same_upstream_is_the_same():
    assert identified() == identified()
    assert identified().startswith("fake_layers-")


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": torch.float16},
        {"dtype": torch.bfloat16},
        {"layer": 0},
        {"layer": 3},
        {"batched": True},
        {"selection": "last_hidden_state"},
        {"upstream": "fake_without_frames"},
        {"ckpt": "some/hub-id"},
        {"ckpt": "some/other-id"},
    ],
)
def test_another_way_of_computing_is_another_collection(change: dict[str, Any]):
    others = [{}, {"dtype": torch.float16}, {"layer": 0}, {"batched": True}, {"ckpt": "some/hub-id"}]
    assert identified(**change) not in [identified(**other) for other in others if other != change]


def test_one_changed_value_of_weights_or_buffers_counts():
    for name in ("weight", "offset"):
        upstream = fake()
        value = getattr(upstream, name).data.view(-1)
        value[-1] = torch.nextafter(value[-1], torch.tensor(9.0))
        assert identified(upstream) != identified()


@pytest.mark.parametrize(
    ("name", "value"), [("b", torch.zeros(3)), ("a", torch.zeros(3, 1)), ("a", torch.zeros(3).to(torch.int32))]
)
def test_names_shapes_and_types_of_weights_count(name: str, value: torch.Tensor):
    upstream, other = fake(), fake()
    upstream.register_buffer("a", torch.zeros(3))
    other.register_buffer(name, value)
    assert identified(upstream) != identified(other)


def test_changed_options_of_the_adapter_count_whatever_their_order():
    one = identified(describing({"window": 25, "more": {"a": 1, "b": [2, None]}}))
    assert one == identified(describing({"more": {"b": (2, None), "a": 1}, "window": 25}))
    assert one != identified(describing({"window": 26, "more": {"a": 1, "b": [2, None]}}))
    assert one != identified()


def test_order_of_an_identity_does_not_count():
    values = identity(options={"a": 1, "b": 2}).values
    turned = dict(reversed(values.items())) | {"options": {"b": 2, "a": 1}}
    assert Identity(turned).id == Identity(values).id


def test_identity_that_is_no_plain_data_is_refused():
    circular: dict[str, Any] = {}
    circular["self"] = circular
    for values in ({"tensor": torch.zeros(1)}, {"set": {1}}, circular, {1: 2, "1": {3}}, object()):
        with pytest.raises(StoreError, match=r"^-u fake_layers: its identity\(\) must return plain numbers"):
            identified(describing(values))


def test_an_option_that_is_no_number_does_not_look_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    odd = identity(options=[math.nan, math.inf])
    FeatureStore(tmp_path, odd).close()
    FeatureStore(tmp_path, odd).close()
    assert not caplog.records


def test_content_of_the_configuration_counts_not_its_place(tmp_path: Path):
    for name, text in (("a.yaml", "x: 1\n"), ("b.yaml", "x: 1\n"), ("c.yaml", "x: 2\n")):
        (tmp_path / name).write_text(text)
    ids = [identified(model_config=str(tmp_path / name)) for name in ("a.yaml", "b.yaml", "c.yaml")]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] != identified()


def test_content_of_the_checkpoint_counts_not_its_place(tmp_path: Path):
    for name, text in (("a.pt", "1"), ("b.pt", "1"), ("c.pt", "2")):
        (tmp_path / name).write_text(text)
    ids = [identified(ckpt=str(tmp_path / name)) for name in ("a.pt", "b.pt", "c.pt")]
    assert ids[0] == ids[1] != ids[2]
    for name, config in (("one", "1"), ("two", "1"), ("three", "2")):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "config.json").write_text(config)
        (tmp_path / name / "model.safetensors").write_text("weights")
    ids = [identified(ckpt=str(tmp_path / name)) for name in ("one", "two", "three")]
    assert ids[0] == ids[1] != ids[2]


SOURCE = "import torch\nclass UpstreamExpert(torch.nn.Module):\n    version = 1\n"


def imported(file: Path) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location(f"adapter_{uuid.uuid4().hex}", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UpstreamExpert()


def test_changed_code_of_the_adapter_counts(tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, text in (("hubconf.py", ""), ("expert.py", SOURCE), ("helper.py", "a = 1\n"), ("notes.md", "a")):
        (folder / name).write_text(text)
    before = identified(imported(folder / "expert.py"))
    shutil.copytree(folder, tmp_path / "elsewhere" / "adapter")
    assert identified(imported(tmp_path / "elsewhere" / "adapter" / "expert.py")) == before
    (folder / "notes.md").write_text("b")
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "x.py").write_text("b")
    assert identified(imported(folder / "expert.py")) == before
    (folder / "helper.py").write_text("a = 2\n")
    changed = identified(imported(folder / "expert.py"))
    assert changed != before
    (folder / "expert.py").write_text(SOURCE.replace("1", "2"))
    assert identified(imported(folder / "expert.py")) not in (before, changed)


def test_only_its_own_module_counts_of_an_upstream_without_a_folder(tmp_path: Path):
    (tmp_path / "mine.py").write_text(SOURCE)
    before = identified(imported(tmp_path / "mine.py"))
    (tmp_path / "thesis.py").write_text("unrelated = True\n")
    assert identified(imported(tmp_path / "mine.py")) == before
    (tmp_path / "mine.py").write_text(SOURCE.replace("1", "2"))
    assert identified(imported(tmp_path / "mine.py")) != before


class Shared(UtteranceUpstream):
    """An upstream with most of its code in the suite."""

    def layers(self, wav: torch.Tensor) -> list[torch.Tensor]:
        return [wav.view(-1, 1)]

    def get_downsample_rates(self, key: str | None = None) -> int:
        return 1


def test_code_of_the_suite_that_an_adapter_rests_on_counts():
    from s3prl_emotion.store.identity import code_hash

    parts = code_hash(Shared()).split()
    assert {part.partition(":")[0] for part in parts} >= {"utterance.py", "test_store.py"}
    assert "interfaces.py" in code_hash(host_upstream()), "the base class of s3prl's upstreams"


def host_upstream() -> torch.nn.Module:
    import s3prl.hub

    return s3prl.hub.fbank_no_cmvn()


def test_an_upstream_without_source_is_refused():
    nowhere = type("Nowhere", (torch.nn.Module,), {"__module__": "__main__.nowhere"})()
    with pytest.raises(StoreError, match="no source file"):
        identified(nowhere)


def test_key_is_that_of_the_samples():
    waveform = speech(1)[0].numpy()
    key = utterance_key(waveform)
    assert len(key) == 16
    assert utterance_key(np.repeat(waveform, 2)[::2]) == key
    changed = waveform.copy()
    changed[-1] = np.nextafter(changed[-1], 1)
    assert len({key, utterance_key(changed), utterance_key(waveform[:-1]), utterance_key(waveform[::-1])}) == 4


# --- source --------------------------------------------------------------------------------------------------------


def test_features_are_the_upstreams_with_a_store_or_without(tmp_path: Path):
    waveforms = speech()
    plain, cold = list(source_of(None).stacks(waveforms)), list(source_of(tmp_path).stacks(waveforms))
    warm = list(source_of(tmp_path).stacks(waveforms))
    for waveform, one, two, three in zip(waveforms, plain, cold, warm, strict=True):
        torch.testing.assert_close(one.double(), features_of(waveform.numpy()), rtol=1e-5, atol=1e-5)
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_each_utterance_is_computed_once(tmp_path: Path):
    calls = tmp_path / "calls"
    for _ in range(2):
        upstream = fake(calls=str(calls))
        source = source_of(tmp_path / "store", upstream)
        for _ in range(2):
            list(source.stacks(speech()))
    lines = [line.split()[1] for line in calls.read_text().splitlines()]
    keys = [utterance_key(waveform.numpy()).hex() for waveform in speech()]
    assert [lines.count(key) for key in keys] == [3, 1, 1, 1, 1, 1]  # the first twice more, to check determinism
    assert source.store.stats.hits == 12


@pytest.mark.parametrize(
    ("upstream", "options"),
    [
        ({"seed": 1}, {}),
        ({"scale": 2.0}, {}),
        ({}, {"dtype": "float16"}),
        ({}, {"layer": 1}),
        ({}, {"batched": True}),
        ({}, {"selection": "last_hidden_state", "layer": None}),
    ],
)
def test_a_changed_upstream_never_hits(tmp_path: Path, upstream: dict[str, Any], options: dict[str, Any]):
    class Described(type(fake())):  # type: ignore[misc]
        def identity(self) -> dict[str, Any]:
            return self.options

    def described(**values: Any) -> torch.nn.Module:
        model = fake(**values)
        model.__class__ = Described
        return model

    list(source_of(tmp_path, described(), layer=2).stacks(speech()))
    again = source_of(tmp_path, described(), layer=2)
    list(again.stacks(speech()))
    assert (again.store.stats.computed, again.store.stats.hits) == (0, 6)
    other = source_of(tmp_path, described(**upstream), **({"layer": 2} | options))
    list(other.stacks(speech()))
    assert (other.store.stats.computed, other.store.stats.hits) == (6, 0)


def test_changed_audio_never_hits(tmp_path: Path):
    list(source_of(tmp_path).stacks(speech(2)))
    changed = speech(2)
    changed[1][-1] += 1e-6
    source = source_of(tmp_path)
    list(source.stacks(changed))
    assert (source.store.stats.computed, source.store.stats.hits) == (1, 1)


def test_one_layer_is_served_by_a_store_of_all(tmp_path: Path):
    list(source_of(tmp_path).stacks(speech(4)))
    source = source_of(tmp_path, layer=-2)
    got, expected = list(source.stacks(speech())), list(source_of(None, layer=-2).stacks(speech()))
    assert all(map(torch.equal, got, expected))
    assert got[0].shape[0] == 1
    assert (source.whole.stats.hits, source.store.stats.computed) == (4, 2)


def test_generators_are_left_alone(tmp_path: Path):
    def left_by(source: Any) -> bytes:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        list(source.stacks(speech(2)))
        state = rng_state()
        return repr((state["python"], state["numpy"], state["torch"].tolist())).encode()

    states = [left_by(source_of(folder)) for folder in (None, tmp_path)]
    warm = source_of(tmp_path)
    assert states[0] == states[1] == left_by(warm)
    assert warm.store.stats.hits == 2
    torch.rand(1)
    assert repr(rng_state()["torch"].tolist()).encode() not in states[0]


def test_an_upstream_that_does_not_repeat_itself_is_refused(tmp_path: Path):
    source = source_of(tmp_path, fake(noise=0.1))
    with pytest.raises(StoreError, match=r"gives different features for the same utterance each time \(a.wav\)"):
        list(source.stacks(speech(1), ["a.wav"]))
    assert len(list(source_of(None, fake(noise=0.1)).stacks(speech(2)))) == 2


def test_features_that_are_no_numbers_are_not_called_random(tmp_path: Path):
    waveform = torch.zeros(1600)
    (stack,) = source_of(tmp_path, fake(scale=math.nan)).stacks([waveform])
    assert stack.isnan().all()
    assert next(source_of(tmp_path, fake(scale=math.nan)).stacks([waveform])).isnan().all()


@pytest.mark.parametrize("layer", [None, -1, 3])
@pytest.mark.parametrize("store", [True, False])
def test_a_changing_number_of_layers_is_refused(tmp_path: Path, store: bool, layer: int | None):
    source = source_of(tmp_path if store else None, fake(uneven=2000), layer=layer)
    long, short = torch.ones(3000), torch.ones(1000)
    assert len(list(source.stacks([long]))) == 1
    message = "layers? for short.wav" if layer != 3 else "short.wav"
    with pytest.raises((UsageError, ValueError), match=message):
        list(source.stacks([short], ["short.wav"]))
    last = source_of(tmp_path if store else None, fake(uneven=2000), selection="last_hidden_state")
    assert [len(stack) for stack in last.stacks([long, short])] == [1, 1]


def test_batches_give_what_each_utterance_alone_gives(tmp_path: Path):
    waveforms = speech()
    names = ["x"] * len(waveforms)
    alone = list(source_of(None).stacks(waveforms))
    together = list(source_of(tmp_path, batched=True).computed(waveforms, names, batched=True))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    minding = source_of(tmp_path, fake(batch=1.0), batched=True)
    neighbours = list(minding.computed(waveforms, names, batched=True))
    torch.testing.assert_close(neighbours[0], alone[0] + len(waveforms) - 1, rtol=1e-4, atol=1e-4)  # batched
    with pytest.raises(StoreError, match=r"--batch_seconds: upstream fake_layers .* lacks frames\(\)"):
        list(source_of(tmp_path, fake("fake_without_frames")).computed(waveforms, names, batched=True))


def test_a_store_that_fits_nothing_says_how_it_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    list(source_of(tmp_path, dtype="float16").stacks(speech(1)))
    source_of(tmp_path)
    assert "differs in: dtype float16 (here float32); features are computed again" in caplog.text


# --- bad input -----------------------------------------------------------------------------------------------------


def test_a_file_is_no_store(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=f"--feature_store {folder}: "):
            FeatureStore(folder, identity())


def test_unknown_type_names_the_nearest(tmp_path: Path):
    with pytest.raises(StoreError, match="--store_dtype float15: no such type; nearest: float16"):
        source_of(tmp_path, dtype="float15")


def test_a_trained_upstream_has_no_store(tmp_path: Path):
    with pytest.raises(StoreError, match="-f"):
        source_of(tmp_path, trainable=True)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that a folder is read-only, which it never is for root."""
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: mode != os.W_OK)


def test_a_read_only_store_serves_and_is_left_alone(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
):
    list(source_of(tmp_path).stacks(speech(2)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    request.getfixturevalue("read_only")
    source = source_of(tmp_path)
    assert all(map(torch.equal, source.stacks(speech(3)), source_of(None).stacks(speech(3))))
    assert (source.store.stats.hits, source.store.stats.computed) == (2, 1)
    assert "is read-only: features that it lacks are computed each time" in caplog.text
    one_layer = source_of(tmp_path, layer=1)  # the store has no collection of it, and cannot make one
    assert len(list(one_layer.stacks(speech(3)))) == 3
    assert one_layer.whole.stats.hits == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_store_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"cannot be written \(.*No space left.*\); name another folder"):
        filled(tmp_path, 1)


# --- damage --------------------------------------------------------------------------------------------------------


def all_served(folder: Path, count: int = 6) -> list[bool]:
    """Open a store and return which records it serves; fail if one is wrong, and put missing ones again."""
    store = FeatureStore(folder, identity())
    served = []
    for number in range(count):
        key, stack, samples = record(number, 4 + 3 * number)
        got = store.get(key, samples)
        assert got is None or torch.equal(got, stack)
        served.append(got is not None)
        if got is None:
            store.put(key, stack, samples)
            assert torch.equal(store.get(key, samples), stack)
    assert store.stats.computed == served.count(False)
    store.close()
    return served


def cleaned(folder: Path) -> None:
    """Clean a store that ``all_served`` repaired; fail if a good record is lost or a bad one remains."""
    upkeep.clean(folder)
    (verdict,) = upkeep.verify(folder)
    assert (verdict.good, verdict.bad, verdict.segments) == (6, 0, [])
    assert all_served(folder) == [True] * 6


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of six records, to copy."""
    folder = tmp_path_factory.mktemp("good")
    filled(folder)
    return folder


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_costs_the_record_it_is_in(good: Path, tmp_path: Path, seed: int):
    draw = random.Random(seed)
    folder = shutil.copytree(good, tmp_path / "store")
    payload, index = segment_of(folder)
    where = places(index)
    if seed % 2:
        offset = draw.randrange(payload.stat().st_size)
        hit = [start <= offset < start + size for start, size in where]
        flip(payload, offset, draw.randrange(8))
    else:
        offset = draw.randrange(index.stat().st_size)
        hit = [offset < MAGIC or (offset - MAGIC) // ENTRY.size == number for number in range(6)]
        flip(index, offset, draw.randrange(8))
    (verdict,) = upkeep.verify(folder)
    assert verdict.bad == (1 if any(hit) else 0)
    store = FeatureStore(folder, identity())
    for number in range(6):
        store.get(*record(number, 4 + 3 * number)[::2])
    assert store.stats.corrupt == (1 if any(hit) else 0)
    store.close()
    assert all_served(folder) == [not it for it in hit]
    cleaned(folder)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_cut_short_costs_what_lay_beyond(good: Path, tmp_path: Path, seed: int):
    draw = random.Random(100 + seed)
    folder = shutil.copytree(good, tmp_path / "store")
    payload, index = segment_of(folder)
    where = places(index)
    if seed % 2:
        length = draw.randrange(payload.stat().st_size)
        kept = [start + size <= length for start, size in where]
        os.truncate(payload, length)
    else:
        length = draw.randrange(index.stat().st_size)
        kept = [MAGIC + ENTRY.size * (number + 1) <= length for number in range(6)]
        os.truncate(index, length)
    assert all_served(folder) == kept
    cleaned(folder)


def test_a_file_cut_short_while_it_is_read_kills_nobody(tmp_path: Path):
    key, stack, samples = record(0, frames=5000)
    store = FeatureStore(tmp_path, identity())
    store.put(key, stack, samples)
    assert store.get(key, samples) is not None
    os.truncate(segment_of(tmp_path)[0], 10)
    assert store.get(key, samples) is None
    assert store.stats.corrupt == 1


@pytest.mark.parametrize("written", [0, 1, 39, 79, 80])
def test_a_writer_that_dies_costs_one_record(tmp_path: Path, written: int):
    """The payload is complete, its entry has ``written`` bytes; the next writer is not affected."""
    filled(tmp_path)
    _, index = segment_of(tmp_path)
    os.truncate(index, MAGIC + 5 * ENTRY.size + written)
    assert all_served(tmp_path) == [True] * 5 + [written == 80]
    assert all_served(tmp_path) == [True] * 6
    cleaned(tmp_path)


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_description_is_written_anew(good: Path, tmp_path: Path, seed: int):
    draw = random.Random(200 + seed)
    folder = shutil.copytree(good, tmp_path / "store")
    (about,) = folder.glob("*/upstream.json")
    before = json.loads(about.read_text())
    if seed % 3:
        flip(about, draw.randrange(about.stat().st_size), draw.randrange(8))
    else:
        os.truncate(about, draw.randrange(about.stat().st_size - 1))
    try:
        assert all_served(folder) == [True] * 6
    except StoreError as error:  # the digit of the format
        assert "upgrade s3prl-emotion, or remove" in str(error)  # noqa: PT017
        return
    after = json.loads(about.read_text())
    assert (after["identity"], after["format"]) == (before["identity"], 1)
    assert upkeep.collections(folder)[0].utterances == 6


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "3", '{"format": 1}', '{"format": "1", "identity": {}, "made": "", "by": {}}', "\xff\xfe",
     '{"format": 1, "identity": [], "made": "", "by": 3}', '{"format": 0, "identity": {}, "made": "", "by": {}}'],
)  # fmt: skip
def test_a_description_of_another_kind_is_written_anew(
    good: Path, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
):
    folder = shutil.copytree(good, tmp_path / "store")
    (about,) = folder.glob("*/upstream.json")
    before = json.loads(about.read_text())["identity"]
    about.write_bytes(content.encode("latin-1"))
    upkeep.collections(folder)
    assert all_served(folder) == [True] * 6
    assert "damaged; it is written again" in caplog.text
    assert json.loads(about.read_text())["identity"] == before


def test_a_newer_format_is_an_error(good: Path, tmp_path: Path):
    folder = shutil.copytree(good, tmp_path / "store")
    (about,) = folder.glob("*/upstream.json")
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match=r"upstream.json: format 2 of the store is not known here; upgrade"):
        FeatureStore(folder, identity())


def test_a_store_of_other_versions_is_served_with_a_warning(
    good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = shutil.copytree(good, tmp_path / "store")
    assert all_served(folder) == [True] * 6
    assert not caplog.records
    (about,) = folder.glob("*/upstream.json")
    values = json.loads(about.read_text())
    values["by"] |= {"torch": "1.0", "device": "cuda"}
    about.write_text(json.dumps(values))
    assert all_served(folder) == [True] * 6
    (warning,) = [entry.getMessage() for entry in caplog.records]
    assert "was begun with torch 1.0 (here" in warning
    assert "device cuda (here cpu): features are the same within rounding" in warning
    assert json.loads(about.read_text()) == values


@pytest.mark.parametrize("fails", ["payload", "entry"])
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str):
    store = FeatureStore(tmp_path, identity())
    store.put(*record(0))
    payload, index = segment_of(tmp_path)
    sizes = payload.stat().st_size, index.stat().st_size
    pwrite = os.pwrite

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        room = 13 if (len(data) == ENTRY.size) == (fails == "entry") else len(data)
        if room < len(data) and offset % 64 == 13 % 64:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = pwrite(descriptor, data[:room], offset)
        if room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "pwrite", full)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no room for 0\.0 MB more \(No space left on device\); free disk"):
                store.put(*record(1))
    assert (payload.stat().st_size, index.stat().st_size) == sizes
    assert torch.equal(store.get(*record(0)[::2]), record(0)[1])
    assert store.get(*record(1)[::2]) is None
    store.put(*record(1))  # there is space again: the same writer continues
    store.close()
    again = FeatureStore(tmp_path, identity())
    for number in range(2):
        key, stack, samples = record(number)
        assert torch.equal(again.get(key, samples), stack)
    assert again.stats.corrupt == 0


# --- upkeep --------------------------------------------------------------------------------------------------------


def test_doubles_go_and_damage_is_freed(tmp_path: Path):
    filled(tmp_path)
    stores = [FeatureStore(tmp_path, identity()) for _ in range(2)]
    for store in stores:
        store.put(*record(20))  # two processes computed the same utterance
        store.put(*record(21 + stores.index(store)))
        store.close()
    (first, *_) = sorted(tmp_path.glob("*/*.features"))
    flip(first, 3, 0)  # in record 0
    assert [(verdict.good, verdict.bad) for verdict in upkeep.verify(tmp_path)] == [(9, 1)]
    assert upkeep.collections(tmp_path)[0].utterances == 9
    gone, freed = upkeep.clean(tmp_path)
    assert gone == 2
    assert freed > record(0, 4)[1].numel() * 4
    assert [(verdict.good, verdict.bad) for verdict in upkeep.verify(tmp_path)] == [(8, 0)]
    store = FeatureStore(tmp_path, identity())
    for number in (20, 21, 22):
        key, stack, samples = record(number)
        assert torch.equal(store.get(key, samples), stack)
    store.close()
    assert all_served(tmp_path) == [False, *[True] * 5]
    assert upkeep.clean(tmp_path) == (0, 0)


def test_another_copy_serves_where_one_is_damaged(tmp_path: Path):
    for _ in range(2):
        filled(tmp_path / "two", 1)
        shutil.copytree(tmp_path / "two", tmp_path / "both", dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "two")
    payloads = sorted((tmp_path / "both").glob("*/*.features"))
    assert len(payloads) == 2
    flip(payloads[0], 0, 0)
    store = FeatureStore(tmp_path / "both", identity())
    key, stack, samples = record(0, 4)
    assert torch.equal(store.get(key, samples), stack)
    assert store.stats.corrupt == 1
    flip(payloads[1], 1, 0)
    again = FeatureStore(tmp_path / "both", identity())
    assert again.get(key, samples) is None
    assert again.stats.corrupt == 2


def test_what_killed_processes_left_goes(tmp_path: Path):
    folder = filled(tmp_path).folder
    for name in ("1-1-a.features", "2-1-a.index", ".upstream.json.77.partial"):
        (folder / name).write_bytes(b"x" * 1000)
    for suffix in ("features", "index"):
        (folder / f"3-1-a.{suffix}").write_bytes(b"")
    upkeep.clean(tmp_path)
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".features", ".index", ".json"]
    assert all_served(tmp_path) == [True] * 6


def test_upkeep_waits_for_writers_to_end(tmp_path: Path):
    filled(tmp_path)
    writer = FeatureStore(tmp_path, identity())
    upkeep.clean(tmp_path)  # it has not written anything yet
    writer.put(*record(9))
    for action in (lambda: upkeep.clean(tmp_path), lambda: upkeep.drop(tmp_path, writer.folder.name)):
        with pytest.raises(StoreError, match="is being written to; run this again when"):
            action()
    writer.close()
    upkeep.clean(tmp_path)
    assert torch.equal(FeatureStore(tmp_path, identity()).get(*record(9)[::2]), record(9)[1])


def test_cleaning_goes_unnoticed_by_readers(tmp_path: Path):
    filled(tmp_path)
    late, early = FeatureStore(tmp_path, identity()), FeatureStore(tmp_path, identity())
    held = {number: early.get(*record(number, 4 + 3 * number)[::2]) for number in range(1, 6)}
    flip(segment_of(tmp_path)[0], 0, 0)  # in record 0; the others move
    upkeep.clean(tmp_path)
    for store in (late, early):
        for number in range(1, 6):
            key, stack, samples = record(number, 4 + 3 * number)
            assert torch.equal(held[number], stack)
            got = store.get(key, samples)
            if got is None:
                store.refresh()
                got = store.get(key, samples)
            assert torch.equal(got, stack)
        assert store.stats.corrupt == 0


def test_cleaning_for_want_of_room_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path)
    flip(segment_of(tmp_path)[0], 0, 0)

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "pwrite", full)
        with pytest.raises(StoreError, match="No space left"):
            upkeep.clean(tmp_path)
    assert all_served(tmp_path) == [False, *[True] * 5]
    cleaned(tmp_path)


def test_a_collection_is_dropped_by_name(tmp_path: Path):
    keep, go = FeatureStore(tmp_path, identity()), FeatureStore(tmp_path, identity(layer=3))
    for store in (keep, go):
        store.put(*record(0))
        store.close()
    with pytest.raises(StoreError, match=f"has no collection {go.folder.name[:-1]}; nearest: {go.folder.name}"):
        upkeep.drop(tmp_path, go.folder.name[:-1])
    size = sum(path.stat().st_size for path in go.folder.iterdir())
    assert upkeep.drop(tmp_path, go.folder.name) == size
    assert [item.folder for item in upkeep.collections(tmp_path)] == [keep.folder]


def test_upkeep_is_for_stores(tmp_path: Path):
    for folder, message in ((tmp_path, "holds no stored features"), (tmp_path / "none", "no such folder")):
        for action in (upkeep.collections, lambda where: list(upkeep.verify(where)), upkeep.clean):
            with pytest.raises(StoreError, match=message):
                action(folder)


def test_a_store_says_nothing_where_all_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert all_served(tmp_path) == [False] * 6
    assert all_served(tmp_path) == [True] * 6
    assert not caplog.records
