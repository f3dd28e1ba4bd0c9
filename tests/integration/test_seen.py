"""The page in a browser, wide and narrow, light and dark: it fits, can be read, and answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conjoin.audit import audit
from integration.test_sections import PLAN, bands, pictures

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("seen")
    audit({"first": bands(), "second": bands(2)}, pictures(), PLAN, folder=made)
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids=str)
def report(
    request: pytest.FixtureRequest, browser: sync_api.Browser, folder: Path
) -> Iterator[Opened]:
    size, scheme = request.param
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = Opened(page, (folder / "report.html").as_uri())
    opened.listen()
    page.goto(opened.address, wait_until="load")
    yield opened
    page.close()


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

UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"


def test_it_fits_and_asks_for_nothing(report: Opened) -> None:
    assert report.overflow() <= 0
    report.page.evaluate(UNFOLD)
    assert report.overflow() <= 0, "unfolded, too"
    found = report.page.evaluate(
        "Promise.all([...document.images].map(async i => { await i.decode(); return i.alt; }))"
    )
    assert len(found) > 20 and all(alt.strip() for alt in found)
    report.quiet()


@pytest.mark.parametrize(
    "which",
    [
        "p, li, td, th, dt, dd, h1, h2, h3, h4, figcaption, caption, summary, small, a, code, b",
        ".badge, button:not(.zoom), label",
    ],
    ids=["text", "controls"],
)
def test_text_has_enough_contrast(report: Opened, which: str) -> None:
    # WCAG 2, level AA: 4.5 to 1, against the nearest background that is painted.
    report.page.evaluate(UNFOLD)
    found = report.page.evaluate(CONTRAST, which)
    assert len(found) > 3
    assert min(found)[0] >= 4.5, min(found)


def test_axe_finds_no_violation(report: Opened) -> None:
    """The rules of WCAG 2 and of good practice, as axe-core asks them, of all that there is."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    report.page.evaluate(UNFOLD)
    script = Path(package.__path__[0]).joinpath("axe.min.js").read_text("utf-8")
    report.page.evaluate(script)
    asked = "axe.run({resultTypes: ['violations', 'incomplete']})"
    found = report.page.evaluate(asked)
    assert len(found["passes"]) > 20, "it looked at the page"
    told = [
        (rule["id"], rule["help"], [node["html"][:120] for node in rule["nodes"][:5]])
        for rule in found["violations"]
    ]
    assert told == []


def test_an_attack_is_seen_in_the_summary(report: Opened) -> None:
    row = report.page.locator("#summary .attack")
    assert row.count() == 1
    words = row.inner_text()
    assert "→" in words and "within the audited" in words and "distance" in words
    captions = row.locator("figcaption").all_inner_texts()
    assert captions[:2] == ["input", "attacked"] and captions[2].startswith("difference ×")
    for k in range(3):
        box = row.locator("img").nth(k).bounding_box()
        assert box is not None and box["width"] >= 90
        assert box["height"] == pytest.approx(box["width"], rel=0.05), "not distorted"


def test_where_nothing_was_found_there_is_no_picture(report: Opened) -> None:
    report.page.evaluate(UNFOLD)
    rows = report.page.locator("#robustness .attack")
    told = [(r.inner_text(), r.locator("img").count()) for r in rows.all()]
    assert {count for _, count in told} <= {0, 3}
    for words, count in told:
        nothing = "nothing found" in words or "wrong already" in words
        assert (count == 0) == nothing, words


def test_a_picture_is_enlarged_by_a_click_or_a_key_and_closed_again(report: Opened) -> None:
    page = report.page
    button = page.locator("#explain button.zoom:visible").first
    dialog = page.locator("dialog")
    small = button.locator("img").bounding_box()
    button.click()
    assert dialog.is_visible()
    large = dialog.locator("img").bounding_box()
    assert small is not None and large is not None and large["width"] > 1.5 * small["width"]
    assert dialog.locator("p").inner_text() == button.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    button.press("Enter")
    assert dialog.is_visible()
    dialog.locator("img").click()
    assert not dialog.is_visible()
    report.quiet()


def test_maps_lie_over_the_input_on_demand(report: Opened) -> None:
    page = report.page
    page.locator(".overlay").check()
    seen = page.locator("#explain .maps:visible button.zoom").evaluate_all(
        "list => list.map(b => getComputedStyle(b).backgroundImage.startsWith('url('))"
    )
    assert True in seen and False in seen, "the maps, not the inputs"
    page.locator(".overlay").uncheck()
    left = page.locator("#explain button.zoom").evaluate_all(
        "list => list.filter(b => getComputedStyle(b).backgroundImage.startsWith('url(')).length"
    )
    assert left == 0


def test_arrow_keys_move_along_a_curve(report: Opened) -> None:
    page = report.page
    figure = page.locator("figure.chart").first
    readout = figure.locator(".readout")
    rest = readout.inner_text()
    figure.focus()
    said = [rest]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(readout.inner_text())
    assert said[1] != rest and said[2] != said[1] and said[3] == said[1]
    page.keyboard.press("Tab")
    assert readout.inner_text() == rest, "at rest again"


def test_charts_of_a_threat_share_their_axes(report: Opened) -> None:
    for charts in report.page.locator(".charts").all():
        axes = {
            tuple(figure.locator(".grid text").all_inner_texts())
            for figure in charts.locator("figure").all()
        }
        assert len(axes) == 1
        sizes = [f.locator("svg").bounding_box() for f in charts.locator("figure").all()]
        assert len({(round(b["width"]), round(b["height"])) for b in sizes if b}) == 1


def test_it_prints_cards_whole_and_without_controls(report: Opened) -> None:
    page = report.page
    page.emulate_media(media="print")
    assert not page.locator(".tabs").is_visible() and not page.locator("nav").is_visible()
    for which in (".card", ".chart", ".attack", ".finding", "figure"):
        inside = page.locator(which).evaluate_all(
            "list => list.map(e => getComputedStyle(e).breakInside)"
        )
        assert set(inside) == {"avoid"}, which
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert report.overflow() <= 0


def test_the_link_to_all_attacks_leads_there(report: Opened) -> None:
    page = report.page
    page.locator("#summary a[href='#robustness-attacks']").click()
    assert page.locator("#robustness-attacks").is_visible()
    assert page.evaluate("location.hash") == "#robustness-attacks"


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
