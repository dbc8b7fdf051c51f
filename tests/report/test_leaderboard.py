"""The report's leaderboard, published results and what was run: ranks, tracks, and numbers held to the papers' text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from leaderboard_study import SYSTEMS, UPSTREAMS, write_study
from test_report import Page, experiment, rows_of, write_benchmark

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.computing.leaderboard import Leaderboard, leaderboard
from s3prl_emotion.report.drawing.budget import within_budget
from s3prl_emotion.report.drawing.figure import Figure, Panel
from s3prl_emotion.report.reading.literature import FILE, for_orientation, literature
from s3prl_emotion.report.reading.provenance import read_provenance
from s3prl_emotion.report.sections.published import corpora_of, groups
from s3prl_emotion.report.superb_track import superb_track
from s3prl_emotion.report.words import duration

PAPERS = REPOSITORY.parent / "shared" / "papers"
TEXTS = {"mitra2024": "000", "kakouros2023": "001", "mitra2025": "002", "neumann2019": "003", "das2022": "004"}
NUMBER = re.compile(r"(?<![A-Za-z\d.])-?\d+(?:\.\d+)?")
NAMES = {"kakouros2023": {"0.25", "2.0"}, "mitra2024": {"1.6"}}  # p_d = 0.25, wav2vec 2.0, Eval 1.6
BLOCKS: list[dict[str, Any]] = yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["results"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three systems, two upstreams and two splits with its report; tests must not write into it."""
    folder = write_study(tmp_path_factory.mktemp("made"))
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    return folder


def board_of(folder: Path) -> Leaderboard:
    study = load_study([folder])
    return leaderboard(analyse(study, resamples=1000), read_provenance(study))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


# --- ranks ------------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_ranks_are_by_the_mean_over_runs_within_each_split(made: Path):
    board = board_of(made)
    assert board.ranked_by == {"test": "UAR", "test_5dB": "UAR"}
    for split in ("test", "test_5dB"):
        means: dict[tuple[str, str], list[float]] = {}
        for line in lines_of(made):
            place = line["upstream"], line["system"]
            means.setdefault(place, []).append(line["splits"][split]["metrics"]["UAR"])
        expected = sorted(means, key=lambda place: -sum(means[place]) / len(means[place]))
        entries = [entry for entry in board.entries if entry.split == split]
        assert [(entry.upstream, entry.system) for entry in entries] == expected
        assert [entry.rank for entry in entries] == [1, 2, 3, 4, 5, 6]
        for entry in entries:
            row = rows_of(made)[entry.upstream, split, entry.system, "UAR"]
            assert (row["rank"], row["head"], row["track"]) == (str(entry.rank), entry.head, entry.track.name)


@pytest.mark.usefixtures("undrawn")
def test_equals_share_a_rank_and_what_lacks_the_metric_is_last(tmp_path: Path):
    folder = write_study(tmp_path, folds=["fold1"], splits=["test"])
    lines = lines_of(folder)
    for line, uar in zip(lines, (0.5, 0.7, None, 0.7, 0.4, 0.6), strict=True):
        metrics = line["splits"]["test"]["metrics"]
        metrics |= {"UAR": uar} if uar is not None else dict.fromkeys(("UAR", "WA", "macro_f1"))
    write_lines(folder, lines)
    entries = board_of(folder).entries
    assert [entry.rank for entry in entries] == [1, 1, 3, 4, 5, None]
    assert entries[-1].score("UAR") is None
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    text = (folder / "report.html").read_text()
    assert re.search(r'<td class="rank" data-value="">–</td>', text)


def test_heads_of_other_kinds_are_ranked_by_what_most_have(tmp_path: Path):
    folder = write_benchmark(tmp_path, folds=["fold1"], seeds=[1])  # dimensions alone
    board = board_of(folder)
    assert board.ranked_by == {"test": "mean_CCC"}
    assert not board.has_tracks
    assert board.heads == []  # lines of an older version
    assert [entry.system for entry in board.entries] == ["whole", "80 % <CCS> & co_1", "half"]


