"""The report in a browser, wide and narrow: it asks for nothing, fits, and answers to hand and key."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conjoin.report.render import render_folder

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path"
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@dataclass
class Opened:
    """A report in a page, and all that the page asked for or complained of."""

    page: sync_api.Page
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("dialog", self._dialog)

    def _console(self, message: sync_api.ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: sync_api.Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def overflow(self) -> float:
        """By how much the document is wider than the window."""
        return float(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def quiet(self) -> None:
        """Nothing was asked for but the file itself, and nothing went wrong."""
        assert self.complaints == []
        others = [u for u in self.requests if u != self.address and not u.startswith("data:")]
        assert others == [] and self.address in self.requests


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=list(SIZES))
def report(
    request: pytest.FixtureRequest, browser: sync_api.Browser, finished: Path
) -> Iterator[Opened]:
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    opened = Opened(page, (finished / "report.html").as_uri())
    opened.listen()
    page.goto(opened.address, wait_until="load")
    yield opened
    page.close()


def test_opening_and_unfolding_asks_for_nothing_and_fits_the_window(report: Opened) -> None:
    page = report.page
    assert page.title() == "Audit of 2 models on Fashion-MNIST test sample with a mark (rate 0.95)"
    assert report.overflow() <= 0
    details = page.locator("details")
    assert details.count() > 5
    for k in range(details.count()):
        details.nth(k).locator("summary").first.click()
        assert details.nth(k).evaluate("d => d.open")
    assert report.overflow() <= 0, "unfolded, too"
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    report.quiet()


def test_every_picture_has_words_and_loads(report: Opened) -> None:
    found = report.page.evaluate(
        "Promise.all([...document.images].map(async i => {"
        "  await i.decode(); return [i.alt, i.complete, i.naturalWidth]; }))"
    )
    # 3 examples: the input, 2 methods x 2 models, 2 threats x 2 models.
    assert len(found) == 3 * (1 + 4 + 4)
    for alt, complete, width in found:
        assert alt.strip() and complete and width == 28
    report.quiet()


def test_pictures_are_large_enough_to_see(report: Opened) -> None:
    shown = report.page.locator("#explanations .row img:visible")
    boxes = [shown.nth(k).bounding_box() for k in range(shown.count())]
    assert len(boxes) == 3 * (1 + 2)
    for box in boxes:
        assert box is not None and box["width"] >= 120
        assert box["height"] == pytest.approx(box["width"], rel=0.02), "not distorted"


def test_pointing_at_a_curve_reads_it_out(report: Opened) -> None:
    page = report.page
    figure = page.locator("figure.chart").first
    figure.scroll_into_view_if_needed()
    readout, rest = figure.locator(".readout"), figure.locator(".readout").inner_text()
    box = figure.locator("svg").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    said = []
    for share in (0.3, 0.9):
        page.mouse.move(box["x"] + share * box["width"], middle)
        said.append(readout.inner_text())
    assert len({rest, *said}) == 3, said
    for words in said:
        assert re.fullmatch(r"at eps [\d.e-]+: [\d.]+ % proved, at most [\d.]+ %", words), words
    first, second = (float(words.split()[2].rstrip(":")) for words in said)
    assert 0 < first < second <= 0.04 + 1e-9, "the right of the chart is the larger radius"
    assert figure.locator(".cross").get_attribute("visibility") == "visible"
    page.mouse.move(0, 0)
    assert readout.inner_text() == rest
    assert figure.locator(".cross").get_attribute("visibility") == "hidden"
    report.quiet()


def test_the_ends_of_a_curve_can_be_reached(report: Opened) -> None:
    page = report.page
    figure = page.locator("figure.chart").first
    figure.scroll_into_view_if_needed()
    box = figure.locator("svg").bounding_box()
    assert box is not None
    for x, eps in ((box["x"] + 1, "0"), (box["x"] + box["width"] - 1, "0.04")):
        page.mouse.move(x, box["y"] + box["height"] / 2)
        assert figure.locator(".readout").inner_text().startswith(f"at eps {eps}:")


def test_arrow_keys_move_along_a_focused_curve(report: Opened) -> None:
    page = report.page
    figure = page.locator("figure.chart").nth(1)
    readout = figure.locator(".readout")
    rest = readout.inner_text()
    figure.focus()
    said = [rest]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(readout.inner_text())
    assert said[1] != rest and said[2] != said[1] and said[3] == said[1]
    for _ in range(80):
        page.keyboard.press("ArrowRight")
    last = readout.inner_text()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text() == last and last.startswith("at eps 0.04:")
    page.keyboard.press("Tab")
    assert readout.inner_text() == rest, "at rest again"
    report.quiet()


def test_the_keyboard_reaches_every_control(report: Opened) -> None:
    page = report.page
    wanted = page.locator("nav a, figure.chart, .tabs button, summary, .scroll[tabindex]").count()
    reached = set()
    for _ in range(wanted + 30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(() => { const a = document.activeElement; const all = [...document.querySelectorAll("
                "'nav a, figure.chart, .tabs button, summary, .scroll[tabindex]')];"
                "return all.indexOf(a); })()"
            )
        )
    hidden = page.evaluate(
        "[...document.querySelectorAll('summary')].filter(s => s.offsetParent === null).length"
    )
    assert len(reached - {-1}) == wanted - hidden


def test_switching_the_method_shows_other_maps(report: Opened) -> None:
    page = report.page
    maps = page.locator("#explanations img[data-method]")

    def shown() -> dict[str, int]:
        visible = maps.evaluate_all(
            "list => list.filter(i => i.offsetWidth > 0).map(i => i.dataset.method)"
        )
        return {method: visible.count(method) for method in set(visible)}

    def sources() -> list[str]:
        return list(
            maps.evaluate_all("list => list.filter(i => i.offsetWidth > 0).map(i => i.src)")
        )

    before = sources()
    assert shown() == {"integrated_gradients": 6}
    page.locator('.tabs button[data-method="saliency"]').click()
    assert shown() == {"saliency": 6}
    assert not set(before) & set(sources())
    pressed = page.locator(".tabs button").evaluate_all(
        "list => list.map(b => [b.dataset.method, b.ariaPressed])"
    )
    assert dict(pressed) == {"integrated_gradients": "false", "saliency": "true"}
    page.locator('.tabs button[data-method="integrated_gradients"]').press("Enter")
    assert sources() == before
    report.quiet()


def test_links_of_the_page_lead_to_its_sections(report: Opened) -> None:
    page = report.page
    links = page.locator("nav a")
    for k in range(links.count()):
        links.nth(k).click()
        target = links.nth(k).get_attribute("href") or ""
        assert page.evaluate("location.hash") == target
        assert page.locator(target).is_visible()
    asked = {u.split("#")[0] for u in report.requests if not u.startswith("data:")}
    assert asked == {report.address}


def test_it_prints_without_its_controls(report: Opened) -> None:
    report.page.emulate_media(media="print")
    assert report.page.locator(".tabs").count() and not report.page.locator(".tabs").is_visible()
    assert report.page.locator(".card").first.is_visible()
    assert report.overflow() <= 0


CONTRAST = """which => {
  const linear = c => c <= 10 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4;
  const bright = c => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const under = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const all = [...document.querySelectorAll(which)];
  return all.filter(e => e.offsetParent && e.innerText.trim()).map(e => {
    const a = bright(numbers(getComputedStyle(e).color)), b = bright(under(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.innerText.slice(0, 40)];
  });
}"""


@pytest.mark.parametrize(
    "which",
    [
        "p, li, td, th, dt, dd, h1, h2, h3, h4, figcaption, caption, summary, small, a, code",
        ".badge, button, .verdict",
    ],
    ids=["text", "controls"],
)
def test_text_has_enough_contrast(report: Opened, which: str) -> None:
    # WCAG 2, level AA: 4.5 to 1, against the nearest background that is painted.
    report.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = report.page.evaluate(CONTRAST, which)
    assert len(found) > 3
    assert min(found)[0] >= 4.5, min(found)


def test_hostile_and_endless_names_neither_run_nor_overflow(
    browser: sync_api.Browser, finished: Path, tmp_path: Path
) -> None:
    names = {
        "ridge": "<img src=x onerror=alert(1)>" + "_without_any_space" * 5,
        "plain": '"><svg onload=alert(2)>{{ 7*7 }}',
        "bag": "</script><script>alert(3)</script>",
        "coat": "a_class_whose_name_has_no_place_to_break_it_anywhere_at_all",
    }
    text = (finished / "run.json").read_text()
    (tmp_path / "tensors").mkdir()
    for file in (finished / "tensors").iterdir():
        copy = file.name
        for old, new in names.items():
            copy = copy.replace(f"-{old}.", f"-{new}.")
        (tmp_path / "tensors" / copy).write_bytes(file.read_bytes())
    for old, new in names.items():
        assert f'"{old}"' in text
        text = text.replace(f'"{old}"', json.dumps(new))
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "report.html").write_text(render_folder(tmp_path))

    for width, height in SIZES.values():
        page = browser.new_page(viewport={"width": width, "height": height})
        opened = Opened(page, (tmp_path / "report.html").as_uri())
        opened.listen()
        page.goto(opened.address, wait_until="load")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.locator("svg, img").count() == len(
            page.query_selector_all("figure svg, figure img")
        )
        assert names["ridge"] in page.inner_text("body")
        assert opened.overflow() <= 0
        opened.quiet()
        page.close()
