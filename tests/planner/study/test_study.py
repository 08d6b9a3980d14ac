"""What a study says: speedups by hand, a verdict, and a page that needs nothing from outside."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.study.charts import Series, Stack, line_chart, nice_top, stack_chart
from orchestrator.planner.study.page import MARK, study_page
from orchestrator.planner.study.points import Sized, Study, study_rows, study_view

pytestmark = pytest.mark.unit


def sized(
    workers: int, step: float, predicted: float | None = None, hourly: float | None = None
) -> Sized:
    measured = Parts(0.9 * step, 0.1 * step, 0.0, 0.0, 0.0)
    guess = None if predicted is None else Parts(predicted, 0.0, 0.0, 0.0, 0.0)
    return Sized(workers, measured, guess, 32, 4096, hourly)


def study(*sizes: Sized, missing: str = "") -> Study:
    return Study("<gpt> & co", sizes, missing, (("plan", "configs/a.yaml"),))


THREE = study(sized(1, 0.4, 0.38, 1.0), sized(2, 0.2, 0.2, 2.0), sized(4, 0.19, 0.19, 4.0))


def test_speedup_efficiency_and_cost_by_hand():
    view = study_view(THREE)
    one, two, four = view["sizes"]
    assert (one["speedup"], two["speedup"]) == (pytest.approx(1.0), pytest.approx(2.0))
    assert two["efficiency"] == pytest.approx(1.0)
    assert four["speedup"] == pytest.approx(0.4 / 0.19)
    assert four["efficiency"] == pytest.approx(0.4 / 0.19 / 4)
    # Karp and Flatt: (1/S - 1/4) / (1 - 1/4).
    assert four["serial_share"] == pytest.approx((0.19 / 0.4 - 0.25) / 0.75)
    assert two["tokens_per_second"] == pytest.approx(4096 / 0.2)
    assert two["cost_per_million_tokens"] == pytest.approx(2.0 / 3600 * 0.2 / 4096 * 1e6)
    assert one["communication_share"] == pytest.approx(0.1)
    assert one["step_error"] == pytest.approx(-0.05)
    assert view["honest_workers"] == 2
    assert json.loads(json.dumps(view)) == view


def test_the_verdict_says_where_to_stop():
    assert "Beyond 2 workers" in THREE.verdict
    assert "4 workers are compute-bound" in THREE.verdict
    assert "may still pay" in study(sized(1, 0.4), sized(2, 0.2)).verdict
    assert "Nothing can be said of more" in study(sized(2, 0.2)).verdict


def test_without_predictions_and_prices_their_columns_are_gone():
    page = study_page(study(sized(1, 0.4), sized(2, 0.2), missing="no prediction: not described"))
    head = re.findall(r"<th>(.*?)</th>", page)
    assert head == ["workers", "step", "tokens/s", "speedup", "efficiency", "communication"]
    assert "no prediction: not described" in page
    assert THREE.predicted_curve is not None
    assert study(sized(1, 0.4, 0.4), sized(2, 0.2)).predicted_curve is None


class Outside(HTMLParser):
    """Collects whatever a browser would fetch or run, and what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "img", "object"):
            self.found.append(tag)
        self.found += [f"{n}={v}" for n, v in attrs if n in ("src", "href", "srcset", "onload")]


def test_the_page_needs_nothing_from_outside():
    page = study_page(THREE)
    assert MARK in page[:200]
    parser = Outside()
    parser.feed(page)
    assert parser.found == []
    assert "url(" not in page
    assert "@import" not in page
    assert "<gpt>" not in page
    assert "&lt;gpt&gt; &amp; co" in page
    assert "prefers-color-scheme: dark" in page


def test_every_plot_is_well_formed_and_within_its_picture():
    page = study_page(THREE)
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 4  # throughput, efficiency, where a step goes, cost
    for plot in plots:
        root = ET.fromstring(plot)
        _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
        for circle in root.iter("circle"):
            assert 0 <= float(circle.attrib["cx"]) <= width
            assert 0 <= float(circle.attrib["cy"]) <= height


def test_every_colour_is_defined_in_light_and_dark():
    page = study_page(THREE)
    used = set(re.findall(r"var\(--(\w+)\)", page))
    light, dark = page.split("@media", 1)
    for name in used:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark.split("body {")[0]


@given(st.floats(1e-9, 1e12))
def test_an_axis_holds_what_it_shows_and_little_more(largest):
    top = nice_top(largest)
    assert largest <= top * (1 + 1e-6)
    assert top <= 2.6 * largest


def test_one_point_and_nothing_are_drawn_too():
    ET.fromstring(
        re.search(
            r"<svg.*</svg>",
            line_chart("a", "b", [Series("m", ((3, 2.0),), "measured")], str),
            re.DOTALL,
        )[0]
    )
    assert nice_top(0.0) == 1.0
    bars = stack_chart("a", "b", [Stack("1", (("compute", 0.0),))], {"compute": "c"}, str)
    assert "<rect" not in bars


def test_the_table_of_people_says_the_same():
    rows = study_rows(THREE)
    assert rows[1][:5] == ("2", "200 ms", "20,480", "2.00", "100%")
    assert rows[0][7] == "-5.0%"
