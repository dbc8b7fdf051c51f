"""The report's page in headless Chromium: sorting, filters, phone width, the dark, and that it stays by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import chromium
from leaderboard_study import SYSTEMS, UPSTREAMS, write_study

from s3prl_emotion.figures.embeddings import save
from s3prl_emotion.report import analyse, load_study, write_report

pytestmark = pytest.mark.full

WIDTHS = (1280, 390)
SYSTEMS_IN_ORDER = list(SYSTEMS)
ROWS = 2 * len(SYSTEMS) * len(UPSTREAMS)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three systems, two upstreams and two splits, with all that runs can leave beside their scores."""
    folder = with_more(write_study(tmp_path_factory.mktemp("study")))
    return write_report(analyse(load_study([folder]), resamples=1000), folder)[0]


def with_more(folder: Path) -> Path:
    """Adds utterance embeddings of the first fold, a search for the learning rate and measures of latents."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        draw = np.random.default_rng(number)
        best = SYSTEMS_IN_ORDER.index(line["system"]) - 1
        tried = {str(rate): 0.7 - 0.1 * abs(place - best) for place, rate in enumerate((1e-4, 1e-3, 1e-2))}
        rate = float(max(tried, key=lambda name: tried[name]))
        line["search"] = {"rate": rate, "metric": "UAR", "tried": tried}
        for name, split in line["splits"].items():
            measures = dict(zip(("distance_R2", "distance_Spearman", "label_R2"), draw.random(3), strict=True))
            split["metrics"]["latent"] = {"EmoAct": measures, "EmoVal": measures, "shift": 2.0, "relative_shift": 0.5}
            if (line["fold"], name) == ("fold1", "test"):
                path = folder / split["predictions"]
                table = pd.read_csv(path)
                table["EmoAct"] = draw.uniform(1, 5, len(table))
                table.to_csv(path, index=False)
                rows = draw.normal(size=(len(table), 8)).astype(np.float32)
                save(path.parent, "test_fold1", table["FileName"].tolist(), list(rows))
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser."""
    with chromium() as running:
        yield running