def test_experiments_have_heads_but_no_upstreams(tmp_path: Path):
    for name, level in (("a", 0.9), ("b", 0.5)):
        experiment(tmp_path / name, level, kind="categorical")
        for path in (tmp_path / name).glob("*_metrics.json"):
            about = {"head": "emotion_corr_attn", "config": {"downstream_expert": {"modelrc": {"pooling": "mean"}}}}
            path.write_text(json.dumps(json.loads(path.read_text()) | about | {"upstream": {"upstream": "fbank"}}))
    study = load_study([tmp_path / "b", tmp_path / "a"])
    write_report(analyse(study, resamples=1000), tmp_path)
    board = board_of(tmp_path / "a")
    assert (board.upstreams, board.heads) == ([], ["emotion_corr_attn"])
    text = (tmp_path / "report.html").read_text()
    assert 'id="board-upstream"' not in text
    assert 'id="board-head"' in text
    header = "| rank | system | head | SUPERB track | runs | parameters | UA (UAR), % | WA, % | macro-F1, % |"
    assert header in (tmp_path / "report.md").read_text()


# --- tracks -----------------------------------------------------------------------------------------------------------


def test_the_page_says_which_track(made: Path):
    tracks = {(entry.system, entry.track.name) for entry in board_of(made).entries}
    assert tracks == set(zip(SYSTEMS, ("constrained", "less constrained", "less constrained"), strict=True))
    words = " ".join(" ".join(Page((made / "report.html").read_text()).text).split())
    assert "SUPERB's fixed downstream is mean pooling over a frozen upstream: its constrained track" in words
    assert "less constrained" in (made / "report.tex").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_missing_metrics_file_leaves_the_track_unknown(tmp_path: Path):
    folder = write_study(tmp_path, folds=["fold1"], splits=["test"])
    for path in folder.rglob("*_metrics.json"):
        path.unlink()
    tracks = {(entry.head, entry.track.name) for entry in board_of(folder).entries}
    assert tracks == {("emotion_corr_attn", "unknown"), ("emotion_multitask", "less constrained")}
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    assert "recipes do not say which corpus it uses" in (folder / "report.md").read_text()


# --- the page without its script --------------------------------------------------------------------------------------


def test_the_page_is_whole_without_its_script(made: Path):
    text = re.sub(r"<script>.*?</script>", "", (made / "report.html").read_text(), flags=re.DOTALL)
    table = text[text.index('<table id="board">') : text.index("</table>", text.index('<table id="board">'))]
    rows = re.findall(r"<tr data-upstream=.*?</tr>", table, re.DOTALL)
    assert len(rows) == 2 * 2 * 3
    assert not any(" hidden" in row.partition(">")[0] for row in rows)
    assert re.search(r'<form class="board-controls" id="board-controls" hidden>', text)
    assert "graders&#39; distribution &lt;9&gt;" in table
    assert len({len(re.findall(r"<t[dh][ >]", row)) for row in [*rows, table[: table.index("</tr>")]]}) == 1
    assert 'aria-sort="ascending"' in table


# --- what was run -----------------------------------------------------------------------------------------------------


