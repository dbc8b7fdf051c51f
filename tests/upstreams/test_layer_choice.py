"""One layer of an upstream, by number or by saliency, without computing the layers above."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Cli, TinyCorpus
from tiny_models import TINY, save_tiny_hubert, save_tiny_wavlm_large

from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.upstreams.layer_choice import cut_upstream

host.register()
LAYERS = 3
MODEL = "downstream_expert.modelrc"


def build(folder: Path) -> torch.nn.Module:
    return host.find_upstream("hf_speech_custom")(ckpt=str(folder), model_config=None, refresh=False).eval()


def size(model: torch.nn.Module) -> int:
    return sum(item.numel() for item in model.parameters())


@pytest.mark.parametrize("kind", sorted(TINY))
@pytest.mark.parametrize("layer", [1, 2])
def test_layers_up_to_the_cut_stay_the_same(tmp_path: Path, kind: str, layer: int):
    folder = TINY[kind](tmp_path / kind)
    whole, cut = build(folder), build(folder)
    before = cut.identity()
    cut.cut_after(layer)
    assert size(cut) < size(whole)
    assert cut.identity() == before
    wavs = [torch.sin(torch.arange(9600) / 20), torch.sin(torch.arange(6400) / 9)]
    with torch.no_grad():
        expected, given = whole(wavs)["hidden_states"], cut(wavs)["hidden_states"]
    assert len(given) == layer + 1
    for one, other in zip(given, expected, strict=False):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_layer_0_needs_no_transformer_layer_but_one_is_left(tmp_path: Path):
    folder = save_tiny_hubert(tmp_path / "hubert")
    whole, cut = build(folder), build(folder)
    cut.cut_after(0)
    wav = [torch.sin(torch.arange(6400) / 9)]
    torch.testing.assert_close(cut(wav)["hidden_states"][0], whole(wav)["hidden_states"][0], rtol=0, atol=0)
    assert len(cut.model.encoder.layers) == 1


@pytest.mark.parametrize("layer", [LAYERS, LAYERS + 5])
def test_nothing_is_cut_at_the_top(tmp_path: Path, layer: int):
    model = build(save_tiny_wavlm_large(tmp_path / "wavlm"))
    before = size(model)
    model.cut_after(layer)
    assert size(model) == before


@pytest.mark.parametrize(
    ("selection", "layer"), [("hidden_states", None), ("last_hidden_state", 0), ("hidden_states", -1)]
)
def test_other_features_are_left_whole(tmp_path: Path, selection: str, layer: int | None):
    folder = save_tiny_hubert(tmp_path / "hubert")
    cut = cut_upstream(build(folder), "hf_speech_custom", str(folder), None, selection, layer)
    assert cut.computed == cut.parameters
    assert cut.identity is None


def test_upstreams_that_cannot_be_cut_are_left_whole():
    model = torch.nn.Linear(3, 3)
    assert cut_upstream(model, "linear", None, None, "hidden_states", 1).computed == size(model)


# --- through the command line -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_hubert(tmp_path_factory.mktemp("models") / "hubert")


def recipe(corpus: TinyCorpus, **more: object) -> str:
    sizes = {f"{MODEL}.{key}": 8 for key in ("conv_channels", "gru_dim", "embedding_dim")}
    text = corpus.overrides(**(sizes | more))
    return ",,".join(part for part in text.split(",,") if "projector_dim" not in part)


def saliency(corpus: TinyCorpus, hubert: Path, file: Path, *words: str, **more: object) -> int:
    where = ["-u", "hf_speech_custom", "-k", str(hubert), "-d", "emotion_tcgru", "-o", recipe(corpus, **more)]
    return suite.main(["saliency", *where, "--method", "ccs", "--out", str(file), *words])


def train(cli: Cli, corpus: TinyCorpus, hubert: Path, *words: str, code: int = 0, folder: str = "exp", **more: object):
    start = ("-m", "train", "-u", "hf_speech_custom", "-k", str(hubert), "-d", "emotion_tcgru", "-p", folder)
    return cli(*start, "-o", recipe(corpus, **more), *words, code=code)


def metrics_of(folder: str) -> dict:
    return json.loads(Path(folder, "test_fold1_metrics.json").read_text())


def auto(file: Path) -> dict[str, object]:
    return {"downstream_expert.layer": "auto", "downstream_expert.layer_file": str(file)}


@pytest.mark.full
def test_the_most_salient_layer_is_taken(cli: Cli, graded_corpus: TinyCorpus, hubert: Path, tmp_path: Path):
    from s3prl_emotion.upstreams.saliency_file import SaliencyFile

    file = tmp_path / "layers.safetensors"
    assert saliency(graded_corpus, hubert, file) == 0
    best = SaliencyFile.read(file).salient_layer()
    train(cli, graded_corpus, hubert, folder="auto", **auto(file))
    train(cli, graded_corpus, hubert, "-l", str(best), folder="number")
    predictions = [Path(name, "test_fold1_predictions.csv").read_text() for name in ("auto", "number")]
    assert predictions[0] == predictions[1]
    metrics = metrics_of("auto")
    assert metrics["upstream"]["upstream_layer_selection"] == best
    assert metrics["upstream_parameters_computed"] <= metrics["upstream_parameters"]
    file.unlink()
    cli("-m", "evaluate", "-e", "auto/dev-best.ckpt", "-t", "test")  # the checkpoint knows the layer


@pytest.mark.full
def test_a_cut_upstream_shares_the_whole_ones_store(cli: Cli, graded_corpus: TinyCorpus, hubert: Path, tmp_path: Path):
    store = ("--feature_store", str(tmp_path / "store"))
    train(cli, graded_corpus, hubert, *store, folder="all")
    collections = {path.name for path in (tmp_path / "store").iterdir() if path.is_dir()}
    train(cli, graded_corpus, hubert, *store, "-l", "1", folder="stored")
    train(cli, graded_corpus, hubert, "-l", "1", folder="computed")
    predictions = [Path(name, "test_fold1_predictions.csv").read_text() for name in ("stored", "computed")]
    assert predictions[0] == predictions[1]
    held = {path.name: len(list(path.glob("*.seg*"))) for path in (tmp_path / "store").iterdir() if path.is_dir()}
    assert collections <= set(held)
    metrics = metrics_of("computed")
    assert metrics["upstream_parameters_computed"] < metrics["upstream_parameters"]


@pytest.mark.parametrize(
    ("more", "words", "said"),
    [
        ({"downstream_expert.layer": "auto"}, (), "downstream_expert.layer: auto needs layer_file"),
        ({"downstream_expert.layer_file": "x.safetensors"}, (), "downstream_expert.layer: auto needs layer_file"),
        ({"downstream_expert.layer": 1}, ("-l", "2"), "-l 2: the recipe selects layer 1"),
        ({"downstream_expert.layer": 9}, (), "-l 9: the upstream has no such layer"),
        ({"downstream_expert.layer": "best"}, (), "downstream_expert.layer"),
        (
            {"downstream_expert.layer": "auto", "downstream_expert.layer_file": "nowhere.safetensors"},
            (),
            "nowhere.safetensors",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    cli: Cli, graded_corpus: TinyCorpus, hubert: Path, more: dict[str, object], words: tuple[str, ...], said: str
):
    assert said in train(cli, graded_corpus, hubert, *words, code=1, **more).error
    assert not Path("exp").exists()


@pytest.mark.full
def test_layer_of_another_fold_is_refused(cli: Cli, graded_corpus: TinyCorpus, hubert: Path, tmp_path: Path):
    file = tmp_path / "layers.safetensors"
    assert saliency(graded_corpus, hubert, file, **{"downstream_expert.datarc.test_fold": "fold2"}) == 0
    said = train(cli, graded_corpus, hubert, code=1, **auto(file)).error
    assert "layers.safetensors: was computed from" in said


def test_layer_of_another_upstream_is_refused(cli: Cli, graded_corpus: TinyCorpus, hubert: Path, tmp_path: Path):
    file = tmp_path / "layers.safetensors"
    assert saliency(graded_corpus, hubert, file) == 0
    other = save_tiny_hubert(tmp_path / "other", hidden_size=8)
    assert "was computed from another upstream" in train(cli, graded_corpus, other, code=1, **auto(file)).error
