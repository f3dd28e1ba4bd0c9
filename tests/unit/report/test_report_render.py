"""The report: one file that asks nothing of any network and takes no word from outside as markup."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conjoin.core.result import Evidence, save_tensors
from conjoin.errors import DataError, PlanError
from conjoin.report import plots
from conjoin.report.findings import find, standings
from conjoin.report.plan import make_plan
from conjoin.report.render import references, render, render_folder
from conjoin.report.schema import (
    CostRecord,
    Curve,
    DataRecord,
    ExampleRecord,
    ModelResult,
    Run,
    ScoreResult,
    StandardRecord,
    ThreatResult,
    number,
    record,
)

SCRIPT = "</script><script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
ATTRIBUTE = "' onmouseover='alert(1)' x='"
TEMPLATE = "{{ 7*7 }}{% raw %}"
HOSTILE = (SCRIPT, IMAGE, ATTRIBUTE, TEMPLATE)
GUESS = Evidence.heuristic("mean")


def run_of(models: tuple[str, ...], words: tuple[str, ...], shape: tuple[int, ...]) -> Run:
    """A finished run with the given words in every place that takes words from outside."""
    first = words[0]
    plan = make_plan(
        {
            "models": list(models),
            "threats": ["linf:0.1"],
            "explain": {"methods": ["saliency", "integrated_gradients"]},
        }
    ).model_dump(mode="json")
    data = DataRecord(
        name=f"data {first}",
        count=4,
        available=9,
        sha256="0" * 64,
        shape=shape,
        classes=words,
        region=f"region {words[1]}",
        region_area=0.1,
    )
    made = tuple(_model(name, words) for name in models)
    return Run(
        plan=plan,
        plan_sha256="1" * 64,
        versions={"conjoin": "0", "torch": first},
        data=data,
        models=made,
        standings=tuple(standings(made)),
        findings=tuple(f.record() for f in find(made, data)),
        examples=tuple(
            ExampleRecord(
                id=f"id-{k} {word}",
                index=k,
                label=k,
                chosen_for="near a decision boundary",
                predictions=dict.fromkeys(models, k),
                confidences={name: number(0.5, GUESS) for name in models},
            )
            for k, word in enumerate(words)
        ),
        limits=(f"limit {first}",),
        standards=(StandardRecord(standard=first, term=words[1], evidence=words[2]),),
        files={first: words[1]},
        cost=CostRecord(seconds=1, finished="now", hardware=first),
    )


def _model(name: str, words: tuple[str, ...]) -> ModelResult:
    attacked, proved = Evidence.empirical(f"PGD {words[0]}"), Evidence.certified(words[1])
    return ModelResult(
        name=name,
        summary=f"summary {words[0]}",
        weights=words[2],
        parameters=5,
        notes=(f"note {words[1]}",),
        clean_accuracy=number(0.9, Evidence.statistical(0.05), (0.8, 0.95)),
        blanked_accuracy=number(0.4, Evidence.statistical(0.05), (0.3, 0.5)),
        region_share=number(0.7, GUESS),
        threats=(
            ThreatResult(
                threat="linf:0.1",
                norm="linf",
                eps=0.1,
                robust_accuracy=number(0.6, attacked, (0.5, 0.7)),
                certified_accuracy=number(0.3, proved, (0.2, 0.4)),
                certified=1,
                falsified=1,
                unknown=2,
                median_distance=None,
                median_radius=number(0.01, proved),
                curve=Curve(
                    eps=(0.0, 0.1, 0.2),
                    attacked=(0.9, 0.6, 0.1),
                    certified=(0.9, 0.3, 0.0),
                    attacked_evidence=record(attacked),
                    certified_evidence=record(proved),
                ),
                attack=f"PGD {words[0]}",
                certifier=f"certifier {words[1]}",
                note=f"note {words[2]}",
            ),
        ),
        scores=(
            ScoreResult(
                explanation="saliency",
                metric="rank_stability",
                meaning=f"meaning {words[0]}",
                better="higher",
                mean=number(0.2, GUESS),
                count=4,
            ),
        ),
    )


def tensors_for(run: Run, folder: Path, shape: tuple[int, ...]) -> None:
    count = len(run.examples)
    size = (count, *shape)
    x = torch.linspace(0, 1, int(torch.tensor(size).prod())).reshape(size)
    index = torch.arange(count)
    place = folder / "tensors"
    save_tensors({"x": x, "y": index + 0, "index": index}, place / "examples.safetensors", {})
    for m in run.models:
        maps = {method: x - 0.5 for method in run.plan["explain"]["methods"]}
        save_tensors(maps, place / f"attributions-{m.name}.safetensors", {})
        nearest = {t.threat: (x + 0.1).clamp(0, 1) for t in m.threats}
        save_tensors({**nearest, "index": index}, place / f"adversarial-{m.name}.safetensors", {})


def rendered(
    folder: Path,
    models: tuple[str, ...] = ("first", "second"),
    words: tuple[str, ...] = ("w0", "w1", "w2", "w3"),
    shape: tuple[int, ...] = (1, 4, 4),
) -> str:
    run = run_of(models, words, shape)
    tensors_for(run, folder, shape)
    return render(run, folder)


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def quiet(tmp_path: Path) -> Page:
    return Page(rendered(tmp_path))


def test_words_from_outside_are_never_markup(tmp_path: Path, quiet: Page) -> None:
    hostile = Page(rendered(tmp_path / "h", models=(SCRIPT, IMAGE), words=HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in quiet.tags]
    assert len(hostile.of("script")) == 2
    names = {name for _, attributes in hostile.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert names == {name for _, attributes in quiet.tags for name in attributes}
    for word in HOSTILE[:3]:
        assert word in hostile.text, "shown as the text it is"
    assert TEMPLATE in hostile.text, "and never run as a template"


def test_words_in_attributes_stay_inside_them(tmp_path: Path) -> None:
    page = Page(rendered(tmp_path, models=(IMAGE,), words=HOSTILE))
    alts = [image["alt"] for image in page.of("img")]
    assert any(IMAGE in (alt or "") for alt in alts)
    assert any(SCRIPT in (alt or "") for alt in alts)
    charts = [f for f in page.of("figure") if f.get("class") == "chart"]
    assert [f["data-curve"] for f in charts] == [f"{IMAGE}|linf:0.1"]
    assert IMAGE in (charts[0]["aria-label"] or "")


def test_the_data_of_the_curves_cannot_close_its_element(tmp_path: Path) -> None:
    import json

    text = rendered(tmp_path, models=(SCRIPT,), words=HOSTILE)
    (content,) = re.findall(
        r'<script id="curves" type="application/json">(.*?)</script>', text, re.DOTALL
    )
    assert "<" not in content
    assert json.loads(content)[f"{SCRIPT}|linf:0.1"]["attacked"] == [0.9, 0.6, 0.1]


def test_back_quotes_set_type_and_nothing_more(tmp_path: Path) -> None:
    text = rendered(tmp_path, models=("`b`<i>x</i>`",))
    assert "<i>" not in text and "&lt;i&gt;x&lt;/i&gt;" in text


def test_nothing_outside_the_file_is_asked_for(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"{name}={value}"
    assert not re.search(r"https?:|(?:src|href)\s*=\s*[\"']?//|@import|url\(", text)
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import("):
        assert word not in text
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    (link,) = page.of("link")
    assert link["href"] == "data:,", "no icon is asked for either"


def test_a_policy_in_the_page_forbids_requests(quiet: Page) -> None:
    (policy,) = [m["content"] for m in quiet.of("meta") if m.get("http-equiv")]
    assert policy is not None and "default-src 'none'" in policy and "img-src data:" in policy
    assert "http" not in policy and "*" not in policy


def test_every_picture_has_words_and_pixels(quiet: Page) -> None:
    images = quiet.of("img")
    # 4 examples: the input, 2 methods x 2 models, 1 threat x 2 models.
    assert len(images) == 4 * (1 + 4 + 2)
    for image in images:
        assert image["alt"] and len(image["alt"]) > 5
        head, content = (image["src"] or "").split(",")
        assert head == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (4, 4)


def test_the_first_method_shows_and_the_others_wait(quiet: Page) -> None:
    maps = [i for i in quiet.of("img") if "data-method" in i]
    assert all(("hidden" in i) == (i["data-method"] != "saliency") for i in maps)
    pressed = {b["data-method"]: b["aria-pressed"] for b in quiet.of("button")}
    assert pressed == {"saliency": "true", "integrated_gradients": "false"}


def test_the_page_can_be_read_aloud_and_by_keyboard(quiet: Page) -> None:
    assert quiet.of("html")[0]["lang"] == "en"
    charts = [f for f in quiet.of("figure") if f.get("class") == "chart"]
    assert len(charts) == 2 and all(f["tabindex"] == "0" and f["aria-label"] for f in charts)
    assert all(cell.get("scope") in {"col", "row"} for cell in quiet.of("th"))
    ids = {attributes["id"] for _, attributes in quiet.tags if "id" in attributes}
    assert {(a["href"] or "")[1:] for a in quiet.of("a")} <= ids, "every link leads somewhere"
    assert len(quiet.of("caption")) == len(quiet.of("table"))


def test_every_number_of_a_finding_shows_its_evidence(quiet: Page) -> None:
    for word in (
        "empirical: PGD w0",
        "certified: w1",
        "statistical: alpha=0.05",
        "heuristic: mean",
    ):
        assert word in quiet.text


def test_verdicts_and_severities_are_words_not_colours_alone(quiet: Page) -> None:
    assert "✗ do not trust" in quiet.text and "✗ alarm" in quiet.text


def test_a_run_without_pictures_or_explanations_has_a_report(tmp_path: Path) -> None:
    flat = Page(rendered(tmp_path / "flat", shape=(6,)))
    assert not flat.of("img") and "id-0 w0" in flat.text
    run = run_of(("one",), ("w0", "w1", "w2", "w3"), (1, 4, 4)).model_copy(
        update={"examples": (), "findings": ()}
    )
    page = Page(render(run, tmp_path))
    assert not page.of("img") and not page.of("button")


def test_labels_beyond_the_named_classes_are_numbered(tmp_path: Path) -> None:
    run = run_of(("one",), ("w0", "w1", "w2", "w3"), (1, 4, 4))
    run = run.model_copy(update={"data": run.data.model_copy(update={"classes": ("only",)})})
    tensors_for(run, tmp_path, (1, 4, 4))
    assert "labelled class 3" in re.sub(r"</?em>", "", Page(render(run, tmp_path)).text)


def test_a_finished_folder_can_be_rendered_again(tmp_path: Path) -> None:
    run = run_of(("one",), ("w0", "w1", "w2", "w3"), (1, 4, 4))
    tensors_for(run, tmp_path, (1, 4, 4))
    with pytest.raises(PlanError, match=r"no finished run \(no run\.json\)"):
        render_folder(tmp_path)
    (tmp_path / "run.json").write_text(run.model_dump_json())
    assert render_folder(tmp_path) == render(run, tmp_path)
    (tmp_path / "tensors" / "attributions-one.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="attributions-one"):
        render_folder(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": "2.0"}')
    with pytest.raises(PlanError, match="no run of this schema"):
        render_folder(tmp_path)


def test_every_cited_key_is_in_the_bibliography() -> None:
    models = run_of(("one",), ("w0", "w1", "w2", "w3"), (1, 4, 4)).models
    data = run_of(("one",), ("w0", "w1", "w2", "w3"), (1, 4, 4)).data
    cited = {f.reference for f in find(models, data)} - {""}
    assert cited and cited <= set(references())
    assert all("{" not in words and "(" in words for words in references().values())


# Pictures


def pixels(uri: str | None) -> Any:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_an_input_is_drawn_from_black_to_white_over_its_bounds() -> None:
    drawn = pixels(plots.as_picture(torch.tensor([[[-1.0, 0.0], [1.0, 5.0]]]), -1.0, 1.0))
    assert drawn[..., 0].tolist() == [[0, 128], [255, 255]]


def test_a_map_is_white_at_zero_orange_for_and_purple_against() -> None:
    drawn = pixels(plots.as_map(torch.tensor([[[0.0, 2.0, -2.0, 9.0]]]), 2.0))[0].astype(int)
    assert (drawn[0] > 240).all()
    assert drawn[1][0] > drawn[1][2] + 50, "orange: more red than blue"
    assert drawn[2][2] > drawn[2][0] + 20, "purple: more blue than red"
    assert (drawn[3] == drawn[1]).all(), "beyond full colour is full colour"


def test_the_scale_of_a_row_is_the_99th_percentile_over_all_its_maps() -> None:
    one, two = torch.zeros(1, 10, 10), torch.full((1, 10, 10), -3.0)
    assert plots.map_scale([one, two]) == 3.0
    ramp = torch.arange(101.0).reshape(1, 1, 101)
    assert plots.map_scale([ramp]) == pytest.approx(99.0)
    assert plots.as_map(torch.zeros(1, 3, 3), 0.0) is not None, "an all-zero map can be drawn"


def test_channels_are_summed_and_other_shapes_are_no_pictures() -> None:
    both = torch.stack([torch.ones(2, 2), -torch.ones(2, 2), torch.zeros(2, 2)])
    assert plots.as_map(both, 1.0) == plots.as_map(torch.zeros(1, 2, 2), 1.0)
    assert plots.as_picture(torch.zeros(7), 0.0, 1.0) is None
    assert plots.as_picture(torch.zeros(2, 4, 4), 0.0, 1.0) is None
    assert plots.as_map(torch.zeros(7), 1.0) is None


def test_the_band_runs_along_both_bounds() -> None:
    evidence = record(GUESS)
    curve = Curve(
        eps=(0.0, 1.0),
        attacked=(1.0, 0.5),
        certified=(1.0, 0.0),
        attacked_evidence=evidence,
        certified_evidence=evidence,
    )
    paths = plots.curve_paths(curve, 100, 10)
    assert paths["attacked"] == "M0.0,0.0 L100.0,5.0"
    assert paths["certified"] == "M0.0,0.0 L100.0,10.0"
    assert paths["band"] == "M0.0,0.0 L100.0,5.0 L100.0,10.0 L0.0,0.0 Z"