def test_what_was_run(made: Path):
    provenance = read_provenance(load_study([made]))
    assert list(provenance) == [(upstream, system) for upstream in UPSTREAMS for system in SYSTEMS]
    part = provenance["WavLM Large", "attentive correlation"]
    assert (part.heads, part.runs, part.folds, part.seeds) == (("emotion_corr_attn",), 2, ("fold1", "fold2"), ("1",))
    assert (part.options, part.stored, part.hosts) == (("wavlm_large",), "float32", ("node7",))
    assert (part.total, part.median) == (2 * 66.0, 66.0)
    assert yaml.safe_load(part.recipe_text)["downstream_expert"]["modelrc"] == {"pooling": "corr_attn"}
    assert part.versions == {"torch": ("2",)}
    text = (made / "report.md").read_text().partition("## What was run")[2]
    row = next(line for line in text.splitlines() if line.startswith("| attentive correlation | WavLM Large"))
    for words in ("fold1, fold2", "2 min 12 s", "1 min 06 s", "store, float32", "0" * 12, "a" * 12, "node7"):
        assert f"| {words} |" in row
    assert "pooling: corr_attn" in (made / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_runs_that_differ_are_told_apart(tmp_path: Path):
    folder = write_study(tmp_path, folds=["fold1"], seeds=(1, 2, 3, 4), splits=["test"])
    lines = lines_of(folder)
    for number, line in enumerate(lines):
        line |= {"config_hash": f"{number:02d}" * 20, "git": "b" * 40 + "+", "seconds": {}}
        line["upstream_options"] |= {"upstream_layer_selection": 6 + number % 2, "upstream_ckpt": "model"}
    write_lines(folder, lines)
    part = read_provenance(load_study([folder]))["HuBERT Large", "mean pooling"]
    assert part.options == tuple(f"hubert_large, ckpt: model, layer_selection: {layer}" for layer in (6, 7))
    assert (part.total, len(part.hashes)) == (None, 4)
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    text = (folder / "report.md").read_text()
    assert "| – | – |" in text  # not timed
    assert "000000000000, 010101010101, 020202020202 and 1 more" in text
    assert f"| {'b' * 12}+ |" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (245, "4 min 05 s"), (3600, "1 h 00 min"),
     (11_239, "3 h 07 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_durations(seconds: float | None, words: str):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("data", "corpora"),
    [
        ({"labels": "demo"}, ["the built-in demo corpus"]),
        ({"root": "/data/IEMOCAP", "labels": "labels.csv"}, ["IEMOCAP"]),
        ({"root": "audio", "labels": "meta_data"}, ["IEMOCAP"]),
        ({"root": "MSP-Podcast/Audios", "labels": "x.csv"}, ["MSP-Podcast"]),
        ({"root": "audio", "labels": "labels.csv"}, []),
        ({}, []),
    ],
)
def test_recipes_name_the_corpora(tmp_path: Path, data: dict[str, str], corpora: list[str]):
    folder = write_study(tmp_path, folds=["fold1"], splits=["test"])
    for path in folder.rglob("*_metrics.json"):
        values = json.loads(path.read_text())
        values["config"]["downstream_expert"]["datarc"] = data
        path.write_text(json.dumps(values))
    assert corpora_of(read_provenance(load_study([folder]))) == corpora


# --- published results ------------------------------------------------------------------------------------------------


def text_of(paper: str) -> str:
    paths = sorted(PAPERS.glob(f"{TEXTS[paper]}_*.txt"))
    if not paths:
        pytest.skip(f"no text of {paper} beside the checkout")
    text = paths[0].read_text(encoding="utf-8")
    text = re.sub(r"\\(?:boldsymbol|pm|approx|!)|[{}^*$]", " ", text)
    return re.sub(r"(\d\d), (\d\d)%", r"\1.\2%", text)  # a decimal comma, once


@pytest.mark.parametrize("paper", TEXTS)
def test_every_published_number_stands_in_its_paper(paper: str):
    lines = [NUMBER.findall(line) for line in text_of(paper).splitlines()]
    checked = 0
    for block in BLOCKS:
        if block["paper"] != paper:
            continue
        for name, cells in block["rows"].items():
            printed = NUMBER.findall(cells.replace("±", " "))
            width = len(printed)
            places = (line[start : start + width] for line in lines for start in range(len(line) - width + 1))
            assert printed in places, f"{block['where']}, {name}: {cells}"
            checked += width
    assert checked > 30


@pytest.mark.parametrize("paper", [paper for paper in TEXTS if paper != "mitra2025"])
def test_no_number_of_a_papers_tables_is_left_out(paper: str):
    """Tables came through as lines with tabs; that of Mitra et al. 2025 as running text."""
    known = {number for block in BLOCKS if block["paper"] == paper for cells in block["rows"].values()
             for number in NUMBER.findall(cells.replace("±", " "))}  # fmt: skip
    rows = [line for line in text_of(paper).splitlines() if "\t" in line]
    numbers = [number for line in rows for number in NUMBER.findall(line) if "." in number]
    assert len(numbers) > 20
    assert set(numbers) - known <= NAMES.get(paper, set())


def test_superbs_public_results_are_there():
    board = [result for result in literature() if result.source.startswith("Yang et al. 2021, leaderboard")]
    values = {result.upstream: result.value for result in board}
    upstreams = [
        "FBANK", "PASE+", "APC", "VQ-APC", "NPC", "Mockingjay", "TERA", "modified CPC", "wav2vec", "vq-wav2vec",
        "wav2vec 2.0 Base", "wav2vec 2.0 Large", "HuBERT Base", "HuBERT Large", "DeCoAR 2.0", "DistilHuBERT",
        "FaST-VGS+", "WavLM Base", "WavLM Base+", "WavLM Large",
    ]  # fmt: skip
    assert sorted(values) == sorted(upstreams)
    assert values["HuBERT Large"] == pytest.approx(0.6762)  # as Kakouros et al. 2023 quote them
    assert values["WavLM Large"] == pytest.approx(0.7062)


def test_both_accuracies_of_superbs_filterbanks_are_there_and_say_when_they_were_published():
    results = [result for result in literature() if result.upstream == "FBANK"]
    assert {(result.printed, re.search(r"\((?:.*, )?(\w+ \d{4})\)$", result.where)[1]) for result in results} == {
        ("48.24", "April 2022"), ("35.39", "April 2021")
    }  # fmt: skip
    (shown,) = groups([results[0]], ["IEMOCAP"])
    for words in ("35.39 in the first release of the table (April 2021)", "48.24 in the leaderboard's data since Sept"):
        assert words in shown.note
        assert words in shown.table.note


def test_numbers_in_recipes_are_those_of_the_file():
    """Of the same table, metric by metric; a row of a recipe is a row of the file, or part of it.

    Kakouros et al. 2023 leave open whether theirs is UA, as the file has it, or WA; recipes set it beside both.
    """
    known: dict[str, dict[str, set[tuple[float, float | None]]]] = {}
    rows: dict[str, list[list[float]]] = {}
    for block in BLOCKS:
        here = [r for r in literature() if (r.paper.key, r.where) == (block["paper"], block["where"])]
        for result in here:
            std = None if result.std is None else round(result.std, 4)
            numbers = known.setdefault(result.source, {}).setdefault(result.metric, set())
            numbers |= {(round(result.value, 4), std), (round(result.value, 4), None)}
        scale = 0.01 if block.get("unit") == "percent" else 1
        for cells in block["rows"].values():
            values = [cell.partition("±")[0].lstrip("<>≈") for cell in cells.split() if cell != "–"]
            rows.setdefault(here[0].source, []).append([round(float(value) * scale, 4) for value in values])
    citations = tuple({result.paper.citation for result in literature()})
    checked, others = 0, set[str]()
    for path in sorted(recipes_folder().glob("*/*.yaml")):
        for entry in yaml.safe_load(path.read_text()).get("published", []):
            source = re.sub(r', (columns|rows) "\w+"$', "", entry["source"])
            if not source.startswith(citations):  # a reference that is not in the file: tests/docs/test_papers.py
                others.add(source)
                continue
            correlation = "distance_Spearman.EmoAct" in entry["metrics"]  # the table does not say of which dimension
            for systems in entry["values"].values():
                for name, values in systems.items():
                    place = f"{path.name}, {entry['source']}, {name}"
                    if entry["metrics"] == ["relative_size"]:  # printed as a reduction
                        assert (round(1 - values[0], 4), None) in known[source]["size_reduction"], place
                        continue
                    numbers = []
                    for metric, value in zip(entry["metrics"], values, strict=True):
                        if value is None and correlation:
                            continue
                        either = "Spearman" if correlation else "UAR" if source.startswith("Kakouros") else metric
                        given = value if isinstance(value, dict) else {"value": value}
                        assert (given["value"], given.get("std")) in known[source][either], place
                        for bound in {"min", "max"} & set(given):
                            assert (given[bound], None) in known[source][either], place
                        numbers.append(given["value"])
                    if correlation:  # one number stands beside both dimensions, or beside the one of the loss
                        assert len(set(numbers)) == 1, place
                        numbers = numbers[:1]
                    width = len(numbers)
                    parts = [row[at : at + width] for row in rows[source] for at in range(len(row))]
                    assert numbers in parts, place
                    checked += width
    assert checked >= 100
    assert {source.partition(",")[0] for source in others} == {"Goncalves et al. 2024"}


def test_table_1_of_kakouros_and_superbs_numbers_stand_in_a_matrix(tmp_path: Path):
    """All of Table 1, each number at its upstream and system, and SUPERB's at SUPERB's own downstream."""
    from s3prl_emotion.benchmark import Plan, read_matrix

    plan = Plan(read_matrix(recipes_folder() / "kakouros2023" / "table1.yaml"), tmp_path)
    assert len(plan.runs) == 3 * 6 * 5
    given = {(n.source, n.upstream, n.system, n.metric): (n.value, n.std) for n in plan.matrix.published}
    upstreams = {"wav2vec 2.0": "wav2vec 2.0 Large"}
    expected = {
        (r.source, upstreams.get(r.upstream, r.upstream), "SUPERB" if r.paper.key == "superb" else r.system, r.metric):
            (round(r.value, 4), None if r.std is None else round(r.std, 4))
        for r in literature()
        if r.source == "Kakouros et al. 2023, Table 1"
        or (r.paper.key == "superb" and r.upstream in plan.matrix.upstreams)
    }  # fmt: skip
    assert {place: numbers for place, numbers in given.items() if place[3] == "UAR" or place[2] == "SUPERB"} == expected
    theirs = {place[1:3]: numbers for place, numbers in given.items() if place[3] == "UAR"}
    assert {
        place[1:3]: numbers for place, numbers in given.items() if place[3] == "WA" and place[1:3] in theirs
    } == theirs
    tracks = {run.cell.system: superb_track(run.head, run.config).name for run in plan.runs}
    assert {name for name, track in tracks.items() if track == "constrained"} == {"SUPERB"}


def test_values_are_shares_and_bounds_are_kept():
    results = {(r.source, r.system, r.upstream, r.metric, r.split): r for r in literature()}
    result = results["Kakouros et al. 2023, Table 1", "corr attentive", "WavLM Large", "UAR", ""]
    assert (result.value, result.std, result.printed) == (pytest.approx(0.756), pytest.approx(0.0233), "75.60±2.33")
    assert {r.bound for r in literature() if r.metric == "paUAR-75"} == {"", "<", ">", "≈"}
    assert (
        results["Mitra et al. 2024, Table 3", "CCS", "HuBERT Large, HuBERT ASR and BERT", "CCC.EmoVal", "Eval1.6"].value
        == 0.66
    )
    assert all(
        0 <= abs(r.value) <= 1
        for r in literature()
        if r.metric.split(".")[0] in ("CCC", "UAR", "WA", "distance_R2", "label_R2")
    )


@pytest.mark.parametrize(
    ("heads", "papers"),
    [
        (["emotion_corr_attn"], {"superb", "kakouros2023"}),
        (["emotion_tcgru"], {"mitra2024"}),
        (["emotion_multitask", "emotion_acnn"], {"mitra2025", "neumann2019", "superb"}),
        ([], set()),
        (["other"], set()),
    ],
)
def test_which_papers_are_shown(heads: list[str], papers: set[str]):
    assert {result.paper.key for result in for_orientation(heads)} == papers


@pytest.mark.usefixtures("undrawn")
def test_other_data_is_marked(made: Path, tmp_path: Path):
    for group in groups(for_orientation(["emotion_corr_attn"]), ["IEMOCAP"]):
        assert not group.other
    text = (made / "report.md").read_text()
    assert "Numbers of other data cannot be compared" in text
    assert "| WavLM Large | 70.62 |" in text
    assert "mean pooling, frozen upstream; IEMOCAP; leave one session out, mean over 5 folds; other data." in text
    folder = write_study(tmp_path, labels="meta_data", folds=["fold1"], splits=["test"])
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    text = (folder / "report.html").read_text()
    superb = text[text.index("Yang et al. 2021, leaderboard") :].partition("</summary>")[0]
    assert "other data" not in superb
    assert "other data" in text[text.index("<summary>Mitra et al. 2025, Table 1") :].partition("</summary>")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"papr": "x"}, "unknown key papr"),
        ({"paper": "nobody"}, "unknown paper"),
        ({"rows": {"mean": "65,73"}}, "mean: '65,73' is not a number"),
        ({"metric": ["UAR", "WA"]}, "mean: 1 cells under 2 entries of metric"),
        ({"metric": ["UAR"], "rows": {"mean": "0.1 0.2"}}, "mean: 2 cells under 1 entries of metric"),
    ],
)
def test_a_malformed_file(tmp_path: Path, change: dict[str, Any], message: str):
    block = {"paper": "p", "where": "Table 1", "metric": "UAR", "rows": {"mean": "65.73"}} | change
    path = tmp_path / "literature.yaml"
    path.write_text(yaml.safe_dump({"papers": {"p": {"citation": "P", "title": "T"}}, "results": [block]}))
    with pytest.raises(ConfigError, match=message):
        literature(path)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(count: int, systems: int = 5) -> list[Figure]:
    panel = Panel("x", lambda figure: None)
    names = tuple(map(str, range(systems)))
    return [Figure(f"f{number}", "", names, (panel, panel)) for number in range(count)]


