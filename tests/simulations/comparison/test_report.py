"""The report: one page, everything in it, the same bytes each time."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from simulations.comparison import plots
from simulations.comparison.report import html
from tests.simulations.comparison.played import HALF, comparison

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def page() -> str:
    return html(comparison())


def test_the_page_has_the_five_figures_with_a_text_each(page: str) -> None:
    sections = re.findall(r"<section>.*?</section>", page, re.DOTALL)
    titles = [re.findall(r"<h2>(.*?)</h2>", section)[0] for section in sections]
    assert [title.split(" at ")[0] for title in titles] == [
        "Cold seconds over the budget",
        "How long requests waited",
        "Who was resident when,",
        "Churn",
        "Reserved memory",
    ]
    for section in sections:
        assert section.count("<svg") == 1
        assert len(re.findall(r"<p>(.*?)</p>", section, re.DOTALL)[0]) > 50


def test_the_page_needs_nothing_from_anywhere(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("#") for source in sources)
    assert "url(http" not in page
    assert "@import" not in page


def test_the_page_is_well_formed_and_names_are_escaped(page: str) -> None:
    assert "Made by hand &amp; &lt;by heart&gt;." in page
    assert "<by heart>" not in page
    HTMLParser().feed(page)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_page_shows_each_policy_on_each_budget(page: str) -> None:
    rows = re.findall(r'<tr class="([^"]*)">(.*?)</tr>', page, re.DOTALL)
    assert len(rows) == 6
    assert "<td>25%</td><td>ours</td><td>165</td><td>1.65</td><td>177</td><td>1.77</td>" in page


def test_the_best_is_the_one_that_fails_nobody(page: str) -> None:
    best = re.findall(r'<tr class="[^"]*best[^"]*"><td>[^<]*</td><td>([^<]*)</td>', page)
    assert best == ["ours", "ours"]


def test_the_first_policy_is_shown_beside_the_best_of_the_others() -> None:
    svg = plots.residency(comparison(), HALF, ["ours", "lru"])
    assert "model-b" in svg
    assert "model-&lt;a&gt;" in svg


def test_memory_is_drawn_of_those_two_alone(page: str) -> None:
    svg = plots.memory(comparison(), ["ours", "lru"])
    assert "refusing" not in svg
    assert "Of ours and lru." in page


def test_a_comparison_without_a_bound_draws_none() -> None:
    assert "lower bound" in plots.cold_over_budget(comparison())
    assert "lower bound" not in plots.cold_over_budget(comparison(bound=False))


def test_a_long_run_is_thinned_without_losing_its_peak() -> None:
    bytes_ = np.ones(100_000)
    bytes_[77_777] = 5 * 2**30
    time_s = np.linspace(0, 3600, 100_000)
    thin_s, gib = plots.thinned(time_s, bytes_ / 2**30)
    assert len(thin_s) <= 1000
    assert gib.max() == 5


def test_the_page_is_the_same_whatever_the_hash_seed(page: str) -> None:
    program = (
        "from tests.simulations.comparison.played import comparison;"
        " from simulations.comparison.report import html; print(html(comparison()), end='')"
    )
    env = {**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, timeout=120
    )
    assert said.stdout.decode() == page