class Opened:
    """The page with all that it asked for and complained of."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str, script: bool = True) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())

    def rows(self) -> list[list[str]]:
        """Cells of the rows that can be seen, in their order."""
        cells = "rows => rows.filter(row => !row.hidden).map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        return self.page.locator("#board tbody tr").evaluate_all(cells)

    def column(self, title: str) -> int:
        titles = self.page.locator("#board thead th").all_text_contents()
        return [text.strip() for text in titles].index(title)

    def values(self, title: str) -> list[float]:
        """Numbers that lead the cells of a column."""
        place = self.column(title)
        return [float(row[place].split()[0]) for row in self.rows()]

    def header(self, title: str) -> Any:
        return self.page.locator("#board thead th").nth(self.column(title))

    def sort(self, title: str) -> None:
        self.header(title).get_by_role("button").click()

    @property
    def state(self) -> str:
        return str(self.page.locator("#board-state").text_content())

    def overflows(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def close(self) -> None:
        self.context.close()


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in ("light", "dark")], ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Opened]:
    """The page at desktop and phone width, light and dark: no request may leave it and no error appear."""
    page = Opened(browser, page_file, *request.param)
    yield page
    requests, complaints = page.requests, page.complaints
    page.close()
    assert requests == [page_file.as_uri()]
    assert complaints == []


def test_sorting(opened: Opened):
    assert opened.values("rank") == [1, 2, 3, 4, 5, 6]
    assert opened.header("rank").get_attribute("aria-sort") == "ascending"
    for title in ("UA (UAR), %", "WA, %", "macro-F1, %"):
        opened.sort(title)
        assert opened.header(title).get_attribute("aria-sort") == "descending"  # the best first
        assert opened.values(title) == sorted(opened.values(title), reverse=True)
        opened.sort(title)
        assert opened.header(title).get_attribute("aria-sort") == "ascending"
        assert opened.values(title) == sorted(opened.values(title))
        assert opened.page.locator("#board thead th[aria-sort]").count() == 1
    assert opened.state == "6 of 12 entries (split test), sorted by macro-F1, %, ascending"
    opened.sort("upstream")
    place = opened.column("upstream")
    assert [row[place] for row in opened.rows()] == ["HuBERT Large"] * 3 + ["WavLM Large"] * 3
    opened.sort("parameters")
    assert [row[opened.column("parameters")] for row in opened.rows()] == ["200"] * 2 + ["600"] * 2 + ["1 k"] * 2


def test_sorting_by_keyboard(opened: Opened):
    opened.page.locator("#board thead button").first.focus()
    for _ in range(opened.column("UA (UAR), %") - 1):  # the split's header is not shown
        opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Enter")
    assert "sorted by UA (UAR), %, descending" in opened.state
    opened.page.keyboard.press("Space")
    assert opened.header("UA (UAR), %").get_attribute("aria-sort") == "ascending"


def test_filters(opened: Opened):
    system, upstream, head = map(opened.column, ("system", "upstream", "head"))
    opened.page.select_option("#board-upstream", "WavLM Large")
    assert {row[upstream] for row in opened.rows()} == {"WavLM Large"}
    opened.page.select_option("#board-head", "emotion_corr_attn")
    assert {row[head].replace("\n", "") for row in opened.rows()} == {"emotion_corr_attn"}
    assert len(opened.rows()) == 2
    opened.page.fill("#board-text", "ATTENTIVE less")
    assert [row[system] for row in opened.rows()] == ["■\N{NO-BREAK SPACE}attentive correlation"]
    assert opened.state.startswith(
        "1 of 12 entries (split test, upstream WavLM Large, head emotion_corr_attn, “ATTENTIVE less”)"
    )
    opened.page.fill("#board-text", "nothing like it")
    assert opened.rows() == []
    assert opened.page.get_by_text("No entry matches these filters.").is_visible()
    opened.page.get_by_role("button", name="show all").click()
    opened.page.wait_for_function(f"document.querySelectorAll('#board tbody tr:not([hidden])').length === {ROWS}")
    assert opened.page.input_value("#board-text") == ""
    assert opened.state == "12 of 12 entries, sorted by rank, ascending"
    opened.page.select_option("#board-split", "test_5dB")
    assert len(opened.rows()) == 6
    assert not opened.page.locator("#board th.split").is_visible()


def test_what_is_missing_stays_last(browser: Any, tmp_path: Path):
    folder = write_study(tmp_path, folds=["fold1"], splits=["test"])
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines[1]["splits"]["test"]["metrics"]["WA"] = None
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    opened = Opened(browser, write_report(analyse(load_study([folder]), resamples=1000), folder)[0], 1280, "light")
    for _ in range(2):
        opened.sort("WA, %")
        assert [row[opened.column("WA, %")] == "–" for row in opened.rows()] == [False] * 5 + [True]
    opened.close()


def test_the_page_fits_its_window(opened: Opened):
    assert not opened.overflows()
    opened.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert not opened.overflows()
    dark = opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    colours = opened.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map("
        "colour => colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"
    )
    assert (colours[0] < colours[1]) == dark
    for link in opened.page.locator("nav a").all():
        assert opened.page.locator(str(link.get_attribute("href"))).count() == 1


def test_embeddings_latents_and_learning_rates_are_seen(opened: Opened):
    """Each panel lies inside the window, and points of a scale have other colours in the dark."""
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    width = page.evaluate("window.innerWidth")
    embeddings = page.locator("details.evidence", has=page.locator("summary", has_text="Utterance embeddings"))
    assert embeddings.count() == len(UPSTREAMS)
    for place in (embeddings.nth(0), page.locator("#search")):
        for panel in place.locator(".panel svg").all():
            box = panel.bounding_box()
            assert box["width"] > 200
            assert 0 <= box["x"] < box["x"] + box["width"] <= width
    assert embeddings.nth(0).locator(".panel h3").all_inner_texts() == ["class", "activation", "speaker"] * 3
    colours = "uses => uses.map(use => getComputedStyle(use).fill)"
    shown = set(embeddings.nth(0).locator(".panel").nth(1).locator("use").evaluate_all(colours))
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert len(shown) >= 5
    assert ("rgb(226, 241, 255)" in shown) == dark  # the highest step
    assert page.locator("#search tbody tr").count() == len(SYSTEMS) * len(UPSTREAMS)
    titles = page.locator("section.together h2").all_inner_texts()
    assert titles == [f"{upstream}: latent representation" for upstream in UPSTREAMS] + ["Learning rates"]
    assert "widen search.learning_rates" in page.locator("aside.notice").inner_text()
    page.locator("nav a", has_text="Learning rates").click()
    assert page.locator("#search h2").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_without_javascript_it_is_a_plain_table(browser: Any, page_file: Path, width: int):
    opened = Opened(browser, page_file, width, "light", script=False)
    assert opened.page.locator("#board tbody tr").count() == ROWS
    assert all(row.is_visible() for row in opened.page.locator("#board tbody tr").all())
    assert not opened.page.locator("#board-controls").is_visible()
    assert opened.page.locator("#board button").count() == 0
    opened.close()


def test_print_leaves_out_what_is_clicked(browser: Any, page_file: Path):
    opened = Opened(browser, page_file, 1280, "light")
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("#board-controls").is_visible()
    assert not opened.page.locator("nav").is_visible()
    assert opened.page.locator("#board-state").is_visible()  # or one would not know what is left out
    assert opened.page.locator("#board").is_visible()
    opened.close()