def test_figures_are_bounded():
    assert within_budget(figures(9), most=10 * 7) == {f"f{number}" for number in range(7)}
    assert within_budget(figures(9)) == {f"f{number}" for number in range(9)}
    assert within_budget(figures(9), most=0) == set()
    assert within_budget([*figures(1), *figures(2, systems=50)[1:]], most=50) == {"f0"}


def bounded(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(
        "s3prl_emotion.report.writing.report.within_budget", lambda figures: within_budget(figures, most)
    )


def test_main_figures_are_drawn_before_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bounded(monkeypatch, most=3 * 3 * 3 * 2 + 3)  # UAR, WA, macro-F1 of 3 systems: robustness and 2 splits; 1 confusion
    folder = write_study(tmp_path)
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    names = {path.stem for path in files[4:]}
    places = [f"{upstream}_Large" for upstream in ("HuBERT", "WavLM")]
    scores = {f"{place}-test-{kind}" for place in places for kind in ("robustness", "scores")}
    assert names == scores | {f"{place}-test_5dB-scores" for place in places} | {"HuBERT_Large-test-confusion"}
    assert "<summary>Learning curves</summary>" not in (folder / "report.html").read_text()


def test_a_report_says_that_figures_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bounded(monkeypatch, most=0)
    folder = write_study(tmp_path, folds=["fold1"], splits=["test"])
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    assert [path.name for path in files] == ["report.html", "report.md", "report.tex", "report.csv"]
    for path in files[:2]:
        assert "figures are not drawn, since there are too many" in path.read_text()
